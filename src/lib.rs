//! A Kinesis Producer Library: in process, thread per core, every record with an outcome.

pub mod config;
pub mod error;
pub mod limits;
pub mod outcome;
pub mod record;
pub mod time;

pub mod codec;
pub mod engine;
pub mod metrics;
pub mod ring;

#[cfg(feature = "aws")]
mod control;
#[cfg(feature = "runtime")]
mod runtime;
