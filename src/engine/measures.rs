//! Measures: what one stream on one core adds to the KPL's metrics.
//!
//! ```text
//!   accept ─▶ received        request ended ─▶ request, and each entry        settled ─▶ batch, or record alone
//!                 └──────────────────────────────┴──────────────────────────────────┘
//!                                                ▼ the core's own sheets ── take ─▶ whoever asks
//! ```
//!
//! Plain data that only this core writes: a request and a Kinesis record are some additions each, found by the shard's
//! id. A user record adds to its core's count when it comes in, and to its batch's sums of bytes; what is told of its
//! times is told for whole runs of records that arrived together. The sheets are handed over whole, so that what was
//! gathered since the start is added up by whoever asks and not here.
//!
//! What each metric counts stands at [`Metric`]. A sample is the predicted shard's, or the one's that stored the
//! record. Where there are more open shards than [`METRICS_SHARDS_MAX`] it is the stream's.

use std::sync::Arc;
use std::time::Duration;

use super::batch::{Batch, DataBytes, Removed};
use super::shard_map::ShardMap;
use crate::config::{Config, MetricsGranularity, MetricsLevel};
use crate::limits::METRICS_SHARDS_MAX;
use crate::metrics::{Metric, Sheet, StreamSheets};
use crate::outcome::{Attempt, AttemptResult, ErrorCode};
use crate::time::Time;

/// See the essay.
pub struct Measures {
    /// Whether anything is gathered.
    on: bool,
    /// Whether shards are to be told apart.
    by_shard: bool,
    /// Whether the present map has few enough of them for that.
    few_shards: bool,
    sheets: StreamSheets,
    /// Records that came from this core's rings, ever; of these, those that sheets have told, and that were tallied.
    received: u64,
    received_told: u64,
    received_tallied: u64,
    /// Records that were settled here since they were last tallied.
    settled_untallied: u64,
}

impl Measures {
    /// As `metrics_level` and `metrics_granularity` say.
    pub fn new(config: &Config) -> Measures {
        Measures {
            on: config.metrics_level > MetricsLevel::None,
            by_shard: config.metrics_granularity >= MetricsGranularity::Shard,
            few_shards: true,
            sheets: StreamSheets::default(),
            received: 0,
            received_told: 0,
            received_tallied: 0,
            settled_untallied: 0,
        }
    }

    /// A map with so many open shards is in use now.
    pub fn mapped(&mut self, shards: usize) {
        self.few_shards = shards <= METRICS_SHARDS_MAX;
    }

    /// A user record came.
    pub fn received(&mut self) {
        self.received += 1;
    }

    /// A request has ended, after this time; with this error, if it failed whole.
    pub fn request_ended(&mut self, took: Duration, batches: &[Box<Batch>], failure: Option<&ErrorCode>) {
        if !self.on {
            return;
        }
        let mut user_records = 0;
        for batch in batches {
            let records = batch.tickets.len() as u64;
            user_records += records;
            self.sheet(batch.predicted.as_ref()).of(Metric::UserRecordsPerKinesisRecord).record(records);
        }
        let sheet = self.sheet(None);
        sheet.of(Metric::RequestTime).record(micros(took));
        sheet.of(Metric::KinesisRecordsPerPutRecordsRequest).record(batches.len() as u64);
        sheet.of(Metric::UserRecordsPerPutRecordsRequest).record(user_records);
        if let Some(code) = failure {
            sheet.error(code);
        }
    }

    /// The service stored a Kinesis record, wherever.
    pub fn stored(&mut self, batch: &Batch) {
        if self.on {
            let sheet = self.sheet(batch.predicted.as_ref());
            sheet.of(Metric::KinesisRecordsPut).record(1);
            sheet.of(Metric::KinesisRecordsDataPut).record(batch.payload_bytes());
            sheet.of(Metric::AllErrors).record(0);
        }
    }

    /// The service refused a Kinesis record.
    pub fn refused(&mut self, batch: &Batch, code: &ErrorCode) {
        if self.on {
            let sheet = self.sheet(batch.predicted.as_ref());
            sheet.of(Metric::KinesisRecordsPut).record(0);
            sheet.error(code);
        }
    }

