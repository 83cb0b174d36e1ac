//! Kinesis, as far as a producer meets it: streams of shards by hash range, which can be split and merged.
//!
//! ```text
//!   entry ──explicit hash key, else MD5 of the key──▶ the open shard whose range holds it ──▶ stored, numbered
//! ```
//!
//! It places every entry by its own ranges, whatever the producer predicted, and keeps all that was ever stored for the
//! checker to read, in streams that were deleted too. How its shards change stands in `resharding`. While it is set to distribute records itself (AUTO) it places each by chance and looks at no key. Where
//! it enforces what a shard takes it does so by two token buckets, of a second's worth each. Faults of single records
//! strike here; those of whole requests are the network's (`network`).

use std::collections::BTreeMap;
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
    /// What it may still take: records and bytes, as of a moment.
    level: (f64, f64, Time),
}

/// Records and bytes that a shard takes in a second.
const TAKES: (f64, f64) = (1000.0, 1_048_576.0);

impl ServiceShard {
    /// Whether the shard takes a further record of `bytes` bytes now.
    fn takes(&mut self, now: Time, bytes: usize) -> bool {
        let (records, room, since) = self.level;
        let elapsed = now.since(since).as_secs_f64();
        let (records, room) = ((records + TAKES.0 * elapsed).min(TAKES.0), (room + TAKES.1 * elapsed).min(TAKES.1));
        let takes = records >= 1.0 && room >= bytes as f64;
        let cost = if takes { (1.0, bytes as f64) } else { (0.0, 0.0) };
        self.level = (records - cost.0, room - cost.1, now);
        takes
    }
}

/// A closed shard as ListShards tells of it.
pub type ListedClosed = (Arc<str>, (HashKey, HashKey));

/// A stream that was deleted.
pub struct Deleted {
    /// When.
    pub at: Time,
    /// All shards that it ever had.
    pub shards: Vec<ServiceShard>,
}

/// A stream.
pub struct ServiceStream {
    /// All shards that there ever were, since it was created.
    pub shards: Vec<ServiceShard>,
    /// The numbers of those that are open, by first hash key. While the stream is deleted there are none.
    pub(crate) open: BTreeMap<u128, usize>,
    /// When it was created.
    pub(crate) created: Time,
    /// Streams of its name that there were before it.
    pub deleted: Vec<Deleted>,
    /// The first shard takes nothing while it is open.
    pub dead_shard: bool,
    /// Whether shards take no more than they are to.
    pub capacity: bool,
    /// Places records by chance, while it is there.
    pub auto: Option<Rng>,
    next_sequence: u64,
}

/// Writes a sequence number as the service does: a long decimal.
pub fn sequence_text(sequence: u64) -> String {
    format!("4966{sequence:052}")
}

impl ServiceStream {
    /// A stream of `shards` shards of about equal range; whether they take no more than they are to.
    pub fn new(shards: usize, capacity: bool) -> ServiceStream {
        let mut stream = ServiceStream {
            shards: Vec::new(),
            open: BTreeMap::new(),
            created: Time::ZERO,
            deleted: Vec::new(),
            dead_shard: false,
            capacity,
            auto: None,
            next_sequence: 1,
        };
        stream.create(Time::ZERO, shards);
        stream
    }

    /// Begins with `shards` shards of about equal range.
    pub(crate) fn create(&mut self, now: Time, shards: usize) {
        self.created = now;
        let width = u128::MAX / shards as u128;
        for index in 0..shards as u128 {
            let last = if index + 1 == shards as u128 { u128::MAX } else { (index + 1) * width - 1 };
            self.open(now, (index * width, last), [None, None]);
        }
    }

    pub(crate) fn open(&mut self, now: Time, range: (u128, u128), parents: [Option<usize>; 2]) {
        let id = format!("shardId-{:012}", self.shards.len());
        let level = (TAKES.0, TAKES.1, now);
        self.open.insert(range.0, self.shards.len());
        self.shards.push(ServiceShard { id, range, parents, opened: now, closed: None, records: Vec::new(), level });
    }

