//! Lateness: how long after its deadline a record's first byte is on the socket; negative where it is there before.
//!
//! ```text
//!   client: record carries the moment of its put ─▶ … ─▶ sink: first byte of a request ── age ──▶ histogram
//!                                                              (endpoint)     of its oldest record, by aggregate
//!   lateness = age − record_max_buffered_time
//! ```
//!
//! It is measured from outside: the sink, another process on the same machine, notes when the first byte of a request came,
//! takes the request's Kinesis records apart, and reads the moment of the put from each record; both on the one monotonic
//! clock that processes share. What counts of each Kinesis record is its *oldest* user record, since that is the one whose
//! deadline the aggregate was sealed for: the others came later and are early by as much.
//!
//! What the sink's thread needs to wake up is in the figure, so the truth is rather smaller. What a large body needs to
//! follow its head is not: at the rates that this is for, a request holds what came within one linger. The first second of a
//! run does not count, as connections are opened in it, without which nothing can be on a socket.
//!
//! Requests are taken apart on a thread of their own, so that the one that reads sockets is not kept from it. Memory: a
//! histogram of 1 µs to 100 s in five digits, some megabytes, and the requests that wait to be taken apart.

use std::io::{self, Cursor};

use bytes::Bytes;
use ciborium::Value;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use endpoint::{Action, RequestInfo, Script};
use hdrhistogram::Histogram;
use kpl::limits;
use serde::{Deserialize, Serialize};

use crate::clock::shared_ns;
use crate::deaggregate::user_records;
use crate::workload::put_ns;

/// The greatest age that is told from greater ones, in microseconds.
const AGE_US_MAX: u64 = 100_000_000;
/// How long after the first put records begin to count, in nanoseconds.
const SETTLING_NS: u64 = 1_000_000_000;

/// Ages of the oldest record of each Kinesis record, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ages {
    pub kinesis_records: u64,
    pub min_us: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}

/// Lateness, in milliseconds; negative where records were early.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Lateness {
    /// Kinesis records whose oldest user record was looked at.
    pub kinesis_records: u64,
    /// The time after its put at which a record is due.
    pub linger_ms: f64,
    pub min: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl From<Ages> for Lateness {
    fn from(ages: Ages) -> Lateness {
        let linger_ms = limits::BUFFERED_TIME_DEFAULT.as_secs_f64() * 1e3;
        let past = |age_us: u64| if ages.kinesis_records == 0 { 0.0 } else { age_us as f64 / 1e3 - linger_ms };
        Lateness {
            kinesis_records: ages.kinesis_records,
            linger_ms,
            min: past(ages.min_us),
            p50: past(ages.p50_us),
            p99: past(ages.p99_us),
            p999: past(ages.p999_us),
            max: past(ages.max_us),
        }
    }
}

/// What the thread that takes requests apart is told.
enum Message {
    /// A PutRecords request in CBOR, and when its first byte came.
    Request {
        body: Bytes,
        first_byte_ns: u64,
    },
    Tell(Sender<Ages>),
}

/// Keeps the ages of what comes to a sink.
pub struct AgeKeeper(Sender<Message>);

impl AgeKeeper {
    /// Starts its thread.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub fn start() -> io::Result<AgeKeeper> {
        let (send, receive) = unbounded();
        std::thread::Builder::new().name("ages".into()).spawn(move || keep(&receive))?;
        Ok(AgeKeeper(send))
    }

    /// Sees every request of an endpoint, and lets it pass.
    pub fn script(&self) -> Script {
        let send = self.0.clone();
        Box::new(move |request: &RequestInfo<'_>| {
            if request.operation == "PutRecords" {
                let since_ns = u64::try_from(request.first_byte.elapsed().as_nanos()).unwrap_or(u64::MAX);
                let first_byte_ns = shared_ns().saturating_sub(since_ns);
                // It fails only if the thread has panicked; then nobody can tell ages.
                let _ = send.send(Message::Request { body: request.body.clone(), first_byte_ns });
            }
            Action::Pass
        })
    }

    /// Ages of all that came so far.
    pub fn so_far(&self) -> Ages {
        let (tell, told) = bounded(1);
        let _ = self.0.send(Message::Tell(tell));
        told.recv().unwrap_or_default()
    }
}

