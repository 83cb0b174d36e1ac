//! The waiting end of a slot: its caller's, who polls it or drops it.
//!
//! The states that it moves stand in the essay of `slot`. Settling never waits for a handle: of two steps that meet,
//! the compare-and-swap that fails tells its side what the other has done.

use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr;
use std::task::{Context, Poll, Waker};

use super::fault::{Fault, is_planted, order};
use super::shim::Ordering;
use super::slot::{DETACHED, EMPTY, End, Extra, NOTIFYING, PENDING, SETTLED, STATE, Slot, Token, WAITING, take_end_of};
use super::slots::free;

/// The waiting end of a slot. Dropping it detaches the record, which goes its way.
pub struct Handle<T: Send + 'static>(pub(super) Option<Token<T>>);

// SAFETY: as for `Ticket`; a waker may be sent.
unsafe impl<T: Send> Send for Handle<T> {}

impl<T: Send + 'static> Handle<T> {
    /// The outcome, if there is one and it was not taken before. Taking it frees the slot.
    pub fn try_take(&mut self) -> Option<End<T>> {
        let slot = self.0.as_ref()?.slot();
        // SAFETY: the handle is alive, so the slot is in use until it is freed here or left to the ticket; the value
        // is the handle's in these states, and is taken once, as the token goes with it.
        unsafe {
            // Acquire: partner of the ticket's step to SETTLED or NOTIFYING; the value is there.
            let word = (*slot).state.load(order(Ordering::Acquire, Fault::SlotSettleRelaxed));
            let settled = word & STATE & !EMPTY;
            if settled != SETTLED && settled != NOTIFYING {
                return None;
            }
            let end = take_end_of(slot, word);
            self.0 = None;
            // Release: we are done with the slot; partner of the ticket's swap to SETTLED, which then frees it. On
            // failure the ticket is done, Acquire as the partner of the same swap, and we free.
            let leave = |word| {
                let left = word & !STATE | DETACHED;
                (*slot).state.compare_exchange(word, left, Ordering::AcqRel, Ordering::Acquire)
            };
            if settled == SETTLED || is_planted(Fault::SlotFreedEarly) || leave(word).is_err() {
                free(slot);
            }
            Some(end)
        }
    }

    /// The outcome, or else `cx`'s waker is called when there is one. Only the latest waker counts.
    ///
    /// # Panics
    /// If the outcome was taken before.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End<T>> {
        if let Some(end) = self.try_take() {
            return Poll::Ready(end);
        }
        let slot = self.0.as_ref().expect("a handle is not polled after it gave its outcome").slot();
        // SAFETY: the handle is alive, so the slot is in use; the waker cell is touched where the table allows it.
        let registered = unsafe { register(slot, cx.waker()) };
        if registered {
            return Poll::Pending;
        }
        match self.try_take() {
            Some(end) => Poll::Ready(end),
            None => unreachable!("a waker is refused only by a settled slot"),
        }
    }
}

/// Makes `waker` the one to call. False if the slot is settled.
///
/// # Safety
/// The caller is the slot's handle.
unsafe fn register<T>(slot: *mut Slot<T>, waker: &Waker) -> bool {
    // SAFETY: the caller's word; in WAITING both ends only read the waker, in PENDING it is the handle's.
    unsafe {
        // Acquire: see `try_take`.
        let word = (*slot).state.load(Ordering::Acquire);
        let is_same = |extra: *const Extra<T>| {
            let former = &(*extra).waker;
            former.assume_init_ref().will_wake(waker)
        };
        if word & STATE == WAITING && (is_planted(Fault::SlotWakerKept) || (*slot).extra.with(is_same)) {
            return true;
        }
        let waker = waker.clone();
        let Ok(former) = reclaim(slot) else { return false };
        (*slot).extra.with_mut(|extra| (*extra).waker = ManuallyDrop::new(MaybeUninit::new(waker)));
        // Release: the waker is there; partner of the ticket's step to NOTIFYING. Acquire on failure: it settled.
        let (from, to) = (word & !STATE | PENDING, word & !STATE | WAITING);
        let step = (*slot).state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        if step.is_err() {
            drop(take_waker(slot));
        }
        drop(former);
        step.is_ok()
    }
}

/// # Safety
/// There is a waker, it is the caller's, and it is taken once.
unsafe fn take_waker<T>(slot: *mut Slot<T>) -> Waker {
    // SAFETY: the caller's word.
    unsafe { (*slot).extra.with(|extra| ptr::read(&raw const (*extra).waker).assume_init_read()) }
}

/// Takes a registered waker back, if there is one, which leaves the slot PENDING. An error if it is settled.
///
/// # Safety
/// The caller is the slot's handle.
unsafe fn reclaim<T>(slot: *mut Slot<T>) -> Result<Option<Waker>, ()> {
    // SAFETY: the caller's word; after the step the waker cell is the handle's.
    unsafe {
        // Relaxed: only the bits beside the state are used.
        let rest = (*slot).state.load(Ordering::Relaxed) & !STATE;
        // Acquire on failure: see `try_take`. On success we read only what this end wrote.
        match (*slot).state.compare_exchange(rest | WAITING, rest | PENDING, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(Some(take_waker(slot))),
            Err(word) if word & STATE == PENDING => Ok(None),
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
            let rest = (*slot).state.load(Ordering::Relaxed) & !STATE; // as in `reclaim`
            // Release: we are done with the slot; partner of the ticket's load or step in `finish`, which frees it.
            let (from, to) = (rest | PENDING, rest | DETACHED);
            let step = (*slot).state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
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
