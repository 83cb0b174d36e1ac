//! Tests of the list of completions and of lone slots, on one thread.

use super::*;

fn completions<T: Send>() -> (Arc<Ledger>, Slots<T>, Completions<T>) {
    let (ledger, mut slots) = slots();
    let completions = slots.completions().expect("the first time");
    (ledger, slots, completions)
}

fn completed<T>(number: u64, value: T) -> Option<Completed<T>> {
    Some(Completed { number, end: Ok((value, 3)) })
}

#[test]
fn completions_come_under_their_numbers_in_the_order_of_settling() {
    let (_, mut slots, mut completions) = completions();
    assert!(slots.completions().is_none(), "there is one end");
    let [first, second, third] = [10, 20, 30].map(|number| slots.take_listed(number));
    assert!(matches!(third.settle(3u64, 3), Told::Listed(None)));
    assert!(matches!(first.settle(1, 3), Told::Listed(None)));
    assert!(!completions.has_pending(), "nothing was taken from the list yet");
    assert_eq!(completions.pop(), completed(30, 3));
    assert!(completions.has_pending());
    assert!(matches!(second.settle(2, 3), Told::Listed(None)));
    assert_eq!(completions.pop(), completed(10, 1));
    assert!(!completions.has_pending(), "what came later is for the next time");
    assert_eq!(completions.pop(), completed(20, 2));
    assert_eq!(completions.pop(), None);
}

#[test]
fn slots_of_popped_completions_are_used_again() {
    let (_, mut slots, mut completions) = completions();
    for number in 0..5_000 {
        assert!(!slots.take_listed(number).settle(number, 3).wakes());
        assert_eq!(completions.pop(), completed(number, number));
    }
    assert_eq!(slots.segments(), 1);
}

#[test]
fn an_abandoned_record_is_a_completion_without_a_value() {
    let (ledger, mut slots, mut completions) = completions::<u64>();
    drop(slots.take_listed(u64::MAX));
    assert_eq!(completions.pop(), Some(Completed { number: u64::MAX, end: Err(Abandoned) }));
    assert_eq!((ledger.abandoned(), ledger.abandoned_lone()), (1, 0));
}

#[test]
fn the_first_completion_on_an_empty_list_wakes_who_waits() {
    let (_, mut slots, mut completions) = completions();
    let ((former, former_waker), (count, waker)) = (Count::new(), Count::new());
    assert!(completions.poll_any(&mut Context::from_waker(&former_waker)).is_pending());
    assert!(completions.poll_any(&mut Context::from_waker(&waker)).is_pending());
    let told = slots.take_listed(1).settle(1u64, 3);
    assert_eq!((former.get(), count.get()), (0, 0), "settling calls nobody");
    assert!(told.into_waker().is_some_and(|told| told.will_wake(&waker)), "only the latest counts");
    assert!(!slots.take_listed(2).settle(2, 3).wakes(), "somebody was told already");
    assert_eq!(completions.poll_any(&mut Context::from_waker(&waker)), Poll::Ready(true));
}

#[test]
fn who_waits_hears_that_nothing_is_left_to_come_though_an_outcome_is_kept() {
    let (_, mut slots, mut completions) = completions();
    let (count, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    let (other, mut kept) = slots.take();
    let listed = slots.take_listed(1);
    assert!(!other.settle(9u64, 3).wakes());
    assert!(completions.poll_any(&mut cx).is_pending());
    drop(slots);
    assert_eq!(count.get(), 1, "the submitter's going is told");
    assert!(completions.poll_any(&mut cx).is_pending(), "one is under way");
    listed.settle(1, 3).into_waker().expect("somebody waits").wake();
    assert_eq!(completions.poll_any(&mut cx), Poll::Ready(true));
    assert_eq!(completions.pop(), completed(1, 1));
    assert_eq!(completions.poll_any(&mut cx), Poll::Ready(false));
    assert_eq!(kept.try_take(), Some(Ok((9, 3))));
}

#[test]
fn a_close_counts_what_nobody_popped_and_later_ends_are_told_to_nobody() {
    let (ledger, mut slots, mut completions) = completions();
    let value = Arc::new(());
    for number in 0..5 {
        assert!(matches!(slots.take_listed(number).settle(Arc::clone(&value), 3), Told::Listed(None)));
    }
    let late = slots.take_listed(5);
    assert!(completions.pop().is_some());
    assert!(slots.has_completions());
    assert_eq!(completions.close(), 4);
    assert!(!slots.has_completions());
    assert!(matches!(late.settle(Arc::clone(&value), 3), Told::Handle));
    assert_eq!(Arc::strong_count(&value), 1);
    drop(slots);
    assert_eq!(Arc::strong_count(&ledger), 1);
}

#[test]
fn a_list_that_nobody_pops_leaves_nothing_behind() {
    let (ledger, mut slots) = slots();
    let value = Arc::new(());
    let late = slots.take_listed(0);
    assert!(!slots.take_listed(1).settle(Arc::clone(&value), 3).wakes());
    drop(slots);
    assert!(matches!(late.settle(Arc::clone(&value), 3), Told::Handle));
    assert_eq!((Arc::strong_count(&value), Arc::strong_count(&ledger)), (1, 1));
}

#[test]
fn a_value_that_nobody_takes_is_not_made_and_a_lone_record_that_is_lost_is_counted() {
    let (ledger, mut slots) = slots();
    let unmade = || -> u64 { panic!("nobody waits") };
    assert!(matches!(slots.take_lone().settle_with(unmade, 3), Told::Nobody));
    let (ticket, handle) = slots.take();
    drop(handle);
    assert!(matches!(ticket.settle_with(unmade, 3), Told::Handle));
    drop(slots.take_lone());
    let (ticket, handle) = slots.take();
    drop(handle);
    assert!(matches!(ticket.settle(8, 3), Told::Handle), "somebody waited, once");
    let (ticket, handle) = slots.take();
    drop((handle, ticket));
    assert_eq!((ledger.abandoned(), ledger.abandoned_lone()), (2, 1));
}
