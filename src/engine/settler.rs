//! Settler: the one place where a record gets its outcome.
//!
//! ```text
//!   members of a batch + how it ended ──▶ outcome slots, credit to return, wakers to call, failures that nobody
//!                                         waits for
//! ```
//!
//! The members of a batch share one [`Settlement`]; a member that was attempted in an earlier batch has its own, with
//! its whole history, and so has every failed one where failed records are kept. No user code runs here: wakers are collected, and the driver calls them at the end of its turn.
//!
//! S1: a member is settled exactly once, as its ticket is consumed.
//! S2: a settlement without failure ends in a stored attempt.

use std::sync::Arc;
use std::task::Waker;

use super::batch::{Batch, Generation, Removed, Ticket, joined};
use super::planted::{Mistake, planted};
use crate::outcome::{Attempt, AttemptResult, ErrorCode, KeptRecord, Settlement};
use crate::record::StreamId;
use crate::ring::{Told, settle_all};

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
    /// Of the records, those whose credit stays with their completion until that is drained. Their bytes' does not.
    pub held: u64,
}

/// Records that failed alike, and that nobody waits for.
#[derive(Clone, Debug)]
pub struct Unheard {
    /// Their stream.
    pub stream: StreamId,
    /// How they ended.
    pub settlement: Arc<Settlement>,
    /// How many they are.
    pub records: u64,
}

/// Settles records.
#[derive(Default)]
pub struct Settler {
    /// `keep_failed_records`.
    keeps_failed: bool,
    released: Released,
    wakers: Vec<Waker>,
    unheard: Vec<Unheard>,
}

impl Settler {
    /// One that has settled nothing. `keeps_failed`: each failure holds a copy of its record.
    pub fn new(keeps_failed: bool) -> Settler {
        Settler { keeps_failed, ..Settler::default() }
    }

    /// Settles every member of `batch`, of `stream`, which is empty afterwards. `seen` is told how many of which
    /// generation.
    pub fn settle(
        &mut self,
        stream: StreamId,
        batch: &mut Batch,
        failure: Option<Reason>,
        mut seen: impl FnMut(Generation, usize),
    ) {
        let attempts = std::mem::take(&mut batch.attempts);
        debug_assert!(failure.is_some() || ends_stored(&attempts), "S2");
        batch.arrivals.runs().for_each(|(_, generation, records)| seen(generation, records));
        self.release(batch.tickets.len() as u64, batch.record_bytes, failure.is_none());
        let keeps = self.keeps_failed && failure.is_some();
        let common = Arc::new(Settlement { attempts, failure, kept: None });
        if keeps || !batch.prior.is_empty() {
            self.settle_apart(stream, batch, keeps, &common);
        } else {
            let first = u32::from(planted(Mistake::MembersFromOne));
            settle_all(&mut batch.tickets, &common, first, |told, records| self.told(stream, told, &common, records));
        }
        batch.body.clear();
        batch.arrivals.clear();
    }

    /// Settles members that do not all have the settlement which they have in `common`.
    #[cold]
    #[inline(never)]
    fn settle_apart(&mut self, stream: StreamId, batch: &mut Batch, keeps: bool, common: &Arc<Settlement>) {
        let mut prior = batch.prior.drain(..).peekable();
        let skipped = usize::from(planted(Mistake::NeighbourKept) && batch.tickets.len() > 1);
        let mut members = keeps.then(|| batch.body.members().skip(skipped));
        for (place, ticket) in (0..).zip(batch.tickets.drain(..)) {
            let told_place = place + u32::from(planted(Mistake::MembersFromOne));
            let earlier = prior.next_if(|(at, _)| *at == place && !planted(Mistake::PriorForgotten));
            if earlier.is_none() && members.is_none() {
                self.one(stream, ticket, common, told_place);
                continue;
            }
            let mut settlement = match earlier {
                Some((_, earlier)) => preceded(&earlier, common),
                None => Settlement::clone(common),
            };
            if let Some(member) = members.as_mut().and_then(Iterator::next) {
                let kept = KeptRecord::new(member.partition_key.as_bytes(), member.explicit_hash_key, member.data);
                settlement.kept = Some(kept);
            }
            self.one(stream, ticket, &Arc::new(settlement), told_place);
        }
    }

    /// Fails a record of `stream` by itself.
    pub fn fail(&mut self, stream: StreamId, removed: Removed, reason: &Reason) {
        let attempts = removed.prior.map_or_else(Vec::new, |attempts| attempts.to_vec());
        let settlement = Arc::new(Settlement { attempts, failure: Some(reason.clone()), kept: removed.kept });
        self.release(1, u64::from(removed.size), false);
        self.one(stream, removed.ticket, &settlement, 0);
    }

    #[inline]
    fn one(&mut self, stream: StreamId, ticket: Ticket, settlement: &Arc<Settlement>, place: u32) {
        self.told(stream, ticket.settle_with(|| Arc::clone(settlement), place), settlement, 1);
    }

    /// So many records more are settled, of which `told` hears.
    #[inline(always)]
    fn told(&mut self, stream: StreamId, told: Told, settlement: &Arc<Settlement>, records: u64) {
        match told {
            Told::Handle => {}
            Told::Waiting(waker) => self.wakers.push(waker),
            Told::Listed(waker) => {
                self.released.held += records;
                self.wakers.extend(waker);
            }
            Told::Nobody if settlement.failure.is_none() => {}
            Told::Nobody => self.unheard(stream, settlement, records),
        }
    }

    /// So many records more failed with nobody to hear of it.
    fn unheard(&mut self, stream: StreamId, settlement: &Arc<Settlement>, records: u64) {
        match self.unheard.last_mut() {
            Some(last) if last.stream == stream && Arc::ptr_eq(&last.settlement, settlement) => last.records += records,
            _ => self.unheard.push(Unheard { stream, settlement: Arc::clone(settlement), records }),
        }
    }

    fn release(&mut self, records: u64, bytes: u64, delivered: bool) {
        self.released.records += records;
        self.released.bytes += bytes - u64::from(planted(Mistake::ByteKept));
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

    /// The failures that nobody waits for, since they were last taken away.
    pub fn unheard_list(&mut self) -> &mut Vec<Unheard> {
        &mut self.unheard
    }

    /// The wakers of those who wait for what was settled.
    pub fn wakers(&mut self) -> &mut Vec<Waker> {
        &mut self.wakers
    }
}

fn preceded(earlier: &Arc<[Attempt]>, common: &Settlement) -> Settlement {
    let own: Arc<[Attempt]> = common.attempts.as_slice().into();
    let all = joined(Some(Arc::clone(earlier)), Some(&own));
    let attempts = all.map_or_else(Vec::new, |all| all.to_vec());
    Settlement { attempts, failure: common.failure.clone(), kept: None }
}

fn ends_stored(attempts: &[Attempt]) -> bool {
    matches!(attempts.last(), Some(Attempt { result: AttemptResult::Stored { .. }, .. }))
}

#[cfg(test)]
mod tests;
