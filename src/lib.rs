//! A Kinesis Producer Library: in process, thread per core, every record with an outcome.
//!
//! ```text
//!  caller threads            core 0                         core 1
//! ┌──────────────┐   ring  ┌──────────────────────┐  mesh  ┌───────────────┐
//! │ Submitter A ─┼────────▶│ hash, route          │◀──────▶│ hash, route   │
//! │ Submitter B ─┼────────▶│                      │        │               │
//! └──────▲───────┘         │ per shard: aggregate,│        │ per shard: …  │
//!        │                 │   limit, queue       │        │               │
//!  outcome slots           │ connection pulls ────┼─▶ HTTP ┼─▶ Kinesis     │
//!        └─────────────────┤ retry, settle        │        │               │
//!                          └──────────▲───────────┘        └───────▲───────┘
//!                              ┌──────┴────────────────────────────┴──────┐
//!                              │ control thread: credentials, shard maps  │
//!                              └──────────────────────────────────────────┘
//! ```
//!
//! It promises that every accepted record has exactly one [`Outcome`], that memory is bounded and a full producer says
//! so, and that a put makes no system call and takes no lock while there is room and its core is awake. What is not
//! settled when the process is killed is lost.
//!
//! To follow a record, read [`submitter`](Submitter), `runtime/core.rs`, [`engine`], and [`outcome`].
//!
//! ```no_run
//! use std::time::Duration;
//! use kpl::{Producer, Record};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let producer = Producer::builder().region("eu-west-1").build()?;
//! let stream = producer.stream("orders")?;
//! let mut submitter = producer.submitter()?;
//!
//! let outcome = submitter.put(&stream, Record::new("customer-7", "an order"))?;
//! match outcome.wait() {
//!     Ok(delivered) => println!("{} {}", delivered.shard_id(), delivered.sequence_number()),
//!     Err(failure) => eprintln!("{failure}"),
//! }
//! let counts = producer.close(Duration::from_secs(30)).wait();
//! assert_eq!(counts.outstanding(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! `runtime` (cores on tokio and hyper), `glommio` (cores on io_uring, on Linux) and `aws` (credentials, endpoints, discovery, signatures, and with them the
//! face) are on by default. Without them the crate is the pure core: words, rings, codec and engine.

pub mod config;
pub mod error;
pub mod limits;
pub mod outcome;
pub mod record;
pub mod time;

pub mod codec;
pub mod metrics;
pub mod ring;

pub mod engine;

#[cfg(feature = "aws")]
mod fork;
#[cfg(feature = "aws")]
mod proxy;
#[cfg(feature = "aws")]
mod trust;

#[cfg(feature = "aws")]
mod control;
#[cfg(feature = "aws")]
mod runtime;

#[cfg(feature = "aws")]
mod builder;
#[cfg(feature = "aws")]
mod callbacks;
#[cfg(feature = "aws")]
mod producer;
#[cfg(feature = "aws")]
mod reply;
#[cfg(feature = "aws")]
mod shared;
#[cfg(feature = "aws")]
mod stream;
#[cfg(feature = "aws")]
mod submitter;
#[cfg(feature = "aws")]
mod waiting;

pub use config::{
    Config, CoreRuntime, IdleStrategy, MetricsGranularity, MetricsLevel, OuterPartitionKey, Pinning, ProxyChoice,
    RateLimit, RecordDistribution, RuntimeChoice, ShardMapPolicy, StaticCredentials, StreamOptions, TlsRoots,
    WireFormat,
};
pub use error::{
    ConfigError, ConfigFault, FlushError, PutError, PutErrorReason, StartError, StreamError, SubmitterError,
};
pub use metrics::{EmbeddedMetrics, Metric, MetricSample, MetricsSink, MetricsSnapshot, SinkError};
pub use outcome::{Attempt, AttemptResult, Counts, Delivered, ErrorCode, Failure, Health};
pub use record::{HashKey, Placement, Record};

/// AWS's own words for credentials, which [`ProducerBuilder::credentials_provider`] takes.
#[cfg(feature = "aws")]
pub mod credentials {
    pub use aws_credential_types::Credentials;
    pub use aws_credential_types::provider::error::CredentialsError;
    pub use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
}

#[cfg(feature = "aws")]
pub use builder::ProducerBuilder;
#[cfg(feature = "aws")]
pub use callbacks::DetachedFailure;
#[cfg(feature = "aws")]
pub use producer::{CloseOnDrop, Producer};
#[cfg(feature = "aws")]
pub use stream::Stream;
#[cfg(feature = "aws")]
pub use submitter::{BatchError, Completion, Completions, Reservation, ReservationError, Submitter};
#[cfg(feature = "aws")]
pub use waiting::{Close, Flush, Outcome, Ready};
