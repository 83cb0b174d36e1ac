//! Submitters come and go: what they have put stays, and their places are free again.

use kpl::{Outcome, Producer, Record, Stream, Submitter, SubmitterError};

use super::reader::read;
use super::world::{Worker, bounded, builder, close, delivered, emulator, work};

/// Submitters of callers' own; the pool behind `Producer::put` has four places besides.
const MANY: usize = 256;

/// Opens all at once, half of them on threads and half on tasks, and lets each put a record.
fn put_by_many(producer: &Producer, stream: &Stream, round: u32) -> Vec<(Submitter, Outcome)> {
    let put = move |producer: Producer, stream: Stream, number: usize| {
        let mut submitter = producer.submitter().expect("a place");
        let (key, data) = (format!("{number}"), format!("{round}-{number}"));
        let outcome = submitter.put(&stream, Record::new(&key, data.as_bytes())).expect("a put");
        (submitter, outcome)
    };
    let by_threads: Vec<_> = (0..8)
        .map(|worker| {
            let (producer, stream) = (producer.clone(), stream.clone());
            work(move || {
                let numbers = (worker..MANY / 2).step_by(8);
                numbers.map(|number| put(producer.clone(), stream.clone(), number)).collect::<Vec<_>>()
            })
        })
        .collect();
    let by_tasks = bounded(async {
        let tasks: Vec<_> = (MANY / 2..MANY)
            .map(|number| {
                let (producer, stream) = (producer.clone(), stream.clone());
                tokio::spawn(async move { put(producer, stream, number) })
            })
            .collect();
        let mut all = Vec::new();
        for task in tasks {
            all.push(task.await.expect("a task ends"));
        }
        all
    });
    by_threads.into_iter().flat_map(Worker::done).chain(by_tasks).collect()
}

#[test]
fn submitters_that_go_by_the_hundred_lose_nothing_and_leave_their_places() {
    let endpoint = emulator(&[("s", 4)]);
    let producer =
        builder(&endpoint.url()).max_submitters(MANY + 4).ring_bytes(64 << 10).cores(2).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    for round in 0..3 {
        let many = put_by_many(&producer, &stream, round);
        let error = producer.submitter().expect_err("one more than there are places");
        assert!(matches!(error, SubmitterError::TooMany { max: 260 }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "max_submitters is 260, of which 4 are kept for `Producer::put`; the others are taken"
        );
        // They go on several threads, before it is known how their records end.
        let (submitters, outcomes): (Vec<_>, Vec<_>) = many.into_iter().unzip();
        let mut leaving: Vec<Worker<()>> = Vec::new();
        let mut submitters = submitters.into_iter();
        while submitters.len() > 0 {
            let some: Vec<_> = submitters.by_ref().take(64).collect();
            leaving.push(work(move || drop(some)));
        }
        leaving.into_iter().for_each(Worker::done);
        outcomes.into_iter().map(delivered).for_each(drop);
    }
    let mut stored: Vec<_> = read(&endpoint, "s").into_iter().map(|record| record.data).collect();
    stored.sort();
    let all = (0..3).flat_map(|round| (0..MANY).map(move |number| format!("{round}-{number}").into_bytes()));
    let mut all: Vec<_> = all.collect();
    all.sort();
    assert!(stored == all, "each once: {} stored", stored.len());
    assert_eq!(close(&producer).delivered, 3 * MANY as u64);
}
