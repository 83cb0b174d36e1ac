//! Pool: batches at rest, for the next ones.
//!
//! ```text
//!   take ─▶ open ─▶ sealed, its index back to the pool ─▶ under way ─▶ settled ─▶ give
//! ```
//!
//! A core's own, so that nobody is asked for what was just given back. It is bounded in bytes, and what grew large is not kept.

use super::batch::Batch;
use crate::codec::KeyIndex;

/// Batches at rest, with the buffers that they grew, and what finds the keys of open ones.
#[derive(Default)]
pub struct Pool {
    batches: Vec<Box<Batch>>,
    /// Bytes that they occupy.
    bytes: usize,
    indexes: Vec<Box<KeyIndex>>,
    /// Keys that those have room for.
    keys: usize,
}

/// Bytes of all batches at rest: some 300 of 50 KiB, or many small ones. Beyond it they go back to the allocator.
const POOL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A batch whose buffers grew past this is not kept: one large record must not stay resident.
const POOL_BATCH_BYTES_MAX: usize = 256 * 1024;
/// Keys that all indexes at rest have room for: some 600 of an aggregate with 430 keys. That is 4 MiB, or 10 if all are
/// explicit hash keys.
const POOL_KEYS_MAX: usize = 1 << 18;
/// An index with room for more keys than this is not kept.
const POOL_INDEX_KEYS_MAX: usize = 4096;

impl Pool {
    /// An empty batch.
    pub fn take(&mut self) -> Box<Batch> {
        let mut batch = match self.batches.pop() {
            Some(batch) => {
                self.bytes -= batch.footprint();
                batch
            }
            None => Box::new(Batch::empty()),
        };
        if let Some(index) = self.indexes.pop() {
            self.keys -= index.capacity();
            batch.body.open_with(index);
        }
        batch
    }

    /// Ends the growth of `batch`.
    pub fn seal(&mut self, batch: &mut Batch) {
        let Some(index) = batch.seal() else { return };
        let keys = index.capacity();
        if keys <= POOL_INDEX_KEYS_MAX && self.keys + keys <= POOL_KEYS_MAX {
            self.keys += keys;
            self.indexes.push(index);
        }
    }

    /// Takes back a batch whose members are gone.
    pub fn give(&mut self, mut batch: Box<Batch>) {
        debug_assert!(batch.tickets.is_empty(), "B1: a pooled batch settles nobody");
        let bytes = batch.footprint();
        if bytes <= POOL_BATCH_BYTES_MAX && self.bytes + bytes <= POOL_BYTES_MAX {
            batch.reset();
            self.bytes += bytes;
            self.batches.push(batch);
        }
    }
}

#[cfg(test)]
mod tests;
