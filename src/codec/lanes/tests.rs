use ::md5::{Digest, Md5};

use super::*;
use crate::codec::hash_key;

/// Bytes that differ from place to place.
fn bytes(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| ((at + seed) * 2_654_435_761 >> 11) as u8).collect()
}

fn check(lanes: Lanes, messages: &[[&[u8]; 3]]) -> Fill {
    let mut digests = vec![[0; 16]; messages.len()];
    let fill = lanes.digests(messages, &mut digests);
    for (message, digest) in messages.iter().zip(digests) {
        assert_eq!(digest, <[u8; 16]>::from(Md5::digest(message.concat())), "{}: {message:?}", lanes.kind());
    }
    fill
}

#[test]
fn every_length_is_hashed_rightly_beside_every_other() {
    let data = bytes(400, 1);
    for lanes in Lanes::all() {
        let messages: Vec<[&[u8]; 3]> = (0..300).map(|len| [&data[len % 7..len % 7 + len], &[], &[]]).collect();
        check(lanes, &messages);
        for count in 0..40 {
            check(lanes, &messages[300 - count..]);
        }
    }
}

#[test]
fn keys_of_every_length_have_their_hash_keys() {
    let text = "a key of some length, ".repeat(50);
    for lanes in Lanes::all() {
        for count in 0..40 {
            let keys: Vec<&str> = (0..count).map(|index| &text[index..index + (count * index * 7) % 130]).collect();
            let mut hashes = vec![HashKey::MIN; count];
            lanes.hash_keys(&keys, &mut hashes);
            assert_eq!(hashes, keys.iter().map(|key| hash_key(key)).collect::<Vec<_>>(), "{}", lanes.kind());
        }
    }
}
