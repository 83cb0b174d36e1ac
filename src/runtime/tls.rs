//! TLS over a stream of any runtime: rustls, driven by hand.
//!
//! ```text
//!     hyper ──plain──▶ rustls ──records──▶ S        poll_write: encrypt what the buffer takes, then send
//!     hyper ◀──plain── rustls ◀──records── S        poll_read:  receive until there is something to read
//! ```
//!
//! It promises:
//! - What is held of a request in records that were not sent is at most [`UNSENT_BYTES`]; a fuller buffer takes
//!   nothing more until the socket does. Chunks of a vectored write are encrypted from where they lie.
//! - It writes to the stream below only when hyper writes, flushes or shuts down. The bytes counted there since the
//!   handshake are therefore those of requests.
//! - An end without `close_notify` is an error: nobody can cut an answer short unseen.
//!
//! It refuses to send `close_notify` when it is dropped, as what is dropped may hold a part of a request that is
//! already said not to have been sent. Ends of answers are told by HTTP, so no peer misses it.
//!
//! A byte costs its encryption and one copy, some 0.2 ns with AES instructions. A connection costs a handshake: two
//! round trips with the TCP one, and public-key arithmetic, of which a resumed session has less.

use std::future::poll_fn;
use std::io::{self, BufRead, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use crate::trust::{self, no_tls};

/// Most bytes of a request that wait, encrypted, for the socket: eight records, which one vectored write takes. With four a
/// producer's record of 100 B took 3 % more; with forty, 19 % more.
const UNSENT_BYTES: usize = 128 * 1024;

/// With whom, and how, TLS is spoken.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// The producer's one configuration; see [`crate::trust`].
    pub(crate) config: Arc<ClientConfig>,
    /// Who the server's certificate must be for.
    pub(crate) name: ServerName<'static>,
}

impl Tls {
    /// TLS with `host`, a name or an address without brackets.
    ///
    /// # Errors
    /// No certificate can be for such a name.
    pub(crate) fn with(config: Arc<ClientConfig>, host: &str) -> Result<Tls, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| no_tls(host, &error.to_string()))?;
        Ok(Tls { config, name })
    }
}

/// A stream whose handshake is done.
pub(crate) struct TlsStream<S> {
    stream: S,
    session: ClientConnection,
}

impl<S: Read + Write + Unpin> TlsStream<S> {
    /// Shakes hands. It has no timeout of its own.
    ///
    /// # Errors
    /// The reason in words: the certificate is not good, the server does not speak TLS, or the stream ended.
    pub(crate) async fn handshake(stream: S, tls: &Tls) -> Result<TlsStream<S>, String> {
        let session = ClientConnection::new(Arc::clone(&tls.config), tls.name.clone());
        let mut session = session.map_err(|error| trust::reason(&error))?;
        session.set_buffer_limit(Some(UNSENT_BYTES));
        let mut shaking = TlsStream { stream, session };
        poll_fn(|context| shaking.poll_handshake(context)).await.map_err(|error| match trust::find_cause(&error) {
            Some(cause) => trust::reason(cause),
            None => format!("the connection ended within the handshake; does the server speak TLS? ({error})"),
        })?;
        Ok(shaking)
    }

    /// Whether the handshake resumed an earlier session.
    #[cfg(test)]
    pub(crate) fn is_resumed(&self) -> bool {
        self.session.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    fn poll_handshake(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let sent = self.poll_send(context)?;
            if !self.session.is_handshaking() {
                // Our last message must leave before the first request is counted.
                return sent.map(Ok);
            }
            if let Err(error) = ready!(self.poll_receive(context)) {
                // The alert that tells the server why. If it does not leave now it never does.
                let _ = self.poll_send(context);
                return Poll::Ready(Err(error));
            }
        }
    }

    /// Sends records until none are left.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            let mut socket = Polled { stream: &mut self.stream, context };
            match self.session.write_tls(&mut socket) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Receives some bytes and decrypts what is whole. The end of the stream is an error only within the handshake:
    /// afterwards the session tells when it is read from.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = Polled { stream: &mut self.stream, context };
        match self.session.read_tls(&mut socket) {
            Ok(0) if self.session.is_handshaking() => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        }
        let decrypted = self.session.process_new_packets();
        Poll::Ready(decrypted.map(drop).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    /// Encrypts through `write` as much as the buffer takes, and sends. What is encrypted is written as far as hyper is
    /// concerned; what of it the socket did not take yet leaves with the next write or flush.
    fn poll_encrypt(
        &mut self,
        context: &mut Context<'_>,
        write: impl Fn(&mut rustls::Writer<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let sent = self.poll_send(context)?;
            let written = write(&mut self.session.writer())?;
            if written > 0 {
                // A write that stays in the buffer is flushed later, with the waker registered then.
                let _ = self.poll_send(context)?;
                return Poll::Ready(Ok(written));
            }
            // The buffer is full, or there was nothing to write.
            ready!(sent);
            if !self.session.wants_write() {
                return Poll::Ready(Ok(0));
            }
        }
    }
}

impl<S: Read + Write + Unpin> Read for TlsStream<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, mut into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let tls = self.get_mut();
        loop {
            let mut reader = tls.session.reader();
            match reader.fill_buf() {
                Ok(plain) => {
                    // Nothing, if the peer said that it closes.
                    let bytes = plain.len().min(into.remaining());
                    into.put_slice(&plain[..bytes]);
                    reader.consume(bytes);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(tls.poll_receive(context))?;
        }
    }
}

impl<S: Read + Write + Unpin> Write for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_encrypt(context, |writer| io::Write::write(writer, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tls = self.get_mut();
        ready!(tls.poll_send(context))?;
        Pin::new(&mut tls.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tls = self.get_mut();
        // Said once, however often it is asked for.
        tls.session.send_close_notify();
        ready!(tls.poll_send(context))?;
        Pin::new(&mut tls.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        chunks: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_encrypt(context, |writer| io::Write::write_vectored(writer, chunks))
    }
}

/// A polled stream as rustls takes it: what is pending would block.
struct Polled<'s, 'c, S> {
    stream: &'s mut S,
    context: &'s mut Context<'c>,
}

fn or_would_block<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl<S: Read + Unpin> io::Read for Polled<'_, '_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(into);
        or_would_block(Pin::new(&mut *self.stream).poll_read(self.context, buffer.unfilled()))?;
        Ok(buffer.filled().len())
    }
}

impl<S: Write + Unpin> io::Write for Polled<'_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.stream).poll_write(self.context, bytes))
    }

    fn write_vectored(&mut self, chunks: &[IoSlice<'_>]) -> io::Result<usize> {
        or_would_block(Pin::new(&mut *self.stream).poll_write_vectored(self.context, chunks))
    }

    fn flush(&mut self) -> io::Result<()> {
        or_would_block(Pin::new(&mut *self.stream).poll_flush(self.context))
    }
}

#[cfg(test)]
mod tests;
