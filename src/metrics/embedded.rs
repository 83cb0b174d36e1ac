//! A sink of ours: metrics as lines of log, in CloudWatch's *embedded metric format*.
//!
//! ```text
//!   {"_aws":{"Timestamp":…,"CloudWatchMetrics":[{"Namespace":…,"Dimensions":[["StreamName"]],"Metrics":[…]}]},
//!    "StreamName":"orders","UserRecordsPut":{"Values":[0.0,1.0],"Counts":[3,997],"Min":…,"Max":…,"Count":…,"Sum":…},…}
//! ```
//!
//! One JSON object a line for each place: the producer, each stream, each shard, and each error code of them. Wherever
//! such lines reach CloudWatch Logs (standard output of a Lambda function, the CloudWatch agent, a log driver) CloudWatch
//! makes metrics of them, under the KPL's names, units and dimensions. So no AWS client is needed here, and no permission
//! but that of writing logs.
//!
//! The samples of a metric are told as values with counts, from which CloudWatch computes percentiles; count, sum, least
//! and greatest are exact. The format takes 100 values of a metric: of more, which takes a span of 1 to 4000 without a
//! gap, neighbours are told as their mean.
//!
//! The published specification knows a number or a list of numbers as a metric's value; the object with values and counts
//! is how the OpenTelemetry collector's exporter for CloudWatch writes histograms. None of it was tried on CloudWatch
//! itself.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::metric::Metric;
use super::sink::{MetricsSink, SinkError};
use super::snapshot::{MetricSample, MetricsSnapshot};
use crate::limits::{METRICS_DIMENSION_VALUE_MAX, METRICS_VALUES_MAX};

/// Writes snapshots in CloudWatch's embedded metric format, to anything that can be written to.
#[derive(Debug)]
pub struct EmbeddedMetrics<W> {
    out: W,
}

impl<W: Write> EmbeddedMetrics<W> {
    /// Writes to `out`, for each snapshot at once, and flushes it then.
    pub fn new(out: W) -> EmbeddedMetrics<W> {
        EmbeddedMetrics { out }
    }

    /// What was written to.
    pub fn into_inner(self) -> W {
        self.out
    }
}

impl<W: Write + Send> MetricsSink for EmbeddedMetrics<W> {
    fn upload(&mut self, snapshot: &MetricsSnapshot) -> Result<(), SinkError> {
        // The format has dimensions and metrics side by side.
        if let Some((name, _)) = snapshot.dimensions().iter().find(|(name, _)| is_taken(name)) {
            return Err(SinkError::new(format!("the dimension {name} has a name that the format has otherwise")));
        }
        let mut text = String::new();
        for samples in snapshot.samples().chunk_by(|one, next| one.place() == next.place()) {
            text.push_str(&document(snapshot, samples).to_string());
            text.push('\n');
        }
        self.out.write_all(text.as_bytes())?;
        Ok(self.out.flush()?)
    }
}

fn is_taken(name: &str) -> bool {
    name == "_aws" || Metric::named(name).is_some()
}

/// The object that tells the samples of one place.
fn document(snapshot: &MetricsSnapshot, samples: &[MetricSample]) -> Value {
    let mut root = Map::new();
    let mut names = Vec::new();
    let own = samples.first().into_iter().flat_map(|sample| sample.place().dimensions());
    let further = snapshot.dimensions().iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in own.chain(further) {
        names.push(name);
        root.insert(name.to_owned(), dimension_value(value).into());
    }
    let mut metrics = Vec::new();
    for sample in samples {
        let (name, unit) = (sample.metric().name(), sample.metric().unit().name());
        metrics.push(json!({ "Name": name, "Unit": unit }));
        root.insert(name.to_owned(), distribution(sample));
    }
    let directive = json!({ "Namespace": snapshot.namespace(), "Dimensions": [names], "Metrics": metrics });
    root.insert("_aws".to_owned(), json!({ "Timestamp": snapshot.unix_ms(), "CloudWatchMetrics": [directive] }));
    Value::Object(root)
}

fn distribution(sample: &MetricSample) -> Value {
    let (values, counts): (Vec<f64>, Vec<u64>) = thinned(sample.values().collect()).into_iter().unzip();
    json!({
        "Values": values,
        "Counts": counts,
        "Min": sample.min(),
        "Max": sample.max(),
        "Count": sample.count(),
        "Sum": sample.sum(),
    })
}

/// As many values as the format takes.
fn thinned(mut values: Vec<(f64, u64)>) -> Vec<(f64, u64)> {
    while values.len() > METRICS_VALUES_MAX {
        let mean = |pair: &[(f64, u64)]| {
            let count: u64 = pair.iter().map(|(_, count)| count).sum();
            let sum: f64 = pair.iter().map(|(value, count)| value * *count as f64).sum();
            (sum / count as f64, count)
        };
        values = values.chunks(2).map(mean).collect();
    }
    values
}

