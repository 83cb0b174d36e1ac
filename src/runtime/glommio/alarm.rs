//! Sleeping and yielding on glommio's timers, around two faults of glommio-ng 0.12.0.
//!
//! To have the reactor look at its sockets costs two timers and three or four entries into the kernel. A core under load
//! yields every 100 µs or so, and others on its thread as often; so the reactor looks once in [`LOOK_EVERY`], and whoever
//! yields in between only makes way for tasks that can run.
//!
//! A timer that is polled again, while it waits, leaves its former entry in the reactor. Each entry wakes the task once
//! more and is looked at whenever a timer is; a future that waits for an answer *or* a timeout is polled at each piece
//! of the answer, thousands of times. An [`Alarm`] polls its timer once.
//!
//! The executor can fall asleep over a task that is ready to run: when the ring that interrupts tasks holds a
//! completion which woke nobody, as the executor begins to look for work, it takes this for having found none. Its own
//! time slice is such a completion, so it has none (see `TIME_SLICE`); a wake-up that was already noticed when its
//! event comes is another. Then the reactor sleeps until its next timer. So there is always one: nobody sleeps for
//! longer than [`NAP`] at a time, nor yields for longer than [`PAUSE`].

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use ::glommio::timer::Timer;

/// How long the reactor sleeps at most while anybody waits for time. A producer at rest was measured to wake five times a
/// second for it, for 0.07 % of a CPU in all.
const NAP: Duration = Duration::from_millis(200);
/// How long sockets may wait at most while tasks yield to each other: as long as a turn of the core may last.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// How long a task that yields is away at most, unless others run.
const PAUSE: Duration = Duration::from_millis(1);
/// The least time ahead for which a timer can be set.
const AT_ONCE: Duration = Duration::from_micros(1);

/// Ends at a moment.
pub(super) struct Alarm {
    deadline: Instant,
    set: Option<Set>,
}

/// A timer that was polled once.
struct Set {
    /// Takes itself back when it is dropped.
    _timer: Timer,
    rings_at: Instant,
    waker: Waker,
}

impl Alarm {
    /// An alarm that nobody waits for yet.
    pub(super) fn at(deadline: Instant) -> Alarm {
        Alarm { deadline, set: None }
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let now = now();
        if now >= self.deadline {
            return Poll::Ready(());
        }
        let waits = |set: &Set| now < set.rings_at && set.waker.will_wake(context.waker());
        if self.set.as_ref().is_some_and(waits) {
            return Poll::Pending;
        }
        let rings_at = self.deadline.min(now + NAP);
        let mut timer = Timer::new(rings_at - now);
        if Pin::new(&mut timer).poll(context).is_ready() {
            // So near that it has passed meanwhile.
            context.waker().wake_by_ref();
        }
        self.set = Some(Set { _timer: timer, rings_at, waker: context.waker().clone() });
        Poll::Pending
    }
}

/// Lets other tasks have a turn, and the reactor look at its sockets if it has not for a while.
///
/// A task that merely makes way is run again before the reactor is asked. One that waits for a moment that is almost
/// past is not.
pub(super) async fn pass() {
    let begun = now();
    if LOOKED.get().is_some_and(|looked| begun.saturating_duration_since(looked) < LOOK_EVERY) {
        return make_way().await;
    }
    let mut guard = Alarm::at(begun + PAUSE);
    let mut turn: Option<Alarm> = None;
    poll_fn(|context| {
        if let Some(turn) = &mut turn {
            return Pin::new(turn).poll(context);
        }
        let _ = Pin::new(&mut guard).poll(context);
        // Set now, or it would be over before it began.
        let turn = turn.insert(Alarm::at(now() + AT_ONCE));
        if Pin::new(turn).poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
    LOOKED.set(Some(now()));
}

thread_local! {
    /// When the reactor of this thread looked at its sockets for somebody who yielded.
    static LOOKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Has those tasks run that can.
async fn make_way() {
    let mut is_back = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_back, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The clock that glommio's timers follow.
#[expect(clippy::disallowed_methods, reason = "the clock of glommio's timers")]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::runtime::glommio::Glommio;
    use crate::runtime::testing::run;
    use crate::runtime::{Runtime, unless};

    #[test]
    fn no_sleep_is_early() {
        run(Glommio, |runtime| async move {
            for duration in [0, 1, 50, 999, 5_000, 450_000].map(Duration::from_micros) {
                let deadline = runtime.now() + duration;
                runtime.sleep_until(deadline).await;
                assert!(runtime.now() >= deadline, "{duration:?}");
            }
        });
    }

    #[test]
    fn a_sleep_that_was_given_up_does_not_shorten_the_next() {
        run(Glommio, |runtime| async move {
            for _ in 0..20 {
                let soon = runtime.sleep_until(runtime.now() + Duration::from_millis(1));
                assert!(unless(runtime.yield_now(), soon).await.is_none());
                let deadline = runtime.now() + Duration::from_millis(2);
                runtime.sleep_until(deadline).await;
                assert!(runtime.now() >= deadline);
            }
        });
    }

    #[test]
    fn an_alarm_that_is_polled_again_sets_no_further_timer() {
        run(Glommio, |runtime| async move {
            let mut alarm = Alarm::at(runtime.now() + Duration::from_secs(3600));
            let set_at = poll_fn(|context| {
                assert!(Pin::new(&mut alarm).poll(context).is_pending());
                Poll::Ready(alarm.set.as_ref().map(|set| set.rings_at))
            });
            let first = set_at.await;
            let again = poll_fn(|context| {
                assert!(Pin::new(&mut alarm).poll(context).is_pending());
                Poll::Ready(alarm.set.as_ref().map(|set| set.rings_at))
            });
            assert_eq!(again.await, first);
        });
    }

    #[test]
    fn who_yields_is_always_away_for_a_turn() {
        run(Glommio, |runtime| async move {
            for _ in 0..1000 {
                let mut yielding = pin!(runtime.yield_now());
                let first = poll_fn(|context| Poll::Ready(yielding.as_mut().poll(context).is_ready()));
                assert!(!first.await);
                yielding.await;
            }
        });
    }

    #[test]
    fn who_yields_over_and_over_does_not_keep_others_from_their_turns() {
        run(Glommio, |runtime| async move {
            let slept = async {
                for _ in 0..10 {
                    runtime.sleep_until(runtime.now() + Duration::from_micros(100)).await;
                }
            };
            let yields = async {
                loop {
                    runtime.yield_now().await;
                }
            };
            assert_eq!(unless(slept, yields).await, None::<()>);
        });
    }
}
