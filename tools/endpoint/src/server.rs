//! The door: accepts connections, reads whole requests, and leads each through script, faults, signature and backend.
//!
//! Everything runs on one thread. A connection keeps one buffer for its bodies, so that a body costs one copy and no
//! fresh memory. Bodies longer than the bound are read to their end and thrown away before 413 is answered: an early
//! answer would be lost in the reset that follows it.

use crate::answer::{self, JSON, Refusal};
use crate::config::{EndpointConfig, Kind};
use crate::emulator::Emulator;
use crate::faults::tcp::{Line, Tapped};
use crate::faults::{Faults, suffer};
use crate::partial::{self, Dropped};
use crate::put_records::{self, Totals, Wire};
use crate::script::{Action, RequestInfo, Script};
use crate::signature::{self, Verifier};
use crate::sink::Sink;
use crate::stats::{Stats, StatsSnapshot};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::HandshakeKind;

/// Bytes that hyper reads ahead on a connection.
const READ_AHEAD: usize = 512 * 1024;

/// What all connections share.
pub(crate) struct Server {
    backend: Backend,
    verifier: Option<Verifier>,
    script: Option<Script>,
    pub(crate) faults: Option<Arc<Faults>>,
    /// Told when all connections are to be reset.
    cut: Notify,
    body_bytes_max: usize,
    clock_ahead_s: i64,
    pub(crate) stats: Stats,
    /// Requests so far by operation. Written by each request if there is a script.
    indexes: Mutex<HashMap<String, u64>>,
}

enum Backend {
    Emulator(Emulator),
    Sink(Sink),
}

/// What outlives a request on its connection.
#[derive(Default)]
pub(crate) struct Connection {
    buffer: Mutex<BytesMut>,
    pub(crate) line: Arc<Line>,
}

/// Accepts connections until it is dropped. In an outage nobody listens.
///
/// Errors: the port cannot be had back after an outage.
pub(crate) async fn accept(
    mut listener: TcpListener,
    server: Arc<Server>,
    tls: Option<TlsAcceptor>,
) -> io::Result<Infallible> {
    let address = listener.local_addr()?;
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    server.stats.count_connection();
                    tokio::spawn(welcome(server.clone(), stream, tls.clone()));
                }
                // Out of file descriptors, most likely: some connection must end first.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            faults = server.left_by() => {
                drop(listener);
                server.cut.notify_waiters();
                faults.returns().await;
                listener = TcpListener::bind(address).await?;
            }
        }
    }
}

/// Shakes hands, if that is wanted, and serves a connection to its end, which an outage may bring.
async fn welcome(server: Arc<Server>, stream: TcpStream, tls: Option<TlsAcceptor>) {
    // A socket that refuses the option still works, only slower.
    let _ = stream.set_nodelay(true);
    let line = Arc::new(Line::default());
    let stream = Tapped::new(stream, line.clone(), server.faults.clone());
    let Some(tls) = tls else { return serve(server, stream, line, Tapped::end_with_reset).await };
    // A handshake that fails is its client's affair too, or that of a fault.
    let Ok(stream) = tls.accept(stream).await else { return };
    if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
        server.stats.count_tls_resumption();
    }
    serve(server, stream, line, |stream| stream.get_ref().0.end_with_reset()).await;
}

/// Serves a connection to its end; `reset` makes that end a reset.
async fn serve<S>(server: Arc<Server>, stream: S, line: Arc<Line>, reset: impl FnOnce(&S))
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let state = Arc::new(Connection { buffer: Mutex::default(), line: line.clone() });
    let handler = {
        let server = server.clone();
        service_fn(move |request| {
            let (server, state) = (server.clone(), state.clone());
            // Boxed, as only a future that can be moved lets its connection be taken apart below.
            Box::pin(async move { server.handle(&state, request).await })
        })
    };
    let mut connection = http1::Builder::new().max_buf_size(READ_AHEAD).serve_connection(TokioIo::new(stream), handler);
    tokio::select! {
        // How a connection ended is its client's affair.
        _ = poll_fn(|context| connection.poll_without_shutdown(context)) => {}
        () = server.cut.notified() => line.reset(),
    }
    let stream = connection.into_parts().io.into_inner();
    if line.is_reset() {
        reset(&stream);
    }
}

impl Server {
    pub(crate) fn new(config: EndpointConfig) -> Server {
        let backend = match &config.kind {
            Kind::Emulator(options) => Backend::Emulator(Emulator::new(options, &config.region)),
            Kind::Sink { shards } => Backend::Sink(Sink::new(*shards, config.region.clone())),
        };
        Server {
            backend,
            verifier: config.verify_signatures.then(|| Verifier::new(config.region, config.credentials)),
            script: config.script,
            faults: config.faults.map(|options| Arc::new(Faults::new(options))),
            cut: Notify::new(),
            body_bytes_max: config.body_bytes_max,
            clock_ahead_s: config.clock_ahead_s,
            stats: Stats::default(),
            indexes: Mutex::default(),
        }
    }

