//! Drives each core by the law of the engine: one cycle is handle, turn, poll, rest.
//!
//! What a core hears waits in its inbox until its next cycle; it takes bounded bites from inbox, mesh rings and the rings of
//! its submitters, and comes again at once if something is left.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kpl::codec::{Wire, parse_answer, read_frame};
use kpl::config::ShardMapPolicy;
use kpl::engine::{ConnectionId, Core, Message, RequestId, ShardMap, TransportFailure};
use kpl::record::{CoreId, StreamId, StreamName};
use kpl::time::Time;

use crate::checker::Checker;
use crate::ending::Settled;
use crate::faults::{Canary, Kind};
use crate::promise::Promise;
use crate::scenario::StreamPlan;
use crate::submitters::Submitter;
use crate::world::{Event, World};

/// What a core hears.
pub enum Input {
    /// A submitter has opened its ring.
    Ring(usize),
    /// A stream was opened.
    Stream(usize),
    /// The service's answer: status, `x-amzn-errortype`, body.
    Answer(RequestId, u16, Option<&'static str>, Vec<u8>),
    /// No answer.
    Failure(RequestId, TransportFailure),
    /// A map of a stream.
    Map(usize, Arc<ShardMap>),
    /// A stream's shards could not be listed for now.
    MapFailed(usize),
    /// A stream's shards cannot be listed.
    Refused(usize),
    /// There is no such stream.
    Missing(usize),
    /// There are other credentials, or the clock was corrected.
    SignerChanged,
    /// A flush of a stream.
    Flush(usize, u64),
    /// Close.
    Close,
}

/// A core and what surrounds it.
pub struct Node {
    core: Core,
    inbox: VecDeque<Input>,
    wake_at: Time,
    /// By connection: whether it is open.
    open: Vec<bool>,
    /// By connection: whether a request is on it.
    carries: Vec<bool>,
    busy: usize,
    last_busy: Time,
    last_full: Time,
    /// The tails that its rings are drained to, by submitter.
    drain: Option<Vec<(usize, u64)>>,
    idle_cycles: u32,
    stalled: bool,
    /// When it stands still again at the earliest.
    stalls_after: Time,
    /// Whether it has finished.
    pub done: bool,
    /// What it said to be settled.
    pub settled: Settled,
}

/// Inputs, and messages of each mesh ring, that a cycle takes.
const BITE: usize = 4;
/// The longest that a core stands still, and the least time between two stalls, in microseconds.
const STALL_US_MAX: u64 = 200_000;
/// Cycles without work, in which time stands still, after which a core spins.
const IDLE_CYCLES_MAX: u32 = 20;

impl Node {
    /// A core that has heard nothing.
    pub fn new(core: Core, connections: usize) -> Node {
        Node {
            core,
            inbox: VecDeque::new(),
            wake_at: Time::NEVER,
            open: vec![false; connections],
            carries: vec![false; connections],
            busy: 0,
            last_busy: Time::ZERO,
            last_full: Time::ZERO,
            drain: None,
            idle_cycles: 0,
            stalled: false,
            stalls_after: Time::ZERO,
            done: false,
            settled: Settled::default(),
        }
    }

    /// Arrival of the oldest record that its engine keeps.
    pub fn oldest(&mut self) -> Option<Time> {
        self.core.oldest()
    }

    /// Whether it was told of a stream.
    pub fn knows(&self, stream: StreamId) -> bool {
        self.core.knows(stream)
    }

    /// When a connection was last busy, and when all were, before a request that leaves now.
    pub fn last_busy(&self, now: Time) -> (Time, Time) {
        (if self.busy > 0 { now } else { self.last_busy }, self.last_full)
    }

