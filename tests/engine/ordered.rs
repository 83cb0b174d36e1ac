//! Ordered mode on one core: what is under way, what waits for it, and what becomes of it under a newer map.

use std::time::Duration;

use kpl::config::Config;
use kpl::outcome::ErrorCode;
use kpl::record::{HashKey, Record};

use super::driven::Driven;
use super::hand::*;

fn ordered() -> Config {
    Config { ordered: true, ..config() }
}

/// Nothing is aggregated, so that each record can be told.
fn singly() -> Config {
    Config { aggregation_enabled: false, ..ordered() }
}

/// Puts a record with this fraction of the hash space, in hundredths.
fn put_at(driven: &mut Driven, hundredths: u128, data: &str) -> Waiting {
    let hash = HashKey(u128::MAX / 100 * hundredths);
    put_record(driven, &Record::new("key", data).with_explicit_hash_key(hash))
}

/// The data of a request's entries, raw.
fn sent(transmit: &kpl::engine::Transmit) -> Vec<String> {
    entries(transmit).into_iter().map(|entry| String::from_utf8_lossy(&entry.data).into_owned()).collect()
}

#[test]
fn a_shard_has_one_kinesis_record_under_way() {
    let mut driven = Driven::new(&singly(), 2);
    let mut waiting: Vec<Waiting> =
        [(10, "a1"), (10, "a2"), (60, "b1"), (10, "a3")].map(|(at, data)| put_at(&mut driven, at, data)).into();
    let transmit = send(&mut driven);
    assert_eq!(sent(&transmit), ["a1", "b1"]);
    driven.pass(Duration::from_secs(1));
    assert!(driven.turn_all().is_empty(), "the others wait for it");
    store(&mut driven, &transmit);
    for expected in ["a2", "a3"] {
        let transmit = driven.turn().expect("the next is due");
        assert_eq!(sent(&transmit), [expected]);
        store(&mut driven, &transmit);
    }
    assert!(waiting.iter_mut().all(|handle| end(handle).is_ok()));
}

#[test]
fn what_failed_goes_before_what_came_later_however_long_that_takes() {
    let mut driven = Driven::new(&singly(), 1);
    let mut waiting = [put_at(&mut driven, 10, "a1"), put_at(&mut driven, 10, "a2")];
    let transmit = send(&mut driven);
    refuse_records(&mut driven, &transmit, "ProvisionedThroughputExceededException");
    for _ in 0..3 {
        let (transmit, _) = send_later(&mut driven);
        assert_eq!(sent(&transmit), ["a1"]);
        lose(&mut driven, &transmit, ErrorCode::Timeout, true);
    }
    for expected in ["a1", "a2"] {
        let (transmit, _) = send_later(&mut driven);
        assert_eq!(sent(&transmit), [expected]);
        store(&mut driven, &transmit);
    }
    assert!(waiting.iter_mut().all(|handle| end(handle).is_ok()));
}

#[test]
fn the_children_of_a_split_begin_when_it_is_known_what_became_of_their_parent_s() {
    let mut driven = Driven::new(&singly(), 1);
    let mut waiting: Vec<Waiting> =
        [(10, "a1"), (10, "a2"), (60, "b1")].map(|(at, data)| put_at(&mut driven, at, data)).into();
    let first = send(&mut driven);
    assert_eq!(sent(&first), ["a1"]);
    driven.remap(2, 2);
    waiting.push(put_at(&mut driven, 10, "a3"));
    waiting.push(put_at(&mut driven, 60, "b2"));
    driven.pass(Duration::from_secs(1));
    assert!(driven.turn_all().is_empty(), "it might be stored after them");
    lose(&mut driven, &first, ErrorCode::Timeout, true);
    let mut all = Vec::new();
    while all.len() < 5 {
        let (transmit, _) = send_later(&mut driven);
        all.extend(sent(&transmit));
        store(&mut driven, &transmit);
    }
    let of = |letter: char| all.iter().filter(move |data| data.starts_with(letter)).cloned().collect::<Vec<_>>();
    assert_eq!((of('a'), of('b')), (vec!["a1".into(), "a2".into(), "a3".into()], vec!["b1".into(), "b2".into()]));
    assert!(waiting.iter_mut().all(|handle| end(handle).is_ok()));
}

