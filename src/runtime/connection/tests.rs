//! A connection against a peer that the test plays itself, on the same thread.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::pin::pin;
use std::sync::Weak;
use std::time::Instant;

use super::*;
use crate::codec::{Aggregate, Body, Member, RequestEncoder, StreamRef, Wire};
use crate::runtime::testing::{listen, on_each_runtime, unblocked};

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(10);

/// The service's end of a connection.
struct Peer<R> {
    tcp: TcpStream,
    runtime: R,
}

impl<R: Runtime> Peer<R> {
    /// Reads one request; returns its body.
    async fn request(&self) -> String {
        let mut request = String::new();
        loop {
            if let Some((head, body)) = request.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len().to_string() == length.unwrap_or("0") {
                    return body.to_owned();
                }
            }
            let chunk = self.read().await.expect("a request");
            assert!(!chunk.is_empty(), "the connection ended within a request");
            request.push_str(std::str::from_utf8(&chunk).expect("the tests send text"));
        }
    }

    async fn read(&self) -> io::Result<Vec<u8>> {
        let mut chunk = [0; 4096];
        let read = unblocked(self.runtime, || (&self.tcp).read(&mut chunk)).await?;
        Ok(chunk[..read].to_vec())
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = &bytes[unblocked(self.runtime, || (&self.tcp).write(bytes)).await?..];
        }
        Ok(())
    }
}

/// A connection, with its peer.
async fn pair<R: Runtime>(runtime: R) -> (Connection<R, Full<Bytes>>, Peer<R>) {
    let (listener, address) = listen();
    let target = target(&[address]);
    let accept = unblocked(runtime, || listener.accept());
    let (connection, accepted) = both(Connection::open(runtime, &target, LONG), accept).await;
    let (tcp, _) = accepted.expect("a client");
    tcp.set_nonblocking(true).expect("a socket");
    (connection.expect("a connection"), Peer { tcp, runtime })
}

fn target(addresses: &[SocketAddr]) -> Target {
    Target { addresses: addresses.into(), host: "kinesis.test".into(), port: 80, tls: None, proxy: None }
}

/// An address where nobody listens.
fn deserted() -> SocketAddr {
    listen().1
}

fn post(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::post("/").header("host", "kinesis.test");
    request.body(Full::new(body.into())).expect("a request")
}

/// The outputs of two futures that run side by side.
async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut a_output, mut b_output) = (None, None);
    poll_fn(|context| {
        if a_output.is_none()
            && let Poll::Ready(output) = a.as_mut().poll(context)
        {
            a_output = Some(output);
        }
        if b_output.is_none()
            && let Poll::Ready(output) = b.as_mut().poll(context)
        {
            b_output = Some(output);
        }
        if a_output.is_some() && b_output.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (a_output.expect("ended"), b_output.expect("ended"))
}

/// Waits until the connection has heard that its peer is gone.
async fn closed<R: Runtime>(runtime: R, connection: &Connection<R, Full<Bytes>>) {
    while connection.is_open() {
        runtime.yield_now().await;
    }
}

async fn one_connection_carries_many_requests(runtime: impl Runtime) {
    let (mut connection, peer) = pair(runtime).await;
    for round in 0..3 {
        let body = format!("request {round}");
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.1\r\n\
                 x-amzn-errortype: SomeException\r\nx-amzn-requestid: {round}\r\n\
                 date: Fri, 31 Jul 2026 10:00:00 GMT\r\ncontent-length: 8\r\n\r\nanswer {round}"
        );
        let serve = async {
            assert_eq!(peer.request().await, body);
            peer.write(answer.as_bytes()).await.expect("a client that listens");
        };
        let (answer, ()) = both(connection.send(post(body.clone()), LONG), serve).await;
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 400);
        assert_eq!(answer.body, format!("answer {round}"));
        assert_eq!(answer.content_type(), Some("application/x-amz-json-1.1"));
        assert_eq!(answer.error_type(), Some("SomeException"));
        assert_eq!(answer.header("x-amzn-requestid"), Some(round.to_string().as_str()));
        assert_eq!(answer.header("date"), Some("Fri, 31 Jul 2026 10:00:00 GMT"));
        assert!(connection.is_open());
    }
}

async fn a_peer_that_leaves_after_the_request_is_a_reset_past_the_first_byte(runtime: impl Runtime) {
    let (mut connection, peer) = pair(runtime).await;
    let serve = async move {
        peer.request().await;
    };
    let (answer, ()) = both(connection.send(post("request"), LONG), serve).await;
    let failure = answer.unwrap_err();
    assert_eq!((failure.code.clone(), failure.bytes_sent), (ErrorCode::Reset, true), "{failure:?}");
    assert!(!connection.is_open());
}

