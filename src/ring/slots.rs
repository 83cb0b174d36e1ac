//! The slots of one submitter: the ledger of accepted records, one slot for each that is not settled and taken.
//!
//! ```text
//!   Slots (owner) ──▶ local free slots ◀─ all at once ─┐
//!        │                                             │
//!        └──▶ Pool: free list ◀─ one at a time, or some together ── the later end of each slot
//!
//!   segment:  pool's address │ number │ link 0 │ link 1 │ … │ slot 0 │ slot 1 │ …
//! ```
//!
//! A segment fills 64 KiB, and lies at a multiple of that: so whoever has a slot's address knows where the segment begins,
//! and whose it is, without a look at the slot.
//!
//! A slot has a number: that of its segment and its place there. Free slots are linked by numbers, and the links lie
//! beside each other, apart from the slots: to take a slot its owner reads a link, and only writes to the slot. Slots were
//! last written by another thread, so that to read one would cost its owner a cache miss; links of slots that are settled
//! together share their cache lines.
//!
//! Promises: a slot's address is stable (segments are grown one at a time, and freed together); the pool outlives its
//! owner as long as a slot is in use, without a count that every take would have to touch.
//!
//! Cost: 5 bytes a slot beside the slot. To take one touches nothing that is shared, unless the owner has none left; to
//! free some is one compare-and-swap. Nothing is allocated until more slots are in use than ever before.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::mem::{self, offset_of};
use std::ptr::NonNull;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::completions::{Completions, List};
use super::fault::{Fault, is_planted, order};
use super::handle::Handle;
use super::shim::{self, AtomicIsize, AtomicU32, AtomicU64, Ordering, UnsafeCell};
use super::slot::Slot;
use super::ticket::{Ticket, ends, listed_end, lone_end};

/// Slots of a segment: as many as fit.
const SEGMENT: usize = if cfg!(loom) { 2 } else { 1770 };
/// Bytes of a segment, and what its address is a multiple of.
const SEGMENT_BYTES: usize = 1 << 16;
/// How far the numbers of two segments lie apart.
const STRIDE: usize = SEGMENT.next_power_of_two();

/// The end of a free list.
const NONE: u32 = u32::MAX;
/// The end of a free list whose owner is gone.
const CLOSED: u32 = u32::MAX - 1;
/// Segments at most, so that a slot's number is not one of these: far more than `max_outstanding_records`, but outcomes
/// that nobody takes are not bounded by that.
const SEGMENTS_MAX: usize = CLOSED as usize / STRIDE;

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
    /// Freed slots, the latest's number: pushed by anyone, taken whole by the owner, so that there is no ABA. `CLOSED`
    /// once the owner is gone.
    free: CachePadded<AtomicU32>,
    /// Settled slots that go to the submitter's list.
    pub(super) completions: List<T>,
    /// Users after the owner is gone: slots, and the popping end of the list. See `Slots::drop`.
    remaining: AtomicIsize,
    pub(super) ledger: Arc<Ledger>,
    /// Left by the owner, for whoever frees the pool.
    segments: UnsafeCell<Vec<NonNull<Segment<T>>>>,
}

/// A number of slots, made together.
#[repr(C, align(65536))]
struct Segment<T> {
    pool: NonNull<Pool<T>>,
    /// The number of its first slot.
    first: u32,
    /// The number of the next free slot, of each that is free.
    links: [UnsafeCell<u32>; SEGMENT],
    /// The generation that each begins when it is taken.
    generations: [UnsafeCell<u8>; SEGMENT],
    slots: [Slot<T>; SEGMENT],
}

/// The segment of a slot. Neither is looked at.
fn segment_of<T>(slot: *mut Slot<T>) -> *mut Segment<T> {
    slot.map_addr(|address| address & !(SEGMENT_BYTES - 1)).cast()
}

/// The place of a slot in its segment.
fn index_of<T>(slot: *mut Slot<T>) -> usize {
    (slot.addr() % SEGMENT_BYTES - offset_of!(Segment<T>, slots)) / size_of::<Slot<T>>()
}

