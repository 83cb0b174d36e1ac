//! The budget: what is accepted and not settled is bounded, in records and in bytes.
//!
//! ```text
//!           ┌───────────── pool: free records, free bytes ◀──────────── release (a core, once a turn)
//!   refill  │                        │ granted in order
//!           ▼                        ▼
//!   Purse, Purse, …           queue of waiters
//!   (at most 25 % in all)
//! ```
//!
//! Each submitter has a [`Purse`] with unspent credit, so that most takes touch nothing that is shared. A purse
//! holds at most a chunk, `bound / 4 / purses_max`; what it lacks it draws from the pool by compare-and-swap, and
//! what is larger than a chunk comes from the pool alone. Who must wait stands in a queue, and releases grant
//! credit to its head; while somebody waits, nobody else draws from the pool.
//!
//! Invariants:
//! - B1: free credit in the pool + credit in purses + credit taken = the bound, for records and for bytes, always.
//!   Credit only moves, and a take that finds too little moves none, so that the bounds are never exceeded.
//! - B2: purses together hold at most a quarter of either bound.
//! - B3: no lost wake-up: a waiter stands in the queue, fences, then looks at the pool; a release fills the pool,
//!   fences, then looks whether somebody waits. One of the two sees the other.
//! - B4: no starvation: while the head of the queue waits, the pool only grows, as nobody else may draw from it
//!   (a draw that had begun before ends); when all that is taken was released, B1 and B2 leave three quarters of
//!   the bound in it, which is as much as a request may ask for.
//!
//! Records whose outcome is known, but not told yet, are *held*: completions that nobody has drained. Their credit comes
//! back when they are. If all that is left is held, who waits may be the very one who is to drain, and is refused:
//! whoever knows that nothing else is under way calls [`Budget::refuse_if_held`].
//!
//! Cost: a take from the purse, a few instructions; a release without waiters, two additions and a fence.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use crossbeam_utils::CachePadded;

use super::fault::{Fault, fence_against, is_planted};
use super::purse::Purse;
use super::shim::{self, AtomicI64, AtomicU64, AtomicUsize, Mutex, Ordering};

/// The bound is reached, or others wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCredit;

impl fmt::Display for NoCredit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the budget is spent")
    }
}

impl std::error::Error for NoCredit {}

/// Why nobody waits for the budget any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// It was closed.
    Closed,
    /// What is taken is held by completions that nobody has drained.
    Held,
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WaitError::Closed => "the budget is closed",
            WaitError::Held => "the budget is held by completions that are to be drained",
        })
    }
}

impl std::error::Error for WaitError {}

