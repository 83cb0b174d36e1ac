//! What moves through the engine: a record on its way to a shard, and the Kinesis record that records become.
//!
//! ```text
//!   ring frame ──▶ Routed ──▶ Parcel (to another core, or waiting for the first map) ──▶ Routed ──▶ Batch
//! ```
//!
//! Beside its bytes in wire form, which include its key once an aggregate, a record in a batch is its ticket of 8 bytes
//! and its part in a run of arrivals of 8 bytes. What it weighs is in its bytes; the batch has the sum.
//!
//! B1: a ticket is the right and the duty to settle one accepted record, so whoever drops it settles it as abandoned.
//! B2: `tickets`, `arrivals` and the members of `body` are the same records in the same order.
//! B3: `prior` is ascending by place, and names only members that were attempted in an earlier batch.

use std::sync::Arc;
use std::time::Duration;

use super::arrivals::Arrivals;
use super::isolation::Suspicion;
use super::planted::{Mistake, planted};
use crate::codec::{Aggregate, KeyIndex, Member as Appended, Written, has_digest, hash_key, starts_with_magic};
use crate::config::{Config, OuterPartitionKey};
use crate::limits::{AGGREGATE_DIGEST_BYTES, OUTER_PARTITION_KEY};
use crate::outcome::{Attempt, KeptRecord, Settlement};
use crate::record::HashKey;
use crate::ring;
use crate::time::Time;

/// The right and the duty to settle one record.
pub type Ticket = ring::Ticket<Arc<Settlement>>;

/// Which of two alternating flush rounds a record was accepted under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Generation(bool);

impl Generation {
    /// The generation of flush round `number`: rounds never overlap by more than one.
    pub fn of_round(number: u64) -> Generation {
        Generation(number & 1 == 1)
    }

    /// The one that follows.
    pub fn next(self) -> Generation {
        Generation(!self.0)
    }

    /// As an index into a pair of counters.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A record whose hash key is known: all but its ticket, which goes beside it. So a record is read where it was put
/// together, and 8 bytes move.
#[derive(Clone, Copy)]
pub struct Routed<'a> {
    /// When it was put.
    pub arrival: Time,
    /// Bytes of data and partition key, the credit to give back at settling.
    pub size: u32,
    /// The flush round it belongs to.
    pub generation: Generation,
    /// Decides the shard.
    pub hash: HashKey,
    /// Where key tables look for the partition key first: the low half of its MD5.
    pub tag: u64,
    /// Whether the caller gave the hash key.
    pub explicit: bool,
    /// Whether no shard has had it yet.
    pub fresh: bool,
    /// The partition key, in UTF-8.
    pub key: &'a [u8],
    /// The payload.
    pub data: &'a [u8],
    /// Attempts made in an earlier batch.
    pub prior: Option<&'a Arc<[Attempt]>>,
}

/// A record that left its batch or parcel to be settled by itself.
pub struct Removed {
    /// Settles the record.
    pub ticket: Ticket,
    /// When it was put.
    pub arrival: Time,
    /// Bytes of data and partition key.
    pub size: u32,
    /// The flush round it belongs to.
    pub generation: Generation,
    /// The attempts that were made for it.
    pub prior: Option<Arc<[Attempt]>>,
    /// A copy of it, where failed records are kept.
    pub kept: Option<Box<KeptRecord>>,
}

impl Removed {
    /// Takes `record` out; `keeps` says whether failed records are kept.
    pub fn of(ticket: Ticket, record: &Routed<'_>, keeps: bool) -> Removed {
        let explicit = record.explicit.then_some(record.hash);
        let kept = keeps.then(|| KeptRecord::new(record.key, explicit, record.data));
        let Routed { arrival, size, generation, .. } = *record;
        Removed { ticket, arrival, size, generation, prior: record.prior.cloned(), kept }
    }
}

/// Which lone payloads are wrapped as aggregates of one, so that consumers do not take them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wraps {
    /// None: what looks like an aggregate is the caller's, and passes as it is.
    None,
    /// Those that begin with the magic.
    Magic,
    /// Those that are aggregates indeed, by their digest. Consumers take any other for what it is; and where the service
    /// places records as it likes, they drop what is wrapped, unless chance puts it where its key belongs.
    Digest,
}

impl Wraps {
    fn wraps(self, data: &[u8]) -> bool {
        match self {
            Wraps::None => false,
            Wraps::Magic => starts_with_magic(data),
            Wraps::Digest => has_digest(data),
        }
    }
}

