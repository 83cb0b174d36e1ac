//! The timeline of a run: shards that are split and merged, and the endpoint that is killed, while records are put.
//!
//! ```text
//!   lanes start ──▶ 2s: split ──▶ 5s: merge ──▶ 6s: kill … back ──▶ lanes have put everything: whatever is left is late
//! ```
//!
//! A *split* takes the widest open shard at its middle, a *merge* the two neighbours that are narrowest together, so that a
//! stream of splits and merges keeps its shards about equally wide. What the endpoint refuses because it is still busy with
//! the last change is asked again for some seconds; a refusal for good, or a moment that never came, ends the run badly.
//!
//! All of it runs on a thread of its own, through AWS's client.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::types::ScalingType;
use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::attribution::Injected;
use crate::clock::Clock;
use crate::deaggregate::HashRange;
use crate::endpoint_child::EndpointChild;
use crate::stream::{Service, Shard, StreamFault, shards};
use crate::workload::mix;

/// How often a change is asked for that the endpoint refuses for the moment.
const TRIES_MAX: u32 = 40;
/// How long to wait between.
const TRY_AGAIN: Duration = Duration::from_millis(250);
/// Bounds of the time between two changes that are drawn.
const DRAWN_MS: (u64, u64) = (700, 2000);

/// A change of the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Split,
    Merge,
    /// Twice as many shards, by UpdateShardCount.
    Double,
    /// Half as many.
    Halve,
}

impl Change {
    /// All of them.
    pub const ALL: [Change; 4] = [Change::Split, Change::Merge, Change::Double, Change::Halve];

    /// As users write it.
    pub fn name(self) -> &'static str {
        match self {
            Change::Split => "split",
            Change::Merge => "merge",
            Change::Double => "double",
            Change::Halve => "halve",
        }
    }
}

/// What is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Reshard(Change),
    /// The endpoint is killed, and comes back after this time.
    Kill(Duration),
}

impl Event {
    fn describe(self) -> String {
        match self {
            Event::Reshard(change) => format!("--reshard {}", change.name()),
            Event::Kill(_) => "--kill".to_owned(),
        }
    }
}

/// What is to happen, and when, from the first put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// In the order of time.
    pub events: Vec<(Duration, Event)>,
    /// The seed of changes that come besides, as long as records are put.
    pub drawn: Option<u64>,
}

/// A change that was made.
#[derive(Clone, Debug)]
pub struct Resharded {
    pub change: Change,
    /// When, from the first put.
    pub at: Duration,
    /// The same on the clock of the run.
    pub at_ns: u64,
    /// The hash keys that it concerned.
    pub touched: HashRange,
    /// ListShards calls that others had made before, if the endpoint tells.
    pub list_calls: Option<u64>,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Happened {
    pub reshards: Vec<Resharded>,
    pub kills: u64,
    /// What had struck before a kill made the endpoint forget it.
    pub forgotten: Injected,
    /// What could not happen.
    pub fault: Option<String>,
}

/// Who makes it happen.
pub struct Timekeeper<'t> {
    service: &'t Service,
    child: Option<&'t EndpointChild>,
    stream: &'t str,
    timeline: &'t Timeline,
    /// Lists of shards that were asked for here. Written and read by the one thread that runs this.
    own_list_calls: AtomicU64,
}

