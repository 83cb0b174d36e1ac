//! Order: how an ordered stream passes from one shard map to the next without that anything overtakes.
//!
//! In between, order is simple: the records of a submitter and hash key pass one core, one shard and its queue, and a shard
//! has one Kinesis record under way at a time, since of several in one request a later one may be stored and an earlier one
//! not. A map change is where they could overtake each other, so it is a *changeover*, of all cores, one map after the other:
//!
//! ```text
//!   adopt map e ──▶ say Adopted(e) ──▶ all others have adopted it, and nothing of a former shard is under way here
//!                                                        │ say HandedOver(e)
//!                                                        ▼
//!                                   all have handed over ──▶ held shards begin, then what came later, then the next map
//! ```
//!
//! A shard that keeps its range and its core goes on meanwhile. Any other is *held*: it sends nothing. What older maps had
//! placed elsewhere is handed over to it and lies in front; what comes directly, by the new map, waits in `later`. A former
//! shard with a Kinesis record under way has *departed*: that record's fate comes first, so the rest of its queue, its
//! *tail*, waits for it, and so does what comes for it from cores that have not adopted the map yet.
//!
//! Q1: when a core has handed over for `e`, it has nothing that older maps have placed with it and `e` elsewhere, and never
//! will. For whoever adopted `e` says so behind all that it has passed on by older maps, and those messages keep their order.
//!
//! Q2: a core adopts a map only when its changeover to the one before is complete. So what is older than a map is in one
//! place only: with the core to which the map before gave it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::batch::{Routed, Ticket};
use super::parcel::Parcel;
use super::planted::{Mistake, planted};
use super::shard_map::ShardMap;
use crate::record::{CoreId, HashKey};

/// Where a record that is taken in comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From a ring, by the present map.
    Direct,
    /// From a core that had an older map than ours.
    Straggler,
    /// From where an older map had placed it.
    HandedOver,
}

/// The changeovers of an ordered stream, on one core.
pub struct Order {
    core: CoreId,
    /// The map of the latest changeover.
    epoch: u64,
    /// Whether it is under way.
    changing: bool,
    /// By core: the newest map that it has adopted, and for which it has handed over.
    adopted: Vec<u64>,
    handed_over: Vec<u64>,
    /// Former shards with something under way. Their ranges are apart, as they are of one map.
    departed: Vec<Departed>,
    /// Records for held shards that came directly, in order.
    later: Vec<Parcel>,
    /// Maps to adopt afterwards.
    next: VecDeque<Arc<ShardMap>>,
}

/// A shard that is no more, or not ours.
struct Departed {
    id: Arc<str>,
    range: (HashKey, HashKey),
    under_way: usize,
    tail: Vec<Parcel>,
}

impl Order {
    /// The stream's order on `core` of `cores`, before the first map.
    pub fn new(core: CoreId, cores: u16) -> Order {
        let none = vec![0; usize::from(cores)];
        Order {
            core,
            epoch: 0,
            changing: false,
            adopted: none.clone(),
            handed_over: none,
            departed: Vec::new(),
            later: Vec::new(),
            next: VecDeque::new(),
        }
    }

    /// Whether a changeover is under way.
    pub fn is_changing(&self) -> bool {
        self.changing
    }

    /// Takes a map whose turn has not come; gives it back if it has.
    pub fn defer(&mut self, map: Arc<ShardMap>) -> Option<Arc<ShardMap>> {
        if !self.changing {
            return Some(map);
        }
        if map.epoch > self.next.back().map_or(self.epoch, |last| last.epoch) {
            self.next.push_back(map);
        }
        None
    }

    /// The newest of the maps that wait.
    pub fn newest(&self) -> Option<&ShardMap> {
        self.next.back().map(|map| &**map)
    }

    /// This core adopts a map.
    pub fn begin(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.changing = true;
        self.adopted[self.core.index()] = epoch;
    }

