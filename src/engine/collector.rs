//! Collector, one for each core and stream: which shards have something to send, and is it time?
//!
//! ```text
//!   sealed batches, per shard ──▶ ready list of shards ──▶ a request, when a connection pulls
//! ```
//!
//! A sealed batch waits for companions until its `send_by`, unless enough is there for a request. The collector
//! knows shards and sums only; the batches lie in their shards' queues.
//!
//! Where there is enough for a request, and two connections are free, two of half the size leave, one right after the
//! other: their aggregates are digested together and their bodies hashed side by side, which saves more than a request
//! costs, and what is in them arrives earlier.
//!
//! C1: a shard is in the ready list at most once, and `bytes` and `count` are the sums over the queues of listed shards.
//! C2: a second request is due at once if there is anything for it, and there is never a third.

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
    /// Of two requests that leave together, one has left (C2).
    second: bool,
}

impl Default for Collector {
    fn default() -> Collector {
        Collector { ready: VecDeque::new(), bytes: 0, count: 0, due: Time::NEVER, second: false }
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
        // What is overdue stays so when there is enough for a request: its age decides whether a connection is opened.
        let due = if self.has_enough(config) { send_by.min(now) } else { send_by };
        self.due = if planted(Mistake::DueWithTheLast) { due } else { self.due.min(due) };
    }

    /// Whether there is enough for a request, which waits for nothing then but a connection.
    pub fn has_enough(&self, config: &Config) -> bool {
        let aim = COLLECTION_BYTES_AIM.min(config.collection_max_size);
        self.bytes >= aim || self.count >= config.collection_max_count
    }

    /// A listed shard's queue has shrunk, or the shard is listed no more.
    pub fn shrank(&mut self, count: usize, bytes: usize) {
        debug_assert!(self.count >= count && self.bytes >= bytes, "C1");
        self.count -= count;
        self.bytes -= bytes;
    }

    /// Bytes of the request that leaves now, about; `spare` tells whether another may leave beside it.
    pub fn request_bytes(&mut self, config: &Config, spare: bool) -> usize {
        let max = config.collection_max_size;
        let enough = self.bytes >= COLLECTION_BYTES_AIM && max >= COLLECTION_BYTES_AIM;
        let is_second = self.second;
        self.second = !is_second && spare && enough;
        if is_second || self.second {
            COLLECTION_BYTES_AIM / 2
        } else if spare {
            max.min(COLLECTION_BYTES_AIM)
        } else {
            max
        }
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
        match self.ready.is_empty() {
            true => Time::NEVER,
            // As old as can be, so that a connection is opened for it.
            false if self.second => Time::ZERO,
            false => self.due,
        }
    }

    /// After a request was taken: `earliest` is the earliest `send_by` of what is still listed.
    pub fn reset_due(&mut self, now: Time, config: &Config, earliest: Time) {
        self.due = Time::NEVER;
        self.second &= !self.ready.is_empty();
        self.grew(now, config, 0, 0, earliest);
    }

