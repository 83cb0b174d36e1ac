//! Reply: the three ways in which a caller learns how a record ended.
//!
//! ```text
//!   ByOutcome ──▶ Outcome, a future          ByToken ──▶ the submitter's Completions          Detached ──▶ on_failure
//! ```
//!
//! They differ in the slot that they take and in what the put answers; everything else of a put is the same.

use std::sync::Arc;

use crate::error::PutErrorReason;
use crate::fork::Origin;
use crate::outcome::Settlement;
use crate::ring::{self, Slots};
use crate::waiting::Outcome;

type Ticket = ring::Ticket<Arc<Settlement>>;

/// How one put's caller learns of its end.
pub(crate) trait Reply: Copy {
    /// What the put answers.
    type Receipt;

    /// Whether this way is open.
    fn admit(self, _slots: &Slots<Arc<Settlement>>) -> Result<(), PutErrorReason> {
        Ok(())
    }

    /// A slot for the record.
    fn take(self, slots: &mut Slots<Arc<Settlement>>, origin: Origin) -> (Ticket, Self::Receipt);
}

/// By a future of its own.
#[derive(Clone, Copy)]
pub(crate) struct ByOutcome;

impl Reply for ByOutcome {
    type Receipt = Outcome;

    #[inline]
    fn take(self, slots: &mut Slots<Arc<Settlement>>, origin: Origin) -> (Ticket, Outcome) {
        let (ticket, handle) = slots.take();
        (ticket, Outcome::new(handle, origin))
    }
}

/// By the submitter's completions, under this token.
#[derive(Clone, Copy)]
pub(crate) struct ByToken(pub(crate) u64);

impl Reply for ByToken {
    type Receipt = ();

    #[inline]
    fn admit(self, slots: &Slots<Arc<Settlement>>) -> Result<(), PutErrorReason> {
        if slots.has_completions() { Ok(()) } else { Err(PutErrorReason::NoCompletions) }
    }

    #[inline]
    fn take(self, slots: &mut Slots<Arc<Settlement>>, _origin: Origin) -> (Ticket, ()) {
        (slots.take_listed(self.0), ())
    }
}

/// Not at all, but for failures, which the producer's handler hears of.
#[derive(Clone, Copy)]
pub(crate) struct Detached;

impl Reply for Detached {
    type Receipt = ();

    #[inline]
    fn take(self, slots: &mut Slots<Arc<Settlement>>, _origin: Origin) -> (Ticket, ()) {
        (slots.take_lone(), ())
    }
}
