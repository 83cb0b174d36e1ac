//! `Producer::put` from many threads and tasks: who waits for room waits quietly, in order, and holds up nobody.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use endpoint::Action;
use kpl::{Outcome, Producer, ProducerBuilder, RateLimit, Record, Stream};

use super::reader::read;
use super::world::{LIMIT, Standstill, Worker, bounded, builder, close, emulator, lingering, ms, scripted, work};

/// Calls its number out.
struct Caller {
    number: usize,
    calls: mpsc::Sender<usize>,
}

impl Wake for Caller {
    fn wake(self: Arc<Self>) {
        // A test that has ended hears nothing more.
        let _ = self.calls.send(self.number);
    }
}

type Put<'a> = Pin<Box<dyn Future<Output = Option<Outcome>> + Send + 'a>>;

/// Puts that wait for room, each with its own waker.
struct Waiters<'a> {
    /// By number; empty once it was put or given up.
    puts: Vec<Option<Put<'a>>>,
    calls: mpsc::Sender<usize>,
    called: mpsc::Receiver<usize>,
}

impl<'a> Waiters<'a> {
    /// Puts until so many wait. Answers how many did not have to, too.
    fn gather(producer: &'a Producer, stream: &'a Stream, count: usize) -> (Waiters<'a>, u64) {
        let (calls, called) = mpsc::channel();
        let mut waiters = Waiters { puts: Vec::new(), calls, called };
        let mut through = 0;
        while waiters.puts.len() < count {
            let put = async { producer.put_async(stream, Record::new("k", &[7; 200])).await.ok() };
            waiters.puts.push(Some(Box::pin(put)));
            if let Some(put) = waiters.poll(waiters.puts.len() - 1) {
                assert!(put);
                waiters.puts.pop();
                through += 1;
            }
        }
        (waiters, through)
    }

    /// Polls one; if that ends it, answers whether its record was put.
    fn poll(&mut self, number: usize) -> Option<bool> {
        let waker = Waker::from(Arc::new(Caller { number, calls: self.calls.clone() }));
        let put = self.puts[number].as_mut()?;
        let Poll::Ready(outcome) = put.as_mut().poll(&mut Context::from_waker(&waker)) else { return None };
        self.puts[number] = None;
        Some(outcome.is_some())
    }

    /// Polls each as often as it is called, until all have ended, all `put` or none. Answers in which order that was,
    /// and the calls of each.
    fn finish(mut self, put: bool) -> (Vec<usize>, Vec<usize>) {
        let mut order = Vec::new();
        let mut calls = vec![0; self.puts.len()];
        while self.puts.iter().any(Option::is_some) {
            let number = self.called.recv_timeout(LIMIT).expect("the next is called");
            calls[number] += 1;
            if let Some(was_put) = self.poll(number) {
                assert_eq!(was_put, put);
                order.push(number);
            }
        }
        (order, calls)
    }
}

/// One whose rings are full after a few records, long before its budget is.
fn narrow(builder: ProducerBuilder) -> Producer {
    builder.ring_bytes(4096).max_outstanding_records(4000).build().expect("a producer")
}

#[test]
fn who_waits_for_room_is_called_when_it_is_his_turn_and_in_order() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = narrow(lingering(&endpoint.url()));
    let stream = producer.stream("s").expect("a stream");
    let standstill = Standstill::of(&producer, &stream);
    let (waiters, through) = Waiters::gather(&producer, &stream, 100);
    assert!(waiters.called.try_recv().is_err(), "nothing has changed, so that nobody is called");
    standstill.end();
    let (order, calls) = waiters.finish(true);
    assert_eq!(order, (0..100).collect::<Vec<_>>());
    // One's turn and one's room, and one for room that was there meanwhile.
    assert!(calls.iter().all(|calls| *calls <= 3), "{calls:?}");
    assert_eq!(close(&producer).delivered, 1 + through + 100);
}

#[test]
fn a_put_that_is_given_up_gives_up_its_turn_and_its_ring() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = narrow(lingering(&endpoint.url()));
    let stream = producer.stream("s").expect("a stream");
    let standstill = Standstill::of(&producer, &stream);
    let (mut waiters, through) = Waiters::gather(&producer, &stream, 20);
    // The one whose turn it is; the next, which was called and has not looked; and some in the middle of the queue.
    for number in [0, 1, 5, 6, 19] {
        waiters.puts[number] = None;
    }
    standstill.end();
    let (order, _) = waiters.finish(true);
    assert_eq!(order, [2, 3, 4].into_iter().chain(7..19).collect::<Vec<_>>());
    assert_eq!(close(&producer).delivered, 1 + through + 15);
}

#[test]
fn when_it_is_closed_all_who_wait_are_told() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = narrow(lingering(&endpoint.url()));
    let stream = producer.stream("s").expect("a stream");
    let standstill = Standstill::of(&producer, &stream);
    let (waiters, through) = Waiters::gather(&producer, &stream, 50);
    let closing = producer.close(LIMIT / 2);
    standstill.end();
    assert_eq!(waiters.finish(false).0, (0..50).collect::<Vec<_>>());
    assert_eq!(bounded(closing).delivered, 1 + through);
}

#[test]
fn many_threads_put_through_a_producer_whose_endpoint_is_slow_to_answer() {
    let requests = AtomicUsize::new(0);
    // The first requests are answered when everything is full.
    let endpoint = scripted(&[("s", 2)], move |_| match requests.fetch_add(1, Ordering::Relaxed) {
        0..4 => Action::Delay(ms(300)),
        _ => Action::Pass,
    });
    let build = builder(&endpoint.url()).ring_bytes(4096).max_outstanding_records(200).rate_limit(RateLimit::Off);
    let producer = build.build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let (producer, stream) = (producer.clone(), stream.clone());
            work(move || {
                for number in 0..100 {
                    let key = format!("{writer}-{number}");
                    drop(producer.put(&stream, Record::new(&key, &[7; 300])).expect("a put"));
                }
            })
        })
        .collect();
    writers.into_iter().for_each(Worker::done);
    assert_eq!(close(&producer).delivered, 1600);
    assert_eq!(read(&endpoint, "s").len(), 1600);
}
