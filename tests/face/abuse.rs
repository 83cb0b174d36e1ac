//! Abuse: absurd bounds, and callers whose code panics or blocks. Each is refused by name or stays its own; nothing is
//! lost, stored twice or stuck.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use endpoint::{Action, EndpointConfig};
use kpl::{ErrorCode, Outcome, ProducerBuilder, PutErrorReason, RateLimit, Record, StartError, SubmitterError};

use super::reader::read;
use super::world::{
    LIMIT, Worker, bounded, builder, close, delivered, emulator, end, flushed, lingering, ms, scripted, start, work,
};

/// What is wrong with a configuration.
fn fault(build: ProducerBuilder) -> String {
    let Err(StartError::Config(error)) = build.build() else { panic!("it must not start") };
    assert_eq!(error.faults.len(), 1, "{error}");
    error.to_string()
}

#[test]
fn absurd_bounds_are_refused_by_field_value_and_bound() {
    let endpoint = emulator(&[]);
    let build = || builder(&endpoint.url());
    let huge = usize::MAX.to_string();
    for (build, words) in [
        (build().max_outstanding_records(0), ["max_outstanding_records", "0", "1 to 1073741824"]),
        (build().max_outstanding_records(usize::MAX), ["max_outstanding_records", &huge, "1 to 1073741824"]),
        (build().max_outstanding_bytes(usize::MAX), ["max_outstanding_bytes", &huge, "1 to 1099511627776"]),
        // A record would never fit.
        (build().max_outstanding_bytes(1000), ["max_outstanding_bytes, max_record_size", "1000 and 1048576", "hold"]),
        (build().max_submitters(4), ["max_submitters", "4", "5 to 4096"]),
        (build().max_submitters(usize::MAX), ["max_submitters", &huge, "5 to 4096"]),
        (build().ring_bytes(2048), ["ring_bytes", "2048", "4096 to 1073741824"]),
        (build().ring_bytes(1 << 31), ["ring_bytes", "2147483648", "4096 to 1073741824"]),
        (build().ring_bytes(5000), ["ring_bytes", "5000", "a power of two"]),
        (build().cores(257), ["cores", "257", "1 to 256"]),
    ] {
        let text = fault(build);
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    }
    // It breaks two bounds at once.
    let Err(StartError::Config(error)) = build().max_outstanding_bytes(0).build() else { panic!("it must not start") };
    assert!(error.to_string().contains("max_outstanding_bytes is 0, but must be 1 to"), "{error}");
}

#[test]
fn one_submitter_too_many_is_an_error_that_names_the_bound() {
    let endpoint = emulator(&[]);
    // Four of them are the pool's behind `Producer::put`.
    let producer = builder(&endpoint.url()).max_submitters(5).build().expect("a producer");
    let only = producer.submitter().expect("the only one");
    for _ in 0..3 {
        let error = producer.submitter().expect_err("one too many");
        assert!(matches!(error, SubmitterError::TooMany { max: 5 }) && error.to_string().contains('5'), "{error}");
    }
    drop(only);
    producer.submitter().expect("there is a place again");
    close(&producer);
}

#[test]
fn the_least_budgets_serve_many_callers_in_turn() {
    let endpoint = emulator(&[("s", 2)]);
    let tiny = |build: ProducerBuilder| build.max_record_size(300).aggregation_max_size(290).max_submitters(12);
    // One record at a time, and as many bytes as one record has.
    for build in [
        tiny(builder(&endpoint.url())).max_outstanding_records(1),
        tiny(builder(&endpoint.url())).max_outstanding_bytes(400),
    ] {
        let producer = build.rate_limit(RateLimit::Off).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let writers = (0..8).map(|writer| {
            let (producer, stream) = (producer.clone(), stream.clone());
            let mut submitter = producer.submitter().expect("a submitter");
            work(move || {
                for number in 0..10 {
                    let key = format!("{writer}-{number}");
                    let record = Record::new(&key, &[7; 250]);
                    let outcome = match number % 3 {
                        0 => submitter.put(&stream, record),
                        1 => bounded(submitter.put_async(&stream, record)),
                        _ => producer.put(&stream, record),
                    };
                    let outcome = outcome.expect("a put");
                    if writer % 2 == 0 {
                        delivered(outcome);
                    }
                }
            })
        });
        writers.collect::<Vec<_>>().into_iter().for_each(Worker::done);
        assert_eq!(close(&producer).delivered, 80);
    }
    assert_eq!(read(&endpoint, "s").len(), 160);
}

