//! How a stream's shards change: splits, merges, UpdateShardCount, and a stream that is deleted and created again.
//!
//! ```text
//!   split         ──▶ two halves, or two unequal parts           UpdateShardCount ──▶ all are split, or merged in pairs:
//!   merge         ──▶ one of two neighbours                                           at one moment, or one by one
//!   deleted ──▶ nothing is there: put and list are told so ──some time──▶ created: the same ids, other ranges
//! ```
//!
//! Whether the producer's control thread hears of it at once is chance; otherwise a core has to find out. Sequence numbers
//! go on over a deletion, so that a record's place is told by its sequence number alone.

use std::time::Duration;

use kpl::time::Time;

use crate::faults::Kind;
use crate::kinesis::{Deleted, ServiceStream};
use crate::rng::Rng;
use crate::world::{Event, World};

/// UpdateShardCount does not double what has so many shards, but halves it.
const DOUBLED_MAX: usize = 1000;
/// The longest pause between two of its steps, in microseconds.
const STEP_US_MAX: u64 = 2_000;
/// Shards that a stream may have when it is created again.
const CREATED_AGAIN: [usize; 8] = [1, 2, 2, 3, 4, 5, 8, 30];

/// An UpdateShardCount under way.
#[derive(Clone, Copy)]
pub struct Rescaling {
    stream: usize,
    doubles: bool,
    /// What is below this hash key is done.
    from: u128,
    /// Between two steps.
    pause: Duration,
    /// When the stream was created that it was begun for.
    created: Time,
}

impl ServiceStream {
    /// Splits a shard, or merges two. Answers what was done.
    pub fn reshard(&mut self, now: Time, rng: &mut Rng) -> String {
        let place = rng.index(self.open.len());
        let mut above = self.open.values().skip(place).copied();
        let (lower, upper) = (above.next(), above.next());
        let Some(lower) = lower else { return "is not there".to_owned() };
        if let Some(upper) = upper.filter(|_| rng.chance(4000)) {
            return self.merge(now, lower, upper);
        }
        let (first, last) = self.shards[lower].range;
        let middle =
            if rng.chance(5000) { first + (last - first) / 2 } else { first + rng.wide() % (last - first).max(1) };
        self.split(now, lower, middle)
    }

    /// Splits a shard; `middle` is the last hash key of the lower part. One of a single hash key stays as it is.
    fn split(&mut self, now: Time, number: usize, middle: u128) -> String {
        let (first, last) = self.shards[number].range;
        let id = self.shards[number].id.clone();
        if first == last {
            return format!("does not split {id}");
        }
        self.close(now, number);
        self.open(now, (first, middle), [Some(number), None]);
        self.open(now, (middle + 1, last), [Some(number), None]);
        format!("splits {id}")
    }

    fn merge(&mut self, now: Time, lower: usize, upper: usize) -> String {
        let (first, last) = (self.shards[lower].range.0, self.shards[upper].range.1);
        self.close(now, lower);
        self.close(now, upper);
        self.open(now, (first, last), [Some(lower), Some(upper)]);
        format!("merges {} and {}", self.shards[lower].id, self.shards[upper].id)
    }

    /// A step of UpdateShardCount: splits the shard that begins at `from` or above it, or merges it with the one above.
    /// Answers where the next begins, if there is one.
    fn rescale(&mut self, now: Time, from: u128, doubles: bool) -> Option<u128> {
        let mut above = self.open.range(from..).map(|(_, number)| *number);
        let (lower, upper) = (above.next()?, above.next());
        let last = if doubles {
            let (first, last) = self.shards[lower].range;
            self.split(now, lower, first + (last - first) / 2);
            last
        } else {
            let upper = upper?;
            self.merge(now, lower, upper);
            self.shards[upper].range.1
        };
        last.checked_add(1)
    }

    /// Deletes the stream, and all that is in it.
    fn delete(&mut self, now: Time) {
        self.open.clear();
        self.dead_shard = false;
        self.deleted.push(Deleted { at: now, shards: std::mem::take(&mut self.shards) });
    }
}

