//! The engine: everything between a ring and a request, as a pure state machine. One [`Core`] is one core's state.
//!
//! ```text
//!   handle_records ─▶ router ─▶ aggregator ─▶ limiter ─▶ collector ─▶ sender ─▶ poll_transmit
//!                      │ ▲                      ▲                                    │
//!               outbox ▼ │ handle_mesh          └────────── retrier ◀── handle_answer, handle_failure
//!                  other cores                                 │
//!                                                              └──▶ settler ──▶ outcome slots, released credit, wakers
//! ```
//!
//! # The law
//!
//! The engine knows no world: no clock, thread, socket, randomness, log or lock. A driver feeds it and asks it, in
//! cycles; the driver of a producer stands in `runtime`, that of the simulator in `tools/simulation`. A cycle is:
//!
//! 1. Read the clock once. Time never goes backwards.
//! 2. *Handle*: tell what happened since, a bounded number of events. `handle_*` methods never call back.
//! 3. [`Core::turn`]: timers fire, marks and reports are said.
//! 4. *Poll* until empty: `poll_transmit`, `poll_map_wanted`, `poll_suspected`, `poll_unmapped`, `poll_remedy_wanted`,
//!    `poll_wire_settled`, `poll_flushed`, every `outbox`, and what was settled.
//! 5. Rest until [`Core::next_timeout`], or until something happens.
//!
//! The driver promises, in return: every [`Transmit`] ends in exactly one `handle_answer` or `handle_failure`, within
//! `connect_timeout` + `request_timeout`; outboxes are emptied in order, each message arrives once; when
//! [`Core::wants_drain`] is true it notes the tails of the core's rings, says so, drains to them, and says that.
//!
//! # Invariants
//!
//! E1: a record that was handled has exactly one outcome, at last when the core is dropped, since every ticket is.
//! E2: a shard's batches exist on one core only, that which the adopted map names.
//!
//! # Cost
//!
//! Once its buffers have grown, a record allocates nothing; a Kinesis record its list of attempts, the result that its
//! members share, and now and then a buffer that is cut or grows, three times at most; a request nothing. In flight a
//! record is its bytes in wire form, a ticket of 8 bytes and at most 8 for its arrival; a Kinesis record some 380 more.

#![expect(
    clippy::vec_box,
    reason = "batches move between queues and requests; a move of a box is 8 bytes, of a batch 300"
)]

mod aggregator;
mod ahead;
mod arrivals;
mod backlog;
mod batch;
mod chance;
mod collector;
mod drain;
mod flush;
mod isolation;
mod limiter;
mod measures;
mod mesh;
#[cfg(any(fuzzing, all(test, not(loom))))]
pub mod oracle;
mod order;
mod outage;
mod parcel;
mod planted;
mod pool;
mod retrier;
mod router;
mod sender;
mod settler;
mod shard;
mod shard_map;
mod stream;
#[cfg(test)]
mod testing;
mod wheel;
mod wire;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

pub use batch::Ticket;
pub use flush::FlushToken;
pub use limiter::Limiter;
pub use mesh::Message;
#[cfg(feature = "planted")]
pub use planted::{Mistake, plant};
pub use retrier::{Remedy, TransportFailure};
pub use sender::{ConnectionId, RequestId, Transmit};
pub use settler::{Released, Unheard};
pub use shard_map::{MapError, Shard, ShardInfo, ShardMap};
pub use stream::UNORDERED;
pub use wheel::{RESOLUTION as WHEEL_RESOLUTION, TimerId, Wheel};

use crate::codec::lanes::Fill;
use crate::codec::{EntryResult, RequestError, Wire};
use crate::config::Config;
use crate::metrics::StreamSheets;
use crate::record::{CoreId, StreamId, StreamName};
use crate::time::Time;
use batch::Batch;
use chance::Chance;
use flush::{COORDINATOR, Coordinator, Report};
use mesh::Mesh;
use pool::Pool;
use retrier::{FormDoubt, Trouble, form_doubt, remedy};
use sender::{Pull, Sender};
use settler::Settler;
use stream::{Common, RequestEnd, Stream, Timer};
use wire::WireChoice;

