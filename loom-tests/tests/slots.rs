//! Outcome slots: settling against polling, dropping and abandoning; freeing against taking; the owner's end.
#![cfg(loom)]

use std::sync::Arc;
use std::task::Context;

use kpl::ring::{Abandoned, Ledger, Slots, Told};
use loom::thread;
use loom_tests::{Signal, block_on, claims, wake};

claims! {
    a_poll_sees_the_outcome_or_is_woken_for_it catches SlotSettleRelaxed;
    the_latest_waker_is_the_one_that_is_called catches SlotWakerKept;
    a_dropped_ticket_abandons_and_wakes catches SlotAbandonSilent;
    the_value_is_dropped_once_whichever_end_goes_first catches SlotSettleRelaxed;
    a_freed_slot_is_taken_again_only_when_both_ends_are_done catches SlotFreeRelaxed;
    who_takes_its_end_while_it_is_woken_leaves_the_slot_to_the_ticket catches SlotFreedEarly;
    slots_grow_and_are_used_again_while_others_settle catches SlotFreeRelaxed, SlotsMiscounted;
    whoever_is_last_frees_the_pool catches SlotsMiscounted;
    a_lone_record_is_told_to_nobody_and_a_lone_record_that_is_lost_is_counted catches SlotLoneForgotten;
}

fn a_poll_sees_the_outcome_or_is_woken_for_it() {
    let mut slots = Slots::new(Arc::new(Ledger::new()));
    let (ticket, mut handle) = slots.take();
    let settler = thread::spawn(move || wake(ticket.settle(7u64, 0).into_waker()));
    assert_eq!(block_on(|cx| handle.poll(cx)), Ok((7, 0)));
    assert_eq!(handle.try_take(), None, "an outcome is taken once");
    settler.join().unwrap();
}

fn the_latest_waker_is_the_one_that_is_called() {
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
}

fn a_dropped_ticket_abandons_and_wakes() {
    let ledger = Arc::new(Ledger::new());
    let mut slots = Slots::<u64>::new(Arc::clone(&ledger));
    let (ticket, mut handle) = slots.take();
    let settler = thread::spawn(move || drop(ticket));
    assert_eq!(block_on(|cx| handle.poll(cx)), Err(Abandoned));
    settler.join().unwrap();
    assert_eq!(ledger.abandoned(), 1);
}

fn the_value_is_dropped_once_whichever_end_goes_first() {
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
}

fn a_freed_slot_is_taken_again_only_when_both_ends_are_done() {
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
}

fn whoever_is_last_frees_the_pool() {
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
}

fn who_takes_its_end_while_it_is_woken_leaves_the_slot_to_the_ticket() {
    let mut slots = Slots::new(Arc::new(Ledger::new()));
    let (ticket, mut handle) = slots.take();
    let other = slots.take_lone();
    let settler = thread::spawn(move || wake(ticket.settle(1u64, 0).into_waker()));
    let _ = handle.poll(&mut Context::from_waker(&Signal::unset().waker()));
    // It may be settled, and its waker still be on the way out.
    let taken = handle.try_take();
    assert!(matches!(taken, None | Some(Ok((1, 0)))));
    let (ticket, mut next) = slots.take();
    assert!(next.poll(&mut Context::from_waker(&Signal::unset().waker())).is_pending());
    wake(ticket.settle(2, 0).into_waker());
    assert_eq!(next.try_take(), Some(Ok((2, 0))));
    settler.join().unwrap();
    drop(other);
}

fn slots_grow_and_are_used_again_while_others_settle() {
    let ledger = Arc::new(Ledger::new());
    let mut slots = Slots::new(Arc::clone(&ledger));
    // The first segment; what follows finds slots of it that were freed, or grows.
    let former = [slots.take_lone(), slots.take_lone()];
    let settler = thread::spawn(move || former.map(|ticket| wake(ticket.settle(0u64, 0).into_waker())));
    let (first, mut one) = slots.take();
    let (second, mut other) = slots.take();
    let later = thread::spawn(move || {
        wake(first.settle(1, 7).into_waker());
        wake(second.settle(2, 8).into_waker());
    });
    assert_eq!(block_on(|cx| other.poll(cx)), Ok((2, 8)));
    settler.join().unwrap();
    later.join().unwrap();
    drop(slots);
    assert_eq!(one.try_take(), Some(Ok((1, 7))));
    assert_eq!(Arc::strong_count(&ledger), 1, "both segments are freed");
}

fn a_lone_record_is_told_to_nobody_and_a_lone_record_that_is_lost_is_counted() {
    let ledger = Arc::new(Ledger::new());
    let mut slots = Slots::new(Arc::clone(&ledger));
    let (settled, lost) = (slots.take_lone(), slots.take_lone());
    let (ticket, handle) = slots.take();
    let settler = thread::spawn(move || match settled.settle(5u64, 0) {
        Told::Nobody => {}
        told => panic!("{told:?}"),
    });
    let loser = thread::spawn(move || drop((lost, ticket)));
    drop((slots, handle));
    settler.join().unwrap();
    loser.join().unwrap();
    assert_eq!((ledger.abandoned(), ledger.abandoned_lone()), (2, 1));
    assert_eq!(Arc::strong_count(&ledger), 1, "the pool is freed");
}
