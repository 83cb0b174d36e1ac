//! One outcome slot and its ends: the [`Ticket`](super::Ticket), which travels with the record to whoever settles it,
//! and whoever learns the outcome: a [`Handle`](super::Handle), the list of completions of its submitter, or whoever
//! settles, if it is nobody else. The slot is freed by the last of them.
//!
//! ```text
//!               poll registers                      handle dropped
//!   take ─▶ PENDING ◀────────▶ WAITING       PENDING ────────────▶ DETACHED
//!              │  poll reclaims   │                                    ▲ │
//!      settled │                  │ settled       handle took or       │ │ settled:
//!              ▼   waker is out   ▼               dropped the value    │ ▼ the ticket frees
//!           SETTLED ◀───────── NOTIFYING ──────────────────────────────┘ free
//!              │ handle took or dropped the value: the handle frees
//!              ▼
//!            free
//!
//!   take_listed ─▶ LISTED ─ settled ─▶ SETTLED, on the list of completions ─ popped ─▶ free
//!                     └── settled with others ─▶ LISTED, or RUN for their first ─ popped ─▶ free
//!   take_lone ──▶ LONE ── settled: the ticket frees, and its settler gets the value back ─▶ free
//! ```
//!
//! | state | ends alive | value cells | extra cell | who moves it |
//! |---|---|---|---|---|
//! | `PENDING` | both | empty, the ticket's | empty, the handle's | both |
//! | `WAITING` | both | empty, the ticket's | a waker, read by both | both |
//! | `NOTIFYING` | both | the handle's | the ticket's, which moves the waker out | both |
//! | `SETTLED` | handle, or list | the handle's, or the list's | empty, or a link | handle, or list |
//! | `DETACHED`, `LONE` | ticket | the ticket's | empty | ticket |
//! | `LISTED` | ticket, or a run | empty, the ticket's | the caller's number, and the ticket's | ticket |
//! | `RUN` | list | a run, the list's | the caller's number, a link | list |
//!
//! `NOTIFYING` and `SETTLED` carry the flag `EMPTY` if the ticket was dropped instead of settled: there is no value,
//! the record was abandoned. Settling never waits for a handle, nor a handle for settling.
//!
//! What a slot holds is a value that many share, and the record's own place among them. Of records that end together
//! and go to one list, a `run` holds value and tickets, so that who settles them touches the first one's slot alone.
//!
//! Promises: no accepted record is without an outcome, as a ticket that is not settled abandons its record when it is
//! dropped; nobody's waker runs inside of settling. A token whose slot was freed is caught by an assertion: four bits
//! of the slot's generation stand in its low bits, beside one that says whether the slot is `LISTED`.
//!
//! Cost: 32 bytes a slot for a shared value of 8 bytes; to settle is one compare-and-swap, two if somebody waits.

use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::{self, NonNull};
use std::task::Waker;

use super::run::Run;
use super::shim::{AtomicU32, Ordering, UnsafeCell};
use super::slots::Start;

/// The low bits of a slot's address, in which a token keeps its generation and whether it is listed.
const TAG: usize = 31;
const LISTED_TAG: usize = 16;

pub(super) const PENDING: u32 = 0;
pub(super) const WAITING: u32 = 1;
pub(super) const DETACHED: u32 = 2;
pub(super) const NOTIFYING: u32 = 3;
pub(super) const SETTLED: u32 = 4;
pub(super) const LONE: u32 = 5;
pub(super) const LISTED: u32 = 6;
pub(super) const RUN: u32 = 7;
/// Flag beside `NOTIFYING` and `SETTLED`: abandoned, there is no value.
pub(super) const EMPTY: u32 = 8;

/// A state word: the state, and how often the slot was freed (the last eight bits of that).
pub(super) const STATE: u32 = 15;
const GENERATION_SHIFT: u32 = 4;

/// The record was dropped by whoever had to settle it; nothing is known about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abandoned;

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the record was abandoned")
    }
}

impl std::error::Error for Abandoned {}

/// How a record ended: the shared value and the record's place, or nothing.
pub type End<T> = Result<(T, u32), Abandoned>;

/// A slot.
#[repr(C, align(32))]
pub(super) struct Slot<T> {
    /// Moved as the essay's picture says.
    pub(super) state: AtomicU32,
    /// With the value, once settled.
    pub(super) place: UnsafeCell<u32>,
    pub(super) held: UnsafeCell<Held<T>>,
    pub(super) extra: UnsafeCell<Extra<T>>,
}

/// What a slot holds once it is settled, until that is taken.
pub(super) union Held<T> {
    pub(super) value: ManuallyDrop<MaybeUninit<T>>,
    /// Of a slot that is the first of a run; made by `Box::into_raw`.
    pub(super) run: *mut Run<T>,
}