/// What bounds the batches of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Whether records are aggregated at all.
    pub aggregates: bool,
    /// Which lone payloads are wrapped.
    pub wraps: Wraps,
    /// `aggregation_max_size`.
    pub max_size: usize,
    /// `max_record_size`.
    pub max_record: usize,
    /// `aggregation_max_count`.
    pub max_count: usize,
    /// `outer_partition_key`.
    pub outer: OuterPartitionKey,
    /// `keep_failed_records`.
    pub keeps_failed: bool,
    /// `record_max_buffered_time`.
    pub buffered_time: Duration,
    /// `record_ttl`.
    pub ttl: Duration,
}

impl Bounds {
    /// Those of `config`.
    pub fn of(config: &Config) -> Bounds {
        Bounds {
            aggregates: config.aggregation_enabled,
            wraps: if config.aggregation_enabled { Wraps::Magic } else { Wraps::None },
            max_size: config.aggregation_max_size + usize::from(planted(Mistake::AggregateSizeLax)),
            max_record: config.max_record_size,
            max_count: config.aggregation_max_count,
            outer: config.outer_partition_key,
            keeps_failed: config.keep_failed_records,
            buffered_time: config.record_max_buffered_time,
            ttl: config.record_ttl,
        }
    }
}

/// One Kinesis record, open or sealed: one user record, or several aggregated.
pub struct Batch {
    /// The members in wire form.
    pub body: Aggregate,
    /// The members' tickets, in the order of `body` (B2).
    pub tickets: Vec<Ticket>,
    /// When they were put, and for which flush (B2).
    pub arrivals: Arrivals,
    /// Bytes of data and partition key of all members.
    pub record_bytes: u64,
    /// Bytes of their data alone.
    pub data: DataBytes,
    /// Attempts of members from earlier batches, by place (B3).
    pub prior: Vec<(u32, Arc<[Attempt]>)>,
    /// Attempts of this batch.
    pub attempts: Vec<Attempt>,
    /// Whether the members carry explicit hash keys.
    pub explicit: bool,
    /// Wrapped though it has one member, since that member looks like an aggregate.
    pub wrapped: bool,
    /// Which partition key it has as an aggregate.
    pub outer: OuterPartitionKey,
    /// Hash key of the first member.
    pub first_hash: HashKey,
    /// Of its body, once that has been hashed.
    pub digest: Option<[u8; AGGREGATE_DIGEST_BYTES]>,
    /// Id of the predicted shard; none while the batch is open.
    pub predicted: Option<Arc<str>>,
    /// Place in the shard's order of sealing.
    pub seal: u64,
    /// Earliest deadline of a member.
    pub deadline: Time,
    /// Earliest expiration of a member.
    pub expiration: Time,
    /// From when the collector sends it without waiting for companions.
    pub send_by: Time,
    /// Backoff: not sent before.
    pub not_before: Time,
    /// Since when the service has refused our credentials or the stream for this batch.
    pub refused_since: Option<Time>,
    /// In which group it is tried, if it may be why a request was refused as invalid.
    pub suspicion: Option<Suspicion>,
}

/// Bytes of data of several records.
#[derive(Clone, Copy, Debug)]
pub struct DataBytes {
    /// Of all.
    pub bytes: u64,
    /// Of the one that has least.
    pub least: u32,
    /// Of the one that has most.
    pub most: u32,
}

impl Default for DataBytes {
    fn default() -> DataBytes {
        DataBytes { bytes: 0, least: u32::MAX, most: 0 }
    }
}

impl DataBytes {
    #[inline]
    fn add(&mut self, bytes: u32) {
        self.bytes += u64::from(bytes);
        self.least = self.least.min(bytes);
        self.most = self.most.max(bytes);
    }
}

impl Batch {
    pub(super) fn empty() -> Batch {
        Batch {
            body: Aggregate::new(),
            tickets: Vec::new(),
            arrivals: Arrivals::default(),
            record_bytes: 0,
            data: DataBytes::default(),
            prior: Vec::new(),
            attempts: Vec::new(),
            explicit: false,
            wrapped: false,
            outer: OuterPartitionKey::A,
            first_hash: HashKey::MIN,
            digest: None,
            predicted: None,
            seal: 0,
            deadline: Time::NEVER,
            expiration: Time::NEVER,
            send_by: Time::NEVER,
            not_before: Time::ZERO,
            refused_since: None,
            suspicion: None,
        }
    }