/// The pool of a slot. The slot is not looked at.
///
/// # Safety
/// The slot is in use, and `slot` was handed out by its owner.
pub(super) unsafe fn pool_of<T>(slot: *mut Slot<T>) -> *mut Pool<T> {
    // SAFETY: the caller's word: its segment is alive, and this was written when that was made.
    unsafe { (*segment_of(slot)).pool.as_ptr() }
}

/// The slots of one submitter.
pub struct Slots<T: Clone + Send + 'static> {
    pool: NonNull<Pool<T>>,
    segments: Vec<NonNull<Segment<T>>>,
    /// Free slots that the owner took back.
    local: u32,
    /// The next slot that was never taken, and the number behind the last.
    fresh: u32,
    fresh_end: u32,
    /// Whether the list's popping end was given out.
    lists: bool,
    /// Slots taken for that list so far.
    listed: u64,
}

// SAFETY: the pointers lead to the pool and its slots, which any thread may free and settle; what is the owner's moves
// with it.
unsafe impl<T: Clone + Send> Send for Slots<T> {}

impl<T: Clone + Send + 'static> Slots<T> {
    /// Slots whose abandoned records `ledger` counts. Allocates the first segment.
    pub fn new(ledger: Arc<Ledger>) -> Slots<T> {
        let pool = Box::new(Pool {
            free: CachePadded::new(AtomicU32::new(NONE)),
            completions: List::new(),
            remaining: AtomicIsize::new(0),
            ledger,
            segments: UnsafeCell::new(Vec::new()),
        });
        let pool = NonNull::from(Box::leak(pool));
        let segments = Vec::new();
        let mut slots = Slots { pool, segments, local: NONE, fresh: 0, fresh_end: 0, lists: false, listed: 0 };
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
        self.segments.len()
    }

    /// A free slot, and the generation that it begins.
    #[inline]
    fn take_slot(&mut self) -> (NonNull<Slot<T>>, Start) {
        if self.local == NONE && self.fresh == self.fresh_end {
            self.refill();
        }
        let number = if self.local == NONE {
            self.fresh += 1;
            self.fresh - 1
        } else {
            self.local
        };
        let index = number as usize % STRIDE;
        let segment = self.segments[number as usize / STRIDE].as_ptr();
        // SAFETY: the slot is free and the owner's, and so is its link; its segment lives as long as the pool.
        unsafe {
            let generation = (*segment).generations[index].with(|generation| *generation);
            if self.local != NONE {
                self.local = (*segment).links[index].with(|next| *next);
                self.expect(self.local);
            }
            let slot = (&raw mut (*segment).slots).cast::<Slot<T>>().add(index);
            (NonNull::new_unchecked(slot), Start(generation))
        }
    }

    /// Asks the processor for a free slot, which another thread has last written.
    #[inline]
    fn expect(&self, number: u32) {
        if let Some(segment) = self.segments.get(number as usize / STRIDE) {
            let index = number as usize % STRIDE;
            // SAFETY: the segment lives as long as the pool, and addresses within it are only computed.
            unsafe {
                let segment = segment.as_ptr();
                shim::expect_write((&raw const (*segment).slots).cast::<Slot<T>>().add(index));
                shim::expect_write((&raw const (*segment).links).cast::<UnsafeCell<u32>>().add(index));
                shim::expect_write((&raw const (*segment).generations).cast::<UnsafeCell<u8>>().add(index));
            }
        }
    }

    /// Takes back all slots that were freed meanwhile, or grows.
    #[cold]
    #[inline(never)]
    fn refill(&mut self) {
        // Acquire: partner of the push in `free`, so that what the freeing side did to the slot is done.
        let acquire = order(Ordering::Acquire, Fault::SlotFreeRelaxed);
        // SAFETY: the pool lives as long as its owner.
        self.local = unsafe { self.pool.as_ref().free.swap(NONE, acquire) };
        if self.local == NONE {
            self.grow();
        }
    }

    fn grow(&mut self) {
        assert!(self.segments.len() < SEGMENTS_MAX, "four billion records whose outcomes nobody took");
        const { assert!(size_of::<Segment<T>>() == SEGMENT_BYTES, "a slot holds no more than a shared value of 8 bytes") };
        let layout = Layout::new::<Segment<T>>();
        let first = (self.segments.len() * STRIDE) as u32; // SEGMENTS_MAX
        // SAFETY: the layout is not empty, and every field is written in place.
        let segment = unsafe {
            let Some(segment) = NonNull::new(alloc(layout).cast::<Segment<T>>()) else { handle_alloc_error(layout) };
            let at = segment.as_ptr();
            (&raw mut (*at).pool).write(self.pool);
            (&raw mut (*at).first).write(first);
            for index in 0..SEGMENT {
                (&raw mut (*at).links).cast::<UnsafeCell<u32>>().add(index).write(UnsafeCell::new(NONE));
                (&raw mut (*at).generations).cast::<UnsafeCell<u8>>().add(index).write(UnsafeCell::new(0));
                (&raw mut (*at).slots).cast::<Slot<T>>().add(index).write(Slot::new());
            }
            segment
        };
        self.segments.push(segment);
        (self.fresh, self.fresh_end) = (first, first + SEGMENT as u32);
    }

    /// Length of a free list of ours.
    fn length(&self, mut number: u32) -> usize {
        let mut length = 0;
        while number != NONE {
            length += 1;
            let segment = self.segments[number as usize / STRIDE];
            // SAFETY: the slot is free and ours, and so is its link.
            number = unsafe { segment.as_ref().links[number as usize % STRIDE].with(|next| *next) };
        }
        length
    }
}