/// The state of one core.
///
/// Getters: `id`, `next_timeout`, `wants_drain`, `oldest`, `is_finished`. The world tells: `handle_*`. We tell the
/// world: `poll_*`, `outbox`, `released`, `wakers`.
pub struct Core {
    id: CoreId,
    cores: u16,
    /// By [`StreamId`].
    streams: Vec<Option<Stream>>,
    /// Where the search for a stream with a due request begins.
    next_stream: usize,
    sender: Sender,
    common: Common,
    /// By [`StreamId`], on core 0 only.
    coordinators: Vec<Coordinator>,
    flushed: VecDeque<FlushToken>,
    pressed: bool,
    closed: bool,
    /// Cores that have said that they are closed.
    closed_others: usize,
    wire: WireChoice,
    /// How often what signs requests has changed.
    signer: u64,
    /// What may help against the latest refusal of what signs requests now.
    wanted: Option<Remedy>,
    fired: Vec<Timer>,
    /// What other cores said of streams that were not told of yet.
    early: Vec<(CoreId, Message)>,
    /// The moment for which a timer to open a further connection is set.
    widen_at: Time,
    /// How full the lanes were that hashed keys, since that was last asked.
    key_fill: Fill,
    /// This core's part of the shards of all streams, about, at the latest turn.
    own_shards: usize,
}

impl Core {
    /// Core `id` of `cores`. `seed` is that of its jitter.
    pub fn new(now: Time, id: CoreId, cores: u16, config: &Config, seed: u64) -> Core {
        Core {
            id,
            cores,
            streams: Vec::new(),
            next_stream: 0,
            sender: Sender::new(config.max_connections_per_core),
            common: Common {
                wheel: Wheel::new(now),
                settler: Settler::new(config.keep_failed_records),
                pool: Pool::default(),
                lists: Vec::new(),
                mesh: Mesh::new(id, cores),
                chance: Chance::new(seed.wrapping_add(u64::from(id.0))),
                request_bytes_max: usize::MAX,
            },
            coordinators: Vec::new(),
            flushed: VecDeque::new(),
            pressed: false,
            closed: false,
            closed_others: 0,
            wire: WireChoice::new(config.wire),
            signer: 0,
            wanted: None,
            fired: Vec::new(),
            early: Vec::new(),
            widen_at: Time::NEVER,
            key_fill: Fill::default(),
            own_shards: 0,
        }
    }

    /// Which core this is.
    pub fn id(&self) -> CoreId {
        self.id
    }

    /// A stream was opened, with its own configuration. To be told on every core before any of its records.
    pub fn handle_stream(&mut self, id: StreamId, name: StreamName, config: Config) {
        while self.streams.len() <= id.index() {
            self.streams.push(None);
            self.coordinators.push(Coordinator::new(self.cores));
        }
        self.streams[id.index()] = Some(Stream::new(self.id, self.cores, id, name, config));
        for (from, message) in std::mem::take(&mut self.early) {
            self.handle_mark(from, message);
        }
    }

    /// Whether [`Core::handle_stream`] was told of the stream.
    pub fn knows(&self, stream: StreamId) -> bool {
        self.streams.get(stream.index()).is_some_and(Option::is_some)
    }

    /// A newer shard map of a stream; an older one changes nothing. To be told on every core, where the stream is ordered
    /// each map, in the order of their epochs.
    pub fn handle_map(&mut self, now: Time, id: StreamId, map: Arc<ShardMap>) {
        let closed = self.closed;
        if let Some((stream, common)) = self.stream(id).filter(|_| !closed) {
            stream.adopt(now, map, common);
        }
    }

