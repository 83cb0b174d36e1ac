//! The ledger: what must be in the stream, what was found there, and so what was lost, duplicated or corrupted.
//!
//! *Generated records* carry their number and a stamp, so the ledger is a bitmap: one bit a record for "was read", and
//! one for "is not owed" (refused at the put, or its outcome was a failure). All three verdicts are exact, and "under
//! its own partition key" is part of being unharmed.
//!
//! *Lines* carry nothing, so the ledger is a multiset that is never held: 2^20 buckets by a 64-bit hash of key and
//! line, each with the count and the sum of the hashes that went in less those that came out. What balances is whole
//! (a wrong line in a right one's place would have to hash alike). A bucket in debt of one line lost it. A surplus
//! bucket's sum *is* the hash of its extra line, and a second reading of the stream tells whether that line is there
//! twice (duplicated) or once (so nobody put it: corrupted, and its true form is lost besides). While anomalies are
//! few against the buckets this is exact; where several fall into one bucket, a surplus counts as duplicated.
//!
//! Where faults are injected duplicates are many and must be explained one by one (`attribution.rs`), so lines are then
//! tallied by their hash instead, exactly, and ambiguous attempts are remembered by record (`doubts.rs`).
//!
//! Cost: a bit or two for each record, or 16 MiB; of lines with faults some 40 bytes for each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::doubts::Doubts;
use crate::lines;
use crate::workload::Plan;

/// Buckets of the ledger of lines, a power of two.
const BUCKETS: usize = 1 << 20;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Delivered, says their outcome, but not in the stream.
    pub lost: u64,
    /// In the stream more than once: the copies beyond the first.
    pub duplicated: u64,
    /// In the stream, but nothing that was put, or under another key.
    pub corrupted: u64,
    /// Failed, says their outcome, but in the stream all the same; no fault, where the failure said it may be.
    pub stored_though_failed: u64,
    /// Of those that are duplicated, such as no ambiguous attempt explains. Told where duplicates must be explained.
    pub unexplained_copies: u64,
    /// The same of those that are stored though they failed.
    pub unexplained_stored: u64,
    /// The same of copies that consumers drop.
    pub unexplained_dropped: u64,
    /// First copies behind a younger record of their lane and key. Told where order is looked at.
    pub out_of_order: u64,
}

/// What must be in the stream, kept while records are put. Lanes share it.
pub struct Ledger {
    books: Books,
    /// Where duplicates must be explained.
    doubts: Option<Mutex<Doubts>>,
}

enum Books {
    /// Nothing is read back.
    Off,
    Generated {
        plan: Plan,
        not_owed: Mutex<Bitmap>,
    },
    Lines(Vec<Bucket>),
    Tallied(Mutex<HashMap<u64, Tally>>),
}

/// Equal lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    owed: u32,
    failed: u32,
    read: u32,
    dropped: u32,
}

/// Lines that went in less lines that came out.
#[derive(Default)]
pub struct Bucket {
    count: AtomicI64,
    sum: AtomicU64,
}

impl Bucket {
    // Relaxed, all three: sums commute, and lanes and reader are joined by the end of the lanes' threads.

    fn add(&self, tag: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(tag, Ordering::Relaxed);
    }

    fn subtract(&self, tag: u64) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.sum.fetch_sub(tag, Ordering::Relaxed);
    }

    fn balance(&self) -> (i64, u64) {
        (self.count.load(Ordering::Relaxed), self.sum.load(Ordering::Relaxed))
    }
}

fn bucket(buckets: &[Bucket], tag: u64) -> &Bucket {
    // The top bits choose, so that the sum's low bits stay free of the choice.
    &buckets[(tag >> (64 - BUCKETS.trailing_zeros())) as usize]
}

impl Ledger {
    /// A ledger that keeps nothing.
    pub fn off() -> Ledger {
        Ledger { books: Books::Off, doubts: None }
    }

    /// A ledger for generated records; `explained` if duplicates must be.
    pub fn generated(plan: Plan, explained: bool) -> Ledger {
        let books = Books::Generated { plan, not_owed: Mutex::default() };
        Ledger { books, doubts: explained.then(Mutex::default) }
    }

    /// A ledger for lines.
    pub fn lines(explained: bool) -> Ledger {
        if explained {
            return Ledger { books: Books::Tallied(Mutex::default()), doubts: Some(Mutex::default()) };
        }
        Ledger { books: Books::Lines((0..BUCKETS).map(|_| Bucket::default()).collect()), doubts: None }
    }

