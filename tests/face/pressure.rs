//! Back-pressure: what is accepted and not settled is bounded, and a full producer says so or lets its callers wait.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use kpl::{ProducerBuilder, PutErrorReason, RateLimit, Record, SubmitterError};

use super::reader::read;
use super::world::{
    LIMIT, Standstill, bounded, builder, close, delivered, emulator, flushed, hanging, lingering, ms, scripted, work,
};

/// A budget of a hundred records and ten kilobytes.
fn small(builder: ProducerBuilder) -> ProducerBuilder {
    builder
        .max_outstanding_records(100)
        .max_outstanding_bytes(10_000)
        .max_record_size(5_000)
        .aggregation_max_size(1_000)
        .rate_limit(RateLimit::Off)
}

#[test]
fn a_full_producer_gives_the_record_back() {
    // Small records fill the budget's records, large ones its bytes.
    for (size, least, most) in [(1, 75, 100), (999, 8, 10)] {
        let endpoint = hanging(&[("s", 2)]);
        let producer = small(builder(&endpoint.url())).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let mut submitter = producer.submitter().expect("a submitter");
        let data = vec![7; size];
        let mut accepted = 0;
        let error = loop {
            match submitter.try_put(&stream, Record::new("k", &data)) {
                Ok(outcome) => drop(outcome),
                Err(error) => break error,
            }
            accepted += 1;
            assert!(producer.outstanding() <= most && accepted <= most);
        };
        assert_eq!(error.reason, PutErrorReason::Full);
        assert_eq!(error.record, Record::new("k", &data));
        assert!((least..=most).contains(&accepted), "{accepted} records of {size} bytes");
        assert_eq!(producer.outstanding(), accepted);
        assert!(producer.health().outstanding_bytes <= 10_000);
        assert_eq!(producer.try_put(&stream, Record::new("k", &data)).expect_err("full").reason, PutErrorReason::Full);
        let counts = bounded(producer.close(ms(1)));
        assert_eq!((counts.accepted, counts.failed), (accepted, accepted));
    }
}

#[test]
fn puts_that_wait_go_on_and_the_budget_is_kept() {
    let endpoint = emulator(&[("s", 2)]);
    for cores in [1, 3] {
        let producer = small(lingering(&endpoint.url())).cores(cores).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let mut submitter = producer.submitter().expect("a submitter");
        let watched = producer.clone();
        // They linger for minutes: what makes room is that a waiting caller has the aggregates sealed.
        let writer = work(move || {
            for number in 0..1000 {
                let key = format!("{number}");
                drop(submitter.put(&stream, Record::new(&key, &[7; 50])).expect("a put"));
                // With one writer this is never more than there are.
                assert!(watched.outstanding() <= 100, "{}", watched.outstanding());
            }
        });
        writer.done();
        flushed(producer.flush());
        assert_eq!(close(&producer).delivered, 1000);
    }
    assert_eq!(read(&endpoint, "s").len(), 2000);
}

