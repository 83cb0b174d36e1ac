//! Many messages hashed side by side: MD5 of partition keys and of aggregates, SHA-256 of request bodies.
//!
//! ```text
//!                                         one instruction
//!                             ┌──────┬──────┬──────┬──────┬───────┬──────┐
//!   hash_keys ── keys.rs ──┐  │ key  │ key  │ key  │ key  │   …   │ key  │   a block each
//!                          ├─▶└──────┴──────┴──────┴──────┴───────┴──────┘
//!   digests ── schedule.rs ┘   lane 0 lane 1 lane 2 lane 3         lane 15
//!                                 │
//!                kernel.rs: how wide, for how many ── md5.rs: the steps ── avx512.rs, avx2.rs, neon.rs, or md-5
//!
//!   update_pair ── sha256.rs ── sha_ni.rs: two streams, or sha2: one
//! ```
//!
//! A hash is one long chain, each step of which waits for the one before, so that a message by itself uses a small part
//! of what a processor can do. Messages that do not depend on each other share it: a vector has a word of each. The kind of
//! lanes is chosen at run time, by what the processor has.
//!
//! # Promises
//! - The digests are those of `md-5` and `sha2`, which are the portable path and, in the tests, the oracle.
//! - Nothing is allocated. What is read is what was given, whatever its alignment; nothing is read beyond it.
//! - [`Fill`] tells how much of the lanes' work was for a message.
//!
//! # Refusals
//! It hides no hash from an observer of its time, and clears no buffer: keys, aggregates and bodies are not secrets to
//! their own process. SHA-256 has two streams and no lanes: with the x86 extensions one is quicker alone than in eight lanes
//! of AVX2. On aarch64 it goes one by one.
//!
//! # Cost
//! Measured on an AMD EPYC (Zen 3, 3.2 GHz: AVX2, SHA extensions), one thread, best of 60 runs beside other work, by code like that
//! of `benches/lanes.rs`:
//!
//! | | alone | in lanes | |
//! |---|---|---|---|
//! | MD5 of 16 aggregates of 50 KiB | 0.57 GB/s | 7.0 GB/s | 12 times |
//! | MD5 of 8, of 2 | 0.57 GB/s | 4.0, 1.0 GB/s | 7 times, 1.8 times |
//! | MD5 of 40 messages of 1 to 50 kB | 0.56 GB/s | 6.2 GB/s | 11 times; lanes 98 % full |
//! | hash keys of 1024 keys of 10 bytes, each | 143 ns | 15 ns | 9 times |
//! | hash keys of 16, of 4, each | 143 ns | 18, 50 ns | 8 times, 3 times |
//! | SHA-256 of two bodies of 1 MiB | 1.6 GB/s | 2.4 GB/s | 1.5 times |
//!
//! On another (Zen 5, 3.9 GHz: AVX-512), by `benches/lanes.rs --quick`:
//!
//! | | alone | in lanes | |
//! |---|---|---|---|
//! | MD5 of 32 aggregates of 50 KiB | 0.68 GB/s | 14.1 GB/s | 21 times |
//! | MD5 of 16, of 8, of 2 | 0.69 GB/s | 7.8, 4.0, 1.0 GB/s | 11 times, 6 times, 1.4 times |
//! | hash keys of 1024 keys of 10 bytes, each | 120 ns | 8.3 ns | 14 times |
//! | hash keys of 16, of 4, each | 120 ns | 15, 51 ns | 8 times, 2.3 times |
//! | SHA-256 of two bodies of 1 MiB | 1.9 GB/s | 3.1 GB/s | 1.6 times |
//!
//! A lone message or key gains nothing, and goes to `md-5`. The lanes of NEON have passed their tests on an emulated processor
//! (QEMU), and were never timed; the tests run whatever kinds a machine has.
//!
//! This folder may use `unsafe`: for instructions that not every processor has, and for their loads and stores.

#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod kernel;
mod keys;
#[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little")))]
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
pub(crate) use kernel::LANES_MAX;
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
    /// 32 lanes of AVX-512, or 16 where no more are filled, on x86-64.
    Avx512,
    /// 16 lanes of AVX2, or 8 where no more are filled, on x86-64.
    Avx2,
    /// 8 lanes of NEON, or 4, on aarch64.
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

/// Lanes that this machine runs. [`hash_keys`] and [`digests`] take the best; tests and benches take each.
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

/// Which lanes this machine runs: `avx512`, `avx2`, `neon` or `portable`, for logs, reports and metrics.
pub fn kind() -> Kind {
    Lanes::best().kind
}

/// How many messages are to be brought together: as many as this machine's widest kernel takes, and 16 at least, since
/// narrower ones lose nothing by that.
pub(crate) fn together() -> usize {
    Lanes::best().kernels[0].lanes.max(16)
}

/// The hash keys of `keys`, in their order: of any number of them, of any length. A key of at most 55 bytes is one block.
///
/// # Panics
///
/// If there are not as many `hashes` as `keys`.
pub fn hash_keys(keys: &[&[u8]], hashes: &mut [HashKey]) -> Fill {
    Lanes::best().hash_keys(keys, hashes)
}

/// The MD5 of each of `messages`, in their order. The parts of a message are taken as one, and any may be empty.
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