    /// An attempt of a record was ambiguous, and failed with this code.
    pub fn doubted(&self, tag: u64, code: &str) {
        if let Some(doubts) = &self.doubts {
            doubts.lock().unwrap_or_else(PoisonError::into_inner).note(tag, code);
        }
    }

    /// A record was accepted: the stream owes it.
    pub fn accepted(&self, tag: u64) {
        match &self.books {
            Books::Lines(buckets) => bucket(buckets, tag).add(tag),
            Books::Tallied(tallies) => lock(tallies).entry(tag).or_default().owed += 1,
            Books::Off | Books::Generated { .. } => {}
        }
    }

    /// A record was refused at the put.
    pub fn refused(&self, tag: u64) {
        if let Books::Generated { not_owed, .. } = &self.books {
            lock(not_owed).set(tag);
        }
    }

    /// An accepted record failed: the stream does not owe it any more.
    pub fn failed(&self, tag: u64) {
        match &self.books {
            Books::Lines(buckets) => bucket(buckets, tag).subtract(tag),
            Books::Tallied(tallies) => {
                let mut tallies = lock(tallies);
                let tally = tallies.entry(tag).or_default();
                (tally.owed, tally.failed) = (tally.owed.saturating_sub(1), tally.failed + 1);
            }
            Books::Off | Books::Generated { .. } => self.refused(tag),
        }
    }

