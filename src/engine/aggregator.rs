//! Aggregator, one for each shard: records become Kinesis records.
//!
//! ```text
//!   Routed ──▶ [ open aggregate ] ──▶ sealed: before it would be too large, at its count, on flush,
//!                                     at its earliest member's deadline less one collector wait
//! ```
//!
//! First in, first out; nothing is sorted. The aggregate is built in place in wire form, so its size is exact and it
//! never has to be trimmed. A record that does not fit any aggregate goes alone. Explicit hash keys are there for
//! all members or for none, as a mixed aggregate makes AWS's Python de-aggregator report wrong keys: an explicit key
//! that arrives in a plain aggregate seals it; in an explicit aggregate a plain member carries its computed hash key.
//!
//! G1: an open aggregate has at least one member and is smaller than `aggregation_max_size`, or has one member only.

use super::batch::{Batch, Bounds, Routed, Ticket};
use super::planted::{Mistake, planted};
use super::pool::Pool;

/// The open aggregate of one shard.
#[derive(Default)]
pub struct Aggregator {
    open: Option<Box<Batch>>,
}

/// What became of the open aggregate that took a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It stays open.
    Open,
    /// It is to be sealed earlier than before.
    Earlier,
    /// It takes no more.
    Full,
}

/// What a push has sealed, in order: what was open, and what the record itself filled.
pub type Sealed = [Option<Box<Batch>>; 2];

impl Aggregator {
    /// Appends `record`, if something is open that takes it.
    #[inline]
    pub fn append(&mut self, ticket: Ticket, record: &Routed<'_>, bounds: &Bounds) -> Result<Appended, Ticket> {
        let Some(open) = &mut self.open else { return Err(ticket) };
        let deadline = open.deadline;
        open.try_append(ticket, record, bounds)?;
        if is_full(open, bounds) {
            return Ok(Appended::Full);
        }
        Ok(if open.deadline < deadline { Appended::Earlier } else { Appended::Open })
    }

    /// Takes what is open, if it is full.
    pub fn take_full(&mut self, bounds: &Bounds, pool: &mut Pool) -> Option<Box<Batch>> {
        let mut full = self.open.take_if(|open| is_full(open, bounds))?;
        pool.seal(&mut full);
        Some(full)
    }

    /// Appends `record`; answers the batches that this seals.
    pub fn push(&mut self, ticket: Ticket, record: &Routed<'_>, bounds: &Bounds, pool: &mut Pool) -> Sealed {
        let mut before = None;
        let open = self.open.get_or_insert_with(|| pool.take());
        if let Err(ticket) = open.try_append(ticket, record, bounds) {
            before = self.open.replace(pool.take());
            let fresh = self.open.as_mut().and_then(|open| open.try_append(ticket, record, bounds).ok());
            assert!(fresh.is_some(), "a first member always fits");
        }
        before.iter_mut().for_each(|batch| pool.seal(batch));
        [before, self.take_full(bounds, pool)]
    }

    /// The open aggregate.
    pub fn open(&self) -> Option<&Batch> {
        self.open.as_deref()
    }

    /// Seals the open aggregate.
    pub fn seal(&mut self, pool: &mut Pool) -> Option<Box<Batch>> {
        let mut batch = self.open.take()?;
        pool.seal(&mut batch);
        Some(batch)
    }
}

/// Whether an aggregate takes no more.
#[inline]
fn is_full(open: &Batch, bounds: &Bounds) -> bool {
    let alone = !bounds.aggregates || open.body.size() > bounds.max_size;
    debug_assert!(!alone || open.tickets.len() == 1, "G1");
    alone || open.tickets.len() >= bounds.max_count + usize::from(planted(Mistake::AggregateCountLax))
}

#[cfg(test)]
mod tests;
