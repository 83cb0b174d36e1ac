//! The peer: PutRecords by AWS's SDK, as a good engineer writes it who wants nothing of the KPL.
//!
//! ```text
//!  submitting thread: entries ─▶ requests of 500, or 5 MiB ─▶ channel ─▶ sending thread: 8 under way ─▶ answers
//!                                                                          ▲ entries that failed, again │
//! ```
//!
//! Our producer has a thread that submits and a thread that sends; so has this. The sending thread runs tokio's
//! `current_thread` runtime, as a second worker would only move requests between caches. A request is handed over whole, so
//! that the channel costs a record nothing.
//!
//! A record costs what the SDK's types cost: an owned key, and a reference to the data, which is shared and not copied; its
//! answer is read, and where entries failed, these alone are made and sent again. Connections are kept alive; TLS is rustls
//! with aws-lc, as on our side. The guard against stalled streams is off: it would cost, and ours has none of its kind.
//! How often a request may be tried is bounded; a record that is left then has failed.

use std::fmt::Display;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use aws_sdk_kinesis::operation::put_records::PutRecordsOutput;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::clock::Clock;
use crate::cpu::CpuTime;
use crate::load::{Measured, warm_up};
use crate::outcomes::Reasons;
use crate::records::Records;
use crate::stream::{Access, http_client};

/// Entries of a request. Service.
const REQUEST_RECORDS_MAX: usize = 500;
/// Data and keys of a request, in bytes.
const REQUEST_BYTES_MAX: usize = 5 << 20;
/// Requests under way.
const IN_FLIGHT: u32 = 8;
/// Requests between the two threads.
const CHANNEL: usize = 2;
/// How often a request is sent that fails whole, or in part.
const TRIES_MAX: u32 = 5;
/// The rest before a second try; it doubles.
const BACKOFF: Duration = Duration::from_millis(50);
const STREAM: &str = "kpl-bench-0";

/// What it is, in a line.
pub fn describe() -> String {
    format!(
        "aws-sdk-kinesis {}: requests of {REQUEST_RECORDS_MAX} records or 5 MiB, {IN_FLIGHT} under way; one thread makes \
         them, one sends by tokio's current_thread",
        aws_sdk_kinesis::meta::PKG_VERSION
    )
}

/// Puts the records, and returns when each has its outcome.
///
/// # Errors
/// The client, its runtime or its thread cannot be had.
pub fn run(access: &Access, records: &Arc<Records>, count: u64) -> Result<Measured, String> {
    let client = client(access).map_err(text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(text)?;
    let (send, receive) = mpsc::channel(CHANNEL);
    let sender = Sender { client, records: records.clone(), tally: Arc::default() };
    let body = move || runtime.block_on(sender.run(receive));
    let thread = std::thread::Builder::new().name("sender".into()).spawn(body).map_err(text)?;
    let submitter = Submitter { records, send };
    submitter.put(warm_up(count));
    let (clock, cpu) = (Clock::start(), CpuTime::now());
    let tally = submitter.put(count);
    let (cpu, wall) = (CpuTime::now().since(cpu), clock.elapsed());
    // The end of the channel is the end of the sender.
    drop(submitter);
    thread.join().map_err(|_| "the sending thread panicked".to_owned())?;
    Ok(Measured {
        cpu,
        wall,
        delivered: tally.delivered,
        failures: tally.failures,
        kinesis_records: tally.sent,
        requests: tally.requests,
        runtime: "tokio".to_owned(),
    })
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn client(access: &Access) -> std::io::Result<Client> {
    let mut config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(&access.url)
        .http_client(http_client(access)?)
        .retry_config(RetryConfig::standard())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(region) = &access.region {
        config = config.region(Region::new(region.clone()));
    }
    if let Some(given) = &access.credentials {
        let (id, secret) = (given.access_key_id.as_str(), given.secret_access_key.as_str());
        config = config.credentials_provider(Credentials::new(id, secret, None, None, "kpl-bench"));
    }
    Ok(Client::from_conf(config.build()))
}

/// From the submitting thread to the sending one.
enum Message {
    /// The entries of the records from number `first` on.
    Request { first: u64, entries: Vec<PutRecordsRequestEntry> },
    /// Tell when everything before has its outcome, and what became of it.
    Settle(oneshot::Sender<Tally>),
}

/// What became of records.
#[derive(Default)]
struct Tally {
    delivered: u64,
    failures: Reasons,
    /// Entries of all requests, sent again or not.
    sent: u64,
    requests: u64,
}

/// The submitting thread's end.
struct Submitter<'r> {
    records: &'r Records,
    send: mpsc::Sender<Message>,
}

impl Submitter<'_> {
    /// Puts so many records, and waits for their outcomes.
    fn put(&self, count: u64) -> Tally {
        let mut bytes = 0;
        let (mut first, mut entries) = (0, Vec::with_capacity(REQUEST_RECORDS_MAX));
        for (number, (key, data)) in (0..count).zip(self.records.iter(0)) {
            bytes += key.len() + data.len();
            if entries.len() == REQUEST_RECORDS_MAX || bytes > REQUEST_BYTES_MAX {
                let full = std::mem::replace(&mut entries, Vec::with_capacity(REQUEST_RECORDS_MAX));
                self.send(Message::Request { first, entries: full });
                (first, bytes) = (number, key.len() + data.len());
            }
            entries.push(entry(self.records, key, data));
        }
        self.send(Message::Request { first, entries });
        let (tell, told) = oneshot::channel();
        self.send(Message::Settle(tell));
        told.blocking_recv().unwrap_or_default()
    }

    fn send(&self, message: Message) {
        // It fails only if the sending thread panicked, which its join tells.
        let _ = self.send.blocking_send(message);
    }
}

