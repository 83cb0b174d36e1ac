//! One stream on one core: joins the stages, from the router to the requests that a connection pulls.
//!
//! ```text
//!   take_in ─▶ router ─▶ aggregator ─▶ shard queue ─▶ collector ─▶ assemble ─▶ (request) ─▶ finish
//!                │ wait for a map        │ hold: backoff, tokens                               │
//!                ▼                       ▼                                                     ▼
//!              adopt                   timers                         settled, requeued, or parked for a newer map
//! ```
//!
//! Indices of shards mean something under the present map only; what is in flight names its shard by id.
//!
//! T1: every member that comes in leaves through the settler or over the mesh.
//! T2: a batch is in exactly one of: an aggregator, a shard's queue, a request, `parked`.

use std::sync::Arc;
use std::time::Duration;

use super::batch::{Batch, Bounds, Member, Parcel, Pool, Removed, Routed, Ticket};
use super::collector::Collector;
use super::flush::Participant;
use super::limiter::Limiter;
use super::mesh::Mesh;
use super::retrier::{Action, Backoff, Placement, Trouble, classify, judge_placement};
use super::router::{Adoption, Route, Router};
use super::settler::{Reason, Settler};
use super::shard::{Alarm, Shard};
use super::shard_map::ShardMap;
use super::wheel::Wheel;
use crate::codec::{EntryResult, Framed, hash_key};
use crate::config::Config;
use crate::limits::{COLLECTION_BYTES_AIM, REQUEST_BYTES_PER_SHARD_MAX, collector_wait};
use crate::outcome::{Attempt, AttemptResult, ErrorCode};
use crate::record::{CoreId, ShardIndex, StreamId, StreamName};
use crate::time::Time;

/// What the wheel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The shard's open aggregate is to be sealed.
    Seal(StreamId, ShardIndex),
    /// The shard's hold ends.
    Release(StreamId, ShardIndex),
    /// A queued batch of the shard has a member that expires.
    Expire(StreamId, ShardIndex),
    /// A record that waits for the first or for a newer map expires.
    ExpireWaiting(StreamId),
    /// A request is due, or a further connection may be opened for it.
    Due,
}

/// What all streams of a core use together.
pub struct Common {
    /// Deadlines of all kinds.
    pub wheel: Wheel<Timer>,
    /// Gives records their outcomes.
    pub settler: Settler,
    /// Batches at rest.
    pub pool: Pool,
    /// What this core says to others.
    pub mesh: Mesh,
    /// Draws backoffs.
    pub backoff: Backoff,
}

/// How a request ended, for all of its batches.
pub enum RequestEnd<'a> {
    /// The service answered, an entry for each.
    Answered(Vec<EntryResult>),
    /// All failed alike.
    Failed(Trouble<'a>),
}

/// A stored aggregate whose placement only a newer map can decide.
struct Parked {
    batch: Box<Batch>,
    placement: Placement,
    stored: Arc<str>,
    attempt: Attempt,
}

/// State of one stream on one core.
pub struct Stream {
    /// Its number.
    pub id: StreamId,
    /// Its name.
    pub name: StreamName,
    /// This core's part in flushes.
    pub flush: Participant,
    core: CoreId,
    config: Config,
    bounds: Bounds,
    router: Router,
    /// By index under the present map; those that had records here.
    shards: Vec<Option<Box<Shard>>>,
    collector: Collector,
    /// Records passed to us by a core that had a newer map than ours, by its epoch.
    early: Vec<(u64, Parcel)>,
    parked: Vec<Parked>,
    due_alarm: Option<Alarm>,
    waiting_alarm: Option<Alarm>,
    map_wanted: bool,
    closed: bool,
}

impl Stream {
    /// A stream without a map.
    pub fn new(core: CoreId, cores: u16, id: StreamId, name: StreamName, config: Config) -> Stream {
        Stream {
            id,
            name,
            flush: Participant::new(cores),
            core,
            bounds: Bounds::of(&config),
            config,
            router: Router::new(core),
            shards: Vec::new(),
            collector: Collector::default(),
            early: Vec::new(),
            parked: Vec::new(),
            due_alarm: None,
            waiting_alarm: None,
            map_wanted: false,
            closed: false,
        }
    }

