//! The slots of one submitter: the ledger of accepted records, one slot for each that is not settled and taken.
//!
//! ```text
//!   Slots (owner) ──▶ local free slots ◀─ all at once ─┐
//!        │                                             │
//!        └──▶ Pool: segments of slots, free list ◀─ one at a time ── the later end of each slot
//! ```
//!
//! ```text
//!   segment:  pool's address │ slot 0 │ slot 1 │ … │ slot 1022       a slot knows its place, so it finds the pool
//! ```
//!
//! Promises: a slot's address is stable (segments are grown one at a time, and freed together); the pool outlives its
//! owner as long as a slot is in use, without a count that every take would have to touch.
//!
//! Cost: to take a slot touches nothing that is shared, unless the owner has none left; to free one is one
//! compare-and-swap. Nothing is allocated until more slots are in use than ever before.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::completions::{Completions, List};
use super::fault::{Fault, is_planted, order};
use super::handle::Handle;
use super::shim::{AtomicIsize, AtomicPtr, AtomicU64, Ordering, UnsafeCell};
use super::slot::{SEGMENT_MAX, Slot};
use super::ticket::{Ticket, ends, listed_end, lone_end};

/// Slots of a segment; with the pool's address before them it is 32 KiB.
const SEGMENT: usize = if cfg!(loom) { 2 } else { 1023 };
const _: () = assert!(SEGMENT <= SEGMENT_MAX);

/// Counts the records that were abandoned: accepted, and dropped by whoever had to settle them.
#[derive(Debug)]
pub struct Ledger {
    abandoned: AtomicU64,
    /// Of these, those that nobody waited for.
    abandoned_lone: AtomicU64,
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Ledger {
        Ledger { abandoned: AtomicU64::new(0), abandoned_lone: AtomicU64::new(0) }
    }

    /// Records abandoned so far.
    pub fn abandoned(&self) -> u64 {
        // Relaxed: a statistic; partner of `add_abandoned`.
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Of these, the records that nobody waited for from the start.
    pub fn abandoned_lone(&self) -> u64 {
        // Relaxed: as above.
        self.abandoned_lone.load(Ordering::Relaxed)
    }

    /// One more.
    pub(super) fn add_abandoned(&self, lone: bool) {
        // Relaxed: statistics; partners of the loads above.
        self.abandoned.fetch_add(1, Ordering::Relaxed);
        if lone {
            self.abandoned_lone.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger::new()
    }
}

/// What the slots of one submitter share. It outlives its [`Slots`] while any slot is in use.
pub(super) struct Pool<T> {
    /// Freed slots: pushed by anyone, taken whole by the owner, so that there is no ABA. `closed()` once the owner
    /// is gone.
    free: CachePadded<AtomicPtr<Slot<T>>>,
    /// Settled slots that go to the submitter's list.
    pub(super) completions: CachePadded<List<T>>,
    /// Users after the owner is gone: slots, and the popping end of the list. See `Slots::drop`.
    remaining: AtomicIsize,
    pub(super) ledger: Arc<Ledger>,
    /// The first slot of each. The owner's while there is one, then of whoever frees the pool.
    segments: UnsafeCell<Vec<NonNull<Slot<T>>>>,
}

/// The pool of a slot.
///
/// # Safety
/// The slot is in use, and `slot` was handed out by its owner.
pub(super) unsafe fn pool_of<T>(slot: *mut Slot<T>) -> *mut Pool<T> {
    // SAFETY: the caller's word: `grow` has written the pool's address into the place before the segment's first slot,
    // in the same allocation.
    unsafe { slot.sub((*slot).index() + 1).cast::<*mut Pool<T>>().read() }
}

/// A segment with the place before it.
fn segment_layout<T>() -> Layout {
    Layout::array::<Slot<T>>(SEGMENT + 1).expect("32 KiB")
}

/// The end of a free list whose owner is gone. No slot has this address: it is not aligned.
fn closed<T>() -> *mut Slot<T> {
    ptr::without_provenance_mut(1)
}

/// The slots of one submitter.
pub struct Slots<T: Send + 'static> {
    pool: NonNull<Pool<T>>,
    /// Free slots that the owner took back.
    local: *mut Slot<T>,
    /// The next slot of the newest segment that was never taken, and how many follow.
    fresh: *mut Slot<T>,
    fresh_left: usize,
    /// Whether the list's popping end was given out.
    lists: bool,
    /// Slots taken for that list so far.
    listed: u64,
}

// SAFETY: the pointers lead to the pool and its slots, which any thread may free and settle; what is the owner's
// (`local`, `fresh`, `segments`) moves with it.
unsafe impl<T: Send> Send for Slots<T> {}

impl<T: Send + 'static> Slots<T> {
    /// Slots whose abandoned records `ledger` counts. Allocates the first segment.
    pub fn new(ledger: Arc<Ledger>) -> Slots<T> {
        let pool = Box::new(Pool {
            free: CachePadded::new(AtomicPtr::new(ptr::null_mut())),
            completions: CachePadded::new(List::new()),
            remaining: AtomicIsize::new(0),
            ledger,
            segments: UnsafeCell::new(Vec::new()),
        });
        let pool = NonNull::from(Box::leak(pool));
        let mut slots =
            Slots { pool, local: ptr::null_mut(), fresh: ptr::null_mut(), fresh_left: 0, lists: false, listed: 0 };
        slots.grow();
        slots
    }

