//! Where a core gathers a stream's samples: one sheet for the stream, and one for each shard.
//!
//! ```text
//!   sample ──▶ of a shard ──▶ the shard's sheet      ┐
//!          └─▶ of none    ──▶ the stream's own sheet ┴─▶ added up when a snapshot is made
//! ```
//!
//! A sample is noted once, as finely as it is known; that it counts on its stream and globally too is seen to by whoever
//! adds up. Nothing here is shared: a core writes its own sheets, and hands them over whole.
//!
//! Bounded whatever the service says: [`SHARDS_MAX`] sheets of shards, and on each sheet [`METRICS_CODES_MAX`] codes.
//! What comes beyond is noted without its shard, or as the code `Other`. A sheet without samples takes 1.2 KB; see
//! [`Statistic`] for what samples add.

use std::sync::Arc;

use super::metric::Metric;
use super::statistic::Statistic;
use crate::limits::{METRICS_CODES_MAX, METRICS_SHARDS_MAX};
use crate::outcome::ErrorCode;

/// Sheets of shards of one stream: those of the most shards that are told apart, before and after all of them were
/// resharded.
pub const SHARDS_MAX: usize = 2 * METRICS_SHARDS_MAX;

/// A statistic for each metric.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    statistics: [Statistic; Metric::COUNT],
    /// Those of [`Metric::ErrorsByCode`], in the order in which the codes first came.
    errors: Vec<(ErrorCode, Statistic)>,
}

impl Sheet {
    /// The statistic of a metric, to note samples on. [`Metric::ErrorsByCode`] has its own way, [`Sheet::error`].
    pub fn of(&mut self, metric: Metric) -> &mut Statistic {
        &mut self.statistics[metric.index()]
    }

    /// An error, by code and in all.
    pub fn error(&mut self, code: &ErrorCode) {
        self.error_statistic(code).record(1);
        self.of(Metric::AllErrors).record(1);
    }

    fn error_statistic(&mut self, code: &ErrorCode) -> &mut Statistic {
        let known = |errors: &[(ErrorCode, Statistic)], code: &ErrorCode| errors.iter().position(|(of, _)| of == code);
        let place = known(&self.errors, code).unwrap_or_else(|| {
            let code = match self.errors.len() {
                ..METRICS_CODES_MAX => code.clone(),
                _ => ErrorCode::Service("Other".into()),
            };
            known(&self.errors, &code).unwrap_or_else(|| {
                self.errors.push((code, Statistic::default()));
                self.errors.len() - 1
            })
        });
        &mut self.errors[place].1
    }

    /// What was noted of a metric.
    pub fn statistic(&self, metric: Metric) -> &Statistic {
        &self.statistics[metric.index()]
    }

    /// The errors by code.
    pub fn errors(&self) -> impl Iterator<Item = &(ErrorCode, Statistic)> {
        self.errors.iter()
    }

    /// Adds all samples of another.
    pub fn merge(&mut self, other: &Sheet) {
        self.statistics.iter_mut().zip(&other.statistics).for_each(|(mine, more)| mine.merge(more));
        other.errors.iter().for_each(|(code, more)| self.error_statistic(code).merge(more));
    }
}

const _: () = assert!(size_of::<Sheet>() <= 1232, "the essay says what a sheet takes");

/// The sheets of one stream.
#[derive(Clone, Debug, Default)]
pub struct StreamSheets {
    /// Of samples that no shard is known for, made when there is one.
    own: Option<Box<Sheet>>,
    /// Ascending by the shards' ids.
    shards: Vec<(Arc<str>, Box<Sheet>)>,
    /// Where the latest shard was, as samples of one shard follow each other.
    latest: usize,
}

impl StreamSheets {
    /// The sheet of a shard, or the stream's own one.
    pub fn at(&mut self, shard: Option<&Arc<str>>) -> &mut Sheet {
        match shard.and_then(|shard| self.place(shard)) {
            Some(place) => {
                self.latest = place;
                &mut self.shards[place].1
            }
            None => self.own.get_or_insert_default(),
        }
    }

