//! The outcomes that one lane waits for, without standing still.
//!
//! ```text
//!  put ──▶ [ o o o S o o … ]      S: sampled, polled at once with a waker that stamps the moment it is woken
//!            ▲ reap: pop while ready      sweep: when too long, drop what is ready anywhere
//! ```
//!
//! Outcomes settle in about the order of the puts, so reaping looks at the front alone; a front that takes its time
//! (a throttled shard) would let the queue grow behind it, so past its bound the queue is swept as a whole. What is
//! then left is unsettled, which the producer's own bound limits, so a sweep halves the queue at least and costs a
//! poll or two a record.
//!
//! A sampled outcome's latency is measured to the moment at which the producer wakes its waiter, not to the moment
//! at which this lane comes round to look.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use kpl::outcome::{Attempt, AttemptResult, Delivered, Failure};
use kpl::time::Time;

use crate::attribution::Tries;
use crate::clock::{Clock, Latencies};
use crate::verify::Ledger;

/// How often each code of failure, or reason of refusal, came, and what it said the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons(pub BTreeMap<String, (u64, String)>);

impl Reasons {
    /// Notes one.
    pub fn note(&mut self, code: &str, message: impl Display) {
        match self.0.get_mut(code) {
            Some((count, _)) => *count += 1,
            None => drop(self.0.insert(code.to_owned(), (1, message.to_string()))),
        }
    }

    /// Adds those of another lane.
    pub fn add(&mut self, other: Reasons) {
        for (code, (count, message)) in other.0 {
            self.0.entry(code).or_insert((0, message)).0 += count;
        }
    }
}

/// What became of the records of a lane.
#[derive(Default)]
pub struct Settled {
    pub delivered: u64,
    pub failed: u64,
    /// Without an outcome when the lane's patience ended.
    pub unsettled: u64,
    pub failures: Reasons,
    /// What the outcomes tell of their attempts.
    pub tries: Tries,
    /// Put to outcome, sampled.
    pub latencies: Latencies,
    /// The same one by one, by shard, where that is asked for.
    pub samples: HashMap<String, Vec<ShardSample>>,
}

/// When a record was put, and how long its outcome took, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardSample {
    pub put_ns: u64,
    pub took_ns: u64,
}

impl Settled {
    /// Adds another lane's.
    pub fn add(&mut self, other: Settled) {
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.unsettled += other.unsettled;
        self.failures.add(other.failures);
        self.tries.add(other.tries);
        self.latencies.add(&other.latencies);
        for (shard, samples) in other.samples {
            self.samples.entry(shard).or_default().extend(samples);
        }
    }
}

/// A record that was delivered, and what it took.
pub trait Traced {
    /// Every attempt.
    fn attempts(&self) -> &[Attempt];

    /// Where it is.
    fn shard_id(&self) -> &str;
}

impl Traced for Delivered {
    fn attempts(&self) -> &[Attempt] {
        Delivered::attempts(self)
    }

    fn shard_id(&self) -> &str {
        Delivered::shard_id(self)
    }
}

/// Rings when an outcome is there: stamps the moment and wakes the lane, should it sleep.
struct Bell {
    clock: Clock,
    /// When it rang; 0 until then. Written by whoever wakes, read by the lane.
    rung_ns: AtomicU64,
    lane: Thread,
}

impl Bell {
    fn new(clock: Clock) -> Arc<Bell> {
        Arc::new(Bell { clock, rung_ns: AtomicU64::new(0), lane: std::thread::current() })
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Relaxed, as its partner in `OutcomeQueue::settle`: the number is all that is passed.
        self.rung_ns.store(self.clock.now_ns(), Ordering::Relaxed);
        self.lane.unpark();
    }
}

struct Pending<O> {
    outcome: O,
    tag: u64,
    sample: Option<Box<Sample>>,
}

struct Sample {
    put_ns: u64,
    bell: Arc<Bell>,
    waker: Waker,
}

/// The queue of one lane; it stays on the lane's thread.
pub struct OutcomeQueue<'l, O> {
    pending: VecDeque<Pending<O>>,
    /// Length at which the queue is swept.
    length_max: usize,
    clock: Clock,
    ledger: &'l Ledger,
    settled: Settled,
    keeps_samples: bool,
}

