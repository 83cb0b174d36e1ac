//! Whatever members come, the aggregate has the size foretold, and reads as them by `prost` and by our own readers.
#![no_main]

use arbitrary::Arbitrary;
use kpl::codec::{Aggregate, Deaggregated, Member, Written, deaggregate};
use kpl::record::HashKey;
use libfuzzer_sys::fuzz_target;
use prost::Message;

/// Keys and explicit hash keys are picked from short lists, so that they come again.
#[derive(Debug, Arbitrary)]
struct Input<'a> {
    keys: Vec<&'a str>,
    explicit: Vec<u128>,
    members: Vec<Pick<'a>>,
}

#[derive(Debug, Arbitrary)]
struct Pick<'a> {
    key: u8,
    /// Few bits, so that different keys come with one tag, and one key with several.
    tag: u8,
    explicit: Option<u8>,
    data: &'a [u8],
}

/// The schema, declared apart from the crate's own.
#[derive(Clone, PartialEq, Message)]
struct AggregatedRecord {
    #[prost(string, repeated, tag = "1")]
    keys: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_keys: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<Record>,
}

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(uint64, required, tag = "1")]
    key: u64,
    #[prost(uint64, optional, tag = "2")]
    explicit: Option<u64>,
    #[prost(bytes = "vec", required, tag = "3")]
    data: Vec<u8>,
}

fuzz_target!(|input: Input<'_>| {
    let members: Vec<Member<'_>> = input.members.iter().filter_map(|pick| member(&input, pick)).collect();
    let mut aggregate = Aggregate::new();
    for member in &members {
        let foretold = aggregate.place(member).size();
        aggregate.append(*member);
        assert_eq!(aggregate.size(), foretold);
    }
    let _ = aggregate.seal();
    let read_back = members.iter().map(|member| {
        let Member { partition_key, explicit_hash_key, data, .. } = *member;
        let partition_key = str::from_utf8(partition_key).expect("it was a str");
        Written { partition_key, explicit_hash_key, data }
    });
    assert!(aggregate.members().eq(read_back.clone()));
    assert_eq!(aggregate.first(), read_back.clone().next());
    let mut wire = Vec::new();
    aggregate.write_to(&mut wire);
    assert_eq!(wire.len(), aggregate.size());

    let message = AggregatedRecord::decode(&wire[4..wire.len() - 16]).expect("it is of the schema");
    assert_eq!(message.encode_to_vec(), wire[4..wire.len() - 16], "it is encoded as others encode it");
    assert_eq!(message.records.len(), members.len());
    for (record, member) in message.records.iter().zip(&members) {
        assert_eq!(message.keys[record.key as usize].as_bytes(), member.partition_key);
        let explicit = record.explicit.map(|index| message.explicit_keys[index as usize].clone());
        assert_eq!(explicit, member.explicit_hash_key.map(|hash_key| hash_key.to_string()));
        assert_eq!(record.data, member.data);
    }
    match deaggregate(&wire) {
        Deaggregated::Raw => assert!(members.is_empty()),
        Deaggregated::Members { members: read, dropped } => assert_eq!((read.len(), dropped), (members.len(), 0)),
    }
});

fn member<'a>(input: &Input<'a>, pick: &Pick<'a>) -> Option<Member<'a>> {
    let partition_key = input.keys.get(usize::from(pick.key) % input.keys.len().max(1))?;
    let explicit = |index: u8| input.explicit.get(usize::from(index) % input.explicit.len().max(1)).copied();
    Some(Member {
        partition_key: partition_key.as_bytes(),
        key_tag: u64::from(pick.tag % 8),
        explicit_hash_key: pick.explicit.and_then(explicit).map(HashKey),
        data: pick.data,
    })
}
