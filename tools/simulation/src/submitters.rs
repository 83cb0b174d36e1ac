//! Submitters: who puts, into rings of their own; they come and go.
//!
//! ```text
//!   opened ─▶ its core hears of its ring ─▶ bursts of puts ─▶ dropped, perhaps with records in the ring: the core drains
//!                                                              them, and unspent credit is free again
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use kpl::codec::{frame_len, write_frame};
use kpl::engine::Ticket;
use kpl::outcome::Settlement;
use kpl::record::{HashKey, Record, StreamId};
use kpl::ring::{Budget, Ledger, Purse, Slots};
use kpl::time::Time;

use crate::checker::Destination;
use crate::driver::Input;
use crate::faults::Canary;
use crate::promise::Promise;
use crate::rng::Rng;
use crate::scenario::{Scenario, SubmitterPlan};
use crate::source::{Draft, Source};
use crate::world::{Event, World};

/// A submitter and its ring.
pub struct Submitter {
    /// Its home core.
    pub home: usize,
    /// Whether its core has heard of its ring.
    pub heard: bool,
    /// Frames on their way to the core.
    pub ring: VecDeque<(Ticket, Vec<u8>)>,
    /// Bytes of them.
    pub ring_bytes: usize,
    /// Frames ever pushed and ever popped.
    pub pushed: u64,
    /// See `pushed`.
    pub popped: u64,
    /// What it puts with; nothing before it is opened, and when it was dropped.
    desk: Option<Desk>,
    source: Source,
    rng: Rng,
    /// Records that it will put.
    pub left: usize,
    leaves_after: Option<usize>,
    pending: Option<(u64, Draft)>,
}

/// What a submitter that is there has.
struct Desk {
    slots: Slots<Arc<Settlement>>,
    purse: Purse,
}

/// The place of a record whose shard is drawn by its core.
pub const NOWHERE: usize = usize::MAX;

/// After that nobody puts any more: with a small budget and many faults some would never come to an end.
const PUTS_END: Time = Time::from_nanos(1_000_000_000_000);

impl Submitter {
    /// A submitter that is not there yet.
    pub fn new(of: &SubmitterPlan, rng: &mut Rng, plan: &Scenario) -> Submitter {
        Submitter {
            home: of.home,
            heard: false,
            ring: VecDeque::new(),
            ring_bytes: 0,
            pushed: 0,
            popped: 0,
            desk: None,
            source: Source::new(rng.fork(), plan),
            rng: rng.fork(),
            left: of.puts,
            leaves_after: of.leaves_after,
            pending: None,
        }
    }

    /// Whether it will put.
    pub fn is_putting(&self) -> bool {
        self.left > 0 || self.pending.is_some()
    }

    /// It puts so many more. Answers whether it had ended, and is there.
    pub fn put_more(&mut self, puts: usize) -> bool {
        let idle = !self.is_putting();
        let there = self.desk.is_some();
        self.left += if there { puts } else { 0 };
        idle && there
    }

    /// It is dropped without a word: its unspent credit is lost.
    fn vanish(&mut self) {
        if let Some(Desk { purse, .. }) = self.desk.take() {
            std::mem::forget(purse);
        }
    }

    /// It is dropped: its unspent credit is free, what is in its ring stays there.
    pub fn leave(&mut self) {
        self.desk = None;
        (self.left, self.pending) = (0, None);
    }

    fn open(&mut self, ledger: &Arc<Ledger>, budget: &Arc<Budget>) {
        self.desk = Some(Desk { slots: Slots::new(Arc::clone(ledger)), purse: budget.purse() });
    }
}

impl World {
    /// A submitter is opened: its core is told of its ring before it can put.
    pub(crate) fn open_submitter(&mut self, index: usize) {
        if self.closing {
            return self.submitters[index].leave();
        }
        self.trace.say(self.now, format_args!("submitter {index} is opened"));
        self.submitters[index].open(&self.ledger, &self.budget);
        self.tell(self.submitters[index].home, Input::Ring(index));
        let flushed = self.plan.submitters[index].flushed;
        let start = if flushed { self.now } else { self.now + self.rng.micros(0, self.plan.pause_us) };
        self.schedule(start, Event::Put(index));
        if flushed {
            (0..self.open_streams).for_each(|stream| self.schedule(start, Event::Flush(stream)));
        }
    }

