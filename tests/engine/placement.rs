//! Where the service has stored an aggregate, and whether consumers will see it there.

use std::time::Duration;

use kpl::config::Config;
use kpl::outcome::ErrorCode;
use kpl::record::{HashKey, Record, StreamId};

use super::driven::{Driven, even_map};
use super::hand::*;

/// Puts a record with this fraction of the hash space, in hundredths.
fn put_at(driven: &mut Driven, hundredths: u128) -> Waiting {
    let hash = HashKey(u128::MAX / 100 * hundredths);
    put_record(driven, &Record::new("key", "data").with_explicit_hash_key(hash))
}

#[test]
fn a_single_record_is_delivered_wherever_it_is_stored_and_a_surprise_refreshes_the_map() {
    let mut driven = Driven::new(&config(), 2);
    let mut handle = put(&mut driven, 0);
    let transmit = send(&mut driven);
    store_in(&mut driven, &transmit, "shardId-of-another-map");
    assert_eq!(end(&mut handle).expect("delivered").shard_id(), "shardId-of-another-map");
    assert_eq!(driven.core.poll_map_wanted(), Some(StreamId(0)));
}

#[test]
fn an_aggregate_on_another_shard_is_delivered_if_all_of_it_belongs_there() {
    let mut driven = Driven::new(&config(), 2);
    let mut waiting = [put_at(&mut driven, 10), put_at(&mut driven, 20)];
    let transmit = send(&mut driven);
    // Meanwhile the two shards have become one.
    driven.remap(2, 1);
    store(&mut driven, &transmit);
    for handle in &mut waiting {
        assert_eq!(end(handle).expect("delivered").shard_id(), "shardId-0-of-1");
    }
}

#[test]
fn an_aggregate_of_which_a_part_is_out_of_range_is_sent_again_whole_and_in_order() {
    let mut driven = Driven::new(&config(), 1);
    let mut waiting = [put_at(&mut driven, 10), put_at(&mut driven, 90), put_at(&mut driven, 20)];
    let transmit = send(&mut driven);
    assert_eq!(transmit.kinesis_records, 1);
    driven.remap(2, 2);
    store_in(&mut driven, &transmit, "shardId-0-of-2");
    assert!(waiting.iter_mut().all(|handle| outcome(handle).is_none()), "consumers drop it whole");
    assert_eq!(driven.core.poll_map_wanted(), Some(StreamId(0)), "the next map decides, as this may be the older");
    driven.remap(3, 2);
    let (transmit, _) = send_later(&mut driven);
    assert_eq!((transmit.kinesis_records, transmit.user_records), (2, 3), "each to its shard now");
    store(&mut driven, &transmit);
    for (handle, place) in waiting.iter_mut().zip([("shardId-0-of-2", 0), ("shardId-1-of-2", 0), ("shardId-0-of-2", 1)])
    {
        let delivered = end(handle).expect("delivered");
        assert_eq!((delivered.shard_id(), delivered.sub_sequence_number()), place);
        assert_eq!(failed(delivered.attempts()), [("Wrong Shard".to_owned(), true)]);
    }
}

#[test]
fn an_aggregate_on_an_unknown_shard_waits_for_a_map_that_knows_it() {
    let mut driven = Driven::new(&config(), 2);
    let mut waiting = [put_at(&mut driven, 10), put_at(&mut driven, 20)];
    let transmit = send(&mut driven);
    store_in(&mut driven, &transmit, "shardId-0-of-3");
    assert!(outcome(&mut waiting[0]).is_none());
    assert_eq!(driven.core.poll_map_wanted(), Some(StreamId(0)));
    driven.remap(2, 3);
    for handle in &mut waiting {
        let delivered = end(handle).expect("delivered");
        assert_eq!((delivered.shard_id(), delivered.attempts().len()), ("shardId-0-of-3", 1));
    }
}

#[test]
fn an_aggregate_on_a_shard_that_stays_unknown_fails_at_its_expiration_and_may_be_stored() {
    let mut driven = Driven::new(&Config { record_ttl: Duration::from_secs(2), ..config() }, 2);
    let mut waiting = [put_at(&mut driven, 10), put_at(&mut driven, 20)];
    let transmit = send(&mut driven);
    store_in(&mut driven, &transmit, "shardId-nobody-knows");
    driven.pass(Duration::from_secs(1));
    assert!(driven.turn().is_none(), "it is not sent again meanwhile");
    assert!(outcome(&mut waiting[0]).is_none());
    driven.pass(Duration::from_secs(1));
    driven.turn();
    for handle in &mut waiting {
        let failure = end(handle).expect_err("nobody knows");
        assert_eq!(*failure.code(), ErrorCode::UnverifiedShard);
        assert!(failure.may_be_stored() && failure.message().contains("shardId-nobody-knows"), "{failure}");
    }
}

#[test]
fn a_wrapped_record_is_judged_like_any_aggregate_where_the_shards_are_known() {
    let data = [&[0xF3, 0x89, 0x9A, 0xC2][..], b"not an aggregate"].concat();
    let mut driven = Driven::new(&config(), 2);
    let record = Record::new("key", &data).with_explicit_hash_key(HashKey(7));
    let mut handle = put_record(&mut driven, &record);
    let transmit = send(&mut driven);
    store_in(&mut driven, &transmit, "shardId-1-of-2");
    assert!(outcome(&mut handle).is_none(), "consumers of that shard drop it");
    driven.remap(2, 2);
    let (transmit, _) = send_later(&mut driven);
    store(&mut driven, &transmit);
    assert_eq!(failed(end(&mut handle).expect("delivered").attempts()), [("Wrong Shard".to_owned(), true)]);
}

#[test]
fn an_aggregate_on_a_shard_that_was_closed_meanwhile_is_judged_by_the_range_it_had() {
    for (first, last, is_right) in [(0, 30, true), (0, 15, false)] {
        let mut driven = Driven::new(&config(), 2);
        let mut waiting = [put_at(&mut driven, 10), put_at(&mut driven, 20)];
        let transmit = send(&mut driven);
        store_in(&mut driven, &transmit, "shardId-between");
        let range = (HashKey(u128::MAX / 100 * first), HashKey(u128::MAX / 100 * last));
        driven.adopt(even_map(2, 4).with_closed([("shardId-between".into(), range)]));
        assert_eq!(outcome(&mut waiting[0]).is_some(), is_right, "to {last}");
        if !is_right {
            let (transmit, _) = send_later(&mut driven);
            store(&mut driven, &transmit);
            assert_eq!(failed(end(&mut waiting[0]).expect("delivered").attempts()), [("Wrong Shard".to_owned(), true)]);
        }
    }
}
