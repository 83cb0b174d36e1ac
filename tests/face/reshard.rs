//! Streams are resharded while they are written: nothing is lost, nothing lies where consumers drop it, every copy has its
//! ambiguous attempt, and in ordered mode nothing overtakes.

use std::collections::HashMap;

use endpoint::{Endpoint, EndpointConfig};
use kpl::outcome::AttemptResult;
use kpl::{Delivered, Outcome, Producer, RateLimit, Record, StreamOptions};
use serde_json::{Value, json};

use super::reader::{UserRecord, hash_of, location, ranges, read_resharded};
use super::world::{bounded, builder, close, delivered, emulator, flushed, ms, start};

const STREAM: &str = "orders";
const KEYS: usize = 40;

/// What an operator does.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Split,
    Merge,
    Count(u32),
}

/// The open shards, ascending by range: id, first and last hash key.
fn open_shards(endpoint: &Endpoint) -> Vec<(String, u128, u128)> {
    let answer = endpoint.call("ListShards", &json!({ "StreamName": STREAM })).expect("shards");
    let is_open = |shard: &&Value| shard["SequenceNumberRange"]["EndingSequenceNumber"].is_null();
    let id = |shard: &Value| shard["ShardId"].as_str().expect("a text").to_owned();
    let shards: Vec<String> = answer["Shards"].as_array().expect("a list").iter().filter(is_open).map(id).collect();
    let ranges = ranges(endpoint, STREAM);
    let mut open: Vec<_> = shards.into_iter().map(|id| (id.clone(), ranges[&id].0, ranges[&id].1)).collect();
    open.sort_by_key(|(_, first, _)| *first);
    open
}

fn reshard(endpoint: &Endpoint, operation: Operation) {
    let open = open_shards(endpoint);
    let (name, request) = match operation {
        Operation::Split => {
            let (id, first, last) = open.iter().max_by_key(|(_, first, last)| last - first).expect("an open shard");
            let middle = (first + (last - first) / 2 + 1).to_string();
            ("SplitShard", json!({ "StreamName": STREAM, "ShardToSplit": id, "NewStartingHashKey": middle }))
        }
        Operation::Merge => {
            let (lower, upper) = (&open[0].0, &open[1].0);
            ("MergeShards", json!({ "StreamName": STREAM, "ShardToMerge": lower, "AdjacentShardToMerge": upper }))
        }
        Operation::Count(count) => {
            let scaling = "UNIFORM_SCALING";
            ("UpdateShardCount", json!({ "StreamName": STREAM, "TargetShardCount": count, "ScalingType": scaling }))
        }
    };
    endpoint.call(name, &request).unwrap_or_else(|error| panic!("{operation:?}: {error}"));
    endpoint.wait_until_active(STREAM).expect("the stream is active again");
}

/// Puts 200 records between every two of these operations, from two submitters, each with its own numbers. Answers how
/// each ended: submitter, number, key.
fn put_between(
    endpoint: &Endpoint,
    producer: &Producer,
    options: &StreamOptions,
    operations: &[Operation],
) -> Vec<((usize, usize, String), Delivered)> {
    let stream = producer.stream_with(STREAM, options).expect("a stream");
    bounded(stream.ready()).expect("its shards are known");
    let mut submitters = [(); 2].map(|()| producer.submitter().expect("a submitter"));
    let mut outcomes: Vec<((usize, usize, String), Outcome)> = Vec::new();
    for round in 0..=operations.len() {
        for number in round * 200..(round + 1) * 200 {
            for (index, submitter) in submitters.iter_mut().enumerate() {
                let key = format!("key-{}", (number * 7 + index) % KEYS);
                let data = format!("{index}/{number}");
                let outcome = submitter.put(&stream, Record::new(&key, data.as_bytes())).expect("a put");
                outcomes.push(((index, number, key), outcome));
            }
        }
        if let Some(operation) = operations.get(round) {
            // Some of it is under way, some of it is not sent yet.
            reshard(endpoint, *operation);
        }
    }
    flushed(producer.flush());
    outcomes.into_iter().map(|(what, outcome)| (what, delivered(outcome))).collect()
}

/// Nothing lost, nothing in a wrong shard, every copy explained.
fn check(endpoint: &Endpoint, all: &[((usize, usize, String), Delivered)]) -> Vec<UserRecord> {
    let (seen, _) = read_resharded(endpoint, STREAM);
    let mut copies: HashMap<&[u8], Vec<&UserRecord>> = HashMap::new();
    seen.iter().for_each(|record| copies.entry(&record.data).or_default().push(record));
    assert_eq!(copies.len(), all.len(), "each record, and nothing else");
    for ((submitter, number, key), delivered) in all {
        let there = &copies[format!("{submitter}/{number}").as_bytes()];
        assert!(there.iter().all(|record| record.partition_key == *key));
        assert!(there.iter().any(|record| record.location == location(delivered)), "{number} is not where it is said");
        let ambiguous = |result: &AttemptResult| matches!(result, AttemptResult::Failed { ambiguous: true, .. });
        let excuses = delivered.attempts().iter().filter(|attempt| ambiguous(&attempt.result)).count();
        assert!(there.len() <= 1 + excuses, "{number} is there {} times after {excuses} such attempts", there.len());
    }
    seen
}

