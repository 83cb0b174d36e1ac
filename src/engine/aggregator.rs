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

use super::batch::{Batch, Bounds, Pool, Routed};
use super::planted::{Mistake, planted};
use crate::time::Time;

/// The open aggregate of one shard.
#[derive(Default)]
pub struct Aggregator {
    open: Option<Box<Batch>>,
}

/// What a push has sealed, in order: what was open, and what the record itself filled.
pub type Sealed = [Option<Box<Batch>>; 2];

impl Aggregator {
    /// Appends `record`; answers the batches that this seals.
    #[inline]
    pub fn push(&mut self, record: Routed<'_>, bounds: &Bounds, pool: &mut Pool) -> Sealed {
        let mut before = None;
        let open = self.open.get_or_insert_with(|| pool.take());
        if let Err(record) = open.try_append(record, bounds) {
            before = self.open.replace(pool.take());
            let fresh = self.open.as_mut().and_then(|open| open.try_append(record, bounds).ok());
            assert!(fresh.is_some(), "a first member always fits");
        }
        let full = self.open.take_if(|open| {
            let alone = !bounds.aggregates || open.body.size() > bounds.max_size;
            debug_assert!(!alone || open.tickets.len() == 1, "G1");
            alone || open.tickets.len() >= bounds.max_count + usize::from(planted(Mistake::AggregateCountLax))
        });
        let mut sealed = [before, full];
        sealed.iter_mut().flatten().for_each(|batch| pool.seal(batch));
        sealed
    }

    /// The earliest deadline in the open aggregate; never, if none is open.
    #[inline]
    pub fn deadline(&self) -> Time {
        self.open.as_ref().map_or(Time::NEVER, |open| open.deadline)
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

#[cfg(test)]
mod tests;
