//! What settling tells each record's caller, the budget, the flush, and those whom nobody waits for.

use std::collections::BTreeMap;

use super::super::pool::Pool;
use super::super::testing::{Outcome, Put, Random, Source, attempt, bounds, stored, wait};
use super::*;
use crate::outcome::Settled;
use crate::record::HashKey;
use crate::time::Time;

const STREAM: StreamId = StreamId(3);

fn failure() -> Reason {
    (ErrorCode::Expired, "too late".into())
}

fn settlement(outcome: &mut Outcome) -> (Arc<Settlement>, u32) {
    outcome.try_take().expect("it is settled").expect("it is not abandoned")
}

fn random_put(random: &mut Random) -> Put {
    let key = ["a", "key", "other"][random.below(3) as usize];
    let prior = random.once_in(3).then(|| (0..1 + random.below(3)).map(attempt).collect());
    let arrival = Time::from_nanos(random.below(1 << 20));
    let data = vec![7; random.below(20) as usize];
    Put { prior, arrival, generation: Generation::of_round(random.below(2)), ..Put::new(key, &data) }
}

/// A batch of any members, settled in any way, beside what each member is due to hear.
#[test]
fn every_member_hears_how_its_batch_ended_with_its_own_place_and_its_own_history() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let (mut source, mut pool) = (Source::new(), Pool::default());
        let keeps = random.once_in(2);
        let mut settler = Settler::new(keeps);
        let mut puts: Vec<Put> = (0..1 + random.below(9)).map(|_| random_put(&mut random)).collect();
        if random.once_in(3) {
            puts[0].explicit = Some(HashKey(9));
        }
        let (mut batch, mut outcomes) = source.batch(&puts, &mut pool);
        let delivered = random.once_in(2);
        let mut own: Vec<Attempt> = (10..10 + random.below(3)).map(attempt).collect();
        own.extend(delivered.then(stored));
        own.iter().cloned().for_each(|attempt| batch.note_attempt(attempt));
        let reason = (!delivered).then(failure);
        let mut seen = BTreeMap::new();
        settler.settle(STREAM, &mut batch, reason.clone(), |generation, records| {
            *seen.entry(generation.index()).or_insert(0) += records;
        });
        for (place, (put, outcome)) in puts.iter().zip(&mut outcomes).enumerate() {
            let (settlement, at) = settlement(outcome);
            assert_eq!((at as usize, &settlement.failure), (place, &reason));
            let prior = put.prior.iter().flat_map(|prior| prior.iter());
            assert!(settlement.attempts.iter().eq(prior.chain(&own)), "seed {seed}");
            assert_eq!(settlement.kept.is_some(), keeps && !delivered);
            if let Some(kept) = &settlement.kept {
                assert_eq!((&*kept.partition_key, &*kept.data), (&*put.key, &*put.data));
                assert_eq!(kept.explicit_hash_key, puts[0].explicit.map(|_| put.hash()));
            }
            *seen.entry(put.generation.index()).or_insert(0) -= 1;
        }
        assert!(seen.values().all(|left| *left == 0), "each generation hears of its own");
        let (records, bytes) = (puts.len() as u64, puts.iter().map(|put| put.size() as u64).sum());
        let (delivered, failed) = if delivered { (records, 0) } else { (0, records) };
        assert_eq!(settler.released(), Released { records, bytes, delivered, failed, held: 0 });
        assert_eq!(settler.released(), Released::default(), "it is said once");
        pool.give(batch);
    }
}

#[test]
fn members_without_a_history_share_one_settlement() {
    let (mut source, mut pool) = (Source::new(), Pool::default());
    let mut settler = Settler::default();
    let (mut batch, mut outcomes) = source.batch(&vec![Put::new("key", b"data"); 3], &mut pool);
    batch.note_attempt(stored());
    settler.settle(STREAM, &mut batch, None, |_, _| {});
    let settlements: Vec<_> = outcomes.iter_mut().map(|outcome| settlement(outcome).0).collect();
    assert!(settlements.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])));
    let delivered = Settled { settlement: Arc::clone(&settlements[0]), sub_sequence: 2 }.into_result();
    assert_eq!(delivered.expect("it is stored").sequence_number(), "7");
}

