//! A shard's queue beside a list that is sorted, and in which everything is searched for.

use std::time::Duration;

use super::super::testing::{Put, Random, Source, bounds};
use super::*;
use crate::config::RateLimit;

/// A batch as the list has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Naive {
    seal: u64,
    send_by: Time,
    not_before: Time,
    refused: bool,
    expiration: Time,
    size: usize,
}

impl Naive {
    fn of(batch: &Batch) -> Naive {
        let &Batch { seal, send_by, not_before, expiration, .. } = batch;
        Naive { seal, send_by, not_before, refused: batch.refused_since.is_some(), expiration, size: batch.size() }
    }
}

struct Pair {
    random: Random,
    source: Source,
    pool: Pool,
    shard: Shard,
    naive: Vec<Naive>,
    /// Taken from the queue, and to come back to it perhaps.
    out: Vec<Box<Batch>>,
    sealed: u64,
}

impl Pair {
    fn new(seed: u64) -> Pair {
        let shard = Shard::new("shardId-7".into(), Limiter::new(RateLimit::Off, Time::ZERO));
        let (source, pool) = (Source::new(), Pool::default());
        Pair { random: Random(seed), source, pool, shard, naive: Vec::new(), out: Vec::new(), sealed: 0 }
    }

    fn moment(&mut self) -> Time {
        Time::from_nanos(self.random.below(1000))
    }

    fn batch(&mut self) -> Box<Batch> {
        let put = Put { arrival: self.moment(), ..Put::new("key", &vec![0; self.random.below(50) as usize]) };
        self.source.batch(&[put], &mut self.pool).0
    }

    /// What stands before it leaves no later, and it leaves no later than what stands behind it.
    fn insert(&mut self, mut new: Naive) {
        let behind = self.naive.iter().filter(|other| other.seal > new.seal).map(|other| other.send_by);
        new.send_by = behind.chain([new.send_by]).min().unwrap_or(new.send_by);
        for other in self.naive.iter_mut().filter(|other| other.seal < new.seal) {
            other.send_by = other.send_by.min(new.send_by);
        }
        self.naive.push(new);
        self.naive.sort_by_key(|other| other.seal);
    }

    fn enqueue(&mut self) {
        let (batch, send_by) = (self.batch(), self.moment());
        self.sealed += 1;
        let new = Naive { seal: self.sealed, send_by, ..Naive::of(&batch) };
        self.shard.enqueue(batch, send_by);
        self.insert(new);
    }

    fn requeue(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let place = self.random.below(self.out.len() as u64) as usize;
        let mut batch = self.out.swap_remove(place);
        batch.not_before = self.moment();
        batch.send_by = batch.not_before;
        batch.refused_since = self.random.once_in(2).then_some(Time::ZERO);
        self.insert(Naive::of(&batch));
        self.shard.requeue(batch);
    }

    fn apply(&mut self) {
        let now = self.moment();
        match self.random.below(12) {
            0..4 => self.enqueue(),
            4..6 => self.requeue(),
            6..8 => {
                let expected = (!self.naive.is_empty()).then(|| self.naive.remove(0));
                let popped = self.shard.pop();
                assert_eq!(popped.as_deref().map(Naive::of), expected);
                self.out.extend(popped);
            }
            8 => {
                self.shard.hurry(now);
                self.naive.iter_mut().for_each(|batch| batch.send_by = batch.send_by.min(now));
            }
            9 => {
                let any = self.naive.iter().any(|batch| batch.refused);
                assert_eq!(self.shard.forgive(now), any);
                for batch in self.naive.iter_mut().filter(|_| any) {
                    batch.send_by = batch.send_by.min(now);
                    batch.not_before = if batch.refused { batch.not_before.min(now) } else { batch.not_before };
                }
            }
            _ => {
                let marks: Vec<bool> = (0..self.naive.len()).map(|_| self.random.once_in(3)).collect();
                let taken = self.shard.take(&marks);
                let mut marks = marks.into_iter();
                let expected: Vec<Naive> = self.naive.extract_if(.., |_| marks.next() == Some(true)).collect();
                assert!(taken.iter().map(|batch| Naive::of(batch)).eq(expected));
                self.out.extend(taken);
            }
        }
    }

    fn check(&self) {
        assert!(self.shard.queue().map(Naive::of).eq(self.naive.iter().copied()), "H1");
        assert!(self.naive.is_sorted_by_key(|batch| batch.send_by), "H4");
        assert_eq!(self.shard.queued_bytes(), self.naive.iter().map(|batch| batch.size).sum::<usize>(), "H2");
        assert_eq!(self.shard.queued(), self.naive.len());
        assert_eq!(self.shard.front().map(Naive::of), self.naive.first().copied());
        let earliest = self.naive.iter().map(|batch| batch.expiration).min();
        assert_eq!(self.shard.earliest_expiration(), earliest.unwrap_or(Time::NEVER));
        assert!(self.shard.queue().all(|batch| batch.predicted.as_deref() == Some("shardId-7")));
    }
}

#[test]
fn the_queue_is_what_a_sorted_list_would_be() {
    for seed in 0..500 {
        let mut pair = Pair::new(seed);
        for _ in 0..60 {
            pair.apply();
            pair.check();
        }
        let Pair { shard, naive, mut pool, .. } = pair;
        assert!(shard.dismantle(&mut pool).map(|batch| Naive::of(&batch)).eq(naive));
    }
}

#[test]
fn the_open_aggregate_counts_as_the_last_batch_and_a_shard_is_quiet_without_any_under_way() {
    let (mut source, mut pool) = (Source::new(), Pool::default());
    let mut shard = Shard::new("shardId-7".into(), Limiter::new(RateLimit::Off, Time::ZERO));
    assert!(shard.is_quiet());
    let puts = [Put::new("queued", b"1"), Put::new("open", b"2")];
    let (queued, _outcomes) = source.batch(&puts[..1], &mut pool);
    shard.enqueue(queued, Time::ZERO + Duration::from_secs(1));
    assert!(!shard.is_quiet());
    let (ticket, record) = source.lone(&puts[1]);
    let sealed = shard.aggregator.push(ticket, &record, &bounds(), &mut pool);
    assert!(sealed.iter().all(Option::is_none));
    let first_keys = |batch: &Batch| batch.body.first().map(|first| first.partition_key.to_owned());
    let keys: Vec<_> = shard.batches().filter_map(first_keys).collect();
    assert_eq!(keys, ["queued", "open"]);
    let popped = shard.pop().expect("it is queued");
    assert!(shard.is_quiet(), "an open aggregate is nothing under way");
    shard.in_flight = 1;
    assert!(!shard.is_quiet());
    shard.requeue(popped);
    let keys: Vec<_> = shard.dismantle(&mut pool).filter_map(|batch| first_keys(&batch)).collect();
    assert_eq!(keys, ["queued", "open"]);
}
