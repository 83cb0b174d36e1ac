//! The sink: checks what arrives, answers as the service would, keeps nothing but counters.
//!
//! Every stream name exists, with the same number of shards of equal hash ranges. A record goes to the shard whose range
//! holds its explicit hash key, or else the MD5 of its partition key, and gets that shard's next sequence number.
//!
//! It refuses what breaks the service's limits on a request (see [`crate::put_records`]), and knows four operations.
//! It costs some 0.2 µs a small record, HTTP included, and nothing a byte beyond receiving it: measured, one core takes
//! 4 million records of 100 B in requests of 500, or 8 GB of 50 KiB records, in a second.

mod control;
mod shards;
mod writer;

use crate::answer::Refusal;
use crate::put_records::{self, Totals, Wire};
use shards::Shards;
use std::sync::{Mutex, PoisonError};

pub(crate) struct Sink {
    shards: Shards,
    region: String,
    /// The last sequence number given in each shard. Written by each PutRecords.
    sequences: Mutex<Vec<u64>>,
}

impl Sink {
    pub(crate) fn new(shards: u32, region: String) -> Sink {
        Sink { shards: Shards::new(shards), region, sequences: Mutex::new(vec![0; shards as usize]) }
    }

    /// The body of the answer, and of a PutRecords what it held.
    pub(crate) fn answer(
        &self,
        operation: &str,
        wire: Wire,
        body: &[u8],
    ) -> Result<(Vec<u8>, Option<Totals>), Refusal> {
        if operation == "PutRecords" {
            let (answer, totals) = self.put_records(wire, body)?;
            return Ok((answer, Some(totals)));
        }
        let request = control::decode(wire, body)?;
        let answer = match operation {
            "ListShards" => Some(control::list_shards(&self.shards, &request)?),
            "DescribeStreamSummary" => Some(control::describe(&self.shards, &self.region, &request)?),
            "CreateStream" => None,
            _ => return Err(Refusal::new("UnknownOperationException", "")),
        };
        Ok((answer.map_or_else(Vec::new, |answer| control::encode(wire, &answer)), None))
    }

    fn put_records(&self, wire: Wire, body: &[u8]) -> Result<(Vec<u8>, Totals), Refusal> {
        let mut placed = Vec::with_capacity(512);
        let totals = put_records::read(wire, body, |entry| {
            let hash = entry.explicit_hash_key.unwrap_or_else(|| shards::hash(&entry.partition_key));
            placed.push(self.shards.of(hash));
        })?;
        let mut sequences = self.sequences.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = placed.into_iter().map(|shard| {
            sequences[shard] += 1;
            (shard, sequences[shard])
        });
        Ok((writer::put_records(wire, totals.records, entries), totals))
    }
}
