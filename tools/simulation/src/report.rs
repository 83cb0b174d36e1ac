//! What came of seeds: one seed's report, and the table of many, with its verdict.
//!
//! A table is good if no seed broke a promise; if the requests in outages, all seeds together, keep to 1.2 times the fair
//! number (I17); and if, in a long run of all profiles, no promise went unchecked.

use std::collections::BTreeMap;

use crate::arguments::SEEDS;
use crate::faults::KINDS;
use crate::outage::Requests;
use crate::profile::Profile;
use crate::promise::{Checked, PROMISES, Promise};
use crate::transmission::Traffic;
use crate::world::World;

/// What came of one seed.
pub struct Report {
    /// Its profile.
    pub profile: Profile,
    /// How long it took, in virtual time.
    pub virtual_ns: u64,
    /// Records accepted.
    pub records: u64,
    /// What was sent.
    pub traffic: Traffic,
    /// Records by outcome.
    pub codes: BTreeMap<String, u64>,
    /// Faults by kind.
    pub faults: Vec<u64>,
    /// Requests in outages.
    pub in_outages: Requests,
    /// How often cores wanted shards listed, and how often they were.
    pub listings: (u64, u64),
    /// Copies beyond the first, and ambiguous attempts.
    pub duplicates: (u64, u64),
    /// How often each promise was checked.
    pub checked: Checked,
    /// Promises broken.
    pub broken: Vec<String>,
    /// Hash and length of the trace.
    pub trace: (u64, u64),
    /// A hash of all moments, which needs no trace.
    pub pulse: u64,
}

impl Report {
    /// The report of a seed that came to no end.
    pub fn panicked(profile: Profile, text: String) -> Report {
        Report {
            profile,
            virtual_ns: 0,
            records: 0,
            traffic: Traffic::default(),
            codes: BTreeMap::new(),
            faults: Vec::new(),
            in_outages: Requests::default(),
            listings: (0, 0),
            duplicates: (0, 0),
            checked: Checked::default(),
            broken: vec![text],
            trace: (0, 0),
            pulse: 0,
        }
    }

    /// The report of a world that has come to its end.
    pub fn of(world: &World) -> Report {
        let checker = &world.checker;
        Report {
            profile: world.plan.profile,
            virtual_ns: world.now.as_nanos(),
            records: checker.records.len() as u64,
            traffic: world.traffic,
            codes: checker.codes.clone(),
            faults: world.faults.counts.clone(),
            in_outages: world.in_outages,
            listings: world.listings.iter().fold((0, 0), |sum, of| (sum.0 + of.wanted, sum.1 + of.made)),
            duplicates: checker.duplicates,
            checked: checker.checked.clone(),
            broken: checker.broken.clone(),
            trace: world.trace.digest(),
            pulse: world.pulse(),
        }
    }
}

/// The sum of many reports.
pub struct Table {
    /// The profile of all seeds, if they did not draw one each.
    profile: Option<Profile>,
    by_profile: BTreeMap<&'static str, u64>,
    seeds: u64,
    virtual_ns: u128,
    records: u64,
    traffic: Traffic,
    codes: BTreeMap<String, u64>,
    faults: Vec<u64>,
    in_outages: Requests,
    listings: (u64, u64),
    duplicates: (u64, u64),
    checked: Checked,
    /// Seeds that broke a promise, with their profile and the first promise.
    broken: Vec<(u64, Profile, String)>,
    hash: u64,
}

/// The requests of all outages are at most so many tenths of the fair number.
const OUTAGE_TENTHS: u64 = 12;

impl Table {
    /// An empty table.
    pub fn new(profile: Option<Profile>) -> Table {
        Table {
            profile,
            by_profile: BTreeMap::new(),
            seeds: 0,
            virtual_ns: 0,
            records: 0,
            traffic: Traffic::default(),
            codes: BTreeMap::new(),
            faults: vec![0; KINDS.len()],
            in_outages: Requests::default(),
            listings: (0, 0),
            duplicates: (0, 0),
            checked: Checked::default(),
            broken: Vec::new(),
            hash: 0xCBF2_9CE4_8422_2325,
        }
    }

