//! The checker: knows what was accepted, looks at every request, every outcome and at last at every shard, and says which
//! promise (`promise`) was broken. It shares no code with the engine or the codec.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use kpl::config::Config;
use kpl::outcome::{AttemptResult, Delivered, ErrorCode, Failure, Settled, Settlement};
use kpl::ring::Handle;
use kpl::time::Time;

use crate::drain::Drain;
use crate::outage::Watch;
use crate::promise::{Checked, Promise};
use crate::source::Draft;
use crate::submitters::NOWHERE;

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
    /// When that was taken.
    pub settled: Time,
    /// When it was first sent.
    pub first_sent: Option<Time>,
    /// When the first flush that began at once and covers it was called for.
    pub flushed: Option<Time>,
    /// The core that its shard belongs to.
    pub owner: usize,
    /// How often it was sent.
    pub sent: usize,
    /// How often that came to nothing which need not be told of: it is no attempt.
    pub excused: usize,
    /// Whether an answer may have told of it what belongs to another: its results were in another order.
    pub misnamed: bool,
    /// Whether it was wrapped, and placed by chance when its core knew no shards to judge that by.
    pub unjudgeable: bool,
    /// Whether a request was refused for a poison record that it may have to fail with, and how many for its own
    /// Kinesis record.
    pub tainted: bool,
    /// See `tainted`.
    pub refused: usize,
    /// By when it is to be delivered, if the faults have healed.
    pub due: Option<Time>,
    /// The shard that it belongs to, by the service's number.
    place: usize,
}

/// Where a record belongs when it is put.
#[derive(Clone, Copy)]
pub struct Destination {
    /// The shard, by the service's number.
    pub place: usize,
    /// The core that has it.
    pub owner: usize,
}

