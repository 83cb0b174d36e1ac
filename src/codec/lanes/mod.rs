//! Many messages hashed side by side: MD5 of keys and of aggregates, SHA-256 of bodies.
//!
//! A hash is one long chain, each step of which waits for the one before, so that one message uses a small part of
//! what a processor can do. Messages that do not depend on each other can share it.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod kernel;
mod keys;
mod md5;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
mod neon;
mod schedule;
mod sha256;
#[cfg(target_arch = "x86_64")]
mod sha_ni;

use std::fmt;
use std::ops::AddAssign;

use crate::record::HashKey;
use kernel::Kernel;
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

/// Lanes that this machine runs.
#[derive(Clone, Copy)]
pub struct Lanes {
    kind: Kind,
    kernels: &'static [Kernel],
}

impl Lanes {
    /// All that this machine runs, the best first.
    pub fn all() -> impl Iterator<Item = Lanes> {
        let kinds = [Kind::Avx512, Kind::Avx2, Kind::Neon, Kind::Portable];
        kinds.into_iter().filter_map(|kind| Some(Lanes { kind, kernels: kernel::kernels(kind)? }))
    }

    /// The best.
    pub fn best() -> Lanes {
        Lanes::all().next().expect("the portable kind runs everywhere")
    }

    /// Which they are.
    pub fn kind(self) -> Kind {
        self.kind
    }

    /// [`hash_keys`], in these lanes.
    pub fn hash_keys(self, keys: &[&[u8]], hashes: &mut [HashKey]) -> Fill {
        keys::hash_keys(self.kernels, keys, hashes)
    }

    /// [`digests`], in these lanes.
    pub fn digests(self, messages: &[[&[u8]; 3]], digests: &mut [[u8; 16]]) -> Fill {
        schedule::digests(self.kernels, messages, digests)
    }
}

/// Which lanes this machine runs.
pub fn kind() -> Kind {
    Lanes::best().kind
}

/// The hash keys of `keys`, in their order.
///
/// # Panics
///
/// If there are not as many `hashes` as `keys`.
pub fn hash_keys(keys: &[&[u8]], hashes: &mut [HashKey]) -> Fill {
    Lanes::best().hash_keys(keys, hashes)
}

/// The MD5 of each of `messages`, whose parts are taken as one, in their order.
///
/// # Panics
///
/// If there are not as many `digests` as `messages`.
pub fn digests(messages: &[[&[u8]; 3]], digests: &mut [[u8; 16]]) -> Fill {
    Lanes::best().digests(messages, digests)
}

/// Blocks of a message of `len` bytes: its padding is at least a byte and the length, of eight.
fn blocks_of(len: usize) -> u64 {
    (len / 64 + if len % 64 < 56 { 1 } else { 2 }) as u64
}

#[cfg(test)]
mod tests;
