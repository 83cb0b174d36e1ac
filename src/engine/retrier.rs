//! Retrier: the one place that decides whether a failed attempt is tried again.
//!
//! ```text
//!   answer entry, refused request, transport failure ──▶ classify ──▶ retry │ resend │ halve │ isolate │ fail
//! ```
//!
//! [`classify`] argues every arm. An attempt is *ambiguous* when the record may have been stored although we retry:
//! duplicates can come from these alone. Whether an aggregate that was stored elsewhere than predicted counts as
//! delivered is decided by [`judge_placement`].

use std::sync::Arc;

use super::batch::Batch;
use super::planted::{Mistake, planted};
use super::shard_map::ShardMap;
use crate::codec::RequestError;
use crate::config::Config;
use crate::outcome::{Attempt, AttemptResult, ErrorCode};
use crate::record::HashKey;
use crate::time::Time;

/// Why a request did not get an answer of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportFailure {
    /// Which: `Dns`, `Connect`, `Tls`, `Reset`, `Timeout` or `UnreadableAnswer`.
    pub code: ErrorCode,
    /// What the network said.
    pub message: Arc<str>,
    /// Whether any byte of the request may have reached the socket.
    pub bytes_sent: bool,
}

/// What went wrong with a Kinesis record, or with the request that it was in.
#[derive(Debug)]
pub enum Trouble<'a> {
    /// The service refused this record.
    Entry {
        /// Its code.
        code: &'a Arc<str>,
        /// Its words.
        message: &'a Arc<str>,
    },
    /// The service refused the request, or its answer was not readable.
    Request(&'a RequestError),
    /// The endpoint refused the request's form, and it is to be sent in the other.
    Form(&'a RequestError),
    /// The service refused a signature that would not be made so any more: what signs has changed since.
    OldSignature(&'a RequestError),
    /// There was no answer.
    Transport(&'a TransportFailure),
    /// The answer had another number of entries.
    CountMismatch {
        /// Records in the request.
        sent: usize,
        /// Entries in the answer.
        answered: usize,
    },
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Try again after a backoff, until the record expires.
    Retry,
    /// Try again after a backoff, for `auth_grace` at most.
    RetryWithinGrace,
    /// Try again at once, for `auth_grace` at most.
    RetryAtOnceWithinGrace,
    /// Send again at once, and it was no attempt: nothing was sent, or nothing that the endpoint could take.
    Resend,
    /// Send again at once in requests of half the size.
    Halve,
    /// Find out which Kinesis record of the request is at fault; it fails, the others are sent again.
    Isolate,
    /// The record fails.
    Fail,
}

/// A classified trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The attempt's code.
    pub code: ErrorCode,
    /// The attempt's message.
    pub message: Arc<str>,
    /// The record may have been stored.
    pub ambiguous: bool,
    /// The shard took less than we sent; the limiter should know.
    pub throttled: bool,
    /// What may help, beside time.
    pub remedy: Option<Remedy>,
    /// What to do.
    pub action: Action,
}

impl Verdict {
    /// What it makes of an attempt.
    pub fn attempt(&self, began: Time, ended: Time) -> Attempt {
        let (code, message) = self.reason();
        Attempt { began, ended, result: AttemptResult::Failed { code, message, ambiguous: self.ambiguous } }
    }

    /// Its code and message.
    pub fn reason(&self) -> (ErrorCode, Arc<str>) {
        (self.code.clone(), Arc::clone(&self.message))
    }
}

/// What may help against a refusal, beside time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Other credentials.
    Credentials,
    /// The service's time instead of ours; if ours is right, other credentials.
    Clock,
    /// A newer shard map.
    Map,
}

/// How an endpoint refuses a request for its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormDoubt {
    /// It says so, and has stored nothing.
    Refused,
    /// It may have stumbled over the form; what it has stored is unknown.
    Stumbled,
}

