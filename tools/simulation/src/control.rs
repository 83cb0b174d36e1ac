//! The control thread of the simulated producer: lists shards when a core wants it, and tells every core the map.
//!
//! It does what the shipped one does: it gives up for a while where it is refused, tries again with a backoff where it
//! failed or where what came is no map, keeps the old map meanwhile, and says so. A list that tells nothing new, though it
//! was wanted, makes it wait before the next; so many cores that are surprised at once cost few lists. It may see an older state of the stream.

use std::sync::Arc;
use std::time::Duration;

use kpl::engine::{MapError, ShardInfo, ShardMap};
use kpl::record::HashKey;
use kpl::time::Time;

use crate::driver::Input;
use crate::faults::Kind;
use crate::world::{Event, World};

/// How old a list may be that the service gives.
const STALENESS_MAX: Duration = Duration::from_millis(800);

/// For how long a list that forgets closed shards still tells of them, at most, in microseconds.
const RETENTION_US_MAX: u64 = 2_000_000;

/// How late a map may be at a core, in microseconds.
pub const MAP_LATE_US_MAX: u64 = 4_000_000;

/// First and longest delay until the shards are listed again that could not be listed.
const LIST_AGAIN: Duration = Duration::from_millis(100);
/// See above.
pub const LIST_AGAIN_MAX: Duration = Duration::from_secs(5);

/// When the shards are listed again that may not be listed: somebody grants the permission.
const PERMITTED_IN: Duration = Duration::from_secs(1);

impl World {
    /// A core wants the shards of a stream listed.
    pub(crate) fn list_wanted(&mut self, stream: usize) {
        self.listings[stream].wanted += 1;
        if !std::mem::replace(&mut self.listings[stream].under_way, true) {
            let delay = self.rng.micros(2_000, 50_000);
            self.schedule((self.now + delay).max(self.listings[stream].heed_at), Event::List(stream));
        }
    }

    /// The answer of ListShards.
    pub(crate) fn list(&mut self, stream: usize) {
        self.listings[stream].made += 1;
        if self.faults.strikes(Kind::ListFailed) {
            return self.list_again(stream);
        }
        if self.faults.strikes(Kind::ListRefused) {
            return self.list_refused(stream, PERMITTED_IN);
        }
        if !self.streams[stream].is_there() {
            return self.list_missing(stream);
        }
        self.describe(stream);
        match self.built(stream) {
            Ok(map) => self.publish(stream, Arc::new(map)),
            Err(error) => {
                self.trace.say(self.now, format_args!("the list of stream {stream} is no map: {error}"));
                self.list_again(stream);
            }
        }
    }

    /// The shards cannot be listed, and trying again will not help before some time has passed.
    fn list_refused(&mut self, stream: usize, again_in: Duration) {
        self.trace.say(self.now, format_args!("listing stream {stream} is refused"));
        for core in 0..self.nodes.len() {
            self.schedule(self.now, Event::Tell(core, Input::Refused(stream)));
        }
        self.schedule(self.now + again_in, Event::List(stream));
    }

    /// There is no such stream. One that was known may be about to be made anew.
    fn list_missing(&mut self, stream: usize) {
        self.listings[stream].failures += 1;
        let soon = self.list_delay(self.listings[stream].failures);
        let again_in = if self.listings[stream].map.is_some() { soon } else { LIST_AGAIN_MAX };
        for core in 0..self.nodes.len() {
            self.schedule(self.now, Event::Tell(core, Input::Missing(stream)));
        }
        self.list_refused(stream, again_in);
    }

    /// The old map stays; the cores are told, and the shards listed again.
    fn list_again(&mut self, stream: usize) {
        self.listings[stream].failures += 1;
        let delay = self.list_delay(self.listings[stream].failures);
        for core in 0..self.nodes.len() {
            self.schedule(self.now, Event::Tell(core, Input::MapFailed(stream)));
        }
        self.schedule(self.now + delay, Event::List(stream));
    }

    /// How long to wait after so many failures in a row, or lists in vain.
    fn list_delay(&mut self, count: u32) -> Duration {
        let longest = (LIST_AGAIN * 2u32.saturating_pow(count.saturating_sub(1).min(10))).min(LIST_AGAIN_MAX);
        longest.mul_f64(0.75 + self.rng.index(512) as f64 / 1024.0)
    }

