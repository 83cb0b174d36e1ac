//! What the command line says: names, defaults, bounds, and the relations between options.
//!
//! Every refusal names the option, the value and the bound. An option that would have no effect beside another is
//! refused too, since a figure that was measured under a setting nobody applied is worse than none.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use endpoint::Profile;
use kpl::config::{IdleStrategy, Pinning, RateLimit, RuntimeChoice, WireFormat};
use kpl::limits;
use lexopt::ValueExt;

use crate::timeline::{Event, Timeline};
use crate::workload::{KEY_BYTES, STAMP_BYTES};

mod compare;
mod help;
mod scaling;
mod schedule;
mod values;

pub use compare::CompareOptions;
#[cfg(all(feature = "peer-sdk", test))]
pub use compare::TlsChoice;
pub use help::HELP;
pub use scaling::ScalingOptions;

use values::*;

/// Records put when neither `--records` nor `--duration` nor `--input` says otherwise.
pub const RECORDS_DEFAULT: u64 = 1_000_000;
/// Most `--records`: their bitmap of one bit each is then 128 GiB, so the machine says no first.
const RECORDS_MAX: u64 = 1 << 40;
/// Most `--record-size`: with its key it is the largest record of the service.
const RECORD_SIZE_MAX: usize = limits::RECORD_BYTES_MAX - KEY_BYTES;
/// Most `--keys`: they are a table of 8 bytes each.
const KEYS_MAX: u32 = 10_000_000;
/// Most `--shards`.
const SHARDS_MAX: u32 = 10_000;
/// Most `--submitters`: with the pool of the producer they are the most that it takes.
const SUBMITTERS_MAX: usize = limits::SUBMITTERS_MAX - limits::POOL_SUBMITTERS;
/// `--pin`. A bench wants its cores to stay where they are; only on Linux can they be made to.
const PINNING_DEFAULT: Pinning = if cfg!(target_os = "linux") { Pinning::On } else { Pinning::Auto };
/// Most `--rate`, in records a second.
const RATE_MAX: u64 = 1_000_000_000;
/// Longest `--duration`.
const DURATION_MAX: Duration = limits::DURATION_MAX;

/// Where the records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The emulator, as a child process.
    Emulator,
    /// The sink, as a child process.
    Sink,
    /// An endpoint that is there already.
    Url(String),
}

/// The URL of a proxy. `Debug` does not show it, as it may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(pub String);

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProxyUrl")
    }
}

/// Where lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

/// A run, as asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub target: Target,
    /// Whether an embedded endpoint serves TLS.
    pub tls: bool,
    /// The file of roots to trust; `None` leaves it to the machine's, or the embedded endpoint's own.
    pub ca: Option<PathBuf>,
    /// The URL of the proxy to go through.
    pub proxy: Option<ProxyUrl>,
    pub region: Option<String>,
    pub stream: String,
    pub shards: u32,
    /// Most records to put; `None` leaves it to the duration or the input.
    pub records: Option<u64>,
    pub duration: Option<Duration>,
    pub record_size: usize,
    pub keys: u32,
    pub input: Option<Input>,
    pub key_field: Option<String>,
    pub submitters: usize,
    pub cores: usize,
    pub runtime: RuntimeChoice,
    pub pinning: Pinning,
    pub idle: IdleStrategy,
    pub rate_limit: RateLimit,
    pub wire: WireFormat,
    pub verify: bool,
    pub seed: u64,
    /// Records a second, in all.
    pub rate: Option<u64>,
    pub ordered: bool,
    /// Whether the sink looks how late records come.
    pub lateness: bool,
    pub faults: Option<Profile>,
    /// What happens while records are put.
    pub timeline: Timeline,
    pub json: Option<PathBuf>,
}

impl Options {
    /// Whether what goes wrong must be explained by what was done to the run.
    pub fn is_disturbed(&self) -> bool {
        self.faults.is_some() || self.timeline != Timeline::default()
    }

    /// Whether the endpoint is killed, and so must remember what it stored.
    pub fn kills(&self) -> bool {
        self.timeline.events.iter().any(|(_, event)| matches!(event, Event::Kill(_)))
    }
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Run(Box<Options>),
    Compare(CompareOptions),
    Scaling(ScalingOptions),
    Help,
    Version,
}

/// Why the command line is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArgsError(String);

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<lexopt::Error> for ArgsError {
    fn from(error: lexopt::Error) -> ArgsError {
        ArgsError(error.to_string())
    }
}