/// Decides about an attempt that did not store its record.
pub fn classify(trouble: &Trouble<'_>, config: &Config) -> Verdict {
    match trouble {
        Trouble::Entry { code, message } => {
            let throttled = is_throttle(code);
            Verdict {
                code: ErrorCode::Service(Arc::clone(code)),
                message: Arc::clone(message),
                // A throttled record was refused before it was stored. The service's internal failures say nothing
                // about that, and an unknown code can't promise anything either.
                ambiguous: !throttled && !planted(Mistake::InternalFailureUnambiguous),
                throttled,
                remedy: None,
                action: if throttled && config.fail_if_throttled { Action::Fail } else { Action::Retry },
            }
        }
        Trouble::Request(error) => classify_refusal(error, config),
        // Nothing was stored, and nobody has judged the records yet. It cannot go round: what is refused in the second
        // form too is a trouble of the request.
        Trouble::Form(error) => Verdict { action: Action::Resend, ..classify_refusal(error, config) },
        // A refusal is an attempt, also this one. Waiting would be in vain: the present signature was not refused yet.
        Trouble::OldSignature(error) => {
            Verdict { action: Action::RetryAtOnceWithinGrace, ..classify_refusal(error, config) }
        }
        Trouble::Transport(failure) => Verdict {
            code: failure.code.clone(),
            message: Arc::clone(&failure.message),
            // Past the first byte on the socket the service may have acted, whatever we saw of it.
            ambiguous: failure.bytes_sent && !planted(Mistake::CutOffUnambiguous),
            throttled: false,
            remedy: None,
            // A kept-alive connection that the server had closed takes no byte: that is no attempt, and a fresh
            // connection will do. A connection that cannot be had is an attempt, or an outage would spin.
            action: match failure.code {
                ErrorCode::Reset if !failure.bytes_sent || planted(Mistake::ResetResent) => Action::Resend,
                _ => Action::Retry,
            },
        },
        Trouble::CountMismatch { sent, answered } => Verdict {
            code: ErrorCode::RecordCountMismatch,
            message: format!("{sent} records were sent, {answered} results came back").into(),
            // Which of the results belongs to which record is unknowable; retrying would duplicate what was stored.
            ambiguous: true,
            throttled: false,
            remedy: None,
            action: Action::Fail,
        },
    }
}

fn classify_refusal(error: &RequestError, config: &Config) -> Verdict {
    let (code, message) = (error.code.clone(), Arc::clone(&error.message));
    if error.status == 413 {
        // HTTP's own word for a body that is too large, whoever says it: a gateway of less patience than the service, as
        // a rule. Nobody is at fault, and nobody has read it.
        return Verdict { code, message, ambiguous: false, throttled: false, remedy: None, action: Action::Halve };
    }
    let ErrorCode::Service(name) = &error.code else {
        // Not of the protocol: a proxy's page, a truncated body, an empty 500. The request may have been applied,
        // unless the status says that it was not even taken.
        let ambiguous = !is_client_error(error.status);
        return Verdict { code, message, ambiguous, throttled: false, remedy: None, action: Action::Retry };
    };
    let throttled = is_throttle(name);
    let remedy = remedy(error);
    let action = match &**name {
        _ if throttled && config.fail_if_throttled => Action::Fail,
        _ if throttled => Action::Retry,
        // Credentials may be on their way round, a policy may be propagating, a stream may be being re-created: worth
        // a grace time, but not the whole TTL.
        _ if remedy.is_some() => Action::RetryWithinGrace,
        // What we sent is wrong, and will be so again: but one record's fault need not be all the others'.
        "ValidationException" | "InvalidArgumentException" | "SerializationException" => Action::Isolate,
        // No record can be at fault for that.
        "UnknownOperationException" => Action::Fail,
        // Internal failures, unavailability, codes we don't know: the TTL bounds the patience.
        _ => Action::Retry,
    };
    // A request that was refused by the service's front was not applied; one that failed inside it may have been.
    Verdict { code, message, ambiguous: error.status >= 500, throttled, remedy, action }
}

