//! Faults of connections: a socket that is reset, closed or stalls after so many bytes, or is closed while it is idle.
//!
//! ```text
//!   TcpStream ──▶ Tapped: counts what the client sends, and cuts it ──▶ (TLS) ──▶ HTTP
//! ```
//!
//! It stands below TLS, so that a cut may fall into a handshake, a head, a body, or between two requests.

use super::{ConnectionFate, FaultKind, Faults};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// How long an idle connection is left open that is to be closed: the client may find it closed, or be about to write.
const IDLE: Duration = Duration::from_millis(3);
/// How long a stalled connection is held: longer than any client waits.
const STALL: Duration = Duration::from_secs(60);

/// What faults and server tell each other about a connection.
#[derive(Default)]
pub(crate) struct Line {
    /// It is to end with a reset.
    reset: AtomicBool,
    /// It is to be closed when it is idle.
    close_idle: AtomicBool,
    /// When the first byte came since the last was sent: of a request, once the one before is answered.
    first_byte: Mutex<Option<Instant>>,
}

impl Line {
    // Relaxed throughout: all is stored and loaded on the connection's own task.

    /// The connection's end is to be a reset.
    pub(crate) fn reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub(crate) fn is_reset(&self) -> bool {
        self.reset.load(Ordering::Relaxed)
    }

    /// When the first byte of the request came that is being read or answered. Under TLS, of its first TLS record.
    pub(crate) fn first_byte(&self) -> Option<Instant> {
        *self.first_byte.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes_came(&self) {
        self.first_byte.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
    }

    fn bytes_go(&self) {
        *self.first_byte.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The connection is to be closed after the answer.
    pub(crate) fn close_idle(&self) {
        self.close_idle.store(true, Ordering::Relaxed);
    }
}

/// A socket that may come to harm.
pub(crate) struct Tapped {
    stream: TcpStream,
    line: Arc<Line>,
    harm: Option<Harm>,
}

/// What a socket needs where there are faults.
struct Harm {
    faults: Arc<Faults>,
    fate: Option<ConnectionFate>,
    read_bytes: u64,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Tapped {
    /// Draws the fate of a connection, if there are faults.
    pub(crate) fn new(stream: TcpStream, line: Arc<Line>, faults: Option<Arc<Faults>>) -> Tapped {
        let harm = faults.map(|faults| {
            let fate = faults.of_connection();
            Harm { faults, fate, read_bytes: 0, waiting: None }
        });
        Tapped { stream, line, harm }
    }

    /// Makes the end of the connection a reset.
    pub(crate) fn end_with_reset(&self) {
        // A socket that refuses the option is closed in the ordinary way.
        let _ = self.stream.set_zero_linger();
    }

    /// Strikes where the fate says so; then nothing more is read.
    fn poll_fate(&mut self, context: &mut Context<'_>) -> Option<Poll<io::Result<()>>> {
        let harm = self.harm.as_mut()?;
        let fate = harm.fate.filter(|fate| harm.read_bytes >= fate.after)?;
        if harm.waiting.is_none() {
            if harm.faults.is_healed() {
                harm.fate = None;
                return None;
            }
            harm.faults.count(fate.kind);
        }
        match fate.kind {
            FaultKind::ConnectReset | FaultKind::ResetInRequest => {
                self.line.reset();
                self.end_with_reset();
                Some(Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())))
            }
            FaultKind::ConnectStalled | FaultKind::StallInRequest => {
                let waiting = harm.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
                Some(waiting.as_mut().poll(context).map(Ok))
            }
            _ => Some(Poll::Ready(Ok(()))),
        }
    }

    /// Whether the idle connection ends now.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(harm) = &mut self.harm else { return Poll::Pending };
        // Partner: `Line::close_idle`, on this same task.
        if self.line.close_idle.swap(false, Ordering::Relaxed) {
            harm.waiting = Some(Box::pin(tokio::time::sleep(IDLE)));
        }
        let Some(waiting) = &mut harm.waiting else { return Poll::Pending };
        ready!(waiting.as_mut().poll(context));
        harm.faults.count(FaultKind::IdleClosed);
        Poll::Ready(())
    }
}

impl AsyncRead for Tapped {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let tapped = self.get_mut();
        if let Some(struck) = tapped.poll_fate(context) {
            return struck;
        }
        let before = buffer.filled().len();
        let left = tapped.harm.as_ref().and_then(|harm| Some(harm.fate?.after - harm.read_bytes));
        let polled = match left {
            None => Pin::new(&mut tapped.stream).poll_read(context, buffer),
            Some(left) => {
                let most = buffer.remaining().min(usize::try_from(left).unwrap_or(usize::MAX));
                let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
                let polled = Pin::new(&mut tapped.stream).poll_read(context, &mut part);
                let filled = part.filled().len();
                buffer.advance(filled);
                polled
            }
        };
        let read = buffer.filled().len() - before;
        if read > 0 {
            tapped.line.bytes_came();
        }
        if let Some(harm) = tapped.harm.as_mut().filter(|_| read > 0) {
            harm.read_bytes += read as u64;
            // The client wrote before its connection was closed.
            harm.waiting = None;
        }
        match polled {
            // As if the client had ended it.
            Poll::Pending => tapped.poll_idle(context).map(Ok),
            ready => ready,
        }
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.line.bytes_go();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.line.bytes_go();
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