    /// A slot for a record whose caller waits for the outcome.
    #[inline]
    pub fn take(&mut self) -> (Ticket<T>, Handle<T>) {
        ends(self.take_slot())
    }

    /// A slot for a record that nobody waits for. It is freed when it is settled, and the settler gets the value back.
    #[inline]
    pub fn take_lone(&mut self) -> Ticket<T> {
        lone_end(self.take_slot())
    }

    /// A slot for a record whose outcome goes to the list of completions, under `number`. As long as nobody pops,
    /// settled records stay on the list.
    #[inline]
    pub fn take_listed(&mut self, number: u64) -> Ticket<T> {
        self.listed += 1;
        listed_end(self.take_slot(), number)
    }

    /// The popping end of the list of completions, the first time.
    pub fn completions(&mut self) -> Option<Completions<T>> {
        (!mem::replace(&mut self.lists, true)).then(|| Completions::new(self.pool))
    }

    /// Whether completions were asked for, and are still popped.
    pub fn has_completions(&self) -> bool {
        // SAFETY: the pool lives as long as its owner.
        self.lists && unsafe { self.pool.as_ref().completions.is_open() }
    }

    /// Segments so far.
    #[cfg(all(test, not(loom)))]
    pub(super) fn segments(&self) -> usize {
        // SAFETY: the pool lives as long as its owner, and the list of segments is the owner's.
        unsafe { self.pool.as_ref().segments.with(|segments| (*segments).len()) }
    }

    #[inline]
    fn take_slot(&mut self) -> NonNull<Slot<T>> {
        if self.local.is_null() && self.fresh_left == 0 {
            self.refill();
        }
        let slot = if self.local.is_null() {
            let slot = self.fresh;
            self.fresh_left -= 1;
            // SAFETY: `fresh` points into the newest segment with `fresh_left` slots from it on.
            self.fresh = unsafe { slot.add(1) };
            slot
        } else {
            let slot = self.local;
            // SAFETY: the owner's free list links free slots of live segments, and nobody else touches those.
            self.local = unsafe { (*slot).body.with(|body| (*body).next) };
            slot
        };
        // SAFETY: a slot's address is not null.
        unsafe { NonNull::new_unchecked(slot) }
    }

    /// Takes back all slots that were freed meanwhile, or grows.
    #[cold]
    fn refill(&mut self) {
        // SAFETY: the pool lives as long as its owner.
        let free = unsafe { &self.pool.as_ref().free };
        // Acquire: partner of the push in `free`, so that what the freeing side did to the slot is done.
        self.local = free.swap(ptr::null_mut(), order(Ordering::Acquire, Fault::SlotFreeRelaxed));
        if self.local.is_null() {
            self.grow();
        }
    }

    fn grow(&mut self) {
        let layout = segment_layout::<T>();
        // SAFETY: the layout is not empty, and has room for the pool's address and SEGMENT slots behind it.
        unsafe {
            let Some(base) = NonNull::new(alloc(layout).cast::<Slot<T>>()) else { handle_alloc_error(layout) };
            base.cast::<*mut Pool<T>>().write(self.pool.as_ptr());
            let first = base.add(1);
            (0..SEGMENT).for_each(|index| first.add(index).write(Slot::new(index)));
            // The pool lives as long as its owner, and the list of segments is the owner's.
            self.pool.as_ref().segments.with_mut(|segments| (*segments).push(first));
            self.fresh = first.as_ptr();
        }
        self.fresh_left = SEGMENT;
    }
}

