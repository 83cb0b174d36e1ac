//! What the service says of single records, and what becomes of them: the first half of the retrier's table.

use std::time::Duration;

use kpl::codec::Framed;
use kpl::config::{Config, OuterPartitionKey, RateLimit};
use kpl::outcome::{AttemptResult, ErrorCode};
use kpl::record::{HashKey, Record};

use super::driven::{Driven, STREAM};
use super::hand::*;

#[test]
fn a_record_that_is_stored_on_its_predicted_shard_is_delivered() {
    let mut driven = Driven::new(&config(), 2);
    let mut waiting = [put(&mut driven, 0), put(&mut driven, 1), put(&mut driven, 1)];
    let transmit = send(&mut driven);
    store(&mut driven, &transmit);
    for (number, (handle, shard)) in waiting.iter_mut().zip([0, 1, 1]).enumerate() {
        let delivered = end(handle).expect("delivered");
        assert_eq!(delivered.shard_id(), format!("shardId-{shard}-of-2"));
        assert_eq!(delivered.sub_sequence_number(), [0, 0, 1][number]);
        assert_eq!((delivered.attempts().len(), delivered.may_be_duplicated()), (1, false));
    }
    assert_eq!(driven.core.poll_map_wanted(), None, "the map is right");
}

#[test]
fn a_throttled_record_is_an_attempt_and_is_sent_again() {
    let mut driven = Driven::new(&config(), 1);
    let mut handle = put(&mut driven, 0);
    let transmit = send(&mut driven);
    refuse_records(&mut driven, &transmit, "ProvisionedThroughputExceededException");
    assert!(outcome(&mut handle).is_none());
    let (transmit, waited) = send_later(&mut driven);
    assert!(waited <= Duration::from_millis(51), "one backoff of at most 50 ms: {waited:?}");
    store(&mut driven, &transmit);
    let delivered = end(&mut handle).expect("delivered");
    assert_eq!(failed(delivered.attempts()), [("ProvisionedThroughputExceededException".to_owned(), false)]);
    assert!(!delivered.may_be_duplicated(), "it was refused before it was stored");
}

#[test]
fn a_throttled_record_fails_at_once_if_that_is_wanted() {
    let mut driven = Driven::new(&Config { fail_if_throttled: true, ..config() }, 1);
    let mut handle = put(&mut driven, 0);
    let transmit = send(&mut driven);
    refuse_records(&mut driven, &transmit, "ProvisionedThroughputExceededException");
    let failure = end(&mut handle).expect_err("throttled");
    assert_eq!(failure.code().as_str(), "ProvisionedThroughputExceededException");
    assert_eq!((failure.attempts().len(), failure.may_be_stored()), (1, false));
}

#[test]
fn a_throttle_teaches_the_shards_limiter_and_no_other() {
    // Ten records a second, and as many at once.
    let config = Config { rate_limit: RateLimit::Percent(1), aggregation_enabled: false, ..config() };
    let mut driven = Driven::new(&config, 2);
    let _waiting = [put(&mut driven, 0), put(&mut driven, 1)];
    let transmit = send(&mut driven);
    let mut entries = driven.all_stored(&transmit);
    let code = "ProvisionedThroughputExceededException";
    entries[0] = kpl::codec::EntryResult::Failed { code: code.into(), message: "".into() };
    driven.answer(transmit.request, entries);
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.extend([put(&mut driven, 0), put(&mut driven, 1)]);
    }
    let mut sent = [0, 0];
    driven.pass(LINGER);
    for transmit in driven.turn_all() {
        for entry in self::entries(&transmit) {
            sent[usize::from(entry.hash.expect("a hash key") > u128::MAX / 2)] += 1;
        }
    }
    assert_eq!(sent[1], 10, "the other shard has its whole second");
    assert!(sent[0] <= 7, "of the throttled shard's second seven tenths are left: {sent:?}");
}

#[test]
fn a_record_that_fails_inside_the_service_is_sent_again_and_may_be_duplicated() {
    for code in ["InternalFailure", "ServiceUnavailable", "SomethingNew"] {
        let mut driven = Driven::new(&config(), 1);
        let mut handle = put(&mut driven, 0);
        let transmit = send(&mut driven);
        refuse_records(&mut driven, &transmit, code);
        let (transmit, _) = send_later(&mut driven);
        store(&mut driven, &transmit);
        let delivered = end(&mut handle).expect("delivered");
        assert_eq!(failed(delivered.attempts()), [(code.to_owned(), true)]);
        assert!(delivered.may_be_duplicated());
    }
}

