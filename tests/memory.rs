//! What a record in flight takes, and what the engine allocates on a record's way: one core, no runtime, and an allocator
//! that counts, for each thread by itself.
//!
//! A record's *own bytes* are its data and its key. The *wire* is what it adds to its aggregate: data, some 7 bytes of
//! format, and its key with 2 more if the aggregate does not have it yet. So wire is less than own bytes where keys come
//! again, and 9 more where each has its own.

#[path = "core/mod.rs"]
mod driven;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use driven::Driven;
use kpl::config::{Config, RateLimit, WireFormat};
use kpl::engine::Ticket;
use kpl::record::Record;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes that this thread has allocated and not freed.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    /// How often this thread has allocated, or moved or grown what it had.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: isize, allocations: usize) {
    LIVE.set(LIVE.get() + bytes);
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
}

#[expect(unsafe_code, reason = "only so can allocations be counted")]
// SAFETY: everything is passed on to the system's allocator as it came. The counters allocate nothing: they need neither
// initialising nor dropping.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize, 1);
        // SAFETY: the caller's word.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize), 0);
        // SAFETY: the caller's word.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize, 1);
        // SAFETY: the caller's word.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// What a record in flight may take beyond its bytes, its outcome slot included.
const IN_FLIGHT_BYTES_MAX: f64 = 48.0;
/// What an outcome slot takes, with its link.
const SLOT_BYTES: f64 = 37.0;

const RECORDS: usize = 100_000;
const KEY_BYTES: usize = 16;
const DATA: [u8; 100] = [7; 100];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Keys {
    /// A hundred keys.
    Few,
    /// Each record has its own.
    Distinct,
}

#[derive(Clone, Copy, Debug)]
enum Arrivals {
    /// Some 40 000 records a second, stamped by a tick of 20 ms, as the coarse clock does it.
    Ticked,
    /// Each at its own time.
    Distinct,
}

/// What waits, and where.
#[derive(Clone, Copy)]
struct Case {
    keys: Keys,
    arrivals: Arrivals,
    /// None: the records wait for the first map.
    shards: usize,
    aggregates: bool,
    /// Bytes per record beyond `IN_FLIGHT_BYTES_MAX`, counted from the wire, with the reason.
    more: (f64, &'static str),
}

/// Accepts records of which none can leave, and answers what the engine has allocated for each, and what the slots take.
fn weigh(case: &Case) -> (f64, f64) {
    let aggregation_enabled = case.aggregates;
    // The bodies in JSON of requests under way would be larger than all else.
    let wire = WireFormat::Cbor;
    let config = Config { aggregation_enabled, rate_limit: RateLimit::Off, wire, ..Config::default() };
    let mut driven = Driven::new(&config, case.shards);
    let mut tickets: Vec<Ticket> = Vec::with_capacity(RECORDS);
    let before = LIVE.get();
    tickets.extend((0..RECORDS).map(|_| driven.slots.take_lone()));
    let slots = LIVE.get() - before;
    let (before, mut bodies) = (LIVE.get(), 0);
    for (number, ticket) in tickets.drain(..).enumerate() {
        let key = match case.keys {
            Keys::Few => number % 100,
            Keys::Distinct => number,
        };
        let key = format!("customer{key:08}");
        assert_eq!(key.len(), KEY_BYTES);
        match case.arrivals {
            Arrivals::Ticked if number % 800 == 0 => driven.pass(Duration::from_millis(20)),
            Arrivals::Ticked => {}
            Arrivals::Distinct => driven.pass(Duration::from_micros(100)),
        }
        driven.put(ticket, &Record::new(&key, &DATA));
        if number % 800 == 0 {
            // No connection ever answers. A body is the connection's, and its term in the formula of memory is another.
            bodies += driven.turn_all().iter().map(|transmit| transmit.body.capacity()).sum::<usize>();
        }
    }
    let engine = LIVE.get() - before - bodies as isize;
    assert_eq!(driven.core.released().records, 0, "all are in flight");
    (engine as f64 / RECORDS as f64, slots as f64 / RECORDS as f64)
}

#[test]
fn a_record_in_flight_takes_no_more_than_its_bound_beyond_its_bytes() {
    const RUN: (f64, &str) = (8.0, "a run of arrivals of its own");
    const BATCH: (f64, &str) = (24.0, "a Kinesis record takes some 400 bytes, here for 20 records");
    const ALONE: (f64, &str) = (400.0, "a Kinesis record takes some 400 bytes, here for one record");
    let full = Case { keys: Keys::Few, arrivals: Arrivals::Ticked, shards: 8, aggregates: true, more: (0.0, "") };
    let distinct = Case { keys: Keys::Distinct, ..full };
    let cases = [
        full,
        distinct,
        Case { arrivals: Arrivals::Distinct, more: RUN, ..distinct },
        Case { shards: 200, more: BATCH, ..full },
        Case { shards: 200, more: BATCH, ..distinct },
        Case { shards: 0, ..distinct },
        Case { aggregates: false, more: ALONE, ..distinct },
    ];
    for case in cases {
        let (engine, slot) = weigh(&case);
        let own = (KEY_BYTES + DATA.len()) as f64;
        let wire = match case.keys {
            Keys::Few => DATA.len() as f64 + 7.0,
            Keys::Distinct => own + 9.0,
        };
        let (beyond_own, beyond_wire) = (slot + engine - own, slot + engine - wire);
        let Case { keys, arrivals, shards, aggregates, .. } = case;
        println!(
            "{keys:?} keys, {arrivals:?} arrivals, {shards} shards, aggregation {aggregates}: slot {slot:.1}, engine {engine:.1}, \
             beyond its own bytes {beyond_own:.1}, beyond the wire {beyond_wire:.1}"
        );
        assert!(slot <= SLOT_BYTES + 0.5, "{slot:.1} bytes a slot");
        let (more, why) = case.more;
        assert!(beyond_wire <= IN_FLIGHT_BYTES_MAX + more, "{beyond_wire:.1} bytes a record beyond the wire; {why}");
        if keys == Keys::Few && shards == 8 {
            assert!(beyond_own <= IN_FLIGHT_BYTES_MAX, "{beyond_own:.1} bytes a record beyond its own");
        }
    }
}

/// What the engine allocated.
#[derive(Default)]
struct Meter(usize);

impl Meter {
    fn of<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let before = ALLOCATIONS.get();
        let result = work();
        self.0 += ALLOCATIONS.get() - before;
        result
    }
}