/// How a slot begins: its generation.
#[derive(Clone, Copy)]
pub(super) struct Start(pub(super) u8);

impl<T: Clone + Send + 'static> Drop for Slots<T> {
    /// Leaves the pool to the slots that are still in use.
    ///
    /// The swap closes the free list. A slot pushed before it is counted as free here; one freed after it finds the
    /// list closed and is subtracted from `remaining`, which starts at 0 and so may go below it; so does the popping end
    /// of the completions whenever it goes. The owner adds the number of these users, once. The sum reaches exactly zero
    /// once, when all of them and the owner have been there, and whoever brings it there is the last to know the pool,
    /// and frees it.
    fn drop(&mut self) {
        let pool = self.pool;
        // If nobody pops, the list is closed, as nobody ever will.
        drop(self.completions());
        // SAFETY: as below.
        unsafe { pool.as_ref().completions.end(self.listed) };
        // Acquire: partner of the pushes in `free`. Release is not needed: who sees `CLOSED` reads nothing of ours.
        // SAFETY: the pool lives as long as its owner has not added its part to `remaining`.
        let freed = unsafe { pool.as_ref().free.swap(CLOSED, Ordering::Acquire) };
        let (local, freed) = (self.length(self.local), self.length(freed));
        let freed = if is_planted(Fault::SlotsMiscounted) { 0 } else { freed };
        let fresh = (self.fresh_end - self.fresh) as usize;
        let users = self.segments.len() * SEGMENT - local - freed - fresh + usize::from(self.lists);
        let in_use = isize::try_from(users).expect("a count of objects in memory fits");
        let segments = mem::take(&mut self.segments);
        // AcqRel: partner of the subtractions in `leave_pool`; the last one sees what all the others did.
        // SAFETY: as above, and the cell is the owner's until then; the pool is not touched after this, unless it fell to
        // us.
        let before = unsafe {
            pool.as_ref().segments.with_mut(|left| *left = segments);
            pool.as_ref().remaining.fetch_add(in_use, Ordering::AcqRel)
        };
        if before + in_use == 0 {
            // SAFETY: the sum is zero, so nobody else knows the pool.
            unsafe { free_pool(pool) };
        }
    }
}

impl<T: Clone + Send + 'static> fmt::Debug for Slots<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").finish_non_exhaustive()
    }
}

