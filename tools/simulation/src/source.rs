//! What is put: records drawn one by one, each of which can be told from all others by its number, wherever it turns up.
//!
//! The number is in the data or, if that is short, in the key. Keys, explicit hash keys and sizes are drawn to meet every
//! edge of the aggregate's format: payloads that look like aggregates, and some that are.

use crate::consumer;
use crate::rng::Rng;
use crate::scenario::Scenario;

/// A record that a submitter is about to put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Index of its stream.
    pub stream: usize,
    /// Partition key.
    pub key: String,
    /// Explicit hash key.
    pub explicit: Option<u128>,
    /// Whether its core is to draw its hash key.
    pub unkeyed: bool,
    /// Data.
    pub data: Vec<u8>,
    /// Whether the service calls every request invalid that it is in.
    pub poison: bool,
}

impl Draft {
    /// The hash key that places it, unless that is its core's to draw.
    pub fn hash(&self) -> Option<u128> {
        let known = || self.explicit.unwrap_or_else(|| consumer::md5_hash(&self.key));
        (!self.unkeyed).then(known)
    }

    /// Data and partition key.
    pub fn size(&self) -> usize {
        self.key.len() + self.data.len()
    }
}

/// Draws records.
pub struct Source {
    rng: Rng,
    keys: u64,
    explicit: u32,
    unkeyed: u32,
    poison: u32,
    magic: u32,
    large: u32,
    typical: u64,
    limits: [usize; 2],
    /// By stream: shards that it begins with.
    shards: Vec<usize>,
}

/// The partition key that consumers see of a record without one.
pub const UNKEYED: &str = "a";

/// Beyond so many shards there are so many keys.
const MANY_SHARDS: usize = 100;
/// See above.
const MANY_KEYS: u64 = 2_000;

/// Where a number stands in data: behind what may be an aggregate's magic.
const NUMBER_AT: usize = 4;

impl Source {
    /// A source for one submitter.
    pub fn new(mut rng: Rng, scenario: &Scenario) -> Source {
        let temper = scenario.profile.temper();
        let shards: Vec<usize> = scenario.streams.iter().map(|stream| stream.shards).collect();
        Source {
            keys: if shards.iter().any(|count| *count > MANY_SHARDS) { MANY_KEYS } else { rng.pick(temper.keys) },
            explicit: rng.pick(&[0, 0, 1_000, 5_000, 10_000]),
            // In an outage it is watched which core has something to send, which could not be told of these.
            unkeyed: if scenario.outage.is_some() { 0 } else { rng.pick(&[0, 0, 2_000, 10_000]) },
            poison: scenario.poison,
            magic: rng.pick(&[0, 0, 100, 2_000]),
            // Where large requests are refused there are to be some.
            large: if scenario.body_max.is_some() { 3_000 } else { rng.pick(&[0, 20, 200]) },
            typical: rng.pick(&[16, 100, 100, 1_000, 4_000]),
            shards,
            limits: [scenario.config.aggregation_max_size, scenario.config.max_record_size],
            rng,
        }
    }

    /// Draws record `number`, for one of the first `streams` streams.
    pub fn draw(&mut self, number: u64, streams: usize) -> Draft {
        let rng = &mut self.rng;
        let stream = rng.index(streams);
        let alphabet = rng.pick(&["k", "key-", "ключ-", "鍵🔑"]);
        let mut key = format!("{alphabet}{}", rng.between(0, self.keys));
        let shards = self.shards[stream] as u128;
        let explicit = rng.chance(self.explicit).then(|| match rng.index(5) {
            0 => 0,
            1 => u128::MAX,
            2 => rng.wide() & (0xFF << 120),
            // The least hash key of a shard, or the greatest of the one below.
            3 => (rng.wide() % shards * (u128::MAX / shards)).saturating_sub(u128::from(rng.next() % 2)),
            _ => rng.wide(),
        });
        let [near, most] = self.limits;
        let mut len = match rng.index(20) {
            0 => rng.between(0, 12) as usize,
            1 => (near + 20).saturating_sub(rng.between(0, 60) as usize),
            _ => rng.between(0, self.typical) as usize,
        };
        if rng.chance(self.large) {
            len = most - rng.index(most.min(600));
        }
        if len < NUMBER_AT + 8 {
            key = format!("{key}#{number}");
        }
        let len = len.min(most - key.len());
        if len < NUMBER_AT + 8 && !key.contains('#') {
            key = format!("{key}#{number}");
        }
        let mut data: Vec<u8> = (0..len.min(64)).map(|_| rng.next() as u8).collect();
        data.resize(len, number as u8);
        if let Some(place) = data.get_mut(NUMBER_AT..NUMBER_AT + 8) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        if rng.chance(self.magic) && len >= NUMBER_AT + 8 {
            data[..4].copy_from_slice(&[0xF3, 0x89, 0x9A, 0xC2]);
        } else if rng.chance(self.magic / 2) {
            // A true aggregate inside: a consumer must get it back unopened.
            key = format!("{}#{number}", &key);
            let whole = consumer::write_aggregate("inner", b"never put");
            if whole.len() + key.len() <= most {
                data = whole;
            }
        }
        data.truncate(most - key.len());
        let unkeyed = explicit.is_none() && !key.contains('#') && rng.chance(self.unkeyed);
        if unkeyed {
            key.truncate(0);
            key.push_str(UNKEYED);
        }
        Draft { stream, key, explicit, unkeyed, data, poison: rng.chance(self.poison) }
    }
}

/// The number of a record that a consumer sees.
pub fn number_of(key: &str, data: &[u8]) -> Option<u64> {
    if let Some((_, number)) = key.rsplit_once('#') {
        return number.parse().ok();
    }
    let bytes = data.get(NUMBER_AT..NUMBER_AT + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
