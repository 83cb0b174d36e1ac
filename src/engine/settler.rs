//! Settler: the one place where a record gets its outcome.
//!
//! ```text
//!   members of a batch + how it ended ──▶ outcome slots, credit to return, wakers to call
//! ```
//!
//! The members of a batch share one [`Settlement`]; a member that was attempted in an earlier batch has its own, with
//! its whole history. No user code runs here: wakers are collected, and the driver calls them at the end of its turn.
//!
//! S1: a member is settled exactly once, as its ticket is consumed.
//! S2: a settlement without failure ends in a stored attempt.

use std::sync::Arc;
use std::task::Waker;

use super::batch::{Batch, Member, Removed, joined};
use crate::outcome::{Attempt, AttemptResult, ErrorCode, Settled, Settlement};

/// A failure's code and message.
pub type Reason = (ErrorCode, Arc<str>);

/// What settling has freed since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Records settled, and their credit.
    pub records: u64,
    /// Their bytes of data and partition key.
    pub bytes: u64,
    /// Of the records, those delivered.
    pub delivered: u64,
    /// Of the records, those failed.
    pub failed: u64,
}

/// Settles records.
#[derive(Default)]
pub struct Settler {
    released: Released,
    wakers: Vec<Waker>,
}

impl Settler {
    /// Settles every member of `batch`, which is empty afterwards. `seen` is told of each.
    pub fn settle(&mut self, batch: &mut Batch, failure: Option<Reason>, mut seen: impl FnMut(&Member)) {
        let attempts = std::mem::take(&mut batch.attempts);
        debug_assert!(failure.is_some() || ends_stored(&attempts), "S2");
        let common = Arc::new(Settlement { attempts, failure });
        let mut prior = batch.prior.drain(..).peekable();
        for (place, member) in batch.members.drain(..).enumerate() {
            let place = place as u32;
            let settlement = match prior.next_if(|(at, _)| *at == place) {
                Some((_, earlier)) => preceded(&earlier, &common),
                None => Arc::clone(&common),
            };
            seen(&member);
            self.one(member, Settled { settlement, sub_sequence: place });
        }
        batch.body.clear();
    }

    /// Fails a record by itself.
    pub fn fail(&mut self, removed: Removed, reason: &Reason) {
        let attempts = removed.prior.map_or_else(Vec::new, |attempts| attempts.to_vec());
        let settlement = Arc::new(Settlement { attempts, failure: Some(reason.clone()) });
        self.one(removed.member, Settled { settlement, sub_sequence: 0 });
    }

    fn one(&mut self, member: Member, settled: Settled) {
        self.released.records += 1;
        self.released.bytes += u64::from(member.size);
        if settled.settlement.failure.is_none() {
            self.released.delivered += 1;
        } else {
            self.released.failed += 1;
        }
        self.wakers.extend(member.ticket.settle(settled));
    }

    /// What was freed since the last call.
    pub fn released(&mut self) -> Released {
        std::mem::take(&mut self.released)
    }

    /// The wakers of those who wait for what was settled.
    pub fn wakers(&mut self) -> &mut Vec<Waker> {
        &mut self.wakers
    }
}

fn preceded(earlier: &Arc<[Attempt]>, common: &Settlement) -> Arc<Settlement> {
    let own: Arc<[Attempt]> = common.attempts.as_slice().into();
    let all = joined(Some(Arc::clone(earlier)), Some(&own));
    let attempts = all.map_or_else(Vec::new, |all| all.to_vec());
    Arc::new(Settlement { attempts, failure: common.failure.clone() })
}

fn ends_stored(attempts: &[Attempt]) -> bool {
    matches!(attempts.last(), Some(Attempt { result: AttemptResult::Stored { .. }, .. }))
}