impl<T: Send + 'static> Drop for Slots<T> {
    /// Leaves the pool to the slots that are still in use.
    ///
    /// The swap closes the free list. A slot pushed before it is counted as free here; one freed after it finds the
    /// list closed and subtracts one from `remaining`, which starts at 0 and so may go below it; so does the popping end
    /// of the completions whenever it goes. The owner adds the number of these users, once. The sum reaches exactly zero
    /// once, when all of them and the owner have been there, and whoever brings it there is the last to know the pool,
    /// and frees it.
    fn drop(&mut self) {
        let pool = self.pool;
        // If nobody pops, the list is closed, as nobody ever will.
        drop(self.completions());
        // SAFETY: as below.
        unsafe { pool.as_ref().completions.end(self.listed) };
        // SAFETY: the pool lives as long as its owner has not added its part to `remaining`.
        let (freed, slots) = unsafe {
            // Acquire: partner of the pushes in `free`. Release is not needed: who sees `closed` reads nothing of ours.
            let freed = pool.as_ref().free.swap(closed(), Ordering::Acquire);
            (freed, pool.as_ref().segments.with(|segments| (*segments).len()) * SEGMENT)
        };
        // SAFETY: both lists link free slots, which only the owner touches.
        let (local, freed) = unsafe { (length(self.local), length(freed)) };
        let freed = if is_planted(Fault::SlotsMiscounted) { 0 } else { freed };
        let users = slots - local - freed - self.fresh_left + usize::from(self.lists);
        let in_use = isize::try_from(users).expect("a count of objects in memory fits");
        // AcqRel: partner of the subtractions in `free`; the last one sees what all the others did.
        // SAFETY: as above; the pool is not touched after this, unless it fell to us.
        let before = unsafe { pool.as_ref().remaining.fetch_add(in_use, Ordering::AcqRel) };
        if before + in_use == 0 {
            // SAFETY: the sum is zero, so nobody else knows the pool.
            unsafe { free_pool(pool) };
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Slots<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").finish_non_exhaustive()
    }
}

/// Length of a free list.
///
/// # Safety
/// The list's slots are free and the caller's.
unsafe fn length<T>(mut slot: *mut Slot<T>) -> usize {
    let mut length = 0;
    while !slot.is_null() {
        length += 1;
        // SAFETY: the caller's word.
        slot = unsafe { (*slot).body.with(|body| (*body).next) };
    }
    length
}

/// Gives a slot back: to its submitter, or to the end of its pool.
///
/// # Safety
/// Both ends are done with the slot: the caller is the later of the two, and does not touch the slot afterwards.
pub(super) unsafe fn free<T>(slot: *mut Slot<T>) {
    // SAFETY: the slot is in use until it is pushed or counted below, so the pool is alive until then.
    unsafe {
        let pool = pool_of(slot);
        (*slot).retire();
        let list = &raw const (*pool).free;
        // Relaxed: the head is only compared and linked, never read through.
        let mut head = (*list).load(Ordering::Relaxed);
        while head != closed() {
            (*slot).body.with_mut(|body| (*body).next = head);
            // Release: partner of the owner's swaps in `refill` and `drop`, which then may reuse the slot.
            let success = order(Ordering::Release, Fault::SlotFreeRelaxed);
            match (*list).compare_exchange_weak(head, slot, success, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
        leave_pool(NonNull::new_unchecked(pool));
    }
}

/// A user leaves the pool, which is freed if it was the last and the owner is gone.
///
/// # Safety
/// The caller is a user that the owner counts or will count, and touches the pool no more.
pub(super) unsafe fn leave_pool<T>(pool: NonNull<Pool<T>>) {
    // AcqRel: partner of the owner's addition and of the other subtractions; see `Slots::drop`.
    // SAFETY: the pool is alive until the subtraction, and after it if the sum says so.
    let before = unsafe { pool.as_ref().remaining.fetch_sub(1, Ordering::AcqRel) };
    if before == 1 {
        // SAFETY: the sum is zero, so nobody else knows the pool.
        unsafe { free_pool(pool) };
    }
}

/// # Safety
/// Nobody else knows the pool or a slot of it.
unsafe fn free_pool<T>(pool: NonNull<Pool<T>>) {
    // SAFETY: the pool was leaked from a box in `new`, and the segments allocated in `grow`; values and wakers were moved
    // out of the slots before they were freed, and slots drop nothing but what loom keeps for them.
    unsafe {
        let pool = Box::from_raw(pool.as_ptr());
        let segments = pool.segments.with_mut(|segments| mem::take(&mut *segments));
        for first in segments {
            ptr::slice_from_raw_parts_mut(first.as_ptr(), SEGMENT).drop_in_place();
            dealloc(first.sub(1).as_ptr().cast(), segment_layout::<T>());
        }
    }
}