    /// Returns when nobody is to listen any more, with the faults that want it so.
    async fn left_by(&self) -> &Faults {
        match &self.faults {
            Some(faults) => {
                faults.leaves().await;
                faults
            }
            None => std::future::pending().await,
        }
    }

    async fn handle(
        self: &Arc<Self>,
        connection: &Connection,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Dropped> {
        let (head, body) = request.into_parts();
        match (&head.method, head.uri.path()) {
            (&Method::GET, _) => return Ok(self.report(&head)),
            (&Method::POST, "/heal") => {
                self.heal().await;
                return Ok(self.report_stats());
            }
            _ => {}
        }
        let mut response = match connection.read(body, self.body_bytes_max).await? {
            Some(body) => {
                self.stats.count_request(operation(&head));
                self.act(connection, head, body).await?
            }
            None => Refusal { status: 413, code: "RequestEntityTooLarge", message: String::new() }.into_response(),
        };
        if self.clock_ahead_s != 0 {
            // Hyper writes the date of the machine's clock, unless there is one.
            let now = UNIX_EPOCH + Duration::from_secs(self.now_s().max(0) as u64);
            if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(now)) {
                response.headers_mut().insert(DATE, date);
            }
        }
        Ok(response)
    }

    /// Does with a request what the script says.
    async fn act(
        self: &Arc<Self>,
        connection: &Connection,
        head: Parts,
        body: Bytes,
    ) -> Result<Response<Body>, Dropped> {
        match self.ask_script(connection, &head, &body) {
            Action::Pass => match &self.faults {
                Some(faults) => suffer(self, faults, connection, head, body).await,
                None => Ok(self.answer(head, body).await),
            },
            Action::Respond { status, content_type, body } => Ok(answer::response(status, content_type, body)),
            Action::Delay(delay) => {
                tokio::time::sleep(delay).await;
                Ok(self.answer(head, body).await)
            }
            Action::CloseConnection => Err(Dropped),
            Action::ResetConnection => Err(connection.reset()),
            Action::ServeThenClose => {
                self.answer(head, body).await;
                Err(Dropped)
            }
            Action::FailRecords { indexes, code } => Ok(self.answer_in_part(head, body, &indexes, code).await),
            Action::TruncateBody => partial::halved(self.answer(head, body).await).await,
        }
    }

    fn ask_script(&self, connection: &Connection, head: &Parts, body: &Bytes) -> Action {
        let Some(script) = &self.script else { return Action::Pass };
        let operation = operation(head);
        let index = {
            let mut indexes = self.indexes.lock().unwrap_or_else(PoisonError::into_inner);
            let index = indexes.entry(operation.to_owned()).or_default();
            *index += 1;
            *index - 1
        };
        let access_key_id = signature::access_key_id(head).unwrap_or_default();
        let first_byte = connection.line.first_byte().unwrap_or_else(Instant::now);
        script(&RequestInfo { operation, index, content_type: content_type(head), access_key_id, first_byte, body })
    }

    /// The answer to a request that reached the service.
    pub(crate) async fn answer(&self, head: Parts, body: Bytes) -> Response<Body> {
        match self.admit(&head, &body) {
            Ok(()) => self.dispatch(head, body).await,
            Err(refusal) => refusal.into_response(),
        }
    }

    /// The answer to a PutRecords of which some records fail: the backend sees the others alone.
    pub(crate) async fn answer_in_part(
        &self,
        head: Parts,
        body: Bytes,
        failed: &[usize],
        code: &str,
    ) -> Response<Body> {
        if let Err(refusal) = self.admit(&head, &body) {
            return refusal.into_response();
        }
        let wire = Wire::of(content_type(&head));
        let parted = wire.and_then(|wire| Some((wire, partial::without(wire, &body, failed)?)));
        let Some((wire, (count, others))) = parted else { return self.dispatch(head, body).await };
        let (response, answer) = match others {
            None => (answer::response(200, wire.content_type(), Bytes::new()), None),
            Some(others) => {
                let (response, body) = self.dispatch(head, others).await.into_parts();
                let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
                if !response.status.is_success() {
                    return Response::from_parts(response, Body::from(body));
                }
                (Response::from_parts(response, Body::empty()), Some(body))
            }
        };
        let (mut response, _) = response.into_parts();
        // The emulator's length was that of the shorter answer.
        response.headers.remove(CONTENT_LENGTH);
        let body = partial::with_failures(wire, answer.as_deref(), count, failed, code);
        Response::from_parts(response, Body::from(body))
    }

