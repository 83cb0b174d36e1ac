//! Loom models of `kpl::ring`; the models stand in `tests/`.
//!
//! Each model is a claim that loom tries in every interleaving with at most three preemptions. A lost wake-up shows
//! as a deadlock, a race as a causality violation, a leaked pool as a count. Beside the test that it holds stands one that
//! it would notice if it did not: a `Fault` is planted in the code, and loom must find it. They are empty without
//! `--cfg loom`:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test --release -p loom-tests
//! ```
//!
//! Each fault has a process of its own, which ends where the model panics: to unwind would run destructors, and so
//! operations of loom, in an execution that loom has given up.
#![cfg(loom)]

use std::env;
use std::future::{Future, poll_fn};
use std::os::unix::process::ExitStatusExt;
use std::panic;
use std::pin::pin;
use std::process::{self, Command};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

pub use kpl::ring::Fault;
use kpl::ring::plant;
use loom::sync::{Condvar, Mutex};

/// The tests of models: that each holds, and that it catches the faults beside it.
#[macro_export]
macro_rules! claims {
    ($($model:ident catches $($fault:ident),+;)+) => {$(
        mod $model {
            #[test]
            fn holds() {
                $crate::holds(super::$model);
            }

            #[test]
            fn catches_its_fault() {
                $($crate::catches($crate::Fault::$fault, module_path!(), super::$model);)+
            }
        }
    )+};
}

/// Tries `claim` in every interleaving.
pub fn holds(claim: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(claim);
}

/// Which fault a process plants.
const PLANTED: &str = "LOOM_TESTS_FAULT";
/// What ends a process whose memory is broken.
const SIGABRT: i32 = 6;
const SIGBUS: i32 = 7;
const SIGSEGV: i32 = 11;
/// The status of a process whose model found the fault.
const CAUGHT: i32 = 42;

/// Tries `claim` with a fault in the code, in a process of its own; `module` is that of the test that calls this.
///
/// # Panics
/// If loom finds nothing, or if the process comes to another end.
pub fn catches(fault: Fault, module: &str, claim: fn()) {
    let name = format!("{fault:?}");
    if let Ok(planted) = env::var(PLANTED) {
        if planted == name {
            catch(fault, claim);
        }
        return;
    }
    let (_crate, module) = module.split_once("::").expect("a test stands in its model's module");
    let test = format!("{module}::catches_its_fault");
    let this = env::current_exe().expect("a test knows its own file");
    let tried = Command::new(this).args([&test, "--exact", "--nocapture"]).env(PLANTED, &name).output();
    let tried = tried.expect("a process is started");
    let said = String::from_utf8_lossy(&tried.stdout);
    assert_ne!(tried.status.code(), Some(0), "loom finds nothing, though {fault:?} is planted\n{said}");
    // Where a fault breaks memory, what it breaks may be met before the model's own assertions.
    let crashed = matches!(tried.status.signal(), Some(SIGABRT | SIGBUS | SIGSEGV));
    let (status, complaint) = (tried.status, String::from_utf8_lossy(&tried.stderr));
    assert!(crashed || status.code() == Some(CAUGHT), "{status}: {said}{complaint}");
    println!("{fault:?}: {said}");
}

/// Ends the process: as caught, at the first panic that has a message. Loom ends its own threads by panics without.
fn catch(fault: Fault, claim: fn()) -> ! {
    let former = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload_as_str().is_some() {
            println!("{info}");
            process::exit(CAUGHT);
        }
        former(info);
    }));
    plant(Some(fault));
    holds(claim);
    process::exit(0);
}

/// A waker that remembers, and a thread that waits for it.
#[derive(Debug)]
pub struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    /// A signal that nobody gave yet.
    pub fn unset() -> Arc<Signal> {
        Arc::new(Signal { woken: Mutex::new(false), changed: Condvar::new() })
    }

    /// The waker that gives the signal.
    pub fn waker(self: &Arc<Signal>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// Sleeps until the signal is given, and takes it.
    pub fn wait(&self) {
        let mut woken = self.woken.lock().expect("no model panics with the lock");
        while !*woken {
            woken = self.changed.wait(woken).expect("no model panics with the lock");
        }
        *woken = false;
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *self.woken.lock().expect("no model panics with the lock") = true;
        self.changed.notify_one();
    }
}

/// Polls until it is ready; sleeps in between until the waker is called.
pub fn block_on<R>(poll: impl FnMut(&mut Context<'_>) -> Poll<R>) -> R {
    let signal = Signal::unset();
    let waker = signal.waker();
    let mut future = pin!(poll_fn(poll));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => signal.wait(),
        }
    }
}

/// Calls a waker, if there is one.
pub fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
