//! The shard map: which shard holds a hash key, and which core owns that shard.
//!
//! A map is built whole from the open shards of a stream, carries an epoch, and never changes. Its shards cover the
//! hash space without gap or overlap, ascending, so that every hash key has exactly one.
//!
//! ```text
//!   hash key ──top bits──▶ table ──▶ the first and last shard that have such keys ──binary search──▶ shard ──▶ core
//! ```
//!
//! Who owns a shard (design decision D2):
//! 1. A shard that the previous map has keeps its owner.
//! 2. A shard that came of others (it names a parent) goes to the owner of the range that its first hash key was in.
//!    That is the parent of a split, the lower parent of a merge, and an ancestor when several reshards passed
//!    between two maps.
//! 3. Any other goes to the core that a hash of its id prefers, unless that core has its fair part already; then to
//!    one that has the least. In a map without predecessor the cores' counts differ by at most one.
//!
//! Promises: the same arguments give the same map, whatever the order of the list. Refuses: a list that does not
//! cover the hash space exactly; a map in doubt would predict wrongly, and the old one serves meanwhile.
//!
//! Costs: a prediction reads two table entries and, since the table has at least two entries a shard, seldom more
//! than one bound. 16 bytes of bounds and 8 to 16 of table a shard, beside the shards.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::Arc;

use super::planted::{Mistake, planted};
use crate::limits::{SHARDS_MAX, STAND_IN_RANGES};
use crate::record::{CoreId, HashKey, ShardIndex};

/// An open shard, as the service lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardInfo {
    /// Its id.
    pub id: Arc<str>,
    /// The least hash key of its range.
    pub first: HashKey,
    /// The greatest hash key of its range.
    pub last: HashKey,
    /// The shards that it came of: none, one that was split, or two that were merged.
    pub parents: [Option<Arc<str>>; 2],
}

/// A shard of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Its id.
    pub id: Arc<str>,
    /// The least and the greatest hash key that it holds.
    pub range: (HashKey, HashKey),
    /// The core that has its state and sends its records.
    pub owner: CoreId,
}

/// The open shards of a stream, ascending by range, with their owners.
#[derive(Clone, PartialEq, Eq)]
pub struct ShardMap {
    /// Which map of its stream this is; later maps have greater epochs.
    pub epoch: u64,
    shards: Vec<Shard>,
    /// The least hash key of each shard.
    firsts: Vec<u128>,
    /// For each value of the top bits, the shard of the least hash key with them; and, behind, the last shard.
    table: Vec<u32>,
    /// How far to shift a hash key to have its top bits.
    table_shift: u32,
    /// The shards, ascending by id.
    by_id: Vec<ShardIndex>,
    /// Ids and ranges of shards that are closed, ascending by id.
    closed: Vec<(Arc<str>, (HashKey, HashKey))>,
    /// Whether the service decides which of the shards a record comes to lie in, whatever its hash key.
    service_managed: bool,
}

/// Why a list of shards is no map.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapError {
    /// There are no open shards.
    Empty,
    /// There are more shards than a map may have.
    TooMany {
        /// How many there are.
        count: usize,
        /// The bound.
        max: usize,
    },
    /// A shard's range ends before it begins.
    Inverted {
        /// The shard.
        id: Arc<str>,
        /// Where its range begins.
        first: HashKey,
        /// Where its range ends.
        last: HashKey,
    },
    /// Two shards have one id.
    DuplicateId {
        /// The id.
        id: Arc<str>,
    },
    /// Hash keys that no shard holds.
    Gap {
        /// The shard below them, unless they begin at 0.
        below: Option<Arc<str>>,
        /// The shard above them, unless they end at 2^128 - 1.
        above: Option<Arc<str>>,
        /// The least of them.
        first: HashKey,
        /// The greatest of them.
        last: HashKey,
    },
    /// Hash keys that two shards hold.
    Overlap {
        /// The shard that begins first.
        lower: Arc<str>,
        /// The other.
        upper: Arc<str>,
        /// The least hash key in both.
        first: HashKey,
        /// The greatest hash key in both.
        last: HashKey,
    },
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapError::Empty => f.write_str("the stream has no open shards"),
            MapError::TooMany { count, max } => write!(f, "{count} open shards, more than {max}"),
            MapError::Inverted { id, first, last } => write!(f, "shard {id} ends at {last}, before its begin {first}"),
            MapError::DuplicateId { id } => write!(f, "shard {id} is listed twice"),
            MapError::Gap { below, above, first, last } => {
                write!(f, "no shard holds the hash keys {first} to {last}, between ")?;
                write!(f, "{} and {}", below.as_deref().unwrap_or("0"), above.as_deref().unwrap_or("2^128 - 1"))
            }
            MapError::Overlap { lower, upper, first, last } => {
                write!(f, "shards {lower} and {upper} both hold the hash keys {first} to {last}")
            }
        }
    }
}

