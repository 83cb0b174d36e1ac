//! What surrounds the cores: rings, mesh, connections and the clock, by the law of the engine.

mod looks;
mod maps;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::ledger::{Ledger, data, key};
use super::service::{Answer, Entry, Fate, Service, read};
use super::{Op, Plan};
use crate::codec::Framed;
use crate::config::{RateLimit, ShardMapPolicy};
use crate::engine::{ConnectionId, Core, Message, Released, RequestId, ShardInfo, ShardMap, Ticket, Transmit};
use crate::limits::{CONNECTION_WAIT, OUTER_PARTITION_KEY};
use crate::outcome::{ErrorCode, Settlement};
use crate::record::{CoreId, HashKey, Placement, Record, StreamId, StreamName};
use crate::ring::{self, Slots};
use crate::time::Time;

/// Records that are put at most, so that a list of operations stays quick to do.
const PUTS_MAX: usize = 400;
const PUT_BYTES_MAX: u64 = 4 << 20;
/// Cycles at one moment in which nothing happens, after which a core spins. A wheel may need one for each of its levels.
const IDLE_CYCLES_MAX: usize = 20;
/// Cycles of all cores at one moment.
const CYCLES_MAX: usize = 1000;
/// What timers may be late.
const SLACK: Duration = Duration::from_micros(200);

struct Request {
    core: usize,
    id: RequestId,
    entries: Vec<Entry>,
    /// The ids of the shards that the entries were predicted for, if there was a map.
    predicted: Vec<Option<Arc<str>>>,
}

struct Flush {
    stream: u32,
    /// Records that were put before it.
    puts: usize,
    /// Every core has heard of it, so that what was put before it is late.
    heard: bool,
    done: bool,
}

pub struct World {
    plan: Plan,
    now: Time,
    /// None once it has failed.
    cores: Vec<Option<Core>>,
    closed: Vec<bool>,
    rings: Vec<VecDeque<(Ticket, usize)>>,
    /// By core: records that were taken from its ring, and the tail that it drains to.
    popped: Vec<usize>,
    drains: Vec<Option<usize>>,
    /// From, to.
    mesh: Vec<Vec<VecDeque<Message>>>,
    requests: Vec<Request>,
    slots: Slots<Arc<Settlement>>,
    abandoned: Arc<ring::Ledger>,
    ledger: Ledger,
    service: Service,
    /// All streams are sharded alike.
    maps: Vec<Arc<ShardMap>>,
    /// By core and stream: how many maps there were when the latest that it was told of was.
    told: Vec<Vec<usize>>,
    released: Released,
    unheard: u64,
    put_bytes: u64,
    flushes: Vec<Flush>,
    /// Since when every core knows the only map that there ever was.
    settled_at: Option<Time>,
    /// By core: half of the smallest request of several entries that was too large.
    bytes_max: Vec<usize>,
    /// Nothing has gone wrong yet.
    calm: bool,
}

impl World {
    pub fn new(plan: Plan) -> World {
        plan.config.validate().expect("a plan that can be had");
        let cores = usize::from(plan.cores);
        let now = Time::from_nanos(1_000_000_000);
        let make = |id| {
            let mut core = Core::new(now, CoreId(id), plan.cores, &plan.config, 7);
            for stream in 0..plan.streams {
                let name = StreamName::parse(&format!("stream-{stream}")).expect("a name");
                core.handle_stream(StreamId(stream), name, plan.config.clone());
            }
            Some(core)
        };
        let abandoned = Arc::new(ring::Ledger::new());
        let calm = plan.config.rate_limit == RateLimit::Off && plan.config.shard_backlog_max.is_none();
        World {
            now,
            cores: (0..plan.cores).map(make).collect(),
            closed: vec![false; cores],
            rings: (0..cores).map(|_| VecDeque::new()).collect(),
            popped: vec![0; cores],
            drains: vec![None; cores],
            mesh: (0..cores).map(|_| (0..cores).map(|_| VecDeque::new()).collect()).collect(),
            requests: Vec::new(),
            slots: Slots::new(Arc::clone(&abandoned)),
            abandoned,
            ledger: Ledger::default(),
            service: Service::default(),
            maps: Vec::new(),
            told: vec![vec![0; plan.streams as usize]; cores],
            released: Released::default(),
            unheard: 0,
            put_bytes: 0,
            flushes: Vec::new(),
            settled_at: None,
            bytes_max: vec![usize::MAX; cores],
            calm,
            plan,
        }
    }

