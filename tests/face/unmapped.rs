//! Streams whose shards cannot be listed, or are not to be: their records are sent all the same; and records without a
//! key.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use endpoint::{Action, Endpoint, EndpointConfig};
use kpl::{ErrorCode, Record, ShardMapPolicy};

use super::reader::{Expected, assert_delivered, read};
use super::world::{LIMIT, builder, close, delivered, emulator, end, failed, hanging, ms, start};

/// An emulator of one stream that fails to list its shards until it is `healed`, and counts how often it was asked.
fn unlisted(healed: &Arc<AtomicBool>, asked: &Arc<AtomicU64>, refusal: Action) -> Endpoint {
    let (healed, asked) = (Arc::clone(healed), Arc::clone(asked));
    let mut config = EndpointConfig::emulator();
    config.script = Some(Box::new(move |request| match request.operation {
        "ListShards" => {
            // Partner: the load in a test, after what it asked for has ended.
            asked.fetch_add(1, Ordering::SeqCst);
            // Partner: the store in a test.
            if healed.load(Ordering::SeqCst) { Action::Pass } else { refusal.clone() }
        }
        _ => Action::Pass,
    }));
    start(&[("s", 3)], config)
}

fn unavailable() -> Action {
    Action::error(503, "ServiceUnavailable", "the control plane is down")
}

#[test]
fn records_are_delivered_without_a_shard_map_and_aggregated_when_it_comes() {
    let (healed, asked) = (Arc::default(), Arc::default());
    let endpoint = unlisted(&healed, &asked, unavailable());
    let policy = ShardMapPolicy::Degrade { after: ms(100) };
    let producer = builder(&endpoint.url()).shard_map(policy).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let mut put = |number: usize| {
        let (key, data) = (format!("key-{}", number % 20), format!("data {number}"));
        let outcome = submitter.put(&stream, Record::new(&key, &data)).expect("a put");
        (Expected { partition_key: key, explicit_hash_key: None, data: data.into_bytes() }, outcome)
    };
    let early: Vec<_> = (0..60).map(&mut put).collect();
    let mut told: Vec<_> = early.into_iter().map(|(expected, outcome)| (expected, delivered(outcome))).collect();
    assert!(read(&endpoint, "s").iter().all(|record| !record.aggregated), "the service places single records rightly");
    let counters = producer.counters();
    assert_eq!((counters.unmapped_records, counters.kinesis_records), (60, 60));
    // Partner: the load in the script.
    healed.store(true, Ordering::SeqCst);
    stream.ready().wait_timeout(LIMIT).expect("an answer").expect("the shards are listed");
    let late: Vec<_> = (60..120).map(&mut put).collect();
    told.extend(late.into_iter().map(|(expected, outcome)| (expected, delivered(outcome))));
    assert_delivered(&endpoint, "s", &told);
    let aggregated = read(&endpoint, "s").iter().filter(|record| record.aggregated).count();
    assert!(aggregated > 40, "{aggregated} of 60");
    assert_eq!(producer.counters().unmapped_records, 60);
    assert_eq!(close(&producer).delivered, 120);
}

#[test]
fn where_listing_is_forbidden_nothing_is_sent_in_silence() {
    let (healed, asked) = (Arc::default(), Arc::default());
    let refusal = Action::error(400, "AccessDeniedException", "not authorized to perform: kinesis:ListShards");
    let endpoint = unlisted(&healed, &asked, refusal);
    let policy = ShardMapPolicy::Degrade { after: Duration::ZERO };
    let producer = builder(&endpoint.url()).shard_map(policy).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let error = stream.ready().wait_timeout(LIMIT).expect("an answer").expect_err("forbidden");
    assert!(error.to_string().contains("AccessDenied"), "{error}");
    let refused = producer.put(&stream, Record::new("k", "d")).expect_err("refused");
    assert!(refused.to_string().contains("AccessDenied"), "{refused}");
    close(&producer);
}

#[test]
fn with_an_unknown_map_nobody_lists_shards_and_records_go_one_by_one() {
    let (healed, asked) = (Arc::default(), Arc::<AtomicU64>::default());
    let endpoint = unlisted(&healed, &asked, unavailable());
    let producer = builder(&endpoint.url()).shard_map(ShardMapPolicy::Unknown).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    stream.ready().wait_timeout(LIMIT).expect("an answer").expect("there is nothing to wait for");
    let outcomes: Vec<_> =
        (0..30).map(|number| producer.put(&stream, Record::new("key", &format!("{number}"))).expect("a put")).collect();
    outcomes.into_iter().for_each(|outcome| drop(delivered(outcome)));
    assert!(read(&endpoint, "s").iter().all(|record| !record.aggregated));
    assert_eq!(close(&producer).delivered, 30);
    // Partner: the addition in the script, which nobody does any more.
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[test]
fn with_a_required_map_records_wait_and_say_why_they_expire() {
    let (healed, asked) = (Arc::default(), Arc::default());
    let endpoint = unlisted(&healed, &asked, unavailable());
    let builder = builder(&endpoint.url()).shard_map(ShardMapPolicy::Required).record_ttl(ms(1500));
    let producer = builder.build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let failure = failed(producer.put(&stream, Record::new("k", "d")).expect("a put"));
    assert_eq!(*failure.code(), ErrorCode::Expired);
    assert!(failure.message().contains("the control plane is down"), "{failure}");
    assert_eq!(producer.counters().put_records_requests, 0);
    close(&producer);
}

#[test]
fn records_without_a_key_are_spread_over_the_shards_and_found_there() {
    let endpoint = emulator(&[("s", 4)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let outcomes: Vec<_> = (0..200)
        .map(|number| submitter.put(&stream, Record::unkeyed(&format!("data {number}"))).expect("a put"))
        .collect();
    let shards: BTreeSet<String> =
        outcomes.into_iter().map(|outcome| delivered(outcome).shard_id().to_owned()).collect();
    assert_eq!(shards.len(), 4, "200 draws miss none of four");
    let seen = read(&endpoint, "s");
    let data: BTreeSet<_> = seen.iter().map(|record| record.data.clone()).collect();
    assert_eq!((seen.len(), data.len()), (200, 200));
    assert!(seen.iter().all(|record| record.partition_key == "a"));
    close(&producer);
}

#[test]
fn a_failure_hands_its_record_back_to_be_put_again() {
    let endpoint = hanging(&[("s", 1)]);
    let builder = builder(&endpoint.url()).keep_failed_records(true).record_ttl(ms(1500)).request_timeout(ms(500));
    let producer = builder.build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let outcome = producer.put(&stream, Record::new("the key", "the data")).expect("a put");
    let failure = end(outcome).expect_err("nobody answers");
    let record = failure.record().expect("it is kept");
    assert_eq!((record.partition_key, record.data), ("the key", &b"the data"[..]));
    let again = producer.put(&stream, record).expect("it is a record like any other");
    drop(again);
    producer.close(Duration::ZERO).wait();
}
