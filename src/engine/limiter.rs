//! The limiter: how fast one shard may be written to, in Kinesis records and in bytes.
//!
//! Two token buckets refill at `rate_limit` percent of what the service lets a shard take. Each holds one second of
//! its rate and begins full: the service grants such a burst itself, and the first records of a stream should not
//! wait. A Kinesis record leaves when both buckets can pay for it.
//!
//! What a shard really takes is known to the service alone, and other producers write too. So the rate in force is
//! the configured rate times a *share*, and throttles teach the share: additive increase, multiplicative decrease.
//!
//! ```text
//!   share  100 % ───╮ throttled: × 0.7, at most once in max(100 ms, round trip)
//!                   │      ╱│     ╱   + 5 % of the configured rate a second
//!                   ╰─────╱ ╰────╱
//!            1 % floor
//! ```
//!
//! Promises:
//! - L1: over any window the taken tokens are at most one second of the rate plus the window's worth, beyond what a
//!   single over-large record overdraws.
//! - L2: the moment that comes with a refusal is exact: a nanosecond earlier the answer would be the same, and then it
//!   is granted (unless it was taken or throttled in between).
//! - L3: a record larger than the bytes bucket goes when the bucket is full, and leaves a debt that is paid before
//!   anything else goes. So it waits for one bucketful, never for ever, and the long-run rate holds all the same.
//!
//! Nothing is rounded, so nothing drifts. The share is held as nanoseconds of the 20 s in which it would grow from
//! nothing to 100 %: then it grows by one a nanosecond, and the tokens of an interval are an area below a line of
//! slope one, an integer when counted in halves. A token is 4 × 10^21 such units, so that percents are integers too.
//!
//! Costs: a few multiplications of 128 bits for each Kinesis record; a refusal adds divisions and a square root.

use std::time::Duration;

use super::planted::{Mistake, planted};
use crate::config::RateLimit;
use crate::limits::{SHARD_BYTES_PER_S, SHARD_RECORDS_PER_S};
use crate::time::{Time, nanos};

/// The share that means 100 %: nanoseconds in which + 5 % a second come to that.
const SHARE_FULL: u64 = 20 * NS_PER_S;
/// The least share, 1 %.
const SHARE_MIN: u64 = SHARE_FULL / 100;
/// What one throttle leaves of the share, in tenths.
const DECREASE_TENTHS: u64 = 7;
/// The least time between two decreases.
const DECREASE_INTERVAL: Duration = Duration::from_millis(100);

const NS_PER_S: u64 = 1_000_000_000;
/// Units of one token: a second at one token a second, at the full share, in percent, in halves.
const TOKEN: i128 = 2 * SHARE_FULL as i128 * NS_PER_S as i128 * 100;

/// The rate limit of one shard, or of one core's part of a stream.
pub struct Limiter {
    /// Nothing when the rate limit is off.
    buckets: Option<Buckets>,
}

/// Owned by the shard's core.
struct Buckets {
    records: Bucket,
    bytes: Bucket,
    /// `SHARE_MIN` to `SHARE_FULL`, as of `now`.
    share: u64,
    /// The moment to which share and buckets were brought; never goes back.
    now: Time,
    /// Throttles before this moment tell what the last decrease has answered already.
    decrease_after: Time,
}

struct Bucket {
    /// Tokens a second at the full share, in hundredths.
    rate_percent: i128,
    /// The same of one shard.
    shard_rate_percent: i128,
    /// What is there, in units; negative after an over-large record.
    level: i128,
}

/// The least tokens a second of a core's part of a stream, in hundredths: one in a hundred seconds.
const RATE_PERCENT_MIN: i128 = 1;

impl Limiter {
    /// A limiter with full buckets and the whole share.
    pub fn new(rate_limit: RateLimit, now: Time) -> Limiter {
        let buckets = match rate_limit {
            RateLimit::Off => None,
            RateLimit::Percent(percent) => Some(Buckets {
                records: Bucket::new(SHARD_RECORDS_PER_S, percent),
                bytes: Bucket::new(SHARD_BYTES_PER_S, percent),
                share: SHARE_FULL,
                now,
                decrease_after: Time::ZERO,
            }),
        };
        Limiter { buckets }
    }

    /// The limiter of one core for a stream whose `shards` the service fills as it likes: its part, of `cores` alike, of
    /// what they take together.
    pub fn of_stream(rate_limit: RateLimit, (shards, cores): (usize, u16), now: Time) -> Limiter {
        let mut limiter = Limiter::new(rate_limit, now);
        limiter.share_out(shards, cores);
        let Some(buckets) = &mut limiter.buckets else { return limiter };
        for bucket in [&mut buckets.records, &mut buckets.bytes] {
            bucket.level = bucket.capacity(SHARE_FULL);
        }
        limiter
    }

    /// The stream of [`Limiter::of_stream`] has other shards now. What the buckets have, they keep as far as they hold it.
    pub fn reshape(&mut self, now: Time, (shards, cores): (usize, u16)) {
        if let Some(buckets) = &mut self.buckets {
            buckets.refill(now);
        }
        self.share_out(shards, cores);
    }

    fn share_out(&mut self, shards: usize, cores: u16) {
        let Some(buckets) = &mut self.buckets else { return };
        for bucket in [&mut buckets.records, &mut buckets.bytes] {
            let whole = bucket.shard_rate_percent * shards.max(1) as i128;
            bucket.rate_percent = (whole / i128::from(cores.max(1))).max(RATE_PERCENT_MIN);
            bucket.keep_second_of(SHARE_FULL);
        }
    }