    /// Closes the ledger: now the stream is read. `puts[l]` is how many records lane `l` tried to put.
    pub fn into_reading(self, puts: Vec<u64>) -> Option<Reading> {
        let inner = |poisoned: PoisonError<_>| poisoned.into_inner();
        let kind = match self.books {
            Books::Off => return None,
            Books::Generated { plan, not_owed } => {
                let not_owed = not_owed.into_inner().unwrap_or_else(inner);
                Kind::Generated { plan, not_owed, puts, seen: Bitmap::default(), surplus: HashMap::new() }
            }
            Books::Lines(buckets) => Kind::Lines { buckets, suspects: HashMap::new() },
            Books::Tallied(tallies) => Kind::Tallied(tallies.into_inner().unwrap_or_else(PoisonError::into_inner)),
        };
        let doubts = self.doubts.map(|doubts| doubts.into_inner().unwrap_or_else(PoisonError::into_inner));
        Some(Reading { kind, findings: Findings::default(), doubts, youngest: None })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The ledger while the stream is read back.
pub struct Reading {
    kind: Kind,
    findings: Findings,
    doubts: Option<Doubts>,
    /// The youngest record so far by lane and key, where order is looked at.
    youngest: Option<HashMap<(u64, String), u64>>,
}

enum Kind {
    Generated {
        plan: Plan,
        not_owed: Bitmap,
        puts: Vec<u64>,
        seen: Bitmap,
        /// Copies that are not owed, by record; where duplicates must be explained.
        surplus: HashMap<u64, Surplus>,
    },
    Tallied(HashMap<u64, Tally>),
    Lines {
        buckets: Vec<Bucket>,
        /// Extra lines by their hash, and how often the second reading found them.
        suspects: HashMap<u64, u64>,
    },
}

/// Copies of a record that are not owed: those that consumers see, and those that they drop.
#[derive(Clone, Copy, Debug, Default)]
struct Surplus {
    seen: u64,
    dropped: u64,
}

impl Reading {
    /// From now on the order of generated records is looked at: of what one lane put under one key, first copies must be
    /// read in the order of the puts. What failed is left out, as nobody knows when it was stored.
    pub fn look_at_order(&mut self) {
        self.youngest = Some(HashMap::new());
    }

    /// A user record was read.
    pub fn read(&mut self, key: &str, data: &[u8]) {
        let (plan, not_owed, puts, seen, surplus) = match &mut self.kind {
            Kind::Lines { buckets, .. } => {
                let tag = lines::tag(key, data);
                return bucket(buckets, tag).subtract(tag);
            }
            Kind::Tallied(tallies) => return tallies.entry(lines::tag(key, data)).or_default().read += 1,
            Kind::Generated { plan, not_owed, puts, seen, surplus } => (plan, not_owed, puts, seen, surplus),
        };
        let index = plan.identify(key, data);
        let Some(index) = index.filter(|index| index / plan.lanes < puts[(index % plan.lanes) as usize]) else {
            self.findings.corrupted += 1;
            return;
        };
        let (again, not_owed) = (!seen.set(index), not_owed.has(index));
        self.findings.duplicated += u64::from(again);
        self.findings.stored_though_failed += u64::from(!again && not_owed);
        if let Some(youngest) = self.youngest.as_mut().filter(|_| !again && !not_owed) {
            let youngest = youngest.entry((index % plan.lanes, key.to_owned())).or_default();
            self.findings.out_of_order += u64::from(index < *youngest);
            *youngest = index.max(*youngest);
        }
        if self.doubts.is_some() && (again || not_owed) {
            surplus.entry(index).or_default().seen += 1;
        }
    }

    /// A user record was read in an aggregate that consumers drop. It pays no debt, but is a copy to be explained.
    pub fn read_dropped(&mut self, key: &str, data: &[u8]) {
        match &mut self.kind {
            Kind::Generated { plan, surplus, .. } if self.doubts.is_some() => match plan.identify(key, data) {
                Some(index) => surplus.entry(index).or_default().dropped += 1,
                None => self.findings.corrupted += 1,
            },
            Kind::Tallied(tallies) => tallies.entry(lines::tag(key, data)).or_default().dropped += 1,
            Kind::Generated { .. } | Kind::Lines { .. } => {}
        }
    }

    /// Whether a second reading, each record to [`Reading::reread`], is needed for the verdict.
    pub fn needs_second_reading(&mut self) -> bool {
        let Kind::Lines { buckets, suspects } = &mut self.kind else { return false };
        let extra = buckets.iter().map(Bucket::balance).filter(|(count, _)| *count == -1);
        suspects.extend(extra.map(|(_, sum)| (sum.wrapping_neg(), 0)));
        !suspects.is_empty()
    }

    /// A user record was read in the second reading.
    pub fn reread(&mut self, key: &str, data: &[u8]) {
        if let Kind::Lines { suspects, .. } = &mut self.kind {
            suspects.entry(lines::tag(key, data)).and_modify(|reads| *reads += 1);
        }
    }

    /// The verdict. `explains` says whether an ambiguous attempt with this code may have stored a copy.
    pub fn findings(self, explains: &dyn Fn(&str) -> bool) -> Findings {
        let mut findings = self.findings;
        let doubts = self.doubts.unwrap_or_default();
        // Of the copies that are seen, `stored` is the first of a record that failed.
        let judge = |findings: &mut Findings, tag: u64, surplus: Surplus, stored: u64| {
            let unexplained = (surplus.seen + surplus.dropped).saturating_sub(doubts.explained(tag, explains));
            let of_copies = unexplained.min(surplus.seen - stored);
            let of_stored = (unexplained - of_copies).min(stored);
            findings.unexplained_copies += of_copies;
            findings.unexplained_stored += of_stored;
            findings.unexplained_dropped += unexplained - of_copies - of_stored;
        };
        match self.kind {
            Kind::Generated { plan, not_owed, puts, seen, surplus } => {
                let put = puts.iter().enumerate();
                let all = put.flat_map(|(lane, puts)| (0..*puts).map(move |given| given * plan.lanes + lane as u64));
                findings.lost = all.filter(|index| !seen.has(*index) && !not_owed.has(*index)).count() as u64;
                for (index, surplus) in surplus {
                    let stored = u64::from(not_owed.has(index) && surplus.seen > 0);
                    judge(&mut findings, index, surplus, stored);
                }
            }
            Kind::Tallied(tallies) => {
                for (tag, Tally { owed, failed, read, dropped }) in tallies {
                    if owed + failed == 0 {
                        findings.corrupted += u64::from(read + dropped);
                        continue;
                    }
                    findings.lost += u64::from(owed.saturating_sub(read));
                    let copies = read.saturating_sub(owed);
                    let stored = copies.min(failed);
                    findings.stored_though_failed += u64::from(stored);
                    findings.duplicated += u64::from(copies - stored);
                    let surplus = Surplus { seen: u64::from(copies), dropped: u64::from(dropped) };
                    judge(&mut findings, tag, surplus, u64::from(stored));
                }
            }
            Kind::Lines { buckets, suspects } => {
                for (count, sum) in buckets.iter().map(Bucket::balance) {
                    match count {
                        0 if sum == 0 => {}
                        // As many as were put, but others.
                        0 => findings.corrupted += 1,
                        1.. => findings.lost += count.unsigned_abs(),
                        -1 if suspects.get(&sum.wrapping_neg()) == Some(&1) => findings.corrupted += 1,
                        _ => findings.duplicated += count.unsigned_abs(),
                    }
                }
            }
        }
        findings
    }
}

/// A set of numbers, one bit for each up to the greatest.
#[derive(Default)]
pub struct Bitmap(Vec<u64>);

impl Bitmap {
    /// Adds a number; says whether it is new.
    fn set(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        new
    }

    fn has(&self, number: u64) -> bool {
        self.0.get((number / 64) as usize).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests;
