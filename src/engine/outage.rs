//! Outage: how often a stream asks on one core while its requests fail as a whole.
//!
//! ```text
//!   requests as they are due ── one fails ──▶ its batches back off ── the next fails too ──▶ one probe at a time,
//!        ▲                                                                                   a backoff between
//!        └──────────────────────────────── any answer ◀────────────────────────────────────────────┘
//! ```
//!
//! Each shard's front backs off by itself, so that a stream of a thousand shards would ask a thousand times as often as
//! one of a single shard: a storm for an endpoint that is about to come back. After [`FAILURES_MAX`] failures in a row
//! the stream is *gated* instead: it has one request under way at most, and after each failure waits out a backoff that
//! doubles. What is due meanwhile is collected, and leaves when the gate opens.
//!
//! Requests that were under way together and fail together tell one thing, so they count as one failure.
//!
//! O1: any answer to what was asked opens the gate, whatever it says of single records.

use std::time::Duration;

use super::planted::{Mistake, planted};
use crate::time::Time;

/// Failures in a row after which a stream is gated. One alone is often a connection's, not the endpoint's.
const FAILURES_MAX: u32 = 2;

/// State of one stream on one core.
#[derive(Default)]
pub struct Outage {
    /// In a row, without an answer between.
    failures: u32,
    /// When the latest of them was known; what began earlier adds nothing.
    known: Time,
    /// Until when the gate is closed.
    until: Time,
}

impl Outage {
    /// A request failed as a whole that `began` then. `backoff` tells the delay after so many failures. Answers until
    /// when the gate is closed, if it is.
    pub fn failed(&mut self, now: Time, began: Time, backoff: impl FnOnce(usize) -> Duration) -> Option<Time> {
        if self.failures == 0 || began >= self.known {
            self.failures = self.failures.saturating_add(1);
            self.known = now;
            self.until = now + backoff(self.failures as usize);
        }
        self.is_gated().then_some(self.until)
    }

    /// The endpoint has answered what it was asked, or something has changed that may make it.
    pub fn ended(&mut self) {
        self.failures = 0;
    }

    /// From when a request may leave: at once, if there is no outage; not before the one `under_way` has ended.
    pub fn opens(&self, under_way: bool) -> Time {
        match (self.is_gated(), under_way) {
            (false, _) => Time::ZERO,
            (true, true) => Time::NEVER,
            (true, false) if planted(Mistake::GateNeverOpens) => Time::NEVER,
            (true, false) => self.until,
        }
    }

    fn is_gated(&self) -> bool {
        self.failures >= FAILURES_MAX && !planted(Mistake::GateNeverCloses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    fn backoff(failures: usize) -> Duration {
        Duration::from_millis(100 << failures)
    }

    #[test]
    fn the_second_failure_in_a_row_closes_the_gate_and_an_answer_opens_it() {
        let mut outage = Outage::default();
        assert_eq!(outage.opens(true), Time::ZERO);
        assert_eq!(outage.failed(at(10), at(0), backoff), None, "one failure is a connection's");
        assert_eq!(outage.opens(true), Time::ZERO);
        assert_eq!(outage.failed(at(20), at(10), backoff), Some(at(420)));
        assert_eq!((outage.opens(false), outage.opens(true)), (at(420), Time::NEVER), "one probe at a time");
        assert_eq!(outage.failed(at(430), at(420), backoff), Some(at(1230)), "the backoff doubles");
        outage.ended();
        assert_eq!(outage.opens(true), Time::ZERO);
        assert_eq!(outage.failed(at(2000), at(1900), backoff), None, "it counts anew");
    }

    #[test]
    fn requests_that_fail_together_count_once() {
        let mut outage = Outage::default();
        for began in 0..4 {
            assert_eq!(outage.failed(at(100 + began), at(began), backoff), None);
        }
        assert_eq!(outage.failed(at(300), at(200), backoff), Some(at(700)));
        assert_eq!(outage.failed(at(310), at(290), backoff), Some(at(700)), "it was under way with the other");
    }
}
