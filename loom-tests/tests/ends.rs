//! The ends' going: a submitter that goes while its core drains, a core that dies, and what either leaves.
#![cfg(loom)]

use std::sync::Arc;

use kpl::ring::{Abandoned, Handle, Ledger, Receiver, Slots, ring};
use loom::thread;
use loom_tests::{block_on, claims, wake};

claims! {
    whichever_side_goes_first_every_ticket_is_abandoned catches RingRestForgotten;
    what_was_staged_is_published_when_the_sender_goes catches RingDropForgets;
    a_submitter_that_goes_while_its_core_drains_loses_nothing catches RingGoneRelaxed;
    a_core_that_dies_in_mid_drain_tells_everyone catches SlotAbandonSilent, RingRestForgotten;
    what_a_dead_core_left_is_reclaimed_once catches RingReclaimRelaxed;
}

/// Settles what is in the ring with `value`, and returns how many frames it were.
fn settle_all(receiver: &mut Receiver<u64>, value: u64) -> usize {
    let until = receiver.snapshot();
    let mut count = 0;
    while let Some(frame) = receiver.pop(until) {
        wake(frame.ticket.settle(value, 0).into_waker());
        count += 1;
    }
    wake(receiver.release());
    count
}

fn whichever_side_goes_first_every_ticket_is_abandoned() {
    let ledger = Arc::new(Ledger::new());
    let mut slots = Slots::<u64>::new(Arc::clone(&ledger));
    let (mut sender, receiver) = ring(128);
    let submitter = thread::spawn(move || {
        let mut handles: Vec<Handle<u64>> = Vec::new();
        for len in [8, 100] {
            let (ticket, handle) = slots.take();
            assert!(sender.try_push(ticket, len, |bytes| bytes.fill(1)).is_ok());
            handles.push(handle);
        }
        drop(sender);
        handles
    });
    drop(receiver);
    let mut handles = submitter.join().unwrap();
    assert!(handles.iter_mut().all(|handle| handle.try_take().is_some_and(|outcome| outcome.is_err())));
    drop(handles);
    assert_eq!(ledger.abandoned(), 2);
    assert_eq!(Arc::strong_count(&ledger), 1, "ring and pool are freed");
}

fn what_was_staged_is_published_when_the_sender_goes() {
    let ledger = Arc::new(Ledger::new());
    let mut slots = Slots::new(Arc::clone(&ledger));
    let (mut sender, mut receiver) = ring(128);
    let submitter = thread::spawn(move || {
        let handles = [3, 100].map(|len| {
            let (ticket, handle) = slots.take();
            sender.room(len).expect("the ring is empty").fill(1);
            sender.stage(ticket, len, len);
            handle
        });
        drop((sender, slots));
        handles
    });
    let seen = settle_all(&mut receiver, 1);
    let mut handles = submitter.join().unwrap();
    let later = settle_all(&mut receiver, 1);
    assert_eq!(seen + later, 2);
    assert!(receiver.is_disconnected());
    assert!(handles.iter_mut().all(|handle| handle.try_take() == Some(Ok((1, 0)))));
    drop((handles, receiver));
    assert_eq!(Arc::strong_count(&ledger), 1, "ring and pool are freed");
}

fn a_submitter_that_goes_while_its_core_drains_loses_nothing() {
    let ledger = Arc::new(Ledger::new());
    let mut slots = Slots::new(Arc::clone(&ledger));
    let (mut sender, mut receiver) = ring(128);
    assert!(sender.try_push(slots.take_lone(), 8, |_| ()).is_ok());
    let submitter = thread::spawn(move || {
        assert!(sender.try_push(slots.take_lone(), 8, |_| ()).is_ok());
        drop((sender, slots));
    });
    // As a core does: it drains, and forgets a ring whose submitter is gone.
    let mut count = settle_all(&mut receiver, 1);
    let forgotten = receiver.is_disconnected();
    assert!(!forgotten || count == 2, "{count} of two, and it is said to be all");
    submitter.join().unwrap();
    count += settle_all(&mut receiver, 1);
    assert_eq!((count, ledger.abandoned()), (2, 0));
    assert!(receiver.is_disconnected());
    assert_eq!(Arc::strong_count(&ledger), 1, "the pool is freed");
}

fn a_core_that_dies_in_mid_drain_tells_everyone() {
    let ledger = Arc::new(Ledger::new());
    let mut slots = Slots::<u64>::new(Arc::clone(&ledger));
    let (mut sender, mut receiver) = ring(128);
    let (ticket, mut first) = slots.take();
    assert!(sender.try_push(ticket, 8, |_| ()).is_ok());
    let core = thread::spawn(move || {
        // What unwinding drops, in its order: a ticket that was taken out, then the ring.
        let held = receiver.pop(u64::MAX).map(|frame| frame.ticket);
        drop(held);
        drop(receiver);
    });
    let (ticket, mut second) = slots.take();
    assert!(sender.try_push(ticket, 8, |_| ()).is_ok());
    assert_eq!(block_on(|cx| first.poll(cx)), Err(Abandoned));
    drop((sender, slots));
    assert_eq!(block_on(|cx| second.poll(cx)), Err(Abandoned));
    core.join().unwrap();
    assert_eq!((ledger.abandoned(), ledger.abandoned_lone()), (2, 0));
}

fn what_a_dead_core_left_is_reclaimed_once() {
    let mut slots = Slots::new(Arc::new(Ledger::new()));
    let (mut sender, mut receiver) = ring(128);
    let (ticket, first) = slots.take();
    assert!(sender.try_push(ticket, 8, |_| ()).is_ok());
    let submitter = thread::spawn(move || {
        let (ticket, second) = slots.take();
        assert!(sender.try_push(ticket, 8, |_| ()).is_ok());
        while !sender.is_disconnected() {
            thread::yield_now();
        }
        sender.reclaim(|ticket| wake(ticket.settle(2, 0).into_waker()));
        [first, second]
    });
    settle_all(&mut receiver, 1);
    drop(receiver);
    // Whoever came first: the drain (1), the receiver's drop (abandoned), or the sender (2).
    for mut handle in submitter.join().unwrap() {
        assert!(matches!(handle.try_take(), Some(Ok((1 | 2, 0)) | Err(Abandoned))));
    }
}
