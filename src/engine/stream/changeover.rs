//! An ordered stream's changeover from one shard map to the next, as far as it moves records: `order` says when, and why
//! nothing overtakes.

use super::*;
use crate::engine::mesh::Message;
use crate::engine::order::Origin;

impl Stream {
    /// Another core says how far it is.
    pub fn heard(&mut self, from: CoreId, mark: &Message) {
        let Some(order) = &mut self.order else { return };
        match mark {
            Message::Adopted { epoch, .. } => order.heard_adopted(from, *epoch),
            Message::HandedOver { epoch, .. } => order.heard_handed_over(from, *epoch),
            _ => {}
        }
    }

    /// A core has failed: nobody waits for it.
    pub fn lose(&mut self, core: CoreId) {
        if let Some(order) = &mut self.order {
            order.lost(core);
        }
    }

    /// Whether a changeover is under way.
    pub(super) fn is_changing(&self) -> bool {
        self.order.as_ref().is_some_and(Order::is_changing)
    }

    /// A map is adopted: shards that are not kept are held from now on.
    pub(super) fn begin_changeover(&mut self, epoch: u64, common: &mut Common) {
        if let Some(order) = &mut self.order {
            order.begin(epoch);
            let stream = self.id;
            common.mesh.say_all(|| Message::Adopted { stream, epoch });
        }
    }

    /// A shard is no more, or not ours: its records go where the new map says, behind what is under way of it.
    pub(super) fn depart(&mut self, now: Time, range: Range, shard: Box<Shard>, common: &mut Common) {
        let (id, under_way) = (Arc::clone(&shard.id), shard.in_flight);
        let batches = shard.dismantle(&mut common.pool);
        let Some(order) = self.order.as_mut().filter(|_| under_way > 0) else {
            return batches.for_each(|batch| self.route_anew(now, batch, common));
        };
        let mut tail = Vec::new();
        let batches: Vec<Box<Batch>> = batches.collect();
        if planted(Mistake::TailOvertakes) {
            order.depart(id, range, under_way, tail);
            return batches.into_iter().for_each(|batch| self.route_anew(now, batch, common));
        }
        let mut oldest = Time::NEVER;
        for mut batch in batches {
            oldest = oldest.min(batch.arrivals.oldest());
            batch.dissolve(|ticket, record| Parcel::push_last(&mut tail, ticket, record));
            common.pool.give(batch);
        }
        order.depart(id, range, under_way, tail);
        if oldest != Time::NEVER {
            self.arm_waiting(oldest, common);
        }
    }

    /// Where a record goes while a changeover is under way; gives its ticket back if it goes its usual way.
    pub(super) fn take_in_changing(
        &mut self,
        now: Time,
        route: Route,
        ticket: Ticket,
        record: &Routed<'_>,
        origin: Origin,
        common: &mut Common,
    ) -> Option<Ticket> {
        let kept = match route {
            Route::Owned(index) if self.is_held(index) => match origin {
                Origin::HandedOver => {
                    self.shard_entry(now, index).held_back = true;
                    return Some(ticket);
                }
                Origin::Direct | Origin::Straggler if planted(Mistake::LaterOvertakes) => return Some(ticket),
                Origin::Direct | Origin::Straggler => {
                    self.order.as_mut()?.keep_for_later(ticket, record);
                    None
                }
            },
            Route::Pass(_) if origin == Origin::Straggler => self.order.as_mut()?.keep_behind(ticket, record),
            _ => Some(ticket),
        };
        if kept.is_none() {
            self.arm_waiting(record.arrival, common);
        }
        kept
    }

    /// Whether a shard of ours waits for the end of the changeover: any but those that were ours before.
    fn is_held(&self, index: ShardIndex) -> bool {
        self.shards[index.index()].as_ref().is_none_or(|shard| shard.held_back)
    }

    /// Goes on with the changeover as far as that is possible, and with the maps that wait.
    pub fn change_over(&mut self, now: Time, common: &mut Common) {
        while self.is_changing() && !self.closed {
            let Some(order) = &mut self.order else { return };
            for mut parcel in order.take_tails() {
                parcel.unpack(|ticket, record| self.take_in(now, ticket, record, Origin::HandedOver, common));
            }
            let (stream, Some(order)) = (self.id, &mut self.order) else { return };
            if let Some(epoch) = order.hand_over() {
                common.mesh.say_all(|| Message::HandedOver { stream, epoch });
            }
            let Some(later) = order.complete() else { return };
            for index in (0..self.shards.len() as u32).map(ShardIndex) {
                if let Some(shard) = self.shards[index.index()].as_deref_mut() {
                    shard.held_back = false;
                    self.list(now, index);
                }
            }
            for mut parcel in later {
                parcel.unpack(|ticket, record| self.take_in(now, ticket, record, Origin::Direct, common));
            }
            if let Some(map) = self.order.as_mut().and_then(Order::take_next) {
                self.change_to(now, map, common);
            }
        }
    }
}
