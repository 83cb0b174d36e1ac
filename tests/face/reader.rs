//! What consumers see: stored records, taken apart by the KPL's format, each judged by where it lies.
//!
//! Written from the format's description, with `prost`, and sharing nothing with the library's codec. As AWS's
//! consumer library does, it gives an aggregate up whole if a member lies outside of its shard; where nobody reshards,
//! that panics.

use std::collections::HashMap;

use endpoint::Endpoint;
use kpl::Delivered;
use md5::{Digest, Md5};
use prost::Message;
use serde_json::json;

#[derive(Clone, PartialEq, Message)]
struct Aggregate {
    #[prost(string, repeated, tag = "1")]
    partition_keys: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_hash_keys: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    members: Vec<Member>,
}

#[derive(Clone, PartialEq, Message)]
struct Member {
    #[prost(uint64, required, tag = "1")]
    partition_key: u64,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key: Option<u64>,
    #[prost(bytes = "vec", required, tag = "3")]
    data: Vec<u8>,
}

/// A user record as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// Its shard, the sequence number of the Kinesis record it came in, and its place there.
    pub location: (String, String, u32),
    pub partition_key: String,
    /// Of a member of an aggregate. The emulator does not give back that of a Kinesis record.
    pub explicit_hash_key: Option<u128>,
    pub data: Vec<u8>,
    /// Whether it came in an aggregate.
    pub aggregated: bool,
}

/// What a test has put, and what it expects to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub partition_key: String,
    pub explicit_hash_key: Option<u128>,
    pub data: Vec<u8>,
}

impl Expected {
    fn hash(&self) -> u128 {
        self.explicit_hash_key.unwrap_or_else(|| hash_of(&self.partition_key))
    }
}

/// The hash key of a partition key.
pub fn hash_of(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key).into())
}

/// All user records of a stream, shard by shard in their order there.
pub fn read(endpoint: &Endpoint, stream: &str) -> Vec<UserRecord> {
    let (records, dropped) = read_resharded(endpoint, stream);
    assert_eq!(dropped, Vec::<String>::new(), "aggregates that do not belong where they lie");
    records
}

/// What consumers get of a stream, shard by shard in their order there; and of the aggregates that they drop, where each lies
/// and what does not belong there.
pub fn read_resharded(endpoint: &Endpoint, stream: &str) -> (Vec<UserRecord>, Vec<String>) {
    let ranges = ranges(endpoint, stream);
    let (mut records, mut dropped) = (Vec::new(), Vec::new());
    for stored in endpoint.read_stream(stream).expect("the emulator gives back what it stored") {
        let (first, last) = ranges[&stored.shard_id];
        let aggregate = aggregate_in(&stored.data);
        let aggregated = aggregate.is_some();
        let members = match aggregate {
            Some(aggregate) => {
                assert_eq!(stored.partition_key, "a", "the outer key of an aggregate");
                members(aggregate)
            }
            None => vec![(stored.partition_key, None, stored.data)],
        };
        let hash = |explicit: &Option<u128>, key: &str| explicit.unwrap_or_else(|| hash_of(key));
        let outside = members.iter().find(|(key, explicit, _)| !(first..=last).contains(&hash(explicit, key)));
        if let Some((key, ..)) = outside.filter(|_| aggregated) {
            dropped.push(format!("{key:?} in {}", stored.shard_id));
            continue;
        }
        for (place, (partition_key, explicit_hash_key, data)) in members.into_iter().enumerate() {
            let location = (stored.shard_id.clone(), stored.sequence_number.clone(), place as u32);
            records.push(UserRecord { location, partition_key, explicit_hash_key, data, aggregated });
        }
    }
    (records, dropped)
}

/// The message in `data`, if consumers would take it for an aggregate.
fn aggregate_in(data: &[u8]) -> Option<Aggregate> {
    let rest = data.strip_prefix(&[0xF3, 0x89, 0x9A, 0xC2])?;
    let (message, digest) = rest.split_at_checked(rest.len().checked_sub(16)?)?;
    if Md5::digest(message)[..] != *digest {
        return None;
    }
    Aggregate::decode(message).ok()
}

