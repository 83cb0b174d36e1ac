//! A snapshot: what was gathered in a period of time, by metric and place.
//!
//! ```text
//!   global ─┬─ stream ─┬─ shard      each place has the samples of the places below it too
//!           │          └─ shard
//!           └─ stream ─── …
//! ```
//!
//! Each place has its errors by code besides. Level and granularity decide what is told: level `Summary` leaves the
//! detailed metrics out, and granularity `Stream` the shards. A metric without samples in a place is not told there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::metric::Metric;
use super::sheet::{Sheet, StreamSheets};
use super::statistic::Statistic;
use crate::config::{MetricsGranularity, MetricsLevel};
use crate::outcome::ErrorCode;

/// What decides which samples a snapshot tells, and under which name.
#[derive(Clone, Debug)]
pub struct SnapshotTerms {
    /// Which metrics.
    pub level: MetricsLevel,
    /// How fine.
    pub granularity: MetricsGranularity,
    /// In which namespace.
    pub namespace: Arc<str>,
    /// With which further dimensions on all.
    pub dimensions: Arc<[(String, String)]>,
}

/// Where samples were taken: of a shard, of a stream with all its shards, or of the whole producer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The code, for [`Metric::ErrorsByCode`].
    pub error: Option<ErrorCode>,
    /// The stream's name.
    pub stream: Option<Arc<str>>,
    /// The shard's id.
    pub shard: Option<Arc<str>>,
}

impl Place {
    /// The KPL's dimensions, in its order: `ErrorCode`, `StreamName`, `ShardId`, those that there are.
    pub fn dimensions(&self) -> impl Iterator<Item = (&str, &str)> {
        let error = self.error.as_ref().map(|code| ("ErrorCode", code.as_str()));
        let stream = self.stream.as_deref().map(|name| ("StreamName", name));
        let shard = self.shard.as_deref().map(|id| ("ShardId", id));
        [error, stream, shard].into_iter().flatten()
    }
}

/// The samples of one metric in one place. Values are in the metric's unit.
#[derive(Clone, Debug)]
pub struct MetricSample {
    metric: Metric,
    place: Place,
    statistic: Statistic,
}

impl MetricSample {
    /// Which metric.
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Where.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// How many samples there were; at least one.
    pub fn count(&self) -> u64 {
        self.statistic.count()
    }

    /// The sum of their values.
    pub fn sum(&self) -> f64 {
        self.statistic.sum() as f64 / f64::from(self.metric.unit().grains())
    }

    /// The mean of their values.
    pub fn mean(&self) -> f64 {
        self.sum() / self.count() as f64
    }

    /// The least value.
    pub fn min(&self) -> f64 {
        self.in_unit(self.statistic.min().unwrap_or(0))
    }

    /// The greatest value.
    pub fn max(&self) -> f64 {
        self.in_unit(self.statistic.max().unwrap_or(0))
    }

    /// The value that `percent` percent of the samples do not exceed, at most 6.25 % away from the true one. Of
    /// [`Metric::UserRecordsDataPut`], the members of one aggregate are taken for their mean.
    pub fn percentile(&self, percent: f64) -> f64 {
        self.in_unit(self.statistic.percentile(percent).unwrap_or(0))
    }

    /// Values that stand for the samples, ascending, and how many each stands for; as exact as percentiles.
    pub fn values(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        self.statistic.values().map(|(value, count)| (self.in_unit(value), count))
    }

    fn in_unit(&self, grains: u64) -> f64 {
        grains as f64 / f64::from(self.metric.unit().grains())
    }
}

/// The KPL's metrics of a producer, over a period of time. `Display` shows them as a table.
#[derive(Clone, Debug)]
pub struct MetricsSnapshot {
    unix_ms: u64,
    period: Duration,
    namespace: Arc<str>,
    dimensions: Arc<[(String, String)]>,
    samples: Vec<MetricSample>,
}

