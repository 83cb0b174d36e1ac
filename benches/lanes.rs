//! What do lanes gain: on the MD5 of aggregates, on that of short keys, on the SHA-256 of bodies; and from how many on?
//!
//! Topology: one thread; sixteen aggregates of 50 KiB come from the second- or third-level cache. `md-5` and a SHA-256 of
//! one stream are timed in the same run: what counts is the ratio to them, as others may share the machine.
//!
//! Envelope: a step of MD5 is a chain of about five instructions, 64 steps are a block of 64 bytes, so one message goes
//! at some 5 cycles a byte, 0.6 GB/s at 3.2 GHz. AVX2 has ten instructions a step and eight lanes; at four a cycle that is
//! 0.33 cycles a byte, 9.7 GB/s, if two vectors alternate, and no more than 4.3 GB/s for one, which waits for its chain.
//! AVX-512 has a chain of four and sixteen lanes: 0.25 cycles a byte. A key is one block: 120 to 150 ns alone, and 8 to 16 ns
//! in lanes, half of it for laying it out. SHA-256 waits four cycles for each two rounds, and two streams share them.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kpl::HashKey;
use kpl::codec::hash_key;
use kpl::codec::lanes::{Lanes, Sha256, update_pair};
use md5::{Digest, Md5};

const AGGREGATE: usize = 50 * 1024;
/// The key table of an aggregate: the second part begins within a block.
const KEYS: usize = 2_000;
const BODY: usize = 1 << 20;

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 % 251) as u8).collect()
}

fn one_by_one(messages: &[[&[u8]; 3]], digests: &mut [[u8; 16]]) {
    for (message, digest) in messages.iter().zip(digests) {
        *digest = message.iter().fold(Md5::new(), |md5, part| md5.chain_update(part)).finalize().into();
    }
}

fn aggregates(criterion: &mut Criterion) {
    let data = bytes(32 * AGGREGATE);
    let messages: Vec<[&[u8]; 3]> =
        data.chunks(AGGREGATE).map(|message| [&message[..KEYS], &[], &message[KEYS..]]).collect();
    let mut group = criterion.benchmark_group("md5 of aggregates of 50 KiB");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    for count in [1, 2, 3, 4, 6, 8, 9, 12, 16, 17, 20, 24, 32] {
        let messages = &messages[..count];
        let mut expected = vec![[0; 16]; count];
        one_by_one(messages, &mut expected);
        let mut digests = vec![[0; 16]; count];
        group.throughput(Throughput::Bytes((count * AGGREGATE) as u64));
        group.bench_function(BenchmarkId::new("md-5", count), |bencher| {
            bencher.iter(|| one_by_one(black_box(messages), &mut digests));
        });
        for lanes in Lanes::all() {
            lanes.digests(messages, &mut digests);
            assert_eq!(digests, expected, "{}", lanes.kind());
            group.bench_function(BenchmarkId::new(lanes.kind().to_string(), count), |bencher| {
                bencher.iter(|| lanes.digests(black_box(messages), &mut digests));
            });
        }
    }
    group.finish();
}

fn keys(criterion: &mut Criterion) {
    let keys: Vec<String> = (0..1024).map(|number| format!("key-{number:06}")).collect();
    let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
    let mut group = criterion.benchmark_group("hash keys of 10 bytes");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    for count in [1, 2, 3, 4, 8, 16, 1024] {
        let keys = &keys[..count];
        let expected: Vec<HashKey> = keys.iter().map(hash_key).collect();
        let mut hashes = vec![HashKey::MIN; count];
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::new("md-5", count), |bencher| {
            bencher.iter(|| {
                for (key, hash) in black_box(keys).iter().zip(&mut hashes) {
                    *hash = hash_key(key);
                }
            });
        });
        for lanes in Lanes::all() {
            lanes.hash_keys(keys, &mut hashes);
            assert_eq!(hashes, expected, "{}", lanes.kind());
            group.bench_function(BenchmarkId::new(lanes.kind().to_string(), count), |bencher| {
                bencher.iter(|| lanes.hash_keys(black_box(keys), &mut hashes));
            });
        }
    }
    group.finish();
}

fn one_stream(body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(body);
    hash.finalize()
}

fn two_streams(bodies: [&[u8]; 2]) -> [[u8; 32]; 2] {
    let [mut a, mut b] = [Sha256::new(), Sha256::new()];
    update_pair(&mut a, bodies[0], &mut b, bodies[1]);
    [a.finalize(), b.finalize()]
}

fn bodies(criterion: &mut Criterion) {
    let data = bytes(2 * BODY);
    let (a_body, b_body) = data.split_at(BODY);
    let expected = [a_body, b_body].map(|body| <[u8; 32]>::from(sha2::Sha256::digest(body)));
    assert_eq!([one_stream(a_body), one_stream(b_body)], expected);
    assert_eq!(two_streams([a_body, b_body]), expected);
    let mut group = criterion.benchmark_group("sha-256 of two bodies of 1 MiB");
    group.measurement_time(Duration::from_secs(2)).sample_size(20).throughput(Throughput::Bytes(2 * BODY as u64));
    group.bench_function("one after the other", |bencher| {
        bencher.iter(|| [one_stream(black_box(a_body)), one_stream(black_box(b_body))]);
    });
    group.bench_function("side by side", |bencher| bencher.iter(|| two_streams(black_box([a_body, b_body]))));
    group.finish();
}

criterion_group!(benches, aggregates, keys, bodies);
criterion_main!(benches);
