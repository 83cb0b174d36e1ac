//! Tests of the list of completions and of lone slots, on one thread.

use super::*;

fn completions<T: Clone + Send>() -> (Arc<Ledger>, Slots<T>, Completions<T>) {
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

/// Settles records together, the first in place 3; answers who was told, of how many.
fn settle_together(mut tickets: Vec<Ticket<u64>>, value: u64) -> Vec<(&'static str, u64)> {
    let mut all_told = Vec::new();
    settle_all(&mut tickets, &value, 3, |told, records| {
        let name = match told {
            Told::Handle => "handle",
            Told::Listed(None) => "list",
            Told::Nobody => "nobody",
            Told::Waiting(_) | Told::Listed(Some(_)) => "sleeper",
        };
        all_told.push((name, records));
    });
    assert!(tickets.is_empty());
    all_told
}

fn popped(completions: &mut Completions<u64>) -> Vec<(u64, u32)> {
    let next = || completions.pop().map(|Completed { number, end }| (number, end.expect("it was settled").1));
    std::iter::from_fn(next).collect()
}

#[test]
fn records_that_end_together_are_told_to_each_in_its_place() {
    let ((_, mut slots, mut completions), (_, mut others, mut other_completions)) = (completions(), completions());
    let (waited_for, mut handle) = slots.take();
    let mut tickets: Vec<_> = (0..20).map(|number| slots.take_listed(number)).collect();
    tickets.extend([waited_for, slots.take_lone(), slots.take_listed(20), others.take_listed(100)]);
    tickets.extend((21..4_000).map(|number| slots.take_listed(number)));
    tickets.extend((101..109).map(|number| others.take_listed(number)));
    let (count, waker) = Count::new();
    assert!(completions.poll_any(&mut Context::from_waker(&waker)).is_pending());
    let told = settle_together(tickets, 7);
    let (run, one) = (("sleeper", 20), ("list", 1));
    assert_eq!(told, [run, ("handle", 1), ("nobody", 1), one, one, ("list", 3_979), ("list", 8)]);
    assert_eq!(count.get(), 0, "settling calls nobody");
    assert_eq!(handle.try_take(), Some(Ok((7, 23))));
    // Of ours, a handle, a lone one and one of the others stood between.
    let place = |number| number as u32 + 3 + if number < 20 { 0 } else { 2 } + u32::from(number > 20);
    assert_eq!(popped(&mut completions), (0..4_000).map(|number| (number, place(number))).collect::<Vec<_>>());
    let last = 20 + 4 + 3_979 + 3;
    let others: Vec<_> = (0..8).map(|at| (101 + at, last + at as u32)).collect();
    assert_eq!(popped(&mut other_completions), [vec![(100, 26)], others].concat());
}

#[test]
fn a_run_is_counted_by_a_close_though_a_part_was_popped_and_a_later_one_is_told_to_nobody() {
    let (ledger, mut slots, mut completions) = completions();
    let [early, late] = [(); 2].map(|()| (0..100).map(|number| slots.take_listed(number)).collect::<Vec<_>>());
    assert_eq!(settle_together(early, 7), [("list", 100)]);
    assert_eq!(completions.pop(), completed(0, 7));
    assert!(completions.has_pending());
    assert_eq!(completions.close(), 99);
    assert_eq!(settle_together(late, 8), [("handle", 100)]);
    drop(slots);
    assert_eq!(Arc::strong_count(&ledger), 1);
}

#[test]
fn slots_of_runs_are_used_again() {
    let (_, mut slots, mut completions) = completions();
    for _ in 0..100 {
        let tickets = (0..1_000).map(|number| slots.take_listed(number)).collect();
        assert_eq!(settle_together(tickets, 7), [("list", 1_000)]);
        assert_eq!(popped(&mut completions).len(), 1_000);
    }
    assert_eq!(slots.segments(), 1);
}

#[test]
fn tickets_that_are_left_as_the_settler_panics_are_abandoned() {
    let (ledger, mut slots, mut completions) = completions();
    let mut tickets: Vec<_> = (0..3).map(|number| slots.take_listed(number)).collect();
    let settling = || settle_all(&mut tickets, &7u64, 3, |_, _| panic!("the settler's own"));
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(settling)).is_err());
    assert_eq!((ledger.abandoned(), tickets.len()), (2, 0));
    assert_eq!(completions.pop(), completed(0, 7));
    let abandoned = |number| Some(Completed { number, end: Err(Abandoned) });
    assert_eq!([completions.pop(), completions.pop()], [abandoned(1), abandoned(2)]);
}

#[test]
fn a_completion_is_popped_though_who_is_shown_it_panics() {
    let (_, mut slots, mut completions) = completions();
    for numbers in [0..2, 2..12, 12..13] {
        settle_together(numbers.map(|number| slots.take_listed(number)).collect(), 7);
    }
    // The last of two that were settled by themselves, one within a run, its last, and the last of all.
    for unlucky in [1, 5, 11, 12] {
        let mut shown = Vec::new();
        let mut show = |number, _: Result<(&u64, u32), Abandoned>| {
            shown.push(number);
            assert_ne!(number, unlucky);
        };
        let all = || while completions.pop_with(&mut show).is_some() {};
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(all)).is_err());
        assert_eq!(shown.last(), Some(&unlucky));
        assert_eq!(completions.has_pending(), unlucky < 12);
    }
    assert_eq!(completions.pop(), None);
    drop(slots);
    assert!(completions.poll_any(&mut Context::from_waker(Waker::noop())) == Poll::Ready(false));
}
