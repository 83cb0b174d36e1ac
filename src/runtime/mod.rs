//! What a core stands on: a clock, sockets and tasks of one thread, behind a trait small enough to be implemented
//! twice.
//!
//! ```text
//!     core loop ──▶ Connection ──▶ hyper (HTTP/1.1) ──▶ (TLS) ──▶ Counted ──▶ R::Stream ──▶ socket
//!         │             │
//!         └─────────────┴──▶ R: Runtime     sleep_until, spawn_local, yield_now
//! ```
//!
//! Everything here runs on the thread of its core and is not `Send`. Nothing here decides: failures go up as values
//! and the engine's retrier judges them. This folder and `control/` never import each other; the face carries what
//! the one publishes to the other.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

pub(crate) mod affinity;
mod asked;
pub(crate) mod barrier;
pub(crate) mod clock;
pub(crate) mod command;
pub(crate) mod connection;
pub(crate) mod core;
pub(crate) mod frame;
#[cfg(all(feature = "glommio", target_os = "linux"))]
pub(crate) mod glommio;
mod hasher;
mod idle;
pub(crate) mod lines;
pub(crate) mod mesh;
pub(crate) mod seat;
pub(crate) mod signals;
pub(crate) mod signing;
pub(crate) mod skew;
#[cfg(test)]
mod testing;
pub(crate) mod thread;
pub(crate) mod tls;
pub(crate) mod tokio;

/// The asynchronous runtime of one core's thread. A value of the type is a handle without state: it is meaningful
/// only within [`Runtime::start`], on the thread that called it.
pub(crate) trait Runtime: Copy + 'static {
    /// A TCP stream as hyper takes it. It says that it writes vectors, or hyper would copy every body.
    type Stream: hyper::rt::Read + hyper::rt::Write + Unpin + 'static;

    /// The clock that [`Runtime::sleep_until`] follows.
    fn now(self) -> Instant;

    /// Opens a TCP connection without Nagle's delay. It has no timeout of its own.
    fn connect(self, address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>>;

    /// Ends at `deadline`, or at once if that has passed; never before it.
    fn sleep_until(self, deadline: Instant) -> impl Future<Output = ()>;

    /// Runs `task` beside the caller on this thread. What has not ended when the core's future ends is dropped.
    fn spawn_local(self, task: impl Future<Output = ()> + 'static);

    /// Lets the thread's other tasks have a turn.
    fn yield_now(self) -> impl Future<Output = ()>;

    /// Runs the future that `core` makes to its end on the current thread, and returns its output.
    ///
    /// # Errors
    /// The runtime could not be set up; `core` was not called.
    fn start<F: Future>(self, core: impl FnOnce() -> F) -> io::Result<F::Output>;
}

/// The output of `future`, or nothing if `limit` ends first. The future that lost is dropped.
pub(crate) async fn unless<F: Future>(limit: impl Future<Output = ()>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut limit = pin!(limit);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => limit.as_mut().poll(context).map(|()| None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::Write;
    use std::pin::Pin;
    use std::rc::Rc;
    use std::time::Duration;

    use hyper::rt::{Read, ReadBuf};

    use super::testing::{listen, on_each_runtime, unblocked};
    use super::*;

    /// Longer than anything takes that does not hang.
    const LONG: Duration = Duration::from_secs(30);

    async fn who_does_nothing_but_yield_still_sees_sockets_and_timers(runtime: impl Runtime) {
        let (listener, address) = listen();
        let mut stream = runtime.connect(address).await.expect("a connection");
        let (mut peer, _) = unblocked(runtime, || listener.accept()).await.expect("a connection");
        let seen = Rc::new(Cell::new(0));
        let (by_reader, by_sleeper) = (Rc::clone(&seen), Rc::clone(&seen));
        runtime.spawn_local(async move {
            let mut byte = [0];
            let mut buffer = ReadBuf::new(&mut byte);
            poll_fn(|context| Pin::new(&mut stream).poll_read(context, buffer.unfilled())).await.expect("a byte");
            by_reader.set(by_reader.get() + 1);
        });
        runtime.spawn_local(async move {
            runtime.sleep_until(runtime.now() + Duration::from_millis(1)).await;
            by_sleeper.set(by_sleeper.get() + 1);
        });
        // Both wait by now.
        runtime.yield_now().await;
        peer.write_all(&[7]).expect("a byte");
        let limit = runtime.now() + LONG;
        while seen.get() < 2 {
            assert!(runtime.now() < limit, "{} of two", seen.get());
            runtime.yield_now().await;
        }
    }

    on_each_runtime! {
        who_does_nothing_but_yield_still_sees_sockets_and_timers
    }
}
