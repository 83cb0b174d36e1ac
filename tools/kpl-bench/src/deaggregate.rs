//! What a consumer makes of a Kinesis record: a de-aggregator that shares no code with the library's codec.
//!
//! ```text
//! F3 89 9A C2 | AggregatedRecord in protobuf | MD5 of the protobuf, 16 bytes
//! AggregatedRecord: 1 partition keys, 2 explicit hash keys, 3 records
//! Record: 1 index of its partition key, 2 index of its explicit hash key, 3 data, 4 tags
//! ```
//!
//! Bytes that are not an aggregate in every respect are one raw record, as consumers have it. And as AWS's consumer
//! library has it, an aggregate is dropped *whole* if the hash key of any member lies outside the range of the shard
//! that holds it. The protobuf is read by hand, from the format's description alone.

use md5::{Digest, Md5};

const MAGIC: &[u8] = &[0xF3, 0x89, 0x9A, 0xC2];
const DIGEST_BYTES: usize = 16;

/// The hash keys of a shard, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashRange {
    pub first: u128,
    pub last: u128,
}

impl HashRange {
    /// Whether a partition key's records belong here.
    pub fn holds(&self, key: &str) -> bool {
        (self.first..=self.last).contains(&hash_key(key))
    }

    /// Whether two ranges have a hash key in common.
    pub fn meets(&self, other: &HashRange) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

fn hash_key(key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(key).into())
}

/// What a Kinesis record holds for its consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contents<'a> {
    /// One user record, as it is.
    Raw,
    /// User records, and how many more it claims to hold that cannot be read.
    Members { members: Vec<Member<'a>>, unreadable: u64 },
    /// Nothing: of these members one or more do not belong into the shard. `unreadable` as above.
    Dropped { members: Vec<Member<'a>>, unreadable: u64 },
}

/// A user record of an aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    pub key: &'a str,
    pub explicit_hash_key: Option<u128>,
    pub data: &'a [u8],
}

impl Member<'_> {
    fn hash_key(&self) -> u128 {
        self.explicit_hash_key.unwrap_or_else(|| hash_key(self.key))
    }
}

/// Reads a Kinesis record's data as the consumer of a shard does.
pub fn deaggregate(data: &[u8], range: HashRange) -> Contents<'_> {
    let Some(aggregate) = verified(data).and_then(Aggregate::read) else { return Contents::Raw };
    let mut members = Vec::with_capacity(aggregate.records.len());
    let mut unreadable = 0;
    for record in &aggregate.records {
        // The first member that points past a table ends the aggregate: those before it are kept.
        match aggregate.member(record) {
            Some(member) if unreadable == 0 => members.push(member),
            _ => unreadable += 1,
        }
    }
    let belongs = |member: &Member<'_>| (range.first..=range.last).contains(&member.hash_key());
    if members.iter().all(belongs) {
        Contents::Members { members, unreadable }
    } else {
        Contents::Dropped { members, unreadable }
    }
}

/// The user records of a Kinesis record, wherever it lies: those of an aggregate, or its own data.
pub fn user_records(data: &[u8]) -> Vec<&[u8]> {
    match deaggregate(data, HashRange { first: 0, last: u128::MAX }) {
        Contents::Raw => vec![data],
        Contents::Members { members, .. } | Contents::Dropped { members, .. } => {
            members.iter().map(|member| member.data).collect()
        }
    }
}

/// The protobuf of an aggregate whose magic and digest are right.
fn verified(data: &[u8]) -> Option<&[u8]> {
    let (body, digest) = data.strip_prefix(MAGIC)?.split_last_chunk::<DIGEST_BYTES>()?;
    (!body.is_empty() && Md5::digest(body).as_slice() == digest).then_some(body)
}

#[derive(Default)]
struct Aggregate<'a> {
    keys: Vec<&'a str>,
    hash_keys: Vec<&'a str>,
    records: Vec<RawMember<'a>>,
}

#[derive(Default)]
struct RawMember<'a> {
    key: Option<u64>,
    hash_key: Option<u64>,
    data: Option<&'a [u8]>,
}

impl<'a> Aggregate<'a> {
    fn read(protobuf: &'a [u8]) -> Option<Aggregate<'a>> {
        let mut aggregate = Aggregate::default();
        let mut fields = Fields(protobuf);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Bytes(key)) => aggregate.keys.push(std::str::from_utf8(key).ok()?),
                (2, Value::Bytes(key)) => aggregate.hash_keys.push(std::str::from_utf8(key).ok()?),
                (3, Value::Bytes(record)) => aggregate.records.push(RawMember::read(record)?),
                (1..=3, _) => return None,
                _ => {}
            }
        }
        Some(aggregate)
    }

    fn member(&self, record: &RawMember<'a>) -> Option<Member<'a>> {
        let key = self.keys.get(usize::try_from(record.key?).ok()?)?;
        let explicit_hash_key = match record.hash_key {
            Some(index) => Some(self.hash_keys.get(usize::try_from(index).ok()?)?.parse().ok()?),
            None => None,
        };
        Some(Member { key, explicit_hash_key, data: record.data? })
    }
}

