//! What does a put cost its caller, by each way of hearing of the outcome, and what do other queues take for the same
//! record?
//!
//! Topology: the caller on one CPU; on the other a core without an endpoint (`bed/producer.rs`), or the peer's consumer.
//! Bursts of 256 puts are timed whole, each after a pause of 300 µs in which the other side empties the queue, so that
//! no queue is full and no pause is in a figure; a burst that finds a queue full all the same does not count. Peers move key and data in one boxed allocation, which the consumer
//! frees; `rtrb by value` moves them in a fixed array instead. Both sides of a comparison rest alike: a core that is awake
//! stands beside a consumer that spins, an armed one beside a consumer that sleeps 20 ms at a time.
//!
//! Envelope: a put of 100 B copies two cache lines and touches a slot, 10 to 30 ns; a boxed record costs malloc, the same
//! copy, and a pointer in the queue, 20 to 50 ns; with a mutex, or a list of blocks, rather more.

#[path = "bed/lanes.rs"]
mod lanes;
#[path = "bed/machine.rs"]
mod machine;
#[path = "bed/peer.rs"]
mod peer;
#[path = "bed/producer.rs"]
mod producer;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_queue::ArrayQueue;
use endpoint::EndpointConfig;
use kpl::{Producer, PutErrorReason, Record, Stream};

use lanes::{Detached, Lane, OutcomeDropped, OutcomeKept, Puts, Reserved, Token};
use machine::{Machine, Side};
use peer::{CAPACITY, Consumer, Rhythm, RtrbBoxed, boxed};

const BURST: usize = 256;
const PAUSE: Duration = Duration::from_micros(300);
/// Puts before anything is timed: once through every queue's memory, and until slots and credit go round.
const WARM_UP: u64 = if cfg!(debug_assertions) { 2_000 } else { 150_000 };
/// Most bursts of one sample that find their queue full: half a minute of them.
const SPOILT_MAX: u32 = 100_000;
const LINGER: Duration = Duration::from_millis(100);

/// A queue that takes records by a closure.
struct Queue<P> {
    push: P,
    _consumer: Consumer,
}

impl<P: FnMut(&str, &[u8]) -> bool> Lane for Queue<P> {
    type Kept = ();