#[test]
fn a_single_record_keeps_its_place_before_younger_ones_of_its_shard_when_it_is_retried() {
    let config = Config { aggregation_enabled: false, max_connections_per_core: 1, ..config() };
    let mut driven = Driven::new(&config, 1);
    let records = ["first", "second", "third"];
    let put_data = |driven: &mut Driven, data: &str| put_record(driven, &Record::new("key", data));
    let _waiting = [put_data(&mut driven, "first"), put_data(&mut driven, "second")];
    let transmit = send(&mut driven);
    let _third = put_data(&mut driven, "third");
    refuse_records(&mut driven, &transmit, "InternalFailure");
    let (transmit, _) = send_later(&mut driven);
    let sent: Vec<_> = entries(&transmit).into_iter().map(|entry| entry.data).collect();
    assert_eq!(sent, records.map(|data| data.as_bytes().to_vec())[..sent.len()]);
    assert!(sent.len() >= 2, "what failed in one request comes back in one");
}

#[test]
fn a_batch_that_expires_while_it_backs_off_fails_with_every_attempt() {
    let mut driven = Driven::new(&Config { record_ttl: Duration::from_secs(1), ..config() }, 1);
    let mut handle = put(&mut driven, 0);
    let transmit = send(&mut driven);
    driven.pass(Duration::from_millis(850));
    refuse_records(&mut driven, &transmit, "InternalFailure");
    driven.pass(Duration::from_millis(50) + TICK);
    driven.turn();
    let failure = end(&mut handle).expect_err("its time is over");
    assert_eq!(*failure.code(), ErrorCode::Expired);
    let codes: Vec<String> = failed(failure.attempts()).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, ["InternalFailure", "Expired"]);
    assert!(failure.may_be_stored());
}

#[test]
fn a_late_success_is_a_success() {
    let mut driven = Driven::new(&config(), 1);
    let mut handle = put(&mut driven, 0);
    let transmit = send(&mut driven);
    driven.pass(TTL * 2);
    assert!(driven.turn().is_none());
    assert!(outcome(&mut handle).is_none(), "what is in a request is let be");
    store(&mut driven, &transmit);
    assert!(end(&mut handle).is_ok());
}

#[test]
fn a_record_without_a_key_goes_to_any_shard_by_a_drawn_hash_key() {
    let mut driven = Driven::new(&config(), 4);
    let mut waiting: Vec<_> = (0..400).map(|_| put_record(&mut driven, &Record::unkeyed("data"))).collect();
    let transmit = send(&mut driven);
    assert_eq!(transmit.kinesis_records, 4, "an aggregate for each shard");
    assert!(entries(&transmit).iter().all(|entry| entry.key == "a" && entry.hash.is_some()));
    store(&mut driven, &transmit);
    let mut shards = std::collections::BTreeMap::new();
    for handle in &mut waiting {
        *shards.entry(end(handle).expect("delivered").shard_id().to_owned()).or_insert(0) += 1;
    }
    assert!(shards.len() == 4 && shards.values().all(|&count| (50..150).contains(&count)), "{shards:?}");
}

#[test]
fn records_find_their_shards_among_hundreds_however_they_come() {
    const SHARDS: usize = 400;
    let mut driven = Driven::new(&config(), SHARDS);
    // A turn tells the core how many shards there are: so many that it looks ahead.
    assert!(driven.turn().is_none());
    let width = u128::MAX / SHARDS as u128;
    // Two for each shard, neighbours far apart; and now and then one that goes anywhere.
    let shards: Vec<Option<usize>> =
        (0..2 * SHARDS).map(|number| (number % 51 != 7).then_some(number * 7 % SHARDS)).collect();
    let keys = ["a key", "another", "a third"];
    let (mut waiting, mut records) = (Vec::new(), Vec::new());
    for (number, shard) in shards.iter().enumerate() {
        let (ticket, handle) = driven.slots.take();
        waiting.push(handle);
        let record = match shard {
            Some(shard) => Record::new(keys[number % keys.len()], "data")
                .with_explicit_hash_key(HashKey(width * *shard as u128 + 1000)),
            None => Record::unkeyed("data"),
        };
        records.push((ticket, Framed::new(STREAM, driven.now, &record)));
    }
    driven.core.handle_records(driven.now, records);
    let transmit = send(&mut driven);
    assert_eq!(transmit.kinesis_records, SHARDS, "an aggregate for each shard");
    store(&mut driven, &transmit);
    for (handle, shard) in waiting.iter_mut().zip(shards) {
        let delivered = end(handle).expect("delivered");
        if let Some(shard) = shard {
            assert_eq!(delivered.shard_id(), format!("shardId-{shard}-of-{SHARDS}"));
        }
    }
}