#[test]
fn the_smallest_ring_takes_the_largest_record() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = builder(&endpoint.url()).ring_bytes(4096).rate_limit(RateLimit::Off).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let data = vec![7; (1 << 20) - 1];
    for _ in 0..3 {
        delivered(submitter.put(&stream, Record::new("k", &data)).expect("a put"));
        delivered(submitter.put(&stream, Record::new("k", "small")).expect("a put"));
    }
    assert_eq!(read(&endpoint, "s").iter().filter(|record| record.data == data).count(), 3);
    assert_eq!(close(&producer).delivered, 6);
}

/// A waker that is no good.
struct Bad {
    blocks: bool,
    called: AtomicUsize,
    /// Nobody ever sends.
    never: Mutex<mpsc::Receiver<()>>,
    _keep: mpsc::Sender<()>,
}

impl Bad {
    fn new(blocks: bool) -> Arc<Bad> {
        let (keep, never) = mpsc::channel();
        Arc::new(Bad { blocks, called: AtomicUsize::new(0), never: Mutex::new(never), _keep: keep })
    }

    fn called(&self) -> usize {
        self.called.load(Ordering::SeqCst)
    }
}

impl Wake for Bad {
    fn wake(self: Arc<Self>) {
        self.called.fetch_add(1, Ordering::SeqCst);
        if self.blocks {
            let _ = self.never.lock().map(|never| never.recv_timeout(ms(200)));
        } else {
            panic!("a waker's own fault");
        }
    }
}

/// Polls once with a waker that is no good. Answers whether the future waits for it.
fn poll_badly<F: Future + Unpin>(future: &mut F, bad: &Arc<Bad>) -> bool {
    let waker = Waker::from(Arc::clone(bad));
    Pin::new(future).poll(&mut Context::from_waker(&waker)).is_pending()
}

#[test]
fn wakers_that_panic_or_block_keep_nobody_else_from_the_outcome() {
    for blocks in [false, true] {
        let endpoint = emulator(&[("s", 4)]);
        let producer = lingering(&endpoint.url()).rate_limit(RateLimit::Off).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let mut submitter = producer.submitter().expect("a submitter");
        let bad = Bad::new(blocks);
        let mut outcomes: Vec<Outcome> = (0..200)
            .map(|number| submitter.put(&stream, Record::new(&format!("{number}"), "d")).expect("a put"))
            .collect();
        // They linger, so all of them are waited for.
        for outcome in outcomes.iter_mut().step_by(20) {
            assert!(poll_badly(outcome, &bad));
        }
        flushed(producer.flush());
        outcomes.into_iter().for_each(|outcome| drop(delivered(outcome)));
        let next = submitter.put(&stream, Record::new("next", "d")).expect("the core goes on");
        flushed(producer.flush());
        delivered(next);
        assert_eq!(bad.called(), 10, "each was called, once");
        assert_eq!((producer.health().cores_alive, close(&producer).delivered), (1, 201));
        assert_eq!(read(&endpoint, "s").len(), 201, "exactly once");
    }
}

