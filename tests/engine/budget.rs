//! What the engine does with the budget: records of a shard that holds too much of it are refused, and under pressure
//! nothing waits for company.

use std::sync::Arc;
use std::time::Duration;

use kpl::codec::EntryResult;
use kpl::config::{Config, RateLimit};
use kpl::outcome::{ErrorCode, Settlement};
use kpl::record::Record;
use kpl::ring::Handle;

use super::driven::Driven;
use super::hand::{outcome, put, put_record};

/// Ten records, of which one shard may hold half.
fn half_for_a_shard() -> Config {
    Config {
        rate_limit: RateLimit::Off,
        max_outstanding_records: 10,
        shard_backlog_max: Some(50),
        record_max_buffered_time: Duration::from_secs(3600),
        record_ttl: Duration::from_secs(7200),
        max_connections_per_core: 1,
        ..Config::default()
    }
}

fn is_throttled(handle: &mut Handle<Arc<Settlement>>) -> bool {
    match outcome(handle) {
        Some(Err(failure)) => {
            assert_eq!(*failure.code(), ErrorCode::Throttled, "{failure}");
            assert!(failure.attempts().is_empty() && !failure.may_be_stored());
            true
        }
        Some(Ok(_)) => panic!("delivered"),
        None => false,
    }
}

#[test]
fn a_shard_that_holds_its_part_of_the_budget_refuses_newer_records_and_others_take_them() {
    let mut driven = Driven::new(&half_for_a_shard(), 2);
    let mut held: Vec<_> = (0..5).map(|_| put(&mut driven, 0)).collect();
    let mut refused = put(&mut driven, 0);
    assert!(is_throttled(&mut refused));
    assert!(!held.iter_mut().any(is_throttled));
    let mut others: Vec<_> = (0..5).map(|_| put(&mut driven, 1)).collect();
    assert!(!others.iter_mut().any(is_throttled));
    assert_eq!(driven.core.released().failed, 1, "its credit is returned");
}

#[test]
fn what_is_settled_makes_room_for_newer_records_of_the_shard() {
    let mut driven = Driven::new(&half_for_a_shard(), 2);
    let mut held: Vec<_> = (0..5).map(|_| put(&mut driven, 0)).collect();
    driven.core.handle_pressure(true);
    let transmit = driven.turn().expect("pressed");
    assert!(is_throttled(&mut put(&mut driven, 0)), "what is under way is held too");
    let entries = driven.all_stored(&transmit);
    driven.answer(transmit.request, entries);
    assert!(held.iter_mut().all(|handle| matches!(outcome(handle), Some(Ok(_)))));
    let mut newer: Vec<_> = (0..5).map(|_| put(&mut driven, 0)).collect();
    assert!(!newer.iter_mut().any(is_throttled));
    assert!(is_throttled(&mut put(&mut driven, 0)));
}

#[test]
fn what_expires_makes_room_for_newer_records_of_the_shard() {
    let config = Config { record_max_buffered_time: Duration::from_millis(10), ..half_for_a_shard() };
    let config = Config { record_ttl: Duration::from_secs(1), max_connections_per_core: 1, ..config };
    let mut driven = Driven::new(&config, 2);
    // Somebody else has the connection, so that the shard's records stay.
    let mut other = put(&mut driven, 1);
    driven.pass(Duration::from_millis(10));
    let _under_way = driven.turn().expect("it has lingered");
    // One batch, of which a part expires and the rest goes on.
    let mut early: Vec<_> = (0..2).map(|_| put(&mut driven, 0)).collect();
    driven.pass(Duration::from_millis(5));
    let mut late: Vec<_> = (0..3).map(|_| put(&mut driven, 0)).collect();
    assert!(is_throttled(&mut put(&mut driven, 0)));
    driven.pass(Duration::from_millis(10));
    assert!(driven.turn().is_none(), "it is sealed, and has no connection");
    driven.pass(Duration::from_millis(987));
    assert!(driven.turn().is_none());
    assert!(early.iter_mut().all(|handle| matches!(outcome(handle), Some(Err(_)))));
    assert!(outcome(&mut other).is_none() && !late.iter_mut().any(is_throttled));
    let mut newer: Vec<_> = (0..2).map(|_| put(&mut driven, 0)).collect();
    assert!(!newer.iter_mut().any(is_throttled));
    assert!(is_throttled(&mut put(&mut driven, 0)));
}

#[test]
fn what_a_newer_map_brings_to_a_shard_is_never_refused() {
    let mut driven = Driven::new(&half_for_a_shard(), 2);
    let mut held: Vec<_> = (0..5).flat_map(|_| [0, 1]).map(|shard| put(&mut driven, shard)).collect();
    driven.remap(2, 1);
    assert!(!held.iter_mut().any(is_throttled), "all ten are in one shard, and stay");
    assert!(is_throttled(&mut put(&mut driven, 0)));
    driven.core.handle_pressure(true);
    let transmit = driven.turn().expect("pressed");
    let entries = driven.all_stored(&transmit);
    driven.answer(transmit.request, entries);
    assert!(held.iter_mut().all(|handle| matches!(outcome(handle), Some(Ok(_)))));
    assert!(!is_throttled(&mut put(&mut driven, 0)));
}

