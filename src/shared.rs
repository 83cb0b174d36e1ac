//! What all parts of the face share: the cores' and the control thread's ends, the streams, flushes and the close.
//!
//! ```text
//!   Producer ─┐                        ┌─ commands, bells ─▶ cores ── events ──┐
//!   Submitter ┼─▶ Arc<Shared> ─────────┤                                       ├─▶ Shared
//!   Stream ───┘                        └─ orders ─────────▶ control ─ notices ─┘
//! ```
//!
//! It carries what the control thread publishes to the cores, as those two never meet. Nothing here is on a put's
//! path but two words that are rarely written: the budget and a stream's `refused` flag.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel as channel;
use rustls::ClientConfig;
use tokio::sync::mpsc::UnboundedSender;

use crate::config::Config;
use crate::control::endpoint::Scheme;
use crate::control::service::{AccessError, Grant, Notice, Order};
use crate::engine::FlushToken;
use crate::error::{FlushError, PutErrorReason, StreamError};
use crate::fork::Origin;
use crate::limits::{COMMAND_WAIT, OUTCOMES_POLL};
use crate::metrics::{CoreCounters, Counters, SubmitterCounters};
use crate::outcome::{Counts, ErrorCode};
use crate::record::{CoreId, StreamId, StreamName};
use crate::ring::{Budget, Doorbell, Flag, Ledger};
use crate::runtime::clock::Clock;
use crate::runtime::connection::Target;
use crate::runtime::core::{Command, Event};
use crate::runtime::lines::{Access, AccessDenied};
use crate::runtime::signing::Signer;
use crate::runtime::tls::Tls;
use crate::time::Time;
use crate::waiting::Cell;

/// Why a producer takes no more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was closed.
    Closed,
    /// A core ended that nobody had closed.
    CoreFailed,
}

/// One stream, as the face knows it.
pub(crate) struct StreamState {
    /// The producer that it was opened on.
    producer: Weak<Shared>,
    /// Its number.
    pub(crate) id: StreamId,
    /// Its name.
    pub(crate) name: StreamName,
    /// Largest record that it takes, in bytes of data and partition key.
    pub(crate) max_record_size: usize,
    /// Whether lone records that look like aggregates are wrapped.
    pub(crate) aggregates: bool,
    /// Its shards cannot be listed, so that puts are refused.
    pub(crate) refused: Flag,
    /// Why, written before the flag is raised.
    refusal: Mutex<String>,
    /// Done once its first map is there; an error while it cannot be had.
    pub(crate) readiness: Cell<Result<(), StreamError>>,
}

impl StreamState {
    pub(crate) fn new(producer: &Arc<Shared>, id: StreamId, name: StreamName, config: &Config) -> StreamState {
        StreamState {
            producer: Arc::downgrade(producer),
            id,
            name,
            max_record_size: config.max_record_size,
            aggregates: config.aggregation_enabled,
            refused: Flag::default(),
            refusal: Mutex::default(),
            readiness: Cell::default(),
        }
    }

    pub(crate) fn belongs_to(&self, producer: &Arc<Shared>) -> bool {
        std::ptr::eq(self.producer.as_ptr(), Arc::as_ptr(producer))
    }

    /// Why puts are refused.
    pub(crate) fn refusal(&self) -> PutErrorReason {
        let reason = lock(&self.refusal).clone();
        PutErrorReason::StreamUnavailable { stream: self.name.as_str().to_owned(), reason }
    }

    /// Puts are refused from now on. In this order, so that a refusal has its reason, and that no put is accepted
    /// after somebody has learned it.
    fn refuse(&self, reason: &str) {
        reason.clone_into(&mut lock(&self.refusal));
        self.refused.set(true);
        let (stream, reason) = (self.name.as_str().to_owned(), reason.to_owned());
        self.readiness.set(Err(StreamError::Unavailable { stream, reason }));
    }
}

/// See the essay.
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    /// The process whose threads the cores are.
    pub(crate) origin: Origin,
    /// How TLS is spoken; nothing if the endpoint is in the clear.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) clock: Clock,
    pub(crate) budget: Arc<Budget>,
    pub(crate) ledger: Arc<Ledger>,
    /// By [`CoreId`], as is everything that is a core's.
    pub(crate) doorbells: Arc<[Doorbell]>,
    pub(crate) commands: Vec<channel::Sender<Command>>,
    pub(crate) core_counters: Vec<Arc<CoreCounters>>,
    pub(crate) orders: UnboundedSender<Order>,
    pub(crate) submitters: Mutex<Submitters>,
    pub(crate) streams: Mutex<Vec<Arc<StreamState>>>,
    pub(crate) end: OnceLock<End>,
    flushes: Mutex<Flushes>,
    /// Cores that run.
    alive: Mutex<usize>,
    /// Notified when a core ends.
    core_ended: Condvar,
    last_error: Mutex<Option<String>>,
    /// The close, once it was begun.
    pub(crate) closing: Mutex<Option<Arc<Cell<Counts>>>>,
}

