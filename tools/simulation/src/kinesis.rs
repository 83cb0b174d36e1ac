//! Kinesis, as far as a producer meets it: streams of shards by hash range, which can be split and merged.
//!
//! ```text
//!   entry ──explicit hash key, else MD5 of the key──▶ the open shard whose range holds it ──▶ stored, numbered
//! ```
//!
//! It places every entry by its own ranges, whatever the producer predicted, and keeps all that was ever stored for the
//! checker to read. Faults of single records strike here; those of whole requests are the network's (`network`).

use std::rc::Rc;
use std::sync::Arc;

use kpl::engine::ShardInfo;
use kpl::record::HashKey;
use kpl::time::Time;

use crate::consumer::md5_hash;
use crate::faults::{Canary, Faults, Kind};
use crate::rng::Rng;
use crate::wire::{Entry, Told};

/// A Kinesis record in a shard.
pub struct Stored {
    /// Its sequence number.
    pub sequence: u64,
    /// What was stored.
    pub entry: Entry,
}

/// A shard, open or closed.
pub struct ServiceShard {
    /// Its id.
    pub id: String,
    /// The least and the greatest hash key.
    pub range: (u128, u128),
    /// The shards that it came of.
    pub parents: [Option<usize>; 2],
    /// From when to when it was open.
    pub opened: Time,
    /// When it was closed.
    pub closed: Option<Time>,
    /// In the order of storing.
    pub records: Vec<Stored>,
}

/// A stream.
pub struct ServiceStream {
    /// All shards that there ever were.
    pub shards: Vec<ServiceShard>,
    /// The first shard takes nothing while it is open.
    pub dead_shard: bool,
    next_sequence: u64,
}

/// Writes a sequence number as the service does: a long decimal.
pub fn sequence_text(sequence: u64) -> String {
    format!("4966{sequence:052}")
}

impl ServiceStream {
    /// A stream of `shards` shards of about equal range.
    pub fn new(shards: usize) -> ServiceStream {
        let width = u128::MAX / shards as u128;
        let mut stream = ServiceStream { shards: Vec::new(), dead_shard: false, next_sequence: 1 };
        for index in 0..shards as u128 {
            let last = if index + 1 == shards as u128 { u128::MAX } else { (index + 1) * width - 1 };
            stream.open(Time::ZERO, (index * width, last), [None, None]);
        }
        stream
    }

    fn open(&mut self, now: Time, range: (u128, u128), parents: [Option<usize>; 2]) {
        let id = format!("shardId-{:012}", self.shards.len());
        self.shards.push(ServiceShard { id, range, parents, opened: now, closed: None, records: Vec::new() });
    }

    /// Splits a shard, or merges two. Answers what was done.
    pub fn reshard(&mut self, now: Time, rng: &mut Rng) -> String {
        let mut open: Vec<usize> =
            (0..self.shards.len()).filter(|&index| self.shards[index].closed.is_none()).collect();
        open.sort_by_key(|&index| self.shards[index].range.0);
        let place = rng.index(open.len());
        let lower = open[place];
        let (first, last) = self.shards[lower].range;
        if let Some(&upper) = open.get(place + 1).filter(|_| rng.chance(4000)) {
            let end = self.shards[upper].range.1;
            self.shards[lower].closed = Some(now);
            self.shards[upper].closed = Some(now);
            self.open(now, (first, end), [Some(lower), Some(upper)]);
            return format!("merges {} and {}", self.shards[lower].id, self.shards[upper].id);
        }
        let middle =
            if rng.chance(5000) { first + (last - first) / 2 } else { first + rng.wide() % (last - first).max(1) };
        self.shards[lower].closed = Some(now);
        self.open(now, (first, middle), [Some(lower), None]);
        self.open(now, (middle + 1, last), [Some(lower), None]);
        format!("splits {}", self.shards[lower].id)
    }

    /// The shards that were open at `at`, as ListShards tells.
    pub fn list(&self, at: Time) -> Vec<ShardInfo> {
        let open =
            self.shards.iter().filter(|shard| shard.opened <= at && shard.closed.is_none_or(|closed| closed > at));
        let id = |index: usize| Arc::<str>::from(self.shards[index].id.as_str());
        open.map(|shard| ShardInfo {
            id: shard.id.as_str().into(),
            first: HashKey(shard.range.0),
            last: HashKey(shard.range.1),
            parents: shard.parents.map(|parent| parent.map(id)),
        })
        .collect()
    }

    /// Whether a record with this hash key goes to a shard that takes nothing.
    pub fn is_dead(&self, hash: u128) -> bool {
        let first = &self.shards[0];
        self.dead_shard && first.closed.is_none() && (first.range.0..=first.range.1).contains(&hash)
    }

    /// Applies a request: stores its entries, one by one, as far as no fault strikes.
    pub fn put_records(&mut self, entries: &Rc<Vec<Entry>>, faults: &mut Faults) -> Vec<Told> {
        entries.iter().map(|entry| self.put_one(entry, faults)).collect()
    }

    fn put_one(&mut self, entry: &Entry, faults: &mut Faults) -> Told {
        if faults.strikes(Kind::RecordThrottled) {
            return Told::Refused("ProvisionedThroughputExceededException", "Rate exceeded for shard.");
        }
        if faults.strikes(Kind::RecordFailed) {
            return Told::Refused("InternalFailure", "Internal service failure.");
        }
        let hash = entry.explicit.unwrap_or_else(|| md5_hash(&entry.key));
        if self.is_dead(hash) {
            return Told::Refused("ProvisionedThroughputExceededException", "Rate exceeded for shard.");
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let mut open = self.shards.iter_mut().filter(|shard| shard.closed.is_none());
        let shard = open.find(|shard| (shard.range.0..=shard.range.1).contains(&hash));
        let shard = shard.expect("open shards cover the hash space");
        let mut kept = entry.clone();
        if faults.planted(Canary::CorruptsByte, 20) && !kept.data.is_empty() {
            let place = kept.data.len() / 2;
            kept.data[place] ^= 1;
        }
        let dropped = faults.planted(Canary::LosesRecord, 20) || faults.planted(Canary::AnswersWithoutStoring, 20);
        if !dropped {
            shard.records.push(Stored { sequence, entry: kept });
        }
        if faults.strikes(Kind::RecordFailedStored) {
            return Told::Refused("InternalFailure", "Internal service failure.");
        }
        let named = if faults.planted(Canary::NamesAnotherShard, 20) { "shardId-999999999999" } else { &shard.id };
        Told::Stored(named.to_owned(), sequence_text(sequence))
    }
}