    /// A record from one of this core's rings.
    pub fn accept(&mut self, now: Time, ticket: Ticket, framed: &Framed<'_>, common: &mut Common) {
        let record = &framed.record;
        let member = Member {
            ticket,
            arrival: framed.arrival,
            size: record.size() as u32, // at most 10 MiB: limits::RECORD_BYTES_MAX
            generation: self.flush.accept(),
        };
        let hash = record.explicit_hash_key.unwrap_or_else(|| hash_key(record.partition_key));
        let explicit = record.explicit_hash_key.is_some();
        let (key, data) = (record.partition_key, record.data);
        self.take_in(now, Routed { member, hash, explicit, key, data, prior: None }, common);
    }

    /// Records from another core, chosen for us under its map of `epoch`.
    pub fn accept_parcel(&mut self, now: Time, epoch: u64, parcel: Parcel, common: &mut Common) {
        // Under an older map than the sender's we might send them straight back.
        if epoch > self.router.epoch() && !self.closed {
            if let Some(oldest) = parcel.oldest() {
                self.arm_waiting(oldest, common);
            }
            self.early.push((epoch, parcel));
            return;
        }
        parcel.unpack(|record| self.take_in(now, record, common));
    }

    fn take_in(&mut self, now: Time, record: Routed<'_>, common: &mut Common) {
        if self.closed {
            return self.fail(Removed { member: record.member, prior: record.prior }, &closed(), common);
        }
        match self.router.route(record.hash) {
            Route::Owned(shard) => self.append(now, shard, record, common),
            Route::Pass(core) => common.mesh.pass(core, self.id, self.router.epoch(), record),
            Route::Wait => {
                self.arm_waiting(record.member.arrival, common);
                self.map_wanted = true;
                self.router.wait(record);
            }
            Route::Refused => {
                let reason = self.router.refusal().map_or_else(|| "".into(), Arc::clone);
                let removed = Removed { member: record.member, prior: record.prior };
                self.fail(removed, &(ErrorCode::StreamUnavailable, reason), common);
            }
        }
    }

    /// Sets the alarm for the expiration of a record that arrived at `arrival` and waits for a map.
    fn arm_waiting(&mut self, arrival: Time, common: &mut Common) {
        let expiration = arrival + self.bounds.ttl;
        set_earlier(&mut self.waiting_alarm, expiration, Timer::ExpireWaiting(self.id), common);
    }

    fn append(&mut self, now: Time, index: ShardIndex, record: Routed<'_>, common: &mut Common) {
        let (id, wait, bounds) = (self.id, self.collector_wait(), self.bounds);
        // The router has just predicted a shard of the present map, so there is an entry for it.
        let shard = self.shard_entry(now, index);
        let sealed = shard.aggregator.push(record, &bounds, &mut common.pool);
        if sealed.iter().any(Option::is_some) {
            cancel(&mut shard.seal_alarm, common);
        }
        if let Some(open) = shard.aggregator.open() {
            let at = open.deadline - wait;
            set_earlier(&mut shard.seal_alarm, at, Timer::Seal(id, index), common);
        }
        for batch in sealed.into_iter().flatten() {
            self.enqueue(now, index, batch, common);
        }
    }

    /// The shard's state, made when it is first needed.
    fn shard_entry(&mut self, now: Time, index: ShardIndex) -> &mut Shard {
        let (router, rate_limit) = (&self.router, self.config.rate_limit);
        self.shards[index.index()].get_or_insert_with(|| {
            let map = router.map().expect("an index was predicted under a map, and a map is never lost");
            Box::new(Shard::new(Arc::clone(&map.shard(index).id), Limiter::new(rate_limit, now)))
        })
    }

    fn collector_wait(&self) -> Duration {
        // Without aggregation the collector does all the batching: records wait there until their deadline.
        if self.bounds.aggregates { collector_wait(self.bounds.buffered_time) } else { self.bounds.buffered_time }
    }

    fn enqueue(&mut self, now: Time, index: ShardIndex, batch: Box<Batch>, common: &mut Common) {
        let send_by = batch.deadline.min(now + self.collector_wait());
        self.enqueue_by(now, index, batch, send_by, common);
    }