/// The submitters of a producer.
#[derive(Default)]
pub(crate) struct Submitters {
    /// Callers' own, which `max_submitters` bounds; the pool behind `Producer::put` has its places apart.
    pub(crate) own: usize,
    pub(crate) live: Vec<Arc<SubmitterCounters>>,
    /// What those accepted that are gone.
    pub(crate) accepted_by_gone: u64,
    /// Records that puts settled themselves, as their core had ended.
    pub(crate) settled_by_puts: u64,
    /// How many there ever were; the next one's home core follows from it.
    pub(crate) ever: usize,
}

#[derive(Default)]
struct Flushes {
    /// No core runs, so that nothing is without an outcome and nobody is left to answer.
    over: bool,
    /// A core has failed, and the others cannot bring a flush to its end without it.
    failed: bool,
    next: FlushToken,
    cells: HashMap<FlushToken, Arc<FlushCell>>,
}

impl Flushes {
    /// How every flush ends from now on, if the cores can run none.
    fn result(&self) -> Option<Result<(), FlushError>> {
        match (self.failed, self.over) {
            (true, _) => Some(Err(FlushError::CoreFailed)),
            (false, true) => Some(Ok(())),
            (false, false) => None,
        }
    }
}

/// One call of `flush`.
pub(crate) struct FlushCell {
    streams_left: Mutex<usize>,
    pub(crate) done: Cell<Result<(), FlushError>>,
}

impl FlushCell {
    /// A flush that has ended before it began.
    pub(crate) fn ended(result: Result<(), FlushError>) -> Arc<FlushCell> {
        let cell = FlushCell { streams_left: Mutex::default(), done: Cell::default() };
        cell.done.set(result);
        Arc::new(cell)
    }
}

/// What [`Shared::new`] takes from the producer that starts the threads.
pub(crate) struct Ends {
    pub(crate) commands: Vec<channel::Sender<Command>>,
    pub(crate) orders: UnboundedSender<Order>,
}

impl Shared {
    pub(crate) fn new(config: Config, tls: Option<Arc<ClientConfig>>, ends: Ends, origin: Origin) -> Shared {
        let cores = ends.commands.len();
        Shared {
            clock: Clock::start(),
            budget: Budget::new(config.max_outstanding_records, config.max_outstanding_bytes, config.max_submitters),
            config: Arc::new(config),
            origin,
            tls,
            ledger: Arc::new(Ledger::new()),
            doorbells: (0..cores).map(|_| Doorbell::new()).collect(),
            commands: ends.commands,
            core_counters: (0..cores).map(|_| Arc::default()).collect(),
            orders: ends.orders,
            submitters: Mutex::default(),
            streams: Mutex::default(),
            end: OnceLock::new(),
            flushes: Mutex::default(),
            alive: Mutex::new(cores),
            core_ended: Condvar::new(),
            last_error: Mutex::default(),
            closing: Mutex::default(),
        }
    }

    /// Tells a core. A core that has ended is not missed: it has settled what it had.
    pub(crate) fn command(&self, core: CoreId, command: Command) {
        let _ = self.commands[core.index()].send(command);
        self.doorbells[core.index()].ring();
    }

    /// Tells every core.
    pub(crate) fn command_all(&self, command: impl Fn() -> Command) {
        for core in (0..self.commands.len() as u16).map(CoreId) {
            self.command(core, command());
        }
    }

    /// Tells the control thread.
    pub(crate) fn order(&self, order: Order) {
        // It ends after the cores, so nobody is left who would miss the answer.
        let _ = self.orders.send(order);
    }

    /// Why a put is refused by a producer whose bells say that it is closing.
    pub(crate) fn refusal(&self) -> PutErrorReason {
        match self.ended_by() {
            End::CoreFailed => PutErrorReason::CoreFailed,
            End::Closed => PutErrorReason::Closed,
        }
    }

    /// Why a bell says that no more is taken. A close says so before it touches a bell, so whoever finds a bell
    /// closing and no word of it has come upon a core that died this moment.
    pub(crate) fn ended_by(&self) -> End {
        self.end.get().copied().unwrap_or(End::CoreFailed)
    }

