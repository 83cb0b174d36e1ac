//! How a record ended: the data of an outcome. The handle that waits for one is `kpl::Outcome`, in the face.
//!
//! All records of one aggregate share one [`Settlement`], reference-counted; each adds its place in the aggregate.
//! Failures are data: a code, a message, and every attempt that was made.
//!
//! # Our error codes
//!
//! Codes of the service pass verbatim as [`ErrorCode::Service`]. Ours are a closed table:
//!
//! | code | when | may it be stored? | was it retried? |
//! |---|---|---|---|
//! | `Expired` | `record_ttl` passed before it was delivered | if an attempt was ambiguous | until then |
//! | `Wrong Shard` | an attempt's aggregate was stored where consumers would drop it | yes, but consumers drop it | yes |
//! | `Record Count Mismatch` | the answer had another number of results than the request records | yes | no |
//! | `Closed` | the producer was closed before it was delivered | if an attempt was ambiguous | until then |
//! | `CoreFailed` | the core that held it ended | yes | no |
//! | `UnverifiedShard` | its aggregate was stored on a shard that no map of ours knew before it expired | yes | no |
//! | `Throttled` | its shard held as much of the budget as `shard_backlog_max` allows | no | no |
//! | `Poison` | the service refused a request that held its Kinesis record alone, as invalid | if an attempt was ambiguous | alone |
//! | `StreamUnavailable` | the stream's shards could not be listed; or it is `ordered`, and the service distributes its records | if an attempt was ambiguous | no |
//! | `Credentials` | no credentials, region or endpoint could be had | no | yes |
//! | `Dns`, `Connect`, `Tls` | no connection came about | no | yes |
//! | `Proxy` | no connection came about, or a request was not taken, for the proxy's sake | no | yes |
//! | `Reset` | the connection ended during the request | if bytes had been sent | yes |
//! | `Timeout` | no answer within `request_timeout` | yes | yes |
//! | `Unreadable Answer` | the answer is not one of the protocol | yes | yes |

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{CoreRuntime, WireFormat};
use crate::record::{HashKey, Record};
use crate::time::Time;

/// Why an attempt, or a record, failed.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// `record_ttl` passed.
    Expired,
    /// Stored in a shard where some member of the aggregate does not belong; consumers drop such an aggregate.
    WrongShard,
    /// The answer had a different number of results than records were sent.
    RecordCountMismatch,
    /// The producer was closed.
    Closed,
    /// The core that held the record ended.
    CoreFailed,
    /// An aggregate was stored on a shard that no map of ours knew before it expired.
    UnverifiedShard,
    /// Its shard held as much of the budget as `shard_backlog_max` allows.
    Throttled,
    /// The service calls its Kinesis record invalid, also when that is sent alone.
    Poison,
    /// The stream's shards could not be listed; or it is to be ordered, and the service distributes its records itself.
    StreamUnavailable,
    /// No credentials, region or endpoint could be had.
    Credentials,
    /// The endpoint's name has no address.
    Dns,
    /// No connection to the endpoint.
    Connect,
    /// No TLS session with the endpoint.
    Tls,
    /// The proxy cannot be reached, or refuses.
    Proxy,
    /// The connection ended before the answer.
    Reset,
    /// No answer in time.
    Timeout,
    /// An answer that is not of the protocol.
    UnreadableAnswer,
    /// A code of the service, verbatim.
    Service(Arc<str>),
}

