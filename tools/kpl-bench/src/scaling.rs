//! `kpl-bench scaling`: what a record costs by cores, shards, submitters and streams, one at a time from a common base.
//!
//! ```text
//!   base   1 core, 8 shards, 1 submitter, 1 stream         a stream has all the shards, so 100 streams have 800
//!   points cores 1 2 │ shards 1 8 64 512 4 000 │ submitters 1 4 16 64 │ streams 1 10 100
//! ```
//!
//! The base is on every line of points and is measured once. Every round goes through all points, so that an hour at which
//! the machine is slow makes no point look bad. Each point shows the members of an aggregate too: what is spread over more
//! shards or streams lingers in smaller aggregates, and those cost more a record.
//!
//! Cores run on the first CPUs, one on each, the endpoint, a sink, on the last, and submitters where the scheduler wants them.
//! So where cores and submitters are more than the CPUs less one, they take each other's and the sink's time: then records a second say
//! what the machine does, while the processor time a record, which is the client's alone, goes on saying what a record costs.

mod plot;

use std::fmt;

use serde::Serialize;

use crate::args::ScalingOptions;
use crate::endpoint_child::{self, Asked, EndpointChild};
use crate::load::{Load, Measured};
use crate::machine::{Cpus, Machine};
use crate::progress::Progress;
use crate::records::Records;
use crate::report::grouped;
use crate::spread::Spread;

pub use plot::draw;

/// Data of a record, in bytes.
const RECORD_SIZE: usize = 100;

/// What is varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dimension {
    Cores,
    Shards,
    Submitters,
    Streams,
}

impl Dimension {
    /// All, in the order of the table.
    const ALL: [Dimension; 4] = [Dimension::Cores, Dimension::Shards, Dimension::Submitters, Dimension::Streams];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Dimension::Cores => "cores",
            Dimension::Shards => "shards",
            Dimension::Submitters => "submitters",
            Dimension::Streams => "streams",
        }
    }

    fn values(self) -> &'static [u32] {
        match self {
            Dimension::Cores => &[1, 2],
            Dimension::Shards => &[1, 8, 64, 512, 4000],
            Dimension::Submitters => &[1, 4, 16, 64],
            Dimension::Streams => &[1, 10, 100],
        }
    }
}

/// A setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub cores: u32,
    /// Of each stream.
    pub shards: u32,
    pub submitters: u32,
    pub streams: u32,
}

/// From which one number is varied.
const BASE: Setting = Setting { cores: 1, shards: 8, submitters: 1, streams: 1 };

impl Setting {
    fn with(mut self, dimension: Dimension, value: u32) -> Setting {
        let field = match dimension {
            Dimension::Cores => &mut self.cores,
            Dimension::Shards => &mut self.shards,
            Dimension::Submitters => &mut self.submitters,
            Dimension::Streams => &mut self.streams,
        };
        *field = value;
        self
    }

    /// In a few words.
    fn line(&self) -> String {
        let Setting { cores, shards, submitters, streams } = self;
        format!("cores {cores}, shards {shards}, submitters {submitters}, streams {streams}")
    }
}

/// One point of a line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    pub value: u32,
    pub setting: Setting,
    pub cpu_ns_per_record: Spread,
    pub records_per_s: Spread,
    /// Records for each entry of the requests, in the median run.
    pub members_per_aggregate: f64,
    /// Entries of a request, likewise.
    pub aggregates_per_request: f64,
}

/// The points of what is varied.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    pub dimension: Dimension,
    pub points: Vec<Point>,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scaling {
    /// Every record of every run was delivered.
    pub passed: bool,
    pub machine: Machine,
    pub base: Setting,
    pub record_size: usize,
    pub records_per_run: u64,
    pub runs: usize,
    pub tls: bool,
    pub rate_limit: &'static str,
    pub linger_ms: u128,
    pub outstanding_records_max: usize,
    pub wire: &'static str,
    pub runtime: String,
    pub lines: Vec<Line>,
    pub faults: Vec<String>,
}

