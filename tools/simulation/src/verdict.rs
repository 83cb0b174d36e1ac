//! The last look: reads every shard as a consumer would, and holds what is there against the outcomes (I2, I3, I4, I15);
//! `order` looks at the order of what is seen (I23).
//!
//! Where an answer's results were in another order it may have told of a record what belongs to its neighbour. Such a record
//! is held to all of I2 but the place: nobody could know that better. Nor can anybody know, where no shards are known and
//! the service places by chance, whether a lone record in a wrapping is where consumers look at it: it is not held to I2.
//!
//! A stream that was deleted is read as it was. Of what it held, an outcome that came before the deletion is held to all of
//! I2; one that came after it only to this, that the record was stored, as its shards could not be asked any more. So is
//! what a core sent by the map of a deleted stream to the next one, if nobody had told it since that there was no stream: ids
//! come again, and an answer that names the id that was predicted says nothing.

use std::collections::BTreeMap;
use std::rc::Rc;

use kpl::outcome::{Attempt, AttemptResult, Delivered, ErrorCode, Failure};
use kpl::time::Time;

use crate::checker::{Checker, ambiguous_attempts};
use crate::consumer::{self, Seen};
use crate::kinesis::{ServiceShard, ServiceStream, Stored, sequence_text};
use crate::order;
use crate::promise::Promise;
use crate::refusal::check_failure;
use crate::source::number_of;

/// Where a consumer sees a record.
#[derive(Clone, Debug)]
pub struct Place {
    /// Shard id.
    pub shard: Rc<str>,
    /// Sequence number, which no other shard or stream of this name has.
    pub sequence: u64,
    /// Place in its aggregate.
    pub member: usize,
    /// No consumer sees it, as its aggregate has a member out of range; but since then nobody could know.
    pub hidden: Option<Time>,
}

/// Where the records are seen, by number.
pub type Places = BTreeMap<u64, Vec<Place>>;

/// Reads all streams and judges all outcomes.
pub fn judge(streams: &[ServiceStream], checker: &mut Checker) {
    let mut places = Places::new();
    for (index, stream) in streams.iter().enumerate() {
        let deleted = stream.deleted.iter().flat_map(|old| old.shards.iter().map(|shard| (shard, Some(old.at))));
        for (shard, gone) in deleted.chain(stream.shards.iter().map(|shard| (shard, None))) {
            for stored in &shard.records {
                read(index, (shard, gone), stored, checker, &mut places);
            }
        }
    }
    order::judge(&places, checker);
    for number in checker.records.keys().copied().collect::<Vec<_>>() {
        judge_one(number, places.get(&number).map_or(&[], Vec::as_slice), checker);
    }
}

fn read(
    stream: usize,
    (shard, gone): (&ServiceShard, Option<Time>),
    stored: &Stored,
    checker: &mut Checker,
    places: &mut Places,
) {
    let mut hidden = None;
    let id: Rc<str> = shard.id.as_str().into();
    let raw = Seen { key: &stored.entry.key, explicit: stored.entry.explicit, data: &stored.entry.data };
    let seen = match consumer::members(&stored.entry.data) {
        Some(members) if opened(checker, stream) => {
            if members.iter().any(|member| !(shard.range.0..=shard.range.1).contains(&member.hash())) {
                let excused = checker.excused.contains(&(stream, sequence_text(stored.sequence)));
                hidden = if excused { Some(Time::ZERO) } else { gone };
                if hidden.is_none() {
                    return;
                }
            }
            members
        }
        _ => vec![raw],
    };
    for (place, seen) in seen.into_iter().enumerate() {
        let number = number_of(seen.key, seen.data);
        let record = number.and_then(|number| checker.records.get(&number));
        let genuine = record.is_some_and(|record| {
            let draft = &record.draft;
            let hashed = seen.explicit.is_none() || draft.explicit.is_none() || seen.explicit == draft.explicit;
            draft.stream == stream && draft.key == seen.key && draft.data == seen.data && hashed
        });
        match number {
            Some(number) if genuine => {
                checker.checked.note(Promise::I3);
                let (shard, sequence) = (Rc::clone(&id), stored.sequence);
                places.entry(number).or_default().push(Place { shard, sequence, member: place, hidden });
            }
            _ => checker
                .breaks(Promise::I3, format!("{} shows a record with key {:?} that nobody put", shard.id, seen.key)),
        }
    }
}

/// Whether aggregates of the stream are ours: without aggregation a caller's own pass as they are.
fn opened(checker: &Checker, stream: usize) -> bool {
    checker.configs[stream].aggregation_enabled
}

fn judge_one(number: u64, places: &[Place], checker: &mut Checker) {
    let record = &checker.records[&number];
    let Some(outcome) = record.outcome.clone() else { return };
    let seen = places.iter().filter(|place| place.hidden.is_none()).count();
    let (ambiguous, settled) = (ambiguous_attempts(&outcome), record.settled);
    let (sent, misnamed) = (record.first_sent.is_some(), record.misnamed);
    let (transmissions, excused) = (record.sent, record.excused);
    checker.duplicates.0 += seen.saturating_sub(1) as u64;
    checker.duplicates.1 += ambiguous as u64;
    // An attempt was sent, and what was sent was an attempt, unless it was sent again as if it had not been.
    let attempts = attempts_sent(&outcome);
    checker.holds(Promise::I19, attempts <= transmissions && transmissions <= attempts + excused, || {
        format!("record {number} was sent {transmissions} times, and {attempts} attempts are told of")
    });
    match outcome {
        Ok(_) if checker.records[&number].unjudgeable => {}
        Ok(delivered) => {
            let counts = |place: &Place| place.hidden.is_none_or(|unknowable| unknowable <= settled);
            let named = |place: &Place| {
                &*place.shard == delivered.shard_id()
                    && sequence_text(place.sequence) == delivered.sequence_number()
                    && place.member == delivered.sub_sequence_number() as usize
            };
            let there = places.iter().any(|place| counts(place) && (misnamed || named(place)));
            checker.holds(Promise::I2, there, || {
                format!("record {number} is told to be at {delivered:?}, but is seen at {places:?}")
            });
            let explained = seen <= 1 + ambiguous && delivered.may_be_duplicated() == (ambiguous > 0);
            checker.holds(Promise::I4, explained, || {
                format!("record {number} is there {seen} times after {ambiguous} ambiguous attempts")
            });
        }
        Err(failure) => {
            check_failure(number, &failure, checker);
            let explained = seen <= ambiguous && failure.may_be_stored() == (ambiguous > 0);
            checker
                .holds(Promise::I3, explained, || format!("record {number} is there {seen} times, but: {failure:?}"));
            if *failure.code() == ErrorCode::Throttled {
                let bounded = checker.configs[0].shard_backlog_max.is_some();
                let unsent = !sent && failure.attempts().is_empty();
                checker.holds(Promise::I15, bounded && unsent, || {
                    format!("record {number} was refused for its shard's backlog: {failure:?}")
                });
            }
        }
    }
}

/// Attempts for which something was sent: what expires is told of as an attempt too.
fn attempts_sent(outcome: &Result<Delivered, Failure>) -> usize {
    let attempts = match outcome {
        Ok(delivered) => delivered.attempts(),
        Err(failure) => failure.attempts(),
    };
    let expired =
        |attempt: &&Attempt| matches!(&attempt.result, AttemptResult::Failed { code: ErrorCode::Expired, .. });
    attempts.len() - attempts.iter().filter(expired).count()
}
