//! The engine beside its naive form: a list of records, a service that stores what it is sent, and what is promised of both.
//!
//! ```text
//!   Op ─▶ world: rings, cores, mesh, connections, clock ─▶ transmits ─▶ service: what is in which shard
//!                     │ outcomes                                            │
//!                     └──────────────▶ ledger: every record, once ◀─────────┘
//! ```
//!
//! [`check`] drives one to four cores by the law in `engine/mod.rs`, by [`Op`]s, and after each looks whether everything
//! that can be seen is as promised. Tests draw operations from a generator, a fuzz target from its input, by
//! [`Op::decode`] and [`Plan::decode`]. Nothing here copies how the engine works: the ledger knows what was put and what the
//! service has stored, and the maps that each core was told.
//!
//! # Promises that it looks at
//!
//! O1: a record has one outcome; without a failed core none is abandoned, and at the end none is left.
//! O2: what was released is what was settled, in records and bytes.
//! O3: a request keeps the service's limits and the configured ones, and a connection carries one.
//! O4: what is sent is what was put, on the core that owns its shard, with nothing in company that belongs elsewhere.
//! O5: nothing is sent that is settled, expired, or under way already.
//! O6: in calm, a shard's records of one ring go in the order in which they were put, and no later than their deadline.
//! O7: delivered is what consumers find there; failed is what they don't find, or it may be stored.
//! O8: what expires is settled then, wherever it is, unless it is in a request.
//! O9: a flush is done once, when everything that was put before it has its outcome.
//! O10: at one moment a core has something to do a bounded number of times.

mod ledger;
mod service;
mod world;

use std::time::Duration;

use crate::config::{Config, OuterPartitionKey, RateLimit, ShardMapPolicy, WireFormat};
use crate::limits::{OUTER_PARTITION_KEY, PARTITION_KEY_BYTES_MAX};
use service::Fate;
use world::World;

/// What a world is like.
#[derive(Clone, Debug)]
pub struct Plan {
    cores: u16,
    streams: u32,
    /// Some records have nobody who waits for them.
    detaches: bool,
    /// At the end cores are dropped, not closed.
    drops: bool,
    config: Config,
}

impl Plan {
    /// The plan that four bytes stand for. Any do.
    pub fn decode([first, second, third, fourth]: [u8; 4]) -> Plan {
        let pick = |byte: u8, shift: u32, from: [usize; 4]| from[usize::from(byte >> shift & 3)];
        let aggregation_max_size = pick(second, 3, [64, 200, 1000, 51_200]);
        let outer_partition_key = [OuterPartitionKey::A, OuterPartitionKey::FirstMember][usize::from(fourth >> 2 & 1)];
        let least = match outer_partition_key {
            OuterPartitionKey::A => aggregation_max_size + OUTER_PARTITION_KEY.len(),
            OuterPartitionKey::FirstMember => aggregation_max_size + PARTITION_KEY_BYTES_MAX,
        };
        let config = Config {
            aggregation_enabled: second % 8 != 0,
            aggregation_max_size,
            aggregation_max_count: pick(second, 5, [1, 3, 7, u32::MAX as usize]),
            max_record_size: if second >> 7 == 1 { 1 << 20 } else { least },
            collection_max_count: pick(third, 0, [500, 1, 3, 500]),
            collection_max_size: pick(third, 2, [5 << 20, least, 300_000, 3000]).max(least),
            rate_limit: match third >> 4 & 3 {
                0 | 1 => RateLimit::Off,
                2 => RateLimit::Percent(150),
                _ => RateLimit::Percent(1),
            },
            max_connections_per_core: pick(third, 6, [1, 2, 4, 4]),
            record_max_buffered_time: Duration::from_millis(if third % 2 == 0 { 100 } else { 7 }),
            record_ttl: Duration::from_secs(if third % 8 < 6 { 30 } else { 2 }),
            max_outstanding_records: 40,
            shard_backlog_max: (first >> 3 & 1 == 1).then_some(50),
            fail_if_throttled: first >> 5 & 1 == 1,
            wire: [WireFormat::Auto, WireFormat::Auto, WireFormat::Cbor, WireFormat::Json][usize::from(first >> 6)],
            shard_map: match fourth % 4 {
                0 => ShardMapPolicy::Required,
                1 => ShardMapPolicy::Unknown,
                _ => ShardMapPolicy::Degrade { after: Duration::from_millis(u64::from(fourth) * 40) },
            },
            outer_partition_key,
            keep_failed_records: fourth >> 3 & 1 == 1,
            ..Config::default()
        };
        let (cores, streams) = (u16::from(first % 4) + 1, u32::from(first >> 2 & 1) + 1);
        Plan { cores, streams, detaches: first >> 4 & 1 == 1, drops: third % 16 == 9, config }
    }
}

impl Plan {
    /// The partition key of an aggregate whose first member has this one.
    fn outer_key<'a>(&self, first: &'a str) -> &'a str {
        match self.config.outer_partition_key {
            OuterPartitionKey::A => OUTER_PARTITION_KEY,
            OuterPartitionKey::FirstMember => first,
        }
    }
}

