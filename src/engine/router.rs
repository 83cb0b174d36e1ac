//! Router: to which core and shard does a record go?
//!
//! ```text
//!   hash key ──▶ shard map ──▶ a shard of ours │ another core │ wait for the first map │ refused
//! ```
//!
//! It predicts, always, also when aggregation is off. While a newer map is fetched, the old one stays in use. Before
//! the first map records wait in parcels, in order; if the shards cannot be listed, they are refused, and the
//! reason is kept for those that come later. A *stand-in* may take the place of a map that does not come.

use std::sync::Arc;

use super::batch::Routed;
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
    /// Why there is no map and none will come soon.
    refusal: Option<Arc<str>>,
    /// Records that wait for the first map.
    waiting: Vec<Parcel>,
}

impl Router {
    /// A router without a map.
    pub fn new(core: CoreId) -> Router {
        Router { core, map: None, refusal: None, waiting: Vec::new() }
    }

    /// Where a record with hash key `hash` goes.
    pub fn route(&self, hash: HashKey) -> Route {
        let Some(map) = &self.map else {
            return if self.refusal.is_some() { Route::Refused } else { Route::Wait };
        };
        let index = map.predict(hash);
        let owner = map.shard(index).owner;
        if owner == self.core { Route::Owned(index) } else { Route::Pass(owner) }
    }

    /// Keeps a record until there is a map.
    pub fn wait(&mut self, record: Routed<'_>) {
        Parcel::push_last(&mut self.waiting, record);
    }

    /// Takes a newer map; answers the one that it replaces, or the newer one back if it is not newer.
    pub fn adopt(&mut self, map: Arc<ShardMap>) -> Adoption {
        let stale = self.map.as_ref().is_some_and(|current| current.epoch >= map.epoch);
        if stale && !planted(Mistake::OlderMapAdopted) {
            return Adoption::Stale;
        }
        self.refusal = None;
        let waited = std::mem::take(&mut self.waiting);
        let waited = if planted(Mistake::WaitingForgotten) { Vec::new() } else { waited };
        Adoption::Adopted { replaced: self.map.replace(map), waited }
    }

    /// There is no map and none will come soon. Answers what waited; a stream that has a map keeps it, but for a
    /// stand-in.
    pub fn refuse(&mut self, reason: &str) -> Vec<Parcel> {
        if self.map.as_ref().is_some_and(|map| !map.is_stand_in()) {
            return Vec::new();
        }
        self.map = None;
        self.refusal = Some(reason.into());
        std::mem::take(&mut self.waiting)
    }

    /// Whether records are routed without knowing the shards.
    pub fn has_stand_in(&self) -> bool {
        self.map.as_ref().is_some_and(|map| map.is_stand_in())
    }

    /// The service's shards, as far as they are known.
    pub fn known_shards(&self) -> Option<&ShardMap> {
        self.map.as_deref().filter(|map| !map.is_stand_in())
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
