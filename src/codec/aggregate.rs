//! The aggregated record of the KPL, written in place in wire form as its members come.
//!
//! ```text
//! F3 89 9A C2 │ 0A len key │ 0A len key │ … │ 12 len decimal │ … │ 1A len (08 key# [10 explicit#] 1A len data) │ … │ MD5
//!    magic    └────────── keys ─────────────┴── explicit keys ───┴───────────────── records ─────────────────────┘
//! ```
//!
//! The three fields of the protobuf message `AggregatedRecord` grow side by side, each in its own buffer, so that a
//! member is appended with one copy of its data and the aggregate is never serialized as a whole: requests share the
//! parts as they are.
//!
//! # Promises
//! - Byte for byte what AWS's aggregators write for the same members: fields in the order 1, 2, 3, keys
//!   de-duplicated and numbered by first appearance, explicit hash keys in canonical decimal, and the fields 1
//!   and 3 of a member written even when they are 0 or empty.
//! - The size is exact, before and after: [`Aggregate::place`] says what the size would be, and appending asserts it.
//!
//! # Refusals
//! It bounds nothing and seals nothing: how large an aggregate grows, and whether explicit and plain members mix, the
//! aggregator decides. An aggregate is below 4 GiB, as the engine's limits see to.
//!
//! # Cost
//! One table look-up per key and member, by a tag that the caller has at hand (bits of the key's MD5), and one
//! comparison of the bytes. Nothing is allocated once the buffers have grown; [`Aggregate::clear`] keeps them. Buffers
//! double, up to the size that the aggregate may reach ([`Aggregate::append_at`]); [`Aggregate::seal`] gives back what was
//! too much, and the [`KeyIndex`], so that an aggregate at rest is its wire form and at most a sixteenth of slack. How requests
//! share those bytes, and the buffers come back, is told in `shared`.

mod index;
mod shared;
mod written;

use std::ptr;
use std::sync::Arc;

use md5::{Digest, Md5};

use super::body::Buffers;
use super::hash_key::Decimal;
use crate::limits::{AGGREGATE_DIGEST_BYTES, AGGREGATE_MAGIC};
use crate::record::{HashKey, Placement, Record};

pub use index::KeyIndex;
use written::Members;
pub use written::Written;

/// Bytes of the wire form around the fields.
const FRAME_BYTES: usize = AGGREGATE_MAGIC.len() + AGGREGATE_DIGEST_BYTES;

/// Heads of the fields, number and wire type.
const KEY_TABLE: u8 = 0x0A;
const EXPLICIT_TABLE: u8 = 0x12;
const RECORD: u8 = 0x1A;
const RECORD_KEY: u8 = 0x08;
const RECORD_EXPLICIT: u8 = 0x10;
const RECORD_DATA: u8 = 0x1A;

/// A user record as it goes into an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// The partition key, in UTF-8.
    pub partition_key: &'a [u8],
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
    /// While it grows.
    index: Option<Box<KeyIndex>>,
    /// Bytes of the three fields.
    len: usize,
    /// Whether requests may share the buffers: they are in `shell` then, and those above are empty.
    shared: bool,
    /// Whose the buffers are while they are shared; else empty.
    shell: Option<Arc<Buffers>>,
}

/// Where a member would stand in an aggregate, and what that would weigh. It holds until the aggregate changes.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    key: u32,
    key_is_new: bool,
    explicit: Option<(u32, bool)>,
    /// Length of the `Record` message, without its head.
    record_len: usize,
    /// Size of the aggregate with the member.
    size: usize,
}

impl Place {
    /// Bytes of the aggregate, if the member were appended.
    pub fn size(&self) -> usize {
        self.size
    }
}

impl Aggregate {
    /// An aggregate without members.
    pub fn new() -> Aggregate {
        Aggregate::default()
    }

    /// Appends `member`, whatever the size.
    ///
    /// # Panics
    ///
    /// If the aggregate would reach 4 GiB.
    pub fn append(&mut self, member: Member<'_>) {
        let place = self.place(&member);
        self.append_at(&member, place, usize::MAX);
    }

    /// Ends the growth: no member is appended until it is cleared. Buffers with more than a sixteenth to spare are cut to
    /// what they hold. The index is the caller's, for the next aggregate that opens.
    pub fn seal(&mut self) -> Option<Box<KeyIndex>> {
        trim(&mut self.keys);
        trim(&mut self.explicit_keys);
        trim(&mut self.records);
        self.index.take()
    }

    /// Gives an aggregate without members an index that another has done with.
    pub fn open_with(&mut self, mut index: Box<KeyIndex>) {
        assert!(self.is_empty(), "an index numbers the keys of an aggregate from the first");
        index.clear();
        self.index = Some(index);
    }

    /// Bytes that its buffers occupy, the index's not counted.
    pub fn capacity(&self) -> usize {
        self.keys.capacity() + self.explicit_keys.capacity() + self.records.capacity() + self.shared_capacity()
    }

