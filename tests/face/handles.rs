//! Handles and futures: outcomes are awaited, waited for and dropped, from any thread and task.

use kpl::{Close, Flush, Outcome, Producer, Record, Stream, Submitter};

use super::reader::{location, read};
use super::world::{bounded, builder, close, delivered, emulator, lingering, ms, work};

#[test]
fn an_outcome_can_be_awaited_waited_for_and_asked_again() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = lingering(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let put = || producer.put(&stream, Record::new("k", "d")).expect("a put");
    let (awaited, waited, asked, dropped) = (put(), put(), put(), put());
    let asked = asked.wait_timeout(ms(1)).expect_err("it lingers, and the outcome comes back");
    drop(dropped);
    let both = async {
        let flush = producer.flush();
        let delivered = awaited.await.expect("it is delivered");
        flush.await.expect("the flush ends");
        delivered
    };
    let first = location(&bounded(both));
    let second = location(&work(|| waited.wait()).done().expect("it is delivered"));
    let third = location(&delivered(asked));
    assert_eq!((first.2, second.2, third.2), (0, 1, 2), "places in one aggregate");
    assert_eq!((&first.0, &first.1), (&third.0, &third.1));
    assert_eq!(read(&endpoint, "s").len(), 4, "dropping an outcome takes nothing back");
    assert_eq!(close(&producer).delivered, 4);
}

#[test]
fn outcomes_can_be_awaited_by_many_tasks_at_once() {
    let endpoint = emulator(&[("s", 4)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let all = async {
        let tasks: Vec<_> = (0..200)
            .map(|number| {
                let (producer, stream) = (producer.clone(), stream.clone());
                // A multi-threaded runtime would take these futures too: `spawn` asks for `Send`.
                tokio::spawn(async move {
                    let key = format!("{number}");
                    let outcome =
                        producer.put_async(&stream, Record::new(&key, "d")).await.map_err(|error| error.reason);
                    outcome.expect("a put").await.expect("it is delivered")
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("a task ends");
        }
    };
    bounded(all);
    assert_eq!(read(&endpoint, "s").len(), 200);
    close(&producer);
}

#[test]
fn handles_and_futures_can_be_sent_to_other_threads() {
    fn send<T: Send>() {}
    fn share<T: Send + Sync + Clone>() {}
    fn send_value<T: Send>(value: T) -> T {
        value
    }
    share::<Producer>();
    share::<Stream>();
    send::<Submitter>();
    send::<Outcome>();
    send::<Flush>();
    send::<Close>();
    let endpoint = emulator(&[("s", 1)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let outcome = bounded(send_value(producer.put_async(&stream, Record::new("k", "d")))).expect("a put");
    delivered(outcome);
    let outcome = bounded(send_value(submitter.put_async(&stream, Record::new("k", "d")))).expect("a put");
    delivered(outcome);
    bounded(send_value(stream.ready())).expect("ready");
}
