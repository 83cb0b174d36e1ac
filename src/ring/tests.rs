//! Tests of the ring's parts on one thread and, for what loom cannot (large numbers), on two.

mod completions;
mod held;
mod staged;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use super::oracle::{Op, check};
use super::*;

/// Counts how often it is called.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Count {
    fn new() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn slots<T: Clone + Send>() -> (Arc<Ledger>, Slots<T>) {
    let ledger = Arc::new(Ledger::new());
    (Arc::clone(&ledger), Slots::new(ledger))
}

/// A small generator of numbers that look random.
struct Xorshift(u64);

impl Xorshift {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

const fn is_send<T: Send>() {}
const _: () = {
    is_send::<Slots<u64>>();
    is_send::<Ticket<u64>>();
    is_send::<Handle<u64>>();
    is_send::<Sender<u64>>();
    is_send::<Receiver<u64>>();
    is_send::<Purse>();
    is_send::<Wait<'static>>();
    assert!(size_of::<Ticket<u64>>() == 8 && size_of::<Option<Handle<u64>>>() <= 16);
};

#[test]
fn the_ring_is_a_queue_whatever_is_done_to_it() {
    let (seeds, steps) = if cfg!(miri) { (4, 200) } else { (200, 2_000) };
    for seed in 1..=seeds {
        let capacity = 64 << (seed % 6);
        let mut random = Xorshift(seed << 32 | 0x9E37_79B9);
        let ops = (0..steps).map(|_| {
            let number = random.next();
            Op::decode(number as u8, (number >> 16) as u16, capacity)
        });
        check(capacity, ops);
    }
}

#[test]
fn two_threads_pass_every_frame_on_whole_and_in_order() {
    let frames: u64 = if cfg!(miri) { 300 } else { 300_000 };
    let (ledger, mut slots) = slots::<u64>();
    let (mut sender, mut receiver) = ring(1024);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut random = Xorshift(7);
            for number in 0..frames {
                let len = 8 + (random.next() % 300) as usize;
                let mut ticket = slots.take_lone();
                while let Err(back) = sender.try_push(ticket, len, |bytes| {
                    bytes.fill(number as u8);
                    bytes[..8].copy_from_slice(&number.to_le_bytes());
                }) {
                    ticket = back;
                    thread::yield_now();
                }
            }
        });
        let mut expected = 0u64;
        while !receiver.is_disconnected() {
            let until = receiver.snapshot();
            for frame in receiver.drain(until) {
                assert_eq!(frame.bytes[..8], expected.to_le_bytes());
                assert!(frame.bytes[8..].iter().all(|byte| *byte == expected as u8));
                assert!(!frame.ticket.settle(expected, 0).wakes());
                expected += 1;
            }
            assert!(receiver.release().is_none());
            thread::yield_now();
        }
        assert_eq!(expected, frames);
    });
    assert_eq!((ledger.abandoned(), Arc::strong_count(&ledger)), (0, 1));
}

#[test]
fn a_fill_that_panics_pushes_nothing_and_abandons_the_ticket() {
    for len in [8, 100] {
        let (ledger, mut slots) = slots::<u64>();
        let (mut sender, mut receiver) = ring(128);
        let (ticket, mut handle) = slots.take();
        let push = || sender.try_push(ticket, len, |_| panic!("the caller's own")).is_ok();
        assert!(catch_unwind(AssertUnwindSafe(push)).is_err());
        assert_eq!(handle.try_take(), Some(Err(Abandoned)));
        assert_eq!((ledger.abandoned(), receiver.snapshot()), (1, 0));
        assert!(sender.try_push(slots.take_lone(), len, |bytes| bytes.fill(1)).is_ok());
        assert!(receiver.pop(u64::MAX).is_some_and(|frame| frame.bytes.len() == len && frame.bytes[0] == 1));
    }
}

