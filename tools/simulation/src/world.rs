//! The world of one seed: virtual time, and all that happens in it, in order.
//!
//! ```text
//!   submitters ──rings──▶ cores (`driver`) ──network──▶ Kinesis
//!                           │  ▲ mesh rings               │
//!                           ▼  └── maps ◀── control ◀─────┘
//!                        checker
//! ```
//!
//! Events wait in a heap, by time and then by the order in which they were thought of, so that a seed always runs alike.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kpl::codec::{Wire, frame_len, write_frame};
use kpl::engine::{Core, Message, RequestId, ShardMap, Ticket};
use kpl::outcome::Settlement;
use kpl::record::{CoreId, HashKey, Record, StreamId, StreamName};
use kpl::ring::{Budget, Ledger, Purse, Slots};
use kpl::time::Time;

use crate::checker::Checker;
use crate::driver::{Input, Node};
use crate::faults::{Canary, Faults};
use crate::inspect::Inspector;
use crate::kinesis::ServiceStream;
use crate::network::Fate;
use crate::report::Report;
use crate::rng::Rng;
use crate::scenario::{Draft, Scenario, Source};
use crate::trace::Trace;
use crate::verdict;
use crate::wire::{Entry, Told};

/// Something that happens.
pub enum Event {
    /// A submitter puts.
    Put(usize),
    /// A core has its cycle.
    Wake(usize),
    /// A core hears something.
    Tell(usize, Input),
    /// A request reaches the service.
    Arrive(usize),
    /// A request ends for its core.
    End(usize),
    /// The shards of a stream are listed.
    List(usize),
    /// Somebody flushes a stream.
    Flush(usize),
    /// A stream is resharded.
    Reshard(usize),
    /// Nothing more is put, everything is flushed, for so long.
    Close(Duration),
    /// Everything is settled.
    CloseNow,
}

struct Scheduled {
    at: Time,
    order: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.order == other.order
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The heap gives the greatest, which is to be the earliest.
    fn cmp(&self, other: &Scheduled) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// A request under way.
pub struct Request {
    /// Whose.
    pub core: usize,
    /// How its core names it.
    pub id: RequestId,
    /// Its stream.
    pub stream: usize,
    /// Its form.
    pub wire: Wire,
    /// What is in it.
    pub entries: Rc<Vec<Entry>>,
    /// What happens to it.
    pub fate: Fate,
    /// What the service said.
    pub told: Vec<Told>,
}

/// A submitter and its ring.
pub struct Submitter {
    /// Its home core.
    pub home: usize,
    /// Frames on their way to the core.
    pub ring: VecDeque<(Ticket, Vec<u8>)>,
    /// Bytes of them.
    pub ring_bytes: usize,
    /// Frames ever pushed and ever popped.
    pub pushed: u64,
    /// See `pushed`.
    pub popped: u64,
    slots: Slots<Arc<Settlement>>,
    purse: Option<Purse>,
    source: Source,
    rng: Rng,
    left: usize,
    pending: Option<(u64, Draft)>,
}

/// What is known of a stream's shards, and who asks for them.
#[derive(Default)]
pub struct Listing {
    /// Whether a list is under way.
    pub under_way: bool,
    /// The latest map.
    pub map: Option<Arc<ShardMap>>,
}

/// Everything.
pub struct World {
    pub(crate) now: Time,
    events: BinaryHeap<Scheduled>,
    order: u64,
    pub(crate) plan: Scenario,
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) budget: Arc<Budget>,
    pub(crate) nodes: Vec<Node>,
    /// By sender and receiver.
    pub(crate) mesh: Vec<Vec<VecDeque<Message>>>,
    pub(crate) submitters: Vec<Submitter>,
    pub(crate) requests: Vec<Request>,
    pub(crate) streams: Vec<ServiceStream>,
    pub(crate) listings: Vec<Listing>,
    pub(crate) inspector: Inspector,
    pub(crate) checker: Checker,
    pub(crate) trace: Trace,
    numbers: u64,
    flushes: u64,
    closing: bool,
    /// When the cores were told to close, and whether everything was settled before.
    closed: Option<(Time, bool)>,
}

