//! The list of completions of one submitter: records that were settled, each under the number that its caller gave it.
//!
//! ```text
//!   Ticket::settle ─▶ slot ─▶ [ newest ─▶ … ─▶ oldest ]  the list: slots, linked through themselves
//!                                     │ all at once, turned round
//!                                     ▼
//!   Completions::pop ◀──────── pending: oldest ─▶ … ─▶ newest
//! ```
//!
//! Many list, one pops. The list is never full and allocates nothing, as its links lie in the slots.
//!
//! What is listed is a settled slot, or the first slot of a `run` of records that were settled together.
//!
//! L1: a slot on the list is settled and in use until it is popped. L2: whoever lists onto an empty list looks whether
//! somebody sleeps, after a fence; whoever is about to sleep says so, fences, and looks at the list. So a sleeper is
//! woken. Onto a list that is not empty nobody need look: whoever made it so does.
//!
//! L3: the owner of the slots says at its end how many it has taken for the list. Whoever has popped as many knows that
//! there is none left to come, whatever other slots of the pool are in use.
//!
//! When the popping end goes, or if the owner of the slots goes and there never was one, the list is closed: what is
//! settled later has nobody to learn of it, as if its handle had been dropped.
//!
//! Cost: one compare-and-swap to list a record or a run, and a fence if the list was empty; one swap for each time that
//! all is taken, and a compare-and-swap for each 64 that are popped.

use std::fmt;
use std::ptr::{self, NonNull};
use std::task::{Context, Poll, Waker};

use crossbeam_utils::CachePadded;

use super::fault::{Fault, fence_against, is_planted, order};
use super::run::{Run, take_run};
use super::shim::{self, Arc, AtomicBool, AtomicPtr, AtomicU64, Mutex, Ordering, fence};
use super::slot::{Abandoned, End, Slot, take_end};
use super::slots::{Freed, Pool, free, leave_pool, pool_of};
use super::ticket::Told;

/// The shared end of a list; its pool holds it.
pub(super) struct List<T> {
    /// The newest. `closed()` once nobody pops any more. Apart from what every put looks at.
    newest: CachePadded<AtomicPtr<Slot<T>>>,
    /// Whether nobody pops any more.
    closed: AtomicBool,
    /// How many slots were taken for the list (L3); `MORE` while their owner may take another.
    taken: AtomicU64,
    /// Apart, as whoever lists looks at it when the slot, and so perhaps the pool, is gone.
    sleeper: Arc<Sleeper>,
}

/// Whoever waits for a completion.
struct Sleeper {
    waiting: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// More than anyone pops.
const MORE: u64 = u64::MAX;

/// The end of a list that nobody pops. No slot has this address: it is not aligned.
fn closed<T>() -> *mut Slot<T> {
    ptr::without_provenance_mut(1)
}

impl<T> List<T> {
    /// An empty list.
    pub(super) fn new() -> List<T> {
        let sleeper = Sleeper { waiting: AtomicBool::new(false), waker: Mutex::new(None) };
        List {
            newest: CachePadded::new(AtomicPtr::new(ptr::null_mut())),
            closed: AtomicBool::new(false),
            taken: AtomicU64::new(MORE),
            sleeper: Arc::new(sleeper),
        }
    }

    /// The owner of the slots goes, and has taken so many for the list.
    pub(super) fn end(&self, taken: u64) {
        // Relaxed: but a number, and the fence in `take` orders it; partner of the load in `look`.
        self.taken.store(taken, Ordering::Relaxed);
        if is_planted(Fault::CompletionEndSilent) {
            return;
        }
        if let Some(waker) = self.sleeper.take() {
            shim::wake(waker);
        }
    }

