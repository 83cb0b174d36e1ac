//! What the producer allocates: nothing for a put, nothing for a record, and for a request a bounded number.
//!
//! ```text
//!   test's thread:   put, put, put …                 ─▶ counted: 0
//!   kpl-core-0:      drain, aggregate, send, settle  ─▶ counted: so many a request and a Kinesis record, none a record
//!   endpoint, kpl-control, …                         ─▶ counted, and not looked at
//! ```
//!
//! The program's allocator counts by thread. A core is found by its thread's name. All is measured after a warm-up that
//! fills the budget, so that every slot, ring and buffer is there that is ever needed.
//!
//! `KPL_ALLOCATIONS_FROM=1 cargo test --test allocations -- --nocapture` says where the cores' allocations come from.

#![cfg(target_os = "linux")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use endpoint::{Endpoint, EndpointConfig};
use kpl::{Producer, RateLimit, Record, RuntimeChoice, StaticCredentials};

use self::styles::{Putter, STYLES, Style};

mod styles;

/// Counts by thread what it takes from the system's allocator.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// More threads than this program ever starts; later ones share the last entry.
const THREADS_MAX: usize = 1024;

/// What one thread has allocated. Written by that thread.
struct Entry {
    thread: AtomicI32,
    allocations: AtomicU64,
    bytes: AtomicU64,
}

static ENTRIES: [Entry; THREADS_MAX] =
    [const { Entry { thread: AtomicI32::new(0), allocations: AtomicU64::new(0), bytes: AtomicU64::new(0) } };
        THREADS_MAX];
static ENTRIES_USED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static ENTRY: Cell<Option<&'static Entry>> = const { Cell::new(None) };
    /// Whether the thread is writing down where an allocation comes from, which allocates.
    static TRACING: Cell<bool> = const { Cell::new(false) };
}

fn entry() -> &'static Entry {
    if let Some(entry) = ENTRY.get() {
        return entry;
    }
    let place = ENTRIES_USED.fetch_add(1, Ordering::Relaxed).min(THREADS_MAX - 1);
    let entry = &ENTRIES[place];
    entry.thread.store(nix::unistd::gettid().as_raw(), Ordering::Relaxed);
    ENTRY.set(Some(entry));
    entry
}

fn count(bytes: usize) {
    if TRACING.get() {
        return;
    }
    let entry = entry();
    entry.allocations.fetch_add(1, Ordering::Relaxed);
    entry.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    if TRACED.load(Ordering::Relaxed) {
        TRACING.set(true);
        trace();
        TRACING.set(false);
    }
}

#[expect(unsafe_code, reason = "an allocator is")]
// SAFETY: all is done by the system's allocator; counting changes nothing that it answers.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Whether cores' allocations are traced at this moment.
static TRACED: AtomicBool = AtomicBool::new(false);
/// How often a core allocated from where.
static TRACES: Mutex<Option<HashMap<String, u64>>> = Mutex::new(None);

/// Writes down where this thread allocates, if it is a core.
fn trace() {
    if !std::thread::current().name().is_some_and(|name| name.starts_with("kpl-core")) {
        return;
    }
    // Every other line is a function's name, `12: name`; those of the allocator and the runtime say nothing.
    let frames = Backtrace::force_capture().to_string();
    let names = frames.lines().filter_map(|line| line.trim().split_once(": ")).map(|(_, name)| name.to_owned());
    let names: Vec<_> = names.filter(|name| !name.starts_with("std::") && !name.starts_with("allocations::")).collect();
    let from = names.into_iter().take(30).collect::<Vec<_>>().join("\n      ");
    *lock(&TRACES).get_or_insert_default().entry(from).or_default() += 1;
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What happened from one moment to another.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    allocations: u64,
    bytes: u64,
}

impl Counted {
    fn since(self, before: Counted) -> Counted {
        Counted { allocations: self.allocations - before.allocations, bytes: self.bytes - before.bytes }
    }

    fn add(&mut self, entry: &Entry) {
        self.allocations += entry.allocations.load(Ordering::Relaxed);
        self.bytes += entry.bytes.load(Ordering::Relaxed);
    }
}

