//! Streams whose records the service distributes itself (AUTO): how a core suspects it, and what it sends then.

use std::time::Duration;

use kpl::config::{Config, RateLimit, RecordDistribution, ShardMapPolicy};
use kpl::engine::Transmit;
use kpl::limits::AGGREGATE_MAGIC;
use kpl::outcome::ErrorCode;
use kpl::record::{HashKey, Record, StreamId};

use super::driven::{Driven, even_map};
use super::hand::*;

const SHARDS: usize = 4;

/// A core that knows that the service distributes records over [`SHARDS`] shards.
fn managed(config: &Config) -> Driven {
    let mut driven = Driven::new(config, SHARDS);
    manage(&mut driven, 2);
    driven
}

fn manage(driven: &mut Driven, epoch: u64) {
    driven.adopt(even_map(epoch, SHARDS).with_service_managed(true));
}

fn shard(number: usize) -> String {
    format!("shardId-{number}-of-{SHARDS}")
}

fn puts(driven: &mut Driven, shard: usize, count: usize) -> Vec<Waiting> {
    (0..count).map(|_| put(driven, shard)).collect()
}

fn counts(transmit: &Transmit) -> (usize, usize) {
    (transmit.kinesis_records, transmit.user_records)
}

#[test]
fn records_go_one_by_one_without_a_hash_key_and_are_delivered_wherever_they_lie() {
    let mut driven = managed(&config());
    let mut waiting: Vec<_> = (0..SHARDS).flat_map(|shard| puts(&mut driven, shard, 5)).collect();
    let transmit = send(&mut driven);
    assert_eq!(counts(&transmit), (20, 20), "in one request, none aggregated");
    assert!(entries(&transmit).iter().all(|entry| entry.key == "key" && entry.hash.is_none()));
    store_in(&mut driven, &transmit, &shard(3));
    for handle in &mut waiting {
        let delivered = end(handle).expect("anywhere is right");
        assert_eq!((delivered.shard_id(), delivered.attempts().len()), (&*shard(3), 1));
    }
    assert_eq!((driven.core.poll_map_wanted(), driven.core.poll_suspected()), (None, None), "nothing is amiss");
}

#[test]
fn one_record_outside_of_its_shard_arouses_suspicion() {
    let mut driven = Driven::new(&Config { aggregation_enabled: false, ..config() }, SHARDS);
    let mut waiting = put(&mut driven, 0);
    let transmit = send(&mut driven);
    store_in(&mut driven, &transmit, &shard(2));
    assert!(end(&mut waiting).is_ok(), "a single record is delivered all the same");
    assert_eq!(driven.core.poll_suspected(), Some(StreamId(0)));
    assert_eq!(driven.core.poll_suspected(), None, "once");
}

#[test]
fn a_reshard_arouses_no_suspicion() {
    let mut driven = Driven::new(&config(), SHARDS);
    let mut waiting = puts(&mut driven, 0, 2);
    waiting.extend(puts(&mut driven, 3, 2));
    let transmit = send(&mut driven);
    // The range of shard 0 of 4 lies in that of shard 0 of 2, and half of it in that of shard 0 of 8.
    driven.remap(2, 2);
    let answer = |transmit: &Transmit, lower: &str, upper: &str| {
        let shards = entries(transmit).into_iter().map(|entry| if entry.hash < Some(1 << 127) { lower } else { upper });
        let stored =
            |shard: &str| kpl::codec::EntryResult::Stored { shard_id: shard.into(), sequence_number: "49".into() };
        shards.map(stored).collect()
    };
    let stored = answer(&transmit, "shardId-0-of-2", "shardId-1-of-2");
    driven.answer(transmit.request, stored);
    assert!(waiting.iter_mut().all(|handle| end(handle).is_ok()), "merged, and every member belongs there");
    // Split: the first member belongs there, another may not.
    let low = put_at(&mut driven, 1000);
    let high = put_at(&mut driven, u128::MAX / 4 + 1000);
    let transmit = send(&mut driven);
    driven.remap(3, 8);
    store_in(&mut driven, &transmit, "shardId-0-of-8");
    assert_eq!(driven.core.poll_suspected(), None);
    assert!([low, high].iter_mut().all(|handle| outcome(handle).is_none()), "they wait for a map that decides");
}