fn members(aggregate: Aggregate) -> Vec<(String, Option<u128>, Vec<u8>)> {
    let Aggregate { partition_keys, explicit_hash_keys, members } = aggregate;
    let explicit = members.iter().filter(|member| member.explicit_hash_key.is_some()).count();
    assert!(explicit == 0 || explicit == members.len(), "explicit hash keys for all members or for none");
    members
        .into_iter()
        .map(|member| {
            let explicit = member.explicit_hash_key.map(|index| &explicit_hash_keys[index as usize]);
            let explicit = explicit.map(|decimal| decimal.parse().expect("an explicit hash key is a number"));
            (partition_keys[member.partition_key as usize].clone(), explicit, member.data)
        })
        .collect()
}

/// The hash range of each shard, open or closed.
pub fn ranges(endpoint: &Endpoint, stream: &str) -> HashMap<String, (u128, u128)> {
    let answer = endpoint.call("ListShards", &json!({ "StreamName": stream })).expect("shards");
    let shards = answer["Shards"].as_array().expect("a list of shards");
    let number = |text: &serde_json::Value| text.as_str().expect("a text").parse().expect("a number");
    let entry = |shard: &serde_json::Value| {
        let range = &shard["HashKeyRange"];
        let id = shard["ShardId"].as_str().expect("a text").to_owned();
        (id, (number(&range["StartingHashKey"]), number(&range["EndingHashKey"])))
    };
    shards.iter().map(entry).collect()
}

/// Asserts that the stream holds exactly what was delivered: each record once, under its own key, in the right shard,
/// at the place that its outcome names.
pub fn assert_delivered(endpoint: &Endpoint, stream: &str, delivered: &[(Expected, Delivered)]) {
    let ranges = ranges(endpoint, stream);
    let stored = read(endpoint, stream);
    assert_eq!(stored.len(), delivered.len(), "records of {stream}");
    let count = stored.len();
    let mut by_location: HashMap<_, _> = stored.into_iter().map(|record| (record.location.clone(), record)).collect();
    assert_eq!(by_location.len(), count, "locations differ");
    for (expected, delivered) in delivered {
        let location = location(delivered);
        // Taken out, so that no two outcomes name one place.
        let record =
            by_location.remove(&location).unwrap_or_else(|| panic!("nothing, or a second claim, at {location:?}"));
        assert_eq!(record.partition_key, expected.partition_key, "at {location:?}");
        assert!(record.data == expected.data, "the data at {location:?}");
        let (first, last) = ranges[&location.0];
        assert!((first..=last).contains(&expected.hash()), "the shard of {:?}", expected.partition_key);
        if let Some(explicit) = record.explicit_hash_key {
            assert_eq!(explicit, expected.hash(), "the explicit hash key of {:?}", expected.partition_key);
        } else {
            assert!(!record.aggregated || expected.explicit_hash_key.is_none(), "an explicit hash key was lost");
        }
    }
}

/// The place that an outcome names.
pub fn location(delivered: &Delivered) -> (String, String, u32) {
    let shard_id = delivered.shard_id().to_owned();
    (shard_id, delivered.sequence_number().to_owned(), delivered.sub_sequence_number())
}

#[test]
fn the_reader_reads_the_formats_own_example_and_nothing_that_is_damaged() {
    let aggregate = Aggregate {
        partition_keys: vec!["k".into()],
        explicit_hash_keys: vec![],
        members: vec![Member { partition_key: 0, explicit_hash_key: None, data: b"d".to_vec() }],
    };
    let message = aggregate.encode_to_vec();
    assert_eq!(message, [0x0A, 1, b'k', 0x1A, 5, 0x08, 0, 0x1A, 1, b'd']);
    let digest: [u8; 16] = Md5::digest(&message).into();
    let mut data = [&[0xF3, 0x89, 0x9A, 0xC2], &message[..], &digest].concat();
    assert_eq!(members(aggregate_in(&data).expect("an aggregate")), [("k".into(), None, b"d".to_vec())]);
    data[5] ^= 1;
    assert!(aggregate_in(&data).is_none());
}
