//! What turns against the producer at planned moments, and how it turns back: outages, service-managed distribution, and
//! the moment at which all faults heal.
//!
//! ```text
//!   faults strike ──heal──▶ nothing new goes wrong ──what was under way ends──▶ steady: the backlog must drain (I18)
//! ```

use std::time::Duration;

use crate::control::{LIST_AGAIN_MAX, MAP_LATE_US_MAX};
use crate::drain::Drain;
use crate::driver::Input;
use crate::network::APPLIED_LATE_US_MAX;
use crate::promise::Promise;
use crate::signer::REMEDY_US_MAX;
use crate::submitters::NOWHERE;
use crate::world::{Event, World};

/// How many times the fair number of requests a single outage may see, and how many more: luck, in short ones.
const OUTAGE_FACTOR: u64 = 3;
const OUTAGE_MORE: u64 = 20;

/// Records that each submitter puts after the world has become steady.
const PUTS_STEADY: usize = 20;

impl World {
    /// The service begins or ceases to place a stream's records by chance.
    pub(crate) fn distribute(&mut self, stream: usize, by_chance: bool) {
        self.trace.say(self.now, format_args!("stream {stream}: AUTO {by_chance}"));
        let chance = (by_chance && !self.healed).then(|| self.rng.fork());
        self.streams[stream].auto = chance;
    }

    /// An outage is over: the requests in it are counted (I17).
    pub(crate) fn outage_over(&mut self) {
        let Some(outage) = self.plan.outage else { return };
        let watch = &self.checker.watch;
        let fair_milli = watch.fair_milli(&outage, &self.plan.config, self.plan.round_trip_us, &mut self.outage_chance);
        let sent = watch.sent;
        self.in_outages.outages += 1;
        self.in_outages.sent += sent;
        self.in_outages.fair_milli += fair_milli;
        self.trace.say(self.now, format_args!("the outage is over after {sent} requests"));
        let loose = sent * 1000 <= OUTAGE_FACTOR * fair_milli + OUTAGE_MORE * 1000;
        self.checker.holds(Promise::I17, loose, || {
            format!("{sent} requests in an outage ({:?}), the fair number is {}", outage.kind, fair_milli / 1000)
        });
    }

    /// Nothing new goes wrong any more.
    pub(crate) fn heal(&mut self) {
        self.trace.say(self.now, format_args!("faults heal"));
        self.healed = true;
        self.faults.heal();
        for stream in &mut self.streams {
            stream.auto = None;
            stream.dead_shard = false;
        }
        (0..self.streams.len()).for_each(|stream| self.create_again(stream));
        // Somebody sees to credentials and clocks, also of cores that have not been refused. A core whose signer is right
        // hears nothing: it would ask at once, whatever it had made of the outage.
        for core in (0..self.nodes.len()).filter(|&core| self.signer.fault_of(core).is_some()).collect::<Vec<_>>() {
            let delay = self.rng.micros(0, REMEDY_US_MAX);
            self.schedule(self.now + delay, Event::Tell(core, Input::SignerChanged));
        }
        // What was sent has ended by then, and may have been applied later still; then maps are listed, are late, and
        // what was refused waits for its remedy.
        let late = Duration::from_micros(APPLIED_LATE_US_MAX.max(MAP_LATE_US_MAX) + REMEDY_US_MAX);
        let steady = self.now + self.longest_request() + late + LIST_AGAIN_MAX * 2;
        self.schedule(steady, Event::Steady);
    }

    /// All that went wrong has had its end.
    pub(crate) fn become_steady(&mut self) {
        self.trace.say(self.now, format_args!("all is steady"));
        self.steady = true;
        for index in 0..self.submitters.len() {
            if self.submitters[index].put_more(PUTS_STEADY) {
                let start = self.now + self.rng.micros(0, 1_000_000);
                self.schedule(start, Event::Put(index));
            }
        }
        if self.plan.capacity {
            return;
        }
        let round_trip = Duration::from_micros(self.plan.round_trip_us.1);
        let drain = Drain { steady: self.now, round_trip, body_limited: self.plan.body_max.is_some() };
        let streams = &self.streams;
        self.checker.faults_healed(self.now, drain, |draft| {
            draft.hash().and_then(|hash| streams[draft.stream].place_of(hash)).unwrap_or(NOWHERE)
        });
    }
}
