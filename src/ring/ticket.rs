//! The settling end of a slot.
//!
//! ```text
//!   Slots ──▶ Ticket ══ ring ══▶ engine ──▶ settle ──▶ Told: a handle, the list of completions, or nobody
//!                                   └─ dropped ──▶ abandoned
//! ```
//!
//! The states that it moves stand in the essay of `slot`.

use std::fmt;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::ptr::{self, NonNull};
use std::task::Waker;

use super::completions;
use super::fault::{Fault, is_planted, order};
use super::handle::Handle;
use super::shim::{self, Ordering};
use super::slot::take_value;
use super::slot::{DETACHED, EMPTY, LISTED, LONE, Listed, NOTIFYING, PENDING, SETTLED, STATE, Slot, Token, WAITING};
use super::slots::{Start, free, pool_of};

/// Who hears of a record that was just settled.
#[must_use = "whoever waits for the outcome sleeps until the waker is called"]
#[derive(Debug)]
pub enum Told {
    /// A handle that does not wait, or that was dropped.
    Handle,
    /// A handle whose waker is to be called when it suits.
    Waiting(Waker),
    /// The list of completions. Whoever waits for it is to be woken.
    Listed(Option<Waker>),
    /// Nobody, from the start: how it ended is known to whoever settled it alone.
    Nobody,
}

impl Told {
    /// Whether somebody is to be woken.
    pub fn wakes(&self) -> bool {
        matches!(self, Told::Waiting(_) | Told::Listed(Some(_)))
    }

    /// The waker to call.
    pub fn into_waker(self) -> Option<Waker> {
        match self {
            Told::Waiting(waker) => Some(waker),
            Told::Listed(waker) => waker,
            Told::Handle | Told::Nobody => None,
        }
    }
}

/// The settling end of a slot: it travels with the record, and must be settled. Dropping it abandons the record.
pub struct Ticket<T: Send + 'static>(pub(super) Token<T>);

// SAFETY: the slot's cells are handed over by its state, and `T` may be sent.
unsafe impl<T: Send> Send for Ticket<T> {}

/// The ends of a slot that was just taken.
#[inline]
pub(super) fn ends<T: Send>((slot, start): (NonNull<Slot<T>>, Start)) -> (Ticket<T>, Handle<T>) {
    // SAFETY: the slot was just taken.
    unsafe { slot.as_ref().begin(start, PENDING) };
    (Ticket(Token::new(slot, start)), Handle(Some(Token::new(slot, start))))
}

/// The one end of a slot that was just taken, for a record that nobody waits for.
#[inline]
pub(super) fn lone_end<T: Send>((slot, start): (NonNull<Slot<T>>, Start)) -> Ticket<T> {
    // SAFETY: the slot was just taken.
    unsafe { slot.as_ref().begin(start, LONE) };
    Ticket(Token::new(slot, start))
}

/// The one end of a slot that was just taken, for a record that goes to the list of completions as `number`.
#[inline]
pub(super) fn listed_end<T: Send>((slot, start): (NonNull<Slot<T>>, Start), number: u64) -> Ticket<T> {
    // SAFETY: the slot was just taken, so that its cells are the owner's.
    unsafe {
        slot.as_ref().begin(start, LISTED);
        slot.as_ref().extra.with_mut(|extra| (*extra).listed = Listed { number, next: ptr::null_mut() });
    }
    Ticket(Token::new_listed(slot, start))
}

