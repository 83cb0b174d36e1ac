//! A core's connections, and the requests on them.
//!
//! ```text
//!   engine's Transmit ─▶ task: connect if need be ─▶ hash the body in slices ─▶ sign ─▶ send ─▶ event for the engine
//! ```
//!
//! The engine numbers connections and gives each one request at a time; here each number is a place that holds the
//! connection while it is idle. Every request ends in one [`Ended`], within connect and request timeout.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;

use super::Runtime;
use super::clock::Clock;
use super::connection::{Answer, Connection, Target};
use super::frame::Frame;
use super::hasher::{Hashed, Hasher};
use super::signing::{Call, Signatures, Signer};
use super::skew::Skew;
use crate::codec::{Body, EntryResult, PUT_RECORDS_TARGET, RequestError, Wire, parse_answer};
use crate::engine::{ConnectionId, RequestId, Transmit, TransportFailure};
use crate::limits::{CLOCK_CORRECTION_EVERY, CONNECTION_IDLE};
use crate::outcome::ErrorCode;

/// Headers of a request: six of the signature, the length, and a proxy's.
const HEADERS_MAX: usize = 8;
/// A map with room for more is not kept.
const HEADERS_KEPT: usize = 64;

/// Where requests go, and in whose name.
#[derive(Debug)]
pub(crate) struct Access {
    /// What is connected to.
    pub(crate) target: Target,
    /// The `Host` header.
    pub(crate) host: String,
    /// The endpoint's path alone, or its whole URL for a proxy that forwards.
    pub(crate) uri: Uri,
    /// Signs requests.
    pub(crate) signer: Signer,
    /// Grows when the credentials change.
    pub(crate) serial: u64,
}

/// Why there is no access.
#[derive(Clone, Debug)]
pub(crate) struct AccessDenied {
    /// What attempts get as their code.
    pub(crate) code: ErrorCode,
    /// And as their message.
    pub(crate) message: Arc<str>,
}

/// What a request came to.
pub(crate) enum Ended {
    /// The service answered, readably or not; and the time of day that a refusal bore.
    Answered(RequestId, Result<Vec<EntryResult>, RequestError>, Option<SystemTime>),
    /// It did not.
    Failed(RequestId, TransportFailure),
}

/// The connections of one core.
pub(crate) struct Lines<R: Runtime> {
    runtime: R,
    connect_timeout: Duration,
    request_timeout: Duration,
    hasher: Rc<Hasher>,
    /// Empty, for the next requests: never more than there are connections.
    headers: Rc<RefCell<Vec<HeaderMap>>>,
    signatures: Rc<RefCell<Signatures>>,
    /// How signatures' time differs from this machine's.
    skew: Rc<Cell<Skew>>,
    /// When that was corrected last.
    corrected: Option<Instant>,
    shared: Rc<RefCell<Shared<R>>>,
}

struct Shared<R: Runtime> {
    /// By [`ConnectionId`]; empty while the connection is closed or busy.
    idle: Vec<Option<Idle<R>>>,
    /// What ended and was not told to the engine yet.
    ended: VecDeque<Ended>,
    /// The core loop's, while it rests.
    waker: Option<Waker>,
}

struct Idle<R: Runtime> {
    connection: Connection<R>,
    since: Instant,
}

impl<R: Runtime> Lines<R> {
    /// `count` closed connections.
    pub(crate) fn new(runtime: R, count: usize, connect_timeout: Duration, request_timeout: Duration) -> Lines<R> {
        let idle = (0..count).map(|_| None).collect();
        let shared = Rc::new(RefCell::new(Shared { idle, ended: VecDeque::new(), waker: None }));
        Lines {
            runtime,
            connect_timeout,
            request_timeout,
            hasher: Rc::default(),
            headers: Rc::default(),
            signatures: Rc::default(),
            skew: Rc::default(),
            corrected: None,
            shared,
        }
    }

