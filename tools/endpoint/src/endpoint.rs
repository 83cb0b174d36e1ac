//! The handle to a running endpoint, and the calls that a test makes behind its back.
//!
//! [`Endpoint::call`] and what is built on it go past socket, script and signature straight to the backend.

use crate::answer::JSON;
use crate::config::{EndpointConfig, Kind, SINK_SHARDS_MAX};
use crate::server::{self, Server};
use crate::stats::StatsSnapshot;
use crate::tls::TlsOptions;
use axum::body::Body;
use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Request, Response};
use serde_json::{Value, json};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A running endpoint. Dropping it closes its connections and joins its thread.
pub struct Endpoint {
    address: SocketAddr,
    /// Nothing in the clear.
    ca_pem: Option<String>,
    server: Arc<Server>,
    runtime: tokio::runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// An error that the backend answered to [`Endpoint::call`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallError {
    /// HTTP status; 0 if the endpoint's thread has ended.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}: {}", self.status, self.body)
    }
}

impl std::error::Error for CallError {}

/// A record as the emulator stored it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Where it lies.
    pub shard_id: String,
    /// Its place there.
    pub sequence_number: String,
    /// Its partition key.
    pub partition_key: String,
    /// Its data.
    pub data: Vec<u8>,
}

/// What a starting thread tells the one that waits for it.
type Started = io::Result<(SocketAddr, Arc<Server>, tokio::runtime::Handle)>;

impl Endpoint {
    /// Starts an endpoint on a thread of its own and returns when it accepts connections.
    ///
    /// Errors: a taken port, a sink without shards or with more than 100 000, a stream that can't be created.
    pub fn start(config: EndpointConfig) -> io::Result<Endpoint> {
        let ca_pem = config.tls.as_ref().map(|tls| tls.ca_pem().to_owned());
        let (stop, stopped) = oneshot::channel();
        let (report, started) = mpsc::channel::<Started>();
        let thread = std::thread::Builder::new().name("endpoint".to_owned()).spawn(move || {
            let failed = report.clone();
            let ready = move |address, server: &Arc<Server>| {
                // The receiver waits until it is told.
                let _ = report.send(Ok((address, server.clone(), tokio::runtime::Handle::current())));
            };
            if let Err(error) = serve(config, ready, stopped) {
                let _ = failed.send(Err(error));
            }
        })?;
        let (address, server, runtime) =
            started.recv().unwrap_or_else(|_| Err(io::Error::other("the endpoint's thread ended")))?;
        Ok(Endpoint { address, ca_pem, server, runtime, stop: Some(stop), thread: Some(thread) })
    }