impl<'t> Timekeeper<'t> {
    pub fn new(
        service: &'t Service,
        child: Option<&'t EndpointChild>,
        stream: &'t str,
        timeline: &'t Timeline,
    ) -> Timekeeper<'t> {
        Timekeeper { service, child, stream, timeline, own_list_calls: AtomicU64::new(0) }
    }

    /// Whether nothing is to happen.
    pub fn is_idle(&self) -> bool {
        *self.timeline == Timeline::default()
    }

    /// Makes it happen, until everything has or `over` is dropped. It begins now.
    pub fn run(&self, clock: Clock, over: &Receiver<()>) -> Happened {
        let mut happened = Happened::default();
        let begun = clock.elapsed();
        for (at, event) in &self.timeline.events {
            let left = (begun + *at).saturating_sub(clock.elapsed());
            if over.recv_timeout(left) != Err(RecvTimeoutError::Timeout) {
                happened.fault = Some(format!("the run was over before its {} at {at:?}", event.describe()));
                return happened;
            }
            if let Err(fault) = self.make(*event, clock, begun, &mut happened) {
                happened.fault = Some(format!("{} at {at:?}: {fault}", event.describe()));
                return happened;
            }
        }
        if let Some(seed) = self.timeline.drawn {
            self.draw(seed, clock, begun, over, &mut happened);
        }
        happened
    }

    /// Splits and merges as the seed has it, within half and twice the shards that there are.
    fn draw(&self, seed: u64, clock: Clock, begun: Duration, over: &Receiver<()>, happened: &mut Happened) {
        let mut balance = 0;
        for turn in 0.. {
            let draw = mix(seed ^ mix(turn));
            let wait = Duration::from_millis(DRAWN_MS.0 + draw % (DRAWN_MS.1 - DRAWN_MS.0));
            if over.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let splits = if balance == 0 { draw >> 63 == 0 } else { balance < 0 };
            // Twice in a row now and then, so that children are split too.
            let splits = splits ^ ((draw >> 60) & 3 == 0 && (-2i32..=2).contains(&balance));
            let change = if splits { Change::Split } else { Change::Merge };
            match self.make(Event::Reshard(change), clock, begun, happened) {
                Ok(()) => balance += if splits { 1 } else { -1 },
                Err(fault) => {
                    happened.fault = Some(format!("a {} that was drawn: {fault}", change.name()));
                    return;
                }
            }
        }
    }

    fn make(&self, event: Event, clock: Clock, begun: Duration, happened: &mut Happened) -> Result<(), String> {
        match event {
            Event::Reshard(change) => {
                let (touched, list_calls) = self.reshard(change).map_err(|fault| fault.to_string())?;
                let at_ns = clock.now_ns();
                let at = Duration::from_nanos(at_ns).saturating_sub(begun);
                happened.reshards.push(Resharded { change, at, at_ns, touched, list_calls });
            }
            Event::Kill(down) => {
                let child = self.child.ok_or("there is no child to kill")?;
                let stats = child.stats().map_err(|error| error.to_string())?;
                for (kind, count) in stats.faults {
                    *happened.forgotten.struck.entry(kind).or_default() += count;
                }
                child.kill().map_err(|error| error.to_string())?;
                rest(down);
                child.revive().map_err(|error| error.to_string())?;
                happened.kills += 1;
            }
        }
        Ok(())
    }

    /// ListShards calls that were not made here, if the endpoint tells.
    pub fn list_calls(&self) -> Option<u64> {
        let calls = self.child?.stats().ok()?.calls.get("ListShards").copied().unwrap_or(0);
        // Relaxed: one thread at a time.
        Some(calls.saturating_sub(self.own_list_calls.load(Ordering::Relaxed)))
    }

    /// Makes a change; what it concerned, and the ListShards calls before it.
    fn reshard(&self, change: Change) -> Result<(HashRange, Option<u64>), StreamFault> {
        let mut tries = 1;
        loop {
            let error = match self.try_reshard(change) {
                Err(Refused::ForNow(_)) if tries < TRIES_MAX => None,
                Err(Refused::ForNow(error) | Refused::ForGood(error)) => Some(error),
                Ok(done) => return Ok(done),
            };
            if let Some(error) = error {
                return Err(error);
            }
            tries += 1;
            rest(TRY_AGAIN);
        }
    }

    fn try_reshard(&self, change: Change) -> Result<(HashRange, Option<u64>), Refused> {
        let (client, stream) = (&self.service.client, self.stream);
        // Relaxed, as its partner in `list_calls`.
        self.own_list_calls.fetch_add(1, Ordering::Relaxed);
        let listed = self.service.runtime.block_on(shards(client, stream)).map_err(Refused::ForNow)?;
        let mut open: Vec<&Shard> = listed.iter().filter(|shard| shard.open).collect();
        open.sort_by_key(|shard| shard.range.first);
        let list_calls = self.list_calls();
        let impossible = |why: &str| Refused::ForGood(StreamFault::new(change.name(), stream, why));
        let everything = HashRange { first: 0, last: u128::MAX };
        let touched = match change {
            Change::Split => {
                let shard = widest(&open).ok_or_else(|| impossible("there is no open shard"))?;
                let HashRange { first, last } = shard.range;
                if first == last {
                    return Err(impossible("the widest shard holds one hash key"));
                }
                let start = first + (last - first) / 2 + 1;
                let request = client.split_shard().stream_name(stream).shard_to_split(&shard.id);
                let request = request.new_starting_hash_key(start.to_string());
                self.ask(change, request.send())?;
                shard.range
            }
            Change::Merge => {
                let (left, right) = narrowest(&open).ok_or_else(|| impossible("no two open shards are neighbours"))?;
                let request = client.merge_shards().stream_name(stream).shard_to_merge(&left.id);
                self.ask(change, request.adjacent_shard_to_merge(&right.id).send())?;
                HashRange { first: left.range.first, last: right.range.last }
            }
            Change::Double | Change::Halve => {
                let count = if change == Change::Double { open.len() * 2 } else { open.len().div_ceil(2) };
                let request = client.update_shard_count().stream_name(stream).target_shard_count(count as i32);
                self.ask(change, request.scaling_type(ScalingType::UniformScaling).send())?;
                everything
            }
        };
        Ok((touched, list_calls))
    }

    fn ask<T, E>(&self, change: Change, request: impl Future<Output = Result<T, SdkError<E>>>) -> Result<(), Refused>
    where
        E: std::error::Error + ProvideErrorMetadata + 'static,
    {
        self.service.runtime.block_on(request).map(drop).map_err(|error| {
            let busy = ["ResourceInUseException", "LimitExceededException"].map(Some).contains(&error.code());
            // Without a word of the service, as in an outage, the next try may do better; if this one was heard after
            // all, it finds other shards.
            let unheard = error.code().is_none();
            let fault = StreamFault::of_client(change.name(), self.stream, error);
            if busy || unheard { Refused::ForNow(fault) } else { Refused::ForGood(fault) }
        })
    }
}

