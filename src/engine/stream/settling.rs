//! How records leave a stream: each is settled here, counted for the flush that covers it, and taken off what its shard
//! holds. A close settles all that there is.

use super::*;

impl Stream {
    /// Settles all that is here as closed. What comes later is settled as it comes.
    pub fn close(&mut self, now: Time, common: &mut Common) {
        self.closed = true;
        for shard in std::mem::take(&mut self.shards).into_iter().flatten() {
            for batch in shard.dismantle(&mut common.pool) {
                self.settle(batch, Some(closed()), common);
            }
        }
        self.collector.clear();
        let waiting = std::mem::take(self.router.waiting());
        let ordered = self.order.iter_mut().flat_map(Order::parcels_mut).map(std::mem::take);
        let early = std::mem::take(&mut self.early).into_iter().map(|(_, parcel)| parcel);
        for mut parcel in early.chain(ordered).chain(waiting).collect::<Vec<_>>() {
            parcel.unpack(|ticket, record| self.take_in(now, ticket, record, Origin::Direct, common));
        }
        for Parked { mut batch, stored, attempt, .. } in std::mem::take(&mut self.parked) {
            batch.note_attempt(misplaced(&attempt, ErrorCode::UnverifiedShard, &stored));
            self.settle(batch, Some(closed()), common);
        }
    }

    /// Settles a request's batches as closed: what became of them is unknown.
    pub fn close_in_flight(&mut self, now: Time, began: Time, batches: Vec<Box<Batch>>, common: &mut Common) {
        let (code, message) = closed();
        for mut batch in batches {
            let result = AttemptResult::Failed { code: code.clone(), message: Arc::clone(&message), ambiguous: true };
            batch.note_attempt(Attempt { began, ended: now, result });
            self.settle(batch, Some((code.clone(), Arc::clone(&message))), common);
        }
    }

    pub(super) fn settle(&mut self, mut batch: Box<Batch>, failure: Option<Reason>, common: &mut Common) {
        self.let_go(&batch.predicted, batch.tickets.len() as u64, batch.record_bytes);
        self.measures.settled(&batch, failure.as_ref().map(|(code, _)| code));
        let (id, flush) = (self.id, &mut self.flush);
        common.settler.settle(id, &mut batch, failure, |generation, records| flush.settled(generation, records));
        common.pool.give(batch);
    }

    /// Records of a shard are settled, or go elsewhere.
    pub(super) fn let_go(&mut self, shard: &Option<Arc<str>>, records: u64, bytes: u64) {
        if let (Some(_), Some(id), Some(map)) = (self.backlog_max, shard, self.router.map())
            && let Some(index) = map.find(id)
            && let Some(Some(shard)) = self.shards.get_mut(index.index())
            && Arc::ptr_eq(&shard.id, id)
            && !planted(Mistake::BacklogKept)
        {
            shard.held.remove(records, bytes);
        }
    }

    /// Fails a record by itself; `shard` is its predicted one, if it had one.
    pub(super) fn fail(&mut self, shard: Option<&Arc<str>>, removed: Removed, reason: &Reason, common: &mut Common) {
        self.measures.failed(shard, &removed, &reason.0);
        self.flush.settled(removed.generation, usize::from(!planted(Mistake::FailureUncounted)));
        common.settler.fail(self.id, removed, reason);
    }
}

pub(super) fn closed() -> Reason {
    (ErrorCode::Closed, "the producer was closed".into())
}

pub(super) fn misplaced(attempt: &Attempt, code: ErrorCode, stored: &Arc<str>) -> Attempt {
    let message = format!("stored in {stored}").into();
    Attempt {
        began: attempt.began,
        ended: attempt.ended,
        result: AttemptResult::Failed { code, message, ambiguous: true },
    }
}