    pub(crate) fn close(&mut self, now: Time, number: usize) {
        self.shards[number].closed = Some(now);
        self.open.remove(&self.shards[number].range.0);
    }

    /// Whether it is there: one that is deleted has no shard.
    pub fn is_there(&self) -> bool {
        !self.open.is_empty()
    }

    /// How many shards are open.
    pub fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The shards that were open at `at`, as ListShards tells.
    pub fn list(&self, at: Time) -> Vec<ShardInfo> {
        let at = at.max(self.created);
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

    /// The shards that were closed by `at`, and not before `since`, as ListShards tells.
    pub fn list_closed(&self, since: Time, at: Time) -> Vec<ListedClosed> {
        let closed =
            self.shards.iter().filter(|shard| shard.closed.is_some_and(|closed| (since..=at).contains(&closed)));
        closed.map(|shard| (shard.id.as_str().into(), (HashKey(shard.range.0), HashKey(shard.range.1)))).collect()
    }

    /// The open shard whose range holds a hash key, by number; none, while the stream is deleted.
    pub fn place_of(&self, hash: u128) -> Option<usize> {
        self.open.range(..=hash).next_back().map(|(_, number)| *number)
    }

    /// The range of the shard with this id, open or closed.
    pub fn range_of(&self, id: &str) -> Option<(u128, u128)> {
        let number: usize = id.strip_prefix("shardId-")?.parse().ok()?;
        self.shards.get(number).map(|shard| shard.range)
    }

    /// Applies a request: stores its entries, one by one, as far as no fault strikes.
    pub fn put_records(&mut self, now: Time, entries: &Rc<Vec<Entry>>, faults: &mut Faults) -> Vec<Told> {
        entries.iter().map(|entry| self.put_one(now, entry, faults)).collect()
    }

    fn put_one(&mut self, now: Time, entry: &Entry, faults: &mut Faults) -> Told {
        if faults.strikes(Kind::RecordThrottled) {
            return throttled();
        }
        if faults.strikes(Kind::RecordFailed) {
            return failed();
        }
        let place = self.place(entry, faults);
        if self.dead_shard && place == 0 {
            faults.note(Kind::ShardDead);
            return throttled();
        }
        if self.capacity && !self.shards[place].takes(now, entry.data.len() + entry.key.len()) {
            faults.note(Kind::CapacityExceeded);
            return throttled();
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let shard = &mut self.shards[place];
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
            return failed();
        }
        let named = if faults.planted(Canary::NamesAnotherShard, 20) { "shardId-999999999999" } else { &shard.id };
        Told::Stored(named.to_owned(), sequence_text(sequence))
    }

    fn place(&mut self, entry: &Entry, faults: &mut Faults) -> usize {
        let Some(chance) = &mut self.auto else {
            let hash = entry.explicit.unwrap_or_else(|| md5_hash(&entry.key));
            return self.place_of(hash).expect("only a stream that is there is put to, and covers the hash space");
        };
        faults.note(Kind::Auto);
        let open: Vec<usize> = (0..self.shards.len()).filter(|&index| self.shards[index].closed.is_none()).collect();
        open[chance.index(open.len())]
    }
}

fn throttled() -> Told {
    Told::Refused("ProvisionedThroughputExceededException", "Rate exceeded for shard.")
}

fn failed() -> Told {
    Told::Refused("InternalFailure", "Internal service failure.")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_shard_takes_a_seconds_worth_and_then_what_time_brings() {
        let mut stream = ServiceStream::new(1, true);
        let shard = &mut stream.shards[0];
        assert_eq!((0..2000).filter(|_| shard.takes(Time::ZERO, 100)).count(), 1000);
        let later = Time::ZERO + Duration::from_millis(100);
        assert_eq!((0..2000).filter(|_| shard.takes(later, 100)).count(), 100);
        let later = later + Duration::from_secs(60);
        assert_eq!((0..100).filter(|_| shard.takes(later, 100_000)).count(), 10);
        assert!(shard.takes(later, 48_576) && !shard.takes(later, 1));
    }
}