    fn enqueue_by(&mut self, now: Time, index: ShardIndex, batch: Box<Batch>, send_by: Time, common: &mut Common) {
        let Some(shard) = self.shards[index.index()].as_deref_mut() else { return };
        let (size, expiration) = (batch.size(), batch.expiration);
        shard.enqueue(batch, send_by);
        set_earlier(&mut shard.expire_alarm, expiration, Timer::Expire(self.id, index), common);
        if shard.listed {
            self.collector.grew(now, &self.config, 1, size, send_by);
        } else {
            self.list(now, index);
        }
    }

    /// Lists a shard that has something to send and is not held.
    fn list(&mut self, now: Time, index: ShardIndex) {
        let Some(shard) = self.shards[index.index()].as_deref_mut() else { return };
        let Some(front) = shard.front() else { return };
        if shard.listed || shard.hold_alarm.is_some() {
            return;
        }
        let (count, bytes, send_by) = (shard.queued(), shard.queued_bytes(), front.send_by);
        shard.listed = true;
        self.collector.list(index);
        self.collector.grew(now, &self.config, count, bytes, send_by);
    }

    /// From when a request of this stream is due; never, if there is nothing to send.
    pub fn due(&self) -> Time {
        self.collector.due()
    }

    /// Sets the alarm for when a request is due.
    pub fn arm(&mut self, now: Time, common: &mut Common) {
        let due = self.collector.due();
        match self.due_alarm {
            Some(alarm) if alarm.at == due => {}
            _ => {
                cancel(&mut self.due_alarm, common);
                if due > now && due != Time::NEVER {
                    set_earlier(&mut self.due_alarm, due, Timer::Due, common);
                }
            }
        }
    }

