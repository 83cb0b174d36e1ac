//! What rests in the pool is empty and bounded.

use super::super::testing::{Put, Source, attempt};
use super::*;
use crate::record::HashKey;
use crate::time::Time;

/// Nothing of its former life is left to a batch that comes from the pool.
#[test]
fn a_batch_from_the_pool_is_as_a_new_one() {
    let (mut source, mut pool) = (Source::new(), Pool::default());
    let put = Put { prior: Some([attempt(1)].into()), explicit: Some(HashKey(5)), ..Put::new("key", b"data") };
    let (mut batch, _outcomes) = source.batch(&vec![put; 3], &mut pool);
    batch.note_attempt(attempt(1));
    batch.wrapped = true;
    batch.predicted = Some("shardId-1".into());
    (batch.seal, batch.send_by, batch.not_before) = (7, Time::ZERO, Time::NEVER);
    batch.refused_since = Some(Time::ZERO);
    pool.seal(&mut batch);
    batch.dissolve(|_, _| ());
    let (address, room) = (&raw const *batch, batch.tickets.capacity());
    pool.give(batch);
    let batch = pool.take();
    assert!(std::ptr::eq(&raw const *batch, address), "it is the same");
    assert_eq!(batch.tickets.capacity(), room, "with the room that it had");
    let new = Batch::empty();
    assert!(batch.body.is_empty() && batch.prior.is_empty() && batch.attempts.is_empty());
    assert_eq!((batch.arrivals.oldest(), batch.arrivals.iter().count()), (Time::NEVER, 0));
    let facts = |batch: &Batch| (batch.record_bytes, batch.explicit, batch.wrapped, batch.first_hash, batch.seal);
    assert_eq!(facts(&batch), facts(&new));
    let times = |batch: &Batch| (batch.deadline, batch.expiration, batch.send_by, batch.not_before);
    assert_eq!(times(&batch), times(&new));
    assert_eq!((&batch.predicted, batch.refused_since, batch.suspicion), (&None, None, None));
}

#[test]
fn the_pool_keeps_no_large_batch_and_no_more_than_its_bound() {
    let (mut source, mut pool) = (Source::new(), Pool::default());
    let mut give = |pool: &mut Pool, data: usize| {
        let (mut batch, _outcomes) = source.batch(&[Put::new("key", &vec![0; data])], pool);
        batch.dissolve(|_, _| ());
        pool.give(batch);
    };
    give(&mut pool, POOL_BATCH_BYTES_MAX);
    assert_eq!((pool.batches.len(), pool.bytes), (0, 0));
    // As many at once as the pool is given back later.
    let batches: Vec<_> = (0..200)
        .map(|_| {
            let (mut batch, _outcomes) = source.batch(&[Put::new("key", &[0; 150_000])], &mut pool);
            batch.dissolve(|_, _| ());
            batch
        })
        .collect();
    batches.into_iter().for_each(|batch| pool.give(batch));
    let footprints: usize = pool.batches.iter().map(|batch| batch.footprint()).sum();
    assert_eq!(pool.bytes, footprints);
    let one = footprints / pool.batches.len();
    assert!(one >= 150_000 && footprints <= POOL_BYTES_MAX && footprints + one > POOL_BYTES_MAX, "{footprints}");
    while !pool.batches.is_empty() {
        pool.take();
    }
    assert_eq!(pool.bytes, 0);
}

#[test]
fn an_index_of_keys_goes_from_a_sealed_batch_to_the_next_that_opens() {
    let (mut source, mut pool) = (Source::new(), Pool::default());
    let puts: Vec<Put> = (0..30).map(|number| Put::new(&format!("key-{number}"), b"data")).collect();
    let mut sealed = Vec::new();
    for _ in 0..3 {
        let (mut batch, outcomes) = source.batch(&puts, &mut pool);
        pool.seal(&mut batch);
        assert_eq!(pool.indexes.len(), 1);
        assert_eq!(pool.keys, pool.indexes[0].capacity());
        assert!(pool.keys >= 30);
        sealed.push((batch, outcomes));
    }
    let open = pool.take();
    assert_eq!((pool.indexes.len(), pool.keys), (0, 0));
    drop(open);
    let many: Vec<Put> = (0..2 * POOL_INDEX_KEYS_MAX).map(|number| Put::new(&format!("{number}"), b"")).collect();
    let (mut batch, _outcomes) = source.batch(&many, &mut pool);
    pool.seal(&mut batch);
    assert!(pool.indexes.is_empty(), "one so large is not kept");
}

#[test]
fn indexes_at_rest_have_room_for_so_many_keys_and_no_more() {
    let (mut source, mut pool) = (Source::new(), Pool::default());
    let puts: Vec<Put> = (0..POOL_INDEX_KEYS_MAX / 2).map(|number| Put::new(&format!("{number}"), b"")).collect();
    let open: Vec<_> = (0..POOL_KEYS_MAX / puts.len() + 1).map(|_| source.batch(&puts, &mut pool)).collect();
    assert!(pool.indexes.is_empty(), "all are in use");
    for (mut batch, _outcomes) in open {
        pool.seal(&mut batch);
    }
    let one = pool.indexes[0].capacity();
    assert!(pool.keys <= POOL_KEYS_MAX && pool.keys + one > POOL_KEYS_MAX, "{} keys of {one} each", pool.keys);
}