    /// Another core has adopted a map.
    pub fn heard_adopted(&mut self, from: CoreId, epoch: u64) {
        if !planted(Mistake::EpochMarkUnheard) {
            self.adopted[from.index()] = self.adopted[from.index()].max(epoch);
        }
    }

    /// Another core has handed over for a map.
    pub fn heard_handed_over(&mut self, from: CoreId, epoch: u64) {
        self.handed_over[from.index()] = self.handed_over[from.index()].max(epoch);
    }

    /// A core has failed, and says nothing any more.
    pub fn lost(&mut self, core: CoreId) {
        self.heard_adopted(core, u64::MAX);
        self.heard_handed_over(core, u64::MAX);
    }

    /// A shard has departed with so much under way; `tail` is its queue.
    pub fn depart(&mut self, id: Arc<str>, range: (HashKey, HashKey), under_way: usize, tail: Vec<Parcel>) {
        self.departed.push(Departed { id, range, under_way, tail });
    }

    /// Something of a departed shard has come back, if it is one. `id` is the shard's own, not an equal one.
    pub fn landed(&mut self, id: &Arc<str>) {
        if let Some(departed) = self.departed.iter_mut().find(|departed| Arc::ptr_eq(&departed.id, id)) {
            departed.under_way = departed.under_way.saturating_sub(1);
        }
    }

    /// Keeps a straggler that has a departed shard before it; gives any other back.
    pub fn keep_behind(&mut self, ticket: Ticket, record: &Routed<'_>) -> Option<Ticket> {
        let holds = |departed: &&mut Departed| (departed.range.0..=departed.range.1).contains(&record.hash);
        let Some(departed) = self.departed.iter_mut().find(holds) else { return Some(ticket) };
        Parcel::push_last(&mut departed.tail, ticket, record);
        None
    }

    /// Keeps a record for a held shard until the changeover is complete.
    pub fn keep_for_later(&mut self, ticket: Ticket, record: &Routed<'_>) {
        Parcel::push_last(&mut self.later, ticket, record);
    }

    /// The tails of departed shards of which nothing is under way any more.
    pub fn take_tails(&mut self) -> Vec<Parcel> {
        self.departed.extract_if(.., |departed| departed.under_way == 0).flat_map(|departed| departed.tail).collect()
    }

    /// Whether this core hands over now: then for which map. Once.
    pub fn hand_over(&mut self) -> Option<u64> {
        let own = self.core.index();
        let all_adopted = self.adopted.iter().all(|adopted| *adopted >= self.epoch);
        let cleared = self.departed.is_empty() || planted(Mistake::HandedOverEarly);
        let now = self.changing && self.handed_over[own] < self.epoch && all_adopted && cleared;
        now.then(|| {
            self.handed_over[own] = self.epoch;
            self.epoch
        })
    }

    /// Whether the changeover is complete now: then what came later. Once.
    pub fn complete(&mut self) -> Option<Vec<Parcel>> {
        let complete = self.changing && self.handed_over.iter().all(|handed_over| *handed_over >= self.epoch);
        complete.then(|| {
            self.changing = false;
            std::mem::take(&mut self.later)
        })
    }

    /// The next map to adopt.
    pub fn take_next(&mut self) -> Option<Arc<ShardMap>> {
        if self.changing { None } else { self.next.pop_front() }
    }

    /// All records that wait here.
    pub fn parcels(&self) -> impl Iterator<Item = &Parcel> {
        self.departed.iter().flat_map(|departed| &departed.tail).chain(&self.later)
    }

    /// The same, to take from.
    pub fn parcels_mut(&mut self) -> impl Iterator<Item = &mut Parcel> {
        self.departed.iter_mut().flat_map(|departed| &mut departed.tail).chain(&mut self.later)
    }

