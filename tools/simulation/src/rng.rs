//! Chance, from a seed: SplitMix64. The same seed draws the same numbers on every machine.
//!
//! Each part of the world forks its own generator, so that a change in what one part draws leaves the others alone.

use std::time::Duration;

/// A generator.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Two of the same seed draw alike.
    pub fn new(seed: u64) -> Rng {
        Rng(seed ^ 0x51D_5EED)
    }

    /// A generator of its own for another part of the world.
    pub fn fork(&mut self) -> Rng {
        Rng(self.next())
    }

    /// 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// 128 random bits.
    pub fn wide(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    /// `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// An index below `len`.
    pub fn index(&mut self, len: usize) -> usize {
        (self.next() % len as u64) as usize
    }

    /// True in `per_myriad` of 10 000 cases.
    pub fn chance(&mut self, per_myriad: u32) -> bool {
        self.next() % 10_000 < u64::from(per_myriad)
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }

    /// A time of `low_us` to `high_us` microseconds.
    pub fn micros(&mut self, low_us: u64, high_us: u64) -> Duration {
        Duration::from_micros(self.between(low_us, high_us))
    }
}
