//! The core loop: drives one engine with real rings, messages, sockets and time.
//!
//! ```text
//!   tick the clock ─▶ take commands, ring frames, mesh messages, ended requests ─▶ turn
//!        ▲                                                                           │
//!        └── idle ◀── wake callers ◀── return credit ◀── say ◀── transmit ◀── poll ──┘
//! ```
//!
//! It follows the law in `engine/mod.rs`. A turn takes a bounded number of records and bytes, so that no shard waits
//! long for another. Tails of rings are noted before commands are taken: a record is never seen before the command
//! that opened its stream. What a core does that has nothing to do is decided in `idle`.
//!
//! When the loop ends, for whatever reason, its rings, its engine and so every ticket in them are dropped: no record
//! is left without an outcome.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use super::Runtime;
use super::asked::Asked;
use super::command::{Command, Event};
use super::hasher::Hashed;
use super::idle::{Idleness, Pause};
use super::lines::{Access, AccessDenied, Ended, Lines};
use super::seat::Seat;
use crate::codec::lanes::Fill;
use crate::codec::{Wire, read_frame};
use crate::engine::{Core, Remedy};
use crate::limits::{SPIN_SLICE, TICK_MAX, TURN_BYTES_MAX, TURN_RECORDS_MAX, sending_allowance};
use crate::metrics::StreamTally;
use crate::outcome::Settlement;
use crate::record::CoreId;
use crate::ring::{Doorbell, Receiver, Rest};
use crate::time::Time;

/// Runs a core to its end, which is its close.
pub(crate) async fn run<R: Runtime>(runtime: R, seat: Seat) {
    let mut core = Running::new(runtime, seat);
    loop {
        let worked = core.cycle();
        if core.engine.is_finished() {
            return core.finish();
        }
        if worked {
            core.runtime.yield_now().await;
        } else {
            core.idle().await;
        }
    }
}

/// Messages that a cycle takes from each other core.
const CYCLE_MESSAGES_MAX: usize = 64;
/// Requests that leave in a cycle: two, which are digested together and hashed side by side. More have their own, as
/// writing a body takes its time.
const CYCLE_REQUESTS_MAX: usize = 2;

struct Ring {
    receiver: Receiver<Arc<Settlement>>,
    /// Where its tail was when the cycle began.
    tail: u64,
    /// Where its tail was when the draining for a flush began.
    flush_tail: u64,
}

/// Closes the core's bell when the core ends, before its rings are dropped (fields drop in their order): a put that
/// the last drain misses is told so.
struct Closer {
    doorbells: Arc<[Arc<Doorbell>]>,
    id: CoreId,
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.doorbells[self.id.index()].close();
    }
}

struct Running<R: Runtime> {
    _closer: Closer,
    rings: Vec<Ring>,
    /// Where the next cycle begins to drain.
    next_ring: usize,
    engine: Core,
    lines: Lines<R>,
    /// Not there until the control thread has found it.
    access: Option<Result<Arc<Access>, AccessDenied>>,
    /// Whether the rings are being drained for a flush.
    draining: bool,
    /// How the core passes the time when there is nothing to do.
    idleness: Idleness,
    asked: Asked,
    /// By [`StreamId`](crate::record::StreamId).
    tallies: Vec<Arc<[StreamTally]>>,
    seat: Seat,
    runtime: R,
}

impl<R: Runtime> Running<R> {
    fn new(runtime: R, seat: Seat) -> Running<R> {
        let config = &seat.config;
        let connections = config.max_connections_per_core;
        Running {
            _closer: Closer { doorbells: Arc::clone(&seat.doorbells), id: seat.id },
            rings: Vec::new(),
            next_ring: 0,
            engine: Core::new(seat.clock.now(), seat.id, seat.mesh.cores as u16, config, seat.seed),
            lines: Lines::new(runtime, connections, config.connect_timeout, config.request_timeout),
            access: None,
            draining: false,
            idleness: Idleness::new(config.idle),
            asked: Asked::default(),
            tallies: Vec::new(),
            seat,
            runtime,
        }
    }