#[test]
fn a_shard_that_a_newer_map_does_not_change_goes_on() {
    let mut driven = Driven::new(&singly(), 2);
    let _first = put_at(&mut driven, 10, "a1");
    let first = send(&mut driven);
    driven.remap(2, 2);
    let mut other = put_at(&mut driven, 60, "b1");
    let (transmit, _) = send_later(&mut driven);
    assert_eq!(sent(&transmit), ["b1"]);
    store(&mut driven, &transmit);
    assert!(end(&mut other).is_ok());
    store(&mut driven, &first);
}

#[test]
fn a_shard_waits_for_the_verdict_on_an_aggregate_that_went_astray() {
    let mut driven = Driven::new(&ordered(), 1);
    let mut waiting = [put_at(&mut driven, 10, "a1"), put_at(&mut driven, 60, "b1")];
    let (transmit, _) = send_later(&mut driven);
    let mut younger = put_at(&mut driven, 10, "a2");
    // The service has split the shard, and nobody knows.
    store_in(&mut driven, &transmit, "shardId-0-of-2");
    driven.pass(Duration::from_secs(1));
    assert!(driven.turn_all().is_empty());
    driven.remap(2, 2);
    let (transmit, _) = send_later(&mut driven);
    assert_eq!((transmit.kinesis_records, transmit.user_records), (2, 3));
    let first = &entries(&transmit)[0].data;
    let place = |data: &[u8]| first.windows(2).position(|there| there == data).expect("it is there");
    assert!(place(b"a1") < place(b"a2"), "what came later stands behind, in one aggregate");
    store(&mut driven, &transmit);
    for handle in waiting.iter_mut().chain([&mut younger]) {
        assert!(end(handle).is_ok());
    }
}

#[test]
fn maps_that_come_during_a_changeover_are_adopted_one_after_the_other() {
    let mut driven = Driven::new(&singly(), 1);
    let mut waiting = [put_at(&mut driven, 10, "a1"), put_at(&mut driven, 10, "a2"), put_at(&mut driven, 10, "a3")];
    let first = send(&mut driven);
    for (epoch, shards) in [(2, 2), (3, 4), (4, 1)] {
        driven.remap(epoch, shards);
        assert!(driven.turn_all().is_empty());
    }
    store_in(&mut driven, &first, "shardId-0-of-1");
    for expected in ["a2", "a3"] {
        let (transmit, _) = send_later(&mut driven);
        assert_eq!((sent(&transmit), transmit.map_epoch), (vec![expected.to_owned()], 4));
        store(&mut driven, &transmit);
    }
    assert!(waiting.iter_mut().all(|handle| end(handle).is_ok()));
}

#[test]
fn what_waits_in_a_changeover_expires_in_time_and_is_settled_by_a_close() {
    for closes in [false, true] {
        let mut driven = Driven::new(&Config { record_ttl: Duration::from_secs(2), ..singly() }, 1);
        let mut first = put_at(&mut driven, 10, "a1");
        let mut tail = put_at(&mut driven, 10, "a2");
        let transmit = send(&mut driven);
        driven.remap(2, 2);
        let mut later = put_at(&mut driven, 10, "a3");
        driven.turn();
        assert!(driven.core.oldest().is_some_and(|oldest| oldest < driven.now));
        if closes {
            driven.core.handle_close(driven.now);
            assert!(
                [&mut first, &mut tail, &mut later]
                    .into_iter()
                    .all(|handle| { *end(handle).expect_err("it is closed").code() == ErrorCode::Closed })
            );
            continue;
        }
        driven.pass(Duration::from_secs(3));
        driven.turn();
        for handle in [&mut tail, &mut later] {
            assert_eq!(*end(handle).expect_err("its time is over").code(), ErrorCode::Expired);
        }
        store_in(&mut driven, &transmit, "shardId-0-of-1");
        assert!(end(&mut first).is_ok(), "a late success is a success");
        driven.turn();
        assert_eq!(driven.core.oldest(), None);
    }
}