    fn core_of(&self, draw: u8) -> usize {
        usize::from(draw) % self.cores.len()
    }

    fn core_and_stream(&self, draw: u16) -> (usize, u32) {
        (self.core_of(draw.to_le_bytes()[0] % 16), u32::from(draw / 16) % self.plan.streams)
    }

    pub fn apply(&mut self, op: Op) {
        match op {
            Op::Put { draw, len } => self.put(draw, len),
            Op::Reshard { shards, cores, follows } => self.reshard(shards, cores, follows),
            Op::Map { draw, age } => {
                let (core, stream) = self.core_and_stream(draw);
                self.tell_map(core, stream, usize::from(age));
            }
            Op::MapTrouble { draw, refused } => {
                let (at, stream) = self.core_and_stream(draw);
                let Some(core) = &mut self.cores[at] else { return };
                if refused {
                    self.ledger.reasons.refused = true;
                    core.handle_map_refused(StreamId(stream), "not allowed");
                } else {
                    core.handle_map_failed(StreamId(stream), "not now");
                }
            }
            Op::End { request, fate } if !self.requests.is_empty() => {
                self.end_request(usize::from(request) % self.requests.len(), fate);
            }
            Op::End { .. } => {}
            Op::Cycle { core, bite } => {
                self.cycle(self.core_of(core), usize::from(bite));
            }
            Op::Pass { ns, leaps } => self.pass(Duration::from_nanos(ns), leaps),
            Op::Flush(stream) => self.flush(u32::from(stream) % self.plan.streams),
            Op::Pressure(core, pressed) => {
                let core = self.core_of(core);
                self.cores[core].iter_mut().for_each(|core| core.handle_pressure(pressed));
            }
            Op::Signer(core) => {
                let (core, now) = (self.core_of(core), self.now);
                self.cores[core].iter_mut().for_each(|core| core.handle_signer_changed(now));
            }
            Op::Disconnect(core, connection) => {
                let core = self.core_of(core);
                let id = ConnectionId(u16::from(connection) % self.plan.config.max_connections_per_core as u16);
                let carries = self.requests.iter().any(|request| request.core == core && request.id.connection == id);
                if let Some(core) = self.cores[core].as_mut().filter(|_| !carries) {
                    core.handle_disconnected(id);
                }
            }
            Op::Fail(core) => self.fail(self.core_of(core)),
            Op::Close(core) => self.close(self.core_of(core)),
        }
    }

    fn put(&mut self, draw: u16, len: usize) {
        let (home, stream) = self.core_and_stream(draw);
        let number = self.ledger.puts.len();
        // Who hears that a core has failed takes no more records.
        if number >= PUTS_MAX || self.ledger.reasons.core_failed || self.put_bytes > PUT_BYTES_MAX {
            return;
        }
        let key = key(number, len, draw);
        let magic = draw.is_multiple_of(11);
        let room = self.plan.config.max_record_size.saturating_sub(key.len() + 4 * usize::from(magic));
        if room < 4 {
            return;
        }
        // What is too short to tell who it is has a key that does.
        let data = data(number, if len < 4 { len } else { len.min(room) }, magic);
        let edge = u128::MAX / 60 * (u128::from(draw) % 61);
        let (key, placement) = match draw % 7 {
            0 => (key, Placement::Explicit(HashKey(edge.wrapping_sub(u128::from(draw / 7 % 2))))),
            1 if len >= 4 => (OUTER_PARTITION_KEY.to_owned(), Placement::Drawn),
            _ => (key, Placement::ByKey),
        };
        let mut put = Ledger::new_put(stream, home, (key, data), placement);
        put.arrival = self.now;
        put.leave_by = self.now + self.plan.config.record_max_buffered_time;
        self.put_bytes += put.size();
        if self.plan.detaches && draw.is_multiple_of(3) {
            self.rings[home].push_back((self.slots.take_lone(), number));
            return self.ledger.put(put, None);
        }
        let (ticket, handle) = self.slots.take();
        self.rings[home].push_back((ticket, number));
        self.ledger.put(put, Some(handle));
    }