/// Measures all points.
///
/// # Errors
/// An endpoint or a producer cannot be started.
pub fn run(options: &ScalingOptions) -> Result<Scaling, String> {
    let mut settings = vec![BASE];
    settings.extend(Dimension::ALL.iter().flat_map(|dimension| varied(*dimension)).filter(|setting| *setting != BASE));
    let (records, cpus) = (Records::new(RECORD_SIZE, 1), Cpus::allowed());
    let mut runs: Vec<Vec<Measured>> = vec![Vec::new(); settings.len()];
    let mut faults = Vec::new();
    let progress = Progress::begin("scaling", Some((settings.len() * options.runs) as u64));
    for round in 0..options.runs {
        for (setting, runs) in settings.iter().zip(&mut runs) {
            progress.says(&setting.line());
            let measured = measure(*setting, options, &records, &cpus)?;
            if measured.delivered != options.records {
                let delivered = measured.delivered;
                faults.push(format!(
                    "{}, round {}: {delivered} of {} delivered",
                    setting.line(),
                    round + 1,
                    options.records
                ));
            }
            runs.push(measured);
            progress.one_more();
        }
    }
    drop(progress);
    let point = |dimension: Dimension, value: u32| {
        let setting = BASE.with(dimension, value);
        let place = settings.iter().position(|one| *one == setting).expect("all that is varied was measured");
        figures(value, setting, &runs[place])
    };
    let line = |dimension: Dimension| {
        let points = dimension.values().iter().map(|value| point(dimension, *value)).collect();
        Line { dimension, points }
    };
    Ok(Scaling {
        passed: faults.is_empty(),
        machine: Machine::read(),
        base: BASE,
        record_size: records.size(),
        records_per_run: options.records,
        runs: options.runs,
        tls: options.tls,
        rate_limit: "off",
        linger_ms: kpl::limits::BUFFERED_TIME_DEFAULT.as_millis(),
        outstanding_records_max: kpl::limits::OUTSTANDING_RECORDS_DEFAULT,
        wire: "cbor",
        runtime: runs[0].first().map(|run| run.runtime.clone()).unwrap_or_default(),
        lines: Dimension::ALL.into_iter().map(line).collect(),
        faults,
    })
}

fn varied(dimension: Dimension) -> impl Iterator<Item = Setting> {
    dimension.values().iter().map(move |value| BASE.with(dimension, *value))
}

fn measure(setting: Setting, options: &ScalingOptions, records: &Records, cpus: &Cpus) -> Result<Measured, String> {
    let sink = || EndpointChild::start(Asked::sink(setting.shards, options.tls));
    let child = cpus.start_on_last(&cpus.0, sink).map_err(|error| format!("the sink cannot be started: {error}"))?;
    let cores = setting.cores as usize;
    let load = Load {
        access: &endpoint_child::access(&child),
        cores,
        cpus: cpus.0.get(..cores).map(<[usize]>::to_vec),
        submitters: setting.submitters as usize,
        streams: setting.streams as usize,
        records: options.records,
    };
    load.run(records)
}

fn figures(value: u32, setting: Setting, runs: &[Measured]) -> Point {
    let per = |amount: f64, of: f64| if of > 0.0 { amount / of } else { 0.0 };
    let spread = |measure: &dyn Fn(&Measured) -> f64| Spread::of(runs.iter().map(measure));
    Point {
        value,
        setting,
        cpu_ns_per_record: spread(&|run| per(run.cpu.total().as_nanos() as f64, run.delivered as f64)),
        records_per_s: spread(&|run| per(run.delivered as f64, run.wall.as_secs_f64())),
        members_per_aggregate: spread(&|run| per(run.delivered as f64, run.kinesis_records as f64)).median,
        aggregates_per_request: spread(&|run| per(run.kinesis_records as f64, run.requests as f64)).median,
    }
}

