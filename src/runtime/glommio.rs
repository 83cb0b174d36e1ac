//! A core on glommio: one executor, and its io_uring, per core thread.
//!
//! ```text
//!   may it run here? ──▶ executor on this thread, pinned by nobody ──▶ core, its tasks, its sockets
//!    io_uring_setup, RLIMIT_MEMLOCK
//! ```
//!
//! io_uring is often refused: by the seccomp profiles of container runtimes, by sysctl, by sandboxes. The kernel is
//! therefore asked before glommio is touched, and what it says is an error in words.
//!
//! Of glommio's streams only reads and writes are used, never their timeouts: ours are futures beside them (`alarm`). A
//! connection is always opened to an address, as a name would be looked up on the reactor. Its writes lack
//! `MSG_NOSIGNAL`; [`super::signals`] is why that kills nobody.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ::glommio::net::TcpStream;
use ::glommio::{LocalExecutorBuilder, Placement, PoolPlacement};
use futures_io::{AsyncRead, AsyncWrite};
use hyper::rt::{Read, ReadBufCursor, Write};
use io_uring::IoUring;
use rustix::process::{Resource, getrlimit};

use self::alarm::Alarm;
use super::Runtime;

mod alarm;

/// Bytes read from a socket at once.
const READ_BYTES: usize = 16 * 1024;
/// Bytes of locked memory that an executor registers for storage, the least it takes; we store nothing.
const IO_MEMORY: usize = 64 * 1024;
/// Least RLIMIT_MEMLOCK with which glommio starts, in bytes.
const MEMLOCK_MIN: u64 = 512 * 1024;

/// For how long the executor runs tasks before it looks at its sockets: practically forever, see `alarm`. Cores look at
/// them each time that they yield.
const TIME_SLICE: Duration = Duration::from_secs(24 * 3600);

/// A core on glommio.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Glommio;

impl Runtime for Glommio {
    type Stream = Stream;

    fn now(self) -> Instant {
        alarm::now()
    }

    async fn connect(self, address: SocketAddr) -> io::Result<Stream> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        Ok(Stream { tcp, buffer: vec![0; READ_BYTES].into_boxed_slice() })
    }

    fn sleep_until(self, deadline: Instant) -> impl Future<Output = ()> {
        Alarm::at(deadline)
    }

    fn spawn_local(self, task: impl Future<Output = ()> + 'static) {
        ::glommio::spawn_local(task).detach();
    }

    fn yield_now(self) -> impl Future<Output = ()> {
        alarm::pass()
    }

    fn start<F: Future>(self, core: impl FnOnce() -> F) -> io::Result<F::Output> {
        usable()?;
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(IO_MEMORY)
            .preempt_timer(TIME_SLICE)
            // No further thread: nothing of ours blocks.
            .blocking_thread_pool_placement(PoolPlacement::Custom(Vec::new()))
            .make()
            .map_err(|error| io::Error::other(format!("glommio could not be set up: {error}")))?;
        Ok(executor.run(async { core().await }))
    }
}

/// Whether glommio may run on this thread.
///
/// # Errors
/// What forbids it.
fn usable() -> io::Result<()> {
    if let Err(error) = IoUring::new(1) {
        return Err(io::Error::new(error.kind(), format!("the kernel refuses io_uring: {error}")));
    }
    match getrlimit(Resource::Memlock).current {
        Some(bytes) if bytes < MEMLOCK_MIN => Err(io::Error::new(
            io::ErrorKind::OutOfMemory,
            format!("RLIMIT_MEMLOCK is {bytes} bytes, and glommio needs {MEMLOCK_MIN}"),
        )),
        _ => Ok(()),
    }
}

/// A TCP stream as hyper takes it.
pub(crate) struct Stream {
    tcp: TcpStream,
    buffer: Box<[u8]>,
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let stream = self.get_mut();
        let wanted = into.remaining().min(stream.buffer.len());
        let read = ready!(Pin::new(&mut stream.tcp).poll_read(context, &mut stream.buffer[..wanted]))?;
        into.put_slice(&stream.buffer[..read]);
        Poll::Ready(Ok(()))
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_close(context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        chunks: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().tcp).poll_write_vectored(context, chunks)
    }
}
