//! MD5 of as many messages as a vector has lanes, one algorithm for all processors.
//!
//! ```text
//!              lane 0       lane 1       lane 2       lane 3
//!    a    │  a of m0   │  a of m1   │  a of m2   │  a of m3   │    state: four vectors
//!    b    │  b of m0   │  b of m1   │  …
//!    ⋮
//!    w0   │ word 0 m0  │ word 0 m1  │  …                          a block of each message: sixteen vectors,
//!    w1   │ word 1 m0  │ …                                        transposed as they are loaded
//!    ⋮
//! ```
//!
//! A step of RFC 1321 is then a step of all lanes: `a = b + ((a + k + w + mix(b, c, d)) <<< s)`. The naive form does this 64
//! times a block, one vector after the other. The departures, with the cycles that a block in each lane took on Zen 3 with AVX2:
//! 1. A step waits for the one before, five or six instructions long, so that one vector leaves much of a processor idle.
//!    The steps of two groups of lanes alternate: 447 cycles for sixteen lanes, where eight take 400.
//! 2. The next block is transposed between the steps of this one, or else each block would begin with loads and shuffles
//!    that nothing waits beside: 459 cycles instead of 493, and 526 instead of 630 where all messages begin at the same
//!    place of a page, and so meet in the same few lines of the cache.
//! 3. What a step adds that does not depend on the one before is added first, and the compiler is kept from another order:
//!    400 cycles for eight lanes instead of 478.
//!
//! What a processor brings is a [`Vector`]. Its methods are `#[inline(always)]`, so that they become part of the one
//! function of their backend that has the processor's feature; nothing of them is called by itself.

use std::hint::black_box;

use super::kernel::{Block, LANES_MAX, States};

/// One word of each lane.
pub(super) trait Vector: Copy {
    /// Words of a vector: a multiple of 4.
    const LANES: usize;
    /// Added to the constants of round 4, for [`Vector::plus_i`] to take off again.
    const BIAS_OF_I: u32 = 0;

    /// `word` in each lane.
    fn splat(word: u32) -> Self;
    /// The first words.
    fn load(words: &[u32]) -> Self;
    /// Overwrites the first words.
    fn store(self, words: &mut [u32]);
    /// Four words each of lanes 0, 4, 8 and so on, one lane after the other.
    fn quarters<'a>(words: impl Fn(usize) -> &'a [u8; 16]) -> Self;
    /// The words 0 and 1 of each four of `self` and `other`, in turns; and the words 2 and 3.
    fn zip_words(self, other: Self) -> [Self; 2];
    /// The lower halves of each four, and the upper halves.
    fn zip_halves(self, other: Self) -> [Self; 2];
    /// The sum.
    fn plus(self, other: Self) -> Self;
    /// Rotated left; `RIGHT` is 32 less `LEFT`.
    fn rotate<const LEFT: i32, const RIGHT: i32>(self) -> Self;
    /// Plus `b ? c : d`, bit by bit.
    fn plus_f(self, b: Self, c: Self, d: Self) -> Self;
    /// Plus `d ? b : c`, bit by bit.
    fn plus_g(self, b: Self, c: Self, d: Self) -> Self;
    /// Plus `b ^ c ^ d`.
    fn plus_h(self, b: Self, c: Self, d: Self) -> Self;
    /// Plus `c ^ (b | !d)`, less the bias.
    fn plus_i(self, b: Self, c: Self, d: Self) -> Self;
}

/// The constants of the steps: `floor(2^32 * |sin(step + 1)|)`.
const K: [u32; 64] = [
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501, 0x698098d8,
    0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340,
    0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87,
    0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c,
    0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039,
    0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92,
    0xffeff47d, 0x85845dd1, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb,
    0xeb86d391,
];

/// A vector of each constant, with the bias of round 4, one after the other.
const fn constants<V: Vector>() -> [u32; 64 * LANES_MAX] {
    let mut constants = [0; 64 * LANES_MAX];
    let mut at = 0;
    while at < 64 * V::LANES {
        let step = at / V::LANES;
        constants[at] = K[step].wrapping_add(if step < 48 { 0 } else { V::BIAS_OF_I });
        at += 1;
    }
    constants
}

/// Takes the blocks of `GROUPS * V::LANES` lanes into their states, as many as the shortest lane has, and says how many.
#[inline(always)]
pub(super) fn compress<V: Vector, const GROUPS: usize>(states: &mut States, blocks: &[&[Block]; LANES_MAX]) -> usize {
    let mut count = blocks[0].len();
    for lane in &blocks[1..V::LANES * GROUPS] {
        count = count.min(lane.len());
    }
    let mut state = [[V::splat(0); 4]; GROUPS];
    for group in 0..GROUPS {
        for word in 0..4 {
            state[group][word] = V::load(&states[word][group * V::LANES..]);
        }
    }
    if count > 0 {
        let mut words = [[V::splat(0); 16]; GROUPS];
        for part in 0..4 * GROUPS {
            // SAFETY: every lane has a first block.
            unsafe { transpose::<V, GROUPS>(blocks, 0, part, &mut words) };
        }
        for next in 1..count {
            // SAFETY: `next` is below `count`, which is the least length of all lanes.
            words = unsafe { rounds(&mut state, &words, Some((blocks, next))) };
        }
        // SAFETY: there is no next block.
        unsafe { rounds(&mut state, &words, None) };
    }
    for group in 0..GROUPS {
        for word in 0..4 {
            state[group][word].store(&mut states[word][group * V::LANES..]);
        }
    }
    count
}