    /// Removes all members and keeps the room, but for what others still share.
    pub fn clear(&mut self) {
        self.unshare();
        self.keys.clear();
        self.explicit_keys.clear();
        self.records.clear();
        (self.members, self.len) = (0, 0);
        if let Some(index) = &mut self.index {
            index.clear();
        }
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
        FRAME_BYTES + self.len
    }

    /// The wire form but for the digest at its end: magic, keys, explicit hash keys, records.
    pub fn parts(&self) -> [&[u8]; 4] {
        let [keys, explicit_keys, records] = self.tables();
        [&AGGREGATE_MAGIC, keys, explicit_keys, records]
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

    /// Addresses that the next member is written to, some hundred bytes of it, with its key, and where that is looked up. They
    /// are to be asked for, not to be followed.
    pub fn ends(&self) -> [*const u8; 4] {
        let (records, keys) = (self.records.as_ptr_range().end, self.keys.as_ptr_range().end);
        let index = self.index.as_deref().map_or(ptr::null(), |index| (&raw const *index).cast());
        [records, records.wrapping_add(64), keys, index]
    }

    /// The address of the key with this tag, as far as the tag tells, if it has one.
    pub fn key_text(&self, tag: u64) -> Option<*const u8> {
        Some(self.keys.get(self.index.as_ref()?.place_of(tag)?)?)
    }

    /// The members in their order, read back from the wire form.
    pub fn members(&self) -> impl Iterator<Item = Written<'_>> {
        Members::of(self)
    }

    /// The first member.
    pub fn first(&self) -> Option<Written<'_>> {
        written::first(self)
    }

    /// Where `member` would stand, and what the aggregate would weigh with it.
    // Always, as is the next one: each record comes by here, and what would be handed over by way of memory stays in registers.
    #[inline(always)]
    pub fn place(&self, member: &Member<'_>) -> Place {
        let mut size = self.size();
        let index = self.index.as_deref();
        let text = member.partition_key;
        let found = index.and_then(|index| index.find(member.key_tag, |at| text_is_at(&self.keys, at, text)));
        let (key, key_is_new) = match found {
            Some(number) => (number, false),
            None => {
                size += field_len(text.len());
                (index.map_or(0, KeyIndex::keys) as u32, true)
            }
        };
        let mut record_len = 1 + varint_len(u64::from(key)) + field_len(member.data.len());
        let explicit = member.explicit_hash_key.map(|hash_key| {
            let (number, is_new) = match index.and_then(|index| index.find_explicit(hash_key)) {
                Some(number) => (number, false),
                None => {
                    size += field_len(Decimal::len_of(hash_key));
                    (index.map_or(0, KeyIndex::explicit_keys) as u32, true)
                }
            };
            record_len += 1 + varint_len(u64::from(number));
            (number, is_new)
        });
        size += field_len(record_len);
        Place { key, key_is_new, explicit, record_len, size }
    }

    /// Appends `member` at its `place` in this aggregate as it is now. If that will not become larger than `size_max` bytes
    /// (but for a first member), its buffers need not either.
    ///
    /// # Panics
    ///
    /// If the aggregate would reach 4 GiB, or the place is not that of the member; where assertions for debugging are on, also
    /// if it is not a place in the aggregate as it is now.
    #[inline(always)]
    pub fn append_at(&mut self, member: &Member<'_>, place: Place, size_max: usize) {
        assert!(u32::try_from(place.size).is_ok(), "an aggregate is below 4 GiB");
        // What all buffers together may still grow by.
        let room = size_max.saturating_sub(self.size());
        if place.key_is_new {
            // Without an index every key is new, so that this is asked of every member of a sealed aggregate.
            assert!(self.index.is_some() || self.is_empty(), "a sealed aggregate takes no member");
            self.enter_key(member, room);
        }
        if let (Some((_, true)), Some(hash_key)) = (place.explicit, member.explicit_hash_key) {
            self.enter_explicit_key(hash_key, room);
        }
        let records = &mut self.records;
        let at = records.len();
        reserve(records, field_len(place.record_len), room);
        push_number(records, RECORD, place.record_len as u32); // below 4 GiB, as the aggregate is, and so are all below
        push_number(records, RECORD_KEY, place.key);
        if let Some((number, _)) = place.explicit {
            push_number(records, RECORD_EXPLICIT, number);
        }
        push_number(records, RECORD_DATA, member.data.len() as u32);
        records.extend_from_slice(member.data);
        assert_eq!(records.len(), at + field_len(place.record_len), "the size is exact");
        // Every member weighs bytes, so that their number fits where the size does.
        self.members += 1;
        self.len = place.size - FRAME_BYTES;
        debug_assert_eq!(
            self.len,
            self.keys.len() + self.explicit_keys.len() + self.records.len(),
            "the size is exact"
        );
    }

    /// Writes a new key to its table.
    fn enter_key(&mut self, member: &Member<'_>, room: usize) {
        let index = self.index.get_or_insert_default();
        let text = member.partition_key;
        reserve(&mut self.keys, field_len(text.len()), room);
        index.enter(member.key_tag, self.keys.len() + 1);
        push_bytes(&mut self.keys, KEY_TABLE, text);
    }

    fn enter_explicit_key(&mut self, hash_key: HashKey, room: usize) {
        let decimal = Decimal::new(hash_key);
        reserve(&mut self.explicit_keys, field_len(decimal.as_bytes().len()), room);
        self.index.get_or_insert_default().enter_explicit(hash_key);
        push_bytes(&mut self.explicit_keys, EXPLICIT_TABLE, decimal.as_bytes());
    }
}