fn put_at(driven: &mut Driven, hash: u128) -> Waiting {
    put_record(driven, &Record::new("key", "data").with_explicit_hash_key(HashKey(hash)))
}

#[test]
fn a_misplaced_aggregate_waits_and_goes_singly_when_the_map_says_so() {
    let mut driven = Driven::new(&config(), SHARDS);
    let mut waiting = puts(&mut driven, 0, 3);
    let transmit = send(&mut driven);
    assert_eq!(counts(&transmit), (1, 3));
    store_in(&mut driven, &transmit, &shard(2));
    assert_eq!(driven.core.poll_suspected(), Some(StreamId(0)));
    assert!(waiting.iter_mut().all(|handle| outcome(handle).is_none()), "consumers drop it");
    driven.pass(LINGER);
    assert!(driven.turn().is_none());
    manage(&mut driven, 2);
    let transmit = driven.turn().expect("they are overdue");
    assert_eq!(counts(&transmit), (3, 3));
    store_in(&mut driven, &transmit, &shard(1));
    for handle in &mut waiting {
        let delivered = end(handle).expect("by itself it lies well anywhere");
        assert_eq!(failed(delivered.attempts()), [("Wrong Shard".to_owned(), true)]);
    }
}

#[test]
fn an_aggregate_under_way_when_the_map_comes_is_judged_and_sent_singly_if_need_be() {
    for (stored, right) in [(shard(0), true), (shard(1), false), ("shardId-unheard-of".to_owned(), false)] {
        let mut driven = Driven::new(&config(), SHARDS);
        let mut waiting = puts(&mut driven, 0, 2);
        let transmit = send(&mut driven);
        manage(&mut driven, 2);
        store_in(&mut driven, &transmit, &stored);
        if !right {
            let transmit = driven.turn().expect("at once");
            assert_eq!(counts(&transmit), (2, 2), "{stored}");
            store_in(&mut driven, &transmit, &shard(3));
        }
        for handle in &mut waiting {
            let delivered = end(handle).expect("it is where consumers show it");
            assert_eq!(delivered.shard_id(), if right { shard(0) } else { shard(3) });
            assert_eq!(delivered.attempts().len(), if right { 1 } else { 2 });
        }
        assert_eq!(driven.core.poll_suspected(), None, "it is known");
    }
}

#[test]
fn what_is_open_queued_or_to_be_retried_is_taken_apart_and_put_together_again() {
    let mut driven = Driven::new(&Config { retry_base_delay: Duration::from_millis(50), ..config() }, SHARDS);
    let mut retried = puts(&mut driven, 0, 2);
    let transmit = send(&mut driven);
    refuse_records(&mut driven, &transmit, "InternalFailure");
    let mut open = puts(&mut driven, 1, 2);
    manage(&mut driven, 2);
    let transmit = send(&mut driven);
    assert_eq!(counts(&transmit), (4, 4), "each by itself");
    refuse_records(&mut driven, &transmit, "InternalFailure");
    driven.remap(3, SHARDS);
    let (transmit, _) = send_later(&mut driven);
    assert_eq!(counts(&transmit), (2, 4), "an aggregate for each shard");
    assert!(entries(&transmit).iter().all(|entry| entry.hash.is_some()));
    store(&mut driven, &transmit);
    assert!(retried.iter_mut().chain(&mut open).all(|handle| end(handle).is_ok()));
}

