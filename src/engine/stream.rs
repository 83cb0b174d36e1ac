//! One stream on one core: joins the stages, from the router to the requests that a connection pulls.
//!
//! ```text
//!   take_in ─▶ router ─▶ aggregator ─▶ shard queue ─▶ collector ─▶ assemble ─▶ (request) ─▶ finish
//!                │ wait for a map        │ hold: backoff, tokens                               │
//!                ▼                       ▼                                                     ▼
//!              adopt                   timers                         settled, requeued, or parked for a newer map
//! ```
//!
//! Indices of shards mean something under the present map only; what is in flight names its shard by id.
//!
//! T1: every member that comes in leaves through the settler or over the mesh.
//! T2: a batch is in exactly one of: an aggregator, a shard's queue, a request, `parked`.

mod changeover;
mod distribution;
mod ended;
mod expiry;
mod intake;
mod remap;
mod request;
mod settling;

use std::sync::Arc;
use std::time::Duration;

use super::aggregator::Appended;
use super::backlog::BacklogMax;
use super::batch::{Batch, Bounds, Removed, Routed, Ticket, joined};
use super::chance::{Chance, Jitter};
use super::collector::Collector;
use super::flush::Participant;
use super::isolation::{Finding, Isolation};
use super::limiter::Limiter;
use super::measures::Measures;
use super::mesh::Mesh;
use super::order::{Order, Origin};
use super::outage::Outage;
use super::parcel::Parcel;
use super::planted::{Mistake, planted};
use super::pool::Pool;
use super::retrier::{Action, Placement, Remedy, Trouble, Verdict, classify, judge_placement};
use super::router::{Adoption, Route, Router};
use super::settler::{Reason, Settler};
use super::shard::{Alarm, Shard};
use super::shard_map::ShardMap;
use super::wheel::Wheel;
use crate::codec::EntryResult;
use crate::config::{Config, RateLimit, ShardMapPolicy};
use crate::limits::{REQUEST_BYTES_PER_SHARD_MAX, collector_wait};
use crate::outcome::{Attempt, AttemptResult, ErrorCode};
use crate::record::{CoreId, HashKey, Placement as RecordPlacement, ShardIndex, StreamId, StreamName};
use crate::time::Time;
use distribution::Distribution;
pub use distribution::UNORDERED;
use settling::closed;

/// What the wheel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    /// The shard's open aggregate is to be sealed.
    Seal(StreamId, ShardIndex),
    /// The shard's hold ends.
    Release(StreamId, ShardIndex),
    /// A queued batch of the shard has a member that expires.
    Expire(StreamId, ShardIndex),
    /// A record that waits for the first or for a newer map expires.
    ExpireWaiting(StreamId),
    /// Records have waited for the first map long enough.
    StandIn(StreamId),
    /// A request is due, or a further connection may be opened for it.
    Due,
}

/// What all streams of a core use together.
pub struct Common {
    /// Deadlines of all kinds.
    pub wheel: Wheel<Timer>,
    /// Gives records their outcomes.
    pub settler: Settler,
    /// Batches at rest.
    pub pool: Pool,
    /// The lists of requests that have ended, for the next ones: never more than there are connections, and one.
    pub lists: Vec<Vec<Box<Batch>>>,
    /// What this core says to others.
    pub mesh: Mesh,
    /// Draws jitter and hash keys.
    pub chance: Chance,
    /// The largest request that the endpoint has not called too large.
    pub request_bytes_max: usize,
}

/// How a request ended, for all of its batches.
pub enum RequestEnd<'a> {
    /// The service answered, an entry for each.
    Answered(Vec<EntryResult>),
    /// All failed alike.
    Failed(Trouble<'a>),
}

/// The least and the greatest hash key of a shard.
type Range = (HashKey, HashKey);

/// A stored aggregate whose placement only a newer map can decide.
struct Parked {
    batch: Box<Batch>,
    placement: Placement,
    stored: Arc<str>,
    attempt: Attempt,
}

/// State of one stream on one core.
pub struct Stream {
    /// Its number.
    pub id: StreamId,
    /// Its name.
    pub name: StreamName,
    /// This core's part in flushes.
    pub flush: Participant,
    /// What it adds to the metrics.
    pub measures: Measures,
    core: CoreId,
    config: Config,
    bounds: Bounds,
    backlog_max: Option<BacklogMax>,
    router: Router,
    distribution: Distribution,
    /// By index under the present map; those that had records here.
    shards: Vec<Option<Box<Shard>>>,
    collector: Collector,
    /// The shard that is relieved next of pressure.
    relieved: u32,
    /// Records passed to us by a core that had a newer map than ours, with its epoch and whether they were handed over.
    early: Vec<((u64, bool), Parcel)>,
    parked: Vec<Parked>,
    /// In an ordered stream only.
    order: Option<Order>,
    /// Requests under way.
    under_way: usize,
    outage: Outage,
    isolation: Isolation,
    due_alarm: Option<Alarm>,
    waiting_alarm: Option<Alarm>,
    stand_in_alarm: Option<Alarm>,
    map_wanted: bool,
    /// The service has called the stream missing: it may be another one now, with shards of the same ids.
    doubted: bool,
    /// Records are sent without a map since a moment ago.
    unmapped_news: bool,
    /// A record has come in whose flush has sealed already.
    late: bool,
    /// Why the latest listing of the shards failed.
    map_trouble: Option<Arc<str>>,
    closed: bool,
}

