//! One HTTP/1.1 connection to the endpoint, and one request on it at a time.
//!
//! ```text
//!     open ──▶ idle ──send──▶ busy ──answer──▶ idle ──▶ …
//!                │              │
//!        peer closes            └─ failure or timeout ──▶ closed
//! ```
//!
//! It promises:
//! - A failure says whether any byte of the request reached the socket. The bytes are counted below HTTP, where they
//!   are handed to the system, so that "not sent" is a fact and such a request may be sent again without doubt. Under
//!   TLS they are the bytes of records, the handshake's not among them.
//! - After a failure the connection is closed: its socket and the request's body are dropped when the thread's tasks
//!   have next had a turn, also when the peer reads nothing any more.
//! - An answer is read whole, and never beyond [`ANSWER_BYTES_MAX`].
//!
//! It refuses to retry, to pool and to queue. The core loop owns its connections, and the retrier judges failures.
//!
//! A request costs what hyper costs (1 to 5 µs), seven small allocations of its, and a timer. An answer that comes in one
//! piece is not copied.

use std::cell::Cell;
use std::error::Error;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use ::tokio::sync::oneshot;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, ReadBufCursor, Write};

use super::frame::Frame;
use super::tls::{Tls, TlsStream};
use super::{Runtime, unless};
use crate::engine::TransportFailure;
use crate::error::with_causes;
use crate::limits::ANSWER_BYTES_MAX;
use crate::outcome::ErrorCode;
use crate::proxy::Proxy;
use crate::trust::no_tls;

/// Where a connection leads.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The endpoint's addresses, or those of the proxy before it, tried in this order.
    pub addresses: Arc<[SocketAddr]>,
    /// The endpoint's name, for messages and for the proxy.
    pub host: Arc<str>,
    /// The endpoint's port.
    pub port: u16,
    /// How TLS is spoken with it; nothing in the clear.
    pub tls: Option<Tls>,
    /// The proxy before it.
    pub proxy: Option<Proxy>,
}

impl Target {
    /// The proxy that reads and forwards requests, as there is no TLS that it would have to tunnel.
    pub(crate) fn forwarder(&self) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|_| self.tls.is_none())
    }

    /// What is connected to, for messages, and the code of what fails there.
    fn first_hop(&self) -> (String, ErrorCode) {
        match &self.proxy {
            Some(proxy) => (proxy.to_string(), ErrorCode::Proxy),
            None => (self.host.to_string(), ErrorCode::Connect),
        }
    }
}

fn unsent(code: ErrorCode, message: String) -> TransportFailure {
    TransportFailure { code, message: message.into(), bytes_sent: false }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body, at most [`ANSWER_BYTES_MAX`] bytes.
    pub body: Bytes,
    /// The headers.
    pub headers: HeaderMap,
}

impl Answer {
    /// The media type of the body.
    pub(crate) fn content_type(&self) -> Option<&str> {
        self.header(header::CONTENT_TYPE.as_str())
    }

    /// The error's code where the service puts it in a header, as it stands there.
    pub(crate) fn error_type(&self) -> Option<&str> {
        self.header("x-amzn-errortype")
    }

    /// The endpoint's time of day when it answered, in whole seconds.
    pub(crate) fn date(&self) -> Option<SystemTime> {
        let date = DateTime::from_str(self.header(header::DATE.as_str())?, Format::HttpDate).ok()?;
        SystemTime::try_from(date).ok()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// A connection. Dropping it closes it.
pub(crate) struct Connection<R: Runtime, B = Full<Frame>> {
    runtime: R,
    /// Bytes that were handed to the socket since it was opened. Written by [`Counted`], in the driving task.
    written: Rc<Cell<u64>>,
    /// Nothing once the connection has failed.
    link: Option<Link<B>>,
}

/// The two ends that we hold of the task which drives hyper.
struct Link<B> {
    requests: SendRequest<B>,
    /// Its drop ends the driving task, whatever that is waiting for.
    _alive: oneshot::Sender<()>,
}

impl<R, B> Connection<R, B>
where
    R: Runtime,
    B: Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Connects to the first of the target's addresses that takes the connection, and shakes hands if TLS is wanted,
    /// through a tunnel if there is a proxy.
    ///
    /// # Errors
    /// `Dns` if there is no address; `Connect` if none of them takes the connection, or `Proxy` if they are a proxy's or
    /// it opens no tunnel; `Tls` if no handshake comes about, within `timeout` for all of it.
    pub(crate) async fn open(runtime: R, target: &Target, timeout: Duration) -> Result<Self, TransportFailure> {
        let deadline = runtime.now() + timeout;
        let stream = match unless(runtime.sleep_until(deadline), connect(runtime, target)).await {
            Some(connected) => connected?,
            None => {
                let (hop, code) = target.first_hop();
                let what = match (&target.proxy, &target.tls) {
                    (Some(_), Some(_)) => "tunnel through",
                    _ => "connection to",
                };
                return Err(unsent(code, format!("no {what} {hop} within {timeout:?}")));
            }
        };
        let (stream, written) = Counted::new(stream);
        let Some(tls) = &target.tls else { return Self::over(runtime, stream, written).await };
        let failed = |reason: &str| unsent(ErrorCode::Tls, no_tls(&target.host, reason));
        match unless(runtime.sleep_until(deadline), TlsStream::handshake(stream, tls)).await {
            Some(Ok(stream)) => Self::over(runtime, stream, written).await,
            Some(Err(reason)) => Err(failed(&reason)),
            None => Err(failed(&format!("no handshake within {timeout:?}; does the server speak TLS?"))),
        }
    }

    /// A connection over a stream that is ready to carry HTTP, below which `written` is counted.
    async fn over<S>(runtime: R, stream: S, written: Rc<Cell<u64>>) -> Result<Self, TransportFailure>
    where
        S: Read + Write + Unpin + 'static,
    {
        let (requests, driver) =
            http1::handshake(stream).await.map_err(|error| unsent(ErrorCode::Connect, with_causes(&error)))?;
        let (alive, dropped) = oneshot::channel();
        runtime.spawn_local(async move {
            // The end is looked at first: a request that is said not to be sent must not leave with a last turn. The
            // driver's error reaches the request that it concerns; an idle connection's error concerns nobody.
            let _ = unless(async { drop(driver.await) }, async { drop(dropped.await) }).await;
        });
        Ok(Connection { runtime, written, link: Some(Link { requests, _alive: alive }) })
    }

    /// Whether a request can be sent, as far as is known: a peer that has just closed may not have been heard yet.
    pub(crate) fn is_open(&self) -> bool {
        self.link.as_ref().is_some_and(|link| !link.requests.is_closed())
    }

    /// Sends a request and reads its answer, both within `timeout`. The request needs its `Host` header, and a URI in
    /// origin form, or in absolute form for a proxy that forwards it.
    ///
    /// # Errors
    /// See [`ErrorCode`]; the connection is closed then. Every HTTP status is an answer.
    pub(crate) async fn send(&mut self, request: Request<B>, timeout: Duration) -> Result<Answer, TransportFailure> {
        let Some(link) = &mut self.link else {
            let message = "the connection is closed".to_owned();
            return Err(unsent(ErrorCode::Reset, message));
        };
        let written_before = self.written.get();
        let deadline = self.runtime.now() + timeout;
        let answer = unless(self.runtime.sleep_until(deadline), exchange(&mut link.requests, request)).await;
        let (code, message) = match answer {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(failure)) => failure,
            None => (ErrorCode::Timeout, format!("no answer within {timeout:?}")),
        };
        self.link = None;
        Err(TransportFailure { code, message: message.into(), bytes_sent: self.written.get() != written_before })
    }
}

