//! What a hand does with a core: puts, sends, and plays the service.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kpl::codec::{EntryResult, RequestError};
use kpl::config::{Config, RateLimit};
use kpl::engine::{Transmit, TransportFailure};
use kpl::outcome::{Attempt, AttemptResult, Delivered, ErrorCode, Failure, Settled, Settlement};
use kpl::record::{HashKey, Record};
use kpl::ring::Handle;

use super::driven::Driven;

pub type Waiting = Handle<Arc<Settlement>>;
pub type End = Result<Delivered, Failure>;

pub const LINGER: Duration = Duration::from_millis(100);
pub const TTL: Duration = Duration::from_secs(30);
/// Timers fire a tick of the wheel late at most.
pub const TICK: Duration = kpl::engine::WHEEL_RESOLUTION;

/// No limit but time.
pub fn config() -> Config {
    Config { rate_limit: RateLimit::Off, record_max_buffered_time: LINGER, record_ttl: TTL, ..Config::default() }
}

/// How a record has ended, if it has.
pub fn outcome(handle: &mut Waiting) -> Option<End> {
    match handle.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(settled)) => Some(Settled::from(settled).into_result()),
        Poll::Ready(Err(_)) => panic!("a record was abandoned"),
        Poll::Pending => None,
    }
}

/// How a record has ended that has.
pub fn end(handle: &mut Waiting) -> End {
    outcome(handle).expect("it has ended")
}

/// Puts a record for the shard of this number.
pub fn put(driven: &mut Driven, shard: usize) -> Waiting {
    let hash = HashKey(u128::MAX / driven.shards as u128 * shard as u128 + 1000);
    put_record(driven, &Record::new("key", "data").with_explicit_hash_key(hash))
}

pub fn put_record(driven: &mut Driven, record: &Record<'_>) -> Waiting {
    let (ticket, handle) = driven.slots.take();
    driven.put(ticket, record);
    handle
}

/// Lets the linger pass; the request that is due then.
pub fn send(driven: &mut Driven) -> Transmit {
    driven.pass(LINGER);
    driven.turn().expect("a request")
}

/// Lets time pass in steps until a request is due; at most a minute. Answers how long it took.
pub fn send_later(driven: &mut Driven) -> (Transmit, Duration) {
    let began = driven.now;
    for _ in 0..60_000 {
        if let Some(transmit) = driven.turn() {
            return (transmit, driven.now.since(began));
        }
        driven.pass(Duration::from_millis(1));
    }
    panic!("nothing was sent for a minute");
}

/// The service stores everything.
pub fn store(driven: &mut Driven, transmit: &Transmit) {
    let entries = driven.all_stored(transmit);
    driven.answer(transmit.request, entries);
}

/// The service stores everything, and says that it is in `shard`.
pub fn store_in(driven: &mut Driven, transmit: &Transmit, shard: &str) {
    let stored = || EntryResult::Stored { shard_id: shard.into(), sequence_number: "49".into() };
    driven.answer(transmit.request, (0..transmit.kinesis_records).map(|_| stored()).collect());
}

/// The service refuses every record of a request by itself.
pub fn refuse_records(driven: &mut Driven, transmit: &Transmit, code: &str) {
    let failed = || EntryResult::Failed { code: code.into(), message: "why".into() };
    driven.answer(transmit.request, (0..transmit.kinesis_records).map(|_| failed()).collect());
}

/// The service refuses a request.
pub fn refuse(driven: &mut Driven, transmit: &Transmit, status: u16, code: &str, message: &str) {
    let error = RequestError { status, code: ErrorCode::Service(code.into()), message: message.into() };
    driven.core.handle_answer(driven.now, transmit.request, Err(error));
}

/// No answer comes.
pub fn lose(driven: &mut Driven, transmit: &Transmit, code: ErrorCode, bytes_sent: bool) {
    let failure = TransportFailure { code, message: "lost".into(), bytes_sent };
    driven.core.handle_failure(driven.now, transmit.request, &failure);
}

/// The failed attempts: code, and whether each is ambiguous.
pub fn failed(attempts: &[Attempt]) -> Vec<(String, bool)> {
    let failed = attempts.iter().filter_map(|attempt| match &attempt.result {
        AttemptResult::Failed { code, ambiguous, .. } => Some((code.to_string(), *ambiguous)),
        AttemptResult::Stored { .. } => None,
    });
    failed.collect()
}

/// One entry of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub hash: Option<u128>,
    pub data: Vec<u8>,
}

/// The entries of a request, read without the library's help.
pub fn entries(transmit: &Transmit) -> Vec<Entry> {
    let request: serde_json::Value = serde_json::from_slice(&transmit.body.to_vec()).expect("JSON");
    let records = request["Records"].as_array().expect("records").iter();
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let entry = |record: &serde_json::Value| Entry {
        key: text(&record["PartitionKey"]).expect("a key"),
        hash: text(&record["ExplicitHashKey"]).map(|hash| hash.parse().expect("decimal")),
        data: STANDARD.decode(text(&record["Data"]).expect("data")).expect("base64"),
    };
    records.map(entry).collect()
}