/// What a slot needs besides, as it is of one kind or the other.
pub(super) union Extra<T> {
    pub(super) waker: ManuallyDrop<MaybeUninit<Waker>>,
    pub(super) listed: Listed<T>,
}

/// Of a slot whose outcome goes to the list of completions.
pub(super) struct Listed<T> {
    /// The caller's.
    pub(super) number: u64,
    /// The completion that was listed before it.
    pub(super) next: *mut Slot<T>,
}

impl<T> Clone for Listed<T> {
    fn clone(&self) -> Listed<T> {
        *self
    }
}

impl<T> Copy for Listed<T> {}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Slot<u64>>() == 32, "a slot for a shared value of 8 bytes");
const _: () = assert!(align_of::<Slot<u64>>() > TAG, "the tag fits below a slot's address");

impl<T> Slot<T> {
    /// A free slot.
    pub(super) fn new() -> Slot<T> {
        Slot {
            state: AtomicU32::new(DETACHED),
            place: UnsafeCell::new(0),
            held: UnsafeCell::new(Held { value: ManuallyDrop::new(MaybeUninit::uninit()) }),
            extra: UnsafeCell::new(Extra { listed: Listed { number: 0, next: ptr::null_mut() } }),
        }
    }

    /// The generation that follows this one. Asked by the slot's last user.
    pub(super) fn next_generation(&self) -> u8 {
        // Relaxed: nobody else knows the slot.
        ((self.state.load(Ordering::Relaxed) >> GENERATION_SHIFT) as u8).wrapping_add(1)
    }

    /// The owner takes the slot, for a record that ends as `state` says. The slot is written, and not read.
    #[inline]
    pub(super) fn begin(&self, start: Start, state: u32) {
        // Relaxed: the slot is the owner's. Whatever carries its tokens to another thread publishes this.
        self.state.store(start.word() | state, Ordering::Relaxed);
    }
}

impl Start {
    /// The state word, but for the state.
    fn word(self) -> u32 {
        u32::from(self.0) << GENERATION_SHIFT
    }
}

/// A slot's address, with what `TAG` says in the low bits.
pub(super) struct Token<T>(pub(super) NonNull<Slot<T>>);

impl<T> Token<T> {
    /// The token of a slot that was just taken.
    pub(super) fn new(slot: NonNull<Slot<T>>, start: Start) -> Token<T> {
        Token(slot.map_addr(|address| address | generation_tag(start.word())))
    }

    /// The same, of a slot that is `LISTED`.
    pub(super) fn new_listed(slot: NonNull<Slot<T>>, start: Start) -> Token<T> {
        Token(Token::new(slot, start).0.map_addr(|address| address | LISTED_TAG))
    }

    /// Whether the slot was taken for the list of completions. The slot is not looked at.
    pub(super) fn is_listed(&self) -> bool {
        self.0.addr().get() & LISTED_TAG != 0
    }

    /// Where the slot lies. The slot is not looked at.
    pub(super) fn address(&self) -> *mut Slot<T> {
        self.0.as_ptr().map_addr(|address| address & !TAG)
    }

    /// The slot. Nothing borrows it: the other end may free it as soon as the state says so.
    pub(super) fn slot(&self) -> *mut Slot<T> {
        let slot = self.address();
        // Relaxed: these bits were written before this token was made, and are written next when the slot is freed.
        // SAFETY: the token's end is alive, so the slot is in use.
        let word = unsafe { (*slot).state.load(Ordering::Relaxed) };
        assert_eq!(self.0.addr().get() & (TAG & !LISTED_TAG), generation_tag(word), "a token outlived its slot");
        slot
    }
}

/// The generation's low bits.
fn generation_tag(word: u32) -> usize {
    (word >> GENERATION_SHIFT) as usize & (TAG & !LISTED_TAG)
}

/// # Safety
/// There is a value, it is the caller's, and it is taken once.
pub(super) unsafe fn take_value<T>(slot: *mut Slot<T>) -> (T, u32) {
    // SAFETY: the caller's word.
    unsafe {
        let value = (*slot).held.with(|held| ptr::read(&raw const (*held).value).assume_init_read());
        (value, (*slot).place.with(|place| *place))
    }
}

/// The end of a settled slot.
///
/// # Safety
/// The slot is settled, what it holds is the caller's, and it is taken once.
pub(super) unsafe fn take_end<T>(slot: *mut Slot<T>) -> End<T> {
    // SAFETY: the caller's word. Relaxed: the caller has acquired it.
    unsafe { take_end_of(slot, (*slot).state.load(Ordering::Relaxed)) }
}

/// # Safety
/// As [`take_end`], of a slot whose state word is `word`.
pub(super) unsafe fn take_end_of<T>(slot: *mut Slot<T>, word: u32) -> End<T> {
    // SAFETY: the caller's word.
    if word & EMPTY == 0 { Ok(unsafe { take_value(slot) }) } else { Err(Abandoned) }
}