impl MetricsSnapshot {
    /// Of these streams, by their names; a name may come more than once.
    pub fn new<'a>(
        terms: &SnapshotTerms,
        unix_ms: u64,
        period: Duration,
        streams: impl IntoIterator<Item = (Arc<str>, &'a StreamSheets)>,
    ) -> MetricsSnapshot {
        let mut by_name: BTreeMap<Arc<str>, StreamSheets> = BTreeMap::new();
        for (name, sheets) in streams {
            by_name.entry(name).or_default().merge(sheets);
        }
        let totals: Vec<(&Arc<str>, Sheet)> = by_name.iter().map(|(name, sheets)| (name, sheets.total())).collect();
        let mut global = Sheet::default();
        totals.iter().for_each(|(_, total)| global.merge(total));
        let mut samples = Samples { level: terms.level, granularity: terms.granularity, taken: Vec::new() };
        samples.take(MetricsGranularity::Global, &Place::default(), &global);
        for (name, total) in totals {
            let place = Place { stream: Some(Arc::clone(name)), ..Place::default() };
            samples.take(MetricsGranularity::Stream, &place, &total);
            for (shard, sheet) in by_name[name].shards() {
                let place = Place { shard: Some(Arc::clone(shard)), ..place.clone() };
                samples.take(MetricsGranularity::Shard, &place, sheet);
            }
        }
        MetricsSnapshot {
            unix_ms,
            period,
            namespace: Arc::clone(&terms.namespace),
            dimensions: Arc::clone(&terms.dimensions),
            samples: samples.taken,
        }
    }

    /// When it was taken, in milliseconds since 1970.
    pub fn unix_ms(&self) -> u64 {
        self.unix_ms
    }

    /// How long its samples were gathered.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// The namespace that the producer was given.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The further dimensions that the producer was given, names and values, which all samples have.
    pub fn dimensions(&self) -> &[(String, String)] {
        &self.dimensions
    }

    /// All samples: of the whole producer, then stream by stream, each followed by its shards.
    pub fn samples(&self) -> &[MetricSample] {
        &self.samples
    }

    /// The samples of a metric in a place.
    pub fn find(&self, metric: Metric, place: &Place) -> Option<&MetricSample> {
        self.samples.iter().find(|sample| sample.metric == metric && sample.place == *place)
    }

    /// The samples of a metric of the whole producer.
    pub fn global(&self, metric: Metric) -> Option<&MetricSample> {
        self.find(metric, &Place::default())
    }

    /// The samples of a metric of a stream.
    pub fn stream(&self, metric: Metric, stream: &str) -> Option<&MetricSample> {
        self.find(metric, &Place { stream: Some(stream.into()), ..Place::default() })
    }

    /// The samples of a metric of a shard.
    pub fn shard(&self, metric: Metric, stream: &str, shard: &str) -> Option<&MetricSample> {
        self.find(metric, &Place { stream: Some(stream.into()), shard: Some(shard.into()), error: None })
    }

    /// The errors of the whole producer, by code.
    pub fn errors(&self) -> impl Iterator<Item = (&ErrorCode, &MetricSample)> {
        let global = self.samples.iter().filter(|sample| sample.place.stream.is_none());
        global.filter_map(|sample| Some((sample.place.error.as_ref()?, sample)))
    }
}

/// Puts a snapshot together.
struct Samples {
    level: MetricsLevel,
    granularity: MetricsGranularity,
    taken: Vec<MetricSample>,
}

impl Samples {
    fn take(&mut self, at: MetricsGranularity, place: &Place, sheet: &Sheet) {
        if at > self.granularity {
            return;
        }
        // The errors of a place come last, since a code makes a place of its own.
        for metric in Metric::all() {
            self.one(metric, place.clone(), sheet.statistic(metric));
        }
        for (code, statistic) in sheet.errors() {
            self.one(Metric::ErrorsByCode, Place { error: Some(code.clone()), ..place.clone() }, statistic);
        }
    }

    fn one(&mut self, metric: Metric, place: Place, statistic: &Statistic) {
        if statistic.count() > 0 && metric.level() <= self.level {
            self.taken.push(MetricSample { metric, place, statistic: statistic.clone() });
        }
    }
}

