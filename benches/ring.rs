//! What does a put cost its caller, credit, slot, frame and bell together, while the core is awake?
//!
//! Topology: one thread plays submitter and core by turns, a batch at a time, so no cache line moves between cores;
//! the cost of that move is the machine's and not ours. Envelope: 10 to 30 ns for a put of 100 B, and a tenth more
//! for each further 100 B; draining and settling about the same.

use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kpl::ring::{Budget, Doorbell, Ledger, Published, Slots, ring};

const BATCH: usize = 1000;

fn put(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("put and settle");
    group.throughput(Throughput::Elements(BATCH as u64));
    for size in [100, 1024] {
        group.bench_function(format!("{size} B"), |bencher| {
            let budget = Budget::new(1 << 20, 1 << 30, 8);
            let mut purse = budget.purse();
            let mut slots = Slots::<u64>::new(Arc::new(Ledger::new()));
            let (mut sender, mut receiver) = ring::<u64>(4 << 20);
            let bell = Doorbell::new();
            let data = vec![7; size];
            bencher.iter(|| {
                for _ in 0..BATCH {
                    purse.try_take(size).expect("credit");
                    let ticket = slots.take_lone();
                    sender.try_push(ticket, size, |frame| frame.copy_from_slice(&data)).expect("room");
                    assert_eq!(bell.published(false), Published::Quiet);
                }
                let until = receiver.snapshot();
                let mut settled = 0;
                while let Some(frame) = receiver.pop(until) {
                    assert_eq!(frame.bytes.len(), size);
                    assert!(!frame.ticket.settle(0, 0).wakes());
                    settled += 1;
                }
                assert_eq!(settled, BATCH);
                assert!(receiver.release().is_none());
                budget.release(BATCH as u64, (BATCH * size) as u64);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, put);
criterion_main!(benches);