/// What this thread has allocated.
fn own() -> Counted {
    let mut counted = Counted::default();
    counted.add(entry());
    counted
}

/// What the cores' threads of this process have allocated.
fn cores() -> Counted {
    let mut counted = Counted::default();
    for entry in &ENTRIES[..ENTRIES_USED.load(Ordering::Relaxed).min(THREADS_MAX)] {
        let thread = entry.thread.load(Ordering::Relaxed);
        // A thread that has ended has no name.
        let name = std::fs::read_to_string(format!("/proc/self/task/{thread}/comm")).unwrap_or_default();
        if name.starts_with("kpl-core") {
            counted.add(entry);
        }
    }
    counted
}

/// Records of a burst, after which the producer is flushed. A burst is never refused.
const BURST: usize = 8_000;
/// Bursts that are measured.
const BURSTS: usize = 7;
/// Records that may be outstanding: more than a burst, beside what purses hold.
const BUDGET: usize = 16_000;
/// Longer than anything takes that does not hang.
const LIMIT: Duration = Duration::from_secs(60);

/// One producer is measured at a time: cores are told by their names.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// What a run came to.
#[derive(Debug)]
struct Run {
    /// Allocated by the thread that puts, while it put.
    puts: Counted,
    /// Allocated by the same thread while it looked at outcomes that were there.
    outcomes: Counted,
    /// Allocated by the cores.
    cores: Counted,
    records: u64,
    requests: u64,
    kinesis_records: u64,
}

fn run(runtime: RuntimeChoice, style: Style) -> Run {
    let _alone = lock(&ONE_AT_A_TIME);
    let endpoint = Endpoint::start(EndpointConfig::sink(8)).expect("an endpoint");
    let (access_key_id, secret_access_key) = ("test".into(), "test".into());
    let credentials = StaticCredentials { access_key_id, secret_access_key, session_token: None };
    let producer = Producer::builder()
        .region("us-east-1")
        .endpoint_url(endpoint.url())
        .credentials(credentials)
        .runtime(runtime)
        .rate_limit(RateLimit::Off)
        .request_timeout(LIMIT)
        // Only a flush and a full aggregate seal, so that a machine that is slow cuts nothing into small requests.
        .record_max_buffered_time(LIMIT)
        .record_ttl(LIMIT * 2)
        .max_outstanding_records(BUDGET)
        .ring_bytes(4 << 20)
        .build()
        .expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let submitter = producer.submitter().expect("a submitter");
    let mut putter = Putter::new(style, submitter, stream, BURST);
    let keys: Vec<String> = (0..1000).map(|number| format!("customer-{number}")).collect();
    let burst = |putter: &mut Putter| {
        for number in 0..BURST {
            putter.put(Record::new(&keys[number % keys.len()], &[7; 100])).expect("there is room for it");
        }
    };

    for _ in 0..2 {
        putter.put_until_full(Record::new(&keys[0], &[7; 100]));
        flush(&producer);
        burst(&mut putter);
        flush(&producer);
        putter.collect();
    }

    let (mut puts, mut outcomes) = (Counted::default(), Counted::default());
    let (counters, cores_before) = (producer.counters(), cores());
    TRACED.store(std::env::var_os("KPL_ALLOCATIONS_FROM").is_some(), Ordering::Relaxed);
    for _ in 0..BURSTS {
        let before = own();
        burst(&mut putter);
        puts = sum(puts, own().since(before));
        flush(&producer);
        let before = own();
        let seen = putter.collect();
        outcomes = sum(outcomes, own().since(before));
        assert_eq!(seen, if putter.tells() { BURST } else { 0 });
    }
    TRACED.store(false, Ordering::Relaxed);
    let (cores, now) = (cores().since(cores_before), producer.counters());
    assert_eq!(producer.close(LIMIT).wait().failed, 0);
    let run = Run {
        puts,
        outcomes,
        cores,
        records: now.records_delivered - counters.records_delivered,
        requests: now.put_records_requests - counters.put_records_requests,
        kinesis_records: now.kinesis_records - counters.kinesis_records,
    };
    tell(runtime, style, &run);
    run
}

