//! A small HTTP proxy for tests: tunnels on `CONNECT`, forwards requests with absolute targets, demands credentials if
//! it is told to, or says what it is told to say.
//!
//! Whatever host a request names, it leads to one endpoint, so that tests can invent names that nobody can look up. It
//! keeps the heads of all requests that it got.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// How a proxy behaves.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// The `Proxy-Authorization` that it demands.
    pub demands: Option<String>,
    /// What it answers every request with, before it hangs up; with nothing at all it never answers.
    pub says: Option<String>,
}

/// A proxy on a loopback port. Dropping it ends its connections, and nobody listens there any more.
pub struct Relay {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    listening: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    manner: Manner,
    heads: Vec<String>,
    open: Vec<TcpStream>,
    over: bool,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Relay {
    /// Starts one that leads to `endpoint`.
    pub fn start(endpoint: SocketAddr, manner: Manner) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("a bound socket");
        let state = Arc::new(Mutex::new(State { manner, ..State::default() }));
        let shared = Arc::clone(&state);
        let listening = spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("a client");
                let mut state = lock(&shared);
                if state.over {
                    return;
                }
                state.open.push(client.try_clone().expect("a socket"));
                let shared = Arc::clone(&shared);
                // A connection that breaks concerns its two ends.
                spawn(move || drop(serve(client, endpoint, &shared)));
            }
        });
        Relay { address, state, listening: Some(listening) }
    }

    /// Its URL, with a user's name and password, or nothing.
    pub fn url(&self, user: &str) -> String {
        if user.is_empty() { format!("http://{}", self.address) } else { format!("http://{user}@{}", self.address) }
    }

    /// The heads of the requests that it got so far.
    pub fn heads(&self) -> Vec<String> {
        lock(&self.state).heads.clone()
    }

    /// Behaves so from now on.
    pub fn behave(&self, manner: Manner) {
        lock(&self.state).manner = manner;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.over = true;
        for client in state.open.drain(..) {
            // It may have ended by itself.
            let _ = client.shutdown(Shutdown::Both);
        }
        drop(state);
        // Whoever listens looks up.
        drop(TcpStream::connect(self.address));
        if let Some(listening) = self.listening.take() {
            listening.join().expect("it does not panic");
        }
    }
}

fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::Builder::new().name("relay".into()).spawn(body).expect("a thread")
}

/// Serves one connection to its end.
fn serve(mut client: TcpStream, endpoint: SocketAddr, state: &Mutex<State>) -> io::Result<()> {
    let mut upstream: Option<TcpStream> = None;
    loop {
        let head = read_head(&mut client)?;
        let body = read_body(&mut client, &head)?;
        let manner = {
            let mut state = lock(state);
            state.heads.push(head.clone());
            state.manner.clone()
        };
        if let Some(says) = &manner.says {
            client.write_all(says.as_bytes())?;
            if says.is_empty() {
                // Until the client has had enough.
                let _ = client.read(&mut [0])?;
            }
            return client.shutdown(Shutdown::Both);
        }
        if manner.demands.is_some() && header(&head, "proxy-authorization") != manner.demands.as_deref() {
            client.write_all(b"HTTP/1.1 407 Who are you?\r\ncontent-length: 0\r\n\r\n")?;
            continue;
        }
        if head.starts_with("CONNECT ") {
            let upstream = TcpStream::connect(endpoint)?;
            client.write_all(b"HTTP/1.1 200 Connection established\r\nvia: a test\r\n\r\n")?;
            return tunnel(client, upstream);
        }
        let upstream = match &mut upstream {
            Some(upstream) => upstream,
            None => upstream.insert(TcpStream::connect(endpoint)?),
        };
        let Some(forwarded) = in_origin_form(&head) else {
            client.write_all(b"HTTP/1.1 400 Not for a proxy\r\ncontent-length: 0\r\n\r\n")?;
            continue;
        };
        upstream.write_all(&[forwarded.as_bytes(), &body].concat())?;
        let head = read_head(upstream)?;
        let body = read_body(upstream, &head)?;
        client.write_all(&[head.as_bytes(), &body].concat())?;
    }
}

/// Carries bytes both ways until both have ended.
fn tunnel(client: TcpStream, upstream: TcpStream) -> io::Result<()> {
    let (mut from_client, mut to_upstream) = (client.try_clone()?, upstream.try_clone()?);
    let up = spawn(move || {
        let copied = io::copy(&mut from_client, &mut to_upstream);
        // The other direction learns of an end by the endpoint's.
        let _ = to_upstream.shutdown(Shutdown::Write);
        copied
    });
    let (mut from_upstream, mut to_client) = (upstream, client);
    let copied = io::copy(&mut from_upstream, &mut to_client);
    // The client may be gone.
    let _ = to_client.shutdown(Shutdown::Both);
    drop(up.join());
    copied.map(drop)
}

/// A request's head as its endpoint takes it; nothing if its target is not absolute.
fn in_origin_form(head: &str) -> Option<String> {
    let (line, rest) = head.split_once("\r\n")?;
    let (method, target) = line.split_once(" http://")?;
    let (_host, path) = target.split_once('/')?;
    let rest: Vec<_> =
        rest.split("\r\n").filter(|line| !line.to_lowercase().starts_with("proxy-authorization")).collect();
    Some(format!("{method} /{path}\r\n{}", rest.join("\r\n")))
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.into_iter().find(|(of, _)| of.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

fn read_body(stream: &mut TcpStream, head: &str) -> io::Result<Vec<u8>> {
    let length = header(head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(body)
}