#[test]
fn a_receiver_that_unwinds_abandons_what_it_held_and_what_it_had_not_seen() {
    let (ledger, mut slots) = slots::<u64>();
    let (mut sender, mut receiver) = ring(256);
    let mut handles: Vec<_> = (0..3)
        .map(|_| {
            let (ticket, handle) = slots.take();
            assert!(sender.try_push(ticket, 100, |_| ()).is_ok());
            handle
        })
        .collect();
    let core = move || {
        let _held = receiver.pop(u64::MAX);
        panic!("the core's own");
    };
    assert!(catch_unwind(AssertUnwindSafe(core)).is_err());
    assert!(handles.iter_mut().all(|handle| handle.try_take() == Some(Err(Abandoned))));
    assert_eq!(ledger.abandoned(), 3);
    assert!(sender.is_disconnected());
}

#[test]
fn a_slot_is_used_again_and_no_segment_is_added_for_it() {
    let (_, mut slots) = slots::<u64>();
    for number in 0..5_000 {
        let (ticket, mut handle) = slots.take();
        assert!(!ticket.settle(number, 0).wakes());
        assert_eq!(handle.try_take(), Some(Ok((number, 0))));
        assert_eq!(handle.try_take(), None, "an outcome is taken once");
    }
    assert_eq!(slots.segments(), 1);
    let tickets: Vec<_> = (0..1771).map(|_| slots.take_lone()).collect();
    assert_eq!(slots.segments(), 2);
    drop(tickets);
}

#[test]
fn settling_returns_the_latest_waker_and_calls_none() {
    let (_, mut slots) = slots::<u64>();
    let ((first, first_waker), (second, second_waker)) = (Count::new(), Count::new());
    let (ticket, mut handle) = slots.take();
    for waker in [&first_waker, &second_waker, &second_waker] {
        assert!(handle.poll(&mut Context::from_waker(waker)).is_pending());
    }
    let waker = ticket.settle(5, 0).into_waker().expect("somebody waits");
    assert_eq!((first.get(), second.get()), (0, 0));
    assert!(waker.will_wake(&second_waker));
    assert!(handle.poll(&mut Context::from_waker(&first_waker)).is_ready());
    drop((first_waker, second_waker, waker));
    assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (1, 1), "no waker is kept");
}

#[test]
fn an_abandoned_record_wakes_and_survives_a_waker_that_panics() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("the caller's own");
        }
    }
    let (ledger, mut slots) = slots::<u64>();
    let (ticket, mut handle) = slots.take();
    assert!(handle.poll(&mut Context::from_waker(&Waker::from(Arc::new(Panics)))).is_pending());
    drop(ticket);
    assert_eq!(handle.try_take(), Some(Err(Abandoned)));
    assert_eq!(ledger.abandoned(), 1);
}

#[test]
fn a_dropped_handle_detaches_and_leaves_no_waker_or_value_behind() {
    let (_, mut slots) = slots::<Arc<()>>();
    let (count, waker) = Count::new();
    let value = Arc::new(());
    let (ticket, mut handle) = slots.take();
    assert!(handle.poll(&mut Context::from_waker(&waker)).is_pending());
    drop((handle, waker));
    assert_eq!(Arc::strong_count(&count), 1);
    assert!(!ticket.settle(Arc::clone(&value), 0).wakes());
    let (ticket, handle) = slots.take();
    assert!(!ticket.settle(Arc::clone(&value), 0).wakes());
    drop(handle);
    assert_eq!(Arc::strong_count(&value), 1);
}

#[test]
fn the_pool_outlives_its_owner_until_the_last_end_is_gone() {
    let (ledger, mut slots) = slots::<u64>();
    let (ticket, mut handle) = slots.take();
    let detached = slots.take_lone();
    let (_, dropped) = slots.take();
    drop((slots, dropped, detached));
    assert!(!ticket.settle(9, 0).wakes());
    assert_eq!(Arc::strong_count(&ledger), 2);
    assert_eq!(handle.try_take(), Some(Ok((9, 0))));
    assert_eq!(Arc::strong_count(&ledger), 1);
    assert_eq!(ledger.abandoned(), 2);
}

