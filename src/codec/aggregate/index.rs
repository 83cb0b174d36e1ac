//! What finds a key in an aggregate that grows.
//!
//! ```text
//!   tag ──▶ KeyEntry { tag, at, number } ──▶ the key's text, where it stands in the aggregate's key table
//! ```
//!
//! It is of use while members are appended, and only then: a sealed aggregate is read from its wire form. So it is apart,
//! in a box that the sealed aggregate hands on to the next one that opens, and costs nothing for what is in flight.
//!
//! Cost: 12 bytes for each distinct key and 32 for each distinct explicit hash key, at a load of 7/16 to 7/8, once for
//! each open aggregate. A key's text is stored once, in wire form; a tag of 32 bits spares nearly every other comparison.

use hashbrown::HashTable;

use crate::record::HashKey;

/// Numbers the distinct keys of one aggregate.
#[derive(Default)]
pub struct KeyIndex {
    keys: HashTable<KeyEntry>,
    explicit: HashTable<ExplicitEntry>,
}

struct KeyEntry {
    tag: u32,
    /// Where the key's length begins in the key table.
    at: u32,
    number: u32,
}

struct ExplicitEntry {
    hash_key: HashKey,
    number: u32,
}

impl KeyIndex {
    /// Forgets all keys and keeps the room.
    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.explicit.clear();
    }

    /// Entries that it has room for.
    pub fn capacity(&self) -> usize {
        self.keys.capacity() + self.explicit.capacity()
    }

    /// Distinct keys.
    pub(super) fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Distinct explicit hash keys.
    pub(super) fn explicit_keys(&self) -> usize {
        self.explicit.len()
    }

    /// The number of the key with this tag that `is_at` finds where it is sent to look.
    pub(super) fn find(&self, tag: u64, is_at: impl Fn(usize) -> bool) -> Option<u32> {
        let tag = tag as u32;
        let found = self.keys.find(spread(tag), |entry| entry.tag == tag && is_at(entry.at as usize));
        found.map(|entry| entry.number)
    }

    /// Where the length of a key with this tag stands, which may be another key.
    pub(super) fn place_of(&self, tag: u64) -> Option<usize> {
        let tag = tag as u32;
        self.keys.find(spread(tag), |entry| entry.tag == tag).map(|entry| entry.at as usize)
    }

    /// Numbers a key whose length will stand at `at`.
    pub(super) fn enter(&mut self, tag: u64, at: usize) {
        let (tag, at, number) = (tag as u32, at as u32, self.keys.len() as u32);
        self.keys.insert_unique(spread(tag), KeyEntry { tag, at, number }, |entry| spread(entry.tag));
    }

    /// The number of an explicit hash key.
    pub(super) fn find_explicit(&self, hash_key: HashKey) -> Option<u32> {
        let found = self.explicit.find(explicit_tag(hash_key), |entry| entry.hash_key == hash_key);
        found.map(|entry| entry.number)
    }

    /// Numbers an explicit hash key.
    pub(super) fn enter_explicit(&mut self, hash_key: HashKey) {
        let number = self.explicit.len() as u32;
        let entry = ExplicitEntry { hash_key, number };
        self.explicit.insert_unique(explicit_tag(hash_key), entry, |entry| explicit_tag(entry.hash_key));
    }
}

/// The table looks at the highest bits and at the lowest.
fn spread(tag: u32) -> u64 {
    u64::from(tag) << 32 | u64::from(tag)
}

/// Mixes an explicit hash key: users choose round numbers, such as the starts of shards, whose low bits are all alike.
fn explicit_tag(HashKey(value): HashKey) -> u64 {
    let folded =
        (value as u64 ^ 0x9E37_79B9_7F4A_7C15) as u128 * ((value >> 64) as u64 ^ 0xD1B5_4A32_D192_ED03) as u128;
    folded as u64 ^ (folded >> 64) as u64
}