/// A value as CloudWatch takes it. Streams and shards have such names; a code is whatever the service said.
fn dimension_value(text: &str) -> String {
    let printable = |character: char| if character.is_ascii_graphic() { character } else { ' ' };
    let value: String = text.chars().map(printable).take(METRICS_DIMENSION_VALUE_MAX).collect();
    if value.trim().is_empty() { "?".to_owned() } else { value }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::snapshot::tests::{snapshot, terms};
    use super::super::{SnapshotTerms, StreamSheets};
    use super::*;
    use crate::config::{MetricsGranularity, MetricsLevel};
    use crate::outcome::ErrorCode;
    use std::time::Duration;

    fn written(snapshot: &MetricsSnapshot) -> Vec<Value> {
        let mut sink = EmbeddedMetrics::new(Vec::new());
        sink.upload(snapshot).expect("a vector takes everything");
        let text = String::from_utf8(sink.into_inner()).expect("JSON is text");
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).expect("each line is an object")).collect()
    }

    #[test]
    fn each_place_is_a_line_with_its_dimensions_and_metrics() {
        let lines = written(&snapshot(&terms(MetricsLevel::Summary, MetricsGranularity::Shard)));
        let dimensions: Vec<_> =
            lines.iter().map(|line| &line["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0]).collect();
        let mut expected = vec![json!(["Host"]), json!(["ErrorCode", "Host"])];
        for _ in ["s", "t"] {
            expected.push(json!(["StreamName", "Host"]));
            expected.push(json!(["ErrorCode", "StreamName", "Host"]));
            expected.push(json!(["StreamName", "ShardId", "Host"]));
            expected.push(json!(["ErrorCode", "StreamName", "ShardId", "Host"]));
        }
        assert_eq!(dimensions, expected.iter().collect::<Vec<_>>());
        for line in &lines {
            let directive = &line["_aws"]["CloudWatchMetrics"][0];
            assert_eq!(line["_aws"]["Timestamp"], json!(1_700_000_000_000_u64));
            assert_eq!((&directive["Namespace"], &line["Host"]), (&json!("N"), &json!("h1")));
            for name in directive["Dimensions"][0].as_array().expect("a set of dimensions") {
                assert!(line[name.as_str().expect("a name")].is_string(), "{line}");
            }
            for metric in directive["Metrics"].as_array().expect("metrics") {
                let named = Metric::named(metric["Name"].as_str().expect("a name")).expect("one of the KPL's");
                assert_eq!(metric["Unit"], named.unit().name());
                assert!(line[named.name()]["Values"].is_array(), "{line}");
            }
        }
    }

    #[test]
    fn samples_are_values_with_counts_and_exact_sums() {
        let lines = written(&snapshot(&terms(MetricsLevel::Detailed, MetricsGranularity::Shard)));
        let shard = lines
            .iter()
            .find(|line| line["StreamName"] == "s" && line["ShardId"] == "shard-1" && line["ErrorCode"].is_null())
            .expect("there is a line for the shard");
        let buffering = json!({ "Values": [1.5], "Counts": [4], "Min": 1.5, "Max": 1.5, "Count": 4, "Sum": 6.0 });
        assert_eq!(shard["BufferingTime"], buffering);
        let error = lines.iter().find(|line| line["ErrorCode"] == "Timeout" && line["StreamName"].is_null());
        assert_eq!(error.expect("a line for the code")["ErrorsByCode"]["Sum"], 3.0);
    }

    #[test]
    fn what_the_format_does_not_take_is_cut_to_what_it_does() {
        let mut sheets = StreamSheets::default();
        let code: String = "é\n".repeat(2000);
        sheets.at(None).error(&ErrorCode::Service(code.into()));
        sheets.at(None).error(&ErrorCode::Service("".into()));
        (0..40_000).for_each(|value| sheets.at(None).of(Metric::RetriesPerRecord).record(value));
        let terms =
            SnapshotTerms { dimensions: [].into(), ..terms(MetricsLevel::Detailed, MetricsGranularity::Global) };
        let snapshot = MetricsSnapshot::new(&terms, 0, Duration::ZERO, [("s".into(), &sheets)]);
        let lines = written(&snapshot);
        let retries = lines.iter().find_map(|line| line.get("RetriesPerRecord")).expect("they are told");
        let counts: Vec<u64> = serde_json::from_value(retries["Counts"].clone()).expect("counts");
        let values: Vec<f64> = serde_json::from_value(retries["Values"].clone()).expect("values");
        assert!(values.len() <= METRICS_VALUES_MAX && values.is_sorted());
        assert_eq!((counts.len(), counts.iter().sum::<u64>()), (values.len(), 40_000));
        assert_eq!(retries["Sum"], (0..40_000_u64).sum::<u64>() as f64);
        let codes: Vec<_> = lines.iter().filter_map(|line| line["ErrorCode"].as_str()).collect();
        assert_eq!(codes, ["?", "?"]);
        assert_eq!(lines[0]["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([[]]), "of all streams");
    }

    #[test]
    fn what_cannot_be_written_is_an_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("disk full"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut terms = terms(MetricsLevel::Summary, MetricsGranularity::Global);
        let refused = EmbeddedMetrics::new(Full).upload(&snapshot(&terms));
        assert_eq!(refused, Err(SinkError::new("disk full")));
        terms.dimensions = [("AllErrors".to_owned(), "x".to_owned())].into();
        let refused = EmbeddedMetrics::new(Vec::new()).upload(&snapshot(&terms)).expect_err("a name is taken");
        assert!(refused.to_string().contains("AllErrors"), "{refused}");
    }
}
