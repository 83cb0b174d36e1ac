//! A stream's requests: what goes into one, and its body.
//!
//! ```text
//!   shards in the collector's list ─▶ assemble: draw from each ─▶ encode ─▶ a connection
//!                ▲                          │ no tokens, backoff
//!                └──── release ◀── hold ◀───┘
//! ```
//!
//! What may be poison (`isolation`) goes in requests of its own, one group a request.

use super::*;
use crate::codec::lanes::{self, Fill, LANES_MAX};
use crate::codec::{Body, Part, RequestEncoder, StreamRef, Wire};
use crate::limits::AGGREGATE_DIGEST_BYTES;

impl Stream {
    /// The batches of a request that leaves now; none, if all shards turn out to be held. `spare` tells whether there is a
    /// connection for another one: see `Collector::request_bytes`.
    pub fn assemble(&mut self, now: Time, spare: bool, common: &mut Common) -> Vec<Box<Batch>> {
        let limit = self.collector.request_bytes(&self.config, spare).min(common.request_bytes_max);
        let mut request = Assembly { limit, bytes: 0, batches: common.lists.pop().unwrap_or_default() };
        for _ in 0..self.collector.len() {
            let Some(index) = self.collector.next() else { break };
            match self.draw(now, index, &mut request, common) {
                Drawn::All => {}
                Drawn::ShardFull | Drawn::Apart => self.collector.list(index),
                Drawn::RequestFull => {
                    self.collector.put_back(index);
                    break;
                }
            }
        }
        let fronts = self.collector.listed().filter_map(|index| self.shards[index.index()].as_ref()?.front());
        let earliest = fronts.map(|batch| batch.send_by).min().unwrap_or(Time::NEVER);
        self.collector.reset_due(now, &self.config, earliest);
        self.under_way += usize::from(!request.batches.is_empty());
        request.batches
    }

    /// The epoch of the map by which requests leave; 0 without one.
    pub fn map_epoch(&self) -> u64 {
        self.router.epoch()
    }

    /// Writes a request into `body`, which then shares what is large of the batches. Answers how full the lanes were that
    /// hashed aggregates.
    pub fn encode(&mut self, wire: Wire, batches: &mut [Box<Batch>], body: &mut Body) -> Fill {
        let fill = self.digest(batches);
        body.clear();
        if wire == Wire::Json {
            // Base64 adds a third; to heads and keys it does not, so that they are rather too much.
            let data: usize = batches.iter().map(|batch| batch.size() + ENTRY_OVERHEAD).sum();
            body.reserve(data / 3 * 4 + 512);
        }
        let stream = match &self.name {
            StreamName::Name(name) => StreamRef::Name(name),
            StreamName::Arn(arn) => StreamRef::Arn(arn),
        };
        let mut encoder = RequestEncoder::reuse(wire, stream, std::mem::take(body));
        for batch in batches {
            // Under a service that goes by none only an aggregate can lie wrong, if it has begun to go by them again.
            let needless = self.distribution.managed && !batch.is_aggregate();
            let hash = (!needless && !planted(Mistake::HashKeyUnsent)).then_some(batch.first_hash);
            if wire == Wire::Cbor {
                batch.body.share();
            }
            if batch.is_aggregate() {
                let [magic, keys, explicit, records] = batch.body.body_parts();
                let digest = Part::copied(batch.digest.as_ref().expect("all that are sent were hashed"));
                encoder.entry(batch.outer_partition_key(), hash, &[magic, keys, explicit, records, digest]);
            } else if let (Some(only), Some(data)) = (batch.body.first(), batch.body.only_data()) {
                encoder.entry(only.partition_key, hash, &[data]);
            }
        }
        *body = encoder.finish();
        fill
    }

