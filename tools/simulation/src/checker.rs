//! The checker: knows what was accepted, looks at every request, every outcome and at last at every shard, and says which
//! promise was broken. It shares no code with the engine or the codec.
//!
//! | name | promise |
//! |---|---|
//! | I1 | every accepted record has exactly one outcome |
//! | I2 | a delivered record is in the stream, byte for byte, under its key, visible to a consumer, where its outcome says |
//! | I3 | nothing appears that was not accepted; what failed without ambiguity does not appear |
//! | I4 | a record appears at most once more often than it had ambiguous attempts |
//! | I5 | the budget is never exceeded, and whole at the end |
//! | I6 | a flush is done when everything put before it has its outcome, not before, and not never |
//! | I7 | close settles everything in time, and the counts add up |
//! | I8 | requests and Kinesis records keep the service's and the configured limits |
//! | I9 | a shard is sent no more than its rate limit allows, retries included |
//! | I10 | no record is sent after its expiration |
//! | I11 | per submitter and shard, first transmissions happen in the order of the puts, until the map changes |
//! | I12 | in calm, a record is first sent by its deadline, or at once when it is flushed |
//! | I13 | no outcome comes later than the expiration and a last request allow |
//! | I14 | a core neither spins nor sleeps for ever |
//! | I15 | a shard holds no more of the budget than `shard_backlog_max` allows; what is refused for it never was sent |
//! | E2 | a core sends records of its own shards only |

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use kpl::config::Config;
use kpl::outcome::{AttemptResult, Delivered, Failure, Settled, Settlement};
use kpl::ring::Handle;
use kpl::time::Time;

use crate::scenario::Draft;

/// An accepted record, from put to verdict.
pub struct Accepted {
    /// What was put.
    pub draft: Draft,
    /// By whom.
    pub submitter: usize,
    /// When.
    pub arrival: Time,
    /// The waiting end, until the outcome is there.
    handle: Option<Handle<Arc<Settlement>>>,
    /// How it ended.
    pub outcome: Option<Result<Delivered, Failure>>,
    /// When it was first sent.
    pub first_sent: Option<Time>,
    /// When the first flush that began at once and covers it was called for.
    pub flushed: Option<Time>,
}

/// Tells which records have been woken.
struct Woken {
    number: u64,
    list: Arc<Mutex<Vec<u64>>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.list.lock().expect("one thread").push(self.number);
    }
}

/// The checker of one seed.
pub struct Checker {
    /// The configuration of each stream.
    pub configs: Vec<Config>,
    /// By number.
    pub records: BTreeMap<u64, Accepted>,
    /// Accepted and not settled.
    pub outstanding: usize,
    outstanding_bytes: usize,
    woken: Arc<Mutex<Vec<u64>>>,
    /// By token: the stream, and the records that it waits for.
    flushes: BTreeMap<u64, (usize, Vec<u64>)>,
    /// Outcomes by code.
    pub codes: BTreeMap<String, u64>,
    /// What was broken; the first counts.
    pub broken: Vec<String>,
    /// How long an outcome may be late, of a record that was never sent and of one that was.
    patience: [Duration; 2],
}

impl Checker {
    /// A checker that has seen nothing.
    pub fn new(configs: Vec<Config>, patience: [Duration; 2]) -> Checker {
        Checker {
            configs,
            records: BTreeMap::new(),
            outstanding: 0,
            outstanding_bytes: 0,
            woken: Arc::default(),
            flushes: BTreeMap::new(),
            codes: BTreeMap::new(),
            broken: Vec::new(),
            patience,
        }
    }

    /// Notes that a promise was broken.
    pub fn breaks(&mut self, text: String) {
        self.broken.push(text);
    }

    /// Notes it unless `kept`.
    pub fn holds(&mut self, kept: bool, text: impl FnOnce() -> String) {
        if !kept {
            self.broken.push(text());
        }
    }

    /// A record was accepted.
    pub fn accept(
        &mut self,
        number: u64,
        draft: Draft,
        submitter: usize,
        arrival: Time,
        mut handle: Handle<Arc<Settlement>>,
    ) {
        let waker = Waker::from(Arc::new(Woken { number, list: Arc::clone(&self.woken) }));
        let pending = handle.poll(&mut Context::from_waker(&waker)).is_pending();
        self.holds(pending, || format!("I1: record {number} is settled before it was pushed"));
        self.outstanding += 1;
        self.outstanding_bytes += draft.size();
        // The configuration is the producer's in these fields.
        let (records_max, bytes_max) = (self.configs[0].max_outstanding_records, self.configs[0].max_outstanding_bytes);
        let within = self.outstanding <= records_max && self.outstanding_bytes <= bytes_max;
        self.holds(within, || "I5: more is accepted and not settled than the budget allows".to_owned());
        let handle = Some(handle);
        let record = Accepted { draft, submitter, arrival, handle, outcome: None, first_sent: None, flushed: None };
        self.records.insert(number, record);
    }

