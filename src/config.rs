//! What a producer is told: names and defaults. They are the KPL's where it has them.
//!
//! The bounds, and how fields relate, stand in `validate`.

mod validate;

use std::fmt;
use std::time::Duration;

use crate::limits;

/// Share of a shard's write limits that the producer allows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateLimit {
    /// No limit of ours; the service throttles.
    Off,
    /// Percent of 1000 records/s and 1 MiB/s for each shard.
    Percent(u32),
}

/// How PutRecords is written on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WireFormat {
    /// CBOR, until the endpoint refuses it before it ever took it; then JSON.
    #[default]
    Auto,
    /// `application/x-amz-cbor-1.1`, data as raw bytes.
    Cbor,
    /// `application/x-amz-json-1.1`, data in base64.
    Json,
}

/// What becomes of the records of a stream whose shards are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardMapPolicy {
    /// They wait so long for the shards to be listed. Then they are sent without: each by itself, as the service places
    /// a single record rightly, and without limit, until the shards are known. The log warns, and
    /// `Counters::unmapped_records` counts. Where the listing is refused, records fail instead.
    Degrade {
        /// How long, at most a day.
        after: Duration,
    },
    /// They wait to the end of their `record_ttl`.
    Required,
    /// The shards are never listed: for who may not. Records are never aggregated, limited or checked.
    Unknown,
}

/// Who decides in which shard a record comes to lie: hash keys, or the service. The owner of a stream can change that at
/// any time (its `RecordDistributionStrategy`).
///
/// Where the service decides (`AUTO`), an aggregate comes to lie where consumers show it by chance only. So records are
/// sent one by one then, without explicit hash keys; wherever they are stored, they are delivered; the rate limit holds for
/// the stream as a whole; and nothing is ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RecordDistribution {
    /// The producer finds out: it asks for the stream's description (`kinesis:DescribeStreamSummary`) when the stream is
    /// opened and when a record is stored where its hash key does not belong, and goes on asking while the service decides.
    /// Where it may not ask, such records alone decide.
    #[default]
    Detect,
    /// Hash keys decide; nobody asks.
    UserKey,
    /// The service decides; nobody asks.
    Auto,
}

/// Which partition key an aggregate's Kinesis record has. Consumers of the KPL's format don't see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OuterPartitionKey {
    /// `a`, as the KPL writes it.
    #[default]
    A,
    /// That of its first member: with `a` everywhere, Lambda's concurrent batches of a shard find one key only.
    FirstMember,
}

/// What cores are to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RuntimeChoice {
    /// Glommio where it can be had, else tokio. The log says which, and why.
    #[default]
    Auto,
    /// Glommio, or no producer. It needs Linux, the feature `glommio`, io_uring (which the default seccomp profiles of
    /// container runtimes forbid) and an RLIMIT_MEMLOCK of 512 KiB.
    Glommio,
    /// Tokio.
    Tokio,
}

/// What cores run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreRuntime {
    /// Glommio: io_uring.
    Glommio,
    /// Tokio: epoll, kqueue or what the system has.
    Tokio,
}

impl From<CoreRuntime> for RuntimeChoice {
    fn from(runtime: CoreRuntime) -> RuntimeChoice {
        match runtime {
            CoreRuntime::Glommio => RuntimeChoice::Glommio,
            CoreRuntime::Tokio => RuntimeChoice::Tokio,
        }
    }
}

impl fmt::Display for CoreRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CoreRuntime::Glommio => "glommio",
            CoreRuntime::Tokio => "tokio",
        })
    }
}

/// Whether each core's thread keeps to one CPU. Where none is named the first is drawn by lot, so that the containers of
/// a host do not meet on the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Pinning {
    /// Pins to [`Config::cpus`], or else within the CPUs that the process may run on, if those are fewer than the machine
    /// has and enough for a CPU each. Else the scheduler places the threads.
    #[default]
    Auto,
    /// Pins always; cores share CPUs if there are too few. Linux only.
    On,
    /// Pins never.
    Off,
}

/// What a core does that has nothing to do.
///
/// The first put to a core that rests wakes it, which costs that put a system call. A core that spins is awake: no put
/// ever rings it, and a record waits in its ring for microseconds, not for a tick. It costs a whole CPU, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IdleStrategy {
    /// Rests: while records come, on a tick of a fifth of `record_max_buffered_time`, at most 20 ms; else until it is
    /// rung.
    #[default]
    Park,
    /// Spins for so long after it last had something to do, 1 µs to 1 s, and then rests as with `Park`.
    SpinThenPark(Duration),
    /// Spins until the close. Give each such core a CPU of its own (`cpus`).
    Spin,
}

