//! What was put, and what is promised of each record: in requests, and in its outcome.

use std::sync::Arc;
use std::time::Duration;

use super::Plan;
use super::service::{Entry, Service};
use crate::codec::{Deaggregated, deaggregate, hash_key, wrapped_size};
use crate::engine::ShardMap;
use crate::limits::{AGGREGATE_MAGIC, REQUEST_BYTES_PER_SHARD_MAX};
use crate::outcome::{Attempt, AttemptResult, ErrorCode, Failure, Settled, Settlement};
use crate::record::{CoreId, HashKey, Placement, Record, ShardIndex};
use crate::ring::{End, Handle};
use crate::time::Time;

/// What arrivals are rounded down to when records move from batch to batch: a record may expire so much early.
pub const ARRIVAL_UNIT: Duration = Duration::from_nanos(1 << 16);

/// A record that was put.
pub struct Put {
    pub stream: u32,
    /// The core into whose ring it was put.
    pub home: usize,
    pub key: String,
    pub data: Vec<u8>,
    pub placement: Placement,
    /// What was drawn is known when it is seen.
    pub hash: Option<HashKey>,
    pub arrival: Time,
    /// By when it should be on its way, in calm.
    pub leave_by: Time,
    /// Until it has its outcome; none, if nobody waits for that.
    handle: Option<Handle<Arc<Settlement>>>,
    /// How often it was in a request, and how often that may have been no attempt.
    pub sent: usize,
    pub excused: usize,
    pub in_flight: bool,
    /// The service has told that it is elsewhere than it should be.
    pub strayed: bool,
}

impl Put {
    pub fn size(&self) -> u64 {
        (self.key.len() + self.data.len()) as u64
    }
}

/// What may be the reason of a failure.
#[derive(Default)]
pub struct Reasons {
    pub closed: bool,
    pub refused: bool,
    pub core_failed: bool,
    pub miscounted: bool,
    pub too_large: bool,
    pub missing: bool,
}

/// All records, by number.
#[derive(Default)]
pub struct Ledger {
    pub puts: Vec<Put>,
    /// Those without an outcome whose callers wait for one, ascending.
    pub waiting: Vec<usize>,
    /// Outcomes that were told to who waited, and the bytes of their records.
    pub told: u64,
    pub told_bytes: u64,
    pub told_delivered: u64,
    pub abandoned: u64,
    pub reasons: Reasons,
}

/// The data of record `number`: no two are alike, but for those that are too short to tell.
pub fn data(number: usize, len: usize, magic: bool) -> Vec<u8> {
    let mut data = if magic { AGGREGATE_MAGIC.to_vec() } else { Vec::new() };
    if len >= 4 {
        data.extend_from_slice(&(number as u32).to_le_bytes());
        data.resize(data.len() + len - 4, number as u8);
    } else {
        data.resize(data.len() + len, 0);
    }
    data
}

/// The key of record `number`, which tells it apart where its data does not.
pub fn key(number: usize, len: usize, draw: u16) -> String {
    match draw % 5 {
        _ if len < 4 => format!("n{number}"),
        0..3 => ["", "b", "ключ"][usize::from(draw / 8 % 3)].to_owned() + &"k".repeat(usize::from(draw / 64 % 3) + 1),
        3 => format!("n{number}"),
        _ => "k".repeat(256),
    }
}

/// Which record these are: the opposite of [`data`] and [`key`].
fn number(key: &str, data: &[u8]) -> usize {
    let data = data.strip_prefix(&AGGREGATE_MAGIC).unwrap_or(data);
    match data.first_chunk() {
        Some(number) => u32::from_le_bytes(*number) as usize,
        None => key.strip_prefix('n').and_then(|number| number.parse().ok()).expect("a key of ours"),
    }
}

impl Ledger {
    /// Notes a record.
    pub fn put(&mut self, put: Put, handle: Option<Handle<Arc<Settlement>>>) {
        if handle.is_some() {
            self.waiting.push(self.puts.len());
        }
        self.puts.push(Put { handle, ..put });
    }