impl std::error::Error for MapError {}

/// What the ids in a stand-in begin with; the service's ids of shards have no blanks.
const STAND_IN_ID: &str = "no shard known, range";

impl ShardMap {
    /// What serves in the place of a map where none is known: see [`ShardMap::ranges`].
    pub fn stand_in(core: CoreId) -> ShardMap {
        ShardMap::ranges(core, 0)
    }

    /// Equal ranges of the hash space, all of `core`: what records are queued by where no shard can be predicted. The
    /// service places what is sent by it, so that nothing but single records may be.
    pub fn ranges(core: CoreId, epoch: u64) -> ShardMap {
        let width = u128::MAX / u128::from(STAND_IN_RANGES);
        let ranges = (0..STAND_IN_RANGES).map(|number| {
            let first = u128::from(number) * width;
            let last = if number + 1 == STAND_IN_RANGES { u128::MAX } else { first + width - 1 };
            let id = format!("{STAND_IN_ID} {number}").into();
            ShardInfo { id, first: HashKey(first), last: HashKey(last), parents: [None, None] }
        });
        let mut map = ShardMap::build(epoch, ranges.collect(), 1, None).expect("the ranges cover the hash space");
        map.shards.iter_mut().for_each(|shard| shard.owner = core);
        map
    }

    /// Whether an id is a shard's of the service, and not one of a stand-in.
    pub fn is_shard_id(id: &str) -> bool {
        !id.starts_with(STAND_IN_ID)
    }

    /// Whether it is a stand-in: maps of the service's shards are numbered from 1.
    pub fn is_stand_in(&self) -> bool {
        self.epoch == 0
    }

    /// Builds the map of the shards in `open`, in any order, for a producer of `cores` cores (0 counts as 1).
    ///
    /// `previous` is the stream's map until now, if any: owners follow from it.
    ///
    /// # Errors
    /// The list is empty, longer than [`SHARDS_MAX`], has an id twice, or does not cover the hash space exactly.
    pub fn build(
        epoch: u64,
        mut open: Vec<ShardInfo>,
        cores: u16,
        previous: Option<&ShardMap>,
    ) -> Result<ShardMap, MapError> {
        if open.len() > SHARDS_MAX {
            return Err(MapError::TooMany { count: open.len(), max: SHARDS_MAX });
        }
        // The id decides between shards that overlap, so that the error too does not depend on the list's order.
        open.sort_by(|a, b| (a.first, a.last, &a.id).cmp(&(b.first, b.last, &b.id)));
        let by_id = index_ids(&open)?;
        check_coverage(&open)?;
        let owners = assign_owners(&open, cores.max(1), previous);
        let firsts: Vec<u128> = open.iter().map(|shard| shard.first.0).collect();
        let (table, table_shift) = build_table(&firsts);
        let shards = open.into_iter().zip(owners);
        let shards = shards.map(|(info, owner)| Shard { id: info.id, range: (info.first, info.last), owner }).collect();
        let (closed, service_managed) = (Vec::new(), false);
        Ok(ShardMap { epoch, shards, firsts, table, table_shift, by_id, closed, service_managed })
    }