/// Allocations of the engine for a Kinesis record: the list of its attempts, the result that its members share, and one of
/// its buffers that was cut when it was sealed, or grew again, as it is not as large as the one before.
const PER_KINESIS_RECORD: usize = 3;

#[test]
fn in_steady_state_a_record_allocates_nothing() {
    let config = Config { rate_limit: RateLimit::Off, ..Config::default() };
    for (aggregation_enabled, distinct) in [(true, 100), (true, usize::MAX), (false, 100)] {
        let config = Config { aggregation_enabled, ..config.clone() };
        let mut driven = Driven::new(&config, 8);
        let (mut number, mut records) = (0usize, 0);
        let (mut requests, mut kinesis_records, mut meter) = (0, 0, Meter::default());
        for round in 0..30 {
            if round == 10 {
                (records, requests, kinesis_records, meter) = (0, 0, 0, Meter::default());
            }
            for _ in 0..5000 {
                let key = format!("customer{:08}", number % distinct);
                let ticket = driven.slots.take_lone();
                meter.of(|| driven.put(ticket, &Record::new(&key, &DATA)));
                (number, records) = (number + 1, records + 1);
                if number % 1000 != 0 {
                    continue;
                }
                driven.pass(Duration::from_millis(20));
                meter.of(|| driven.core.turn(driven.now));
                while let Some(transmit) = meter.of(|| driven.core.poll_transmit(driven.now)) {
                    requests += 1;
                    kinesis_records += transmit.kinesis_records;
                    let (entries, request) = (driven.all_stored(&transmit), transmit.request);
                    // A driver has let go of the body when it is sent.
                    drop(transmit);
                    meter.of(|| driven.answer(request, entries));
                    driven.core.wakers().clear();
                }
            }
        }
        let allocations = meter.0;
        println!(
            "aggregation {aggregation_enabled}, {distinct} keys: {allocations} allocations for {records} records \
             in {kinesis_records} Kinesis records in {requests} requests"
        );
        assert!(requests > 10 && driven.core.released().delivered > 100_000, "{requests} requests");
        let most = kinesis_records * PER_KINESIS_RECORD;
        assert!(allocations <= most, "{allocations} allocations, {most} expected");
    }
}
