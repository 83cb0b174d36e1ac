//! Reservations: records written in the ring itself. What is not committed has never been.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kpl::{HashKey, PutErrorReason, RateLimit, Record, ReservationError};

use super::reader::read;
use super::world::{Standstill, bounded, builder, close, delivered, emulator, flushed, hanging, lingering, work};

#[test]
fn a_record_written_in_place_is_delivered_as_written() {
    let endpoint = emulator(&[("s", 2)]);
    // Larger than a quarter of the ring it goes by pointer, and larger than the ring too.
    let producer = builder(&endpoint.url()).ring_bytes(4096).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let mut completions = submitter.completions().expect("the first time");
    let mut expected = Vec::new();
    for (number, len) in [0, 1, 7, 8, 100, 1000, 2000, 10_000].into_iter().enumerate() {
        let key = format!("key {number}");
        let data: Vec<u8> = (0..len).map(|index| (index * 7 + number) as u8).collect();
        let mut reservation = submitter.reserve(&stream, &key, len).expect("room");
        reservation.bytes().copy_from_slice(&data);
        delivered(reservation.commit().expect("a put"));
        expected.push((key.clone(), data.clone()));
        // Shorter than reserved.
        let mut reservation = submitter.try_reserve(&stream, &key, len + 50).expect("room");
        let mut rest = reservation.bytes();
        rest.write_all(&data).expect("it fits");
        reservation.set_len(len).expect("less than reserved");
        assert_eq!(reservation.bytes(), data);
        reservation.commit_with_token(number as u64).expect("a put");
        expected.push((key.clone(), data.clone()));
        let mut reservation = bounded(submitter.reserve_async(&stream, &key, len)).expect("room");
        reservation.bytes().copy_from_slice(&data);
        reservation.commit_detached().expect("a put");
        expected.push((key, data));
    }
    flushed(producer.flush());
    let mut tokens = Vec::new();
    while tokens.len() < 8 {
        completions.drain(|completion| {
            completion.result.as_ref().expect("it is delivered");
            tokens.push(completion.token);
        });
    }
    tokens.sort_unstable();
    assert_eq!(tokens, (0..8).collect::<Vec<_>>());
    let mut stored: Vec<_> =
        read(&endpoint, "s").into_iter().map(|record| (record.partition_key, record.data)).collect();
    stored.sort();
    expected.sort();
    assert_eq!(stored, expected);
    assert_eq!(close(&producer).delivered, 24);
}

#[test]
fn an_explicit_hash_key_decides_the_shard() {
    let endpoint = emulator(&[("s", 2)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let mut shards = Vec::new();
    for hash_key in [HashKey::MIN, HashKey::MAX] {
        let mut reservation = submitter.reserve(&stream, "the same", 1).expect("room");
        reservation.set_explicit_hash_key(hash_key);
        reservation.bytes()[0] = b'd';
        shards.push(delivered(reservation.commit().expect("a put")).shard_id().to_owned());
    }
    assert_ne!(shards[0], shards[1]);
    close(&producer);
}

#[test]
fn a_reservation_that_is_dropped_puts_nothing_and_keeps_nothing() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = lingering(&endpoint.url()).max_outstanding_records(20).ring_bytes(4096).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    // More often than budget or ring would bear if something were kept, small and by pointer.
    for len in [100, 2000] {
        for _ in 0..500 {
            let mut reservation = submitter.try_reserve(&stream, "k", len).expect("room");
            reservation.bytes().fill(0xEE);
            drop(reservation);
        }
    }
    assert_eq!(producer.outstanding(), 0);
    let outcome = submitter.put(&stream, Record::new("k", "whole")).expect("a put");
    flushed(producer.flush());
    delivered(outcome);
    let stored = read(&endpoint, "s");
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].data, b"whole");
    assert_eq!(close(&producer).accepted, 1);
}

#[test]
fn more_than_was_reserved_is_refused_and_changes_nothing() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let mut reservation = submitter.reserve(&stream, "k", 4).expect("room");
    reservation.bytes().copy_from_slice(b"data");
    for len in [5, usize::MAX] {
        let error = reservation.set_len(len).expect_err("too long");
        assert_eq!(error, ReservationError { len, reserved: 4 });
        assert!(error.to_string().contains(&format!("len {len}")) && error.to_string().contains('4'), "{error}");
    }
    // A writer that has more than fits is told so by the slice.
    assert!(reservation.bytes().write_all(b"too much").is_err());
    reservation.bytes().copy_from_slice(b"data");
    delivered(reservation.commit().expect("a put"));
    assert_eq!(read(&endpoint, "s")[0].data, b"data");
    close(&producer);
}