/// No seed takes longer, in virtual time.
const LIFETIME: Duration = Duration::from_secs(7200);
/// After that nobody puts any more: with a small budget and many faults some would never come to an end.
const PUTS_END: Time = Time::from_nanos(1_000_000_000_000);
/// No seed has more events.
const EVENTS_MAX: u64 = 3_000_000;
/// How long cores may take to close: a stall and some messages.
const CLOSE_MAX: Duration = Duration::from_secs(1);

impl World {
    /// The world of `seed`, before anything has happened.
    pub fn new(seed: u64, canary: Option<Canary>, trace: Trace) -> World {
        let mut rng = Rng::new(seed);
        let plan = Scenario::draw(&mut rng.fork());
        let faults = Faults::draw(rng.fork(), plan.calm, canary);
        let config = &plan.config;
        let budget = Budget::new(config.max_outstanding_records, config.max_outstanding_bytes, plan.homes.len());
        let nodes = (0..plan.cores).map(|core| {
            let mut engine = Core::new(Time::ZERO, CoreId(core), plan.cores, config, rng.next());
            for (index, stream) in plan.streams.iter().enumerate() {
                let name = StreamName::Name(stream.name.clone());
                engine.handle_stream(StreamId(index as u32), name, stream.config.clone());
            }
            Node::new(engine, config.max_connections_per_core)
        });
        let nodes = nodes.collect();
        let ledger = Arc::new(Ledger::new());
        let submitters = plan.homes.iter().map(|&home| Submitter {
            home,
            ring: VecDeque::new(),
            ring_bytes: 0,
            pushed: 0,
            popped: 0,
            slots: Slots::new(Arc::clone(&ledger)),
            purse: Some(budget.purse()),
            source: Source::new(rng.fork(), &plan),
            rng: rng.fork(),
            left: plan.puts,
            pending: None,
        });
        let submitters = submitters.collect();
        let cores = usize::from(plan.cores);
        let configs = plan.streams.iter().map(|stream| stream.config.clone()).collect();
        let mut streams: Vec<ServiceStream> =
            plan.streams.iter().map(|stream| ServiceStream::new(stream.shards)).collect();
        streams[0].dead_shard = plan.dead_shard;
        World {
            now: Time::ZERO,
            events: BinaryHeap::new(),
            order: 0,
            faults,
            budget,
            nodes,
            mesh: (0..cores).map(|_| (0..cores).map(|_| VecDeque::new()).collect()).collect(),
            submitters,
            requests: Vec::new(),
            streams,
            listings: plan.streams.iter().map(|_| Listing::default()).collect(),
            inspector: Inspector::default(),
            checker: Checker::new(configs, plan.patience()),
            trace,
            numbers: 0,
            flushes: 0,
            closing: false,
            closed: None,
            rng,
            plan,
        }
    }

    /// Has `event` happen at `at`.
    pub(crate) fn schedule(&mut self, at: Time, event: Event) {
        self.order += 1;
        self.events.push(Scheduled { at: at.max(self.now), order: self.order, event });
    }

    /// Runs to the end, or to the first broken promise.
    pub fn run(mut self) -> Report {
        self.plan_events();
        let mut events = 0;
        while let Some(Scheduled { at, event, .. }) = self.events.pop() {
            self.now = at;
            events += 1;
            self.happen(event);
            if !self.checker.broken.is_empty() {
                break;
            }
            if events > EVENTS_MAX || self.now > Time::ZERO + LIFETIME {
                let (now, outstanding) = (self.now, self.checker.outstanding);
                self.checker.breaks(format!("I14: {outstanding} records are open after {events} events, at {now:?}"));
                break;
            }
            self.close_if_settled();
        }
        if self.checker.broken.is_empty() {
            self.finish();
        }
        Report::of(self.now, self.numbers_accepted(), &self.faults, &self.checker, &self.trace)
    }