impl World {
    /// A shard is split, or two are merged, or many at a time; whether we hear of it at once is chance.
    pub(crate) fn reshard(&mut self, stream: usize) {
        if self.healed || !self.streams[stream].is_there() {
            return;
        }
        self.faults.note(Kind::Reshard);
        if self.rng.chance(self.plan.profile.temper().rescales) {
            return self.begin_rescaling(stream);
        }
        let done = self.streams[stream].reshard(self.now, &mut self.rng);
        self.trace.say(self.now, format_args!("stream {stream} {done}"));
        self.perhaps_heard(stream);
    }

    fn begin_rescaling(&mut self, stream: usize) {
        let shards = self.streams[stream].open_count();
        let doubles = shards == 1 || (shards < DOUBLED_MAX && self.rng.chance(5000));
        let pause = if self.rng.chance(5000) { Duration::ZERO } else { self.rng.micros(1, STEP_US_MAX) };
        self.trace.say(self.now, format_args!("stream {stream} of {shards} shards: doubled {doubles}"));
        let created = self.streams[stream].created;
        self.rescale(Rescaling { stream, doubles, from: 0, pause, created });
        self.perhaps_heard(stream);
    }

    /// UpdateShardCount goes on.
    pub(crate) fn rescale(&mut self, mut rescaling: Rescaling) {
        let Rescaling { stream, doubles, pause, created, .. } = rescaling;
        while !self.healed && self.streams[stream].created == created {
            let Some(next) = self.streams[stream].rescale(self.now, rescaling.from, doubles) else { return };
            self.faults.note(Kind::Rescale);
            rescaling.from = next;
            if pause > Duration::ZERO {
                return self.schedule(self.now + pause, Event::Rescale(rescaling));
            }
        }
    }

    fn perhaps_heard(&mut self, stream: usize) {
        let heard = self.now + self.rng.micros(0, 300_000);
        let opened = self.plan.streams[stream].opened;
        let asked = self.rng.chance(5000) && self.now > opened;
        if asked && !std::mem::replace(&mut self.listings[stream].under_way, true) {
            self.schedule(heard, Event::List(stream));
        }
    }

    /// A stream is deleted.
    pub(crate) fn delete_stream(&mut self, stream: usize) {
        if self.healed || !self.streams[stream].is_there() {
            return;
        }
        self.faults.note(Kind::StreamDeleted);
        self.trace.say(self.now, format_args!("stream {stream} is deleted"));
        self.streams[stream].delete(self.now);
        self.checker.deleted.insert(stream);
    }

    /// A stream that was deleted is created again.
    pub(crate) fn create_again(&mut self, stream: usize) {
        if self.streams[stream].is_there() {
            return;
        }
        let shards = self.rng.pick(&CREATED_AGAIN);
        self.trace.say(self.now, format_args!("stream {stream} is created again, of {shards} shards"));
        self.streams[stream].create(self.now, shards);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(stream: &ServiceStream) -> Vec<(u128, u128)> {
        stream.open.values().map(|number| stream.shards[*number].range).collect()
    }

    fn rescale(stream: &mut ServiceStream, doubles: bool) {
        let mut from = Some(0);
        while let Some(next) = from {
            from = stream.rescale(Time::ZERO, next, doubles);
        }
    }

    #[test]
    fn a_count_that_is_doubled_and_halved_is_what_it_was() {
        let mut stream = ServiceStream::new(3, false);
        let before = ranges(&stream);
        rescale(&mut stream, true);
        let doubled = ranges(&stream);
        assert_eq!((doubled.len(), doubled[0].0, doubled[5].1), (6, 0, u128::MAX));
        assert!(doubled.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
        rescale(&mut stream, false);
        assert_eq!(ranges(&stream), before);
        rescale(&mut stream, false);
        assert_eq!(ranges(&stream).len(), 2, "the third has no neighbour left");
    }

    #[test]
    fn a_stream_that_is_created_again_has_the_same_ids_with_other_ranges() {
        let mut stream = ServiceStream::new(3, false);
        let before = stream.range_of("shardId-000000000001");
        stream.delete(Time::ZERO);
        assert_eq!((stream.is_there(), stream.place_of(7)), (false, None));
        stream.create(Time::ZERO, 2);
        assert!(stream.range_of("shardId-000000000001") != before);
        assert_eq!((stream.place_of(0), stream.place_of(u128::MAX)), (Some(0), Some(1)));
        assert_eq!(stream.deleted.len(), 1);
    }
}
