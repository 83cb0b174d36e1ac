//! The builder: one setter for each field of [`Config`].

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};

use crate::callbacks::{DetachedFailure, Handler};
use crate::config::{
    Config, IdleStrategy, MetricsGranularity, MetricsLevel, OuterPartitionKey, Pinning, ProxyChoice, RateLimit,
    RecordDistribution, RuntimeChoice, ShardMapPolicy, StaticCredentials, TlsRoots, WireFormat,
};
use crate::error::StartError;
use crate::metrics::MetricsSink;
use crate::producer::{GivenProvider, Producer};
use crate::shared::SharedSink;

/// Builds a producer. What is not set has its default; what is wrong is reported by [`ProducerBuilder::build`], all of
/// it at once.
#[derive(Clone, Default)]
pub struct ProducerBuilder {
    config: Config,
    provider: Option<GivenProvider>,
    handler: Option<Handler>,
    sink: Option<SharedSink>,
}

impl fmt::Debug for ProducerBuilder {
    /// Shows which type the provider is of, and nothing of what it holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let provider = self.provider.as_ref().map(|(_, name)| name);
        f.debug_struct("ProducerBuilder")
            .field("config", &self.config)
            .field("provider", &provider)
            .field("has_handler", &self.handler.is_some())
            .field("has_sink", &self.sink.is_some())
            .finish()
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $kind:ty = $value:expr;)*) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $name: $kind) -> ProducerBuilder {
                self.config.$name = $value;
                self
            }
        )*
    };
}

impl ProducerBuilder {
    /// Starts from a configuration.
    pub fn config(config: Config) -> ProducerBuilder {
        ProducerBuilder { config, ..ProducerBuilder::default() }
    }

    /// Checks the configuration and starts the producer.
    ///
    /// # Errors
    /// Every fault of the configuration at once, or a thread that could not be started.
    pub fn build(self) -> Result<Producer, StartError> {
        Producer::start_with(self.config, self.provider, self.handler, self.sink)
    }

