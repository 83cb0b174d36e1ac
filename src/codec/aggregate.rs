//! The aggregated record of the KPL, written in place in wire form as its members come.
//!
//! ```text
//! F3 89 9A C2 │ 0A len key │ 0A len key │ … │ 12 len decimal │ … │ 1A len (08 key# [10 explicit#] 1A len data) │ … │ MD5
//!    magic    └────────── keys ─────────────┴── explicit keys ───┴───────────────── records ─────────────────────┘
//! ```
//!
//! The three fields of the protobuf message `AggregatedRecord` grow side by side, each in its own buffer, so that a
//! member is appended with one copy of its data and the aggregate is never serialized as a whole: the parts go
//! to the request as they are.
//!
//! # Promises
//! - Byte for byte what AWS's aggregators write for the same members: fields in the order 1, 2, 3, keys
//!   de-duplicated and numbered by first appearance, explicit hash keys in canonical decimal, and the fields 1
//!   and 3 of a member written even when they are 0 or empty.
//! - The size is exact, before and after: [`Aggregate::fit`] says what the size would be, and appending asserts it.
//!
//! # Refusals
//! It bounds nothing and seals nothing: how large an aggregate grows, and whether explicit and plain members mix, the
//! aggregator decides. An aggregate is below 4 GiB, as the engine's limits see to.
//!
//! # Cost
//! One table look-up per key and member, by a tag that the caller has at hand (bits of the key's MD5), and one
//! comparison of the bytes. Nothing is allocated once the buffers have grown; [`Aggregate::clear`] keeps them.

use hashbrown::HashTable;
use md5::{Digest, Md5};

use super::hash_key::Decimal;
use crate::limits::{AGGREGATE_DIGEST_BYTES, AGGREGATE_MAGIC};
use crate::record::{HashKey, Record};

/// Heads of the fields, number and wire type.
const KEY_TABLE: u8 = 0x0A;
const EXPLICIT_TABLE: u8 = 0x12;
const RECORD: u8 = 0x1A;
const RECORD_KEY: u8 = 0x08;
const RECORD_EXPLICIT: u8 = 0x10;
const RECORD_DATA: u8 = 0x1A;

/// A user record as it goes into an aggregate, and as it is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The partition key.
    pub partition_key: &'a str,
    /// Well-mixed bits that depend on the partition key alone: the low half of its MD5. Under a wrong tag the
    /// aggregate stays correct, but the key may be written twice.
    pub key_tag: u64,
    /// The explicit hash key, if it has one.
    pub explicit_hash_key: Option<HashKey>,
    /// The payload.
    pub data: &'a [u8],
}

/// An aggregate that grows. Written by its shard's aggregator alone; bounded by `aggregation_max_size`.
#[derive(Default)]
pub struct Aggregate {
    /// Field 1 in wire form.
    keys: Vec<u8>,
    /// Field 2 in wire form.
    explicit_keys: Vec<u8>,
    /// Field 3 in wire form.
    records: Vec<u8>,
    members: u32,
    key_entries: Vec<KeyEntry>,
    explicit_entries: Vec<HashKey>,
    /// Indices into `key_entries`, by tag.
    key_index: HashTable<u32>,
    /// Indices into `explicit_entries`, by [`explicit_tag`].
    explicit_index: HashTable<u32>,
}

/// Where a key's text stands in `keys`.
struct KeyEntry {
    tag: u64,
    start: u32,
    end: u32,
}

/// A member that was measured against an aggregate, and not appended yet.
pub struct Fit<'a> {
    aggregate: &'a mut Aggregate,
    member: Member<'a>,
    place: Place,
}

/// Where a member's keys would stand, and what it would weigh.
#[derive(Clone, Copy)]
struct Place {
    key: u32,
    key_is_new: bool,
    explicit: Option<(u32, bool)>,
    /// Length of the `Record` message, without its head.
    record_len: usize,
    /// Size of the aggregate with the member.
    size: usize,
}

impl Fit<'_> {
    /// Bytes of the aggregate, if the member were appended.
    pub fn size(&self) -> usize {
        self.place.size
    }

    /// Appends the member.
    pub fn append(self) {
        self.aggregate.append_at(&self.member, self.place);
    }
}

impl Aggregate {
    /// An aggregate without members.
    pub fn new() -> Aggregate {
        Aggregate::default()
    }