    /// A record that nobody has seen yet.
    pub fn new_put(stream: u32, home: usize, (key, data): (String, Vec<u8>), placement: Placement) -> Put {
        let hash = match placement {
            Placement::ByKey => Some(hash_key(&key)),
            Placement::Explicit(hash) => Some(hash),
            Placement::Drawn => None,
        };
        let (arrival, leave_by) = (Time::ZERO, Time::NEVER);
        let (sent, excused, in_flight, strayed) = (0, 0, false, false);
        Put {
            stream,
            home,
            key,
            data,
            placement,
            hash,
            arrival,
            leave_by,
            handle: None,
            sent,
            excused,
            in_flight,
            strayed,
        }
    }

    /// Reads an entry as consumers will. Whatever it holds must be what was put (O4).
    pub fn entry(&mut self, plan: &Plan, (key, explicit, data): (String, HashKey, Vec<u8>)) -> Entry {
        let config = &plan.config;
        let Deaggregated::Members { members, dropped } = deaggregate(&data) else {
            let number = number(&key, &data);
            self.check_sent(number, &key, &data, Some(explicit));
            let record = Record { placement: self.puts[number].placement, ..Record::new(&key, &data) };
            // At most: a drawn hash key may have fewer digits.
            let goes_raw = |wrapped| wrapped + plan.outer_key(&key).len() > config.max_record_size;
            let taken_for_one = config.aggregation_enabled && !wrapped_size(&record).is_none_or(goes_raw);
            assert!(!taken_for_one, "record {number} would be taken for an aggregate");
            return Entry { key, data, explicit, members: vec![number] };
        };
        assert_eq!((dropped, &*key), (0, plan.outer_key(&members[0].partition_key)));
        let numbers: Vec<usize> = members.iter().map(|member| number(&member.partition_key, &member.data)).collect();
        let is_explicit = members[0].explicit_hash_key.is_some();
        for (number, member) in numbers.iter().zip(&members) {
            self.check_sent(*number, &member.partition_key, &member.data, member.explicit_hash_key);
            assert_eq!(member.explicit_hash_key.is_some(), is_explicit, "explicit hash keys for all or for none");
        }
        assert_eq!(self.puts[numbers[0]].hash, Some(explicit), "an aggregate goes where its first member belongs");
        assert!(members.len() <= config.aggregation_max_count, "{} members", members.len());
        assert!(members.len() == 1 || data.len() <= config.aggregation_max_size, "{} bytes", data.len());
        assert!(config.aggregation_enabled, "nothing is aggregated");
        Entry { key, data, explicit, members: numbers }
    }

    fn check_sent(&mut self, number: usize, key: &str, data: &[u8], hash: Option<HashKey>) {
        let put = &mut self.puts[number];
        assert!(put.key == key && put.data == data, "record {number} is sent as it was put");
        match hash {
            Some(hash) => assert_eq!(*put.hash.get_or_insert(hash), hash, "record {number} keeps its hash key"),
            None => assert_eq!(put.placement, Placement::ByKey, "record {number} keeps its explicit hash key"),
        }
    }

