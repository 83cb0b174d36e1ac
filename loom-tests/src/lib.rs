//! Loom models of `kpl::ring`; the models stand in `tests/`.
//!
//! Each model is a claim that loom tries in every interleaving with at most three preemptions. A lost wake-up shows
//! as a deadlock, a race as a causality violation, a leaked pool as a count. They are empty without `--cfg loom`:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p loom-tests
//! ```
#![cfg(loom)]

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::{Condvar, Mutex};

/// Tries `claim` in every interleaving with at most three preemptions.
pub fn model(claim: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(claim);
}

/// A waker that remembers, and a thread that waits for it.
#[derive(Debug)]
pub struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// A signal that nobody gave yet.
    pub fn unset() -> Arc<Signal> {
        Arc::new(Signal { woken: Mutex::new(false), changed: Condvar::new() })
    }

    /// The waker that gives the signal.
    pub fn waker(self: &Arc<Signal>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// Sleeps until the signal is given, and takes it.
    pub fn wait(&self) {
        let mut woken = self.woken.lock().expect("no model panics with the lock");
        while !*woken {
            woken = self.changed.wait(woken).expect("no model panics with the lock");
        }
        *woken = false;
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *self.woken.lock().expect("no model panics with the lock") = true;
        self.changed.notify_one();
    }
}

/// Polls until it is ready; sleeps in between until the waker is called.
pub fn block_on<R>(poll: impl FnMut(&mut Context<'_>) -> Poll<R>) -> R {
    let signal = Signal::unset();
    let waker = signal.waker();
    let mut future = pin!(poll_fn(poll));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => signal.wait(),
        }
    }
}

/// Calls a waker, if there is one.
pub fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