impl Stream {
    /// A stream without a map.
    pub fn new(core: CoreId, cores: u16, id: StreamId, name: StreamName, config: Config) -> Stream {
        Stream {
            id,
            name,
            flush: Participant::new(cores),
            measures: Measures::new(&config),
            core,
            bounds: Bounds::of(&config),
            backlog_max: BacklogMax::of(&config),
            order: config.ordered.then(|| Order::new(core, cores)),
            config,
            router: Router::new(core),
            distribution: Distribution::new(cores),
            shards: Vec::new(),
            collector: Collector::default(),
            relieved: 0,
            early: Vec::new(),
            parked: Vec::new(),
            under_way: 0,
            outage: Outage::default(),
            isolation: Isolation::default(),
            due_alarm: None,
            waiting_alarm: None,
            stand_in_alarm: None,
            map_wanted: false,
            doubted: false,
            unmapped_news: false,
            late: false,
            map_trouble: None,
            closed: false,
        }
    }

    /// The shard's state, made when it is first needed.
    fn shard_entry(&mut self, now: Time, index: ShardIndex) -> &mut Shard {
        // Whose limits a range of the hash space shares is not known.
        let unknown = self.router.has_stand_in() || self.distribution.managed;
        let rate_limit = if unknown { RateLimit::Off } else { self.config.rate_limit };
        let router = &self.router;
        self.shards[index.index()].get_or_insert_with(|| {
            let map = router.map().expect("an index was predicted under a map, and a map is never lost");
            Box::new(Shard::new(Arc::clone(&map.shard(index).id), Limiter::new(rate_limit, now)))
        })
    }

    fn collector_wait(&self) -> Duration {
        // Without aggregation the collector does all the batching: records wait there until their deadline.
        let aggregates = self.bounds.aggregates && !self.router.has_stand_in();
        if aggregates { collector_wait(self.bounds.buffered_time) } else { self.bounds.buffered_time }
    }

    fn enqueue(&mut self, now: Time, index: ShardIndex, batch: Box<Batch>, common: &mut Common) {
        let send_by = batch.deadline.min(now + self.collector_wait());
        self.enqueue_by(now, index, batch, send_by, common);
    }

    fn enqueue_by(&mut self, now: Time, index: ShardIndex, batch: Box<Batch>, send_by: Time, common: &mut Common) {
        let Some(shard) = self.shards[index.index()].as_deref_mut() else { return };
        let (size, expiration) = (batch.size(), batch.expiration);
        shard.enqueue(batch, send_by);
        set_earlier(&mut shard.expire_alarm, expiration, Timer::Expire(self.id, index), common);
        if shard.listed {
            self.collector.grew(now, &self.config, 1, size, send_by);
        } else {
            self.list(now, index);
        }
    }

    /// Lists a shard that has something to send and may send it.
    fn list(&mut self, now: Time, index: ShardIndex) {
        let Some(shard) = self.shards[index.index()].as_deref_mut() else { return };
        let Some(front) = shard.front() else { return };
        let waits = self.order.is_some() && shard.in_flight > 0 && !planted(Mistake::OrderedTwoUnderWay);
        if shard.listed || shard.hold_alarm.is_some() || shard.held_back || waits {
            return;
        }
        let (count, bytes, send_by) = (shard.queued(), shard.queued_bytes(), front.send_by);
        shard.listed = true;
        self.collector.list(index);
        self.collector.grew(now, &self.config, count, bytes, send_by);
    }

    /// From when a request of this stream is due; never, if there is nothing to send.
    pub fn due(&self) -> Time {
        self.collector.due().max(self.outage.opens(self.under_way > 0)).max(self.distribution.tokens_at)
    }

    /// Sets the alarm for when a request is due.
    pub fn arm(&mut self, now: Time, common: &mut Common) {
        let due = self.due();
        match self.due_alarm {
            Some(alarm) if alarm.at == due => {}
            _ => {
                cancel(&mut self.due_alarm, common);
                if due > now && due != Time::NEVER {
                    set_earlier(&mut self.due_alarm, due, Timer::Due, common);
                }
            }
        }
    }