    /// Looks at a request of `core`, which goes by `map`, if it has one (O3, O4, O5).
    pub fn request(
        &self,
        plan: &Plan,
        now: Time,
        (core, stream): (usize, u32),
        map: Option<&ShardMap>,
        entries: &[Entry],
    ) {
        let bytes: usize = entries.iter().map(Entry::size).sum();
        let config = &plan.config;
        assert!((1..=config.collection_max_count).contains(&entries.len()), "{} entries", entries.len());
        assert!(entries.len() == 1 || bytes <= config.collection_max_size, "{bytes} bytes");
        let mut seen = Vec::new();
        for &number in entries.iter().flat_map(|entry| &entry.members) {
            let put = &self.puts[number];
            assert_eq!(put.stream, stream);
            assert!(!put.in_flight && !seen.contains(&number), "record {number} is sent twice at once");
            assert!(!self.is_settled(number), "record {number} is settled, and is sent");
            assert!(put.arrival + config.record_ttl > now, "record {number} has expired, and is sent");
            seen.push(number);
        }
        let Some(map) = map else {
            return assert!(entries.iter().all(|entry| entry.members.len() == 1), "nobody knows what goes together");
        };
        let mut shards: Vec<(ShardIndex, usize, usize)> = Vec::new();
        for entry in entries {
            let index = map.predict(entry.explicit);
            assert_eq!(map.shard(index).owner, CoreId(core as u16), "E2");
            let belongs = |number: &usize| self.puts[*number].hash.is_some_and(|hash| map.predict(hash) == index);
            assert!(entry.members.iter().all(belongs), "what does not belong together is sent together");
            match shards.iter_mut().find(|(at, ..)| *at == index) {
                Some((_, count, sum)) => (*count, *sum) = (*count + 1, *sum + entry.size()),
                None => shards.push((index, 1, entry.size())),
            }
        }
        for (index, count, sum) in shards {
            assert!(count == 1 || sum <= REQUEST_BYTES_PER_SHARD_MAX, "{sum} bytes for {:?}", map.shard(index));
        }
    }

    fn is_settled(&self, number: usize) -> bool {
        // Of a record that nobody waits for it is not known.
        self.waiting.binary_search(&number).is_err() && self.puts[number].handle.is_some()
    }

    /// With one map for ever: nothing of a shard overtakes what was put before it into the same ring (O6).
    pub fn in_order(&self, map: &ShardMap, entries: &[Entry]) {
        let members: Vec<usize> = entries.iter().flat_map(|entry| entry.members.iter().copied()).collect();
        for (place, &number) in members.iter().enumerate() {
            let put = &self.puts[number];
            for &older in self.waiting.iter().take_while(|older| **older < number) {
                let other = &self.puts[older];
                let alike = (other.stream, other.home) == (put.stream, put.home);
                let shard = |put: &Put| put.hash.map(|hash| map.predict(hash));
                let together = alike && other.hash.is_some() && shard(other) == shard(put);
                let on_its_way = other.in_flight || other.strayed || members[..place].contains(&older);
                assert!(!together || on_its_way, "record {number} overtakes record {older}");
            }
        }
    }