#[test]
fn a_put_rings_a_parked_core_once_and_an_armed_one_past_half_only() {
    let bell = Doorbell::new();
    let (count, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    assert_eq!(bell.published(true), Published::Quiet);
    bell.rest(Rest::Parked);
    assert!(bell.poll_rung(&mut cx).is_pending());
    assert!(!bell.observe().state.is_ticking());
    assert_eq!(bell.published(false), Published::Rang);
    assert_eq!(bell.published(true), Published::Quiet, "somebody rang already");
    assert!(!bell.observe().state.is_ticking(), "the core has not ticked yet");
    assert!(bell.poll_rung(&mut cx).is_ready());
    assert!(bell.poll_rung(&mut cx).is_pending());
    bell.tick(11);
    bell.rest(Rest::Armed);
    assert_eq!(bell.published(false), Published::Quiet);
    assert_eq!((bell.observe().now_ns, bell.observe().state.is_ticking()), (11, true));
    assert_eq!(bell.published(true), Published::Rang);
    bell.awake();
    bell.ring();
    assert_eq!(count.get(), 3);
}

#[test]
fn a_core_may_sleep_without_a_timer_only_behind_a_barrier_of_all_threads() {
    assert!(Doorbell::new().rest(Rest::Parked), "puts fence themselves");
    assert!(Doorbell::with_barrier(|| true).rest(Rest::Parked));
    assert!(!Doorbell::with_barrier(|| false).rest(Rest::Parked), "the barrier was refused");
    assert!(!Doorbell::new().rest(Rest::Armed), "an armed core has a timer");
}

#[test]
fn the_level_of_a_doorbell_survives_resting_and_waking() {
    let bell = Doorbell::new();
    bell.set_closing();
    bell.rest(Rest::Parked);
    assert_eq!(bell.published(false), Published::Rang);
    bell.awake();
    assert!(bell.observe().state.is_closing() && !bell.observe().state.is_closed());
    bell.close();
    bell.rest(Rest::Parked);
    assert!(bell.observe().state.is_closed());
    assert_eq!(bell.published(true), Published::Closed);
}

#[test]
fn purses_hold_a_quarter_at_most_and_give_it_back() {
    let budget = Budget::new(1_000, 100_000, 10);
    let mut purses: Vec<_> = (0..10).map(|_| budget.purse()).collect();
    purses.iter_mut().for_each(|purse| purse.try_take(10).unwrap());
    let (records, bytes) = budget.used();
    assert_eq!((records, bytes), (10 + 250, 100 + 25_000));
    purses.iter_mut().for_each(|purse| purse.refund(10));
    assert_eq!(budget.used(), (250, 25_000), "what a purse cannot hold goes back to the pool");
    let mut uninvited = budget.purse();
    uninvited.try_take(10).unwrap();
    assert_eq!(budget.used(), (251, 25_010), "a purse too many keeps nothing");
    drop((purses, uninvited));
    assert_eq!(budget.used(), (1, 10));
    budget.release(1, 10);
    assert_eq!(budget.used(), (0, 0));
}

#[test]
fn the_bound_is_reached_exactly_and_not_exceeded() {
    for (records, bytes, size) in [(100, 1 << 20, 10), (1 << 20, 1_000, 10), (3, 3, 1)] {
        let budget = Budget::new(records, bytes, 2);
        let mut purse = budget.purse();
        let taken = (0..1 << 20).take_while(|_| purse.try_take(size).is_ok()).count();
        assert_eq!(taken, 100.min(records), "the whole bound for one purse");
        assert!(budget.is_pressed());
        budget.release(taken as u64, (taken * size) as u64);
        drop(purse);
        assert_eq!(budget.used(), (0, 0));
        assert!(!budget.is_pressed());
    }
}

#[test]
fn a_large_waiter_is_served_before_smaller_ones_that_came_later() {
    let budget = Budget::new(100, 1_000, 4);
    (0..9).for_each(|_| budget.purse().try_take(100).unwrap());
    let (count, waker) = Count::new();
    let mut cx = Context::from_waker(&waker);
    let (mut large, mut small, mut third) = (budget.purse(), budget.purse(), budget.purse());
    let mut large = Box::pin(large.wait(700));
    let mut small = Box::pin(small.wait(100));
    assert!(large.as_mut().poll(&mut cx).is_pending());
    assert!(small.as_mut().poll(&mut cx).is_pending());
    assert!(budget.is_pressed());
    budget.release(3, 300);
    assert_eq!(third.try_take(1), Err(NoCredit), "nobody overtakes who waits");
    assert!(small.as_mut().poll(&mut cx).is_pending());
    budget.release(4, 400);
    assert!(large.as_mut().poll(&mut cx).is_ready());
    assert!(count.get() >= 1);
}

#[test]
fn who_leaves_the_queue_lets_the_next_be_served() {
    let budget = Budget::new(10, 100, 100);
    budget.purse().try_take(60).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let (mut large, mut small) = (budget.purse(), budget.purse());
    let mut large = Box::pin(large.wait(70));
    let mut small = Box::pin(small.wait(40));
    assert!(large.as_mut().poll(&mut cx).is_pending() && small.as_mut().poll(&mut cx).is_pending());
    drop(large);
    assert!(small.as_mut().poll(&mut cx).is_ready());
}

#[test]
fn a_cancelled_grant_goes_to_the_next_waiter() {
    let budget = Budget::new(10, 100, 100);
    let mut holder = budget.purse();
    holder.try_take(100).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let (mut first, mut second) = (budget.purse(), budget.purse());
    let mut first = Box::pin(first.wait(60));
    let mut second = Box::pin(second.wait(60));
    assert!(first.as_mut().poll(&mut cx).is_pending() && second.as_mut().poll(&mut cx).is_pending());
    budget.release(1, 100);
    drop(first);
    assert!(second.as_mut().poll(&mut cx).is_ready());
    drop(second);
    assert_eq!(budget.used(), (1, 60));
}

#[test]
fn three_quarters_are_granted_whatever_other_purses_hold() {
    let budget = Budget::new(100, 1_000, 2);
    let (mut idle, mut busy) = (budget.purse(), budget.purse());
    idle.try_take(1).unwrap();
    busy.try_take(1).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut wait = Box::pin(busy.wait(750));
    let granted_at_once = wait.as_mut().poll(&mut cx).is_ready();
    budget.release(2, 2);
    assert!(granted_at_once || wait.as_mut().poll(&mut cx).is_ready());
}

#[test]
fn a_closed_budget_fails_who_waits_and_who_would() {
    let budget = Budget::new(1, 100, 100);
    let mut holder = budget.purse();
    holder.try_take(1).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let (mut one, mut other) = (budget.purse(), budget.purse());
    let mut wait = Box::pin(one.wait(1));
    assert!(wait.as_mut().poll(&mut cx).is_pending());
    budget.close();
    assert_eq!(wait.as_mut().poll(&mut cx), Poll::Ready(Err(WaitError::Closed)));
    assert_eq!(Box::pin(other.wait(1)).as_mut().poll(&mut cx), Poll::Ready(Err(WaitError::Closed)));
}

#[test]
fn two_threads_take_and_release_and_nothing_is_lost() {
    let rounds = if cfg!(miri) { 50 } else { 50_000 };
    let budget = Budget::new(8, 1_000, 2);
    thread::scope(|scope| {
        for seed in [3, 5] {
            let budget = &budget;
            scope.spawn(move || {
                let mut purse = budget.purse();
                let mut random = Xorshift(seed);
                for _ in 0..rounds {
                    let bytes = (random.next() % 700) as usize;
                    if purse.try_take(bytes).is_ok() {
                        let (records, used) = budget.used();
                        assert!(records <= 8 && used <= 1_000);
                        budget.release(1, bytes as u64);
                    }
                }
            });
        }
    });
    assert_eq!(budget.used(), (0, 0));
}
