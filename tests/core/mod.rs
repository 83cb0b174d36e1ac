//! One core of the engine, driven by hand on a clock that stands: what a driver tells it, and what it answers.

use std::sync::Arc;
use std::time::Duration;

use kpl::HashKey;
use kpl::codec::{EntryResult, Framed};
use kpl::config::{Config, WireFormat};
use kpl::engine::{Core, RequestId, ShardInfo, ShardMap, Ticket, Transmit};
use kpl::outcome::Settlement;
use kpl::record::{CoreId, Record, StreamId, StreamName};
use kpl::ring::{Ledger, Slots};
use kpl::time::Time;

pub const STREAM: StreamId = StreamId(0);

pub struct Driven {
    pub core: Core,
    pub now: Time,
    /// Outcome slots of the one submitter.
    pub slots: Slots<Arc<Settlement>>,
    pub shards: usize,
    ids: Vec<Arc<str>>,
    number: Arc<str>,
}

impl Driven {
    /// A core with one stream of `shards` even shards; without a map, if there are none.
    pub fn new(config: &Config, shards: usize) -> Driven {
        // Text, if no form is chosen, so that it is read without the library's help.
        let wire = if config.wire == WireFormat::Auto { WireFormat::Json } else { config.wire };
        let config = &Config { wire, ..config.clone() };
        config.validate().expect("a configuration that can be had");
        let now = Time::from_nanos(1_000_000_000);
        let mut core = Core::new(now, CoreId(0), 1, config, 7);
        core.handle_stream(STREAM, StreamName::parse("stream").expect("a name"), config.clone());
        let slots = Slots::new(Arc::new(Ledger::new()));
        let mut driven = Driven { core, now, slots, shards: 0, ids: Vec::new(), number: "49".into() };
        if shards > 0 {
            driven.remap(1, shards);
        }
        driven
    }

    /// A record comes.
    pub fn put(&mut self, ticket: Ticket, record: &Record<'_>) {
        let framed = Framed::new(STREAM, self.now, record);
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

    /// What the service answers if it stores all of a request, each where its hash key belongs.
    pub fn all_stored(&self, transmit: &Transmit) -> Vec<EntryResult> {
        let width = u128::MAX / self.shards as u128;
        let body = transmit.body.to_vec();
        let text = std::str::from_utf8(&body).expect("a request in JSON");
        let hashes = text.split("ExplicitHashKey\":\"").skip(1).map(|rest| rest.split('"').next());
        let stored = hashes.map(|decimal| {
            let hash: u128 = decimal.and_then(|decimal| decimal.parse().ok()).expect("a hash key in decimal");
            let shard = (hash / width).min(self.shards as u128 - 1);
            EntryResult::Stored { shard_id: self.ids[shard as usize].clone(), sequence_number: self.number.clone() }
        });
        let stored: Vec<EntryResult> = stored.collect();
        assert_eq!(stored.len(), transmit.kinesis_records);
        stored
    }

    pub fn answer(&mut self, request: RequestId, entries: Vec<EntryResult>) {
        self.core.handle_answer(self.now, request, Ok(entries));
    }

    /// A newer map, of the same shards or of others.
    pub fn remap(&mut self, epoch: u64, shards: usize) {
        self.adopt(even_map(epoch, shards));
    }

    /// A newer map.
    pub fn adopt(&mut self, map: ShardMap) {
        self.shards = map.len();
        self.ids = map.shards().iter().map(|shard| shard.id.clone()).collect();
        self.core.handle_map(self.now, STREAM, Arc::new(map));
    }
}

/// Even shards. A map with another number of shards has others than the one before.
pub fn even_map(epoch: u64, shards: usize) -> ShardMap {
    let width = u128::MAX / shards as u128;
    let infos = (0..shards).map(|number| ShardInfo {
        id: format!("shardId-{number}-of-{shards}").into(),
        first: HashKey(width * number as u128),
        last: HashKey(if number + 1 == shards { u128::MAX } else { width * (number as u128 + 1) - 1 }),
        parents: [None, None],
    });
    ShardMap::build(epoch, infos.collect(), 1, None).expect("even shards are a map")
}