#[test]
fn wakers_of_flushes_streams_and_closes_that_panic_or_block_stop_no_thread() {
    for blocks in [false, true] {
        let mut config = EndpointConfig::emulator();
        // The first map comes late enough to be waited for.
        config.script = Some(Box::new(|request| match (request.operation, request.index) {
            ("ListShards", 0) => Action::Delay(ms(500)),
            _ => Action::Pass,
        }));
        let endpoint = start(&[("s", 1), ("t", 1)], config);
        let producer = lingering(&endpoint.url()).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let bad = Bad::new(blocks);
        let mut ready = stream.ready();
        let waits = usize::from(poll_badly(&mut ready, &bad));
        bounded(stream.ready()).expect("ready");
        let outcome = producer.put(&stream, Record::new("k", "d")).expect("a put");
        let mut flush = producer.flush();
        let waits = waits + usize::from(poll_badly(&mut flush, &bad));
        flushed(producer.flush());
        delivered(outcome);
        // The control thread and the core go on.
        let other = producer.stream("t").expect("a stream");
        bounded(other.ready()).expect("ready");
        let outcome = producer.put(&other, Record::new("k", "d")).expect("a put");
        flushed(producer.flush());
        delivered(outcome);
        assert_eq!(producer.health().cores_alive, 1);
        let mut closing = producer.close(LIMIT);
        let waits = waits + usize::from(poll_badly(&mut closing, &bad));
        assert_eq!(close(&producer).delivered, 2);
        assert!(waits > 0 && bad.called() <= waits, "{} of {waits}", bad.called());
    }
}

#[test]
fn wakers_of_puts_that_panic_or_block_keep_no_other_put_waiting() {
    for blocks in [false, true] {
        let endpoint = scripted(&[("s", 1)], |_| Action::Pass);
        let small = lingering(&endpoint.url()).max_outstanding_records(8).ring_bytes(4096).rate_limit(RateLimit::Off);
        let producer = small.build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let mut submitter = producer.submitter().expect("a submitter");
        let bad = Bad::new(blocks);
        let waker = Waker::from(Arc::clone(&bad));
        let mut accepted = 0;
        for _ in 0..3 {
            while producer.try_put(&stream, Record::new("k", "d")).is_ok_and(|outcome| {
                drop(outcome);
                true
            }) {
                accepted += 1;
            }
            let mut badly = pin!(producer.put_async(&stream, Record::new("k", "d")));
            let first = badly.as_mut().poll(&mut Context::from_waker(&waker));
            // In line behind it.
            drop(submitter.put(&stream, Record::new("k", "d")).expect("a put"));
            accepted += 1;
            if let Poll::Ready(result) = first {
                drop(result.expect("a put"));
            } else {
                // It was called, for what that is worth; asked again it goes on.
                drop(bounded(badly).expect("a put"));
            }
            accepted += 1;
        }
        assert_eq!(close(&producer).delivered, accepted);
        assert_eq!(read(&endpoint, "s").len() as u64, accepted);
    }
}

#[test]
fn more_outcomes_than_the_budget_can_be_collected_and_then_awaited() {
    const RECORDS: usize = 50_000;
    const BUDGET: usize = 4_000;
    let endpoint = start(&[], EndpointConfig::sink(4));
    let producer = builder(&endpoint.url())
        .max_outstanding_records(BUDGET)
        .rate_limit(RateLimit::Off)
        .build()
        .expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let watched = producer.clone();
    let collector = work(move || {
        let mut outcomes = Vec::with_capacity(RECORDS);
        let mut full = 0;
        while outcomes.len() < RECORDS {
            match submitter.try_put(&stream, Record::new("k", "d")) {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => {
                    // What is settled has given its credit back, whether or not anybody has looked at it.
                    assert_eq!(error.reason, PutErrorReason::Full);
                    full += 1;
                    outcomes.push(submitter.put(&stream, error.record).expect("it waits, and goes on"));
                }
            }
            assert!(outcomes.len() % 1000 != 0 || watched.outstanding() <= BUDGET as u64);
        }
        (outcomes, full)
    });
    let (outcomes, full) = collector.done();
    println!("{full} of {RECORDS} puts waited");
    let ends = outcomes.into_iter().map(|outcome| end(outcome).map(drop).map_err(|failure| failure.code().clone()));
    assert_eq!(ends.filter(Result::<(), ErrorCode>::is_ok).count(), RECORDS);
    assert_eq!(close(&producer).delivered, RECORDS as u64);
}
