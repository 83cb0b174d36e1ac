//! How long does a single put take, to the last in ten thousand, and does what happens behind it show?
//!
//! Topology: one caller on one CPU; core, control thread and, in some rows, an endpoint in this process on the other.
//! Each put is timed by itself with the time stamp counter (`bed/tsc.rs`). Puts are due at fixed moments and are not
//! delayed by those before them more than they must: *late* percentiles count from the moment at which a put was due,
//! and so hold what a slow one does to those behind it.
//!
//! How the core rests follows from how it is set up, and the column `naps` shows it: how often its thread went to sleep
//! for each 1000 puts. *Armed* is the default: the linger is 100 ms, so it wakes every 20 ms while traffic flows. *Parked*:
//! the linger is 5 ms and puts come every 10 ms, five times as long as such a core waits before it parks, so that each put
//! finds it parked and wakes it. *Awake*: it is told to spin.
//!
//! Every row is run in turn, seven times over, and each percentile is the lower quartile of the seven: a host that takes
//! the CPU away for a moment spoils a run, and not the figure. What is in the table is also in `put_tail.json` in the
//! target folder, with every run.
//!
//! Envelope: 10 to 30 ns for a put that finds what it touches in its caches, a line's move (see the head of the report)
//! for each thing that the core has written since; a put that wakes its core pays the system call, some 5 µs. Between two
//! puts the caller only looks at the clock, so that nothing of its own pushes what a put touches out of its caches; other
//! programs on the machine do, which shows first at 10 000 puts a second.
//!
//! `cargo bench -p kpl --bench put_tail [-- FILTER]` takes some six minutes; as a test it makes a few puts of each kind.

#[path = "bed/lanes.rs"]
mod lanes;
#[path = "bed/machine.rs"]
mod machine;
#[path = "bed/peer.rs"]
mod peer;
#[path = "bed/producer.rs"]
mod producer;
#[path = "bed/rows.rs"]
mod rows;
#[path = "bed/tsc.rs"]
mod tsc;

use std::path::Path;
use std::time::Duration;

use machine::{Machine, Side};
use rows::{ROWS, Row};
use tsc::Clock;

/// The percentiles that are reported; the last is the worst of all.
const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 100.0];

/// How much is measured.
pub struct Extent {
    runs: usize,
    /// Of puts that are not counted, at the beginning of each run.
    warm_up: Duration,
    /// Of a run, if that makes enough puts.
    run: Duration,
    /// Least puts of a run.
    puts_min: u64,
}

/// Longer than the linger and its expiry, so that slots and credit go round.
const WHOLE: Extent =
    Extent { runs: 7, warm_up: Duration::from_millis(400), run: Duration::from_secs(1), puts_min: 30_000 };
/// Enough to see that it works.
const TRIAL: Extent = Extent { runs: 1, warm_up: Duration::ZERO, run: Duration::from_millis(2), puts_min: 20 };

/// What one run of one row measured: in nanoseconds, at [`PERCENTILES`].
pub struct Run {
    puts: u64,
    refused: u64,
    put_ns: Vec<f64>,
    late_ns: Vec<f64>,
    naps_per_1000: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let whole = arguments.iter().any(|argument| argument == "--bench");
    let extent = if whole { WHOLE } else { TRIAL };
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).cloned().unwrap_or_default();
    let rows: Vec<&Row> = ROWS.iter().filter(|row| row.name().contains(&filter)).collect();

    let machine = Machine::look();
    let about = machine.describe();
    machine.pin(Side::Caller);
    let clock = Clock::calibrated();
    println!("{about}\n{}\n", clock.describe());

    let mut runs: Vec<Vec<Run>> = rows.iter().map(|_| Vec::new()).collect();
    for number in 0..extent.runs {
        for (row, runs) in rows.iter().zip(&mut runs) {
            eprintln!("run {} of {}: {}", number + 1, extent.runs, row.name());
            runs.push(row.run(&machine, &clock, &extent));
        }
    }
    print_table(&rows, &runs);
    // A trial leaves the last report as it is.
    write_json(if whole { "put_tail.json" } else { "put_tail_trial.json" }, &about, &clock, &rows, &runs);
}

/// The lower quartile of a figure over runs.
fn quartile(runs: &[Run], figure: impl Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    values[(values.len() - 1) / 4]
}

fn print_table(rows: &[&Row], runs: &[Vec<Run>]) {
    println!("Nanoseconds; the lower quartile of {} runs of each row.\n", runs.first().map_or(0, Vec::len));
    print!("{:44}", "");
    for percentile in ["p50", "p90", "p99", "p99.9", "p99.99", "max", "late p50", "late p99.9"] {
        print!("{percentile:>11}");
    }
    println!("{:>9}{:>9}{:>9}", "naps", "puts", "refused");
    for (row, runs) in rows.iter().zip(runs) {
        print!("{:44}", row.name());
        (0..PERCENTILES.len()).for_each(|at| print!("{:11.0}", quartile(runs, |run| run.put_ns[at])));
        [0, 3].iter().for_each(|at| print!("{:11.0}", quartile(runs, |run| run.late_ns[*at])));
        let (naps, puts) = (quartile(runs, |run| run.naps_per_1000), quartile(runs, |run| run.puts as f64));
        println!("{naps:9.1}{puts:9.0}{:9.0}", quartile(runs, |run| run.refused as f64));
    }
}

fn write_json(name: &str, about: &str, clock: &Clock, rows: &[&Row], runs: &[Vec<Run>]) {
    let rows: Vec<_> = rows
        .iter()
        .zip(runs)
        .map(|(row, runs)| {
            let at = |figure: fn(&Run) -> &Vec<f64>| -> Vec<f64> {
                (0..PERCENTILES.len()).map(|at| quartile(runs, |run| figure(run)[at])).collect()
            };
            let each: Vec<_> = runs
                .iter()
                .map(|run| {
                    serde_json::json!({
                        "put_ns": run.put_ns, "late_ns": run.late_ns, "puts": run.puts, "refused": run.refused,
                        "naps_per_1000": run.naps_per_1000,
                    })
                })
                .collect();
            serde_json::json!({
                "row": row.name(), "put_ns": at(|run| &run.put_ns), "late_ns": at(|run| &run.late_ns), "runs": each,
            })
        })
        .collect();
    let report = serde_json::json!({
        "machine": about, "clock": clock.describe(), "overhead_ns": clock.overhead_ns(),
        "percentiles": PERCENTILES, "rows": rows,
    });
    // The folder that Cargo makes for a bench lies in the target folder.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a folder in the target folder");
    let path = folder.join(name);
    std::fs::write(&path, format!("{report:#}\n")).expect("the report can be written");
    println!("\n{}", path.display());
}