/// Why a change was not made.
enum Refused {
    ForNow(StreamFault),
    ForGood(StreamFault),
}

/// Lets time go by.
fn rest(time: Duration) {
    let clock = Clock::start();
    while let Some(left) = time.checked_sub(clock.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

fn width(shard: &Shard) -> u128 {
    shard.range.last - shard.range.first
}

fn widest<'s>(open: &[&'s Shard]) -> Option<&'s Shard> {
    open.iter().copied().max_by_key(|shard| width(shard))
}

/// The two neighbours that are narrowest together, of shards in the order of their ranges.
fn narrowest<'s>(open: &[&'s Shard]) -> Option<(&'s Shard, &'s Shard)> {
    let pairs = open.windows(2).map(|pair| (pair[0], pair[1]));
    let neighbours = pairs.filter(|(left, right)| left.range.last.checked_add(1) == Some(right.range.first));
    neighbours.min_by_key(|(left, right)| right.range.last - left.range.first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(id: &str, first: u128, last: u128) -> Shard {
        Shard { id: id.to_owned(), range: HashRange { first, last }, open: true, parents: Vec::new() }
    }

    #[test]
    fn the_widest_is_split_and_the_narrowest_neighbours_are_merged() {
        let all = [shard("a", 0, 99), shard("b", 100, 119), shard("c", 120, 149), shard("d", 200, 201)];
        let open: Vec<&Shard> = all.iter().collect();
        assert_eq!(widest(&open).map(|shard| &*shard.id), Some("a"));
        assert_eq!(
            narrowest(&open).map(|(left, right)| (&*left.id, &*right.id)),
            Some(("b", "c")),
            "d is no neighbour"
        );
        assert!(narrowest(&open[..1]).is_none());
    }
}
