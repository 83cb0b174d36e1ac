//! Arbitrary bytes, as they come and within a right magic and digest, never make the reader panic, and what it reads
//! in them can be written again. Seeds are messages without magic and digest.
#![no_main]

use kpl::codec::{Aggregate, Deaggregated, Member, deaggregate, starts_with_magic};
use kpl::limits::AGGREGATE_MAGIC;
use libfuzzer_sys::fuzz_target;
use md5::{Digest, Md5};

fuzz_target!(|data: &[u8]| {
    let bare = deaggregate(data);
    assert!(starts_with_magic(data) || bare == Deaggregated::Raw);

    // Without this no input would ever get past the digest.
    let wrapped = [&AGGREGATE_MAGIC, data, &Md5::digest(data)[..]].concat();
    let Deaggregated::Members { members, .. } = deaggregate(&wrapped) else { return };
    let mut aggregate = Aggregate::new();
    for record in &members {
        aggregate.append(Member {
            partition_key: record.partition_key.as_bytes(),
            key_tag: 0,
            explicit_hash_key: record.explicit_hash_key,
            data: &record.data,
        });
    }
    if !members.is_empty() {
        let mut wire = Vec::new();
        aggregate.write_to(&mut wire);
        assert_eq!(deaggregate(&wire), Deaggregated::Members { members, dropped: 0 });
    }
});
