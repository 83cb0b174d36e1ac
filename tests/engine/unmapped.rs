//! Streams whose shards are not known: what each policy makes of their records.

use std::sync::Arc;
use std::time::Duration;

use kpl::config::{Config, RateLimit, ShardMapPolicy};
use kpl::limits::CONNECTION_WAIT;
use kpl::outcome::ErrorCode;
use kpl::record::{HashKey, Record, StreamId};

use super::driven::Driven;
use super::hand::*;

const AFTER: Duration = Duration::from_secs(5);

fn with(shard_map: ShardMapPolicy) -> Config {
    Config { shard_map, ..config() }
}

fn degrading() -> Config {
    with(ShardMapPolicy::Degrade { after: AFTER })
}

#[test]
fn without_a_map_records_are_sent_one_by_one_after_a_while() {
    let mut driven = Driven::new(&degrading(), 0);
    let mut waiting: Vec<_> = (0..10).map(|number| put_record(&mut driven, &keyed(number))).collect();
    driven.pass(AFTER - Duration::from_millis(1));
    assert!(driven.turn().is_none(), "they wait for the map");
    assert_eq!(driven.core.poll_unmapped(), None);
    driven.pass(Duration::from_millis(1) + TICK);
    let transmit = driven.turn().expect("now without");
    assert_eq!(driven.core.poll_unmapped(), Some(StreamId(0)), "somebody is to be warned");
    assert_eq!(driven.core.poll_unmapped(), None, "once");
    assert_eq!(driven.core.poll_map_wanted(), Some(StreamId(0)), "it is still wanted");
    assert!(transmit.is_unmapped());
    assert_eq!((transmit.kinesis_records, transmit.user_records), (10, 10), "in one request, none aggregated");
    let sent = entries(&transmit);
    assert!(sent.iter().all(|entry| entry.key.starts_with("key-") && entry.hash.is_some()));
    store_in(&mut driven, &transmit, "shardId-somewhere");
    for handle in &mut waiting {
        assert_eq!(end(handle).expect("the service places it rightly").shard_id(), "shardId-somewhere");
    }
}

fn keyed(number: usize) -> Record<'static> {
    const KEYS: [&str; 10] = ["key-0", "key-1", "key-2", "key-3", "key-4", "key-5", "key-6", "key-7", "key-8", "key-9"];
    Record::new(KEYS[number], "data")
}

#[test]
fn later_records_of_such_a_stream_do_not_wait_and_a_map_ends_it() {
    let mut driven = Driven::new(&degrading(), 0);
    let _first = put_record(&mut driven, &keyed(0));
    driven.pass(AFTER + TICK);
    driven.turn().expect("without a map");
    let _later = [put_record(&mut driven, &keyed(1)), put_record(&mut driven, &keyed(2))];
    // The first request has the connection still.
    driven.pass(LINGER + CONNECTION_WAIT);
    let transmit = driven.turn_all().pop().expect("on a further connection");
    assert_eq!((transmit.kinesis_records, transmit.is_unmapped()), (2, true));
    // What fails is sent by the map that has come meanwhile.
    let _open = put_record(&mut driven, &keyed(3));
    driven.remap(1, 1);
    refuse_records(&mut driven, &transmit, "InternalFailure");
    let (transmit, _) = send_later(&mut driven);
    assert!(!transmit.is_unmapped());
    assert_eq!((transmit.kinesis_records, transmit.user_records), (1, 3), "aggregated again");
}

#[test]
fn what_is_sent_without_a_map_knows_no_rate_limit() {
    let config = Config { rate_limit: RateLimit::Percent(1), ..degrading() };
    let mut driven = Driven::new(&config, 0);
    let _waiting: Vec<_> = (0..100).map(|_| put_record(&mut driven, &keyed(0))).collect();
    driven.pass(AFTER + TICK);
    assert_eq!(driven.turn().expect("all of them").kinesis_records, 100, "1 % would be ten a second");
}

#[test]
fn a_throttled_range_without_a_map_does_not_hold_up_the_others() {
    let mut driven = Driven::new(&with(ShardMapPolicy::Unknown), 0);
    let put_at = |driven: &mut Driven, hundredths: u128| {
        let hash = HashKey(u128::MAX / 100 * hundredths);
        put_record(driven, &Record::new("key", "data").with_explicit_hash_key(hash))
    };
    let _throttled = put_at(&mut driven, 10);
    let transmit = send(&mut driven);
    refuse_records(&mut driven, &transmit, "ProvisionedThroughputExceededException");
    let mut other = put_at(&mut driven, 90);
    let transmit = send(&mut driven);
    assert!(entries(&transmit).iter().any(|entry| entry.hash > Some(u128::MAX / 2)));
    store_in(&mut driven, &transmit, "shardId-somewhere");
    assert!(end(&mut other).is_ok());
}

