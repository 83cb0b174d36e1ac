//! The budget: releases against waiters, the bound, chunks, cancelling, closing, what is held and who is refused.
#![cfg(loom)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Context;

use kpl::ring::{Budget, Purse, WaitError};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use loom_tests::{Signal, block_on, claims};

claims! {
    a_release_is_not_missed_by_a_waiter catches BudgetReleaseUnfenced;
    takers_of_two_threads_never_exceed_the_bound catches BudgetDrawKeeps;
    a_draw_that_fails_does_not_strand_a_waiter catches BudgetDrawKeeps;
    two_waiters_are_served_by_two_releases catches BudgetReleaseUnfenced;
    a_cancelled_wait_gives_its_grant_back catches BudgetGrantKept;
    a_close_fails_who_waits catches BudgetCloseSilent;
    purses_with_chunks_lose_no_credit catches BudgetPurseKeeps, BudgetDrawKeeps;
    a_purse_that_goes_leaves_its_chunk_to_who_waits catches BudgetPurseKeeps, BudgetReleaseUnfenced;
    what_is_let_go_is_not_missed_by_a_waiter catches BudgetReleaseUnfenced;
    who_waits_while_all_is_held_is_refused catches BudgetReleaseUnfenced;
    who_waits_while_all_is_drained_is_granted_or_refused catches BudgetReleaseUnfenced;
    who_was_refused_takes_no_grant_of_later_ones catches BudgetRefusedGranted;
}

/// So many purses that a quarter of the bound, shared among them, is nothing: every credit moves through the pool.
const NO_CHUNKS: usize = 100;

fn wait(purse: &mut Purse, bytes: usize) -> Result<(), WaitError> {
    let mut future = pin!(purse.wait(bytes));
    block_on(|cx| future.as_mut().poll(cx))
}

fn a_release_is_not_missed_by_a_waiter() {
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
}

fn takers_of_two_threads_never_exceed_the_bound() {
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
}

fn a_draw_that_fails_does_not_strand_a_waiter() {
    let budget = Budget::new(2, 100, NO_CHUNKS);
    let taker = thread::spawn({
        let mut purse = budget.purse();
        // If the bytes go just before, it takes the last record for a moment, and puts it back.
        move || purse.try_take(75).is_ok()
    });
    let mut holder = budget.purse();
    let held = u64::from(holder.try_take(50).is_ok());
    let mut purse = budget.purse();
    assert_eq!(wait(&mut purse, 10), Ok(()));
    let taken = u64::from(taker.join().unwrap());
    drop(purse);
    drop(holder);
    assert!(held + taken <= 1, "there are not as many bytes");
    assert_eq!(budget.used(), (1 + held + taken, 10 + 50 * held + 75 * taken));
}

fn two_waiters_are_served_by_two_releases() {
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
}

fn a_cancelled_wait_gives_its_grant_back() {
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
}

fn a_close_fails_who_waits() {
    let budget = Budget::new(1, 100, NO_CHUNKS);
    budget.purse().try_take(10).unwrap();
    let closer = thread::spawn({
        let budget = Arc::clone(&budget);
        move || {
            budget.close();
            budget.release(1, 10);
        }
    });
    // Who finds credit when it comes does not wait.
    let outcome = wait(&mut budget.purse(), 60);
    closer.join().unwrap();
    assert_eq!(budget.used(), if outcome.is_ok() { (1, 60) } else { (0, 0) });
}

fn purses_with_chunks_lose_no_credit() {
    // A purse holds a record and 50 bytes unspent; there is too little for both to draw so much more than they need.
    let budget = Budget::new(8, 400, 2);
    let threads = [60, 270].map(|bytes| {
        let budget = Arc::clone(&budget);
        thread::spawn(move || {
            let mut purse = budget.purse();
            purse.try_take(bytes).unwrap();
            assert!(budget.used().1 <= 400);
            purse.refund_bytes(10);
            drop(purse);
            budget.release(1, bytes as u64 - 10);
        })
    });
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(budget.used(), (0, 0));
}

fn a_purse_that_goes_leaves_its_chunk_to_who_waits() {
    let budget = Budget::new(4, 400, 1);
    let mut rich = budget.purse();
    rich.try_take(100).unwrap();
    assert_eq!(budget.used(), (2, 200), "one record is taken, one is the chunk");
    let other = thread::spawn(move || drop(rich));
    let mut poor = budget.purse();
    assert_eq!(wait(&mut poor, 300), Ok(()));
    other.join().unwrap();
    assert_eq!(budget.used(), (2, 400));
}

