//! The clock of the bench, the one place where it reads time, and the distributions of what it timed.
//!
//! A reading costs some 25 ns where the kernel shares its clock and far more where it does not, so that
//! [`Clock::reading_ns`] measures it and the report states it beside the figures.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// The longest latency that is told from longer ones.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// Nanoseconds since an origin, the same for all copies.
#[derive(Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose origin is now.
    pub fn start() -> Clock {
        Clock { origin: now() }
    }

    /// Nanoseconds since the origin.
    pub fn now_ns(&self) -> u64 {
        let ns = now().duration_since(self.origin).as_nanos();
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    /// Time since the origin.
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.now_ns())
    }

    /// What a reading costs: the least time between two readings, of a thousand pairs.
    pub fn reading_ns(&self) -> u64 {
        (0..1000)
            .map(|_| {
                let begun = self.now_ns();
                self.now_ns() - begun
            })
            .min()
            .unwrap_or(0)
    }
}

/// Nanoseconds on the clock that all processes of the machine share and that never goes back; its origin is the system's.
pub fn shared_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the system has this clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

#[expect(clippy::disallowed_methods, reason = "a bench measures from outside the producer, with a clock of its own")]
fn now() -> Instant {
    Instant::now()
}

/// How long something took, over many times: three significant digits, 1 ns to an hour.
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("1 <= 2 * 1 <= an hour, 3 digits of 0 to 5"))
    }
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// The quantiles that are reported, in units of `unit_ns` nanoseconds; zero where nothing was recorded.
    pub fn quantiles(&self, unit_ns: f64) -> Quantiles {
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / unit_ns;
        Quantiles { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: self.0.max() as f64 / unit_ns }
    }
}

/// Quantiles of a latency.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_three_digits_and_merge() {
        let (mut low, mut high) = (Latencies::default(), Latencies::default());
        (1..=500).for_each(|us| low.record(us * 1000));
        (501..=1000).for_each(|us| high.record(us * 1000));
        low.add(&high);
        let quantiles = low.quantiles(1000.0);
        assert_eq!(low.0.len(), 1000);
        assert!((quantiles.p50 - 500.0).abs() < 1.0 && (quantiles.p99 - 990.0).abs() < 2.0, "{quantiles:?}");
        assert!((quantiles.max - 1000.0).abs() < 2.0, "{quantiles:?}");
        assert_eq!(Latencies::default().quantiles(1.0), Quantiles { p50: 0.0, p99: 0.0, p999: 0.0, max: 0.0 });
    }
}
