//! Whether a configuration can be had: the bounds of its fields, and how they relate.
//!
//! [`Config::validate`] finds every fault at once, each with its field, its value and its bound; relations between
//! fields name both.

use std::time::Duration;

use super::{
    Config, IdleStrategy, OuterPartitionKey, Pinning, RateLimit, RecordDistribution, ShardMapPolicy, TlsRoots,
};
use crate::error::{ConfigError, ConfigFault};
use crate::limits;

impl Config {
    /// Checks every field and every relation. Whether [`Config::tls_roots`] and [`Config::proxy`] can be read, and
    /// [`Config::cpus`] and [`Pinning::On`] be had, is checked when the producer is built.
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
        self.check_metrics(&mut check);
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
        for (field, given) in
            [("endpoint_url, use_fips", self.use_fips), ("endpoint_url, use_dual_stack", self.use_dual_stack)]
        {
            check.relation(
                self.endpoint_url.is_none() || given != Some(true),
                field,
                format!("{:?} and true", self.endpoint_url.as_deref().unwrap_or_default()),
                "one or the other: a URL says itself which endpoint it is",
            );
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
        let (key, key_bound) = match self.outer_partition_key {
            OuterPartitionKey::A => (limits::OUTER_PARTITION_KEY.len(), "its key of one byte"),
            OuterPartitionKey::FirstMember => (limits::PARTITION_KEY_BYTES_MAX, "its first member's key of 768 bytes"),
        };
        let aggregate = self.aggregation_max_size.saturating_add(key);
        check.relation(
            !self.aggregation_enabled || aggregate <= self.max_record_size,
            "aggregation_max_size, max_record_size",
            format!("{} and {}", self.aggregation_max_size, self.max_record_size),
            &format!("such that an aggregate and {key_bound} fit a record"),
        );
        check.relation(
            !self.aggregation_enabled || aggregate <= self.collection_max_size,
            "aggregation_max_size, collection_max_size",
            format!("{} and {}", self.aggregation_max_size, self.collection_max_size),
            &format!("such that an aggregate and {key_bound} fit a request"),
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
        if let ShardMapPolicy::Degrade { after } = self.shard_map {
            check.duration("shard_map", after, Duration::ZERO, max);
        }
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

    fn check_metrics(&self, check: &mut Check) {
        let (namespace, most) = (&self.metrics_namespace, limits::METRICS_NAME_MAX);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/#: ".contains(&byte);
        let well_formed = (1..=most).contains(&namespace.len())
            && namespace.bytes().all(allowed)
            && !namespace.trim().is_empty()
            && !namespace.starts_with([':'])
            && !namespace.starts_with("AWS/");
        let bound = format!("1 to {most} of a-z, A-Z, 0-9, . _ - / # : and blanks, not beginning with : or AWS/");
        check.that(well_formed, "metrics_namespace", namespace, &bound);
        let interval = self.metrics_interval;
        check.duration("metrics_interval", interval, Duration::from_millis(1), limits::DURATION_MAX);
        let dimensions = &self.metrics_dimensions;
        let most = limits::METRICS_DIMENSIONS_MAX - limits::METRICS_DIMENSIONS_OWN.len();
        let bound = format!("0 to {most} dimensions");
        check.relation(dimensions.len() <= most, "metrics_dimensions", dimensions.len().to_string(), &bound);
        for (place, (name, value)) in dimensions.iter().enumerate() {
            let name_max = limits::METRICS_NAME_MAX;
            let bound = format!("1 to {name_max} printable ASCII characters, not blanks alone, not beginning with :");
            let well_formed = is_printable(name, name_max) && !name.starts_with(':');
            check.that(well_formed, "metrics_dimensions (name)", name, &bound);
            let value_max = limits::METRICS_DIMENSION_VALUE_MAX;
            let bound = format!("1 to {value_max} printable ASCII characters, not blanks alone");
            check.that(is_printable(value, value_max), "metrics_dimensions (value)", value, &bound);
            let own = limits::METRICS_DIMENSIONS_OWN.contains(&name.as_str());
            let twice = dimensions[..place].iter().any(|(other, _)| other == name);
            check.that(!own && !twice, "metrics_dimensions (name)", name, "one that is not there yet");
        }
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
        check.relation(
            !self.ordered || self.record_distribution != RecordDistribution::Auto,
            "ordered, record_distribution",
            "true and Auto".to_owned(),
            "one or the other: where the service distributes records, they have no order",
        );
        if let Some(percent) = self.shard_backlog_max {
            check.range("shard_backlog_max", percent as usize, 1, 100);
        }
        check.range("cores", self.cores, 1, limits::CORES_MAX);
        self.check_cpus(check);
        if let IdleStrategy::SpinThenPark(time) = self.idle {
            let (min, max) = (limits::SPIN_MIN, limits::SPIN_MAX);
            let bound = format!("such that it spins for {min:?} to {max:?}");
            check.relation((min..=max).contains(&time), "idle", format!("SpinThenPark({time:?})"), &bound);
        }
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

/// Whether CloudWatch takes a text as a dimension's name or value.
fn is_printable(text: &str, most: usize) -> bool {
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    (1..=most).contains(&text.len()) && printable && !text.trim().is_empty()
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
            shard_backlog_max: Some(101),
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
                "shard_backlog_max",
                "cores",
                "ring_bytes",
            ]
        );
        let text = error.to_string();
        assert!(text.contains("collection_max_count is 501, but must be 1 to 500"), "{text}");
        assert!(text.contains("50ms and 100ms"), "{text}");
    }

    #[test]
    fn a_url_cannot_be_had_together_with_an_endpoint_of_awss_choice() {
        let given = |use_fips, use_dual_stack| Config {
            endpoint_url: Some("https://kinesis.test".into()),
            use_fips,
            use_dual_stack,
            ..Config::default()
        };
        for config in [
            given(None, Some(false)),
            given(Some(false), None),
            Config { endpoint_url: None, ..given(Some(true), Some(true)) },
        ] {
            config.validate().expect("no contradiction");
        }
        let error = given(Some(true), Some(true)).validate().expect_err("two contradictions");
        let fields: Vec<_> = error.faults.iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["endpoint_url, use_fips", "endpoint_url, use_dual_stack"]);
        assert!(error.to_string().contains("\"https://kinesis.test\" and true"), "{error}");
    }

