//! Where the service has stored an aggregate, and whether consumers will see it there.

use std::time::Duration;

use kpl::config::Config;
use kpl::engine::{ShardInfo, ShardMap};
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
    assert_eq!(driven.core.poll_map_wanted(), None, "the map is newer than the request");
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

#[test]
fn a_misplaced_aggregate_whose_shard_is_still_there_waits_for_a_newer_map_and_keeps_its_place() {
    let mut driven = Driven::new(&config(), 2);
    let mut older = [put_at(&mut driven, 10), put_at(&mut driven, 20)];
    let transmit = send(&mut driven);
    let mut younger = put_at(&mut driven, 30);
    store_in(&mut driven, &transmit, "shardId-1-of-2");
    assert_eq!(driven.core.poll_map_wanted(), Some(StreamId(0)));
    driven.remap(2, 2);
    let (transmit, _) = send_later(&mut driven);
    assert!(entries(&transmit)[0].data.len() > "data".len(), "the aggregate leads");
    store(&mut driven, &transmit);
    let (transmit, _) = send_later(&mut driven);
    store(&mut driven, &transmit);
    for handle in older.iter_mut().chain([&mut younger]) {
        assert!(end(handle).is_ok());
    }
}

/// A map of even shards with the ids of a stream that began with them: those of one made anew are the same.
fn numbered(epoch: u64, shards: usize) -> ShardMap {
    let width = u128::MAX / shards as u128;
    let infos = (0..shards).map(|number| ShardInfo {
        id: format!("shardId-{number:012}").into(),
        first: HashKey(width * number as u128),
        last: HashKey(if number + 1 == shards { u128::MAX } else { width * (number as u128 + 1) - 1 }),
        parents: [None, None],
    });
    ShardMap::build(epoch, infos.collect(), 1, None).expect("even shards are a map")
}

#[test]
fn a_shard_of_the_same_id_in_a_stream_made_anew_is_another_one() {
    let mut driven = Driven::new(&config(), 0);
    driven.adopt(numbered(1, 2));
    let mut waiting = [put_at(&mut driven, 10), put_at(&mut driven, 40)];
    let transmit = send(&mut driven);
    // A stream of four shards now: the first one ends at a quarter.
    driven.adopt(numbered(2, 4));
    store_in(&mut driven, &transmit, "shardId-000000000000");
    assert!(waiting.iter_mut().all(|handle| outcome(handle).is_none()), "consumers drop it whole");
    let (transmit, _) = send_later(&mut driven);
    assert_eq!((transmit.kinesis_records, transmit.user_records), (2, 2));
    store(&mut driven, &transmit);
    for handle in &mut waiting {
        assert_eq!(failed(end(handle).expect("delivered").attempts()), [("Wrong Shard".to_owned(), true)]);
    }
}

#[test]
fn what_failed_in_a_stream_that_was_made_anew_is_routed_anew() {
    let mut driven = Driven::new(&config(), 0);
    driven.adopt(numbered(1, 2));
    let mut waiting = [put_at(&mut driven, 10), put_at(&mut driven, 40)];
    let transmit = send(&mut driven);
    driven.adopt(numbered(2, 4));
    lose(&mut driven, &transmit, ErrorCode::Timeout, true);
    let (transmit, _) = send_later(&mut driven);
    assert_eq!((transmit.kinesis_records, transmit.user_records), (2, 2));
    store(&mut driven, &transmit);
    assert!(waiting.iter_mut().all(|handle| end(handle).is_ok()));
}

#[test]
fn after_a_stream_was_missing_an_aggregate_is_judged_by_the_next_map_only() {
    for (shards, is_right, hears) in [(2, true, "records"), (4, false, "records"), (4, false, "listing")] {
        let mut driven = Driven::new(&config(), 0);
        driven.adopt(numbered(1, 2));
        let mut waiting = [put_at(&mut driven, 10), put_at(&mut driven, 40)];
        let transmit = send(&mut driven);
        // Either the records or their listing learns of it.
        match hears {
            "records" => refuse(&mut driven, &transmit, 400, "ResourceNotFoundException", "Stream stream not found."),
            _ => driven.core.handle_stream_missing(StreamId(0)),
        }
        let transmit = if hears == "records" { send_later(&mut driven).0 } else { transmit };
        store_in(&mut driven, &transmit, "shardId-000000000000");
        assert!(waiting.iter_mut().all(|handle| outcome(handle).is_none()), "it may be another stream's shard");
        driven.adopt(numbered(2, shards));
        assert_eq!(waiting.iter_mut().all(|handle| outcome(handle).is_some()), is_right, "{shards} shards");
    }
}

#[test]
fn the_fate_of_what_was_sent_by_an_older_map_asks_for_no_further_map() {
    let mut driven = Driven::new(&config(), 2);
    let mut waiting = [put_at(&mut driven, 10), put_at(&mut driven, 60)];
    let transmit = send(&mut driven);
    driven.remap(2, 4);
    store(&mut driven, &transmit);
    assert!(waiting.iter_mut().all(|handle| end(handle).is_ok()));
    assert_eq!(driven.core.poll_map_wanted(), None);
}
