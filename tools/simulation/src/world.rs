//! The world of one seed: virtual time, and all that happens in it, in order.
//!
//! ```text
//!   submitters ──rings──▶ cores (`driver`) ──`transmission`, network──▶ Kinesis
//!                           │  ▲ mesh rings                              │
//!                           ▼  └──────── maps ◀── control ◀──────────────┘
//!                        checker
//! ```
//!
//! Events wait in a heap, by time and then by the order in which they were thought of, so that a seed always runs alike.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kpl::config::ShardMapPolicy;
use kpl::engine::{Core, Message, ShardMap};
use kpl::record::{CoreId, StreamId};
use kpl::ring::{Budget, Ledger};
use kpl::time::Time;

use crate::checker::Checker;
use crate::distribution::Known;
use crate::driver::{Input, Node};
use crate::faults::{Canary, Faults, Kind};
use crate::inspect::Inspector;
use crate::kinesis::ServiceStream;
use crate::outage::Requests;
use crate::profile::Profile;
use crate::promise::Promise;
use crate::refusal::Refusals;
use crate::report::Report;
use crate::resharding::Rescaling;
use crate::rng::Rng;
use crate::scenario::{SETTLED_IN, Scenario};
use crate::signer::Signer;
use crate::submitters::Submitter;
use crate::trace::Trace;
use crate::transmission::{Request, Traffic};

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
    /// UpdateShardCount goes on.
    Rescale(Rescaling),
    /// A stream is deleted.
    DeleteStream(usize),
    /// A stream that was deleted is created again.
    CreateAgain(usize),
    /// Nothing more is put, everything is flushed, for so long.
    Close(Duration),
    /// Everything is settled.
    CloseNow,
    /// A submitter is opened.
    OpenSubmitter(usize),
    /// A stream is opened: every core is told, and its shards are listed.
    OpenStream(usize),
    /// The stream is known to every core, and may be put to.
    UseStream(usize),
    /// The service begins or ceases to place a stream's records by chance.
    Distribute(usize, bool),
    /// A stream that the service distributes is looked at again.
    Refresh(usize),
    /// Something spoils what signs requests.
    SpoilSigner(Kind),
    /// The outage is over.
    OutageOver,
    /// Faults strike no more.
    Heal,
    /// What the faults have left behind has ended.
    Steady,
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

/// What is known of a stream's shards, and who asks for them.
#[derive(Default)]
pub struct Listing {
    /// Whether a list is under way.
    pub under_way: bool,
    /// Lists in a row that were no map.
    pub failures: u32,
    /// The latest map.
    pub map: Option<Arc<ShardMap>>,
    /// Lists in a row that were wanted and told nothing new, and from when on another is made if it is wanted.
    pub vain: u32,
    /// See `vain`.
    pub heed_at: Time,
    /// By epoch, less one: when the stream was created that the map is of.
    pub created: Vec<Time>,
    /// By core: when it is told the latest map that is on its way.
    pub told: Vec<Time>,
    /// How often cores have wanted a map.
    pub wanted: u64,
    /// How often the shards were listed.
    pub made: u64,
    /// What its description has told.
    pub known: Known,
}

/// Everything.
pub struct World {
    pub(crate) now: Time,
    events: BinaryHeap<Scheduled>,
    order: u64,
    /// A hash of all moments so far.
    pulse: u64,
    pub(crate) plan: Scenario,
    pub(crate) rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) budget: Arc<Budget>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) nodes: Vec<Node>,
    /// By sender and receiver.
    pub(crate) mesh: Vec<Vec<VecDeque<Message>>>,
    pub(crate) submitters: Vec<Submitter>,
    pub(crate) requests: Vec<Request>,
    pub(crate) streams: Vec<ServiceStream>,
    pub(crate) listings: Vec<Listing>,
    pub(crate) signer: Signer,
    pub(crate) refusals: Refusals,
    pub(crate) inspector: Inspector,
    pub(crate) checker: Checker,
    pub(crate) trace: Trace,
    pub(crate) traffic: Traffic,
    pub(crate) in_outages: Requests,
    pub(crate) outage_chance: Rng,
    pub(crate) numbers: u64,
    pub(crate) flushes: u64,
    /// Streams that may be put to: the first so many.
    pub(crate) open_streams: usize,
    pub(crate) closing: bool,
    /// When the cores were told to close, and whether everything was settled before.
    pub(crate) closed: Option<(Time, bool)>,
    /// Whether faults have healed, and whether what they left behind has ended.
    pub(crate) healed: bool,
    pub(crate) steady: bool,
}

