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

mod access;
mod flushes;
mod meter;
mod news;
mod uploads;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel as channel;
use rustls::ClientConfig;
use tokio::sync::mpsc::UnboundedSender;

use crate::callbacks::Callbacks;
use crate::config::{Config, OuterPartitionKey, WireFormat};
use crate::control::service::Order;
use crate::error::{PutErrorReason, StreamError};
use crate::fork::Origin;
use crate::limits::{COMMAND_WAIT, OUTCOMES_POLL, OUTER_PARTITION_KEY};
use crate::metrics::{CoreCounters, Counters, StreamTally, SubmitterCounters};
use crate::outcome::{Counts, ErrorCode, Settlement};
use crate::record::{CoreId, Record, StreamId, StreamName};
use crate::ring::{Budget, Doorbell, Flag, Ledger, Purse, WaitError};
use crate::runtime::barrier::process_barrier;
use crate::runtime::clock::Clock;
use crate::runtime::command::Command;
use crate::time::Time;
use crate::waiting::Cell;

pub(crate) use flushes::FlushCell;
use flushes::Flushes;
use meter::Meter;
pub(crate) use uploads::SharedSink;

/// Why a producer takes no more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was closed.
    Closed,
    /// A core ended that nobody had closed.
    CoreFailed,
}

/// One stream, as the face knows it. What every put reads stands first, on one cache line, away from the counts and the
/// locks that others write.
#[repr(C, align(64))]
pub(crate) struct StreamState {
    /// The producer that it was opened on.
    producer: Weak<Shared>,
    /// Largest record that it takes, in bytes of data and partition key.
    pub(crate) max_record_size: usize,
    /// Its number.
    pub(crate) id: StreamId,
    /// Whether lone records that look like aggregates are wrapped.
    pub(crate) aggregates: bool,
    /// Which partition key those have outside.
    outer: OuterPartitionKey,
    /// Whether its records are to keep their order.
    ordered: bool,
    /// Its shards cannot be listed, so that puts are refused.
    pub(crate) refused: Flag,
    /// Its name.
    pub(crate) name: StreamName,
    /// Why, written before the flag is raised.
    refusal: Mutex<String>,
    /// Done once its first map is there; an error while it cannot be had.
    pub(crate) readiness: Cell<Result<(), StreamError>>,
    /// What each core has to do with its records, by [`CoreId`].
    pub(crate) tallies: Arc<[StreamTally]>,
}

impl StreamState {
    pub(crate) fn new(producer: &Arc<Shared>, id: StreamId, name: StreamName, config: &Config) -> StreamState {
        StreamState {
            producer: Arc::downgrade(producer),
            id,
            name,
            max_record_size: config.max_record_size,
            aggregates: config.aggregation_enabled,
            outer: config.outer_partition_key,
            ordered: config.ordered,
            refused: Flag::default(),
            refusal: Mutex::default(),
            readiness: Cell::default(),
            tallies: producer.commands.iter().map(|_| StreamTally::default()).collect(),
        }
    }

    pub(crate) fn belongs_to(&self, producer: &Arc<Shared>) -> bool {
        std::ptr::eq(self.producer.as_ptr(), Arc::as_ptr(producer))
    }

    /// Bytes of the partition key that `record` has outside if it is wrapped.
    #[cold]
    pub(crate) fn outer_key_len(&self, record: &Record<'_>) -> usize {
        match self.outer {
            OuterPartitionKey::A => OUTER_PARTITION_KEY.len(),
            OuterPartitionKey::FirstMember => record.partition_key.len(),
        }
    }

    /// Why a put of another producer's submitter is refused.
    #[cold]
    pub(crate) fn foreign(&self) -> PutErrorReason {
        PutErrorReason::ForeignStream { stream: self.name.as_str().to_owned() }
    }

