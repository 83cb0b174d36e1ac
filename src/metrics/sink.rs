//! Where metrics go: a sink takes a snapshot of each interval.

use std::error::Error;
use std::fmt;
use std::io;

use super::snapshot::MetricsSnapshot;

/// Takes the metrics of a producer somewhere, an interval at a time.
pub trait MetricsSink: Send {
    /// Takes the samples of an interval.
    ///
    /// It is called on a thread of the producer's that does nothing else, so it may block; the next interval is longer
    /// by that time. A close waits for the last call, within its timeout.
    ///
    /// # Errors
    /// The samples were not taken. They are merged with those of the next interval, and told with them; so whoever has
    /// taken some of them should say `Ok`, or those count twice. A panic is taken for an error.
    fn upload(&mut self, snapshot: &MetricsSnapshot) -> Result<(), SinkError>;
}

/// Why a sink has not taken a snapshot; it is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkError {
    reason: String,
}

impl SinkError {
    /// For this reason.
    pub fn new(reason: impl Into<String>) -> SinkError {
        SinkError { reason: reason.into() }
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Error for SinkError {}

impl From<io::Error> for SinkError {
    fn from(error: io::Error) -> SinkError {
        SinkError::new(error.to_string())
    }
}