impl<T: Send + 'static> Ticket<T> {
    /// Ends the record with `value`, of which it is the `place`-th: see [`Ticket::settle_with`].
    pub fn settle(self, value: T, place: u32) -> Told {
        self.settle_with(|| value, place)
    }

    /// Ends the record with a value, of which it is the `place`-th. The value is made only if there is somebody to take it.
    /// No other foreign code runs here, except that the value is dropped if a handle was dropped just then that could
    /// have taken it.
    #[inline]
    pub fn settle_with(self, value: impl FnOnce() -> T, place: u32) -> Told {
        let slot = self.0.slot();
        mem::forget(self);
        // SAFETY: this was the slot's only ticket, and is gone.
        unsafe { finish(slot, Some((value, place))) }
    }

    /// The ticket's token, for whoever takes over what it has to do.
    pub(super) fn into_token(self) -> Token<T> {
        let token = Token(self.0.0);
        mem::forget(self);
        token
    }

    /// The ticket as it lies in a ring.
    pub(super) fn into_raw(self) -> *mut () {
        self.into_token().0.as_ptr().cast()
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
        // SAFETY: the slot is in use until `finish`, so its pool is alive; and while the ticket lives, nobody but it
        // moves a slot to or from LONE.
        unsafe {
            let lone = is_lone((*slot).state.load(Ordering::Relaxed));
            (*pool_of(slot)).ledger.add_abandoned(lone);
        }
        // SAFETY: this is the slot's only ticket, and it is going.
        if let Some(waker) = unsafe { finish(slot, None::<(fn() -> T, u32)>) }.into_waker()
            && !is_planted(Fault::SlotAbandonSilent)
        {
            shim::wake(waker);
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Ticket<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.0.0).finish()
    }
}

/// Whether nobody waits for the record, from the start.
fn is_lone(word: u32) -> bool {
    word & STATE == LONE && !is_planted(Fault::SlotLoneForgotten)
}

/// The ticket's last act: leaves the value, or nothing, to whoever is to learn of it, or frees the slot.
///
/// # Safety
/// The caller is the slot's ticket, and does not touch the slot afterwards.
#[inline]
unsafe fn finish<T>(slot: *mut Slot<T>, end: Option<(impl FnOnce() -> T, u32)>) -> Told {
    let flag = if end.is_some() { 0 } else { EMPTY };
    // SAFETY: the slot is in use until it is freed or given away; each cell is touched only where the essay's table
    // says that it is the ticket's.
    unsafe {
        // Acquire: partner of the handle's step to DETACHED; if we free, what it did is done.
        let mut word = (*slot).state.load(Ordering::Acquire);
        let state = word & STATE;
        if state == DETACHED || state == LONE {
            free(slot);
            return if is_lone(word) { Told::Nobody } else { Told::Handle };
        }
        if let Some((value, place)) = end {
            let value = value();
            let value = ManuallyDrop::new(MaybeUninit::new(value));
            (*slot).held.with_mut(|held| (*held).value = value);
            (*slot).place.with_mut(|cell| *cell = place);
        }
        if state == LISTED {
            // Relaxed: the list publishes it.
            (*slot).state.store(word & !STATE | SETTLED | flag, Ordering::Relaxed);
            return completions::list(slot);
        }
        loop {
            let next = match word & STATE {
                PENDING => SETTLED | flag,
                WAITING => NOTIFYING | flag,
                other => {
                    assert_eq!(other, DETACHED, "a record is settled exactly once");
                    let value = (flag == 0).then(|| take_value(slot));
                    free(slot);
                    drop(value);
                    return Told::Handle;
                }
            };
            // Release: the value is there; partner of the handle's loads. Acquire: the waker is there, or the
            // handle is done; partner of its steps to WAITING and DETACHED.
            let success = order(Ordering::AcqRel, Fault::SlotSettleRelaxed);
            match (*slot).state.compare_exchange(word, word & !STATE | next, success, Ordering::Acquire) {
                Ok(_) if next & !EMPTY == SETTLED => return Told::Handle,
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        // It is read, not written: the handle may still look whether this is its waker.
        let waker = (*slot).extra.with(|extra| ptr::read(&raw const (*extra).waker).assume_init_read());
        // Release: the waker is out; partner of the handle's load or failed step before it frees. Acquire: the
        // handle took the value and is gone; partner of its step to DETACHED.
        let left = (*slot).state.swap(word & !STATE | SETTLED | flag, Ordering::AcqRel) & STATE;
        if left == DETACHED && !is_planted(Fault::SlotFreedEarly) {
            free(slot);
        }
        Told::Waiting(waker)
    }
}
