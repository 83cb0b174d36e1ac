//! Generated records: what record number `i` is, and whether something that was read is it.
//!
//! ```text
//! data of record i   | i, 8 bytes LE | stamp, 8 bytes | filler of the slot, drawn from the seed |
//! stamp              mix(seed, i) xor digest(filler)
//! key of record i    one of N, drawn by mix(seed, i)
//! lane of record i   i mod submitters, so that nobody shares a counter
//! ```
//!
//! Where lateness is looked at, the moment of the put takes the stamp's place: nanoseconds of the clock that the endpoint's
//! process shares. Such records are not read back.
//!
//! The filler is generated beforehand, some megabytes a lane, and used in turn; a put of the bench only writes
//! sixteen bytes into it. So memory is bounded, no two records are equal, and the reader needs nothing but seed and
//! options to tell from the bytes alone which record this is and whether it is unharmed and under its own key.

use std::ops::Range;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::clock::shared_ns;

/// Bytes of every generated partition key.
pub const KEY_BYTES: usize = 8;
/// Bytes of a generated record that say which it is; the rest is filler.
pub const STAMP_BYTES: usize = 16;
/// Bytes of filler that a lane cycles through: past the caches that are closest, as a caller's own data would be.
const FILLER_BYTES: usize = 4 << 20;

/// Where the records of one lane come from.
pub trait Source {
    /// The next record.
    ///
    /// # Errors
    /// The input holds something that is not a record.
    fn next(&mut self) -> Result<Next<'_>, crate::lines::InputError>;
}

/// What a source has to give.
pub enum Next<'a> {
    /// A record.
    Item(Item<'a>),
    /// Nothing yet; ask again.
    Idle,
    /// Nothing any more.
    End,
}

/// A record to put, and the name by which the ledger knows it.
pub struct Item<'a> {
    pub key: &'a str,
    pub data: &'a [u8],
    pub tag: u64,
    /// What a message calls it: the number of the record, or of the line.
    pub number: u64,
}

/// Scrambles a number; a bijection (the finalizer of SplitMix64).
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// The distinct partition keys, in one text.
pub struct Keys {
    text: String,
    count: u64,
    seed: u64,
}

impl Keys {
    /// `count` keys, drawn from the seed, no two alike.
    pub fn new(count: u32, seed: u64) -> Keys {
        let offset = mix(seed) as u32;
        // An odd factor and a shift are bijections of 32 bits, so that distinct numbers make distinct keys.
        let scramble = |number: u32| {
            let product = number.wrapping_add(offset).wrapping_mul(0x9E37_79B1);
            (product ^ (product >> 15)).wrapping_mul(0x85EB_CA77)
        };
        let text = (0..count).map(|number| format!("{:08x}", scramble(number))).collect();
        Keys { text, count: u64::from(count), seed }
    }

    /// The key that is drawn for record or line `index`.
    pub fn of(&self, index: u64) -> &str {
        let draw = u128::from(mix(self.seed ^ mix(index))) * u128::from(self.count);
        self.number((draw >> 64) as u32)
    }

    /// Key `number`, which is below their count.
    pub fn number(&self, number: u32) -> &str {
        let start = number as usize * KEY_BYTES;
        &self.text[start..start + KEY_BYTES]
    }
}

/// The whole set of generated records.
#[derive(Clone)]
pub struct Plan {
    pub keys: Arc<Keys>,
    pub seed: u64,
    pub record_size: usize,
    pub lanes: u64,
    /// Whether records carry the moment of their put, in the place of the stamp.
    pub put_times: bool,
}

