//! What a core does that has nothing to do: spin, rest on a tick, or park.
//!
//! ```text
//!   nothing to do ──▶ spin, if and as long as it was told to ──▶ rest on a tick, while records come ──▶ park
//!        ▲                        │                                          │                           │
//!        └────────────────────────┴──────────── something to do ◀────────────┴───────────────────────────┘
//! ```
//!
//! Waking a thread costs its waker microseconds, so a core that has just had records is not waked for the next: it
//! looks at its rings by itself, on a tick. It follows the stream with the shortest linger, whose records a longer
//! tick would make late. That nothing is late for the tick is argued at [`drain_tick`].
//!
//! Nothing here reads a clock or sleeps; the core loop does both.

use std::time::Duration;

use crate::config::IdleStrategy;
use crate::limits::{TICK_MAX, drain_tick};
use crate::ring::Rest;
use crate::time::Time;

/// What a core has to know of the past to idle well.
pub(crate) struct Idleness {
    strategy: IdleStrategy,
    /// How long the core rests while records come: as the most impatient of the open streams bears it.
    tick: Duration,
    /// When a record was last taken from a ring.
    last_record: Option<Time>,
    /// When there was last anything to do.
    last_work: Time,
}

/// How to pass the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Awake, looking.
    Spin,
    /// Asleep.
    Rest {
        /// What wakes the core.
        how: Rest,
        /// When it wakes by itself.
        until: Time,
    },
}

impl Idleness {
    /// That of a core which has had nothing to do yet.
    pub(crate) fn new(strategy: IdleStrategy) -> Idleness {
        Idleness { strategy, tick: TICK_MAX, last_record: None, last_work: Time::ZERO }
    }

    /// A stream with this `record_max_buffered_time` was opened. Streams stay open.
    pub(crate) fn stream_opened(&mut self, record_max_buffered_time: Duration) {
        self.tick = self.tick.min(drain_tick(record_max_buffered_time));
    }

    /// How far the coarse clock may be behind while the core is awake, in nanoseconds: a tenth of the tick, which is how
    /// far it is behind while the core rests. It is not kept closer, as every put misses its cache when it moves.
    pub(crate) fn clock_step(&self) -> u64 {
        self.tick.as_nanos() as u64 / 10 // at most TICK_MAX
    }

    /// There was something to do.
    pub(crate) fn worked(&mut self, now: Time) {
        self.last_work = now;
    }

    /// Records were taken from a ring.
    pub(crate) fn took_records(&mut self, now: Time) {
        self.last_record = Some(now);
    }

    /// How to pass the time from now on.
    pub(crate) fn pause(&self, now: Time) -> Pause {
        let spins = match self.strategy {
            IdleStrategy::Park => false,
            IdleStrategy::SpinThenPark(time) => now.since(self.last_work) < time,
            IdleStrategy::Spin => true,
        };
        if spins {
            return Pause::Spin;
        }
        // A tick may pass without a record while they come; a second says that they don't.
        match self.last_record {
            Some(last) if now.since(last) <= self.tick * 2 => Pause::Rest { how: Rest::Armed, until: now + self.tick },
            _ => Pause::Rest { how: Rest::Parked, until: Time::NEVER },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u32) -> Time {
        Time::ZERO + MS * ms
    }

    const PARKED: Pause = Pause::Rest { how: Rest::Parked, until: Time::NEVER };

    fn armed(until: Time) -> Pause {
        Pause::Rest { how: Rest::Armed, until }
    }

    #[test]
    fn a_core_rests_on_a_tick_while_records_come_and_then_parks() {
        let mut idleness = Idleness::new(IdleStrategy::Park);
        idleness.stream_opened(MS * 50);
        assert_eq!(idleness.pause(at(0)), PARKED, "there was no record yet");
        idleness.took_records(at(100));
        assert_eq!(idleness.pause(at(100)), armed(at(110)));
        assert_eq!(idleness.pause(at(110)), armed(at(120)));
        assert_eq!(idleness.pause(at(120)), armed(at(130)));
        assert_eq!(idleness.pause(at(121)), PARKED);
        idleness.took_records(at(400));
        assert_eq!(idleness.pause(at(401)), armed(at(411)));
    }

    #[test]
    fn work_without_records_arms_nothing() {
        let mut idleness = Idleness::new(IdleStrategy::Park);
        idleness.worked(at(100));
        assert_eq!(idleness.pause(at(100)), PARKED);
    }

    #[test]
    fn the_tick_follows_the_most_impatient_stream_and_is_never_longer_than_its_bound() {
        let mut idleness = Idleness::new(IdleStrategy::Park);
        idleness.took_records(at(0));
        idleness.stream_opened(MS * 1000);
        assert_eq!(idleness.pause(at(0)), armed(at(20)));
        idleness.stream_opened(MS * 5);
        assert_eq!(idleness.pause(at(0)), armed(at(1)));
        idleness.stream_opened(MS * 1000);
        assert_eq!(idleness.pause(at(0)), armed(at(1)));
    }

    #[test]
    fn a_core_that_is_told_to_spins_for_so_long_after_its_last_work_and_then_rests_like_others() {
        let mut idleness = Idleness::new(IdleStrategy::SpinThenPark(MS * 3));
        idleness.stream_opened(MS * 50);
        assert_eq!(idleness.pause(at(5)), PARKED);
        idleness.worked(at(10));
        idleness.took_records(at(10));
        assert_eq!(idleness.pause(at(10)), Pause::Spin);
        assert_eq!(idleness.pause(at(12)), Pause::Spin);
        assert_eq!(idleness.pause(at(13)), armed(at(23)));
        // It woke on its tick and found nothing.
        assert_eq!(idleness.pause(at(23)), armed(at(33)));
        assert_eq!(idleness.pause(at(31)), PARKED);
        idleness.worked(at(40));
        assert_eq!(idleness.pause(at(42)), Pause::Spin);
        assert_eq!(idleness.pause(at(43)), PARKED);
    }

    #[test]
    fn a_core_that_only_spins_never_rests() {
        let mut idleness = Idleness::new(IdleStrategy::Spin);
        assert_eq!(idleness.pause(at(0)), Pause::Spin);
        idleness.took_records(at(1));
        assert_eq!(idleness.pause(at(1_000_000)), Pause::Spin);
    }
}