    #[inline]
    fn put(&mut self, key: &str, data: &[u8]) -> Option<()> {
        (self.push)(key, data).then_some(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a bench measures")]
fn now() -> Instant {
    Instant::now()
}

fn pause() {
    let begun = now();
    while begun.elapsed() < PAUSE {}
}

/// The time that `puts` puts take, in bursts. A burst that finds its queue full, as the machine had no time for the other
/// side, does not count.
fn bursts<L: Lane>(lane: &mut L, keys: &[String], data: &[u8], puts: u64) -> Duration {
    let mut kept = Vec::with_capacity(BURST);
    let (mut left, mut time, mut at, mut spoilt) = (puts, Duration::ZERO, 0, 0);
    while left > 0 {
        pause();
        let burst = left.min(BURST as u64);
        let begun = now();
        for _ in 0..burst {
            let Some(one) = lane.put(&keys[at % keys.len()], black_box(data)) else { break };
            kept.push(one);
            at += 1;
        }
        let took = begun.elapsed();
        if kept.len() as u64 == burst {
            time += took;
            left -= burst;
        } else {
            spoilt += 1;
            assert!(spoilt < SPOILT_MAX, "the queue stays full");
        }
        kept.clear();
    }
    time
}

fn bench<L: Lane>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, data: &[u8], mut lane: L) {
    let keys = producer::keys();
    bursts(&mut lane, &keys, data, WARM_UP);
    group.bench_function(name, |bencher| bencher.iter_custom(|puts| bursts(&mut lane, &keys, data, puts)));
}

/// A producer, and a way to put into it.
fn with_producer(machine: &Machine, rhythm: Rhythm, bench: impl FnOnce(Puts)) {
    let sink = producer::endpoint(EndpointConfig::sink(producer::SHARDS), machine);
    let (producer, stream) = producer::start(producer::builder(&sink, machine, LINGER, rhythm), machine);
    drop(sink);
    bench(Puts { submitter: producer.submitter().expect("a submitter"), stream });
    // Its core must not take the CPU from the next.
    assert_eq!(producer.close(Duration::ZERO).wait().outstanding(), 0);
}

fn ours(group: &mut BenchmarkGroup<'_, WallTime>, machine: &Machine, rhythm: Rhythm, data: &[u8]) {
    with_producer(machine, rhythm, |puts| bench(group, "kpl, outcome kept", data, OutcomeKept(puts)));
    with_producer(machine, rhythm, |puts| bench(group, "kpl, outcome dropped", data, OutcomeDropped(puts)));
    with_producer(machine, rhythm, |puts| bench(group, "kpl, token", data, Token::start(puts, machine)));
    with_producer(machine, rhythm, |puts| bench(group, "kpl, detached", data, Detached(puts)));
    with_producer(machine, rhythm, |puts| bench(group, "kpl, reserved", data, Reserved(puts)));
    with_producer(machine, rhythm, |puts| batches(group, "kpl, batch of 64", data, puts));
}

/// Puts 64 records by one call, and keeps the outcomes.
fn batches(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, data: &[u8], mut lane: Puts) {
    let keys = producer::keys();
    let records: Vec<_> = keys[..64].iter().map(|key| Record::new(key, data)).collect();
    let mut outcomes = Vec::with_capacity(BURST);
    let mut batches = |puts: u64| {
        let (mut time, bursts) = (Duration::ZERO, puts.div_ceil(BURST as u64));
        let (mut counted, mut spoilt) = (0, 0);
        while counted < bursts {
            pause();
            let begun = now();
            let mut put = || lane.submitter.try_put_batch(&lane.stream, &records, &mut outcomes);
            let whole = (0..BURST / records.len()).all(|_| put().is_ok());
            let took = begun.elapsed();
            if whole {
                time += took;
                counted += 1;
            } else {
                spoilt += 1;
                assert!(spoilt < SPOILT_MAX, "the queue stays full");
            }
            outcomes.clear();
        }
        // Whole bursts were put: of their time, the part of those that were asked for.
        time.mul_f64(puts as f64 / (bursts * BURST as u64) as f64)
    };
    batches(WARM_UP);
    group.bench_function(name, |bencher| bencher.iter_custom(&mut batches));
}

fn peers(group: &mut BenchmarkGroup<'_, WallTime>, machine: &Machine, rhythm: Rhythm, data: &[u8]) {
    bench(group, "rtrb, boxed", data, RtrbBoxed::start(machine, rhythm));

    let queue = Arc::new(ArrayQueue::new(CAPACITY));
    let taken = Arc::clone(&queue);
    let push = move |key: &str, data: &[u8]| queue.push(boxed(key, data)).is_ok();
    let drain = move || while taken.pop().is_some() {};
    bench(group, "ArrayQueue, boxed", data, Queue { push, _consumer: Consumer::start(machine, rhythm, drain) });

    let (sender, receiver) = flume::bounded(CAPACITY);
    let push = move |key: &str, data: &[u8]| sender.try_send(boxed(key, data)).is_ok();
    let drain = move || receiver.drain().for_each(drop);
    bench(group, "flume, boxed", data, Queue { push, _consumer: Consumer::start(machine, rhythm, drain) });

    let (sender, mut receiver) = tokio::sync::mpsc::channel(CAPACITY);
    let push = move |key: &str, data: &[u8]| sender.try_send(boxed(key, data)).is_ok();
    let drain = move || while receiver.try_recv().is_ok() {};
    bench(group, "tokio mpsc, boxed", data, Queue { push, _consumer: Consumer::start(machine, rhythm, drain) });
}

/// `rtrb` moving key and data in an array of `N` bytes.
fn by_value<const N: usize>(group: &mut BenchmarkGroup<'_, WallTime>, machine: &Machine, rhythm: Rhythm, data: &[u8]) {
    let (mut producer, mut consumer) = rtrb::RingBuffer::new(CAPACITY);
    let push = move |key: &str, data: &[u8]| {
        let mut bytes = [0; N];
        let (key_bytes, data_bytes) = bytes.split_at_mut(key.len());
        key_bytes.copy_from_slice(key.as_bytes());
        data_bytes[..data.len()].copy_from_slice(data);
        producer.push(bytes).is_ok()
    };
    let drain = move || {
        while let Ok(bytes) = consumer.pop() {
            black_box(bytes);
        }
    };
    bench(group, "rtrb, by value", data, Queue { push, _consumer: Consumer::start(machine, rhythm, drain) });
}

fn put(criterion: &mut Criterion) {
    let machine = Machine::look();
    println!("{}", machine.describe());
    machine.pin(Side::Caller);
    for (rhythm, how) in [(Rhythm::Awake, "awake"), (Rhythm::Armed, "armed")] {
        for size in [100, 1024] {
            let data = vec![7; size];
            let mut group = criterion.benchmark_group(format!("put {size} B, {how}"));
            group.throughput(Throughput::Elements(1));
            // Of time that is measured; pauses make it some sixty times as much.
            group.warm_up_time(Duration::from_millis(5)).measurement_time(Duration::from_millis(60)).sample_size(30);
            ours(&mut group, &machine, rhythm, &data);
            peers(&mut group, &machine, rhythm, &data);
            match size {
                100 => by_value::<116>(&mut group, &machine, rhythm, &data),
                _ => by_value::<1040>(&mut group, &machine, rhythm, &data),
            }
            group.finish();
        }
    }
}

/// How long it takes to be told `Full`.
fn full(criterion: &mut Criterion) {
    let machine = Machine::look();
    let (producer, stream) = full_producer(&machine);
    let mut submitter = producer.submitter().expect("a submitter");
    let mut told = || submitter.try_put(&stream, Record::new("customer-0000001", [7; 100].as_slice()));
    while told().is_ok() {}
    assert!(told().is_err_and(|refused| matches!(refused.reason, PutErrorReason::Full)));
    criterion.bench_function("full", |bencher| bencher.iter(|| black_box(told().is_err())));
}

/// A producer whose budget holds little, and gets nothing back.
fn full_producer(machine: &Machine) -> (Producer, Stream) {
    let hour = Duration::from_secs(3600);
    let sink = producer::endpoint(EndpointConfig::sink(producer::SHARDS), machine);
    let builder = producer::builder(&sink, machine, hour, Rhythm::Armed);
    producer::start(builder.record_ttl(2 * hour).max_outstanding_records(1000), machine)
}

criterion_group!(benches, put, full);
criterion_main!(benches);
