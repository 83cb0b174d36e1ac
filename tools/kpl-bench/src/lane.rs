//! A lane: one thread that puts what its source gives, and counts the outcomes that come back meanwhile.
//!
//! ```text
//!  64 times: next record ─▶ try_put, or put where that is full ─▶ outcome into the queue
//!  then:     reap outcomes, look at the time and at the other lanes
//! ```
//!
//! Lanes share nothing but the ledger, which generated records touch only when one fails. One put of [`PUT_SAMPLE`] is
//! timed and one outcome of [`OUTCOME_SAMPLE`]. A timed put includes a reading of the clock, which the report states,
//! and, where the producer was full, the wait for room.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;
use kpl::error::PutErrorReason;
use kpl::{Outcome, Record, Stream, Submitter, limits};

use crate::clock::{Clock, Latencies};
use crate::lines::{InputError, Lines};
use crate::outcomes::{OutcomeQueue, Reasons, Settled};
use crate::verify::Ledger;
use crate::workload::{Generator, Item, Next, Source};

/// One put of so many is timed.
pub const PUT_SAMPLE: u64 = 8;
/// One outcome of so many is timed, and as often a lane reaps outcomes and looks at the time.
pub const OUTCOME_SAMPLE: u64 = 64;

/// How long a lane rests at most that is ahead of its rate.
const PACE: Duration = Duration::from_millis(1);

/// What all lanes of a run have in common.
pub struct Run<'r> {
    pub clock: Clock,
    /// Set by a lane that cannot go on, read by all: partners in [`Lane::is_over`] and where it is set.
    pub stop: AtomicBool,
    pub duration: Option<Duration>,
    /// How long a lane waits for a next outcome at the end.
    pub patience: Duration,
    pub stream: &'r Stream,
    pub ledger: &'r Ledger,
    /// How many there are.
    pub lanes: usize,
    /// Records a second that each lane puts; as fast as they are taken if there is none.
    pub rate: Option<f64>,
    /// Whether sampled outcomes are kept one by one.
    pub keep_samples: bool,
}

/// One of the two kinds of source.
pub enum AnySource {
    Generated(Generator),
    Lines(Lines),
}

/// What came of a lane's records.
#[derive(Default)]
pub struct LaneEnd {
    /// Records that were tried.
    pub tried: u64,
    /// Of these, accepted.
    pub put: u64,
    /// Puts that found the producer full.
    pub waits: u64,
    pub refusals: Reasons,
    pub put_latencies: Latencies,
    pub settled: Settled,
    pub input_fault: Option<InputError>,
}

/// A lane at work, on its own thread.
pub struct Lane<'r> {
    run: &'r Run<'r>,
    submitter: Submitter,
    outcomes: OutcomeQueue<'r, Outcome>,
    /// When putting began, and when it ends, on the run's clock.
    begun: Duration,
    deadline: Option<Duration>,
    end: LaneEnd,
}

impl<'r> Lane<'r> {
    /// A lane of the calling thread; its duration begins.
    pub fn new(run: &'r Run<'r>, submitter: Submitter) -> Lane<'r> {
        let mut outcomes = OutcomeQueue::new(run.clock, run.ledger, limits::OUTSTANDING_RECORDS_DEFAULT, run.lanes);
        if run.keep_samples {
            outcomes.keep_samples();
        }
        let begun = run.clock.elapsed();
        let deadline = run.duration.map(|duration| begun + duration);
        Lane { run, submitter, outcomes, begun, deadline, end: LaneEnd::default() }
    }

    /// Puts everything, drops `done` to say so, and waits for the outcomes.
    pub fn run(mut self, source: AnySource, done: Sender<()>) -> LaneEnd {
        let put = match source {
            AnySource::Generated(generator) => self.put_all(generator),
            AnySource::Lines(lines) => self.put_all(lines),
        };
        if let Err(fault) = put {
            // Relaxed, as its partner in `is_over`: it is a hint to hurry, nothing is read under it.
            self.run.stop.store(true, Ordering::Relaxed);
            self.end.input_fault = Some(fault);
        }
        drop(done);
        self.end.settled = self.outcomes.drain(self.run.patience);
        self.end
    }

    fn put_all(&mut self, mut source: impl Source) -> Result<(), InputError> {
        loop {
            self.outcomes.reap();
            if self.is_over() {
                return Ok(());
            }
            let due = self.due();
            if due == 0 {
                // An outcome may wake us earlier, and is then reaped.
                std::thread::park_timeout(PACE);
            }
            for _ in 0..due {
                match source.next()? {
                    Next::Item(item) => self.put(&item),
                    Next::Idle => break,
                    Next::End => return Ok(()),
                }
            }
        }
    }

    /// How many records to put before the next look at everything else.
    fn due(&self) -> u64 {
        let Some(rate) = self.run.rate else { return OUTCOME_SAMPLE };
        let elapsed = self.run.clock.elapsed().saturating_sub(self.begun);
        ((elapsed.as_secs_f64() * rate) as u64).saturating_sub(self.end.tried).min(OUTCOME_SAMPLE)
    }

    fn is_over(&self) -> bool {
        // Relaxed, as its partners, which set it.
        self.run.stop.load(Ordering::Relaxed)
            || self.deadline.is_some_and(|deadline| self.run.clock.elapsed() >= deadline)
    }

    fn put(&mut self, item: &Item<'_>) {
        let turn = self.end.tried % OUTCOME_SAMPLE;
        let timed = turn.is_multiple_of(PUT_SAMPLE);
        let begun_ns = if timed { self.run.clock.now_ns() } else { 0 };
        let record = Record::new(item.key, item.data);
        let mut result = self.submitter.try_put(self.run.stream, record);
        if result.as_ref().is_err_and(|refused| refused.reason == PutErrorReason::Full) {
            self.end.waits += 1;
            result = self.submitter.put(self.run.stream, record);
        }
        if timed {
            self.end.put_latencies.record(self.run.clock.now_ns() - begun_ns);
        }
        self.end.tried += 1;
        match result {
            Ok(outcome) => {
                self.end.put += 1;
                self.run.ledger.accepted(item.tag);
                self.outcomes.push(outcome, item.tag, (turn == 0).then_some(begun_ns));
            }
            Err(refused) => self.refused(item, &refused.reason),
        }
    }

    fn refused(&mut self, item: &Item<'_>, reason: &PutErrorReason) {
        self.run.ledger.refused(item.tag);
        // The name of the reason, without its fields.
        let name = format!("{reason:?}");
        let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        self.end.refusals.note(name, format_args!("record {}: {reason}", item.number));
        let of_this_record =
            matches!(reason, PutErrorReason::InvalidPartitionKey { .. } | PutErrorReason::RecordTooLarge { .. });
        if !of_this_record {
            // Relaxed, as its partner in `is_over`. No other record will fare better.
            self.run.stop.store(true, Ordering::Relaxed);
        }
    }
}