#[test]
fn a_record_that_looks_like_an_aggregate_is_wrapped_also_without_a_map() {
    let mut driven = Driven::new(&with(ShardMapPolicy::Unknown), 0);
    let data = [&[0xF3, 0x89, 0x9A, 0xC2][..], b"not an aggregate"].concat();
    let mut handle = put_record(&mut driven, &Record::new("key", &data));
    let transmit = send(&mut driven);
    let sent = entries(&transmit);
    assert!(sent[0].key == "a" && sent[0].data.len() > data.len() + 16, "{sent:?}");
    store_in(&mut driven, &transmit, "shardId-somewhere");
    assert!(end(&mut handle).is_ok(), "one record is placed rightly, wrapped or not");
}

#[test]
fn with_required_records_wait_to_their_ttl() {
    let mut driven = Driven::new(&with(ShardMapPolicy::Required), 0);
    let mut handle = put_record(&mut driven, &keyed(0));
    driven.core.handle_map_failed(StreamId(0), "the control plane is down");
    driven.pass(TTL - Duration::from_millis(1));
    assert!(driven.turn().is_none() && outcome(&mut handle).is_none());
    driven.pass(Duration::from_millis(1) + TICK);
    driven.turn();
    let failure = end(&mut handle).expect_err("no map");
    assert_eq!(*failure.code(), ErrorCode::Expired);
    assert!(failure.message().contains("the control plane is down"), "{failure}");
}

#[test]
fn with_unknown_nobody_asks_for_the_shards_and_nothing_waits() {
    let mut driven = Driven::new(&with(ShardMapPolicy::Unknown), 0);
    let mut waiting = [put_record(&mut driven, &keyed(0)), put_record(&mut driven, &keyed(0))];
    let transmit = send(&mut driven);
    assert_eq!((transmit.kinesis_records, transmit.user_records), (2, 2), "not aggregated");
    store_in(&mut driven, &transmit, "shardId-somewhere");
    assert!(waiting.iter_mut().all(|handle| end(handle).is_ok()));
    driven.turn();
    assert_eq!((driven.core.poll_map_wanted(), driven.core.poll_unmapped()), (None, None));
}

#[test]
fn where_the_listing_is_refused_records_fail_and_are_not_sent_in_silence() {
    let refuse_listing = |driven: &mut Driven| driven.core.handle_map_refused(StreamId(0), "AccessDenied: no");
    // Before and after it has come to that.
    for waits in [Duration::from_secs(1), AFTER + TICK] {
        let mut driven = Driven::new(&degrading(), 0);
        let mut handle = put_record(&mut driven, &keyed(0));
        driven.pass(waits);
        // Whether or not a request was due: nobody has taken it.
        driven.core.turn(driven.now);
        refuse_listing(&mut driven);
        let failure = end(&mut handle).expect_err("refused");
        assert_eq!(*failure.code(), ErrorCode::StreamUnavailable);
        assert!(failure.message().contains("AccessDenied"), "{failure}");
        let mut later = put_record(&mut driven, &keyed(1));
        assert_eq!(*end(&mut later).expect_err("refused").code(), ErrorCode::StreamUnavailable);
        driven.pass(AFTER + TICK);
        assert!(driven.turn().is_none(), "it stays so");
        driven.remap(1, 1);
        let mut again = put_record(&mut driven, &keyed(2));
        let transmit = send(&mut driven);
        store(&mut driven, &transmit);
        assert!(end(&mut again).is_ok(), "until somebody grants it");
    }
}

#[test]
fn what_was_sent_without_a_map_before_the_refusal_keeps_its_end() {
    let mut driven = Driven::new(&degrading(), 0);
    let (mut stored, mut failed) = (put_record(&mut driven, &keyed(0)), put_record(&mut driven, &keyed(1)));
    driven.pass(AFTER + TICK);
    let transmit = driven.turn().expect("both");
    driven.core.handle_map_refused(StreamId(0), "AccessDenied: no");
    let stored_there =
        |shard: &str| kpl::codec::EntryResult::Stored { shard_id: Arc::from(shard), sequence_number: Arc::from("49") };
    let failure = kpl::codec::EntryResult::Failed { code: "InternalFailure".into(), message: "".into() };
    let sent = entries(&transmit);
    let results = sent.iter().map(|entry| if entry.key == "key-0" { stored_there("s") } else { failure.clone() });
    let results = results.collect();
    driven.answer(transmit.request, results);
    assert!(end(&mut stored).is_ok());
    assert_eq!(*end(&mut failed).expect_err("no second try").code(), ErrorCode::StreamUnavailable);
}
