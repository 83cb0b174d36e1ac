//! What an endpoint is told when it starts.
//!
//! Every field is public and [`EndpointConfig::new`] gives each a default, so a test names only what it is about.

use crate::faults::FaultOptions;
use crate::script::Script;
use crate::tls::TlsOptions;
use std::path::PathBuf;

/// How an endpoint is to behave.
pub struct EndpointConfig {
    /// What stands behind the door.
    pub kind: Kind,
    /// TCP port on 127.0.0.1; 0 takes any free one.
    pub port: u16,
    /// Who may sign requests. Each request names one by its access key id.
    pub credentials: Vec<Credentials>,
    /// Whether signatures are verified. It costs one SHA-256 of every body: some 0.6 ns a byte with SHA extensions.
    pub verify_signatures: bool,
    /// The region that signatures must be scoped to, and that ARNs name.
    pub region: String,
    /// Streams that exist from the start, with their shard counts. The sink takes every name, so it ignores them.
    pub streams: Vec<(String, u32)>,
    /// Longest HTTP body that is read, in bytes; a longer one is answered with status 413.
    pub body_bytes_max: usize,
    /// Seconds by which the endpoint's clock is ahead of the machine's; negative if behind. It judges signatures by
    /// that clock and tells it in `Date`.
    pub clock_ahead_s: i64,
    /// Asked about every API request before anything else happens to it.
    pub script: Option<Script>,
    /// What happens to connections and requests by chance. The script is asked first, and what it lets pass may suffer.
    pub faults: Option<FaultOptions>,
    /// The certificate to serve TLS with; in the clear if there is none.
    pub tls: Option<TlsOptions>,
}

/// What stands behind the door.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Stores records and gives them back.
    Emulator(EmulatorOptions),
    /// Checks and counts records, and forgets them.
    Sink {
        /// Shards of every stream, 1 to 100 000, with equal hash ranges.
        shards: u32,
    },
}

/// Choices of the emulator.
#[derive(Clone, Debug, Default)]
pub struct EmulatorOptions {
    /// Whether shards throttle at 1 MiB/s and 1000 records/s.
    pub enforce_limits: bool,
    /// Most bytes of stored records; past it, writes fail. `None` is until memory ends.
    pub retained_bytes_max: Option<u64>,
    /// Milliseconds that a reshard or an update of a stream takes. 0 is at once.
    pub update_ms: u64,
    /// Where it keeps what it stored, so that an endpoint which is killed and started again on the same directory has it
    /// still. Every request writes the whole store anew before it is answered, so it is for some megabytes at most.
    pub state_dir: Option<PathBuf>,
}

/// A signer that the endpoint knows.
#[derive(Clone)]
pub struct Credentials {
    /// The name of the key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: String,
    /// If given, requests must carry exactly this session token; if not, none.
    pub session_token: Option<String>,
}

impl Credentials {
    /// A long-lived key, without a session token.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<String>) -> Credentials {
        Credentials {
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            session_token: None,
        }
    }
}

impl EndpointConfig {
    /// Any port, the key `test`/`test`, region `us-east-1`, no streams, bodies of up to 16 MiB, no script, no faults, no TLS. Signatures
    /// are verified by an emulator and not by a sink.
    pub fn new(kind: Kind) -> EndpointConfig {
        let verify_signatures = matches!(kind, Kind::Emulator(_));
        EndpointConfig {
            kind,
            port: 0,
            credentials: vec![Credentials::new("test", "test")],
            verify_signatures,
            region: "us-east-1".to_owned(),
            streams: Vec::new(),
            body_bytes_max: BODY_BYTES_MAX,
            clock_ahead_s: 0,
            script: None,
            faults: None,
            tls: None,
        }
    }

    /// An emulator with its default options.
    pub fn emulator() -> EndpointConfig {
        EndpointConfig::new(Kind::Emulator(EmulatorOptions::default()))
    }

    /// A sink whose streams have `shards` shards.
    pub fn sink(shards: u32) -> EndpointConfig {
        EndpointConfig::new(Kind::Sink { shards })
    }
}

/// A request of 10 MiB is 13.4 MiB in base64; this leaves room for its names.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most shards of a sink's stream. As many as the library's own bound.
pub(crate) const SINK_SHARDS_MAX: u32 = 100_000;
/// The account that owns every stream here.
pub(crate) const ACCOUNT_ID: &str = "000000000000";
