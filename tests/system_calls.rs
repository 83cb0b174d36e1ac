//! A put makes no system call while its core is awake or armed: the kernel watches.
//!
//! ```text
//!   test ─▶ child process ─▶ producer, warmed up ─▶ thread: "kill this process at my next system call"
//!                                                     │ puts back to back, then puts at a steady pace
//!                                                     └▶ flag ─▶ another thread ends the child: none was made
//! ```
//!
//! The filter is the putting thread's alone, and nothing that it does afterwards needs the kernel: it keeps time by
//! counting, tells by a flag, and never ends. Pages that it touches for the first time are faults, not calls.
//!
//! A core is armed for two ticks after a record, 40 ms as it is configured here. If the machine keeps the putting
//! thread, or the core, from running for longer, the core has parked meanwhile; the next put has to ring, and the child
//! dies although all is well. So a child that was killed is tried again. A call that belongs to a put kills them all.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::hint::{black_box, spin_loop};
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use endpoint::{Endpoint, EndpointConfig};
use kpl::{Producer, RateLimit, Record, RuntimeChoice, StaticCredentials};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use self::process::{as_child, run_child};
use self::styles::{Putter, STYLES, Style};

mod process;
mod styles;

/// How a child ends in which the kernel saw no call.
const NO_CALL: i32 = 42;
/// Children that may be killed before it counts.
const CHILDREN: usize = 5;
/// Records that may be outstanding.
const BUDGET: usize = 16_000;
/// Puts as fast as the thread can, and puts at a pace: together they stay below the budget.
const BACK_TO_BACK: usize = 8_000;
const PACED: usize = 3_000;
/// Far below a tick.
const PACE: Duration = Duration::from_micros(100);
const LIMIT: Duration = Duration::from_secs(60);

/// What a child does once it is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Puts to a core that has just had a record.
    Busy,
    /// Puts to a core that has parked, which must ring.
    Parked,
}

const RUNTIMES: [RuntimeChoice; 2] = [RuntimeChoice::Auto, RuntimeChoice::Tokio];
const PARTS: [Part; 2] = [Part::Busy, Part::Parked];

/// The member of `all` that prints so.
fn named<T: Copy + std::fmt::Debug>(all: &[T], name: &str) -> T {
    *all.iter().find(|one| format!("{one:?}") == name).expect("the parent names one of them")
}

/// Plays the part that the parent told.
fn play(told: &str) -> ! {
    let mut words = told.split(' ');
    let mut word = || words.next().expect("four words");
    let (url, runtime, style, part) = (word(), named(&RUNTIMES, word()), named(&STYLES, word()), named(&PARTS, word()));
    let (access_key_id, secret_access_key) = ("test".into(), "test".into());
    let credentials = StaticCredentials { access_key_id, secret_access_key, session_token: None };
    let producer = Producer::builder()
        .region("us-east-1")
        .endpoint_url(url)
        .credentials(credentials)
        .runtime(runtime)
        .rate_limit(RateLimit::Off)
        .request_timeout(LIMIT)
        // The longest tick there is. Records stay where they are until the child ends.
        .record_max_buffered_time(LIMIT * 2)
        .record_ttl(LIMIT * 4)
        .max_outstanding_records(BUDGET)
        // Never past half full, whatever the core does: that would be a reason to ring.
        .ring_bytes(16 << 20)
        .build()
        .expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let submitter = producer.submitter().expect("a submitter");
    let mut putter = Putter::new(style, submitter, stream, BUDGET);
    // Every slot that will be needed has been in use then, and one record has gone all the way in this style.
    putter.put(RECORD).expect("there is room for it");
    putter.put_until_full(RECORD);
    producer.flush().wait_timeout(LIMIT).expect("the flush ends");
    assert_eq!(putter.collect(), usize::from(putter.tells()));
    let pace = Pace::measure();

    let done = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&done);
    let mut body = move || match part {
        Part::Busy => {
            putter.put(RECORD).expect("there is room for it");
            kill_at_the_next_system_call();
            for _ in 0..BACK_TO_BACK {
                put(&mut putter);
            }
            for _ in 0..PACED {
                pace.wait(PACE);
                put(&mut putter);
            }
        }
        Part::Parked => {
            kill_at_the_next_system_call();
            // One of these pauses is long enough even for a core that the machine holds up.
            for _ in 0..100 {
                pace.wait(Duration::from_millis(200));
                put(&mut putter);
            }
        }
    };
    let watched = move || {
        body();
        told.store(true, Ordering::Release);
        loop {
            spin_loop();
        }
    };
    let _never_ends = std::thread::Builder::new().spawn(watched).expect("a thread");
    while !done.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    std::process::exit(NO_CALL)
}

