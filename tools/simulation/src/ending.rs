//! How a seed ends: flushes, close, and the last accounts (I7, I19).

use kpl::engine::Released;

use crate::driver::Input;
use crate::promise::Promise;
use crate::submitters::Submitter;
use crate::verdict;
use crate::world::{CLOSE_MAX, Event, World};
use kpl::time::Time;

/// What cores have said to be settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Records.
    pub records: u64,
    /// Their bytes of data and partition key.
    pub bytes: u64,
    /// Of the records, those delivered.
    pub delivered: u64,
    /// Of the records, those failed.
    pub failed: u64,
}

impl Settled {
    /// Adds what a core has released.
    pub fn add(&mut self, released: &Released) {
        self.records += released.records;
        self.bytes += released.bytes;
        self.delivered += released.delivered;
        self.failed += released.failed;
    }
}

impl World {
    /// Somebody flushes a stream.
    pub(crate) fn flush(&mut self, stream: usize) {
        if self.closed.is_some() || stream >= self.open_streams {
            return;
        }
        let token = self.flushes;
        self.flushes += 1;
        self.trace.say(self.now, format_args!("flush {token} of stream {stream}"));
        self.checker.flush_begins(self.now, token, stream);
        self.schedule(self.now, Event::Tell(0, Input::Flush(stream, token)));
    }

    /// Nothing more is put, and everything is flushed.
    pub(crate) fn close(&mut self, timeout: std::time::Duration) {
        self.closing = true;
        self.trace.say(self.now, format_args!("close, within {timeout:?}"));
        (0..self.open_streams).for_each(|stream| self.flush(stream));
        self.schedule(self.now + timeout, Event::CloseNow);
    }

    /// Closes when nobody will put any more and all is settled; not before the world has healed, if it is to.
    pub(crate) fn close_if_settled(&mut self) {
        if self.closed.is_some() || self.checker.outstanding > 0 || self.checker.flush_waits() {
            return;
        }
        let to_come = self.plan.heals.is_some() && !self.steady;
        if !self.closing && (to_come || self.submitters.iter().any(Submitter::is_putting)) {
            return;
        }
        self.closing = true;
        for node in &mut self.nodes {
            let kept = node.oldest();
            self.checker.holds(Promise::E1, kept.is_none(), || {
                format!("all is settled, but a core keeps a record of {kept:?}")
            });
        }
        self.close_now(true);
    }

    /// Everything is settled, here and now.
    pub(crate) fn close_now(&mut self, settled: bool) {
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
        self.checker
            .holds(Promise::I7, now <= limit, || format!("core {core} is done at {now:?}, at the latest {limit:?}"));
    }

    /// Nothing is left to happen.
    pub(crate) fn finish(&mut self) {
        let flushes_too = self.closed.is_none_or(|(_, settled)| settled);
        self.checker.nothing_is_left(self.now, flushes_too);
        let done = self.nodes.iter().filter(|node| node.done).count();
        let cores = self.nodes.len();
        self.checker.holds(Promise::I7, done == cores, || format!("{done} of {cores} cores have finished"));
        self.reconcile(flushes_too);
        self.submitters.iter_mut().for_each(Submitter::leave);
        let used = self.budget.used();
        self.checker.holds(Promise::I5, used == (0, 0), || format!("at the end {used:?} of the budget are used"));
        verdict::judge(&self.streams, &mut self.checker);
    }

    /// I19: what cores say to be settled is what was put and how it ended.
    fn reconcile(&mut self, flushes_too: bool) {
        let mut told = Settled::default();
        for Settled { records, bytes, delivered, failed } in self.nodes.iter().map(|node| node.settled) {
            told.records += records;
            told.bytes += bytes;
            told.delivered += delivered;
            told.failed += failed;
        }
        let checker = &mut self.checker;
        let records = checker.records.len() as u64;
        let delivered = checker.codes.get("delivered").copied().unwrap_or_default();
        let failed = checker.codes.values().sum::<u64>() - delivered;
        let counted = Settled { records, bytes: checker.accepted_bytes, delivered, failed };
        checker.holds(Promise::I19, told == counted, || format!("cores count {told:?}, and there were {counted:?}"));
        let (begun, done) = (checker.flushes_begun, checker.flushes_done);
        let flushed = if flushes_too { begun == done } else { begun >= done };
        checker.holds(Promise::I19, flushed, || format!("{begun} flushes were begun, {done} are done"));
    }
}
