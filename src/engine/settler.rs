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

use super::batch::{Batch, Generation, Removed, Ticket, joined};
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
    /// Settles every member of `batch`, which is empty afterwards. `seen` is told how many of which generation.
    pub fn settle(&mut self, batch: &mut Batch, failure: Option<Reason>, mut seen: impl FnMut(Generation, usize)) {
        let attempts = std::mem::take(&mut batch.attempts);
        debug_assert!(failure.is_some() || ends_stored(&attempts), "S2");
        batch.arrivals.runs().for_each(|(_, generation, records)| seen(generation, records));
        self.release(batch.tickets.len() as u64, batch.record_bytes, failure.is_none());
        let common = Arc::new(Settlement { attempts, failure });
        let mut prior = batch.prior.drain(..).peekable();
        for (place, ticket) in batch.tickets.drain(..).enumerate() {
            let place = place as u32;
            let settlement = match prior.next_if(|(at, _)| *at == place) {
                Some((_, earlier)) => preceded(&earlier, &common),
                None => Arc::clone(&common),
            };
            self.one(ticket, Settled { settlement, sub_sequence: place });
        }
        batch.body.clear();
        batch.arrivals.clear();
    }

    /// Fails a record by itself.
    pub fn fail(&mut self, removed: Removed, reason: &Reason) {
        let attempts = removed.prior.map_or_else(Vec::new, |attempts| attempts.to_vec());
        let settlement = Arc::new(Settlement { attempts, failure: Some(reason.clone()) });
        self.release(1, u64::from(removed.member.size), false);
        self.one(removed.member.ticket, Settled { settlement, sub_sequence: 0 });
    }

    fn one(&mut self, ticket: Ticket, settled: Settled) {
        self.wakers.extend(ticket.settle(settled));
    }

    fn release(&mut self, records: u64, bytes: u64, delivered: bool) {
        self.released.records += records;
        self.released.bytes += bytes;
        if delivered {
            self.released.delivered += records;
        } else {
            self.released.failed += records;
        }
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