fn keep(messages: &Receiver<Message>) {
    let mut histogram = Histogram::new_with_bounds(1, AGE_US_MAX, 5).expect("1 <= 2 * 1 <= 100 s, 5 digits of 0 to 5");
    let mut first_put_ns = None;
    for message in messages {
        match message {
            Message::Request { body, first_byte_ns } => {
                for oldest_ns in oldest_puts(&body) {
                    let first_put_ns = *first_put_ns.get_or_insert(oldest_ns);
                    if oldest_ns >= first_put_ns + SETTLING_NS {
                        histogram.saturating_record(first_byte_ns.saturating_sub(oldest_ns) / 1000);
                    }
                }
            }
            // Nobody waits any more if it fails.
            Message::Tell(tell) => drop(tell.send(ages(&histogram))),
        }
    }
}

fn ages(histogram: &Histogram<u64>) -> Ages {
    let at = |quantile: f64| histogram.value_at_quantile(quantile);
    Ages {
        kinesis_records: histogram.len(),
        min_us: histogram.min(),
        p50_us: at(0.5),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: histogram.max(),
    }
}

/// The earliest put among the user records of each Kinesis record of a request; what cannot be read is left out.
fn oldest_puts(body: &[u8]) -> Vec<u64> {
    let Ok(Value::Map(fields)) = ciborium::from_reader(Cursor::new(body)) else { return Vec::new() };
    let field = |fields: &[(Value, Value)], name: &str| {
        fields.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value.clone())
    };
    let Some(Value::Array(entries)) = field(&fields, "Records") else { return Vec::new() };
    let oldest = |entry: &Value| {
        let Value::Bytes(data) = field(entry.as_map()?, "Data")? else { return None };
        user_records(&data).into_iter().filter_map(put_ns).min()
    };
    entries.iter().filter_map(oldest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(put_ns: u64) -> Vec<u8> {
        [0u64.to_le_bytes(), put_ns.to_le_bytes()].concat()
    }

    fn request(data: &[Vec<u8>]) -> Bytes {
        let entry = |data: &Vec<u8>| Value::Map(vec![("Data".into(), Value::Bytes(data.clone()))]);
        let records = Value::Array(data.iter().map(entry).collect());
        let mut body = Vec::new();
        ciborium::into_writer(&Value::Map(vec![("Records".into(), records)]), &mut body).expect("a vector takes it");
        body.into()
    }

    #[test]
    fn ages_are_from_the_put_to_the_first_byte_and_the_first_second_does_not_count() {
        let keeper = AgeKeeper::start().expect("a thread");
        let second = 1_000_000_000;
        let come = |put_ns: u64, age_us: u64| {
            let message = Message::Request { body: request(&[record(put_ns)]), first_byte_ns: put_ns + age_us * 1000 };
            keeper.0.send(message).expect("the thread runs");
        };
        come(5 * second, 700_000);
        come(5 * second + second - 1, 700_000);
        (1..=100).for_each(|age_us| come(6 * second, age_us * 1000));
        let ages = keeper.so_far();
        assert_eq!((ages.kinesis_records, ages.min_us, ages.max_us), (100, 1000, 100_000));
        assert_eq!((ages.p50_us, ages.p99_us), (50_000, 99_000));
    }

    #[test]
    fn lateness_is_what_is_past_the_deadline_and_negative_before() {
        let ages = Ages { kinesis_records: 3, p50_us: 80_000, p99_us: 100_200, ..Ages::default() };
        let lateness = Lateness::from(ages);
        assert!((lateness.p50 + 20.0).abs() < 1e-9 && (lateness.p99 - 0.2).abs() < 1e-9, "{lateness:?}");
        assert_eq!(Lateness::from(Ages::default()).max, 0.0);
    }

    #[test]
    fn each_kinesis_record_has_its_own_oldest_and_what_cannot_be_read_has_none() {
        let body = request(&[record(9), b"short".to_vec(), record(4)]);
        assert_eq!(oldest_puts(&body), [9, 4]);
        assert!(oldest_puts(b"{}").is_empty() && oldest_puts(&[]).is_empty());
    }
}