#[test]
fn many_threads_and_tasks_wait_for_one_small_budget_and_all_get_through() {
    let endpoint = emulator(&[("s", 2)]);
    let producer = small(builder(&endpoint.url())).cores(2).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let writers = (0..8).map(|writer| {
        let (producer, stream) = (producer.clone(), stream.clone());
        work(move || {
            // Every other writer's records are so large that only a few fit the budget.
            let data = vec![7; if writer % 2 == 0 { 10 } else { 2_000 }];
            for number in 0..50 {
                let key = format!("{writer}-{number}");
                let record = Record::new(&key, &data);
                let outcome = match writer % 4 {
                    0 | 1 => producer.put(&stream, record),
                    _ => bounded(producer.put_async(&stream, record)),
                };
                drop(outcome.expect("a put"));
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    writers.into_iter().for_each(super::world::Worker::done);
    assert_eq!(close(&producer).delivered, 400);
    assert_eq!(read(&endpoint, "s").len(), 400);
}

#[test]
fn a_put_that_is_dropped_while_it_waits_puts_nothing_and_keeps_no_credit() {
    let endpoint = scripted(&[("s", 1)], |_| endpoint::Action::Pass);
    let producer = small(lingering(&endpoint.url())).max_record_size(7_500).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let large = vec![7; 7_400];
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..20 {
        let first = submitter.put(&stream, Record::new("k", &large)).expect("a put");
        {
            let waits = pin!(submitter.put_async(&stream, Record::new("k", &large)));
            assert!(matches!(waits.poll(&mut context), Poll::Pending | Poll::Ready(Ok(_))));
        }
        {
            let waits = pin!(producer.put_async(&stream, Record::new("k", &large)));
            assert!(matches!(waits.poll(&mut context), Poll::Pending | Poll::Ready(Ok(_))));
        }
        delivered(first);
        flushed(producer.flush());
    }
    let counts = close(&producer);
    assert_eq!(read(&endpoint, "s").len() as u64, counts.accepted);
}

#[test]
fn a_put_that_is_dropped_while_it_waits_for_room_in_a_ring_keeps_no_credit() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = lingering(&endpoint.url())
        .ring_bytes(4096)
        .max_outstanding_records(4000)
        .max_outstanding_bytes(4 << 20)
        .max_record_size(100_000)
        .build()
        .expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let standstill = Standstill::of(&producer, &stream);
    // The rings fill up while there is budget.
    let mut context = Context::from_waker(Waker::noop());
    let (mut through, mut dropped) = (0, 0);
    while dropped < 5_000 {
        let puts = [
            pin!(producer.put_async(&stream, Record::new("k", &[7; 200]))).poll(&mut context).is_pending(),
            pin!(submitter.put_async(&stream, Record::new("k", &[7; 200]))).poll(&mut context).is_pending(),
        ];
        for pending in puts {
            *(if pending { &mut dropped } else { &mut through }) += 1;
        }
    }
    assert!(through < 200, "{through} records in five rings of 4 KiB");
    standstill.end();
    flushed(producer.flush());
    // What is in use is what the submitters hold unspent.
    let bytes = producer.health().outstanding_bytes;
    assert!(bytes < 200_000, "{bytes}");
    assert_eq!(close(&producer).delivered, 1 + through);
}

#[test]
fn records_larger_than_their_ring_go_through_it() {
    let endpoint = emulator(&[("s", 2)]);
    let producer = builder(&endpoint.url()).ring_bytes(4096).rate_limit(RateLimit::Off).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let writer = work(move || {
        let sizes = [0, 900, 1000, 1024, 1030, 4000, 4096, 5000, 100_000];
        let outcomes: Vec<_> = (0..300)
            .map(|number| {
                let (key, data) = (format!("{number}"), vec![number as u8; sizes[number % sizes.len()]]);
                submitter.put(&stream, Record::new(&key, &data)).expect("a put")
            })
            .collect();
        outcomes.into_iter().map(delivered).count()
    });
    assert_eq!(writer.done(), 300);
    for record in read(&endpoint, "s") {
        let number: usize = record.partition_key.parse().expect("a number");
        assert!(record.data.iter().all(|byte| *byte == number as u8));
    }
    assert_eq!(close(&producer).delivered, 300);
}

#[test]
fn submitters_are_bounded_and_the_producers_own_do_not_count() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = builder(&endpoint.url()).max_submitters(7).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    // The pool behind `Producer::put` comes to life, as far as it likes.
    let puts: Vec<_> = (0..8)
        .map(|_| {
            let (producer, stream) = (producer.clone(), stream.clone());
            work(move || {
                for _ in 0..50 {
                    drop(producer.put(&stream, Record::new("k", "d")).expect("a put"));
                }
            })
        })
        .collect();
    puts.into_iter().for_each(super::world::Worker::done);
    let mut submitters: Vec<_> = (0..3).map(|_| producer.submitter().expect("one of three")).collect();
    let error = producer.submitter().expect_err("the fourth");
    assert!(matches!(error, SubmitterError::TooMany { max: 7 }), "{error}");
    submitters.pop();
    let mut again = producer.submitter().expect("there is a place again");
    delivered(again.put(&stream, Record::new("k", "d")).expect("a put"));
    assert_eq!(close(&producer).delivered, 401);
}

#[test]
fn a_submitter_that_is_dropped_loses_nothing_that_it_put() {
    let endpoint = emulator(&[("s", 2)]);
    let producer = lingering(&endpoint.url()).cores(2).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    for number in 0..20 {
        let mut submitter = producer.submitter().expect("a submitter");
        drop(submitter.put(&stream, Record::new(&format!("{number}"), "d")).expect("a put"));
    }
    flushed(producer.flush());
    assert_eq!(read(&endpoint, "s").len(), 20);
    let (counts, outstanding) = (close(&producer), producer.outstanding());
    assert_eq!((counts.accepted, counts.delivered, outstanding), (20, 20, 0));
}

#[test]
fn a_put_waits_for_as_long_as_it_must() {
    let endpoint = hanging(&[("s", 1)]);
    let producer = small(builder(&endpoint.url())).record_ttl(LIMIT * 2).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    while producer.try_put(&stream, Record::new("k", &[7; 999])).map(drop).is_ok() {}
    let (waiting_producer, waiting_stream) = (producer.clone(), stream.clone());
    let waiter = work(move || {
        let put = waiting_producer.put(&waiting_stream, Record::new("k", &[7; 999]));
        put.map(drop).map_err(|error| error.reason)
    });
    waiter.assert_busy_for(ms(100));
    let counts = bounded(producer.close(ms(1)));
    assert_eq!(counts.outstanding(), 0);
    assert_eq!(waiter.done(), Err(PutErrorReason::Closed));
}