async fn a_peer_that_leaves_within_its_answer_is_a_reset(runtime: impl Runtime) {
    let (mut connection, peer) = pair(runtime).await;
    let serve = async move {
        peer.request().await;
        peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await.expect("a client that listens");
    };
    let (answer, ()) = both(connection.send(post("request"), LONG), serve).await;
    let failure = answer.unwrap_err();
    assert_eq!((failure.code.clone(), failure.bytes_sent), (ErrorCode::Reset, true), "{failure:?}");
}

async fn a_request_on_a_connection_that_went_stale_is_not_sent(runtime: impl Runtime) {
    let (mut connection, peer) = pair(runtime).await;
    let serve = async move {
        peer.request().await;
        peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.expect("a client that listens");
    };
    let (answer, ()) = both(connection.send(post("request"), LONG), serve).await;
    answer.expect("an answer");
    closed(runtime, &connection).await;
    let failure = connection.send(post("request"), LONG).await.unwrap_err();
    assert_eq!((failure.code.clone(), failure.bytes_sent), (ErrorCode::Reset, false), "{failure:?}");
    let failure = connection.send(post("request"), LONG).await.unwrap_err();
    assert_eq!((failure.code.clone(), failure.bytes_sent), (ErrorCode::Reset, false), "{failure:?}");
}

async fn no_answer_in_time_is_a_timeout_that_closes_the_connection(runtime: impl Runtime) {
    let (mut connection, peer) = pair(runtime).await;
    let failure = connection.send(post("request"), SHORT).await.unwrap_err();
    assert_eq!((failure.code.clone(), failure.bytes_sent), (ErrorCode::Timeout, true), "{failure:?}");
    assert!(!connection.is_open());
    assert_eq!(peer.request().await, "request");
    assert_eq!(peer.read().await.expect("an end"), b"", "the peer sees the end of the connection");
}

async fn a_timed_out_request_lets_go_of_its_body_though_the_peer_reads_nothing(runtime: impl Runtime) {
    /// A body that is known to be alive.
    struct Owned(Arc<[u8]>);
    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let (mut connection, _peer) = pair(runtime).await;
    let body: Arc<[u8]> = vec![0; 64 << 20].into();
    let alive: Weak<[u8]> = Arc::downgrade(&body);
    // Long enough for a byte to be written by a thread that is not run for a while.
    let time = Duration::from_secs(1);
    let failure = connection.send(post(Bytes::from_owner(Owned(body))), time).await.unwrap_err();
    assert_eq!((failure.code.clone(), failure.bytes_sent), (ErrorCode::Timeout, true), "{failure:?}");
    while alive.strong_count() > 0 {
        runtime.yield_now().await;
    }
}

/// A socket that takes all it is given, and tells of each write where its slices lie.
#[derive(Clone, Default)]
struct Noted(Rc<RefCell<Vec<Slices>>>);

/// Address and length of each.
type Slices = Vec<(*const u8, usize)>;

impl Read for Noted {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl Write for Noted {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().push(vec![(bytes.as_ptr(), bytes.len())]);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        chunks: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().push(chunks.iter().map(|chunk| (chunk.as_ptr(), chunk.len())).collect());
        Poll::Ready(Ok(chunks.iter().map(|chunk| chunk.len()).sum()))
    }
}

async fn a_body_leaves_from_where_its_aggregates_lie_in_a_few_writes(runtime: impl Runtime) {
    const AGGREGATES: usize = 21;
    let mut encoder = RequestEncoder::reuse(Wire::Cbor, StreamRef::Name("s"), Body::default());
    let mut addresses = Vec::new();
    for number in 0..AGGREGATES {
        let mut aggregate = Aggregate::new();
        let member = Member { partition_key: b"k", key_tag: 1, explicit_hash_key: None, data: &[number as u8; 1000] };
        (0..50).for_each(|_| aggregate.append(member));
        let [.., records] = aggregate.parts();
        addresses.push((records.as_ptr(), records.len()));
        aggregate.share();
        encoder.entry("a", None, &aggregate.body_parts());
    }
    let (socket, counted) = (Noted::default(), Rc::default());
    let mut connection: Connection<_> = Connection::over(runtime, socket.clone(), counted).await.expect("no handshake");
    let mut body = Arc::new(encoder.finish());
    let (length, alive) = (body.len(), Arc::clone(&body));
    let request = Request::post("/").header("host", "kinesis.test").body(Full::new(Frame::new(body)));
    let left = async {
        while socket.0.borrow().iter().flatten().map(|(_, bytes)| bytes).sum::<usize>() < length {
            runtime.yield_now().await;
        }
    };
    let sent = unless(left, connection.send(request.expect("a request"), LONG)).await;
    assert!(sent.is_none(), "nobody answers");
    let writes = socket.0.borrow();
    // Each aggregate is its seam and its records, and one write takes 64 slices.
    assert_eq!(writes.len(), 1, "{:?}", writes.iter().map(Vec::len).collect::<Vec<_>>());
    let slices: Vec<_> = writes.iter().flatten().collect();
    assert!(addresses.iter().all(|address| slices.contains(&address)), "no copies");
    // Before there is an answer.
    body = alive;
    assert!(Arc::get_mut(&mut body).is_some(), "what is sent is let go of");
}

