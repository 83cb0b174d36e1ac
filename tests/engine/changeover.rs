//! Ordered mode on two cores: a merge takes a shard from one core to the other, and nothing overtakes on the way.

use std::sync::Arc;
use std::time::Duration;

use kpl::codec::{EntryResult, Framed};
use kpl::config::{Config, WireFormat};
use kpl::engine::{Core, ShardInfo, ShardMap, Transmit};
use kpl::outcome::{ErrorCode, Settlement};
use kpl::record::{CoreId, HashKey, Record, StreamId, StreamName};
use kpl::ring::{Ledger, Slots};
use kpl::time::Time;

use super::hand::*;

const STREAM: StreamId = StreamId(0);
const CORES: [CoreId; 2] = [CoreId(0), CoreId(1)];

/// Two cores with one ordered stream of two shards, one on each.
struct Pair {
    cores: [Core; 2],
    now: Time,
    slots: Slots<Arc<Settlement>>,
    map: ShardMap,
    /// The core that has the upper shard.
    upper: usize,
}

fn shard(id: &str, first: u128, last: u128, parents: [Option<&str>; 2]) -> ShardInfo {
    let parents = parents.map(|parent| parent.map(Arc::from));
    ShardInfo { id: id.into(), first: HashKey(first), last: HashKey(last), parents }
}

const MIDDLE: u128 = 1 << 127;

impl Pair {
    fn new() -> Pair {
        let config = Config { ordered: true, aggregation_enabled: false, wire: WireFormat::Json, cores: 2, ..config() };
        let now = Time::from_nanos(1_000_000_000);
        let cores = CORES.map(|id| {
            let mut core = Core::new(now, id, 2, &config, 7);
            core.handle_stream(STREAM, StreamName::parse("stream").expect("a name"), config.clone());
            core
        });
        let halves = vec![shard("low", 0, MIDDLE - 1, [None, None]), shard("high", MIDDLE, u128::MAX, [None, None])];
        let map = ShardMap::build(1, halves, 2, None).expect("two halves");
        let upper = map.shards()[1].owner.index();
        let mut pair = Pair { cores, now, slots: Slots::new(Arc::new(Ledger::new())), map: map.clone(), upper };
        for core in 0..2 {
            pair.tell(core, &map);
        }
        pair.settle();
        pair
    }

    fn merged(&self) -> ShardMap {
        let whole = vec![shard("whole", 0, u128::MAX, [Some("low"), Some("high")])];
        ShardMap::build(2, whole, 2, Some(&self.map)).expect("one shard")
    }

    fn tell(&mut self, core: usize, map: &ShardMap) {
        self.cores[core].handle_map(self.now, STREAM, Arc::new(map.clone()));
    }

    /// A record for the upper shard comes from a ring of `core`.
    fn put(&mut self, core: usize, data: &str) -> Waiting {
        let (ticket, handle) = self.slots.take();
        let record = Record::new("key", data).with_explicit_hash_key(HashKey(u128::MAX));
        let framed = Framed::new(STREAM, self.now, &record);
        self.cores[core].handle_record(self.now, ticket, &framed);
        handle
    }

    /// Moves what `from` has to say to the other.
    fn carry(&mut self, from: usize) {
        let to = 1 - from;
        while let Some(message) = self.cores[from].outbox(CORES[to]).pop_front() {
            self.cores[to].handle_mesh(self.now, CORES[from], message);
        }
        self.cores[to].turn(self.now);
    }

    /// Lets both talk until nobody has anything to say.
    fn settle(&mut self) {
        for _ in 0..4 {
            for core in 0..2 {
                self.cores[core].turn(self.now);
                self.carry(core);
            }
        }
    }

    fn send(&mut self, core: usize) -> Option<Transmit> {
        self.now = self.now + Duration::from_secs(1);
        self.cores[core].turn(self.now);
        self.cores[core].poll_transmit(self.now)
    }

    fn store(&mut self, core: usize, transmit: &Transmit, shard: &str) {
        let stored = EntryResult::Stored { shard_id: shard.into(), sequence_number: "49".into() };
        self.cores[core].handle_answer(self.now, transmit.request, Ok(vec![stored; transmit.kinesis_records]));
    }
}

fn sent(transmit: &Transmit) -> Vec<String> {
    entries(transmit).into_iter().map(|entry| String::from_utf8_lossy(&entry.data).into_owned()).collect()
}

#[test]
fn a_merged_shard_s_new_owner_waits_for_what_the_old_one_has_under_way_and_queued() {
    let mut pair = Pair::new();
    let (old, new) = (pair.upper, 1 - pair.upper);
    let mut waiting = vec![pair.put(old, "1"), pair.put(old, "2")];
    let first = pair.send(old).expect("the first");
    assert_eq!(sent(&first), ["1"]);
    let merged = pair.merged();
    assert_eq!(merged.shards()[0].owner.index(), new, "it goes to the owner of the lower parent");
    // The old owner puts, too, and routes by the older map; the new one by the newer, directly.
    pair.tell(new, &merged);
    waiting.push(pair.put(old, "3"));
    pair.tell(old, &merged);
    waiting.push(pair.put(old, "4"));
    pair.settle();
    assert!(pair.send(new).is_none(), "what is under way may yet fail");
    let failure = kpl::engine::TransportFailure { code: ErrorCode::Timeout, message: "".into(), bytes_sent: true };
    pair.cores[old].handle_failure(pair.now, first.request, &failure);
    pair.settle();
    for expected in ["1", "2", "3", "4"] {
        let transmit = pair.send(new).expect("its turn has come");
        assert_eq!(sent(&transmit), [expected]);
        pair.store(new, &transmit, "whole");
    }
    assert!(waiting.iter_mut().all(|handle| end(handle).is_ok()));
    assert!(pair.send(old).is_none());
}

#[test]
fn a_straggler_from_a_core_that_has_not_heard_of_the_merge_keeps_its_place() {
    let mut pair = Pair::new();
    let (old, new) = (pair.upper, 1 - pair.upper);
    // A submitter whose home is the later owner: its first records cross to the old one.
    let mut waiting = vec![pair.put(new, "1")];
    pair.carry(new);
    let first = pair.send(old).expect("the first");
    waiting.push(pair.put(new, "2"));
    let merged = pair.merged();
    pair.tell(old, &merged);
    pair.tell(new, &merged);
    waiting.push(pair.put(new, "3"));
    // "2" crosses to the old owner only now, and the mark behind it.
    pair.settle();
    assert!(pair.send(new).is_none());
    pair.store(old, &first, "high");
    pair.settle();
    for expected in ["2", "3"] {
        let transmit = pair.send(new).expect("its turn has come");
        assert_eq!(sent(&transmit), [expected]);
        pair.store(new, &transmit, "whole");
    }
    assert!(waiting.iter_mut().all(|handle| end(handle).is_ok()));
}

#[test]
fn a_core_that_failed_is_waited_for_no_more() {
    let mut pair = Pair::new();
    let (old, new) = (pair.upper, 1 - pair.upper);
    let merged = pair.merged();
    pair.tell(new, &merged);
    let mut handle = pair.put(new, "1");
    pair.settle();
    assert!(pair.send(new).is_none());
    pair.cores[new].handle_core_failed(CORES[old]);
    let transmit = pair.send(new).expect("nobody is left to hand anything over");
    pair.store(new, &transmit, "whole");
    assert!(end(&mut handle).is_ok());
}