    fn end_request(&mut self, place: usize, fate: Fate) {
        let Request { core, id, entries, predicted } = self.requests.swap_remove(place);
        self.calm &= fate == Fate::Stored;
        self.ledger.reasons.miscounted |= matches!(fate, Fate::Miscounted(_));
        let answer = self.service.end(&entries, fate, &self.maps);
        if let Answer::Refused(error) = &answer {
            self.ledger.reasons.missing |= error.code.as_str() == "ResourceNotFoundException";
        }
        if let Answer::Refused(error) = &answer
            && error.status == 413
        {
            let bytes: usize = entries.iter().map(Entry::size).sum();
            self.ledger.reasons.too_large = true;
            self.bytes_max[core] = self.bytes_max[core].min(if entries.len() > 1 { bytes / 2 } else { usize::MAX });
        }
        let members = || entries.iter().flat_map(|entry| entry.members.iter().copied());
        let is_excused = match &answer {
            Answer::Nothing(failure) => failure.code == ErrorCode::Reset && !failure.bytes_sent,
            // It may have been refused for its form, and was sent in the other.
            Answer::Refused(error) => [400, 404, 415, 500].contains(&error.status),
            Answer::Entries(_) => false,
        };
        for number in members() {
            let put = &mut self.ledger.puts[number];
            put.excused += usize::from(is_excused);
            // What was under way when its core was closed may be stored yet, and has its outcome.
            put.in_flight &= self.closed[core];
        }
        if let Answer::Entries(results) = &answer {
            for ((entry, result), predicted) in entries.iter().zip(results).zip(&predicted) {
                let crate::codec::EntryResult::Stored { shard_id, .. } = result else { continue };
                // Whether a stream that was missing has its shards still, only the next map tells.
                let strayed = Some(shard_id) != predicted.as_ref() || self.ledger.reasons.missing;
                entry.members.iter().for_each(|number| self.ledger.puts[*number].strayed |= strayed);
            }
        }
        let Some(core) = &mut self.cores[core] else { return };
        match answer {
            Answer::Entries(results) => core.handle_answer(self.now, id, Ok(results)),
            Answer::Refused(error) => core.handle_answer(self.now, id, Err(error)),
            Answer::Nothing(failure) => core.handle_failure(self.now, id, &failure),
        }
    }

    fn flush(&mut self, stream: u32) {
        let Some(core) = self.cores[0].as_mut() else { return };
        // It waits for one that runs.
        let heard = self.flushes.iter().any(|flush| flush.stream == stream && !flush.done);
        core.handle_flush(StreamId(stream), self.flushes.len() as u64);
        self.flushes.push(Flush { stream, puts: self.ledger.puts.len(), heard, done: false });
    }

    fn fail(&mut self, failed: usize) {
        if self.closed[failed] || self.cores[failed].is_none() {
            return;
        }
        self.ledger.reasons.core_failed = true;
        self.cores[failed] = None;
        self.rings[failed].clear();
        for request in self.requests.extract_if(.., |request| request.core == failed) {
            request
                .entries
                .iter()
                .flat_map(|entry| &entry.members)
                .for_each(|at| self.ledger.puts[*at].in_flight = false);
        }
        for (from, core) in self.cores.iter_mut().enumerate() {
            self.mesh[from][failed].clear();
            core.iter_mut().for_each(|core| core.handle_core_failed(CoreId(failed as u16)));
        }
        self.calm = false;
    }

