//! When the records of one batch or parcel were put, and for which flush, in runs of records that agree in both.
//!
//! ```text
//!   records   a a a a b b b c …        arrivals within 65.5 µs of each other, of one generation: a run
//!   runs      [4, a] [3, b] [1, c]     8 bytes each
//! ```
//!
//! Submitters stamp records with their core's coarse clock, so that in a busy shard a run is long; where every record
//! has its own it costs 8 bytes a record. [`Arrivals::oldest`] is exact. The others are rounded down to a unit of 65.5 µs,
//! an error towards early only, and the same however often a record moves, since units are counted from the origin of
//! time. It matters for a record that leaves its batch alone, by expiring, or before its companions: no exact deadline
//! is lost, as a batch computes its own from every true arrival when that is appended.
//!
//! A1: there are as many records in the runs as were pushed.

use super::batch::Generation;
use super::planted::{Mistake, planted};
use crate::limits::DURATION_MAX;
use crate::time::Time;

/// See the essay.
pub struct Arrivals {
    /// Never, if there are no records.
    oldest: Time,
    runs: Vec<Run>,
}

/// Records that came one after the other, in one unit of time and for one flush.
struct Run {
    /// The low half of the number of the unit. The oldest arrival tells the high half: no later one is 78 hours younger.
    unit: u32,
    /// Twice their number, and the generation in the lowest bit. There are at most 2^30 outstanding records.
    records: u32,
}

const UNIT_BITS: u32 = 16;

const _: () = {
    assert!(size_of::<Run>() == 8);
    // A record lives for `record_ttl` and a last request. Arrivals further apart need a process that stood still for two
    // days; then a younger record is taken for an older one, and expires with those that it is in company with.
    assert!((1u64 << (32 + UNIT_BITS)) as u128 > 3 * DURATION_MAX.as_nanos());
    assert!(crate::limits::OUTSTANDING_RECORDS_MAX <= 1 << 30);
};

impl Arrivals {
    /// The next record.
    #[inline]
    pub fn push(&mut self, arrival: Time, generation: Generation) {
        self.oldest = self.oldest.min(arrival);
        let unit = unit(arrival) as u32;
        match self.runs.last_mut() {
            Some(run) if run.unit == unit && run.generation() == generation => run.records += 2,
            _ => self.runs.push(Run { unit, records: 2 | generation.index() as u32 }),
        }
    }

    /// Where the next run will be written.
    pub fn end(&self) -> *const u8 {
        self.runs.as_ptr_range().end.cast()
    }

    /// The earliest arrival, exactly; never, if there are no records.
    pub fn oldest(&self) -> Time {
        self.oldest
    }

    /// Every run in order: arrival, generation, and number of records.
    pub fn runs(&self) -> impl Iterator<Item = (Time, Generation, usize)> + '_ {
        let oldest = unit(self.oldest());
        self.runs.iter().map(move |run| {
            let unit = oldest + u64::from(run.unit.wrapping_sub(oldest as u32));
            (Time::from_nanos(unit << UNIT_BITS), run.generation(), (run.records >> 1) as usize)
        })
    }

    /// Every record's arrival and generation, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Time, Generation)> + '_ {
        self.runs().flat_map(|(arrival, generation, records)| std::iter::repeat_n((arrival, generation), records))
    }

    /// Makes room for so many runs and no more.
    pub fn reserve_exact(&mut self, runs: usize) {
        self.runs.reserve_exact(runs);
    }

    /// Forgets all records and keeps the room.
    pub fn clear(&mut self) {
        self.oldest = Time::NEVER;
        self.runs.clear();
    }

    /// Bytes that the runs occupy.
    pub fn capacity(&self) -> usize {
        self.runs.capacity() * size_of::<Run>()
    }

    /// Gives back room for more than a sixteenth of what there is.
    pub fn trim(&mut self) {
        super::batch::trim(&mut self.runs);
    }
}

impl Default for Arrivals {
    fn default() -> Arrivals {
        Arrivals { oldest: Time::NEVER, runs: Vec::new() }
    }
}

impl Run {
    fn generation(&self) -> Generation {
        let bit = if planted(Mistake::GenerationLost) { 0 } else { self.records & 1 };
        Generation::of_round(u64::from(bit))
    }
}

fn unit(arrival: Time) -> u64 {
    arrival.as_nanos() >> UNIT_BITS
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_arrival_is_kept_to_a_unit_and_never_late() {
        let day = DURATION_MAX;
        for start in [0, 1, 65_535, 1 << 48, (1 << 48) - 1, u64::MAX / 2] {
            let start = Time::from_nanos(start);
            let mut put = vec![start + day, start, start + Duration::from_nanos(70_000), start + day + day];
            put.push(start + Duration::from_micros(1));
            let mut arrivals = Arrivals::default();
            for (number, arrival) in put.iter().enumerate() {
                arrivals.push(*arrival, Generation::of_round(number as u64 / 2));
            }
            assert_eq!(arrivals.oldest(), start);
            let kept: Vec<_> = arrivals.iter().collect();
            assert_eq!(kept.len(), put.len());
            for (number, ((kept, generation), arrival)) in kept.into_iter().zip(put).enumerate() {
                assert!(kept <= arrival && arrival.since(kept) < Duration::from_nanos(1 << UNIT_BITS));
                assert_eq!(generation, Generation::of_round(number as u64 / 2));
                assert_eq!(unit(kept), unit(arrival), "it does not drift as it moves on");
            }
        }
    }

    #[test]
    fn records_that_agree_are_one_run() {
        let mut arrivals = Arrivals::default();
        for (ns, round) in [(0, 0), (65_535, 0), (65_536, 0), (65_537, 0), (65_538, 1), (0, 1)] {
            arrivals.push(Time::from_nanos(ns), Generation::of_round(round));
        }
        let records: Vec<_> = arrivals.runs().map(|(_, _, records)| records).collect();
        assert_eq!(records, [2, 2, 1, 1]);
        arrivals.clear();
        assert_eq!((arrivals.oldest(), arrivals.iter().count()), (Time::NEVER, 0));
    }

    #[test]
    fn room_is_what_was_asked_for_and_is_given_back() {
        let mut arrivals = Arrivals::default();
        arrivals.reserve_exact(3);
        assert_eq!(arrivals.capacity(), 3 * 8);
        arrivals.reserve_exact(100);
        arrivals.push(Time::ZERO, Generation::default());
        arrivals.trim();
        assert_eq!((arrivals.capacity(), arrivals.iter().count()), (8, 1));
    }
}