/// A stream on which the endpoint hears TLS, or the endpoint or a proxy requests in the clear.
async fn connect<R: Runtime>(runtime: R, target: &Target) -> Result<R::Stream, TransportFailure> {
    let stream = reach(runtime, target).await?;
    match (&target.proxy, &target.tls) {
        (Some(proxy), Some(_)) => {
            let tunnel = proxy.tunnel(stream, &target.host, target.port).await;
            tunnel.map_err(|reason| unsent(ErrorCode::Proxy, reason))
        }
        _ => Ok(stream),
    }
}

/// A stream to the first address that takes the connection.
async fn reach<R: Runtime>(runtime: R, target: &Target) -> Result<R::Stream, TransportFailure> {
    let (hop, code) = target.first_hop();
    let unknown = if target.proxy.is_some() { ErrorCode::Proxy } else { ErrorCode::Dns };
    let mut failure = unsent(unknown, format!("{hop} has no address"));
    for &address in target.addresses.iter() {
        match runtime.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                failure = unsent(code.clone(), format!("no connection to {hop} at {address}: {error}"));
            }
        }
    }
    Err(failure)
}

/// A request and its whole answer.
async fn exchange<B>(requests: &mut SendRequest<B>, request: Request<B>) -> Result<Answer, (ErrorCode, String)>
where
    B: Body + 'static,
{
    requests.ready().await.map_err(classify)?;
    let response = requests.send_request(request).await.map_err(classify)?;
    let (head, mut frames) = response.into_parts();
    let (mut body, mut joined) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = frames.frame().await {
        let Ok(data) = frame.map_err(classify)?.into_data() else { continue };
        if body.len() + joined.len() + data.len() > ANSWER_BYTES_MAX {
            let message = format!("an answer of more than {ANSWER_BYTES_MAX} bytes");
            return Err((ErrorCode::UnreadableAnswer, message));
        }
        // As a rule there is one piece, which is not copied.
        if body.is_empty() && joined.is_empty() {
            body = data;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut body));
            joined.extend_from_slice(&data);
        }
    }
    let body = if joined.is_empty() { body } else { joined.freeze() };
    Ok(Answer { status: head.status.as_u16(), body, headers: head.headers })
}

/// Which kind an error of hyper is: what cannot be parsed is unreadable, everything else ended the connection.
fn classify(error: hyper::Error) -> (ErrorCode, String) {
    let kind = if error.is_parse() { ErrorCode::UnreadableAnswer } else { ErrorCode::Reset };
    (kind, with_causes(&error))
}

/// A stream that counts the bytes it hands on.
struct Counted<S> {
    stream: S,
    written: Rc<Cell<u64>>,
}

impl<S> Counted<S> {
    /// The stream, and its count.
    fn new(stream: S) -> (Counted<S>, Rc<Cell<u64>>) {
        let written = Rc::new(Cell::new(0));
        (Counted { stream, written: Rc::clone(&written) }, written)
    }

    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.written.set(self.written.get() + bytes as u64);
        }
        written
    }
}

impl<S: Read + Unpin> Read for Counted<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, into)
    }
}

impl<S: Write + Unpin> Write for Counted<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let counted = self.get_mut();
        let written = Pin::new(&mut counted.stream).poll_write(context, bytes);
        counted.count(written)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        chunks: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let counted = self.get_mut();
        let written = Pin::new(&mut counted.stream).poll_write_vectored(context, chunks);
        counted.count(written)
    }
}

#[cfg(test)]
mod tests;
