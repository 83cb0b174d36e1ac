//! Our aggregates against AWS's: byte for byte what AWS's aggregators wrote, and read as AWS's de-aggregators read.
//!
//! `vectors/README.md` says how each vector was made. The other direction, AWS's de-aggregators reading ours, is in
//! `vectors/check.py` and `vectors/check.mjs`.

#[path = "vectors/cases.rs"]
mod cases;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cases::{bytes_of_hex, cases};
use kpl::codec::{Deaggregated, UserRecord, deaggregate};
use serde_json::Value;

const PYTHON: &str = include_str!("vectors/python.json");
const NODE: &str = include_str!("vectors/node.json");
const DECODE_ONLY: &str = include_str!("vectors/decode_only.json");

/// Node's aggregator keeps keys in an object, which puts keys that are numbers first. It then numbers them wrongly.
const NODE_REORDERS: &str = "keys that are numbers";
/// Required fields that are missing: AWS's Python library takes them for zero, its Java library takes the record for
/// a raw one, and so do we.
const INCOMPLETE: [&str; 2] = ["a record without key index", "a record without data"];

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).expect("a vector file is JSON")
}

fn base64(value: &Value) -> Vec<u8> {
    STANDARD.decode(value.as_str().expect("base64 is a text")).expect("it is base64")
}

fn members(data: &[u8]) -> Vec<UserRecord> {
    match deaggregate(data) {
        Deaggregated::Members { members, dropped: 0 } => members,
        other => panic!("not a whole aggregate: {other:?}"),
    }
}

#[test]
fn our_aggregates_are_those_of_awss_python_library() {
    let python = parsed(PYTHON);
    assert_eq!(python.as_object().unwrap().len(), cases().len());
    for case in cases() {
        assert!(case.aggregate() == base64(&python[&case.name]), "{}", case.name);
    }
}

#[test]
fn our_aggregates_are_those_of_awss_node_library_but_for_its_fault() {
    let node = parsed(NODE);
    assert_eq!(node.as_object().unwrap().len(), cases().len());
    for case in cases() {
        let equal = case.aggregate() == base64(&node[&case.name]);
        assert_eq!(equal, case.name != NODE_REORDERS, "{}", case.name);
    }
}

#[test]
fn aggregates_of_awss_libraries_read_as_the_records_that_went_in() {
    for (file, exception) in [(PYTHON, ""), (NODE, NODE_REORDERS)] {
        let file = parsed(file);
        for case in cases().into_iter().filter(|case| case.name != exception) {
            let expected = case.members.into_iter().map(|(partition_key, explicit_hash_key, data)| UserRecord {
                partition_key,
                explicit_hash_key,
                data,
            });
            assert_eq!(members(&base64(&file[&case.name])), expected.collect::<Vec<_>>(), "{}", case.name);
        }
    }
}

#[test]
fn aggregates_that_nobody_should_write_read_as_in_awss_python_library() {
    for vector in parsed(DECODE_ONLY).as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let read = match deaggregate(&base64(&vector["data"])) {
            Deaggregated::Members { members, dropped } => {
                assert_eq!(dropped > 0, name.contains("out of range"), "{name}");
                Some(members)
            }
            Deaggregated::Raw => None,
        };
        let expected = vector["read_by_python"].as_array().filter(|_| !INCOMPLETE.contains(&name));
        assert_eq!(read, expected.map(|members| members.iter().map(read_by_python).collect()), "{name}");
    }
}

fn read_by_python(member: &Value) -> UserRecord {
    UserRecord {
        partition_key: member[0].as_str().unwrap().to_string(),
        explicit_hash_key: member[1].as_str().map(|decimal| decimal.parse().unwrap()),
        data: bytes_of_hex(member[2].as_str().unwrap()),
    }
}
