//! What is put is in its stream: once, whole, under its key, in the right shard, where its outcome says.

use std::sync::Arc;

use kpl::{Delivered, HashKey, Outcome, RateLimit, Record, Stream, StreamOptions, Submitter, WireFormat};
use md5::{Digest, Md5};

use super::reader::{Expected, assert_delivered, hash_of, read};
use super::world::{bounded, builder, close, delivered, emulator, end, flushed, lingering, work};

/// Records of all sorts, which differ from those of other writers.
fn assortment(writer: usize, count: usize) -> Vec<Expected> {
    let record = |number: usize| {
        let partition_key = match number % 5 {
            0 => format!("writer-{writer}-{}", number % 50),
            1 => format!("{writer} ключ 鍵 🔑 {number}"),
            2 => "same".to_owned(),
            // The emulator counts bytes where the service counts characters.
            3 => "🎯".repeat(64),
            _ => format!("{number}"),
        };
        let spread = u128::MAX / 16 * (number as u128 % 16);
        let explicit_hash_key = match number % 11 {
            0 => Some(spread),
            1 => Some(u128::MAX - spread),
            _ => None,
        };
        let data = match number % 7 {
            0 => Vec::new(),
            1 => vec![number as u8; 3000],
            _ => format!("{writer}/{number}").into_bytes(),
        };
        Expected { partition_key, explicit_hash_key, data }
    };
    (0..count).map(record).collect()
}

fn record(expected: &Expected) -> Record<'_> {
    let record = Record::new(&expected.partition_key, &expected.data);
    match expected.explicit_hash_key {
        Some(key) => record.with_explicit_hash_key(HashKey(key)),
        None => record,
    }
}

fn put_all(submitter: &mut Submitter, stream: &Stream, records: &[Expected]) -> Vec<Outcome> {
    records.iter().map(|expected| submitter.put(stream, record(expected)).expect("a put")).collect()
}

