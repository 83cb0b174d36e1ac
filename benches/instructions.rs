//! How many instructions does each stage of a record's way take?
//!
//! Time tells little on a machine that others use too; instructions, counted by `valgrind --tool=callgrind`, come out the
//! same each time. `.ci/instructions` counts them and compares them with `instructions.json`.
//!
//! ```text
//!   instructions STAGE RECORDS     drives STAGE through a warm-up and then RECORDS records, and counts in `counted` alone
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
//! | `whole` | `accept`, `send` and `settle` |
//!
//! So `accept` less `route` is the aggregator's, and `send` less `encode` is what chooses what goes into a request.
//!
//! Topology: one thread and an engine that is driven by hand; for `put` a producer whose core takes what is put on a thread
//! of its own, which is not counted. 8 shards, 10 000 keys of 10 bytes drawn from a fixed seed, data of 100 bytes,
//! aggregates of 50 KiB, requests of 1 MiB in CBOR, a limiter that never holds anything back, nobody who waits.
//!
//! Envelope, for each record: MD5 of a key, 64 bytes at some 10 instructions each; MD5 of 118 bytes of aggregate, as
//! much again; three copies of 100 bytes at 32 bytes an instruction; some hundred instructions to decide where it goes.

#[path = "instructions/engine.rs"]
mod engine;
#[cfg(feature = "aws")]
#[path = "instructions/put.rs"]
mod put;
#[path = "instructions/records.rs"]
mod records;

use std::hint::black_box;
use std::process::ExitCode;

/// What runs in here is counted: `callgrind --toggle-collect` is given its name.
#[inline(never)]
fn counted<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

/// A stage's name, and what drives so many records through it, after a warm-up of as many.
type Stage = (&'static str, fn(usize));

const STAGES: &[Stage] = &[
    #[cfg(feature = "aws")]
    ("put", put::run),
    ("route", engine::route),
    ("accept", |records| engine::run(&[engine::Part::Accept], records)),
    ("send", |records| engine::run(&[engine::Part::Send], records)),
    ("encode", engine::encode),
    ("settle", |records| engine::run(&[engine::Part::Settle], records)),
    ("whole", |records| engine::run(&[engine::Part::Accept, engine::Part::Send, engine::Part::Settle], records)),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let named = |name: &str| STAGES.iter().find(|(stage, _)| *stage == name);
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => STAGES.iter().for_each(|(_, run)| run(20_000)),
        [name, records] if let (Some((_, run)), Ok(records)) = (named(name), records.parse()) => run(records),
        _ => {
            eprintln!("instructions [STAGE RECORDS], a stage being one of:");
            STAGES.iter().for_each(|(name, _)| eprintln!("  {name}"));
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
