//! Waiting for what the producer has begun: outcomes, flushes, the close, a stream's first map.
//!
//! Each is a future, and each can be waited for by a thread, with or without a limit. Nothing here polls in a loop:
//! a waiting thread sleeps on a condition variable until its waker is called.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::error::{FlushError, StreamError};
use crate::fork::Origin;
use crate::outcome::{Counts, Delivered, ErrorCode, Failure, Settled, Settlement};
use crate::ring::Handle;
use crate::shared::{FlushCell, StreamState, lock};

/// How one accepted record ends. A future; dropping it does not take the record back.
#[must_use = "an outcome that is not looked at hides a failure; drop it on purpose if that is meant"]
pub struct Outcome {
    handle: Handle<Arc<Settlement>>,
    origin: Origin,
}

impl Outcome {
    #[inline]
    pub(crate) fn new(handle: Handle<Arc<Settlement>>, origin: Origin) -> Outcome {
        Outcome { handle, origin }
    }

    /// Waits until the record has ended: at the latest at its expiration and the timeout of the request that it is in.
    ///
    /// # Errors
    /// Why it was not delivered, with every attempt.
    pub fn wait(self) -> Result<Delivered, Failure> {
        block_on(self)
    }

    /// The same, but for `limit` at most.
    ///
    /// # Errors
    /// This outcome, if the record has not ended by then.
    pub fn wait_timeout(mut self, limit: Duration) -> Result<Result<Delivered, Failure>, Outcome> {
        match block_on_for(&mut self, limit) {
            Some(result) => Ok(result),
            None => Err(self),
        }
    }
}

impl Future for Outcome {
    type Output = Result<Delivered, Failure>;

    /// # Panics
    /// If it is polled after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.origin.is_elsewhere() {
            let message = "the record is that of the process from which this one was forked";
            return Poll::Ready(Err(Failure::new(ErrorCode::CoreFailed, message)));
        }
        self.handle.poll(context).map(|settled| match settled {
            Ok(end) => Settled::from(end).into_result(),
            Err(_abandoned) => Err(Failure::new(ErrorCode::CoreFailed, "the core that held the record ended")),
        })
    }
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outcome").finish_non_exhaustive()
    }
}

/// A flush under way. A future; it goes on whether or not anybody waits.
#[must_use = "a flush goes on by itself, but only waiting for it tells when it is done"]
pub struct Flush(pub(crate) Arc<FlushCell>);

impl Flush {
    /// Waits until every record that was put before the flush has its outcome.
    ///
    /// # Errors
    /// `CoreFailed`.
    pub fn wait(self) -> Result<(), FlushError> {
        block_on(self)
    }

    /// The same, but for `limit` at most.
    ///
    /// # Errors
    /// `TimedOut`, or `CoreFailed`.
    pub fn wait_timeout(self, limit: Duration) -> Result<(), FlushError> {
        block_on_for(self, limit).unwrap_or(Err(FlushError::TimedOut))
    }
}

impl Future for Flush {
    type Output = Result<(), FlushError>;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.done.poll(context)
    }
}

/// A close under way. A future; it goes on whether or not anybody waits.
#[must_use = "a close goes on by itself, but only waiting for it tells when it is done"]
pub struct Close(pub(crate) Arc<Cell<Counts>>);

impl Close {
    /// Waits until every record has its outcome; answers how many there were.
    pub fn wait(self) -> Counts {
        block_on(self)
    }
}

impl Future for Close {
    type Output = Counts;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Counts> {
        self.0.poll(context)
    }
}

/// Waits for a stream's first shard map.
#[must_use = "nothing is told unless it is waited for"]
pub struct Ready(pub(crate) Arc<StreamState>);

impl Ready {
    /// Waits until the shards are known, or until it is clear that they cannot be listed.
    ///
    /// # Errors
    /// `Unavailable`, with what the service said; `Closed`.
    pub fn wait(self) -> Result<(), StreamError> {
        block_on(self)
    }

    /// The same, but for `limit` at most; nothing if it is not clear by then.
    pub fn wait_timeout(self, limit: Duration) -> Option<Result<(), StreamError>> {
        block_on_for(self, limit)
    }
}

impl Future for Ready {
    type Output = Result<(), StreamError>;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.readiness.poll(context)
    }
}

/// A value that is set once or more often, and that any number of tasks wait for.
pub(crate) struct Cell<T>(Mutex<CellState<T>>);

struct CellState<T> {
    value: Option<T>,
    wakers: Vec<Waker>,
}

impl<T> Default for Cell<T> {
    fn default() -> Cell<T> {
        Cell(Mutex::new(CellState { value: None, wakers: Vec::new() }))
    }
}

impl<T: Clone> Cell<T> {
    /// One that is set.
    pub(crate) fn holding(value: T) -> Cell<T> {
        Cell(Mutex::new(CellState { value: Some(value), wakers: Vec::new() }))
    }

    /// Sets the value and wakes all who wait.
    pub(crate) fn set(&self, value: T) {
        let wakers = {
            let mut state = lock(&self.0);
            state.value = Some(value);
            std::mem::take(&mut state.wakers)
        };
        wakers.into_iter().for_each(wake);
    }

    /// The value, if it was set.
    pub(crate) fn get(&self) -> Option<T> {
        lock(&self.0).value.clone()
    }

    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<T> {
        let mut state = lock(&self.0);
        if let Some(value) = &state.value {
            return Poll::Ready(value.clone());
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            state.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

/// Calls a waker, which may be anyone's code, on whatever thread of ours had news for it: its panic stays its own.
pub(crate) fn wake(waker: Waker) {
    if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
        tracing::error!("a waker panicked");
    }
}

/// Wakes one thread.
#[derive(Default)]
struct Parker {
    woken: Mutex<bool>,
    condition: Condvar,
}

impl Wake for Parker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *lock(&self.woken) = true;
        self.condition.notify_one();
    }
}

impl Parker {
    /// Sleeps until it is woken, or until `deadline`. Answers whether it was woken.
    #[expect(clippy::disallowed_methods, reason = "the bound of a wait")]
    fn park(&self, deadline: Option<Instant>) -> bool {
        let mut woken = lock(&self.woken);
        while !*woken {
            woken = match deadline {
                None => self.condition.wait(woken).unwrap_or_else(std::sync::PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    let waited = self.condition.wait_timeout(woken, left);
                    waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
                }
            };
        }
        *woken = false;
        true
    }
}

/// Runs a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    drive(future, None).expect("a wait without a deadline ends with its future")
}

/// Runs a future on this thread for `limit` at most.
#[expect(clippy::disallowed_methods, reason = "the bound of a wait")]
pub(crate) fn block_on_for<F: Future>(future: F, limit: Duration) -> Option<F::Output> {
    // A limit that no clock can hold is none.
    drive(future, Instant::now().checked_add(limit))
}

fn drive<F: Future>(future: F, deadline: Option<Instant>) -> Option<F::Output> {
    let mut future = pin!(future);
    // What is ready already, as most outcomes are that are looked at in a row, needs nobody who wakes, and so no
    // allocation.
    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return Some(output);
    }
    let parker = Arc::new(Parker::default());
    let waker = Waker::from(Arc::clone(&parker));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        if !parker.park(deadline) {
            return None;
        }
    }
}
