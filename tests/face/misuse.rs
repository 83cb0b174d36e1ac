//! Misuse of reservations, completions and the handler of failures: dropped, forgotten, overdrawn, never drained,
//! panicking, blocking. Nothing of it loses or corrupts another record, and nothing hangs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use endpoint::{Action, Endpoint};
use kpl::{Producer, ProducerBuilder, PutErrorReason, RateLimit, Record, ReservationError, Stream, Submitter};

use super::reader::read;
use super::world::{LIMIT, bounded, builder, close, delivered, emulator, flushed, lingering, ms, scripted};

fn open(build: ProducerBuilder) -> (Producer, Stream, Submitter) {
    let producer = build.rate_limit(RateLimit::Off).build().expect("a producer");
    let (stream, submitter) = (producer.stream("s").expect("a stream"), producer.submitter().expect("a submitter"));
    (producer, stream, submitter)
}

/// The data that the stream holds, in order.
fn stored(endpoint: &Endpoint) -> Vec<Vec<u8>> {
    let mut stored: Vec<_> = read(endpoint, "s").into_iter().map(|record| record.data.to_vec()).collect();
    stored.sort_unstable();
    stored
}

#[test]
fn a_reservation_that_is_dropped_puts_nothing_and_keeps_nothing() {
    let endpoint = emulator(&[("s", 1)]);
    let small = lingering(&endpoint.url()).max_outstanding_records(100).max_outstanding_bytes(2 << 20);
    let (producer, stream, mut submitter) = open(small.ring_bytes(4096));
    let put = submitter.put(&stream, Record::new("k", "first")).expect("a put");
    // Far more than budget and ring hold, of small and of large ones.
    for round in 0..1000 {
        let len = [0, 10, 1000, 3000, 500_000][round % 5];
        let mut reservation = submitter.try_reserve(&stream, "dropped", len).expect("there is room for it");
        reservation.bytes().fill(0xEE);
        drop(reservation);
    }
    // Also by a panic of its writer.
    let mut write = || {
        let mut reservation = submitter.try_reserve(&stream, "dropped", 10).expect("there is room for it");
        reservation.bytes()[10] = 0;
    };
    assert!(catch_unwind(AssertUnwindSafe(&mut write)).is_err(), "there is no eleventh byte");
    let last = submitter.put(&stream, Record::new("k", "last")).expect("a put");
    flushed(producer.flush());
    [put, last].into_iter().for_each(|outcome| drop(delivered(outcome)));
    let counts = close(&producer);
    assert_eq!((counts.accepted, counts.delivered), (2, 2));
    assert_eq!(stored(&endpoint), [b"first".to_vec(), b"last".to_vec()]);
}

#[test]
fn a_reservation_holds_as_much_as_was_reserved_and_not_more() {
    let endpoint = emulator(&[("s", 1)]);
    let (producer, stream, mut submitter) = open(builder(&endpoint.url()));
    let mut outcomes = Vec::new();
    for (reserved, len) in [(10, 10), (10, 3), (10, 0), (0, 0), (300_000, 200_000), (300_000, 1)] {
        let mut reservation = submitter.reserve(&stream, "k", reserved).expect("a reservation");
        assert_eq!(reservation.bytes().len(), reserved);
        for too_long in [reserved + 1, usize::MAX] {
            let error = reservation.set_len(too_long).expect_err("too long");
            assert_eq!(error, ReservationError { len: too_long, reserved });
            assert!(error.to_string().contains(&reserved.to_string()), "{error}");
        }
        assert_eq!(reservation.bytes().len(), reserved, "nothing was changed");
        reservation.set_len(0).expect("it may be shortened");
        reservation.set_len(len).expect("and lengthened again");
        reservation.bytes().fill(len as u8);
        assert_eq!(reservation.bytes().len(), len);
        outcomes.push(reservation.commit().expect("it is committed"));
    }
    outcomes.into_iter().for_each(|outcome| drop(delivered(outcome)));
    let mut expected: Vec<_> = [10, 3, 0, 0, 200_000, 1].into_iter().map(|len| vec![len as u8; len]).collect();
    expected.sort_unstable();
    assert_eq!(stored(&endpoint), expected);
    assert_eq!(close(&producer).delivered, 6);
}

