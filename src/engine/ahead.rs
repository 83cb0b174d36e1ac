//! Asks the processor for what records will be appended to, before they are.
//!
//! ```text
//!   16 or 32 records ─▶ their shards ─▶ their open batches ─▶ ends of their lists ─▶ their keys
//!                      each step for all of them, before the next step reads what this one asked for
//! ```
//!
//! An append touches some fifteen cache lines, of which each step finds the next. Where there are more open aggregates than
//! caches hold, each step waits for memory; asked for side by side, those of all records that come together are waited for once.
//! `kpl-bench --sink --no-verify`, 3 000 000 records, three pairs of runs in turn, ns of CPU a record: at 512 shards 762,
//! 843, 693 with it and 853, 961, 798 without; at 4 000 shards 1 245, 1 345, 1 653 and 2 482, 2 078, 1 772. At 64, 128 and 256
//! shards it made no difference that could be told from noise, so that a core with fewer of them is left alone.
//!
//! It changes nothing: whatever it predicts wrongly is a line that nobody needed.

use super::Core;
use super::batch::Batch;
use super::shard::Shard;
use crate::codec::Framed;
use crate::codec::lanes::LANES_MAX;
use crate::record::HashKey;
use crate::ring::expect_write;

/// With more shards of its own, of all streams together, a core looks ahead.
const SHARDS_HELD_BY_CACHES: usize = 256;

impl Core {
    /// Records come, `LANES_MAX` at most, each with the MD5 of its key.
    pub(super) fn expect(&self, records: &[Option<Framed<'_>>], hashes: &[HashKey]) {
        if self.own_shards <= SHARDS_HELD_BY_CACHES {
            return;
        }
        let mut shards: [Option<&Shard>; LANES_MAX] = [None; LANES_MAX];
        for ((framed, hash), shard) in records.iter().flatten().zip(hashes).zip(&mut shards) {
            let stream = self.streams.get(framed.stream.index()).and_then(Option::as_ref);
            *shard = stream.and_then(|stream| stream.expected_shard(framed, *hash));
            if let Some(shard) = shard {
                expect_write(&raw const shard.aggregator);
            }
        }
        let mut open: [Option<&Batch>; LANES_MAX] = [None; LANES_MAX];
        for (shard, open) in shards.iter().zip(&mut open) {
            *open = shard.and_then(|shard| shard.aggregator.open());
            if let Some(batch) = open {
                let start = (&raw const **batch).cast::<u8>();
                (0..size_of::<Batch>()).step_by(64).for_each(|line| expect_write(start.wrapping_add(line)));
            }
        }
        for batch in open.iter().flatten() {
            batch.ends().into_iter().for_each(expect_write);
        }
        for (batch, HashKey(hash)) in open.iter().zip(hashes) {
            if let Some(text) = batch.and_then(|batch| batch.body.key_text(*hash as u64)) {
                expect_write(text);
            }
        }
    }
}