    /// The shards of a stream cannot be listed, and trying again will not help soon.
    pub fn handle_map_refused(&mut self, id: StreamId, reason: &str) {
        if let Some((stream, common)) = self.stream(id) {
            stream.refuse(reason, common);
        }
    }

    /// There is no such stream at the moment: if it was known, it may be another one next time, with shards of the same
    /// ids.
    pub fn handle_stream_missing(&mut self, id: StreamId) {
        if let Some((stream, _)) = self.stream(id) {
            stream.doubt();
        }
    }

    /// The shards of a stream cannot be listed for now; records that wait for the first map say so if they expire.
    pub fn handle_map_failed(&mut self, id: StreamId, reason: &str) {
        if let Some((stream, _)) = self.stream(id) {
            stream.map_failed(reason);
        }
    }

    /// The service has answered a request.
    pub fn handle_answer(&mut self, now: Time, id: RequestId, answer: Result<Vec<EntryResult>, RequestError>) {
        let Some(request) = self.sender.finish(id) else { return };
        let sent = request.batches.len();
        let end = match answer {
            Err(ref error) => RequestEnd::Failed(self.refused(request.wire, request.signer, error)),
            Ok(entries) => {
                self.wire.taken(request.wire);
                match entries.len() {
                    answered if answered != sent && !planted::planted(planted::Mistake::CountMismatchTaken) => {
                        RequestEnd::Failed(Trouble::CountMismatch { sent, answered })
                    }
                    _ => RequestEnd::Answered(entries),
                }
            }
        };
        if let Some((stream, common)) = self.stream(request.stream) {
            stream.finish(now, request.began, request.batches, end, common);
        }
    }

