//! Every bound of the library, with its source, and how the bounds relate.
//!
//! *Service* bounds are facts of Amazon Kinesis Data Streams; *KPL* defaults are those of AWS's native library,
//! kept so that users who come from it find the same behaviour; *ours* are choices, argued where they stand.

use std::time::Duration;

/// Entries of one PutRecords request. Service.
pub const REQUEST_RECORDS_MAX: usize = 500;
/// Bytes of one PutRecords request, data and partition keys. Service.
pub const REQUEST_BYTES_MAX: usize = 10 * MIB;
/// Bytes of data and partition key of one record, as streams are created. Service.
pub const RECORD_BYTES_DEFAULT: usize = MIB;
/// Bytes of data and partition key of one record on a stream that was set to allow the most. Service.
pub const RECORD_BYTES_MAX: usize = 10 * MIB;
/// Length of a partition key in UTF-16 units. The service says "256 Unicode characters"; the KPL counts UTF-16
/// units, which is the stricter reading.
pub const PARTITION_KEY_UTF16_MAX: usize = 256;
/// Bytes of a partition key: a UTF-16 unit is at most three bytes of UTF-8. Derived.
pub const PARTITION_KEY_BYTES_MAX: usize = 3 * PARTITION_KEY_UTF16_MAX;
/// Records a shard takes in a second. Service.
pub const SHARD_RECORDS_PER_S: u64 = 1000;
/// Bytes a shard takes in a second. Service.
pub const SHARD_BYTES_PER_S: u64 = MIB as u64;
/// Shards of one stream. Ours: ten times the largest quota anyone has written about.
pub const SHARDS_MAX: usize = 100_000;
/// Streams of one producer. Ours: it fits sixteen bits, and a service with more wants several producers.
pub const STREAMS_MAX: usize = 65_535;
/// Length of a stream's name. Service.
pub const STREAM_NAME_MAX: usize = 128;

/// The first bytes of an aggregate. KPL format.
pub const AGGREGATE_MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];
/// The MD5 at the end of an aggregate. KPL format.
pub const AGGREGATE_DIGEST_BYTES: usize = 16;
/// Partition key of an aggregate's Kinesis record. KPL.
pub const OUTER_PARTITION_KEY: &str = "a";

/// `aggregation_max_size`. KPL: 50 KiB.
pub const AGGREGATION_BYTES_DEFAULT: usize = 51_200;
/// Least `aggregation_max_size`. KPL.
pub const AGGREGATION_BYTES_MIN: usize = 64;
/// `aggregation_max_count`. KPL: no bound but the size.
pub const AGGREGATION_COUNT_DEFAULT: usize = u32::MAX as usize;
/// `collection_max_size`. KPL.
pub const COLLECTION_BYTES_DEFAULT: usize = 5 * MIB;
/// Where a request is full enough to leave at once. Ours: about 1 MiB is 6 to 13 % cheaper per byte than 5 MiB,
/// since it stays in the caches, and a core stalls five times less for it.
pub const COLLECTION_BYTES_AIM: usize = MIB;
/// Bytes of one request that may go to the same shard. KPL: a larger burst would only be throttled.
pub const REQUEST_BYTES_PER_SHARD_MAX: usize = 256 * KIB;
/// Further requests that the search for a poison record may cost. Ours: bisecting the 500 records of a full request
/// takes 18.
pub const ISOLATION_REQUESTS_MAX: usize = 20;
/// The longest that a sealed record waits for companions. Ours, with the 20 % rule of [`collector_wait`].
pub const COLLECTOR_WAIT_MAX: Duration = Duration::from_millis(50);

/// `record_max_buffered_time`. KPL.
pub const BUFFERED_TIME_DEFAULT: Duration = Duration::from_millis(100);
/// `record_ttl`. KPL.
pub const TTL_DEFAULT: Duration = Duration::from_secs(30);
/// Longest `record_ttl` and longest anything else that is configured in time. Ours: a day.
pub const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// `rate_limit` in percent of a shard's limits. KPL.
pub const RATE_LIMIT_DEFAULT: u32 = 150;
/// Largest `rate_limit`. Ours: above it, `Off` says it better.
pub const RATE_LIMIT_MAX: u32 = 100_000;
/// `request_timeout` and `connect_timeout`. KPL.
pub const REQUEST_TIMEOUT_DEFAULT: Duration = Duration::from_secs(6);
/// How long sealed data waits before a core opens a further connection. Ours.
pub const CONNECTION_WAIT: Duration = Duration::from_millis(5);
/// `max_connections_per_core`. Ours.
pub const CONNECTIONS_DEFAULT: usize = 4;
/// Most `max_connections_per_core`. Ours.
pub const CONNECTIONS_MAX: usize = 256;
/// How long a connection may lie idle before we close it. Ours: a guess at the server's patience, on its safe side.
pub const CONNECTION_IDLE: Duration = Duration::from_secs(15);
/// Least difference between the service's clock and the time of our signatures that is corrected. Ours, and the AWS
/// SDK's: the service tolerates five minutes.
pub const CLOCK_SKEW_MIN: Duration = Duration::from_secs(240);
/// How often the time of signatures is corrected at most. Ours.
pub const CLOCK_CORRECTION_EVERY: Duration = Duration::from_secs(60);
/// The longest answer that is read; a longer one is unreadable. Ours: 500 entries of 512 bytes are 250 KiB.
pub const ANSWER_BYTES_MAX: usize = 16 * MIB;

