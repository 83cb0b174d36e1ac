//! `kpl-bench compare`: our producer beside the one that a good engineer writes around AWS's SDK.
//!
//! ```text
//!   round 1   ours, TLS   sdk, TLS   ours, clear   sdk, clear       for each size of record
//!   round 2   sdk, clear  ours, clear   sdk, TLS   ours, TLS        the other way round, so that no side is always first
//! ```
//!
//! Both put the same records into the same sink, and count those as delivered of which the answer told where they are; a run
//! that did not deliver all of them fails the comparison. Client and sink have a CPU each, so that the sink takes nothing
//! from the client. The client's two threads, one that makes requests of records and one that sends, share the client's CPU,
//! on either side. What is compared is the processor time of the whole client, a record; its first part is a warm-up that
//! does not count.
//!
//! Ratios are taken within a round, between neighbours in time, as what disturbs one disturbs the next. A figure by itself is worth what the machine is worth at that hour.

mod sdk;
mod table;

use std::io;
use std::sync::Arc;

use serde::Serialize;

use crate::args::CompareOptions;
use crate::endpoint_child::{self, Asked, EndpointChild};
use crate::load::{Load, Measured, warm_up};
use crate::machine::{Cpus, Machine, PROFILE};
use crate::outcomes::Reasons;
use crate::progress::Progress;
use crate::records::Records;
use crate::report::{Reason, listed};
use crate::spread::Spread;
use crate::stream::Access;

/// The profile by which AWS's SDK is optimised; it stands in the workspace's `Cargo.toml`.
const FAIR_PROFILE: &str = "compare";
/// Shards of the sink's streams.
const SHARDS: u32 = 8;
/// Data of the records of one run, in bytes, so that a run takes a second or two; and most records of it.
const RUN_BYTES: u64 = 1 << 29;
const RUN_RECORDS_MAX: u64 = 2_000_000;
/// At which sizes it is asked whether ours costs less with TLS than the peer without.
const TLS_AGAINST_CLEAR: [usize; 2] = [100, 1 << 10];

/// Who puts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Ours,
    Sdk,
}

/// One run of one side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    pub round: usize,
    pub side: Side,
    pub tls: bool,
    pub cpu_ns_per_record: f64,
    pub mb_per_cpu_s: f64,
    pub records_per_s: f64,
    pub cpu_user_s: f64,
    pub cpu_system_s: f64,
    pub wall_s: f64,
    pub records_delivered: u64,
    /// Entries of its PutRecords requests.
    pub kinesis_records: u64,
    pub put_records_requests: u64,
    /// That the sink accepted, warm-up included.
    pub connections: u64,
    pub failures: Vec<Reason>,
}

/// One side in one case.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SideFigures {
    pub cpu_ns_per_record: Spread,
    pub mb_per_cpu_s: Spread,
    pub records_per_s: Spread,
}

/// All runs of a size, in the clear or over TLS.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Case {
    pub record_size: usize,
    pub tls: bool,
    pub records_per_run: u64,
    pub ours: SideFigures,
    pub sdk: SideFigures,
    /// Processor time a record, ours over the peer's, round by round.
    pub ours_over_sdk: Spread,
    pub runs: Vec<Run>,
}

/// Whether ours costs less with TLS than the peer without.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Question {
    pub record_size: usize,
    /// Processor time a record, ours with TLS over the peer's without, round by round.
    pub ours_tls_over_sdk_clear: Spread,
}

/// What both sides have in common, and what is each one's own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    pub runs: usize,
    pub shards: u32,
    pub rate_limit: &'static str,
    pub linger_ms: u128,
    pub outstanding_records_max: usize,
    pub cores: usize,
    pub submitters: usize,
    /// What our core ran on.
    pub runtime: String,
    pub ours: &'static str,
    pub ours_wire: &'static str,
    pub sdk: String,
    pub sdk_wire: &'static str,
    /// The CPU of all threads of the client, and that of the sink; none where they cannot be kept to one.
    pub client_cpu: Option<usize>,
    pub sink_cpu: Option<usize>,
}