/// Part `part` of `4 * GROUPS` of the words of the lanes' blocks `index`.
///
/// # Safety
///
/// Each lane has that block.
#[inline(always)]
unsafe fn transpose<V: Vector, const GROUPS: usize>(
    blocks: &[&[Block]; LANES_MAX],
    index: usize,
    part: usize,
    words: &mut [[V; 16]; GROUPS],
) {
    let (group, quarter) = (part / 4, part % 4);
    let quarter_of = |lane: usize| {
        // SAFETY: as above.
        let block = unsafe { blocks[group * V::LANES + lane].get_unchecked(index) };
        &block.as_chunks().0[quarter]
    };
    // Lanes 4n + 0, 1, 2 and 3, each four a square of four words by four lanes.
    let l0 = V::quarters(|fourth| quarter_of(fourth * 4));
    let l1 = V::quarters(|fourth| quarter_of(fourth * 4 + 1));
    let l2 = V::quarters(|fourth| quarter_of(fourth * 4 + 2));
    let l3 = V::quarters(|fourth| quarter_of(fourth * 4 + 3));
    let [l01_w01, l01_w23] = l0.zip_words(l1);
    let [l23_w01, l23_w23] = l2.zip_words(l3);
    let [w0, w1] = l01_w01.zip_halves(l23_w01);
    let [w2, w3] = l01_w23.zip_halves(l23_w23);
    words[group][quarter * 4] = w0;
    words[group][quarter * 4 + 1] = w1;
    words[group][quarter * 4 + 2] = w2;
    words[group][quarter * 4 + 3] = w3;
}

/// The 64 steps of a block, and the words of the next block, if there is one.
///
/// # Safety
///
/// Each lane has the next block.
#[inline(always)]
unsafe fn rounds<V: Vector, const GROUPS: usize>(
    state: &mut [[V; 4]; GROUPS],
    words: &[[V; 16]; GROUPS],
    next: Option<(&[&[Block]; LANES_MAX], usize)>,
) -> [[V; 16]; GROUPS] {
    // Hidden from the compiler, which would build these vectors at the beginning of each call and keep them on the stack.
    let constants = black_box(const { &constants::<V>() });
    let before = *state;
    let mut next_words = [[V::splat(0); 16]; GROUPS];
    macro_rules! round {
        ($round:literal: $s0:literal $s1:literal $s2:literal $s3:literal) => {
            round!($round, 0: $s0 $s1 $s2 $s3);
            round!($round, 1: $s0 $s1 $s2 $s3);
            round!($round, 2: $s0 $s1 $s2 $s3);
            round!($round, 3: $s0 $s1 $s2 $s3);
        };
        ($round:literal, $quad:literal: $s0:literal $s1:literal $s2:literal $s3:literal) => {
            step::<V, GROUPS, $round, $s0, { 32 - $s0 }>(state, words, constants, 4 * $quad);
            step::<V, GROUPS, $round, $s1, { 32 - $s1 }>(state, words, constants, 4 * $quad + 1);
            step::<V, GROUPS, $round, $s2, { 32 - $s2 }>(state, words, constants, 4 * $quad + 2);
            step::<V, GROUPS, $round, $s3, { 32 - $s3 }>(state, words, constants, 4 * $quad + 3);
            let quad = 4 * $round + $quad;
            let every = 4 / GROUPS;
            if let Some((blocks, index)) = next && quad % every == 0 {
                // SAFETY: as above.
                unsafe { transpose::<V, GROUPS>(blocks, index, quad / every, &mut next_words) };
            }
        };
    }
    round!(0: 7 12 17 22);
    round!(1: 5 9 14 20);
    round!(2: 4 11 16 23);
    round!(3: 6 10 15 21);
    for group in 0..GROUPS {
        for word in 0..4 {
            state[group][word] = state[group][word].plus(before[group][word]);
        }
    }
    next_words
}

/// Step `at` of 16 of a round, of all groups.
#[inline(always)]
fn step<V: Vector, const GROUPS: usize, const ROUND: usize, const LEFT: i32, const RIGHT: i32>(
    state: &mut [[V; 4]; GROUPS],
    words: &[[V; 16]; GROUPS],
    constants: &[u32; 64 * LANES_MAX],
    at: usize,
) {
    let word = match ROUND {
        0 => at,
        1 => (5 * at + 1) % 16,
        2 => (3 * at + 5) % 16,
        _ => 7 * at % 16,
    };
    let constant = V::load(&constants[(16 * ROUND + at) * V::LANES..]);
    // The names move on by one word a step: what is written was `a`, and is `b` to the next step.
    let target = (16 - at) % 4;
    for group in 0..GROUPS {
        let [a, b, c, d] = [target, target + 1, target + 2, target + 3].map(|name| state[group][name % 4]);
        let sum = a.plus(constant).plus(words[group][word]);
        let sum = match ROUND {
            0 => sum.plus_f(b, c, d),
            1 => sum.plus_g(b, c, d),
            2 => sum.plus_h(b, c, d),
            _ => sum.plus_i(b, c, d),
        };
        state[group][target] = sum.rotate::<LEFT, RIGHT>().plus(b);
    }
}
