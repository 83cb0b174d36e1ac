//! The doorbell: no put and no command is slept through; a put against a close knows where it stands.
#![cfg(loom)]

use std::sync::Arc;

use kpl::ring::{Abandoned, Doorbell, Ledger, Published, Receiver, Rest, Slots, ring};
use loom::thread;
use loom_tests::{block_on, claims, wake};

claims! {
    a_put_is_not_slept_through_by_a_parked_core catches BellRestUnfenced, BellUnlooked;
    a_put_past_half_is_not_slept_through_by_an_armed_core catches BellRestUnfenced;
    of_two_puts_to_a_parked_core_at_most_one_rings_and_none_is_lost catches BellUnlooked;
    a_command_is_not_slept_through catches BellUnlooked;
    who_sees_the_core_tick_sees_its_clock catches BellAwakeRelaxed;
    a_close_outlives_a_core_that_comes_to_rest catches BellRestStores;
    a_put_that_is_not_told_closed_is_seen_by_the_last_drain catches BellCloseUnfenced;
    a_put_that_is_told_closed_reclaims_what_the_receiver_left catches BellCloseUnfenced, RingReclaimRelaxed;
}

/// Settles what is in the ring, and returns how many frames it were.
fn settle_all(receiver: &mut Receiver<u64>) -> usize {
    let until = receiver.snapshot();
    let mut count = 0;
    while let Some(frame) = receiver.pop(until) {
        wake(frame.ticket.settle(1, 0).into_waker());
        count += 1;
    }
    wake(receiver.release());
    count
}

/// One record, put by another thread against a core that is about to rest; the core must come to it.
fn a_put_against(rest: Rest, past_half: bool) {
    let bell = Arc::new(Doorbell::new());
    let (mut sender, mut receiver) = ring(128);
    let caller = thread::spawn({
        let bell = Arc::clone(&bell);
        move || {
            let mut slots = Slots::new(Arc::new(Ledger::new()));
            assert!(sender.try_push(slots.take_lone(), 8, |_| ()).is_ok());
            let _ = bell.published(past_half);
        }
    });
    while settle_all(&mut receiver) == 0 {
        bell.rest(rest);
        if receiver.snapshot() == receiver.position() {
            block_on(|cx| bell.poll_rung(cx));
        }
        bell.tick(1);
        bell.awake();
    }
    caller.join().unwrap();
}

fn a_put_is_not_slept_through_by_a_parked_core() {
    a_put_against(Rest::Parked, false);
}

fn a_put_past_half_is_not_slept_through_by_an_armed_core() {
    a_put_against(Rest::Armed, true);
}

fn of_two_puts_to_a_parked_core_at_most_one_rings_and_none_is_lost() {
    let bell = Arc::new(Doorbell::new());
    bell.rest(Rest::Parked);
    let callers = [0, 1].map(|_| {
        let (mut sender, receiver) = ring(128);
        let bell = Arc::clone(&bell);
        let caller = thread::spawn(move || {
            let mut slots = Slots::new(Arc::new(Ledger::new()));
            assert!(sender.try_push(slots.take_lone(), 0, |_| ()).is_ok());
            bell.published(false) == Published::Rang
        });
        (caller, receiver)
    });
    block_on(|cx| bell.poll_rung(cx));
    let [(first, mut one), (second, mut other)] = callers;
    let rang = [first.join().unwrap(), second.join().unwrap()];
    assert_eq!(rang.iter().filter(|rang| **rang).count(), 1);
    assert_eq!(settle_all(&mut one) + settle_all(&mut other), 2);
}

fn a_command_is_not_slept_through() {
    let bell = Arc::new(Doorbell::new());
    let commander = thread::spawn({
        let bell = Arc::clone(&bell);
        move || bell.ring()
    });
    bell.rest(Rest::Parked);
    block_on(|cx| bell.poll_rung(cx));
    bell.awake();
    commander.join().unwrap();
}

fn who_sees_the_core_tick_sees_its_clock() {
    let bell = Arc::new(Doorbell::new());
    bell.rest(Rest::Parked);
    let caller = thread::spawn({
        let bell = Arc::clone(&bell);
        move || {
            let _ = bell.published(false);
            let observed = bell.observe();
            assert!(!observed.state.is_ticking() || observed.now_ns == 9);
        }
    });
    bell.tick(9);
    bell.awake();
    caller.join().unwrap();
}

fn a_put_that_is_not_told_closed_is_seen_by_the_last_drain() {
    let ledger = Arc::new(Ledger::new());
    let bell = Arc::new(Doorbell::new());
    let (mut sender, mut receiver) = ring(128);
    let caller = thread::spawn({
        let (bell, ledger) = (Arc::clone(&bell), Arc::clone(&ledger));
        move || {
            let mut slots = Slots::new(ledger);
            let (ticket, handle) = slots.take();
            assert!(sender.try_push(ticket, 8, |_| ()).is_ok());
            (bell.published(false), handle)
        }
    });
    bell.close();
    let drained = settle_all(&mut receiver);
    drop(receiver);
    let (published, mut handle) = caller.join().unwrap();
    match handle.try_take() {
        Some(Ok(_)) => assert_eq!(drained, 1),
        Some(Err(Abandoned)) => assert_eq!((drained, published), (0, Published::Closed)),
        None => panic!("a record is left without an outcome"),
    }
}

fn a_put_that_is_told_closed_reclaims_what_the_receiver_left() {
    let bell = Arc::new(Doorbell::new());
    let (mut sender, mut receiver) = ring(128);
    let caller = thread::spawn({
        let bell = Arc::clone(&bell);
        move || {
            let mut slots = Slots::new(Arc::new(Ledger::new()));
            let (ticket, mut handle) = slots.take();
            assert!(sender.try_push(ticket, 8, |_| ()).is_ok());
            if bell.published(false) == Published::Closed {
                while !sender.is_disconnected() {
                    thread::yield_now();
                }
                sender.reclaim(|ticket| wake(ticket.settle(2, 0).into_waker()));
                // Whoever came first: the last drain (1), the receiver's drop (abandoned), or we (2).
                assert!(matches!(handle.try_take(), Some(Ok((1 | 2, 0)) | Err(Abandoned))));
            }
            handle
        }
    });
    bell.close();
    settle_all(&mut receiver);
    drop(receiver);
    let mut handle = caller.join().unwrap();
    // A put that was not told is the last drain's; one that was has taken its outcome, once.
    assert!(matches!(handle.try_take(), None | Some(Ok((1, 0)))));
}

fn a_close_outlives_a_core_that_comes_to_rest() {
    let bell = Arc::new(Doorbell::new());
    let closer = thread::spawn({
        let bell = Arc::clone(&bell);
        move || {
            bell.set_closing();
            bell.ring();
        }
    });
    bell.rest(Rest::Parked);
    block_on(|cx| bell.poll_rung(cx));
    bell.awake();
    assert!(bell.observe().state.is_closing());
    closer.join().unwrap();
}