    /// Whether somebody pops, or will.
    pub(super) fn is_open(&self) -> bool {
        // Relaxed: who sees it late lists onto a closed list; partner of the swap in `shut`.
        !self.closed.load(Ordering::Relaxed)
    }
}

/// Puts a settled slot on its list. If nobody pops any more, it is freed.
///
/// # Safety
/// The slot is settled and the caller's, who does not touch it afterwards.
pub(super) unsafe fn list<T>(slot: *mut Slot<T>) -> Told {
    // SAFETY: until the exchange succeeds the slot is the caller's, and in use, so that its pool is alive; nothing of
    // either is touched afterwards.
    unsafe {
        let list: &List<T> = &(*pool_of(slot)).completions;
        // Relaxed: the newest is only compared and linked.
        let mut newest = list.newest.load(Ordering::Relaxed);
        loop {
            if newest == closed() {
                match take_run(slot) {
                    Some(run) => run.forgo(),
                    None => {
                        let end = take_end(slot);
                        free(slot);
                        drop(end);
                    }
                }
                return Told::Handle;
            }
            (*slot).extra.with_mut(|extra| (*extra).listed.next = newest);
            let sleeper = newest.is_null().then(|| Arc::clone(&list.sleeper));
            // Release: the slot is settled and linked; partner of the swaps in `refill` and in the drop.
            let success = order(Ordering::Release, Fault::CompletionRelaxed);
            match list.newest.compare_exchange(newest, slot, success, Ordering::Relaxed) {
                Ok(_) => return Told::Listed(sleeper.and_then(|sleeper| sleeper.take())),
                Err(now) => newest = now,
            }
        }
    }
}

impl Sleeper {
    /// The waker of who sleeps. Called after something was listed, or it was said that nothing more will be.
    fn take(&self) -> Option<Waker> {
        // Partner of the fence in `poll_any`: it sees that, or we see that it waits (L2).
        fence_against(Fault::CompletionUnfenced);
        // Relaxed: the fence orders it; partner of the swap in `poll_any`.
        if !self.waiting.load(Ordering::Relaxed) {
            return None;
        }
        // Acquire: the waker is there; partner of the same swap.
        if self.waiting.swap(false, Ordering::AcqRel) { shim::lock(&self.waker).take() } else { None }
    }
}

/// A record that was settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed<T> {
    /// What the caller gave it.
    pub number: u64,
    /// How it ended.
    pub end: End<T>,
}

/// The popping end of the list.
pub struct Completions<T: Clone + Send + 'static> {
    pool: NonNull<Pool<T>>,
    /// Taken from the list and not popped: first these records, if there are any left of a run,
    run: Option<Run<T>>,
    /// and then these slots, the oldest first.
    pending: *mut Slot<T>,
    /// Popped, and not given back yet; none if nothing is pending.
    freed: Freed<T>,
    popped: u64,
}

/// Slots that are given back together, at most.
const FREED_MAX: usize = 64;

// SAFETY: the pool lives as long as this counts as one of its users; the slots of `pending` and `freed` are this end's alone.
unsafe impl<T: Clone + Send> Send for Completions<T> {}