    /// Why puts are refused.
    #[cold]
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
    pub(crate) callbacks: Callbacks,
    /// Of the abandoned records that nobody waited for, those that the handler was told of.
    abandoned_told: Mutex<u64>,
    /// By [`CoreId`], as is everything that is a core's.
    pub(crate) doorbells: Arc<[Arc<Doorbell>]>,
    pub(crate) commands: Vec<channel::Sender<Command>>,
    pub(crate) core_counters: Vec<Arc<CoreCounters>>,
    pub(crate) orders: UnboundedSender<Order>,
    pub(crate) submitters: Mutex<Submitters>,
    pub(crate) streams: Mutex<Vec<Arc<StreamState>>>,
    pub(crate) end: OnceLock<End>,
    flushes: Mutex<Flushes>,
    meter: Meter,
    /// Cores that run.
    alive: Mutex<usize>,
    /// Notified when a core ends.
    core_ended: Condvar,
    last_error: Mutex<Option<String>>,
    /// The form that a core has last learned the endpoint takes; at first the configured one.
    wire: Mutex<WireFormat>,
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

/// What [`Shared::new`] takes from the producer that starts the threads.
pub(crate) struct Ends {
    pub(crate) commands: Vec<channel::Sender<Command>>,
    pub(crate) orders: UnboundedSender<Order>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) callbacks: Callbacks,
}

impl Shared {
    pub(crate) fn new(config: Config, tls: Option<Arc<ClientConfig>>, ends: Ends, origin: Origin) -> Shared {
        let cores = ends.commands.len();
        let barrier = process_barrier();
        let meter = Meter::new(&config);
        let doorbell = || Arc::new(barrier.map_or_else(Doorbell::new, Doorbell::with_barrier));
        Shared {
            wire: Mutex::new(config.wire),
            clock: Clock::start(),
            budget: ends.budget,
            callbacks: ends.callbacks,
            abandoned_told: Mutex::default(),
            config: Arc::new(config),
            origin,
            tls,
            ledger: Arc::new(Ledger::new()),
            doorbells: (0..cores).map(|_| doorbell()).collect(),
            commands: ends.commands,
            core_counters: (0..cores).map(|_| Arc::default()).collect(),
            orders: ends.orders,
            submitters: Mutex::default(),
            streams: Mutex::default(),
            end: OnceLock::new(),
            flushes: Mutex::default(),
            meter,
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
    #[cold]
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
        self.doorbells.iter().for_each(|bell| bell.set_closing());
        self.budget.close();
        for stream in lock(&self.streams).iter().filter(|stream| stream.readiness.get().is_none()) {
            stream.readiness.set(Err(StreamError::Closed));
        }
    }

    /// Tells the handler of detached records that failed where no core has told of them; nobody holds their credit.
    pub(crate) fn tell_unheard(&self, stream: Option<Arc<str>>, settlement: Arc<Settlement>, records: u64) {
        if records > 0 {
            self.callbacks.tell(stream, settlement, records, 0);
        }
    }

    /// Tells the handler of detached records that were abandoned since it was last told.
    pub(crate) fn tell_abandoned(&self) {
        let mut told = lock(&self.abandoned_told);
        let abandoned = self.ledger.abandoned_lone();
        let settlement = Settlement::unattempted(ErrorCode::CoreFailed, "the core that held the record ended");
        self.tell_unheard(None, settlement, abandoned - *told);
        *told = abandoned;
    }

    /// Waits for credit and takes it; refuses at once if all that fills the budget waits to be told.
    pub(crate) async fn wait_for_credit(&self, purse: &mut Purse, size: usize) -> Result<(), PutErrorReason> {
        let mut wait = pin!(purse.wait(size));
        let mut looked = false;
        let granted = poll_fn(|context| {
            let polled = wait.as_mut().poll(context);
            if polled.is_ready() || looked {
                return polled;
            }
            // Once it stands in the queue, or they might look too early. What would make room may lie on any core, open
            // or lingering, and a core that rests does not see who waits; and from now on whoever settles the last
            // record looks whether somebody is stuck.
            looked = true;
            self.doorbells.iter().for_each(|bell| bell.ring());
            self.refuse_if_stuck();
            wait.as_mut().poll(context)
        });
        granted.await.map_err(|error| match error {
            WaitError::Closed => self.refusal(),
            WaitError::Held => PutErrorReason::Full,
        })
    }

    /// Refuses those who wait for credit, if none is to come but by draining completions or by the handler's return:
    /// that might be up to the very thread that waits.
    fn refuse_if_stuck(&self) {
        if self.budget.may_be_stuck() && self.counts().outstanding() == 0 {
            self.budget.refuse_if_held();
        }
    }

    /// The form of PutRecords, as far as it is settled.
    pub(crate) fn wire(&self) -> WireFormat {
        *lock(&self.wire)
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
        if failed {
            self.tell_abandoned();
        }
        if failed || all_ended {
            self.end_flushes(all_ended, failed);
        }
        self.core_ended.notify_all();
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
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