#[test]
fn what_may_not_be_put_may_not_be_reserved() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = lingering(&endpoint.url()).max_outstanding_records(8).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let mut refused = |key: &str, len| submitter.try_reserve(&stream, key, len).map(drop).expect_err("refused");
    assert_eq!(refused("", 1), PutErrorReason::InvalidPartitionKey { utf16_units: 0 });
    assert_eq!(refused(&"k".repeat(257), 1), PutErrorReason::InvalidPartitionKey { utf16_units: 257 });
    let max = 1024 * 1024;
    assert_eq!(refused("k", max), PutErrorReason::RecordTooLarge { size: max + 1, max });
    assert_eq!(refused("k", usize::MAX), PutErrorReason::RecordTooLarge { size: usize::MAX, max });
    // What only the data shows is found at the commit: it looks like an aggregate, and does not fit as one.
    let mut reservation = submitter.try_reserve(&stream, "k", max - 1).expect("room");
    reservation.bytes()[..4].copy_from_slice(&[0xF3, 0x89, 0x9A, 0xC2]);
    assert!(matches!(reservation.commit(), Err(PutErrorReason::RecordTooLarge { .. })));
    // A commit after the close is refused, and its credit given back.
    let mut late = producer.submitter().expect("a submitter");
    let reservation = late.try_reserve(&stream, "k", 1).expect("room");
    assert_eq!(close(&producer).accepted, 0);
    assert_eq!(reservation.commit().map(drop), Err(PutErrorReason::Closed));
    assert_eq!(submitter.try_reserve(&stream, "k", 1).map(drop), Err(PutErrorReason::Closed));
}

#[test]
fn a_full_producer_reserves_nothing() {
    let endpoint = hanging(&[("s", 1)]);
    let producer = builder(&endpoint.url()).max_outstanding_records(10).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    while submitter.try_put_detached(&stream, Record::new("k", "d")).is_ok() {}
    assert_eq!(submitter.try_reserve(&stream, "k", 1).map(drop), Err(PutErrorReason::Full));
    bounded(producer.close(std::time::Duration::from_millis(1)));
}

#[test]
fn a_reservation_waits_for_room_in_the_ring() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = lingering(&endpoint.url()).ring_bytes(4096).rate_limit(RateLimit::Off).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let standstill = Standstill::of(&producer, &stream);
    let mut submitter = producer.submitter().expect("a submitter");
    while submitter.try_put_detached(&stream, Record::new("k", &[0; 500])).is_ok() {}
    assert_eq!(submitter.try_reserve(&stream, "k", 500).map(drop), Err(PutErrorReason::Full));
    let waiter = work(move || {
        let mut reservation = submitter.reserve(&stream, "k", 500).expect("room, in the end");
        reservation.bytes().fill(9);
        reservation.commit_detached().expect("a put");
    });
    waiter.assert_busy_for(std::time::Duration::from_millis(50));
    standstill.end();
    waiter.done();
    close(&producer);
    assert_eq!(read(&endpoint, "s").iter().filter(|record| record.data == [9; 500]).count(), 1);
}

#[test]
fn a_reservation_whose_writer_panics_puts_nothing_and_the_submitter_goes_on() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let write = || {
        let mut reservation = submitter.try_reserve(&stream, "k", 10).expect("room");
        reservation.bytes()[10] = 0;
    };
    assert!(catch_unwind(AssertUnwindSafe(write)).is_err(), "there is no eleventh byte");
    delivered(submitter.put(&stream, Record::new("k", "whole")).expect("a put"));
    assert_eq!(close(&producer).accepted, 1);
    assert_eq!(read(&endpoint, "s")[0].data, b"whole");
}

#[test]
fn a_reservation_that_is_forgotten_costs_its_credit_and_nothing_else() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = lingering(&endpoint.url()).max_outstanding_records(100).rate_limit(RateLimit::Off);
    let producer = producer.build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    for number in 0..10 {
        let mut reservation = submitter.try_reserve(&stream, "forgotten", 100).expect("room");
        reservation.bytes().fill(0xEE);
        std::mem::forget(reservation);
        drop(submitter.put(&stream, Record::new("k", &[number; 100])).expect("a put"));
    }
    flushed(producer.flush());
    let counts = close(&producer);
    assert_eq!((counts.accepted, counts.delivered), (10, 10));
    assert!(read(&endpoint, "s").iter().all(|record| record.data.len() == 100 && record.data[0] < 10));
}
