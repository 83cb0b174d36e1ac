//! One outcome slot and its two ends: the [`Ticket`], which travels with the record to whoever settles it, and the
//! [`Handle`], with which the caller learns the outcome. The slot is freed by the later of settling and the handle's
//! drop; a detached record has no handle.
//!
//! ```text
//!               poll registers                      handle dropped
//!   take ─▶ PENDING ◀────────▶ WAITING       PENDING ────────────▶ DETACHED ◀─ take_detached
//!              │  poll reclaims   │                                    ▲ │
//!      settled │                  │ settled       handle took or       │ │ settled:
//!              ▼   waker is out   ▼               dropped the value    │ ▼ the ticket frees
//!           SETTLED ◀───────── NOTIFYING ──────────────────────────────┘ free
//!              │ handle took or dropped the value: the handle frees
//!              ▼
//!            free
//! ```
//!
//! | state | ends alive | value cell | waker cell | who moves it |
//! |---|---|---|---|---|
//! | `PENDING` | both | empty, the ticket's | empty, the handle's | both |
//! | `WAITING` | both | empty, the ticket's | a waker, read by both | both |
//! | `NOTIFYING` | both | the handle's | the ticket's, which moves the waker out | both |
//! | `SETTLED` | handle | the handle's | empty | handle |
//! | `DETACHED` | ticket | the ticket's | empty | ticket |
//!
//! `NOTIFYING` and `SETTLED` carry the flag `EMPTY` if the ticket was dropped instead of settled: there is no value,
//! the record was abandoned. Settling never waits for a handle, nor a handle for settling.
//!
//! Promises: no accepted record is without an outcome, as a ticket that is not settled abandons its record when it is
//! dropped; nobody's waker runs inside of settling. A token whose slot was freed is caught by an assertion: four bits
//! of the slot's generation stand in its low bits.
//!
//! Cost: 48 bytes a slot for a result of 16 bytes; to settle is one compare-and-swap, two if somebody waits.

use std::fmt;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::ptr::{self, NonNull};
use std::task::{Context, Poll, Waker};

use super::shim::{self, AtomicU32, Ordering, UnsafeCell};
use super::slots::{Pool, free};

/// The low bits of a slot's address, in which a token keeps its generation.
const TAG: usize = 15;

pub(super) const PENDING: u32 = 0;
const WAITING: u32 = 1;
pub(super) const DETACHED: u32 = 2;
const NOTIFYING: u32 = 3;
const SETTLED: u32 = 4;
/// Flag beside `NOTIFYING` and `SETTLED`: abandoned, there is no value.
const EMPTY: u32 = 8;

/// The record was dropped by whoever had to settle it; nothing is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abandoned;

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the record was abandoned")
    }
}

impl std::error::Error for Abandoned {}

/// A slot.
#[repr(C, align(16))]
pub(super) struct Slot<T> {
    /// Moved as the essay's picture says.
    pub(super) state: AtomicU32,
    /// How often the slot was freed. Written by who frees it, read by every token.
    pub(super) generation: AtomicU32,
    /// Where the slot belongs; alive as long as any of its slots is in use.
    pub(super) pool: NonNull<Pool<T>>,
    pub(super) body: UnsafeCell<Body<T>>,
    waker: UnsafeCell<MaybeUninit<Waker>>,
}

/// The value once settled, the next free slot while free.
pub(super) union Body<T> {
    pub(super) next: *mut Slot<T>,
    value: ManuallyDrop<MaybeUninit<T>>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot<[u64; 2]>>() <= 48, "a slot for a result of 16 bytes");
const _: () = assert!(align_of::<Slot<u64>>() > TAG, "the tag fits below a slot's address");

impl<T> Slot<T> {
    /// A free slot.
    pub(super) fn new(pool: NonNull<Pool<T>>) -> Slot<T> {
        Slot {
            state: AtomicU32::new(DETACHED),
            generation: AtomicU32::new(0),
            pool,
            body: UnsafeCell::new(Body { next: ptr::null_mut() }),
            waker: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }
}

/// A slot's address with its generation in the low bits.
pub(super) struct Token<T>(NonNull<Slot<T>>);

impl<T> Token<T> {
    pub(super) fn new(slot: NonNull<Slot<T>>) -> Token<T> {
        // SAFETY: the slot was just taken.
        let generation = unsafe { slot.as_ref().generation.load(Ordering::Relaxed) } as usize;
        Token(slot.map_addr(|address| address | (generation & TAG)))
    }