/// Which of the KPL's metrics are gathered and told. The table of metrics is at [`Metric`](crate::metrics::Metric).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum MetricsLevel {
    /// None: nothing is gathered, snapshots are empty, and a sink is never called.
    None,
    /// Those that tell whether records arrive: rates of success, errors, expirations, buffering times.
    Summary,
    /// All.
    #[default]
    Detailed,
}

/// How finely metrics are told apart. What is known by shard is told by stream and in all as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum MetricsGranularity {
    /// Of the producer, in all.
    Global,
    /// And by stream.
    Stream,
    /// And by shard, of streams with at most 100 open shards.
    #[default]
    Shard,
}

/// Credentials that were given, in the place of the default chain. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct StaticCredentials {
    /// The access key's id.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
    /// The session token, if they are temporary.
    pub session_token: Option<String>,
}

impl fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticCredentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Whose signature makes a server's certificate good. `Debug` shows no certificate, only how much there is.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum TlsRoots {
    /// The roots that the machine trusts. The environment variables `SSL_CERT_FILE` and `SSL_CERT_DIR` take their
    /// place.
    #[default]
    Platform,
    /// These alone: certificates in PEM, one or more.
    Pem(Vec<u8>),
    /// These alone: certificates in DER, one or more.
    Der(Vec<Vec<u8>>),
}

impl fmt::Debug for TlsRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsRoots::Platform => f.write_str("Platform"),
            TlsRoots::Pem(pem) => write!(f, "Pem({} bytes)", pem.len()),
            TlsRoots::Der(certificates) => write!(f, "Der({} certificates)", certificates.len()),
        }
    }
}

/// Which HTTP proxy stands between the producer and its endpoint. `Debug` shows no user name and no password.
///
/// A TLS endpoint is reached through a tunnel (`CONNECT`), with TLS inside it; of one in the clear the proxy reads and
/// forwards every request. The endpoint's name is the proxy's to resolve. AWS's credential chain uses none.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum ProxyChoice {
    /// What the environment says when the producer is built: for a TLS endpoint `HTTPS_PROXY` or `https_proxy`, for one
    /// in the clear `http_proxy` alone (a web server sets `HTTP_PROXY` as its client wishes), for both `ALL_PROXY` or
    /// `all_proxy`; the first that is not empty. `NO_PROXY` or `no_proxy` exempts hosts: names with all below them,
    /// addresses, networks (`10.0.0.0/8`), each of these but networks with a port if it likes, or `*`. Loopback
    /// addresses and `localhost` are exempt.
    #[default]
    Environment,
    /// None.
    Off,
    /// This one, for every endpoint, on loopback too: `http://[USER:PASSWORD@]HOST[:PORT]`, port 80 if there is none.
    /// What is no sign of a URL is percent-encoded. `NO_PROXY` is not looked at.
    Url(String),
}

impl fmt::Debug for ProxyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyChoice::Environment => f.write_str("Environment"),
            ProxyChoice::Off => f.write_str("Off"),
            ProxyChoice::Url(url) => write!(f, "Url({:?})", without_user(url)),
        }
    }
}

/// A URL as it may be shown: with `***` for the user's name and password, also where it is no URL.
pub(crate) fn without_user(url: &str) -> String {
    let Some((before, host)) = url.rsplit_once('@') else { return url.to_owned() };
    let scheme = before.split_once("://").map(|(scheme, _)| scheme);
    match scheme.filter(|scheme| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
        Some(scheme) => format!("{scheme}://***@{host}"),
        None => format!("***@{host}"),
    }
}

