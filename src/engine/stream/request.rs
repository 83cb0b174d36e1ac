//! A stream's requests: what goes into one, and what becomes of its batches when it has ended.
//!
//! ```text
//!   shards in the collector's list ─▶ assemble: draw from each ─▶ request ─▶ finish ─▶ settled │ parked │ requeued
//!                ▲                          │ no tokens, backoff                                           │
//!                └──── release ◀── hold ◀───┘                                                              │
//!                └─────────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use super::*;
use crate::codec::{RequestEncoder, StreamRef, Wire};
use crate::limits::OUTER_PARTITION_KEY;

impl Stream {
    /// The batches of a request that leaves now; none, if all shards turn out to be held. A request is about
    /// [`COLLECTION_BYTES_AIM`] large while there is a connection for the next one (`spare`).
    pub fn assemble(&mut self, now: Time, spare: bool, common: &mut Common) -> Vec<Box<Batch>> {
        let max = self.config.collection_max_size;
        let limit = if spare { max.min(COLLECTION_BYTES_AIM) } else { max };
        let mut request = Assembly { limit, bytes: 0, batches: common.lists.pop().unwrap_or_default() };
        for _ in 0..self.collector.len() {
            let Some(index) = self.collector.next() else { break };
            match self.draw(now, index, &mut request, common) {
                Drawn::All => {}
                Drawn::ShardFull => self.collector.list(index),
                Drawn::RequestFull => {
                    self.collector.put_back(index);
                    break;
                }
            }
        }
        let fronts = self.collector.listed().filter_map(|index| self.shards[index.index()].as_ref()?.front());
        let earliest = fronts.map(|batch| batch.send_by).min().unwrap_or(Time::NEVER);
        self.collector.reset_due(now, &self.config, earliest);
        request.batches
    }