/// An amount of credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Credit {
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Credit {
    pub(super) const NONE: Credit = Credit { records: 0, bytes: 0 };

    /// The credit of one record of `bytes` bytes.
    pub(super) fn of_record(bytes: usize) -> Credit {
        Credit { records: 1, bytes: bytes as u64 }
    }

    pub(super) fn covers(self, other: Credit) -> bool {
        self.records >= other.records && self.bytes >= other.bytes
    }

    pub(super) fn plus(self, other: Credit) -> Credit {
        Credit { records: self.records + other.records, bytes: self.bytes + other.bytes }
    }

    pub(super) fn minus(self, other: Credit) -> Credit {
        Credit { records: self.records - other.records, bytes: self.bytes - other.bytes }
    }

    /// What this has beyond `other`, in each kind.
    pub(super) fn beyond(self, other: Credit) -> Credit {
        Credit { records: self.records.saturating_sub(other.records), bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

/// The budget of a producer.
#[derive(Debug)]
pub struct Budget {
    pub(super) bound: Credit,
    chunk: Credit,
    purses_max: usize,
    /// Free credit. Drawn by purses and by the queue, filled by releases.
    records: CachePadded<AtomicU64>,
    bytes: CachePadded<AtomicU64>,
    /// Length of the queue; written under its lock.
    pub(super) waiting: CachePadded<AtomicUsize>,
    /// Records that are held. Below zero for a moment, when one is let go before it is counted.
    held: AtomicI64,
    pub(super) queue: Mutex<Queue>,
    pub(super) purses: AtomicUsize,
}

#[derive(Debug)]
pub(super) struct Queue {
    /// In the order in which they came.
    pub(super) waiters: VecDeque<Waiter>,
    pub(super) next_id: u64,
    /// Waiters before this id were granted, if they are not in the queue, were not refused and did not leave.
    pub(super) granted: u64,
    /// Waiters who were refused and do not know it yet.
    refused: Vec<u64>,
    pub(super) closed: bool,
}

impl Queue {
    /// Whether the waiter `id` was refused. True once.
    pub(super) fn take_refused(&mut self, id: u64) -> bool {
        let index = self.refused.iter().position(|refused| *refused == id);
        index.map(|index| self.refused.swap_remove(index)).is_some()
    }
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: u64,
    pub(super) credit: Credit,
    pub(super) waker: Waker,
}

impl Budget {
    /// A budget of `records_max` records and `bytes_max` bytes, for `purses_max` submitters.
    pub fn new(records_max: usize, bytes_max: usize, purses_max: usize) -> Arc<Budget> {
        let bound = Credit { records: records_max as u64, bytes: bytes_max as u64 };
        let share = |bound: u64| bound / 4 / (purses_max.max(1) as u64);
        Arc::new(Budget {
            bound,
            chunk: Credit { records: share(bound.records), bytes: share(bound.bytes) },
            purses_max,
            records: CachePadded::new(AtomicU64::new(bound.records)),
            bytes: CachePadded::new(AtomicU64::new(bound.bytes)),
            waiting: CachePadded::new(AtomicUsize::new(0)),
            held: AtomicI64::new(0),
            queue: Mutex::new(Queue {
                waiters: VecDeque::new(),
                next_id: 0,
                granted: 0,
                refused: Vec::new(),
                closed: false,
            }),
            purses: AtomicUsize::new(0),
        })
    }

    /// A purse for a submitter. One beyond `purses_max` works too, but draws every credit from the pool.
    pub fn purse(self: &Arc<Budget>) -> Purse {
        // Relaxed: a count; partner of the subtraction in the purse's drop.
        let others = self.purses.fetch_add(1, Ordering::Relaxed);
        let chunk = if others < self.purses_max { self.chunk } else { Credit::NONE };
        Purse::new(Arc::clone(self), chunk)
    }

    /// Gives the credit of settled records back; a core does so once a turn. Wakes the waiters whom it suffices.
    pub fn release(&self, records: u64, bytes: u64) {
        self.give(Credit { records, bytes });
        // Partner of the fence in `Wait::enqueue` (B3).
        fence_against(Fault::BudgetReleaseUnfenced);
        // Relaxed: the fence orders it; partner of the writes of `waiting` under the lock.
        if self.waiting.load(Ordering::Relaxed) > 0 {
            self.serve();
        }
    }

    /// Whether somebody waits or 7/8 of either bound are used: then what is buffered should be sent.
    pub fn is_pressed(&self) -> bool {
        let (records, bytes) = self.used();
        // Relaxed: a hint.
        self.waiting.load(Ordering::Relaxed) > 0
            || records >= self.bound.records - self.bound.records / 8
            || bytes >= self.bound.bytes - self.bound.bytes / 8
    }

    /// Records and bytes in use, the unspent credit of purses included.
    pub fn used(&self) -> (u64, u64) {
        // Relaxed: a view; each number was true at some moment.
        let records = self.bound.records - self.records.load(Ordering::Relaxed);
        let bytes = self.bound.bytes - self.bytes.load(Ordering::Relaxed);
        (records, bytes)
    }

    /// The credit of `records` settled records is held until they are let go.
    pub fn hold(&self, records: u64) {
        // Release: partner of the load in `refuse_if_held`. No count comes near the sign.
        self.held.fetch_add(records as i64, Ordering::AcqRel);
    }

    /// Records that were held are let go: their credit comes back.
    pub fn let_go(&self, records: u64) {
        self.held.fetch_sub(records as i64, Ordering::AcqRel); // as in `hold`
        self.release(records, 0);
    }

    /// Whether somebody waits while records are held: then whoever knows whether anything is under way should look.
    pub fn may_be_stuck(&self) -> bool {
        // Partner of the fence in `Wait::enqueue`: it sees what was settled before this, or we see that it waits.
        fence_against(Fault::BudgetReleaseUnfenced);
        // Relaxed: the fence orders it.
        self.waiting.load(Ordering::Relaxed) > 0 && self.held.load(Ordering::Relaxed) > 0
    }

    /// Refuses all who wait, if records are held. To be called when no credit is to come but theirs.
    pub fn refuse_if_held(&self) {
        let waiters = {
            let mut queue = shim::lock(&self.queue);
            // Acquire: partner of the additions in `hold` and `let_go`.
            if self.held.load(Ordering::Acquire) <= 0 {
                return;
            }
            self.set_waiting(0);
            let waiters = std::mem::take(&mut queue.waiters);
            queue.refused.extend(waiters.iter().map(|waiter| waiter.id));
            waiters
        };
        waiters.into_iter().for_each(|waiter| shim::wake(waiter.waker));
    }

    /// Fails all who wait, and all who will. Takes that need not wait go on.
    pub fn close(&self) {
        let waiters = {
            let mut queue = shim::lock(&self.queue);
            queue.closed = true;
            if is_planted(Fault::BudgetCloseSilent) {
                return;
            }
            self.set_waiting(0);
            std::mem::take(&mut queue.waiters)
        };
        waiters.into_iter().for_each(|waiter| shim::wake(waiter.waker));
    }

    /// Grants credit to the head of the queue as long as the pool suffices; wakes each outside of the lock.
    pub(super) fn serve(&self) {
        loop {
            let waker = self.serve_one(&mut shim::lock(&self.queue));
            let Some(waker) = waker else { return };
            shim::wake(waker);
        }
    }

    fn serve_one(&self, queue: &mut Queue) -> Option<Waker> {
        let head = queue.waiters.front()?;
        if !self.draw(head.credit) {
            return None;
        }
        let head = queue.waiters.pop_front()?;
        queue.granted = head.id + 1;
        self.set_waiting(queue.waiters.len());
        Some(head.waker)
    }

    /// Under the queue's lock.
    pub(super) fn set_waiting(&self, waiters: usize) {
        // A swap, so that it is ordered with the fence that follows where somebody came; partner of `release`.
        self.waiting.swap(waiters, Ordering::SeqCst);
    }

    /// Takes credit from the pool, all or none.
    ///
    /// Records are taken first; if there are too few bytes they go back. Whoever looked in between found too few
    /// records. Under the queue's lock that is nobody who waits; elsewhere a draw that failed must be followed by
    /// a look at the queue.
    pub(super) fn draw(&self, credit: Credit) -> bool {
        if !subtract(&self.records, credit.records) {
            return false;
        }
        if subtract(&self.bytes, credit.bytes) {
            return true;
        }
        if !is_planted(Fault::BudgetDrawKeeps) {
            self.give(Credit { records: credit.records, bytes: 0 });
        }
        false
    }

    /// [`Budget::draw`] outside of the queue's lock.
    pub(super) fn try_draw(&self, credit: Credit) -> bool {
        // Relaxed: a first look, so that a draw that is bound to fail takes nothing that a waiter could miss.
        let free = Credit { records: self.records.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) };
        if !free.covers(credit) {
            return false;
        }
        if self.draw(credit) {
            return true;
        }
        // What the draw put back may be what a new waiter missed (B3).
        self.release(0, 0);
        false
    }

    fn give(&self, credit: Credit) {
        // AcqRel: who draws this credit sees what its former owner did; partner of `subtract`.
        let records = self.records.fetch_add(credit.records, Ordering::AcqRel) + credit.records;
        let bytes = self.bytes.fetch_add(credit.bytes, Ordering::AcqRel) + credit.bytes;
        assert!(records <= self.bound.records && bytes <= self.bound.bytes, "B1: no more is released than was taken");
    }
}

/// Subtracts `amount` if there is as much.
fn subtract(pool: &AtomicU64, amount: u64) -> bool {
    // Relaxed: a first guess. The exchange: partner of the additions in `give`.
    let mut free = pool.load(Ordering::Relaxed);
    while free >= amount {
        match pool.compare_exchange_weak(free, free - amount, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return true,
            Err(now) => free = now,
        }
    }
    false
}