/// Records and bytes, by stream and shard.
type Held = BTreeMap<(usize, usize), (usize, usize)>;

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
    /// By stream and shard: records and bytes that are accepted and not settled.
    by_shard: Held,
    /// By token: the stream, and the records that it waits for.
    flushes: BTreeMap<u64, (usize, Vec<u64>)>,
    /// Flushes that were called for.
    pub flushes_begun: u64,
    /// Flushes that were said to be done.
    pub flushes_done: u64,
    /// What was accepted: bytes of data and partition key.
    pub accepted_bytes: u64,
    /// Who has something to send.
    pub watch: Watch,
    /// What is to be delivered once faults have healed.
    pub drain: Option<Drain>,
    /// How often each promise was checked.
    pub checked: Checked,
    /// Whether there are poison records, and nothing else is called invalid.
    pub poison: bool,
    /// Records and bytes that a shard may hold, where that can be told.
    pub backlog_max: Option<(usize, usize)>,
    /// By stream and shard: records and bytes that were settled at the moment that is noted.
    settled_at: (Time, Held),
    /// Whether the endpoint takes no large request.
    pub body_limited: bool,
    /// Streams that count as AUTO, or once did: all cores, and all their records, share one rate there.
    pub scattered: BTreeSet<usize>,
    /// How many cores there are.
    pub cores: u32,
    /// Streams that were deleted, and created again.
    pub deleted: BTreeSet<usize>,
    /// Sequence numbers of aggregates that are where no consumer sees them, by stream, and whose core could not know.
    pub excused: BTreeSet<(usize, String)>,
    /// By stream: when its first record was put.
    pub first_put: BTreeMap<usize, Time>,
    /// Copies of records beyond the first, and ambiguous attempts, which explain them.
    pub duplicates: (u64, u64),
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
            by_shard: Held::new(),
            flushes: BTreeMap::new(),
            flushes_begun: 0,
            flushes_done: 0,
            accepted_bytes: 0,
            watch: Watch::default(),
            drain: None,
            checked: Checked::default(),
            poison: false,
            backlog_max: None,
            settled_at: (Time::ZERO, Held::new()),
            body_limited: false,
            scattered: BTreeSet::new(),
            cores: 1,
            deleted: BTreeSet::new(),
            excused: BTreeSet::new(),
            first_put: BTreeMap::new(),
            duplicates: (0, 0),
            codes: BTreeMap::new(),
            broken: Vec::new(),
            patience,
        }
    }

    /// Notes that a promise was broken.
    pub fn breaks(&mut self, promise: Promise, text: String) {
        self.holds(promise, false, || text);
    }

    /// Notes that a promise was looked at, and that it was broken unless `kept`.
    pub fn holds(&mut self, promise: Promise, kept: bool, text: impl FnOnce() -> String) {
        self.checked.note(promise);
        if !kept {
            self.broken.push(format!("{promise:?}: {}", text()));
        }
    }

    /// A record was accepted.
    pub fn accept(
        &mut self,
        number: u64,
        draft: Draft,
        (submitter, Destination { place, owner }): (usize, Destination),
        arrival: Time,
        mut handle: Handle<Arc<Settlement>>,
    ) {
        let waker = Waker::from(Arc::new(Woken { number, list: Arc::clone(&self.woken) }));
        let pending = handle.poll(&mut Context::from_waker(&waker)).is_pending();
        self.holds(Promise::I1, pending, || format!("record {number} is settled before it was pushed"));
        self.outstanding += 1;
        self.outstanding_bytes += draft.size();
        self.accepted_bytes += draft.size() as u64;
        // The configuration is the producer's in these fields.
        let (records_max, bytes_max) = (self.configs[0].max_outstanding_records, self.configs[0].max_outstanding_bytes);
        let within = self.outstanding <= records_max && self.outstanding_bytes <= bytes_max;
        self.holds(Promise::I5, within, || "more is accepted and not settled than the budget allows".to_owned());
        let held = self.by_shard.entry((draft.stream, place)).or_default();
        (held.0, held.1) = (held.0 + 1, held.1 + draft.size());
        self.first_put.entry(draft.stream).or_insert(arrival);
        self.watch.came(arrival, owner, draft.stream);
        let mut record = Accepted {
            draft,
            submitter,
            arrival,
            handle: Some(handle),
            outcome: None,
            settled: Time::NEVER,
            first_sent: None,
            flushed: None,
            owner,
            sent: 0,
            excused: 0,
            misnamed: false,
            unjudgeable: false,
            tainted: false,
            refused: 0,
            due: None,
            place,
        };
        record.due = self.due_of(&record, arrival);
        self.records.insert(number, record);
    }

    /// Shards have other owners: who has something to send is another, too.
    pub fn reowned(&mut self, now: Time, stream: usize, owner: impl Fn(u128) -> usize) {
        let open = self.records.values_mut().filter(|record| record.draft.stream == stream && record.handle.is_some());
        for record in open {
            if let Some(hash) = record.draft.hash() {
                self.watch.went(now, record.owner, stream);
                record.owner = owner(hash);
                self.watch.came(now, record.owner, stream);
            }
        }
    }

    /// By when a record that waits at `now` is to be delivered, if the faults have healed and it does not expire before.
    fn due_of(&self, record: &Accepted, now: Time) -> Option<Time> {
        let drain = self.drain.as_ref()?;
        let config = &self.configs[record.draft.stream];
        // Of a record without a key nobody knows the shard: it may be behind all there is.
        let all = (self.outstanding, self.outstanding_bytes);
        let stream = record.draft.stream;
        let scattered = self.scattered.contains(&stream);
        // What no list will ever tell of holds up an ordered stream, and AUTO ends it.
        if config.ordered && (scattered || self.deleted.contains(&stream)) {
            return None;
        }
        let (known, unknown) = (self.held_by(stream, record.place), self.held_by(stream, NOWHERE));
        let behind_all = record.draft.unkeyed || scattered;
        let shard = if behind_all { all } else { (known.0 + unknown.0, known.1 + unknown.1) };
        let sharers = if scattered { self.cores } else { 1 };
        let due = drain.due(now, config, shard, all, sharers);
        (due < record.arrival + config.record_ttl).then_some(due)
    }

    /// Faults have healed, and what had been under way before has ended. From now on records have `places`.
    pub fn faults_healed(&mut self, now: Time, drain: Drain, place: impl Fn(&Draft) -> usize) {
        self.drain = Some(drain);
        self.by_shard.clear();
        let open = self.records.iter().filter(|(_, record)| record.handle.is_some());
        let numbers: Vec<u64> = open.map(|(number, _)| *number).collect();
        for number in &numbers {
            let Some(record) = self.records.get_mut(number) else { continue };
            record.place = place(&record.draft);
            let held = self.by_shard.entry((record.draft.stream, record.place)).or_default();
            (held.0, held.1) = (held.0 + 1, held.1 + record.draft.size());
        }
        for number in numbers {
            let due = self.records.get(&number).and_then(|record| self.due_of(record, now));
            if let Some(record) = self.records.get_mut(&number) {
                record.due = due;
            }
        }
    }

    /// Takes the outcomes of all who were woken.
    pub fn take_woken(&mut self, now: Time) {
        let woken = std::mem::take(&mut *self.woken.lock().expect("one thread"));
        for number in woken {
            self.take(now, number);
        }
    }

    /// I15: what is refused for its shard's backlog finds so much there, at the beginning of the moment at the latest.
    fn check_refusal(&mut self, now: Time, number: u64, (place, size): ((usize, usize), usize), throttled: bool) {
        if self.settled_at.0 != now {
            self.settled_at = (now, Held::new());
        }
        let settled = self.settled_at.1.entry(place).or_default();
        let (held, unknown) = (self.by_shard.get(&place), self.by_shard.get(&(place.0, NOWHERE)));
        let sum = |of: fn(&(usize, usize)) -> usize| of(settled) + held.map_or(0, of) + unknown.map_or(0, of);
        let (records, bytes) = (sum(|held| held.0), sum(|held| held.1));
        (settled.0, settled.1) = (settled.0 + 1, settled.1 + size);
        if let Some((most, most_bytes)) = self.backlog_max.filter(|_| throttled && place.1 != NOWHERE) {
            self.holds(Promise::I15, records > most || bytes > most_bytes, || {
                let held = format!("{records} records and {bytes} bytes are held");
                format!("record {number} is refused where {held}, {most} and {most_bytes} may be")
            });
        }
    }

    /// Takes the outcome of one record, if there is one. Answers whether it is settled.
    fn take(&mut self, now: Time, number: u64) -> bool {
        let Some(record) = self.records.get_mut(&number) else { return true };
        let Some(handle) = &mut record.handle else { return true };
        let Poll::Ready(result) = handle.poll(&mut Context::from_waker(Waker::noop())) else { return false };
        record.handle = None;
        record.settled = now;
        let refusal = |(settlement, _): &(Arc<Settlement>, u32)| {
            settlement.failure.as_ref().is_some_and(|(code, _)| *code == ErrorCode::Throttled)
        };
        let throttled = result.as_ref().is_ok_and(refusal);
        let place = ((record.draft.stream, record.place), record.draft.size());
        self.check_refusal(now, number, place, throttled);
        let Some(record) = self.records.get_mut(&number) else { return true };
        self.outstanding -= 1;
        self.outstanding_bytes -= record.draft.size();
        if let Some(held) = self.by_shard.get_mut(&(record.draft.stream, record.place)) {
            (held.0, held.1) = (held.0 - 1, held.1 - record.draft.size());
        }
        self.watch.went(now, record.owner, record.draft.stream);
        let ttl = self.configs[record.draft.stream].record_ttl;
        let latest = record.arrival + ttl + self.patience[usize::from(record.first_sent.is_some())];
        let late = now > latest;
        match result {
            Ok(settled) => {
                let outcome = Settled::from(settled).into_result();
                let code =
                    outcome.as_ref().map_or_else(|failure| failure.code().to_string(), |_| "delivered".to_owned());
                let judged = self
                    .drain
                    .as_ref()
                    .zip(record.due)
                    .filter(|(drain, _)| drain.judges(&outcome, record.arrival, record.tainted));
                let delivered = outcome.is_ok();
                record.outcome = Some(outcome);
                *self.codes.entry(code.clone()).or_default() += 1;
                if let Some((_, due)) = judged {
                    self.holds(Promise::I18, delivered && now <= due, || {
                        format!("record {number}: {code} at {now:?}, to be delivered by {due:?}")
                    });
                }
                self.checked.note(Promise::I1);
            }
            Err(_) => self.breaks(Promise::I1, format!("record {number} was abandoned")),
        }
        self.holds(Promise::I13, !late, || {
            format!("record {number} has its outcome at {now:?}, at the latest {latest:?}")
        });
        true
    }

    /// What a shard's records that are accepted and not settled come to: how many, and their bytes.
    pub fn held_by(&self, stream: usize, place: usize) -> (usize, usize) {
        self.by_shard.get(&(stream, place)).copied().unwrap_or_default()
    }

    /// What the records of every shard that is known come to, alike.
    pub fn held_by_shards(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.by_shard.iter().filter(|((_, place), _)| *place != NOWHERE).map(|(_, held)| *held)
    }

    /// Whether some flush is not done.
    pub fn flush_waits(&self) -> bool {
        !self.flushes.is_empty()
    }

    /// A flush was called for.
    pub fn flush_begins(&mut self, now: Time, token: u64, stream: usize) {
        self.flushes_begun += 1;
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
            return self.breaks(Promise::I6, format!("flush {token} is done twice"));
        };
        self.flushes_done += 1;
        self.checked.note(Promise::I6);
        for number in open {
            let settled = self.take(now, number);
            self.holds(Promise::I6, settled, || format!("flush {token} is done, but record {number} has no outcome"));
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
            self.breaks(Promise::I1, format!("record {number} {what}"));
        }
        if flushes_too && !self.flushes.is_empty() {
            let tokens: Vec<u64> = self.flushes.keys().copied().collect();
            self.breaks(Promise::I6, format!("flushes {tokens:?} are never done"));
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
