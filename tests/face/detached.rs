//! Records put detached: nobody waits for them, and a handler hears of those that fail, on a thread of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use endpoint::Action;
use kpl::{DetachedFailure, ErrorCode, PutErrorReason, Record};

use super::reader::read;
use super::world::{LIMIT, bounded, builder, close, emulator, hanging, ms, scripted, work};

/// A refusal that no retry helps, so that nothing here waits for a time to pass.
fn refused() -> Action {
    Action::error(400, "InvalidArgumentException", "no")
}

#[test]
fn a_detached_record_is_delivered_and_counted() {
    let endpoint = emulator(&[("s", 2)]);
    let told = Arc::new(AtomicU64::new(0));
    let handler = Arc::clone(&told);
    let producer = builder(&endpoint.url())
        .on_failure(move |failed| {
            handler.fetch_add(failed.records(), Ordering::Relaxed);
        })
        .build()
        .expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    for number in 0..100 {
        let key = format!("{number}");
        submitter.put_detached(&stream, Record::new(&key, "a")).expect("a put");
        submitter.try_put_detached(&stream, Record::new(&key, "b")).expect("a put");
        producer.put_detached(&stream, Record::new(&key, "c")).expect("a put");
    }
    bounded(async {
        submitter.put_detached_async(&stream, Record::new("k", "d")).await.expect("a put");
        producer.put_detached_async(&stream, Record::new("k", "e")).await.expect("a put");
    });
    assert_eq!(close(&producer).delivered, 302);
    assert_eq!(read(&endpoint, "s").len(), 302);
    assert_eq!(told.load(Ordering::Relaxed), 0);
}

#[test]
fn the_handler_hears_of_every_failure_once_and_off_the_cores() {
    let endpoint = scripted(&[("s", 1), ("t", 1)], |_| refused());
    let failures = Arc::new(Mutex::new(Vec::<DetachedFailure>::new()));
    let handler = Arc::clone(&failures);
    let producer = builder(&endpoint.url())
        .on_failure(move |failed| {
            assert_eq!(thread::current().name(), Some("kpl-callbacks"));
            handler.lock().expect("it panics with no lock").push(failed);
        })
        .build()
        .expect("a producer");
    for (name, records) in [("s", 70), ("t", 30)] {
        let stream = producer.stream(name).expect("a stream");
        let mut submitter = producer.submitter().expect("a submitter");
        for _ in 0..records {
            submitter.put_detached(&stream, Record::new("k", "d")).expect("a put");
        }
        // Whoever waits for an outcome hears of it there, and only there.
        drop(submitter.put(&stream, Record::new("k", "d")).expect("a put").wait().expect_err("it fails"));
        drop(submitter.put(&stream, Record::new("k", "d")).expect("a put"));
    }
    assert_eq!(close(&producer).failed, 104);
    let failures = failures.lock().expect("it panics with no lock");
    for (name, records) in [("s", 70), ("t", 30)] {
        let of_stream = failures.iter().filter(|failed| failed.stream() == Some(name));
        assert_eq!(of_stream.map(DetachedFailure::records).sum::<u64>(), records, "{name}");
    }
    for failed in failures.iter() {
        assert_eq!(*failed.failure().code(), ErrorCode::Poison, "refused alone");
        assert_eq!(failed.failure().attempts().len(), 1, "{failed:?}");
    }
}

#[test]
fn a_handler_that_panics_is_called_again_and_keeps_no_credit() {
    let endpoint = scripted(&[("s", 1)], |_| refused());
    let told = Arc::new(AtomicU64::new(0));
    let handler = Arc::clone(&told);
    let producer = builder(&endpoint.url())
        .max_outstanding_records(20)
        .on_failure(move |failed| {
            handler.fetch_add(failed.records(), Ordering::Relaxed);
            panic!("the handler's own");
        })
        .build()
        .expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    for _ in 0..100 {
        // A put that waits while all that is left is with the handler is refused, as with completions.
        while let Err(error) = submitter.put_detached(&stream, Record::new("k", "d")) {
            assert_eq!(error.reason, PutErrorReason::Full);
        }
    }
    assert_eq!(close(&producer).failed, 100);
    assert_eq!(told.load(Ordering::Relaxed), 100);
}

#[test]
fn a_handler_that_blocks_fills_the_producer_and_holds_nobody_up() {
    let endpoint = scripted(&[("s", 1), ("good", 1)], |request| {
        // Streams are named in the clear in either form of request.
        let good = request.body.windows(4).any(|bytes| bytes == b"good");
        if good { Action::Pass } else { refused() }
    });
    let (go_on, leave) = mpsc::channel::<()>();
    let (entered, called) = mpsc::channel();
    let leave = Mutex::new(leave);
    let told = Arc::new(AtomicU64::new(0));
    let handler = Arc::clone(&told);
    let producer = builder(&endpoint.url())
        .max_outstanding_records(20)
        .on_failure(move |failed| {
            handler.fetch_add(failed.records(), Ordering::Relaxed);
            let _ = entered.send(());
            let _ = leave.lock().expect("one thread calls it").recv();
        })
        .build()
        .expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let good = producer.stream("good").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    submitter.put_detached(&stream, Record::new("k", "d")).expect("a put");
    called.recv_timeout(LIMIT).expect("the handler is called");
    // While it blocks, records of others come and go.
    for _ in 0..100 {
        let delivered = producer.put(&good, Record::new("k", "d")).expect("a put").wait_timeout(LIMIT);
        delivered.expect("an outcome").expect("it is delivered");
    }
    let filler = work(move || {
        let mut accepted = 1;
        while submitter.put_detached(&stream, Record::new("k", "d")).is_ok() {
            accepted += 1;
        }
        accepted
    });
    let accepted = filler.done();
    assert!((15..=20).contains(&accepted), "{accepted}");
    assert_eq!(producer.outstanding(), 0, "all have ended, and wait to be told");
    drop(go_on);
    assert_eq!(close(&producer).failed, accepted);
    assert_eq!(told.load(Ordering::Relaxed), accepted, "a close waits for the handler");
}

#[test]
fn a_close_does_not_wait_for_a_handler_longer_than_its_timeout() {
    let endpoint = hanging(&[("s", 1)]);
    let (_never, leave) = mpsc::channel::<()>();
    let leave = Mutex::new(leave);
    let producer = builder(&endpoint.url())
        .on_failure(move |_| {
            let _ = leave.lock().expect("one thread calls it").recv_timeout(LIMIT * 4);
        })
        .build()
        .expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    producer.put_detached(&stream, Record::new("k", "d")).expect("a put");
    assert_eq!(bounded(producer.close(ms(50))).failed, 1);
}

#[test]
fn without_a_handler_failures_are_counted_and_hold_no_credit() {
    let endpoint = scripted(&[("s", 1)], |_| refused());
    let producer = builder(&endpoint.url()).max_outstanding_records(20).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    for _ in 0..100 {
        submitter.put_detached(&stream, Record::new("k", "d")).expect("a put");
    }
    assert_eq!(close(&producer).failed, 100);
}
