//! Sleeping to the microsecond: a timer of the kernel that the thread's reactor watches.
//!
//! ```text
//!     far deadline ──tokio's timer──▶ COARSE_MARGIN before it ──timerfd──▶ deadline
//! ```
//!
//! A deadline further off than [`FINE`] is awaited with tokio's own timer first, which costs no system call; request
//! timeouts, which hardly ever come, thus stay free. A nearer one costs one `timerfd_settime`, and none besides: the
//! timer is not read, since setting it anew forgets its expirations, and it is not disarmed when a sleep is given up,
//! since as a rule the next sleep sets it soon.
//!
//! Late by some tens of microseconds where tokio's timer is late by 1.2 ms (medians, on a busy machine).
//!
//! Timers are kept for the thread's next sleep, as many as were ever slept on at once: one for the core loop, and one
//! for each request whose timeout came near.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{timerfd_create, timerfd_settime};

/// Up to here a sleep is on the kernel's timer alone, and wakes the thread once.
const FINE: Duration = Duration::from_millis(200);
/// How much of a longer sleep is left to the kernel's timer: more than tokio's timer is ever late by itself.
const COARSE_MARGIN: Duration = Duration::from_millis(3);

const _: () = assert!(COARSE_MARGIN.as_nanos() < FINE.as_nanos());

thread_local! {
    /// Timers that nobody sleeps on, registered with the runtime that runs on this thread.
    static IDLE: RefCell<Vec<AsyncFd<OwnedFd>>> = const { RefCell::new(Vec::new()) };
}

/// Closes this thread's idle timers. They belong to a runtime, so that the next one could not use them.
pub(super) fn forget_idle() {
    IDLE.take();
}

/// See [`super::Runtime::sleep_until`].
pub(super) async fn sleep_until(deadline: Instant) {
    // The kernel's clock and ours are one, but a timer that is used again can still be ready from its last sleep:
    // the clock alone says that the time has come.
    loop {
        let left = deadline.saturating_duration_since(::tokio::time::Instant::now().into_std());
        if left.is_zero() {
            return;
        }
        if left > FINE {
            ::tokio::time::sleep(left - COARSE_MARGIN).await;
        } else if wait(left).await.is_err() {
            // Without a descriptor to spare, later is better than never.
            ::tokio::time::sleep(left).await;
        }
    }
}

/// Waits `left`, or less.
async fn wait(left: Duration) -> io::Result<()> {
    let timer = Timer::take()?;
    timer.set(left)?;
    timer.fd().readable().await?.clear_ready();
    Ok(())
}

/// A timer that goes back to the idle ones when it is dropped.
struct Timer(Option<AsyncFd<OwnedFd>>);

impl Timer {
    fn take() -> io::Result<Timer> {
        if let Some(idle) = IDLE.with_borrow_mut(Vec::pop) {
            return Ok(Timer(Some(idle)));
        }
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        #[allow(
            deprecated,
            reason = "its unsafe successor asks that the descriptor stay open and the same, which OwnedFd promises"
        )]
        let watched = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Timer(Some(watched)))
    }

    fn fd(&self) -> &AsyncFd<OwnedFd> {
        self.0.as_ref().expect("it is there until the drop")
    }

    /// Sets the timer to `left` from now, which is more than zero (zero would disarm it) and at most [`FINE`].
    fn set(&self, left: Duration) -> io::Result<()> {
        let once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
        let setting = Itimerspec { it_interval: once, it_value: value };
        timerfd_settime(self.fd(), TimerfdTimerFlags::empty(), &setting)?;
        Ok(())
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // After the thread's locals are gone the timer is simply closed.
        let _ = IDLE.try_with(|idle| idle.borrow_mut().extend(self.0.take()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::tokio::Tokio;
    use crate::runtime::{Runtime, unless};

    fn idle() -> usize {
        IDLE.with_borrow(Vec::len)
    }

    #[test]
    fn no_sleep_is_early_near_or_far_and_one_timer_serves_them_all() {
        let slept = Tokio.start(|| async {
            // The first is long enough that a busy machine does not let it pass before a timer is made.
            let us = [100_000, 1, 50, 999, 1000, 210_000].map(Duration::from_micros);
            for duration in us {
                let deadline = Tokio.now() + duration;
                Tokio.sleep_until(deadline).await;
                assert!(Tokio.now() >= deadline, "{duration:?}");
                assert_eq!(idle(), 1);
            }
        });
        slept.expect("a runtime");
        assert_eq!(idle(), 0, "a runtime leaves no timer to the next");
    }

    #[test]
    fn a_passed_deadline_waits_for_nothing() {
        Tokio
            .start(|| async {
                Tokio.sleep_until(Tokio.now()).await;
                assert_eq!(idle(), 0);
            })
            .expect("a runtime");
    }

    #[test]
    fn a_sleep_that_was_given_up_does_not_shorten_the_next() {
        Tokio
            .start(|| async {
                for _ in 0..20 {
                    let soon = Tokio.sleep_until(Tokio.now() + Duration::from_micros(200));
                    // A thread that is not run for that long sees the sleep end instead, which is as good.
                    let _ = unless(Tokio.yield_now(), soon).await;
                    let deadline = Tokio.now() + Duration::from_millis(1);
                    Tokio.sleep_until(deadline).await;
                    assert!(Tokio.now() >= deadline);
                }
            })
            .expect("a runtime");
    }
}