impl<'l, O, D> OutcomeQueue<'l, O>
where
    O: Future<Output = Result<D, Failure>> + Unpin,
    D: Traced,
{
    /// An empty queue of the calling thread; `outstanding_max` is the bound on what the producer leaves unsettled, of which
    /// this is one of `lanes`. It has the memory from the start that its part needs.
    pub fn new(clock: Clock, ledger: &'l Ledger, outstanding_max: usize, lanes: usize) -> OutcomeQueue<'l, O> {
        let length_max = 2 * outstanding_max.max(1);
        OutcomeQueue {
            pending: VecDeque::with_capacity(length_max / lanes),
            length_max,
            clock,
            ledger,
            settled: Settled::default(),
            keeps_samples: false,
        }
    }

    /// From now on sampled outcomes are kept one by one: 16 bytes each.
    pub fn keep_samples(&mut self) {
        self.keeps_samples = true;
    }

    /// Adds the outcome of a record; with the moment of its put, it is sampled.
    pub fn push(&mut self, outcome: O, tag: u64, put_ns: Option<u64>) {
        let sample = put_ns.map(|put_ns| {
            let bell = Bell::new(self.clock);
            Box::new(Sample { put_ns, waker: Waker::from(bell.clone()), bell })
        });
        let sampled = sample.is_some();
        let mut pending = Pending { outcome, tag, sample };
        if sampled && self.poll(&mut pending, Waker::noop()) {
            return;
        }
        self.pending.push_back(pending);
    }

    /// Counts the outcomes that are there.
    pub fn reap(&mut self) {
        self.pop_ready(Waker::noop());
        if self.pending.len() >= self.length_max {
            let mut all = std::mem::take(&mut self.pending);
            all.retain_mut(|pending| !self.poll(pending, Waker::noop()));
            self.pending = all;
        }
    }

    /// Waits for all outcomes, until none has come for `patience`.
    pub fn drain(mut self, patience: Duration) -> Settled {
        let bell = Waker::from(Bell::new(self.clock));
        let mut last_ns = self.clock.now_ns();
        while !self.pending.is_empty() {
            let before = self.pending.len();
            self.pop_ready(&bell);
            let now_ns = self.clock.now_ns();
            if self.pending.len() < before {
                last_ns = now_ns;
                continue;
            }
            let waited = Duration::from_nanos(now_ns - last_ns);
            match patience.checked_sub(waited) {
                Some(left) if !left.is_zero() => std::thread::park_timeout(left),
                _ => break,
            }
        }
        self.settled.unsettled = self.pending.len() as u64;
        self.settled
    }

    fn pop_ready(&mut self, waker: &Waker) {
        while let Some(mut front) = self.pending.pop_front() {
            if !self.poll(&mut front, waker) {
                self.pending.push_front(front);
                return;
            }
        }
    }

    /// Whether the outcome is there; if so it is counted. A sampled one keeps the waker it has.
    fn poll(&mut self, pending: &mut Pending<O>, waker: &Waker) -> bool {
        let waker = pending.sample.as_ref().map_or(waker, |sample| &sample.waker);
        match Pin::new(&mut pending.outcome).poll(&mut Context::from_waker(waker)) {
            Poll::Pending => false,
            Poll::Ready(result) => {
                self.settle(pending, result);
                true
            }
        }
    }

    fn settle(&mut self, pending: &Pending<O>, result: Result<D, Failure>) {
        if let Some(sample) = &pending.sample {
            // Relaxed, as its partner in `Bell::wake_by_ref`. Settled but not yet rung: it ends now.
            let rung_ns = match sample.bell.rung_ns.load(Ordering::Relaxed) {
                0 => self.clock.now_ns(),
                rung_ns => rung_ns,
            };
            let took_ns = rung_ns.saturating_sub(sample.put_ns);
            self.settled.latencies.record(took_ns);
            if let Ok(delivered) = &result
                && self.keeps_samples
            {
                let samples = match self.settled.samples.get_mut(delivered.shard_id()) {
                    Some(samples) => samples,
                    None => self.settled.samples.entry(delivered.shard_id().to_owned()).or_default(),
                };
                samples.push(ShardSample { put_ns: sample.put_ns, took_ns });
            }
        }
        match result {
            Ok(delivered) => {
                self.settled.delivered += 1;
                self.trace(pending.tag, delivered.attempts());
            }
            Err(failure) => {
                self.settled.failed += 1;
                self.settled.failures.note(failure.code().as_str(), failure.message());
                self.trace(pending.tag, failure.attempts());
                let of_failures = &mut self.settled.tries.of_failures;
                let (count, codes) = match of_failures.get_mut(failure.code().as_str()) {
                    Some(known) => known,
                    None => of_failures.entry(failure.code().as_str().to_owned()).or_default(),
                };
                *count += 1;
                for (code, ..) in failure.attempts().iter().filter_map(failed) {
                    if !codes.contains(code) {
                        codes.insert(code.to_owned());
                    }
                }
                self.ledger.failed(pending.tag);
            }
        }
    }

    /// Counts the attempts of a record that failed. Most records have none.
    fn trace(&mut self, tag: u64, attempts: &[Attempt]) {
        self.settled.tries.resent += u64::from(attempts.len() > 1);
        for (code, ambiguous, request) in attempts.iter().filter_map(failed) {
            let tries = &mut self.settled.tries;
            match (tries.failed_by_code.get_mut(code), tries.failed_requests.get_mut(code)) {
                (Some(count), Some(requests)) => {
                    *count += 1;
                    requests.insert(request);
                }
                _ => {
                    tries.failed_by_code.insert(code.to_owned(), 1);
                    tries.failed_requests.insert(code.to_owned(), [request].into());
                }
            }
            if ambiguous {
                self.ledger.doubted(tag, code);
            }
        }
    }
}

/// The code of an attempt that failed, whether it is ambiguous, and when its request began and ended.
fn failed(attempt: &Attempt) -> Option<(&str, bool, (Time, Time))> {
    match &attempt.result {
        AttemptResult::Failed { code, ambiguous, .. } => {
            Some((code.as_str(), *ambiguous, (attempt.began, attempt.ended)))
        }
        AttemptResult::Stored { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use kpl::outcome::ErrorCode;

    use super::*;

    type Answer = Result<(), Failure>;

    impl Traced for () {
        fn attempts(&self) -> &[Attempt] {
            &[]
        }

        fn shard_id(&self) -> &str {
            ""
        }
    }

    /// An outcome that somebody else decides.
    #[derive(Clone, Default)]
    struct Promise(Arc<Mutex<(Option<Answer>, Option<Waker>)>>);

    impl Promise {
        fn keep(&self, result: Answer) {
            let mut inner = self.0.lock().unwrap();
            inner.0 = Some(result);
            let waker = inner.1.take();
            drop(inner);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    impl Future for Promise {
        type Output = Answer;
        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
            let mut inner = self.0.lock().unwrap();
            match inner.0.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    inner.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        }
    }

    fn pushed(queue: &mut OutcomeQueue<'_, Promise>, count: usize, sampled: bool) -> Vec<Promise> {
        let promises: Vec<_> = (0..count).map(|_| Promise::default()).collect();
        for (promise, tag) in promises.iter().zip(0..) {
            queue.push(promise.clone(), tag, sampled.then(|| queue.clock.now_ns()));
        }
        promises
    }

    #[test]
    fn outcomes_are_counted_in_whatever_order_they_come() {
        let ledger = Ledger::off();
        let mut queue = OutcomeQueue::new(Clock::start(), &ledger, 100, 1);
        let promises = pushed(&mut queue, 10, false);
        promises[1..].iter().for_each(|promise| promise.keep(Ok(())));
        queue.reap();
        assert_eq!((queue.settled.delivered, queue.pending.len()), (0, 10), "the front is not settled");
        promises[0].keep(Err(Failure::new(ErrorCode::Expired, "too late")));
        queue.reap();
        let settled = queue.drain(Duration::ZERO);
        assert_eq!((settled.delivered, settled.failed, settled.unsettled), (9, 1, 0));
        assert_eq!(settled.failures.0["Expired"], (1, "too late".to_owned()));
    }

    #[test]
    fn a_slow_front_does_not_let_the_queue_grow() {
        let ledger = Ledger::off();
        let mut queue = OutcomeQueue::new(Clock::start(), &ledger, 50, 1);
        let promises = pushed(&mut queue, 100, false);
        promises[1..].iter().for_each(|promise| promise.keep(Ok(())));
        queue.reap();
        assert_eq!((queue.settled.delivered, queue.pending.len()), (99, 1));
    }

    #[test]
    fn a_sample_ends_when_its_waiter_is_woken() {
        let ledger = Ledger::off();
        let clock = Clock::start();
        let mut queue = OutcomeQueue::new(clock, &ledger, 10, 1);
        let promise = pushed(&mut queue, 1, true).remove(0);
        queue.reap();
        promise.keep(Ok(()));
        let woken_ns = clock.now_ns();
        while clock.now_ns() < woken_ns + 3_000_000 {}
        let settled = queue.drain(Duration::from_secs(60));
        let took = settled.latencies.quantiles(1.0);
        assert!(took.max > 0.0 && took.max <= woken_ns as f64 * 1.01, "{took:?}, woken at {woken_ns}");
    }

    #[test]
    fn draining_sleeps_until_the_last_outcome_and_gives_up_on_one_that_never_comes() {
        let ledger = Ledger::off();
        let mut queue = OutcomeQueue::new(Clock::start(), &ledger, 10, 1);
        let promises = pushed(&mut queue, 5, true);
        std::thread::scope(|scope| {
            scope.spawn(|| promises[1..].iter().for_each(|promise| promise.keep(Ok(()))));
            scope.spawn(|| promises[0].keep(Ok(())));
            assert_eq!(queue.drain(Duration::from_secs(60)).delivered, 5);
        });
        let mut queue = OutcomeQueue::new(Clock::start(), &ledger, 10, 1);
        let promises = pushed(&mut queue, 2, false);
        promises[0].keep(Ok(()));
        let settled = queue.drain(Duration::from_millis(1));
        assert_eq!((settled.delivered, settled.unsettled), (1, 1));
    }
}
