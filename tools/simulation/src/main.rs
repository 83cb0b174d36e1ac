//! The simulator: whole producers on virtual time, against a Kinesis that fails in every way we know, seed by seed.
//!
//! ```text
//! cargo run --release -p simulation                      a thousand seeds
//! cargo run --release -p simulation -- --seeds 0..50000  as many as you like
//! cargo run --release -p simulation -- --seed 17         one, with its trace; its hash is always the same
//! ```
//!
//! The engine under test runs unchanged, with real outcome slots, a real budget and real bytes in and out; clock, threads,
//! network and service are simulated. `checker` lists what is promised. Exit status 1 means that a promise was broken.

mod checker;
mod consumer;
mod control;
mod driver;
mod faults;
mod inspect;
mod kinesis;
mod network;
#[cfg(test)]
mod planted;
mod report;
mod rng;
mod scenario;
#[cfg(test)]
mod tests;
mod trace;
mod verdict;
mod wire;
mod world;

use std::ops::Range;
use std::process::ExitCode;

use report::{Report, Table};
use trace::Trace;
use world::World;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        [] => run_many(0..1000),
        ["--seeds", range] => match range.split_once("..").map(|(a, b)| (a.parse(), b.parse())) {
            Some((Ok(first), Ok(end))) => run_many(first..end),
            _ => usage(),
        },
        ["--seed", seed] => seed.parse().map_or_else(|_| usage(), run_one),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("simulation [--seeds FIRST..END | --seed SEED]");
    ExitCode::from(2)
}

fn run_many(seeds: Range<u64>) -> ExitCode {
    let mut table = Table::default();
    for seed in seeds {
        table.add(seed, run_caught(seed));
    }
    table.print();
    ExitCode::from(u8::from(!table.broken.is_empty()))
}

/// A panic of the engine is a broken promise too, and must not end the run.
fn run_caught(seed: u64) -> Report {
    std::panic::catch_unwind(|| World::new(seed, None, Trace::default()).run()).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Report::broken(format!("panic: {}", text.unwrap_or_default()))
    })
}

fn run_one(seed: u64) -> ExitCode {
    let Report { broken, trace: (hash, lines), codes, .. } = World::new(seed, None, Trace::new(true, true)).run();
    println!("seed {seed}: {lines} lines, hash {hash:016x}, {codes:?}");
    for text in &broken {
        println!("BROKEN {text}");
    }
    ExitCode::from(u8::from(!broken.is_empty()))
}
