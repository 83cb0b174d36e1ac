//! The writer against two oracles that share nothing with it: the schema encoded by `prost`, and plain lists.

use prost::Message;

use super::*;
use crate::codec::hash_key;

/// The schema with its required fields.
#[derive(Clone, PartialEq, Message)]
struct Oracle {
    #[prost(string, repeated, tag = "1")]
    keys: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_keys: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<OracleRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct OracleRecord {
    #[prost(uint64, required, tag = "1")]
    key: u64,
    #[prost(uint64, optional, tag = "2")]
    explicit: Option<u64>,
    #[prost(bytes = "vec", required, tag = "3")]
    data: Vec<u8>,
}

impl Oracle {
    fn of(members: &[Member<'_>]) -> Oracle {
        let mut oracle = Oracle::default();
        for member in members {
            let key = index_of(&mut oracle.keys, text_of(member).to_owned());
            let explicit = member.explicit_hash_key.map(|key| index_of(&mut oracle.explicit_keys, key.to_string()));
            oracle.records.push(OracleRecord { key, explicit, data: member.data.to_vec() });
        }
        oracle
    }

    fn wire(&self) -> Vec<u8> {
        let message = self.encode_to_vec();
        [&AGGREGATE_MAGIC, &message[..], &Md5::digest(&message)[..]].concat()
    }
}

fn index_of(table: &mut Vec<String>, text: String) -> u64 {
    let index = table.iter().position(|entry| *entry == text).unwrap_or_else(|| {
        table.push(text);
        table.len() - 1
    });
    index as u64
}

fn member<'a>(partition_key: &'a str, explicit: Option<u128>, data: &'a [u8]) -> Member<'a> {
    let key_tag = hash_key(partition_key).0 as u64;
    Member { partition_key: partition_key.as_bytes(), key_tag, explicit_hash_key: explicit.map(HashKey), data }
}

fn text_of<'a>(member: &Member<'a>) -> &'a str {
    str::from_utf8(member.partition_key).expect("it was a str")
}

/// What is read back of `member`.
fn read_back<'a>(member: &Member<'a>) -> Written<'a> {
    let Member { explicit_hash_key, data, .. } = *member;
    Written { partition_key: text_of(member), explicit_hash_key, data }
}

