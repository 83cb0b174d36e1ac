//! Many messages hashed side by side: MD5 of keys and of aggregates, SHA-256 of bodies.
//!
//! A hash is one long chain, each step of which waits for the one before, so that one message uses a small part of
//! what a processor can do. Messages that do not depend on each other can share it.

mod sha256;

use std::fmt;
use std::ops::AddAssign;

use md5::{Digest, Md5};

use super::hash_key;
use crate::record::HashKey;
pub use sha256::{Sha256, update_pair};

/// How full the lanes were: `blocks` of 64 bytes were hashed in `slots` places for blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Blocks of messages, padding included.
    pub blocks: u64,
    /// Blocks that the lanes went through, idle ones included; as many as `blocks`, or more.
    pub slots: u64,
}

impl AddAssign for Fill {
    fn add_assign(&mut self, other: Fill) {
        self.blocks += other.blocks;
        self.slots += other.slots;
    }
}

/// What hashes MD5 side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 16 lanes of AVX-512.
    Avx512,
    /// 16 or 8 lanes of AVX2.
    Avx2,
    /// 8 or 4 lanes of NEON.
    Neon,
    /// One message after the other.
    Portable,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Avx512 => "avx512",
            Kind::Avx2 => "avx2",
            Kind::Neon => "neon",
            Kind::Portable => "portable",
        })
    }
}

/// Which lanes this machine runs.
pub fn kind() -> Kind {
    Kind::Portable
}

/// The hash keys of `keys`, in their order.
///
/// # Panics
///
/// If there are not as many `hashes` as `keys`.
pub fn hash_keys(keys: &[&[u8]], hashes: &mut [HashKey]) -> Fill {
    assert_eq!(keys.len(), hashes.len(), "a place for each hash key");
    let mut blocks = 0;
    for (key, hash) in keys.iter().zip(hashes) {
        *hash = hash_key(key);
        blocks += blocks_of(key.len());
    }
    Fill { blocks, slots: blocks }
}

/// The MD5 of each of `messages`, whose parts are taken as one, in their order.
///
/// # Panics
///
/// If there are not as many `digests` as `messages`.
pub fn digests(messages: &[[&[u8]; 3]], digests: &mut [[u8; 16]]) -> Fill {
    assert_eq!(messages.len(), digests.len(), "a place for each digest");
    let mut blocks = 0;
    for (parts, digest) in messages.iter().zip(digests) {
        *digest = parts.iter().fold(Md5::new(), |md5, part| md5.chain_update(part)).finalize().into();
        blocks += blocks_of(parts.iter().map(|part| part.len()).sum());
    }
    Fill { blocks, slots: blocks }
}

/// Blocks of a message of `len` bytes: its padding is at least a byte and the length, of eight.
fn blocks_of(len: usize) -> u64 {
    (len + 9).div_ceil(64) as u64
}
