//! What tests need of the world: endpoints, producers that are quick to act, threads, and bounded waits.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use endpoint::{Action, Endpoint, EndpointConfig, RequestInfo};
use kpl::{
    Counts, Delivered, Failure, Flush, FlushError, Outcome, Producer, ProducerBuilder, Record, StaticCredentials,
    Stream,
};

/// Longer than anything takes that does not hang, also on a machine that is busy with other tests.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Milliseconds.
pub const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn credentials(id: &str, secret: &str) -> StaticCredentials {
    StaticCredentials { access_key_id: id.into(), secret_access_key: secret.into(), session_token: None }
}

/// A producer for the endpoint at `url` that lingers and backs off little, and has patience with a busy machine.
pub fn builder(url: &str) -> ProducerBuilder {
    unsigned(url).credentials(credentials("test", "test"))
}

/// The same without credentials.
pub fn unsigned(url: &str) -> ProducerBuilder {
    Producer::builder()
        .region("us-east-1")
        .endpoint_url(url)
        .runtime(crate::RUNTIME)
        .record_max_buffered_time(ms(20))
        .request_timeout(LIMIT)
        .retry_base_delay(ms(2))
        .retry_delay_cap(ms(20))
        .seed(1)
}

/// One that lingers longer than any test lasts, so that only flush, close and pressure send.
pub fn lingering(url: &str) -> ProducerBuilder {
    builder(url).record_max_buffered_time(Duration::from_secs(600)).record_ttl(Duration::from_secs(1200))
}

/// An emulator with these streams.
pub fn emulator(streams: &[(&str, u32)]) -> Endpoint {
    start(streams, EndpointConfig::emulator())
}

/// An emulator with these streams, which does with PutRecords what `script` says. Other operations are served.
pub fn scripted(
    streams: &[(&str, u32)],
    script: impl Fn(&RequestInfo<'_>) -> Action + Send + Sync + 'static,
) -> Endpoint {
    let mut config = EndpointConfig::emulator();
    config.script = Some(Box::new(move |request| match request.operation {
        "PutRecords" => script(request),
        _ => Action::Pass,
    }));
    start(streams, config)
}

/// An emulator that lists its shards and never answers a PutRecords in time.
pub fn hanging(streams: &[(&str, u32)]) -> Endpoint {
    scripted(streams, |_| Action::Delay(Duration::from_secs(3600)))
}

pub fn start(streams: &[(&str, u32)], mut config: EndpointConfig) -> Endpoint {
    config.streams = streams.iter().map(|(name, shards)| ((*name).to_owned(), *shards)).collect();
    Endpoint::start(config).expect("an endpoint starts")
}

/// How a record ended.
pub fn end(outcome: Outcome) -> Result<Delivered, Failure> {
    outcome.wait_timeout(LIMIT).expect("the record has an outcome")
}

/// A record that was delivered.
pub fn delivered(outcome: Outcome) -> Delivered {
    end(outcome).expect("the record is delivered")
}

/// A record that failed.
pub fn failed(outcome: Outcome) -> Failure {
    end(outcome).expect_err("the record fails")
}

pub fn flushed(flush: Flush) {
    let result: Result<(), FlushError> = flush.wait_timeout(LIMIT);
    result.expect("the flush ends");
}

/// Closes the producer; everything has its outcome then.
pub fn close(producer: &Producer) -> Counts {
    let counts = bounded(producer.close(LIMIT / 2));
    assert_eq!(counts.outstanding(), 0);
    counts
}

/// Runs a future on this thread.
pub fn bounded<F: Future>(future: F) -> F::Output {
    bounded_by(LIMIT, future).expect("the future is ready in time")
}

/// Runs a future on this thread; nothing if it is not ready in time.
pub fn bounded_by<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(limit, future).await.ok() })
}

/// A thread that is waited for with a limit. Its panic is the waiter's.
pub struct Worker<T> {
    thread: thread::JoinHandle<()>,
    result: mpsc::Receiver<T>,
}

/// Starts a thread.
pub fn work<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> Worker<T> {
    let (send, result) = mpsc::channel();
    let body = move || {
        // A test that has failed meanwhile does not receive it.
        let _ = send.send(body());
    };
    Worker { thread: thread::Builder::new().spawn(body).expect("a thread"), result }
}

impl<T> Worker<T> {
    /// What the thread returned.
    pub fn done(self) -> T {
        match self.result.recv_timeout(LIMIT) {
            Ok(result) => {
                self.thread.join().expect("it has returned");
                result
            }
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("a thread hangs"),
            Err(mpsc::RecvTimeoutError::Disconnected) => match self.thread.join() {
                Err(panic) => std::panic::resume_unwind(panic),
                Ok(()) => unreachable!("it sends before it returns"),
            },
        }
    }

    /// Asserts that the thread is still at it after `time`.
    pub fn assert_busy_for(&self, time: Duration) {
        let result = self.result.recv_timeout(time);
        assert_eq!(result.err(), Some(mpsc::RecvTimeoutError::Timeout), "the thread should wait");
    }
}

/// A core that stands still, so that rings fill up while there is budget. The producer has one core, and lingers.
pub struct Standstill {
    go_on: mpsc::Sender<()>,
    flush: Flush,
    _outcome: Outcome,
}

/// A waker that holds its core up: it says that it was called, and returns when it is told to.
struct Gate {
    entered: mpsc::Sender<()>,
    leave: Mutex<mpsc::Receiver<()>>,
}

impl Wake for Gate {
    fn wake(self: Arc<Self>) {
        // A test that has failed meanwhile neither hears nor tells.
        if self.entered.send(()).is_ok() {
            let _ = self.leave.lock().expect("one core calls it").recv();
        }
    }
}

impl Standstill {
    /// Stops the core, by way of a record of its own.
    pub fn of(producer: &Producer, stream: &Stream) -> Standstill {
        let (entered, called) = mpsc::channel();
        let (go_on, leave) = mpsc::channel();
        let gate = Waker::from(Arc::new(Gate { entered, leave: Mutex::new(leave) }));
        let mut submitter = producer.submitter().expect("a submitter");
        let mut outcome = submitter.put(stream, Record::new("k", "d")).expect("a put");
        assert!(pin!(&mut outcome).poll(&mut Context::from_waker(&gate)).is_pending(), "it lingers");
        let flush = producer.flush();
        called.recv_timeout(LIMIT).expect("the core calls the waker");
        Standstill { go_on, flush, _outcome: outcome }
    }

    /// Lets the core go on.
    pub fn end(self) {
        self.go_on.send(()).expect("the core waits for it");
        flushed(self.flush);
    }
}

/// What `body` returns, and how long it took.
#[expect(clippy::disallowed_methods, reason = "a test measures")]
pub fn timed<T>(body: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let result = body();
    (result, began.elapsed())
}
