//! Meter: adds up what the cores measure, for whoever asks.
//!
//! ```text
//!   cores ── Event::Measured ──▶ handed over ── sorted in ──▶ since the start   ──▶ Producer::metrics
//!     ▲                                              └──────▶ since the upload  ──▶ sink, if there is one
//!     └── Command::Measures ── whoever asks
//! ```
//!
//! Cores gather in their own memory and hand it over when they are asked, and when they end; adding up is done here, on
//! the asker's thread. What a core hands over too late for its asker is there for the next one. A core that fails takes
//! with it what it had not handed over.
//!
//! Pending records are sampled here too, from the tallies of all cores, so that no core has to wake for it: once for each
//! snapshot that is asked for, and every [`METRICS_SAMPLE_EVERY`](crate::limits::METRICS_SAMPLE_EVERY) while there is a
//! sink.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use crossbeam_channel as channel;

use super::uploads::Uploads;
use super::{Shared, StreamState, lock};
use crate::config::{Config, MetricsLevel};
use crate::limits::COMMAND_WAIT;
use crate::metrics::{Metric, MetricsSnapshot, SnapshotTerms, StreamSheets, StreamTally};
use crate::record::{StreamId, StreamName};
use crate::runtime::command::Command;
use crate::time::Time;

/// What the cores hand over: by stream, what was measured.
type Measured = Vec<(StreamId, StreamSheets)>;

/// See the essay.
pub(crate) struct Meter {
    terms: SnapshotTerms,
    /// What cores have handed over and nobody has sorted in. It grows by one entry for each core and question.
    handed_over: Mutex<Vec<Measured>>,
    totals: Mutex<Totals>,
    /// The thread that calls the sink, once it runs.
    pub(super) uploads: OnceLock<Uploads>,
}

/// By [`StreamId`].
#[derive(Default)]
struct Totals {
    since_start: Vec<StreamSheets>,
    /// Stays empty without a sink.
    since_upload: Vec<StreamSheets>,
    /// When the latest upload that was taken was put together.
    uploaded: Time,
    has_sink: bool,
}

impl Totals {
    fn each(&mut self, stream: StreamId, add: impl Fn(&mut StreamSheets)) {
        add(sheets(&mut self.since_start, stream));
        if self.has_sink {
            add(sheets(&mut self.since_upload, stream));
        }
    }
}

fn sheets(all: &mut Vec<StreamSheets>, stream: StreamId) -> &mut StreamSheets {
    if all.len() <= stream.index() {
        all.resize_with(stream.index() + 1, StreamSheets::default);
    }
    &mut all[stream.index()]
}

impl Meter {
    pub(super) fn new(config: &Config) -> Meter {
        let terms = SnapshotTerms {
            level: config.metrics_level,
            granularity: config.metrics_granularity,
            namespace: config.metrics_namespace.as_str().into(),
            dimensions: config.metrics_dimensions.as_slice().into(),
        };
        Meter { terms, handed_over: Mutex::default(), totals: Mutex::default(), uploads: OnceLock::new() }
    }

    /// Whether anything is measured.
    pub(super) fn is_on(&self) -> bool {
        self.terms.level > MetricsLevel::None
    }

    /// From now on there is a sink.
    pub(super) fn begin_uploads(&self, now: Time) {
        let mut totals = lock(&self.totals);
        (totals.has_sink, totals.uploaded) = (true, now);
    }

    /// A core hands over; on its thread.
    pub(super) fn hand_over(&self, measured: Measured) {
        if !measured.is_empty() {
            lock(&self.handed_over).push(measured);
        }
    }

    fn sort_in(&self, totals: &mut Totals) {
        for (stream, measured) in std::mem::take(&mut *lock(&self.handed_over)).into_iter().flatten() {
            totals.each(stream, |sheets| sheets.merge(&measured));
        }
    }
}

impl Shared {
    /// The metrics since the start.
    pub(crate) fn metrics(&self) -> MetricsSnapshot {
        let now = self.clock.now();
        // In a fork the locks may be held by threads that are not here.
        if self.origin.is_elsewhere() || !self.meter.is_on() {
            return MetricsSnapshot::new(&self.meter.terms, unix_ms(), now.since(Time::ZERO), []);
        }
        self.gather();
        self.sample_pending();
        let mut totals = lock(&self.meter.totals);
        self.meter.sort_in(&mut totals);
        self.snapshot(&totals.since_start, now.since(Time::ZERO))
    }

    /// Lets `upload` have what was gathered since the latest upload. What it does not take is kept for the next, together
    /// with what comes until then.
    pub(super) fn upload(&self, upload: impl FnOnce(&MetricsSnapshot) -> bool) {
        self.gather();
        let now = self.clock.now();
        let mut totals = lock(&self.meter.totals);
        self.meter.sort_in(&mut totals);
        let began = totals.uploaded;
        let sheets = std::mem::take(&mut totals.since_upload);
        drop(totals);
        let snapshot = self.snapshot(&sheets, now.since(began));
        if snapshot.samples().is_empty() || upload(&snapshot) {
            lock(&self.meter.totals).uploaded = now;
            return;
        }
        let mut totals = lock(&self.meter.totals);
        let since = std::mem::replace(&mut totals.since_upload, sheets);
        for (number, more) in since.iter().enumerate() {
            self::sheets(&mut totals.since_upload, StreamId(number as u32)).merge(more);
        }
    }

    /// Has every core hand over what it has; one that does not answer in time does later.
    fn gather(&self) {
        let (asker, answers) = channel::bounded(self.commands.len());
        self.command_all(|| Command::Measures(asker.clone()));
        drop(asker);
        // A core that has ended has handed over, and drops its asker.
        while answers.recv_timeout(COMMAND_WAIT).is_ok() {}
    }

    /// Notes how many records of each stream are pending now.
    pub(super) fn sample_pending(&self) {
        let streams: Vec<_> = lock(&self.streams).clone();
        let mut totals = lock(&self.meter.totals);
        for stream in streams {
            let pending = StreamTally::pending(stream.tallies.iter());
            totals.each(stream.id, |sheets| sheets.at(None).of(Metric::UserRecordsPending).record(pending));
        }
    }

    fn snapshot(&self, sheets: &[StreamSheets], period: Duration) -> MetricsSnapshot {
        let names: Vec<Arc<str>> = lock(&self.streams).iter().map(|stream| name(stream)).collect();
        // Streams are known here before any core knows them.
        MetricsSnapshot::new(&self.meter.terms, unix_ms(), period, names.into_iter().zip(sheets))
    }
}

/// The name of a stream in metrics, also of one that was opened by its ARN.
fn name(stream: &StreamState) -> Arc<str> {
    match &stream.name {
        StreamName::Name(name) => name.as_str().into(),
        StreamName::Arn(arn) => arn.rsplit('/').next().unwrap_or(arn).into(),
    }
}

/// The time of day.
fn unix_ms() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}
