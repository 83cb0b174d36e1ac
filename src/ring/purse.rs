//! A submitter's purse, and the wait for credit. The essay of `budget` has the picture and the invariants.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::budget::{Budget, Credit, NoCredit, WaitError, Waiter};
use super::fault::{Fault, is_planted};
use super::shim::{self, Ordering, fence};

/// A submitter's credit.
#[derive(Debug)]
pub struct Purse {
    budget: Arc<Budget>,
    /// The most that it holds unspent.
    chunk: Credit,
    credit: Credit,
}

impl Purse {
    /// An empty purse that holds at most `chunk` unspent.
    pub(super) fn new(budget: Arc<Budget>, chunk: Credit) -> Purse {
        Purse { budget, chunk, credit: Credit::NONE }
    }

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
            if budget.try_draw(amount) {
                self.credit = self.credit.plus(amount);
                return Ok(());
            }
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
        if !is_planted(Fault::BudgetPurseKeeps) {
            self.empty();
        }
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
        let mistaken = is_planted(Fault::BudgetRefusedGranted) && id < queue.granted;
        let outcome = if queue.take_refused(id) && !mistaken {
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
        if id < queue.granted && !is_planted(Fault::BudgetGrantKept) {
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
