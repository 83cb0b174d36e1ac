//! One core of the engine between a ring and a service that stores everything, on a clock that is told.
//!
//! A cycle is that of `runtime/core.rs`: records out of the ring, a turn, requests, answers, what was settled. One part
//! of it is counted; what stands for the submitter and for the service never is.

use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use ciborium::Value;
use kpl::codec::{
    Aggregate, Body, Member, Part, RequestEncoder, StreamRef, Wire, frame_len, hash_key, lanes, parse_answer,
    read_frame, write_frame,
};
use kpl::config::{Config, RateLimit, WireFormat};
use kpl::engine::{Core, Released, RequestId, ShardInfo, ShardMap, Transmit};
use kpl::limits::{AGGREGATION_BYTES_DEFAULT, RATE_LIMIT_MAX, RING_BYTES_DEFAULT, TURN_RECORDS_MAX};
use kpl::outcome::Settlement;
use kpl::record::{CoreId, HashKey, Record, StreamId, StreamName};
use kpl::ring::{self, Ledger, Receiver, Sender, Slots};
use kpl::time::Time;

use crate::counted;
use crate::records::{DATA, Keys};

const STREAM: StreamId = StreamId(0);
const SHARDS: usize = 8;
/// A cycle's time: about a million records a second.
const CYCLE: Duration = Duration::from_millis(1);

/// What a cycle does, by parts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Records out of the ring, into the engine.
    Accept,
    /// A turn, and the requests that are due.
    Send,
    /// Answers, and what they settle.
    Settle,
}

/// Drives `records` records for a warm-up and as many again, in which `work` is counted; answers how many records went
/// through it meanwhile.
pub fn run(work: Work, records: usize) -> u64 {
    let mut bed = Bed::new();
    let cycles = records.div_ceil(TURN_RECORDS_MAX);
    for _ in 0..cycles {
        bed.cycle(None);
    }
    let before = bed.done;
    for _ in 0..cycles {
        bed.cycle(Some(work));
    }
    bed.done[work as usize] - before[work as usize]
}

/// A ring with records in it, the engine, and the service.
struct Bed {
    keys: Keys,
    slots: Slots<Arc<Settlement>>,
    sender: Sender<Arc<Settlement>>,
    receiver: Receiver<Arc<Settlement>>,
    core: Core,
    now: Time,
    map: Arc<ShardMap>,
    under_way: VecDeque<Transmit>,
    /// Records that each part has done with.
    done: [u64; 3],
}

impl Bed {
    fn new() -> Bed {
        let rate_limit = RateLimit::Percent(RATE_LIMIT_MAX);
        let config = Config { wire: WireFormat::Cbor, rate_limit, ..Config::default() };
        let now = Time::from_nanos(1_000_000_000);
        let mut core = Core::new(now, CoreId(0), 1, &config, 7);
        core.handle_stream(STREAM, StreamName::parse("stream").expect("a name"), config);
        let map = even_map();
        core.handle_map(now, STREAM, Arc::clone(&map));
        let (sender, receiver) = ring::ring(RING_BYTES_DEFAULT);
        let (keys, slots) = (Keys::new(), Slots::new(Arc::new(Ledger::new())));
        Bed { keys, slots, sender, receiver, core, now, map, under_way: VecDeque::new(), done: [0; 3] }
    }

    /// What a submitter would have done: a cycle's records lie in the ring.
    fn fill(&mut self) {
        for _ in 0..TURN_RECORDS_MAX {
            let record = Record::new(self.keys.draw(), &DATA);
            let ticket = self.slots.take_lone();
            let now = self.now;
            let pushed = self.sender.try_push(ticket, frame_len(&record), |frame| {
                write_frame(frame, STREAM, now, &record);
            });
            assert!(pushed.is_ok(), "the ring was drained");
        }
        self.done[Work::Accept as usize] += TURN_RECORDS_MAX as u64;
    }