    /// `http://127.0.0.1:port`, or `https://` if it serves TLS.
    pub fn url(&self) -> String {
        let scheme = if self.ca_pem.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The certificate of the authority to trust, in PEM, if the endpoint serves TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The counters, as `GET /stats` tells them.
    pub fn stats(&self) -> StatsSnapshot {
        self.server.snapshot()
    }

    /// Ends all faults, and returns when what was to be served late has been.
    pub fn heal(&self) {
        let server = self.server.clone();
        // It fails only if the endpoint's thread has ended, and the faults with it.
        let _ = self.wait(async move {
            server.heal().await;
            Ok(())
        });
    }

    /// Creates a stream and returns when it is active.
    pub fn create_stream(&self, name: &str, shards: u32) -> Result<(), CallError> {
        let (server, name) = (self.server.clone(), name.to_owned());
        self.wait(async move { create_stream(&server, &name, shards).await })
    }

    /// Returns when a stream is active: after a reshard, say, and before the next.
    pub fn wait_until_active(&self, name: &str) -> Result<(), CallError> {
        let (server, name) = (self.server.clone(), name.to_owned());
        self.wait(async move { wait_until_active(&server, &name).await })
    }

    /// Calls an API operation in JSON, past the socket, the script and the signature: to split a shard, say.
    ///
    /// It blocks the calling thread for as long as the operation takes.
    pub fn call(&self, operation: &str, request: &Value) -> Result<Value, CallError> {
        let (server, operation, request) = (self.server.clone(), operation.to_owned(), request.clone());
        self.wait(async move { call(&server, &operation, &request).await })
    }

    /// All records of a stream, by shard, in their order there. Of an emulator; a sink has none.
    pub fn read_stream(&self, name: &str) -> Result<Vec<StoredRecord>, CallError> {
        let shards = self.call("ListShards", &json!({ "StreamName": name, "MaxResults": 10_000 }))?;
        let mut records = Vec::new();
        for shard in shards["Shards"].as_array().into_iter().flatten() {
            self.read_shard(name, text(&shard["ShardId"]), &mut records)?;
        }
        Ok(records)
    }

    fn read_shard(&self, name: &str, shard_id: &str, records: &mut Vec<StoredRecord>) -> Result<(), CallError> {
        let start = json!({ "StreamName": name, "ShardId": shard_id, "ShardIteratorType": "TRIM_HORIZON" });
        let mut iterator = self.call("GetShardIterator", &start)?["ShardIterator"].take();
        // An open shard always has a next iterator, so an empty page is the end.
        while iterator.is_string() {
            let mut page = self.call("GetRecords", &json!({ "ShardIterator": iterator, "Limit": 1000 }))?;
            let entries = page["Records"].as_array().map(Vec::as_slice).unwrap_or_default();
            if entries.is_empty() {
                break;
            }
            records.extend(entries.iter().map(|entry| StoredRecord {
                shard_id: shard_id.to_owned(),
                sequence_number: text(&entry["SequenceNumber"]).to_owned(),
                partition_key: text(&entry["PartitionKey"]).to_owned(),
                data: BASE64_STANDARD.decode(text(&entry["Data"])).unwrap_or_default(),
            }));
            iterator = page["NextShardIterator"].take();
        }
        Ok(())
    }

    /// Runs a future on the endpoint's thread and waits for what it returns.
    fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, CallError>> + Send + 'static,
    ) -> Result<T, CallError> {
        let (send, receive) = mpsc::channel();
        self.runtime.spawn(async move {
            // The receiver waits until it is told.
            let _ = send.send(future.await);
        });
        let ended = CallError { status: 0, body: "the endpoint's thread has ended".to_owned() };
        receive.recv().unwrap_or(Err(ended))
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // It fails only if the thread has ended already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves on the calling thread for ever, for a process that is nothing but an endpoint. `ready` is told the address as
/// soon as connections are accepted. Prints nothing. Returns only an error of starting, as [`Endpoint::start`] does.
pub fn run(config: EndpointConfig, ready: impl FnOnce(SocketAddr)) -> io::Result<()> {
    // The sender is kept, so that the receiver waits for ever.
    let (_stop, stopped) = oneshot::channel();
    serve(config, |address, _: &Arc<Server>| ready(address), stopped)
}

/// Serves on this thread until `stopped` is told, or its sender dropped.
fn serve(
    mut config: EndpointConfig,
    ready: impl FnOnce(SocketAddr, &Arc<Server>),
    stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    if let Kind::Sink { shards } = config.kind
        && !(1..=SINK_SHARDS_MAX).contains(&shards)
    {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("a sink of {shards} shards")));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let streams = std::mem::take(&mut config.streams);
        let tls = config.tls.take().map(TlsOptions::acceptor).transpose()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, config.port)).await?;
        let server = Arc::new(Server::new(config));
        for (name, shards) in &streams {
            create_stream(&server, name, *shards).await.map_err(io::Error::other)?;
        }
        ready(listener.local_addr()?, &server);
        tokio::select! {
            ended = server::accept(listener, server, tls) => ended.map(|never| match never {}),
            _ = stopped => Ok(()),
        }
    })
}

async fn create_stream(server: &Server, name: &str, shards: u32) -> Result<(), CallError> {
    call(server, "CreateStream", &json!({ "StreamName": name, "ShardCount": shards })).await?;
    wait_until_active(server, name).await
}

async fn wait_until_active(server: &Server, name: &str) -> Result<(), CallError> {
    loop {
        let summary = call(server, "DescribeStreamSummary", &json!({ "StreamName": name })).await?;
        if summary["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE" {
            return Ok(());
        }
        // The emulator has no event to wait for; it changes the status in a task of this same runtime.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn call(server: &Server, operation: &str, request: &Value) -> Result<Value, CallError> {
    // The emulator looks whether there is a signature, though not at it.
    let request = Request::post("/")
        .header("host", "localhost")
        .header("content-type", JSON)
        .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
        .header("x-amz-date", "20000101T000000Z")
        .header("authorization", "AWS4-HMAC-SHA256 Credential=in/process, SignedHeaders=host, Signature=none")
        .body(Bytes::from(request.to_string()))
        .map_err(|error| CallError { status: 0, body: error.to_string() })?;
    let (head, body) = request.into_parts();
    let (status, body) = whole(server.dispatch(head, body).await).await;
    if status != 200 {
        return Err(CallError { status, body: String::from_utf8_lossy(&body).into_owned() });
    }
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&body).map_err(|error| CallError { status, body: error.to_string() })
}

async fn whole(response: Response<Body>) -> (u16, Bytes) {
    let status = response.status().as_u16();
    // The body of an answer in process is in memory: reading it does not fail.
    let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    (status, body)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
