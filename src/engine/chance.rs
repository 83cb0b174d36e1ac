//! Chance: what a core draws, from a seed: the jitter of backoffs, and hash keys for records without a key.
//!
//! A seed and the same order of questions give the same answers, so that a simulated producer can be replayed.

use std::time::Duration;

use super::planted::{Mistake, planted};
use crate::config::Config;
use crate::record::HashKey;
use crate::time::nanos;

/// A generator: SplitMix64, one addition and two multiplications, for which every seed is as good as another.
pub struct Chance {
    state: u64,
}

/// A point of a backoff's range: what failed in one request backs off by the same, and so comes back in one.
#[derive(Clone, Copy, Debug)]
pub struct Jitter(u64);

impl Chance {
    /// Two of the same seed draw alike.
    pub fn new(seed: u64) -> Chance {
        Chance { state: seed }
    }

    /// A point, uniform.
    pub fn jitter(&mut self) -> Jitter {
        Jitter(self.next())
    }

    /// A hash key, uniform.
    pub fn hash_key(&mut self) -> HashKey {
        HashKey(u128::from(self.next()) << 64 | u128::from(self.next()))
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.state;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }
}

impl Jitter {
    /// The backoff after `attempts` failed ones, exponential with full jitter: this point of 0 to
    /// min(`retry_delay_cap`, `retry_base_delay` * 2^(attempts - 1)).
    pub fn backoff(self, attempts: usize, config: &Config) -> Duration {
        let attempts = if planted(Mistake::BackoffConstant) { 1 } else { attempts };
        let doublings = attempts.saturating_sub(1).min(31) as u32;
        let longest = config.retry_base_delay.saturating_mul(1 << doublings).min(config.retry_delay_cap);
        let longest = if planted(Mistake::BackoffTenth) { longest / 10 } else { longest };
        let choices = u128::from(nanos(longest)) + 1;
        Duration::from_nanos(((choices * u128::from(self.0)) >> 64) as u64) // at most `longest`
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_is_uniform_up_to_a_bound_that_doubles_to_its_cap() {
        let ms = Duration::from_millis;
        let config = Config { retry_base_delay: ms(50), retry_delay_cap: ms(2000), ..Config::default() };
        for (attempts, longest) in [(1, 50), (2, 100), (3, 200), (6, 1600), (7, 2000), (8, 2000), (1000, 2000)] {
            let longest = ms(longest);
            assert_eq!(Jitter(0).backoff(attempts, &config), Duration::ZERO);
            assert_eq!(Jitter(u64::MAX).backoff(attempts, &config), longest, "after {attempts}");
            let half = Jitter(1 << 63).backoff(attempts, &config);
            assert!(half.abs_diff(longest / 2) <= Duration::from_nanos(1), "after {attempts}: {half:?}");
        }
        let mut chance = Chance::new(7);
        let mean = (0..10_000).map(|_| chance.jitter().backoff(1, &config)).sum::<Duration>() / 10_000;
        assert!(mean.abs_diff(ms(25)) < ms(1), "{mean:?}");
    }

    #[test]
    fn hash_keys_fall_evenly_into_ranges_and_a_seed_repeats_them() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            (0..16_000).map(|_| chance.hash_key()).collect::<Vec<_>>()
        };
        let mut counts = [0_u32; 16];
        draw(1).iter().for_each(|hash| counts[(hash.0 >> 124) as usize] += 1);
        // Binomial: 1000 with a standard deviation of 31.
        assert!(counts.iter().all(|&count| (850..1150).contains(&count)), "{counts:?}");
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }
}