fn flush(producer: &Producer) {
    producer.flush().wait_timeout(LIMIT).expect("the flush ends");
}

fn sum(one: Counted, other: Counted) -> Counted {
    Counted { allocations: one.allocations + other.allocations, bytes: one.bytes + other.bytes }
}

fn tell(runtime: RuntimeChoice, style: Style, run: &Run) {
    let per = |amount: u64, of: u64| amount as f64 / of as f64;
    println!("{runtime:?}, {style:?}: {run:?}");
    println!(
        "  cores: {:.4} allocations a record, {:.1} a request, {:.2} a Kinesis record",
        per(run.cores.allocations, run.records),
        per(run.cores.allocations, run.requests),
        per(run.cores.allocations, run.kinesis_records),
    );
    let mut traces: Vec<_> = lock(&TRACES).take().into_iter().flatten().collect();
    traces.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    for (from, times) in traces {
        println!("  {times} times, {:.2} a request:\n      {from}", per(times, run.requests));
    }
}

/// What a core may allocate for a request. In debug builds on tokio it was 23, each by name:
///
/// | | |
/// |---|---|
/// | hyper | `content-length` 2, oneshot channel 1, channel of the answer's body 1, read buffer 2, header name 1 |
/// | answer | shard ids 8 (one a shard), entries 4 (doubled, then cut), set of ids 1 |
/// | signature | its text 1, in `aws-sigv4` |
/// | task | 1, and 1 more for a future that debug builds make too large for it |
///
/// Its body, its headers and the buffers of both are those of a request before.
const REQUEST_ALLOCATIONS_MAX: u64 = 30;
/// And for each Kinesis record in it, however many records it aggregates. It was 7: result, attempts, sequence number, and
/// buffers of its aggregate that grow and are cut.
const KINESIS_RECORD_ALLOCATIONS_MAX: u64 = 12;
/// And in all for flushes, and for histograms that grow. It was 14 or 15.
const OTHER_ALLOCATIONS_MAX: u64 = 200;
/// And for sleeping and for looking at sockets, which on glommio makes timers: 3 each time, however many records came with
/// it. It was some 350, but more where the machine is slow.
const TIMER_ALLOCATIONS_MAX: u64 = 5_000;

/// Nothing was allocated for outcomes, and on the core nothing for a record.
fn check(style: Style, run: &Run, timers_max: u64) {
    assert_eq!(run.records, (BURST * BURSTS) as u64);
    assert_eq!(run.outcomes.allocations, 0, "{style:?}: {run:?}");
    let most = run.requests * REQUEST_ALLOCATIONS_MAX
        + run.kinesis_records * KINESIS_RECORD_ALLOCATIONS_MAX
        + OTHER_ALLOCATIONS_MAX
        + timers_max;
    // If each record cost an allocation, or every fourth, it would show.
    assert!(most < run.records / 4, "requests are large enough to tell: {run:?}");
    assert!(run.cores.allocations > 0, "the core's thread is found");
    assert!(run.cores.allocations <= most, "{style:?}: {} is more than {most}: {run:?}", run.cores.allocations);
}

#[test]
fn a_put_allocates_nothing_and_a_record_nothing_on_its_way() {
    for style in STYLES {
        let run = run(RuntimeChoice::Tokio, style);
        assert_eq!(run.puts.allocations, 0, "{style:?}: {run:?}");
        check(style, &run, 0);
    }
}

#[test]
fn on_the_runtime_that_a_user_gets_who_chooses_none_only_waking_the_core_allocates_now_and_then() {
    let style = Style::Dropped;
    let run = run(RuntimeChoice::Auto, style);
    // Each burst finds the core parked and rings. glommio puts wake-ups from other threads into a list that grows by 31
    // at a time; the second is for a machine that let the core park again meanwhile.
    assert!(run.puts.allocations <= 2, "{run:?}");
    check(style, &run, TIMER_ALLOCATIONS_MAX);
}
