//! Requests that the service calls invalid: what is at fault fails, and nobody else.

use kpl::config::Config;
use kpl::engine::Transmit;
use kpl::limits::CONNECTION_WAIT;
use kpl::outcome::ErrorCode;
use kpl::record::{HashKey, Record};

use super::driven::Driven;
use super::hand::*;

const POISON: &[u8] = b"poison";

/// Records, not aggregated: those at `poison` are at fault.
fn put_some(driven: &mut Driven, count: usize, shards: usize, poison: &[usize]) -> Vec<Waiting> {
    let put_one = |number: usize| {
        let data = if poison.contains(&number) { POISON.to_vec() } else { format!("data {number}").into_bytes() };
        let hash = HashKey(u128::MAX / shards as u128 * (number % shards) as u128 + 1000);
        put_record(driven, &Record::new("key", &data).with_explicit_hash_key(hash))
    };
    (0..count).map(put_one).collect()
}

/// Plays the service until nothing more is sent: a request with poison is refused. `names` says whether the message
/// tells which record it is, counted from 1. Answers how many requests there were.
fn serve(driven: &mut Driven, names: bool) -> usize {
    let mut requests: Vec<Transmit> = Vec::new();
    let mut count = 0;
    loop {
        requests.extend(driven.turn_all());
        let Some(transmit) = requests.pop() else { return count };
        count += 1;
        let sent = entries(&transmit);
        match sent.iter().position(|entry| entry.data.windows(6).any(|window| window == POISON)) {
            None => store(driven, &transmit),
            Some(place) => {
                let named = format!("Value at 'records.{}.member.data' failed to satisfy constraint", place + 1);
                let message = if names { &*named } else { "not valid" };
                refuse(driven, &transmit, 400, "ValidationException", message);
            }
        }
    }
}

fn one_by_one() -> Config {
    Config { aggregation_enabled: false, ..config() }
}

#[test]
fn a_poison_record_fails_alone_and_the_500_others_are_delivered() {
    for (names, most) in [(true, 4), (false, 21)] {
        for at in [0, 250, 499] {
            let mut driven = Driven::new(&one_by_one(), 8);
            let mut waiting = put_some(&mut driven, 500, 8, &[at]);
            driven.pass(LINGER);
            let requests = serve(&mut driven, names);
            assert!(requests <= most, "{requests} requests, named {names}");
            for (number, handle) in waiting.iter_mut().enumerate() {
                match end(handle) {
                    Ok(_) => assert_ne!(number, at),
                    Err(failure) => {
                        assert_eq!((number, failure.code()), (at, &ErrorCode::Poison), "{failure}");
                        assert!(failure.message().contains("ValidationException"), "{failure}");
                        assert!(!failure.may_be_stored());
                    }
                }
            }
        }
    }
}

#[test]
fn an_aggregate_fails_with_its_poison_member_and_others_do_not() {
    let mut driven = Driven::new(&config(), 4);
    // Four aggregates of 25; number 10 is in that of the third shard.
    let mut waiting = put_some(&mut driven, 100, 4, &[10]);
    driven.pass(LINGER);
    serve(&mut driven, false);
    for (number, handle) in waiting.iter_mut().enumerate() {
        let failed = end(handle).err().map(|failure| failure.code().clone());
        assert_eq!(failed, (number % 4 == 2).then_some(ErrorCode::Poison), "{number}");
    }
}

#[test]
fn a_request_that_is_invalid_itself_fails_with_the_services_code_after_two_more() {
    let mut driven = Driven::new(&one_by_one(), 2);
    let mut waiting = put_some(&mut driven, 20, 2, &[]);
    driven.pass(LINGER);
    let mut requests = 0;
    while let Some(transmit) = driven.turn() {
        refuse(&mut driven, &transmit, 400, "InvalidArgumentException", "StreamName is wrong");
        requests += 1;
    }
    assert_eq!(requests, 3, "it, and its halves");
    for handle in &mut waiting {
        let failure = end(handle).expect_err("refused");
        assert_eq!(failure.code().as_str(), "InvalidArgumentException");
    }
}

#[test]
fn records_of_other_shards_do_not_travel_with_suspects() {
    let mut driven = Driven::new(&one_by_one(), 4);
    let _suspects = put_some(&mut driven, 2, 4, &[0]);
    let transmit = send(&mut driven);
    refuse(&mut driven, &transmit, 400, "ValidationException", "not valid");
    let mut other = put(&mut driven, 3);
    driven.pass(LINGER);
    let mut transmits = driven.turn_all();
    driven.pass(CONNECTION_WAIT);
    transmits.extend(driven.turn_all());
    let counts: Vec<usize> = transmits.iter().map(|transmit| transmit.kinesis_records).collect();
    assert_eq!(counts, [1, 1, 1], "each half, and the other");
    for transmit in &transmits {
        if entries(transmit)[0].data == POISON {
            refuse(&mut driven, transmit, 400, "ValidationException", "not valid");
        } else {
            store(&mut driven, transmit);
        }
    }
    assert!(end(&mut other).is_ok());
}

#[test]
fn a_suspect_keeps_its_place_before_younger_records_of_its_shard() {
    let mut driven = Driven::new(&one_by_one(), 1);
    let _suspects = put_some(&mut driven, 2, 1, &[]);
    let transmit = send(&mut driven);
    let _younger = put_record(&mut driven, &Record::new("key", "younger"));
    refuse(&mut driven, &transmit, 400, "ValidationException", "not valid");
    driven.pass(LINGER);
    let mut sent = Vec::new();
    while let Some(transmit) = driven.turn() {
        sent.extend(entries(&transmit).into_iter().map(|entry| entry.data));
        store(&mut driven, &transmit);
    }
    assert_eq!(sent, [b"data 0".to_vec(), b"data 1".to_vec(), b"younger".to_vec()]);
}

#[test]
fn a_suspect_that_meets_an_outage_is_tried_again_as_a_suspect() {
    let mut driven = Driven::new(&Config { max_connections_per_core: 1, ..one_by_one() }, 1);
    let mut waiting = put_some(&mut driven, 4, 1, &[3]);
    let transmit = send(&mut driven);
    refuse(&mut driven, &transmit, 400, "ValidationException", "not valid");
    let half = driven.turn().expect("at once");
    assert_eq!(half.kinesis_records, 2);
    lose(&mut driven, &half, ErrorCode::Timeout, true);
    let mut ends = 0;
    while ends < 4 {
        let (transmit, _) = send_later(&mut driven);
        assert!(transmit.kinesis_records <= 2, "no more than its group");
        if entries(&transmit).iter().any(|entry| entry.data == POISON) {
            refuse(&mut driven, &transmit, 400, "ValidationException", "not valid");
        } else {
            store(&mut driven, &transmit);
        }
        ends += driven.core.released().records as usize;
    }
    let ends: Vec<bool> = waiting.iter_mut().map(|handle| end(handle).is_ok()).collect();
    assert_eq!(ends, [true, true, true, false]);
}