/// Three submitters put records of all sorts to two streams each.
fn go_the_whole_way(cores: usize, wire: WireFormat, aggregation: bool) {
    const STREAMS: [(&str, u32); 2] = [("orders", 4), ("clicks", 3)];
    let endpoint = emulator(&STREAMS);
    let producer = builder(&endpoint.url())
        .cores(cores)
        .wire(wire)
        .aggregation_enabled(aggregation)
        .rate_limit(RateLimit::Off)
        .build()
        .expect("a producer");
    let streams = Arc::new(STREAMS.map(|(name, _)| producer.stream(name).expect("a stream")));
    let writers = (0..3).map(|writer| {
        let (mut submitter, streams) = (producer.submitter().expect("a submitter"), Arc::clone(&streams));
        work(move || {
            let records = assortment(writer, 200);
            let outcomes = streams.each_ref().map(|stream| put_all(&mut submitter, stream, &records));
            outcomes.map(|outcomes| {
                let ends = outcomes.into_iter().map(delivered);
                records.iter().cloned().zip(ends).collect::<Vec<_>>()
            })
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut all: [Vec<(Expected, Delivered)>; 2] = Default::default();
    for writer in writers {
        for (all, own) in all.iter_mut().zip(writer.done()) {
            all.extend(own);
        }
    }
    for ((name, _), delivered) in STREAMS.iter().zip(&all) {
        let doubtful = delivered.iter().find(|(_, delivered)| delivered.may_be_duplicated());
        assert!(doubtful.is_none(), "{:?}", doubtful.map(|(_, delivered)| delivered.attempts()));
        assert_delivered(&endpoint, name, delivered);
        let aggregated = read(&endpoint, name).iter().filter(|record| record.aggregated).count();
        assert_eq!(aggregated > 0, aggregation, "{aggregated} of {} records in aggregates", delivered.len());
    }
    let counts = close(&producer);
    assert_eq!((counts.accepted, counts.delivered, counts.failed), (1200, 1200, 0));
    let counters = producer.counters();
    assert_eq!(counters.kinesis_records < 1200, aggregation, "{counters:?}");
}

#[test]
fn records_of_all_sorts_go_the_whole_way_on_one_core() {
    go_the_whole_way(1, WireFormat::Auto, true);
}

#[test]
fn records_of_all_sorts_go_the_whole_way_on_three_cores() {
    go_the_whole_way(3, WireFormat::Cbor, true);
}

#[test]
fn records_of_all_sorts_go_the_whole_way_in_json() {
    go_the_whole_way(1, WireFormat::Json, true);
}

#[test]
fn records_of_all_sorts_go_the_whole_way_in_json_on_three_cores() {
    go_the_whole_way(3, WireFormat::Json, true);
}

#[test]
fn records_of_all_sorts_go_the_whole_way_without_aggregation() {
    go_the_whole_way(1, WireFormat::Cbor, false);
}

#[test]
fn records_of_all_sorts_go_the_whole_way_without_aggregation_on_three_cores() {
    go_the_whole_way(3, WireFormat::Json, false);
}

#[test]
fn the_largest_and_the_smallest_record_are_delivered() {
    for wire in [WireFormat::Cbor, WireFormat::Json] {
        let endpoint = emulator(&[("s", 2)]);
        let producer = builder(&endpoint.url()).wire(wire).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let mut submitter = producer.submitter().expect("a submitter");
        let sizes = [0, 1, 51_150, 51_200, 262_144, 1_048_575];
        let records = sizes.map(|size| Expected {
            partition_key: "k".into(),
            explicit_hash_key: None,
            data: (0..size).map(|at| (at % 251) as u8).collect(),
        });
        let outcomes = put_all(&mut submitter, &stream, &records);
        let ends: Vec<_> = records.into_iter().zip(outcomes.into_iter().map(delivered)).collect();
        assert_delivered(&endpoint, "s", &ends);
        close(&producer);
    }
}

#[test]
fn data_that_looks_like_an_aggregate_reaches_consumers_as_it_was() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = lingering(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let magic = [0xF3, 0x89, 0x9A, 0xC2];
    // An aggregate of one record, as another producer might have made it.
    let message = [0x0A, 1, b'k', 0x1A, 5, 0x08, 0, 0x1A, 1, b'd'];
    let digest: [u8; 16] = Md5::digest(message).into();
    let whole = [&magic, &message[..], &digest].concat();
    let mut ends = Vec::new();
    for data in [whole, magic.to_vec(), [&magic[..], &[0; 40]].concat()] {
        let expected = Expected { partition_key: "k".into(), explicit_hash_key: None, data };
        let outcome = submitter.put(&stream, record(&expected)).expect("a put");
        // Each alone, as only a lone record could be taken for an aggregate.
        flushed(producer.flush());
        ends.push((expected, delivered(outcome)));
    }
    assert_delivered(&endpoint, "s", &ends);
}

#[test]
fn any_thread_may_put_through_the_producer() {
    let endpoint = emulator(&[("s", 4)]);
    let producer = builder(&endpoint.url()).cores(3).rate_limit(RateLimit::Off).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let writers = (0..8).map(|writer| {
        let (producer, stream) = (producer.clone(), stream.clone());
        work(move || {
            let records = assortment(writer, 60);
            let put = |(number, expected)| match number % 3 {
                0 => producer.put(&stream, record(expected)).expect("a put"),
                1 => bounded(producer.put_async(&stream, record(expected))).expect("a put"),
                _ => producer.try_put(&stream, record(expected)).expect("there is room"),
            };
            let outcomes: Vec<_> = records.iter().enumerate().map(put).collect();
            records.into_iter().zip(outcomes.into_iter().map(delivered)).collect::<Vec<_>>()
        })
    });
    let writers: Vec<_> = writers.collect();
    let ends: Vec<_> = writers.into_iter().flat_map(super::world::Worker::done).collect();
    assert_delivered(&endpoint, "s", &ends);
    assert_eq!(close(&producer).delivered, 480);
}

#[test]
fn one_submitters_records_of_one_key_stay_in_order_over_one_connection() {
    let endpoint = emulator(&[("s", 2)]);
    let producer = builder(&endpoint.url())
        .max_connections_per_core(1)
        .aggregation_max_size(500)
        .rate_limit(RateLimit::Off)
        .cores(2)
        .build()
        .expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    for number in 0..500 {
        drop(submitter.put(&stream, Record::new("k", &format!("{number}"))).expect("a put"));
    }
    flushed(producer.flush());
    let data: Vec<_> = read(&endpoint, "s").into_iter().map(|record| record.data).collect();
    assert_eq!(data, (0..500).map(|number| format!("{number}").into_bytes()).collect::<Vec<_>>());
    close(&producer);
}

#[test]
fn streams_of_one_producer_may_have_settings_of_their_own() {
    let endpoint = emulator(&[("plain", 1), ("whole", 1)]);
    let producer = lingering(&endpoint.url()).build().expect("a producer");
    let options = StreamOptions { aggregation_enabled: Some(false), ..StreamOptions::default() };
    let plain = producer.stream_with("plain", &options).expect("a stream");
    let whole = producer.stream("whole").expect("a stream");
    let outcomes: Vec<_> = [&plain, &plain, &whole, &whole]
        .map(|stream| producer.put(stream, Record::new("k", "d")).expect("a put"))
        .into_iter()
        .collect();
    flushed(producer.flush());
    let places: Vec<_> = outcomes.into_iter().map(|outcome| delivered(outcome).sub_sequence_number()).collect();
    assert!(places[..2] == [0, 0], "{places:?}");
    assert!(read(&endpoint, "plain").iter().all(|record| !record.aggregated));
    assert_eq!(read(&endpoint, "whole").len(), 2);
    close(&producer);
}

#[test]
fn a_stream_may_be_named_by_its_arn() {
    let endpoint = emulator(&[("s", 2)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("arn:aws:kinesis:us-east-1:000000000000:stream/s").expect("a stream");
    stream.ready().wait_timeout(super::world::LIMIT).expect("an answer").expect("ready");
    delivered(producer.put(&stream, Record::new("k", "d")).expect("a put"));
    assert_eq!(read(&endpoint, "s").len(), 1);
    close(&producer);
}

#[test]
fn a_stream_that_is_opened_twice_is_one_stream() {
    let endpoint = emulator(&[("s", 2)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let (one, other) = (producer.stream("s").expect("a stream"), producer.stream("s").expect("the same"));
    delivered(producer.put(&one, Record::new("k", "d")).expect("a put"));
    delivered(producer.put(&other, Record::new("k", "d")).expect("a put"));
    assert_eq!(read(&endpoint, "s").len(), 2);
    close(&producer);
}

#[test]
fn a_single_record_with_an_explicit_hash_key_goes_to_that_keys_shard() {
    let endpoint = emulator(&[("s", 4)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut shards = Vec::new();
    for quarter in 0..4 {
        let key = HashKey(u128::MAX / 4 * quarter + 7);
        let outcome = producer.put(&stream, Record::new("k", "d").with_explicit_hash_key(key)).expect("a put");
        shards.push(delivered(outcome).shard_id().to_owned());
    }
    shards.dedup();
    assert_eq!(shards.len(), 4, "{shards:?}");
    let plain = producer.put(&stream, Record::new("k", "d")).expect("a put");
    let quarter = (hash_of("k") / (u128::MAX / 4)).min(3) as usize;
    assert_eq!(end(plain).expect("it is delivered").shard_id(), shards[quarter]);
    close(&producer);
}
