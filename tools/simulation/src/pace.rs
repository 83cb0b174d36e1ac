//! The pace of one shard, by an oracle in floating point: what its core may send it (I9).
//!
//! ```text
//!   share  1 ──╮ heard of a throttle: × 0.7, not again for 100 ms or a round trip     + 0.05 a second     0.01 at least
//! ```
//!
//! Two buckets of one second each refill at the share of the configured rate. A record that is larger than its bucket goes
//! when that is full. The oracle hears of throttles when the core does, and knows nothing else of the engine's limiter.

use std::time::Duration;

use kpl::time::Time;

/// What a throttle leaves of the share, the least share, and what it grows by in a second.
const LEAVES: f64 = 0.7;
const LEAST: f64 = 0.01;
const GROWTH: f64 = 0.05;
/// The least time between two decreases.
const DEAF: Duration = Duration::from_millis(100);
/// What rounding may come to.
const ROUNDING: (f64, f64) = (0.01, 1.0);

/// A shard's pace on its core.
pub struct Pace {
    /// Records and bytes a second.
    rates: (f64, f64),
    at: Time,
    /// What may be sent at `at`.
    levels: (f64, f64),
    share: f64,
    deaf_until: Time,
}

impl Pace {
    /// That of a shard of which nothing was sent, at `percent` of what the service lets a shard take.
    pub fn new(now: Time, percent: u32) -> Pace {
        let rates = (10.0 * f64::from(percent), 10_485.76 * f64::from(percent));
        Pace { rates, at: now, levels: rates, share: 1.0, deaf_until: Time::ZERO }
    }

    /// That of one core, of `cores`, for a stream whose `shards` the service fills as it likes.
    pub fn of_stream(now: Time, percent: u32, (shards, cores): (usize, u16)) -> Pace {
        let mut pace = Pace::new(now, percent);
        pace.rates = stream_rates(percent, (shards, cores));
        pace.levels = pace.rates;
        pace
    }

    /// The stream has other shards now.
    pub fn reshape(&mut self, now: Time, percent: u32, shape: (usize, u16)) {
        self.refill(now);
        self.rates = stream_rates(percent, shape);
        self.levels = (self.levels.0.min(self.rates.0), self.levels.1.min(self.rates.1));
    }

    /// A record of `size` bytes is sent.
    ///
    /// # Errors
    /// It may not be: the records and bytes that may.
    pub fn take(&mut self, now: Time, size: usize) -> Result<(), (f64, f64)> {
        self.refill(now);
        let (there, size) = (self.levels, size as f64);
        self.levels = (there.0 - 1.0, there.1 - size);
        let enough = there.0 + ROUNDING.0 >= self.rates.0.min(1.0) && there.1 + ROUNDING.1 >= self.rates.1.min(size);
        if enough { Ok(()) } else { Err(there) }
    }

    /// The core hears that the shard was throttled, in a request that left at `began`.
    pub fn throttled(&mut self, now: Time, began: Time) {
        self.refill(now);
        if now < self.deaf_until {
            return;
        }
        self.deaf_until = now + now.since(began).max(DEAF);
        self.share = (self.share * LEAVES).max(LEAST);
        self.levels = (self.levels.0.min(self.rates.0 * self.share), self.levels.1.min(self.rates.1 * self.share));
    }

    fn refill(&mut self, now: Time) {
        let elapsed = now.since(self.at).as_secs_f64();
        self.at = now;
        let growing = ((1.0 - self.share) / GROWTH).min(elapsed);
        let seconds = (self.share + GROWTH * growing / 2.0) * growing + (elapsed - growing);
        self.share += GROWTH * growing;
        let grown = |level: f64, rate: f64| (level + rate * seconds).min(rate);
        self.levels = (grown(self.levels.0, self.rates.0), grown(self.levels.1, self.rates.1));
    }
}

fn stream_rates(percent: u32, (shards, cores): (usize, u16)) -> (f64, f64) {
    let shards_each = shards as f64 / f64::from(cores);
    (10.0 * f64::from(percent) * shards_each, 10_485.76 * f64::from(percent) * shards_each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_leaves_less_for_a_while() {
        let ms = |ms| Time::ZERO + Duration::from_millis(ms);
        let takes = |pace: &mut Pace, now| (0..10_000).take_while(|_| pace.take(now, 1).is_ok()).count();
        let mut pace = Pace::new(ms(0), 100);
        assert_eq!(takes(&mut pace, ms(0)), 1000);
        let mut pace = Pace::new(ms(0), 100);
        (0..5).for_each(|_| pace.throttled(ms(10), ms(0)));
        assert_eq!(takes(&mut pace, ms(10)), 700, "those that were sent together count once");
        // 0.7 s of the share of 0.7, and what that has grown by.
        let later = takes(&mut pace, ms(710));
        assert!((500..505).contains(&later), "{later}");
    }
}
