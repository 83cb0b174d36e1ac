//! Counters of a producer: one set for each core, written by that core alone, and summed when somebody asks.
//!
//! Each set lies on cache lines of its own, so counting costs a core an addition, and a snapshot costs it nothing.
//! A snapshot is not one moment: it may hold a settled record whose acceptance it has not seen yet, never the reverse
//! for long.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

/// A count that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`. Only the counter's owner calls this.
    #[inline]
    pub fn add(&self, amount: u64) {
        // One writer, so no read-modify-write is needed. Relaxed: a statistic orders nothing; partner of `value`.
        self.0.store(self.0.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
    }

    /// The count as of now.
    pub fn value(&self) -> u64 {
        // Relaxed: partner of the store in `add`; see there.
        self.0.load(Ordering::Relaxed)
    }
}

/// What one submitter counts.
#[derive(Debug, Default)]
pub struct SubmitterCounters {
    /// Records accepted.
    pub accepted: CachePadded<Counter>,
}

/// What one core counts of one stream. Over all cores, what was received and is not settled is pending.
#[derive(Debug, Default)]
pub struct StreamTally {
    cells: CachePadded<(Counter, Counter)>,
}

impl StreamTally {
    /// Records came from the core's rings, and records were settled there.
    pub fn note(&self, received: u64, settled: u64) {
        self.cells.0.add(received);
        self.cells.1.add(settled);
    }

    /// Records of the stream that came to a core and have no outcome, by the tallies of all cores.
    pub fn pending<'a>(cores: impl Iterator<Item = &'a StreamTally> + Clone) -> u64 {
        // Settled first: what is settled meanwhile is then seen as received, and so as pending. As with all counters,
        // that may be wrong for a moment, and is not for long.
        let settled: u64 = cores.clone().map(|core| core.cells.1.value()).sum();
        let received: u64 = cores.map(|core| core.cells.0.value()).sum();
        received.saturating_sub(settled)
    }
}

/// What one core counts.
#[derive(Debug, Default)]
pub struct CoreCounters {
    cells: CachePadded<Cells>,
}

#[derive(Debug, Default)]
struct Cells {
    delivered: Counter,
    failed: Counter,
    requests: Counter,
    json_requests: Counter,
    kinesis_records: Counter,
    unmapped_records: Counter,
    bytes_sent: Counter,
    request_failures: Counter,
    key_blocks: Counter,
    key_slots: Counter,
    aggregate_blocks: Counter,
    aggregate_slots: Counter,
    body_bytes_hashed: Counter,
    body_bytes_paired: Counter,
}

impl CoreCounters {
    /// Records were settled.
    pub fn settled(&self, delivered: u64, failed: u64) {
        self.cells.delivered.add(delivered);
        self.cells.failed.add(failed);
    }

    /// A PutRecords request was begun.
    pub fn request_begun(&self, kinesis_records: usize, body_bytes: usize, in_json: bool, is_unmapped: bool) {
        self.cells.requests.add(1);
        self.cells.json_requests.add(u64::from(in_json));
        self.cells.kinesis_records.add(kinesis_records as u64);
        self.cells.unmapped_records.add(if is_unmapped { kinesis_records as u64 } else { 0 });
        self.cells.bytes_sent.add(body_bytes as u64);
    }

    /// A request got no answer, or was refused whole.
    pub fn request_failed(&self) {
        self.cells.request_failures.add(1);
    }

    /// Partition keys were hashed side by side: so many blocks, in so many places for blocks.
    pub fn keys_hashed(&self, blocks: u64, slots: u64) {
        self.cells.key_blocks.add(blocks);
        self.cells.key_slots.add(slots);
    }

    /// Aggregates were, for their digests.
    pub fn aggregates_hashed(&self, blocks: u64, slots: u64) {
        self.cells.aggregate_blocks.add(blocks);
        self.cells.aggregate_slots.add(slots);
    }

    /// Bodies were hashed, so much of them side by side with another.
    pub fn bodies_hashed(&self, bytes: u64, in_pairs: u64) {
        self.cells.body_bytes_hashed.add(bytes);
        self.cells.body_bytes_paired.add(in_pairs);
    }