/// `retry_base_delay`. Ours.
pub const RETRY_BASE_DEFAULT: Duration = Duration::from_millis(50);
/// The longest single backoff. Ours.
pub const RETRY_CAP_DEFAULT: Duration = Duration::from_secs(2);
/// How long refused credentials or a missing stream are tried again. Ours.
pub const AUTH_GRACE_DEFAULT: Duration = Duration::from_secs(5);
/// How long records wait for the first shard map before they are sent without. Ours.
pub const DEGRADE_AFTER_DEFAULT: Duration = Duration::from_secs(5);
/// Ranges of the hash space in which a stream without a shard map is served, each as if it were a shard: a throttled
/// shard then holds up its own ranges and not the others. Ours.
pub const STAND_IN_RANGES: u32 = 64;
/// Period of the shard map's refresh, jittered. Ours.
pub const MAP_REFRESH_DEFAULT: Duration = Duration::from_secs(60);

/// `max_outstanding_records`. Ours, aiokpl's figure.
pub const OUTSTANDING_RECORDS_DEFAULT: usize = 100_000;
/// `max_outstanding_bytes`. Ours.
pub const OUTSTANDING_BYTES_DEFAULT: usize = 256 * MIB;
/// Most `max_outstanding_records`: slots are numbered in 32 bits.
pub const OUTSTANDING_RECORDS_MAX: usize = 1 << 30;
/// Most `max_outstanding_bytes`. Ours: a terabyte says the unit was mistaken.
pub const OUTSTANDING_BYTES_MAX: usize = 1 << 40;

/// Bytes of a submitter's ring. Ours: it covers a tick and a stall at a million records a second.
pub const RING_BYTES_DEFAULT: usize = MIB;
/// Least bytes of a ring.
pub const RING_BYTES_MIN: usize = 4 * KIB;
/// Most bytes of a ring.
pub const RING_BYTES_MAX: usize = 1 << 30;
/// `max_submitters`. Ours.
pub const SUBMITTERS_DEFAULT: usize = 64;
/// Most `max_submitters`. Ours.
pub const SUBMITTERS_MAX: usize = 4096;
/// Submitters behind `Producer::put`, which any thread may call. Ours.
pub const POOL_SUBMITTERS: usize = 4;
/// Cores of one producer. Ours.
pub const CORES_MAX: usize = 256;
/// Messages of one mesh ring; what does not fit waits in its sender's overflow list. Ours.
pub const MESH_RING_MESSAGES: usize = 1024;

/// Records a turn takes from the rings. Ours: at some 150 ns each, a turn of at most 200 µs.
pub const TURN_RECORDS_MAX: usize = 1024;
/// Bytes a turn takes from the rings. Ours: a copy at 4 GB/s, so about 60 µs.
pub const TURN_BYTES_MAX: usize = 256 * KIB;
/// The longest tick of a core that drains its rings by itself while traffic flows. Ours.
pub const TICK_MAX: Duration = Duration::from_millis(20);
/// The least that an idle core may be told to spin before it rests. Ours: less is gone before it was looked once.
pub const SPIN_MIN: Duration = Duration::from_micros(1);
/// The most. Ours: who wants more wants to spin always.
pub const SPIN_MAX: Duration = Duration::from_secs(1);

/// How long a core that spins looks at its rings before it lets its runtime look at its sockets, and moves its coarse
/// clock. Ours: the runtime's look was measured to take 1 µs on tokio and 37 µs on glommio, during which nobody looks
/// at the rings, and an answer that is seen so much later is still early beside the network's time.
pub const SPIN_SLICE: Duration = Duration::from_micros(50);