/// The whole comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Every record of every run was delivered.
    pub passed: bool,
    /// The build has optimised both sides.
    pub fair_build: bool,
    pub machine: Machine,
    pub settings: Settings,
    pub cases: Vec<Case>,
    pub questions: Vec<Question>,
    pub faults: Vec<String>,
}

/// Makes the comparison.
///
/// # Errors
/// It cannot be made: the build is not fair, or an endpoint or a client cannot be started.
pub fn run(options: &CompareOptions) -> Result<Comparison, String> {
    let fair_build = PROFILE == FAIR_PROFILE;
    if !fair_build && !options.any_build {
        return Err(format!(
            "this is a build by profile {PROFILE:?}, in which AWS's SDK may not be optimised; a fair one is\n  \
             cargo run --profile {FAIR_PROFILE} -p kpl-bench --features peer-sdk -- compare --peer sdk\n\
             --any-build measures all the same"
        ));
    }
    let machine = Machine::read();
    let cpus = Cpus::allowed();
    let first = &cpus.0[..cpus.0.len().min(1)];
    let open = || options.tls.cases().iter().map(|tls| Door::open(*tls)).collect();
    let endpoints: io::Result<Vec<Door>> = cpus.start_on_last(first, open);
    let endpoints = endpoints.map_err(|error| format!("the sink cannot be started: {error}"))?;
    let mut bench = Bench { options, endpoints, faults: Vec::new(), runtime: String::new() };
    let turns = options.sizes.len() * options.runs * 2 * bench.endpoints.len();
    let progress = Progress::begin("comparing", Some(turns as u64));
    let mut cases = Vec::new();
    let mut questions = Vec::new();
    for size in &options.sizes {
        let (of_size, question) = bench.size(*size, &progress)?;
        cases.extend(of_size);
        questions.extend(question);
    }
    drop(progress);
    let settings = settings(options, bench.runtime, &cpus);
    Ok(Comparison {
        passed: bench.faults.is_empty(),
        fair_build,
        machine,
        settings,
        cases,
        questions,
        faults: bench.faults,
    })
}

fn settings(options: &CompareOptions, runtime: String, cpus: &Cpus) -> Settings {
    let apart = cpus.0.len() > 1;
    Settings {
        runs: options.runs,
        shards: SHARDS,
        rate_limit: "off",
        linger_ms: kpl::limits::BUFFERED_TIME_DEFAULT.as_millis(),
        outstanding_records_max: kpl::limits::OUTSTANDING_RECORDS_DEFAULT,
        cores: 1,
        submitters: 1,
        runtime,
        ours: "aggregated; one thread puts with tokens and drains its completions, one core sends",
        ours_wire: "cbor",
        sdk: sdk::describe(),
        sdk_wire: "json",
        client_cpu: cpus.0.first().copied().filter(|_| apart),
        sink_cpu: cpus.0.last().copied().filter(|_| apart),
    }
}

/// A sink, and how it is reached.
struct Door {
    tls: bool,
    child: EndpointChild,
    access: Access,
}

impl Door {
    fn open(tls: bool) -> io::Result<Door> {
        let child = EndpointChild::start(Asked::sink(SHARDS, tls))?;
        let access = endpoint_child::access(&child);
        Ok(Door { tls, child, access })
    }
}

struct Bench<'o> {
    options: &'o CompareOptions,
    endpoints: Vec<Door>,
    faults: Vec<String>,
    runtime: String,
}