    /// All members of a batch are settled; with this code, if they failed.
    pub fn settled(&mut self, batch: &Batch, failure: Option<&ErrorCode>) {
        let records = batch.tickets.len() as u64;
        self.settled_untallied += records;
        if !self.on {
            return;
        }
        let shard = match (failure, batch.attempts.last()) {
            (None, Some(Attempt { result: AttemptResult::Stored { shard_id, .. }, .. })) => Some(shard_id),
            _ => batch.predicted.as_ref(),
        };
        let sheet = self.sheet(shard);
        end(sheet, records, failure);
        if failure.is_none() {
            let DataBytes { bytes, least, most } = batch.data;
            sheet.of(Metric::UserRecordsDataPut).record_group(records, bytes.into(), least.into(), most.into());
        }
        let mut prior = batch.prior.iter().peekable();
        let mut place = 0;
        for (arrival, _, count) in batch.arrivals.runs() {
            place += count;
            let arrival = arrival.max(batch.arrivals.oldest());
            let mut alike = count as u64;
            while let Some((_, earlier)) = prior.next_if(|(at, _)| (*at as usize) < place) {
                alike -= 1;
                attempts(sheet, arrival, earlier.iter().chain(&batch.attempts), 1);
            }
            attempts(sheet, arrival, batch.attempts.iter(), alike);
        }
    }

    /// A record failed by itself; `shard` is its predicted one, if it had one.
    pub fn failed(&mut self, shard: Option<&Arc<str>>, removed: &Removed, code: &ErrorCode) {
        self.settled_untallied += 1;
        if self.on {
            let sheet = self.sheet(shard);
            end(sheet, 1, Some(code));
            attempts(sheet, removed.arrival, removed.prior.iter().flat_map(|prior| prior.iter()), 1);
        }
    }

    fn sheet(&mut self, shard: Option<&Arc<str>>) -> &mut Sheet {
        let is_told = |shard: &&Arc<str>| self.by_shard && self.few_shards && ShardMap::is_shard_id(shard);
        self.sheets.at(shard.filter(is_told))
    }

    /// What was gathered since the last call; nothing, if that is nothing.
    pub fn take(&mut self) -> Option<StreamSheets> {
        let received = self.received - std::mem::replace(&mut self.received_told, self.received);
        if self.on && received > 0 {
            self.sheet(None).of(Metric::UserRecordsReceived).record_many(1, received);
        }
        Some(std::mem::take(&mut self.sheets)).filter(|sheets| !sheets.is_empty())
    }

    /// Records that came, and records that were settled, since the last call; nothing, if neither did.
    pub fn take_tally(&mut self) -> Option<(u64, u64)> {
        let received = self.received - std::mem::replace(&mut self.received_tallied, self.received);
        let settled = std::mem::take(&mut self.settled_untallied);
        (received > 0 || settled > 0).then_some((received, settled))
    }
}

/// So many user records ended.
fn end(sheet: &mut Sheet, records: u64, failure: Option<&ErrorCode>) {
    sheet.of(Metric::UserRecordsPut).record_many(u64::from(failure.is_none()), records);
    if failure == Some(&ErrorCode::Expired) {
        sheet.of(Metric::UserRecordExpired).record_many(1, records);
    }
}

/// So many user records with the same arrival had these attempts.
fn attempts<'a>(sheet: &mut Sheet, arrival: Time, attempts: impl Iterator<Item = &'a Attempt>, records: u64) {
    let (mut since, mut made) = (arrival, 0_u64);
    for attempt in attempts {
        sheet.of(Metric::BufferingTime).record_many(micros(attempt.began.since(since)), records);
        since = attempt.ended;
        made += 1;
    }
    sheet.of(Metric::RetriesPerRecord).record_many(made.saturating_sub(1), records);
}

fn micros(time: Duration) -> u64 {
    time.as_micros() as u64 // a difference of two `Time`s fits
}

#[cfg(test)]
mod tests;