/// Appends a field of a number, or the head of a field of bytes: a copy of fixed length, which is then cut, where there is
/// room for that. Bytes written one by one would have to reach the cache before they could be read together.
#[inline]
fn push_number(out: &mut Vec<u8>, field: u8, value: u32) {
    let (varint, varint_len) = varint(value);
    let bytes = (varint << 8 | u64::from(field)).to_le_bytes();
    let end = out.len() + 1 + varint_len;
    if out.capacity() - out.len() >= bytes.len() {
        out.extend_from_slice(&bytes);
        out.truncate(end);
    } else {
        out.extend_from_slice(&bytes[..1 + varint_len]);
    }
}

/// Appends a field of bytes.
#[inline]
fn push_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    push_number(out, field, bytes.len() as u32); // below 4 GiB
    out.extend_from_slice(bytes);
}

/// A varint of up to five bytes, the first of them lowest, and how many there are.
#[inline]
fn varint(value: u32) -> (u64, usize) {
    let value = u64::from(value);
    match value {
        0..0x80 => (value, 1),
        0x80..0x4000 => (value & 0x7F | 0x80 | value >> 7 << 8, 2),
        _ => {
            let len = varint_len(value);
            let byte = |at: usize| (value >> (7 * at) & 0x7F | if at + 1 < len { 0x80 } else { 0 }) << (8 * at);
            ((0..len).map(byte).sum(), len)
        }
    }
}

/// Makes room for `more` bytes: doubles the buffer, but has it grow by `room` at most, if that is enough.
fn reserve(buffer: &mut Vec<u8>, more: usize, room: usize) {
    if buffer.capacity() - buffer.len() < more {
        grow(buffer, more, room);
    }
}

#[cold]
fn grow(buffer: &mut Vec<u8>, more: usize, room: usize) {
    buffer.reserve_exact(buffer.capacity().max(BUFFER_BYTES_MIN).min(room).max(more));
}

/// What a buffer has at least. Allocators round smaller ones up, or nearly so.
const BUFFER_BYTES_MIN: usize = 64;

/// Cuts a buffer with more than a sixteenth to spare. That costs a call of the allocator, which as a rule moves nothing.
fn trim(buffer: &mut Vec<u8>) {
    if buffer.capacity() - buffer.len() > (buffer.len() / 16).max(BUFFER_BYTES_MIN) {
        buffer.shrink_to_fit();
    }
}

/// Whether a key table has `text` where its length begins. Lengths are prefix-free, so one that differs never compares.
fn text_is_at(table: &[u8], at: usize, text: &[u8]) -> bool {
    let mut rest = &table[at..];
    let mut len = text.len();
    loop {
        let byte = if len >= 0x80 { len as u8 | 0x80 } else { len as u8 };
        if rest.first() != Some(&byte) {
            return false;
        }
        rest = &rest[1..];
        if len < 0x80 {
            return rest.starts_with(text);
        }
        len >>= 7;
    }
}

/// Bytes of a length-delimited field with a head of one byte.
fn field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Bytes of an aggregate whose only member is `record`, at most, if it looks like an aggregate itself and so would be taken for
/// one unless it were wrapped.
#[inline]
pub fn wrapped_size(record: &Record<'_>) -> Option<usize> {
    record.data.starts_with(&AGGREGATE_MAGIC).then(|| size_when_wrapped(record))
}

#[cold]
fn size_when_wrapped(record: &Record<'_>) -> usize {
    // One that is still to be drawn has no more digits than the greatest.
    let explicit_hash_key = match record.placement {
        Placement::ByKey => None,
        Placement::Explicit(hash_key) => Some(hash_key),
        Placement::Drawn => Some(HashKey::MAX),
    };
    let member =
        Member { partition_key: record.partition_key.as_bytes(), key_tag: 0, explicit_hash_key, data: record.data };
    Aggregate::new().place(&member).size()
}

/// Bytes of a varint, seven bits in each. Nearly all have one or two.
#[inline]
fn varint_len(value: u64) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        _ => (64 - value.leading_zeros() as usize).div_ceil(7),
    }
}

#[cfg(test)]
mod tests;