/// Something that happens to a world. Cores, streams, requests and connections are counted round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A record is put into the ring of a core.
    Put {
        /// Which core's ring, which key, whether the hash key is given: drawn from it.
        draw: u16,
        /// Bytes of its data.
        len: usize,
    },
    /// The stream is resharded. No core has heard of it yet.
    Reshard {
        /// How many shards there are then.
        shards: u8,
        /// Over how many of the cores they spread.
        cores: u8,
        /// Whether ids and owners follow from those before.
        follows: bool,
    },
    /// A core is told of a map.
    Map {
        /// Core and stream.
        draw: u16,
        /// How many reshards ago it was the latest.
        age: u8,
    },
    /// A core is told that the shards cannot be listed, for good or for now.
    MapTrouble {
        /// Core and stream.
        draw: u16,
        /// For good.
        refused: bool,
    },
    /// A request ends.
    End {
        /// Which.
        request: u8,
        /// How.
        fate: Fate,
    },
    /// A core hears a part of what is there for it, and has a cycle.
    Cycle {
        /// Which.
        core: u8,
        /// How many records and messages it takes.
        bite: u8,
    },
    /// Time passes.
    Pass {
        /// Nanoseconds.
        ns: u64,
        /// At a leap, without a cycle in between.
        leaps: bool,
    },
    /// A flush of a stream is asked for.
    Flush(u8),
    /// Callers wait for credit, or don't any more.
    Pressure(u8, bool),
    /// A core has something else to sign with.
    Signer(u8),
    /// A core's idle connection is closed.
    Disconnect(u8, u8),
    /// A core fails, and the others hear of it.
    Fail(u8),
    /// A core is closed.
    Close(u8),
}

impl Op {
    /// The operation that `kind` and `draw` stand for. Every pair stands for one.
    pub fn decode(kind: u8, draw: u16) -> Op {
        let [low, high] = draw.to_le_bytes();
        match kind % 64 {
            0..20 => {
                // Mostly small records, some beyond an aggregate, some beyond a shard's part of a request.
                let len = match kind >> 6 {
                    0 => usize::from(high % 8),
                    1 => usize::from(high % 64),
                    2 => usize::from(high) * 12,
                    _ if high < 240 => usize::from(high) * 3,
                    _ => usize::from(high) * 1200,
                };
                Op::Put { draw, len }
            }
            20 | 21 => Op::Reshard { shards: low % 6 + 1, cores: high % 4 + 1, follows: high >= 64 },
            22..25 => Op::Map { draw, age: if high < 200 { 0 } else { high % 4 } },
            25 => Op::MapTrouble { draw, refused: high < 64 },
            26..36 => Op::End { request: low, fate: Fate::decode(kind >> 6, high) },
            36..46 => Op::Cycle { core: low, bite: high },
            // To half a second as a rule, to half a minute now and then.
            46..54 => Op::Pass { ns: u64::from(draw) << (low % (14 + 2 * (kind >> 6))), leaps: kind >> 6 == 0 },
            54 | 55 => Op::Flush(low),
            56 | 57 => Op::Pressure(low, high < 128),
            58 => Op::Signer(low),
            59 | 60 => Op::Disconnect(low, high),
            // Whatever comes after these is not much, so they are rare.
            61 if high < 16 => Op::Fail(low),
            62 if high < 16 => Op::Close(low),
            _ => Op::Cycle { core: low, bite: u8::MAX },
        }
    }
}

/// Does `ops` to a world as planned, and then lets it end.
///
/// # Panics
/// If the engine breaks a promise.
pub fn check(plan: &Plan, ops: impl IntoIterator<Item = Op>) {
    let mut world = World::new(plan.clone());
    for op in ops {
        world.apply(op);
        world.look();
    }
    world.end();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::Random;

    /// Of four lists one is calm, one has trouble with answers only, and two have everything.
    fn check_seed(seed: u64) {
        let mut random = Random(seed);
        let [mut first, second, mut third, mut fourth, length, begins, ..] = random.next().to_le_bytes();
        if seed.is_multiple_of(4) {
            (first, third, fourth) = (first & !0b1000, third & !0b11_0000, fourth & !0b11);
        }
        let tells = (0..8).flat_map(|core| [core, 16 + core]).map(|draw| Op::Map { draw, age: 0 });
        let begin = std::iter::once(Op::Reshard { shards: 3, cores: 4, follows: true }).chain(tells);
        // Without a map most lists would only wait for one.
        let begin = begin.filter(|_| seed % 4 < 2 || begins % 4 > 0);
        let ops = (0..usize::from(length) + 20).map(|_| {
            let [kind, low, high, ..] = random.next().to_le_bytes();
            match Op::decode(kind, u16::from_le_bytes([low, high])) {
                Op::End { request, .. } if seed.is_multiple_of(4) => Op::End { request, fate: Fate::Stored },
                Op::Reshard { .. } | Op::Map { .. } | Op::Fail(_) | Op::Close(_) if seed % 4 < 2 => {
                    Op::Cycle { core: low, bite: high }
                }
                op => op,
            }
        });
        check(&Plan::decode([first, second, third, fourth]), begin.chain(ops));
    }

    #[test]
    fn the_engine_keeps_its_promises_under_random_operations() {
        for seed in 0..SEEDS {
            let checked = std::panic::catch_unwind(|| check_seed(seed));
            assert!(checked.is_ok(), "seed {seed}");
        }
    }

    const SEEDS: u64 = 2000;
}