    /// Takes the outcomes that there are (O1, O7).
    pub fn take_outcomes(&mut self, plan: &Plan, now: Time, service: &Service, maps: &[Arc<ShardMap>]) {
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|&number| {
            let end = self.puts[number].handle.as_mut().and_then(Handle::try_take);
            end.map(|end| self.settled(plan, now, number, end, service, maps)).is_none()
        });
        self.waiting = waiting;
    }

    fn settled(
        &mut self,
        plan: &Plan,
        now: Time,
        number: usize,
        end: End<Arc<Settlement>>,
        service: &Service,
        maps: &[Arc<ShardMap>],
    ) {
        let Ok(end) = end else {
            assert!(self.reasons.core_failed, "record {number} is abandoned");
            self.abandoned += 1;
            return;
        };
        let put = &self.puts[number];
        self.told += 1;
        self.told_bytes += put.size();
        match Settled::from(end).into_result() {
            Ok(delivered) => {
                self.told_delivered += 1;
                check_attempts(put, now, delivered.attempts());
                let stored = &service.stored[delivered.sequence_number()];
                assert_eq!(*stored.shard, *delivered.shard_id());
                assert_eq!(stored.members[delivered.sub_sequence_number() as usize], number);
                let holds = |map: &Arc<ShardMap>| {
                    let index = map.find(&stored.shard);
                    let range = index.map(|index| map.shard(index).range);
                    let within = |hash: HashKey| range.is_some_and(|(first, last)| first <= hash && hash <= last);
                    stored.members.iter().all(|member| self.puts[*member].hash.is_some_and(within))
                };
                assert!(
                    stored.members.len() == 1 || maps.iter().any(holds),
                    "consumers drop what record {number} is in"
                );
                assert!(service.copies(number) == 1 || delivered.may_be_duplicated(), "record {number} is there twice");
            }
            Err(failure) => {
                check_attempts(put, now, failure.attempts());
                let may_be = service.copies(number) > 0 || put.in_flight;
                assert!(!may_be || failure.may_be_stored(), "record {number} may be stored: {failure}");
                assert!(put.sent > 0 || !failure.may_be_stored(), "record {number} was never sent: {failure}");
                self.check_reason(plan, now, put, &failure);
                check_kept(plan, put, failure.record());
            }
        }
    }

    /// Whether the record may have failed for that.
    fn check_reason(&self, plan: &Plan, now: Time, put: &Put, failure: &Failure) {
        let old = put.arrival + plan.config.record_ttl <= now + ARRIVAL_UNIT;
        let codes = failure.attempts().iter().filter_map(|attempt| match &attempt.result {
            AttemptResult::Failed { code, .. } => Some(code),
            AttemptResult::Stored { .. } => None,
        });
        let (last, said) = (codes.clone().next_back(), |code: &ErrorCode| codes.clone().any(|other| other == code));
        let may_be = match failure.code() {
            // What was stored elsewhere goes with the oldest member of its aggregate.
            ErrorCode::Expired => old || put.strayed,
            ErrorCode::UnverifiedShard => put.strayed,
            ErrorCode::Closed => self.reasons.closed,
            ErrorCode::StreamUnavailable => self.reasons.refused,
            ErrorCode::RecordCountMismatch => self.reasons.miscounted,
            ErrorCode::Throttled => plan.config.shard_backlog_max.is_some() && failure.attempts().is_empty(),
            // What is found out about one part of a request may be the end of another.
            ErrorCode::Service(_) => said(failure.code()),
            ErrorCode::Poison => matches!(last, Some(ErrorCode::Service(code)) if INVALID.contains(&&**code)),
            // 413, for what is alone in its request.
            ErrorCode::UnreadableAnswer => last == Some(&ErrorCode::UnreadableAnswer) && self.reasons.too_large,
            // What no connection or no answer is the reason of is tried again until it expires.
            _ => false,
        };
        assert!(may_be, "{failure:?}");
    }
}

/// What a request is refused with if one of its records is poison.
const INVALID: [&str; 3] = ["ValidationException", "InvalidArgumentException", "SerializationException"];

/// As many attempts as there were requests, one after the other.
fn check_attempts(put: &Put, now: Time, attempts: &[Attempt]) {
    let mut before = put.arrival;
    for Attempt { began, ended, .. } in attempts {
        assert!(before <= *began && began <= ended && *ended <= now, "{attempts:?}");
        before = *began;
    }
    let expired = |attempt: &&Attempt| {
        matches!(attempt.result, AttemptResult::Failed { code: ErrorCode::Expired, ambiguous: false, .. })
    };
    let made = attempts.len() - attempts.iter().filter(expired).count();
    assert!((put.sent - put.excused..=put.sent).contains(&made), "{made} attempts in {} requests", put.sent);
}

/// A failed record is handed back as it was put, if it is to be. An explicit aggregate gave it its hash key.
fn check_kept(plan: &Plan, put: &Put, kept: Option<Record<'_>>) {
    assert_eq!(kept.is_some(), plan.config.keep_failed_records);
    let Some(kept) = kept else { return };
    assert_eq!((kept.partition_key, kept.data), (&*put.key, &*put.data));
    match (kept.explicit_hash_key(), put.placement) {
        (None, placement) => assert_eq!(placement, Placement::ByKey),
        (Some(hash), _) => assert_eq!(hash, put.hash.unwrap_or(hash)),
    }
}