const RECORD: Record<'static> =
    Record { partition_key: "customer-7", placement: kpl::Placement::ByKey, data: &[7; 100] };

/// Puts a record. If that is refused there is nothing that can be said without a call: it kills the child.
fn put(putter: &mut Putter) {
    putter.put(RECORD).expect("there is room for it");
}

/// From now on the kernel kills the process when this thread asks it for anything.
fn kill_at_the_next_system_call() {
    let arch = std::env::consts::ARCH.try_into().expect("a machine that seccomp knows");
    let filter = SeccompFilter::new(BTreeMap::new(), SeccompAction::KillProcess, SeccompAction::Allow, arch);
    let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
    apply_filter(&program).expect("the kernel takes the filter");
    // To free memory may be a call.
    std::mem::forget(program);
}

/// Time, told by counting.
#[derive(Clone, Copy)]
struct Pace {
    counts_per_us: u64,
}

impl Pace {
    #[expect(clippy::disallowed_methods, reason = "a test measures")]
    fn measure() -> Pace {
        const COUNTS: u64 = 2_000_000;
        let began = Instant::now();
        count(COUNTS);
        let us = began.elapsed().as_micros() as u64;
        Pace { counts_per_us: (COUNTS / us.max(1)).max(1) }
    }

    fn wait(self, time: Duration) {
        count(time.as_micros() as u64 * self.counts_per_us);
    }
}

fn count(counts: u64) {
    for number in 0..counts {
        black_box(number);
    }
}

/// Whether the child lived: nothing if the kernel killed it for a call.
fn lives(test: &str, url: &str, runtime: RuntimeChoice, style: Style, part: Part) -> bool {
    let status = run_child(test, &format!("{url} {runtime:?} {style:?} {part:?}"), &[]);
    match (status.code(), status.signal()) {
        (Some(NO_CALL), None) => true,
        (None, Some(libc::SIGSYS)) => false,
        other => panic!("{runtime:?}, {style:?}, {part:?}: the child ended by {other:?}"),
    }
}

#[test]
fn a_put_to_a_core_that_is_awake_or_armed_makes_no_system_call() {
    let test = "a_put_to_a_core_that_is_awake_or_armed_makes_no_system_call";
    if let Some(told) = as_child(test) {
        play(&told);
    }
    let endpoint = Endpoint::start(EndpointConfig::sink(4)).expect("an endpoint");
    // Styles differ in what the caller does, runtimes in what it would wake: each is tried with some of the other.
    for (style, runtime) in STYLES.into_iter().zip(RUNTIMES.into_iter().cycle()) {
        let lived = (0..CHILDREN).any(|_| lives(test, &endpoint.url(), runtime, style, Part::Busy));
        assert!(lived, "{runtime:?}, {style:?}: a put makes a system call");
    }
}

#[test]
fn a_put_to_a_core_that_has_parked_rings_and_the_kernel_sees_it() {
    let test = "a_put_to_a_core_that_has_parked_rings_and_the_kernel_sees_it";
    if let Some(told) = as_child(test) {
        play(&told);
    }
    let endpoint = Endpoint::start(EndpointConfig::sink(4)).expect("an endpoint");
    for runtime in RUNTIMES {
        assert!(!lives(test, &endpoint.url(), runtime, Style::Dropped, Part::Parked), "the filter sees nothing");
    }
}
