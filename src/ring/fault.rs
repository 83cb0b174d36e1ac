//! Mistakes that a model plants, to show that it would catch them.
//!
//! Each stands in the code at the place where it would be made: an ordering that is too weak (`order`), a fence that is
//! missing (`fence_against`), a step that is left out (`is_planted`). Without loom nothing can be planted, and the compiler
//! drops the question.

#[cfg(loom)]
use std::cell::Cell;

use super::shim::{Ordering, fence};

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident,)+) => {
        /// A mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$doc])* $fault,)+
        }

        #[cfg(loom)]
        impl Fault {
            /// Every one.
            pub const ALL: &[Fault] = &[$(Fault::$fault),+];
        }
    };
}

faults! {
    /// A frame is published before it is written.
    RingTailRelaxed,
    /// Room is given back before it was read.
    RingHeadRelaxed,
    /// A sender looks for room before it says that it waits.
    RingRoomUnfenced,
    /// A sender says that it is gone before its last frame is seen.
    RingGoneRelaxed,
    /// A sender reclaims before it sees what the receiver took.
    RingReclaimRelaxed,
    /// A frame is published as soon as it is staged.
    RingStagePublishes,
    /// A sender that is dropped publishes nothing of what it staged.
    RingDropForgets,
    /// The last end of a ring abandons nothing of what it finds there.
    RingRestForgotten,
    /// A core looks at its rings before it says that it rests.
    BellRestUnfenced,
    /// A core drains for the last time before it says that it is closed.
    BellCloseUnfenced,
    /// A core that rests overwrites the close.
    BellRestStores,
    /// A core says that it is awake before its clock is seen.
    BellAwakeRelaxed,
    /// A core that leaves its waker does not look once more whether it was rung.
    BellUnlooked,
    /// A value is handed over before it is written.
    SlotSettleRelaxed,
    /// A handle frees its slot while the ticket still moves the waker out.
    SlotFreedEarly,
    /// A handle that has a waker keeps it when it is polled with another.
    SlotWakerKept,
    /// A ticket that is dropped wakes nobody.
    SlotAbandonSilent,
    /// A lone slot is taken for one whose handle was dropped.
    SlotLoneForgotten,
    /// A slot is given back before whoever frees it is done with it.
    SlotFreeRelaxed,
    /// The owner of the slots does not count those that were freed as it went.
    SlotsMiscounted,
    /// Slots that are given back together leave their pool as one.
    FreedMiscounted,
    /// Records of different submitters go to one list, as a run.
    RunOfTwoPools,
    /// The slots of a run that nobody will pop are not given back.
    RunKept,
    /// A completion is listed before it is written.
    CompletionRelaxed,
    /// Whoever lists a completion looks for a sleeper before it is listed.
    CompletionUnfenced,
    /// What was listed is popped as it lies on the list.
    CompletionUnturned,
    /// Whoever closes the list forgets what was on it.
    CompletionCloseForgets,
    /// The owner of the slots goes without a word to who waits for completions.
    CompletionEndSilent,
    /// A release, or whoever looks for who is stuck, looks who waits before it is seen what was given back.
    BudgetReleaseUnfenced,
    /// A draw that finds too few bytes keeps the records.
    BudgetDrawKeeps,
    /// A purse that is dropped keeps its credit.
    BudgetPurseKeeps,
    /// Whoever leaves the queue unaware of its grant keeps it.
    BudgetGrantKept,
    /// Whoever was refused takes a later grant for its own.
    BudgetRefusedGranted,
    /// A close wakes nobody.
    BudgetCloseSilent,
}

#[cfg(loom)]
thread_local! {
    /// Loom runs all threads of a model on one.
    static PLANTED: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Plants a fault in all that this thread's models run from now on, or none.
#[cfg(loom)]
pub fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

/// Whether the model has planted the fault.
#[cfg(loom)]
pub(super) fn is_planted(fault: Fault) -> bool {
    PLANTED.get() == Some(fault)
}

/// Nobody has.
#[cfg(not(loom))]
#[inline(always)]
pub(super) const fn is_planted(_fault: Fault) -> bool {
    false
}

/// The ordering that the code asks for, unless the fault is planted.
#[inline(always)]
pub(super) fn order(ordering: Ordering, fault: Fault) -> Ordering {
    if is_planted(fault) { Ordering::Relaxed } else { ordering }
}

/// A `SeqCst` fence, unless the fault is planted.
#[inline(always)]
pub(super) fn fence_against(fault: Fault) {
    if !is_planted(fault) {
        fence(Ordering::SeqCst);
    }
}