/// The moment of its put that a record carries, in nanoseconds of [`shared_ns`].
pub fn put_ns(data: &[u8]) -> Option<u64> {
    let (_, rest) = data.split_first_chunk::<8>()?;
    rest.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

impl Plan {
    /// Which record this is, if it is one of the plan, unharmed and under its own key.
    pub fn identify(&self, key: &str, data: &[u8]) -> Option<u64> {
        if data.len() != self.record_size {
            return None;
        }
        let (index, rest) = data.split_first_chunk::<8>()?;
        let (stamp, filler) = rest.split_first_chunk::<8>()?;
        let index = u64::from_le_bytes(*index);
        let intact = u64::from_le_bytes(*stamp) == self.stamp(index, self.digest(filler));
        (intact && self.keys.of(index) == key).then_some(index)
    }

    fn stamp(&self, index: u64, filler_digest: u64) -> u64 {
        mix(self.seed ^ index) ^ filler_digest
    }

    fn digest(&self, filler: &[u8]) -> u64 {
        xxh3_64_with_seed(filler, self.seed)
    }
}

/// The records of one lane, in order.
pub struct Generator {
    plan: Plan,
    lane: u64,
    /// How many this lane has given.
    given: u64,
    /// How many it gives.
    share: u64,
    /// Whole records, one after the other; stamps are written over and over, filler stays.
    bodies: Vec<u8>,
    /// Digest of each body's filler.
    digests: Vec<u64>,
    slot: usize,
}

impl Generator {
    /// The lane's part of `records`, or records without end.
    pub fn new(plan: Plan, lane: u64, records: Option<u64>) -> Generator {
        let share = records.map_or(u64::MAX, |records| (records + plan.lanes - 1 - lane) / plan.lanes);
        let size = plan.record_size;
        let slots = (FILLER_BYTES / size).clamp(1, usize::try_from(share.max(1)).unwrap_or(usize::MAX));
        let mut bodies = vec![0; slots * size];
        for (number, word) in bodies.chunks_mut(8).enumerate() {
            let drawn = mix(plan.seed ^ mix((lane << 40) ^ number as u64)).to_le_bytes();
            word.copy_from_slice(&drawn[..word.len()]);
        }
        let digests = bodies.chunks_exact(size).map(|body| plan.digest(&body[STAMP_BYTES..])).collect();
        Generator { plan, lane, given: 0, share, bodies, digests, slot: 0 }
    }

    fn body(&self) -> Range<usize> {
        let start = self.slot * self.plan.record_size;
        start..start + self.plan.record_size
    }
}

impl Source for Generator {
    fn next(&mut self) -> Result<Next<'_>, crate::lines::InputError> {
        if self.given == self.share {
            return Ok(Next::End);
        }
        let index = self.given * self.plan.lanes + self.lane;
        let body = self.body();
        let stamp = match self.plan.put_times {
            true => shared_ns(),
            false => self.plan.stamp(index, self.digests[self.slot]),
        };
        self.given += 1;
        self.slot = if self.slot + 1 == self.digests.len() { 0 } else { self.slot + 1 };
        let data = &mut self.bodies[body];
        data[..8].copy_from_slice(&index.to_le_bytes());
        data[8..STAMP_BYTES].copy_from_slice(&stamp.to_le_bytes());
        Ok(Next::Item(Item { key: self.plan.keys.of(index), data, tag: index, number: index }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn plan(seed: u64, record_size: usize, lanes: u64) -> Plan {
        Plan { keys: Arc::new(Keys::new(50, seed)), seed, record_size, lanes, put_times: false }
    }

    fn all(plan: &Plan, lane: u64, records: u64) -> Vec<(u64, String, Vec<u8>)> {
        let mut generator = Generator::new(plan.clone(), lane, Some(records));
        let mut items = Vec::new();
        while let Ok(Next::Item(item)) = generator.next() {
            items.push((item.tag, item.key.to_owned(), item.data.to_vec()));
        }
        items
    }

    #[test]
    fn the_same_seed_makes_the_same_records_and_another_makes_others() {
        assert_eq!(all(&plan(7, 100, 2), 1, 99), all(&plan(7, 100, 2), 1, 99));
        assert_ne!(all(&plan(7, 100, 2), 1, 99), all(&plan(8, 100, 2), 1, 99));
    }

    #[test]
    fn the_lanes_share_every_record_once_and_all_are_distinct_and_identified() {
        let plan = plan(3, 16, 3);
        let items: Vec<_> = (0..3).flat_map(|lane| all(&plan, lane, 1000)).collect();
        let indices: HashSet<_> = items.iter().map(|(index, ..)| *index).collect();
        assert_eq!((items.len(), indices.len()), (1000, 1000));
        assert!(indices.iter().all(|index| *index < 1000));
        assert!(items.iter().all(|(index, key, data)| plan.identify(key, data) == Some(*index)));
    }

    #[test]
    fn a_changed_byte_a_changed_length_and_another_key_are_not_identified() {
        let plan = plan(5, 40, 1);
        let (_, key, data) = all(&plan, 0, 10).pop().unwrap();
        assert_eq!(plan.identify(&key, &data), Some(9));
        for place in 0..data.len() {
            let mut harmed = data.clone();
            harmed[place] ^= 1;
            assert_eq!(plan.identify(&key, &harmed), None, "byte {place}");
        }
        assert_eq!(plan.identify(&key, &data[..39]), None);
        assert_eq!(plan.identify("another", &data), None);
    }

    #[test]
    fn a_body_that_is_used_again_carries_the_new_stamp() {
        let plan = plan(5, 1 << 20, 1);
        let items = all(&plan, 0, 9);
        assert_eq!(items.len(), 9);
        assert!(items.iter().all(|(index, key, data)| plan.identify(key, data) == Some(*index)));
    }

    #[test]
    fn keys_are_distinct_and_all_are_drawn() {
        let keys = Keys::new(1000, 42);
        let distinct: HashSet<_> = (0..1000).map(|number| &keys.text[number * 8..number * 8 + 8]).collect();
        assert_eq!(distinct.len(), 1000);
        let drawn: HashSet<_> = (0..20_000).map(|index| keys.of(index)).collect();
        assert_eq!(drawn.len(), 1000);
    }

    #[test]
    fn a_record_that_is_to_carries_the_moment_of_its_put() {
        let before = shared_ns();
        let items = all(&Plan { put_times: true, ..plan(5, 100, 1) }, 0, 3);
        let times: Vec<u64> = items.iter().filter_map(|(_, _, data)| put_ns(data)).collect();
        assert!(times.is_sorted() && times[0] >= before && times[2] <= shared_ns(), "{times:?}");
        assert_eq!((times.len(), put_ns(&[0; 15])), (3, None));
    }
}