/// Options as they were given, before defaults and relations.
#[derive(Default)]
struct Given {
    endpoint: Option<String>,
    region: Option<String>,
    stream: Option<String>,
    shards: Option<u32>,
    records: Option<u64>,
    duration: Option<Duration>,
    record_size: Option<usize>,
    keys: Option<u32>,
    input: Option<Input>,
    key_field: Option<String>,
    submitters: Option<usize>,
    cores: Option<usize>,
    runtime: Option<RuntimeChoice>,
    pinning: Option<Pinning>,
    idle: Option<IdleStrategy>,
    rate_limit: Option<RateLimit>,
    wire: Option<WireFormat>,
    sink: bool,
    tls: bool,
    ca: Option<PathBuf>,
    proxy: Option<ProxyUrl>,
    no_verify: bool,
    seed: Option<u64>,
    rate: Option<u64>,
    ordered: bool,
    lateness: bool,
    faults: Option<Profile>,
    reshards: Option<Vec<(Duration, Event)>>,
    kill: Option<(Duration, Event)>,
    json: Option<PathBuf>,
}

/// Reads the command line, without the program's name.
///
/// # Errors
/// The first fault, with option, value and bound.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, ArgsError> {
    use lexopt::Arg::{Long, Short, Value};
    let mut args = args.into_iter().peekable();
    match args.peek().and_then(|first| first.to_str()) {
        Some("compare") => return compare::parse(lexopt::Parser::from_args(args.skip(1))),
        Some("scaling") => return scaling::parse(lexopt::Parser::from_args(args.skip(1))),
        _ => {}
    }
    let mut parser = lexopt::Parser::from_args(args);
    let mut given = Given::default();
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('V') | Long("version") => return Ok(Command::Version),
            Long("endpoint") => given.endpoint = Some(url(&parser.value()?.string()?)?),
            Long("region") => given.region = Some(parser.value()?.string()?),
            Long("stream") => given.stream = Some(stream(parser.value()?.string()?)?),
            Long("shards") => given.shards = Some(number("--shards", &mut parser, 1, SHARDS_MAX)?),
            Long("records") => given.records = Some(number("--records", &mut parser, 1, RECORDS_MAX)?),
            Long("duration") => given.duration = Some(duration(&parser.value()?.string()?)?),
            Long("record-size") => {
                given.record_size = Some(number("--record-size", &mut parser, STAMP_BYTES, RECORD_SIZE_MAX)?);
            }
            Long("keys") => given.keys = Some(number("--keys", &mut parser, 1, KEYS_MAX)?),
            Long("input") => given.input = Some(input(parser.value()?)),
            Long("key-field") => given.key_field = Some(parser.value()?.string()?),
            Long("submitters") => given.submitters = Some(number("--submitters", &mut parser, 1, SUBMITTERS_MAX)?),
            Long("cores") => given.cores = Some(number("--cores", &mut parser, 1, limits::CORES_MAX)?),
            Long("runtime") => given.runtime = Some(runtime(&parser.value()?.string()?)?),
            Long("pin") => given.pinning = Some(pinning(&parser.value()?.string()?)?),
            Long("idle") => given.idle = Some(idle(&parser.value()?.string()?)?),
            Long("rate-limit") => given.rate_limit = Some(rate_limit(&parser.value()?.string()?)?),
            Long("wire") => given.wire = Some(wire(&parser.value()?.string()?)?),
            Long("sink") => given.sink = true,
            Long("tls") => given.tls = true,
            Long("ca") => given.ca = Some(parser.value()?.into()),
            Long("proxy") => given.proxy = Some(proxy(parser.value()?.string()?)?),
            Long("no-verify") => given.no_verify = true,
            Long("seed") => given.seed = Some(number("--seed", &mut parser, 0, u64::MAX)?),
            Long("rate") => given.rate = Some(number("--rate", &mut parser, 1, RATE_MAX)?),
            Long("ordered") => given.ordered = true,
            Long("lateness") => given.lateness = true,
            Long("faults") => given.faults = Some(faults(&parser.value()?.string()?)?),
            Long("reshard") => given.reshards = Some(schedule::reshards(&parser.value()?.string()?)?),
            Long("kill") => given.kill = Some(schedule::kill(&parser.value()?.string()?)?),
            Long("json") => given.json = Some(parser.value()?.into()),
            Value(_) | Long(_) | Short(_) => return Err(arg.unexpected().into()),
        }
    }
    given.check_relations()?;
    Ok(Command::Run(Box::new(given.with_defaults())))
}