    /// The same shards, where the service decides in which of them a record comes to lie, or where hash keys do.
    pub fn with_service_managed(mut self, service_managed: bool) -> ShardMap {
        self.service_managed = service_managed;
        self
    }

    /// Whether the service decides in which of the shards a record comes to lie, whatever its hash key.
    pub fn is_service_managed(&self) -> bool {
        self.service_managed
    }

    /// With shards that take no more records, by id: what was sent when they were open may come to lie in them. One of
    /// an id that is open, or comes twice, changes nothing.
    pub fn with_closed(mut self, closed: impl IntoIterator<Item = (Arc<str>, (HashKey, HashKey))>) -> ShardMap {
        self.closed = closed.into_iter().filter(|(id, _)| self.find(id).is_none()).collect();
        self.closed.sort();
        self.closed.dedup_by(|next, kept| next.0 == kept.0);
        self
    }

    /// The shard whose range holds `key`.
    #[inline]
    pub fn predict(&self, key: HashKey) -> ShardIndex {
        let top = (key.0 >> self.table_shift) as usize;
        let (low, high) = (self.table[top] as usize, self.table[top + 1] as usize);
        let below = u128::from(planted(Mistake::PredictionBelow));
        // Above `low`, which begins at or before the first key with these bits, count the shards that begin by `key`.
        let beyond = self.firsts[low + 1..=high].partition_point(|&first| first.saturating_add(below) <= key.0);
        ShardIndex((low + beyond) as u32)
    }

    /// The shard at a place of this map.
    ///
    /// # Panics
    /// `index` is not of this map, and beyond its end.
    #[inline]
    pub fn shard(&self, index: ShardIndex) -> &Shard {
        &self.shards[index.index()]
    }

    /// All shards, ascending by range.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The shard with this id, if it is open in this map.
    pub fn find(&self, id: &str) -> Option<ShardIndex> {
        let place = self.by_id.binary_search_by(|index| (*self.shard(*index).id).cmp(id)).ok()?;
        Some(self.by_id[place])
    }

    /// The least and the greatest hash key of the shard with this id, open or closed, if it is known.
    pub fn range_of(&self, id: &str) -> Option<(HashKey, HashKey)> {
        let closed = || {
            if planted(Mistake::ClosedShardsForgotten) {
                return None;
            }
            let place = self.closed.binary_search_by(|(of, _)| (**of).cmp(id)).ok()?;
            Some(self.closed[place].1)
        };
        self.find(id).map(|index| self.shard(index).range).or_else(closed)
    }

    /// How many shards are open: 1 to [`SHARDS_MAX`].
    #[expect(clippy::len_without_is_empty, reason = "a map is never empty")]
    pub fn len(&self) -> usize {
        self.shards.len()
    }
}

impl fmt::Debug for ShardMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardMap").field("epoch", &self.epoch).field("shards", &self.shards).finish_non_exhaustive()
    }
}

/// Checks that `open`, ascending, holds each hash key once.
fn check_coverage(open: &[ShardInfo]) -> Result<(), MapError> {
    let (Some(lowest), Some(highest)) = (open.first(), open.last()) else { return Err(MapError::Empty) };
    if let Some(ShardInfo { id, first, last, .. }) = open.iter().find(|shard| shard.first > shard.last) {
        return Err(MapError::Inverted { id: id.clone(), first: *first, last: *last });
    }
    if lowest.first > HashKey::MIN {
        let (first, last) = (HashKey::MIN, HashKey(lowest.first.0 - 1));
        return Err(MapError::Gap { below: None, above: Some(lowest.id.clone()), first, last });
    }
    for pair in open.windows(2) {
        let (lower, upper) = (&pair[0], &pair[1]);
        if upper.first <= lower.last {
            let (first, last) = (upper.first, lower.last.min(upper.last));
            return Err(MapError::Overlap { lower: lower.id.clone(), upper: upper.id.clone(), first, last });
        }
        if upper.first.0 - lower.last.0 > 1 && !planted(Mistake::GapTaken) {
            let (first, last) = (HashKey(lower.last.0 + 1), HashKey(upper.first.0 - 1));
            return Err(MapError::Gap { below: Some(lower.id.clone()), above: Some(upper.id.clone()), first, last });
        }
    }
    if highest.last < HashKey::MAX {
        let (first, last) = (HashKey(highest.last.0 + 1), HashKey::MAX);
        return Err(MapError::Gap { below: Some(highest.id.clone()), above: None, first, last });
    }
    Ok(())
}