    /// A timer of this stream has fired.
    pub fn fire(&mut self, now: Time, timer: Timer, common: &mut Common) {
        match timer {
            Timer::Seal(_, index) => {
                if let Some(Some(shard)) = self.shards.get_mut(index.index()) {
                    shard.seal_alarm = None;
                    if let Some(batch) = shard.aggregator.seal(&mut common.pool) {
                        self.enqueue(now, index, batch, common);
                    }
                }
            }
            Timer::Release(_, index) => {
                if let Some(Some(shard)) = self.shards.get_mut(index.index()) {
                    shard.hold_alarm = None;
                    self.list(now, index);
                }
            }
            Timer::Expire(_, index) => {
                if let Some(Some(shard)) = self.shards.get_mut(index.index()) {
                    shard.expire_alarm = None;
                    self.expire_queued(now, index, common);
                }
            }
            Timer::ExpireWaiting(_) => {
                self.waiting_alarm = None;
                self.expire_waiting(now, common);
            }
            Timer::StandIn(_) => {
                self.stand_in_alarm = None;
                self.do_without_map(now, common);
                self.unmapped_news = self.router.has_stand_in();
            }
            Timer::Due => {}
        }
    }

    /// Whether what is open is to be sealed now for a flush: its round is complete, or records of it have come late.
    pub fn should_seal(&mut self) -> bool {
        let late = std::mem::take(&mut self.late);
        self.flush.should_seal(self.core.index()) || late
    }

    /// Seals every open aggregate, to be sent at once, and lets nothing queued wait for companions.
    pub fn seal_all(&mut self, now: Time, common: &mut Common) {
        for index in (0..self.shards.len() as u32).map(ShardIndex) {
            self.seal_now(now, index, common);
            // One request may not hold it all, and what is left must not wait again.
            if let Some(shard) = self.shards[index.index()].as_deref_mut() {
                shard.hurry(now);
            }
        }
        self.collector.grew(now, &self.config, 0, 0, now);
    }

    /// Callers wait for credit, or little is left: nothing that could be sent waits for company any more.
    ///
    /// Only settled records make room. What is queued leaves as soon as it may, and so does the open aggregate of a shard
    /// that has nothing under way. That of another shard stays open: it would only stand behind what is under way, and
    /// in its stead there would be more and smaller aggregates, each with its cost, just when there is most to do. It is
    /// sealed when the shard's last request has ended, if there is pressure still, and at its deadline in any case. So
    /// where everything is open or queued, the next turn sends, and something is always under way until there is room.
    ///
    /// For the same reason it goes through the shards in turn, and only until there is enough for a request: with
    /// thousands of them, each would send an aggregate as soon as that has a record or two.
    pub fn relieve(&mut self, now: Time, common: &mut Common) {
        let shards = self.shards.len() as u32;
        for _ in 0..shards {
            if self.collector.has_enough(&self.config) {
                break;
            }
            let index = ShardIndex(self.relieved % shards);
            self.relieved = (index.0 + 1) % shards;
            let Some(shard) = self.shards[index.index()].as_deref_mut() else { continue };
            if shard.is_quiet() {
                self.seal_now(now, index, common);
                continue;
            }
            shard.hurry(now);
            if shard.listed {
                self.collector.grew(now, &self.config, 0, 0, now);
            }
        }
    }

    fn seal_now(&mut self, now: Time, index: ShardIndex, common: &mut Common) {
        let Some(shard) = self.shards[index.index()].as_deref_mut() else { return };
        if let Some(batch) = shard.aggregator.seal(&mut common.pool) {
            cancel(&mut shard.seal_alarm, common);
            self.enqueue_by(now, index, batch, now, common);
        }
    }

    /// Whether a newer map is wanted. True once, until another reason comes up.
    pub fn take_map_wanted(&mut self) -> bool {
        std::mem::take(&mut self.map_wanted) && self.config.shard_map != ShardMapPolicy::Unknown
    }

    /// Whether records are sent without a map from now on. True once.
    pub fn take_unmapped_news(&mut self) -> bool {
        std::mem::take(&mut self.unmapped_news)
    }

    /// Arrival of the oldest record here that is not in a request.
    pub fn oldest(&mut self) -> Option<Time> {
        let waiting = self.router.waiting().iter().filter_map(Parcel::oldest).min();
        let early = self.early.iter().filter_map(|(_, parcel)| parcel.oldest());
        let ordered = self.order.iter().flat_map(Order::parcels).filter_map(Parcel::oldest);
        let batches = self.shards.iter().flatten().flat_map(|shard| shard.batches());
        let parked = self.parked.iter().map(|parked| &*parked.batch);
        batches.chain(parked).map(|batch| batch.arrivals.oldest()).chain(waiting).chain(early).chain(ordered).min()
    }
}

fn set_earlier(alarm: &mut Option<Alarm>, at: Time, timer: Timer, common: &mut Common) {
    if alarm.is_some_and(|alarm| alarm.at <= at) {
        return;
    }
    cancel(alarm, common);
    *alarm = Some(Alarm { at, id: common.wheel.insert(at, timer) });
}

fn cancel(alarm: &mut Option<Alarm>, common: &mut Common) {
    if let Some(alarm) = alarm.take() {
        common.wheel.cancel(alarm.id);
    }
}