    /// A request takes a connection. Answers whether that had to be opened.
    pub fn occupy(&mut self, connection: usize, now: Time, checker: &mut Checker) -> bool {
        let doubly = std::mem::replace(&mut self.carries[connection], true);
        checker.holds(Promise::I8, !doubly, || format!("two requests on connection {connection}"));
        self.note_busy(now);
        self.busy += 1;
        self.note_busy(now);
        !std::mem::replace(&mut self.open[connection], true)
    }

    /// A request has ended; its connection stays open or does not.
    pub fn vacate(&mut self, connection: usize, now: Time, open: bool) {
        self.note_busy(now);
        self.busy -= 1;
        self.carries[connection] = false;
        self.open[connection] = open;
    }

    fn note_busy(&mut self, now: Time) {
        if self.busy > 0 {
            self.last_busy = now;
        }
        if self.busy == self.open.len() {
            self.last_full = now;
        }
    }
}

impl World {
    /// Has a core's next cycle no later than `at`.
    pub(crate) fn wake_at(&mut self, core: usize, at: Time) {
        let node = &mut self.nodes[core];
        // Nothing wakes one that stands still.
        if at < node.wake_at && !node.done && !node.stalled {
            node.wake_at = at;
            self.schedule(at, Event::Wake(core));
        }
    }

    /// Puts something into a core's inbox.
    pub(crate) fn tell(&mut self, core: usize, input: Input) {
        if !self.nodes[core].done {
            self.nodes[core].inbox.push_back(input);
            self.wake_at(core, self.now);
        }
    }

    /// A core's time has come, unless it stands still.
    pub(crate) fn wake(&mut self, core: usize) {
        let node = &mut self.nodes[core];
        if node.wake_at != self.now || node.done {
            return;
        }
        node.wake_at = Time::NEVER;
        let stalls = !node.stalled && node.stalls_after <= self.now && self.closed.is_none();
        if stalls && self.faults.strikes(Kind::CoreStall) {
            node.stalled = true;
            let stall = self.faults.rng().micros(100, STALL_US_MAX);
            node.stalls_after = self.now + stall + Duration::from_micros(STALL_US_MAX);
            node.wake_at = self.now + stall;
            return self.schedule(self.now + stall, Event::Wake(core));
        }
        node.stalled = false;
        self.cycle(core);
    }

    fn cycle(&mut self, core: usize) {
        let worked = self.handle(core);
        let now = self.now;
        self.nodes[core].core.turn(now);
        let sent = self.poll(core);
        if !self.checker.broken.is_empty() {
            return;
        }
        self.rest(core, worked || sent);
    }

    /// Closes an idle connection, as a driver does after a while.
    fn close_idle(&mut self, core: usize) {
        let node = &mut self.nodes[core];
        let idle = (0..node.open.len()).find(|&index| node.open[index] && !node.carries[index]);
        if let Some(index) = idle
            && self.faults.strikes(Kind::IdleClosed)
        {
            node.open[index] = false;
            node.core.handle_disconnected(ConnectionId(index as u16));
        }
    }

    /// Tells the core what happened. Answers whether anything did.
    fn handle(&mut self, core: usize) -> bool {
        self.close_idle(core);
        let pressed = self.budget.is_pressed();
        self.nodes[core].core.handle_pressure(pressed);
        let mut worked = false;
        for _ in 0..BITE {
            let Some(input) = self.nodes[core].inbox.pop_front() else { break };
            self.hear(core, input);
            worked = true;
        }
        for from in 0..self.nodes.len() {
            for _ in 0..BITE {
                let Some(message) = self.mesh[from][core].pop_front() else { break };
                self.nodes[core].core.handle_mesh(self.now, CoreId(from as u16), message);
                worked = true;
                // There is room again.
                self.wake_at(from, self.now + Duration::from_micros(1));
            }
        }
        if self.nodes[core].core.wants_drain() {
            // Of a ring whose records a flush covers the core was told before.
            self.hear_rings(core);
            let homes =
                self.submitters.iter().enumerate().filter(|(_, submitter)| submitter.home == core && submitter.heard);
            let tails = homes.map(|(index, submitter)| (index, submitter.pushed)).collect();
            self.nodes[core].drain = Some(tails);
            self.nodes[core].core.handle_drain_started();
        }
        worked |= self.drain_rings(core);
        let reached = |(index, tail): &(usize, u64)| self.submitters[*index].popped >= *tail;
        if self.nodes[core].drain.as_ref().is_some_and(|tails| tails.iter().all(reached)) {
            self.nodes[core].drain = None;
            self.nodes[core].core.handle_drained();
        }
        worked
    }