    /// The slot. Nothing borrows it: the other end may free it as soon as the state says so.
    fn slot(&self) -> *mut Slot<T> {
        let tag = self.0.addr().get() & TAG;
        let slot = self.0.as_ptr().map_addr(|address| address & !TAG);
        // Relaxed: it was written before this token was made, and is written next when the slot is freed.
        // SAFETY: the token's end is alive, so the slot is in use.
        let generation = unsafe { (*slot).generation.load(Ordering::Relaxed) } as usize;
        assert_eq!(tag, generation & TAG, "a token outlived its slot");
        slot
    }
}

/// The settling end of a slot: it travels with the record, and must be settled. Dropping it abandons the record.
pub struct Ticket<T: Send + 'static>(pub(super) Token<T>);

// SAFETY: the slot's cells are handed over by its state, and `T` may be sent.
unsafe impl<T: Send> Send for Ticket<T> {}

impl<T: Send + 'static> Ticket<T> {
    /// Ends the record with `value`. Returns the waker of who waits for it, to be called by the caller of this when
    /// it suits; nobody else's code runs here, except that the value is dropped if nobody can take it any more.
    #[must_use = "whoever waits for the outcome sleeps until the waker is called"]
    pub fn settle(self, value: T) -> Option<Waker> {
        let slot = self.0.slot();
        mem::forget(self);
        // SAFETY: this was the slot's only ticket, and is gone.
        unsafe { finish(slot, Some(value)) }
    }

    /// The ticket as it lies in a ring.
    pub(super) fn into_raw(self) -> *mut () {
        let raw = self.0.0.as_ptr().cast();
        mem::forget(self);
        raw
    }

    /// The ticket that lay in a ring.
    ///
    /// # Safety
    /// `raw` came from `into_raw` of the same `T`, and is used once.
    pub(super) unsafe fn from_raw(raw: *mut ()) -> Ticket<T> {
        // SAFETY: the caller's word; a token is never null.
        Ticket(Token(unsafe { NonNull::new_unchecked(raw.cast()) }))
    }
}

impl<T: Send + 'static> Drop for Ticket<T> {
    fn drop(&mut self) {
        let slot = self.0.slot();
        // SAFETY: the slot is in use until `finish`, so its pool is alive.
        unsafe { (*slot).pool.as_ref().ledger.add_abandoned() };
        // SAFETY: this is the slot's only ticket, and it is going.
        if let Some(waker) = unsafe { finish(slot, None) } {
            shim::wake(waker);
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.0.0).finish()
    }
}

/// The ticket's last act: leaves the value, or nothing, to the handle, or frees the slot.
///
/// # Safety
/// The caller is the slot's ticket, and does not touch the slot afterwards.
unsafe fn finish<T>(slot: *mut Slot<T>, value: Option<T>) -> Option<Waker> {
    let flag = if value.is_some() { 0 } else { EMPTY };
    // SAFETY: the slot is in use until it is freed or given to the handle; each cell is touched only where the
    // essay's table says that it is the ticket's.
    unsafe {
        // Acquire: partner of the handle's step to DETACHED; if we free, what it did is done.
        let mut state = (*slot).state.load(Ordering::Acquire);
        if state == DETACHED {
            free(slot);
            return None;
        }
        if let Some(value) = value {
            (*slot).body.with_mut(|body| (*body).value = ManuallyDrop::new(MaybeUninit::new(value)));
        }
        loop {
            let next = match state {
                PENDING => SETTLED | flag,
                WAITING => NOTIFYING | flag,
                _ => {
                    assert_eq!(state, DETACHED, "a record is settled exactly once");
                    let value = (flag == 0).then(|| take_value(slot));
                    free(slot);
                    drop(value);
                    return None;
                }
            };
            // Release: the value is there; partner of the handle's loads. Acquire: the waker is there, or the
            // handle is done; partner of its steps to WAITING and DETACHED.
            match (*slot).state.compare_exchange(state, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) if next & !EMPTY == SETTLED => return None,
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        // It is read, not written: the handle may still look whether this is its waker.
        let waker = (*slot).waker.with(|waker| (*waker).assume_init_read());
        // Release: the waker is out; partner of the handle's load or failed step before it frees. Acquire: the
        // handle took the value and is gone; partner of its step to DETACHED.
        if (*slot).state.swap(SETTLED | flag, Ordering::AcqRel) == DETACHED {
            free(slot);
        }
        Some(waker)
    }
}

/// # Safety
/// There is a value, it is the caller's, and it is taken once.
unsafe fn take_value<T>(slot: *mut Slot<T>) -> T {
    // SAFETY: the caller's word.
    unsafe { (*slot).body.with(|body| ptr::read(&raw const (*body).value).assume_init_read()) }
}

/// The waiting end of a slot. Dropping it detaches the record, which goes its way.
pub struct Handle<T: Send + 'static>(pub(super) Option<Token<T>>);

// SAFETY: as for `Ticket`; a waker may be sent.
unsafe impl<T: Send> Send for Handle<T> {}

impl<T: Send + 'static> Handle<T> {
    /// The outcome, if there is one and it was not taken before. Taking it frees the slot.
    pub fn try_take(&mut self) -> Option<Result<T, Abandoned>> {
        let slot = self.0.as_ref()?.slot();
        // SAFETY: the handle is alive, so the slot is in use until it is freed here or left to the ticket; the value
        // is the handle's in these states, and is taken once, as the token goes with it.
        unsafe {
            // Acquire: partner of the ticket's step to SETTLED or NOTIFYING; the value is there.
            let state = (*slot).state.load(Ordering::Acquire);
            let settled = state & !EMPTY;
            if settled != SETTLED && settled != NOTIFYING {
                return None;
            }
            let outcome = if state & EMPTY == 0 { Ok(take_value(slot)) } else { Err(Abandoned) };
            self.0 = None;
            // Release: we are done with the slot; partner of the ticket's swap to SETTLED, which then frees it. On
            // failure the ticket is done, Acquire as the partner of the same swap, and we free.
            let leave = || (*slot).state.compare_exchange(state, DETACHED, Ordering::AcqRel, Ordering::Acquire);
            if settled == SETTLED || leave().is_err() {
                free(slot);
            }
            Some(outcome)
        }
    }

    /// The outcome, or else `cx`'s waker is called when there is one. Only the latest waker counts.
    ///
    /// # Panics
    /// If the outcome was taken before.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Abandoned>> {
        if let Some(outcome) = self.try_take() {
            return Poll::Ready(outcome);
        }
        let slot = self.0.as_ref().expect("a handle is not polled after it gave its outcome").slot();
        // SAFETY: the handle is alive, so the slot is in use; the waker cell is touched where the table allows it.
        let registered = unsafe { register(slot, cx.waker()) };
        if registered {
            return Poll::Pending;
        }
        match self.try_take() {
            Some(outcome) => Poll::Ready(outcome),
            None => unreachable!("a waker is refused only by a settled slot"),
        }
    }
}