#[test]
fn records_that_waited_for_the_first_map_are_bounded_when_it_comes() {
    let mut driven = Driven::new(&half_for_a_shard(), 0);
    let mut waiting: Vec<_> = (0..7).map(|_| put_record(&mut driven, &Record::new("key", "data"))).collect();
    assert!(!waiting.iter_mut().any(is_throttled));
    driven.remap(1, 1);
    let refused: Vec<bool> = waiting.iter_mut().map(is_throttled).collect();
    assert_eq!(refused, [false, false, false, false, false, true, true], "the newer ones");
}

#[test]
fn while_one_shard_is_dead_the_others_deliver() {
    let mut driven = Driven::new(&half_for_a_shard(), 3);
    let (mut outstanding, mut live, mut dead) = (0u64, Vec::new(), Vec::new());
    let (mut throttled, mut full) = (0, 0);
    for round in 0..300 {
        // Everybody puts as much as the budget takes, the dead shard's callers first.
        for shard in [0, 0, 0, 1, 2] {
            if outstanding == 10 {
                full += 1;
                continue;
            }
            outstanding += 1;
            let handle = put(&mut driven, shard);
            if shard == 0 { dead.push(handle) } else { live.push(handle) }
        }
        driven.core.handle_pressure(outstanding >= 8);
        driven.pass(Duration::from_millis(100));
        for transmit in driven.turn_all() {
            let mut entries = driven.all_stored(&transmit);
            for entry in &mut entries {
                if matches!(entry, EntryResult::Stored { shard_id, .. } if **shard_id == *"shardId-0-of-3") {
                    let code = "ProvisionedThroughputExceededException".into();
                    *entry = EntryResult::Failed { code, message: "".into() };
                }
            }
            driven.answer(transmit.request, entries);
        }
        outstanding -= driven.core.released().records;
        let before = dead.len();
        dead.retain_mut(|handle| !is_throttled(handle));
        throttled += before - dead.len();
        assert!(dead.len() <= 5, "in round {round} the dead shard holds {}", dead.len());
    }
    let delivered = live.iter_mut().filter_map(outcome).filter(Result::is_ok).count();
    assert!(throttled > 100 && full == 0, "{throttled} refused, {full} puts found no credit");
    assert!(delivered >= 590, "{delivered} of 600 delivered");
}

#[test]
fn without_a_bound_one_shard_may_hold_everything() {
    let mut driven = Driven::new(&Config { shard_backlog_max: None, ..half_for_a_shard() }, 2);
    let mut held: Vec<_> = (0..10).map(|_| put(&mut driven, 0)).collect();
    assert!(!held.iter_mut().any(is_throttled));
}

#[test]
fn under_pressure_an_open_aggregate_leaves_at_once() {
    let mut driven = Driven::new(&half_for_a_shard(), 2);
    let _held = [put(&mut driven, 0), put(&mut driven, 1)];
    assert!(driven.turn().is_none(), "it lingers for an hour");
    driven.core.handle_pressure(true);
    let transmit = driven.turn().expect("both, in one request");
    assert_eq!((transmit.kinesis_records, transmit.user_records), (2, 2));
}

#[test]
fn under_pressure_what_is_queued_does_not_wait_for_companions() {
    let config = Config { aggregation_enabled: false, ..half_for_a_shard() };
    let mut driven = Driven::new(&config, 2);
    let _held = [put(&mut driven, 0), put(&mut driven, 0), put(&mut driven, 1)];
    assert!(driven.turn().is_none(), "it is sealed, and waits for companions for an hour");
    driven.core.handle_pressure(true);
    let transmit = driven.turn().expect("all, in one request");
    assert_eq!(transmit.kinesis_records, 3);
}

#[test]
fn under_pressure_a_shard_with_records_under_way_is_not_sealed_until_those_are_settled() {
    let mut driven = Driven::new(&half_for_a_shard(), 1);
    let _first = put(&mut driven, 0);
    driven.core.handle_pressure(true);
    let first = driven.turn().expect("it was open");
    let _others = [put(&mut driven, 0), put(&mut driven, 0)];
    assert!(driven.turn().is_none());
    let entries = driven.all_stored(&first);
    driven.answer(first.request, entries);
    let second = driven.turn().expect("the rest, in one aggregate");
    assert_eq!((second.kinesis_records, second.user_records), (1, 2));
}

/// The promise of all this: whatever is open or lingers, with callers that wait for credit everything is soon settled.
#[test]
fn a_full_producer_empties_itself_without_waiting_for_a_deadline() {
    for (aggregation_enabled, shards, max_count) in [(true, 1, 3), (true, 7, usize::MAX), (false, 3, 1)] {
        let config = Config {
            aggregation_enabled,
            aggregation_max_count: max_count.min(u32::MAX as usize),
            max_outstanding_records: 100,
            shard_backlog_max: None,
            ..half_for_a_shard()
        };
        let mut driven = Driven::new(&config, shards);
        let mut held: Vec<_> = (0..100).map(|number| put(&mut driven, number % shards)).collect();
        driven.core.handle_pressure(true);
        // Time stands still but for what a further connection may have to wait.
        for _ in 0..100 {
            for transmit in driven.turn_all() {
                let entries = driven.all_stored(&transmit);
                driven.answer(transmit.request, entries);
            }
        }
        let open = held.iter_mut().filter_map(|handle| outcome(handle).is_none().then_some(())).count();
        assert_eq!(open, 0, "{shards} shards, aggregation {aggregation_enabled}");
    }
}
