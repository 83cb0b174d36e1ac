//! A stream's requests have ended: what becomes of their batches.
//!
//! ```text
//!   answered ──▶ each entry: stored ──▶ settled │ parked for a newer map
//!                            troubled ─▶ requeued │ settled
//!   failed   ──▶ all alike:  requeued │ settled │ sent in halves │ apart, to isolate the one at fault
//! ```
//!
//! What failed in one request backs off by one draw, and so comes back in one request.

use super::*;

impl Stream {
    /// A request of ours has ended.
    pub fn finish(
        &mut self,
        now: Time,
        began: Time,
        mut batches: Vec<Box<Batch>>,
        end: RequestEnd<'_>,
        common: &mut Common,
    ) {
        self.under_way -= 1;
        match end {
            RequestEnd::Failed(trouble) => self.failed(now, began, &mut batches, &trouble, common),
            RequestEnd::Answered(entries) => self.answered(now, began, &mut batches, entries, common),
        }
        common.lists.push(batches);
    }

    fn answered(
        &mut self,
        now: Time,
        began: Time,
        batches: &mut Vec<Box<Batch>>,
        entries: Vec<EntryResult>,
        common: &mut Common,
    ) {
        self.outage.ended();
        self.measures.request_ended(now.since(began), batches, None);
        if let Some(of) = batches.first().and_then(|batch| batch.suspicion) {
            self.isolation.passed(of);
        }
        let jitter = common.chance.jitter();
        for (mut batch, entry) in batches.drain(..).zip(entries) {
            batch.suspicion = None;
            match entry {
                EntryResult::Stored { shard_id, sequence_number } => {
                    self.measures.stored(&batch);
                    self.stored(now, began, batch, (shard_id, sequence_number), common);
                }
                EntryResult::Failed { code, message } => {
                    let verdict = classify(&Trouble::Entry { code: &code, message: &message }, &self.config);
                    self.measures.refused(&batch, &verdict.code);
                    self.landed(now, began, &batch, &verdict);
                    self.troubled(now, began, batch, &verdict, (jitter, Time::ZERO), common);
                }
            }
        }
    }

    fn stored(
        &mut self,
        now: Time,
        began: Time,
        mut batch: Box<Batch>,
        (shard_id, sequence_number): (Arc<str>, Arc<str>),
        common: &mut Common,
    ) {
        self.suspect(began, &batch, &shard_id);
        let result = AttemptResult::Stored { shard_id: Arc::clone(&shard_id), sequence_number };
        let attempt = Attempt { began, ended: now, result };
        let is_current = self.locate(&batch).is_some();
        let placement = match self.doubted && batch.is_aggregate() {
            true => Placement::Unknown,
            false => judge_placement(&batch, &shard_id, is_current, self.router.known_shards()),
        };
        let at_once = match placement {
            Placement::Right { .. } => false,
            Placement::Wrong => self.distribution.managed || !is_current,
            Placement::Unknown => self.distribution.managed && batch.tickets.len() > 1,
        };
        match placement {
            Placement::Right { stale_map } => {
                self.land(now, &batch);
                self.map_wanted |= stale_map && !self.distribution.managed;
                batch.note_attempt(attempt);
                self.settle(batch, None, common);
            }
            // By a newer map than that by which it was sent. Where the service places by chance no map tells more, and each
            // record by itself is well placed anywhere.
            Placement::Wrong | Placement::Unknown if at_once => {
                self.land(now, &batch);
                self.send_elsewhere(now, batch, &attempt, &shard_id, common);
            }
            placement @ (Placement::Wrong | Placement::Unknown) => {
                if self.order.is_none() || planted(Mistake::ParkedLetsPass) {
                    self.land(now, &batch);
                }
                self.map_wanted = true;
                common.wheel.insert(batch.expiration, Timer::Due);
                self.parked.push(Parked { batch, placement, stored: shard_id, attempt });
            }
        }
    }

    /// All batches of a request failed alike.
    fn failed(
        &mut self,
        now: Time,
        began: Time,
        batches: &mut Vec<Box<Batch>>,
        trouble: &Trouble<'_>,
        common: &mut Common,
    ) {
        let mut verdict = classify(trouble, &self.config);
        if verdict.action != Action::Resend {
            self.measures.request_ended(now.since(began), batches, Some(&verdict.code));
        }
        if verdict.remedy == Some(Remedy::Map) {
            self.map_wanted = true;
            self.doubt();
        }
        let jitter = common.chance.jitter();
        let mut gate = Time::ZERO;
        match verdict.action {
            Action::Retry | Action::RetryWithinGrace => {
                let closed = self.outage.failed(now, began, |failures| jitter.backoff(failures, &self.config));
                gate = closed.unwrap_or(Time::ZERO);
            }
            // No attempt, or not the endpoint's fault.
            Action::Resend | Action::RetryAtOnceWithinGrace => {}
            Action::Halve | Action::Isolate | Action::Fail => self.outage.ended(),
        }
        for batch in &*batches {
            self.landed(now, began, batch, &verdict);
        }
        match verdict.action {
            Action::Isolate => return self.isolate(now, began, batches, &verdict, common),
            Action::Halve if batches.len() > 1 => {
                let bytes: usize = batches.iter().map(|batch| batch.size()).sum();
                common.request_bytes_max = common.request_bytes_max.min(bytes / 2);
            }
            // It is the least that can be sent.
            Action::Halve => verdict.action = Action::Fail,
            _ => {}
        }
        for batch in batches.drain(..) {
            self.troubled(now, began, batch, &verdict, (jitter, gate), common);
        }
    }