    #[test]
    fn a_stream_whose_records_the_service_distributes_cannot_be_ordered() {
        let with = |ordered, record_distribution| Config { ordered, record_distribution, ..Config::default() };
        for config in [
            with(true, RecordDistribution::Detect),
            with(true, RecordDistribution::UserKey),
            with(false, RecordDistribution::Auto),
        ] {
            config.validate().expect("no contradiction");
        }
        let error = with(true, RecordDistribution::Auto).validate().expect_err("a contradiction");
        assert!(error.to_string().contains("ordered, record_distribution is true and Auto"), "{error}");
    }

    #[test]
    fn a_core_spins_for_a_time_within_bounds() {
        let spinning = |time| Config { idle: IdleStrategy::SpinThenPark(time), ..Config::default() };
        for idle in [IdleStrategy::Park, IdleStrategy::Spin] {
            Config { idle, ..Config::default() }.validate().expect("nothing to bound");
        }
        for time in [limits::SPIN_MIN, Duration::from_millis(3), limits::SPIN_MAX] {
            spinning(time).validate().expect("within bounds");
        }
        for (time, text) in [
            (Duration::ZERO, "idle is SpinThenPark(0ns), but must be such that it spins for 1µs to 1s"),
            (Duration::from_nanos(999), "idle is SpinThenPark(999ns), but must be"),
            (Duration::from_millis(1001), "idle is SpinThenPark(1.001s), but must be"),
        ] {
            let error = spinning(time).validate().expect_err(text);
            assert_eq!(error.faults.len(), 1, "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn metrics_are_told_under_names_that_cloudwatch_takes() {
        let named = |namespace: &str| Config { metrics_namespace: namespace.into(), ..Config::default() };
        let with = |dimensions: &[(&str, &str)]| {
            let dimensions = dimensions.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Config { metrics_dimensions: dimensions.collect(), ..Config::default() }
        };
        let many: Vec<_> = (0..28).map(|number| format!("Name{number}")).collect();
        let many: Vec<_> = many.iter().map(|name| (name.as_str(), "x")).collect();
        let (long, longer) = ("x".repeat(255), "x".repeat(1024));
        for config in [named("a/B c"), named(&long), with(&[(&long, &longer), ("Host", "a b")]), with(&many[..27])] {
            config.validate().expect("within bounds");
        }
        let (long, longer) = ("x".repeat(256), "x".repeat(1025));
        let interval = |metrics_interval| Config { metrics_interval, ..Config::default() };
        for (config, text) in [
            (named(""), "metrics_namespace is \"\", but must be 1 to 255 of"),
            (named(" "), "metrics_namespace is \" \""),
            (named(":a"), "not beginning with : or AWS/"),
            (named("AWS/Kinesis"), "metrics_namespace is \"AWS/Kinesis\""),
            (named("é"), "metrics_namespace is"),
            (named(&long), "metrics_namespace is"),
            (interval(Duration::ZERO), "metrics_interval is 0ns, but must be 1ms to 86400s"),
            (interval(Duration::MAX), "metrics_interval is"),
            (with(&many), "metrics_dimensions is 28, but must be 0 to 27 dimensions"),
            (with(&[("", "x")]), "metrics_dimensions (name) is \"\", but must be 1 to 255 printable"),
            (with(&[(":x", "x")]), "metrics_dimensions (name) is \":x\""),
            (with(&[(&long, "x")]), "metrics_dimensions (name) is"),
            (with(&[("Host", " ")]), "metrics_dimensions (value) is \" \", but must be 1 to 1024 printable"),
            (with(&[("Host", &longer)]), "metrics_dimensions (value) is"),
            (with(&[("Host", "a\nb")]), "metrics_dimensions (value) is \"a\\nb\""),
            (with(&[("Host", "x"), ("Host", "y")]), "metrics_dimensions (name) is \"Host\", but must be one that"),
            (with(&[("ShardId", "x")]), "metrics_dimensions (name) is \"ShardId\", but must be one that"),
        ] {
            let error = config.validate().expect_err(text);
            assert_eq!(error.faults.len(), 1, "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
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
}
