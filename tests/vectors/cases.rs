//! The user records of `cases.json`, spelled out, and our aggregates of them.

use kpl::codec::{Aggregate, Member, hash_key};
use kpl::record::HashKey;
use serde_json::Value;

/// A case of `cases.json`.
pub struct Case {
    pub name: String,
    /// Partition key, explicit hash key, data.
    pub members: Vec<(String, Option<HashKey>, Vec<u8>)>,
}

/// Every case, in the order of the file.
pub fn cases() -> Vec<Case> {
    let listed: Vec<Value> = serde_json::from_str(include_str!("cases.json")).expect("cases.json is a list");
    listed.iter().map(case).collect()
}

impl Case {
    /// The members in our wire form.
    pub fn aggregate(&self) -> Vec<u8> {
        let mut aggregate = Aggregate::new();
        for (partition_key, explicit_hash_key, data) in &self.members {
            let key_tag = hash_key(partition_key).0 as u64;
            let partition_key = partition_key.as_bytes();
            aggregate.append(Member { partition_key, key_tag, explicit_hash_key: *explicit_hash_key, data });
        }
        let mut wire = Vec::new();
        aggregate.write_to(&mut wire);
        wire
    }
}

fn case(listed: &Value) -> Case {
    let members = listed["members"].as_array().expect("members is a list");
    Case { name: text(&listed["name"]).into(), members: members.iter().flat_map(spelled_out).collect() }
}

fn spelled_out(member: &Value) -> Vec<(String, Option<HashKey>, Vec<u8>)> {
    let data = match &member["data"] {
        Value::String(hex) => bytes_of_hex(hex),
        data => bytes_of_hex(text(&data["byte"])).repeat(data["length"].as_u64().expect("length is a number") as usize),
    };
    let numbered = |field: &Value, number: u64| field.as_str().map(|text| text.replace("{}", &number.to_string()));
    let times = member.get("times").map_or(1, |times| times.as_u64().expect("times is a number"));
    let spelled = (0..times).map(|number| {
        let explicit = numbered(&member["explicit"], number).map(|decimal| decimal.parse().expect("a hash key"));
        (numbered(&member["key"], number).expect("key is a text"), explicit, data.clone())
    });
    spelled.collect()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("the field is a text")
}

/// The bytes of a hexadecimal text.
pub fn bytes_of_hex(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|digit| digit.to_digit(16).expect("a hexadecimal digit") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
