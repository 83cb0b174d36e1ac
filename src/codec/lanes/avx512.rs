//! AVX-512: vectors of sixteen lanes, with a rotation and with any function of three bits in one instruction each.
//!
//! A step is a chain of four instructions, and six in all. Sixteen lanes wait for that chain most of the time: on Zen 5 a second
//! group costs a tenth.
//!
//! X512: a [`Sixteen`] exists only within the function below that has the feature.

use std::arch::asm;
use std::arch::x86_64::{
    __m512i, _mm_loadu_si128, _mm512_add_epi32, _mm512_castsi128_si512, _mm512_inserti32x4, _mm512_loadu_si512,
    _mm512_rol_epi32, _mm512_set1_epi32, _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::kernel::{Block, LANES_MAX, States};
use super::md5::{Vector, compress};

/// Sixteen lanes.
#[target_feature(enable = "avx512f")]
pub(super) fn sixteen(states: &mut States, blocks: &[&[Block]; LANES_MAX]) -> usize {
    compress::<Sixteen, 1>(states, blocks)
}

/// Two groups of sixteen lanes.
#[target_feature(enable = "avx512f")]
pub(super) fn thirty_two(states: &mut States, blocks: &[&[Block]; LANES_MAX]) -> usize {
    compress::<Sixteen, 2>(states, blocks)
}

/// What needs AVX-512, within the methods of [`Sixteen`].
macro_rules! avx512 {
    ($instructions:expr) => {
        // SAFETY: X512; what is read or written is behind a reference of that size.
        unsafe { $instructions }
    };
}

/// F, G, H and I as tables: bit `4b + 2c + d` is what becomes of these three bits.
const F: i32 = 0b1100_1010;
const G: i32 = 0b1110_0100;
const H: i32 = 0b1001_0110;
const I: i32 = 0b0011_1001;

#[derive(Clone, Copy)]
struct Sixteen(__m512i);

impl Sixteen {
    /// Itself, but the compiler does not know that: what is added to it is added last.
    #[inline(always)]
    fn settled(self) -> Sixteen {
        #[inline]
        #[target_feature(enable = "avx512f")]
        fn settled(mut words: __m512i) -> __m512i {
            // SAFETY: there is no instruction in it.
            unsafe { asm!("/* {0} */", inout(zmm_reg) words, options(pure, nomem, nostack, preserves_flags)) };
            words
        }
        Sixteen(avx512!(settled(self.0)))
    }
}

impl Vector for Sixteen {
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(word: u32) -> Sixteen {
        Sixteen(avx512!(_mm512_set1_epi32(word.cast_signed())))
    }

    #[inline(always)]
    fn load(words: &[u32]) -> Sixteen {
        let words: &[u32; 16] = words.first_chunk().expect("a vector of words");
        Sixteen(avx512!(_mm512_loadu_si512(words.as_ptr().cast())))
    }

    #[inline(always)]
    fn store(self, words: &mut [u32]) {
        let words: &mut [u32; 16] = words.first_chunk_mut().expect("a vector of words");
        avx512!(_mm512_storeu_si512(words.as_mut_ptr().cast(), self.0));
    }

    #[inline(always)]
    fn quarters<'a>(words: impl Fn(usize) -> &'a [u8; 16]) -> Sixteen {
        let [w0, w1, w2, w3] = [words(0), words(1), words(2), words(3)].map(|words| words.as_ptr().cast());
        avx512!({
            let first = _mm512_castsi128_si512(_mm_loadu_si128(w0));
            let half = _mm512_inserti32x4::<1>(first, _mm_loadu_si128(w1));
            let most = _mm512_inserti32x4::<2>(half, _mm_loadu_si128(w2));
            Sixteen(_mm512_inserti32x4::<3>(most, _mm_loadu_si128(w3)))
        })
    }

    #[inline(always)]
    fn zip_words(self, other: Sixteen) -> [Sixteen; 2] {
        avx512!([Sixteen(_mm512_unpacklo_epi32(self.0, other.0)), Sixteen(_mm512_unpackhi_epi32(self.0, other.0))])
    }

    #[inline(always)]
    fn zip_halves(self, other: Sixteen) -> [Sixteen; 2] {
        avx512!([Sixteen(_mm512_unpacklo_epi64(self.0, other.0)), Sixteen(_mm512_unpackhi_epi64(self.0, other.0))])
    }

    #[inline(always)]
    fn plus(self, other: Sixteen) -> Sixteen {
        Sixteen(avx512!(_mm512_add_epi32(self.0, other.0)))
    }

    #[inline(always)]
    fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Sixteen {
        Sixteen(avx512!(_mm512_rol_epi32::<LEFT>(self.0)))
    }

    #[inline(always)]
    fn plus_f(self, b: Sixteen, c: Sixteen, d: Sixteen) -> Sixteen {
        self.settled().plus(Sixteen(avx512!(_mm512_ternarylogic_epi32::<F>(b.0, c.0, d.0))))
    }

    #[inline(always)]
    fn plus_g(self, b: Sixteen, c: Sixteen, d: Sixteen) -> Sixteen {
        self.settled().plus(Sixteen(avx512!(_mm512_ternarylogic_epi32::<G>(b.0, c.0, d.0))))
    }

    #[inline(always)]
    fn plus_h(self, b: Sixteen, c: Sixteen, d: Sixteen) -> Sixteen {
        self.settled().plus(Sixteen(avx512!(_mm512_ternarylogic_epi32::<H>(b.0, c.0, d.0))))
    }

    #[inline(always)]
    fn plus_i(self, b: Sixteen, c: Sixteen, d: Sixteen) -> Sixteen {
        self.settled().plus(Sixteen(avx512!(_mm512_ternarylogic_epi32::<I>(b.0, c.0, d.0))))
    }
}