/// What may help against a refusal, beside time. Throttles are none: time does help.
pub fn remedy(error: &RequestError) -> Option<Remedy> {
    let ErrorCode::Service(code) = &error.code else { return None };
    match &**code {
        // The key is unknown, was withdrawn, or has expired, or its owner may not do this; a key that is rotated while
        // we run is all of these for a while.
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "AccessDeniedException"
        | "AccessDenied" => Some(Remedy::Credentials),
        // The stream's key refuses our role, which other credentials may have changed.
        code if code.starts_with("KMS") && !is_throttle(code) => Some(Remedy::Credentials),
        // The service computes the signature by its own clock's day and bounds its age: a wrong clock and a wrong
        // secret look alike.
        "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "RequestExpired"
        | "RequestTimeTooSkewed"
        | "IncompleteSignature"
        | "IncompleteSignatureException" => Some(Remedy::Clock),
        "ResourceNotFoundException" => Some(Remedy::Map),
        _ => None,
    }
}

/// Whether an endpoint that has never taken this form of request seems to refuse it for that.
pub fn form_doubt(error: &RequestError) -> Option<FormDoubt> {
    match (&error.code, error.status) {
        // HTTP's own words for it, whatever the body says.
        (_, 415) => Some(FormDoubt::Refused),
        (ErrorCode::Service(code), 400..500) => match &**code {
            // What the service answers to a body that it cannot parse, and to a content type that it does not know.
            // A record that is at fault is refused in the other form as well, and fails then.
            "SerializationException" | "UnknownOperationException" => Some(FormDoubt::Refused),
            "UnsupportedMediaType" | "UnsupportedMediaTypeException" => Some(FormDoubt::Refused),
            // Everything else has read the request, or has not looked at its form: throttles, credentials, validation.
            _ => None,
        },
        // Not of the protocol: what a router says that knows no such content type (404, 405, 406), or a parser (400).
        // Other statuses speak of something else: who we are (401, 403, 407), how much (413, 429), how long (408).
        (_, 400 | 404 | 405 | 406) => Some(FormDoubt::Refused),
        // A server that fails over a body which is no text, as moto's does, with a page of its own. It may have failed
        // afterwards. The other 5xx are a gateway's, or say that it is for now.
        (ErrorCode::UnreadableAnswer, 500) => Some(FormDoubt::Stumbled),
        _ => None,
    }
}

fn is_client_error(status: u16) -> bool {
    (400..500).contains(&status)
}

fn is_throttle(code: &str) -> bool {
    matches!(
        code,
        "ProvisionedThroughputExceededException"
            | "ProvisionedThroughputExceeded"
            | "LimitExceededException"
            | "LimitExceeded"
            | "KMSThrottlingException"
            | "ThrottlingException"
    )
}

/// What a stored batch's shard says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// As predicted, or as good.
    Right {
        /// The prediction was wrong all the same, so the map is old.
        stale_map: bool,
    },
    /// Some member's hash key is outside the shard's range: consumers drop the aggregate whole.
    Wrong,
    /// No map of ours knows the shard.
    Unknown,
}

/// Decides whether a batch that was predicted for a shard is well placed in `stored`, by the service's shards, if they are
/// known. `is_current` says that the predicted shard is still what it was. If not, its id may be another's by now: ids come
/// again where a stream is made anew.
pub fn judge_placement(batch: &Batch, stored: &str, is_current: bool, map: Option<&ShardMap>) -> Placement {
    let is_predicted = batch.predicted.as_deref() == Some(stored);
    if is_predicted && is_current {
        return Placement::Right { stale_map: false };
    }
    let known = map.and_then(|map| map.range_of(stored));
    if is_predicted && known.is_none() {
        return Placement::Right { stale_map: false };
    }
    // A single record is rightly placed by the service itself, wherever that is. So is a wrapped one, as long as the
    // service goes by hash keys; if it does not, consumers drop it like any aggregate. Without a map nobody can tell.
    let holds = |hash: HashKey| known.is_some_and(|(first, last)| first <= hash && hash <= last);
    if !batch.is_aggregate() || (batch.tickets.len() == 1 && map.is_none()) {
        return Placement::Right { stale_map: !holds(batch.first_hash) };
    }
    if known.is_none() {
        let right = planted(Mistake::UnknownShardRight);
        return if right { Placement::Right { stale_map: true } } else { Placement::Unknown };
    }
    let members = if planted(Mistake::PlacementByFirst) { 1 } else { usize::MAX };
    if batch.hashes().take(members).all(holds) { Placement::Right { stale_map: false } } else { Placement::Wrong }
}

#[cfg(test)]
mod tests;