impl Bench<'_> {
    /// All runs of one size.
    fn size(&mut self, size: usize, progress: &Progress) -> Result<(Vec<Case>, Option<Question>), String> {
        let records = Arc::new(Records::new(size, 1));
        let count = self.options.records.unwrap_or((RUN_BYTES / size as u64).min(RUN_RECORDS_MAX));
        let mut runs = Vec::new();
        for round in 0..self.options.runs {
            let mut turns: Vec<(usize, Side)> =
                (0..self.endpoints.len()).flat_map(|door| [(door, Side::Ours), (door, Side::Sdk)]).collect();
            if round % 2 == 1 {
                turns.reverse();
            }
            for (door, side) in turns {
                progress.says(&format!("{size} B"));
                runs.push(self.turn(round, door, side, &records, count)?);
                progress.one_more();
            }
        }
        let cases = self.endpoints.iter().map(|door| case(size, door.tls, count, &runs)).collect();
        let asked = TLS_AGAINST_CLEAR.contains(&size) && self.endpoints.len() == 2;
        let question = asked.then(|| Question {
            record_size: size,
            ours_tls_over_sdk_clear: ratios(&runs, (Side::Ours, true), (Side::Sdk, false)),
        });
        Ok((cases, question))
    }

    /// One run; what it did not deliver is a fault.
    fn turn(
        &mut self,
        round: usize,
        door: usize,
        side: Side,
        records: &Arc<Records>,
        count: u64,
    ) -> Result<Run, String> {
        let Door { tls, child, access } = &self.endpoints[door];
        let stats = || child.stats().map_err(|error| error.to_string());
        let before = stats()?;
        let measured = match side {
            Side::Ours => {
                Load { access, cores: 1, cpus: None, submitters: 1, streams: 1, records: count }.run(records)?
            }
            Side::Sdk => sdk::run(access, records, count)?,
        };
        let after = stats()?;
        let size = records.size();
        let run = figures(round, side, *tls, size, &measured, after.connections - before.connections);
        let named = format!("{size} B, {side:?}, round {}", round + 1);
        if run.records_delivered != count {
            self.faults.push(format!("{named}: {} of {count} records delivered", run.records_delivered));
        }
        // What was said to be delivered must have come, warm-up included.
        if after.bytes - before.bytes < (count + warm_up(count)) * size as u64 {
            self.faults.push(format!("{named}: the sink saw {} B only", after.bytes - before.bytes));
        }
        if side == Side::Ours {
            self.runtime = measured.runtime;
        }
        Ok(run)
    }
}

fn figures(round: usize, side: Side, tls: bool, size: usize, measured: &Measured, connections: u64) -> Run {
    let (cpu_s, wall_s) = (measured.cpu.total().as_secs_f64(), measured.wall.as_secs_f64());
    let delivered = measured.delivered as f64;
    let per = |amount: f64, of: f64| if of > 0.0 { amount / of } else { 0.0 };
    let failures: &Reasons = &measured.failures;
    Run {
        round,
        side,
        tls,
        cpu_ns_per_record: per(cpu_s * 1e9, delivered),
        mb_per_cpu_s: per(delivered * size as f64 / 1e6, cpu_s),
        records_per_s: per(delivered, wall_s),
        cpu_user_s: measured.cpu.user.as_secs_f64(),
        cpu_system_s: measured.cpu.system.as_secs_f64(),
        wall_s,
        records_delivered: measured.delivered,
        kinesis_records: measured.kinesis_records,
        put_records_requests: measured.requests,
        connections,
        failures: listed(failures),
    }
}

fn case(record_size: usize, tls: bool, records_per_run: u64, runs: &[Run]) -> Case {
    let of_side = |side: Side| {
        let of = |measure: fn(&Run) -> f64| Spread::of(runs_of(runs, (side, tls)).map(measure));
        SideFigures {
            cpu_ns_per_record: of(|run| run.cpu_ns_per_record),
            mb_per_cpu_s: of(|run| run.mb_per_cpu_s),
            records_per_s: of(|run| run.records_per_s),
        }
    };
    Case {
        record_size,
        tls,
        records_per_run,
        ours: of_side(Side::Ours),
        sdk: of_side(Side::Sdk),
        ours_over_sdk: ratios(runs, (Side::Ours, tls), (Side::Sdk, tls)),
        runs: runs.iter().filter(|run| run.tls == tls).cloned().collect(),
    }
}

