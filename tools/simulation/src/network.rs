//! The network between a core and Kinesis: decides when a request arrives and what comes back, and when.
//!
//! ```text
//!   Transmit ──fate──▶ arrives at the service, or never ──▶ answered: bytes, or a failure, or too late
//! ```
//!
//! A reset has four phases: before a byte is sent, in the middle of the request, after it was applied, within the answer.
//!
//! It promises what the law of the engine asks of a driver: every request ends exactly once, within `connect_timeout` +
//! `request_timeout`.

use std::time::Duration;

use kpl::codec::Wire;
use kpl::engine::TransportFailure;
use kpl::outcome::ErrorCode;
use kpl::time::Time;

use crate::faults::{Faults, Kind};
use crate::rng::Rng;
use crate::scenario::Scenario;
use crate::wire::{self, Told};

/// How long after its timeout a request may still be applied, in microseconds.
pub const APPLIED_LATE_US_MAX: u64 = 3_000_000;

/// What will happen to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate {
    /// The fault, if any.
    pub fault: Option<Kind>,
    /// When it is applied, if it is.
    pub applied: Option<Time>,
    /// When the core hears of its end.
    pub ended: Time,
}

/// What the core hears.
pub enum End {
    /// Status, `x-amzn-errortype`, body.
    Answer(u16, Option<&'static str>, Vec<u8>),
    /// No answer.
    Failure(TransportFailure),
}

/// A request as the network sees it.
pub struct Sending {
    /// When it leaves.
    pub now: Time,
    /// Whether its connection is not open yet.
    pub fresh: bool,
    /// Its form.
    pub wire: Wire,
    /// What is wrong with its signature, with a record in it or with its size, if anything is.
    pub refused: Option<Kind>,
}

/// Draws the fate of a request.
pub fn draw_fate(sending: &Sending, plan: &Scenario, faults: &mut Faults) -> Fate {
    let Sending { now, fresh, wire, refused } = *sending;
    let mut fault = draw_fault(now, fresh, plan, faults);
    let lost = matches!(
        fault,
        Some(
            Kind::ConnectRefused
                | Kind::ConnectTimeout
                | Kind::StaleConnection
                | Kind::ResetConnecting
                | Kind::ResetInRequest
                | Kind::TimeoutLost
        )
    );
    let judged = !lost && !plan.outage.is_some_and(|outage| outage.covers(now));
    if let Some(kind) = refused.filter(|_| judged) {
        faults.note(kind);
        fault = Some(kind);
    }
    if judged && fault != Some(Kind::TooLarge) && wire == Wire::Cbor && plan.refuses_cbor {
        faults.note(Kind::FormRefused);
        fault = Some(Kind::FormRefused);
    }
    let (low, high) = plan.round_trip_us;
    let there = faults.rng().micros(low / 2, high / 2);
    let back = faults.rng().micros(low / 2, high / 2);
    let config = &plan.config;
    let longest = config.request_timeout - Duration::from_millis(1);
    let normal = (there + back).min(longest);
    let at = |after: Duration| now + after;
    let (applied, ended) = match fault {
        Some(Kind::ConnectRefused | Kind::ResetConnecting) => (None, at(there)),
        Some(Kind::ConnectTimeout) => (None, at(config.connect_timeout)),
        Some(Kind::StaleConnection) => (None, at(Duration::from_micros(10))),
        Some(Kind::TimeoutLost) => (None, at(config.request_timeout)),
        Some(Kind::TimeoutApplied) => (Some(at(there.min(longest))), at(config.request_timeout)),
        Some(Kind::TimeoutAppliedLate) => {
            let late = faults.rng().micros(1, APPLIED_LATE_US_MAX);
            (Some(at(config.request_timeout + late)), at(config.request_timeout))
        }
        Some(Kind::Slow) => {
            let slow = faults.rng().micros(1_000, 5_000_000).min(longest).max(normal);
            (Some(at(if faults.rng().chance(5000) { there.min(normal) } else { slow })), at(slow))
        }
        Some(
            Kind::ResetInRequest
            | Kind::InternalError
            | Kind::Unavailable
            | Kind::RequestThrottled
            | Kind::AuthRefused
            | Kind::CredentialsExpired
            | Kind::ClockSkewed
            | Kind::FormRefused
            | Kind::NotFound
            | Kind::StreamGone
            | Kind::Poisoned
            | Kind::TooLarge
            | Kind::Validation,
        ) => (None, at(normal)),
        _ => (Some(at(there.min(normal))), at(normal)),
    };
    Fate { fault, applied, ended }
}

fn draw_fault(now: Time, fresh: bool, plan: &Scenario, faults: &mut Faults) -> Option<Kind> {
    if let Some(outage) = plan.outage.filter(|outage| outage.covers(now)) {
        let kind = outage.kind.fault(fresh, faults.rng());
        faults.note(kind);
        return Some(kind);
    }
    let connecting: &[Kind] = if fresh {
        &[Kind::ConnectRefused, Kind::ConnectTimeout, Kind::ResetConnecting]
    } else {
        &[Kind::StaleConnection]
    };
    let later = [
        Kind::ResetInRequest,
        Kind::ResetApplied,
        Kind::ResetInAnswer,
        Kind::TimeoutLost,
        Kind::TimeoutApplied,
        Kind::TimeoutAppliedLate,
        Kind::InternalError,
        Kind::InternalErrorApplied,
        Kind::Unavailable,
        Kind::RequestThrottled,
        Kind::AuthRefused,
        Kind::NotFound,
        Kind::Validation,
        Kind::WrongCount,
        Kind::WrongOrder,
        Kind::Malformed,
        Kind::Slow,
    ];
    connecting.iter().chain(&later).copied().find(|kind| faults.strikes(*kind))
}

/// What befalls a request that arrives where no stream is: an answer, if there was to be one, is that.
pub fn fate_without_stream(fault: Option<Kind>) -> Option<Kind> {
    match fault {
        Some(
            Kind::TimeoutApplied
            | Kind::TimeoutAppliedLate
            | Kind::ResetApplied
            | Kind::ResetInAnswer
            | Kind::InternalErrorApplied,
        ) => fault,
        _ => Some(Kind::StreamGone),
    }
}

/// Shuffles the results of an answer. Answers whether it did: what tells of a failure is left as it is.
pub fn shuffle(told: &mut [Told], rng: &mut Rng) -> bool {
    if told.len() < 2 || told.iter().any(|told| matches!(told, Told::Refused(..))) {
        return false;
    }
    for place in (1..told.len()).rev() {
        told.swap(place, rng.index(place + 1));
    }
    true
}

/// What the service says of poison records, by place: it names one, all, or none of them.
fn blame(poisoned: &[usize], rng: &mut Rng) -> String {
    let named = match rng.index(3) {
        0 => &poisoned[..0],
        1 => &poisoned[..1],
        _ => poisoned,
    };
    let names = named.iter().map(|place| format!("Value at 'records.{}.member.data' failed. ", place + 1));
    format!("{} validation errors detected. {}", poisoned.len(), names.collect::<String>())
}

/// What the core hears at the end of `fate`; `told` is what the service said if it was applied by then, `poisoned` are the
/// places of poison records.
pub fn end_of(fate: &Fate, wire: Wire, (mut told, poisoned): (Vec<Told>, &[usize]), faults: &mut Faults) -> End {
    let failure = |code, bytes_sent| End::Failure(TransportFailure { code, message: "simulated".into(), bytes_sent });
    // An error under CBOR may come back as JSON.
    let form = if faults.rng().chance(3000) { Wire::Json } else { wire };
    let refused = |status, code: &'static str| End::Answer(status, None, wire::write_error(form, code, "simulated"));
    match fate.fault {
        // Whoever hangs up on a fresh connection before it took a byte counts as no connection, by the runtime's rule.
        Some(Kind::ConnectRefused | Kind::ConnectTimeout | Kind::ResetConnecting) => failure(ErrorCode::Connect, false),
        Some(Kind::StaleConnection) => failure(ErrorCode::Reset, false),
        Some(Kind::ResetInRequest | Kind::ResetApplied | Kind::ResetInAnswer) => failure(ErrorCode::Reset, true),
        Some(Kind::TimeoutLost | Kind::TimeoutApplied | Kind::TimeoutAppliedLate) => failure(ErrorCode::Timeout, true),
        Some(Kind::InternalError | Kind::InternalErrorApplied) => {
            if faults.rng().chance(5000) {
                End::Answer(500, Some("InternalFailure"), Vec::new())
            } else {
                refused(500, "InternalFailure")
            }
        }
        Some(Kind::Unavailable) => End::Answer(503, None, b"<html>Service Unavailable</html>".to_vec()),
        Some(Kind::RequestThrottled) => {
            let codes = ["ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException"];
            refused(400, faults.rng().pick(&codes))
        }
        Some(Kind::AuthRefused) => {
            let codes =
                ["ExpiredTokenException", "AccessDeniedException", "KMSDisabledException", "InvalidSignatureException"];
            refused(400, faults.rng().pick(&codes))
        }
        Some(Kind::CredentialsExpired) => refused(400, "ExpiredTokenException"),
        Some(Kind::ClockSkewed) => {
            let codes = ["InvalidSignatureException", "RequestTimeTooSkewed", "RequestExpired"];
            refused(400, faults.rng().pick(&codes))
        }
        Some(Kind::FormRefused) => match faults.rng().index(4) {
            0 => End::Answer(415, None, Vec::new()),
            1 => End::Answer(404, None, b"<UnknownOperationException/>".to_vec()),
            2 => End::Answer(500, None, b"<html>Internal Server Error</html>".to_vec()),
            _ => refused(400, "SerializationException"),
        },
        Some(Kind::NotFound | Kind::StreamGone) => refused(400, "ResourceNotFoundException"),
        Some(Kind::Validation) => refused(400, "ValidationException"),
        Some(Kind::Poisoned) => {
            let code = faults.rng().pick(&["ValidationException", "InvalidArgumentException"]);
            End::Answer(400, None, wire::write_error(form, code, &blame(poisoned, faults.rng())))
        }
        Some(Kind::TooLarge) => End::Answer(413, None, b"<html>Request Entity Too Large</html>".to_vec()),
        Some(Kind::WrongCount) => {
            if faults.rng().chance(5000) || told.len() == 500 {
                told.pop();
            } else {
                told.push(Told::Stored("shardId-000000000000".to_owned(), "1".to_owned()));
            }
            End::Answer(200, None, wire::write_answer(wire, &told))
        }
        Some(Kind::Malformed) => {
            let mut body = wire::write_answer(wire, &told);
            let cut = faults.rng().index(body.len());
            if faults.rng().chance(5000) {
                body.truncate(cut);
            } else {
                body = (0..cut).map(|_| faults.rng().next() as u8).collect();
            }
            End::Answer(200, None, body)
        }
        _ => End::Answer(200, None, wire::write_answer(wire, &told)),
    }
}