    /// Takes the tokens of one Kinesis record of `bytes` bytes, data and partition key.
    ///
    /// # Errors
    /// The tokens are not there, and nothing was taken: the earliest moment at which they can be.
    pub fn try_take(&mut self, now: Time, bytes: u64) -> Result<(), Time> {
        let Some(buckets) = &mut self.buckets else { return Ok(()) };
        buckets.refill(now);
        let record_cost = TOKEN;
        let bytes_cost = i128::from(bytes).saturating_mul(TOKEN);
        let missing = buckets.records.missing(record_cost).max(buckets.bytes.missing(bytes_cost));
        if missing > 0 {
            return Err(buckets.now + buckets.time_until(missing));
        }
        buckets.records.level -= record_cost;
        buckets.bytes.level -= bytes_cost;
        Ok(())
    }

    /// The service throttled a record of this shard, in a request that took `round_trip`.
    pub fn throttled(&mut self, now: Time, round_trip: Duration) {
        let Some(buckets) = &mut self.buckets else { return };
        buckets.refill(now);
        if buckets.now < buckets.decrease_after || planted(Mistake::ThrottleUnheard) {
            return;
        }
        buckets.decrease_after = buckets.now + round_trip.max(DECREASE_INTERVAL);
        buckets.share = (buckets.share * DECREASE_TENTHS / 10).max(SHARE_MIN);
        // What was saved at the old rate would only be throttled too: keep a second of the new one.
        buckets.records.keep_second_of(buckets.share);
        buckets.bytes.keep_second_of(buckets.share);
    }

    /// The share of the configured rate that is in force at `now`, in millionths: 10 000 to a million, and always a
    /// million when the rate limit is off.
    pub fn share_ppm(&self, now: Time) -> u32 {
        let share = self
            .buckets
            .as_ref()
            .map_or(SHARE_FULL, |buckets| buckets.share.saturating_add(nanos(now.since(buckets.now))).min(SHARE_FULL));
        (share / (SHARE_FULL / 1_000_000)) as u32
    }
}

impl Buckets {
    /// Brings share and buckets to `now`. A clock that went backwards stands still.
    fn refill(&mut self, now: Time) {
        let elapsed = nanos(now.since(self.now));
        if elapsed == 0 {
            return;
        }
        self.now = now;
        let growing = elapsed.min(SHARE_FULL - self.share);
        let (share, grown, level) = (u128::from(self.share), u128::from(growing), u128::from(elapsed - growing));
        // Twice the area below the share: a trapezium while it grows, then a rectangle. At most 2^100.
        let area = (2 * share + grown) * grown + 2 * u128::from(SHARE_FULL) * level;
        self.share += growing;
        self.records.refill(area as i128);
        self.bytes.refill(area as i128);
    }

    /// How long it takes until the area below the share is `missing`: the inverse of what `refill` computes.
    fn time_until(&self, missing: i128) -> Duration {
        let (missing, share, full) = (missing as u128, u128::from(self.share), u128::from(SHARE_FULL));
        let while_growing = full * full - share * share;
        let ns = if missing <= while_growing {
            // 2·share·t + t² ≥ missing, that is (share + t)² ≥ missing + share².
            let square = missing + share * share;
            let root = square.isqrt();
            root + u128::from(root * root < square) - share
        } else {
            (full - share) + (missing - while_growing).div_ceil(2 * full)
        };
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

impl Bucket {
    fn new(per_s: u64, percent: u32) -> Bucket {
        // The configuration admits no 0 %; if it did, nothing could ever be sent.
        let rate_percent = i128::from(per_s) * i128::from(percent.max(1));
        let bucket = Bucket { rate_percent, shard_rate_percent: rate_percent, level: 0 };
        Bucket { level: bucket.capacity(SHARE_FULL), ..bucket }
    }

    /// One second of the rate, in units: below 2^118 for a shard and any percentage, and below 2^120 for
    /// [`SHARDS_MAX`](crate::limits::SHARDS_MAX) shards and the largest.
    fn capacity(&self, share: u64) -> i128 {
        self.rate_percent * 2 * i128::from(share) * i128::from(NS_PER_S)
    }

    fn refill(&mut self, area: i128) {
        // Saturates only far above the capacity, to which it is cut anyway.
        let area = if planted(Mistake::BucketNeverRefills) { 0 } else { area };
        let area = if planted(Mistake::BucketRefillsDouble) { 2 * area } else { area };
        let sum = self.level.saturating_add(self.rate_percent.saturating_mul(area));
        self.level = sum.min(self.capacity(SHARE_FULL));
    }

    fn keep_second_of(&mut self, share: u64) {
        self.level = self.level.min(self.capacity(share));
    }

    /// The area that must pass before `cost` can be taken; nothing or less if it can be now. What costs more than the
    /// bucket holds is granted when the bucket is full (L3).
    fn missing(&self, cost: i128) -> i128 {
        let most = if planted(Mistake::OverLargeWaits) { cost } else { self.capacity(SHARE_FULL) };
        let short = cost.min(most).saturating_sub(self.level);
        if short <= 0 { 0 } else { (short - 1) / self.rate_percent + 1 }
    }
}

#[cfg(test)]
mod tests;
