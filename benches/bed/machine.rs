//! The machine under a bench: which two CPUs it uses, what they are, and how far apart they lie.
//!
//! The core's side runs on the first CPU that this process may run on, the caller's on the second. A line of memory
//! that moves between them costs what [`Machine::ping_pong_ns`] says, and a hypervisor changes that from run to run; so
//! each bench prints it beside its figures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The CPUs of the bench; nothing where threads cannot be pinned or there are not two.
pub struct Machine {
    pins: Option<[usize; 2]>,
}

/// One side of a bench.
#[derive(Clone, Copy)]
pub enum Side {
    /// Where the core runs, or what stands for it, and whatever else must not disturb the caller.
    Core,
    /// Where puts are measured.
    Caller,
}

impl Machine {
    /// Looks which CPUs there are.
    pub fn look() -> Machine {
        Machine { pins: system::two_allowed() }
    }

    /// Pins the calling thread, and the threads that it starts.
    pub fn pin(&self, side: Side) {
        if let Some(pins) = self.pins {
            system::pin(pins[side as usize]);
        }
    }

    /// The CPU of a side.
    pub fn cpu(&self, side: Side) -> Option<usize> {
        self.pins.map(|pins| pins[side as usize])
    }

    /// What the CPUs are called.
    pub fn model() -> String {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        name.map_or(std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
    }

    /// How long a line takes from one side to the other: half of a round trip, the median of 21 times 2000.
    pub fn ping_pong_ns(&self) -> f64 {
        const TURNS: u64 = 2000;
        const ROUNDS: u64 = 21;
        let ball = Arc::new(AtomicU64::new(0));
        let other = Arc::clone(&ball);
        self.pin(Side::Core);
        let player = start(move || {
            // Whoever finds an odd number makes it even; partner of the store below.
            for turn in 0..TURNS * ROUNDS {
                await_ball(&other, 2 * turn + 1);
                other.store(2 * turn + 2, Ordering::Release);
            }
        });
        self.pin(Side::Caller);
        let mut rounds: Vec<f64> = (0..ROUNDS)
            .map(|round| {
                let begun = now();
                for turn in round * TURNS..(round + 1) * TURNS {
                    ball.store(2 * turn + 1, Ordering::Release);
                    await_ball(&ball, 2 * turn + 2);
                }
                begun.elapsed().as_nanos() as f64 / (2 * TURNS) as f64
            })
            .collect();
        player.join().expect("the other player does not panic");
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    }

    /// One line for the head of a report.
    pub fn describe(&self) -> String {
        let place = match self.pins {
            Some([core, caller]) => format!("core on CPU {core}, caller on CPU {caller}"),
            None => "not pinned".to_owned(),
        };
        format!("{}; {place}; a cache line moves in {:.0} ns", Machine::model(), self.ping_pong_ns())
    }
}

/// A thread that may yield, so that the game also ends where there is one CPU.
fn await_ball(ball: &AtomicU64, value: u64) {
    let mut looks = 0_u32;
    // Partner of the other player's store.
    while ball.load(Ordering::Acquire) != value {
        looks += 1;
        if looks.is_multiple_of(1 << 16) {
            std::thread::yield_now();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a bench has threads of its own")]
fn start(body: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::spawn(body)
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    pub fn two_allowed() -> Option<[usize; 2]> {
        let set = sched_getaffinity(None).ok()?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu));
        Some([allowed.next()?, allowed.next()?])
    }

    pub fn pin(cpu: usize) {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set).expect("a thread may be pinned to a CPU that it may run on");
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub fn two_allowed() -> Option<[usize; 2]> {
        None
    }

    pub fn pin(_cpu: usize) {}
}