    /// The place of a shard's sheet, which is made if there is none; nothing, if there are too many.
    fn place(&mut self, shard: &Arc<str>) -> Option<usize> {
        if self.shards.get(self.latest).is_some_and(|(id, _)| id == shard) {
            return Some(self.latest);
        }
        match self.shards.binary_search_by(|(id, _)| id.cmp(shard)) {
            Ok(place) => Some(place),
            Err(_) if self.shards.len() >= SHARDS_MAX => None,
            Err(place) => {
                self.shards.insert(place, (Arc::clone(shard), Box::default()));
                Some(place)
            }
        }
    }

    /// Adds all samples of another.
    pub fn merge(&mut self, other: &StreamSheets) {
        if let Some(own) = &other.own {
            self.at(None).merge(own);
        }
        other.shards.iter().for_each(|(id, sheet)| self.at(Some(id)).merge(sheet));
    }

    /// All samples of the stream, those of its shards included.
    pub fn total(&self) -> Sheet {
        let mut total = self.own.as_deref().cloned().unwrap_or_default();
        self.shards.iter().for_each(|(_, sheet)| total.merge(sheet));
        total
    }

    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.own.is_none() && self.shards.is_empty()
    }

    /// The shards' sheets, ascending by id.
    pub fn shards(&self) -> impl Iterator<Item = (&Arc<str>, &Sheet)> {
        self.shards.iter().map(|(id, sheet)| (id, &**sheet))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> Arc<str> {
        format!("shardId-{number:012}").into()
    }

    #[test]
    fn a_sample_counts_on_its_shard_and_on_its_stream() {
        let mut sheets = StreamSheets::default();
        for (shard, value) in [(Some(7), 1), (Some(3), 2), (Some(7), 3), (None, 4)] {
            sheets.at(shard.map(id).as_ref()).of(Metric::UserRecordsPut).record(value);
        }
        let sums: Vec<_> =
            sheets.shards().map(|(id, sheet)| (&**id, sheet.statistic(Metric::UserRecordsPut).sum())).collect();
        assert_eq!(sums, [("shardId-000000000003", 2), ("shardId-000000000007", 4)]);
        assert_eq!(sheets.total().statistic(Metric::UserRecordsPut).sum(), 10);
        assert_eq!(sheets.total().statistic(Metric::UserRecordsReceived).count(), 0);
    }

    #[test]
    fn shards_beyond_the_bound_count_on_their_stream_alone() {
        let mut sheets = StreamSheets::default();
        for number in (0..SHARDS_MAX + 50).rev() {
            sheets.at(Some(&id(number))).of(Metric::UserRecordsPut).record(1);
        }
        assert_eq!(sheets.shards().count(), SHARDS_MAX);
        assert!(sheets.shards().map(|(id, _)| id).is_sorted());
        assert_eq!(sheets.total().statistic(Metric::UserRecordsPut).count(), SHARDS_MAX as u64 + 50);
        let mut merged = StreamSheets::default();
        merged.at(Some(&id(0))).of(Metric::UserRecordsPut).record(1);
        merged.merge(&sheets);
        assert_eq!(merged.shards().count(), SHARDS_MAX);
        assert_eq!(merged.total().statistic(Metric::UserRecordsPut).count(), SHARDS_MAX as u64 + 51);
    }

    #[test]
    fn errors_are_told_apart_by_code_up_to_a_bound() {
        let mut sheet = Sheet::default();
        for round in 0..2 {
            for number in 0..METRICS_CODES_MAX + 10 {
                sheet.error(&ErrorCode::Service(format!("Code{number}").into()));
            }
            sheet.error(&ErrorCode::Timeout);
            assert_eq!(sheet.errors().count(), METRICS_CODES_MAX + 1, "round {round}");
        }
        let (other, statistic) = sheet.errors().last().expect("there are some");
        assert_eq!((other.as_str(), statistic.count()), ("Other", 22));
        assert_eq!(sheet.statistic(Metric::AllErrors).sum(), 2 * (METRICS_CODES_MAX as u128 + 11));
        let mut merged = Sheet::default();
        merged.merge(&sheet);
        merged.merge(&sheet);
        assert_eq!(merged.errors().count(), METRICS_CODES_MAX + 1);
        assert_eq!(merged.errors().last().map(|(_, statistic)| statistic.count()), Some(44));
    }
}
