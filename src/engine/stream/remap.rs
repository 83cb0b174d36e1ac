//! A stream's shard map changes: shards that stay keep their state, the records of the others are routed anew, and
//! what was parked for a newer map is judged.

use super::settling::misplaced;
use super::*;

impl Stream {
    /// Takes a newer map; in an ordered stream when its turn has come.
    pub fn adopt(&mut self, now: Time, map: Arc<ShardMap>, common: &mut Common) {
        let due = match &mut self.order {
            Some(order) => order.defer(map),
            None => Some(map),
        };
        match due {
            Some(map) => {
                self.change_to(now, map, common);
                self.change_over(now, common);
            }
            // What is parked may be what the changeover waits for.
            None => self.judge_parked(now, common),
        }
    }

    /// Adopts a newer map: shards that it still has for us stay as they are; the records of the others go where it
    /// says, in the order of their shards' sealing.
    pub(super) fn change_to(&mut self, now: Time, map: Arc<ShardMap>, common: &mut Common) {
        let scattered = self.is_managed(&map) && !map.is_stand_in();
        let adopted = self.router.adopt(Arc::clone(&map), scattered);
        let Adoption::Adopted { replaced, waited } = adopted else { return };
        self.bounds = Bounds::of(&self.config);
        if map.is_stand_in() {
            // Sealed at once and unaggregated, but wrapped if need be.
            self.bounds.max_count = 1;
        }
        self.distribute(now, &map);
        self.measures.mapped(map.len());
        self.map_wanted = map.is_stand_in();
        self.doubted = false;
        self.map_trouble = None;
        // From here on by what routes.
        let map = self.router.map().map_or(map, Arc::clone);
        cancel(&mut self.waiting_alarm, common);
        cancel(&mut self.stand_in_alarm, common);
        self.collector.clear();
        let old = std::mem::take(&mut self.shards);
        self.shards.resize_with(map.len(), || None);
        let mut homeless = Vec::new();
        for (index, shard) in old.into_iter().enumerate() {
            let (Some(mut shard), Some(replaced)) = (shard, &replaced) else { continue };
            silence(&mut shard, common);
            let range = replaced.shard(ShardIndex(index as u32)).range;
            let kept = map.find(&shard.id).filter(|at| {
                let now_has = map.shard(*at);
                let same = now_has.range == range || planted(Mistake::SameIdTrusted);
                same && (now_has.owner == self.core || planted(Mistake::ShardKept))
            });
            match kept {
                Some(at) => self.reinstate(now, at, shard, common),
                None => homeless.push((range, shard)),
            }
        }
        if !map.is_stand_in() {
            self.begin_changeover(map.epoch, common);
        }
        for (range, shard) in homeless {
            self.depart(now, range, shard, common);
        }
        for mut parcel in waited {
            parcel.unpack(|ticket, record| self.take_in(now, ticket, record, Origin::Direct, common));
        }
        for (way, parcel) in std::mem::take(&mut self.early) {
            self.accept_parcel(now, way, parcel, common);
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
        if planted(Mistake::LimiterRenewed) {
            shard.limiter = Limiter::new(self.config.rate_limit, now);
        }
        self.shards[at.index()] = Some(shard);
        self.list(now, at);
    }

    pub(super) fn route_anew(&mut self, now: Time, mut batch: Box<Batch>, common: &mut Common) {
        self.let_go(&batch.predicted, batch.tickets.len() as u64, batch.record_bytes);
        batch.dissolve(|ticket, record| self.take_in(now, ticket, record, Origin::HandedOver, common));
        common.pool.give(batch);
    }

    /// Judges by the newest map, also if it is not adopted yet.
    fn judge_parked(&mut self, now: Time, common: &mut Common) {
        for Parked { mut batch, placement, stored, attempt } in std::mem::take(&mut self.parked) {
            if placement == Placement::Unknown {
                self.suspect(attempt.began, &batch, &stored);
            }
            let newest = self.order.as_ref().and_then(Order::newest);
            let trusted = newest.is_none() && self.locate(&batch).is_some();
            let verdict = match placement {
                Placement::Unknown => judge_placement(&batch, &stored, trusted, newest.or(self.router.known_shards())),
                _ if planted(Mistake::MisplacedDelivered) => Placement::Right { stale_map: false },
                _ => placement,
            };
            match verdict {
                Placement::Right { .. } => {
                    self.unpark(now, &batch);
                    batch.note_attempt(attempt);
                    self.settle(batch, None, common);
                }
                // It is not worth waiting for a map that knows: each record by itself is well placed anywhere.
                Placement::Unknown if !self.distribution.managed || batch.tickets.len() == 1 => {
                    self.map_wanted = true;
                    self.parked.push(Parked { batch, placement: verdict, stored, attempt });
                }
                Placement::Wrong | Placement::Unknown => {
                    self.unpark(now, &batch);
                    self.send_elsewhere(now, batch, &attempt, &stored, common);
                }
            }
        }
    }

    /// Sends the records of a misplaced aggregate again, each where it belongs now.
    pub(super) fn send_elsewhere(
        &mut self,
        now: Time,
        mut batch: Box<Batch>,
        attempt: &Attempt,
        stored: &Arc<str>,
        common: &mut Common,
    ) {
        batch.note_attempt(misplaced(attempt, ErrorCode::WrongShard, stored));
        // If its shard is what it was, they belong where they stood. By chance it fits at one time or another.
        let tries = batch.attempts.len();
        let wait = self.distribution.managed.then(|| common.chance.jitter().backoff(tries, &self.config));
        batch.not_before = now + wait.unwrap_or_default();
        self.requeue(now, batch, common);
    }

    /// A batch is parked no more: in an ordered stream its shard may go on.
    pub(super) fn unpark(&mut self, now: Time, batch: &Batch) {
        if self.order.is_some() && !planted(Mistake::ParkedLetsPass) {
            self.land(now, batch);
        }
    }

    /// No map has come in time: records are sent without, each by itself.
    pub(super) fn do_without_map(&mut self, now: Time, common: &mut Common) {
        if self.router.map().is_none() && self.router.refusal().is_none() {
            self.adopt(now, Arc::new(ShardMap::stand_in(self.core)), common);
        }
    }

    /// The shards cannot be listed. Records that wait for the first map fail, and so do those that are to be sent without
    /// one; a known map stays in use.
    pub fn refuse(&mut self, reason: &str, common: &mut Common) {
        self.map_wanted = false;
        cancel(&mut self.stand_in_alarm, common);
        let reason: Reason = (ErrorCode::StreamUnavailable, reason.into());
        if self.router.has_stand_in() {
            self.collector.clear();
            let shards = std::mem::take(&mut self.shards).into_iter().enumerate();
            for (index, mut shard) in shards.filter_map(|(index, shard)| Some((index, shard?))) {
                silence(&mut shard, common);
                if let (Some(order), Some(map)) = (&mut self.order, self.router.map())
                    && shard.in_flight > 0
                {
                    // The first map waits for what is under way.
                    let range = map.shard(ShardIndex(index as u32)).range;
                    order.depart(Arc::clone(&shard.id), range, shard.in_flight, Vec::new());
                }
                for batch in shard.dismantle(&mut common.pool) {
                    self.settle(batch, Some(reason.clone()), common);
                }
            }
        }
        for mut parcel in self.router.refuse(&reason.1) {
            parcel.unpack(|ticket, record| {
                let removed = Removed::of(ticket, record, self.bounds.keeps_failed);
                self.fail(None, removed, &reason, common);
            });
        }
    }

    /// The stream may be another one by now: what is stored is not judged before the next map.
    pub fn doubt(&mut self) {
        self.doubted = self.router.known_shards().is_some();
    }

    /// The shards could not be listed this time.
    pub fn map_failed(&mut self, reason: &str) {
        self.map_trouble = Some(reason.into());
    }
}

/// A shard leaves its place: nothing of it is listed, or rings, by its index any more.
fn silence(shard: &mut Shard, common: &mut Common) {
    for alarm in [&mut shard.seal_alarm, &mut shard.hold_alarm, &mut shard.expire_alarm] {
        cancel(alarm, common);
    }
    shard.listed = false;
}