    fn cycle(&mut self, work: Option<Work>) {
        self.now = self.now + CYCLE;
        self.fill();
        count_if(work == Some(Work::Accept), || self.accept());
        let transmits = count_if(work == Some(Work::Send), || self.send());
        // Answers come a cycle after their requests.
        let answers: Vec<_> = self.under_way.drain(..).map(|sent| (sent.request, answer(&self.map, &sent))).collect();
        self.done[Work::Send as usize] += transmits.iter().map(|sent| sent.user_records as u64).sum::<u64>();
        self.under_way.extend(transmits);
        let released = count_if(work == Some(Work::Settle), || self.settle(&answers));
        assert_eq!(released.failed, 0, "the service stores everything");
        self.done[Work::Settle as usize] += released.delivered;
    }

    fn accept(&mut self) {
        let tail = self.receiver.snapshot();
        let frames = self.receiver.drain(tail);
        self.core.handle_records(self.now, frames.map(|frame| (frame.ticket, read_frame(frame.bytes))));
        assert!(self.receiver.release().is_none(), "nobody waits for room");
    }

    fn send(&mut self) -> Vec<Transmit> {
        self.core.turn(self.now);
        std::iter::from_fn(|| self.core.poll_transmit(self.now)).collect()
    }

    fn settle(&mut self, answers: &[(RequestId, Vec<u8>)]) -> Released {
        for (request, body) in answers {
            let entries = parse_answer(200, Some(Wire::Cbor.content_type()), None, body);
            self.core.handle_answer(self.now, *request, entries);
        }
        assert!(self.core.wakers().is_empty() && self.core.unheard().is_empty(), "nobody waits, and nothing fails");
        self.core.tally(|_, received, settled| {
            black_box((received, settled));
        });
        self.core.released()
    }
}

fn count_if<T>(is_counted: bool, work: impl FnOnce() -> T) -> T {
    if is_counted { counted(work) } else { work() }
}

/// Even shards.
fn even_map() -> Arc<ShardMap> {
    let width = u128::MAX / SHARDS as u128;
    let shards = (0..SHARDS).map(|number| ShardInfo {
        id: format!("shardId-{number:012}").into(),
        first: HashKey(width * number as u128),
        last: HashKey(if number + 1 == SHARDS { u128::MAX } else { width * (number as u128 + 1) - 1 }),
        parents: [None, None],
    });
    Arc::new(ShardMap::build(1, shards.collect(), 1, None).expect("even shards are a map"))
}

/// What the service says when it has stored all of a request, each entry where its hash key belongs.
fn answer(map: &ShardMap, transmit: &Transmit) -> Vec<u8> {
    let request: Value = ciborium::from_reader(&transmit.body.to_vec()[..]).expect("a request in CBOR");
    let field = |value: &Value, name: &str| {
        let fields = value.as_map().expect("a map").iter();
        fields.clone().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value.clone())
    };
    let records = field(&request, "Records").expect("a request has records");
    let stored = records.as_array().expect("a list").iter().enumerate().map(|(place, entry)| {
        let hash = field(entry, "ExplicitHashKey").expect("a hash key");
        let hash = hash.as_text().and_then(|decimal| decimal.parse().ok()).expect("a hash key in decimal");
        let shard = map.shard(map.predict(HashKey(hash)));
        let pair = |key: &str, value: String| (Value::Text(key.into()), Value::Text(value));
        let number = format!("4961{:052}", (transmit.body.len() * 1000 + place) as u64);
        Value::Map(vec![pair("SequenceNumber", number), pair("ShardId", shard.id.to_string())])
    });
    let stored = Value::Array(stored.collect());
    let failed = (Value::Text("FailedRecordCount".into()), Value::Integer(0.into()));
    let document = Value::Map(vec![failed, (Value::Text("Records".into()), stored)]);
    let mut body = Vec::new();
    ciborium::into_writer(&document, &mut body).expect("a vector takes everything");
    body
}

/// Keys that are hashed side by side, as many as the engine takes at once.
const KEYS_AT_ONCE: usize = 16;