    /// One cycle of the law. Answers whether there was, or still is, anything to do.
    fn cycle(&mut self) -> bool {
        let now = self.seat.clock.now();
        self.bell().tick_by(now.as_nanos(), self.idleness.clock_step());
        for ring in &mut self.rings {
            ring.tail = ring.receiver.snapshot();
        }
        let mut worked = self.take_commands(now);
        worked |= self.take_records(now);
        worked |= self.take_messages(now);
        worked |= self.take_ended(now);
        worked |= self.drain_for_flush(now);
        self.engine.handle_pressure(self.seat.budget.is_pressed());
        self.engine.turn(now);
        worked |= self.transmit(now);
        self.settle(); // before anybody is told of it, here or by way of another core
        self.tally(); // before what came is passed on, and settled elsewhere
        worked |= self.say();
        self.tell();
        self.asked.answer(&mut self.engine, &*self.seat.events);
        self.wake();
        if worked {
            self.idleness.worked(now);
        }
        worked
    }

    /// The last drain: puts that come after it are told that the bell is closed.
    fn finish(mut self) {
        self.bell().close();
        let now = self.seat.clock.now();
        loop {
            for ring in &mut self.rings {
                ring.tail = ring.receiver.snapshot();
            }
            if !self.take_records(now) {
                break;
            }
        }
        self.settle();
        self.tally();
        (self.seat.events)(Event::Measured(self.engine.take_measures()));
        self.wake();
    }

    fn bell(&self) -> &Doorbell {
        &self.seat.doorbells[self.seat.id.index()]
    }

    fn take_commands(&mut self, now: Time) -> bool {
        let mut worked = false;
        while let Ok(command) = self.seat.commands.try_recv() {
            worked = true;
            match command {
                Command::Ring(receiver) => self.rings.push(Ring { receiver, tail: 0, flush_tail: 0 }),
                Command::Stream { id, name, mut config, tallies } => {
                    debug_assert_eq!(id.index(), self.tallies.len(), "streams come in the order of their numbers");
                    self.tallies.push(tallies);
                    // The engine's deadline is when it sends, a caller's when the first byte is on the socket.
                    config.record_max_buffered_time -= sending_allowance(config.record_max_buffered_time);
                    self.idleness.stream_opened(config.record_max_buffered_time);
                    self.engine.handle_stream(id, name, *config);
                }
                Command::Map(stream, map) => self.engine.handle_map(now, stream, map),
                Command::MapFailed(stream, reason) => self.engine.handle_map_failed(stream, &reason),
                Command::StreamMissing(stream) => self.engine.handle_stream_missing(stream),
                Command::MapRefused(stream, reason) => self.engine.handle_map_refused(stream, &reason),
                Command::Access(access) => self.take_access(now, access),
                Command::Flush(stream, token) => self.engine.handle_flush(stream, token),
                Command::CoreFailed(core) => {
                    self.engine.handle_core_failed(core);
                    // We alone push into that ring, so nothing comes after this.
                    while self.seat.mesh.ring(self.seat.id, core).pop().is_some() {}
                }
                Command::Oldest(asker) => self.asked.oldest.push(asker),
                Command::Measures(asker) => self.asked.measures.push(asker),
                Command::Close => self.engine.handle_close(now),
                #[cfg(test)]
                Command::Panic => panic!("told to"),
            }
        }
        worked
    }

    /// Takes records up to the tails that were noted, a bounded number of them.
    fn take_records(&mut self, now: Time) -> bool {
        let (mut records, mut bytes) = (0, 0);
        let rings = self.rings.len();
        for offset in 0..rings {
            let ring = &mut self.rings[(self.next_ring + offset) % rings];
            let mut frames = ring.receiver.drain(ring.tail);
            self.engine.handle_records(
                now,
                std::iter::from_fn(|| {
                    if records >= TURN_RECORDS_MAX || bytes >= TURN_BYTES_MAX {
                        return None;
                    }
                    let frame = frames.next()?;
                    records += 1;
                    bytes += frame.bytes.len();
                    Some((frame.ticket, read_frame(frame.bytes)))
                }),
            );
            if let Some(waker) = ring.receiver.release() {
                contain(|| waker.wake());
            }
        }
        if records > 0 {
            self.idleness.took_records(now);
            let Fill { blocks, slots } = self.engine.take_key_fill();
            self.seat.counters.keys_hashed(blocks, slots);
        }
        self.next_ring = if rings == 0 { 0 } else { (self.next_ring + 1) % rings };
        self.rings.retain(|ring| !ring.receiver.is_disconnected());
        records > 0
    }

    fn take_messages(&mut self, now: Time) -> bool {
        let mut worked = false;
        for from in self.seat.mesh.ids() {
            for _ in 0..CYCLE_MESSAGES_MAX {
                let Some(message) = self.seat.mesh.ring(from, self.seat.id).pop() else { break };
                worked = true;
                self.engine.handle_mesh(now, from, message);
            }
        }
        worked
    }