#[test]
fn a_reservation_that_no_record_could_be_is_refused_at_once() {
    let endpoint = emulator(&[("s", 1)]);
    let (producer, stream, mut submitter) = open(builder(&endpoint.url()));
    let max = 1 << 20;
    for len in [max, usize::MAX - 1, usize::MAX] {
        let reason = submitter.try_reserve(&stream, "k", len).map(drop).expect_err("no record is that large");
        assert_eq!(reason, PutErrorReason::RecordTooLarge { size: len.saturating_add(1), max });
        let waiting = submitter.reserve(&stream, "k", len).map(drop).expect_err("nor is one worth waiting for");
        assert_eq!(waiting, reason);
    }
    let reason = submitter.try_reserve(&stream, "", 1).map(drop).expect_err("no key");
    assert_eq!(reason, PutErrorReason::InvalidPartitionKey { utf16_units: 0 });
    delivered(submitter.try_reserve(&stream, "k", max - 1).expect("the largest").commit().expect("it is committed"));
    assert_eq!(close(&producer).accepted, 1);
}

#[test]
fn a_reservation_that_is_forgotten_costs_its_credit_and_nothing_else() {
    let endpoint = emulator(&[("s", 1)]);
    let (producer, stream, mut submitter) = open(lingering(&endpoint.url()).max_outstanding_records(100));
    for number in 0..10 {
        let mut reservation = submitter.try_reserve(&stream, "forgotten", 100).expect("a reservation");
        reservation.bytes().fill(0xEE);
        std::mem::forget(reservation);
        drop(submitter.put(&stream, Record::new("k", &[number; 100])).expect("a put"));
    }
    flushed(producer.flush());
    // Its credit is gone for good, and that of none besides.
    let mut room = 0;
    while submitter.try_put_detached(&stream, Record::new("k", "d")).is_ok() {
        room += 1;
    }
    assert!((65..=90).contains(&room), "{room}");
    let counts = close(&producer);
    assert_eq!((counts.accepted, counts.delivered), (10 + room, 10 + room));
    assert!(!stored(&endpoint).iter().any(|data| data.contains(&0xEE)));
}

#[test]
fn a_reservation_that_is_committed_after_the_close_is_refused() {
    let endpoint = emulator(&[("s", 1)]);
    let (producer, stream, mut submitter) = open(builder(&endpoint.url()));
    let reservation = submitter.try_reserve(&stream, "k", 10).expect("a reservation");
    assert_eq!(close(&producer).accepted, 0);
    assert_eq!(reservation.commit().map(drop), Err(PutErrorReason::Closed));
    assert_eq!(submitter.try_reserve(&stream, "k", 10).map(drop), Err(PutErrorReason::Closed));
    assert_eq!(submitter.reserve(&stream, "k", 10).map(drop), Err(PutErrorReason::Closed));
}

