//! What a producer is told: names, defaults and bounds.
//!
//! [`Config::validate`] finds every fault at once, each with its field, its value and its bound; relations between
//! fields name both. Names and defaults are the KPL's where it has them.

use std::fmt;
use std::time::Duration;

use crate::error::{ConfigError, ConfigFault};
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

/// The whole configuration of a producer.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// AWS region; by default the one that AWS's chain finds.
    pub region: Option<String>,
    /// URL of the endpoint; by default AWS's for the region.
    pub endpoint_url: Option<String>,
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
    /// Core threads. With `cpus` there are as many as those; this is then that number, or 1, its default.
    pub cores: usize,
    /// What they run on.
    pub runtime: RuntimeChoice,
    /// The CPUs for the core threads, by number, one thread on each. They must be of those that the thread that builds
    /// the producer may run on. Linux only. By default as `pinning` says.
    pub cpus: Option<Vec<usize>>,
    /// Whether each core's thread keeps to one CPU.
    pub pinning: Pinning,
    /// Bytes of each submitter's ring, a power of two.
    pub ring_bytes: usize,
    /// Most submitters at once, the pool behind `Producer::put` included.
    pub max_submitters: usize,
    /// First backoff; it doubles, with full jitter.
    pub retry_base_delay: Duration,
    /// Longest backoff.
    pub retry_delay_cap: Duration,
    /// How long refused credentials or a missing stream are tried again before records fail.
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
    /// Seed of jitter. Two producers with one seed back off alike; by default it is drawn at the start.
    pub seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            region: None,
            endpoint_url: None,
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
            request_timeout: limits::REQUEST_TIMEOUT_DEFAULT,
            connect_timeout: limits::REQUEST_TIMEOUT_DEFAULT,
            max_connections_per_core: limits::CONNECTIONS_DEFAULT,
            max_record_size: limits::RECORD_BYTES_DEFAULT,
            max_outstanding_records: limits::OUTSTANDING_RECORDS_DEFAULT,
            max_outstanding_bytes: limits::OUTSTANDING_BYTES_DEFAULT,
            cores: 1,
            runtime: RuntimeChoice::Auto,
            cpus: None,
            pinning: Pinning::Auto,
            ring_bytes: limits::RING_BYTES_DEFAULT,
            max_submitters: limits::SUBMITTERS_DEFAULT,
            retry_base_delay: limits::RETRY_BASE_DEFAULT,
            retry_delay_cap: limits::RETRY_CAP_DEFAULT,
            auth_grace: limits::AUTH_GRACE_DEFAULT,
            map_refresh: limits::MAP_REFRESH_DEFAULT,
            wire: WireFormat::Auto,
            tls_roots: TlsRoots::Platform,
            danger_accept_invalid_certificates: false,
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
}

impl Config {
    /// The configuration of a stream: this one with the stream's own settings.
    pub fn for_stream(&self, options: &StreamOptions) -> Config {
        Config {
            record_max_buffered_time: options.record_max_buffered_time.unwrap_or(self.record_max_buffered_time),
            record_ttl: options.record_ttl.unwrap_or(self.record_ttl),
            aggregation_enabled: options.aggregation_enabled.unwrap_or(self.aggregation_enabled),
            rate_limit: options.rate_limit.unwrap_or(self.rate_limit),
            ..self.clone()
        }
    }

    /// How many core threads there are: one for each of `cpus`, or `cores`.
    pub fn core_count(&self) -> usize {
        self.cpus.as_ref().map_or(self.cores, Vec::len)
    }

