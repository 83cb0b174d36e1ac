//! One core of the engine, driven by hand on a clock that stands: what a driver tells it, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use kpl::HashKey;
use kpl::codec::{EntryResult, Framed};
use kpl::config::Config;
use kpl::engine::{Core, ShardInfo, ShardMap, Ticket, Transmit};
use kpl::outcome::Settled;
use kpl::record::{CoreId, Record, StreamId, StreamName};
use kpl::ring::{Handle, Ledger, Slots};
use kpl::time::Time;

const STREAM: StreamId = StreamId(0);

pub struct Driven {
    pub core: Core,
    pub now: Time,
    slots: Slots<Settled>,
    shards: usize,
}

impl Driven {
    /// A core with one stream of `shards` even shards, `shardId-0` and so on; without a map, if there are none.
    pub fn new(config: &Config, shards: usize) -> Driven {
        config.validate().expect("a configuration that can be had");
        let now = Time::from_nanos(1_000_000_000);
        let mut core = Core::new(now, CoreId(0), 1, config, 7);
        core.handle_stream(STREAM, StreamName::parse("stream").expect("a name"), config.clone());
        if shards > 0 {
            core.handle_map(now, STREAM, Arc::new(map(1, shards)));
        }
        Driven { core, now, slots: Slots::new(Arc::new(Ledger::new())), shards }
    }

    /// An explicit hash key of shard `shard`.
    pub fn hash_of(&self, shard: usize) -> HashKey {
        HashKey(u128::MAX / self.shards as u128 * shard as u128 + self.shards as u128)
    }

    /// Takes slots ahead of the records, so that what they take can be told apart.
    pub fn detached(&mut self, count: usize) -> Vec<Ticket> {
        (0..count).map(|_| self.slots.take_detached()).collect()
    }

    /// A record comes whose outcome is waited for.
    pub fn put(&mut self, record: &Record<'_>) -> Handle<Settled> {
        let (ticket, handle) = self.slots.take();
        self.put_with(ticket, record);
        handle
    }

    /// A record comes.
    pub fn put_with(&mut self, ticket: Ticket, record: &Record<'_>) {
        let framed = Framed { stream: STREAM, arrival: self.now, record: *record };
        self.core.handle_record(self.now, ticket, &framed);
    }

    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// A turn; answers the first request that is due then.
    pub fn turn(&mut self) -> Option<Transmit> {
        self.core.turn(self.now);
        self.core.poll_transmit(self.now)
    }

    /// A turn; answers every request that is due then.
    pub fn turn_all(&mut self) -> Vec<Transmit> {
        let mut transmits: Vec<Transmit> = self.turn().into_iter().collect();
        while let Some(transmit) = self.core.poll_transmit(self.now) {
            transmits.push(transmit);
        }
        transmits
    }

    /// The service stores all of a request, wherever it was to go.
    pub fn stored(&mut self, transmit: &Transmit, shard: &str) {
        let (shard_id, sequence_number): (Arc<str>, Arc<str>) = (shard.into(), "49".into());
        let entry = EntryResult::Stored { shard_id, sequence_number };
        let entries = vec![entry; transmit.kinesis_records];
        self.core.handle_answer(self.now, transmit.request, Ok(entries));
    }

    /// A newer map, of the same shards or of others.
    pub fn remap(&mut self, epoch: u64, shards: usize) {
        self.shards = shards;
        self.core.handle_map(self.now, STREAM, Arc::new(map(epoch, shards)));
    }
}

fn map(epoch: u64, shards: usize) -> ShardMap {
    let width = u128::MAX / shards as u128;
    let infos = (0..shards).map(|number| ShardInfo {
        // A map with another number of shards has other shards.
        id: format!("shardId-{number}{}", "x".repeat(epoch as usize - 1)).into(),
        first: HashKey(if number == 0 { 0 } else { width * number as u128 }),
        last: HashKey(if number + 1 == shards { u128::MAX } else { width * (number as u128 + 1) - 1 }),
        parents: [None, None],
    });
    ShardMap::build(infos.collect(), epoch, 1, None).expect("even shards are a map")
}