    /// Sends a request, in a task of its own.
    pub(crate) fn transmit(&self, transmit: Transmit, access: &Result<Arc<Access>, AccessDenied>) {
        let Transmit { request, connection, wire, body, .. } = transmit;
        let access = match access {
            Ok(access) => Arc::clone(access),
            Err(AccessDenied { code, message }) => {
                let failure = TransportFailure { code: code.clone(), message: Arc::clone(message), bytes_sent: false };
                return Shared::end(&self.shared, Ended::Failed(request, failure));
            }
        };
        let exchange = Exchange {
            runtime: self.runtime,
            access,
            hasher: Rc::clone(&self.hasher),
            headers: Rc::clone(&self.headers),
            signatures: Rc::clone(&self.signatures),
            skew: Rc::clone(&self.skew),
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout,
        };
        let shared = Rc::clone(&self.shared);
        self.runtime.spawn_local(async move {
            let idle = shared.borrow_mut().idle[usize::from(connection.0)].take();
            let (kept, result) = exchange.run(idle.map(|idle| idle.connection), wire, body).await;
            if let Some(connection_kept) = kept {
                let idle = Idle { connection: connection_kept, since: exchange.runtime.now() };
                shared.borrow_mut().idle[usize::from(connection.0)] = Some(idle);
            }
            let ended = match result {
                Ok(answer) => {
                    let results = read(&answer);
                    let date = if results.is_err() { answer.date() } else { None };
                    exchange.keep(answer.headers);
                    Ended::Answered(request, results, date)
                }
                Err(failure) => Ended::Failed(request, failure),
            };
            Shared::end(&shared, ended);
        });
    }

    /// How many bytes of bodies were hashed since the last call.
    pub(crate) fn take_hashed(&self) -> Hashed {
        self.hasher.take_hashed()
    }

    /// The next request that has ended.
    pub(crate) fn poll_ended(&self) -> Option<Ended> {
        self.shared.borrow_mut().ended.pop_front()
    }

    /// Whether a request has ended; if not, `waker` is called when one has.
    pub(crate) fn has_ended(&self, waker: &Waker) -> bool {
        let mut shared = self.shared.borrow_mut();
        if shared.ended.is_empty() {
            shared.waker = Some(waker.clone());
        }
        !shared.ended.is_empty()
    }

    /// Sets the time of signatures by an answer that refused one. Answers whether it was set: not if the answer bears
    /// no date, if the two agree well enough that the time cannot have been the reason, or if it was set just now, as an
    /// endpoint whose clock jumps must not have its requests sent at once again and again.
    pub(crate) fn correct_clock(&mut self, date: Option<SystemTime>) -> bool {
        let Some(skew) = date.and_then(|date| Skew::between(Clock::time_of_day(), date)) else { return false };
        let now = self.runtime.now();
        let just_now = self.corrected.is_some_and(|at| now.duration_since(at) < CLOCK_CORRECTION_EVERY);
        if just_now || skew.differs_little(self.skew.get()) {
            return false;
        }
        self.corrected = Some(now);
        self.skew.set(skew);
        true
    }

    /// Closes connections that were idle for [`CONNECTION_IDLE`], and answers which.
    pub(crate) fn close_idle(&self) -> Vec<ConnectionId> {
        let now = self.runtime.now();
        let mut closed = Vec::new();
        for (number, place) in self.shared.borrow_mut().idle.iter_mut().enumerate() {
            if place.take_if(|idle| now.duration_since(idle.since) >= CONNECTION_IDLE).is_some() {
                closed.push(ConnectionId(number as u16));
            }
        }
        closed
    }

    /// When [`Lines::close_idle`] has something to close next.
    pub(crate) fn next_idle(&self) -> Option<Instant> {
        let shared = self.shared.borrow();
        shared.idle.iter().flatten().map(|idle| idle.since + CONNECTION_IDLE).min()
    }
}

