//! What moves through the engine: a record on its way to a shard, records in transit, and the Kinesis record that
//! they become.
//!
//! ```text
//!   ring frame ──▶ Routed ──▶ Parcel (to another core, or waiting for the first map) ──▶ Routed ──▶ Batch
//! ```
//!
//! B1: a [`Member`] owns the ticket of one accepted record, so whoever drops it settles it as abandoned.
//! B2: `members` and the members of `body` are the same records in the same order.
//! B3: `prior` is ascending by place, and names only members that were attempted in an earlier batch.

use std::sync::Arc;
use std::time::Duration;

use crate::codec::{Aggregate, Member as Written, hash_key, starts_with_magic};
use crate::config::Config;
use crate::limits::OUTER_PARTITION_KEY;
use crate::outcome::{Attempt, Settlement};
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

/// What the engine keeps of one accepted record besides its bytes.
pub struct Member {
    /// Settles the record.
    pub ticket: Ticket,
    /// When it was put.
    pub arrival: Time,
    /// Bytes of data and partition key, the credit to give back at settling.
    pub size: u32,
    /// The flush round it belongs to.
    pub generation: Generation,
}

/// A record whose hash key is known.
pub struct Routed<'a> {
    /// Its ticket and times.
    pub member: Member,
    /// Decides the shard.
    pub hash: HashKey,
    /// Whether the caller gave the hash key.
    pub explicit: bool,
    /// The partition key.
    pub key: &'a str,
    /// The payload.
    pub data: &'a [u8],
    /// Attempts made in an earlier batch.
    pub prior: Option<Arc<[Attempt]>>,
}

/// Records in transit, in one buffer.
#[derive(Default)]
pub struct Parcel {
    bytes: Vec<u8>,
    heads: Vec<Head>,
}

struct Head {
    member: Member,
    hash: HashKey,
    explicit: bool,
    key_len: u16,
    data_len: u32,
    prior: Option<Arc<[Attempt]>>,
}

impl Parcel {
    /// Adds a copy of `record` at the end.
    pub fn push(&mut self, record: Routed<'_>) {
        self.bytes.extend_from_slice(record.key.as_bytes());
        self.bytes.extend_from_slice(record.data);
        self.heads.push(Head {
            member: record.member,
            hash: record.hash,
            explicit: record.explicit,
            key_len: record.key.len() as u16, // at most 768 bytes: limits::PARTITION_KEY_BYTES_MAX
            data_len: record.data.len() as u32, // at most 10 MiB: limits::RECORD_BYTES_MAX
            prior: record.prior,
        });
    }

    /// Records in it.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Takes every record out, in order.
    pub fn unpack(self, mut take: impl FnMut(Routed<'_>)) {
        let mut rest = self.bytes.as_slice();
        for head in self.heads {
            let (key, after) = rest.split_at(usize::from(head.key_len));
            let (data, after) = after.split_at(head.data_len as usize);
            rest = after;
            let key = std::str::from_utf8(key).expect("written from a &str by push");
            let Head { member, hash, explicit, prior, .. } = head;
            take(Routed { member, hash, explicit, key, data, prior });
        }
    }

    /// Takes out the members of the records that `gone` names; the others stay, in order.
    pub fn remove(&mut self, gone: impl Fn(&Member) -> bool) -> Vec<Removed> {
        if !self.heads.iter().any(|head| gone(&head.member)) {
            return Vec::new();
        }
        let mut removed = Vec::new();
        let mut kept = Parcel::default();
        std::mem::take(self).unpack(|record| {
            if gone(&record.member) {
                removed.push(Removed { member: record.member, prior: record.prior });
            } else {
                kept.push(record);
            }
        });
        *self = kept;
        removed
    }

    /// The earliest arrival among its records.
    pub fn oldest(&self) -> Option<Time> {
        self.heads.iter().map(|head| head.member.arrival).min()
    }
}

/// A record that left its batch or parcel to be settled by itself.
pub struct Removed {
    /// Its ticket and times.
    pub member: Member,
    /// The attempts that were made for it.
    pub prior: Option<Arc<[Attempt]>>,
}

/// What bounds the batches of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Whether records are aggregated at all.
    pub aggregates: bool,
    /// `aggregation_max_size`.
    pub max_size: usize,
    /// `max_record_size`.
    pub max_record: usize,
    /// `aggregation_max_count`.
    pub max_count: usize,
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
            max_size: config.aggregation_max_size,
            max_record: config.max_record_size,
            max_count: config.aggregation_max_count,
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
    pub members: Vec<Member>,
    /// Attempts of members from earlier batches, by place (B3).
    pub prior: Vec<(u32, Arc<[Attempt]>)>,
    /// Attempts of this batch.
    pub attempts: Vec<Attempt>,
    /// Whether the members carry explicit hash keys.
    pub explicit: bool,
    /// Wrapped though it has one member, since that member looks like an aggregate.
    pub wrapped: bool,
    /// Hash key of the first member.
    pub first_hash: HashKey,
    /// Id of the predicted shard; none while the batch is open.
    pub predicted: Option<Arc<str>>,
    /// Place in the shard's order of sealing.
    pub seal: u64,
    /// Earliest deadline of a member.
    pub deadline: Time,
    /// Earliest expiration of a member.
    pub expiration: Time,
    /// Earliest arrival of a member.
    pub oldest: Time,
    /// From when the collector sends it without waiting for companions.
    pub send_by: Time,
    /// Backoff: not sent before.
    pub not_before: Time,
    /// Since when the service has refused our credentials or the stream for this batch.
    pub refused_since: Option<Time>,
}