    /// Takes no more records from now on.
    pub(crate) fn stop_accepting(&self, end: End) {
        let _ = self.end.set(end);
        self.doorbells.iter().for_each(Doorbell::set_closing);
        self.budget.close();
        for stream in lock(&self.streams).iter().filter(|stream| stream.readiness.get().is_none()) {
            stream.readiness.set(Err(StreamError::Closed));
        }
    }

    /// What a core tells; called on its thread.
    pub(crate) fn on_event(&self, event: Event) {
        match event {
            Event::MapWanted(stream) => self.order(Order::Map(stream)),
            Event::Flushed(token) => self.flushed(token),
            Event::RequestFailed(error) | Event::NotPinned(error) => self.note_error(error),
        }
    }

    /// What the control thread tells; called on its thread.
    pub(crate) fn on_notice(&self, notice: Notice) {
        match notice {
            Notice::Access(access) => {
                let denied = |error: AccessError| AccessDenied { code: error.code, message: error.message };
                let access = access.map_err(denied).and_then(|grant| self.access_of(&grant));
                if let Err(denied) = &access {
                    self.note_error(format!("{}: {}", denied.code, denied.message));
                }
                let access = access.map(Arc::new);
                self.command_all(|| Command::Access(access.clone()));
            }
            Notice::Map(id, map) => {
                self.command_all(|| Command::Map(id, Arc::clone(&map)));
                if let Some(stream) = self.stream(id) {
                    stream.refused.set(false);
                    stream.readiness.set(Ok(()));
                }
            }
            Notice::MapFailed(id, reason) => {
                self.note_error(reason.to_string());
                self.command_all(|| Command::MapFailed(id, Arc::clone(&reason)));
            }
            Notice::MapRefused(id, reason) => {
                self.note_error(reason.to_string());
                self.command_all(|| Command::MapRefused(id, Arc::clone(&reason)));
                if let Some(stream) = self.stream(id)
                    && stream.readiness.get() != Some(Ok(()))
                {
                    tracing::error!(stream = stream.name.as_str(), %reason, "the stream's shards cannot be listed");
                    stream.refuse(&reason);
                }
            }
        }
    }

    fn access_of(&self, grant: &Grant) -> Result<Access, AccessDenied> {
        let location = &grant.endpoint.location;
        let denied = |message: String| AccessDenied { code: ErrorCode::Tls, message: message.into() };
        let tls = match (location.scheme, &self.tls) {
            (Scheme::Http, _) => None,
            (Scheme::Https, Some(config)) => Some(Tls::with(Arc::clone(config), &location.host).map_err(denied)?),
            // Only a given URL is in the clear, and for any other there is a configuration.
            (Scheme::Https, None) => return Err(denied(format!("{} is to be reached in the clear", location.host))),
        };
        let addresses = grant.endpoint.addresses.as_slice().into();
        Ok(Access {
            target: Target { addresses, host: location.host.as_str().into(), tls },
            host: location.host_header(),
            // A location's path was cut from a URL that was parsed.
            path: location.path.parse().unwrap_or_else(|_| http::Uri::from_static("/")),
            signer: Signer::new(&grant.credentials, &grant.region),
        })
    }

    fn stream(&self, id: StreamId) -> Option<Arc<StreamState>> {
        lock(&self.streams).get(id.index()).cloned()
    }

    fn note_error(&self, error: String) {
        tracing::debug!(%error, "kpl");
        *lock(&self.last_error) = Some(error);
    }

    /// The latest failure of a request or of the control plane.
    pub(crate) fn last_error(&self) -> Option<String> {
        lock(&self.last_error).clone()
    }

    /// A core's thread has ended; `failed` says that nobody had told it to.
    pub(crate) fn on_core_ended(&self, core: CoreId, failed: bool) {
        if failed {
            tracing::error!(core = core.0, "a core has failed; its records are settled as CoreFailed");
            self.stop_accepting(End::CoreFailed);
            for other in (0..self.commands.len() as u16).map(CoreId).filter(|other| *other != core) {
                self.command(other, Command::CoreFailed(core));
            }
        }
        let all_ended = {
            let mut alive = lock(&self.alive);
            *alive -= 1;
            *alive == 0
        };
        if failed || all_ended {
            self.end_flushes(all_ended, failed);
        }
        self.core_ended.notify_all();
    }