impl<R: Runtime> Shared<R> {
    fn end(shared: &Rc<RefCell<Shared<R>>>, ended: Ended) {
        let mut shared = shared.borrow_mut();
        shared.ended.push_back(ended);
        let waker = shared.waker.take();
        drop(shared);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// What one request needs of its core.
struct Exchange<R: Runtime> {
    runtime: R,
    access: Arc<Access>,
    hasher: Rc<Hasher>,
    headers: Rc<RefCell<Vec<HeaderMap>>>,
    signatures: Rc<RefCell<Signatures>>,
    skew: Rc<Cell<Skew>>,
    connect_timeout: Duration,
    request_timeout: Duration,
}

impl<R: Runtime> Exchange<R> {
    /// Sends the request; answers the connection, if it can carry another.
    async fn run(
        &self,
        idle: Option<Connection<R>>,
        wire: Wire,
        body: Arc<Body>,
    ) -> (Option<Connection<R>>, Result<Answer, TransportFailure>) {
        let digest = self.hasher.digest(self.runtime, &body).await;
        let kept = idle.filter(Connection::is_open);
        let fresh = kept.is_none();
        let mut connection = match kept {
            Some(connection) => connection,
            None => match Connection::open(self.runtime, &self.access.target, self.connect_timeout).await {
                Ok(connection) => connection,
                Err(failure) => return (None, Err(failure)),
            },
        };
        let request = match self.request(wire, body, &digest) {
            Ok(request) => request,
            Err(message) => {
                let failure =
                    TransportFailure { code: ErrorCode::Credentials, message: message.into(), bytes_sent: false };
                return (Some(connection), Err(failure));
            }
        };
        let mut result = connection.send(request, self.request_timeout).await;
        if let (Ok(answer), Some(proxy)) = (&result, self.access.target.forwarder())
            && answer.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
        {
            // A proxy's word, never the service's, which has seen nothing of the request.
            let message = proxy.unauthorized().into();
            result = Err(TransportFailure { code: ErrorCode::Proxy, message, bytes_sent: false });
        }
        if let Err(failure) = &mut result
            && fresh
            && !failure.bytes_sent
            && failure.code == ErrorCode::Reset
        {
            // Whoever hangs up on a fresh connection before it took a byte would do so again at once: it counts as no
            // connection, which is an attempt and backs off. A kept one may just have been closed as idle.
            failure.code = ErrorCode::Connect;
        }
        (connection.is_open().then_some(connection), result)
    }

    /// Keeps the map of an answer's headers for a request. It was a request's before: hyper reads an answer into the map
    /// that the request came in.
    fn keep(&self, mut headers: HeaderMap) {
        headers.clear();
        if headers.capacity() <= HEADERS_KEPT {
            self.headers.borrow_mut().push(headers);
        }
    }

    fn request(&self, wire: Wire, body: Arc<Body>, digest: &[u8; 32]) -> Result<Request<Full<Frame>>, String> {
        let call = Call {
            host: &self.access.host,
            path: self.access.uri.path(),
            target: PUT_RECORDS_TARGET,
            content_type: wire.content_type(),
            body_digest: digest,
        };
        let now = self.skew.get().apply(Clock::time_of_day());
        let spare = self.headers.borrow_mut().pop();
        let mut headers = spare.unwrap_or_else(|| HeaderMap::with_capacity(HEADERS_MAX));
        let signed = self.signatures.borrow_mut().sign(&self.access.signer, &call, now, &mut headers);
        signed.map_err(|error| error.to_string())?;
        let mut request = Request::new(Full::new(Frame::new(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.access.uri.clone();
        *request.headers_mut() = headers;
        if let Some(authorization) = self.access.target.forwarder().and_then(|proxy| proxy.authorization.clone()) {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, authorization);
        }
        Ok(request)
    }
}

fn read(answer: &Answer) -> Result<Vec<EntryResult>, RequestError> {
    parse_answer(answer.status, answer.content_type(), answer.error_type(), &answer.body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::tokio::Tokio;

    #[test]
    fn a_clock_is_corrected_if_it_is_far_off_and_not_again_at_once() {
        let mut lines = Lines::new(Tokio, 1, Duration::ZERO, Duration::ZERO);
        let (hour, now) = (Duration::from_secs(3600), Clock::time_of_day());
        assert!(!lines.correct_clock(None));
        assert!(!lines.correct_clock(Some(now)));
        assert!(lines.correct_clock(Some(now + hour)));
        let ahead = lines.skew.get();
        assert!(ahead.apply(now) > now + hour - Duration::from_secs(60));
        // It agrees by now; and a clock that has jumped has to wait.
        assert!(!lines.correct_clock(Some(now + hour)));
        assert!(!lines.correct_clock(Some(now - hour)));
        assert_eq!(lines.skew.get(), ahead);
        lines.corrected = lines.corrected.and_then(|at| at.checked_sub(CLOCK_CORRECTION_EVERY));
        assert!(lines.correct_clock(Some(now - hour)));
    }
}