async fn a_refused_connection_names_endpoint_and_address(runtime: impl Runtime) {
    let address = deserted();
    let failure = Connection::<_>::open(runtime, &target(&[address]), LONG).await.err().expect("nobody listens");
    assert_eq!((failure.code.clone(), failure.bytes_sent), (ErrorCode::Connect, false));
    let message = failure.message.to_string();
    assert!(message.contains("kinesis.test") && message.contains(&address.to_string()), "{message}");
}

async fn a_connection_that_does_not_come_in_time_is_given_up(runtime: impl Runtime) {
    /// A network that swallows the first packet.
    #[derive(Clone, Copy)]
    struct BlackHole<R>(R);
    impl<R: Runtime> Runtime for BlackHole<R> {
        type Stream = R::Stream;
        fn now(self) -> Instant {
            self.0.now()
        }
        fn connect(self, _: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> {
            std::future::pending()
        }
        fn sleep_until(self, deadline: Instant) -> impl Future<Output = ()> {
            self.0.sleep_until(deadline)
        }
        fn spawn_local(self, task: impl Future<Output = ()> + 'static) {
            self.0.spawn_local(task);
        }
        fn yield_now(self) -> impl Future<Output = ()> {
            self.0.yield_now()
        }
        fn start<F: Future>(self, core: impl FnOnce() -> F) -> io::Result<F::Output> {
            self.0.start(core)
        }
    }
    let target = target(&[deserted()]);
    let failure = Connection::<_>::open(BlackHole(runtime), &target, SHORT).await.err().expect("no connection");
    assert_eq!((failure.code.clone(), failure.bytes_sent), (ErrorCode::Connect, false), "{failure:?}");
    assert_eq!(&*failure.message, "no connection to kinesis.test within 10ms");
}

async fn the_next_address_is_tried_when_one_refuses(runtime: impl Runtime) {
    let (listener, address) = listen();
    let target = target(&[deserted(), address]);
    let accept = unblocked(runtime, || listener.accept());
    let (connection, accepted) = both(Connection::<_>::open(runtime, &target, LONG), accept).await;
    assert!(connection.is_ok_and(|connection| connection.is_open()));
    accepted.expect("a client");
}

async fn an_endpoint_without_address_is_a_dns_failure(runtime: impl Runtime) {
    let failure = Connection::<_>::open(runtime, &target(&[]), LONG).await.err().expect("no address");
    assert_eq!((failure.code.clone(), failure.bytes_sent), (ErrorCode::Dns, false));
}

async fn what_is_not_http_is_an_unreadable_answer(runtime: impl Runtime) {
    let (mut connection, peer) = pair(runtime).await;
    let serve = async {
        peer.request().await;
        peer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n").await.expect("a client that listens");
    };
    let (answer, ()) = both(connection.send(post("request"), LONG), serve).await;
    let failure = answer.unwrap_err();
    assert_eq!((failure.code.clone(), failure.bytes_sent), (ErrorCode::UnreadableAnswer, true), "{failure:?}");
    assert!(!connection.is_open());
}

async fn an_answer_beyond_its_bound_is_unreadable(runtime: impl Runtime) {
    let (mut connection, peer) = pair(runtime).await;
    let serve = async {
        peer.request().await;
        peer.write(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("a client that listens");
        let chunk = vec![b' '; 1 << 20];
        // The client hangs up when it has enough.
        while peer.write(&chunk).await.is_ok() {}
    };
    let (answer, ()) = both(connection.send(post("request"), LONG), serve).await;
    let failure = answer.unwrap_err();
    assert_eq!(failure.code.clone(), ErrorCode::UnreadableAnswer, "{failure:?}");
}

async fn dropping_a_connection_closes_its_socket(runtime: impl Runtime) {
    let (connection, peer) = pair(runtime).await;
    drop(connection);
    assert_eq!(peer.read().await.expect("an end"), b"");
}

on_each_runtime! {
    one_connection_carries_many_requests
    a_peer_that_leaves_after_the_request_is_a_reset_past_the_first_byte
    a_peer_that_leaves_within_its_answer_is_a_reset
    a_request_on_a_connection_that_went_stale_is_not_sent
    no_answer_in_time_is_a_timeout_that_closes_the_connection
    a_timed_out_request_lets_go_of_its_body_though_the_peer_reads_nothing
    a_body_leaves_from_where_its_aggregates_lie_in_a_few_writes
    a_refused_connection_names_endpoint_and_address
    a_connection_that_does_not_come_in_time_is_given_up
    the_next_address_is_tried_when_one_refuses
    an_endpoint_without_address_is_a_dns_failure
    what_is_not_http_is_an_unreadable_answer
    an_answer_beyond_its_bound_is_unreadable
    dropping_a_connection_closes_its_socket
}