    /// The batches of a request that leaves now; none, if all shards turn out to be held. A request is about
    /// [`COLLECTION_BYTES_AIM`] large while there is a connection for the next one (`spare`).
    pub fn assemble(&mut self, now: Time, spare: bool, common: &mut Common) -> Vec<Box<Batch>> {
        let max = self.config.collection_max_size;
        let mut request =
            Assembly { limit: if spare { max.min(COLLECTION_BYTES_AIM) } else { max }, bytes: 0, batches: Vec::new() };
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
        batches: Vec<Box<Batch>>,
        end: RequestEnd<'_>,
        common: &mut Common,
    ) {
        match end {
            RequestEnd::Failed(trouble) => {
                for batch in batches {
                    self.troubled(now, began, batch, &trouble, common);
                }
            }
            RequestEnd::Answered(entries) => {
                for (batch, entry) in batches.into_iter().zip(entries) {
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
                batch.attempts.push(attempt);
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
        batch.attempts.push(Attempt { began, ended: now, result });
        if self.closed {
            return self.settle(batch, Some(closed()), common);
        }
        let gives_up = match verdict.action {
            Action::Fail => true,
            Action::RetryWithinGrace => {
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
        if matches!(&failure.0, ErrorCode::Service(code) if &**code == "ResourceNotFoundException") {
            self.map_wanted = true;
        }
        batch.not_before = now + common.backoff.draw(batch.attempts.len(), &self.config);
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
    fn requeue(&mut self, now: Time, mut batch: Box<Batch>, common: &mut Common) {
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

    /// Lists a shard. What it was held for was its front's; under a new front (`leads`) that is to be asked anew.
    fn list_anew(&mut self, now: Time, index: ShardIndex, leads: bool, common: &mut Common) {
        if let Some(shard) = self.shards[index.index()].as_deref_mut()
            && leads
        {
            cancel(&mut shard.hold_alarm, common);
        }
        self.list(now, index);
    }

    fn route_anew(&mut self, now: Time, mut batch: Box<Batch>, common: &mut Common) {
        batch.dissolve(|record| self.take_in(now, record, common));
        common.pool.give(batch);
    }

    /// Takes a newer map: shards that it still has for us stay as they are; the records of the others go where it
    /// says, in the order of their shards' sealing.
    pub fn adopt(&mut self, now: Time, map: Arc<ShardMap>, common: &mut Common) {
        let Adoption::Adopted { replaced, waited } = self.router.adopt(Arc::clone(&map)) else { return };
        self.map_wanted = false;
        cancel(&mut self.waiting_alarm, common);
        self.collector.clear();
        let old = std::mem::take(&mut self.shards);
        self.shards.resize_with(map.len(), || None);
        let mut homeless = Vec::new();
        for (index, shard) in old.into_iter().enumerate() {
            let Some(mut shard) = shard else { continue };
            cancel(&mut shard.seal_alarm, common);
            cancel(&mut shard.hold_alarm, common);
            cancel(&mut shard.expire_alarm, common);
            shard.listed = false;
            let range = replaced.as_ref().map(|map| map.shard(ShardIndex(index as u32)).range);
            let kept = map.find(&shard.id).filter(|at| {
                let now_has = map.shard(*at);
                Some(now_has.range) == range && now_has.owner == self.core
            });
            match kept {
                Some(at) => self.reinstate(now, at, shard, common),
                None => homeless.push(shard),
            }
        }
        for shard in homeless {
            for batch in shard.dismantle() {
                self.route_anew(now, batch, common);
            }
        }
        waited.unpack(|record| self.take_in(now, record, common));
        for (epoch, parcel) in std::mem::take(&mut self.early) {
            self.accept_parcel(now, epoch, parcel, common);
        }
        self.judge_parked(now, common);
    }

    /// A shard that keeps its core and range under a new map has a new index.
    fn reinstate(&mut self, now: Time, at: ShardIndex, mut shard: Box<Shard>, common: &mut Common) {
        let wait = self.collector_wait();
        if let Some(open) = shard.aggregator.open() {
            set_earlier(&mut shard.seal_alarm, open.deadline - wait, Timer::Seal(self.id, at), common);
        }
        let expiration = shard.earliest_expiration();
        if expiration != Time::NEVER {
            set_earlier(&mut shard.expire_alarm, expiration, Timer::Expire(self.id, at), common);
        }
        self.shards[at.index()] = Some(shard);
        self.list(now, at);
    }

    fn judge_parked(&mut self, now: Time, common: &mut Common) {
        for Parked { mut batch, placement, stored, attempt } in std::mem::take(&mut self.parked) {
            let verdict = match (placement, &batch.predicted, self.router.map()) {
                (Placement::Unknown, Some(predicted), Some(map)) => judge_placement(&batch, predicted, &stored, map),
                _ => placement,
            };
            match verdict {
                Placement::Right { .. } => {
                    batch.attempts.push(attempt);
                    self.settle(batch, None, common);
                }
                Placement::Unknown => {
                    self.map_wanted = true;
                    self.parked.push(Parked { batch, placement: verdict, stored, attempt });
                }
                Placement::Wrong => {
                    batch.attempts.push(misplaced(&attempt, ErrorCode::WrongShard, &stored));
                    self.route_anew(now, batch, common);
                }
            }
        }
    }

    /// The shards cannot be listed. Records that wait for the first map fail; a known map stays in use.
    pub fn refuse(&mut self, reason: &str, common: &mut Common) {
        self.map_wanted = false;
        let reason: Reason = (ErrorCode::StreamUnavailable, reason.into());
        let waited = self.router.refuse(&reason.1);
        waited.unpack(|record| {
            self.fail(Removed { member: record.member, prior: record.prior }, &reason, common);
        });
    }

    /// A timer of this stream has fired.
    pub fn fire(&mut self, now: Time, timer: Timer, common: &mut Common) {
        match timer {
            Timer::Seal(_, index) => {
                if let Some(Some(shard)) = self.shards.get_mut(index.index()) {
                    shard.seal_alarm = None;
                    if let Some(batch) = shard.aggregator.seal() {
                        self.enqueue(now, index, batch, common);
                    }
                }
            }
            Timer::Release(_, index) => {
                if let Some(Some(shard)) = self.shards.get_mut(index.index()) {
                    shard.hold_alarm = None;
                    self.list(now, index);
                }
            }
            Timer::Expire(_, index) => {
                if let Some(Some(shard)) = self.shards.get_mut(index.index()) {
                    shard.expire_alarm = None;
                    self.expire_queued(now, index, common);
                }
            }
            Timer::ExpireWaiting(_) => {
                self.waiting_alarm = None;
                self.expire_waiting(now, common);
            }
            Timer::Due => {}
        }
    }

    fn expire_queued(&mut self, now: Time, index: ShardIndex, common: &mut Common) {
        let Some(shard) = self.shards[index.index()].as_deref_mut() else { return };
        let (count, bytes) = (shard.queued(), shard.queued_bytes());
        let led = shard.front().map(|front| front.seal);
        for batch in shard.take_expired(now) {
            if let Some(rest) = self.expire(now, batch, common)
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
        let next = shard.earliest_expiration();
        if next != Time::NEVER {
            set_earlier(&mut shard.expire_alarm, next, Timer::Expire(self.id, index), common);
        }
        self.list_anew(now, index, leads, common);
    }

    /// Fails the members of `batch` that have expired; the rest is sealed again under the same number.
    fn expire(&mut self, now: Time, mut batch: Box<Batch>, common: &mut Common) -> Option<Box<Batch>> {
        let (ttl, bounds) = (self.bounds.ttl, self.bounds);
        if batch.members.iter().all(|member| member.arrival + ttl <= now) {
            batch.attempts.push(expired_attempt(now));
            self.settle(batch, Some(expired()), common);
            return None;
        }
        let mut rest = common.pool.take();
        rest.predicted = batch.predicted.clone();
        (rest.seal, rest.send_by, rest.not_before) = (batch.seal, batch.send_by, batch.not_before);
        rest.refused_since = batch.refused_since;
        let bounds = Bounds { max_size: usize::MAX, ..bounds };
        batch.dissolve(|record| {
            if record.member.arrival + ttl <= now {
                self.fail_expired(now, Removed { member: record.member, prior: record.prior }, common);
            } else {
                let appended = rest.try_append(record, &bounds);
                assert!(appended.is_ok(), "what was one batch fits one batch");
            }
        });
        common.pool.give(batch);
        Some(rest)
    }

    fn expire_waiting(&mut self, now: Time, common: &mut Common) {
        let ttl = self.bounds.ttl;
        let gone = |member: &Member| member.arrival + ttl <= now;
        let mut expired = self.router.waiting().remove(gone);
        for (_, parcel) in &mut self.early {
            expired.append(&mut parcel.remove(gone));
        }
        for removed in expired {
            self.fail_expired(now, removed, common);
        }
        let early = self.early.iter().filter_map(|(_, parcel)| parcel.oldest()).min();
        for oldest in [self.router.waiting().oldest(), early].into_iter().flatten() {
            self.arm_waiting(oldest, common);
        }
    }

    /// Fails parked batches that have expired, whole: where they are stored can't be told.
    pub fn expire_parked(&mut self, now: Time, common: &mut Common) {
        for Parked { mut batch, placement, stored, attempt } in std::mem::take(&mut self.parked) {
            if batch.expiration > now {
                self.parked.push(Parked { batch, placement, stored, attempt });
                continue;
            }
            let code = match placement {
                Placement::Unknown => ErrorCode::UnverifiedShard,
                _ => ErrorCode::WrongShard,
            };
            let attempt = misplaced(&attempt, code.clone(), &stored);
            batch.attempts.push(attempt);
            let reason = if code == ErrorCode::WrongShard { expired() } else { (code, stored) };
            self.settle(batch, Some(reason), common);
        }
    }

    /// Seals every open aggregate, to be sent at once, and lets nothing queued wait for companions.
    pub fn seal_all(&mut self, now: Time, common: &mut Common) {
        for index in (0..self.shards.len() as u32).map(ShardIndex) {
            self.seal_now(now, index, common);
            // One request may not hold it all, and what is left must not wait again.
            if let Some(shard) = self.shards[index.index()].as_deref_mut() {
                shard.hurry(now);
            }
        }
        self.collector.grew(now, &self.config, 0, 0, now);
    }

    /// Seals what it helps to seal when callers wait for credit: aggregates of shards that have nothing under way.
    pub fn seal_quiet(&mut self, now: Time, common: &mut Common) {
        for index in (0..self.shards.len() as u32).map(ShardIndex) {
            if self.shards[index.index()].as_ref().is_some_and(|shard| shard.is_quiet()) {
                self.seal_now(now, index, common);
            }
        }
    }

    fn seal_now(&mut self, now: Time, index: ShardIndex, common: &mut Common) {
        let Some(shard) = self.shards[index.index()].as_deref_mut() else { return };
        if let Some(batch) = shard.aggregator.seal() {
            cancel(&mut shard.seal_alarm, common);
            self.enqueue_by(now, index, batch, now, common);
        }
    }

    /// Settles all that is here as closed. What comes later is settled as it comes.
    pub fn close(&mut self, now: Time, common: &mut Common) {
        self.closed = true;
        for shard in std::mem::take(&mut self.shards).into_iter().flatten() {
            for batch in shard.dismantle() {
                self.settle(batch, Some(closed()), common);
            }
        }
        self.collector.clear();
        let waiting = std::mem::take(self.router.waiting());
        for parcel in std::mem::take(&mut self.early).into_iter().map(|(_, parcel)| parcel).chain([waiting]) {
            parcel.unpack(|record| self.take_in(now, record, common));
        }
        for Parked { mut batch, stored, attempt, .. } in std::mem::take(&mut self.parked) {
            batch.attempts.push(misplaced(&attempt, ErrorCode::UnverifiedShard, &stored));
            self.settle(batch, Some(closed()), common);
        }
    }

    /// Settles a request's batches as closed: what became of them is unknown.
    pub fn close_in_flight(&mut self, now: Time, began: Time, batches: Vec<Box<Batch>>, common: &mut Common) {
        let (code, message) = closed();
        for mut batch in batches {
            let result = AttemptResult::Failed { code: code.clone(), message: Arc::clone(&message), ambiguous: true };
            batch.attempts.push(Attempt { began, ended: now, result });
            self.settle(batch, Some((code.clone(), Arc::clone(&message))), common);
        }
    }

    fn settle(&mut self, mut batch: Box<Batch>, failure: Option<Reason>, common: &mut Common) {
        let flush = &mut self.flush;
        common.settler.settle(&mut batch, failure, |member| flush.settled(member.generation));
        common.pool.give(batch);
    }

    fn fail(&mut self, removed: Removed, reason: &Reason, common: &mut Common) {
        self.flush.settled(removed.member.generation);
        common.settler.fail(removed, reason);
    }

    fn fail_expired(&mut self, now: Time, mut removed: Removed, common: &mut Common) {
        let own = [expired_attempt(now)];
        removed.prior = super::batch::joined(removed.prior, Some(&own.into()));
        self.fail(removed, &expired(), common);
    }

    /// Whether a newer map is wanted. True once, until another reason comes up.
    pub fn take_map_wanted(&mut self) -> bool {
        std::mem::take(&mut self.map_wanted)
    }

    /// Arrival of the oldest record here that is not in a request.
    pub fn oldest(&mut self) -> Option<Time> {
        let waiting = self.router.waiting().oldest();
        let early = self.early.iter().filter_map(|(_, parcel)| parcel.oldest());
        let batches = self.shards.iter().flatten().flat_map(|shard| shard.batches());
        let parked = self.parked.iter().map(|parked| &*parked.batch);
        batches.chain(parked).map(|batch| batch.oldest).chain(waiting).chain(early).min()
    }
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
    /// The request is full.
    RequestFull,
}

fn set_earlier(alarm: &mut Option<Alarm>, at: Time, timer: Timer, common: &mut Common) {
    if alarm.is_some_and(|alarm| alarm.at <= at) {
        return;
    }
    cancel(alarm, common);
    *alarm = Some(Alarm { at, id: common.wheel.insert(at, timer) });
}

fn cancel(alarm: &mut Option<Alarm>, common: &mut Common) {
    if let Some(alarm) = alarm.take() {
        common.wheel.cancel(alarm.id);
    }
}

fn closed() -> Reason {
    (ErrorCode::Closed, "the producer was closed".into())
}

fn expired() -> Reason {
    (ErrorCode::Expired, "record_ttl has passed".into())
}

fn expired_attempt(now: Time) -> Attempt {
    let (code, message) = expired();
    Attempt { began: now, ended: now, result: AttemptResult::Failed { code, message, ambiguous: false } }
}

fn misplaced(attempt: &Attempt, code: ErrorCode, stored: &Arc<str>) -> Attempt {
    let message = format!("stored in {stored}").into();
    Attempt {
        began: attempt.began,
        ended: attempt.ended,
        result: AttemptResult::Failed { code, message, ambiguous: true },
    }
}
