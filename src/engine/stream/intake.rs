//! How records come into a stream: from the rings, from other cores, and from elsewhere in the stream itself, to be routed
//! anew.
//!
//! ```text
//!   ring ─▶ accept ─────────▶ a shard of ours? ──▶ append ──▶ sealed?
//!   mesh ─▶ accept_parcel ─▶ take_in ──┘ no ──▶ another core, a parcel that waits, or an outcome
//! ```

use super::*;
use crate::codec::Framed;

impl Stream {
    /// A record from one of this core's rings, whose partition key's MD5 is `key_hash`.
    #[inline]
    pub fn accept(&mut self, now: Time, ticket: Ticket, framed: &Framed<'_>, key_hash: HashKey, common: &mut Common) {
        self.measures.received();
        let (hash, explicit) = match framed.placement {
            RecordPlacement::ByKey => (key_hash, false),
            RecordPlacement::Explicit(hash) => (hash, true),
            RecordPlacement::Drawn => (common.chance.hash_key(), true),
        };
        let record = Routed {
            arrival: framed.arrival,
            size: framed.size() as u32, // at most 10 MiB: limits::RECORD_BYTES_MAX
            generation: self.flush.accept(),
            hash,
            tag: key_hash.0 as u64,
            explicit,
            fresh: true,
            key: framed.key,
            data: framed.data,
            prior: None,
        };
        match self.router.route(hash) {
            Route::Owned(shard) if self.is_plain() => self.append(now, shard, ticket, &record, common),
            _ => self.take_in(now, ticket, &record, Origin::Direct, common),
        }
    }

    /// Shards of the map in use, those of other cores among them.
    pub fn map_len(&self) -> usize {
        self.shards.len()
    }

    /// The shard that a record will come to, if that is ours, and clear before it is accepted.
    pub fn expected_shard(&self, framed: &Framed<'_>, key_hash: HashKey) -> Option<&Shard> {
        let hash = match framed.placement {
            RecordPlacement::ByKey => key_hash,
            RecordPlacement::Explicit(hash) => hash,
            RecordPlacement::Drawn => return None,
        };
        match self.router.route(hash) {
            // A closed stream has a map still, and no shards.
            Route::Owned(shard) => self.shards.get(shard.index())?.as_deref(),
            _ => None,
        }
    }

    /// Whether what a shard of ours is to have is simply appended.
    fn is_plain(&self) -> bool {
        !self.closed && self.order.is_none()
    }

    /// Records from another core, chosen for us under its map of `epoch`; `handed_over` if an older one had placed them
    /// with it.
    pub fn accept_parcel(
        &mut self,
        now: Time,
        (epoch, handed_over): (u64, bool),
        mut parcel: Parcel,
        common: &mut Common,
    ) {
        // Under an older map than the sender's we might send them straight back.
        if epoch > self.router.epoch() && !self.closed {
            if let Some(oldest) = parcel.oldest() {
                self.arm_waiting(oldest, common);
            }
            self.early.push(((epoch, handed_over), parcel));
            return;
        }
        let origin = match handed_over {
            true => Origin::HandedOver,
            false if epoch < self.router.epoch() => Origin::Straggler,
            false => Origin::Direct,
        };
        parcel.unpack(|ticket, record| self.take_in(now, ticket, record, origin, common));
        common.mesh.give(parcel);
    }

    pub(super) fn take_in(
        &mut self,
        now: Time,
        ticket: Ticket,
        record: &Routed<'_>,
        origin: Origin,
        common: &mut Common,
    ) {
        if self.closed {
            return self.fail(None, Removed::of(ticket, record, self.bounds.keeps_failed), &closed(), common);
        }
        let route = self.router.route(record.hash);
        if !self.is_changing() {
            self.place(now, route, ticket, record, origin, common);
        } else if let Some(ticket) = self.take_in_changing(now, route, ticket, record, origin, common) {
            self.place(now, route, ticket, record, origin, common);
        }
    }

    pub(super) fn place(
        &mut self,
        now: Time,
        route: Route,
        ticket: Ticket,
        record: &Routed<'_>,
        origin: Origin,
        common: &mut Common,
    ) {
        match route {
            Route::Owned(shard) => self.append(now, shard, ticket, record, common),
            Route::Pass(core) => {
                let handed_over = self.order.is_some() && origin != Origin::Direct;
                common.mesh.pass(core, (self.id, self.router.epoch(), handed_over), ticket, record);
            }
            Route::Wait if self.config.shard_map == ShardMapPolicy::Unknown => {
                self.do_without_map(now, common);
                self.take_in(now, ticket, record, origin, common);
            }
            Route::Wait => {
                if let ShardMapPolicy::Degrade { after } = self.config.shard_map {
                    set_earlier(&mut self.stand_in_alarm, now + after, Timer::StandIn(self.id), common);
                }
                self.arm_waiting(record.arrival, common);
                self.map_wanted = true;
                self.router.wait(ticket, record);
            }
            Route::Refused => {
                let reason = self.router.refusal().map_or_else(|| "".into(), Arc::clone);
                let removed = Removed::of(ticket, record, self.bounds.keeps_failed);
                self.fail(None, removed, &(ErrorCode::StreamUnavailable, reason), common);
            }
        }
    }

    /// Sets the alarm for the expiration of a record that arrived at `arrival` and waits for a map.
    pub(super) fn arm_waiting(&mut self, arrival: Time, common: &mut Common) {
        let expiration = arrival + self.bounds.ttl;
        set_earlier(&mut self.waiting_alarm, expiration, Timer::ExpireWaiting(self.id), common);
    }

    #[inline]
    pub(super) fn append(
        &mut self,
        now: Time,
        index: ShardIndex,
        ticket: Ticket,
        record: &Routed<'_>,
        common: &mut Common,
    ) {
        if let Some(max) = self.backlog_max {
            let bytes = u64::from(record.size);
            // A range whose records the service spreads over all shards is none of them.
            let judged = record.fresh && !self.distribution.managed;
            let shard = self.shard_entry(now, index);
            if judged && let Some(reason) = max.refuses(&shard.id, &shard.held, bytes) {
                let shard = Arc::clone(&shard.id);
                return self.fail(Some(&shard), Removed::of(ticket, record, self.bounds.keeps_failed), &reason, common);
            }
            shard.held.add(1, bytes);
        }
        self.late |= self.flush.is_late(record.generation);
        if self.shards[index.index()].is_none() {
            self.shard_entry(now, index);
        }
        let (shards, bounds) = (&mut self.shards, &self.bounds);
        let shard = shards[index.index()].as_deref_mut().expect("it was just made");
        match shard.aggregator.append(ticket, record, bounds) {
            Ok(Appended::Open) => {}
            Ok(_) => self.append_rarely(now, index, None, common),
            Err(ticket) => self.append_rarely(now, index, Some((ticket, record)), common),
        }
    }

    /// A record opens an aggregate, or it has filled one, or brings forward when that is to be sealed.
    #[inline(never)]
    fn append_rarely(
        &mut self,
        now: Time,
        index: ShardIndex,
        record: Option<(Ticket, &Routed<'_>)>,
        common: &mut Common,
    ) {
        let (id, wait) = (self.id, self.collector_wait());
        let (shards, bounds) = (&mut self.shards, &self.bounds);
        let shard = shards[index.index()].as_deref_mut().expect("a record was appended to it, or is to be");
        let sealed = match record {
            Some((ticket, record)) => shard.aggregator.push(ticket, record, bounds, &mut common.pool),
            None => [shard.aggregator.take_full(bounds, &mut common.pool), None],
        };
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
}
