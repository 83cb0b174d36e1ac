//! The slots of one submitter: the ledger of accepted records, one slot for each that is not settled and taken.
//!
//! ```text
//!   Slots (owner) ──▶ local free slots ◀─ all at once ─┐
//!        │                                             │
//!        └──▶ Pool: segments of slots, free list ◀─ one at a time ── the later end of each slot
//! ```
//!
//! Promises: a slot's address is stable (segments of 1024, grown one at a time, freed together); the pool outlives
//! its owner as long as a slot is in use, without a count that every take would have to touch.
//!
//! Cost: to take a slot touches nothing that is shared, unless the owner has none left; to free one is one
//! compare-and-swap. Nothing is allocated until more slots are in use than ever before.

use std::fmt;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::shim::{AtomicIsize, AtomicPtr, AtomicU64, Ordering, UnsafeCell};
use super::slot::{DETACHED, Handle, PENDING, Slot, Ticket, Token};

/// Slots of a segment.
const SEGMENT: usize = if cfg!(loom) { 2 } else { 1024 };

/// Counts the records that were abandoned: accepted, and dropped by whoever had to settle them.
#[derive(Debug)]
pub struct Ledger {
    abandoned: AtomicU64,
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Ledger {
        Ledger { abandoned: AtomicU64::new(0) }
    }

    /// Records abandoned so far.
    pub fn abandoned(&self) -> u64 {
        // Relaxed: a statistic; partner of `add_abandoned`.
        self.abandoned.load(Ordering::Relaxed)
    }

    /// One more.
    pub(super) fn add_abandoned(&self) {
        // Relaxed: a statistic; partner of the load in `abandoned`.
        self.abandoned.fetch_add(1, Ordering::Relaxed);
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
    /// Slots in use after the owner is gone; see `Slots::drop`.
    remaining: AtomicIsize,
    pub(super) ledger: Arc<Ledger>,
    /// The owner's while there is one, then of whoever frees the pool.
    segments: UnsafeCell<Vec<NonNull<[Slot<T>]>>>,
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
}

// SAFETY: the pointers lead to the pool and its slots, which any thread may free and settle; what is the owner's
// (`local`, `fresh`, `segments`) moves with it.
unsafe impl<T: Send> Send for Slots<T> {}

impl<T: Send + 'static> Slots<T> {
    /// Slots whose abandoned records `ledger` counts. Allocates the first segment.
    pub fn new(ledger: Arc<Ledger>) -> Slots<T> {
        let pool = Box::new(Pool {
            free: CachePadded::new(AtomicPtr::new(ptr::null_mut())),
            remaining: AtomicIsize::new(0),
            ledger,
            segments: UnsafeCell::new(Vec::new()),
        });
        let pool = NonNull::from(Box::leak(pool));
        let mut slots = Slots { pool, local: ptr::null_mut(), fresh: ptr::null_mut(), fresh_left: 0 };
        slots.grow();
        slots
    }

    /// A slot for a record whose caller waits for the outcome.
    pub fn take(&mut self) -> (Ticket<T>, Handle<T>) {
        let slot = self.take_slot(PENDING);
        (Ticket(Token::new(slot)), Handle(Some(Token::new(slot))))
    }

    /// A slot for a record whose outcome nobody waits for. It is freed when it is settled.
    pub fn take_detached(&mut self) -> Ticket<T> {
        Ticket(Token::new(self.take_slot(DETACHED)))
    }

    /// Segments so far.
    #[cfg(all(test, not(loom)))]
    pub(super) fn segments(&self) -> usize {
        // SAFETY: the pool lives as long as its owner, and the list of segments is the owner's.
        unsafe { self.pool.as_ref().segments.with(|segments| (*segments).len()) }
    }

    fn take_slot(&mut self, state: u32) -> NonNull<Slot<T>> {
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
        // Relaxed: the slot is still the owner's. Whatever carries its tokens to another thread publishes this.
        // SAFETY: as above.
        unsafe { (*slot).state.store(state, Ordering::Relaxed) };
        // SAFETY: a slot's address is not null.
        unsafe { NonNull::new_unchecked(slot) }
    }

    /// Takes back all slots that were freed meanwhile, or grows.
    #[cold]
    fn refill(&mut self) {
        // SAFETY: the pool lives as long as its owner.
        let free = unsafe { &self.pool.as_ref().free };
        // Acquire: partner of the push in `free`, so that what the freeing side did to the slot is done.
        self.local = free.swap(ptr::null_mut(), Ordering::Acquire);
        if self.local.is_null() {
            self.grow();
        }
    }

    fn grow(&mut self) {
        let segment: Box<[Slot<T>]> = (0..SEGMENT).map(|_| Slot::new(self.pool)).collect();
        let segment = NonNull::from(Box::leak(segment));
        self.fresh = segment.as_ptr().cast();
        self.fresh_left = SEGMENT;
        // SAFETY: the pool lives as long as its owner, and the list of segments is the owner's.
        unsafe { self.pool.as_ref().segments.with_mut(|segments| (*segments).push(segment)) };
    }
}

impl<T: Send + 'static> Drop for Slots<T> {
    /// Leaves the pool to the slots that are still in use.
    ///
    /// The swap closes the free list. A slot pushed before it is counted as free here; one freed after it finds the
    /// list closed and subtracts one from `remaining`, which starts at 0 and so may go below it. The owner adds the
    /// number in use, once. The sum reaches exactly zero once, when all of them and the owner have been there, and
    /// whoever brings it there is the last to know the pool, and frees it.
    fn drop(&mut self) {
        let pool = self.pool;
        // SAFETY: the pool lives as long as its owner has not added its part to `remaining`.
        let (freed, slots) = unsafe {
            // Acquire: partner of the pushes in `free`. Release is not needed: who sees `closed` reads nothing of ours.
            let freed = pool.as_ref().free.swap(closed(), Ordering::Acquire);
            (freed, pool.as_ref().segments.with(|segments| (*segments).len()) * SEGMENT)
        };
        // SAFETY: both lists link free slots, which only the owner touches.
        let free = unsafe { length(self.local) + length(freed) } + self.fresh_left;
        let in_use = isize::try_from(slots - free).expect("a count of objects in memory fits");
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
        let pool = (*slot).pool;
        // Relaxed: only the last user writes it; the push below publishes it to the next.
        let generation = (*slot).generation.load(Ordering::Relaxed);
        (*slot).generation.store(generation.wrapping_add(1), Ordering::Relaxed);
        let list = &raw const (*pool.as_ptr()).free;
        // Relaxed: the head is only compared and linked, never read through.
        let mut head = (*list).load(Ordering::Relaxed);
        while head != closed() {
            (*slot).body.with_mut(|body| (*body).next = head);
            // Release: partner of the owner's swaps in `refill` and `drop`, which then may reuse the slot.
            match (*list).compare_exchange_weak(head, slot, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
        // AcqRel: partner of the owner's addition and of the other subtractions; see `Slots::drop`.
        if (*pool.as_ptr()).remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            free_pool(pool);
        }
    }
}

/// # Safety
/// Nobody else knows the pool or a slot of it.
unsafe fn free_pool<T>(pool: NonNull<Pool<T>>) {
    // SAFETY: pool and segments were leaked from boxes in `new` and `grow`; values and wakers were moved out of the
    // slots before they were freed, and slots drop nothing.
    unsafe {
        let pool = Box::from_raw(pool.as_ptr());
        let segments = pool.segments.with_mut(|segments| mem::take(&mut *segments));
        for segment in segments {
            drop(Box::from_raw(segment.as_ptr()));
        }
    }
}