impl fmt::Display for MetricsSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} over {:?}", self.namespace, self.period)?;
        let mut place = None;
        for sample in &self.samples {
            let here = Place { error: None, ..sample.place.clone() };
            if place.as_ref() != Some(&here) {
                let names: Vec<&str> = here.dimensions().map(|(_, value)| value).collect();
                writeln!(f, "{}", if names.is_empty() { "all streams".to_owned() } else { names.join(" / ") })?;
                place = Some(here);
            }
            let code = sample.place.error.as_ref().map_or(String::new(), |code| format!(" {code}"));
            writeln!(
                f,
                "  {}{code}: {} samples, sum {}, mean {:.3}, {} to {}, p50 {}, p99 {} {}",
                sample.metric.name(),
                sample.count(),
                sample.sum(),
                sample.mean(),
                sample.min(),
                sample.max(),
                sample.percentile(50.0),
                sample.percentile(99.0),
                sample.metric.unit().name(),
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn terms(level: MetricsLevel, granularity: MetricsGranularity) -> SnapshotTerms {
        let dimensions = [("Host".to_owned(), "h1".to_owned())];
        SnapshotTerms { level, granularity, namespace: "N".into(), dimensions: dimensions.into() }
    }

    /// Two streams of one name and one of another.
    pub fn snapshot(terms: &SnapshotTerms) -> MetricsSnapshot {
        let mut streams = [StreamSheets::default(), StreamSheets::default(), StreamSheets::default()];
        for (stream, sheets) in streams.iter_mut().enumerate() {
            sheets.at(None).of(Metric::UserRecordsReceived).record_many(1, 10);
            let sheet = sheets.at(Some(&"shard-1".into()));
            sheet.of(Metric::UserRecordsPut).record_many(1, 2 + stream as u64);
            sheet.of(Metric::BufferingTime).record_many(1500, 2);
            sheet.error(&ErrorCode::Timeout);
        }
        let names = ["s", "t", "s"].map(Arc::from);
        MetricsSnapshot::new(terms, 1_700_000_000_000, Duration::from_secs(60), names.into_iter().zip(&streams))
    }

    #[test]
    fn a_sample_on_a_shard_counts_on_its_stream_and_globally_too() {
        let snapshot = snapshot(&terms(MetricsLevel::Detailed, MetricsGranularity::Shard));
        let sums = |metric| {
            let all = [snapshot.global(metric), snapshot.stream(metric, "s"), snapshot.shard(metric, "s", "shard-1")];
            all.map(|sample| sample.map(MetricSample::sum))
        };
        assert_eq!(sums(Metric::UserRecordsPut), [Some(9.0), Some(6.0), Some(6.0)]);
        assert_eq!(sums(Metric::UserRecordsReceived), [Some(30.0), Some(20.0), None]);
        assert_eq!(sums(Metric::BufferingTime), [Some(9.0), Some(6.0), Some(6.0)], "in milliseconds");
        assert_eq!(sums(Metric::AllErrors), [Some(3.0), Some(2.0), Some(2.0)]);
        assert_eq!(sums(Metric::ErrorsByCode), [None; 3], "errors by code have one");
        let errors: Vec<_> = snapshot.errors().map(|(code, sample)| (code.as_str(), sample.sum())).collect();
        assert_eq!(errors, [("Timeout", 3.0)]);
        assert_eq!(snapshot.shard(Metric::UserRecordsPut, "t", "shard-2").map(MetricSample::count), None);
    }

    #[test]
    fn level_and_granularity_leave_out_what_is_finer() {
        use MetricsGranularity::{Global, Shard, Stream};
        use MetricsLevel::{Detailed, None, Summary};
        // One detailed metric by stream, four summary ones by shard, among them the errors by code.
        for (level, granularity, samples) in [
            (Detailed, Shard, 5 + 2 * (5 + 4)),
            (Detailed, Stream, 5 + 2 * 5),
            (Detailed, Global, 5),
            (Summary, Shard, 4 + 2 * (4 + 4)),
            (Summary, Global, 4),
            (None, Shard, 0),
        ] {
            let snapshot = snapshot(&terms(level, granularity));
            assert_eq!(snapshot.samples().len(), samples, "{level:?} {granularity:?}\n{snapshot}");
        }
    }

    #[test]
    fn dimensions_come_in_the_order_of_the_kpl() {
        let place =
            Place { error: Some(ErrorCode::WrongShard), stream: Some("s".into()), shard: Some("shard-1".into()) };
        let dimensions: Vec<_> = place.dimensions().collect();
        assert_eq!(dimensions, [("ErrorCode", "Wrong Shard"), ("StreamName", "s"), ("ShardId", "shard-1")]);
    }

    #[test]
    fn a_snapshot_shows_itself_as_a_table() {
        let text = snapshot(&terms(MetricsLevel::Summary, MetricsGranularity::Stream)).to_string();
        assert!(text.starts_with("N over 60s\nall streams\n  UserRecordsPut: 9 samples, sum 9, mean 1.000"), "{text}");
        assert!(text.contains("\ns\n") && text.contains("ErrorsByCode Timeout: 2 samples"), "{text}");
        assert!(text.contains("BufferingTime: 4 samples, sum 6, mean 1.500, 1.5 to 1.5, p50 1.5"), "{text}");
    }
}