impl Batch {
    fn empty() -> Batch {
        Batch {
            body: Aggregate::new(),
            members: Vec::new(),
            prior: Vec::new(),
            attempts: Vec::new(),
            explicit: false,
            wrapped: false,
            first_hash: HashKey::MIN,
            predicted: None,
            seal: 0,
            deadline: Time::NEVER,
            expiration: Time::NEVER,
            oldest: Time::NEVER,
            send_by: Time::NEVER,
            not_before: Time::ZERO,
            refused_since: None,
        }
    }

    fn reset(&mut self) {
        let mut fresh = Batch::empty();
        std::mem::swap(&mut fresh.body, &mut self.body);
        std::mem::swap(&mut fresh.members, &mut self.members);
        fresh.body.clear();
        fresh.members.clear();
        *self = fresh;
    }

    /// Appends `record`, unless the batch would then be larger than `max_size`; a first member always fits. Plain
    /// members of an explicit batch carry their computed hash key.
    pub fn try_append<'r>(&mut self, record: Routed<'r>, bounds: &Bounds) -> Result<(), Routed<'r>> {
        let first = self.members.is_empty();
        if first {
            self.first_hash = record.hash;
            self.explicit = record.explicit;
        } else if record.explicit && !self.explicit {
            return Err(record);
        }
        let fit = self.body.fit(Written {
            partition_key: record.key,
            key_tag: key_tag(&record),
            explicit_hash_key: self.explicit.then_some(record.hash),
            data: record.data,
        });
        if !first && fit.size() > bounds.max_size {
            return Err(record);
        }
        if first {
            // One so large that no wrapping fits goes as it is: refused for its size, it would be lost for certain.
            let wrappable = fit.size() + OUTER_PARTITION_KEY.len() <= bounds.max_record;
            self.wrapped = bounds.aggregates && wrappable && starts_with_magic(record.data);
        }
        fit.append();
        if let Some(prior) = record.prior {
            self.prior.push((self.members.len() as u32, prior));
        }
        let arrival = record.member.arrival;
        self.oldest = self.oldest.min(arrival);
        self.deadline = self.deadline.min(arrival + bounds.buffered_time);
        self.expiration = self.expiration.min(arrival + bounds.ttl);
        self.members.push(record.member);
        Ok(())
    }

    /// Whether it is written as an aggregate, not raw.
    pub fn is_aggregate(&self) -> bool {
        self.members.len() > 1 || self.wrapped
    }

    /// Bytes of the Kinesis record that count against the service's limits: data and partition key.
    pub fn size(&self) -> usize {
        if self.is_aggregate() {
            return self.body.size() + OUTER_PARTITION_KEY.len();
        }
        self.members.first().map_or(0, |member| member.size as usize)
    }

    /// The members as they were put, each with the hash key that routes it.
    pub fn hashes(&self) -> impl Iterator<Item = HashKey> + '_ {
        self.body.members().map(|written| routing_hash(&written))
    }

    /// Takes all members out, in order, with every attempt that was made for them.
    pub fn dissolve(&mut self, mut take: impl FnMut(Routed<'_>)) {
        let own: Option<Arc<[Attempt]>> = (!self.attempts.is_empty()).then(|| self.attempts.as_slice().into());
        let mut prior = self.prior.drain(..).peekable();
        for (place, (written, member)) in self.body.members().zip(self.members.drain(..)).enumerate() {
            let earlier = prior.next_if(|(at, _)| *at as usize == place).map(|(_, attempts)| attempts);
            take(Routed {
                member,
                hash: routing_hash(&written),
                explicit: self.explicit,
                key: written.partition_key,
                data: written.data,
                prior: joined(earlier, own.as_ref()),
            });
        }
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

/// Where the key table looks for a partition key first: the low half of its MD5.
fn key_tag(record: &Routed<'_>) -> u64 {
    let hash = if record.explicit { hash_key(record.key) } else { record.hash };
    hash.0 as u64
}

fn routing_hash(written: &Written<'_>) -> HashKey {
    written.explicit_hash_key.unwrap_or_else(|| hash_key(written.partition_key))
}

/// Batches at rest, with the buffers that they grew.
#[derive(Default)]
pub struct Pool {
    batches: Vec<Box<Batch>>,
}

/// Batches kept at rest. Beyond it buffers go back to the allocator: 256 of 50 KiB are 13 MiB a core.
const POOL_BATCHES_MAX: usize = 256;
/// A batch whose buffers grew past this is not kept: one large record must not stay resident.
const POOL_BATCH_BYTES_MAX: usize = 256 * 1024;

impl Pool {
    /// An empty batch.
    pub fn take(&mut self) -> Box<Batch> {
        self.batches.pop().unwrap_or_else(|| Box::new(Batch::empty()))
    }

    /// Takes back a batch whose members are gone.
    pub fn give(&mut self, mut batch: Box<Batch>) {
        debug_assert!(batch.members.is_empty(), "B1: a pooled batch settles nobody");
        if self.batches.len() < POOL_BATCHES_MAX && batch.body.size() <= POOL_BATCH_BYTES_MAX {
            batch.reset();
            self.batches.push(batch);
        }
    }
}
