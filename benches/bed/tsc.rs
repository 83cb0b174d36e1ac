//! The clock of `put_tail`: the CPU's time stamp counter, read so that what is measured neither begins before the first
//! reading nor ends after the second.
//!
//! What a measurement of nothing costs is measured, and its median subtracted from every figure. The counter advances
//! in steps, which bound what a single measurement can tell. Where there is no such counter, `Instant` takes its
//! place; the report says which.

use std::time::{Duration, Instant};

/// A clock whose units were measured.
pub struct Clock {
    ns_per_tick: f64,
    /// Median of an empty measurement, in ticks.
    overhead: u64,
    /// Least difference of two measurements that differ, in ticks.
    step: u64,
}

impl Clock {
    /// Calibrates; takes a tenth of a second.
    pub fn calibrated() -> Clock {
        let (begun, begun_ticks) = (now(), counter::begin());
        while begun.elapsed() < Duration::from_millis(100) {}
        let (ns, ticks) = (begun.elapsed().as_nanos() as f64, counter::end() - begun_ticks);
        let mut empty: Vec<u64> = (0..100_001).map(|_| measure(|| ()).1).collect();
        empty.sort_unstable();
        // What is measured comes in lumps: the least distance of two that are more than a nanosecond apart.
        let lumps = empty.chunk_by(|one, next| next - one <= (ticks as f64 / ns) as u64).map(|lump| lump[0]);
        let lumps: Vec<u64> = lumps.collect();
        let step = lumps.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(1);
        Clock { ns_per_tick: ns / ticks as f64, overhead: empty[empty.len() / 2], step }
    }

    /// Nanoseconds of so many ticks that were measured, without the overhead.
    pub fn ns(&self, ticks: u64) -> f64 {
        ticks.saturating_sub(self.overhead) as f64 * self.ns_per_tick
    }

    /// Ticks of a duration.
    pub fn ticks(&self, duration: Duration) -> u64 {
        (duration.as_nanos() as f64 / self.ns_per_tick) as u64
    }

    /// One line for the head of a report.
    pub fn describe(&self) -> String {
        format!(
            "{}: steps of {:.1} ns; an empty measurement takes {:.1} ns, which is subtracted",
            counter::NAME,
            self.step as f64 * self.ns_per_tick,
            self.overhead as f64 * self.ns_per_tick,
        )
    }

    /// The overhead that is subtracted, in nanoseconds.
    pub fn overhead_ns(&self) -> f64 {
        self.overhead as f64 * self.ns_per_tick
    }
}

/// What `body` returns, when it began, and the ticks that it took.
#[inline(always)]
pub fn measure<T>(body: impl FnOnce() -> T) -> (T, u64) {
    let begun = counter::begin();
    let result = body();
    let ended = counter::end();
    (result, ended - begun)
}

/// The time, in ticks.
#[inline(always)]
pub fn ticks() -> u64 {
    counter::end()
}

#[expect(clippy::disallowed_methods, reason = "a bench measures")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(target_arch = "x86_64")]
mod counter {
    use std::arch::x86_64::{__rdtscp, _mm_lfence, _rdtsc};

    pub const NAME: &str = "TSC";

    /// Read after everything before it, and before everything after it.
    #[inline(always)]
    #[expect(unsafe_code, reason = "the counter has no other door")]
    pub fn begin() -> u64 {
        // SAFETY: every x86-64 has SSE2 and the counter, and the kernels that Rust's standard library runs on let
        // programs read it.
        unsafe {
            _mm_lfence();
            let ticks = _rdtsc();
            _mm_lfence();
            ticks
        }
    }

    /// The same, once all that was begun before it has been done.
    #[inline(always)]
    #[expect(unsafe_code, reason = "the counter has no other door")]
    pub fn end() -> u64 {
        let mut cpu = 0;
        // SAFETY: as above; RDTSCP is there wherever a hypervisor or a CPU of this decade is.
        unsafe {
            let ticks = __rdtscp(&raw mut cpu);
            _mm_lfence();
            ticks
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod counter {
    use std::sync::OnceLock;
    use std::time::Instant;

    pub const NAME: &str = "Instant, as this is no x86-64";

    static ORIGIN: OnceLock<Instant> = OnceLock::new();

    #[expect(clippy::disallowed_methods, reason = "a bench measures")]
    pub fn begin() -> u64 {
        let origin = *ORIGIN.get_or_init(Instant::now);
        origin.elapsed().as_nanos() as u64
    }

    pub fn end() -> u64 {
        begin()
    }
}
