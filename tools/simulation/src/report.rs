//! What came of seeds: one seed's report, and the table of many.

use std::collections::BTreeMap;

use kpl::time::Time;

use crate::checker::Checker;
use crate::faults::{Faults, KINDS};
use crate::trace::Trace;

/// What came of one seed.
pub struct Report {
    /// How long it took, in virtual time.
    pub virtual_ns: u64,
    /// Records accepted.
    pub records: u64,
    /// Records by outcome.
    pub codes: BTreeMap<String, u64>,
    /// Faults by kind.
    pub faults: Vec<u64>,
    /// Promises broken.
    pub broken: Vec<String>,
    /// Hash and length of the trace.
    pub trace: (u64, u64),
}

impl Report {
    /// The report of a seed that came to no end.
    pub fn broken(text: String) -> Report {
        let (codes, faults) = (BTreeMap::new(), Vec::new());
        Report { virtual_ns: 0, records: 0, codes, faults, broken: vec![text], trace: (0, 0) }
    }

    /// The report of a world that has come to its end.
    pub fn of(now: Time, records: u64, faults: &Faults, checker: &Checker, trace: &Trace) -> Report {
        Report {
            virtual_ns: now.as_nanos(),
            records,
            codes: checker.codes.clone(),
            faults: faults.counts.clone(),
            broken: checker.broken.clone(),
            trace: trace.digest(),
        }
    }
}

/// The sum of many reports.
#[derive(Default)]
pub struct Table {
    seeds: u64,
    virtual_ns: u128,
    records: u64,
    codes: BTreeMap<String, u64>,
    faults: Vec<u64>,
    /// Seeds that broke a promise, with the first.
    pub broken: Vec<(u64, String)>,
}

impl Table {
    /// Adds a seed.
    pub fn add(&mut self, seed: u64, report: Report) {
        self.seeds += 1;
        self.virtual_ns += u128::from(report.virtual_ns);
        self.records += report.records;
        for (code, count) in report.codes {
            *self.codes.entry(code).or_default() += count;
        }
        self.faults.resize(KINDS.len(), 0);
        for (sum, count) in self.faults.iter_mut().zip(report.faults) {
            *sum += count;
        }
        if let Some(first) = report.broken.into_iter().next() {
            self.broken.push((seed, first));
        }
    }

    /// Prints it.
    pub fn print(&self) {
        println!("{:>32}  {}", "seeds", self.seeds);
        println!("{:>32}  {} s", "virtual time", self.virtual_ns / 1_000_000_000);
        println!("{:>32}  {}", "records accepted", self.records);
        for (code, count) in &self.codes {
            println!("{code:>32}  {count}");
        }
        println!("{:>32}", "-- faults --");
        for (kind, count) in KINDS.iter().zip(&self.faults).filter(|(_, count)| **count > 0) {
            println!("{:>32}  {count}", format!("{kind:?}"));
        }
        println!("{:>32}  {}", "verdict", if self.broken.is_empty() { "every promise kept" } else { "BROKEN" });
        for (seed, text) in &self.broken {
            println!("seed {seed}: {text}");
            println!("    cargo run --release -p simulation -- --seed {seed}");
        }
    }
}