/// Appends `members`, checking the size before and after each, and returns the wire form.
fn written(aggregate: &mut Aggregate, members: &[Member<'_>]) -> Vec<u8> {
    for member in members {
        let foretold = aggregate.place(member).size();
        aggregate.append(*member);
        assert_eq!(aggregate.size(), foretold);
    }
    let mut wire = Vec::new();
    aggregate.write_to(&mut wire);
    assert_eq!(wire.len(), aggregate.size());
    wire
}

struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn random_members_are_written_as_the_schema_says_and_read_back() {
    let mut random = Xorshift(0x5EED_0001);
    let alphabet = ["a", "key", "ключ", "🔑", "-", "long key "];
    let data: Vec<u8> = (0..16_384u32).map(|i| (i * 7) as u8).collect();
    let mut aggregate = Aggregate::new();
    for _ in 0..40 {
        let keys: Vec<String> = (0..1 + random.below(300))
            .map(|_| (0..random.below(40)).map(|_| alphabet[random.below(6) as usize]).collect())
            .collect();
        let explicit_share = random.below(3);
        let members: Vec<Member<'_>> = (0..random.below(200))
            .map(|_| {
                let key = &keys[random.below(keys.len() as u64) as usize];
                let explicit =
                    (random.below(2) < explicit_share).then(|| u128::from(random.below(200)) << (8 * random.below(16)));
                let len = [0, 1, 2, 3, 100, 127, 128, 300, 16_384][random.below(9) as usize];
                member(key, explicit, &data[..len])
            })
            .collect();
        aggregate.clear();
        assert_eq!(written(&mut aggregate, &members), Oracle::of(&members).wire());
        assert_eq!(aggregate.count(), members.len());
        assert_eq!(aggregate.is_empty(), members.is_empty());
        assert!(aggregate.members().eq(members.iter().map(read_back)));
        assert_eq!(aggregate.first(), members.first().map(read_back));
    }
}

#[test]
fn zero_index_and_empty_data_are_written() {
    let wire = written(&mut Aggregate::new(), &[member("k", None, b"")]);
    assert_eq!(wire[4..wire.len() - 16], *b"\x0A\x01k\x1A\x04\x08\x00\x1A\x00");
}

#[test]
fn an_aggregate_without_members_is_magic_and_digest() {
    let mut aggregate = Aggregate::new();
    assert_eq!(aggregate.size(), 20);
    assert_eq!(written(&mut aggregate, &[]).len(), 20);
    assert_eq!(aggregate.first(), None);
}

#[test]
fn keys_of_one_tag_are_told_apart_and_one_key_of_two_tags_stays_right() {
    let tagged = |key: &'static str, key_tag| Member { key_tag, ..member(key, None, b"d") };
    let mut aggregate = Aggregate::new();
    let members = [tagged("a", 7), tagged("b", 7), tagged("a", 7), tagged("a", 8)];
    written(&mut aggregate, &members);
    assert_eq!(aggregate.parts()[1], b"\x0A\x01a\x0A\x01b\x0A\x01a");
    assert!(aggregate.members().eq(members.iter().map(read_back)));
}

#[test]
fn a_member_that_is_measured_and_not_appended_leaves_no_trace() {
    let mut aggregate = Aggregate::new();
    aggregate.append(member("a", Some(1), b"first"));
    let before: Vec<Vec<u8>> = aggregate.parts().map(<[u8]>::to_vec).into();
    assert!(aggregate.place(&member("b", Some(2), b"second")).size() > aggregate.size());
    assert_eq!(aggregate.parts().map(<[u8]>::to_vec).to_vec(), before);
    assert_eq!(aggregate.count(), 1);
}

#[test]
fn a_cleared_aggregate_forgets_its_keys_and_keeps_its_room() {
    let mut aggregate = Aggregate::new();
    let first = written(&mut aggregate, &[member("a", Some(1), &[9; 1000])]);
    let room = aggregate.records.capacity();
    aggregate.clear();
    assert!(aggregate.is_empty());
    assert_eq!(aggregate.records.capacity(), room);
    assert_eq!(written(&mut aggregate, &[member("a", Some(1), &[9; 1000])]), first);
}

#[test]
fn a_part_can_be_sealed_again_from_the_members_read_back() {
    let members = [member("a", None, b"0"), member("b", None, b"1"), member("a", None, b"2")];
    let mut whole = Aggregate::new();
    written(&mut whole, &members);
    let mut part = Aggregate::new();
    whole.members().skip(1).for_each(|read| part.append(member(read.partition_key, None, read.data)));
    let mut wire = Vec::new();
    part.write_to(&mut wire);
    assert_eq!(wire, Oracle::of(&members[1..]).wire());
}

#[test]
fn buffers_grow_to_the_largest_size_and_no_further_and_sealing_cuts_them() {
    const SIZE_MAX: usize = 51_200;
    let keys: Vec<String> = (0..1000).map(|number| format!("key-{number:012}")).collect();
    for (distinct, len) in [(1, 100), (1000, 100), (1000, 1), (3, 5000)] {
        let mut aggregate = Aggregate::new();
        for number in 0.. {
            let member = member(&keys[number % distinct], None, &[7; 5000][..len]);
            let place = aggregate.place(&member);
            if place.size() > SIZE_MAX {
                break;
            }
            aggregate.append_at(&member, place, SIZE_MAX);
            // Keys and records may each have doubled to what was left, once.
            assert!(aggregate.keys.capacity() <= SIZE_MAX && aggregate.records.capacity() <= SIZE_MAX);
        }
        let _ = aggregate.seal();
        let used = aggregate.len;
        assert!(aggregate.capacity() <= used + used / 16, "{} for {used}", aggregate.capacity());
    }
}

#[test]
fn a_first_member_may_be_larger_than_the_largest_size() {
    let mut aggregate = Aggregate::new();
    let large = member("key", None, &[7; 5000]);
    let place = aggregate.place(&large);
    aggregate.append_at(&large, place, 64);
    assert_eq!(aggregate.first().map(|first| first.data.len()), Some(5000));
}

#[test]
fn an_index_serves_one_aggregate_after_another() {
    let (first, second) = ([member("a", Some(1), b"0"), member("b", None, b"1")], [member("b", Some(2), b"2")]);
    let mut aggregate = Aggregate::new();
    written(&mut aggregate, &first);
    let index = aggregate.seal().expect("it has grown");
    assert!(aggregate.members().eq(first.iter().map(read_back)), "it is read without its index");
    let mut next = Aggregate::new();
    next.open_with(index);
    assert_eq!(written(&mut next, &second), Oracle::of(&second).wire());
}

#[test]
#[should_panic(expected = "a sealed aggregate takes no member")]
fn a_sealed_aggregate_takes_no_member() {
    let mut aggregate = Aggregate::new();
    aggregate.append(member("a", None, b"0"));
    let _ = aggregate.seal();
    aggregate.append(member("b", None, b"1"));
}

#[test]
fn keys_are_told_apart_by_their_length_too() {
    let long = "k".repeat(300);
    let lengths = [0, 1, 2, 127, 128, 129, 255, 256, 299, 300];
    let members: Vec<Member<'_>> =
        lengths.iter().chain(&lengths).map(|len| Member { key_tag: 7, ..member(&long[..*len], None, b"d") }).collect();
    assert_eq!(written(&mut Aggregate::new(), &members), Oracle::of(&members).wire());
}

#[test]
fn a_number_is_written_as_protobuf_has_it_and_as_long_as_foretold() {
    for bit in 0..32 {
        for value in [(1u32 << bit) - 1, 1 << bit, u32::MAX >> bit] {
            let mut expected = Vec::new();
            prost::encoding::encode_varint(u64::from(value), &mut expected);
            for room in [0, 64] {
                let mut out = Vec::with_capacity(room);
                push_number(&mut out, RECORD, value);
                assert_eq!((out[0], &out[1..]), (RECORD, &expected[..]), "{value}");
                assert_eq!(out.len(), 1 + varint_len(u64::from(value)), "{value}");
            }
        }
    }
}
