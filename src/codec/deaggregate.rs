//! The members of an aggregate, read as AWS's consumers read them.
//!
//! It serves tests, fuzzing and the emulator's verdicts. It owns what it returns, and it reads with `prost`, so that
//! nothing of it is shared with the writer in [`super::aggregate`]. Of the data path, only records ask that begin with the
//! magic themselves, and only whether their digest is right.
//!
//! What is not an aggregate is one raw record: shorter than 21 bytes, without the magic, with a wrong MD5, or with a
//! message that is not of the schema. A required field that is missing counts as that, as in AWS's Java consumer,
//! and so does a partition key that is not UTF-8.
//!
//! A member whose key cannot be told, because an index is beyond its table or the explicit hash key is not a decimal
//! number of 128 bits, ends the aggregate: AWS's Java consumer throws there, so that the earlier members are kept
//! and the rest is dropped. Here it is counted.

use md5::{Digest, Md5};
use prost::Message;

use crate::limits::{AGGREGATE_DIGEST_BYTES, AGGREGATE_MAGIC};
use crate::record::HashKey;

/// What the data of a Kinesis record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deaggregated {
    /// One user record: the data itself.
    Raw,
    /// An aggregate.
    Members {
        /// The user records. A record's sub-sequence number is its index.
        members: Vec<UserRecord>,
        /// Members that were not readable, and those after them.
        dropped: usize,
    },
}

/// A member of an aggregate, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// The partition key.
    pub partition_key: String,
    /// The explicit hash key, if it has one.
    pub explicit_hash_key: Option<HashKey>,
    /// The payload.
    pub data: Vec<u8>,
}

/// Whether consumers would try to take `data` for an aggregate.
pub fn starts_with_magic(data: &[u8]) -> bool {
    data.starts_with(&AGGREGATE_MAGIC)
}

/// Whether magic and digest of an aggregate are there and right: all that consumers ask for who would try.
pub fn has_digest(data: &[u8]) -> bool {
    message(data).is_some()
}

/// Reads the data of one Kinesis record.
pub fn deaggregate(data: &[u8]) -> Deaggregated {
    message(data).and_then(AggregatedRecord::complete).map_or(Deaggregated::Raw, AggregatedRecord::into_members)
}

/// The protobuf message within `data`, if magic and digest are there and right. An empty message is none.
fn message(data: &[u8]) -> Option<&[u8]> {
    let framed = data.strip_prefix(&AGGREGATE_MAGIC)?;
    let (message, digest) = framed.split_last_chunk::<AGGREGATE_DIGEST_BYTES>()?;
    let right = !message.is_empty() && Md5::digest(message)[..] == digest[..];
    right.then_some(message)
}

#[derive(Clone, PartialEq, Message)]
struct AggregatedRecord {
    #[prost(string, repeated, tag = "1")]
    partition_key_table: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_hash_key_table: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<Record>,
}

/// Required fields are optional here, since prost would take a missing one for zero.
#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(uint64, optional, tag = "1")]
    partition_key_index: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key_index: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "3")]
    data: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "4")]
    tags: Vec<Tag>,
}

#[derive(Clone, PartialEq, Message)]
struct Tag {
    #[prost(string, optional, tag = "1")]
    key: Option<String>,
    #[prost(string, optional, tag = "2")]
    value: Option<String>,
}

impl AggregatedRecord {
    /// The message, if it is of the schema with every required field.
    fn complete(bytes: &[u8]) -> Option<AggregatedRecord> {
        let message = AggregatedRecord::decode(bytes).ok()?;
        let complete = message.records.iter().all(|record| {
            let tags_have_keys = record.tags.iter().all(|tag| tag.key.is_some());
            record.partition_key_index.is_some() && record.data.is_some() && tags_have_keys
        });
        complete.then_some(message)
    }

    fn into_members(mut self) -> Deaggregated {
        let records = std::mem::take(&mut self.records);
        let count = records.len();
        let members: Vec<UserRecord> = records.into_iter().map_while(|record| self.member(record)).collect();
        let dropped = count - members.len();
        Deaggregated::Members { members, dropped }
    }

