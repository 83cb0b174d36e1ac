//! SHA-256 of two messages at once, by the x86 SHA extensions.
//!
//! Two rounds are one instruction, `sha256rnds2`, which takes four cycles, and every second cycle one can begin. A
//! message's rounds wait for each other, so that one message uses half of that and a second one is nearly free:
//!
//! ```text
//!    a   │ rounds 0 1 ──▶ 2 3 ──▶ 4 5 ──▶ …
//!    b   │     rounds 0 1 ──▶ 2 3 ──▶ 4 5 ──▶ …
//! ```
//!
//! On Zen 5 a block of one message takes 128 cycles, and one of each of two 156, where that unit alone would take 128; 194
//! if words are made right before they are needed. On Zen 3 it was 129, and 173 by that order.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128, _mm_set_epi64x, _mm_sha256msg1_epu32,
    _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_storeu_si128,
};

use super::kernel::Block;

/// A state as the instructions have it: words A, B, E, F and C, D, G, H.
type Halves = [__m128i; 2];

/// The constants of the rounds: FIPS 180-4, 4.2.2.
const K: [[u32; 4]; 16] = [
    [0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5],
    [0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5],
    [0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3],
    [0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174],
    [0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc],
    [0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da],
    [0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7],
    [0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967],
    [0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13],
    [0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85],
    [0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3],
    [0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070],
    [0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5],
    [0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3],
    [0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208],
    [0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2],
];

/// Takes the blocks of each of two messages into its state, as many as the one with fewer has, and says how many.
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(super) fn compress_pair(states: [&mut [u32; 8]; 2], blocks: [&[Block]; 2]) -> usize {
    let [a_state, b_state] = states;
    let mut state = [load(a_state), load(b_state)];
    for (a_block, b_block) in blocks[0].iter().zip(blocks[1]) {
        let before = state;
        let mut words = [words(a_block), words(b_block)];
        for (quad, constants) in K.iter().enumerate() {
            state = rounds(state, [words[0][0], words[1][0]], constants);
            // Behind rounds that do without them: what comes right before the rounds that it is for delays them.
            words = if quad < 12 { words.map(|words| scheduled(words)) } else { words.map(moved_on) };
        }
        for (state, before) in state.iter_mut().zip(before) {
            *state = [_mm_add_epi32(state[0], before[0]), _mm_add_epi32(state[1], before[1])];
        }
    }
    store(state[0], a_state);
    store(state[1], b_state);
    blocks[0].len().min(blocks[1].len())
}

/// Four rounds of both messages.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn rounds(state: [Halves; 2], words: [__m128i; 2], constants: &[u32; 4]) -> [Halves; 2] {
    // SAFETY: it is behind a reference of that size.
    let constants = unsafe { _mm_loadu_si128(constants.as_ptr().cast()) };
    let [[a_abef, a_cdgh], [b_abef, b_cdgh]] = state;
    let [a_words, b_words] = [_mm_add_epi32(words[0], constants), _mm_add_epi32(words[1], constants)];
    let a_cdgh = _mm_sha256rnds2_epu32(a_cdgh, a_abef, a_words);
    let b_cdgh = _mm_sha256rnds2_epu32(b_cdgh, b_abef, b_words);
    let [a_words, b_words] = [_mm_shuffle_epi32::<0x0E>(a_words), _mm_shuffle_epi32::<0x0E>(b_words)];
    let a_abef = _mm_sha256rnds2_epu32(a_abef, a_cdgh, a_words);
    let b_abef = _mm_sha256rnds2_epu32(b_abef, b_cdgh, b_words);
    [[a_abef, a_cdgh], [b_abef, b_cdgh]]
}

/// Sixteen words of a message's schedule, of which four are done with, and no more are wanted behind them.
#[inline]
fn moved_on([_, w1, w2, w3]: [__m128i; 4]) -> [__m128i; 4] {
    [w1, w2, w3, w3]
}

/// Sixteen words of a message's schedule, moved on by four.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn scheduled([w0, w1, w2, w3]: [__m128i; 4]) -> [__m128i; 4] {
    let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8::<4>(w3, w2));
    [w1, w2, w3, _mm_sha256msg2_epu32(sum, w3)]
}

/// The sixteen words of a block.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn words(block: &Block) -> [__m128i; 4] {
    let big_endian = _mm_set_epi64x(0x0c0d0e0f_08090a0b, 0x04050607_00010203);
    let [w0, w1, w2, w3] = block.as_chunks::<16>().0 else { unreachable!("a block has four quarters") };
    // SAFETY: each is behind a reference of sixteen bytes.
    let words = [w0, w1, w2, w3].map(|quarter| unsafe { _mm_loadu_si128(quarter.as_ptr().cast()) });
    words.map(|words| _mm_shuffle_epi8(words, big_endian))
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn load(state: &[u32; 8]) -> Halves {
    // SAFETY: both halves are behind the reference.
    let (abcd, efgh) =
        unsafe { (_mm_loadu_si128(state[..4].as_ptr().cast()), _mm_loadu_si128(state[4..].as_ptr().cast())) };
    let [badc, hgfe] = [_mm_shuffle_epi32::<0xB1>(abcd), _mm_shuffle_epi32::<0x1B>(efgh)];
    [_mm_alignr_epi8::<8>(badc, hgfe), _mm_blend_epi16::<0xF0>(hgfe, badc)]
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn store([abef, cdgh]: Halves, state: &mut [u32; 8]) {
    let [feba, dchg] = [_mm_shuffle_epi32::<0x1B>(abef), _mm_shuffle_epi32::<0xB1>(cdgh)];
    let [abcd, efgh] = [_mm_blend_epi16::<0xF0>(feba, dchg), _mm_alignr_epi8::<8>(dchg, feba)];
    // SAFETY: both halves are behind the reference.
    unsafe {
        _mm_storeu_si128(state[..4].as_mut_ptr().cast(), abcd);
        _mm_storeu_si128(state[4..].as_mut_ptr().cast(), efgh);
    }
}