/// The whole configuration of a producer.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// AWS region; by default the one that AWS's chain finds.
    pub region: Option<String>,
    /// URL of the endpoint; by default AWS's for the region.
    pub endpoint_url: Option<String>,
    /// Whether AWS's FIPS endpoint is written to; by default as `AWS_USE_FIPS_ENDPOINT` or the profile's
    /// `use_fips_endpoint` says. This library's own cryptography is not validated.
    pub use_fips: Option<bool>,
    /// Whether AWS's dual-stack endpoint, which has IPv6 addresses too, is written to; by default as
    /// `AWS_USE_DUALSTACK_ENDPOINT` or the profile's `use_dualstack_endpoint` says.
    pub use_dual_stack: Option<bool>,
    /// The HTTP proxy on the way to the endpoint, for records and for shard lists alike.
    pub proxy: ProxyChoice,
    /// Credentials; by default AWS's chain.
    pub credentials: Option<StaticCredentials>,
    /// Whether records are aggregated.
    pub aggregation_enabled: bool,
    /// Most user records of an aggregate.
    pub aggregation_max_count: usize,
    /// Most bytes of an aggregate, 64 to 10 MiB.
    pub aggregation_max_size: usize,
    /// Most Kinesis records of a request, 1 to 500.
    pub collection_max_count: usize,
    /// Most bytes of a request, data and partition keys, to 10 MiB.
    pub collection_max_size: usize,
    /// By when a record's first byte is on the socket, tokens and a connection permitting.
    pub record_max_buffered_time: Duration,
    /// When a record that is not delivered fails with `Expired`.
    pub record_ttl: Duration,
    /// Share of the shards' limits to use.
    pub rate_limit: RateLimit,
    /// Fail throttled records at once instead of retrying them.
    pub fail_if_throttled: bool,
    /// Ordered mode: what one submitter puts under one hash key is stored in the order of its puts, over retries, splits and
    /// merges. A record that fails leaves a gap; one that is stored twice comes first where it belongs. It costs
    /// throughput: each shard has one Kinesis record under way at a time, so a shard takes at most one aggregate (or one
    /// record, without aggregation) per round trip.
    pub ordered: bool,
    /// How long an answer may take.
    pub request_timeout: Duration,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// Connections that each core may open.
    pub max_connections_per_core: usize,
    /// Most bytes of data and partition key of a record, to 10 MiB.
    pub max_record_size: usize,
    /// Most records that are accepted and not settled.
    pub max_outstanding_records: usize,
    /// Most bytes of data and partition key that are accepted and not settled.
    pub max_outstanding_bytes: usize,
    /// Most that the records of one shard may hold of either of these, in percent, 1 to 100: a newer one fails with
    /// `Throttled`, so that one dead shard cannot use up everyone's budget. By default there is no such bound.
    pub shard_backlog_max: Option<u32>,
    /// Core threads. With `cpus` there are as many as those; this is then that number, or 1, its default.
    pub cores: usize,
    /// What they run on.
    pub runtime: RuntimeChoice,
    /// The CPUs for the core threads, by number, one thread on each. They must be of those that the thread that builds
    /// the producer may run on. Linux only. By default as `pinning` says.
    pub cpus: Option<Vec<usize>>,
    /// Whether each core's thread keeps to one CPU.
    pub pinning: Pinning,
    /// What a core does that has nothing to do.
    pub idle: IdleStrategy,
    /// Bytes of each submitter's ring, a power of two.
    pub ring_bytes: usize,
    /// Most submitters at once, the pool behind `Producer::put` included.
    pub max_submitters: usize,
    /// First backoff; it doubles, with full jitter.
    pub retry_base_delay: Duration,
    /// Longest backoff.
    pub retry_delay_cap: Duration,
    /// What becomes of records whose stream's shards are not known.
    pub shard_map: ShardMapPolicy,
    /// Who decides in which shard a record comes to lie.
    pub record_distribution: RecordDistribution,
    /// Which partition key aggregates have.
    pub outer_partition_key: OuterPartitionKey,
    /// Whether a failure hands the record back. Its copy is made when it fails, and is in no budget.
    pub keep_failed_records: bool,
    /// How long refused credentials or a missing stream are tried again before records fail. New credentials are asked
    /// for meanwhile.
    pub auth_grace: Duration,
    /// Period of the shard map's refresh.
    pub map_refresh: Duration,
    /// Wire format of PutRecords.
    pub wire: WireFormat,
    /// Whose signature makes the endpoint's certificate good, for records and for shard lists alike. AWS's credential
    /// chain has roots of its own.
    pub tls_roots: TlsRoots,
    /// **Dangerous.** Takes any certificate from anybody, so that whoever is on the way can read and change records,
    /// and gets session tokens. For test endpoints only; the producer warns of it in the log when it starts.
    pub danger_accept_invalid_certificates: bool,
    /// Which metrics are gathered.
    pub metrics_level: MetricsLevel,
    /// How finely they are told apart.
    pub metrics_granularity: MetricsGranularity,
    /// The namespace that they are told under: 1 to 255 of CloudWatch's characters, not beginning with `:` or `AWS/`.
    pub metrics_namespace: String,
    /// How often a sink of metrics is called; without one it is of no meaning.
    pub metrics_interval: Duration,
    /// Further dimensions of all metrics, names and values, at most 27: beside the KPL's three they are CloudWatch's 30.
    pub metrics_dimensions: Vec<(String, String)>,
    /// Seed of jitter. Two producers with one seed back off alike; by default it is drawn at the start.
    pub seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            region: None,
            endpoint_url: None,
            use_fips: None,
            use_dual_stack: None,
            proxy: ProxyChoice::Environment,
            credentials: None,
            aggregation_enabled: true,
            aggregation_max_count: limits::AGGREGATION_COUNT_DEFAULT,
            aggregation_max_size: limits::AGGREGATION_BYTES_DEFAULT,
            collection_max_count: limits::REQUEST_RECORDS_MAX,
            collection_max_size: limits::COLLECTION_BYTES_DEFAULT,
            record_max_buffered_time: limits::BUFFERED_TIME_DEFAULT,
            record_ttl: limits::TTL_DEFAULT,
            rate_limit: RateLimit::Percent(limits::RATE_LIMIT_DEFAULT),
            fail_if_throttled: false,
            ordered: false,
            request_timeout: limits::REQUEST_TIMEOUT_DEFAULT,
            connect_timeout: limits::REQUEST_TIMEOUT_DEFAULT,
            max_connections_per_core: limits::CONNECTIONS_DEFAULT,
            max_record_size: limits::RECORD_BYTES_DEFAULT,
            max_outstanding_records: limits::OUTSTANDING_RECORDS_DEFAULT,
            max_outstanding_bytes: limits::OUTSTANDING_BYTES_DEFAULT,
            shard_backlog_max: None,
            cores: 1,
            runtime: RuntimeChoice::Auto,
            cpus: None,
            pinning: Pinning::Auto,
            idle: IdleStrategy::Park,
            ring_bytes: limits::RING_BYTES_DEFAULT,
            max_submitters: limits::SUBMITTERS_DEFAULT,
            retry_base_delay: limits::RETRY_BASE_DEFAULT,
            retry_delay_cap: limits::RETRY_CAP_DEFAULT,
            shard_map: ShardMapPolicy::Degrade { after: limits::DEGRADE_AFTER_DEFAULT },
            record_distribution: RecordDistribution::Detect,
            outer_partition_key: OuterPartitionKey::A,
            keep_failed_records: false,
            auth_grace: limits::AUTH_GRACE_DEFAULT,
            map_refresh: limits::MAP_REFRESH_DEFAULT,
            wire: WireFormat::Auto,
            tls_roots: TlsRoots::Platform,
            danger_accept_invalid_certificates: false,
            metrics_level: MetricsLevel::Detailed,
            metrics_granularity: MetricsGranularity::Shard,
            metrics_namespace: limits::METRICS_NAMESPACE_DEFAULT.to_owned(),
            metrics_interval: limits::METRICS_INTERVAL_DEFAULT,
            metrics_dimensions: Vec::new(),
            seed: None,
        }
    }
}