fn what_is_let_go_is_not_missed_by_a_waiter() {
    let budget = Budget::new(1, 100, NO_CHUNKS);
    budget.purse().try_take(10).unwrap();
    // The core settles it and gives its bytes back; whoever drains it may be earlier.
    let core = thread::spawn({
        let budget = Arc::clone(&budget);
        move || {
            budget.hold(1);
            budget.release(0, 10);
        }
    });
    let consumer = thread::spawn({
        let budget = Arc::clone(&budget);
        move || budget.let_go(1)
    });
    assert_eq!(wait(&mut budget.purse(), 60), Ok(()));
    core.join().unwrap();
    consumer.join().unwrap();
    assert_eq!(budget.used(), (1, 60));
}

/// Refuses those who wait if nothing is under way, as a producer does; `settled` of one record.
fn refuse_if_stuck(budget: &Budget, settled: &AtomicUsize) {
    if budget.may_be_stuck() && settled.load(Ordering::Relaxed) == 1 {
        budget.refuse_if_held();
    }
}

/// Settles the one record that is under way, as a core does; its end is still to be told.
fn settle_held(budget: &Budget, settled: &AtomicUsize) {
    budget.hold(1);
    settled.store(1, Ordering::Relaxed);
    budget.release(0, 10);
    refuse_if_stuck(budget, settled);
}

/// Waits for credit as a submitter does: once it stands in the queue, it looks whether it is stuck.
fn wait_or_be_refused(budget: &Arc<Budget>, settled: &AtomicUsize) -> Result<(), WaitError> {
    let mut purse = budget.purse();
    let mut wait = pin!(purse.wait(60));
    let mut looked = false;
    block_on(|cx| {
        let polled = wait.as_mut().poll(cx);
        if polled.is_ready() || looked {
            return polled;
        }
        looked = true;
        refuse_if_stuck(budget, settled);
        wait.as_mut().poll(cx)
    })
}

fn who_waits_while_all_is_held_is_refused() {
    let (budget, settled) = (Budget::new(1, 100, NO_CHUNKS), Arc::new(AtomicUsize::new(0)));
    budget.purse().try_take(10).unwrap();
    let core = thread::spawn({
        let (budget, settled) = (Arc::clone(&budget), Arc::clone(&settled));
        move || settle_held(&budget, &settled)
    });
    assert_eq!(wait_or_be_refused(&budget, &settled), Err(WaitError::Held));
    core.join().unwrap();
    budget.let_go(1);
    assert_eq!(budget.used(), (0, 0));
}

fn who_waits_while_all_is_drained_is_granted_or_refused() {
    let (budget, settled) = (Budget::new(1, 100, NO_CHUNKS), Arc::new(AtomicUsize::new(0)));
    budget.purse().try_take(10).unwrap();
    let core = thread::spawn({
        let (budget, settled) = (Arc::clone(&budget), Arc::clone(&settled));
        move || settle_held(&budget, &settled)
    });
    let consumer = thread::spawn({
        let budget = Arc::clone(&budget);
        move || budget.let_go(1)
    });
    let outcome = wait_or_be_refused(&budget, &settled);
    core.join().unwrap();
    consumer.join().unwrap();
    assert_eq!(budget.used(), if outcome.is_ok() { (1, 60) } else { (0, 0) });
}

fn who_was_refused_takes_no_grant_of_later_ones() {
    let budget = Budget::new(1, 100, NO_CHUNKS);
    budget.purse().try_take(10).unwrap();
    budget.release(0, 10);
    budget.hold(1);
    let mut purse = budget.purse();
    let mut refused = pin!(purse.wait(60));
    let signal = Signal::unset();
    assert!(refused.as_mut().poll(&mut Context::from_waker(&signal.waker())).is_pending());
    let other = thread::spawn({
        let budget = Arc::clone(&budget);
        move || {
            budget.refuse_if_held();
            let mut purse = budget.purse();
            let mut later = pin!(purse.wait(70));
            assert!(later.as_mut().poll(&mut Context::from_waker(&Signal::unset().waker())).is_pending());
            budget.let_go(1);
            block_on(|cx| later.as_mut().poll(cx)).unwrap();
        }
    });
    signal.wait();
    assert_eq!(block_on(|cx| refused.as_mut().poll(cx)), Err(WaitError::Held));
    other.join().unwrap();
    assert_eq!(budget.used(), (1, 70));
}
