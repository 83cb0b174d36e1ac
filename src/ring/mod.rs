//! What threads share: byte rings, outcome slots, doorbells, the budget.
//!
//! ```text
//!   caller's thread                                   core's thread
//!   ───────────────                                   ─────────────
//!   Purse::try_take ◀─────────── Budget ◀──────────── Budget::release, once a turn
//!   Slots::take ──▶ Handle                            
//!        └────────▶ Ticket ─┐
//!   Sender::try_push ◀──────┘ ══▶ bytes ══▶ bytes ══▶ Receiver::pop ──▶ Ticket
//!   Doorbell::published ───────── one line ─────────▶ Doorbell::poll_rung
//!   Handle::poll, Completions::pop ◀── slot ◀──────── Ticket::settle
//! ```
//!
//! Promises:
//! - a put that finds credit, room and an awake core makes no system call and takes no lock; it allocates only a
//!   further segment of slots, or the buffer of a frame larger than a quarter of its ring;
//! - an accepted record cannot be without an outcome: its [`Ticket`] is either settled or, when it is dropped for
//!   whatever reason, abandoned, and its [`Handle`] is told;
//! - no wake-up is lost: wherever one side says "I sleep" and the other says "there is something", each writes,
//!   then fences with `SeqCst`, then reads what the other wrote, so that at least one of them sees the other.
//!
//! Refusals: nothing here knows a record, a stream or a clock; nothing is retried; no thread is started. Nothing
//! waits for another thread, except for the short locks of the wakers and of the budget's queue.
//!
//! All atomics, locks and cells come from `shim`, so that loom checks exactly this code (`loom-tests/`). These
//! files alone of the crate may use `unsafe`.

#![allow(unsafe_code)]

pub mod budget;
pub mod bytes;
pub mod completions;
pub mod doorbell;
mod fault;
mod flag;
pub mod handle;
mod memory;
#[cfg(any(fuzzing, all(test, not(loom))))]
pub mod oracle;
pub mod purse;
pub mod run;
mod shim;
pub mod slot;
pub mod slots;
pub mod ticket;

pub use budget::{Budget, NoCredit, WaitError};
pub use bytes::{Drain, Frame, Receiver, Sender, ring};
pub use completions::{Completed, Completions};
pub use doorbell::{Doorbell, Observed, Published, Rest, State};
#[cfg(loom)]
pub use fault::{Fault, plant};
pub use flag::Flag;
pub use handle::Handle;
pub use purse::{Purse, Wait};
pub use run::settle_all;
pub(crate) use shim::expect_write;
pub use slot::{Abandoned, End};
pub use slots::{Ledger, Slots};
pub use ticket::{Ticket, Told};

#[cfg(all(test, not(loom)))]
mod tests;
