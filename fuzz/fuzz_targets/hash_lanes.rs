//! Whatever messages come, in whatever parts, every kind of lanes here hashes them as `md-5` and `sha2` do.
#![no_main]

use arbitrary::Arbitrary;
use kpl::codec::lanes::{Fill, Lanes, Sha256, update_pair};
use kpl::record::HashKey;
use libfuzzer_sys::fuzz_target;
use md5::{Digest, Md5};

/// Parts are slices of `data`, so that few bytes of input are many of messages.
#[derive(Debug, Arbitrary)]
struct Input<'a> {
    messages: Vec<[Part; 3]>,
    keys: Vec<&'a str>,
    /// What two bodies are fed with, side by side.
    bodies: Vec<[Part; 2]>,
    data: &'a [u8],
}

#[derive(Clone, Copy, Debug, Arbitrary)]
struct Part {
    start: u8,
    len: u16,
}

impl Part {
    /// The part of `data`, which is longer than any start and length.
    fn of(self, data: &[u8]) -> &[u8] {
        &data[usize::from(self.start)..][..usize::from(self.len) % LEN_MAX]
    }
}

/// More than any length, and some thirty blocks.
const LEN_MAX: usize = 2048;

fuzz_target!(|input: Input<'_>| {
    let data: Vec<u8> = input.data.iter().copied().chain(0..=255).cycle().take(256 + LEN_MAX).collect();
    let messages: Vec<[&[u8]; 3]> = input.messages.iter().map(|parts| parts.map(|part| part.of(&data))).collect();
    let digests: Vec<[u8; 16]> = messages.iter().map(|parts| Md5::digest(parts.concat()).into()).collect();
    let hashes: Vec<HashKey> =
        input.keys.iter().map(|key| HashKey(u128::from_be_bytes(Md5::digest(key).into()))).collect();
    for lanes in Lanes::all() {
        let mut of_messages = vec![[0; 16]; messages.len()];
        let Fill { blocks, slots } = lanes.digests(&messages, &mut of_messages);
        assert_eq!(of_messages, digests, "{}", lanes.kind());
        assert_eq!(blocks, messages.iter().map(|parts| blocks_of(parts.concat().len())).sum::<u64>());
        assert!(slots >= blocks);

        let mut of_keys = vec![HashKey::MIN; hashes.len()];
        let keys: Vec<&[u8]> = input.keys.iter().map(|key| key.as_bytes()).collect();
        let Fill { blocks, slots } = lanes.hash_keys(&keys, &mut of_keys);
        assert_eq!(of_keys, hashes, "{}", lanes.kind());
        assert_eq!(blocks, input.keys.iter().map(|key| blocks_of(key.len())).sum::<u64>());
        assert!(slots >= blocks);
    }

    let [mut a, mut b] = [Sha256::new(), Sha256::new()];
    for [a_part, b_part] in &input.bodies {
        update_pair(&mut a, a_part.of(&data), &mut b, b_part.of(&data));
    }
    for (which, hash) in [a, b].into_iter().enumerate() {
        let body: Vec<u8> = input.bodies.iter().flat_map(|parts| parts[which].of(&data)).copied().collect();
        assert_eq!(hash.finalize(), <[u8; 32]>::from(sha2::Sha256::digest(&body)));
    }
});

fn blocks_of(len: usize) -> u64 {
    (len as u64 + 9).div_ceil(64)
}