    /// Whether a request's signature is good, where signatures matter.
    fn admit(&self, head: &Parts, body: &[u8]) -> Result<(), Refusal> {
        let Some(verifier) = &self.verifier else { return Ok(()) };
        verifier.verify(head, body, self.now_s()).inspect_err(|_| self.stats.count_refused_signature())
    }

    /// The answer to a request that is entitled to one.
    pub(crate) async fn dispatch(&self, head: Parts, body: Bytes) -> Response<Body> {
        let wire = Wire::of(content_type(&head));
        match &self.backend {
            Backend::Emulator(emulator) => {
                let totals = match wire {
                    Some(wire) if operation(&head) == "PutRecords" => put_records::read(wire, &body, |_| {}).ok(),
                    _ => None,
                };
                let operation = operation(&head).to_owned();
                let body = match (&self.faults, wire) {
                    (Some(faults), Some(wire)) if operation == "PutRecords" => faults.distribute(wire, body),
                    _ => body,
                };
                let response = emulator.answer(&operation, head, body).await;
                let response = match &self.faults {
                    Some(faults) if operation == "DescribeStreamSummary" => faults.describe(response).await,
                    _ => response,
                };
                self.count_stored(emulator, totals, response).await
            }
            Backend::Sink(sink) => {
                let Some(wire) = wire else {
                    return Refusal { status: 404, code: "UnknownOperationException", message: String::new() }
                        .into_response();
                };
                match sink.answer(operation(&head), wire, &body) {
                    Ok((answer, totals)) => {
                        if let Some(totals) = totals {
                            self.stats.count_put(totals.records as u64, totals.bytes as u64);
                        }
                        answer::response(200, wire.content_type(), Bytes::from(answer))
                    }
                    Err(refusal) => refusal.into_response(),
                }
            }
        }
    }

    async fn count_stored(
        &self,
        emulator: &Emulator,
        totals: Option<Totals>,
        response: Response<Body>,
    ) -> Response<Body> {
        let Some(totals) = totals.filter(|_| response.status().is_success()) else { return response };
        let (failed, response) = emulator.failed_records(response).await;
        self.stats.count_put((totals.records as u64).saturating_sub(failed), totals.bytes as u64);
        response
    }

    fn report(&self, head: &Parts) -> Response<Body> {
        if head.uri.path() != "/stats" {
            return Refusal { status: 404, code: "UnknownOperationException", message: String::new() }.into_response();
        }
        self.report_stats()
    }

    fn report_stats(&self) -> Response<Body> {
        let body = serde_json::to_vec(&self.snapshot()).expect("numbers by name are JSON");
        answer::response(200, JSON, Bytes::from(body))
    }

    /// The counters, faults included.
    pub(crate) fn snapshot(&self) -> StatsSnapshot {
        let faults = self.faults.as_ref().map(|faults| faults.by_name());
        StatsSnapshot { faults: faults.unwrap_or_default(), ..self.stats.snapshot() }
    }

    /// Ends all faults, and returns when what was to be served late has been.
    pub(crate) async fn heal(&self) {
        if let Some(faults) = &self.faults {
            faults.heal().await;
        }
    }

    fn now_s(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_add(self.clock_ahead_s)
    }
}

impl Connection {
    /// Makes the end of the connection a reset, which is near.
    pub(crate) fn reset(&self) -> Dropped {
        self.line.reset();
        Dropped
    }

    /// The whole body, or `None` if it is longer than `max`. The memory is this connection's until the next request.
    async fn read(&self, mut body: Incoming, max: usize) -> Result<Option<Bytes>, Dropped> {
        let mut buffer = std::mem::take(&mut *self.buffer.lock().unwrap_or_else(PoisonError::into_inner));
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        buffer.reserve(announced.min(max));
        let mut fits = announced <= max;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Dropped)?.into_data() else { continue };
            fits = fits && buffer.len() + data.len() <= max;
            if fits {
                buffer.extend_from_slice(&data);
            }
        }
        // What is split off goes back to the buffer once the request has dropped it: `reserve` above finds it again.
        let whole = buffer.split().freeze();
        *self.buffer.lock().unwrap_or_else(PoisonError::into_inner) = buffer;
        Ok(fits.then_some(whole))
    }
}

/// The operation's name without its version.
pub(crate) fn operation(head: &Parts) -> &str {
    let target = head.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    target.and_then(|target| target.strip_prefix("Kinesis_20131202.")).unwrap_or_default()
}

pub(crate) fn content_type(head: &Parts) -> &str {
    head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
