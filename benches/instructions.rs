//! How many instructions does each stage of a record's way take?
//!
//! Time tells little on a machine that others use too; instructions, counted by `valgrind --tool=callgrind`, come out the
//! same each time. `.ci/instructions` counts them and compares them with `instructions.json`.
//!
//! ```text
//!   instructions STAGE RECORDS     drives about RECORDS records through STAGE for a warm-up and again, and counts the
//!                                  second half in `counted` alone; prints how many those were, and on which machine
//!   instructions                   drives every stage a little, and checks what comes out: a test
//! ```
//!
//! | stage | what is counted, for each record |
//! |---|---|
//! | `put` | `Submitter::try_put_detached`, on the caller's thread |
//! | `route` | a frame out of the ring, its key hashed, its shard found in the map |
//! | `accept` | the same by the engine, and the record appended to its shard's aggregate, which is sealed when it is full |
//! | `send` | a turn and its requests: limiter, collector, draw, digests, bodies |
//! | `encode` | digests and bodies alone, of aggregates that are there |
//! | `settle` | an answer read, and every member's slot told |
//!
//! So `accept` less `route` is the aggregator's, `send` less `encode` chooses what goes into a request, and `accept`, `send`
//! and `settle` are the engine's whole.
//!
//! Topology: one thread and an engine that is driven by hand; for `put` a producer whose core takes what is put on a thread
//! of its own, which is not counted. 8 shards, 10 000 keys of 10 bytes drawn from a fixed seed, data of 100 bytes,
//! aggregates of 50 KiB, requests of 1 MiB in CBOR, a limiter that never holds anything back, nobody who waits.
//!
//! Envelope, for each record, with 8 lanes of AVX2: MD5 of a key, a block of 64 bytes, and of 122 bytes of aggregate, some
//! 60 instructions a block and lane; three copies of 100 bytes at 32 bytes an instruction; a table look-up; 15 bytes of
//! header written and read; a slot taken, told and freed.

#[path = "instructions/engine.rs"]
mod engine;
#[cfg(feature = "aws")]
#[path = "instructions/put.rs"]
mod put;
#[path = "instructions/records.rs"]
mod records;

use std::hint::black_box;
use std::process::ExitCode;

use engine::Work;
use kpl::codec::lanes;

/// What runs in here is counted: `callgrind --toggle-collect` is given its name.
#[inline(never)]
fn counted<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

/// Drives about so many records through a stage for a warm-up, and again; answers how many were counted.
type Drive = fn(usize) -> u64;

const STAGES: &[(&str, Drive)] = &[
    #[cfg(feature = "aws")]
    ("put", put::run),
    ("route", engine::route),
    ("accept", |records| engine::run(Work::Accept, records)),
    ("send", |records| engine::run(Work::Send, records)),
    ("encode", engine::encode),
    ("settle", |records| engine::run(Work::Settle, records)),
];

/// What decides which code runs, as far as it can be seen.
fn machine() -> String {
    #[cfg(target_arch = "x86_64")]
    let seen = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("ermsb", is_x86_feature_detected!("ermsb")),
        ("sha", is_x86_feature_detected!("sha")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let seen: [(&str, bool); 0] = [];
    let features: Vec<&str> = seen.into_iter().filter_map(|(name, there)| there.then_some(name)).collect();
    format!("{} {} {}", std::env::consts::ARCH, lanes::kind(), features.join("+"))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let named = |name: &str| STAGES.iter().find(|(stage, _)| *stage == name);
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => STAGES.iter().for_each(|(name, run)| assert!(run(20_000) > 0, "{name}")),
        [name, records] if let (Some((_, run)), Ok(records)) = (named(name), records.parse()) => {
            println!("{} {}", run(records), machine());
        }
        _ => {
            eprintln!("instructions [STAGE RECORDS], a stage being one of:");
            STAGES.iter().for_each(|(name, _)| eprintln!("  {name}"));
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