    pub(super) fn reset(&mut self) {
        let mut fresh = Batch::empty();
        std::mem::swap(&mut fresh.body, &mut self.body);
        std::mem::swap(&mut fresh.tickets, &mut self.tickets);
        std::mem::swap(&mut fresh.arrivals, &mut self.arrivals);
        fresh.body.clear();
        fresh.tickets.clear();
        fresh.arrivals.clear();
        *self = fresh;
    }

    /// Appends `record`, unless the batch would then be larger than `max_size`; a first member always fits. Plain
    /// members of an explicit batch carry their computed hash key.
    #[inline]
    pub fn try_append(&mut self, ticket: Ticket, record: &Routed<'_>, bounds: &Bounds) -> Result<(), Ticket> {
        let first = self.tickets.is_empty();
        if first {
            self.first_hash = record.hash;
            self.explicit = record.explicit;
        } else if record.explicit && !self.explicit && !planted(Mistake::ExplicitKeyLost) {
            return Err(ticket);
        }
        let carries_hash = if planted(Mistake::ExplicitKeysMixed) { record.explicit } else { self.explicit };
        let appended = Appended {
            partition_key: record.key,
            key_tag: record.tag,
            explicit_hash_key: carries_hash.then_some(record.hash),
            data: record.data,
        };
        let place = self.body.place(&appended);
        if !first && place.size() > bounds.max_size {
            return Err(ticket);
        }
        if first {
            self.begin(record, place.size(), bounds);
        }
        // One that goes alone takes what it needs, not room to grow.
        self.body.append_at(&appended, place, if bounds.aggregates { bounds.max_size } else { 0 });
        self.note(ticket, record, first, bounds);
        Ok(())
    }

    /// Where the next member will be written.
    pub(super) fn ends(&self) -> [*const u8; 6] {
        let [records, more, keys, index] = self.body.ends();
        [records, more, keys, index, self.tickets.as_ptr_range().end.cast(), self.arrivals.end()]
    }

    /// The first member comes, which makes a body of `size` bytes.
    fn begin(&mut self, record: &Routed<'_>, size: usize, bounds: &Bounds) {
        // One so large that no wrapping fits goes as it is: refused for its size, it would be lost for certain.
        self.outer = bounds.outer;
        let outer_len = match bounds.outer {
            OuterPartitionKey::A => OUTER_PARTITION_KEY.len(),
            OuterPartitionKey::FirstMember => record.key.len(),
        };
        let wrappable = size + outer_len <= bounds.max_record;
        self.wrapped = wrappable && bounds.wraps.wraps(record.data) && !planted(Mistake::MagicUnwrapped);
        if !bounds.aggregates {
            self.tickets.reserve_exact(1);
            self.arrivals.reserve_exact(1);
        }
    }

    /// Notes of a member all that is not in the body.
    #[inline]
    fn note(&mut self, ticket: Ticket, record: &Routed<'_>, first: bool, bounds: &Bounds) {
        if let Some(prior) = record.prior {
            self.prior.push((self.tickets.len() as u32, Arc::clone(prior)));
        }
        let Routed { arrival, size, generation, .. } = *record;
        // From the true arrival; what is kept of it is coarser.
        if arrival < self.arrivals.oldest() {
            self.deadline = arrival + bounds.buffered_time;
            self.expiration = arrival + bounds.ttl;
        }
        if planted(Mistake::ExpiryOfTheLast) && !first {
            self.expiration = self.expiration.max(arrival + bounds.ttl);
        }
        self.arrivals.push(arrival, generation);
        self.record_bytes += u64::from(size);
        self.data.add(record.data.len() as u32); // limits::RECORD_BYTES_MAX
        self.tickets.push(ticket);
    }

    /// Whether it is written as an aggregate, not raw.
    pub fn is_aggregate(&self) -> bool {
        self.tickets.len() > 1 || self.wrapped
    }

    /// Bytes of the Kinesis record that count against the service's limits: data and partition key.
    pub fn size(&self) -> usize {
        if self.is_aggregate() {
            let key = if planted(Mistake::AggregateKeyUnweighed) { 0 } else { self.outer_partition_key().len() };
            return self.body.size() + key;
        }
        self.record_bytes as usize
    }

    /// Bytes of the Kinesis record's data.
    pub fn payload_bytes(&self) -> u64 {
        if self.is_aggregate() { self.body.size() as u64 } else { self.data.bytes }
    }