    /// Adds this core's counts to `sums`.
    pub fn add_to(&self, sums: &mut Counters) {
        sums.records_delivered += self.cells.delivered.value();
        sums.records_failed += self.cells.failed.value();
        sums.put_records_requests += self.cells.requests.value();
        sums.put_records_requests_in_json += self.cells.json_requests.value();
        sums.kinesis_records += self.cells.kinesis_records.value();
        sums.unmapped_records += self.cells.unmapped_records.value();
        sums.bytes_sent += self.cells.bytes_sent.value();
        sums.request_failures += self.cells.request_failures.value();
        sums.key_lanes.blocks += self.cells.key_blocks.value();
        sums.key_lanes.slots += self.cells.key_slots.value();
        sums.aggregate_lanes.blocks += self.cells.aggregate_blocks.value();
        sums.aggregate_lanes.slots += self.cells.aggregate_slots.value();
        sums.body_bytes_hashed += self.cells.body_bytes_hashed.value();
        sums.body_bytes_hashed_in_pairs += self.cells.body_bytes_paired.value();
    }
}

/// Counts of a producer since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Records accepted by puts.
    pub records_accepted: u64,
    /// Records delivered.
    pub records_delivered: u64,
    /// Records failed.
    pub records_failed: u64,
    /// PutRecords requests begun, retries included.
    pub put_records_requests: u64,
    /// Of these, in JSON; the others were in CBOR.
    pub put_records_requests_in_json: u64,
    /// Kinesis records in the requests.
    pub kinesis_records: u64,
    /// Of these, sent without a shard map; see `ShardMapPolicy`.
    pub unmapped_records: u64,
    /// Bytes of their bodies.
    pub bytes_sent: u64,
    /// Requests that got no answer or were refused whole.
    pub request_failures: u64,
    /// How full the lanes were that hashed partition keys.
    pub key_lanes: LaneCounts,
    /// How full the lanes were that hashed aggregates.
    pub aggregate_lanes: LaneCounts,
    /// Bytes of bodies that were hashed to be signed.
    pub body_bytes_hashed: u64,
    /// Of these, side by side with another body.
    pub body_bytes_hashed_in_pairs: u64,
}

/// How full lanes were: processors hash several messages side by side, one in each lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounts {
    /// Blocks of 64 bytes that were hashed.
    pub blocks: u64,
    /// Blocks that the lanes could have hashed meanwhile; as many, where there are no lanes.
    pub slots: u64,
}

impl LaneCounts {
    /// What part of the lanes was full, from 0 to 1; nothing if nothing was hashed.
    pub fn filled(self) -> Option<f64> {
        (self.slots > 0).then(|| self.blocks as f64 / self.slots as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_core_received_may_be_settled_by_another() {
        let cores = [StreamTally::default(), StreamTally::default()];
        cores[0].note(5, 1);
        cores[1].note(0, 3);
        assert_eq!(StreamTally::pending(cores.iter()), 1);
        cores[1].note(0, 1);
        assert_eq!(StreamTally::pending(cores.iter()), 0);
    }

    #[test]
    fn cores_are_summed() {
        let (one, two) = (CoreCounters::default(), CoreCounters::default());
        one.settled(3, 1);
        two.settled(4, 0);
        two.request_begun(2, 100, false, true);
        one.request_begun(1, 50, true, false);
        two.request_failed();
        one.keys_hashed(3, 8);
        two.keys_hashed(8, 8);
        one.aggregates_hashed(30, 40);
        two.bodies_hashed(100, 60);
        let mut sums = Counters::default();
        one.add_to(&mut sums);
        two.add_to(&mut sums);
        assert_eq!((sums.records_delivered, sums.records_failed), (7, 1));
        assert_eq!((sums.put_records_requests, sums.kinesis_records, sums.bytes_sent), (2, 3, 150));
        assert_eq!((sums.put_records_requests_in_json, sums.unmapped_records), (1, 2));
        assert_eq!(sums.request_failures, 1);
        assert_eq!(
            (sums.key_lanes, sums.key_lanes.filled()),
            (LaneCounts { blocks: 11, slots: 16 }, Some(11.0 / 16.0))
        );
        assert_eq!((sums.aggregate_lanes.filled(), LaneCounts::default().filled()), (Some(0.75), None));
        assert_eq!((sums.body_bytes_hashed, sums.body_bytes_hashed_in_pairs), (100, 60));
    }
}
