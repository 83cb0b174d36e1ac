//! The control thread of the simulated producer: lists shards when a core wants it, and tells every core the map.
//!
//! It gives up for a while where it is refused, tries again where it failed, and may see an older state of the stream.

use std::sync::Arc;
use std::time::Duration;

use kpl::engine::ShardMap;
use kpl::time::Time;

use crate::driver::Input;
use crate::faults::Kind;
use crate::world::{Event, World};

/// How old a list may be that the service gives.
const STALENESS_MAX: Duration = Duration::from_millis(800);

/// How late a map may be at a core, in microseconds.
const MAP_LATE_US_MAX: u64 = 4_000_000;

impl World {
    /// A core wants the shards of a stream listed.
    pub(crate) fn list_wanted(&mut self, stream: usize) {
        if !std::mem::replace(&mut self.listings[stream].under_way, true) {
            let delay = self.rng.micros(2_000, 50_000);
            self.schedule(self.now + delay, Event::List(stream));
        }
    }

    /// The answer of ListShards.
    pub(crate) fn list(&mut self, stream: usize) {
        if self.faults.strikes(Kind::ListFailed) {
            let delay = self.rng.micros(50_000, 1_000_000);
            return self.schedule(self.now + delay, Event::List(stream));
        }
        if self.faults.strikes(Kind::ListRefused) {
            self.trace.say(self.now, format_args!("listing stream {stream} is refused"));
            for core in 0..self.nodes.len() {
                self.schedule(self.now, Event::Tell(core, Input::Refused(stream)));
            }
            // Somebody grants the permission.
            return self.schedule(self.now + Duration::from_secs(1), Event::List(stream));
        }
        let age = if self.faults.strikes(Kind::ListStale) { STALENESS_MAX } else { Duration::ZERO };
        let open = self.streams[stream].list(self.now - age);
        let listing = &mut self.listings[stream];
        listing.under_way = false;
        let previous = listing.map.as_deref();
        let epoch = previous.map_or(1, |map| map.epoch + 1);
        let inherited = if previous.is_some() && self.faults.strikes(Kind::Reowned) { None } else { previous };
        let built = ShardMap::build(epoch, open, self.nodes.len() as u16, inherited);
        let map = Arc::new(built.expect("the service lists what covers the hash space"));
        listing.map = Some(Arc::clone(&map));
        self.trace.say(self.now, format_args!("stream {stream} has map {epoch} of {} shards", map.len()));
        for core in 0..self.nodes.len() {
            let late = self.faults.strikes(Kind::MapLate);
            let delay = if late { self.faults.rng().micros(0, MAP_LATE_US_MAX) } else { self.rng.micros(0, 100) };
            self.schedule(self.now + delay, Event::Tell(core, Input::Map(stream, Arc::clone(&map))));
        }
    }

    /// A shard is split, or two are merged; whether we hear of it at once is chance.
    pub(crate) fn reshard(&mut self, stream: usize) {
        self.faults.counts[Kind::Reshard as usize] += 1;
        let done = self.streams[stream].reshard(self.now, &mut self.rng);
        self.trace.say(self.now, format_args!("stream {stream} {done}"));
        let heard = self.now + self.rng.micros(0, 300_000);
        if self.rng.chance(5000) && self.now > Time::ZERO {
            self.listings[stream].under_way = true;
            self.schedule(heard, Event::List(stream));
        }
    }
}