    fn numbers_accepted(&self) -> u64 {
        self.checker.records.len() as u64
    }

    fn plan_events(&mut self) {
        for index in 0..self.submitters.len() {
            let start = Time::ZERO + Duration::from_millis(10) + self.rng.micros(0, self.plan.pause_us);
            self.schedule(start, Event::Put(index));
        }
        for index in 0..self.streams.len() {
            self.listings[index].under_way = true;
            self.schedule(self.plan.streams[index].first_map, Event::List(index));
        }
        for at in self.plan.flushes.clone() {
            let stream = self.rng.index(self.streams.len());
            self.schedule(at, Event::Flush(stream));
        }
        for at in self.plan.reshards.clone() {
            let stream = self.rng.index(self.streams.len());
            self.schedule(at, Event::Reshard(stream));
        }
        if let Some((at, timeout)) = self.plan.close {
            self.schedule(at, Event::Close(timeout));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Put(submitter) => self.put(submitter),
            Event::Wake(core) => self.wake(core),
            Event::Tell(core, input) => self.tell(core, input),
            Event::Arrive(request) => self.arrive(request),
            Event::End(request) => self.end(request),
            Event::List(stream) => self.list(stream),
            Event::Flush(stream) => self.flush(stream),
            Event::Reshard(stream) => self.reshard(stream),
            Event::Close(timeout) => {
                self.closing = true;
                self.trace.say(self.now, format_args!("close, within {timeout:?}"));
                (0..self.streams.len()).for_each(|stream| self.flush(stream));
                self.schedule(self.now + timeout, Event::CloseNow);
            }
            Event::CloseNow => self.close_now(false),
        }
    }

    fn put(&mut self, index: usize) {
        let burst = self.submitters[index].rng.between(1, self.plan.burst);
        for _ in 0..burst {
            if self.closing || !self.put_one(index) {
                break;
            }
        }
        let submitter = &mut self.submitters[index];
        if self.now > PUTS_END {
            (submitter.left, submitter.pending) = (0, None);
        }
        if !self.closing && (submitter.left > 0 || submitter.pending.is_some()) {
            // Who was refused comes again, not at once.
            let refused = submitter.pending.is_some();
            let pause = submitter.rng.micros(0, if refused { 50_000 } else { self.plan.pause_us });
            self.schedule(self.now + pause, Event::Put(index));
        }
    }

    /// Puts one record. Answers whether it was taken.
    fn put_one(&mut self, index: usize) -> bool {
        let submitter = &mut self.submitters[index];
        if submitter.pending.is_none() && submitter.left > 0 {
            submitter.left -= 1;
            submitter.pending = Some((self.numbers, submitter.source.draw(self.numbers)));
            self.numbers += 1;
        }
        let (Some((number, draft)), Some(purse)) = (submitter.pending.take(), &mut submitter.purse) else {
            return false;
        };
        let plain = Record::new(&draft.key, &draft.data);
        let record = draft.explicit.map_or(plain, |explicit| plain.with_explicit_hash_key(HashKey(explicit)));
        let len = frame_len(&record);
        if submitter.ring_bytes + len > self.plan.ring_bytes || purse.try_take(draft.size()).is_err() {
            submitter.pending = Some((number, draft));
            return false;
        }
        let mut frame = vec![0; len];
        write_frame(&mut frame, StreamId(draft.stream as u32), self.now, &record);
        let (ticket, handle) = submitter.slots.take();
        let size = draft.size();
        self.trace.say(self.now, format_args!("put {number} by {index}: stream {}, {size} bytes", draft.stream));
        self.checker.accept(number, draft, index, self.now, handle);
        submitter.ring.push_back((ticket, frame));
        submitter.ring_bytes += len;
        submitter.pushed += 1;
        self.check_backlog();
        let submitter = &mut self.submitters[index];
        let (home, tick) = (submitter.home, self.plan.tick.as_micros() as u64);
        let delay = submitter.rng.micros(1, tick.max(1));
        self.wake_at(home, self.now + delay);
        true
    }