impl fmt::Display for Scaling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setting { cores, shards, submitters, streams } = self.base;
        writeln!(f, "machine    {}", self.machine.line())?;
        writeln!(
            f,
            "setting    {} B records, {} a run, {} runs; {}, {}, {}; rate limit {}, linger {} ms, {} records outstanding at \
             most",
            self.record_size,
            grouped(self.records_per_run),
            self.runs,
            self.runtime,
            self.wire,
            if self.tls { "TLS" } else { "in the clear" },
            self.rate_limit,
            self.linger_ms,
            grouped(self.outstanding_records_max as u64)
        )?;
        writeln!(f, "base       {cores} core, {shards} shards, {submitters} submitter, {streams} stream\n")?;
        writeln!(
            f,
            "{:18}{:^33}{:>14}{:>15}{:>14}",
            "", "ns of CPU a record", "records/s", "records in an", "aggregates"
        )?;
        let heads = ["p25", "median", "min", "max"].map(|head| format!("{head:>8}")).concat();
        writeln!(f, "{:18}{heads} {:>14}{:>15}{:>14}", "", "median", "aggregate", "in a request")?;
        for Line { dimension, points } in &self.lines {
            for point in points {
                let Point { value, cpu_ns_per_record: cpu, records_per_s, .. } = point;
                let (members, aggregates) = (point.members_per_aggregate, point.aggregates_per_request);
                let n = |value: f64| grouped(value.round() as u64);
                let cpu = [cpu.p25, cpu.median, cpu.min, cpu.max].map(|value| format!("{:>8}", n(value))).concat();
                let (rate, value) = (n(records_per_s.median), n(f64::from(*value)));
                writeln!(f, "{:11}{value:>7}{cpu} {rate:>14}{members:>15.1}{aggregates:>14.1}", dimension.name())?;
            }
        }
        writeln!(f)?;
        for fault in &self.faults {
            writeln!(f, "fault      {fault}")?;
        }
        write!(f, "verdict    {}", if self.passed { "all records were delivered" } else { "FAILED" })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// As it might come out.
    pub(crate) fn example() -> Scaling {
        let spread = |value: f64| Spread { min: value * 0.9, p25: value * 0.95, median: value, max: value * 1.2 };
        let point = |dimension: Dimension, value: u32| Point {
            value,
            setting: BASE.with(dimension, value),
            cpu_ns_per_record: spread(300.0 + f64::from(value) / 8.0),
            records_per_s: spread(2_000_000.0),
            members_per_aggregate: 425.0 / f64::from(value),
            aggregates_per_request: 20.0,
        };
        let line = |dimension: Dimension| {
            let points = dimension.values().iter().map(|value| point(dimension, *value)).collect();
            Line { dimension, points }
        };
        Scaling {
            passed: true,
            machine: Machine {
                cpu_model: "A & B <CPU>".to_owned(),
                cpus: 2,
                commit: None,
                lanes: "avx2".to_owned(),
                profile: "release",
            },
            base: BASE,
            record_size: 100,
            records_per_run: 1_000_000,
            runs: 5,
            tls: false,
            rate_limit: "off",
            linger_ms: 100,
            outstanding_records_max: 100_000,
            wire: "cbor",
            runtime: "tokio".to_owned(),
            lines: Dimension::ALL.into_iter().map(line).collect(),
            faults: Vec::new(),
        }
    }

    #[test]
    fn one_number_at_a_time_differs_from_the_base() {
        let base = [BASE.cores, BASE.shards, BASE.submitters, BASE.streams];
        for dimension in Dimension::ALL {
            assert!(varied(dimension).any(|setting| setting == BASE), "{dimension:?}");
            for setting in varied(dimension) {
                let numbers = [setting.cores, setting.shards, setting.submitters, setting.streams];
                assert!(numbers.iter().zip(base).filter(|(one, other)| **one != *other).count() <= 1, "{setting:?}");
            }
        }
    }

    #[test]
    fn the_table_has_a_row_for_each_point() {
        let text = example().to_string();
        for row in ["cores            2", "shards       4 000", "submitters      64", "streams        100"] {
            assert!(text.contains(row), "{row}\n{text}");
        }
        assert!(text.contains("2 000 000") && text.ends_with("all records were delivered"), "{text}");
    }

    #[test]
    fn members_are_records_by_entries_and_costs_by_records() {
        let mut measured = Measured { delivered: 1000, kinesis_records: 4, ..Measured::default() };
        measured.cpu.user = std::time::Duration::from_micros(300);
        measured.wall = std::time::Duration::from_millis(1);
        let point = figures(1, BASE, &[measured]);
        assert_eq!((point.cpu_ns_per_record.median, point.members_per_aggregate), (300.0, 250.0));
        assert_eq!(point.records_per_s.median, 1_000_000.0);
    }
}
