//! Resident memory of this process while records are put: a sample a second, kept as a mean a minute.
//!
//! ```text
//!   0 … 5 min: rings, slots, buffers and allocator find their size      5 min … end: what grows now, goes on growing
//! ```
//!
//! The endpoint is another process and so not in it; the bench itself is, which is why all that it keeps by record or by
//! second has a bound: the queues of outcomes have their memory from the start, and so have the minutes here. Growth is the
//! slope of the line through the minutes after the fifth that fits best, as one late sample says little.

use std::fs;
use std::time::Duration;

use serde::Serialize;

/// How often memory is looked at.
pub const EVERY: Duration = Duration::from_secs(1);
/// Minutes after which growth counts.
const BASE_MINUTES: usize = 5;
/// Most minutes that are kept: the longest run's.
const MINUTES_MAX: usize = 24 * 60 + 1;

/// Samples of a run.
pub struct Memory {
    /// Sum and number of the samples of each minute.
    minutes: Vec<(u64, u64)>,
    max_bytes: u64,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory { minutes: Vec::with_capacity(MINUTES_MAX), max_bytes: 0 }
    }
}

/// What is reported of it, in MiB.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MemoryFigures {
    pub resident_max_mib: f64,
    /// In the minute after which growth counts, and in the last whole one; of runs that are long enough.
    pub base_mib: Option<f64>,
    pub end_mib: Option<f64>,
    pub growth_mib_per_10_min: Option<f64>,
    /// The mean of each minute, of the last as far as it went.
    pub by_minute_mib: Vec<f64>,
}

impl Memory {
    /// Looks at this process, so long after its run began. Where the system does not tell, nothing is kept.
    pub fn sample(&mut self, elapsed: Duration) {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        resident_bytes(&status).into_iter().for_each(|bytes| self.note(elapsed, bytes));
    }

    fn note(&mut self, elapsed: Duration, bytes: u64) {
        let minute = (elapsed.as_secs() / 60) as usize;
        if minute < MINUTES_MAX {
            self.minutes.resize(self.minutes.len().max(minute + 1), (0, 0));
            self.minutes[minute].0 += bytes;
            self.minutes[minute].1 += 1;
        }
        self.max_bytes = self.max_bytes.max(bytes);
    }

    /// What came of it.
    pub fn figures(&self) -> MemoryFigures {
        let by_minute_mib: Vec<f64> = (self.minutes.iter())
            .map(|(sum, count)| if *count == 0 { 0.0 } else { mib(*sum) / *count as f64 })
            .collect();
        let whole = by_minute_mib.len().saturating_sub(1);
        let counted = by_minute_mib.get(BASE_MINUTES..whole).unwrap_or_default();
        let growth = (counted.len() > 1).then(|| slope(counted) * 10.0);
        MemoryFigures {
            resident_max_mib: mib(self.max_bytes),
            base_mib: growth.and(counted.first().copied()),
            end_mib: growth.and(counted.last().copied()),
            growth_mib_per_10_min: growth,
            by_minute_mib,
        }
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The line in the kernel's account of a process.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// By how much values grow from one to the next, by least squares; of two values at least.
fn slope(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let (middle, mean) = ((count - 1.0) / 2.0, values.iter().sum::<f64>() / count);
    let (mut together, mut alone) = (0.0, 0.0);
    for (place, value) in values.iter().enumerate() {
        let distance = place as f64 - middle;
        together += distance * (value - mean);
        alone += distance * distance;
    }
    together / alone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_of(minutes: u64, mib_at: impl Fn(u64) -> u64) -> MemoryFigures {
        let mut memory = Memory::default();
        let seconds = 0..minutes * 60 + 30;
        seconds.for_each(|second| memory.note(Duration::from_secs(second), mib_at(second) << 20));
        assert!(memory.minutes.capacity() >= MINUTES_MAX && memory.minutes.len() as u64 == minutes + 1);
        memory.figures()
    }

    #[test]
    fn growth_counts_from_the_fifth_minute_on() {
        // A MiB a second at first, then 6 a minute.
        let figures = run_of(15, |second| if second < 300 { second } else { 300 + (second - 300) / 10 });
        let growth = figures.growth_mib_per_10_min.expect("a long run");
        assert!((growth - 60.0).abs() < 1e-6, "{figures:?}");
        assert_eq!((figures.base_mib, figures.end_mib), (Some(302.5), Some(356.5)));
        let steady = run_of(30, |_| 64);
        assert_eq!((steady.growth_mib_per_10_min, steady.resident_max_mib), (Some(0.0), 64.0));
        assert_eq!(steady.by_minute_mib.len(), 31);
    }

    #[test]
    fn a_short_run_has_no_growth_and_an_endless_one_does_not_grow_what_is_kept() {
        assert_eq!(run_of(6, |_| 64).growth_mib_per_10_min, None);
        let mut memory = Memory::default();
        memory.note(Duration::from_secs(60 * 60 * 48), 1 << 20);
        assert_eq!((memory.minutes.len(), memory.figures().resident_max_mib), (0, 1.0));
    }

    #[test]
    fn the_kernels_line_is_read() {
        assert_eq!(resident_bytes("Name:\tx\nVmHWM:\t   9 kB\nVmRSS:\t   12 kB\n"), Some(12 << 10));
        assert_eq!(resident_bytes("VmRSS: many kB"), None);
    }
}