/// `metrics_namespace`. KPL.
pub const METRICS_NAMESPACE_DEFAULT: &str = "KinesisProducerLibrary";
/// `metrics_interval`. KPL.
pub const METRICS_INTERVAL_DEFAULT: Duration = Duration::from_secs(60);
/// How often the pending records are sampled while there is a sink of metrics. KPL.
pub const METRICS_SAMPLE_EVERY: Duration = Duration::from_millis(200);
/// Open shards of a stream whose metrics are told by shard. Ours: each is some ten metrics of CloudWatch,
/// which bills them.
pub const METRICS_SHARDS_MAX: usize = 100;
/// Error codes that are told apart in one place. Ours: a code is whatever the endpoint says.
pub const METRICS_CODES_MAX: usize = 50;
/// Dimensions of a metric. CloudWatch.
pub const METRICS_DIMENSIONS_MAX: usize = 30;
/// Of these, the KPL's own: error code, stream, shard.
pub const METRICS_DIMENSIONS_OWN: [&str; 3] = ["ErrorCode", "StreamName", "ShardId"];
/// Characters of a namespace and of a dimension's name. CloudWatch.
pub const METRICS_NAME_MAX: usize = 255;
/// Characters of a dimension's value. CloudWatch.
pub const METRICS_DIMENSION_VALUE_MAX: usize = 1024;
/// Values of one metric in a line of the embedded metric format. CloudWatch.
pub const METRICS_VALUES_MAX: usize = 100;

/// How long a question to a core may take. Ours: a turn is far shorter.
pub const COMMAND_WAIT: Duration = Duration::from_millis(500);
/// How often a close after a core's failure looks whether the other cores' records have their outcomes. Ours.
pub const OUTCOMES_POLL: Duration = Duration::from_millis(10);
/// How long the cores may take to end once they were told to settle everything. Ours: they take a turn.
pub const CORES_END_WAIT: Duration = Duration::from_secs(10);

/// See [`sending_allowance`].
const SENDING_ALLOWANCE_MAX: Duration = Duration::from_micros(300);

const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

/// How long a sealed record may wait for companions: 20 % of the buffered time, at most 50 ms.
pub fn collector_wait(record_max_buffered_time: Duration) -> Duration {
    (record_max_buffered_time / 5).min(COLLECTOR_WAIT_MAX)
}

/// How much before its deadline a record is sent, so that its first byte has left by then: a tenth of the buffered time, at most
/// 0.3 ms. Ours: 1 000 records of 100 B that left together were late by so much more than a thread that only sleeps, at p99.
pub fn sending_allowance(record_max_buffered_time: Duration) -> Duration {
    (record_max_buffered_time / 10).min(SENDING_ALLOWANCE_MAX)
}

/// How long a core may let a record lie in its ring before it looks: a fifth of the buffered time, at most 20 ms.
///
/// A record is sealed no later for it. It counts from its arrival, not from when it was seen: its aggregate is sealed
/// one [`collector_wait`] before the deadline, so at four fifths of the buffered time or later, and it was seen within
/// the first fifth. What is not aggregated is sealed when it is seen, and sent at its deadline. Nothing expires unseen:
/// `record_ttl` is longer than the buffered time.
pub fn drain_tick(record_max_buffered_time: Duration) -> Duration {
    (record_max_buffered_time / 5).min(TICK_MAX)
}

const _: () = {
    assert!(SPIN_MIN.as_nanos() < SPIN_MAX.as_nanos());
    assert!(RECORD_BYTES_DEFAULT <= RECORD_BYTES_MAX);
    assert!(RECORD_BYTES_MAX <= REQUEST_BYTES_MAX, "the largest record fits a request");
    assert!(AGGREGATION_BYTES_DEFAULT < RECORD_BYTES_DEFAULT);
    assert!(AGGREGATION_BYTES_DEFAULT <= REQUEST_BYTES_PER_SHARD_MAX);
    assert!(COLLECTION_BYTES_AIM <= COLLECTION_BYTES_DEFAULT);
    assert!(COLLECTION_BYTES_DEFAULT <= REQUEST_BYTES_MAX);
    assert!(POOL_SUBMITTERS < SUBMITTERS_DEFAULT);
    assert!(RING_BYTES_MIN <= RING_BYTES_DEFAULT && RING_BYTES_DEFAULT <= RING_BYTES_MAX);
    assert!(PARTITION_KEY_BYTES_MAX < u16::MAX as usize, "a frame's header has 16 bits for it");
    assert!(TURN_BYTES_MAX < RING_BYTES_DEFAULT, "a turn takes less than a ring holds");
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_sent_a_little_before_its_deadline_and_never_before_its_put() {
        let allowances =
            [0, 1, 2_999, 3_000, 100_000].map(|us| sending_allowance(Duration::from_micros(us)).as_nanos());
        assert_eq!(allowances, [0, 100, 299_900, 300_000, 300_000]);
    }

    #[test]
    fn a_record_is_seen_long_before_its_aggregate_is_sealed() {
        for ms in (1..2000).chain([DURATION_MAX.as_millis() as u64]) {
            let buffered = Duration::from_millis(ms);
            let (seen, sealed) = (drain_tick(buffered), buffered - collector_wait(buffered));
            assert!(seen * 4 <= sealed, "{buffered:?}: seen after {seen:?}, sealed after {sealed:?}");
        }
    }
}
