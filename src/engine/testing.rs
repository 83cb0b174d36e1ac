//! What the tests of the stages put into them: records with tickets, batches, and numbers that look random.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use super::batch::{Batch, Bounds, Generation, Routed, Ticket, Wraps};
use super::pool::Pool;
use crate::codec::hash_key;
use crate::config::OuterPartitionKey;
use crate::outcome::{Attempt, AttemptResult, ErrorCode, Settlement};
use crate::record::HashKey;
use crate::ring::{Completions, Handle, Ledger, Slots};
use crate::time::Time;

pub(super) struct Random(pub u64);

impl Random {
    /// SplitMix64.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn key(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// A record as a caller puts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Put {
    pub key: String,
    pub explicit: Option<HashKey>,
    pub data: Vec<u8>,
    pub arrival: Time,
    pub generation: Generation,
    pub prior: Option<Arc<[Attempt]>>,
}

impl Put {
    pub fn new(key: &str, data: &[u8]) -> Put {
        let (key, data) = (key.to_owned(), data.to_vec());
        Put { key, explicit: None, data, arrival: Time::ZERO, generation: Generation::default(), prior: None }
    }

    pub fn with_hash(self, hash: HashKey) -> Put {
        Put { explicit: Some(hash), ..self }
    }

    pub fn hash(&self) -> HashKey {
        self.explicit.unwrap_or_else(|| hash_key(&self.key))
    }

    pub fn size(&self) -> usize {
        self.key.len() + self.data.len()
    }
}

pub(super) type Outcome = Handle<Arc<Settlement>>;

/// Where records come from.
pub(super) struct Source {
    pub slots: Slots<Arc<Settlement>>,
    pub ledger: Arc<Ledger>,
}

impl Source {
    pub fn new() -> Source {
        let ledger = Arc::new(Ledger::new());
        Source { slots: Slots::new(Arc::clone(&ledger)), ledger }
    }

    /// The record on its way, and who waits for its outcome.
    pub fn routed<'a>(&mut self, put: &'a Put) -> (Ticket, Routed<'a>, Outcome) {
        let (ticket, outcome) = self.slots.take();
        (ticket, route(put), outcome)
    }

    /// The record on its way; nobody waits for its outcome.
    pub fn lone<'a>(&mut self, put: &'a Put) -> (Ticket, Routed<'a>) {
        (self.slots.take_lone(), route(put))
    }

    /// The record on its way; its outcome is listed.
    pub fn listed<'a>(&mut self, put: &'a Put) -> (Ticket, Routed<'a>) {
        (self.slots.take_listed(0), route(put))
    }

    pub fn completions(&mut self) -> Completions<Arc<Settlement>> {
        self.slots.completions().expect("asked for once")
    }

    /// An open batch of these records.
    pub fn batch(&mut self, puts: &[Put], pool: &mut Pool) -> (Box<Batch>, Vec<Outcome>) {
        let mut batch = pool.take();
        let mut outcomes = Vec::new();
        for put in puts {
            let (ticket, record, outcome) = self.routed(put);
            assert!(batch.try_append(ticket, &record, &bounds()).is_ok());
            outcomes.push(outcome);
        }
        (batch, outcomes)
    }
}

fn route(put: &Put) -> Routed<'_> {
    Routed {
        arrival: put.arrival,
        size: put.size() as u32,
        generation: put.generation,
        hash: put.hash(),
        explicit: put.explicit.is_some(),
        fresh: true,
        tag: hash_key(&put.key).0 as u64,
        key: put.key.as_bytes(),
        data: &put.data,
        prior: put.prior.as_ref(),
    }
}

/// Bounds that nothing comes near to.
pub(super) fn bounds() -> Bounds {
    Bounds {
        aggregates: true,
        wraps: Wraps::Magic,
        max_size: 1 << 20,
        max_record: 10 << 20,
        max_count: usize::MAX,
        outer: OuterPartitionKey::A,
        keeps_failed: false,
        buffered_time: Duration::from_millis(100),
        ttl: Duration::from_secs(30),
    }
}

/// An attempt that failed at this moment.
pub(super) fn attempt(ms: u64) -> Attempt {
    let at = Time::from_nanos(ms * 1_000_000);
    let result = AttemptResult::Failed { code: ErrorCode::Timeout, message: "".into(), ambiguous: true };
    Attempt { began: at, ended: at, result }
}

/// An attempt that ended well.
pub(super) fn stored() -> Attempt {
    let result = AttemptResult::Stored { shard_id: "shardId-1".into(), sequence_number: "7".into() };
    Attempt { began: Time::ZERO, ended: Time::ZERO, result }
}

/// Waits for the outcome with a waker, which there is none for yet.
pub(super) fn wait(outcome: &mut Outcome) {
    assert!(outcome.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// MD5, by the crate that is the oracle of the lanes.
pub(super) fn digest(bytes: &[u8]) -> [u8; 16] {
    use md5::{Digest, Md5};
    Md5::digest(bytes).into()
}