/// No seed takes longer, in virtual time.
const LIFETIME: Duration = Duration::from_secs(7200);
/// No seed has more events.
const EVENTS_MAX: u64 = 3_000_000;
/// How long cores may take to close: a stall and some messages.
pub const CLOSE_MAX: Duration = Duration::from_secs(1);

impl World {
    /// The world of `seed`, before anything has happened.
    pub fn new(seed: u64, profile: Profile, canary: Option<Canary>, trace: Trace) -> World {
        let mut rng = profile.rng(seed);
        let plan = Scenario::draw(profile, &mut rng.fork());
        let mut faults = Faults::draw(rng.fork(), profile.temper(), plan.quiet, canary);
        if plan.poison > 0 {
            // Who is called invalid is so, or nobody could tell who may fail.
            faults.forbid(Kind::Validation);
        }
        let outage_chance = rng.fork();
        let config = &plan.config;
        let budget = Budget::new(config.max_outstanding_records, config.max_outstanding_bytes, plan.submitters.len());
        let nodes = (0..plan.cores).map(|core| {
            let engine = Core::new(Time::ZERO, CoreId(core), plan.cores, config, rng.next());
            Node::new(engine, config.max_connections_per_core)
        });
        let nodes = nodes.collect();
        let submitters = plan.submitters.iter().map(|of| Submitter::new(of, &mut rng, &plan)).collect();
        let cores = usize::from(plan.cores);
        let configs: Vec<_> = plan.streams.iter().map(|stream| stream.config.clone()).collect();
        let mut streams: Vec<ServiceStream> =
            plan.streams.iter().map(|stream| ServiceStream::new(stream.shards, plan.capacity)).collect();
        streams[0].dead_shard = plan.dead_shard;
        let mut checker = Checker::new(configs, plan.patience());
        (checker.poison, checker.body_limited) = (plan.poison > 0, plan.body_max.is_some());
        checker.backlog_max = plan.backlog_max();
        checker.cores = u32::from(plan.cores);
        checker.scattered =
            plan.streams.iter().enumerate().filter(|(_, stream)| stream.is_auto()).map(|(at, _)| at).collect();
        World {
            now: Time::ZERO,
            events: BinaryHeap::new(),
            order: 0,
            pulse: 0,
            faults,
            budget,
            ledger: Arc::new(Ledger::new()),
            nodes,
            mesh: (0..cores).map(|_| (0..cores).map(|_| VecDeque::new()).collect()).collect(),
            submitters,
            requests: Vec::new(),
            streams,
            listings: plan
                .streams
                .iter()
                .map(|_| Listing { told: vec![Time::ZERO; cores], ..Listing::default() })
                .collect(),
            signer: Signer::new(cores),
            refusals: Refusals::default(),
            inspector: Inspector::new(plan.cores),
            checker,
            trace,
            traffic: Traffic::default(),
            in_outages: Requests::default(),
            outage_chance,
            numbers: 0,
            flushes: 0,
            open_streams: 0,
            closing: false,
            closed: None,
            healed: false,
            steady: false,
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
        while let Some(Scheduled { at, order, event }) = self.events.pop() {
            self.now = at;
            self.pulse = (self.pulse ^ at.as_nanos() ^ order.rotate_left(40)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            events += 1;
            self.happen(event);
            self.check_budget();
            self.check_backlog();
            if !self.checker.broken.is_empty() {
                break;
            }
            if events > EVENTS_MAX || self.now > Time::ZERO + LIFETIME {
                let (now, outstanding) = (self.now, self.checker.outstanding);
                let text = format!("{outstanding} records are open after {events} events, at {now:?}");
                self.checker.breaks(Promise::I14, text);
                break;
            }
            self.close_if_settled();
        }
        if self.checker.broken.is_empty() {
            self.finish();
        }
        Report::of(&self)
    }

    /// A hash of all moments, and of their order.
    pub fn pulse(&self) -> u64 {
        self.pulse
    }

    fn plan_events(&mut self) {
        for index in 0..self.streams.len() {
            let opened = self.plan.streams[index].opened;
            if opened == Time::ZERO { self.open_stream(index) } else { self.schedule(opened, Event::OpenStream(index)) }
        }
        let start = Time::ZERO + Duration::from_millis(10);
        for index in 0..self.submitters.len() {
            self.schedule(self.plan.submitters[index].opened.max(start), Event::OpenSubmitter(index));
        }
        for at in self.plan.flushes.clone() {
            let stream = self.rng.index(self.streams.len());
            self.schedule(at, Event::Flush(stream));
        }
        for at in self.plan.reshards.clone() {
            let stream = self.rng.index(self.streams.len());
            self.schedule(at, Event::Reshard(stream));
        }
        for (stream, begin, end) in self.plan.recreations.clone() {
            self.schedule(begin, Event::DeleteStream(stream));
            self.schedule(end, Event::CreateAgain(stream));
        }
        for (stream, begin, end) in self.plan.autos.clone() {
            self.schedule(begin, Event::Distribute(stream, true));
            self.schedule(end, Event::Distribute(stream, false));
        }
        let spoils = [
            (self.plan.expiries.clone(), Kind::CredentialsExpired),
            (self.plan.clock_jumps.clone(), Kind::ClockSkewed),
        ];
        for (moments, kind) in spoils {
            moments.into_iter().for_each(|at| self.schedule(at, Event::SpoilSigner(kind)));
        }
        if let Some(outage) = self.plan.outage {
            self.schedule(outage.end, Event::OutageOver);
        }
        if let Some(at) = self.plan.heals {
            self.schedule(at, Event::Heal);
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
            Event::Rescale(rescaling) => self.rescale(rescaling),
            Event::DeleteStream(stream) => self.delete_stream(stream),
            Event::CreateAgain(stream) => self.create_again(stream),
            Event::Close(timeout) => self.close(timeout),
            Event::CloseNow => self.close_now(false),
            Event::OpenSubmitter(submitter) => self.open_submitter(submitter),
            Event::OpenStream(stream) => self.open_stream(stream),
            Event::UseStream(stream) => self.use_stream(stream),
            Event::Distribute(stream, by_chance) => self.distribute(stream, by_chance),
            Event::Refresh(stream) => self.refresh(stream),
            Event::SpoilSigner(kind) if !self.healed => self.spoil_signer(kind),
            Event::SpoilSigner(_) => {}
            Event::OutageOver => self.outage_over(),
            Event::Heal => self.heal(),
            Event::Steady => self.become_steady(),
        }
    }

    /// A stream is opened, on every core before anybody may put to it.
    fn open_stream(&mut self, stream: usize) {
        if self.closing {
            return;
        }
        self.trace.say(self.now, format_args!("stream {stream} is opened"));
        (0..self.nodes.len()).for_each(|core| self.tell(core, Input::Stream(stream)));
        // Where shards are never listed nobody asks.
        self.listings[stream].under_way = true;
        if self.plan.config.shard_map != ShardMapPolicy::Unknown {
            self.schedule(self.now + self.plan.streams[stream].first_map, Event::List(stream));
        }
        let wait = if self.plan.judges_lateness() && self.now > Time::ZERO { SETTLED_IN } else { Duration::ZERO };
        self.schedule(self.now + wait, Event::UseStream(stream));
    }

    /// The stream may be put to, once every core has heard of it.
    fn use_stream(&mut self, stream: usize) {
        let known = |node: &Node| node.done || node.knows(StreamId(stream as u32));
        if self.nodes.iter().all(known) && self.open_streams == stream {
            self.open_streams = stream + 1;
        } else if !self.closing {
            self.schedule(self.now + Duration::from_micros(20), Event::UseStream(stream));
        }
    }

    /// I5, at every instant: nothing beyond the bound is used, and no less than is open.
    fn check_budget(&mut self) {
        let (records, bytes) = self.budget.used();
        let config = &self.plan.config;
        let within = records <= config.max_outstanding_records as u64 && bytes <= config.max_outstanding_bytes as u64;
        let covered = records >= self.checker.outstanding as u64;
        self.checker.holds(Promise::I5, within && covered, || {
            format!("{records} records and {bytes} bytes of the budget are used")
        });
    }
}