#[test]
fn completions_that_nobody_drains_end_in_full_and_never_in_a_hang() {
    let endpoint = emulator(&[("s", 2)]);
    let (producer, stream, mut submitter) = open(builder(&endpoint.url()).max_outstanding_records(100));
    let record = Record::new("k", "d");
    let refused = submitter.try_put_with_token(&stream, record, 0).expect_err("nobody would be told");
    assert_eq!(refused.reason, PutErrorReason::NoCompletions);
    let mut completions = submitter.completions().expect("the first to ask has them");
    assert!(submitter.completions().is_none());
    let mut token = 0;
    for _ in 0..3 {
        // It waits while records are under way, and says so when only the caller can make room.
        let error = loop {
            match submitter.put_with_token(&stream, record, token) {
                Ok(()) => token += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.reason, PutErrorReason::Full);
        let error = bounded(submitter.put_async(&stream, record)).map(drop).expect_err("as full for all others");
        assert_eq!(error.reason, PutErrorReason::Full);
        let error = producer.put(&stream, record).map(drop).expect_err("as full for all others");
        assert_eq!(error.reason, PutErrorReason::Full);
        flushed(producer.flush());
        let mut seen = 0;
        while completions.drain(|completion| drop(completion.result.expect("it is delivered"))) > 0 {
            seen += 1;
        }
        assert!(seen > 0);
    }
    assert!(token >= 3 * 75, "{token}");
    assert_eq!(close(&producer).delivered, token);
    assert_eq!(read(&endpoint, "s").len() as u64, token);
}

#[test]
fn tokens_outlive_a_panic_of_who_drains_them_and_end_with_their_completions() {
    let endpoint = emulator(&[("s", 2)]);
    let (producer, stream, mut submitter) = open(builder(&endpoint.url()));
    let mut completions = submitter.completions().expect("nobody else has them");
    for token in 0..50 {
        submitter.put_with_token(&stream, Record::new("k", "d"), token).expect("a put");
    }
    flushed(producer.flush());
    let mut told = Vec::new();
    while told.len() < 50 {
        let drain = AssertUnwindSafe(|| {
            completions.drain(|completion| {
                told.push(completion.token);
                assert!(completion.token % 10 != 0, "the caller's own fault");
            })
        });
        if let Ok(drained) = catch_unwind(drain) {
            assert!(drained > 0 || told.len() == 50, "some are missing: {told:?}");
        }
    }
    told.sort_unstable();
    assert_eq!(told, (0..50).collect::<Vec<_>>(), "each is told once");
    submitter.put_with_token(&stream, Record::new("k", "nobody hears of it"), 50).expect("a put");
    drop(completions);
    let refused = submitter.put_with_token(&stream, Record::new("k", "d"), 51).expect_err("nobody would be told");
    assert_eq!(refused.reason, PutErrorReason::NoCompletions);
    let counts = close(&producer);
    assert_eq!((counts.accepted, counts.delivered), (51, 51));
}

/// An endpoint that refuses every record whose data is "bad", and takes the others.
fn picky() -> Endpoint {
    scripted(&[("s", 1)], |request| {
        let bad = request.body.windows(3).any(|window| window == b"bad");
        if bad { Action::error(400, "InvalidArgumentException", "it is bad") } else { Action::Pass }
    })
}

#[test]
fn a_handler_that_panics_is_called_again_with_the_next_failure() {
    let endpoint = picky();
    let told = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&told);
    let build = builder(&endpoint.url()).aggregation_enabled(false).on_failure(move |failed| {
        counted.fetch_add(failed.records(), Ordering::SeqCst);
        panic!("a handler's own fault");
    });
    let (producer, stream, mut submitter) = open(build);
    for round in 0..5 {
        submitter.put_detached(&stream, Record::new("k", "bad")).expect("a put");
        flushed(producer.flush());
        submitter.put_detached(&stream, Record::new("k", &[round])).expect("a put");
        flushed(producer.flush());
    }
    let counts = close(&producer);
    assert_eq!((counts.delivered, counts.failed, told.load(Ordering::SeqCst)), (5, 5, 5));
    assert_eq!(stored(&endpoint), (0..5).map(|round| vec![round]).collect::<Vec<_>>());
}

#[test]
fn a_handler_that_blocks_ends_in_full_and_holds_up_neither_records_nor_the_close() {
    let endpoint = picky();
    let (let_go, gate) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let ends = Mutex::new((gate, tell));
    let build = builder(&endpoint.url()).aggregation_enabled(false).max_outstanding_records(50);
    let (producer, stream, mut submitter) = open(build.on_failure(move |failed| {
        let (gate, tell) = &*ends.lock().expect("one thread calls it");
        // Until the test lets it go, by dropping its end. A test that has failed meanwhile hears nothing.
        let _ = gate.recv();
        let _ = tell.send(failed.records());
    }));
    submitter.put_detached(&stream, Record::new("k", "bad")).expect("a put");
    flushed(producer.flush());
    // The handler has it. Others go on, waited for or not.
    for number in 0..100_u8 {
        delivered(submitter.put(&stream, Record::new("k", &[number])).expect("a put"));
    }
    // Failures that nobody takes fill the producer, which says so instead of waiting for ever.
    let mut failures = 1;
    let error = loop {
        match submitter.put_detached(&stream, Record::new("k", "bad")) {
            Ok(()) => failures += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason, PutErrorReason::Full);
    assert!((30..=50).contains(&failures), "{failures}");
    let counts = bounded(producer.close(ms(200)));
    assert_eq!((counts.delivered, counts.failed, counts.outstanding()), (100, failures, 0));
    assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Empty));
    drop(let_go);
    let mut heard = 0;
    while heard < failures {
        heard += told.recv_timeout(LIMIT).expect("the handler goes on, also after the close");
    }
    assert_eq!(heard, failures);
}