    /// What the service lists, as a map.
    fn built(&mut self, stream: usize) -> Result<ShardMap, MapError> {
        let age = if self.faults.strikes(Kind::ListStale) { STALENESS_MAX } else { Duration::ZERO };
        let at = self.now - age;
        let mut open = self.streams[stream].list(at);
        self.distort(&mut open);
        let retention = if self.faults.strikes(Kind::ListForgets) {
            self.faults.rng().micros(0, RETENTION_US_MAX)
        } else {
            at.since(Time::ZERO)
        };
        let closed = self.streams[stream].list_closed(at - retention, at);
        let previous = self.listings[stream].map.as_deref();
        let epoch = previous.map_or(1, |map| map.epoch + 1);
        let managed = self.listings[stream].known.managed;
        let cores = self.nodes.len() as u16;
        if previous.is_some() && self.faults.strikes(Kind::Reowned) {
            let drawn = reowned(&mut open, cores, self.faults.rng().next())?;
            let map = ShardMap::build(epoch, open, cores, Some(&drawn))?;
            return Ok(map.with_closed(closed).with_service_managed(managed));
        }
        Ok(ShardMap::build(epoch, open, cores, previous)?.with_closed(closed).with_service_managed(managed))
    }

    /// Makes a list one that is no map, as a service may show in the middle of a reshard.
    fn distort(&mut self, open: &mut Vec<ShardInfo>) {
        if self.faults.strikes(Kind::ListEmpty) {
            return open.clear();
        }
        let place = self.faults.rng().index(open.len());
        if self.faults.strikes(Kind::ListGap) {
            open.remove(place);
        } else if self.faults.strikes(Kind::ListOverlap) {
            let ShardInfo { first, last, .. } = open[place];
            let half = HashKey(first.0 + (last.0 - first.0) / 2);
            open.push(ShardInfo { id: "shardId-888888888888".into(), first: half, last, parents: [None, None] });
        }
    }

    fn publish(&mut self, stream: usize, map: Arc<ShardMap>) {
        let listing = &mut self.listings[stream];
        let same =
            |old: &ShardMap| old.shards() == map.shards() && old.is_service_managed() == map.is_service_managed();
        let changed = !listing.map.as_deref().is_some_and(same);
        listing.vain = if changed { 0 } else { listing.vain + 1 };
        let heed_at = self.now + self.list_delay(self.listings[stream].vain);
        let listing = &mut self.listings[stream];
        (listing.under_way, listing.failures, listing.heed_at) = (false, 0, heed_at);
        listing.map = Some(Arc::clone(&map));
        listing.created.push(self.streams[stream].created);
        if self.plan.outage.is_some() {
            self.checker.reowned(self.now, stream, |hash| map.shard(map.predict(HashKey(hash))).owner.index());
        }
        self.trace.say(self.now, format_args!("stream {stream} has map {} of {} shards", map.epoch, map.len()));
        // A map that came after its stream's deletion would end a doubt of which it knows nothing. The shipped control thread
        // is not so slow.
        let until = self.now + Duration::from_micros(MAP_LATE_US_MAX);
        let ends_soon =
            self.plan.recreations.iter().any(|(of, begin, _)| *of == stream && (self.now..=until).contains(begin));
        for core in 0..self.nodes.len() {
            let late = self.faults.strikes(Kind::MapLate) && !ends_soon;
            let delay = if late { self.faults.rng().micros(0, MAP_LATE_US_MAX) } else { self.rng.micros(0, 100) };
            let mut at = self.now + delay;
            if self.plan.streams[stream].config.ordered {
                // In ordered mode every core is told every map, in the order of their epochs.
                let told = &mut self.listings[stream].told[core];
                at = at.max(*told);
                *told = at;
            }
            self.schedule(at, Event::Tell(core, Input::Map(stream, Arc::clone(&map))));
        }
    }
}

/// A map of the same ranges under other names, from which the shards in `open` inherit other owners: a shard keeps its
/// core for life, so they are made children of these.
fn reowned(open: &mut [ShardInfo], cores: u16, salt: u64) -> Result<ShardMap, MapError> {
    let renamed = |shard: &ShardInfo| ShardInfo { id: format!("{salt:x}-{}", shard.id).into(), ..shard.clone() };
    let drawn = ShardMap::build(1, open.iter().map(renamed).collect(), cores, None)?;
    for shard in open {
        shard.parents[0] = Some(renamed(shard).id);
    }
    Ok(drawn)
}