    /// I15, where it can be told from outside what has reached a shard: on one core, under one map, between two cycles.
    fn check_backlog(&mut self) {
        let config = &self.plan.config;
        let Some(percent) = config.shard_backlog_max else { return };
        if !(self.plan.calm && self.plan.dead_shard && self.plan.cores == 1) {
            return;
        }
        let in_rings: u64 = self.submitters.iter().map(|submitter| submitter.pushed - submitter.popped).sum();
        let (records, bytes) =
            self.checker.outstanding_where(|draft| draft.stream == 0 && self.streams[0].is_dead(draft.hash()));
        let part = |bound: usize| bound * percent as usize / 100;
        let (most, most_bytes) = (part(config.max_outstanding_records).max(1), part(config.max_outstanding_bytes));
        // What is in a ring has reached no shard yet; a shard that held nothing takes a record of any size.
        let kept = records <= most + in_rings as usize
            && (in_rings > 0 || records <= 1 || bytes <= most_bytes + config.max_record_size);
        self.checker.holds(kept, || {
            format!(
                "I15: {records} records and {bytes} bytes are held for a dead shard, {most} and {most_bytes} may be"
            )
        });
    }

    fn flush(&mut self, stream: usize) {
        if self.closed.is_some() {
            return;
        }
        let token = self.flushes;
        self.flushes += 1;
        self.trace.say(self.now, format_args!("flush {token} of stream {stream}"));
        self.checker.flush_begins(self.now, token, stream);
        self.schedule(self.now, Event::Tell(0, Input::Flush(stream, token)));
    }

    fn close_if_settled(&mut self) {
        let putting = |submitter: &Submitter| submitter.left > 0 || submitter.pending.is_some();
        let quiet = self.checker.outstanding == 0 && !self.checker.flush_waits();
        if self.closed.is_none() && quiet && (self.closing || !self.submitters.iter().any(putting)) {
            self.closing = true;
            for node in &mut self.nodes {
                let kept = node.oldest();
                self.checker
                    .holds(kept.is_none(), || format!("E1: all is settled, but a core keeps a record of {kept:?}"));
            }
            self.close_now(true);
        }
    }

    fn close_now(&mut self, settled: bool) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some((self.now, settled));
        self.trace.say(self.now, format_args!("close now"));
        for core in 0..self.nodes.len() {
            let delay = self.rng.micros(0, 100);
            self.schedule(self.now + delay, Event::Tell(core, Input::Close));
        }
    }

    /// A core has finished.
    pub(crate) fn core_done(&mut self, core: usize) {
        self.trace.say(self.now, format_args!("core {core} is done"));
        let limit = self.closed.map_or(Time::ZERO, |(at, _)| at + CLOSE_MAX);
        let now = self.now;
        self.checker.holds(now <= limit, || format!("I7: core {core} is done at {now:?}, at the latest {limit:?}"));
    }

    /// Nothing is left to happen.
    fn finish(&mut self) {
        let flushes_too = self.closed.is_none_or(|(_, settled)| settled);
        self.checker.nothing_is_left(self.now, flushes_too);
        let done = self.nodes.iter().filter(|node| node.done).count();
        let (cores, released) = (self.nodes.len(), self.nodes.iter().map(|node| node.settled).sum::<u64>());
        self.checker.holds(done == cores, || format!("I7: {done} of {cores} cores have finished"));
        let accepted = self.numbers_accepted();
        self.checker.holds(released == accepted, || format!("I7: {accepted} records accepted, {released} settled"));
        self.submitters.iter_mut().for_each(|submitter| submitter.purse = None);
        let used = self.budget.used();
        self.checker.holds(used == (0, 0), || format!("I5: at the end {used:?} of the budget are used"));
        verdict::judge(&self.streams, &mut self.checker);
    }
}