    /// Measures `member` against this aggregate: `fit.size()` is what it would weigh, `fit.append()` appends.
    pub fn fit<'a>(&'a mut self, member: Member<'a>) -> Fit<'a> {
        let place = self.place(&member);
        Fit { aggregate: self, member, place }
    }

    /// Appends `member`, whatever the size.
    ///
    /// # Panics
    ///
    /// If the aggregate would reach 4 GiB.
    pub fn append(&mut self, member: Member<'_>) {
        let place = self.place(&member);
        self.append_at(&member, place);
    }

    /// Removes all members and keeps the room.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.explicit_keys.clear();
        self.records.clear();
        self.members = 0;
        self.key_entries.clear();
        self.explicit_entries.clear();
        self.key_index.clear();
        self.explicit_index.clear();
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.members == 0
    }

    /// How many members there are.
    pub fn count(&self) -> usize {
        self.members as usize
    }

    /// Bytes in wire form, magic and digest included; so 20 without members.
    pub fn size(&self) -> usize {
        AGGREGATE_MAGIC.len() + self.message_len() + AGGREGATE_DIGEST_BYTES
    }

    /// Bytes in wire form, if `member` were appended.
    pub fn size_with(&self, member: Member<'_>) -> usize {
        self.place(&member).size
    }

    /// The wire form but for the digest at its end: magic, keys, explicit hash keys, records.
    pub fn parts(&self) -> [&[u8]; 4] {
        [&AGGREGATE_MAGIC, &self.keys, &self.explicit_keys, &self.records]
    }

    /// The digest at the end of the wire form: MD5 over the parts after the magic.
    pub fn digest(&self) -> [u8; AGGREGATE_DIGEST_BYTES] {
        let [_, message @ ..] = self.parts();
        message.iter().fold(Md5::new(), |md5, part| md5.chain_update(part)).finalize().into()
    }

    /// Appends the whole wire form to `out`, [`Aggregate::size`] bytes.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        out.reserve(self.size());
        for part in self.parts() {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(&self.digest());
    }

    /// The members in their order, read back from the wire form.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        Members { aggregate: self, rest: &self.records }
    }

    /// One member, counted from 0. It costs a step for each member before it.
    pub fn member(&self, index: usize) -> Option<Member<'_>> {
        self.members().nth(index)
    }

    fn message_len(&self) -> usize {
        self.keys.len() + self.explicit_keys.len() + self.records.len()
    }

    fn place(&self, member: &Member<'_>) -> Place {
        let mut size = self.size();
        let found = self.key_index.find(member.key_tag, |&index| {
            let entry = &self.key_entries[index as usize];
            entry.tag == member.key_tag && self.key_text(entry) == member.partition_key.as_bytes()
        });
        let (key, key_is_new) = match found {
            Some(&index) => (index, false),
            None => {
                size += field_len(member.partition_key.len());
                (self.key_entries.len() as u32, true)
            }
        };
        let mut record_len = 1 + varint_len(u64::from(key)) + field_len(member.data.len());
        let explicit = member.explicit_hash_key.map(|hash_key| {
            let tag = explicit_tag(hash_key);
            let found = self.explicit_index.find(tag, |&index| self.explicit_entries[index as usize] == hash_key);
            let (index, is_new) = match found {
                Some(&index) => (index, false),
                None => {
                    size += field_len(Decimal::len_of(hash_key));
                    (self.explicit_entries.len() as u32, true)
                }
            };
            record_len += 1 + varint_len(u64::from(index));
            (index, is_new)
        });
        size += field_len(record_len);
        Place { key, key_is_new, explicit, record_len, size }
    }

    fn append_at(&mut self, member: &Member<'_>, place: Place) {
        assert!(u32::try_from(place.size).is_ok(), "an aggregate is below 4 GiB");
        if place.key_is_new {
            self.enter_key(member);
        }
        if let (Some((_, true)), Some(hash_key)) = (place.explicit, member.explicit_hash_key) {
            self.enter_explicit_key(hash_key);
        }
        let records = &mut self.records;
        records.reserve(field_len(place.record_len));
        records.push(RECORD);
        push_varint(records, place.record_len as u64);
        records.push(RECORD_KEY);
        push_varint(records, u64::from(place.key));
        if let Some((index, _)) = place.explicit {
            records.push(RECORD_EXPLICIT);
            push_varint(records, u64::from(index));
        }
        records.push(RECORD_DATA);
        push_varint(records, member.data.len() as u64);
        records.extend_from_slice(member.data);
        // Every member weighs bytes, so that their number fits where the size does.
        self.members += 1;
        assert_eq!(self.size(), place.size, "the size is exact");
    }

    fn enter_key(&mut self, member: &Member<'_>) {
        let index = self.key_entries.len() as u32;
        self.keys.push(KEY_TABLE);
        push_varint(&mut self.keys, member.partition_key.len() as u64);
        let start = self.keys.len() as u32;
        self.keys.extend_from_slice(member.partition_key.as_bytes());
        self.key_entries.push(KeyEntry { tag: member.key_tag, start, end: self.keys.len() as u32 });
        let entries = &self.key_entries;
        self.key_index.insert_unique(member.key_tag, index, |&index| entries[index as usize].tag);
    }

    fn enter_explicit_key(&mut self, hash_key: HashKey) {
        let index = self.explicit_entries.len() as u32;
        let decimal = Decimal::new(hash_key);
        self.explicit_keys.push(EXPLICIT_TABLE);
        push_varint(&mut self.explicit_keys, decimal.as_bytes().len() as u64);
        self.explicit_keys.extend_from_slice(decimal.as_bytes());
        self.explicit_entries.push(hash_key);
        let entries = &self.explicit_entries;
        let tag = explicit_tag(hash_key);
        self.explicit_index.insert_unique(tag, index, |&index| explicit_tag(entries[index as usize]));
    }

    fn key_text(&self, entry: &KeyEntry) -> &[u8] {
        &self.keys[entry.start as usize..entry.end as usize]
    }
}

