//! Errors that are returned at a call. How a record can end once it was accepted stands in [`crate::outcome`].
//!
//! Each names the field, the value and the bound.

use std::fmt;

use crate::limits::{PARTITION_KEY_UTF16_MAX, POOL_SUBMITTERS};

/// Why a put was refused. The record was not accepted, nothing of it is written, and it comes back with the error.
#[derive(Clone, PartialEq, Eq)]
pub struct PutError<R> {
    /// The record, as it was given.
    pub record: R,
    /// Why it was refused.
    pub reason: PutErrorReason,
}

/// The reasons for which a put is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutErrorReason {
    /// `max_outstanding_records` or `max_outstanding_bytes` is reached, or the ring has no room at this moment.
    /// Try again when outcomes have come back; drain completions, if there are any.
    Full,
    /// A token was given, and nobody takes the submitter's completions.
    NoCompletions,
    /// The producer is closed or closing.
    Closed,
    /// A core ended; the producer takes no more records.
    CoreFailed,
    /// The stream's shards cannot be listed: its name, or the permission, is wrong. Or it is to be ordered, and the service
    /// distributes its records itself.
    StreamUnavailable {
        /// The stream.
        stream: String,
        /// What the service said.
        reason: String,
    },
    /// The partition key is empty or too long.
    InvalidPartitionKey {
        /// Its length in UTF-16 units; the bound is 1 to 256.
        utf16_units: usize,
    },
    /// Data and partition key are larger than `max_record_size`.
    RecordTooLarge {
        /// Bytes of data and partition key.
        size: usize,
        /// `max_record_size`.
        max: usize,
    },
    /// The stream handle belongs to another producer.
    ForeignStream {
        /// The stream.
        stream: String,
    },
    /// This process was forked from the one that the producer was started in, and has none of its threads.
    Forked,
}

/// What is said to the child of a process that had a producer.
const FORKED: &str = "the producer was started before this process was forked: start one in the child";

impl fmt::Display for PutErrorReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PutErrorReason::Full => f.write_str("the producer holds as many records or bytes as it may"),
            PutErrorReason::NoCompletions => {
                f.write_str("a token without completions: ask the submitter for them, and keep them")
            }
            PutErrorReason::Closed => f.write_str("the producer is closed"),
            PutErrorReason::CoreFailed => f.write_str("a core of the producer failed"),
            PutErrorReason::StreamUnavailable { stream, reason } => {
                write!(f, "stream {stream:?} is unavailable: {reason}")
            }
            PutErrorReason::InvalidPartitionKey { utf16_units } => {
                write!(f, "partition key of {utf16_units} UTF-16 units: it must have 1 to {PARTITION_KEY_UTF16_MAX}")
            }
            PutErrorReason::RecordTooLarge { size, max } => {
                write!(f, "record of {size} bytes of data and partition key: max_record_size is {max}")
            }
            PutErrorReason::ForeignStream { stream } => {
                write!(f, "stream {stream:?} was opened on another producer")
            }
            PutErrorReason::Forked => f.write_str(FORKED),
        }
    }
}

impl std::error::Error for PutErrorReason {}

impl<R> fmt::Display for PutError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.reason, f)
    }
}

impl<R> fmt::Debug for PutError<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.reason, f)
    }
}

impl<R> std::error::Error for PutError<R> {}

/// An explicit hash key that is not a decimal number of 128 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidHashKey {
    value: String,
}

impl InvalidHashKey {
    /// The error for `value`; a long one is cut.
    pub(crate) fn new(value: &str) -> InvalidHashKey {
        InvalidHashKey { value: value.chars().take(64).collect() }
    }
}

impl fmt::Display for InvalidHashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "explicit hash key {:?}: it must be a decimal number from 0 to {}", self.value, u128::MAX)
    }
}

impl std::error::Error for InvalidHashKey {}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Each fault, in the order of the fields.
    pub faults: Vec<ConfigFault>,
}

/// One fault of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// The field, or the fields whose relation is wrong.
    pub field: &'static str,
    /// Its value.
    pub value: String,
    /// What it must be.
    pub bound: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid configuration: ")?;
        for (index, fault) in self.faults.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, but must be {}", self.field, self.value, self.bound)
    }
}

impl std::error::Error for ConfigError {}

/// Why a producer could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration is wrong.
    Config(ConfigError),
    /// A thread could not be started.
    Thread {
        /// What the system said.
        reason: String,
    },
    /// Cores have nothing to run on.
    Runtime {
        /// What was refused, and by whom.
        reason: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(error) => fmt::Display::fmt(error, f),
            StartError::Thread { reason } => write!(f, "a thread could not be started: {reason}"),
            StartError::Runtime { reason } => write!(f, "a core could not be set up: {reason}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Why a stream cannot be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamError {
    /// The name or ARN is not one.
    InvalidName {
        /// What was given.
        name: String,
        /// What it must be.
        bound: String,
    },
    /// As many streams are open as a producer may have.
    TooMany {
        /// The bound.
        max: usize,
    },
    /// A per-stream setting is wrong.
    Config(ConfigError),
    /// The shards could not be listed.
    Unavailable {
        /// The stream.
        stream: String,
        /// What the service said.
        reason: String,
    },
    /// The producer is closed, or a core failed.
    Closed,
    /// This process was forked from the one that the producer was started in.
    Forked,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::InvalidName { name, bound } => write!(f, "stream {name:?}: it must be {bound}"),
            StreamError::TooMany { max } => write!(f, "more than {max} streams"),
            StreamError::Config(error) => fmt::Display::fmt(error, f),
            StreamError::Unavailable { stream, reason } => {
                write!(f, "stream {stream:?} is unavailable: {reason}")
            }
            StreamError::Closed => f.write_str("the producer is closed"),
            StreamError::Forked => f.write_str(FORKED),
        }
    }
}

impl std::error::Error for StreamError {}

/// Why a submitter could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubmitterError {
    /// `max_submitters` are there already, with those that are kept for `Producer::put`.
    TooMany {
        /// The bound.
        max: usize,
    },
    /// The producer is closed, or a core failed.
    Closed,
    /// This process was forked from the one that the producer was started in.
    Forked,
}

impl fmt::Display for SubmitterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubmitterError::TooMany { max } => write!(
                f,
                "max_submitters is {max}, of which {POOL_SUBMITTERS} are kept for `Producer::put`; the others are taken"
            ),
            SubmitterError::Closed => f.write_str("the producer is closed"),
            SubmitterError::Forked => f.write_str(FORKED),
        }
    }
}

impl std::error::Error for SubmitterError {}

/// Why a flush ended before everything had an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlushError {
    /// The time given was over.
    TimedOut,
    /// A core failed; its records have their outcomes all the same.
    CoreFailed,
    /// The stream handle belongs to another producer.
    ForeignStream,
    /// This process was forked from the one that the producer was started in.
    Forked,
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FlushError::TimedOut => "the flush did not end in the time given",
            FlushError::CoreFailed => "a core of the producer failed",
            FlushError::ForeignStream => "the stream was opened on another producer",
            FlushError::Forked => FORKED,
        })
    }
}

impl std::error::Error for FlushError {}

/// An error with its causes, in one line. Those of AWS's crates and of the HTTP library say little without them.
#[cfg(feature = "aws")]
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