/// Makes `waker` the one to call. False if the slot is settled.
///
/// # Safety
/// The caller is the slot's handle.
unsafe fn register<T>(slot: *mut Slot<T>, waker: &Waker) -> bool {
    // SAFETY: the caller's word; in WAITING both ends only read the waker cell, in PENDING it is the handle's.
    unsafe {
        // Acquire: see `try_take`.
        if (*slot).state.load(Ordering::Acquire) == WAITING
            && (*slot).waker.with(|registered| (*registered).assume_init_ref().will_wake(waker))
        {
            return true;
        }
        let waker = waker.clone();
        let Ok(former) = reclaim(slot) else { return false };
        (*slot).waker.with_mut(|cell| (*cell).write(waker));
        // Release: the waker is there; partner of the ticket's step to NOTIFYING. Acquire on failure: it settled.
        let step = (*slot).state.compare_exchange(PENDING, WAITING, Ordering::AcqRel, Ordering::Acquire);
        if step.is_err() {
            drop((*slot).waker.with(|waker| (*waker).assume_init_read()));
        }
        drop(former);
        step.is_ok()
    }
}

/// Takes a registered waker back, if there is one, which leaves the slot PENDING. An error if it is settled.
///
/// # Safety
/// The caller is the slot's handle.
unsafe fn reclaim<T>(slot: *mut Slot<T>) -> Result<Option<Waker>, ()> {
    // SAFETY: the caller's word; after the step the waker cell is the handle's.
    unsafe {
        // Acquire on failure: see `try_take`. On success we read only what this end wrote.
        match (*slot).state.compare_exchange(WAITING, PENDING, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(Some((*slot).waker.with(|waker| (*waker).assume_init_read()))),
            Err(PENDING) => Ok(None),
            Err(_) => Err(()),
        }
    }
}

impl<T: Send + 'static> Drop for Handle<T> {
    fn drop(&mut self) {
        if self.try_take().is_some() {
            return;
        }
        let Some(slot) = self.0.as_ref().map(Token::slot) else { return };
        // SAFETY: the handle is alive, so the slot is in use until the step to DETACHED.
        let (waker, left) = unsafe {
            let waker = reclaim(slot).unwrap_or_default();
            // Release: we are done with the slot; partner of the ticket's load or step in `finish`, which frees it.
            let step = (*slot).state.compare_exchange(PENDING, DETACHED, Ordering::AcqRel, Ordering::Relaxed);
            (waker, step.is_ok())
        };
        if left {
            self.0 = None;
        } else {
            // It was settled meanwhile: the value is dropped, and the slot freed.
            let _ = self.try_take();
        }
        drop(waker);
    }
}

impl<T: Send + 'static> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.0.as_ref().map(|token| token.0)).finish()
    }
}