/// Walks the records of an aggregate. The bytes are our own, written by `append_at`, and read in the same order.
struct Members<'a> {
    aggregate: &'a Aggregate,
    rest: &'a [u8],
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        self.expect_head(RECORD);
        self.varint();
        self.expect_head(RECORD_KEY);
        let entry = &self.aggregate.key_entries[self.varint()];
        let mut explicit_hash_key = None;
        if self.rest.first() == Some(&RECORD_EXPLICIT) {
            self.expect_head(RECORD_EXPLICIT);
            explicit_hash_key = Some(self.aggregate.explicit_entries[self.varint()]);
        }
        self.expect_head(RECORD_DATA);
        let len = self.varint();
        let (data, rest) = self.rest.split_at(len);
        self.rest = rest;
        let text = self.aggregate.key_text(entry);
        let partition_key = str::from_utf8(text).expect("enter_key copied the key from a str");
        Some(Member { partition_key, key_tag: entry.tag, explicit_hash_key, data })
    }
}

impl Members<'_> {
    fn expect_head(&mut self, head: u8) {
        assert_eq!(self.byte(), head, "append_at wrote this field here");
    }

    fn varint(&mut self) -> usize {
        let mut value = 0;
        for shift in (0..usize::BITS).step_by(7) {
            let byte = self.byte();
            value |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }

    fn byte(&mut self) -> u8 {
        let (&byte, rest) = self.rest.split_first().expect("append_at wrote its record whole");
        self.rest = rest;
        byte
    }
}

/// Bytes of a length-delimited field with a head of one byte.
fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Bytes of an aggregate whose only member is `record`, if it looks like an aggregate itself and so would be taken for
/// one unless it were wrapped.
pub fn wrapped_size(record: &Record<'_>) -> Option<usize> {
    if !record.data.starts_with(&AGGREGATE_MAGIC) {
        return None;
    }
    let explicit_hash_key = record.explicit_hash_key;
    let member = Member { partition_key: record.partition_key, key_tag: 0, explicit_hash_key, data: record.data };
    Some(Aggregate::new().size_with(member))
}

/// Bytes of a varint, seven bits in each.
fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Mixes an explicit hash key: users choose round numbers, such as the starts of shards, whose low bits are all alike.
fn explicit_tag(HashKey(value): HashKey) -> u64 {
    let folded =
        (value as u64 ^ 0x9E37_79B9_7F4A_7C15) as u128 * ((value >> 64) as u64 ^ 0xD1B5_4A32_D192_ED03) as u128;
    folded as u64 ^ (folded >> 64) as u64
}

#[cfg(test)]
mod tests;