/// Gives a slot back: to its submitter, or to the end of its pool.
///
/// # Safety
/// Both ends are done with the slot: the caller is the later of the two, and does not touch the slot afterwards.
#[inline]
pub(super) unsafe fn free<T>(slot: *mut Slot<T>) {
    // SAFETY: the slot is in use until it is given back, so that its pool is alive.
    unsafe {
        let mut freed = Freed::none();
        freed.add(slot);
        freed.give_back();
    }
}

/// Slots of one pool that are given back together: linked by their numbers, the latest first. Until then they count as in
/// use.
pub(super) struct Freed<T> {
    /// `NONE` if there are none.
    latest: u32,
    /// Where the first of them keeps its link.
    first: Option<(NonNull<Segment<T>>, usize)>,
    slots: isize,
}

impl<T> Freed<T> {
    pub(super) const fn none() -> Freed<T> {
        Freed { latest: NONE, first: None, slots: 0 }
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.slots as usize
    }

    /// # Safety
    /// As [`free`]; and the slot is of the same pool as the others.
    #[inline]
    pub(super) unsafe fn add(&mut self, slot: *mut Slot<T>) {
        // SAFETY: the slot is in use until it is given back, so its segment is alive, and its link is the caller's.
        unsafe {
            let (segment, index) = (NonNull::new_unchecked(segment_of(slot)), index_of(slot));
            let generation = (*slot).next_generation();
            (*segment.as_ptr()).generations[index].with_mut(|begins| *begins = generation);
            (*segment.as_ptr()).links[index].with_mut(|next| *next = self.latest);
            self.first.get_or_insert((segment, index));
            self.latest = (*segment.as_ptr()).first + index as u32;
        }
        self.slots += 1;
    }

    /// Gives them back, if there are any.
    #[inline]
    pub(super) fn give_back(&mut self) {
        let Freed { latest, first, slots } = mem::replace(self, Freed::none());
        let Some((segment, index)) = first else { return };
        // SAFETY: they are in use until now, and so their segments and their pool are alive; the links are ours until the
        // exchange succeeds, and nothing is touched afterwards.
        unsafe {
            let pool = segment.as_ref().pool;
            let list = &pool.as_ref().free;
            // Relaxed: the head is only compared and linked, never read through.
            let mut head = list.load(Ordering::Relaxed);
            while head != CLOSED {
                (*segment.as_ptr()).links[index].with_mut(|next| *next = head);
                // Release: partner of the owner's swaps in `refill` and `drop`, which then may reuse the slots.
                let success = order(Ordering::Release, Fault::SlotFreeRelaxed);
                match list.compare_exchange_weak(head, latest, success, Ordering::Relaxed) {
                    Ok(_) => return,
                    Err(now) => head = now,
                }
            }
            leave_pool(pool, if is_planted(Fault::FreedMiscounted) { 1 } else { slots });
        }
    }
}

/// Users leave the pool, which is freed if they were the last and the owner is gone.
///
/// # Safety
/// They are users that the owner counts or will count, and touch the pool no more.
pub(super) unsafe fn leave_pool<T>(pool: NonNull<Pool<T>>, users: isize) {
    // AcqRel: partner of the owner's addition and of the other subtractions; see `Slots::drop`.
    // SAFETY: the pool is alive until the subtraction, and after it if the sum says so.
    let before = unsafe { pool.as_ref().remaining.fetch_sub(users, Ordering::AcqRel) };
    if before == users {
        // SAFETY: the sum is zero, so nobody else knows the pool.
        unsafe { free_pool(pool) };
    }
}

/// # Safety
/// Nobody else knows the pool or a slot of it.
unsafe fn free_pool<T>(pool: NonNull<Pool<T>>) {
    // SAFETY: the pool was leaked from a box in `new`, and the segments allocated in `grow`; values and wakers were moved
    // out of the slots before they were freed, so that only what loom keeps for cells and atomics is dropped.
    unsafe {
        let pool = Box::from_raw(pool.as_ptr());
        let segments = pool.segments.with_mut(|segments| mem::take(&mut *segments));
        for segment in segments {
            segment.drop_in_place();
            dealloc(segment.as_ptr().cast(), Layout::new::<Segment<T>>());
        }
    }
}
