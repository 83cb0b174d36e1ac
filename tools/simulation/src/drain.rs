//! How soon a backlog is gone once the faults have healed (I18).
//!
//! ```text
//!   faults heal ── what was under way ends, maps and signer are good ──▶ steady ── due ──▶ delivered
//! ```
//!
//! From the steady moment on, a record that waits, or is put, is due after the sum of these, each taken at its worst: its
//! linger; the longest backoff that the front of its shard, and then the record itself, may have drawn; the requests that
//! all outstanding records fill, one after the other on one connection, or in ordered mode one for each; and the time in which the shard's limiter, from
//! its least share up, grants what is outstanding for the shard. The last two count twice, for what has to be sent again
//! under a newer map.
//!
//! Not judged: what expires before it is due; what was closed, or refused for its shard's backlog; what fails for a poison
//! record, which no healing makes good (I20); an aggregate that was
//! stored before the steady moment in a shard that has closed since (`UnverifiedShard`); an ordered stream that was deleted
//! once, where such an aggregate may hold up others, as no list will tell of its shard; and seeds whose service enforces what
//! shards take, since such a service goes on throttling, for good reason.

use std::time::Duration;

use kpl::config::{Config, RateLimit};
use kpl::limits::REQUEST_BYTES_PER_SHARD_MAX;
use kpl::outcome::{Delivered, ErrorCode, Failure};
use kpl::time::Time;

/// What is known of the world after its faults.
pub struct Drain {
    /// From when on nothing that goes wrong is under way.
    pub steady: Time,
    /// The longest round trip.
    pub round_trip: Duration,
    /// Whether the endpoint refuses large requests: halved often enough, each holds one record.
    pub body_limited: bool,
}

/// The least share of a limiter, and what it grows by in a second.
const SHARE_MIN: f64 = 0.01;
const SHARE_GROWTH: f64 = 0.05;
/// Bytes of an aggregate beside its records' data and keys, for each record.
const MEMBER_OVERHEAD: usize = 64;
/// Timers, cycles, and a listing of the shards.
const SLACK: Duration = Duration::from_secs(1);

impl Drain {
    /// When a record that waits at `now` is due: behind so many records and bytes of its shard, and of all. So many
    /// `sharers` have parts of its shard's rate.
    pub fn due(&self, now: Time, config: &Config, shard: (usize, usize), all: (usize, usize), sharers: u32) -> Time {
        let (records, bytes) = (all.0, all.1 + all.0 * MEMBER_OVERHEAD);
        let shard_bytes = shard.1 + shard.0 * MEMBER_OVERHEAD;
        // Two requests in a row hold more than one can, or else they would be one.
        let full = records / config.collection_max_count + 2 * bytes / config.collection_max_size;
        let full = if self.body_limited || config.ordered { records } else { full };
        let requests = full + 2 * shard_bytes / REQUEST_BYTES_PER_SHARD_MAX + 3;
        let network = self.round_trip * requests as u32;
        let tokens = self.grants(now, config, shard.0 + 1, shard_bytes + config.max_record_size) * sharers;
        now + config.record_max_buffered_time + 2 * config.retry_delay_cap + 2 * network + 2 * tokens + SLACK
    }

    /// How long a limiter that was at its least when all was steady takes to grant so much, with empty buckets.
    fn grants(&self, now: Time, config: &Config, records: usize, bytes: usize) -> Duration {
        let RateLimit::Percent(percent) = config.rate_limit else { return Duration::ZERO };
        let rates = (10.0 * f64::from(percent), 10_485.76 * f64::from(percent));
        let full_seconds = (records as f64 / rates.0).max(bytes as f64 / rates.1);
        let share = (SHARE_MIN + SHARE_GROWTH * now.since(self.steady).as_secs_f64()).min(1.0);
        let growing = (1.0 - share) / SHARE_GROWTH;
        let grown = (share + 1.0) / 2.0 * growing;
        Duration::from_secs_f64(if full_seconds <= grown {
            ((share * share + 2.0 * SHARE_GROWTH * full_seconds).sqrt() - share) / SHARE_GROWTH
        } else {
            growing + full_seconds - grown
        })
    }

    /// Whether an outcome of a record that arrived at `arrival` is one to judge; it may be `tainted` by poison.
    pub fn judges(&self, outcome: &Result<Delivered, Failure>, arrival: Time, tainted: bool) -> bool {
        match outcome.as_ref().map_err(Failure::code) {
            Err(ErrorCode::Closed | ErrorCode::Throttled) => false,
            Err(_) if tainted => false,
            Err(ErrorCode::UnverifiedShard) => arrival >= self.steady,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limiter_that_was_throttled_to_the_floor_grants_by_its_growing_share() {
        let config = Config { rate_limit: RateLimit::Percent(100), ..Config::default() };
        let second = |second| Time::ZERO + Duration::from_secs(second);
        let drain = Drain { steady: second(10), round_trip: Duration::ZERO, body_limited: false };
        let granted = |now, records| drain.grants(now, &config, records, 0).as_secs_f64();
        // Twice the area below a line from 1 % that grows by 5 % a second: after 4 s it is 0.44 full seconds.
        assert!((granted(second(10), 440) - 4.0).abs() < 0.01, "{}", granted(second(10), 440));
        assert!((granted(second(100), 5000) - 5.0).abs() < 0.01);
        let off = Config { rate_limit: RateLimit::Off, ..config.clone() };
        assert_eq!(drain.grants(second(10), &off, 1_000_000, 0), Duration::ZERO);
        assert!(drain.due(second(10), &config, (440, 0), (440, 0), 1) > second(18));
    }
}