#[test]
fn what_was_sent_without_its_hash_key_is_no_evidence_when_hash_keys_decide_again() {
    let mut driven = managed(&config());
    let mut waiting = put(&mut driven, 0);
    let transmit = send(&mut driven);
    driven.pass(Duration::from_millis(1));
    driven.remap(3, SHARDS);
    store_in(&mut driven, &transmit, &shard(2));
    assert!(end(&mut waiting).is_ok());
    assert_eq!(driven.core.poll_suspected(), None);
    let _later = put(&mut driven, 0);
    let transmit = send(&mut driven);
    store_in(&mut driven, &transmit, &shard(2));
    assert_eq!(driven.core.poll_suspected(), Some(StreamId(0)), "what was sent with it is");
}

#[test]
fn the_rate_limit_holds_for_the_stream_as_a_whole() {
    // 4 shards of 10 records a second each, and as many at once.
    let config = Config { rate_limit: RateLimit::Percent(1), ..config() };
    let mut driven = managed(&config);
    let _waiting = puts(&mut driven, 0, 60);
    let transmit = send(&mut driven);
    assert_eq!(transmit.kinesis_records, 40, "of one key, and all the same what four shards take");
    store_in(&mut driven, &transmit, &shard(0));
    assert!(driven.turn().is_none());
    driven.pass(Duration::from_millis(25) + TICK);
    let transmit = driven.turn().expect("a token has come");
    assert_eq!(transmit.kinesis_records, 1);
    // Under a map of two shards half as many come.
    store_in(&mut driven, &transmit, &shard(0));
    driven.adopt(even_map(3, 2).with_service_managed(true));
    driven.pass(Duration::from_millis(45));
    assert!(driven.turn().is_none());
    driven.pass(Duration::from_millis(5) + TICK);
    assert_eq!(driven.turn().expect("a token has come").kinesis_records, 1);
}

#[test]
fn a_throttled_record_backs_off_and_holds_up_no_other_range() {
    let mut driven = managed(&config());
    let mut throttled = put(&mut driven, 0);
    let transmit = send(&mut driven);
    refuse_records(&mut driven, &transmit, "ProvisionedThroughputExceededException");
    let mut other = put(&mut driven, 2);
    let transmit = send(&mut driven);
    store_in(&mut driven, &transmit, &shard(0));
    assert!(end(&mut other).is_ok());
    if outcome(&mut throttled).is_none() {
        let (transmit, _) = send_later(&mut driven);
        store_in(&mut driven, &transmit, &shard(0));
        assert!(end(&mut throttled).is_ok());
    }
}

#[test]
fn no_shard_s_part_of_a_request_is_bounded_where_nobody_knows_the_shard() {
    let mut driven = managed(&config());
    let data = vec![7; 100_000];
    let record = Record::new("key", &data);
    let _waiting: Vec<_> = (0..8).map(|_| put_record(&mut driven, &record)).collect();
    assert_eq!(send(&mut driven).kinesis_records, 8, "800 KB of one range");
}

#[test]
fn what_looks_like_an_aggregate_goes_raw_and_what_is_one_is_wrapped_until_it_lies_well() {
    let fake = [&AGGREGATE_MAGIC[..], b"but no digest, for all its length"].concat();
    let mut driven = managed(&config());
    let mut raw = put_record(&mut driven, &Record::new("key", &fake));
    let transmit = send(&mut driven);
    assert_eq!(entries(&transmit)[0].data, fake, "consumers take it for what it is");
    store_in(&mut driven, &transmit, &shard(2));
    assert!(end(&mut raw).is_ok());

    let genuine = aggregate();
    let mut wrapped = put_record(&mut driven, &Record::new("key", &genuine).with_explicit_hash_key(HashKey(1000)));
    for attempt in 1..=3 {
        let (transmit, _) = send_later(&mut driven);
        let sent = entries(&transmit);
        assert!(sent[0].data.len() > genuine.len() && sent[0].hash == Some(1000), "wrapped: {sent:?}");
        assert!(outcome(&mut wrapped).is_none());
        store_in(&mut driven, &transmit, &shard(if attempt < 3 { attempt } else { 0 }));
    }
    let delivered = end(&mut wrapped).expect("consumers show it there");
    assert_eq!(failed(delivered.attempts()).len(), 2, "{delivered:?}");
}

