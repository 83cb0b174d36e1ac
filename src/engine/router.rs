//! Router: to which core and shard does a record go?
//!
//! ```text
//!   hash key ──▶ shard map ──▶ a shard of ours │ another core │ wait for the first map │ refused
//! ```
//!
//! It predicts, always, also when aggregation is off. While a newer map is fetched, the old one stays in use. Before
//! the first map records wait in parcels, in order; if the shards cannot be listed, they are refused, and the
//! reason is kept for those that come later. A *stand-in* may take the place of a map that does not come, and ranges
//! that of a map by which nothing can be predicted; the service's shards are known all the same.

use std::sync::Arc;

use super::batch::{Routed, Ticket};
use super::parcel::Parcel;
use super::planted::{Mistake, planted};
use super::shard_map::ShardMap;
use crate::record::{CoreId, HashKey, ShardIndex};

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To a shard of this core.
    Owned(ShardIndex),
    /// To the core that owns its shard.
    Pass(CoreId),
    /// No map is known yet.
    Wait,
    /// The shards cannot be listed.
    Refused,
}

/// Routes the records of one stream on one core.
pub struct Router {
    core: CoreId,
    map: Option<Arc<ShardMap>>,
    /// The service's shards, by the map in use or by the one that it stands for.
    shards: Option<Arc<ShardMap>>,
    /// Why there is no map and none will come soon.
    refusal: Option<Arc<str>>,
    /// Records that wait for the first map.
    waiting: Vec<Parcel>,
}

impl Router {
    /// A router without a map.
    pub fn new(core: CoreId) -> Router {
        Router { core, map: None, shards: None, refusal: None, waiting: Vec::new() }
    }

    /// Where a record with hash key `hash` goes.
    #[inline]
    pub fn route(&self, hash: HashKey) -> Route {
        if self.refusal.is_some() {
            return Route::Refused;
        }
        let Some(map) = &self.map else { return Route::Wait };
        let index = map.predict(hash);
        let owner = map.shard(index).owner;
        if owner == self.core { Route::Owned(index) } else { Route::Pass(owner) }
    }

    /// Keeps a record until there is a map.
    pub fn wait(&mut self, ticket: Ticket, record: &Routed<'_>) {
        Parcel::push_last(&mut self.waiting, ticket, record);
    }

    /// Takes a newer map; answers the one that it replaces, unless it is not newer. If it predicts nothing (`scattered`),
    /// ranges take its place in routing.
    pub fn adopt(&mut self, map: Arc<ShardMap>, scattered: bool) -> Adoption {
        let stale = self.map.as_ref().is_some_and(|current| current.epoch >= map.epoch);
        if stale && !planted(Mistake::OlderMapAdopted) {
            return Adoption::Stale;
        }
        self.refusal = None;
        let waited = std::mem::take(&mut self.waiting);
        let waited = if planted(Mistake::WaitingForgotten) { Vec::new() } else { waited };
        self.shards = (!map.is_stand_in()).then(|| Arc::clone(&map));
        let map = if scattered { Arc::new(ShardMap::ranges(self.core, map.epoch)) } else { map };
        Adoption::Adopted { replaced: self.map.replace(map), waited }
    }

    /// There is no map and none will come soon. Answers what waited; a stream that has a map keeps it, but for a
    /// stand-in.
    pub fn refuse(&mut self, reason: &str) -> Vec<Parcel> {
        if self.map.as_ref().is_some_and(|map| !map.is_stand_in()) {
            return Vec::new();
        }
        (self.map, self.shards) = (None, None);
        self.refusal = Some(reason.into());
        std::mem::take(&mut self.waiting)
    }

    /// Whatever the map says, no record is to be sent by it; the next one ends that.
    pub fn forbid(&mut self, reason: &str) {
        self.refusal = Some(reason.into());
    }

    /// Whether records are routed without knowing the shards.
    pub fn has_stand_in(&self) -> bool {
        self.map.as_ref().is_some_and(|map| map.is_stand_in())
    }

    /// The service's shards, as far as they are known.
    pub fn known_shards(&self) -> Option<&ShardMap> {
        self.shards.as_deref()
    }

    /// The map in use.
    pub fn map(&self) -> Option<&Arc<ShardMap>> {
        self.map.as_ref()
    }

    /// Why the stream has no map.
    pub fn refusal(&self) -> Option<&Arc<str>> {
        self.refusal.as_ref()
    }

    /// The map's epoch; 0 before the first map.
    pub fn epoch(&self) -> u64 {
        self.map.as_ref().map_or(0, |map| map.epoch)
    }

    /// Records that wait for the first map, in order.
    pub fn waiting(&mut self) -> &mut Vec<Parcel> {
        &mut self.waiting
    }
}

/// What became of a map that was offered.
pub enum Adoption {
    /// It is in use.
    Adopted {
        /// The map before it.
        replaced: Option<Arc<ShardMap>>,
        /// Records that waited for the first map.
        waited: Vec<Parcel>,
    },
    /// An equal or newer one is in use already.
    Stale,
}

#[cfg(test)]
mod tests {
    use super::super::shard_map::ShardInfo;
    use super::super::testing::{Put, Source};
    use super::*;

