//! Hash keys, side by side: nearly every partition key is one block, so that as many keys as there are lanes are one step of them.
//!
//! ```text
//!    key "customer-7"   c u s t o m e r - 7 80 00 00 … 00 │ 50 00 00 00 00 00 00 00
//!                       └──────── up to 55 bytes ───────┘   length in bits
//! ```
//!
//! Keys that need more than a block are put aside, and hashed as messages.

use super::kernel::{Block, INITIAL, Kernel, LANES_MAX, digest, pick};
use super::{Fill, blocks_of, schedule};
use crate::codec::hash_key;
use crate::record::HashKey;

/// Bytes of a key that share a block with their padding.
const ONE_BLOCK: usize = 64 - 9;

/// Keys that are to be hashed together.
struct Batch<T> {
    keys: [T; LANES_MAX],
    /// Where the hash keys go.
    places: [usize; LANES_MAX],
    count: usize,
}

/// The hash keys of `keys`.
pub(super) fn hash_keys(kernels: &[Kernel], keys: &[&[u8]], hashes: &mut [HashKey]) -> Fill {
    assert_eq!(keys.len(), hashes.len(), "a place for each hash key");
    if pick(kernels, keys.len()).lanes == 1 {
        return hash_one_by_one(keys, hashes);
    }
    let width = kernels[0].lanes;
    let mut fill = Fill::default();
    let mut short = Batch { keys: [[0; 64]; LANES_MAX], places: [0; LANES_MAX], count: 0 };
    let mut long = Batch { keys: [&[][..]; LANES_MAX], places: [0; LANES_MAX], count: 0 };
    for (place, key) in keys.iter().enumerate() {
        if key.len() <= ONE_BLOCK {
            stage(key, &mut short.keys[short.count]);
            short.places[short.count] = place;
            short.count += 1;
            if short.count == width {
                fill += hash_short(kernels, &mut short, hashes);
            }
        } else {
            long.keys[long.count] = *key;
            long.places[long.count] = place;
            long.count += 1;
            if long.count == width {
                fill += hash_long(kernels, &mut long, hashes);
            }
        }
    }
    fill += hash_short(kernels, &mut short, hashes);
    if long.count > 0 {
        fill += hash_long(kernels, &mut long, hashes);
    }
    fill
}

/// Hashes keys that fill no lanes.
fn hash_one_by_one(keys: &[&[u8]], hashes: &mut [HashKey]) -> Fill {
    let mut blocks = 0;
    for (key, hash) in keys.iter().zip(hashes) {
        *hash = hash_key(key);
        blocks += blocks_of(key.len());
    }
    Fill { blocks, slots: blocks }
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
fn hash_long(kernels: &[Kernel], batch: &mut Batch<&[u8]>, hashes: &mut [HashKey]) -> Fill {
    let messages = batch.keys.map(|key| [key, &[], &[]]);
    let mut digests = [[0; 16]; LANES_MAX];
    let fill = schedule::digests(kernels, &messages[..batch.count], &mut digests[..batch.count]);
    for (place, digest) in batch.places.iter().zip(&digests[..batch.count]) {
        hashes[*place] = HashKey(u128::from_be_bytes(*digest));
    }
    batch.count = 0;
    fill
}

/// Writes a key of one block with its padding.
fn stage(key: &[u8], block: &mut Block) {
    *block = [0; 64];
    // Copies of a fixed size, as a copy of any size is a call.
    let copied = copy_ends::<32>(key, block) || copy_ends::<16>(key, block) || copy_ends::<8>(key, block);
    if !copied && !copy_ends::<4>(key, block) {
        block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    }
    block[key.len()] = 0x80;
    *block.last_chunk_mut().expect("eight of its bytes") = (key.len() as u64 * 8).to_le_bytes();
}

/// Copies the first and the last `N` bytes of a key, if it has as many.
fn copy_ends<const N: usize>(key: &[u8], block: &mut Block) -> bool {
    let (Some(first), Some(last)) = (key.first_chunk::<N>(), key.last_chunk::<N>()) else { return false };
    block[..N].copy_from_slice(first);
    block[key.len() - N..key.len()].copy_from_slice(last);
    true
}