    fn hear_rings(&mut self, core: usize) {
        let (submitters, inbox) = (&mut self.submitters, &mut self.nodes[core].inbox);
        inbox.retain(|input| match input {
            Input::Ring(submitter) => {
                submitters[*submitter].heard = true;
                false
            }
            _ => true,
        });
    }

    fn drain_rings(&mut self, core: usize) -> bool {
        let mut worked = false;
        for submitter in self.submitters.iter_mut().filter(|submitter| submitter.home == core && submitter.heard) {
            let mut taken = Vec::new();
            for _ in 0..self.plan.bite {
                let Some((ticket, frame)) = submitter.ring.pop_front() else { break };
                submitter.ring_bytes -= frame.len();
                submitter.popped += 1;
                worked = true;
                if !self.faults.planted(Canary::DropsTicket, 20) {
                    taken.push((ticket, frame));
                }
            }
            let (tickets, frames): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
            let records = tickets.into_iter().zip(frames.iter().map(|frame| read_frame(frame)));
            self.nodes[core].core.handle_records(self.now, records);
        }
        worked
    }

    fn hear(&mut self, core: usize, input: Input) {
        let now = self.now;
        if matches!(input, Input::SignerChanged) {
            self.signer.remedied(core);
        }
        let engine = &mut self.nodes[core].core;
        match input {
            Input::Ring(submitter) => self.submitters[submitter].heard = true,
            Input::Stream(stream) => {
                let StreamPlan { name, config, .. } = &self.plan.streams[stream];
                engine.handle_stream(StreamId(stream as u32), StreamName::Name(name.clone()), config.clone());
            }
            Input::MapFailed(stream) => engine.handle_map_failed(StreamId(stream as u32), "simulated"),
            Input::Answer(id, status, header, body) => {
                self.inspector.heard(now, core, usize::from(id.connection.0), &mut self.checker);
                engine.handle_answer(now, id, parse_answer(status, None, header, &body));
            }
            Input::Failure(id, failure) => {
                self.inspector.heard(now, core, usize::from(id.connection.0), &mut self.checker);
                engine.handle_failure(now, id, &failure);
            }
            Input::Map(stream, map) => {
                self.trace.say(now, format_args!("core {core} has map {} of stream {stream}", map.epoch));
                let first_put = self.checker.first_put.get(&stream);
                let stood_in = match self.plan.config.shard_map {
                    ShardMapPolicy::Degrade { after } => first_put.is_some_and(|first| *first + after <= now),
                    ShardMapPolicy::Required | ShardMapPolicy::Unknown => false,
                };
                self.inspector.map(now, (core, stream), &map, stood_in, &self.checker.configs[stream]);
                engine.handle_map(now, StreamId(stream as u32), map);
            }
            Input::Missing(stream) => {
                self.inspector.missing(core, stream);
                engine.handle_stream_missing(StreamId(stream as u32));
            }
            Input::Refused(stream) => engine.handle_map_refused(StreamId(stream as u32), "simulated"),
            Input::SignerChanged => engine.handle_signer_changed(now),
            Input::Flush(stream, token) => engine.handle_flush(StreamId(stream as u32), token),
            Input::Close => engine.handle_close(now),
        }
    }

