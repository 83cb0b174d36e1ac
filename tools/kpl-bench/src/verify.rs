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
        Some(Reading { kind, findings: Findings::default(), doubts })
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
}

enum Kind {
    Generated {
        plan: Plan,
        not_owed: Bitmap,
        puts: Vec<u64>,
        seen: Bitmap,
        /// Copies that are not owed, by record; where duplicates must be explained.
        surplus: HashMap<u64, u64>,
    },
    Tallied(HashMap<u64, Tally>),
    Lines {
        buckets: Vec<Bucket>,
        /// Extra lines by their hash, and how often the second reading found them.
        suspects: HashMap<u64, u64>,
    },
}

impl Reading {
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
        if self.doubts.is_some() && (again || not_owed) {
            *surplus.entry(index).or_default() += 1;
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
        // Of `copies` that are not owed, `stored` is the first of a record that failed.
        let judge = |findings: &mut Findings, tag: u64, copies: u64, stored: u64| {
            let unexplained = copies.saturating_sub(doubts.explained(tag, explains));
            let of_copies = unexplained.min(copies - stored);
            findings.unexplained_copies += of_copies;
            findings.unexplained_stored += unexplained - of_copies;
        };
        match self.kind {
            Kind::Generated { plan, not_owed, puts, seen, surplus } => {
                let put = puts.iter().enumerate();
                let all = put.flat_map(|(lane, puts)| (0..*puts).map(move |given| given * plan.lanes + lane as u64));
                findings.lost = all.filter(|index| !seen.has(*index) && !not_owed.has(*index)).count() as u64;
                for (index, copies) in surplus {
                    judge(&mut findings, index, copies, u64::from(not_owed.has(index)));
                }
            }
            Kind::Tallied(tallies) => {
                for (tag, Tally { owed, failed, read }) in tallies {
                    if owed + failed == 0 {
                        findings.corrupted += u64::from(read);
                        continue;
                    }
                    findings.lost += u64::from(owed.saturating_sub(read));
                    let copies = read.saturating_sub(owed);
                    let stored = copies.min(failed);
                    findings.stored_though_failed += u64::from(stored);
                    findings.duplicated += u64::from(copies - stored);
                    judge(&mut findings, tag, u64::from(copies), u64::from(stored));
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
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::workload::{Generator, Keys, Next, Source};

    type Record = (String, Vec<u8>);

    fn generated(lanes: u64, records: u64) -> (Plan, Vec<Record>) {
        let plan = Plan { keys: Arc::new(Keys::new(20, 4)), seed: 4, record_size: 60, lanes };
        let mut all = Vec::new();
        for lane in 0..lanes {
            let mut generator = Generator::new(plan.clone(), lane, Some(records));
            while let Ok(Next::Item(item)) = generator.next() {
                all.push((item.key.to_owned(), item.data.to_vec()));
            }
        }
        (plan, all)
    }

    fn read_all(mut reading: Reading, stream: &[Record]) -> Findings {
        stream.iter().for_each(|(key, data)| reading.read(key, data));
        if reading.needs_second_reading() {
            stream.iter().for_each(|(key, data)| reading.reread(key, data));
        }
        reading.findings(&|_| true)
    }

    fn lines_put(lines: &[Record]) -> Ledger {
        let ledger = Ledger::lines(false);
        lines.iter().for_each(|(key, data)| ledger.accepted(lines::tag(key, data)));
        ledger
    }

    fn some_lines() -> Vec<Record> {
        (0..5000).map(|number| (format!("k{}", number % 7), format!("line {}", number % 4000).into_bytes())).collect()
    }

    #[test]
    fn a_whole_stream_has_no_findings_in_any_order() {
        let (plan, mut all) = generated(3, 1000);
        all.reverse();
        let reading = Ledger::generated(plan, false).into_reading(vec![334, 333, 333]).unwrap();
        assert_eq!(read_all(reading, &all), Findings::default());
        let mut lines = some_lines();
        let ledger = lines_put(&lines);
        lines.reverse();
        assert_eq!(read_all(ledger.into_reading(vec![]).unwrap(), &lines), Findings::default());
        assert!(Ledger::off().into_reading(vec![]).is_none());
    }

    #[test]
    fn planted_loss_duplication_and_corruption_of_generated_records_are_counted_exactly() {
        let (plan, mut all) = generated(2, 1000);
        all.swap_remove(17);
        all.swap_remove(400);
        all.push(all[3].clone());
        all.push(all[3].clone());
        all.push(all[500].clone());
        all[40].1[55] ^= 4;
        all[41].0 = "another".to_owned();
        let findings = read_all(Ledger::generated(plan, false).into_reading(vec![500, 500]).unwrap(), &all);
        let expected = Findings { lost: 4, duplicated: 3, corrupted: 2, ..Findings::default() };
        assert_eq!(findings, expected);
    }

    #[test]
    fn failed_and_refused_records_are_not_owed_and_one_that_is_there_all_the_same_is_told() {
        let (plan, mut all) = generated(1, 100);
        let ledger = Ledger::generated(plan, false);
        ledger.failed(98);
        ledger.failed(97);
        ledger.refused(99);
        all.truncate(98);
        let findings = read_all(ledger.into_reading(vec![100]).unwrap(), &all);
        assert_eq!(findings, Findings { stored_though_failed: 1, ..Findings::default() });
    }

    #[test]
    fn a_record_that_was_never_put_is_corrupted() {
        let (plan, all) = generated(1, 100);
        let findings = read_all(Ledger::generated(plan, false).into_reading(vec![90]).unwrap(), &all);
        assert_eq!(findings, Findings { corrupted: 10, ..Findings::default() });
    }

    #[test]
    fn planted_loss_duplication_and_corruption_of_lines_are_counted() {
        let mut lines = some_lines();
        let ledger = lines_put(&lines);
        lines.swap_remove(17);
        lines.swap_remove(4321);
        lines.push(lines[3].clone());
        lines.push(lines[500].clone());
        lines.push(lines[600].clone());
        lines[40].1.push(b'!');
        lines[41].0 = "another".to_owned();
        let findings = read_all(ledger.into_reading(vec![]).unwrap(), &lines);
        assert_eq!(findings, Findings { lost: 4, duplicated: 3, corrupted: 2, ..Findings::default() });
    }

    #[test]
    fn copies_are_explained_by_ambiguous_attempts_and_no_further() {
        let (plan, mut all) = generated(1, 100);
        let ledger = Ledger::generated(plan, true);
        let lines = Ledger::lines(true);
        all.iter().for_each(|(key, data)| lines.accepted(lines::tag(key, data)));
        // 3 is there twice for a reason, 4 three times for one reason, 5 twice for none; 6 failed and is there, for a
        // reason, 7 for one that was not injected.
        for (record, copies, codes) in
            [(3, 1, &["Reset"][..]), (4, 2, &["Reset", "Odd"]), (5, 1, &[]), (6, 0, &["Reset"]), (7, 0, &["Odd"])]
        {
            let (key, data) = all[record].clone();
            for (ledger, tag) in [(&ledger, record as u64), (&lines, lines::tag(&key, &data))] {
                codes.iter().for_each(|code| ledger.doubted(tag, code));
                if record > 5 {
                    ledger.failed(tag);
                }
            }
            (0..copies).for_each(|_| all.push((key.clone(), data.clone())));
        }
        let expected = Findings {
            duplicated: 4,
            stored_though_failed: 2,
            unexplained_copies: 2,
            unexplained_stored: 1,
            ..Findings::default()
        };
        for ledger in [ledger, lines] {
            let mut reading = ledger.into_reading(vec![100]).unwrap();
            assert!(!reading.needs_second_reading());
            all.iter().for_each(|(key, data)| reading.read(key, data));
            assert_eq!(reading.findings(&|code| code == "Reset"), expected);
        }
    }

    #[test]
    fn tallied_lines_are_lost_or_corrupted_as_others_are() {
        let lines = some_lines();
        let ledger = Ledger::lines(true);
        lines.iter().for_each(|(key, data)| ledger.accepted(lines::tag(key, data)));
        let mut reading = ledger.into_reading(vec![]).unwrap();
        reading.read("nobody", b"put this");
        lines[2..].iter().for_each(|(key, data)| reading.read(key, data));
        assert_eq!(reading.findings(&|_| false), Findings { lost: 2, corrupted: 1, ..Findings::default() });
    }

    #[test]
    fn a_failed_line_is_not_owed() {
        let mut lines = some_lines();
        let ledger = lines_put(&lines);
        let (key, data) = lines.pop().unwrap();
        ledger.failed(lines::tag(&key, &data));
        assert_eq!(read_all(ledger.into_reading(vec![]).unwrap(), &lines), Findings::default());
    }
}