    /// Writes the body of a request.
    pub fn encode(&self, wire: Wire, batches: &[Box<Batch>]) -> Vec<u8> {
        let stream = match &self.name {
            StreamName::Name(name) => StreamRef::Name(name),
            StreamName::Arn(arn) => StreamRef::Arn(arn),
        };
        // Room for the largest heads and keys of an entry besides its data; base64 adds a third.
        let data: usize = batches.iter().map(|batch| batch.size() + ENTRY_OVERHEAD).sum();
        let capacity = match wire {
            Wire::Cbor => data,
            Wire::Json => data / 3 * 4,
        };
        let mut encoder = RequestEncoder::new(wire, stream, capacity + 512);
        for batch in batches {
            let hash = Some(batch.first_hash);
            if batch.is_aggregate() {
                let [magic, keys, explicit, records] = batch.body.parts();
                encoder.entry(OUTER_PARTITION_KEY, hash, &[magic, keys, explicit, records, &batch.body.digest()]);
            } else if let Some(only) = batch.body.first() {
                encoder.entry(only.partition_key, hash, &[only.data]);
            }
        }
        encoder.finish()
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
            if front.expiration <= now {
                self.expire_queued(now, index, common);
                continue;
            }
            if request.batches.len() >= self.config.collection_max_count {
                return Drawn::RequestFull;
            }
            if !request.batches.is_empty() && request.bytes + size > request.limit {
                return Drawn::RequestFull;
            }
            if drawn_bytes > 0 && drawn_bytes + size > REQUEST_BYTES_PER_SHARD_MAX {
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

    /// A request of ours has ended.
    pub fn finish(
        &mut self,
        now: Time,
        began: Time,
        mut batches: Vec<Box<Batch>>,
        end: RequestEnd<'_>,
        common: &mut Common,
    ) {
        match end {
            RequestEnd::Failed(trouble) => {
                for batch in batches.drain(..) {
                    self.troubled(now, began, batch, &trouble, common);
                }
            }
            RequestEnd::Answered(entries) => {
                for (batch, entry) in batches.drain(..).zip(entries) {
                    match entry {
                        EntryResult::Stored { shard_id, sequence_number } => {
                            self.stored(now, began, batch, (shard_id, sequence_number), common);
                        }
                        EntryResult::Failed { code, message } => {
                            let trouble = Trouble::Entry { code: &code, message: &message };
                            self.troubled(now, began, batch, &trouble, common);
                        }
                    }
                }
            }
        }
        common.lists.push(batches);
    }

    fn stored(
        &mut self,
        now: Time,
        began: Time,
        mut batch: Box<Batch>,
        (shard_id, sequence_number): (Arc<str>, Arc<str>),
        common: &mut Common,
    ) {
        self.landed(&batch);
        let result = AttemptResult::Stored { shard_id: Arc::clone(&shard_id), sequence_number };
        let attempt = Attempt { began, ended: now, result };
        let placement = match (&batch.predicted, self.router.map()) {
            (Some(predicted), Some(map)) => judge_placement(&batch, predicted, &shard_id, map),
            // A batch is sealed under a map, and a map is never lost.
            _ => Placement::Unknown,
        };
        match placement {
            Placement::Right { stale_map } => {
                self.map_wanted |= stale_map;
                batch.note_attempt(attempt);
                self.settle(batch, None, common);
            }
            Placement::Wrong | Placement::Unknown => {
                self.map_wanted = true;
                common.wheel.insert(batch.expiration, Timer::Due);
                self.parked.push(Parked { batch, placement, stored: shard_id, attempt });
            }
        }
    }

    fn troubled(&mut self, now: Time, began: Time, mut batch: Box<Batch>, trouble: &Trouble<'_>, common: &mut Common) {
        let verdict = classify(trouble, &self.config);
        if let Some(shard) = self.landed(&batch)
            && verdict.throttled
        {
            shard.limiter.throttled(now, now.since(began));
        }
        if verdict.action == Action::Resend && !self.closed {
            batch.not_before = now;
            return self.requeue(now, batch, common);
        }
        let (code, message, ambiguous) = (verdict.code, verdict.message, verdict.ambiguous);
        let failure = (code.clone(), Arc::clone(&message));
        let result = AttemptResult::Failed { code, message, ambiguous };
        batch.note_attempt(Attempt { began, ended: now, result });
        if self.closed {
            return self.settle(batch, Some(closed()), common);
        }
        let gives_up = match verdict.action {
            Action::Fail => true,
            Action::RetryWithinGrace | Action::RetryAtOnceWithinGrace => {
                let since = *batch.refused_since.get_or_insert(now);
                now.since(since) >= self.config.auth_grace
            }
            Action::Retry | Action::Resend => {
                batch.refused_since = None;
                false
            }
        };
        if gives_up {
            return self.settle(batch, Some(failure), common);
        }
        self.map_wanted |= verdict.remedy == Some(Remedy::Map);
        batch.not_before = match verdict.action {
            Action::RetryAtOnceWithinGrace => now,
            _ => now + common.backoff.draw(batch.attempts.len(), &self.config),
        };
        self.requeue(now, batch, common);
    }

    /// A batch has come back from a request; its shard, if it is still here.
    fn landed(&mut self, batch: &Batch) -> Option<&mut Shard> {
        let index = self.locate(batch)?;
        let shard = self.shards[index.index()].as_deref_mut()?;
        shard.in_flight = shard.in_flight.saturating_sub(1);
        Some(shard)
    }

    /// Where a batch that was sealed belongs now, if its shard is still ours.
    fn locate(&self, batch: &Batch) -> Option<ShardIndex> {
        let map = self.router.map()?;
        let index = map.find(batch.predicted.as_ref()?)?;
        self.shards[index.index()].as_ref().map(|_| index)
    }

    /// Puts a batch back to its old place, or its records to wherever they belong now.
    pub(super) fn requeue(&mut self, now: Time, mut batch: Box<Batch>, common: &mut Common) {
        if batch.expiration <= now {
            let Some(rest) = self.expire(now, batch, common) else { return };
            batch = rest;
        }
        let Some(index) = self.locate(&batch) else { return self.route_anew(now, batch, common) };
        let Some(shard) = self.shards[index.index()].as_deref_mut() else { return };
        let (size, expiration, send_by) = (batch.size(), batch.expiration, batch.not_before);
        batch.send_by = send_by;
        let seal = batch.seal;
        shard.requeue(batch);
        let leads = shard.front().is_some_and(|front| front.seal == seal);
        set_earlier(&mut shard.expire_alarm, expiration, Timer::Expire(self.id, index), common);
        if shard.listed {
            self.collector.grew(now, &self.config, 1, size, send_by);
        } else {
            self.list_anew(now, index, leads, common);
        }
    }

    /// What signs requests has changed: what was refused for its signature waits for no backoff any more.
    pub fn resend_refused(&mut self, now: Time, common: &mut Common) {
        for index in (0..self.shards.len() as u32).map(ShardIndex) {
            let Some(shard) = self.shards[index.index()].as_deref_mut() else { continue };
            if !shard.forgive(now) {
                continue;
            }
            if shard.listed {
                self.collector.grew(now, &self.config, 0, 0, now);
            } else {
                self.list_anew(now, index, true, common);
            }
        }
    }

    /// Lists a shard. What it was held for was its front's; under a new front (`leads`) that is to be asked anew.
    pub(super) fn list_anew(&mut self, now: Time, index: ShardIndex, leads: bool, common: &mut Common) {
        if let Some(shard) = self.shards[index.index()].as_deref_mut()
            && leads
        {
            cancel(&mut shard.hold_alarm, common);
        }
        self.list(now, index);
    }
}

/// Bytes of an entry besides data and partition key, at most, in either wire form.
const ENTRY_OVERHEAD: usize = 128;

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
    /// The request is full.
    RequestFull,
}
