//! Records put with a token: each is told once by its submitter's completions, and fills the producer until it is.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kpl::{Completions, ErrorCode, Producer, PutErrorReason, RateLimit, Record, Stream, Submitter};

use super::reader::read;
use super::world::{LIMIT, bounded, builder, close, emulator, flushed, hanging, lingering, ms, scripted, work};
use endpoint::Action;

const fn is_send<T: Send>() {}
const _: () = is_send::<Completions>();

fn opened(producer: &Producer) -> (Stream, Submitter, Completions) {
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let completions = submitter.completions().expect("the first time");
    (stream, submitter, completions)
}

#[test]
fn every_token_is_told_once_with_the_place_of_its_record() {
    let endpoint = emulator(&[("s", 3)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let (stream, mut submitter, mut completions) = opened(&producer);
    assert!(submitter.completions().is_none(), "they are given out once");
    assert_eq!(completions.drain(|_| ()), 0);
    let drainer = work(move || {
        let (mut tokens, mut places) = (HashSet::new(), HashSet::new());
        while completions.wait_timeout(LIMIT).expect("a completion, or the end") {
            completions.drain(|completion| {
                let delivered = completion.result.as_ref().expect("it is delivered");
                assert!(tokens.insert(completion.token), "{} is told twice", completion.token);
                let place = (delivered.sequence_number().to_owned(), delivered.sub_sequence_number());
                assert!(places.insert((delivered.shard_id().to_owned(), place)), "two records in one place");
            });
        }
        assert!(completions.try_next().is_none());
        tokens
    });
    for token in 0..1_000 {
        let key = format!("{}", token % 50);
        submitter.put_with_token(&stream, Record::new(&key, "d"), u64::MAX - token).expect("a put");
    }
    // The completions end when all is told and the submitter is gone.
    drop(submitter);
    let tokens = drainer.done();
    assert_eq!(tokens, (0..1_000).map(|token| u64::MAX - token).collect());
    assert_eq!(read(&endpoint, "s").len(), 1_000);
    assert_eq!(close(&producer).delivered, 1_000);
}

#[test]
fn completions_can_be_awaited_by_a_task() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let (stream, mut submitter, mut completions) = opened(&producer);
    let all = async {
        for token in 0..3 {
            submitter.put_with_token_async(&stream, Record::new("k", "d"), token).await.expect("a put");
        }
        let mut told = Vec::new();
        for _ in 0..3 {
            told.push(completions.next().await.expect("a completion").token);
        }
        drop(submitter);
        assert!(completions.next().await.is_none(), "there is none left to come");
        told
    };
    assert_eq!(bounded(all), [0, 1, 2], "those of one aggregate come in their order");
    close(&producer);
}

#[test]
fn failures_are_told_as_well() {
    let endpoint = scripted(&[("s", 1)], |_| Action::error(400, "InvalidArgumentException", "no"));
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let (stream, mut submitter, mut completions) = opened(&producer);
    submitter.put_with_token(&stream, Record::new("k", "d"), 7).expect("a put");
    assert_eq!(completions.wait_timeout(LIMIT), Some(true));
    let completion = completions.try_next().expect("it has ended");
    assert_eq!(completion.token, 7);
    let failure = completion.result.expect_err("it fails");
    assert_eq!(*failure.code(), ErrorCode::Poison, "refused alone");
    assert_eq!(failure.attempts().len(), 1, "{failure:?}");
    assert_eq!(close(&producer).failed, 1);
}

#[test]
fn a_token_without_completions_is_refused() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = lingering(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let record = Record::new("k", "d");
    let refused = |submitter: &mut Submitter| {
        let error = submitter.try_put_with_token(&stream, record, 1).expect_err("nobody would hear");
        assert_eq!((error.record, error.reason), (record, PutErrorReason::NoCompletions));
    };
    refused(&mut submitter);
    let completions = submitter.completions().expect("the first time");
    submitter.try_put_with_token(&stream, record, 1).expect("a put");
    // What is under way goes its way, and gives its credit back.
    drop(completions);
    refused(&mut submitter);
    assert!(submitter.completions().is_none());
    submitter.put(&stream, record).map(drop).expect("other puts are none the worse");
    let counts = close(&producer);
    assert_eq!((counts.accepted, counts.delivered), (2, 2));
    assert_eq!(read(&endpoint, "s").len(), 2);
}

#[test]
fn what_is_not_drained_fills_the_producer_and_nobody_waits_for_it_in_vain() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = builder(&endpoint.url()).max_outstanding_records(100).rate_limit(RateLimit::Off);
    let producer = producer.build().expect("a producer");
    let (stream, mut submitter, mut completions) = opened(&producer);
    let record = Record::new("k", "d");
    // This thread would be the one to drain, so a put that waits must come back when nothing else is under way.
    let putter = work(move || {
        let mut accepted = 0;
        let reason = loop {
            match submitter.put_with_token(&stream, record, accepted) {
                Ok(()) => accepted += 1,
                Err(error) => break error.reason,
            }
        };
        assert_eq!(reason, PutErrorReason::Full);
        assert!((75..=100).contains(&accepted), "{accepted}");
        // All ways of putting wait for the same budget, and so do other submitters.
        let mut other = producer.submitter().expect("a submitter");
        assert_eq!(other.put(&stream, record).expect_err("full").reason, PutErrorReason::Full);
        assert_eq!(producer.put(&stream, record).expect_err("full").reason, PutErrorReason::Full);
        assert_eq!(producer.outstanding(), 0);
        let mut told = 0;
        while told < accepted {
            told += completions.drain(|completion| assert!(completion.result.is_ok())) as u64;
        }
        submitter.put_with_token(&stream, record, 0).expect("there is room again");
        other.put(&stream, record).map(drop).expect("for all");
        drop(completions);
        flushed(producer.flush());
        submitter.put(&stream, record).map(drop).expect("what was not drained is given back at the drop");
        assert_eq!(close(&producer).delivered, accepted + 3);
    });
    putter.done();
}

