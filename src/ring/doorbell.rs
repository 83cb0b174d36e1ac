//! A core's doorbell: the one shared cache line that a put reads.
//!
//! Waking a thread costs its waker microseconds, so it must be rare. A core says how it rests:
//!
//! ```text
//!   AWAKE ── rest(Armed) ──▶ ARMED ──┐  sleeps on a timer while traffic flows; a put rings only past half a ring
//!     ▲  └── rest(Parked) ─▶ PARKED ─┤  sleeps until it is rung; the first put rings
//!     │                              ▼
//!     └───────── awake() ────────── RUNG  whoever rings; the core is on its way, its clock still old
//! ```
//!
//! Beside it stands a level that only rises: open, closing (no new puts), closed (the core drains no more).
//!
//! No wake-up is lost. The core writes the state, fences, then looks at its rings once more before it sleeps; a put
//! publishes its frame, fences, then looks at the state. One of the two fences is first, so that either the put sees
//! that the core rests, or the core sees the frame. The same holds for the close: after [`Doorbell::close`] the core
//! drains once more, and a put whose frame that drain misses is told [`Published::Closed`].
//!
//! How a core rests:
//!
//! ```text
//!   bell.rest(Rest::Parked);
//!   if any ring has a frame { bell.awake(); work } else { wait for bell.poll_rung(cx); bell.tick(now); bell.awake() }
//! ```
//!
//! Fences come in pairs, one in a put and one in a core that parks or closes. Those of puts are by far the more
//! frequent, so a bell can be given a barrier that acts on all threads of the process at once ([`Doorbell::with_barrier`],
//! Linux has one): then the core pays for both, and a put's fence is but a word to its compiler. The bell then costs a put
//! two loads from one line.
//! Resting ARMED the core calls no barrier: a put that misses this state leaves its frame to the core's next tick.
//!
//! Cost of a put: `observe` reads the line, `published` reads it again, behind a fence if there is no barrier; a lock is
//! taken only to ring.

use std::task::{Context, Poll, Waker};

use crossbeam_utils::CachePadded;

use super::fault::{Fault, fence_against, is_planted, order};
#[cfg(not(loom))]
use super::shim::compiler_fence;
use super::shim::{self, AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering, fence};

const AWAKE: u32 = 0;
const ARMED: u32 = 1;
const PARKED: u32 = 2;
const RUNG: u32 = 3;
const REST: u32 = 3;
const CLOSING: u32 = 4;
const CLOSED: u32 = 8;

/// How a core sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// On a timer, while traffic flows: woken earlier only by a put that leaves its ring more than half full.
    Armed,
    /// Until it is rung: the first put rings.
    Parked,
}

/// What a put saw of its core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(u32);

impl State {
    /// The core runs, or wakes by itself within a tick, so that its clock is that fresh.
    pub fn is_ticking(self) -> bool {
        matches!(self.0 & REST, AWAKE | ARMED)
    }

    /// No new puts are accepted.
    pub fn is_closing(self) -> bool {
        self.0 & (CLOSING | CLOSED) != 0
    }

    /// The core drains its rings no more.
    pub fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }
}

/// What [`Doorbell::observe`] read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The coarse clock: the time of a recent tick of the core, in nanoseconds. It is never ahead. It is stale unless
    /// [`State::is_ticking`].
    pub now_ns: u64,
    /// How the core was.
    pub state: State,
}

/// What became of a frame that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Published {
    /// The core will see it by itself.
    Quiet,
    /// The core was woken for it.
    Rang,
    /// The core is closed. It may have taken the frame with its last drain or not; the frame's ticket tells.
    Closed,
}

#[derive(Debug)]
struct Line {
    /// How the core rests, and the level.
    state: AtomicU32,
    /// Whether the core's barriers act for puts too. Models ignore it.
    #[cfg(not(loom))]
    light: bool,
    clock_ns: AtomicU64,
}

/// See the essay.
#[derive(Debug)]
pub struct Doorbell {
    line: CachePadded<Line>,
    /// A fence of the thread that calls it and of every other thread of the process.
    barrier: Option<fn() -> bool>,
    /// Rung since the core last looked.
    rung: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Default for Doorbell {
    fn default() -> Doorbell {
        Doorbell::new()
    }
}

impl Doorbell {
    /// The doorbell of a core that is awake and open; its clock stands at 0.
    pub fn new() -> Doorbell {
        Doorbell::with(None)
    }

    /// The same, with a barrier that is a `SeqCst` fence of every thread of the process, or answers that it was none. The
    /// core calls it when it parks and when it closes, and puts need none of their own. Models ignore it: there both sides
    /// fence.
    pub fn with_barrier(barrier: fn() -> bool) -> Doorbell {
        Doorbell::with(Some(barrier))
    }

