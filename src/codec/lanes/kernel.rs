//! The kernels: what takes blocks of several messages into their states, and for how many messages each pays.
//!
//! ```text
//!    blocks   │ lane 0: ▒▒▒▒▒▒ │ lane 1: ▒▒▒▒ │ lane 2: ▒▒▒▒▒▒▒▒ │ …        slices of whole blocks
//!                      ▼               ▼               ▼
//!    states   │ a b c d        │ a b c d      │ a b c d          │ …        four blocks on: what the shortest has
//! ```
//!
//! A kernel runs all of its lanes in any case. Whoever has fewer messages gives the idle lanes some message's blocks
//! and forgets what came of it. A block in each lane takes, on Zen 3, 447 cycles in sixteen lanes of AVX2, 400 in eight,
//! and 365 alone: so eight lanes pay from two messages on, and sixteen from nine. With AVX-512, on Zen 5, it takes 565 in 32
//! lanes, 508 in sixteen and 361 alone. Of NEON it is a guess, by the latencies of its instructions: four lanes pay from three messages on.
//!
//! K1: a [`Kernel`] is handed out by [`kernels`] alone, which has asked the processor.

use super::Kind;
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
use super::neon;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// What MD5 takes at once.
pub(super) type Block = [u8; 64];
/// Lanes of the widest kernel.
pub(crate) const LANES_MAX: usize = 32;
/// The words a, b, c and d of each lane.
pub(super) type States = [[u32; LANES_MAX]; 4];

/// The state of a message that has not begun: RFC 1321, 3.3.
pub(super) const INITIAL: [u32; 4] = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476];

/// Takes blocks into the states of its first lanes, as many as the shortest of them has, and says how many.
///
/// SAFETY: to be called only where the processor has the feature that the kind is named after (K1).
type Compress = unsafe fn(&mut States, &[&[Block]; LANES_MAX]) -> usize;

/// A way to hash `lanes` messages side by side.
pub(super) struct Kernel {
    /// Messages that it takes at once.
    pub(super) lanes: usize,
    /// With fewer messages than these the next kernel is quicker.
    least: usize,
    compress: Compress,
}

impl Kernel {
    /// Takes blocks into the states of the first lanes, as many as the shortest of them has, and says how many.
    pub(super) fn compress(&self, states: &mut States, blocks: &[&[Block]; LANES_MAX]) -> usize {
        // SAFETY: K1.
        unsafe { (self.compress)(states, blocks) }
    }
}

/// One message.
const ONE: Kernel = Kernel { lanes: 1, least: 0, compress: one };
#[cfg(target_arch = "x86_64")]
static AVX512: [Kernel; 3] = [
    Kernel { lanes: 32, least: 17, compress: avx512::thirty_two },
    Kernel { lanes: 16, least: 2, compress: avx512::sixteen },
    ONE,
];
#[cfg(target_arch = "x86_64")]
static AVX2: [Kernel; 3] = [
    Kernel { lanes: 16, least: 9, compress: avx2::sixteen },
    Kernel { lanes: 8, least: 2, compress: avx2::eight },
    ONE,
];
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
static NEON: [Kernel; 3] =
    [Kernel { lanes: 8, least: 5, compress: neon::eight }, Kernel { lanes: 4, least: 3, compress: neon::four }, ONE];
static PORTABLE: [Kernel; 1] = [ONE];

/// The kernels of a kind, the widest first, if this machine runs them. The last is content with any message.
pub(super) fn kernels(kind: Kind) -> Option<&'static [Kernel]> {
    match kind {
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 if is_x86_feature_detected!("avx512f") => Some(&AVX512),
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 if is_x86_feature_detected!("avx2") => Some(&AVX2),
        #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
        Kind::Neon if std::arch::is_aarch64_feature_detected!("neon") => Some(&NEON),
        Kind::Portable => Some(&PORTABLE),
        _ => None,
    }
}

/// The kernel for `count` messages: the widest that they are enough for.
pub(super) fn pick(kernels: &[Kernel], count: usize) -> &Kernel {
    kernels.iter().find(|kernel| count >= kernel.least).expect("the last is content with any")
}

/// The MD5 of a lane whose last block is done.
pub(super) fn digest(states: &States, lane: usize) -> [u8; 16] {
    let mut digest = [0; 16];
    for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(states) {
        *bytes = word[lane].to_le_bytes();
    }
    digest
}

fn one(states: &mut States, blocks: &[&[Block]; LANES_MAX]) -> usize {
    let mut state = states.each_ref().map(|word| word[0]);
    md5::block_api::compress(&mut state, blocks[0]);
    for (word, new) in states.iter_mut().zip(state) {
        word[0] = new;
    }
    blocks[0].len()
}
