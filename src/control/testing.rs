//! What the tests of this folder run on: a tokio of one thread, and an HTTP server that knows its answers by heart.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;

use tokio::net::{TcpListener, TcpStream};

/// Runs a test's future to its end.
pub(super) fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(test)
}

/// The outputs of two futures that run side by side.
pub(super) async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
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

/// A server on a loopback port that serves each of its connections as many canned answers as it is asked for, in
/// order, and keeps the bodies of the requests.
pub(super) struct CannedServer {
    listener: TcpListener,
}

impl CannedServer {
    /// A server on a port of the system's choice.
    pub(super) async fn bind() -> CannedServer {
        CannedServer { listener: TcpListener::bind("127.0.0.1:0").await.expect("a loopback port") }
    }

    /// Its URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.listener.local_addr().expect("a bound socket"))
    }

    /// Gives the answers, each a status line and a body, to one connection, and returns what it was asked.
    pub(super) async fn serve(&self, answers: &[(&str, &str)]) -> Vec<String> {
        let (tcp, _peer) = self.listener.accept().await.expect("a client");
        let mut requests = Vec::new();
        for (status, body) in answers {
            requests.push(read_request(&tcp).await.expect("a request"));
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            write_all(&tcp, answer.as_bytes()).await.expect("a client that listens");
        }
        requests
    }
}

/// The body of the next request.
async fn read_request(tcp: &TcpStream) -> io::Result<String> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            let length: usize = length.parse().expect("a length");
            if body.len() >= length {
                return Ok(String::from_utf8_lossy(&request[head.len() + 4..]).into_owned());
            }
        }
        tcp.readable().await?;
        let mut chunk = [0; 4096];
        match tcp.try_read(&mut chunk) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => request.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn write_all(tcp: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        tcp.writable().await?;
        match tcp.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