#[test]
fn who_waits_is_woken_by_the_driver_and_what_is_listed_holds_its_credit() {
    let (mut source, mut pool) = (Source::new(), Pool::default());
    let mut completions = source.completions();
    let mut settler = Settler::default();
    let put = Put::new("key", b"data");
    let (mut batch, mut outcomes) = source.batch(&vec![put.clone(); 2], &mut pool);
    wait(&mut outcomes[1]);
    let (ticket, record) = source.listed(&put);
    assert!(batch.try_append(ticket, &record, &bounds()).is_ok());
    settler.settle(STREAM, &mut batch, Some(failure()), |_, _| {});
    assert_eq!(settler.wakers().len(), 1);
    assert_eq!(settler.released(), Released { records: 3, bytes: 21, delivered: 0, failed: 3, held: 1 });
    assert!(settler.unheard_list().is_empty(), "everyone hears of it");
    assert!(completions.pop().is_some() && completions.pop().is_none());
}

#[test]
fn failures_that_nobody_waits_for_are_counted_by_stream_and_settlement() {
    let (mut source, mut pool) = (Source::new(), Pool::default());
    let mut settler = Settler::default();
    let put = Put::new("key", b"data");
    for (stream, reason) in [(STREAM, Some(failure())), (STREAM, None), (StreamId(4), Some(failure()))] {
        let (mut batch, _heard) = source.batch(std::slice::from_ref(&put), &mut pool);
        for _ in 0..2 {
            let (ticket, record) = source.lone(&put);
            assert!(batch.try_append(ticket, &record, &bounds()).is_ok());
        }
        batch.note_attempt(stored());
        settler.settle(stream, &mut batch, reason, |_, _| {});
    }
    let unheard: Vec<_> = settler.unheard_list().drain(..).map(|unheard| (unheard.stream, unheard.records)).collect();
    assert_eq!(unheard, [(STREAM, 2), (StreamId(4), 2)]);
    for stream in [STREAM, STREAM, StreamId(4)] {
        let (ticket, record) = source.lone(&put);
        settler.fail(stream, Removed::of(ticket, &record, false), &failure());
    }
    let unheard: Vec<_> = settler.unheard_list().iter().map(|unheard| (unheard.stream, unheard.records)).collect();
    assert_eq!(unheard, [(STREAM, 1), (STREAM, 1), (StreamId(4), 1)], "each has a settlement of its own");
}

#[test]
fn a_record_that_fails_by_itself_keeps_its_history() {
    let mut source = Source::new();
    let mut settler = Settler::new(true);
    let put = Put { prior: Some([attempt(1), attempt(2)].into()), ..Put::new("key", b"data") };
    let (ticket, record, mut outcome) = source.routed(&put);
    settler.fail(STREAM, Removed::of(ticket, &record, true), &failure());
    let (settlement, place) = settlement(&mut outcome);
    assert_eq!((&settlement.attempts[..], place), (&[attempt(1), attempt(2)][..], 0));
    assert_eq!(settlement.failure, Some(failure()));
    assert_eq!(settlement.kept.as_ref().map(|kept| &*kept.data), Some(&b"data"[..]));
    assert_eq!(settler.released(), Released { records: 1, bytes: 7, delivered: 0, failed: 1, held: 0 });
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "S2")]
fn nothing_is_delivered_that_was_not_stored() {
    let (mut source, mut pool) = (Source::new(), Pool::default());
    let (mut batch, _outcomes) = source.batch(&[Put::new("key", b"data")], &mut pool);
    batch.note_attempt(attempt(1));
    Settler::default().settle(STREAM, &mut batch, None, |_, _| {});
}