/// The places of the shards, ascending by id.
fn index_ids(open: &[ShardInfo]) -> Result<Vec<ShardIndex>, MapError> {
    let mut by_id: Vec<ShardIndex> = (0..open.len() as u32).map(ShardIndex).collect();
    by_id.sort_unstable_by(|a, b| open[a.index()].id.cmp(&open[b.index()].id));
    for pair in by_id.windows(2) {
        let id = &open[pair[0].index()].id;
        if *id == open[pair[1].index()].id {
            return Err(MapError::DuplicateId { id: id.clone() });
        }
    }
    Ok(by_id)
}

/// The owners of the shards in `open`, by the rules at the head of this file.
fn assign_owners(open: &[ShardInfo], cores: u16, previous: Option<&ShardMap>) -> Vec<CoreId> {
    let mut counts = vec![0_usize; usize::from(cores)];
    let mut owners: Vec<Option<CoreId>> = open.iter().map(|shard| inherited_owner(shard, cores, previous)).collect();
    for owner in owners.iter().flatten() {
        counts[owner.index()] += 1;
    }

    // A core's fair part is `even`, and one more for as many cores as it takes to place them all.
    let even = open.len() / counts.len();
    let mut one_more = (open.len() % counts.len()).saturating_sub(counts.iter().filter(|&&n| n > even).count());
    for (shard, owner) in open.iter().zip(&mut owners).filter(|(_, owner)| owner.is_none()) {
        let preferred = preferred_core(&shard.id, cores);
        let count = &mut counts[preferred.index()];
        if *count < even || (*count == even && one_more > 0) {
            one_more -= usize::from(*count == even);
            *count += 1;
            *owner = Some(preferred);
        }
    }

    let mut least: BinaryHeap<_> = (0..cores).map(|core| Reverse((counts[usize::from(core)], core))).collect();
    let mut take_least = || {
        // There is at least one core, and the one that is taken from the heap is put back.
        let Some(mut top) = least.peek_mut() else { return CoreId(0) };
        top.0.0 += 1;
        CoreId(top.0.1)
    };
    owners.into_iter().map(|owner| owner.unwrap_or_else(&mut take_least)).collect()
}

/// The owner that follows from the previous map, by rules 1 and 2.
fn inherited_owner(shard: &ShardInfo, cores: u16, previous: Option<&ShardMap>) -> Option<CoreId> {
    let previous = previous?;
    let has_parent = shard.parents.iter().any(Option::is_some);
    let index = previous.find(&shard.id).or_else(|| has_parent.then(|| previous.predict(shard.first)))?;
    // A map for more cores than there are now says nothing about those that are gone.
    Some(previous.shard(index).owner).filter(|owner| owner.0 < cores)
}

/// The core that a shard's id prefers: FNV-1a, written out because the standard hasher may change between releases.
fn preferred_core(id: &str, cores: u16) -> CoreId {
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    CoreId((hash % u64::from(cores)) as u16)
}

/// The first-level table and the shift that goes with it: two to four entries a shard.
fn build_table(firsts: &[u128]) -> (Vec<u32>, u32) {
    let bits = firsts.len().next_power_of_two().ilog2() + 1;
    let shift = u128::BITS - bits;
    let mut table = Vec::with_capacity((1 << bits) + 1);
    let mut shard = 0;
    for top in 0..1_u128 << bits {
        while firsts.get(shard + 1).is_some_and(|&first| first <= top << shift) {
            shard += 1;
        }
        table.push(shard as u32);
    }
    table.push(firsts.len() as u32 - 1);
    (table, shift)
}

#[cfg(test)]
mod tests;