    fn member(&self, record: Record) -> Option<UserRecord> {
        let partition_key = entry(&self.partition_key_table, record.partition_key_index?)?.clone();
        let explicit_hash_key = match record.explicit_hash_key_index {
            None => None,
            Some(index) => Some(entry(&self.explicit_hash_key_table, index)?.parse().ok()?),
        };
        Some(UserRecord { partition_key, explicit_hash_key, data: record.data? })
    }
}

fn entry(table: &[String], index: u64) -> Option<&String> {
    table.get(usize::try_from(index).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(message: &[u8]) -> Vec<u8> {
        [&AGGREGATE_MAGIC, message, &Md5::digest(message)[..]].concat()
    }

    fn record(key: Option<u64>, explicit: Option<u64>, data: Option<&[u8]>) -> Record {
        Record {
            partition_key_index: key,
            explicit_hash_key_index: explicit,
            data: data.map(<[u8]>::to_vec),
            tags: Vec::new(),
        }
    }

    fn aggregate(keys: &[&str], explicit: &[&str], records: Vec<Record>) -> Vec<u8> {
        let table = |texts: &[&str]| texts.iter().map(|text| text.to_string()).collect();
        let message =
            AggregatedRecord { partition_key_table: table(keys), explicit_hash_key_table: table(explicit), records };
        wrapped(&message.encode_to_vec())
    }

    fn kept_and_dropped(data: &[u8]) -> (usize, usize) {
        match deaggregate(data) {
            Deaggregated::Raw => panic!("it is an aggregate"),
            Deaggregated::Members { members, dropped } => (members.len(), dropped),
        }
    }

    #[test]
    fn what_is_not_an_aggregate_is_raw() {
        let good = aggregate(&["k"], &[], vec![record(Some(0), None, Some(b"d"))]);
        assert_eq!(kept_and_dropped(&good), (1, 0));
        for end in 0..good.len() {
            assert_eq!(deaggregate(&good[..end]), Deaggregated::Raw);
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert_eq!(deaggregate(&bad), Deaggregated::Raw, "byte {at} changed");
        }
        assert_eq!(deaggregate(&wrapped(b"")), Deaggregated::Raw, "20 bytes are too few");
        assert_eq!(deaggregate(&wrapped(b"\x0A\x05ab")), Deaggregated::Raw, "a field cut short");
        assert_eq!(deaggregate(&wrapped(b"\x0A\x01\xFF")), Deaggregated::Raw, "a key that is not UTF-8");
    }

    #[test]
    fn a_missing_required_field_makes_it_raw() {
        let untagged = record(Some(0), None, Some(b"d"));
        let tagged = Record { tags: vec![Tag { key: None, value: Some("v".into()) }], ..untagged.clone() };
        for bad in [record(None, None, Some(b"d")), record(Some(0), None, None), tagged] {
            assert_eq!(deaggregate(&aggregate(&["k"], &[], vec![untagged.clone(), bad])), Deaggregated::Raw);
        }
    }

    #[test]
    fn an_unreadable_member_drops_itself_and_those_after_it() {
        let good = || record(Some(0), Some(0), Some(b"d"));
        let after = |bad| aggregate(&["k"], &["7", "seven", "-1"], vec![good(), good(), bad, good()]);
        assert_eq!(kept_and_dropped(&after(good())), (4, 0));
        assert_eq!(kept_and_dropped(&after(record(Some(1), None, Some(b"d")))), (2, 2));
        assert_eq!(kept_and_dropped(&after(record(Some(u64::MAX), None, Some(b"d")))), (2, 2));
        assert_eq!(kept_and_dropped(&after(record(Some(0), Some(3), Some(b"d")))), (2, 2));
        assert_eq!(kept_and_dropped(&after(record(Some(0), Some(1), Some(b"d")))), (2, 2));
        assert_eq!(kept_and_dropped(&after(record(Some(0), Some(2), Some(b"d")))), (2, 2));
    }

    #[test]
    fn tags_and_unknown_fields_are_passed_over() {
        let tag = Tag { key: Some("t".into()), value: None };
        let tagged = Record { tags: vec![tag], ..record(Some(0), None, Some(b"d")) };
        assert_eq!(kept_and_dropped(&aggregate(&["k"], &[], vec![tagged])), (1, 0));
        assert_eq!(kept_and_dropped(&wrapped(b"\x0A\x01k\x1A\x05\x08\x00\x1A\x01d\xF8\x01\x01")), (1, 0));
    }
}