impl ErrorCode {
    /// The code's text, as metrics and logs have it.
    pub fn as_str(&self) -> &str {
        match self {
            ErrorCode::Expired => "Expired",
            ErrorCode::WrongShard => "Wrong Shard",
            ErrorCode::RecordCountMismatch => "Record Count Mismatch",
            ErrorCode::Closed => "Closed",
            ErrorCode::CoreFailed => "CoreFailed",
            ErrorCode::UnverifiedShard => "UnverifiedShard",
            ErrorCode::Throttled => "Throttled",
            ErrorCode::Poison => "Poison",
            ErrorCode::StreamUnavailable => "StreamUnavailable",
            ErrorCode::Credentials => "Credentials",
            ErrorCode::Dns => "Dns",
            ErrorCode::Connect => "Connect",
            ErrorCode::Tls => "Tls",
            ErrorCode::Proxy => "Proxy",
            ErrorCode::Reset => "Reset",
            ErrorCode::Timeout => "Timeout",
            ErrorCode::UnreadableAnswer => "Unreadable Answer",
            ErrorCode::Service(code) => code,
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One try at delivering a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// When the request began to be sent.
    pub began: Time,
    /// When its end was known.
    pub ended: Time,
    /// What came of it.
    pub result: AttemptResult,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// The service stored the record.
    Stored {
        /// The shard it is in.
        shard_id: Arc<str>,
        /// Its sequence number in that shard.
        sequence_number: Arc<str>,
    },
    /// It did not, or we cannot tell.
    Failed {
        /// Why.
        code: ErrorCode,
        /// What the service or the network said.
        message: Arc<str>,
        /// The record may have been stored all the same, so that a later attempt may duplicate it.
        ambiguous: bool,
    },
}

/// How a Kinesis record ended, shared by all user records in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Every attempt, the oldest first. Empty if none was made.
    pub attempts: Vec<Attempt>,
    /// Why it failed, or nothing if the last attempt stored it.
    pub failure: Option<(ErrorCode, Arc<str>)>,
    /// The record, if it failed and failed ones are kept.
    pub kept: Option<Box<KeptRecord>>,
}

/// A copy of a record that failed, with `keep_failed_records`.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptRecord {
    /// The partition key.
    pub partition_key: Box<str>,
    /// The explicit hash key that it was put with, that was drawn for it, or that its aggregate gave it.
    pub explicit_hash_key: Option<HashKey>,
    /// The payload.
    pub data: Box<[u8]>,
}

impl KeptRecord {
    /// A copy. The partition key is UTF-8, as it came from a caller's `str`.
    pub fn new(partition_key: &[u8], explicit_hash_key: Option<HashKey>, data: &[u8]) -> Box<KeptRecord> {
        let partition_key = String::from_utf8_lossy(partition_key).into();
        Box::new(KeptRecord { partition_key, explicit_hash_key, data: data.into() })
    }

    /// The record, to be put again.
    pub fn as_record(&self) -> Record<'_> {
        let record = Record::new(&self.partition_key, &self.data);
        self.explicit_hash_key.map_or(record, |hash_key| record.with_explicit_hash_key(hash_key))
    }
}

impl fmt::Debug for KeptRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_record(), f)
    }
}

impl Settlement {
    /// The end of a record that was never attempted.
    pub fn unattempted(code: ErrorCode, message: &str) -> Arc<Settlement> {
        Arc::new(Settlement { attempts: Vec::new(), failure: Some((code, message.into())), kept: None })
    }
}

/// What is known of a record once it is settled: the shared end, and the record's place in its aggregate.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The end, shared with the other members of the aggregate.
    pub settlement: Arc<Settlement>,
    /// Place in the aggregate, from 0; 0 for a record that went alone.
    pub sub_sequence: u32,
}

impl From<(Arc<Settlement>, u32)> for Settled {
    /// From what a slot holds.
    fn from((settlement, sub_sequence): (Arc<Settlement>, u32)) -> Settled {
        Settled { settlement, sub_sequence }
    }
}

impl Settled {
    /// As the caller sees it.
    pub fn into_result(self) -> Result<Delivered, Failure> {
        match self.settlement.failure {
            None => Ok(Delivered(self)),
            Some(_) => Err(Failure(self.settlement)),
        }
    }
}

/// A record that is in its stream.
#[derive(Clone)]
pub struct Delivered(Settled);

impl Delivered {
    /// The shard that holds the record.
    pub fn shard_id(&self) -> &str {
        self.stored().0
    }

    /// The sequence number of the Kinesis record that holds it.
    pub fn sequence_number(&self) -> &str {
        self.stored().1
    }

    /// The record's place in its aggregate, from 0; 0 for a record that went alone. With the sequence number it
    /// names the record uniquely within its shard.
    pub fn sub_sequence_number(&self) -> u32 {
        self.0.sub_sequence
    }

    /// Every attempt, the successful one last.
    pub fn attempts(&self) -> &[Attempt] {
        &self.0.settlement.attempts
    }

