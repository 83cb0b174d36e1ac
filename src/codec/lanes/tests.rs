//! Every kind that this machine runs, against `md-5` and `sha2`.

use ::md5::{Digest, Md5};

use super::*;
use crate::codec::hash_key;

/// Bytes, and choices, that differ from place to place.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }
}

/// Lengths around which a block, or the room for its padding, ends.
const EDGES: [usize; 14] = [0, 1, 8, 9, 54, 55, 56, 57, 63, 64, 65, 119, 120, 128];

fn check(lanes: Lanes, messages: &[[&[u8]; 3]]) -> Fill {
    let mut digests = vec![[0; 16]; messages.len()];
    let fill = lanes.digests(messages, &mut digests);
    for (message, digest) in messages.iter().zip(digests) {
        let oracle = <[u8; 16]>::from(Md5::digest(message.concat()));
        assert_eq!(digest, oracle, "{}, {:?}", lanes.kind(), message.map(<[u8]>::len));
    }
    fill
}

fn naive_blocks(message: &[&[u8]; 3]) -> u64 {
    (message.concat().len() as u64 + 1 + 8).div_ceil(64)
}

/// The places that lanes go through block by block: the longest messages first, the next one where one has ended.
fn naive_slots(lanes: Lanes, messages: &[[&[u8]; 3]]) -> u64 {
    let mut waiting: Vec<u64> = messages.iter().map(naive_blocks).collect();
    if messages.len() > lanes.kernels[0].lanes {
        waiting.sort_unstable_by_key(|blocks| std::cmp::Reverse(*blocks));
    }
    let mut waiting = waiting.into_iter();
    let mut running: Vec<u64> = waiting.by_ref().take(lanes.kernels[0].lanes).collect();
    let mut slots = 0;
    while !running.is_empty() {
        let kernel = kernel::pick(lanes.kernels, running.len());
        slots += kernel.lanes as u64;
        running.iter_mut().take(kernel.lanes).for_each(|left| *left -= 1);
        running = running.into_iter().filter_map(|left| if left > 0 { Some(left) } else { waiting.next() }).collect();
    }
    slots
}

#[test]
fn the_best_kind_is_the_first_and_the_portable_one_the_last() {
    let kinds: Vec<Kind> = Lanes::all().map(Lanes::kind).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&kind()), Some(&Kind::Portable)));
    #[cfg(target_arch = "x86_64")]
    for (kind, is_here) in
        [(Kind::Avx512, is_x86_feature_detected!("avx512f")), (Kind::Avx2, is_x86_feature_detected!("avx2"))]
    {
        assert_eq!(kinds.contains(&kind), is_here, "{kind}");
    }
    #[cfg(target_arch = "aarch64")]
    assert_eq!(kinds, [Kind::Neon, Kind::Portable]);
}

#[test]
fn messages_of_every_length_are_hashed_as_md5_does() {
    let data = Draw(1).bytes(400);
    let messages: Vec<[&[u8]; 3]> = (0..300).map(|len| [&data[len % 7..][..len], &[], &[]]).collect();
    for lanes in Lanes::all() {
        check(lanes, &messages);
        messages.chunks(1).chain(messages.chunks(16)).chain(messages.chunks(32)).for_each(|messages| {
            check(lanes, messages);
        });
    }
}

#[test]
fn a_message_is_its_parts_one_after_the_other() {
    let data = Draw(2).bytes(512);
    for lanes in Lanes::all() {
        for first in EDGES {
            for second in EDGES {
                let messages = EDGES.map(|third| {
                    let (a, rest) = data.split_at(first);
                    let (b, rest) = rest.split_at(second);
                    [a, b, &rest[..third]]
                });
                check(lanes, &messages);
            }
        }
    }
}

#[test]
fn any_number_of_messages_of_any_lengths_fills_the_lanes_as_a_naive_count_says() {
    let mut draw = Draw(3);
    let data = draw.bytes(8_000);
    for lanes in Lanes::all() {
        for count in (0..=40).chain([600]) {
            for longest in [1, 70, 600] {
                let messages: Vec<[&[u8]; 3]> =
                    (0..count).map(|_| [(); 3].map(|()| &data[draw.below(5_000)..][..draw.below(longest)])).collect();
                let fill = check(lanes, &messages);
                assert_eq!(fill.blocks, messages.iter().map(naive_blocks).sum::<u64>(), "{}", lanes.kind());
                let slots = messages.chunks(512).map(|messages| naive_slots(lanes, messages)).sum::<u64>();
                assert_eq!(fill.slots, slots, "{}, {count} up to {longest}", lanes.kind());
            }
        }
    }
}

#[test]
fn keys_of_every_length_have_the_hash_keys_of_md5() {
    let text = "ein Schlüssel of some length, ".repeat(50);
    let text: Vec<&[u8]> =
        (0..1_024).map(|end| &text.as_bytes()[..end]).chain(["", "ü", "customer-7"].map(str::as_bytes)).collect();
    let mut draw = Draw(4);
    for lanes in Lanes::all() {
        for (count, longest) in (0..=40).flat_map(|count| [(count, 56), (count, 130), (count, 1_024)]) {
            let keys: Vec<&[u8]> = (0..count).map(|_| text[draw.below(longest)]).collect();
            let mut hashes = vec![HashKey::MIN; count];
            let fill = lanes.hash_keys(&keys, &mut hashes);
            assert_eq!(hashes, keys.iter().map(hash_key).collect::<Vec<_>>(), "{}", lanes.kind());
            assert_eq!(fill.blocks, keys.iter().map(|key| naive_blocks(&[*key, &[], &[]])).sum::<u64>());
            assert!(fill.slots >= fill.blocks);
            if longest == 56 {
                let keys: Vec<[&[u8]; 3]> = keys.iter().map(|key| [*key, &[], &[]]).collect();
                assert_eq!(fill.slots, naive_slots(lanes, &keys), "{}, {count}", lanes.kind());
            }
        }
        let mut hashes = vec![HashKey::MIN; text.len()];
        lanes.hash_keys(&text, &mut hashes);
        assert!(text.iter().zip(hashes).all(|(key, hash)| hash == hash_key(key)), "{}", lanes.kind());
    }
}

#[test]
fn a_pair_of_bodies_is_hashed_as_sha_256_does_however_their_bytes_come() {
    let mut draw = Draw(5);
    let bodies = [draw.bytes(3_000), draw.bytes(3_000)];
    for _ in 0..200 {
        let mut hashes = [Sha256::new(), Sha256::new()];
        let mut taken = [0; 2];
        for _ in 0..4 {
            let lens =
                [0, 1].map(|_| if draw.below(2) == 0 { EDGES[draw.below(EDGES.len())] } else { draw.below(700) });
            let [a_bytes, b_bytes] = [0, 1].map(|which| &bodies[which][taken[which]..][..lens[which]]);
            let [a, b] = &mut hashes;
            update_pair(a, a_bytes, b, b_bytes);
            taken = [0, 1].map(|which| taken[which] + lens[which]);
        }
        for (which, hash) in hashes.into_iter().enumerate() {
            let oracle = <[u8; 32]>::from(sha2::Sha256::digest(&bodies[which][..taken[which]]));
            assert_eq!(hash.finalize(), oracle, "{taken:?}");
        }
    }
}