/// Frames out of the ring, hashed and routed, by themselves.
pub fn route(records: usize) -> u64 {
    let mut bed = Bed::new();
    let cycles = records.div_ceil(TURN_RECORDS_MAX);
    let mut by_shard = [0; SHARDS];
    let mut tickets = Vec::with_capacity(TURN_RECORDS_MAX);
    for cycle in 0..2 * cycles {
        bed.fill();
        let part = || {
            let tail = bed.receiver.snapshot();
            let mut frames = bed.receiver.drain(tail);
            loop {
                let (mut keys, mut hashes) = ([&[][..]; KEYS_AT_ONCE], [HashKey::MIN; KEYS_AT_ONCE]);
                let mut count = 0;
                for (key, frame) in keys.iter_mut().zip(&mut frames) {
                    *key = black_box(read_frame(frame.bytes)).key;
                    tickets.push(frame.ticket);
                    count += 1;
                }
                lanes::hash_keys(&keys[..count], &mut hashes[..count]);
                for hash in &hashes[..count] {
                    by_shard[bed.map.predict(*hash).index()] += 1;
                }
                if count < KEYS_AT_ONCE {
                    break;
                }
            }
            assert!(bed.receiver.release().is_none(), "nobody waits for room");
        };
        count_if(cycle >= cycles, part);
        tickets.clear();
    }
    assert_eq!(by_shard.iter().sum::<usize>(), 2 * cycles * TURN_RECORDS_MAX);
    assert!(by_shard.iter().all(|records| *records > 0), "every shard has keys");
    (cycles * TURN_RECORDS_MAX) as u64
}

/// Aggregates of a request of 1 MiB, and of them those that the engine digests together.
const REQUEST_AGGREGATES: usize = 20;
const DIGESTS_TOGETHER: usize = 64;

/// Requests of aggregates that are there.
pub fn encode(records: usize) -> u64 {
    let (mut keys, map) = (Keys::new(), even_map());
    let mut open: Vec<Aggregate> = (0..SHARDS).map(|_| Aggregate::new()).collect();
    let (mut warm, mut done) = (0, 0);
    let mut body = Body::default();
    while done < records {
        let mut aggregates: Vec<_> = (0..REQUEST_AGGREGATES).map(|_| full(&mut keys, &map, &mut open)).collect();
        let is_warm = warm >= records;
        body = count_if(is_warm, || request(&mut aggregates, body));
        assert!(body.len() > aggregates.iter().map(Aggregate::size).sum());
        *(if is_warm { &mut done } else { &mut warm }) += aggregates.iter().map(Aggregate::count).sum::<usize>();
        body.clear();
    }
    done as u64
}

/// The next aggregate that is full; each of `open` takes the keys of its shard.
fn full(keys: &mut Keys, map: &ShardMap, open: &mut [Aggregate]) -> Aggregate {
    loop {
        let key = keys.draw();
        let hash = hash_key(key);
        let member =
            Member { partition_key: key.as_bytes(), key_tag: hash.0 as u64, explicit_hash_key: None, data: &DATA };
        let aggregate = &mut open[map.predict(hash).index()];
        let place = aggregate.place(&member);
        if place.size() > AGGREGATION_BYTES_DEFAULT {
            let mut full = std::mem::take(aggregate);
            full.seal();
            return full;
        }
        aggregate.append_at(&member, place, AGGREGATION_BYTES_DEFAULT);
    }
}

fn request(aggregates: &mut [Aggregate], body: Body) -> Body {
    let mut encoder = RequestEncoder::reuse(Wire::Cbor, StreamRef::Name("stream"), body);
    for together in aggregates.chunks_mut(DIGESTS_TOGETHER) {
        let (mut messages, mut digests) = ([[&[][..]; 3]; DIGESTS_TOGETHER], [[0; 16]; DIGESTS_TOGETHER]);
        for (message, aggregate) in messages.iter_mut().zip(&*together) {
            let [_, parts @ ..] = aggregate.parts();
            *message = parts;
        }
        let count = together.len();
        lanes::digests(&messages[..count], &mut digests[..count]);
        for (aggregate, digest) in together.iter_mut().zip(&digests) {
            aggregate.share();
            let [magic, key_table, explicit, members] = aggregate.body_parts();
            encoder.entry("a", Some(HashKey(1 << 100)), &[magic, key_table, explicit, members, Part::copied(digest)]);
        }
    }
    encoder.finish()
}