    /// Whom to ask for credentials, in the place of AWS's chain: any provider of AWS's SDK, or one of your own.
    ///
    /// It is asked when the producer starts, five minutes ahead of each expiry (or when half of the time is left, if that
    /// is later), and when the service refuses what it gave, then at most once a second and ever less often while the
    /// answer is the same. So it must not answer from a cache that outlives a rotation. One ask is under way at a time,
    /// and is given up after `connect_timeout` + `request_timeout`. It runs on the control thread, in tokio, and must
    /// not block that: no put, no flush and no close waits for it, but shards are listed there too. If it panics, it
    /// has given no credentials.
    #[must_use]
    pub fn credentials_provider<P: ProvideCredentials + 'static>(mut self, provider: P) -> ProducerBuilder {
        self.provider = Some((SharedCredentialsProvider::new(provider), std::any::type_name::<P>()));
        self
    }

    /// What to call when records fail that were put detached, on a thread of its own that exists only if there is a
    /// handler. One call tells of all records of a stream that failed alike. Nothing is dropped: their share of
    /// `max_outstanding_records` is free again when the handler has returned, so that one that blocks ends in `Full`. If
    /// it panics, it is called again with the next failure. A close waits for it, within its timeout.
    #[must_use]
    pub fn on_failure(mut self, handler: impl Fn(DetachedFailure) + Send + Sync + 'static) -> ProducerBuilder {
        self.handler = Some(Arc::new(handler));
        self
    }

    /// Where the KPL's metrics go, every `metrics_interval` and once at the close. It is called on a thread of its own
    /// that exists only if there is a sink. A snapshot that it does not take, by an error or a panic, is merged with the
    /// next; a close waits for the last one, within its timeout. See [`EmbeddedMetrics`](crate::EmbeddedMetrics) for a
    /// sink that is there. Without one, [`Producer::metrics`] tells them all the same.
    #[must_use]
    pub fn metrics_sink(mut self, sink: impl MetricsSink + 'static) -> ProducerBuilder {
        self.sink = Some(Arc::new(Mutex::new(sink)));
        self
    }

    /// One more dimension on all metrics.
    #[must_use]
    pub fn metrics_dimension(mut self, name: impl Into<String>, value: impl Into<String>) -> ProducerBuilder {
        self.config.metrics_dimensions.push((name.into(), value.into()));
        self
    }

    setters! {
        /// AWS region; by default the one that AWS's chain finds.
        region: impl Into<String> = Some(region.into());
        /// URL of the endpoint; by default AWS's for the region.
        endpoint_url: impl Into<String> = Some(endpoint_url.into());
        /// Whether AWS's FIPS endpoint is written to; by default as AWS's environment variable or profile says.
        use_fips: bool = Some(use_fips);
        /// Whether AWS's dual-stack endpoint is written to; by default as AWS's environment variable or profile says.
        use_dual_stack: bool = Some(use_dual_stack);
        /// The HTTP proxy on the way to the endpoint; by default the environment's, see [`ProxyChoice`].
        proxy: ProxyChoice = proxy;
        /// Credentials; by default AWS's chain.
        credentials: StaticCredentials = Some(credentials);
        /// Whether records are aggregated.
        aggregation_enabled: bool = aggregation_enabled;
        /// Most user records of an aggregate.
        aggregation_max_count: usize = aggregation_max_count;
        /// Most bytes of an aggregate, 64 to 10 MiB.
        aggregation_max_size: usize = aggregation_max_size;
        /// Most Kinesis records of a request, 1 to 500.
        collection_max_count: usize = collection_max_count;
        /// Most bytes of a request, data and partition keys, to 10 MiB.
        collection_max_size: usize = collection_max_size;
        /// By when a record's first byte is on the socket, tokens and a connection permitting.
        record_max_buffered_time: Duration = record_max_buffered_time;
        /// When a record that is not delivered fails with `Expired`.
        record_ttl: Duration = record_ttl;
        /// Share of the shards' limits to use.
        rate_limit: RateLimit = rate_limit;
        /// Fail throttled records at once instead of retrying them.
        fail_if_throttled: bool = fail_if_throttled;
        /// Whether the records of a submitter and hash key keep their order; see [`Config::ordered`] for what it costs.
        ordered: bool = ordered;
        /// How long an answer may take.
        request_timeout: Duration = request_timeout;
        /// How long a connection may take.
        connect_timeout: Duration = connect_timeout;
        /// Connections that each core may open.
        max_connections_per_core: usize = max_connections_per_core;
        /// Most bytes of data and partition key of a record, to 10 MiB.
        max_record_size: usize = max_record_size;
        /// Most records that are accepted and not settled.
        max_outstanding_records: usize = max_outstanding_records;
        /// Most bytes of data and partition key that are accepted and not settled.
        max_outstanding_bytes: usize = max_outstanding_bytes;
        /// Most that the records of one shard may hold of either of these, in percent; by default there is no such bound.
        shard_backlog_max: u32 = Some(shard_backlog_max);
        /// Core threads; with `cpus` they need not be set.
        cores: usize = cores;
        /// What cores run on.
        runtime: RuntimeChoice = runtime;
        /// The CPUs for the core threads, by number, one thread on each; see [`Config::cpus`].
        cpus: impl IntoIterator<Item = usize> = Some(cpus.into_iter().collect());
        /// Whether each core's thread keeps to one CPU.
        pinning: Pinning = pinning;
        /// What a core does that has nothing to do.
        idle: IdleStrategy = idle;
        /// Bytes of each submitter's ring, a power of two.
        ring_bytes: usize = ring_bytes;
        /// Most submitters at once, the pool behind `Producer::put` included.
        max_submitters: usize = max_submitters;
        /// First backoff; it doubles, with full jitter.
        retry_base_delay: Duration = retry_base_delay;
        /// Longest backoff.
        retry_delay_cap: Duration = retry_delay_cap;
        /// What becomes of records whose stream's shards are not known.
        shard_map: ShardMapPolicy = shard_map;
        /// Who decides in which shard a record comes to lie: hash keys, or the service; by default that is found out.
        record_distribution: RecordDistribution = record_distribution;
        /// Which partition key aggregates have.
        outer_partition_key: OuterPartitionKey = outer_partition_key;
        /// Whether a failure hands the record back.
        keep_failed_records: bool = keep_failed_records;
        /// How long refused credentials or a missing stream are tried again before records fail.
        auth_grace: Duration = auth_grace;
        /// Period of the shard map's refresh.
        map_refresh: Duration = map_refresh;
        /// Wire format of PutRecords.
        wire: WireFormat = wire;
        /// Whose signature makes the endpoint's certificate good; by default any that the machine trusts.
        tls_roots: TlsRoots = tls_roots;
        /// **Dangerous.** Takes any certificate from anybody; see [`Config::danger_accept_invalid_certificates`].
        danger_accept_invalid_certificates: bool = danger_accept_invalid_certificates;
        /// Which of the KPL's metrics are gathered; by default all.
        metrics_level: MetricsLevel = metrics_level;
        /// How finely they are told apart; by default by shard.
        metrics_granularity: MetricsGranularity = metrics_granularity;
        /// The namespace that they are told under; by default the KPL's, `KinesisProducerLibrary`.
        metrics_namespace: impl Into<String> = metrics_namespace.into();
        /// How often the sink of metrics is called; by default every 60 s.
        metrics_interval: Duration = metrics_interval;
        /// Seed of jitter. Two producers with one seed back off alike; by default it is drawn at the start.
        seed: u64 = Some(seed);
    }
}
