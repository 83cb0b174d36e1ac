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
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crossbeam_utils::CachePadded;

use super::shim::{self, AtomicI64, AtomicU64, AtomicUsize, Fault, Mutex, Ordering, fence, fence_against, is_planted};

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
struct Credit {
    records: u64,
    bytes: u64,
}

impl Credit {
    const NONE: Credit = Credit { records: 0, bytes: 0 };

    /// The credit of one record of `bytes` bytes.
    fn of_record(bytes: usize) -> Credit {
        Credit { records: 1, bytes: bytes as u64 }
    }

    fn covers(self, other: Credit) -> bool {
        self.records >= other.records && self.bytes >= other.bytes
    }

    fn plus(self, other: Credit) -> Credit {
        Credit { records: self.records + other.records, bytes: self.bytes + other.bytes }
    }

    fn minus(self, other: Credit) -> Credit {
        Credit { records: self.records - other.records, bytes: self.bytes - other.bytes }
    }

    /// What this has beyond `other`, in each kind.
    fn beyond(self, other: Credit) -> Credit {
        Credit { records: self.records.saturating_sub(other.records), bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

/// The budget of a producer.
#[derive(Debug)]
pub struct Budget {
    bound: Credit,
    chunk: Credit,
    purses_max: usize,
    /// Free credit. Drawn by purses and by the queue, filled by releases.
    records: CachePadded<AtomicU64>,
    bytes: CachePadded<AtomicU64>,
    /// Length of the queue; written under its lock.
    waiting: CachePadded<AtomicUsize>,
    /// Records that are held. Below zero for a moment, when one is let go before it is counted.
    held: AtomicI64,
    queue: Mutex<Queue>,
    purses: AtomicUsize,
}

#[derive(Debug)]
struct Queue {
    /// In the order in which they came.
    waiters: VecDeque<Waiter>,
    next_id: u64,
    /// Waiters before this id were granted, if they are not in the queue, were not refused and did not leave.
    granted: u64,
    /// Waiters who were refused and do not know it yet.
    refused: Vec<u64>,
    closed: bool,
}

impl Queue {
    /// Whether the waiter `id` was refused. True once.
    fn take_refused(&mut self, id: u64) -> bool {
        let index = self.refused.iter().position(|refused| *refused == id);
        index.map(|index| self.refused.swap_remove(index)).is_some()
    }
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    credit: Credit,
    waker: Waker,
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
        Purse { budget: Arc::clone(self), chunk, credit: Credit::NONE }
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
        fence(Ordering::SeqCst);
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
            self.set_waiting(0);
            std::mem::take(&mut queue.waiters)
        };
        waiters.into_iter().for_each(|waiter| shim::wake(waiter.waker));
    }

    /// Grants credit to the head of the queue as long as the pool suffices; wakes each outside of the lock.
    fn serve(&self) {
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
    fn set_waiting(&self, waiters: usize) {
        // A swap, so that it is ordered with the fence that follows where somebody came; partner of `release`.
        self.waiting.swap(waiters, Ordering::SeqCst);
    }

    /// Takes credit from the pool, all or none.
    ///
    /// Records are taken first; if there are too few bytes they go back. Whoever looked in between found too few
    /// records. Under the queue's lock that is nobody who waits; elsewhere a draw that failed must be followed by
    /// a look at the queue.
    fn draw(&self, credit: Credit) -> bool {
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

/// A submitter's credit.
#[derive(Debug)]
pub struct Purse {
    budget: Arc<Budget>,
    /// The most that it holds unspent.
    chunk: Credit,
    credit: Credit,
}

impl Purse {
    /// Takes the credit of one record of `bytes` bytes.
    ///
    /// # Errors
    /// [`NoCredit`] if purse and pool have too little, or if the purse has and others wait for the pool.
    #[inline]
    pub fn try_take(&mut self, bytes: usize) -> Result<(), NoCredit> {
        let wanted = Credit::of_record(bytes);
        if !self.credit.covers(wanted) {
            self.refill(wanted)?;
        }
        self.credit = self.credit.minus(wanted);
        Ok(())
    }

    /// Gives back the credit of one record of `bytes` bytes that was taken and not used.
    pub fn refund(&mut self, bytes: usize) {
        self.take_back(Credit::of_record(bytes));
    }

    /// Gives back `bytes` bytes of the credit of a record that was smaller than thought.
    pub fn refund_bytes(&mut self, bytes: usize) {
        self.take_back(Credit { records: 0, bytes: bytes as u64 });
    }

    fn take_back(&mut self, credit: Credit) {
        self.credit = self.credit.plus(credit);
        let surplus = self.credit.beyond(self.chunk);
        if surplus != Credit::NONE {
            self.credit = self.credit.minus(surplus);
            self.budget.release(surplus.records, surplus.bytes);
        }
    }

    /// Waits for the credit of one record of `bytes` bytes, and takes it. Waiters are served in order.
    ///
    /// # Panics
    /// If `bytes` is more than three quarters of the bound, which might never be free.
    pub fn wait(&mut self, bytes: usize) -> Wait<'_> {
        let bound = self.budget.bound.bytes;
        assert!(bytes as u64 <= bound - bound / 4, "a record of {bytes} bytes cannot wait for a budget of {bound}");
        Wait { purse: self, bytes, id: None }
    }

    /// Makes the purse cover `wanted`, from the pool: with a chunk on top, or else with what lacks.
    #[cold]
    fn refill(&mut self, wanted: Credit) -> Result<(), NoCredit> {
        let budget = &*self.budget;
        // Relaxed: who comes into the queue meanwhile is served after us. Partner of `set_waiting`.
        if budget.waiting.load(Ordering::Relaxed) > 0 {
            return Err(NoCredit);
        }
        let amounts = [wanted.plus(self.chunk).beyond(self.credit), wanted.beyond(self.credit)];
        for amount in amounts {
            if budget.draw(amount) {
                self.credit = self.credit.plus(amount);
                return Ok(());
            }
            // What the draw put back may be what a new waiter missed (B3).
            budget.release(0, 0);
        }
        Err(NoCredit)
    }

    /// Gives all unspent credit back.
    fn empty(&mut self) {
        let credit = std::mem::replace(&mut self.credit, Credit::NONE);
        if credit != Credit::NONE {
            self.budget.release(credit.records, credit.bytes);
        }
    }
}

impl Drop for Purse {
    fn drop(&mut self) {
        self.empty();
        // Relaxed: a count; partner of the addition in `Budget::purse`.
        self.budget.purses.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits for credit; see [`Purse::wait`]. Dropping it leaves the queue, and gives back what was granted unseen.
#[derive(Debug)]
#[must_use = "a future does nothing until it is polled"]
pub struct Wait<'a> {
    purse: &'a mut Purse,
    bytes: usize,
    /// Its place in the queue, while it has one.
    id: Option<u64>,
}

impl Wait<'_> {
    /// Enters the queue, and serves it.
    ///
    /// After this the caller looks whether it [may be stuck](Budget::may_be_stuck), as nobody else need have.
    fn enqueue(&mut self, waker: Waker) -> Result<(), WaitError> {
        let budget = &*self.purse.budget;
        {
            let mut queue = shim::lock(&budget.queue);
            if queue.closed {
                return Err(WaitError::Closed);
            }
            let id = queue.next_id;
            queue.next_id += 1;
            queue.waiters.push_back(Waiter { id, credit: Credit::of_record(self.bytes), waker });
            budget.set_waiting(queue.waiters.len());
            self.id = Some(id);
        }
        // Partner of the fence in `release` (B3).
        fence(Ordering::SeqCst);
        budget.serve();
        Ok(())
    }

    /// What became of the waiter `id`; if it still waits, `waker` is the one to call.
    fn look(&mut self, id: u64, waker: &Waker) -> Poll<Result<(), WaitError>> {
        let budget = &*self.purse.budget;
        let mut former = None;
        let mut queue = shim::lock(&budget.queue);
        let outcome = if queue.take_refused(id) {
            Poll::Ready(Err(WaitError::Held))
        } else if id < queue.granted {
            Poll::Ready(Ok(()))
        } else if queue.closed {
            Poll::Ready(Err(WaitError::Closed))
        } else {
            let index = queue.waiters.binary_search_by_key(&id, |waiter| waiter.id);
            let waiter = &mut queue.waiters[index.expect("who was not granted waits until the close")];
            if !waiter.waker.will_wake(waker) {
                former = Some(std::mem::replace(&mut waiter.waker, waker.clone()));
            }
            Poll::Pending
        };
        drop(queue);
        drop(former);
        if outcome.is_ready() {
            self.id = None;
        }
        outcome
    }
}

impl Future for Wait<'_> {
    type Output = Result<(), WaitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), WaitError>> {
        if self.id.is_none() {
            let bytes = self.bytes;
            if self.purse.try_take(bytes).is_ok() {
                return Poll::Ready(Ok(()));
            }
            // What the purse has is too little for this record; the pool may make it enough.
            self.purse.empty();
            if let Err(closed) = self.enqueue(cx.waker().clone()) {
                return Poll::Ready(Err(closed));
            }
        }
        let id = self.id.expect("it was just set");
        self.look(id, cx.waker())
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let budget = &*self.purse.budget;
        let mut queue = shim::lock(&budget.queue);
        if queue.take_refused(id) {
            return;
        }
        if id < queue.granted {
            drop(queue);
            budget.release(1, self.bytes as u64);
            return;
        }
        let Ok(index) = queue.waiters.binary_search_by_key(&id, |waiter| waiter.id) else { return };
        let gone = queue.waiters.remove(index);
        budget.set_waiting(queue.waiters.len());
        drop(queue);
        drop(gone);
        // What was too little for this one may be enough for the next.
        budget.serve();
    }
}