#[test]
fn a_drain_that_panics_loses_what_it_was_given_and_nothing_else() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = builder(&endpoint.url()).max_outstanding_records(40).build().expect("a producer");
    let (stream, mut submitter, mut completions) = opened(&producer);
    for round in 0..5 {
        // More rounds than the budget holds if a panic kept credit.
        for token in 0..20 {
            submitter.put_with_token(&stream, Record::new("k", "d"), token).expect("a put");
        }
        flushed(producer.flush());
        let mut told = Vec::new();
        let drained = catch_unwind(AssertUnwindSafe(|| {
            completions.drain(|completion| {
                assert_ne!(completion.token, 5, "the caller's own");
                told.push(completion.token);
            })
        }));
        assert!(drained.is_err(), "round {round}");
        while told.len() < 19 {
            completions.drain(|completion| told.push(completion.token));
        }
        assert_eq!(told, (0..5).chain(6..20).collect::<Vec<_>>());
    }
    assert_eq!(close(&producer).delivered, 100);
}

#[test]
fn a_close_tells_every_token() {
    let endpoint = hanging(&[("s", 1)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let (stream, mut submitter, mut completions) = opened(&producer);
    for token in 0..10 {
        submitter.put_with_token(&stream, Record::new("k", "d"), token).expect("a put");
    }
    assert_eq!(bounded(producer.close(ms(50))).failed, 10);
    let mut told = Vec::new();
    while told.len() < 10 {
        assert_eq!(completions.wait_timeout(LIMIT), Some(true));
        completions.drain(|completion| {
            assert_eq!(*completion.result.as_ref().expect_err("closed").code(), ErrorCode::Closed);
            told.push(completion.token);
        });
    }
    let error = submitter.try_put_with_token(&stream, Record::new("k", "d"), 11).expect_err("closed");
    assert_eq!(error.reason, PutErrorReason::Closed);
}
