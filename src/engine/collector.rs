//! Collector, one for each core and stream: which shards have something to send, and is it time?
//!
//! ```text
//!   sealed batches, per shard ──▶ ready list of shards ──▶ a request, when a connection pulls
//! ```
//!
//! A sealed batch waits for companions until its `send_by`, unless enough is there for a request. The collector
//! knows shards and sums only; the batches lie in their shards' queues.
//!
//! C1: a shard is in the ready list at most once, and `bytes` and `count` are the sums over the queues of listed shards.

use std::collections::VecDeque;

use super::planted::{Mistake, planted};
use crate::config::Config;
use crate::limits::COLLECTION_BYTES_AIM;
use crate::record::ShardIndex;
use crate::time::Time;

/// What is ready to be sent.
pub struct Collector {
    ready: VecDeque<ShardIndex>,
    bytes: usize,
    count: usize,
    /// From when a request is due.
    due: Time,
}

impl Default for Collector {
    fn default() -> Collector {
        Collector { ready: VecDeque::new(), bytes: 0, count: 0, due: Time::NEVER }
    }
}

impl Collector {
    /// Lists a shard; what its queue holds is told by [`Collector::grew`].
    pub fn list(&mut self, shard: ShardIndex) {
        if self.ready.is_empty() {
            self.due = Time::NEVER;
        }
        self.ready.push_back(shard);
    }

    /// A listed shard's queue has grown.
    pub fn grew(&mut self, now: Time, config: &Config, count: usize, bytes: usize, send_by: Time) {
        self.count += count;
        self.bytes += bytes;
        let aim = COLLECTION_BYTES_AIM.min(config.collection_max_size);
        let enough = self.bytes >= aim || self.count >= config.collection_max_count;
        // What is overdue stays so when there is enough for a request: its age decides whether a connection is opened.
        let due = if enough { send_by.min(now) } else { send_by };
        self.due = if planted(Mistake::DueWithTheLast) { due } else { self.due.min(due) };
    }

    /// A listed shard's queue has shrunk, or the shard is listed no more.
    pub fn shrank(&mut self, count: usize, bytes: usize) {
        debug_assert!(self.count >= count && self.bytes >= bytes, "C1");
        self.count -= count;
        self.bytes -= bytes;
    }

    /// Takes the shard that has waited longest out of the list.
    pub fn next(&mut self) -> Option<ShardIndex> {
        self.ready.pop_front()
    }

    /// Puts a shard that was taken out back at the front: it was not served.
    pub fn put_back(&mut self, shard: ShardIndex) {
        if !planted(Mistake::ShardUnlisted) {
            self.ready.push_front(shard);
        }
    }

    /// Listed shards.
    pub fn len(&self) -> usize {
        self.ready.len()
    }

    /// The listed shards.
    pub fn listed(&self) -> impl Iterator<Item = ShardIndex> + '_ {
        self.ready.iter().copied()
    }

    /// From when a request is due; never, if nothing is ready.
    pub fn due(&self) -> Time {
        if self.ready.is_empty() { Time::NEVER } else { self.due }
    }

    /// After a request was taken: `earliest` is the earliest `send_by` of what is still listed.
    pub fn reset_due(&mut self, now: Time, config: &Config, earliest: Time) {
        self.due = Time::NEVER;
        self.grew(now, config, 0, 0, earliest);
    }

    /// Forgets everything: the shards have been numbered anew.
    pub fn clear(&mut self) {
        *self = Collector::default();
    }
}
