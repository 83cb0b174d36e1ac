//! Flush: it returns when everything that was put before it has its outcome, and not before.

use std::sync::Arc;

use kpl::{FlushError, RateLimit, Record};

use super::reader::read;
use super::world::{LIMIT, bounded, close, delivered, emulator, flushed, hanging, lingering, ms, timed, work};

#[test]
fn a_flush_ends_when_all_that_was_put_before_it_has_its_outcome() {
    for cores in [1, 3] {
        let endpoint = emulator(&[("a", 4), ("b", 1)]);
        let producer = lingering(&endpoint.url()).cores(cores).rate_limit(RateLimit::Off).build().expect("a producer");
        let streams = Arc::new(["a", "b"].map(|name| producer.stream(name).expect("a stream")));
        for round in 1..=5 {
            // Of submitters at every core, and of the producer's own.
            let mut outcomes = Vec::new();
            for writer in 0..4 {
                let mut submitter = producer.submitter().expect("a submitter");
                for number in 0..20 {
                    let key = format!("{writer}-{number}");
                    outcomes.push(submitter.put(&streams[number % 2], Record::new(&key, "d")).expect("a put"));
                    outcomes.push(producer.put(&streams[number % 2], Record::new(&key, "d")).expect("a put"));
                }
            }
            flushed(producer.flush());
            assert_eq!(producer.outstanding(), 0);
            for outcome in outcomes {
                let at_once = outcome.wait_timeout(ms(0)).expect("there is an outcome by now");
                at_once.expect("it is delivered");
            }
            assert_eq!(read(&endpoint, "a").len() + read(&endpoint, "b").len(), round * 160);
        }
        close(&producer);
    }
}

#[test]
fn a_flush_of_nothing_ends_at_once() {
    let endpoint = emulator(&[("s", 2)]);
    for cores in [1, 3] {
        let producer = lingering(&endpoint.url()).cores(cores).build().expect("a producer");
        flushed(producer.flush());
        let stream = producer.stream("s").expect("a stream");
        for _ in 0..20 {
            flushed(producer.flush());
            flushed(producer.flush_stream(&stream));
        }
        close(&producer);
    }
}

#[test]
fn a_flush_of_one_stream_leaves_the_others_to_linger() {
    let endpoint = emulator(&[("a", 2), ("b", 2)]);
    let producer = lingering(&endpoint.url()).cores(2).build().expect("a producer");
    let [a, b] = ["a", "b"].map(|name| producer.stream(name).expect("a stream"));
    let of_a = producer.put(&a, Record::new("k", "d")).expect("a put");
    let of_b = producer.put(&b, Record::new("k", "d")).expect("a put");
    flushed(producer.flush_stream(&a));
    delivered(of_a);
    let of_b = of_b.wait_timeout(ms(30)).expect_err("it lingers");
    assert_eq!((read(&endpoint, "a").len(), read(&endpoint, "b").len()), (1, 0));
    bounded(producer.flush_stream(&b)).expect("the flush ends");
    delivered(of_b);
    close(&producer);
}

#[test]
fn a_flush_that_takes_too_long_says_so_and_goes_on() {
    let endpoint = hanging(&[("s", 1)]);
    let producer = lingering(&endpoint.url()).record_ttl(LIMIT * 30).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let outcome = producer.put(&stream, Record::new("k", "d")).expect("a put");
    let (result, time) = timed(|| producer.flush().wait_timeout(ms(100)));
    assert_eq!(result, Err(FlushError::TimedOut));
    assert!(ms(100) <= time && time < LIMIT / 2, "{time:?}");
    let abandoned = producer.flush();
    drop(abandoned);
    let waits = producer.flush();
    let counts = bounded(producer.close(ms(10)));
    assert_eq!((counts.accepted, counts.failed), (1, 1));
    // All has its outcome now, and that is what a flush waits for.
    flushed(waits);
    outcome.wait_timeout(LIMIT).expect("an outcome").expect_err("it was closed");
}

#[test]
fn flushes_of_many_threads_at_once_all_end() {
    for cores in [1, 3] {
        let endpoint = emulator(&[("s", 4)]);
        let producer = lingering(&endpoint.url()).cores(cores).rate_limit(RateLimit::Off).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let workers: Vec<_> = (0..6)
            .map(|worker| {
                let (producer, stream) = (producer.clone(), stream.clone());
                work(move || {
                    for round in 0..15 {
                        let key = format!("{worker}-{round}");
                        let outcome = producer.put(&stream, Record::new(&key, "d")).expect("a put");
                        match round % 3 {
                            0 => flushed(producer.flush()),
                            1 => bounded(producer.flush()).expect("the flush ends"),
                            _ => flushed(producer.flush_stream(&stream)),
                        }
                        outcome.wait_timeout(ms(0)).expect("an outcome by now").expect("it is delivered");
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(super::world::Worker::done);
        assert_eq!(read(&endpoint, "s").len(), 90);
        close(&producer);
    }
}

#[test]
fn a_flush_covers_records_that_wait_for_their_shards() {
    let endpoint = emulator(&[("s", 2)]);
    let producer = lingering(&endpoint.url()).cores(2).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    // The map can't be there yet; if it is, the claim holds all the same.
    let outcomes: Vec<_> =
        (0..50).map(|number| producer.put(&stream, Record::new(&format!("{number}"), "d")).expect("a put")).collect();
    flushed(producer.flush());
    for outcome in outcomes {
        outcome.wait_timeout(ms(0)).expect("an outcome by now").expect("it is delivered");
    }
    close(&producer);
}

#[test]
fn a_flush_after_the_close_ends() {
    for cores in [1, 3] {
        let endpoint = emulator(&[("s", 2)]);
        let producer = lingering(&endpoint.url()).cores(cores).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        drop(producer.put(&stream, Record::new("k", "d")).expect("a put"));
        close(&producer);
        flushed(producer.flush());
        flushed(producer.flush_stream(&stream));
    }
}

#[test]
fn flushes_during_a_close_end() {
    for cores in [1, 3] {
        for timeout in [ms(0), LIMIT] {
            let endpoint = emulator(&[("s", 2)]);
            let producer = lingering(&endpoint.url()).cores(cores).build().expect("a producer");
            let stream = producer.stream("s").expect("a stream");
            for number in 0..50 {
                drop(producer.put(&stream, Record::new(&format!("{number}"), "d")).expect("a put"));
            }
            let before = producer.flush();
            let closing = producer.close(timeout);
            let during: Vec<_> = (0..20).map(|_| producer.flush()).collect();
            flushed(before);
            during.into_iter().for_each(flushed);
            assert_eq!(bounded(closing).outstanding(), 0);
        }
    }
}
