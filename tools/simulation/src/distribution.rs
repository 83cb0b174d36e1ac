//! Streams whose records the service distributes itself: how the simulated producer is configured for them, and when its
//! control thread asks for a stream's description.
//!
//! ```text
//!   first list, or suspected, or AUTO so far ─▶ described: yes │ no │ refused ─▶ goes out with the map
//! ```
//!
//! As the shipped one does, it asks beside a list, goes by a suspicion alone where it gets no answer, and asks again after a
//! while as long as the stream counts as AUTO, so that it can go back.

use std::time::Duration;

use kpl::config::RecordDistribution;
use kpl::time::Time;

use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::world::{Event, World};

/// What becomes of who asks for a stream's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Describes {
    /// It is given.
    Always,
    /// Every second time.
    Sometimes,
    /// It is refused.
    Never,
}

/// What the control thread knows of a stream.
#[derive(Default)]
pub struct Known {
    /// The service distributes the records.
    pub managed: bool,
    /// A core suspects that.
    suspected: bool,
    /// Nobody need ask without a reason.
    answered: bool,
    /// Suspicions without an answer.
    suspicions: u32,
    /// How often somebody asked.
    asked: u32,
}

/// After so long an AUTO stream is looked at again. In the shipped producer that is the map's refresh.
const REFRESH: Duration = Duration::from_secs(5);

/// Seeds of 10 000 with a long time of AUTO, where nobody judges lateness.
const LONG: u32 = 1500;

/// Draws who may describe streams, and how each is configured. Its draws come last, so that they change no others.
pub fn draw(plan: &mut Scenario, rng: &mut Rng) {
    use RecordDistribution::{Auto, Detect, UserKey};
    if !plan.judges_lateness() && !plan.dead_shard && rng.chance(LONG) {
        draw_long(plan, rng);
    }
    plan.describes = rng.pick(&[Describes::Always, Describes::Always, Describes::Sometimes, Describes::Never]);
    // Where it is Auto nobody can tell a shard's part from outside.
    let told_apart = plan.dead_shard || plan.config.shard_backlog_max.is_some();
    for (index, stream) in plan.streams.iter_mut().enumerate() {
        let auto = plan.autos.iter().any(|(of, ..)| *of == index);
        let drawn = rng.pick(&[Auto, UserKey, Detect, Detect, Detect, Detect, Detect, Detect]);
        let apart = drawn == Auto && (told_apart || stream.config.ordered);
        stream.config.record_distribution =
            if apart || (drawn == Auto && !auto && rng.chance(5000)) { Detect } else { drawn };
    }
}

/// A time of AUTO that lasts, of a stream that has no order to keep.
fn draw_long(plan: &mut Scenario, rng: &mut Rng) {
    let unordered = plan.streams.iter().position(|stream| !stream.config.ordered);
    let puts = plan.submitters.iter().map(|submitter| submitter.puts).max().unwrap_or(0) as u64;
    let span_us = plan.pause_us / 2 * puts / (plan.burst / 2 + 1) + 100_000;
    let begin = Time::ZERO + rng.micros(0, span_us);
    let end = begin + rng.micros(span_us / 4, span_us * 2);
    plan.autos.extend(unordered.map(|stream| (stream, begin, end)));
}

impl World {
    /// A core suspects that the service distributes a stream's records.
    pub(crate) fn suspected(&mut self, stream: usize) {
        self.trace.say(self.now, format_args!("stream {stream} is suspected to be AUTO"));
        let known = &mut self.listings[stream].known;
        if !known.managed {
            known.suspected = true;
            self.list_wanted(stream);
        }
    }

    /// Asks for a stream's description, if there is a reason to.
    pub(crate) fn describe(&mut self, stream: usize) {
        let config = &self.plan.streams[stream].config;
        // To who keeps order it matters most: somebody has seen to the permission.
        let describes = if config.ordered { Describes::Always } else { self.plan.describes };
        let detects = config.record_distribution == RecordDistribution::Detect;
        let (auto, known) = (self.streams[stream].auto.is_some(), &mut self.listings[stream].known);
        if !detects || (known.answered && !known.suspected && !known.managed) {
            return;
        }
        known.asked += 1;
        let answers = match describes {
            Describes::Always => true,
            Describes::Sometimes => known.asked.is_multiple_of(2),
            Describes::Never => false,
        };
        let suspected = std::mem::take(&mut known.suspected);
        known.answered |= answers || describes == Describes::Never;
        known.suspicions = if answers { 0 } else { known.suspicions + u32::from(suspected) };
        known.managed = if answers { auto } else { known.managed || known.suspicions >= 2 };
        let managed = known.managed;
        if managed {
            self.checker.scattered.insert(stream);
            self.schedule(self.now + REFRESH, Event::Refresh(stream));
        }
    }

    /// Looks at an AUTO stream again.
    pub(crate) fn refresh(&mut self, stream: usize) {
        let listing = &mut self.listings[stream];
        if !self.closing && listing.known.managed && !std::mem::replace(&mut listing.under_way, true) {
            self.schedule(self.now, Event::List(stream));
        }
    }
}