/// Processor time a record of one over the other's, round by round; a round in which the other has none is left out.
fn ratios(runs: &[Run], one: (Side, bool), other: (Side, bool)) -> Spread {
    let pairs = runs_of(runs, one).zip(runs_of(runs, other));
    let cpu = pairs.map(|(one, other)| (one.cpu_ns_per_record, other.cpu_ns_per_record));
    Spread::of(cpu.filter(|(_, other)| *other > 0.0).map(|(one, other)| one / other))
}

/// The runs of a side over TLS or not, in the order of rounds.
fn runs_of(runs: &[Run], (side, tls): (Side, bool)) -> impl Iterator<Item = &Run> {
    runs.iter().filter(move |run| run.side == side && run.tls == tls)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::args::TlsChoice;

    fn run_of(round: usize, side: Side, tls: bool, cpu_us: u64) -> Run {
        let mut measured = Measured { delivered: 1000, wall: Duration::from_millis(2), ..Measured::default() };
        measured.cpu.user = Duration::from_micros(cpu_us);
        figures(round, side, tls, 100, &measured, 1)
    }

    #[test]
    fn a_run_is_told_by_record_and_by_cpu_second() {
        let run = run_of(0, Side::Ours, true, 500);
        assert_eq!((run.cpu_ns_per_record, run.mb_per_cpu_s, run.records_per_s), (500.0, 200.0, 500_000.0));
        let nothing = figures(0, Side::Ours, true, 100, &Measured::default(), 0);
        assert_eq!((nothing.cpu_ns_per_record, nothing.mb_per_cpu_s), (0.0, 0.0));
    }

    #[test]
    fn ratios_are_of_neighbours_and_not_of_medians_whatever_the_order_within_a_round() {
        let (ours, sdk) =
            (|round, us| run_of(round, Side::Ours, true, us), |round, us| run_of(round, Side::Sdk, true, us));
        let clear = |round, us| run_of(round, Side::Sdk, false, us);
        let runs = [ours(0, 1), sdk(0, 2), clear(0, 4), clear(1, 1), sdk(1, 10), ours(1, 10), ours(2, 3), sdk(2, 12)];
        let spread = ratios(&runs, (Side::Ours, true), (Side::Sdk, true));
        assert_eq!((spread.min, spread.median, spread.max), (0.25, 0.5, 1.0));
        let case = case(100, true, 1000, &runs);
        assert_eq!((case.ours_over_sdk, case.runs.len(), case.sdk.cpu_ns_per_record.max), (spread, 6, 12.0));
        let across = ratios(&runs, (Side::Ours, true), (Side::Sdk, false));
        assert_eq!((across.min, across.max), (0.25, 10.0));
    }

    #[test]
    fn the_table_says_every_figure_and_what_went_wrong() {
        let runs = [run_of(0, Side::Ours, true, 500), run_of(0, Side::Sdk, true, 1000)];
        let mut comparison = Comparison {
            passed: true,
            fair_build: true,
            machine: Machine {
                cpu_model: "CPU".to_owned(),
                cpus: 2,
                commit: None,
                lanes: "avx2".to_owned(),
                profile: "compare",
            },
            settings: settings(
                &CompareOptions {
                    runs: 1,
                    sizes: vec![100],
                    tls: TlsChoice::On,
                    records: None,
                    any_build: false,
                    json: None,
                },
                "tokio".to_owned(),
                &Cpus(vec![0, 1]),
            ),
            cases: vec![case(100, true, 1000, &runs)],
            questions: vec![Question { record_size: 100, ours_tls_over_sdk_clear: Spread::of([0.75]) }],
            faults: Vec::new(),
        };
        let text = comparison.to_string();
        for part in
            ["client on CPU 0, sink on CPU 1", "0.500 (0.500 to 0.500)", "0.750", "1 000", "500 000", "delivered"]
        {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("NOT FAIR"));
        (comparison.passed, comparison.fair_build) = (false, false);
        comparison.faults.push("a record is missing".to_owned());
        let text = comparison.to_string();
        assert!(["NOT FAIR", "a record is missing", "FAILED"].iter().all(|part| text.contains(part)), "{text}");
    }
}