    /// Whether an earlier attempt may have stored the record too.
    pub fn may_be_duplicated(&self) -> bool {
        any_ambiguous(self.attempts())
    }

    /// Makes this what is known of another member of the same aggregate, if `settlement` is of it too.
    #[cfg(feature = "aws")]
    pub(crate) fn turn_to(&mut self, settlement: &Arc<Settlement>, sub_sequence: u32) -> bool {
        let is_same = Arc::ptr_eq(&self.0.settlement, settlement);
        if is_same {
            self.0.sub_sequence = sub_sequence;
        }
        is_same
    }

    fn stored(&self) -> (&str, &str) {
        match self.attempts().last() {
            Some(Attempt { result: AttemptResult::Stored { shard_id, sequence_number }, .. }) => {
                (shard_id, sequence_number)
            }
            // A settlement without failure ends in a stored attempt (the settler asserts it).
            _ => ("", ""),
        }
    }
}

impl fmt::Debug for Delivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivered")
            .field("shard_id", &self.shard_id())
            .field("sequence_number", &self.sequence_number())
            .field("sub_sequence_number", &self.sub_sequence_number())
            .field("attempts", &self.attempts().len())
            .finish()
    }
}

/// A record that was accepted and not delivered, as far as we know.
#[derive(Clone)]
pub struct Failure(Arc<Settlement>);

impl From<Arc<Settlement>> for Failure {
    /// From a settlement without success.
    fn from(settlement: Arc<Settlement>) -> Failure {
        Failure(settlement)
    }
}

impl Failure {
    /// A failure without attempts.
    pub fn new(code: ErrorCode, message: &str) -> Failure {
        Failure(Settlement::unattempted(code, message))
    }

    /// Why it failed.
    pub fn code(&self) -> &ErrorCode {
        match &self.0.failure {
            Some((code, _)) => code,
            None => &ErrorCode::CoreFailed,
        }
    }

    /// What is known beyond the code.
    pub fn message(&self) -> &str {
        self.0.failure.as_ref().map_or("", |(_, message)| message)
    }

    /// Every attempt, the oldest first.
    pub fn attempts(&self) -> &[Attempt] {
        &self.0.attempts
    }

    /// The record itself, with `keep_failed_records`; never of `CoreFailed`, nor of one whose put met the close.
    pub fn record(&self) -> Option<Record<'_>> {
        self.0.kept.as_deref().map(KeptRecord::as_record)
    }

    /// Whether the record may be in the stream all the same.
    pub fn may_be_stored(&self) -> bool {
        *self.code() == ErrorCode::CoreFailed || any_ambiguous(self.attempts())
    }
}

fn any_ambiguous(attempts: &[Attempt]) -> bool {
    attempts.iter().any(|attempt| matches!(attempt.result, AttemptResult::Failed { ambiguous: true, .. }))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (after {} attempts)", self.code(), self.message(), self.attempts().len())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("code", self.code())
            .field("message", &self.message())
            .field("attempts", &self.attempts())
            .finish()
    }
}

impl std::error::Error for Failure {}

/// What was done, as `flush` and `close` return it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records accepted since the producer was built.
    pub accepted: u64,
    /// Of these, delivered.
    pub delivered: u64,
    /// Of these, failed.
    pub failed: u64,
}

impl Counts {
    /// Accepted records without an outcome.
    pub fn outstanding(&self) -> u64 {
        self.accepted.saturating_sub(self.delivered + self.failed)
    }
}

/// A live view of how much is under way, for `Producer::health`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What was accepted, delivered and failed so far.
    pub counts: Counts,
    /// Bytes accepted and not settled, unspent credit of submitters included.
    pub outstanding_bytes: u64,
    /// Age of the oldest record without an outcome.
    pub oldest_outstanding: Option<Duration>,
    /// Cores that run, of those that were started.
    pub cores_alive: usize,
    /// Cores that were started.
    pub cores: usize,
    /// What they run on.
    pub runtime: CoreRuntime,
    /// The latest failure of a request, of the control plane, or of a core's pinning, if any.
    pub last_error: Option<String>,
    /// The form of PutRecords: the configured one, or with [`WireFormat::Auto`] the one that the endpoint has proved to
    /// take; `Auto` until then.
    pub wire: WireFormat,
}
