//! A core on tokio: one `LocalRuntime` per core thread.
//!
//! The stream adapter reads through a buffer of its own and copies into hyper's, since hyper's cursor is uninitialised
//! memory and this crate keeps `unsafe` out of its edges. Answers are some ten kilobytes for a megabyte of request, so
//! the copy is not to be seen; requests are written from where they lie.
//!
//! tokio's timers end up to a millisecond late, which is more than a record's whole lateness may be. On Linux the core
//! therefore sleeps on timers of the kernel (see `timer`).

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use ::tokio::io::AsyncWrite;
use ::tokio::net::TcpStream;
use ::tokio::runtime::{Builder, LocalOptions};
use hyper::rt::{Read, ReadBufCursor, Write};

use super::Runtime;

#[cfg(target_os = "linux")]
mod timer;

/// Bytes read from a socket at once.
const READ_BYTES: usize = 16 * 1024;

/// A core on tokio.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokio;

impl Runtime for Tokio {
    type Stream = Stream;

    fn now(self) -> Instant {
        ::tokio::time::Instant::now().into_std()
    }

    async fn connect(self, address: SocketAddr) -> io::Result<Stream> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        Ok(Stream { tcp, buffer: vec![0; READ_BYTES].into_boxed_slice() })
    }

    fn sleep_until(self, deadline: Instant) -> impl Future<Output = ()> {
        #[cfg(target_os = "linux")]
        return timer::sleep_until(deadline);
        #[cfg(not(target_os = "linux"))]
        ::tokio::time::sleep_until(deadline.into())
    }

    fn spawn_local(self, task: impl Future<Output = ()> + 'static) {
        ::tokio::task::spawn_local(task);
    }

    fn yield_now(self) -> impl Future<Output = ()> {
        ::tokio::task::yield_now()
    }

    fn start<F: Future>(self, core: impl FnOnce() -> F) -> io::Result<F::Output> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build_local(LocalOptions::default())?;
        let output = runtime.block_on(async { core().await });
        #[cfg(target_os = "linux")]
        timer::forget_idle();
        Ok(output)
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
        loop {
            ready!(stream.tcp.poll_read_ready(context))?;
            match stream.tcp.try_read(&mut stream.buffer[..wanted]) {
                Ok(read) => {
                    into.put_slice(&stream.buffer[..read]);
                    return Poll::Ready(Ok(()));
                }
                // Readiness was stale: the next poll of it registers the waker.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
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
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(context)
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