fn entry(records: &Records, key: &str, data: &[u8]) -> PutRecordsRequestEntry {
    let data = Blob::from_maybe_shared(records.share(data));
    PutRecordsRequestEntry::builder().partition_key(key).data(data).build().expect("key and data are given")
}

/// The sending thread's end.
#[derive(Clone)]
struct Sender {
    client: Client,
    records: Arc<Records>,
    tally: Arc<Mutex<Tally>>,
}

impl Sender {
    async fn run(self, mut receive: mpsc::Receiver<Message>) {
        let permits = Arc::new(Semaphore::new(IN_FLIGHT as usize));
        while let Some(message) = receive.recv().await {
            match message {
                Message::Request { first, entries } => {
                    let permit = permits.clone().acquire_owned().await;
                    let sender = self.clone();
                    tokio::spawn(async move {
                        sender.deliver(first, entries).await;
                        drop(permit);
                    });
                }
                Message::Settle(tell) => {
                    let all = permits.acquire_many(IN_FLIGHT).await;
                    let _ = tell.send(std::mem::take(&mut *self.tally.lock().unwrap_or_else(PoisonError::into_inner)));
                    drop(all);
                }
            }
        }
    }

    /// Sends a request until each of its records is stored, or has been tried too often.
    async fn deliver(&self, first: u64, mut entries: Vec<PutRecordsRequestEntry>) {
        // What is sent again is made again from its number, since the SDK takes entries and keeps them.
        let mut numbers: Vec<u64> = (first..first + entries.len() as u64).collect();
        let mut reason = String::new();
        for attempt in 0..TRIES_MAX {
            if attempt > 0 {
                tokio::time::sleep(BACKOFF * (1 << attempt)).await;
                let made =
                    |number: &u64| self.records.iter(*number).next().map(|(key, data)| entry(&self.records, key, data));
                entries = numbers.iter().filter_map(made).collect();
            }
            let sent = entries.len() as u64;
            let request = self.client.put_records().stream_name(STREAM).set_records(Some(entries));
            let failed = match request.send().await {
                Ok(answer) => failed(&answer, &numbers, &mut reason),
                Err(error) => {
                    reason = error.to_string();
                    numbers
                }
            };
            self.note(|tally| {
                tally.requests += 1;
                tally.sent += sent;
                tally.delivered += sent - failed.len() as u64;
            });
            if failed.is_empty() {
                return;
            }
            (numbers, entries) = (failed, Vec::new());
        }
        self.note(|tally| numbers.iter().for_each(|_| tally.failures.note("given up", &reason)));
    }

    fn note(&self, note: impl FnOnce(&mut Tally)) {
        note(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The numbers of the records that an answer says are not stored, or says nothing of.
fn failed(answer: &PutRecordsOutput, numbers: &[u64], reason: &mut String) -> Vec<u64> {
    let results = answer.records();
    if results.len() != numbers.len() {
        "an answer of another length".clone_into(reason);
        return numbers.to_vec();
    }
    if answer.failed_record_count() == Some(0) {
        return Vec::new();
    }
    let failed = numbers.iter().zip(results).filter(|(_, result)| result.sequence_number().is_none());
    failed
        .inspect(|(_, result)| result.error_code().unwrap_or("no code").clone_into(reason))
        .map(|(number, _)| *number)
        .collect()
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::types::PutRecordsResultEntry;

    use super::*;

    fn answer(failed: i32, stored: &[bool]) -> PutRecordsOutput {
        let results = stored.iter().map(|stored| {
            let entry = PutRecordsResultEntry::builder();
            if *stored { entry.sequence_number("1").shard_id("s") } else { entry.error_code("Throttled") }.build()
        });
        let answer = PutRecordsOutput::builder().failed_record_count(failed).set_records(Some(results.collect()));
        answer.build().expect("an answer")
    }

    #[test]
    fn only_what_an_answer_says_is_stored_is_not_sent_again() {
        let mut reason = String::new();
        assert_eq!(failed(&answer(0, &[true, true]), &[7, 8], &mut reason), [0; 0]);
        assert_eq!(failed(&answer(1, &[true, false, true]), &[7, 8, 9], &mut reason), [8]);
        assert_eq!(reason, "Throttled");
        assert_eq!(failed(&answer(0, &[true]), &[7, 8], &mut reason), [7, 8]);
    }
}
