//! Who decides where the records of a stream come to lie: hash keys, or the service (`RecordDistributionStrategy` AUTO).
//!
//! ```text
//!   stored in a shard whose range excludes the hash key that it was sent by ──▶ suspected ──▶ the driver asks
//!                                                                                                │
//!   a map that says who decides ◀────────────────────────────────────────────────────────────────┘
//!         │ the service: no shard can be predicted; records are queued by ranges of the hash space, each core's its own
//!         ▼
//!   single records, no hash key on the wire, tokens of the stream's total, delivered wherever they are stored
//! ```
//!
//! What is aggregated when such a map comes is taken apart, queued or parked. An aggregate that was under way, and a lone
//! record that is one (`Wraps::Digest`), are still judged by the shard that they are stored in, since consumers drop what
//! does not belong there: they are sent again until it fits.
//!
//! One such record is proof enough: with hash keys the service puts nothing outside of its shard's range, and ranges never
//! change. A request that began while the service was thought to decide proves nothing, as its hash keys were not sent.

use super::super::batch::Wraps;
use super::*;
use crate::config::RecordDistribution;

/// Why an ordered stream takes no records where the service distributes them.
pub const UNORDERED: &str = "the stream is to be ordered (`ordered`), but the service distributes its records itself \
                             (RecordDistributionStrategy AUTO), in no order";

/// What follows for one stream on one core.
pub struct Distribution {
    /// Whether the service decides.
    pub managed: bool,
    /// From when this core's part of the stream's total has tokens again.
    pub tokens_at: Time,
    /// That part; nothing, where hash keys decide or the shards are not known.
    total: Option<Limiter>,
    cores: u16,
    /// Since when hash keys have decided without a break.
    unmanaged_since: Time,
    /// The service seems to decide, which nobody has been told yet.
    suspected: bool,
}

impl Distribution {
    /// That of a stream without a map, on one of `cores`.
    pub fn new(cores: u16) -> Distribution {
        Distribution {
            managed: false,
            tokens_at: Time::ZERO,
            total: None,
            cores,
            unmanaged_since: Time::ZERO,
            suspected: false,
        }
    }

    /// Takes the tokens of a Kinesis record of `bytes` bytes. If they are not there, nothing is due until they are.
    pub fn try_take(&mut self, now: Time, bytes: u64) -> bool {
        let Some(total) = &mut self.total else { return true };
        let taken = total.try_take(now, bytes);
        self.tokens_at = taken.err().unwrap_or(Time::ZERO);
        taken.is_ok()
    }

    /// The service throttled a record, in a request that took `round_trip`: some shard is full, whichever.
    pub fn throttled(&mut self, now: Time, round_trip: Duration) {
        if let Some(total) = &mut self.total {
            total.throttled(now, round_trip);
        }
    }
}

impl Stream {
    /// Whether the service decides, by the configuration or by `map`.
    pub(super) fn is_managed(&self, map: &ShardMap) -> bool {
        match self.config.record_distribution {
            RecordDistribution::UserKey => false,
            RecordDistribution::Auto => true,
            RecordDistribution::Detect => map.is_service_managed(),
        }
    }

    /// A newer map is in use: goes by who decides now.
    pub(super) fn distribute(&mut self, now: Time, map: &ShardMap) {
        let managed = self.is_managed(map);
        let of = &mut self.distribution;
        let was = std::mem::replace(&mut of.managed, managed);
        of.suspected &= !managed;
        of.tokens_at = Time::ZERO;
        if !managed {
            of.total = None;
            if was {
                of.unmanaged_since = now;
            }
            return;
        }
        if !planted(Mistake::AutoAggregates) {
            self.bounds.aggregates = false;
        }
        self.bounds.wraps = if self.config.aggregation_enabled { Wraps::Digest } else { Wraps::None };
        // How much a stream takes whose shards are not known, nobody knows.
        if map.is_stand_in() {
            return;
        }
        let shape = (map.len(), of.cores);
        match &mut of.total {
            Some(total) => total.reshape(now, shape),
            None => of.total = Some(Limiter::of_stream(self.config.rate_limit, shape, now)),
        }
        if self.config.ordered {
            self.router.forbid(UNORDERED);
        }
    }

    /// A Kinesis record of a request that began then was stored in `stored`: looks whether its hash key led it there.
    pub(super) fn suspect(&mut self, began: Time, batch: &Batch, stored: &str) {
        let detects = self.config.record_distribution == RecordDistribution::Detect && !self.distribution.managed;
        // A stream that was made anew has shards of the same ids and other ranges.
        if !detects
            || self.doubted
            || batch.predicted.as_deref() == Some(stored)
            || began < self.distribution.unmanaged_since
        {
            return;
        }
        if let Some((first, last)) = self.router.known_shards().and_then(|map| map.range_of(stored))
            && !(first..=last).contains(&batch.first_hash)
        {
            self.distribution.suspected = !planted(Mistake::SuspicionUnheard);
        }
    }

    /// Whether the service seems to decide, though the map says otherwise. True once, until there is another sign.
    pub fn take_suspected(&mut self) -> bool {
        std::mem::take(&mut self.distribution.suspected)
    }
}
