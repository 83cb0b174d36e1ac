//! Looking at a producer: health, ages, counters.

use kpl::{Record, WireFormat};

use super::world::{LIMIT, bounded, builder, close, emulator, flushed, hanging, lingering, ms};

#[test]
fn a_producer_tells_how_it_does() {
    for cores in [1, 3] {
        let endpoint = emulator(&[("s", 2)]);
        let producer = lingering(&endpoint.url()).cores(cores).build().expect("a producer");
        let health = producer.health();
        assert_eq!((health.cores, health.cores_alive), (cores, cores));
        assert_eq!((health.counts.accepted, health.oldest_outstanding, health.last_error), (0, None, None));
        assert_eq!(health.outstanding_bytes, 0);
        let stream = producer.stream("s").expect("a stream");
        stream.ready().wait_timeout(LIMIT).expect("an answer").expect("ready");
        let outcome = producer.put(&stream, Record::new("key", "data")).expect("a put");
        let outcome = outcome.wait_timeout(ms(60)).expect_err("it lingers");
        let health = producer.health();
        assert_eq!((health.counts.accepted, health.counts.outstanding()), (1, 1));
        assert_eq!(producer.outstanding(), 1);
        assert!(health.outstanding_bytes >= 7, "{health:?}");
        let age = health.oldest_outstanding.expect("one is outstanding");
        assert!(ms(60) <= age && age < LIMIT, "{age:?}");
        flushed(producer.flush());
        outcome.wait_timeout(ms(0)).expect("an outcome by now").expect("it is delivered");
        let health = producer.health();
        assert_eq!((health.counts.delivered, health.oldest_outstanding), (1, None));
        close(&producer);
        let health = producer.health();
        assert_eq!((health.cores, health.cores_alive, health.oldest_outstanding), (cores, 0, None));
    }
}

#[test]
fn the_oldest_record_is_known_wherever_it_is() {
    let endpoint = hanging(&[("s", 2)]);
    let producer = builder(&endpoint.url()).cores(2).build().expect("a producer");
    // One waits for a map that does not come, one is in a request.
    let missing = builder("http://127.0.0.1:1").build().expect("a producer");
    let stream = missing.stream("s").expect("a stream");
    let waits = missing.put(&stream, Record::new("k", "d")).expect("a put");
    let waits = waits.wait_timeout(ms(50)).expect_err("nobody is there");
    assert!(missing.oldest_outstanding().expect("one waits") >= ms(50));
    let stream = producer.stream("s").expect("a stream");
    let sent = producer.put(&stream, Record::new("k", "d")).expect("a put");
    let sent = sent.wait_timeout(ms(100)).expect_err("nobody answers");
    assert!(producer.oldest_outstanding().expect("one is under way") >= ms(100));
    for (producer, outcome) in [(missing, waits), (producer, sent)] {
        bounded(producer.close(ms(1)));
        outcome.wait_timeout(ms(0)).expect("an outcome by now").expect_err("it was closed");
        assert_eq!(producer.oldest_outstanding(), None);
    }
}

#[test]
fn counters_agree_with_the_endpoint() {
    for wire in [WireFormat::Cbor, WireFormat::Json] {
        let endpoint = emulator(&[("s", 4)]);
        let producer = builder(&endpoint.url()).wire(wire).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        for number in 0..500 {
            drop(producer.put(&stream, Record::new(&format!("{number}"), &[7; 100])).expect("a put"));
        }
        close(&producer);
        let (counters, stats) = (producer.counters(), endpoint.stats());
        assert_eq!((counters.records_accepted, counters.records_delivered, counters.records_failed), (500, 500, 0));
        assert_eq!(counters.put_records_requests, stats.put_requests);
        assert_eq!(counters.kinesis_records, stats.records);
        assert_eq!(counters.request_failures, 0);
        assert!(counters.bytes_sent > stats.bytes, "{counters:?} {stats:?}");
        assert_eq!(stats.refused_signatures, 0);
    }
}
