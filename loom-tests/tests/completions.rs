//! The list of completions: listing against popping, closing, and the going of whoever gives its slots out.
#![cfg(loom)]

use std::sync::Arc;

use kpl::ring::{Completed, Completions, Ledger, Slots, Ticket, Told, settle_all};
use loom::thread;
use loom_tests::{block_on, claims, wake};

claims! {
    each_completion_is_popped_once_and_in_the_order_of_its_settler catches CompletionRelaxed, CompletionUnfenced,
        CompletionUnturned;
    records_that_are_settled_together_go_each_to_its_own_list catches CompletionRelaxed, CompletionUnfenced, RunOfTwoPools;
    a_run_that_meets_the_close_is_counted_or_freed catches CompletionCloseForgets, RunKept;
    a_close_counts_those_that_were_told_listed_and_frees_every_slot catches CompletionCloseForgets;
    who_waits_is_told_that_nothing_is_left_to_come catches CompletionEndSilent, CompletionUnfenced;
    whoever_of_three_is_last_frees_the_pool catches SlotsMiscounted;
    slots_that_are_given_back_together_are_taken_again_or_leave_their_pool catches SlotFreeRelaxed, FreedMiscounted;
    a_list_that_nobody_pops_is_freed_with_its_pool catches CompletionCloseForgets;
}

fn fixture<T: Clone + Send>() -> (Arc<Ledger>, Slots<T>, Completions<T>) {
    let ledger = Arc::new(Ledger::new());
    let mut slots = Slots::new(Arc::clone(&ledger));
    let completions = slots.completions().expect("the first time");
    (ledger, slots, completions)
}

fn settle<T: Send>(ticket: Ticket<T>, value: T) -> bool {
    let told = ticket.settle(value, 0);
    let listed = matches!(told, Told::Listed(_));
    wake(told.into_waker());
    listed
}

/// Settles records together, the first in place 1; answers how many were listed.
fn settle_together<T: Clone + Send>(mut tickets: Vec<Ticket<T>>, value: &T) -> u64 {
    let mut listed = 0;
    settle_all(&mut tickets, value, 1, |told, records| {
        listed += if matches!(told, Told::Listed(_)) { records } else { 0 };
        wake(told.into_waker());
    });
    listed
}

/// Pops until nothing is left to come.
fn pop_all(completions: &mut Completions<u64>) -> Vec<u64> {
    let mut numbers = Vec::new();
    while block_on(|cx| completions.poll_any(cx)) {
        while let Some(Completed { number, end }) = completions.pop() {
            assert!(end.is_err() || end == Ok((number, 0)));
            numbers.push(number);
        }
    }
    numbers
}

fn each_completion_is_popped_once_and_in_the_order_of_its_settler() {
    let (ledger, mut slots, mut completions) = fixture();
    let (first, second, third) = (slots.take_listed(1), slots.take_listed(2), slots.take_listed(3));
    drop(slots);
    let one = thread::spawn(move || {
        assert!(settle(first, 1));
        assert!(settle(second, 2));
    });
    let other = thread::spawn(move || assert!(settle(third, 3)));
    let mut numbers = pop_all(&mut completions);
    numbers.retain(|number| *number != 3);
    assert_eq!(numbers, [1, 2]);
    one.join().unwrap();
    other.join().unwrap();
    drop(completions);
    assert_eq!(Arc::strong_count(&ledger), 1, "the pool is freed");
}

fn records_that_are_settled_together_go_each_to_its_own_list() {
    let ((ledger, mut slots, mut completions), (_, mut other_slots, mut other)) = (fixture(), fixture());
    let tickets =
        vec![slots.take_listed(1), slots.take_listed(2), other_slots.take_listed(3), other_slots.take_listed(4)];
    drop((slots, other_slots));
    let settler = thread::spawn(move || assert_eq!(settle_together(tickets, &7u64), 4));
    for (completions, expected) in [(&mut completions, [(1, 1), (2, 2)]), (&mut other, [(3, 3), (4, 4)])] {
        let mut popped = Vec::new();
        while block_on(|cx| completions.poll_any(cx)) {
            while let Some(Completed { number, end }) = completions.pop() {
                let (value, place) = end.unwrap();
                assert_eq!(value, 7);
                popped.push((number, place));
            }
        }
        assert_eq!(popped, expected);
    }
    settler.join().unwrap();
    drop((completions, other));
    assert_eq!(Arc::strong_count(&ledger), 1, "the pool is freed");
}