    /// What a refusal says of the form and of the signature, which are this core's and not one stream's.
    fn refused<'a>(&mut self, wire: Wire, signer: u64, error: &'a RequestError) -> Trouble<'a> {
        let doubt = form_doubt(error);
        if doubt.is_some() && self.wire.refused(wire) && doubt == Some(FormDoubt::Refused) {
            return Trouble::Form(error);
        }
        match remedy(error) {
            Some(Remedy::Credentials | Remedy::Clock) if signer != self.signer => Trouble::OldSignature(error),
            Some(remedy @ (Remedy::Credentials | Remedy::Clock)) => {
                self.wanted = Some(remedy);
                Trouble::Request(error)
            }
            _ => Trouble::Request(error),
        }
    }

    /// What signs requests has changed: there are other credentials, or the clock was corrected. What was refused
    /// before is sent again at once.
    pub fn handle_signer_changed(&mut self, now: Time) {
        self.signer += 1;
        self.wanted = None;
        for stream in self.streams.iter_mut().flatten() {
            stream.resend_refused(now, &mut self.common);
        }
    }

    /// A request got no answer. Its connection is closed.
    pub fn handle_failure(&mut self, now: Time, id: RequestId, failure: &TransportFailure) {
        self.sender.disconnected(id.connection);
        let Some(request) = self.sender.finish(id) else { return };
        if let Some((stream, common)) = self.stream(request.stream) {
            let end = RequestEnd::Failed(Trouble::Transport(failure));
            stream.finish(now, request.began, request.batches, end, common);
        }
    }

    /// The driver has closed an idle connection.
    pub fn handle_disconnected(&mut self, connection: ConnectionId) {
        self.sender.disconnected(connection);
    }

    /// Whether callers wait for credit, or little of it is left.
    pub fn handle_pressure(&mut self, pressed: bool) {
        self.pressed = pressed;
    }

    /// Settles all that is here, and what comes later, as `Closed`, requests under way as ambiguous; tells the others.
    pub fn handle_close(&mut self, now: Time) {
        if self.closed {
            return;
        }
        self.closed = true;
        for request in self.sender.abandon() {
            if let Some((stream, common)) = self.stream(request.stream) {
                stream.close_in_flight(now, request.began, request.batches, common);
            }
        }
        for stream in self.streams.iter_mut().flatten() {
            stream.close(now, &mut self.common);
        }
        self.common.mesh.say_all(|| Message::Closed);
    }

    /// Whether it is closed, all others have said that they are, and everything was said to them.
    pub fn is_finished(&self) -> bool {
        self.closed && self.closed_others + 1 >= usize::from(self.cores) && self.common.mesh.is_empty()
    }

    /// Lets time pass to `now`: timers fire, what must be sealed is sealed, flushes go on.
    pub fn turn(&mut self, now: Time) {
        let mut fired = std::mem::take(&mut self.fired);
        self.common.wheel.advance(now, &mut fired);
        for timer in fired.drain(..) {
            let id = match timer {
                Timer::Seal(id, _) | Timer::Release(id, _) | Timer::Expire(id, _) => id,
                Timer::ExpireWaiting(id) | Timer::StandIn(id) => id,
                Timer::Due => continue,
            };
            if let Some((stream, common)) = self.stream(id) {
                stream.fire(now, timer, common);
            }
        }
        self.fired = fired;
        // Maps spread shards evenly.
        let shards: usize = self.streams.iter().flatten().map(Stream::map_len).sum();
        self.own_shards = shards / usize::from(self.cores);
        for index in 0..self.streams.len() {
            let id = StreamId(index as u32);
            self.turn_stream(now, id);
        }
    }

    fn turn_stream(&mut self, now: Time, id: StreamId) {
        let (own, pressed) = (self.id, self.pressed);
        let Some((stream, common)) = self.stream(id) else { return };
        stream.expire_parked(now, common);
        stream.change_over(now, common);
        if stream.should_seal() || common.mesh.is_bereft() {
            stream.seal_all(now, common);
        } else if pressed {
            stream.relieve(now, common);
        }
        stream.arm(now, common);
        let Some(report) = stream.flush.report() else { return };
        if own == COORDINATOR {
            self.coordinate(id, own, report);
        } else {
            let Report { round, accepted, settled } = report;
            common.mesh.say(COORDINATOR, Message::FlushReport { stream: id, round, accepted, settled });
        }
    }

    /// The next request to send, if one is due and a connection is free for it.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        let streams = self.streams.len();
        // A stream may have to wait for a further connection while another has waited long enough for it.
        let mut widen_at = Time::NEVER;
        for offset in 0..streams {
            let index = (self.next_stream + offset) % streams;
            let Some(stream) = self.streams[index].as_mut() else { continue };
            let due = stream.due();
            if due > now {
                continue;
            }
            match self.sender.pull(now, due) {
                Pull::Now { connection, spare } => {
                    let batches = stream.assemble(now, spare, &mut self.common);
                    stream.arm(now, &mut self.common);
                    if batches.is_empty() {
                        self.common.lists.push(batches);
                        continue;
                    }
                    self.next_stream = index + 1;
                    return Some(self.transmit(now, connection, StreamId(index as u32), batches));
                }
                Pull::At(at) => widen_at = widen_at.min(at),
                Pull::WhenFree => return None,
            }
        }
        if widen_at != Time::NEVER && widen_at != self.widen_at {
            self.widen_at = widen_at;
            self.common.wheel.insert(widen_at, Timer::Due);
        }
        None
    }

    fn transmit(
        &mut self,
        now: Time,
        connection: ConnectionId,
        id: StreamId,
        mut batches: Vec<Box<Batch>>,
    ) -> Transmit {
        let wire = self.wire.wire();
        let stream = self.streams[id.index()].as_mut().expect("a request is assembled by its stream");
        let (mut body, map_epoch) = (self.sender.body(), stream.map_epoch());
        let digested = stream.encode(wire, &mut batches, Arc::get_mut(&mut body).expect("nobody else has it"));
        let kinesis_records = batches.len();
        let user_records = batches.iter().map(|batch| batch.tickets.len()).sum();
        let request = self.sender.begin(now, connection, id, (wire, self.signer), batches, &body);
        Transmit { request, connection, stream: id, wire, body, digested, kinesis_records, user_records, map_epoch }
    }

    /// A stream whose shards are to be listed, as no map is known or the known one is old.
    pub fn poll_map_wanted(&mut self) -> Option<StreamId> {
        self.streams.iter_mut().flatten().find_map(|stream| stream.take_map_wanted().then_some(stream.id))
    }

    /// A stream whose service seems to place records as it likes, though the map says otherwise: its description is wanted.
    pub fn poll_suspected(&mut self) -> Option<StreamId> {
        self.streams.iter_mut().flatten().find_map(|stream| stream.take_suspected().then_some(stream.id))
    }

    /// A stream whose records are sent without a shard map from now on, as none has come in time.
    pub fn poll_unmapped(&mut self) -> Option<StreamId> {
        self.streams.iter_mut().flatten().find_map(|stream| stream.take_unmapped_news().then_some(stream.id))
    }

    /// What may help, as the service refuses what signs requests now. The answer is [`Core::handle_signer_changed`].
    pub fn poll_remedy_wanted(&mut self) -> Option<Remedy> {
        self.wanted.take()
    }

    /// The form that the endpoint has proved to take, if that was to be found out.
    pub fn poll_wire_settled(&mut self) -> Option<Wire> {
        self.wire.poll_settled()
    }

    /// A flush that is done.
    pub fn poll_flushed(&mut self) -> Option<FlushToken> {
        self.flushed.pop_front()
    }

    /// What this core has to say to `to`, the oldest first. The driver takes from the front.
    pub fn outbox(&mut self, to: CoreId) -> &mut VecDeque<Message> {
        self.common.mesh.outbox(to)
    }

    /// What settling has freed since the last call.
    pub fn released(&mut self) -> Released {
        self.common.settler.released()
    }

    /// Failures that nobody waits for; the driver takes them away, to a handler or to nobody.
    pub fn unheard(&mut self) -> &mut Vec<Unheard> {
        self.common.settler.unheard_list()
    }

    /// The wakers of those who wait for what was settled. They are user code: call them last, each contained.
    pub fn wakers(&mut self) -> &mut Vec<Waker> {
        self.common.settler.wakers()
    }

    /// What each stream has added to the metrics since the last call.
    pub fn take_measures(&mut self) -> Vec<(StreamId, StreamSheets)> {
        let streams = self.streams.iter_mut().flatten();
        streams.filter_map(|stream| Some((stream.id, stream.measures.take()?))).collect()
    }

    /// Tells, of each stream for which that is any, how many records came from the rings and how many were settled
    /// since the last call.
    pub fn tally(&mut self, mut tell: impl FnMut(StreamId, u64, u64)) {
        for stream in self.streams.iter_mut().flatten() {
            if let Some((received, settled)) = stream.measures.take_tally() {
                tell(stream.id, received, settled);
            }
        }
    }

    /// When [`Core::turn`] has something to do at the latest.
    pub fn next_timeout(&self) -> Option<Time> {
        self.common.wheel.next()
    }

    /// Arrival of the oldest record on this core.
    pub fn oldest(&mut self) -> Option<Time> {
        let in_flight = self.sender.requests().flat_map(|request| &request.batches);
        let in_flight = in_flight.map(|batch| batch.arrivals.oldest()).min();
        let resting = self.streams.iter_mut().flatten().filter_map(|stream| stream.oldest()).min();
        [in_flight, resting].into_iter().flatten().min()
    }

    fn stream(&mut self, id: StreamId) -> Option<(&mut Stream, &mut Common)> {
        let stream = self.streams.get_mut(id.index())?.as_mut()?;
        Some((stream, &mut self.common))
    }
}