    /// Adds a seed.
    pub fn add(&mut self, seed: u64, report: Report) {
        self.seeds += 1;
        *self.by_profile.entry(report.profile.name()).or_default() += 1;
        self.virtual_ns += u128::from(report.virtual_ns);
        self.records += report.records;
        self.traffic.requests += report.traffic.requests;
        self.traffic.kinesis_records += report.traffic.kinesis_records;
        self.traffic.user_records += report.traffic.user_records;
        for (code, count) in report.codes {
            *self.codes.entry(code).or_default() += count;
        }
        for (sum, count) in self.faults.iter_mut().zip(report.faults) {
            *sum += count;
        }
        self.in_outages.outages += report.in_outages.outages;
        self.in_outages.sent += report.in_outages.sent;
        self.in_outages.fair_milli += report.in_outages.fair_milli;
        self.listings.0 += report.listings.0;
        self.listings.1 += report.listings.1;
        self.duplicates.0 += report.duplicates.0;
        self.duplicates.1 += report.duplicates.1;
        self.checked.add(&report.checked);
        self.hash = (self.hash ^ report.pulse).wrapping_mul(0x0100_0000_01B3).rotate_left(17);
        if let Some(first) = report.broken.into_iter().next() {
            self.broken.push((seed, report.profile, first));
        }
    }

    /// Virtual hours so far.
    pub fn virtual_hours(&self) -> f64 {
        self.virtual_ns as f64 / 3.6e12
    }

    /// Whether every promise was kept, and looked at.
    pub fn is_good(&self) -> bool {
        self.broken.is_empty() && !self.storms_outages() && self.unchecked().is_empty()
    }

    /// I17, over all seeds.
    fn storms_outages(&self) -> bool {
        self.in_outages.sent * 10_000 > self.in_outages.fair_milli * OUTAGE_TENTHS
    }

    /// Promises that nobody looked at, if somebody was to.
    fn unchecked(&self) -> Vec<Promise> {
        let expected = self.profile.is_none() && self.seeds >= SEEDS;
        PROMISES.iter().copied().filter(|promise| expected && self.checked.of(*promise) == 0).collect()
    }

    /// Prints it.
    pub fn print(&self) {
        let line = |name: &str, value: &dyn std::fmt::Display| println!("{name:>38}  {value}");
        line("seeds", &self.seeds);
        for (profile, seeds) in &self.by_profile {
            line(profile, seeds);
        }
        line("virtual hours", &format!("{:.2}", self.virtual_hours()));
        line("user records accepted", &self.records);
        line("requests", &self.traffic.requests);
        line("Kinesis records sent", &self.traffic.kinesis_records);
        line("user records sent, with retries", &self.traffic.user_records);
        line("duplicates seen", &self.duplicates.0);
        line("ambiguous attempts that explain them", &self.duplicates.1);
        line("requests in outages", &format!("{} in {}", self.in_outages.sent, self.in_outages.outages));
        line("the fair number of them", &(self.in_outages.fair_milli / 1000));
        line("maps that cores wanted", &self.listings.0);
        line("listings of shards", &self.listings.1);
        println!("{:>38}", "-- outcomes --");
        self.codes.iter().for_each(|(code, count)| line(code, count));
        println!("{:>38}", "-- faults --");
        for (kind, count) in KINDS.iter().zip(&self.faults).filter(|(_, count)| **count > 0) {
            line(&format!("{kind:?}"), count);
        }
        println!("{:>38}", "-- promises, and how often checked --");
        for promise in PROMISES {
            println!("{:>38}  {:>12}  {}", format!("{promise:?}"), self.checked.of(*promise), promise.text());
        }
        line("hash of all seeds", &format!("{:016x}", self.hash));
        line("verdict", if self.is_good() { &"every promise kept" } else { &"BROKEN" });
        self.print_broken();
    }

    fn print_broken(&self) {
        for (seed, profile, text) in &self.broken {
            let profile = profile.name();
            println!("seed {seed}, {profile}: {text}");
            println!("    cargo run --release -p simulation -- --seed {seed} --profile {profile}");
        }
        if self.storms_outages() {
            println!("I17: the requests in outages are more than 1.2 times the fair number");
        }
        for promise in self.unchecked() {
            println!("{promise:?}: never checked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_bad_if_outages_are_stormed_or_a_promise_was_never_looked_at() {
        let mut table = Table::new(None);
        table.in_outages = Requests { outages: 1, sent: 12, fair_milli: 10_000 };
        assert!(table.is_good());
        table.in_outages.sent = 13;
        assert!(!table.is_good());
        table.in_outages.sent = 0;
        table.seeds = SEEDS;
        assert!(!table.is_good());
        PROMISES.iter().for_each(|promise| table.checked.note(*promise));
        assert!(table.is_good());
        table.add(7, Report::panicked(Profile::Calm, "panic: no".to_owned()));
        assert!(!table.is_good());
    }
}