/// What the library itself writes of two records, as some other producer's payload.
fn aggregate() -> Vec<u8> {
    let mut other = Driven::new(&config(), 1);
    let _waiting = puts(&mut other, 0, 2);
    entries(&send(&mut other)).remove(0).data
}

#[test]
fn an_ordered_stream_is_refused_until_hash_keys_decide_again() {
    let mut driven = Driven::new(&Config { ordered: true, ..config() }, SHARDS);
    let (mut open, mut under_way) = (put(&mut driven, 0), put(&mut driven, 1));
    let transmit = send(&mut driven);
    assert!(transmit.kinesis_records >= 1);
    let mut later = put(&mut driven, 2);
    manage(&mut driven, 2);
    refuse_records(&mut driven, &transmit, "InternalFailure");
    let mut new = put(&mut driven, 0);
    driven.remap(1, SHARDS);
    for handle in [&mut open, &mut under_way, &mut later, &mut new] {
        let failure = end(handle).expect_err("no order can be kept");
        assert_eq!(*failure.code(), ErrorCode::StreamUnavailable);
        assert!(failure.message().contains("`ordered`") && failure.message().contains("AUTO"), "{failure}");
    }
    driven.remap(3, SHARDS);
    assert!(driven.turn().is_none(), "the map before has its end first");
    let mut again = put(&mut driven, 0);
    let transmit = send(&mut driven);
    store(&mut driven, &transmit);
    assert!(end(&mut again).is_ok());
}

#[test]
fn what_is_configured_is_neither_found_out_nor_suspected() {
    let with = |record_distribution| Config { record_distribution, ..config() };
    let mut driven = Driven::new(&with(RecordDistribution::UserKey), SHARDS);
    manage(&mut driven, 2);
    let _waiting = puts(&mut driven, 0, 2);
    let transmit = send(&mut driven);
    assert_eq!(counts(&transmit), (1, 2), "whatever a map says");
    store_in(&mut driven, &transmit, &shard(2));
    assert_eq!(driven.core.poll_suspected(), None);

    let mut driven = Driven::new(&with(RecordDistribution::Auto), SHARDS);
    let mut waiting = puts(&mut driven, 0, 2);
    let transmit = send(&mut driven);
    assert_eq!(counts(&transmit), (2, 2), "from the first map on");
    assert!(entries(&transmit).iter().all(|entry| entry.hash.is_none()));
    store_in(&mut driven, &transmit, &shard(2));
    assert!(waiting.iter_mut().all(|handle| end(handle).is_ok()));
    assert_eq!(driven.core.poll_suspected(), None);
}

#[test]
fn with_auto_and_without_a_map_records_leave_and_stay_what_they_are_when_it_comes() {
    let config = Config {
        record_distribution: RecordDistribution::Auto,
        shard_map: ShardMapPolicy::Degrade { after: Duration::ZERO },
        ..config()
    };
    let mut driven = Driven::new(&config, 0);
    let mut waiting = vec![put_record(&mut driven, &Record::new("key", "data"))];
    driven.pass(TICK);
    driven.core.turn(driven.now);
    driven.remap(1, SHARDS);
    waiting.push(put_record(&mut driven, &Record::new("key", "data")));
    let transmit = send(&mut driven);
    assert_eq!(counts(&transmit), (2, 2));
    assert!(entries(&transmit).iter().all(|entry| entry.hash.is_none()));
    store_in(&mut driven, &transmit, &shard(2));
    assert!(waiting.iter_mut().all(|handle| end(handle).is_ok()));
}