    /// A burst.
    pub(crate) fn put(&mut self, index: usize) {
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
        if submitter.leaves_after == Some(0) && submitter.desk.is_some() {
            if self.faults.planted(Canary::LosesCredit, 1) {
                submitter.vanish();
            }
            submitter.leave();
            let left = submitter.ring.len();
            self.trace.say(self.now, format_args!("submitter {index} is dropped with {left} records in its ring"));
        }
        let submitter = &mut self.submitters[index];
        if !self.closing && submitter.is_putting() {
            // Who was refused comes again, not at once.
            let refused = submitter.pending.is_some();
            let pause = submitter.rng.micros(0, if refused { 50_000 } else { self.plan.pause_us });
            self.schedule(self.now + pause, Event::Put(index));
        }
    }

    /// Puts one record. Answers whether it was taken.
    fn put_one(&mut self, index: usize) -> bool {
        let submitter = &mut self.submitters[index];
        // A stalled core may not have heard of any stream yet.
        if submitter.leaves_after == Some(0) || self.open_streams == 0 {
            return false;
        }
        if submitter.pending.is_none() && submitter.left > 0 {
            submitter.left -= 1;
            submitter.pending = Some((self.numbers, submitter.source.draw(self.numbers, self.open_streams)));
            self.numbers += 1;
        }
        let (Some((number, draft)), Some(desk)) = (submitter.pending.take(), &mut submitter.desk) else {
            return false;
        };
        let plain = if draft.unkeyed { Record::unkeyed(&draft.data) } else { Record::new(&draft.key, &draft.data) };
        let record = draft.explicit.map_or(plain, |explicit| plain.with_explicit_hash_key(HashKey(explicit)));
        let len = frame_len(&record);
        if submitter.ring_bytes + len > self.plan.ring_bytes || desk.purse.try_take(draft.size()).is_err() {
            submitter.pending = Some((number, draft));
            return false;
        }
        let mut frame = vec![0; len];
        write_frame(&mut frame, StreamId(draft.stream as u32), self.now, &record);
        let (ticket, handle) = desk.slots.take();
        let (size, stream) = (draft.size(), draft.stream);
        self.trace.say(self.now, format_args!("put {number} by {index}: stream {stream}, {size} bytes"));
        let destination = self.destination(&draft, self.submitters[index].home);
        self.checker.accept(number, draft, (index, destination), self.now, handle);
        let submitter = &mut self.submitters[index];
        submitter.ring.push_back((ticket, frame));
        submitter.ring_bytes += len;
        submitter.pushed += 1;
        submitter.leaves_after = submitter.leaves_after.map(|puts| puts - 1);
        let submitter = &mut self.submitters[index];
        let (home, tick) = (submitter.home, self.plan.tick.as_micros() as u64);
        let delay = submitter.rng.micros(1, tick.max(1));
        self.wake_at(home, self.now + delay);
        true
    }

    /// Where a record belongs, by the service's shards and the latest map; to its home core, as far as is known.
    fn destination(&self, draft: &Draft, home: usize) -> Destination {
        let Some(hash) = draft.hash() else { return Destination { place: NOWHERE, owner: home } };
        let map = self.listings[draft.stream].map.as_ref();
        let owner = map.map_or(home, |map| map.shard(map.predict(HashKey(hash))).owner.index());
        Destination { place: self.streams[draft.stream].place_of(hash).unwrap_or(NOWHERE), owner }
    }

    /// I15, where it can be told from outside what has reached a shard: on one core, between two cycles.
    pub(crate) fn check_backlog(&mut self) {
        let Some((most, most_bytes)) = self.plan.backlog_max().filter(|_| self.plan.cores == 1) else { return };
        let in_rings =
            self.submitters.iter().map(|submitter| submitter.pushed - submitter.popped).sum::<u64>() as usize;
        // What is in a ring has reached no shard yet; a shard that held nothing takes a record of any size.
        let kept = |(records, bytes): &(usize, usize)| {
            *records <= most + in_rings
                && (in_rings > 0 || *records <= 1 || *bytes <= most_bytes + self.plan.config.max_record_size)
        };
        let broken = self.checker.held_by_shards().find(|held| !kept(held));
        self.checker.holds(Promise::I15, broken.is_none(), || {
            format!("{broken:?} records and bytes are held for a shard, {most} and {most_bytes} may be")
        });
    }
}
