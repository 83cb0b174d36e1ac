//! Reads back what an aggregate was made of, from its wire form: for records that leave it again, as it expires, is
//! routed anew, or is judged by a newer shard map.
//!
//! The bytes are our own, written by the same module, and read in the same order. A walk makes a list of the keys first,
//! one allocation; a single member, such as that of a record that goes alone, costs none.

use super::{Aggregate, EXPLICIT_TABLE, KEY_TABLE, RECORD, RECORD_DATA, RECORD_EXPLICIT, RECORD_KEY};
use crate::record::HashKey;

/// A member as it stands in an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written<'a> {
    /// The partition key.
    pub partition_key: &'a str,
    /// The explicit hash key, if it has one.
    pub explicit_hash_key: Option<HashKey>,
    /// The payload.
    pub data: &'a [u8],
}

/// Walks the members of an aggregate.
pub(super) struct Members<'a> {
    keys: Vec<&'a str>,
    explicit_keys: Vec<HashKey>,
    records: Reader<'a>,
}

impl<'a> Members<'a> {
    pub(super) fn of(aggregate: &'a Aggregate) -> Members<'a> {
        let [keys, explicit_keys, records] = aggregate.tables();
        Members {
            keys: table(keys, KEY_TABLE).collect(),
            explicit_keys: table(explicit_keys, EXPLICIT_TABLE).map(hash_key).collect(),
            records: Reader(records),
        }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Written<'a>;

    fn next(&mut self) -> Option<Written<'a>> {
        let Parts { key, explicit, data } = self.records.record()?;
        let explicit_hash_key = explicit.map(|number| self.explicit_keys[number]);
        Some(Written { partition_key: self.keys[key], explicit_hash_key, data })
    }
}

/// The first member, which has the first of either key.
pub(super) fn first(aggregate: &Aggregate) -> Option<Written<'_>> {
    let [keys, explicit_keys, records] = aggregate.tables();
    let Parts { explicit, data, .. } = Reader(records).record()?;
    let partition_key = table(keys, KEY_TABLE).next()?;
    let explicit_hash_key = explicit.and_then(|_| table(explicit_keys, EXPLICIT_TABLE).next()).map(hash_key);
    Some(Written { partition_key, explicit_hash_key, data })
}

/// The texts of a table of keys.
fn table(bytes: &[u8], head: u8) -> impl Iterator<Item = &str> {
    let mut rest = Reader(bytes);
    std::iter::from_fn(move || (!rest.0.is_empty()).then(|| rest.text(head)))
}

fn hash_key(decimal: &str) -> HashKey {
    HashKey(decimal.parse().expect("enter_explicit_key wrote a number of 128 bits"))
}

/// Numbers of the keys, and the payload.
struct Parts<'a> {
    key: usize,
    explicit: Option<usize>,
    data: &'a [u8],
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn record(&mut self) -> Option<Parts<'a>> {
        if self.0.is_empty() {
            return None;
        }
        self.expect_head(RECORD);
        self.varint();
        self.expect_head(RECORD_KEY);
        let key = self.varint();
        let mut explicit = None;
        if self.0.first() == Some(&RECORD_EXPLICIT) {
            self.expect_head(RECORD_EXPLICIT);
            explicit = Some(self.varint());
        }
        self.expect_head(RECORD_DATA);
        Some(Parts { key, explicit, data: self.bytes() })
    }

    fn text(&mut self, head: u8) -> &'a str {
        self.expect_head(head);
        str::from_utf8(self.bytes()).expect("keys were copied from a str")
    }

    fn bytes(&mut self) -> &'a [u8] {
        let len = self.varint();
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }

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
        let (&byte, rest) = self.0.split_first().expect("append_at wrote its fields whole");
        self.0 = rest;
        byte
    }
}