    /// Takes the outcomes of all who were woken.
    pub fn take_woken(&mut self, now: Time) {
        let woken = std::mem::take(&mut *self.woken.lock().expect("one thread"));
        for number in woken {
            self.take(now, number);
        }
    }

    /// Takes the outcome of one record, if there is one. Answers whether it is settled.
    fn take(&mut self, now: Time, number: u64) -> bool {
        let Some(record) = self.records.get_mut(&number) else { return true };
        let Some(handle) = &mut record.handle else { return true };
        let Poll::Ready(result) = handle.poll(&mut Context::from_waker(Waker::noop())) else { return false };
        record.handle = None;
        self.outstanding -= 1;
        self.outstanding_bytes -= record.draft.size();
        let ttl = self.configs[record.draft.stream].record_ttl;
        let latest = record.arrival + ttl + self.patience[usize::from(record.first_sent.is_some())];
        let late = now > latest;
        match result {
            Ok(settled) => {
                let outcome = Settled::from(settled).into_result();
                let code =
                    outcome.as_ref().map_or_else(|failure| failure.code().to_string(), |_| "delivered".to_owned());
                record.outcome = Some(outcome);
                *self.codes.entry(code).or_default() += 1;
            }
            Err(_) => self.breaks(format!("I1: record {number} was abandoned")),
        }
        self.holds(!late, || format!("I13: record {number} has its outcome at {now:?}, at the latest {latest:?}"));
        true
    }

    /// Accepted and not settled: records, and their bytes.
    pub fn outstanding_where(&self, counts: impl Fn(&Draft) -> bool) -> (usize, usize) {
        let open = self.records.values().filter(|record| record.handle.is_some() && counts(&record.draft));
        open.fold((0, 0), |(records, bytes), record| (records + 1, bytes + record.draft.size()))
    }

    /// Whether some flush is not done.
    pub fn flush_waits(&self) -> bool {
        !self.flushes.is_empty()
    }

    /// A flush was called for.
    pub fn flush_begins(&mut self, now: Time, token: u64, stream: usize) {
        // One that comes during another waits for it to be done.
        let at_once = !self.flushes.values().any(|(of, _)| *of == stream);
        let mut open = Vec::new();
        for (number, record) in &mut self.records {
            if record.draft.stream == stream && record.handle.is_some() {
                open.push(*number);
                if at_once {
                    record.flushed.get_or_insert(now);
                }
            }
        }
        self.flushes.insert(token, (stream, open));
    }

    /// A flush is said to be done.
    pub fn flush_done(&mut self, now: Time, token: u64) {
        let Some((_, open)) = self.flushes.remove(&token) else {
            return self.breaks(format!("I6: flush {token} is done twice"));
        };
        for number in open {
            let settled = self.take(now, number);
            self.holds(settled, || format!("I6: flush {token} is done, but record {number} has no outcome"));
        }
    }

    /// Nothing will happen any more: every record must have its outcome, every flush its end.
    pub fn nothing_is_left(&mut self, now: Time, flushes_too: bool) {
        self.take_woken(now);
        // A waker that was lost would leave a settled record here.
        let open = self.records.iter().filter(|(_, record)| record.handle.is_some()).map(|(number, _)| *number);
        for number in open.collect::<Vec<_>>() {
            let settled = self.take(now, number);
            let what = if settled { "was settled and nobody was woken" } else { "has no outcome" };
            self.breaks(format!("I1: record {number} {what}"));
        }
        if flushes_too && !self.flushes.is_empty() {
            let tokens: Vec<u64> = self.flushes.keys().copied().collect();
            self.breaks(format!("I6: flushes {tokens:?} are never done"));
        }
    }
}

/// Attempts after which a record may be stored although they failed.
pub fn ambiguous_attempts(outcome: &Result<Delivered, Failure>) -> usize {
    let attempts = match outcome {
        Ok(delivered) => delivered.attempts(),
        Err(failure) => failure.attempts(),
    };
    attempts.iter().filter(|attempt| matches!(attempt.result, AttemptResult::Failed { ambiguous: true, .. })).count()
}
