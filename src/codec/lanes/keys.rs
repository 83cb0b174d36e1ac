//! Hash keys, side by side: nearly every key is one block, so that sixteen are sixteen blocks and no state is kept.
//!
//! ```text
//!    key "customer-7"   c u s t o m e r - 7 80 00 00 … 00 │ 50 00 00 00 00 00 00 00
//!                       └──────── up to 55 bytes ───────┘   length in bits
//! ```
//!
//! Keys that need more than a block are put aside and hashed as messages.

use super::kernel::{Block, INITIAL, Kernel, LANES_MAX, digest, pick};
use super::{Fill, schedule};
use crate::record::HashKey;

/// Bytes of a key that share a block with their padding.
const ONE_BLOCK: usize = 64 - 9;

/// Keys that wait for a batch to be full, and where their hash keys go.
struct Batch<T> {
    keys: [T; LANES_MAX],
    places: [usize; LANES_MAX],
    count: usize,
}

pub(super) fn hash_keys(kernels: &[Kernel], keys: &[&str], hashes: &mut [HashKey]) -> Fill {
    assert_eq!(keys.len(), hashes.len(), "a place for each hash key");
    let width = kernels[0].lanes;
    let mut fill = Fill::default();
    let mut short = Batch { keys: [[0; 64]; LANES_MAX], places: [0; LANES_MAX], count: 0 };
    let mut long = Batch { keys: [[&[][..]; 3]; LANES_MAX], places: [0; LANES_MAX], count: 0 };
    for (place, key) in keys.iter().enumerate() {
        if key.len() <= ONE_BLOCK {
            stage(key.as_bytes(), &mut short.keys[short.count]);
            short.places[short.count] = place;
            short.count += 1;
            if short.count == width {
                fill += hash_short(kernels, &mut short, hashes);
            }
        } else {
            long.keys[long.count] = [key.as_bytes(), &[], &[]];
            long.places[long.count] = place;
            long.count += 1;
            if long.count == width {
                fill += hash_long(kernels, &mut long, hashes);
            }
        }
    }
    fill += hash_short(kernels, &mut short, hashes);
    fill += hash_long(kernels, &mut long, hashes);
    fill
}

/// Hashes what there is of keys of one block.
fn hash_short(kernels: &[Kernel], batch: &mut Batch<Block>, hashes: &mut [HashKey]) -> Fill {
    let mut fill = Fill::default();
    let mut keys = &batch.keys[..batch.count];
    let mut places = &batch.places[..batch.count];
    while !keys.is_empty() {
        let kernel = pick(kernels, keys.len());
        let taken = keys.len().min(kernel.lanes);
        let mut blocks = [&keys[..1]; LANES_MAX];
        for (lane, block) in blocks.iter_mut().zip(keys[..taken].chunks(1)) {
            *lane = block;
        }
        let mut states = INITIAL.map(|word| [word; LANES_MAX]);
        kernel.compress(&mut states, &blocks);
        for (lane, place) in places[..taken].iter().enumerate() {
            hashes[*place] = HashKey(u128::from_be_bytes(digest(&states, lane)));
        }
        fill += Fill { blocks: taken as u64, slots: kernel.lanes as u64 };
        keys = &keys[taken..];
        places = &places[taken..];
    }
    batch.count = 0;
    fill
}

/// Hashes what there is of longer keys.
#[cold]
fn hash_long(kernels: &[Kernel], batch: &mut Batch<[&[u8]; 3]>, hashes: &mut [HashKey]) -> Fill {
    let mut digests = [[0; 16]; LANES_MAX];
    let fill = schedule::digests(kernels, &batch.keys[..batch.count], &mut digests[..batch.count]);
    for (place, digest) in batch.places.iter().zip(&digests[..batch.count]) {
        hashes[*place] = HashKey(u128::from_be_bytes(*digest));
    }
    batch.count = 0;
    fill
}

/// Writes a key of one block with its padding.
fn stage(key: &[u8], block: &mut Block) {
    *block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    block[key.len()] = 0x80;
    *block.last_chunk_mut().expect("eight of its bytes") = (key.len() as u64 * 8).to_le_bytes();
}
