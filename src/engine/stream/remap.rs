//! A stream's shard map changes: shards that stay keep their state, the records of the others are routed anew, and
//! what was parked for a newer map is judged.

use super::*;

impl Stream {
    /// Takes a newer map: shards that it still has for us stay as they are; the records of the others go where it
    /// says, in the order of their shards' sealing.
    pub fn adopt(&mut self, now: Time, map: Arc<ShardMap>, common: &mut Common) {
        let Adoption::Adopted { replaced, waited } = self.router.adopt(Arc::clone(&map)) else { return };
        self.map_wanted = false;
        self.map_trouble = None;
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
            for batch in shard.dismantle(&mut common.pool) {
                self.route_anew(now, batch, common);
            }
        }
        for mut parcel in waited {
            parcel.unpack(|record| self.take_in(now, record, common));
        }
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

    pub(super) fn route_anew(&mut self, now: Time, mut batch: Box<Batch>, common: &mut Common) {
        self.let_go(&batch.predicted, batch.tickets.len() as u64, batch.record_bytes);
        batch.dissolve(|record| self.take_in(now, record, common));
        common.pool.give(batch);
    }

    fn judge_parked(&mut self, now: Time, common: &mut Common) {
        for Parked { mut batch, placement, stored, attempt } in std::mem::take(&mut self.parked) {
            let verdict = match placement {
                Placement::Unknown => judge_placement(&batch, &stored, self.router.map().map(|map| &**map)),
                _ => placement,
            };
            match verdict {
                Placement::Right { .. } => {
                    batch.note_attempt(attempt);
                    self.settle(batch, None, common);
                }
                Placement::Unknown => {
                    self.map_wanted = true;
                    self.parked.push(Parked { batch, placement: verdict, stored, attempt });
                }
                Placement::Wrong => {
                    batch.note_attempt(misplaced(&attempt, ErrorCode::WrongShard, &stored));
                    self.route_anew(now, batch, common);
                }
            }
        }
    }

    /// The shards cannot be listed. Records that wait for the first map fail; a known map stays in use.
    pub fn refuse(&mut self, reason: &str, common: &mut Common) {
        self.map_wanted = false;
        let reason: Reason = (ErrorCode::StreamUnavailable, reason.into());
        for mut parcel in self.router.refuse(&reason.1) {
            parcel.unpack(|record| {
                self.fail(Removed { member: record.member, prior: record.prior }, &reason, common);
            });
        }
    }

    /// The shards could not be listed this time.
    pub fn map_failed(&mut self, reason: &str) {
        self.map_trouble = Some(reason.into());
    }
}