    /// Ends every flush under way, and those to come: a core has failed, or the last one has ended.
    fn end_flushes(&self, over: bool, failed: bool) {
        let (cells, result): (Vec<_>, _) = {
            let mut flushes = lock(&self.flushes);
            flushes.over |= over;
            flushes.failed |= failed;
            let cells = flushes.cells.drain().map(|(_, cell)| cell).collect();
            (cells, flushes.result().unwrap_or(Ok(())))
        };
        cells.iter().for_each(|cell| cell.done.set(result));
    }

    /// Cores that run.
    pub(crate) fn cores_alive(&self) -> usize {
        *lock(&self.alive)
    }

    /// Waits until nothing is outstanding, or until `deadline`. For when no flush can tell, as a core has failed.
    #[expect(clippy::disallowed_methods, reason = "the bound of a wait")]
    pub(crate) fn wait_for_outcomes(&self, deadline: Instant) {
        while self.counts().outstanding() > 0 && Instant::now() < deadline {
            self.wait_for_cores(deadline.min(Instant::now() + OUTCOMES_POLL));
        }
    }

    /// Waits until no core runs, or until `deadline`.
    #[expect(clippy::disallowed_methods, reason = "the bound of a wait")]
    pub(crate) fn wait_for_cores(&self, deadline: Instant) -> bool {
        let mut alive = lock(&self.alive);
        while *alive > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            alive = self.core_ended.wait_timeout(alive, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        true
    }

    /// Begins a flush of every stream.
    pub(crate) fn flush_all(&self) -> Arc<FlushCell> {
        if self.origin.is_elsewhere() {
            return FlushCell::ended(Err(FlushError::Forked));
        }
        let streams: Vec<StreamId> = lock(&self.streams).iter().map(|stream| stream.id).collect();
        self.flush(&streams)
    }

    /// Begins a flush of `streams`.
    pub(crate) fn flush(&self, streams: &[StreamId]) -> Arc<FlushCell> {
        if self.origin.is_elsewhere() {
            return FlushCell::ended(Err(FlushError::Forked));
        }
        if streams.is_empty() {
            return FlushCell::ended(Ok(()));
        }
        let mut flushes = lock(&self.flushes);
        if let Some(result) = flushes.result() {
            return FlushCell::ended(result);
        }
        let cell = Arc::new(FlushCell { streams_left: Mutex::new(streams.len()), done: Cell::default() });
        let tokens: Vec<_> = streams
            .iter()
            .map(|stream| {
                flushes.next += 1;
                let token = flushes.next;
                flushes.cells.insert(token, Arc::clone(&cell));
                (*stream, token)
            })
            .collect();
        drop(flushes);
        for (stream, token) in tokens {
            self.command(CoreId(0), Command::Flush(stream, token));
        }
        cell
    }

    fn flushed(&self, token: FlushToken) {
        let Some(cell) = lock(&self.flushes).cells.remove(&token) else { return };
        let mut left = lock(&cell.streams_left);
        *left -= 1;
        if *left == 0 {
            drop(left);
            cell.done.set(Ok(()));
        }
    }

    /// What was counted so far; nothing, in a fork.
    pub(crate) fn counters(&self) -> Counters {
        if self.origin.is_elsewhere() {
            return Counters::default();
        }
        let mut sums = Counters::default();
        // Settled first: a record that is settled meanwhile is then seen as accepted too.
        self.core_counters.iter().for_each(|counters| counters.add_to(&mut sums));
        sums.records_failed += self.ledger.abandoned();
        let submitters = lock(&self.submitters);
        sums.records_failed += submitters.settled_by_puts;
        sums.records_accepted =
            submitters.accepted_by_gone + submitters.live.iter().map(|counters| counters.accepted.value()).sum::<u64>();
        sums
    }

    /// The same, as flush and close tell it.
    pub(crate) fn counts(&self) -> Counts {
        let Counters { records_accepted: accepted, records_delivered, records_failed, .. } = self.counters();
        Counts { accepted, delivered: records_delivered, failed: records_failed }
    }

    /// Age of the oldest record that a core has taken and that has no outcome.
    pub(crate) fn oldest_outstanding(&self) -> Option<Duration> {
        if self.origin.is_elsewhere() {
            return None;
        }
        let (asker, answers) = channel::bounded(self.commands.len());
        self.command_all(|| Command::Oldest(asker.clone()));
        drop(asker);
        let mut oldest: Option<Time> = None;
        // A core that has ended drops its asker; one that is busy answers within a turn.
        while let Ok(answer) = answers.recv_timeout(COMMAND_WAIT) {
            oldest = [oldest, answer].into_iter().flatten().min();
        }
        oldest.map(|oldest| self.clock.now().since(oldest))
    }
}

/// Locks; a panic elsewhere while the lock was held does not matter, as every critical section here is a plain update.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