    /// Two halves, one on each core.
    fn halves(epoch: u64) -> Arc<ShardMap> {
        let middle = 1 << 127;
        let shard = |id: &str, first, last| ShardInfo {
            id: id.into(),
            first: HashKey(first),
            last: HashKey(last),
            parents: [None, None],
        };
        let open = vec![shard("low", 0, middle - 1), shard("high", middle, u128::MAX)];
        Arc::new(ShardMap::build(epoch, open, 2, None).expect("two halves"))
    }

    #[test]
    fn a_record_goes_to_whoever_owns_its_shard() {
        for core in [CoreId(0), CoreId(1)] {
            let mut router = Router::new(core);
            let map = halves(1);
            assert!(matches!(router.adopt(Arc::clone(&map), false), Adoption::Adopted { replaced: None, .. }));
            for (hash, index) in [(0, 0), ((1 << 127) - 1, 0), (1 << 127, 1), (u128::MAX, 1)] {
                let owner = map.shards()[index].owner;
                let expected = if owner == core { Route::Owned(ShardIndex(index as u32)) } else { Route::Pass(owner) };
                assert_eq!(router.route(HashKey(hash)), expected);
            }
        }
    }

    #[test]
    fn only_a_newer_map_is_adopted() {
        let mut router = Router::new(CoreId(0));
        assert_eq!((router.epoch(), router.map().is_some()), (0, false));
        for (epoch, is_newer) in [(3, true), (3, false), (2, false), (4, true)] {
            let adopted = matches!(router.adopt(halves(epoch), false), Adoption::Adopted { .. });
            assert_eq!(adopted, is_newer, "{epoch}");
        }
        assert_eq!(router.epoch(), 4);
    }

    #[test]
    fn records_wait_for_the_first_map_in_order_and_are_handed_out_once() {
        let mut source = Source::new();
        let mut router = Router::new(CoreId(0));
        assert_eq!(router.route(HashKey(0)), Route::Wait);
        for data in [b"1", b"2"] {
            let put = Put::new("key", data);
            let (ticket, record) = source.lone(&put);
            router.wait(ticket, &record);
        }
        let Adoption::Adopted { waited, .. } = router.adopt(halves(1), false) else { panic!("it is the first") };
        let mut data = Vec::new();
        waited.into_iter().for_each(|mut parcel| parcel.unpack(|_, record| data.push(record.data.to_vec())));
        assert_eq!(data, [b"1", b"2"]);
        assert!(router.waiting().is_empty());
    }

    #[test]
    fn a_refusal_lasts_until_there_is_a_map_and_a_known_map_outlasts_refusals() {
        let mut source = Source::new();
        let mut router = Router::new(CoreId(0));
        let put = Put::new("key", b"data");
        let (ticket, record) = source.lone(&put);
        router.wait(ticket, &record);
        assert_eq!(router.refuse("not allowed").len(), 1);
        assert_eq!(router.route(HashKey(0)), Route::Refused);
        assert_eq!(router.refusal().map(|reason| &**reason), Some("not allowed"));
        assert!(matches!(router.adopt(halves(1), false), Adoption::Adopted { .. }));
        assert_eq!(router.refusal(), None);
        assert!(router.refuse("not allowed").is_empty());
        assert!(router.map().is_some() && !matches!(router.route(HashKey(0)), Route::Refused));
    }

    #[test]
    fn by_a_map_that_predicts_nothing_every_record_stays_and_the_shards_are_known() {
        let mut router = Router::new(CoreId(1));
        let managed = |epoch| Arc::new((*halves(epoch)).clone().with_service_managed(true));
        assert!(matches!(router.adopt(managed(1), true), Adoption::Adopted { .. }));
        assert!((0..64).all(|top| matches!(router.route(HashKey(top << 122)), Route::Owned(_))));
        assert_eq!((router.epoch(), router.has_stand_in()), (1, false));
        assert_eq!(router.known_shards().map(ShardMap::len), Some(2));
        assert!(matches!(router.adopt(managed(1), true), Adoption::Stale));
        router.forbid("ordered");
        assert_eq!(router.route(HashKey(0)), Route::Refused);
        assert!(matches!(router.adopt(halves(1), false), Adoption::Stale), "an older one does not end it");
        assert!(matches!(router.adopt(halves(2), false), Adoption::Adopted { .. }));
        assert!(!matches!(router.route(HashKey(0)), Route::Refused));
    }

    #[test]
    fn a_stand_in_gives_way_to_a_refusal_and_to_any_map_of_the_service() {
        let mut router = Router::new(CoreId(1));
        let stand_in = || Arc::new(ShardMap::stand_in(CoreId(1)));
        assert!(matches!(router.adopt(stand_in(), false), Adoption::Adopted { .. }));
        assert!(router.has_stand_in() && router.known_shards().is_none());
        assert!(matches!(router.route(HashKey(u128::MAX)), Route::Owned(_)), "everything is ours");
        router.refuse("not allowed");
        assert!(!router.has_stand_in() && router.map().is_none());
        assert_eq!(router.route(HashKey(0)), Route::Refused);
        assert!(matches!(router.adopt(stand_in(), false), Adoption::Adopted { .. }));
        assert!(matches!(router.adopt(halves(1), false), Adoption::Adopted { replaced: Some(_), .. }));
        assert!(!router.has_stand_in() && router.known_shards().is_some());
    }
}
