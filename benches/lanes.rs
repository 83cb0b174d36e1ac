//! What do lanes gain?
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kpl::HashKey;
use kpl::codec::hash_key;
use kpl::codec::lanes::{Lanes, Sha256, update_pair};
use md5::{Digest, Md5};

const AGGREGATE: usize = 50 * 1024;

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

fn aggregates(criterion: &mut Criterion) {
    let data = bytes(16 * AGGREGATE);
    let messages: Vec<[&[u8]; 3]> =
        data.chunks(AGGREGATE).map(|message| [&message[..2_000], &[], &message[2_000..]]).collect();
    let mut group = criterion.benchmark_group("md5 of aggregates");
    for count in [16, 1, 2, 4, 6, 8, 9, 12, 20] {
        let mut messages = messages.clone();
        while messages.len() < count {
            messages.extend_from_within(0..1)
        }
        let messages = &messages[..count];
        let mut expected: Vec<[u8; 16]> = vec![[0; 16]; count];
        let one_by_one = |digests: &mut [[u8; 16]]| {
            for (message, digest) in messages.iter().zip(digests) {
                *digest = message.iter().fold(Md5::new(), |md5, part| md5.chain_update(part)).finalize().into();
            }
        };
        one_by_one(&mut expected);
        group.throughput(Throughput::Bytes((count * AGGREGATE) as u64));
        let mut digests = vec![[0; 16]; count];
        group.bench_function(BenchmarkId::new("md-5", count), |bencher| {
            bencher.iter(|| one_by_one(black_box(&mut digests)))
        });
        for lanes in Lanes::all() {
            lanes.digests(messages, &mut digests);
            assert_eq!(digests, expected);
            group.bench_function(BenchmarkId::new(lanes.kind().to_string(), count), |bencher| {
                bencher.iter(|| lanes.digests(black_box(messages), &mut digests))
            });
        }
    }
    group.finish();
}

fn keys(criterion: &mut Criterion) {
    let keys: Vec<String> = (0..1024).map(|number| format!("key-{number:06}")).collect();
    let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let mut group = criterion.benchmark_group("hash keys");
    for count in [1024, 1, 2, 4, 6, 8, 12, 16] {
        let keys = &keys[..count];
        let expected: Vec<HashKey> = keys.iter().map(|key| hash_key(key)).collect();
        let mut hashes = vec![HashKey::MIN; count];
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("md-5", count), |bencher| {
            bencher.iter(|| {
                for (key, hash) in black_box(keys).iter().zip(&mut hashes) {
                    *hash = hash_key(key);
                }
            })
        });
        for lanes in Lanes::all() {
            lanes.hash_keys(keys, &mut hashes);
            assert_eq!(hashes, expected);
            group.bench_function(BenchmarkId::new(lanes.kind().to_string(), count), |bencher| {
                bencher.iter(|| lanes.hash_keys(black_box(keys), &mut hashes))
            });
        }
    }
    group.finish();
}

fn bodies(criterion: &mut Criterion) {
    let [a_body, b_body] = [bytes(1 << 20), bytes(1 << 20)];
    let mut group = criterion.benchmark_group("sha-256 of bodies");
    group.throughput(Throughput::Bytes(2 << 20));
    group.bench_function("one after the other", |bencher| {
        bencher.iter(|| {
            [&a_body, &b_body].map(|body| {
                let mut h = Sha256::new();
                h.update(black_box(body));
                h.finalize()
            })
        })
    });
    group.bench_function("two side by side", |bencher| {
        bencher.iter(|| {
            let [mut a, mut b] = [Sha256::new(), Sha256::new()];
            update_pair(&mut a, black_box(&a_body), &mut b, black_box(&b_body));
            [a.finalize(), b.finalize()]
        })
    });
    group.finish();
}

criterion_group!(benches, aggregates, keys, bodies);
criterion_main!(benches);
