//! The Kinesis that tests and benchmarks talk to, on a loopback port.
//!
//! ```text
//!   socket ─▶ (TLS) ─▶ HTTP/1.1 ─▶ whole body ─▶ script, faults ─▶ signature ─▶ emulator │ sink ─▶ counters ─▶ answer
//!  (faults/tcp) (tls)   (server)     (server)   (script, faults)  (signature)   (emulator, sink)   (stats)
//! ```
//!
//! Two kinds of endpoint stand behind the same door. The *emulator* is `ferrokinesis`: it stores records in memory and
//! gives them back, reshards, throttles. The *sink* stores nothing: it checks the shape and lengths of what arrives and
//! answers with shard ids and growing sequence numbers, as cheaply as it can, so that a benchmark measures the client.
//!
//! What no emulator does, this one does: it verifies every SigV4 signature, by its own arithmetic, so that it is an
//! independent judge of the client's signing.
//!
//! What it inflicts on its clients, by script or by chance from a seed, it counts by kind (`GET /stats`); `POST /heal` ends
//! it.
//!
//! It promises: an [`Endpoint`] that was returned accepts connections; a stream that was created is active; dropping
//! the endpoint closes every connection and joins its thread. It refuses: HTTP/2, anything but loopback.
//! It costs one thread, on which all connections are served.

mod answer;
mod config;
mod date;
mod emulator;
mod endpoint;
mod faults;
mod partial;
mod put_records;
mod script;
mod server;
mod signature;
mod sink;
mod stats;
mod tls;

pub use config::{Credentials, EmulatorOptions, EndpointConfig, Kind};
pub use endpoint::{CallError, Endpoint, StoredRecord, run};
pub use faults::{FaultKind, FaultOptions, Profile};
pub use script::{Action, RequestInfo, Script};
pub use stats::StatsSnapshot;
pub use tls::{Flaw, TlsOptions};