    fn with(barrier: Option<fn() -> bool>) -> Doorbell {
        let (state, clock_ns) = (AtomicU32::new(AWAKE), AtomicU64::new(0));
        Doorbell {
            line: CachePadded::new(Line {
                state,
                #[cfg(not(loom))]
                light: barrier.is_some(),
                clock_ns,
            }),
            barrier,
            rung: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    /// The core's side of a pair of fences. False if puts have not fenced with it.
    fn core_fence(&self, fault: Fault) -> bool {
        // Partner of `put_fence`.
        fence_against(fault);
        self.barrier.is_none_or(|barrier| barrier())
    }

    /// A put's side.
    #[inline(always)]
    fn put_fence(&self) {
        // Partner of `core_fence`, whose barrier acts here wherever it falls, as long as the compiler keeps the order.
        #[cfg(not(loom))]
        if self.line.light {
            return compiler_fence(Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
    }

    /// Core: moves the coarse clock.
    pub fn tick(&self, now_ns: u64) {
        // Relaxed: an older time is as true; `awake` publishes it to who sees the core awake.
        self.line.clock_ns.store(now_ns, Ordering::Relaxed);
    }

    /// Core: moves the coarse clock, if it is `step_ns` behind. Each move costs every put a cache miss.
    pub fn tick_by(&self, now_ns: u64, step_ns: u64) {
        // Relaxed: the core alone writes it.
        if now_ns.saturating_sub(self.line.clock_ns.load(Ordering::Relaxed)) >= step_ns {
            self.tick(now_ns);
        }
    }

    /// Core: says that it is about to sleep. It must look at its rings once more before it does. False if a put that was
    /// published this moment may ring nobody, so that the core must not sleep without a timer.
    pub fn rest(&self, rest: Rest) -> bool {
        let rest = if rest == Rest::Armed { ARMED } else { PARKED };
        // The state is only ever written by read-modify-write, so that a level set meanwhile is not lost. Partner of
        // the load in `published`.
        let mut state = self.line.state.load(Ordering::Relaxed);
        if is_planted(Fault::BellRestStores) {
            self.line.state.store(state & !REST | rest, Ordering::SeqCst);
        }
        while let Err(now) =
            self.line.state.compare_exchange_weak(state, state & !REST | rest, Ordering::SeqCst, Ordering::Relaxed)
        {
            state = now;
        }
        // Partner of the fence in `published`: it sees this state, or we see its frame.
        if rest == PARKED {
            return self.core_fence(Fault::BellRestUnfenced);
        }
        fence_against(Fault::BellRestUnfenced);
        false
    }

    /// Core: says that it runs. Tick first, so that nobody takes an old time for a fresh one.
    pub fn awake(&self) {
        // Release: the clock; partner of the load in `observe`.
        self.line.state.fetch_and(!REST, order(Ordering::AcqRel, Fault::BellAwakeRelaxed));
    }

    /// Core: ready if it was rung since the last time that this was ready; else `cx`'s waker is called when it is.
    pub fn poll_rung(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.take_rung() {
            return Poll::Ready(());
        }
        let former = {
            let mut waker = shim::lock(&self.waker);
            match &*waker {
                Some(registered) if registered.will_wake(cx.waker()) => None,
                _ => waker.replace(cx.waker().clone()),
            }
        };
        drop(former);
        if is_planted(Fault::BellUnlooked) {
            return Poll::Pending;
        }
        // Whoever rings sets the flag before it takes the lock: it found our waker, or we find its flag.
        if self.take_rung() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn take_rung(&self) -> bool {
        // Acquire: partner of the swap in `ring`.
        self.rung.swap(false, Ordering::AcqRel)
    }

    /// Any thread: no new puts are accepted from now on. A put that began earlier may still publish.
    pub fn set_closing(&self) {
        // Partner of the loads in `observe` and `published`.
        self.line.state.fetch_or(CLOSING, Ordering::SeqCst);
    }

    /// Core: says that it drains no more. It must drain its rings once more afterwards, to what they hold then.
    pub fn close(&self) {
        // Partner of the load in `published`.
        self.line.state.fetch_or(CLOSING | CLOSED, Ordering::SeqCst);
        // Partner of the fence in `published`: it sees this state, or the last drain sees its frame.
        // Without the barrier a put of this very moment can be missed by both: its record is abandoned when its submitter
        // goes, and that is told.
        self.core_fence(Fault::BellCloseUnfenced);
    }

    /// Caller: the time and how the core is.
    #[inline]
    pub fn observe(&self) -> Observed {
        // Acquire: partner of `awake`; the clock read next is not older than that waking.
        let state = State(self.line.state.load(Ordering::Acquire));
        // Relaxed: partner of the store in `tick`.
        Observed { now_ns: self.line.clock_ns.load(Ordering::Relaxed), state }
    }

    /// Caller: after a push. Rings if the core must be woken for it; `past_half` says that the caller's ring is more
    /// than half full.
    #[inline]
    pub fn published(&self, past_half: bool) -> Published {
        // Partner of the fences in `rest` and `close`: we see what they wrote, or they see our frame.
        self.put_fence();
        // Relaxed: the fence orders it.
        let state = self.line.state.load(Ordering::Relaxed);
        if state & CLOSED != 0 {
            return Published::Closed;
        }
        let asleep = state & REST == PARKED || (state & REST == ARMED && past_half);
        // Of several that see the core rest, the one that moves the state rings.
        if !asleep || !self.move_to_rung(state) {
            return Published::Quiet;
        }
        self.wake();
        Published::Rang
    }

    /// Any thread: wakes the core, however it rests. For commands that do not come through a ring.
    pub fn ring(&self) {
        // Relaxed: whatever we find, the flag that `wake` sets is what the core goes by.
        self.move_to_rung(self.line.state.load(Ordering::Relaxed));
        self.wake();
    }

    /// Says that somebody rings, if the core still rests and nobody else does.
    fn move_to_rung(&self, mut state: u32) -> bool {
        while matches!(state & REST, ARMED | PARKED) {
            // Partner of `rest` and `awake`.
            match self.line.state.compare_exchange_weak(state, state | RUNG, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    fn wake(&self) {
        // Release: what was published before; partner of `take_rung`.
        self.rung.swap(true, Ordering::AcqRel);
        let waker = shim::lock(&self.waker).clone();
        if let Some(waker) = waker {
            shim::wake(waker);
        }
    }
}
