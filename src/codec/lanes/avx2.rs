//! AVX2: vectors of eight lanes.
//!
//! It has no rotation and no operation of three operands, so that a step is some ten instructions. Three forms are
//! chosen for it:
//! 1. G adds its two halves one after the other, as they have no bit in common: what does not depend on the step before
//!    is then added in advance.
//! 2. I is `c ^ (b | !d)` = `-1 - (c ^ (!b & d))`, which needs no instruction for a negation; the 1 is in the constant.
//! 3. A rotation by 16 is a shuffle.
//!
//! X2: an [`Eight`] exists only within the functions below that have the feature.

use std::arch::asm;
use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_and_si256, _mm256_andnot_si256, _mm256_loadu_si256,
    _mm256_or_si256, _mm256_set_m128i, _mm256_set1_epi32, _mm256_setr_epi8, _mm256_shuffle_epi8, _mm256_slli_epi32,
    _mm256_srli_epi32, _mm256_storeu_si256, _mm256_sub_epi32, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::kernel::{Block, LANES_MAX, States};
use super::md5::{Vector, compress};

/// Sixteen lanes: two vectors, whose steps alternate.
#[target_feature(enable = "avx2")]
pub(super) fn sixteen(states: &mut States, blocks: &[&[Block]; LANES_MAX]) -> usize {
    compress::<Eight, 2>(states, blocks)
}

/// Eight lanes.
#[target_feature(enable = "avx2")]
pub(super) fn eight(states: &mut States, blocks: &[&[Block]; LANES_MAX]) -> usize {
    compress::<Eight, 1>(states, blocks)
}

/// What needs AVX2, within the methods of [`Eight`].
macro_rules! avx2 {
    ($instructions:expr) => {
        // SAFETY: X2; what is read or written is behind a reference of that size.
        unsafe { $instructions }
    };
}

#[derive(Clone, Copy)]
struct Eight(__m256i);

impl Eight {
    /// Itself, but the compiler does not know that: what is added to it is added last.
    #[inline(always)]
    fn settled(self) -> Eight {
        #[inline]
        #[target_feature(enable = "avx2")]
        fn settled(mut words: __m256i) -> __m256i {
            // SAFETY: there is no instruction in it.
            unsafe { asm!("/* {0} */", inout(ymm_reg) words, options(pure, nomem, nostack, preserves_flags)) };
            words
        }
        Eight(avx2!(settled(self.0)))
    }
}

impl Vector for Eight {
    const LANES: usize = 8;
    /// What `-1 - x` owes to `-x`.
    const BIAS_OF_I: u32 = u32::MAX;

    #[inline(always)]
    fn splat(word: u32) -> Eight {
        Eight(avx2!(_mm256_set1_epi32(word.cast_signed())))
    }

    #[inline(always)]
    fn load(words: &[u32]) -> Eight {
        let words: &[u32; 8] = words.first_chunk().expect("a vector of words");
        Eight(avx2!(_mm256_loadu_si256(words.as_ptr().cast())))
    }

    #[inline(always)]
    fn store(self, words: &mut [u32]) {
        let words: &mut [u32; 8] = words.first_chunk_mut().expect("a vector of words");
        avx2!(_mm256_storeu_si256(words.as_mut_ptr().cast(), self.0));
    }

    #[inline(always)]
    fn quarters<'a>(words: impl Fn(usize) -> &'a [u8; 16]) -> Eight {
        let [low, high] = [words(0), words(1)];
        Eight(avx2!(_mm256_set_m128i(_mm_loadu_si128(high.as_ptr().cast()), _mm_loadu_si128(low.as_ptr().cast()))))
    }

    #[inline(always)]
    fn zip_words(self, other: Eight) -> [Eight; 2] {
        avx2!([Eight(_mm256_unpacklo_epi32(self.0, other.0)), Eight(_mm256_unpackhi_epi32(self.0, other.0))])
    }

    #[inline(always)]
    fn zip_halves(self, other: Eight) -> [Eight; 2] {
        avx2!([Eight(_mm256_unpacklo_epi64(self.0, other.0)), Eight(_mm256_unpackhi_epi64(self.0, other.0))])
    }

    #[inline(always)]
    fn plus(self, other: Eight) -> Eight {
        Eight(avx2!(_mm256_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Eight {
        if LEFT == 16 {
            return Eight(avx2!(_mm256_shuffle_epi8(
                self.0,
                _mm256_setr_epi8(
                    2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15,
                    12, 13
                )
            )));
        }
        Eight(avx2!(_mm256_or_si256(_mm256_slli_epi32::<LEFT>(self.0), _mm256_srli_epi32::<RIGHT>(self.0))))
    }

    #[inline(always)]
    fn plus_f(self, b: Eight, c: Eight, d: Eight) -> Eight {
        let f = avx2!(_mm256_xor_si256(d.0, _mm256_and_si256(b.0, _mm256_xor_si256(c.0, d.0))));
        self.settled().plus(Eight(f))
    }

    #[inline(always)]
    fn plus_g(self, b: Eight, c: Eight, d: Eight) -> Eight {
        let [without_d, with_d] = avx2!([_mm256_andnot_si256(d.0, c.0), _mm256_and_si256(d.0, b.0)]);
        self.plus(Eight(without_d)).settled().plus(Eight(with_d))
    }

    #[inline(always)]
    fn plus_h(self, b: Eight, c: Eight, d: Eight) -> Eight {
        self.settled().plus(Eight(avx2!(_mm256_xor_si256(b.0, _mm256_xor_si256(c.0, d.0)))))
    }

    #[inline(always)]
    fn plus_i(self, b: Eight, c: Eight, d: Eight) -> Eight {
        Eight(avx2!(_mm256_sub_epi32(self.settled().0, _mm256_xor_si256(c.0, _mm256_andnot_si256(b.0, d.0)))))
    }
}