    fn take_ended(&mut self, now: Time) -> bool {
        let mut worked = false;
        while let Some(ended) = self.lines.poll_ended() {
            worked = true;
            match ended {
                Ended::Answered(request, answer, date) => {
                    if let Err(error) = &answer {
                        self.request_failed(error.to_string());
                    }
                    self.engine.handle_answer(now, request, answer);
                    self.remedy(now, date);
                }
                Ended::Failed(request, failure) => {
                    self.request_failed(format!("{}: {}", failure.code, failure.message));
                    self.engine.handle_failure(now, request, &failure);
                }
            }
        }
        if worked {
            let Hashed { bytes, in_pairs } = self.lines.take_hashed();
            self.seat.counters.bodies_hashed(bytes, in_pairs);
        }
        for connection in self.lines.close_idle() {
            self.engine.handle_disconnected(connection);
        }
        worked
    }

    /// Does what may help against a signature that was just refused, in an answer of this `date`.
    fn remedy(&mut self, now: Time, date: Option<SystemTime>) {
        let Some(remedy) = self.engine.poll_remedy_wanted() else { return };
        if remedy == Remedy::Clock && self.lines.correct_clock(date) {
            tracing::warn!(core = self.seat.id.0, "this machine's clock is wrong; signatures follow the service's");
            return self.engine.handle_signer_changed(now);
        }
        if let Some(Ok(access)) = &self.access {
            (self.seat.events)(Event::AccessRefused(access.serial));
        }
    }

    fn take_access(&mut self, now: Time, access: Result<Arc<Access>, AccessDenied>) {
        let serial = |access: &Result<Arc<Access>, AccessDenied>| access.as_ref().ok().map(|access| access.serial);
        let renewed = self.access.as_ref().is_some_and(|before| serial(before) != serial(&access));
        self.access = Some(access);
        if renewed {
            self.engine.handle_signer_changed(now);
        }
    }

    fn request_failed(&self, error: String) {
        self.seat.counters.request_failed();
        (self.seat.events)(Event::RequestFailed(error));
    }

    /// A flush turns its page when all that was in the rings when it came has been taken. Answers whether more is to
    /// be drained for it.
    fn drain_for_flush(&mut self, now: Time) -> bool {
        if !self.draining && self.engine.wants_drain() {
            // A round's beginning comes through the mesh, and a ring whose records it covers by a command that was sent
            // before: perhaps since this cycle took its commands.
            self.take_commands(now);
            self.draining = true;
            for ring in &mut self.rings {
                ring.flush_tail = ring.receiver.snapshot();
            }
            self.engine.handle_drain_started();
        }
        if self.draining && self.rings.iter().all(|ring| ring.receiver.position() >= ring.flush_tail) {
            self.draining = false;
            self.engine.handle_drained();
            return true;
        }
        self.draining
    }

    /// Sends what is due, a few requests.
    fn transmit(&mut self, now: Time) -> bool {
        let Some(access) = &self.access else { return false };
        let mut sent = 0;
        while sent < CYCLE_REQUESTS_MAX
            && let Some(transmit) = self.engine.poll_transmit(now)
        {
            let (kinesis_records, is_unmapped) = (transmit.kinesis_records, transmit.is_unmapped());
            let in_json = transmit.wire == Wire::Json;
            self.seat.counters.request_begun(kinesis_records, transmit.body.len(), in_json, is_unmapped);
            self.seat.counters.aggregates_hashed(transmit.digested.blocks, transmit.digested.slots);
            self.lines.transmit(transmit, access);
            sent += 1;
        }
        sent > 0
    }

    /// Says to other cores what their rings take. Answers whether something is left.
    fn say(&mut self) -> bool {
        let mut left = false;
        for to in self.seat.mesh.ids() {
            let outbox = self.engine.outbox(to);
            let mut said = false;
            while let Some(message) = outbox.pop_front() {
                if let Err(message) = self.seat.mesh.ring(self.seat.id, to).push(message) {
                    outbox.push_front(message);
                    left = true;
                    break;
                }
                said = true;
            }
            if said {
                self.seat.doorbells[to.index()].ring();
            }
        }
        left
    }

