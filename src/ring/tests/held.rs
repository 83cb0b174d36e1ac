//! Tests of credit that is held: records whose outcome is known, and not told yet.

use super::*;

/// A budget of one record whose credit is held.
fn held() -> Arc<Budget> {
    let budget = Budget::new(1, 100, 100);
    budget.purse().try_take(10).unwrap();
    budget.hold(1);
    budget.release(0, 10);
    budget
}

#[test]
fn what_is_held_counts_until_it_is_let_go() {
    let budget = held();
    assert_eq!(budget.used(), (1, 0));
    assert!(budget.is_pressed());
    assert!(!budget.may_be_stuck(), "nobody waits");
    budget.let_go(1);
    assert_eq!(budget.used(), (0, 0));
}

#[test]
fn who_waits_is_refused_if_records_are_held_and_may_ask_again() {
    let budget = held();
    let (count, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    let mut purse = budget.purse();
    let mut wait = Box::pin(purse.wait(60));
    assert!(wait.as_mut().poll(&mut cx).is_pending());
    assert!(budget.may_be_stuck());
    budget.refuse_if_held();
    assert_eq!(count.get(), 1);
    assert!(!budget.may_be_stuck(), "nobody waits any more");
    assert_eq!(wait.as_mut().poll(&mut cx), Poll::Ready(Err(WaitError::Held)));
    assert!(wait.as_mut().poll(&mut cx).is_pending(), "it stands in the queue anew");
    budget.let_go(1);
    assert_eq!(wait.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
    assert_eq!(budget.used(), (1, 60));
}

#[test]
fn nobody_is_refused_if_nothing_is_held() {
    let budget = Budget::new(1, 100, 100);
    budget.purse().try_take(10).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut purse = budget.purse();
    let mut wait = Box::pin(purse.wait(60));
    assert!(wait.as_mut().poll(&mut cx).is_pending());
    assert!(!budget.may_be_stuck());
    budget.refuse_if_held();
    assert!(wait.as_mut().poll(&mut cx).is_pending());
    budget.release(1, 10);
    assert_eq!(wait.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
}

#[test]
fn what_is_let_go_before_it_was_counted_as_held_leaves_no_trace() {
    let budget = Budget::new(1, 100, 100);
    budget.purse().try_take(10).unwrap();
    budget.let_go(1);
    budget.hold(1);
    budget.release(0, 10);
    assert_eq!(budget.used(), (0, 0));
    let mut cx = Context::from_waker(Waker::noop());
    budget.purse().try_take(10).unwrap();
    let mut purse = budget.purse();
    let mut wait = Box::pin(purse.wait(60));
    assert!(wait.as_mut().poll(&mut cx).is_pending());
    assert!(!budget.may_be_stuck(), "nothing is held");
}

#[test]
fn a_refusal_is_not_overtaken_by_the_grant_of_one_who_came_later() {
    let budget = held();
    let mut cx = Context::from_waker(Waker::noop());
    let (mut one, mut other, mut third) = (budget.purse(), budget.purse(), budget.purse());
    let (mut seen, mut unseen, mut later) =
        (Box::pin(one.wait(60)), Box::pin(other.wait(60)), Box::pin(third.wait(70)));
    assert!(seen.as_mut().poll(&mut cx).is_pending() && unseen.as_mut().poll(&mut cx).is_pending());
    budget.refuse_if_held();
    assert!(later.as_mut().poll(&mut cx).is_pending());
    budget.let_go(1);
    assert_eq!(later.as_mut().poll(&mut cx), Poll::Ready(Ok(())));
    assert_eq!(seen.as_mut().poll(&mut cx), Poll::Ready(Err(WaitError::Held)));
    drop(unseen);
    assert_eq!(budget.used(), (1, 70), "neither took what was not its own");
}

#[test]
fn a_close_wakes_who_waits_for_what_is_held() {
    let budget = held();
    let (count, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    let mut purse = budget.purse();
    let mut wait = Box::pin(purse.wait(60));
    assert!(wait.as_mut().poll(&mut cx).is_pending());
    budget.close();
    budget.refuse_if_held();
    assert_eq!(count.get(), 1);
    assert_eq!(wait.as_mut().poll(&mut cx), Poll::Ready(Err(WaitError::Closed)));
    budget.let_go(1);
    assert_eq!(budget.used(), (0, 0));
}
