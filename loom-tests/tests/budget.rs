//! The budget: releases against waiters, the bound, cancelling, closing.
#![cfg(loom)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;

use kpl::ring::{Budget, Purse, WaitError};
use loom::thread;
use loom_tests::{Signal, block_on, model};

/// So many purses that a quarter of the bound, shared among them, is nothing: every credit moves through the pool.
const NO_CHUNKS: usize = 100;

fn wait(purse: &mut Purse, bytes: usize) -> Result<(), WaitError> {
    let mut future = pin!(purse.wait(bytes));
    block_on(|cx| future.as_mut().poll(cx))
}

#[test]
fn a_release_is_not_missed_by_a_waiter() {
    model(|| {
        let budget = Budget::new(1, 100, NO_CHUNKS);
        let mut purse = budget.purse();
        purse.try_take(10).unwrap();
        let core = thread::spawn({
            let budget = Arc::clone(&budget);
            move || budget.release(1, 10)
        });
        assert_eq!(wait(&mut purse, 60), Ok(()));
        core.join().unwrap();
        assert_eq!(budget.used(), (1, 60));
    });
}

#[test]
fn takers_of_two_threads_never_exceed_the_bound() {
    model(|| {
        let budget = Budget::new(2, 100, NO_CHUNKS);
        let takers = [0, 1].map(|_| {
            let mut purse = budget.purse();
            thread::spawn(move || {
                let taken = purse.try_take(60).is_ok();
                (taken, purse)
            })
        });
        let taken = takers.map(|taker| taker.join().unwrap());
        let count = taken.iter().filter(|(taken, _)| *taken).count() as u64;
        assert!(count <= 1, "120 bytes of 100");
        drop(taken);
        assert_eq!(budget.used(), (count, count * 60));
    });
}

#[test]
fn a_draw_that_fails_does_not_strand_a_waiter() {
    model(|| {
        let budget = Budget::new(2, 100, NO_CHUNKS);
        let mut holder = budget.purse();
        holder.try_take(50).unwrap();
        let taker = thread::spawn({
            let mut purse = budget.purse();
            // It takes the last record for a moment, and puts it back for want of bytes.
            move || assert!(purse.try_take(75).is_err())
        });
        let mut purse = budget.purse();
        assert_eq!(wait(&mut purse, 10), Ok(()));
        taker.join().unwrap();
        drop(purse);
        drop(holder);
        assert_eq!(budget.used(), (2, 60));
    });
}

#[test]
fn two_waiters_are_served_by_two_releases() {
    model(|| {
        let budget = Budget::new(1, 100, NO_CHUNKS);
        budget.purse().try_take(10).unwrap();
        let other = thread::spawn({
            let budget = Arc::clone(&budget);
            move || {
                wait(&mut budget.purse(), 70).unwrap();
                budget.release(1, 70);
            }
        });
        budget.release(1, 10);
        wait(&mut budget.purse(), 60).unwrap();
        budget.release(1, 60);
        other.join().unwrap();
        assert_eq!(budget.used(), (0, 0));
    });
}

#[test]
fn a_cancelled_wait_gives_its_grant_back() {
    model(|| {
        let budget = Budget::new(1, 100, NO_CHUNKS);
        budget.purse().try_take(10).unwrap();
        let core = thread::spawn({
            let budget = Arc::clone(&budget);
            move || budget.release(1, 10)
        });
        let mut purse = budget.purse();
        let taken = {
            let mut future = pin!(purse.wait(60));
            future.as_mut().poll(&mut Context::from_waker(&Signal::unset().waker())).is_ready()
        };
        core.join().unwrap();
        assert_eq!(budget.used(), if taken { (1, 60) } else { (0, 0) });
    });
}

#[test]
fn a_close_fails_a_waiter_or_comes_after_its_grant() {
    model(|| {
        let budget = Budget::new(1, 100, NO_CHUNKS);
        budget.purse().try_take(10).unwrap();
        let closer = thread::spawn({
            let budget = Arc::clone(&budget);
            move || {
                budget.release(1, 10);
                budget.close();
            }
        });
        let outcome = wait(&mut budget.purse(), 60);
        closer.join().unwrap();
        assert_eq!(budget.used(), if outcome.is_ok() { (1, 60) } else { (0, 0) });
    });
}