    fn tell(&mut self) {
        while let Some(stream) = self.engine.poll_map_wanted() {
            (self.seat.events)(Event::MapWanted(stream));
        }
        while let Some(stream) = self.engine.poll_suspected() {
            (self.seat.events)(Event::Suspected(stream));
        }
        while let Some(stream) = self.engine.poll_unmapped() {
            (self.seat.events)(Event::Unmapped(stream));
        }
        if let Some(wire) = self.engine.poll_wire_settled() {
            (self.seat.events)(Event::WireSettled(wire));
        }
        while let Some(token) = self.engine.poll_flushed() {
            (self.seat.events)(Event::Flushed(token));
        }
    }

    fn tally(&mut self) {
        let (tallies, core) = (&self.tallies, self.seat.id.index());
        self.engine.tally(|stream, received, settled| tallies[stream.index()][core].note(received, settled));
    }

    /// Counts what was settled and returns its credit, but for that of records whose end is still to be told.
    fn settle(&mut self) {
        let released = self.engine.released();
        if released.records == 0 {
            return;
        }
        let mut held = released.held;
        if self.seat.has_handler {
            held += self.engine.unheard().iter().map(|unheard| unheard.records).sum::<u64>();
        }
        let budget = &self.seat.budget;
        if held > 0 {
            budget.hold(held);
        }
        self.seat.counters.settled(released.delivered, released.failed);
        budget.release(released.records - held, released.bytes);
        for unheard in self.engine.unheard().drain(..) {
            if self.seat.has_handler {
                (self.seat.events)(Event::Unheard(unheard));
            }
        }
        if budget.may_be_stuck() {
            (self.seat.events)(Event::MayBeStuck);
        }
    }

    /// Wakes callers: their code comes last, each call contained.
    fn wake(&mut self) {
        self.engine.wakers().drain(..).for_each(|waker| contain(|| waker.wake()));
    }

    /// Passes the time until something happens, or until the engine's next timeout.
    async fn idle(&mut self) {
        match self.idleness.pause(self.seat.clock.now()) {
            Pause::Spin => self.spin().await,
            Pause::Rest { how, until } => self.rest(how, until).await,
        }
    }

    /// Looks for something to do for a moment, and lets the runtime look at its sockets. The bell says meanwhile that
    /// the core is awake, so that nobody rings.
    async fn spin(&mut self) {
        let timeout = self.engine.next_timeout().unwrap_or(Time::NEVER);
        let until = timeout.min(self.seat.clock.now() + SPIN_SLICE);
        while !self.something_came(0) {
            if self.seat.clock.now() >= until {
                return self.runtime.yield_now().await;
            }
            std::hint::spin_loop();
        }
    }

    /// Sleeps until something happens, or until the engine's next timeout, or `until`.
    async fn rest(&mut self, how: Rest, until: Time) {
        // On a tick it has a timer anyway.
        let until = if self.bell().rest(how) { until } else { until.min(self.seat.clock.now() + TICK_MAX) };
        // What came before the bell said so, nobody rings for. On a tick the core is rung for half a ring only.
        let unseen_max = if how == Rest::Armed { self.seat.config.ring_bytes as u64 / 2 } else { 0 };
        if !self.something_came(unseen_max) {
            let timeout = self.engine.next_timeout().unwrap_or(Time::NEVER);
            self.sleep_until(timeout.min(until)).await;
        }
        self.bell().tick(self.seat.clock.now().as_nanos());
        self.bell().awake();
    }

    /// Whether there are commands, messages, or more than `unseen_max` bytes in a ring.
    fn something_came(&self, unseen_max: u64) -> bool {
        let in_rings = |ring: &Ring| ring.receiver.snapshot() - ring.receiver.position() > unseen_max;
        !self.seat.commands.is_empty()
            || self.rings.iter().any(in_rings)
            || self.seat.mesh.ids().any(|from| !self.seat.mesh.ring(from, self.seat.id).is_empty())
    }

    async fn sleep_until(&self, wake_at: Time) {
        let alarm = self.seat.clock.instant(wake_at);
        let alarm = self.lines.next_idle().map_or(alarm, |idle| idle.min(alarm));
        let mut sleep = pin!(self.runtime.sleep_until(alarm));
        poll_fn(|context| {
            if self.lines.has_ended(context.waker()) {
                return Poll::Ready(());
            }
            match self.bell().poll_rung(context) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => sleep.as_mut().poll(context),
            }
        })
        .await;
    }
}

/// Calls foreign code; its panic is its own.
fn contain(call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!("a waker panicked; it was called for a record's outcome or for room in a ring");
    }
}
