//! Outcome slots: settling against polling, dropping and abandoning; freeing against taking; the owner's end.
#![cfg(loom)]

use std::sync::Arc;
use std::task::Context;

use kpl::ring::{Abandoned, Ledger, Slots};
use loom::thread;
use loom_tests::{Signal, block_on, model, wake};

#[test]
fn a_poll_sees_the_outcome_or_is_woken_for_it() {
    model(|| {
        let mut slots = Slots::new(Arc::new(Ledger::new()));
        let (ticket, mut handle) = slots.take();
        let settler = thread::spawn(move || wake(ticket.settle(7u64, 0).into_waker()));
        assert_eq!(block_on(|cx| handle.poll(cx)), Ok((7, 0)));
        assert_eq!(handle.try_take(), None, "an outcome is taken once");
        settler.join().unwrap();
    });
}

#[test]
fn the_latest_waker_is_the_one_that_is_called() {
    model(|| {
        let mut slots = Slots::new(Arc::new(Ledger::new()));
        let (ticket, mut handle) = slots.take();
        let settler = thread::spawn(move || wake(ticket.settle(7u64, 0).into_waker()));
        let (first, second) = (Signal::unset(), Signal::unset());
        let pending = handle.poll(&mut Context::from_waker(&first.waker())).is_pending();
        if pending && handle.poll(&mut Context::from_waker(&second.waker())).is_pending() {
            second.wait();
            assert_eq!(handle.try_take(), Some(Ok((7, 0))));
        }
        settler.join().unwrap();
    });
}

#[test]
fn a_dropped_ticket_abandons_and_wakes() {
    model(|| {
        let ledger = Arc::new(Ledger::new());
        let mut slots = Slots::<u64>::new(Arc::clone(&ledger));
        let (ticket, mut handle) = slots.take();
        let settler = thread::spawn(move || drop(ticket));
        assert_eq!(block_on(|cx| handle.poll(cx)), Err(Abandoned));
        settler.join().unwrap();
        assert_eq!(ledger.abandoned(), 1);
    });
}

#[test]
fn the_value_is_dropped_once_whichever_end_goes_first() {
    model(|| {
        let value = Arc::new(());
        let mut slots = Slots::new(Arc::new(Ledger::new()));
        let (ticket, mut handle) = slots.take();
        let settled = Arc::clone(&value);
        let settler = thread::spawn(move || wake(ticket.settle(settled, 0).into_waker()));
        // With a waker registered or without, as the settler comes earlier or later.
        let _ = handle.poll(&mut Context::from_waker(&Signal::unset().waker()));
        drop(handle);
        settler.join().unwrap();
        assert_eq!(Arc::strong_count(&value), 1);
    });
}

#[test]
fn a_freed_slot_is_taken_again_only_when_both_ends_are_done() {
    model(|| {
        let mut slots = Slots::new(Arc::new(Ledger::new()));
        // Segments have two slots under loom: the third take finds a freed slot, or grows.
        let (first, mut handle) = slots.take();
        let second = slots.take_lone();
        let settler = thread::spawn(move || {
            wake(first.settle(1u64, 0).into_waker());
            wake(second.settle(2, 0).into_waker());
        });
        assert_eq!(block_on(|cx| handle.poll(cx)), Ok((1, 0)));
        let (third, mut handle) = slots.take();
        wake(third.settle(3, 0).into_waker());
        assert_eq!(handle.try_take(), Some(Ok((3, 0))));
        let (fourth, mut handle) = slots.take();
        wake(fourth.settle(4, 0).into_waker());
        assert_eq!(handle.try_take(), Some(Ok((4, 0))));
        settler.join().unwrap();
    });
}

#[test]
fn whoever_is_last_frees_the_pool() {
    model(|| {
        let ledger = Arc::new(Ledger::new());
        let mut slots = Slots::new(Arc::clone(&ledger));
        let (first, handle) = slots.take();
        let second = slots.take_lone();
        let settler = thread::spawn(move || {
            wake(first.settle(1u64, 0).into_waker());
            wake(second.settle(2, 0).into_waker());
        });
        let caller = thread::spawn(move || drop(handle));
        drop(slots);
        settler.join().unwrap();
        caller.join().unwrap();
        assert_eq!(Arc::strong_count(&ledger), 1, "the pool held the other reference");
    });
}