    /// Asks the core for everything. Answers whether it sent anything.
    fn poll(&mut self, core: usize) -> bool {
        let mut sent = false;
        while let Some(transmit) = self.nodes[core].core.poll_transmit(self.now) {
            sent = true;
            self.transmit(core, transmit);
        }
        while let Some(stream) = self.nodes[core].core.poll_map_wanted() {
            self.list_wanted(stream.index());
        }
        let mut suspected = Vec::new();
        while let Some(stream) = self.nodes[core].core.poll_suspected() {
            suspected.push(stream.index());
            self.suspected(stream.index());
        }
        self.inspector.check_suspected(core, &suspected, &mut self.checker);
        // Only the log and a counter hear of it; each request says of itself whether it is one without a map.
        while self.nodes[core].core.poll_unmapped().is_some() {}
        if self.nodes[core].core.poll_remedy_wanted().is_some() {
            self.remedy_wanted(core);
        }
        if let Some(wire) = self.nodes[core].core.poll_wire_settled() {
            let refused = wire == Wire::Cbor && self.plan.refuses_cbor;
            self.checker.holds(Promise::I8, !refused, || "CBOR is settled on that the endpoint refuses".to_owned());
        }
        while let Some(token) = self.nodes[core].core.poll_flushed() {
            self.trace.say(self.now, format_args!("flush {token} is done"));
            self.checker.flush_done(self.now, token);
        }
        for to in 0..self.nodes.len() {
            self.move_outbox(core, to);
        }
        let released = self.nodes[core].core.released();
        self.nodes[core].settled.add(&released);
        if released.records == 0 || !self.faults.planted(Canary::KeepsCredit, 5) {
            self.budget.release(released.records, released.bytes);
        }
        self.nodes[core].core.wakers().drain(..).for_each(std::task::Waker::wake);
        self.checker.take_woken(self.now);
        sent
    }

    /// Moves messages to the ring, as far as it takes them.
    fn move_outbox(&mut self, from: usize, to: usize) {
        let mut moved = false;
        if self.nodes[to].done {
            // It has heard that all are closed, and listens no more.
            let outbox = self.nodes[from].core.outbox(CoreId(to as u16));
            let lost = outbox.drain(..).any(|message| matches!(message, Message::Records { .. }));
            return self
                .checker
                .holds(Promise::I7, !lost, || format!("core {from} passes records to core {to}, which is done"));
        }
        let outbox = self.nodes[from].core.outbox(CoreId(to as u16));
        while self.mesh[from][to].len() < self.plan.mesh_capacity {
            let Some(message) = outbox.pop_front() else { break };
            moved = true;
            if !self.faults.planted(Canary::DropsMessage, 20) {
                self.mesh[from][to].push_back(message);
            }
        }
        if moved {
            let delay = self.rng.micros(1, 50);
            self.wake_at(to, self.now + delay);
        }
    }

    /// Plans the core's next cycle, or none if it has finished.
    fn rest(&mut self, core: usize, worked: bool) {
        let full = |submitter: &Submitter| submitter.home == core && submitter.heard && !submitter.ring.is_empty();
        let left = self.submitters.iter().any(full);
        let node = &mut self.nodes[core];
        if node.core.is_finished() && !left {
            node.done = true;
            return self.core_done(core);
        }
        let mail = !node.inbox.is_empty() || self.mesh.iter().any(|rings| !rings[core].is_empty());
        let at_once = left || mail || node.core.wants_drain() || node.drain.is_some();
        let next = if at_once { Some(self.now) } else { node.core.next_timeout() };
        let stands = next.is_some_and(|next| next <= self.now) && !worked;
        node.idle_cycles = if stands { node.idle_cycles + 1 } else { 0 };
        let spins = node.idle_cycles > IDLE_CYCLES_MAX;
        let now = self.now;
        self.checker.holds(Promise::I14, !spins, || format!("core {core} spins at {now:?}"));
        if let Some(next) = next {
            self.wake_at(core, next.max(self.now));
        }
    }
}
