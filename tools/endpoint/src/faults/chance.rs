//! Chance from a seed: each request, connection and outage has a generator of its own, by its number.
//!
//! So the hundredth request suffers the same whatever became of the ninety-nine before it, and however many connections
//! brought them. (The generator is SplitMix64.)

use std::time::Duration;

/// A generator of pseudo-random numbers.
pub(crate) struct Chance(u64);

/// What a generator is for, so that the fates of a connection and of a request of the same number differ.
#[derive(Clone, Copy)]
pub(crate) enum Domain {
    Connection = 1,
    Put,
    List,
    Outage,
    Place,
}

impl Chance {
    /// The generator of number `index` of its domain.
    pub(crate) fn of(seed: u64, domain: Domain, index: u64) -> Chance {
        Chance(mix(seed ^ mix(index ^ mix(domain as u64))))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// Whether something strikes that does so `rate` times in 100 000.
    pub(crate) fn strikes(&mut self, rate: u32) -> bool {
        self.below(100_000) < u64::from(rate)
    }

    /// A time from `least` to `most`.
    pub(crate) fn time(&mut self, least: Duration, most: Duration) -> Duration {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        least + Duration::from_micros(self.below(us(most.saturating_sub(least)).max(1)))
    }

    /// A number of bytes from 1 to about `most`, small ones as likely as large ones.
    pub(crate) fn bytes(&mut self, most: u64) -> u64 {
        let magnitude = self.below(u64::from(most.max(2).ilog2()));
        (1 << magnitude) + self.below(1 << magnitude)
    }

    /// Any hash key.
    pub(crate) fn hash_key(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    /// One of them.
    pub(crate) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    /// Some of the numbers below `count`: about a quarter of them, at least one.
    pub(crate) fn some_of(&mut self, count: usize) -> Vec<usize> {
        let mut some: Vec<usize> = (0..count).filter(|_| self.below(4) == 0).collect();
        if some.is_empty() && count > 0 {
            some.push(self.below(count as u64) as usize);
        }
        some
    }

    /// Puts a list into another order.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for place in (1..list.len()).rev() {
            list.swap(place, self.below(place as u64 + 1) as usize);
        }
    }
}

fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_same_chance_each_time_and_its_neighbour_another() {
        let draws = |domain, index| {
            let mut chance = Chance::of(7, domain, index);
            (0..20).map(|_| chance.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draws(Domain::Put, 3), draws(Domain::Put, 3));
        assert_ne!(draws(Domain::Put, 3), draws(Domain::Put, 4));
        assert_ne!(draws(Domain::Put, 3), draws(Domain::List, 3));
    }

    #[test]
    fn what_is_drawn_keeps_its_bounds() {
        let mut chance = Chance::of(1, Domain::Connection, 0);
        let struck = (0..100_000).filter(|_| chance.strikes(10_000)).count();
        assert!((9_000..11_000).contains(&struck), "{struck}");
        assert!((0..1000).all(|_| (1..=1 << 20).contains(&chance.bytes(1 << 20))));
        let (least, most) = (Duration::from_millis(3), Duration::from_millis(5));
        assert!((0..1000).all(|_| (least..=most).contains(&chance.time(least, most))));
        assert_eq!(chance.some_of(1), [0]);
        assert!((0..100).all(|_| !chance.some_of(9).is_empty()));
    }
}