    /// Hashes the aggregates of a request, and with them of those that are queued as many as fill the lanes: they are sent
    /// next, as a rule, and a sealed aggregate does not change.
    fn digest(&mut self, request: &mut [Box<Batch>]) -> Fill {
        let is_wanted = |batch: &&mut Batch| batch.is_aggregate() && batch.digest.is_none();
        let mut left = request.iter_mut().map(|batch| &mut **batch).filter(is_wanted).count();
        let queued = self.shards.iter_mut().flatten().filter(|shard| shard.listed).flat_map(|shard| shard.queue_mut());
        let mut wanted = request.iter_mut().map(|batch| &mut **batch).chain(queued).filter(is_wanted);
        let mut fill = Fill::default();
        while left > 0 {
            let mut together: [Option<&mut Batch>; LANES_MAX] = [const { None }; LANES_MAX];
            let places = together.iter_mut().take(lanes::together());
            let count = places.zip(&mut wanted).map(|(place, batch)| *place = Some(batch)).count();
            let mut digests = [[0; AGGREGATE_DIGEST_BYTES]; LANES_MAX];
            fill += hash(&together, &mut digests[..count]);
            for (batch, digest) in together.into_iter().flatten().zip(digests) {
                batch.digest = Some(digest);
            }
            left = left.saturating_sub(count);
        }
        fill
    }

    /// Moves what it can from one shard's queue into the request.
    fn draw(&mut self, now: Time, index: ShardIndex, request: &mut Assembly, common: &mut Common) -> Drawn {
        let mut drawn_bytes = 0;
        loop {
            let Some(shard) = self.shards[index.index()].as_deref_mut() else { return Drawn::All };
            let Some(front) = shard.front() else {
                shard.listed = false;
                return Drawn::All;
            };
            let size = front.size();
            if self.order.is_some() && shard.in_flight > 0 && !planted(Mistake::OrderedTwoUnderWay) {
                // Until that has landed.
                shard.listed = false;
                self.collector.shrank(shard.queued(), shard.queued_bytes());
                return Drawn::All;
            }
            if front.has_expired(now) {
                self.expire_queued(now, index, common);
                continue;
            }
            if request.batches.first().is_some_and(|first| first.suspicion != front.suspicion) {
                return Drawn::Apart;
            }
            let count_max = self.config.collection_max_count + usize::from(planted(Mistake::RequestCountLax));
            if request.batches.len() >= count_max {
                return Drawn::RequestFull;
            }
            let weighed = if planted(Mistake::RequestSizeLax) { 0 } else { size };
            if !request.batches.is_empty() && request.bytes + weighed > request.limit {
                return Drawn::RequestFull;
            }
            // A range whose records the service spreads over all shards is none of them.
            let unbounded = self.distribution.managed || planted(Mistake::ShardBytesUnbounded);
            if drawn_bytes > 0 && drawn_bytes + size > REQUEST_BYTES_PER_SHARD_MAX && !unbounded {
                return Drawn::ShardFull;
            }
            let wait = if front.not_before > now {
                Some(front.not_before)
            } else {
                shard.limiter.try_take(now, size as u64).err()
            };
            if let Some(until) = wait {
                self.hold(index, until, common);
                return Drawn::All;
            }
            if !self.distribution.try_take(now, size as u64) {
                return Drawn::RequestFull;
            }
            if let Some(batch) = shard.pop() {
                shard.in_flight += 1;
                drawn_bytes += size;
                request.bytes += size;
                self.collector.shrank(1, size);
                request.batches.push(batch);
            }
        }
    }

    /// Holds a shard that was taken from the collector's list.
    fn hold(&mut self, index: ShardIndex, until: Time, common: &mut Common) {
        let Some(shard) = self.shards[index.index()].as_deref_mut() else { return };
        shard.listed = false;
        self.collector.shrank(shard.queued(), shard.queued_bytes());
        set_earlier(&mut shard.hold_alarm, until, Timer::Release(self.id, index), common);
    }
}

/// Bytes of an entry besides data and partition key, at most.
const ENTRY_OVERHEAD: usize = 128;

/// The digests of these aggregates, in their order.
fn hash(aggregates: &[Option<&mut Batch>], digests: &mut [[u8; AGGREGATE_DIGEST_BYTES]]) -> Fill {
    let mut messages = [[&[][..]; 3]; LANES_MAX];
    for (batch, message) in aggregates.iter().flatten().zip(&mut messages) {
        let [_magic, parts @ ..] = batch.body.parts();
        *message = parts;
    }
    lanes::digests(&messages[..digests.len()], digests)
}

/// A request that is being put together.
struct Assembly {
    limit: usize,
    bytes: usize,
    batches: Vec<Box<Batch>>,
}

/// What became of a shard that a request drew from.
enum Drawn {
    /// It is listed no more: empty, or held.
    All,
    /// It had its part of the request and has more.
    ShardFull,
    /// What comes next is not to be sent with what is in the request.
    Apart,
    /// The request is full.
    RequestFull,
}
