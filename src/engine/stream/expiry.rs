//! A stream's records expire: in a shard's queue, waiting for a map, or parked. What is in a request is let be, as a
//! late success is a success.

use super::settling::misplaced;
use super::*;

impl Stream {
    pub(super) fn expire_queued(&mut self, now: Time, index: ShardIndex, common: &mut Common) {
        let Some(shard) = self.shards[index.index()].as_deref() else { return };
        let places: Vec<bool> = shard.queue().map(|batch| batch.has_expired(now)).collect();
        self.take_queued(now, index, &places, common, |stream, batch, common| stream.expire(now, batch, common));
        let Some(shard) = self.shards[index.index()].as_deref_mut() else { return };
        let next = shard.earliest_expiration();
        if next != Time::NEVER {
            set_earlier(&mut shard.expire_alarm, next, Timer::Expire(self.id, index), common);
        }
    }

    /// Takes out of a shard's queue what is marked in `places`; what `each` leaves of a batch stays in its place.
    pub(super) fn take_queued(
        &mut self,
        now: Time,
        index: ShardIndex,
        places: &[bool],
        common: &mut Common,
        mut each: impl FnMut(&mut Stream, Box<Batch>, &mut Common) -> Option<Box<Batch>>,
    ) {
        let Some(shard) = self.shards[index.index()].as_deref_mut() else { return };
        let (count, bytes) = (shard.queued(), shard.queued_bytes());
        let led = shard.front().map(|front| front.seal);
        for batch in shard.take(places) {
            if let Some(rest) = each(self, batch, common)
                && let Some(shard) = self.shards[index.index()].as_deref_mut()
            {
                shard.requeue(rest);
            }
        }
        let Some(shard) = self.shards[index.index()].as_deref_mut() else { return };
        if shard.listed {
            self.collector.shrank(count, bytes);
            let send_by = shard.front().map_or(Time::NEVER, |front| front.send_by);
            self.collector.grew(now, &self.config, shard.queued(), shard.queued_bytes(), send_by);
        }
        let leads = shard.front().map(|front| front.seal) != led;
        self.list_anew(now, index, leads, common);
    }

    /// Fails the members of `batch` that have expired; the rest is sealed again under the same number.
    pub(super) fn expire(&mut self, now: Time, mut batch: Box<Batch>, common: &mut Common) -> Option<Box<Batch>> {
        let (ttl, bounds) = (self.bounds.ttl, self.bounds);
        if batch.has_expired_whole(now, ttl) {
            batch.note_attempt(expired_attempt(now));
            self.settle(batch, Some(expired()), common);
            return None;
        }
        let mut rest = common.pool.take();
        rest.predicted = batch.predicted.clone();
        (rest.seal, rest.send_by, rest.not_before) = (batch.seal, batch.send_by, batch.not_before);
        (rest.refused_since, rest.suspicion) = (batch.refused_since, batch.suspicion);
        let bounds = Bounds { max_size: usize::MAX, ..bounds };
        let (records, bytes) = (batch.tickets.len() as u64, batch.record_bytes);
        batch.dissolve(|ticket, record| {
            if record.arrival + ttl <= now {
                let removed = Removed::of(ticket, record, bounds.keeps_failed);
                self.fail_expired(now, rest.predicted.as_ref(), removed, expired().1, common);
            } else {
                let appended = rest.try_append(ticket, record, &bounds);
                assert!(appended.is_ok(), "what was one batch fits one batch");
            }
        });
        self.let_go(&rest.predicted, records - rest.tickets.len() as u64, bytes - rest.record_bytes);
        common.pool.give(batch);
        common.pool.seal(&mut rest);
        Some(rest)
    }

    pub(super) fn expire_waiting(&mut self, now: Time, common: &mut Common) {
        let ttl = self.bounds.ttl;
        let gone = |arrival: Time| arrival + ttl <= now;
        let mut overdue = Vec::new();
        let early = self.early.iter_mut().map(|(_, parcel)| parcel);
        let ordered = self.order.iter_mut().flat_map(Order::parcels_mut);
        for parcel in self.router.waiting().iter_mut().chain(early).chain(ordered) {
            overdue.append(&mut parcel.remove(gone, self.bounds.keeps_failed));
        }
        self.router.waiting().retain(|parcel| !parcel.is_empty());
        self.early.retain(|(_, parcel)| !parcel.is_empty());
        self.order.iter_mut().for_each(Order::drop_empty);
        let message = match &self.map_trouble {
            _ if self.router.map().is_some() => expired().1,
            Some(trouble) => format!("record_ttl has passed without a shard map: {trouble}").into(),
            None => "record_ttl has passed without a shard map".into(),
        };
        for removed in overdue {
            self.fail_expired(now, None, removed, Arc::clone(&message), common);
        }
        let early = self.early.iter().map(|(_, parcel)| parcel);
        let ordered = self.order.iter().flat_map(Order::parcels);
        let oldest = self.router.waiting().iter().chain(early).chain(ordered).filter_map(Parcel::oldest).min();
        if let Some(oldest) = oldest {
            self.arm_waiting(oldest, common);
        }
    }

    /// Fails parked batches that have expired, whole: where they are stored can't be told.
    pub fn expire_parked(&mut self, now: Time, common: &mut Common) {
        for Parked { mut batch, placement, stored, attempt } in std::mem::take(&mut self.parked) {
            if !batch.has_expired(now) {
                self.parked.push(Parked { batch, placement, stored, attempt });
                continue;
            }
            let code = match placement {
                Placement::Unknown => ErrorCode::UnverifiedShard,
                _ => ErrorCode::WrongShard,
            };
            self.unpark(now, &batch);
            let attempt = misplaced(&attempt, code.clone(), &stored);
            batch.note_attempt(attempt);
            let reason = if code == ErrorCode::WrongShard { expired() } else { (code, stored) };
            self.settle(batch, Some(reason), common);
        }
    }

    fn fail_expired(
        &mut self,
        now: Time,
        shard: Option<&Arc<str>>,
        mut removed: Removed,
        message: Arc<str>,
        common: &mut Common,
    ) {
        let own = [expired_attempt(now)];
        removed.prior = joined(removed.prior, Some(&own.into()));
        self.fail(shard, removed, &(ErrorCode::Expired, message), common);
    }
}

pub(super) fn expired() -> Reason {
    (ErrorCode::Expired, "record_ttl has passed".into())
}

pub(super) fn expired_attempt(now: Time) -> Attempt {
    let (code, message) = expired();
    Attempt { began: now, ended: now, result: AttemptResult::Failed { code, message, ambiguous: false } }
}