/// The first copies of each submitter's records of one key are in the order of their numbers, parents before children.
fn check_order(seen: &[UserRecord]) {
    let number = |record: &UserRecord| -> (usize, usize) {
        let text = std::str::from_utf8(&record.data).expect("a text");
        let (submitter, number) = text.split_once('/').expect("two numbers");
        (submitter.parse().expect("a number"), number.parse().expect("a number"))
    };
    for key in (0..KEYS).map(|key| format!("key-{key}")) {
        let mut of_key: Vec<&UserRecord> = seen.iter().filter(|record| record.partition_key == key).collect();
        // The shards of one hash key follow each other, and later ones have greater ids.
        of_key.sort_by_key(|record| {
            let (shard, sequence, place) = &record.location;
            (shard.clone(), sequence.len(), sequence.clone(), *place)
        });
        let mut first: HashMap<(usize, usize), usize> = HashMap::new();
        of_key.iter().enumerate().for_each(|(at, record)| {
            first.entry(number(record)).or_insert(at);
        });
        for submitter in 0..2 {
            let mut of_submitter: Vec<_> = first.iter().filter(|((of, _), _)| *of == submitter).collect();
            of_submitter.sort();
            let overtaken = of_submitter.windows(2).find(|pair| pair[0].1 > pair[1].1);
            assert!(overtaken.is_none(), "{key} (hash key {:x}): {overtaken:?}", hash_of(&key));
        }
    }
}

fn go_through(cores: usize, ordered: bool, shards: u32, operations: &[Operation]) {
    let endpoint = emulator(&[(STREAM, shards)]);
    // So short that records are on their way at any time.
    let builder = builder(&endpoint.url()).cores(cores).rate_limit(RateLimit::Off).record_max_buffered_time(ms(2));
    let producer = builder.build().expect("a producer");
    let options = StreamOptions { ordered: Some(ordered), ..StreamOptions::default() };
    let all = put_between(&endpoint, &producer, &options, operations);
    let seen = check(&endpoint, &all);
    // However many records went astray: the first listing, and for each change at most three.
    let listings = endpoint.stats().calls["ListShards"];
    assert!(listings <= 1 + 3 * operations.len() as u64, "{listings} listings for {operations:?}");
    if ordered {
        check_order(&seen);
    }
    close(&producer);
}

#[test]
fn splits_and_merges_lose_nothing() {
    use Operation::{Merge, Split};
    go_through(1, false, 1, &[Split, Split, Merge, Split, Merge, Merge]);
}

#[test]
fn an_updated_shard_count_loses_nothing() {
    use Operation::Count;
    go_through(2, false, 2, &[Count(4), Count(8), Count(4), Count(2)]);
}

#[test]
fn in_ordered_mode_nothing_overtakes_over_splits_and_merges() {
    use Operation::{Count, Merge, Split};
    go_through(1, true, 1, &[Split, Split, Merge, Split, Merge, Count(4)]);
}

#[test]
fn in_ordered_mode_nothing_overtakes_when_shards_go_from_core_to_core() {
    use Operation::{Count, Merge, Split};
    go_through(2, true, 4, &[Merge, Merge, Split, Merge, Count(4), Count(2)]);
}

#[test]
fn the_ten_thousand_shards_of_a_stream_are_listed_page_by_page() {
    const SHARDS: u32 = 10_000;
    let endpoint = start(&[], EndpointConfig::sink(SHARDS));
    let producer = builder(&endpoint.url()).cores(2).rate_limit(RateLimit::Off).build().expect("a producer");
    let stream = producer.stream(STREAM).expect("a stream");
    bounded(stream.ready()).expect("its shards are known");
    let mut submitter = producer.submitter().expect("a submitter");
    let keys: Vec<String> = (0..500).map(|number| format!("key-{number}")).collect();
    let outcomes: Vec<Outcome> =
        keys.iter().map(|key| submitter.put(&stream, Record::new(key, b"data")).expect("a put")).collect();
    flushed(producer.flush());
    for (key, outcome) in keys.iter().zip(outcomes) {
        let shard = hash_of(key) / (u128::MAX / u128::from(SHARDS));
        assert_eq!(delivered(outcome).shard_id(), format!("shardId-{:012}", shard.min(u128::from(SHARDS) - 1)));
    }
    close(&producer);
}

#[test]
fn a_stream_that_is_deleted_and_made_anew_with_other_shards_of_the_same_ids_loses_nothing_new() {
    let endpoint = emulator(&[(STREAM, 1)]);
    let producer = builder(&endpoint.url()).rate_limit(RateLimit::Off).build().expect("a producer");
    let before = put_between(&endpoint, &producer, &StreamOptions::default(), &[]);
    assert_eq!(before.len(), 400);
    endpoint.call("DeleteStream", &json!({ "StreamName": STREAM })).expect("it is there");
    // Something is put while it is not there: so the producer learns of it.
    let stream = producer.stream(STREAM).expect("a stream");
    let early = producer.put(&stream, Record::new("key-0", b"2/0")).expect("a put");
    while producer.counters().request_failures == 0 {
        std::thread::yield_now();
    }
    endpoint.create_stream(STREAM, 4).expect("it is made anew");
    endpoint.wait_until_active(STREAM).expect("it is active");
    let mut all = vec![((2, 0, "key-0".to_owned()), delivered(early))];
    all.extend(put_between(&endpoint, &producer, &StreamOptions::default(), &[]));
    check(&endpoint, &all);
    close(&producer);
}
