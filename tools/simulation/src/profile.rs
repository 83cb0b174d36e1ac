//! Profiles: what kind of day a seed simulates, and what its plan is drawn from.
//!
//! ```text
//!   calm      nothing goes wrong; lateness is judged
//!   storm     many faults at once, of all kinds
//!   outage    the endpoint is away, or refuses everything, for a while
//!   pressure  budgets at their limit, bursts, small rings, a service that enforces its shards' capacity, a dead shard
//!   reshard   splits, merges, counts doubled and halved, streams deleted and created again; half of them ordered
//! ```
//!
//! A seed that is given no profile draws one. Seed and profile together decide everything, and the profile's name is
//! mixed into the seed, so that a further profile changes no world that there is.
//!
//! `reshard` has milder faults than `storm`, of all kinds, so that most of its records come through and their order can be
//! told; and few keys, so that there is an order to tell. Lists of shards are old more often than not.

use crate::faults::Kind;
use crate::rng::Rng;

/// A kind of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Nothing goes wrong.
    Calm,
    /// Many faults at once.
    Storm,
    /// The endpoint is away for a while.
    Outage,
    /// Everything that is bounded is at its bound.
    Pressure,
    /// The shards change all the time.
    Reshard,
}

/// All of them.
pub const PROFILES: [Profile; 5] =
    [Profile::Calm, Profile::Storm, Profile::Outage, Profile::Pressure, Profile::Reshard];

/// How often something strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Climate {
    /// Seeds of 10 000 in which nothing strikes by chance.
    pub quiet: u32,
    /// In the others: kinds of faults of 10 000 that are switched on, and the highest rate of one, of 10 000 occasions.
    pub usual: (u32, u64),
    /// The same in half of those seeds.
    pub worst: (u32, u64),
}

/// What a plan is drawn from: each list has a value for each lot.
pub struct Temper {
    /// How often something strikes.
    pub climate: Climate,
    /// The longest pause of a submitter between two bursts, in microseconds.
    pub pauses_us: &'static [u64],
    /// Records that each submitter puts.
    pub puts: &'static [u64],
    /// The longest burst.
    pub bursts: &'static [u64],
    /// `max_outstanding_records`.
    pub outstanding: &'static [u64],
    /// Bytes of the budget beyond what one record needs.
    pub budget_bytes: &'static [u64],
    /// `record_ttl` in milliseconds.
    pub ttls_ms: &'static [u64],
    /// Cores.
    pub cores: &'static [u16],
    /// Messages that a mesh ring holds.
    pub mesh: &'static [usize],
    /// Bytes that a submitter's ring holds beyond two large records.
    pub ring_bytes: &'static [usize],
    /// Records that a core takes from a ring at a time.
    pub bites: &'static [usize],
    /// Partition keys that a submitter has.
    pub keys: &'static [u64],
    /// Shards that a stream begins with; and in seeds of 10 000, how many of the largest.
    pub shards: &'static [usize],
    /// See `shards`.
    pub large: &'static [(u32, usize)],
    /// Reshards.
    pub reshards: &'static [u64],
    /// Of 10 000 reshards, those of all shards together.
    pub rescales: u32,
    /// Seeds of 10 000 in which a stream is deleted and created again.
    pub recreated: u32,
    /// Streams of 10 000 in ordered mode.
    pub ordered: u32,
    /// What is switched on together in half of the seeds in which something strikes, beside what the climate brings, and
    /// the highest rates, of 10 000 occasions.
    pub often: &'static [(Kind, u64)],
    /// Seeds of 10 000 in which a shard of the first stream takes nothing, and with `shard_backlog_max`.
    pub dead: (u32, u32),
    /// Seeds of 10 000 whose service enforces what a shard takes.
    pub capacity: u32,
    /// Seeds of 10 000 in which an endpoint takes no CBOR, where the wire is to be found out.
    pub form: u32,
    /// Seeds of 10 000 in which the endpoint is away for a while.
    pub outage: u32,
    /// Seeds of 10 000 in which the service places records as it likes for a while.
    pub auto: u32,
    /// Seeds of 10 000 in which credentials expire, and in which a clock jumps.
    pub signer: u32,
    /// Seeds of 10 000 in which some records poison their requests.
    pub poison: u32,
    /// Seeds of 10 000 in which the endpoint takes no large request.
    pub body_limit: u32,
}

const NEVER: Climate = Climate { quiet: 10_000, usual: (0, 10), worst: (0, 10) };