    /// The partition key that it has as an aggregate.
    pub fn outer_partition_key(&self) -> &str {
        let first = match self.outer {
            OuterPartitionKey::A => None,
            OuterPartitionKey::FirstMember => self.body.first(),
        };
        first.map_or(OUTER_PARTITION_KEY, |first| first.partition_key)
    }

    /// The members as they were put, each with the hash key that routes it.
    pub fn hashes(&self) -> impl Iterator<Item = HashKey> + '_ {
        self.body.members().map(|written| routing_hash(&written))
    }

    /// Notes how it was tried. As a rule there is one attempt, and its outcome keeps the list as long as the caller likes.
    pub fn note_attempt(&mut self, attempt: Attempt) {
        if self.attempts.is_empty() {
            self.attempts.reserve_exact(1);
        }
        self.attempts.push(attempt);
    }

    /// Whether some member has expired by `now`.
    pub fn has_expired(&self, now: Time) -> bool {
        self.expiration <= now && (self.attempts.is_empty() || !planted(Mistake::RetryPastTtl))
    }

    /// Whether every member has expired by `now`.
    pub fn has_expired_whole(&self, now: Time, ttl: Duration) -> bool {
        self.arrivals.runs().all(|(arrival, ..)| arrival + ttl <= now)
    }

    /// Takes all members out, in order, with every attempt that was made for them.
    pub fn dissolve(&mut self, mut take: impl FnMut(Ticket, &Routed<'_>)) {
        let own: Option<Arc<[Attempt]>> = (!self.attempts.is_empty()).then(|| self.attempts.as_slice().into());
        let mut prior = self.prior.drain(..).peekable();
        let members = self.body.members().zip(self.tickets.drain(..)).zip(self.arrivals.iter());
        for (place, ((written, ticket), (arrival, generation))) in members.enumerate() {
            let earlier = prior.next_if(|(at, _)| *at as usize == place).map(|(_, attempts)| attempts);
            let size = (written.partition_key.len() + written.data.len()) as u32; // limits::RECORD_BYTES_MAX
            let kept = if planted(Mistake::GenerationNotKept) { Generation::default() } else { generation };
            let hash = routing_hash(&written);
            let prior = joined(earlier, own.as_ref());
            let record = Routed {
                arrival,
                size,
                generation: kept,
                hash,
                tag: key_tag(written.partition_key.as_bytes(), hash, written.explicit_hash_key.is_some()),
                explicit: self.explicit,
                fresh: false,
                key: written.partition_key.as_bytes(),
                data: written.data,
                prior: prior.as_ref(),
            };
            take(ticket, &record);
        }
    }

    /// Ends the growth, and gives back what was grown too much. Answers what finds its keys, for the next one.
    pub(super) fn seal(&mut self) -> Option<Box<KeyIndex>> {
        trim(&mut self.tickets);
        self.arrivals.trim();
        self.body.seal()
    }

    /// Bytes that it occupies, in all.
    pub(super) fn footprint(&self) -> usize {
        let lists = self.tickets.capacity() * size_of::<Ticket>() + self.arrivals.capacity();
        size_of::<Batch>() + self.body.capacity() + lists
    }
}

/// Cuts a list with more than a sixteenth to spare. That costs a call of the allocator, which as a rule moves nothing.
pub fn trim<T>(list: &mut Vec<T>) {
    if list.capacity() - list.len() > list.len() / 16 + 8 {
        list.shrink_to_fit();
    }
}

/// The attempts of a member's earlier batches followed by those of its present one.
pub fn joined(earlier: Option<Arc<[Attempt]>>, own: Option<&Arc<[Attempt]>>) -> Option<Arc<[Attempt]>> {
    match (earlier, own) {
        (None, own) => own.cloned(),
        (earlier, None) => earlier,
        (Some(earlier), Some(own)) => Some(earlier.iter().chain(own.iter()).cloned().collect()),
    }
}

fn routing_hash(written: &Written<'_>) -> HashKey {
    written.explicit_hash_key.unwrap_or_else(|| hash_key(written.partition_key))
}

/// The tag of a record's partition key, if the key decides its hash key (it is not `explicit`) or not.
pub fn key_tag(key: &[u8], hash: HashKey, explicit: bool) -> u64 {
    let of_key = if explicit { hash_key(key) } else { hash };
    of_key.0 as u64
}

#[cfg(test)]
mod tests;