    /// Forgets everything: the shards have been numbered anew.
    pub fn clear(&mut self) {
        *self = Collector::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Random;
    use super::*;

    #[test]
    fn where_there_is_enough_for_a_request_two_of_half_the_size_leave_and_no_third() {
        let config = Config::default();
        let (now, later) = (Time::from_nanos(1_000_000_000), Time::from_nanos(2_000_000_000));
        let mut collector = Collector::default();
        collector.list(ShardIndex(0));
        collector.grew(now, &config, 30, 3 * COLLECTION_BYTES_AIM / 2, later);
        // Alone it is whole; with another connection it is the first of two.
        assert_eq!(collector.request_bytes(&config, false), config.collection_max_size);
        assert_eq!(collector.request_bytes(&config, true), COLLECTION_BYTES_AIM / 2);
        collector.shrank(10, COLLECTION_BYTES_AIM / 2);
        collector.reset_due(now, &config, later);
        assert_eq!(collector.due(), Time::ZERO, "the second is due, and old enough for a connection");
        assert_eq!(collector.request_bytes(&config, false), COLLECTION_BYTES_AIM / 2, "on the last connection too");
        collector.shrank(10, COLLECTION_BYTES_AIM / 2);
        collector.reset_due(now, &config, later);
        assert_eq!(collector.due(), later, "what is left waits for companions");
        assert_eq!(collector.request_bytes(&config, true), COLLECTION_BYTES_AIM);
        // A second of which nothing is left is not waited for.
        collector.grew(now, &config, 10, COLLECTION_BYTES_AIM, later);
        assert_eq!(collector.request_bytes(&config, true), COLLECTION_BYTES_AIM / 2);
        assert_eq!(collector.next(), Some(ShardIndex(0)));
        collector.reset_due(now, &config, Time::NEVER);
        collector.list(ShardIndex(1));
        assert_eq!(collector.due(), Time::NEVER);
    }

    /// The naive collector: every listed shard with what was told of its queue, and every moment that was told.
    #[derive(Default)]
    struct Oracle {
        /// Shard, Kinesis records, bytes.
        listed: VecDeque<(ShardIndex, usize, usize)>,
        due: Vec<Time>,
    }

    impl Oracle {
        fn grew(&mut self, now: Time, config: &Config, send_by: Time) {
            let count: usize = self.listed.iter().map(|(_, count, _)| count).sum();
            let bytes: usize = self.listed.iter().map(|(.., bytes)| bytes).sum();
            let enough = bytes >= config.collection_max_size.min(1 << 20) || count >= config.collection_max_count;
            self.due.push(if enough && now < send_by { now } else { send_by });
        }

        fn due(&self) -> Time {
            let earliest = self.due.iter().min().copied().unwrap_or(Time::NEVER);
            if self.listed.is_empty() { Time::NEVER } else { earliest }
        }
    }

    struct Pair {
        random: Random,
        config: Config,
        now: Time,
        collector: Collector,
        oracle: Oracle,
        next_shard: u32,
    }

    impl Pair {
        fn send_by(&mut self) -> Time {
            Time::from_nanos(self.now.as_nanos() + self.random.below(100) - 30)
        }

        fn list(&mut self) {
            let shard = ShardIndex(self.next_shard);
            self.next_shard += 1;
            let (count, bytes) = (1 + self.random.below(3) as usize, self.random.below(500) as usize);
            if self.oracle.listed.is_empty() {
                self.oracle.due.clear();
            }
            self.collector.list(shard);
            self.oracle.listed.push_back((shard, count, bytes));
            self.grow(count, bytes);
        }

        fn grow(&mut self, count: usize, bytes: usize) {
            let send_by = self.send_by();
            self.collector.grew(self.now, &self.config, count, bytes, send_by);
            self.oracle.grew(self.now, &self.config, send_by);
        }

        /// A request takes the front's queue, or leaves it.
        fn take(&mut self) {
            let taken = self.oracle.listed.pop_front();
            assert_eq!(self.collector.next(), taken.map(|(shard, ..)| shard));
            let Some((shard, count, bytes)) = taken else { return };
            if self.random.once_in(3) {
                self.collector.put_back(shard);
                self.oracle.listed.push_front((shard, count, bytes));
            } else {
                self.collector.shrank(count, bytes);
            }
            let earliest = self.send_by();
            self.collector.reset_due(self.now, &self.config, earliest);
            self.oracle.due.clear();
            self.oracle.grew(self.now, &self.config, earliest);
        }

        fn apply(&mut self) {
            match self.random.below(8) {
                0..2 => self.list(),
                2..5 => {
                    let (count, bytes) = (self.random.below(2) as usize, self.random.below(300) as usize);
                    let Some(last) = self.oracle.listed.back_mut() else { return };
                    (last.1, last.2) = (last.1 + count, last.2 + bytes);
                    self.grow(count, bytes);
                }
                5 | 6 => self.take(),
                _ => self.now = Time::from_nanos(self.now.as_nanos() + self.random.below(50)),
            }
        }
    }

    #[test]
    fn what_is_listed_and_when_it_is_due_is_what_a_list_of_everything_says() {
        for seed in 0..500 {
            let mut random = Random(seed);
            let config = Config {
                collection_max_size: 1 + random.below(3000) as usize,
                collection_max_count: 1 + random.below(12) as usize,
                ..Config::default()
            };
            let now = Time::from_nanos(1000);
            let (collector, oracle) = (Collector::default(), Oracle::default());
            let mut pair = Pair { random, config, now, collector, oracle, next_shard: 0 };
            for _ in 0..100 {
                pair.apply();
                assert_eq!(pair.collector.due(), pair.oracle.due(), "seed {seed}");
                assert_eq!(pair.collector.len(), pair.oracle.listed.len());
                assert!(pair.collector.listed().eq(pair.oracle.listed.iter().map(|(shard, ..)| *shard)));
                let sums = pair.oracle.listed.iter().fold((0, 0), |(a, b), (_, count, bytes)| (a + count, b + bytes));
                assert_eq!((pair.collector.count, pair.collector.bytes), sums, "C1");
            }
            pair.collector.clear();
            assert_eq!((pair.collector.len(), pair.collector.due()), (0, Time::NEVER));
            assert_eq!((pair.collector.count, pair.collector.bytes), (0, 0));
        }
    }

    #[test]
    fn a_mebibyte_is_enough_for_a_request_whatever_more_it_may_hold() {
        let config = Config::default();
        let (now, later) = (Time::from_nanos(5), Time::from_nanos(9));
        let mut collector = Collector::default();
        collector.list(ShardIndex(3));
        collector.grew(now, &config, 1, COLLECTION_BYTES_AIM - 1, later);
        assert_eq!(collector.due(), later);
        collector.grew(now, &config, 0, 1, later);
        assert_eq!(collector.due(), now);
    }
}