    /// Checks every field and every relation. Whether [`Config::tls_roots`] can be read, and [`Config::cpus`] and
    /// [`Pinning::On`] be had, is checked when the producer is built.
    ///
    /// # Errors
    /// All faults, not only the first.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut check = Check { faults: Vec::new() };
        self.check_identity(&mut check);
        self.check_sizes(&mut check);
        self.check_times(&mut check);
        self.check_resources(&mut check);
        self.check_tls(&mut check);
        if check.faults.is_empty() { Ok(()) } else { Err(ConfigError { faults: check.faults }) }
    }

    fn check_identity(&self, check: &mut Check) {
        if let Some(region) = &self.region {
            let well_formed = !region.is_empty()
                && region.len() <= 64
                && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            check.that(well_formed, "region", region, "1 to 64 of a-z, 0-9 and -");
        }
        if let Some(url) = &self.endpoint_url {
            let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            let well_formed = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
            check.that(well_formed, "endpoint_url", url, "http://HOST[:PORT] or https://HOST[:PORT]");
        }
        if let Some(credentials) = &self.credentials {
            let id = &credentials.access_key_id;
            check.that(!id.is_empty(), "credentials.access_key_id", id, "not empty");
            let secret = !credentials.secret_access_key.is_empty();
            check.that(secret, "credentials.secret_access_key", "empty", "not empty");
        }
    }

    fn check_sizes(&self, check: &mut Check) {
        check.range("aggregation_max_count", self.aggregation_max_count, 1, u32::MAX as usize);
        let (min, max) = (limits::AGGREGATION_BYTES_MIN, limits::RECORD_BYTES_MAX);
        check.range("aggregation_max_size", self.aggregation_max_size, min, max);
        check.range("collection_max_count", self.collection_max_count, 1, limits::REQUEST_RECORDS_MAX);
        check.range("collection_max_size", self.collection_max_size, min, limits::REQUEST_BYTES_MAX);
        check.range("max_record_size", self.max_record_size, 1, limits::RECORD_BYTES_MAX);
        let aggregate = self.aggregation_max_size.saturating_add(limits::OUTER_PARTITION_KEY.len());
        check.relation(
            !self.aggregation_enabled || aggregate <= self.max_record_size,
            "aggregation_max_size, max_record_size",
            format!("{} and {}", self.aggregation_max_size, self.max_record_size),
            "such that an aggregate and its key of one byte fit a record",
        );
        check.relation(
            !self.aggregation_enabled || aggregate <= self.collection_max_size,
            "aggregation_max_size, collection_max_size",
            format!("{} and {}", self.aggregation_max_size, self.collection_max_size),
            "such that an aggregate and its key of one byte fit a request",
        );
        if let RateLimit::Percent(percent) = self.rate_limit {
            check.range("rate_limit", percent as usize, 1, limits::RATE_LIMIT_MAX as usize);
        }
    }

    fn check_times(&self, check: &mut Check) {
        let ms = Duration::from_millis(1);
        let max = limits::DURATION_MAX;
        check.duration("record_max_buffered_time", self.record_max_buffered_time, ms, max);
        check.duration("record_ttl", self.record_ttl, ms, max);
        check.duration("request_timeout", self.request_timeout, ms, max);
        check.duration("connect_timeout", self.connect_timeout, ms, max);
        check.duration("retry_base_delay", self.retry_base_delay, ms, max);
        check.duration("retry_delay_cap", self.retry_delay_cap, ms, max);
        check.duration("auth_grace", self.auth_grace, Duration::ZERO, max);
        check.duration("map_refresh", self.map_refresh, Duration::from_secs(1), max);
        check.relation(
            self.record_ttl > self.record_max_buffered_time,
            "record_ttl, record_max_buffered_time",
            format!("{:?} and {:?}", self.record_ttl, self.record_max_buffered_time),
            "such that a record can be sent before it expires: the first greater than the second",
        );
        check.relation(
            self.retry_base_delay <= self.retry_delay_cap,
            "retry_base_delay, retry_delay_cap",
            format!("{:?} and {:?}", self.retry_base_delay, self.retry_delay_cap),
            "such that the first is at most the second",
        );
    }

    fn check_tls(&self, check: &mut Check) {
        let some = match &self.tls_roots {
            TlsRoots::Platform => true,
            TlsRoots::Pem(pem) => !pem.is_empty(),
            TlsRoots::Der(certificates) => !certificates.is_empty(),
        };
        check.relation(some, "tls_roots", format!("{:?}", self.tls_roots), "one certificate at least");
    }

    fn check_resources(&self, check: &mut Check) {
        check.range("max_connections_per_core", self.max_connections_per_core, 1, limits::CONNECTIONS_MAX);
        check.range("max_outstanding_records", self.max_outstanding_records, 1, limits::OUTSTANDING_RECORDS_MAX);
        check.range("max_outstanding_bytes", self.max_outstanding_bytes, 1, limits::OUTSTANDING_BYTES_MAX);
        check.relation(
            self.max_outstanding_bytes / 4 * 3 >= self.max_record_size,
            "max_outstanding_bytes, max_record_size",
            format!("{} and {}", self.max_outstanding_bytes, self.max_record_size),
            "such that three quarters of the first hold one record (a quarter may be submitters' unspent credit)",
        );
        check.range("cores", self.cores, 1, limits::CORES_MAX);
        self.check_cpus(check);
        check.range("ring_bytes", self.ring_bytes, limits::RING_BYTES_MIN, limits::RING_BYTES_MAX);
        check.that(self.ring_bytes.is_power_of_two(), "ring_bytes", &self.ring_bytes.to_string(), "a power of two");
        check.range("max_submitters", self.max_submitters, limits::POOL_SUBMITTERS + 1, limits::SUBMITTERS_MAX);
    }

    fn check_cpus(&self, check: &mut Check) {
        let Some(cpus) = &self.cpus else { return };
        let count = cpus.len();
        if !(1..=limits::CORES_MAX).contains(&count) {
            check.relation(false, "cpus", format!("{count} CPUs"), &format!("1 to {}", limits::CORES_MAX));
        }
        let mut ascending = cpus.clone();
        ascending.sort_unstable();
        if let Some(twice) = ascending.windows(2).find(|pair| pair[0] == pair[1]) {
            let bound = format!("such that each is named once: {} is there twice", twice[0]);
            check.relation(false, "cpus", format!("{cpus:?}"), &bound);
        }
        check.relation(
            self.cores == 1 || self.cores == count,
            "cores, cpus",
            format!("{} and {cpus:?}", self.cores),
            "such that there is a CPU for each core; with the second, the first need not be set",
        );
        check.relation(
            self.pinning != Pinning::Off,
            "pinning, cpus",
            format!("Off and {cpus:?}"),
            "such that cores are pinned to what is named: Auto or On, or no CPUs",
        );
    }
}