#[test]
fn what_comes_for_hundreds_of_shards_after_a_close_fails_as_closed() {
    let mut driven = Driven::new(&config(), 400);
    assert!(driven.turn().is_none());
    driven.core.handle_close(driven.now);
    // No turn has told the core yet that there are no shards any more.
    let mut waiting: Vec<_> = (0..40).map(|shard| put(&mut driven, shard)).collect();
    driven.turn();
    for handle in &mut waiting {
        assert_eq!(end(handle).expect_err("closed").code(), &ErrorCode::Closed);
    }
}

#[test]
fn an_aggregates_partition_key_may_be_its_first_members() {
    let config = Config { outer_partition_key: OuterPartitionKey::FirstMember, ..config() };
    let mut driven = Driven::new(&config, 1);
    let _waiting = ["один", "two", "three"].map(|key| put_record(&mut driven, &Record::new(key, "data")));
    let transmit = send(&mut driven);
    let sent = entries(&transmit);
    assert_eq!((sent.len(), &*sent[0].key), (1, "один"));
    assert!(sent[0].data.starts_with(&[0xF3, 0x89, 0x9A, 0xC2]));
}

#[test]
fn a_failure_hands_its_record_back_if_that_is_wanted() {
    let config = Config { keep_failed_records: true, fail_if_throttled: true, ..config() };
    let mut driven = Driven::new(&config, 1);
    let mut waiting =
        [("a", "1"), ("b", "2"), ("a", "3")].map(|(key, data)| put_record(&mut driven, &Record::new(key, data)));
    let explicit = Record::new("c", "4").with_explicit_hash_key(HashKey(77));
    let mut explicit = put_record(&mut driven, &explicit);
    let transmit = send(&mut driven);
    refuse_records(&mut driven, &transmit, "ProvisionedThroughputExceededException");
    let back: Vec<_> = waiting
        .iter_mut()
        .map(|handle| {
            let failure = end(handle).expect_err("throttled");
            let record = failure.record().expect("kept");
            (record.partition_key.to_owned(), record.data.to_vec())
        })
        .collect();
    let put = [("a", "1"), ("b", "2"), ("a", "3")].map(|(key, data)| (key.to_owned(), data.as_bytes().to_vec()));
    assert_eq!(back, put);
    let failure = end(&mut explicit).expect_err("throttled");
    assert_eq!(failure.record().expect("kept").explicit_hash_key(), Some(HashKey(77)));
}

#[test]
fn a_failure_before_any_request_hands_its_record_back_too() {
    let config = Config { keep_failed_records: true, record_ttl: Duration::from_secs(1), ..config() };
    // Without a map, within a batch, and at the close.
    let mut driven = Driven::new(&config, 0);
    let mut waits = put_record(&mut driven, &Record::new("waits", "1"));
    driven.pass(Duration::from_secs(1) + TICK);
    driven.turn();
    let mut driven = Driven::new(&config, 1);
    let mut closed = put_record(&mut driven, &Record::new("closed", "2"));
    driven.core.handle_close(driven.now);
    for (handle, key) in [(&mut waits, "waits"), (&mut closed, "closed")] {
        let failure = end(handle).expect_err("it failed");
        assert_eq!(failure.record().expect("kept").partition_key, key);
    }
    let mut driven = Driven::new(&Config { keep_failed_records: false, ..config }, 1);
    let mut handle = put_record(&mut driven, &Record::new("key", "3"));
    driven.core.handle_close(driven.now);
    assert!(end(&mut handle).expect_err("closed").record().is_none());
}

#[test]
fn attempts_tell_when_they_began_and_ended() {
    let mut driven = Driven::new(&config(), 1);
    let mut handle = put(&mut driven, 0);
    let transmit = send(&mut driven);
    let began = driven.now;
    driven.pass(Duration::from_millis(30));
    store(&mut driven, &transmit);
    let delivered = end(&mut handle).expect("delivered");
    let [attempt] = delivered.attempts() else { panic!("one attempt") };
    assert_eq!((attempt.began, attempt.ended.since(began)), (began, Duration::from_millis(30)));
    assert!(matches!(attempt.result, AttemptResult::Stored { .. }));
}
