//! The simulator: whole producers on virtual time, against a Kinesis that fails in every way we know, seed by seed.
//!
//! ```text
//! cargo run --release -p simulation                      a thousand seeds, and a table
//! cargo run --release -p simulation -- --seeds 0..50000  as many as you like
//! cargo run --release -p simulation -- --hours 100       until so many virtual hours are simulated
//! cargo run --release -p simulation -- --seed 17         one, with its trace; its hash is always the same
//! cargo run --release -p simulation -- --profile storm   with any of these: calm, storm, outage, pressure or reshard only
//! ```
//!
//! The engine under test runs unchanged, with real outcome slots, a real budget and real bytes in and out; clock, threads,
//! network and service are simulated. `promise` lists what is promised. Exit status 1 means that a promise was broken, or
//! was never looked at; 2 that the arguments make no sense.

mod arguments;
mod checker;
mod consumer;
mod control;
mod distribution;
mod drain;
mod driver;
mod ending;
mod faults;
mod fleet;
mod healing;
mod inspect;
mod kinesis;
mod network;
mod order;
mod outage;
mod pace;
#[cfg(test)]
mod planted;
mod profile;
mod promise;
mod refusal;
mod report;
mod resharding;
mod rng;
mod scenario;
mod signer;
mod source;
mod submitters;
#[cfg(test)]
mod tests;
mod trace;
mod transmission;
mod verdict;
mod wire;
mod world;

use std::process::ExitCode;

use arguments::Order;
use profile::Profile;
use report::Report;
use trace::Trace;
use world::World;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match arguments::parse(&words) {
        Ok(Order::One { seed, profile }) => run_one(seed, profile.unwrap_or_else(|| Profile::drawn(seed))),
        Ok(Order::Many { first, end, hours, profile }) => {
            let table = fleet::run(first, end, hours, profile);
            table.print();
            ExitCode::from(u8::from(!table.is_good()))
        }
        Ok(Order::Help) => {
            println!("{}", arguments::USAGE);
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("{fault}\n\n{}", arguments::USAGE);
            ExitCode::from(2)
        }
    }
}

fn run_one(seed: u64, profile: Profile) -> ExitCode {
    let Report { broken, trace: (hash, lines), codes, .. } =
        World::new(seed, profile, None, Trace::new(true, true)).run();
    println!("seed {seed}, {}: {lines} lines, hash {hash:016x}, {codes:?}", profile.name());
    for text in &broken {
        println!("BROKEN {text}");
    }
    ExitCode::from(u8::from(!broken.is_empty()))
}
