//! NEON: vectors of four lanes.
//!
//! It chooses between two words bit by bit in one instruction, which F and G are, and rotates in two: a shift, and a shift
//! that inserts. A step is some seven instructions.
//!
//! N4: a [`Four`] exists only within the functions below that have the feature.

use std::arch::aarch64::{
    uint32x4_t, vaddq_u32, vbslq_u32, vdupq_n_u32, veorq_u32, vld1q_u8, vld1q_u32, vornq_u32, vreinterpretq_u32_u8,
    vreinterpretq_u32_u64, vreinterpretq_u64_u32, vshlq_n_u32, vsriq_n_u32, vst1q_u32, vzip1q_u32, vzip1q_u64,
    vzip2q_u32, vzip2q_u64,
};
use std::arch::asm;

use super::kernel::{Block, LANES_MAX, States};
use super::md5::{Vector, compress};

/// Eight lanes: two vectors, whose steps alternate.
#[target_feature(enable = "neon")]
pub(super) fn eight(states: &mut States, blocks: &[&[Block]; LANES_MAX]) -> usize {
    compress::<Four, 2>(states, blocks)
}

/// Four lanes.
#[target_feature(enable = "neon")]
pub(super) fn four(states: &mut States, blocks: &[&[Block]; LANES_MAX]) -> usize {
    compress::<Four, 1>(states, blocks)
}

/// What needs NEON, within the methods of [`Four`].
macro_rules! neon {
    ($instructions:expr) => {
        // SAFETY: N4; what is read or written is behind a reference of that size.
        unsafe { $instructions }
    };
}

#[derive(Clone, Copy)]
struct Four(uint32x4_t);

impl Four {
    /// Itself, but the compiler does not know that: what is added to it is added last.
    #[inline(always)]
    fn settled(self) -> Four {
        #[inline]
        #[target_feature(enable = "neon")]
        fn settled(mut words: uint32x4_t) -> uint32x4_t {
            // SAFETY: there is no instruction in it.
            unsafe { asm!("/* {0:v} */", inout(vreg) words, options(pure, nomem, nostack, preserves_flags)) };
            words
        }
        Four(neon!(settled(self.0)))
    }
}

impl Vector for Four {
    const LANES: usize = 4;

    #[inline(always)]
    fn splat(word: u32) -> Four {
        Four(neon!(vdupq_n_u32(word)))
    }

    #[inline(always)]
    fn load(words: &[u32]) -> Four {
        let words: &[u32; 4] = words.first_chunk().expect("a vector of words");
        Four(neon!(vld1q_u32(words.as_ptr())))
    }

    #[inline(always)]
    fn store(self, words: &mut [u32]) {
        let words: &mut [u32; 4] = words.first_chunk_mut().expect("a vector of words");
        neon!(vst1q_u32(words.as_mut_ptr(), self.0));
    }

    #[inline(always)]
    fn quarters<'a>(words: impl Fn(usize) -> &'a [u8; 16]) -> Four {
        let words = words(0);
        Four(neon!(vreinterpretq_u32_u8(vld1q_u8(words.as_ptr()))))
    }

    #[inline(always)]
    fn zip_words(self, other: Four) -> [Four; 2] {
        neon!([Four(vzip1q_u32(self.0, other.0)), Four(vzip2q_u32(self.0, other.0))])
    }

    #[inline(always)]
    fn zip_halves(self, other: Four) -> [Four; 2] {
        neon!({
            let [own, others] = [vreinterpretq_u64_u32(self.0), vreinterpretq_u64_u32(other.0)];
            [vzip1q_u64(own, others), vzip2q_u64(own, others)].map(|half| Four(vreinterpretq_u32_u64(half)))
        })
    }

    #[inline(always)]
    fn plus(self, other: Four) -> Four {
        Four(neon!(vaddq_u32(self.0, other.0)))
    }

    #[inline(always)]
    fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Four {
        Four(neon!(vsriq_n_u32::<RIGHT>(vshlq_n_u32::<LEFT>(self.0), self.0)))
    }

    #[inline(always)]
    fn plus_f(self, b: Four, c: Four, d: Four) -> Four {
        self.settled().plus(Four(neon!(vbslq_u32(b.0, c.0, d.0))))
    }

    #[inline(always)]
    fn plus_g(self, b: Four, c: Four, d: Four) -> Four {
        self.settled().plus(Four(neon!(vbslq_u32(d.0, b.0, c.0))))
    }

    #[inline(always)]
    fn plus_h(self, b: Four, c: Four, d: Four) -> Four {
        self.settled().plus(Four(neon!(veorq_u32(b.0, veorq_u32(c.0, d.0)))))
    }

    #[inline(always)]
    fn plus_i(self, b: Four, c: Four, d: Four) -> Four {
        self.settled().plus(Four(neon!(veorq_u32(c.0, vornq_u32(b.0, d.0)))))
    }
}
