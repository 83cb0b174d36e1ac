//! Drives each core by the law of the engine: one cycle is handle, turn, poll, rest.
//!
//! What a core hears waits in its inbox until its next cycle; it takes bounded bites from inbox, mesh rings and the rings of
//! its submitters, and comes again at once if something is left.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kpl::codec::{Wire, parse_answer, read_frame};
use kpl::engine::{ConnectionId, Core, Message, RequestId, ShardMap, Transmit, TransportFailure};
use kpl::record::{CoreId, StreamId};
use kpl::time::Time;

use crate::faults::{Canary, Kind};
use crate::inspect::Departure;
use crate::network::{End, draw_fate, end_of};
use crate::wire;
use crate::world::{Event, Request, World};

/// What a core hears.
pub enum Input {
    /// The service's answer: status, `x-amzn-errortype`, body.
    Answer(RequestId, u16, Option<&'static str>, Vec<u8>),
    /// No answer.
    Failure(RequestId, TransportFailure),
    /// A map of a stream.
    Map(usize, Arc<ShardMap>),
    /// A stream's shards cannot be listed.
    Refused(usize),
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
    /// Whether it has finished.
    pub done: bool,
    /// Records that it said to be settled.
    pub settled: u64,
}

/// Inputs, and messages of each mesh ring, that a cycle takes.
const BITE: usize = 4;
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
            done: false,
            settled: 0,
        }
    }

    /// Arrival of the oldest record that its engine keeps.
    pub fn oldest(&mut self) -> Option<Time> {
        self.core.oldest()
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
        if at < node.wake_at && !node.done {
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
        if !node.stalled && self.faults.strikes(Kind::CoreStall) {
            node.stalled = true;
            let stall = self.faults.rng().micros(100, 200_000);
            // Nothing wakes it earlier.
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
            let homes = self.submitters.iter().enumerate().filter(|(_, submitter)| submitter.home == core);
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

    fn drain_rings(&mut self, core: usize) -> bool {
        let mut worked = false;
        for submitter in self.submitters.iter_mut().filter(|submitter| submitter.home == core) {
            for _ in 0..self.plan.bite {
                let Some((ticket, frame)) = submitter.ring.pop_front() else { break };
                submitter.ring_bytes -= frame.len();
                submitter.popped += 1;
                worked = true;
                if !self.faults.planted(Canary::DropsTicket, 20) {
                    self.nodes[core].core.handle_record(self.now, ticket, &read_frame(&frame));
                }
            }
        }
        worked
    }

    fn hear(&mut self, core: usize, input: Input) {
        let (now, engine) = (self.now, &mut self.nodes[core].core);
        match input {
            Input::Answer(id, status, header, body) => {
                engine.handle_answer(now, id, parse_answer(status, None, header, &body));
            }
            Input::Failure(id, failure) => engine.handle_failure(now, id, &failure),
            Input::Map(stream, map) => {
                self.trace.say(now, format_args!("core {core} has map {} of stream {stream}", map.epoch));
                self.inspector.map(core, stream, &map);
                engine.handle_map(now, StreamId(stream as u32), map);
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
        if self.nodes[core].core.poll_remedy_wanted().is_some() {
            let delay = self.rng.micros(0, 2_000_000);
            self.schedule(self.now + delay, Event::Tell(core, Input::SignerChanged));
        }
        if let Some(wire) = self.nodes[core].core.poll_wire_settled() {
            let refused = wire == Wire::Cbor && self.plan.refuses_cbor;
            self.checker.holds(!refused, || "I8: CBOR is settled on that the endpoint refuses".to_owned());
        }
        while let Some(token) = self.nodes[core].core.poll_flushed() {
            self.trace.say(self.now, format_args!("flush {token} is done"));
            self.checker.flush_done(self.now, token);
        }
        for to in 0..self.nodes.len() {
            self.move_outbox(core, to);
        }
        let released = self.nodes[core].core.released();
        self.nodes[core].settled += released.records;
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
            return self.checker.holds(!lost, || format!("I7: core {from} passes records to core {to}, which is done"));
        }
        let outbox = self.nodes[from].core.outbox(CoreId(to as u16));
        while self.mesh[from][to].len() < self.plan.mesh_capacity {
            let Some(message) = outbox.pop_front() else { break };
            self.mesh[from][to].push_back(message);
            moved = true;
        }
        if moved {
            let delay = self.rng.micros(1, 50);
            self.wake_at(to, self.now + delay);
        }
    }

    fn transmit(&mut self, core: usize, transmit: Transmit) {
        let (now, stream) = (self.now, transmit.stream.index());
        let node = &mut self.nodes[core];
        let connection = usize::from(transmit.connection.0);
        let doubly = std::mem::replace(&mut node.carries[connection], true);
        self.checker.holds(!doubly, || format!("I8: two requests on connection {connection} of core {core}"));
        let fresh = !std::mem::replace(&mut node.open[connection], true);
        // Behind a dead shard's records its others are late too, and nobody else; that is not told apart here.
        let calm = self.plan.calm && !self.plan.dead_shard;
        let departure = Departure { now, core, stream, busy: (node.last_busy, node.last_full), calm };
        node.note_busy(now);
        let departure =
            Departure { busy: if node.busy > 0 { (now, departure.busy.1) } else { departure.busy }, ..departure };
        node.busy += 1;
        node.note_busy(now);
        let entries = match wire::read_request(transmit.wire, &transmit.body) {
            Ok((name, entries)) if name == self.plan.streams[stream].name => entries,
            Ok((name, _)) => return self.checker.breaks(format!("I8: a request of stream {stream} names {name}")),
            Err(error) => return self.checker.breaks(format!("I8: a request cannot be read: {error}")),
        };
        self.inspector.request(&departure, &entries, &mut self.checker);
        let fate = draw_fate(now, fresh, transmit.wire, &self.plan, &mut self.faults);
        let index = self.requests.len();
        let (kinesis, user) = (transmit.kinesis_records, transmit.user_records);
        self.trace.say(now, format_args!("core {core} sends request {index}: {kinesis} of {user} records, {fate:?}"));
        self.checker.holds(entries.len() == kinesis, || "I8: a request counts its records wrong".to_owned());
        let (id, wire) = (transmit.request, transmit.wire);
        self.requests.push(Request { core, id, stream, wire, entries: Rc::new(entries), fate, told: Vec::new() });
        if let Some(applied) = fate.applied {
            self.schedule(applied, Event::Arrive(index));
        }
        self.schedule(fate.ended, Event::End(index));
    }

    /// A request is applied.
    pub(crate) fn arrive(&mut self, index: usize) {
        let request = &mut self.requests[index];
        let (entries, stream) = (Rc::clone(&request.entries), &mut self.streams[request.stream]);
        if self.faults.planted(Canary::AppliesTwice, 5) {
            stream.put_records(&entries, &mut self.faults);
        }
        request.told = stream.put_records(&entries, &mut self.faults);
        self.trace.say(self.now, format_args!("request {index} is applied"));
    }

    /// A core hears of the end of a request.
    pub(crate) fn end(&mut self, index: usize) {
        let request = &mut self.requests[index];
        let (core, id, wire) = (request.core, request.id, request.wire);
        let told = std::mem::take(&mut request.told);
        let end = end_of(&request.fate, wire, told, &mut self.faults);
        // What it held is the service's now, or nobody's.
        if request.fate.applied.is_none_or(|applied| applied <= self.now) {
            request.entries = Rc::default();
        }
        let node = &mut self.nodes[core];
        node.note_busy(self.now);
        node.busy -= 1;
        node.carries[usize::from(id.connection.0)] = false;
        self.trace.say(self.now, format_args!("request {index} ends"));
        match end {
            End::Answer(status, header, body) => self.tell(core, Input::Answer(id, status, header, body)),
            End::Failure(failure) => {
                node.open[usize::from(id.connection.0)] = false;
                self.tell(core, Input::Failure(id, failure));
            }
        }
    }

    /// Plans the core's next cycle, or none if it has finished.
    fn rest(&mut self, core: usize, worked: bool) {
        let left = self.submitters.iter().any(|submitter| submitter.home == core && !submitter.ring.is_empty());
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
        self.checker.holds(!spins, || format!("I14: core {core} spins at {now:?}"));
        if let Some(next) = next {
            self.wake_at(core, next.max(self.now));
        }
    }
}
