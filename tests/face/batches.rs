//! Batches: many records at once, up to the first that is refused.

use kpl::{PutErrorReason, RateLimit, Record};

use super::reader::read;
use super::world::{bounded, builder, close, delivered, emulator, flushed, hanging, lingering, ms, work};

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number}")).collect()
}

fn records(keys: &[String]) -> Vec<Record<'_>> {
    keys.iter().map(|key| Record::new(key, key.as_bytes())).collect()
}

#[test]
fn a_batch_is_put_in_its_order_and_every_record_has_its_outcome() {
    let endpoint = emulator(&[("s", 2)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let mut completions = submitter.completions().expect("the first time");
    // None, one, and more than are told to the core at once.
    for count in [0, 1, 200] {
        let keys = keys(count);
        let records = records(&keys);
        let mut outcomes = Vec::new();
        submitter.try_put_batch(&stream, &records, &mut outcomes).expect("a put");
        submitter.put_batch(&stream, &records, &mut outcomes).expect("a put");
        bounded(submitter.put_batch_async(&stream, &records, &mut outcomes)).expect("a put");
        assert_eq!(outcomes.len(), 3 * count);
        outcomes.into_iter().map(delivered).for_each(drop);
        submitter.try_put_batch_with_tokens(&stream, &records, u64::MAX - 1).expect("a put");
        submitter.put_batch_with_tokens(&stream, &records, 1000).expect("a put");
        submitter.try_put_batch_detached(&stream, &records).expect("a put");
        submitter.put_batch_detached(&stream, &records).expect("a put");
        flushed(producer.flush());
        let mut tokens = Vec::new();
        while tokens.len() < 2 * count {
            completions.drain(|completion| tokens.push(completion.token));
        }
        tokens.sort_unstable();
        let mut expected: Vec<_> =
            (0..count as u64).flat_map(|at| [(u64::MAX - 1).wrapping_add(at), 1000 + at]).collect();
        expected.sort_unstable();
        assert_eq!(tokens, expected);
    }
    assert_eq!(read(&endpoint, "s").len(), 7 * 201);
    close(&producer);
}

#[test]
fn a_batch_ends_at_the_first_record_that_is_refused() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = lingering(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let keys = keys(100);
    let mut records = records(&keys);
    records[77] = Record::new("", "d");
    let mut outcomes = Vec::new();
    let error = submitter.put_batch(&stream, &records, &mut outcomes).expect_err("a key is empty");
    assert_eq!((error.accepted, outcomes.len()), (77, 77));
    assert_eq!(error.reason, PutErrorReason::InvalidPartitionKey { utf16_units: 0 });
    assert!(error.to_string().contains("record 77"), "{error}");
    assert_eq!(submitter.try_put_batch_detached(&stream, &records), Err(error.clone()));
    let error = submitter.try_put_batch_with_tokens(&stream, &records, 0).expect_err("nobody hears");
    assert_eq!((error.accepted, error.reason), (0, PutErrorReason::NoCompletions));
    assert_eq!(close(&producer).delivered, 154);
    outcomes.into_iter().map(delivered).for_each(drop);
}

#[test]
fn a_batch_that_does_not_fit_says_how_far_it_came_or_waits() {
    let endpoint = hanging(&[("s", 1)]);
    let producer = builder(&endpoint.url()).max_outstanding_records(50).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let keys = keys(100);
    let records = records(&keys);
    let error = submitter.try_put_batch_detached(&stream, &records).expect_err("it is too much");
    assert_eq!(error.reason, PutErrorReason::Full);
    assert!((37..=50).contains(&error.accepted), "{error}");
    assert_eq!(producer.outstanding(), error.accepted as u64);
    bounded(producer.close(ms(1)));

    let endpoint = emulator(&[("s", 1)]);
    let producer = lingering(&endpoint.url())
        .max_outstanding_records(50)
        .ring_bytes(4096)
        .rate_limit(RateLimit::Off)
        .build()
        .expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let putter = work(move || {
        let mut submitter = producer.submitter().expect("a submitter");
        let keys: Vec<_> = (0..1000).map(|number| format!("{number}")).collect();
        let records: Vec<_> = keys.iter().map(|key| Record::new(key, key.as_bytes())).collect();
        submitter.put_batch_detached(&stream, &records).expect("a put");
        close(&producer).delivered
    });
    assert_eq!(putter.done(), 1000);
    assert_eq!(read(&endpoint, "s").len(), 1000);
}