fn a_run_that_meets_the_close_is_counted_or_freed() {
    let value = Arc::new(());
    let (ledger, mut slots, completions) = fixture();
    let (tickets, settled) = (vec![slots.take_listed(1), slots.take_listed(2)], Arc::clone(&value));
    let settler = thread::spawn(move || settle_together(tickets, &settled));
    let closed = completions.close();
    assert_eq!(closed, settler.join().unwrap());
    drop(slots);
    assert_eq!((Arc::strong_count(&value), Arc::strong_count(&ledger)), (1, 1), "the pool and the value are freed");
}

fn a_close_counts_those_that_were_told_listed_and_frees_every_slot() {
    let value = Arc::new(());
    let (ledger, mut slots, completions) = fixture();
    let settlers = [1, 2].map(|number| {
        let (ticket, value) = (slots.take_listed(number), Arc::clone(&value));
        thread::spawn(move || settle(ticket, value))
    });
    let closed = completions.close();
    assert!(!slots.has_completions());
    let listed = settlers.map(|settler| u64::from(settler.join().unwrap()));
    assert_eq!(closed, listed[0] + listed[1]);
    drop(slots);
    assert_eq!(Arc::strong_count(&value), 1, "each value is dropped");
    assert_eq!(Arc::strong_count(&ledger), 1, "the pool is freed");
}

fn who_waits_is_told_that_nothing_is_left_to_come() {
    let (_, mut slots, mut completions) = fixture();
    let ticket = slots.take_listed(4);
    // A slot of another kind that stays in use is nothing that the list could wait for.
    let (other, handle) = slots.take();
    let core = thread::spawn(move || drop(ticket));
    let submitter = thread::spawn(move || drop(slots));
    assert_eq!(pop_all(&mut completions), [4]);
    core.join().unwrap();
    submitter.join().unwrap();
    drop((other, handle));
}

fn whoever_of_three_is_last_frees_the_pool() {
    let (ledger, mut slots, completions) = fixture();
    let (listed, lone) = (slots.take_listed(1), slots.take_lone());
    let core = thread::spawn(move || {
        wake(lone.settle(0, 0).into_waker());
        settle(listed, 1);
    });
    let consumer = thread::spawn(move || drop(completions));
    drop(slots);
    core.join().unwrap();
    consumer.join().unwrap();
    assert_eq!(Arc::strong_count(&ledger), 1, "the pool is freed");
}

fn slots_that_are_given_back_together_are_taken_again_or_leave_their_pool() {
    let (ledger, mut slots, mut completions) = fixture();
    for number in [1, 2] {
        assert!(settle(slots.take_listed(number), number));
    }
    let consumer = thread::spawn(move || {
        let numbers = [completions.pop(), completions.pop()].map(|completed| completed.map(|one| one.number));
        assert_eq!(numbers, [Some(1), Some(2)]);
    });
    settle(slots.take_listed(3), 3);
    drop(slots);
    consumer.join().unwrap();
    assert_eq!(Arc::strong_count(&ledger), 1, "the pool is freed");
}

fn a_list_that_nobody_pops_is_freed_with_its_pool() {
    let value = Arc::new(());
    let ledger = Arc::new(Ledger::new());
    let mut slots = Slots::new(Arc::clone(&ledger));
    let (ticket, settled) = (slots.take_listed(1), Arc::clone(&value));
    let core = thread::spawn(move || settle(ticket, settled));
    drop(slots);
    core.join().unwrap();
    assert_eq!((Arc::strong_count(&value), Arc::strong_count(&ledger)), (1, 1));
}