impl<T: Clone + Send + 'static> Completions<T> {
    /// The end of `pool`'s list; there is one, which the pool counts as a user.
    pub(super) fn new(pool: NonNull<Pool<T>>) -> Completions<T> {
        Completions { pool, run: None, pending: ptr::null_mut(), freed: Freed::none(), popped: 0 }
    }

    /// The oldest completion of those that were settled up to some moment before. Its slot is freed with those of some
    /// others, at the latest when none of them is left.
    #[inline]
    pub fn pop(&mut self) -> Option<Completed<T>> {
        self.pop_with(|number, end| Completed { number, end: end.map(|(value, place)| (value.clone(), place)) })
    }

    /// The same, shown to `told` instead of given away: the number, and the value with the record's place, or nothing.
    /// Neighbours mostly share their value, and to share it once more costs more than to look at it.
    #[inline]
    pub fn pop_with<R>(&mut self, told: impl FnOnce(u64, Result<(&T, u32), Abandoned>) -> R) -> Option<R> {
        if !self.has_run() {
            let slot = self.next_slot()?.as_ptr();
            // SAFETY: L1; it is ours alone, and no longer pending.
            unsafe {
                self.run = take_run(slot);
                if self.run.is_none() {
                    let end = take_end(slot);
                    let number = self.give_up(slot);
                    return Some(told(number, end.as_ref().map(|(value, place)| (value, *place)).map_err(|no| *no)));
                }
            }
        }
        let (slot, place) = self.run.as_mut()?.pop()?;
        // SAFETY: the slot was the run's, and so is ours.
        let number = unsafe { self.give_up(slot) };
        let answer = told(number, Ok((self.run.as_ref()?.value(), place)));
        if !self.has_run() {
            self.run = None;
        }
        Some(answer)
    }

    /// The oldest slot that is pending, or on the list; it is pending no longer.
    fn next_slot(&mut self) -> Option<NonNull<Slot<T>>> {
        if self.pending.is_null() {
            self.refill(ptr::null_mut());
        }
        let slot = NonNull::new(self.pending)?;
        // SAFETY: L1; what is pending is ours alone.
        self.pending = unsafe { (*slot.as_ptr()).extra.with(|extra| (*extra).listed.next) };
        Some(slot)
    }

    /// The number of a record that was taken from what is pending. Its slot is given back, at once or with others.
    ///
    /// # Safety
    /// The slot is ours alone, and nothing else is done with it afterwards.
    #[inline]
    unsafe fn give_up(&mut self, slot: *mut Slot<T>) -> u64 {
        self.popped += 1;
        // SAFETY: the caller's word; a slot that was taken for the list has a number until it is given back.
        unsafe {
            let number = (*slot).extra.with(|extra| (*extra).listed.number);
            self.freed.add(slot);
            if !self.has_pending() || self.freed.len() == FREED_MAX {
                self.freed.give_back();
            }
            number
        }
    }

    /// Ready with true if there is a completion, and with false if there will never be one more, as the owner of the
    /// slots is gone and all that it took for the list was popped; else `cx`'s waker is called when that changes. Only the latest waker
    /// counts.
    pub fn poll_any(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if let Some(any) = self.look() {
            return Poll::Ready(any);
        }
        let sleeper = &self.list().sleeper;
        let former = shim::lock(&sleeper.waker).replace(cx.waker().clone());
        // Release: the waker is there; partner of load and swap in `take`.
        sleeper.waiting.swap(true, Ordering::SeqCst);
        // Partner of the fence in `take` (L2).
        fence(Ordering::SeqCst);
        drop(former);
        // The flag may stay: at worst a waker is called for nothing, once.
        self.look().map_or(Poll::Pending, Poll::Ready)
    }

    /// Whether there is a completion, if that is clear.
    fn look(&self) -> Option<bool> {
        if self.has_any() {
            return Some(true);
        }
        // Relaxed: but a number (L3); partner of the store in `end`.
        (self.list().taken.load(Ordering::Relaxed) == self.popped).then_some(false)
    }

    /// Whether the next [`Completions::pop`] takes from what was on the list before.
    pub fn has_pending(&self) -> bool {
        self.has_run() || !self.pending.is_null()
    }

    /// Whether the first of what is pending is of a run.
    fn has_run(&self) -> bool {
        self.run.as_ref().is_some_and(|run| !run.is_empty())
    }

    fn has_any(&self) -> bool {
        // Relaxed: only whether there is one is asked; partner of the exchange in `list`.
        self.has_pending() || !self.list().newest.load(Ordering::Relaxed).is_null()
    }

    fn list(&self) -> &List<T> {
        // SAFETY: the pool lives as long as this end.
        unsafe { &self.pool.as_ref().completions }
    }

    /// Takes all that is listed and turns it round; leaves `end` in its place.
    #[inline(never)]
    fn refill(&mut self, end: *mut Slot<T>) {
        // Acquire: the slots are settled and linked; partner of the exchange in `list`.
        let mut newest = self.list().newest.swap(end, order(Ordering::Acquire, Fault::CompletionRelaxed));
        if is_planted(Fault::CompletionUnturned) {
            self.pending = newest;
            return;
        }
        while !newest.is_null() {
            let slot = newest;
            // SAFETY: L1; what was on the list is ours alone now.
            newest =
                unsafe { (*slot).extra.with_mut(|extra| std::mem::replace(&mut (*extra).listed.next, self.pending)) };
            self.pending = slot;
        }
    }
}

impl<T: Clone + Send + 'static> Completions<T> {
    /// Closes the list. Answers how many completions nobody has popped.
    pub fn close(mut self) -> u64 {
        self.shut()
    }

    fn shut(&mut self) -> u64 {
        // Relaxed: partner of the load in `is_open`.
        if self.list().closed.swap(true, Ordering::Relaxed) {
            return 0;
        }
        let mut left = self.drop_pending();
        self.refill(closed());
        if !is_planted(Fault::CompletionCloseForgets) {
            left += self.drop_pending();
        }
        left
    }

    fn drop_pending(&mut self) -> u64 {
        let mut dropped = 0;
        while self.has_pending() {
            drop(self.pop());
            dropped += 1;
        }
        dropped
    }
}

impl<T: Clone + Send + 'static> Drop for Completions<T> {
    fn drop(&mut self) {
        self.shut();
        // SAFETY: this end is gone after this, and with it its use of the pool.
        unsafe { leave_pool(self.pool, 1) };
    }
}

impl<T: Clone + Send + 'static> fmt::Debug for Completions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completions").finish_non_exhaustive()
    }
}