/// Collects faults.
struct Check {
    faults: Vec<ConfigFault>,
}

impl Check {
    fn that(&mut self, holds: bool, field: &'static str, value: &str, bound: &str) {
        self.relation(holds, field, format!("{value:?}"), bound);
    }

    fn relation(&mut self, holds: bool, field: &'static str, value: String, bound: &str) {
        if !holds {
            self.faults.push(ConfigFault { field, value, bound: bound.to_owned() });
        }
    }

    fn range(&mut self, field: &'static str, value: usize, min: usize, max: usize) {
        if value < min || value > max {
            let (value, bound) = (value.to_string(), format!("{min} to {max}"));
            self.faults.push(ConfigFault { field, value, bound });
        }
    }

    fn duration(&mut self, field: &'static str, value: Duration, min: Duration, max: Duration) {
        if value < min || value > max {
            let (value, bound) = (format!("{value:?}"), format!("{min:?} to {max:?}"));
            self.faults.push(ConfigFault { field, value, bound });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        Config::default().validate().expect("defaults");
    }

    #[test]
    fn every_fault_is_reported_at_once_with_field_value_and_bound() {
        let config = Config {
            region: Some("EU west".into()),
            endpoint_url: Some("kinesis".into()),
            aggregation_max_size: 63,
            collection_max_count: 501,
            record_ttl: Duration::from_millis(50),
            rate_limit: RateLimit::Percent(0),
            cores: 0,
            ring_bytes: 5000,
            ..Config::default()
        };
        let error = config.validate().unwrap_err();
        let fields: Vec<_> = error.faults.iter().map(|fault| fault.field).collect();
        assert_eq!(
            fields,
            [
                "region",
                "endpoint_url",
                "aggregation_max_size",
                "collection_max_count",
                "rate_limit",
                "record_ttl, record_max_buffered_time",
                "cores",
                "ring_bytes",
            ]
        );
        let text = error.to_string();
        assert!(text.contains("collection_max_count is 501, but must be 1 to 500"), "{text}");
        assert!(text.contains("50ms and 100ms"), "{text}");
    }

    #[test]
    fn named_cpus_are_one_for_each_core() {
        let named = |cpus: &[usize]| Config { cpus: Some(cpus.to_vec()), ..Config::default() };
        for config in [named(&[3]), named(&[5, 2, 0]), Config { cores: 2, pinning: Pinning::On, ..named(&[1, 0]) }] {
            config.validate().expect("a CPU for each core");
            assert_eq!(config.core_count(), config.cpus.map_or(0, |cpus| cpus.len()));
        }
        assert_eq!(Config { cores: 7, ..Config::default() }.core_count(), 7);
        for (config, text) in [
            (named(&[]), "cpus is 0 CPUs, but must be 1 to 256"),
            (named(&(0..257).collect::<Vec<_>>()), "cpus is 257 CPUs, but must be 1 to 256"),
            (named(&[4, 0, 4]), "cpus is [4, 0, 4], but must be such that each is named once: 4 is there twice"),
            (Config { cores: 3, ..named(&[0, 1]) }, "cores, cpus is 3 and [0, 1], but must be"),
            (Config { pinning: Pinning::Off, ..named(&[0]) }, "pinning, cpus is Off and [0], but must be"),
        ] {
            let error = config.validate().expect_err(text);
            assert_eq!(error.faults.len(), 1, "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

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
}