    fn close(&mut self, at: usize) {
        let Some(core) = &mut self.cores[at] else { return };
        core.handle_close(self.now);
        self.closed[at] = true;
        self.ledger.reasons.closed = true;
        self.calm = false;
    }

    /// One cycle of a core, in which it hears `bite` messages of each other core and as many records. Answers whether
    /// anything happened.
    fn cycle(&mut self, at: usize, bite: usize) -> bool {
        let (now, cores) = (self.now, self.cores.len());
        let Some(core) = &mut self.cores[at] else { return false };
        let mut worked = false;
        for from in 0..cores {
            for _ in 0..bite {
                let Some(message) = self.mesh[from][at].pop_front() else { break };
                core.handle_mesh(now, CoreId(from as u16), message);
                worked = true;
            }
        }
        if core.wants_drain() {
            self.drains[at] = Some(self.popped[at] + self.rings[at].len());
            core.handle_drain_started();
            worked = true;
        }
        for _ in 0..bite {
            let Some((ticket, number)) = self.rings[at].pop_front() else { break };
            let put = &self.ledger.puts[number];
            let record = Record { partition_key: &put.key, placement: put.placement, data: &put.data };
            core.handle_record(now, ticket, &Framed::new(StreamId(put.stream), put.arrival, &record));
            self.popped[at] += 1;
            worked = true;
        }
        if self.drains[at].is_some_and(|tail| tail <= self.popped[at]) {
            self.drains[at] = None;
            core.handle_drained();
        }
        core.turn(now);
        worked | self.poll(at)
    }

    fn poll(&mut self, at: usize) -> bool {
        let mut worked = false;
        while let Some(transmit) = self.cores[at].as_mut().and_then(|core| core.poll_transmit(self.now)) {
            self.sent(at, &transmit);
            worked = true;
        }
        self.take_outcomes();
        let Some(core) = &mut self.cores[at] else { return worked };
        while core.poll_unmapped().is_some() || core.poll_map_wanted().is_some() || core.poll_remedy_wanted().is_some()
        {
        }
        core.poll_wire_settled();
        while let Some(token) = core.poll_flushed() {
            let flush = &mut self.flushes[token as usize];
            assert!(!std::mem::replace(&mut flush.done, true), "flush {token} is done twice");
            let left = self.ledger.waiting.iter().find(|number| self.ledger.puts[**number].stream == flush.stream);
            assert!(left.is_none_or(|number| *number >= flush.puts), "flush {token} is done before record {left:?}");
            worked = true;
        }
        for to in 0..self.mesh.len() {
            let outbox = core.outbox(CoreId(to as u16));
            worked |= !outbox.is_empty();
            self.mesh[at][to].append(outbox);
        }
        worked
    }

    fn sent(&mut self, at: usize, transmit: &Transmit) {
        // What was settled in this turn is settled before this is sent.
        self.take_outcomes();
        let (stream, connection) = (transmit.stream.0, transmit.connection);
        assert!(usize::from(connection.0) < self.plan.config.max_connections_per_core);
        let busy = self.requests.iter().any(|request| request.core == at && request.id.connection == connection);
        assert!(!busy, "two requests on one connection");
        assert!(!self.closed[at], "a closed core sends nothing");
        let (name, entries) = read(transmit.wire, &transmit.body.to_vec());
        assert_eq!(name, format!("stream-{stream}"));
        let entries: Vec<Entry> = entries.into_iter().map(|entry| self.ledger.entry(&self.plan, entry)).collect();
        let known = self.told[at][stream as usize];
        let map = known.checked_sub(1).map(|index| Arc::clone(&self.maps[index]));
        assert_eq!(transmit.is_unmapped(), map.is_none());
        self.ledger.request(&self.plan, self.now, (at, stream), map.as_deref(), &entries);
        let bytes: usize = entries.iter().map(Entry::size).sum();
        assert!(entries.len() == 1 || bytes <= self.bytes_max[at], "{bytes} bytes were too large already");
        let one_map = self.maps.len() == 1 && self.plan.config.shard_map == ShardMapPolicy::Required;
        if let Some(map) = map.as_deref().filter(|_| one_map) {
            self.ledger.in_order(map, &entries);
        }
        let user_records: usize = entries.iter().map(|entry| entry.members.len()).sum();
        assert_eq!((transmit.kinesis_records, transmit.user_records), (entries.len(), user_records));
        for &number in entries.iter().flat_map(|entry| &entry.members) {
            let put = &mut self.ledger.puts[number];
            (put.in_flight, put.sent) = (true, put.sent + 1);
        }
        let id = |entry: &Entry| map.as_ref().map(|map| Arc::clone(&map.shard(map.predict(entry.explicit)).id));
        let predicted = entries.iter().map(id).collect();
        self.requests.push(Request { core: at, id: transmit.request, entries, predicted });
    }