impl Given {
    fn check_relations(&self) -> Result<(), ArgsError> {
        let no_effect = |with: bool, option: &str, because: &str| {
            if with { Err(ArgsError(format!("{option} has no effect with {because}"))) } else { Ok(()) }
        };
        no_effect(self.sink && self.endpoint.is_some(), "--endpoint", "--sink, which is an endpoint itself")?;
        no_effect(self.tls && self.endpoint.is_some(), "--tls", "--endpoint: the URL says whether it is https")?;
        let https = self.endpoint.as_ref().is_some_and(|url| url.starts_with("https://"));
        let embedded = self.endpoint.is_none();
        no_effect(
            self.ca.is_some() && embedded,
            "--ca",
            "an embedded endpoint, whose certificate is made for the run",
        )?;
        no_effect(self.ca.is_some() && !https, "--ca", "an --endpoint that is not https")?;
        no_effect(self.input.is_some() && self.record_size.is_some(), "--record-size", "--input: a record is a line")?;
        no_effect(self.key_field.is_some() && self.keys.is_some(), "--keys", "--key-field: keys come from the lines")?;
        no_effect(self.key_field.is_some() && self.input.is_none(), "--key-field", "generated records: add --input")?;
        let not_ours = "--endpoint: only an embedded endpoint can be made to";
        no_effect(self.faults.is_some() && self.endpoint.is_some(), "--faults", not_ours)?;
        no_effect(self.kill.is_some() && self.endpoint.is_some(), "--kill", not_ours)?;
        let disturbed = [
            (self.faults.is_some(), "--faults"),
            (self.reshards.is_some(), "--reshard"),
            (self.kill.is_some(), "--kill"),
        ];
        for (given, option) in disturbed {
            no_effect(given && self.sink, option, "--sink, which stores nothing that could be read back")?;
        }
        no_effect(self.kill.is_some() && self.tls, "--kill", "--tls: it would come back with another certificate")?;
        no_effect(
            self.lateness && self.input.is_some(),
            "--lateness",
            "--input: lines do not carry when they are put",
        )?;
        no_effect(
            self.lateness && self.wire == Some(WireFormat::Json),
            "--lateness",
            "--wire json: the sink reads CBOR",
        )?;
        if self.lateness && !self.sink {
            return Err(ArgsError("--lateness is what the sink sees: add --sink".to_owned()));
        }
        if self.lateness && self.rate.is_none() {
            return Err(ArgsError("--lateness of a producer that is full says nothing: add --rate".to_owned()));
        }
        if self.sink && !self.no_verify {
            return Err(ArgsError("--sink stores nothing that could be read back: add --no-verify".to_owned()));
        }
        Ok(())
    }

    fn with_defaults(self) -> Options {
        let rate_limit = if self.sink { RateLimit::Off } else { RateLimit::Percent(limits::RATE_LIMIT_DEFAULT) };
        let unbounded = self.duration.is_some() || self.input.is_some();
        let target = match self.endpoint {
            Some(url) => Target::Url(url),
            None if self.sink => Target::Sink,
            None => Target::Emulator,
        };
        let seed = self.seed.unwrap_or(1);
        let mut events = self.reshards.unwrap_or_default();
        // Shards that are given are not drawn besides.
        let drawn = (self.faults == Some(Profile::Reshard) && events.is_empty()).then_some(seed);
        events.extend(self.kill);
        events.sort_by_key(|(at, _)| *at);
        Options {
            target,
            tls: self.tls,
            ca: self.ca,
            proxy: self.proxy,
            region: self.region,
            stream: self.stream.unwrap_or_else(|| "kpl-bench".to_owned()),
            shards: self.shards.unwrap_or(4),
            records: self.records.or((!unbounded).then_some(RECORDS_DEFAULT)),
            duration: self.duration,
            record_size: self.record_size.unwrap_or(100),
            keys: self.keys.unwrap_or(10_000),
            input: self.input,
            key_field: self.key_field,
            submitters: self.submitters.unwrap_or(2),
            cores: self.cores.unwrap_or(1),
            runtime: self.runtime.unwrap_or_default(),
            pinning: self.pinning.unwrap_or(PINNING_DEFAULT),
            idle: self.idle.unwrap_or_default(),
            rate_limit: self.rate_limit.unwrap_or(rate_limit),
            wire: self.wire.unwrap_or_default(),
            verify: !self.no_verify,
            seed,
            rate: self.rate,
            ordered: self.ordered,
            lateness: self.lateness,
            faults: self.faults,
            timeline: Timeline { events, drawn },
            json: self.json,
        }
    }
}

#[cfg(test)]
mod tests;