    /// Forgets the parcels that hold nothing any more.
    pub fn drop_empty(&mut self) {
        self.departed.iter_mut().for_each(|departed| departed.tail.retain(|parcel| !parcel.is_empty()));
        self.later.retain(|parcel| !parcel.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Put, Source};
    use super::*;

    fn data(parcels: Vec<Parcel>) -> Vec<String> {
        let mut all = Vec::new();
        for mut parcel in parcels {
            parcel.unpack(|_, record| all.push(String::from_utf8_lossy(record.data).into_owned()));
        }
        all
    }

    #[test]
    fn a_core_hands_over_when_all_have_adopted_and_begins_when_all_have_handed_over() {
        let mut order = Order::new(CoreId(1), 3);
        order.begin(1);
        assert_eq!(order.hand_over(), None, "nobody else has it");
        order.heard_adopted(CoreId(0), 1);
        order.heard_handed_over(CoreId(0), 1);
        assert_eq!(order.hand_over(), None);
        order.heard_adopted(CoreId(2), 1);
        assert_eq!((order.hand_over(), order.hand_over()), (Some(1), None), "once");
        assert!(order.complete().is_none() && order.is_changing());
        order.heard_handed_over(CoreId(2), 1);
        assert!(order.complete().is_some() && order.complete().is_none() && !order.is_changing());
    }

    #[test]
    fn a_core_that_is_ahead_or_has_failed_is_waited_for_no_more() {
        let mut order = Order::new(CoreId(0), 3);
        order.heard_adopted(CoreId(1), 1);
        order.heard_handed_over(CoreId(1), 1);
        order.heard_adopted(CoreId(1), 2);
        order.begin(1);
        assert_eq!(order.hand_over(), None);
        order.lost(CoreId(2));
        assert_eq!(order.hand_over(), Some(1));
        assert!(order.complete().is_some());
        order.begin(2);
        assert_eq!(order.hand_over(), Some(2));
        assert!(order.complete().is_none(), "core 1 has adopted it, and not handed over");
    }

    #[test]
    fn what_is_under_way_of_a_departed_shard_comes_before_its_tail_and_before_handing_over() {
        let mut source = Source::new();
        let mut order = Order::new(CoreId(0), 1);
        let id: Arc<str> = "shardId-7".into();
        let puts = [("queued", 5), ("straggler", 9), ("other", 10), ("direct", 0)];
        let puts = puts.map(|(data, hash)| Put::new("key", data.as_bytes()).with_hash(HashKey(hash)));
        let [queued, straggler, other, direct] = puts.each_ref().map(|put| source.lone(put));
        let mut tail = Vec::new();
        Parcel::push_last(&mut tail, queued.0, &queued.1);
        order.begin(1);
        order.depart(Arc::clone(&id), (HashKey(0), HashKey(9)), 1, tail);
        assert!(order.keep_behind(straggler.0, &straggler.1).is_none());
        assert!(order.keep_behind(other.0, &other.1).is_some(), "of another shard");
        order.keep_for_later(direct.0, &direct.1);
        order.landed(&"shardId-7".into());
        assert!(order.take_tails().is_empty() && order.hand_over().is_none(), "an equal id is another shard's");
        order.landed(&id);
        assert_eq!(data(order.take_tails()), ["queued", "straggler"]);
        assert_eq!(order.hand_over(), Some(1));
        assert_eq!(data(order.complete().expect("it is complete")), ["direct"]);
    }

    #[test]
    fn maps_are_adopted_one_after_the_other_each_once() {
        let map = |epoch| {
            let mut map = ShardMap::stand_in(CoreId(0));
            map.epoch = epoch;
            Arc::new(map)
        };
        let mut order = Order::new(CoreId(0), 1);
        assert!(order.defer(map(1)).is_some(), "its turn is now");
        order.begin(1);
        for (epoch, newest) in [(2, 2), (1, 2), (2, 2), (3, 3)] {
            assert!(order.defer(map(epoch)).is_none());
            assert_eq!(order.newest().map(|map| map.epoch), Some(newest));
        }
        assert!(order.take_next().is_none(), "not yet");
        assert_eq!(order.hand_over(), Some(1));
        assert!(order.complete().is_some());
        let taken: Vec<u64> = std::iter::from_fn(|| order.take_next()).map(|map| map.epoch).collect();
        assert_eq!(taken, [2, 3]);
    }
}