    /// Cycles at this moment until nothing happens any more (O10).
    fn rest(&mut self) {
        let mut idle = 0;
        for _ in 0..CYCLES_MAX {
            let mut worked = false;
            for core in 0..self.cores.len() {
                worked |= self.cycle(core, usize::MAX);
            }
            let now = self.now;
            let due = self.cores.iter().flatten().any(|core| core.next_timeout().is_some_and(|at| at <= now));
            if !worked && !due {
                return self.look_at_rest();
            }
            idle = if worked { 0 } else { idle + 1 };
            assert!(idle <= IDLE_CYCLES_MAX, "a core spins");
        }
        panic!("there is no end to what cores do at one moment");
    }

    fn next_timeout(&self) -> Option<Time> {
        self.cores.iter().flatten().filter_map(Core::next_timeout).min().filter(|next| *next != Time::NEVER)
    }

    fn pass(&mut self, time: Duration, leaps: bool) {
        let until = self.now + time;
        if !leaps {
            self.step(until);
        }
        self.now = until;
    }

    /// Wakes whenever a core wants to be woken.
    fn step(&mut self, until: Time) {
        for _ in 0..CYCLES_MAX {
            self.rest();
            let Some(next) = self.next_timeout().filter(|next| *next <= until) else { return };
            self.now = next;
        }
        panic!("the cores wake for nothing");
    }

    fn take_outcomes(&mut self) {
        self.ledger.take_outcomes(&self.plan, self.now, &self.service, &self.maps);
    }

    /// Lets everything come to its end.
    pub fn end(mut self) {
        if self.plan.drops {
            self.ledger.reasons.core_failed = true;
            self.cores.clear();
            self.rings.clear();
            self.mesh.clear();
            self.take_outcomes();
            assert!(self.ledger.waiting.is_empty(), "E1");
            return;
        }
        if self.maps.is_empty() {
            self.reshard(2, 2, false);
        }
        for core in 0..self.cores.len() {
            (0..self.plan.streams).for_each(|stream| self.tell_map(core, stream, 0));
        }
        let until = self.now + 2 * self.plan.config.record_ttl;
        for _ in 0..10 * CYCLES_MAX {
            self.rest();
            while !self.requests.is_empty() {
                self.end_request(0, Fate::Stored);
            }
            match self.next_timeout() {
                Some(next) if next <= until => self.now = next.max(self.now),
                _ => break,
            }
        }
        self.rest();
        assert!(self.ledger.waiting.is_empty(), "{:?} have no outcome in twice their time", self.ledger.waiting);
        (0..self.cores.len()).for_each(|core| self.close(core));
        self.rest();
        assert!(self.cores.iter().flatten().all(Core::is_finished), "a core is not finished");
        if !self.ledger.reasons.core_failed {
            assert!(self.flushes.iter().all(|flush| flush.done), "O9");
            let puts = self.ledger.puts.len() as u64;
            assert_eq!((self.released.records, self.released.bytes), (puts, self.put_bytes), "O2");
            assert_eq!(self.abandoned.abandoned(), 0, "O1");
        }
    }
}