const CALM: Temper = Temper {
    climate: NEVER,
    pauses_us: &[50, 1_000, 20_000, 200_000],
    puts: &[20, 100, 300, 800],
    bursts: &[1, 5, 60],
    outstanding: &[8, 64, 1_000, 100_000],
    budget_bytes: &[0, 20_000, 1 << 20, 64 << 20],
    ttls_ms: &[500, 2_000, 10_000, 30_000],
    cores: &[1, 1, 2, 2, 3, 4],
    mesh: &[1, 2, 16, 1024],
    ring_bytes: &[0, 10_000, 100_000],
    bites: &[1, 7, 64, 1024],
    keys: &[1, 5, 100, 1 << 40],
    shards: &[1, 1, 2, 3, 8, 30],
    large: &[],
    reshards: &[0],
    rescales: 0,
    recreated: 0,
    ordered: 1000,
    often: &[],
    dead: (0, 0),
    capacity: 0,
    form: 0,
    outage: 0,
    auto: 0,
    signer: 0,
    poison: 0,
    body_limit: 0,
};

const STORM: Temper = Temper {
    climate: Climate { quiet: 0, usual: (3000, 800), worst: (6000, 3000) },
    reshards: &[0, 0, 1, 2, 6],
    dead: (500, 7000),
    form: 5000,
    outage: 1000,
    auto: 2000,
    signer: 3000,
    poison: 2500,
    body_limit: 2500,
    ..CALM
};

const OUTAGE: Temper = Temper {
    climate: Climate { quiet: 5000, usual: (1500, 100), worst: (3000, 200) },
    pauses_us: &[1_000, 20_000, 200_000],
    puts: &[100, 300, 800],
    outstanding: &[64, 1_000, 100_000],
    ttls_ms: &[2_000, 10_000, 30_000, 30_000],
    outage: 10_000,
    ..CALM
};

const PRESSURE: Temper = Temper {
    climate: Climate { quiet: 5000, usual: (2000, 200), worst: (4000, 500) },
    pauses_us: &[50, 1_000, 20_000],
    puts: &[100, 300, 800, 2_000],
    bursts: &[5, 60, 400],
    outstanding: &[8, 64, 200, 1_000],
    budget_bytes: &[0, 20_000, 1 << 20, 16 << 20],
    cores: &[1, 2, 2, 3, 4],
    mesh: &[1, 2],
    ring_bytes: &[0, 0, 10_000],
    bites: &[1, 7, 64],
    dead: (3000, 7000),
    capacity: 5000,
    ..CALM
};

const RESHARD: Temper = Temper {
    climate: Climate { quiet: 0, usual: (800, 200), worst: (2000, 800) },
    pauses_us: &[1_000, 20_000, 200_000],
    puts: &[100, 300, 800],
    outstanding: &[64, 1_000, 100_000],
    ttls_ms: &[2_000, 10_000, 30_000, 30_000],
    cores: &[1, 2, 2, 3, 4],
    keys: &[1, 5, 5, 20, 1 << 40],
    large: &[(10, 10_000), (150, 1_000), (500, 200)],
    reshards: &[1, 3, 10, 30],
    rescales: 2500,
    recreated: 2500,
    ordered: 5000,
    often: &[(Kind::CoreStall, 2500), (Kind::MapLate, 8000), (Kind::Reowned, 9000)],
    dead: (300, 2000),
    capacity: 500,
    form: 1000,
    outage: 500,
    auto: 0,
    signer: 500,
    poison: 300,
    body_limit: 300,
    ..CALM
};

impl Profile {
    /// How it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Calm => "calm",
            Profile::Storm => "storm",
            Profile::Outage => "outage",
            Profile::Pressure => "pressure",
            Profile::Reshard => "reshard",
        }
    }

    /// The profile of this name.
    pub fn parse(name: &str) -> Option<Profile> {
        PROFILES.into_iter().find(|profile| profile.name() == name)
    }

    /// The profile that `seed` draws.
    pub fn drawn(seed: u64) -> Profile {
        Rng::new(seed).pick(&PROFILES)
    }

    /// What its plans are drawn from.
    pub fn temper(self) -> &'static Temper {
        match self {
            Profile::Calm => &CALM,
            Profile::Storm => &STORM,
            Profile::Outage => &OUTAGE,
            Profile::Pressure => &PRESSURE,
            Profile::Reshard => &RESHARD,
        }
    }

    /// The chance of a seed of this profile.
    pub fn rng(self, seed: u64) -> Rng {
        let name = self.name().bytes();
        Rng::new(
            name.fold(seed, |mixed, byte| (mixed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3).rotate_left(23)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_seeds_draw_every_profile_often() {
        for profile in PROFILES {
            let drawn = (0..1000).filter(|seed| Profile::drawn(*seed) == profile).count();
            assert!(drawn > 100, "{profile:?}: {drawn}");
            assert_eq!(Profile::parse(profile.name()), Some(profile));
        }
        assert_eq!(Profile::parse("hail"), None);
    }
}