/// What one stream has otherwise than its producer; what is `None` is the producer's.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StreamOptions {
    /// See [`Config::record_max_buffered_time`].
    pub record_max_buffered_time: Option<Duration>,
    /// See [`Config::record_ttl`].
    pub record_ttl: Option<Duration>,
    /// See [`Config::aggregation_enabled`].
    pub aggregation_enabled: Option<bool>,
    /// See [`Config::rate_limit`].
    pub rate_limit: Option<RateLimit>,
    /// See [`Config::ordered`].
    pub ordered: Option<bool>,
    /// See [`Config::record_distribution`].
    pub record_distribution: Option<RecordDistribution>,
}

impl Config {
    /// The configuration of a stream: this one with the stream's own settings.
    pub fn for_stream(&self, options: &StreamOptions) -> Config {
        Config {
            record_max_buffered_time: options.record_max_buffered_time.unwrap_or(self.record_max_buffered_time),
            record_ttl: options.record_ttl.unwrap_or(self.record_ttl),
            aggregation_enabled: options.aggregation_enabled.unwrap_or(self.aggregation_enabled),
            rate_limit: options.rate_limit.unwrap_or(self.rate_limit),
            ordered: options.ordered.unwrap_or(self.ordered),
            record_distribution: options.record_distribution.unwrap_or(self.record_distribution),
            ..self.clone()
        }
    }

    /// How many core threads there are: one for each of `cpus`, or `cores`.
    pub fn core_count(&self) -> usize {
        self.cpus.as_ref().map_or(self.cores, Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let credentials = StaticCredentials {
            access_key_id: "AKID".into(),
            secret_access_key: "hush".into(),
            session_token: Some("token".into()),
        };
        let text = format!("{credentials:?}");
        assert!(text.contains("AKID") && !text.contains("hush") && !text.contains("token"), "{text}");
    }

    #[test]
    fn debug_shows_no_password_of_a_proxy() {
        for (url, shown) in [
            ("http://proxy:3128", "http://proxy:3128"),
            ("http://me:hush@proxy:3128", "http://***@proxy:3128"),
            ("me:hush@proxy", "***@proxy"),
            ("http://me:hu/s@h@proxy", "http://***@proxy"),
            ("http://me:hush://@proxy", "http://***@proxy"),
            ("me:hush://@proxy", "***@proxy"),
            ("hush@", "***@"),
        ] {
            assert_eq!(format!("{:?}", ProxyChoice::Url(url.into())), format!("Url({shown:?})"));
        }
    }
}
