//! Runs: records of one submitter that end together, and go to its list of completions as one.
//!
//! ```text
//!   tickets of a batch   a1 a2 a3 … a9 │ b1 │ a10 a11 … a99     of submitters a and b, say
//!                        ╰─── run ───╯  alone  ╰── run ───╯
//!
//!   list of a   ─▶ slot of a10 ─▶ slot of a1
//!                       ╎              ╰╌╌ Run { value, place, [a1, …, a9] }
//!                       ╰╌╌ Run { … }
//! ```
//!
//! Whoever settles a run touches the slot of its first record only. All others stay as their owner left them, until
//! whoever pops comes by; and that is often the owner. What it reads is an array: so it knows which slots come next, and
//! asks the processor for them ahead, as it could not along a chain.
//!
//! R1: the tokens of a run are listed, of one pool, and the run's alone. So their slots are in use until it gives them up.
//!
//! Cost: two allocations a run, so that few records are better settled one by one.

use std::vec;

use super::completions;
use super::fault::{Fault, is_planted};
use super::shim::{self, Ordering};
use super::slot::{RUN, STATE, Slot, Token};
use super::slots::{Freed, pool_of};
use super::ticket::{Ticket, Told};

/// Records of a run at least. A guess, not measured: two allocations against as many exchanges and slots to be fetched.
const RUN_MIN: usize = if cfg!(loom) { 2 } else { 8 };
/// How many records ahead a slot is asked for: by when it comes, these are settled,
const SETTLED_AHEAD: usize = 8;
/// or popped, which is quicker done. With 8 a drain took 3.8 % of a producer's time, and with these 2.4 %.
const POPPED_AHEAD: usize = 24;

/// Records that ended with one value, each in the place after the one before it.
pub(super) struct Run<T> {
    value: T,
    /// Of the next record.
    place: u32,
    tokens: vec::IntoIter<Token<T>>,
}

/// Ends records with one value, in their order, of which the first is the `first`-th. `told` hears who learns of them, and
/// of how many records. Tickets that are left, as `told` panicked, are abandoned.
pub fn settle_all<T: Clone + Send + 'static>(
    tickets: &mut Vec<Ticket<T>>,
    value: &T,
    first: u32,
    mut told: impl FnMut(Told, u64),
) {
    let mut rest = tickets.drain(..);
    let mut place = first;
    while let Some(first) = rest.as_slice().first() {
        let is_listed = first.0.is_listed();
        let alike = if is_listed { of_one_list(rest.as_slice()) } else { of_no_list(rest.as_slice()) };
        if is_listed && alike >= RUN_MIN {
            let tokens: Vec<Token<T>> = rest.by_ref().take(alike).map(Ticket::into_token).collect();
            // SAFETY: the tickets are gone, and are of one list.
            told(unsafe { list(Run { value: value.clone(), place, tokens: tokens.into_iter() }) }, alike as u64);
            place += alike as u32; // a batch has no more than that
            continue;
        }
        for _ in 0..alike {
            let Some(ticket) = rest.next() else { break };
            if let Some(later) = rest.as_slice().get(SETTLED_AHEAD) {
                shim::expect_write(later.0.address());
            }
            told(ticket.settle_with(|| value.clone(), place), 1);
            place += 1;
        }
    }
}

/// How many of the first tickets go to the list of the first. No slot is looked at.
fn of_one_list<T: Send>(tickets: &[Ticket<T>]) -> usize {
    // SAFETY: while its ticket lives, a slot is in use.
    let pool = |ticket: &Ticket<T>| unsafe { pool_of(ticket.0.address()) };
    let is_of_list = |ticket: &&Ticket<T>| {
        ticket.0.is_listed() && (pool(ticket) == pool(&tickets[0]) || is_planted(Fault::RunOfTwoPools))
    };
    tickets.iter().take_while(is_of_list).count()
}

/// How many of the first tickets go to no list.
fn of_no_list<T: Send>(tickets: &[Ticket<T>]) -> usize {
    tickets.iter().take_while(|ticket| !ticket.0.is_listed()).count()
}

/// Puts a run on its list, by the slot of its first record. If nobody pops any more, all of it is freed.
///
/// # Safety
/// R1.
unsafe fn list<T>(run: Run<T>) -> Told {
    let slot = run.tokens.as_slice()[0].slot();
    let run = Box::into_raw(Box::new(run));
    // SAFETY: R1: the slot's cells are its ticket's, which the run has taken.
    unsafe {
        (*slot).held.with_mut(|held| (*held).run = run);
        // Relaxed: the list publishes it.
        let word = (*slot).state.load(Ordering::Relaxed);
        (*slot).state.store(word & !STATE | RUN, Ordering::Relaxed);
        completions::list(slot)
    }
}

/// The run that a settled slot is the first of, if it is one's.
///
/// # Safety
/// The slot is on the list or was, what it holds is the caller's, and the run is taken once.
pub(super) unsafe fn take_run<T>(slot: *mut Slot<T>) -> Option<Run<T>> {
    // SAFETY: the caller's word; the state says which of both the slot holds. Relaxed: the caller has acquired it.
    unsafe {
        let is_run = (*slot).state.load(Ordering::Relaxed) & STATE == RUN;
        is_run.then(|| *Box::from_raw((*slot).held.with(|held| (*held).run)))
    }
}

impl<T> Run<T> {
    /// The next record's slot, which is the caller's then, and the record's place.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(*mut Slot<T>, u32)> {
        let slot = self.tokens.next()?.slot();
        if let Some(later) = self.tokens.as_slice().get(POPPED_AHEAD) {
            shim::expect_write(later.address());
        }
        let place = self.place;
        self.place += 1;
        Some((slot, place))
    }

    /// With which its records ended.
    pub(super) fn value(&self) -> &T {
        &self.value
    }

    /// Whether every record was popped.
    pub(super) fn is_empty(&self) -> bool {
        self.tokens.as_slice().is_empty()
    }

    /// Gives the slots of a run up that nobody will pop.
    pub(super) fn forgo(self) {
        let mut freed = Freed::none();
        for token in self.tokens {
            // SAFETY: R1; the slot is not touched afterwards.
            unsafe { freed.add(token.slot()) };
        }
        if !is_planted(Fault::RunKept) {
            freed.give_back();
        }
    }
}