impl<'a> RawMember<'a> {
    /// Reads a member; one that lacks a required field is no protobuf of this kind.
    fn read(protobuf: &'a [u8]) -> Option<RawMember<'a>> {
        let mut member = RawMember::default();
        let mut fields = Fields(protobuf);
        while let Some((number, value)) = fields.next()? {
            match (number, value) {
                (1, Value::Number(index)) => member.key = Some(index),
                (2, Value::Number(index)) => member.hash_key = Some(index),
                (3, Value::Bytes(data)) => member.data = Some(data),
                (1..=3, _) => return None,
                _ => {}
            }
        }
        (member.key.is_some() && member.data.is_some()).then_some(member)
    }
}

/// The fields of a protobuf message that are still to be read.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of four or eight bytes: in no field that is read here.
    Fixed,
}

impl<'a> Fields<'a> {
    /// The next field, `Some(None)` at the end, `None` where the bytes are no protobuf.
    fn next(&mut self) -> Option<Option<(u64, Value<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        (tag >> 3 != 0).then_some(Some((tag >> 3, value)))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: HashRange = HashRange { first: 0, last: u128::MAX };

    fn wrapped(protobuf: &[u8]) -> Vec<u8> {
        let digest = Md5::digest(protobuf);
        [MAGIC, protobuf, digest.as_slice()].concat()
    }

    /// Keys "a" and "b", hash key "7"; three members, the second empty and under "b", the third under hash key 7.
    fn three_members() -> Vec<u8> {
        let mut bytes = b"\x0A\x01a\x0A\x01b\x12\x017".to_vec();
        bytes.extend(b"\x1A\x06\x08\x00\x1A\x02hi");
        bytes.extend(b"\x1A\x04\x08\x01\x1A\x00");
        bytes.extend(b"\x1A\x07\x08\x00\x10\x00\x1A\x01!");
        bytes
    }

    #[test]
    fn members_come_out_in_order_with_key_hash_key_and_data() {
        let data = wrapped(&three_members());
        let member = |key, explicit_hash_key, data| Member { key, explicit_hash_key, data };
        let members = vec![member("a", None, &b"hi"[..]), member("b", None, b""), member("a", Some(7), b"!")];
        assert_eq!(deaggregate(&data, WHOLE), Contents::Members { members, unreadable: 0 });
    }

    #[test]
    fn anything_that_is_not_an_aggregate_in_every_respect_is_one_raw_record() {
        let good = wrapped(&three_members());
        for place in 0..good.len() {
            let mut harmed = good.clone();
            harmed[place] ^= 0x10;
            assert_eq!(deaggregate(&harmed, WHOLE), Contents::Raw, "byte {place}");
            assert_eq!(deaggregate(&good[..place], WHOLE), Contents::Raw, "cut at {place}");
        }
        for protobuf in [
            &b""[..],
            b"\x1A\x05\x08\x00",                                 // a length past the end
            b"\x1A\x02\x08\x00",                                 // a member without data
            b"\x1A\x02\x1A\x00",                                 // a member without key
            b"\x0A\x01\xFF",                                     // a key that is not UTF-8
            b"\x0B",                                             // a group
            b"\x00\x00",                                         // field number 0
            b"\x08\x00",                                         // a key that is a number
            b"\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", // a number of more than 64 bits
        ] {
            assert_eq!(deaggregate(&wrapped(protobuf), WHOLE), Contents::Raw, "{protobuf:?}");
        }
    }

    #[test]
    fn fields_that_nobody_knows_and_tags_are_passed_over() {
        let protobuf = b"\x0A\x01a\x1A\x0B\x08\x00\x1A\x01x\x22\x04\x0A\x02nv\x25\0\0\0\0\x29\0\0\0\0\0\0\0\0\x30\x05";
        let members = vec![Member { key: "a", explicit_hash_key: None, data: b"x" }];
        assert_eq!(deaggregate(&wrapped(protobuf), WHOLE), Contents::Members { members, unreadable: 0 });
    }

    #[test]
    fn a_member_whose_key_is_in_no_table_ends_the_aggregate() {
        let protobuf = b"\x0A\x01a\x1A\x05\x08\x00\x1A\x01x\x1A\x05\x08\x01\x1A\x01y\x1A\x05\x08\x00\x1A\x01z";
        let members = vec![Member { key: "a", explicit_hash_key: None, data: b"x" }];
        assert_eq!(deaggregate(&wrapped(protobuf), WHOLE), Contents::Members { members, unreadable: 2 });
    }

    #[test]
    fn one_member_outside_the_shards_range_drops_the_whole_aggregate() {
        let data = wrapped(&three_members());
        // MD5 of "a" is 0cc1…, of "b" 92eb…; 7 is 7.
        let below_b = HashRange { first: 0, last: 0x92 << 120 };
        assert!(
            matches!(deaggregate(&data, below_b), Contents::Dropped { members, unreadable: 0 } if members.len() == 3)
        );
        let above_seven = HashRange { first: 8, last: u128::MAX };
        assert!(
            matches!(deaggregate(&data, above_seven), Contents::Dropped { members, unreadable: 0 } if members.len() == 3)
        );
        let just = HashRange { first: 7, last: u128::from_be_bytes(Md5::digest("b").into()) };
        assert!(matches!(deaggregate(&data, just), Contents::Members { .. }));
    }
}