    /// A batch was not stored, as far as we know: it fails, or is sent again, at a point of its backoff's range and not
    /// before the gate opens.
    fn troubled(
        &mut self,
        now: Time,
        began: Time,
        mut batch: Box<Batch>,
        verdict: &Verdict,
        (jitter, gate): (Jitter, Time),
        common: &mut Common,
    ) {
        if verdict.action == Action::Resend && !self.closed {
            batch.not_before = now;
            return self.requeue(now, batch, common);
        }
        if !planted(Mistake::AttemptUnnoted) {
            batch.note_attempt(verdict.attempt(began, now));
        }
        if self.closed {
            return self.settle(batch, Some(closed()), common);
        }
        let gives_up = match verdict.action {
            Action::Fail => true,
            Action::RetryWithinGrace | Action::RetryAtOnceWithinGrace => {
                let since = *batch.refused_since.get_or_insert(now);
                now.since(since) >= self.config.auth_grace
            }
            Action::Retry | Action::Resend | Action::Halve | Action::Isolate => {
                batch.refused_since = None;
                false
            }
        };
        if gives_up {
            return self.settle(batch, Some(verdict.reason()), common);
        }
        batch.not_before = match verdict.action {
            Action::RetryAtOnceWithinGrace | Action::Halve => now,
            _ => gate.max(now + jitter.backoff(batch.attempts.len(), &self.config)),
        };
        self.requeue(now, batch, common);
    }

    /// The service calls a request invalid. What is at fault fails, the rest is sent again, apart from other batches.
    fn isolate(
        &mut self,
        now: Time,
        began: Time,
        batches: &mut Vec<Box<Batch>>,
        verdict: &Verdict,
        common: &mut Common,
    ) {
        let of = batches.first().and_then(|batch| batch.suspicion);
        let finding = self.isolation.refused(of, batches.len(), &verdict.reason());
        let failure = match finding {
            _ if self.closed => Some(closed()),
            Finding::Poison => Some((ErrorCode::Poison, format!("{}: {}", verdict.code, verdict.message).into())),
            Finding::Hopeless => Some(verdict.reason()),
            Finding::Split(_) => None,
        };
        let mut suspicions = match &finding {
            Finding::Split(suspicions) => suspicions.iter(),
            Finding::Poison | Finding::Hopeless => [].iter(),
        };
        for mut batch in batches.drain(..) {
            batch.note_attempt(verdict.attempt(began, now));
            batch.suspicion = suspicions.next().copied();
            match &failure {
                Some(failure) => self.settle(batch, Some(failure.clone()), common),
                None => {
                    (batch.not_before, batch.refused_since) = (now, None);
                    self.requeue(now, batch, common);
                }
            }
        }
        if finding == Finding::Hopeless && of.is_some_and(|of| self.isolation.is_condemned(of)) {
            self.fail_condemned(now, &verdict.reason(), common);
        }
    }

    /// Fails what is queued as parts of a request that proved to be at fault itself.
    fn fail_condemned(&mut self, now: Time, reason: &Reason, common: &mut Common) {
        for index in (0..self.shards.len() as u32).map(ShardIndex) {
            let Some(shard) = self.shards[index.index()].as_deref() else { continue };
            let condemned = |batch: &Batch| batch.suspicion.is_some_and(|of| self.isolation.is_condemned(of));
            let places: Vec<bool> = shard.queue().map(condemned).collect();
            if places.contains(&true) {
                self.take_queued(now, index, &places, common, |stream, batch, common| {
                    stream.settle(batch, Some(reason.clone()), common);
                    None
                });
            }
        }
    }

    /// A batch has come back from a request; its shard's limiter hears of a throttle.
    fn landed(&mut self, now: Time, began: Time, batch: &Batch, verdict: &Verdict) {
        if let Some(shard) = self.land(now, batch)
            && verdict.throttled
        {
            shard.limiter.throttled(now, now.since(began));
            self.distribution.throttled(now, now.since(began));
        }
    }

    /// A batch is under way no more. Answers its shard, if it is still here.
    pub(super) fn land(&mut self, now: Time, batch: &Batch) -> Option<&mut Shard> {
        let Some(index) = self.locate(batch) else {
            if let (Some(order), Some(id)) = (&mut self.order, &batch.predicted) {
                order.landed(id);
            }
            return None;
        };
        let shard = self.shards[index.index()].as_deref_mut()?;
        shard.in_flight = shard.in_flight.saturating_sub(1);
        if self.order.is_some() {
            self.list(now, index);
        }
        self.shards[index.index()].as_deref_mut()
    }

    /// Where a batch that was sealed belongs now, if its shard is still ours. A shard of the same id is another one, if the
    /// stream was deleted and made anew, or if its first state has gone to another core.
    pub(super) fn locate(&self, batch: &Batch) -> Option<ShardIndex> {
        let (map, id) = (self.router.map()?, batch.predicted.as_ref()?);
        let index = map.find(id)?;
        let same = |shard: &Shard| Arc::ptr_eq(&shard.id, id) || planted(Mistake::SameIdTrusted);
        self.shards[index.index()].as_deref().filter(|shard| same(shard)).map(|_| index)
    }

    /// Puts a batch back to its old place, or its records to wherever they belong now.
    pub(super) fn requeue(&mut self, now: Time, mut batch: Box<Batch>, common: &mut Common) {
        if batch.has_expired(now) {
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
        self.outage.ended();
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
