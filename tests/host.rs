//! The producer in a host that forbids, limits, forks and leaves signals as they are.
//!
//! ```text
//!   test ─▶ the same test program again, as a process of its own ─▶ limit, fork or signal ─▶ producer ─▶ endpoint
//! ```
//!
//! What concerns a whole process is tried in a child of this one, so that no other test is touched by it. A seccomp
//! filter concerns one thread and those that it starts, which the producer's are.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use endpoint::{Action, Endpoint, EndpointConfig};
use kpl::{
    CoreRuntime, ErrorCode, FlushError, MetricsSink, MetricsSnapshot, Producer, ProducerBuilder, PutErrorReason,
    Record, RuntimeChoice, SinkError, StartError, StaticCredentials, StreamError, SubmitterError,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use self::process::{as_child, run_child};

mod process;

const LIMIT: Duration = Duration::from_secs(30);
/// Both of them, as far as the machine allows.
const CHOICES: [RuntimeChoice; 2] = [RuntimeChoice::Auto, RuntimeChoice::Tokio];

fn endpoint() -> Endpoint {
    start(EndpointConfig::emulator())
}

fn start(config: EndpointConfig) -> Endpoint {
    let streams = vec![("orders".to_owned(), 2)];
    Endpoint::start(EndpointConfig { streams, ..config }).expect("an endpoint")
}

fn builder(url: &str, runtime: RuntimeChoice) -> ProducerBuilder {
    let (access_key_id, secret_access_key) = ("test".into(), "test".into());
    let credentials = StaticCredentials { access_key_id, secret_access_key, session_token: None };
    let builder = Producer::builder().region("us-east-1").endpoint_url(url).credentials(credentials);
    builder.runtime(runtime).record_max_buffered_time(Duration::from_millis(20))
}

/// Puts a record, and sees it delivered.
fn deliver(producer: &Producer, data: &str) {
    let stream = producer.stream("orders").expect("a stream");
    let outcome = producer.put(&stream, Record::new("customer-7", data)).expect("a put");
    outcome.wait_timeout(LIMIT).expect("an outcome").expect("delivered");
}

/// Starts a producer, delivers a record with it and closes it. Answers what it ran on.
fn work(url: &str, choice: RuntimeChoice) -> CoreRuntime {
    let producer = builder(url, choice).build().expect("a producer");
    deliver(&producer, "an order");
    let runtime = producer.health().runtime;
    assert_eq!(producer.close(LIMIT).wait().delivered, 1);
    runtime
}

/// Why no producer can be had on glommio.
fn refusal(url: &str) -> String {
    match builder(url, RuntimeChoice::Glommio).build() {
        Err(StartError::Runtime { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

/// Refuses io_uring to this thread and to those that it starts.
fn forbid_io_uring() {
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
    let rules: BTreeMap<_, _> = calls.into_iter().map(|call| (call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let arch = std::env::consts::ARCH.try_into().expect("a machine that seccomp knows");
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    apply_filter(&program).expect("the kernel takes the filter");
}

#[test]
fn where_glommio_can_be_had_auto_takes_it() {
    let endpoint = endpoint();
    // Asked here anew, so that a fault of our own is not taken for a refusal.
    let lockable = getrlimit(Resource::RLIMIT_MEMLOCK).expect("a limit").0;
    let allowed = io_uring::IoUring::new(8).is_ok() && lockable >= 512 << 10;
    let expected = if allowed { CoreRuntime::Glommio } else { CoreRuntime::Tokio };
    assert_eq!(work(&endpoint.url(), RuntimeChoice::Auto), expected);
    if allowed {
        assert_eq!(work(&endpoint.url(), RuntimeChoice::Glommio), CoreRuntime::Glommio);
    }
    assert_eq!(work(&endpoint.url(), RuntimeChoice::Tokio), CoreRuntime::Tokio);
}

#[test]
fn where_a_filter_refuses_io_uring_the_producer_works_on_tokio() {
    let endpoint = endpoint();
    forbid_io_uring();
    assert_eq!(work(&endpoint.url(), RuntimeChoice::Auto), CoreRuntime::Tokio);
    let reason = refusal(&endpoint.url());
    assert!(reason.contains("the kernel refuses io_uring") && reason.contains("os error 1"), "{reason}");
}

#[test]
fn where_too_little_memory_may_be_locked_the_producer_works_on_tokio() {
    let test = "where_too_little_memory_may_be_locked_the_producer_works_on_tokio";
    if let Some(url) = as_child(test) {
        setrlimit(Resource::RLIMIT_MEMLOCK, 64 << 10, 64 << 10).expect("a lower limit");
        assert_eq!(work(&url, RuntimeChoice::Auto), CoreRuntime::Tokio);
        let reason = refusal(&url);
        assert!(reason.contains("RLIMIT_MEMLOCK is 65536 bytes") && reason.contains("524288"), "{reason}");
        return;
    }
    assert!(run_child(test, &endpoint().url(), &[]).success());
}

#[test]
fn the_child_of_a_fork_gets_errors_and_the_parent_goes_on() {
    let test = "the_child_of_a_fork_gets_errors_and_the_parent_goes_on";
    if let Some(url) = as_child(test) {
        CHOICES.iter().for_each(|choice| fork_beside_a_producer(&url, *choice));
        return;
    }
    let endpoint = endpoint();
    assert!(run_child(test, &endpoint.url(), &[]).success());
    let mut stored: Vec<_> = endpoint.read_stream("orders").expect("a stream").into_iter().map(|r| r.data).collect();
    stored.sort_unstable();
    let each: [&[u8]; 4] = [b"after", b"before", b"by the child", b"in the air"];
    assert_eq!(stored, each.map(|data| [data, data]).concat(), "each was stored once by each producer");
}

fn fork_beside_a_producer(url: &str, choice: RuntimeChoice) {
    let producer = builder(url, choice).build().expect("a producer");
    deliver(&producer, "before");
    let stream = producer.stream("orders").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    // Its record waits for company longer than the test lasts.
    let lingering = builder(url, choice).record_max_buffered_time(LIMIT).record_ttl(LIMIT * 2);
    let lingering = lingering.build().expect("a producer");
    let waiting = lingering.put(&lingering.stream("orders").expect("a stream"), Record::new("k", "in the air"));
    let waiting = waiting.expect("a put");
    // SAFETY: the child calls nothing that was written for one thread only: glibc's allocator and the standard
    // library's locks that other threads of ours could hold are made whole by their own fork handlers, or not used.
    #[expect(unsafe_code, reason = "a host forks so")]
    match unsafe { fork() }.expect("a fork") {
        ForkResult::Child => {
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let refused = submitter.try_put(&stream, Record::new("k", "lost")).expect_err("no threads");
                assert_eq!(refused.reason, PutErrorReason::Forked);
                assert_eq!(refused.record.data, b"lost");
                let refused = producer.put(&stream, Record::new("k", "lost")).expect_err("no threads");
                assert_eq!(refused.reason, PutErrorReason::Forked);
                assert_eq!(producer.stream("orders").expect_err("no threads"), StreamError::Forked);
                assert_eq!(producer.submitter().expect_err("no threads"), SubmitterError::Forked);
                assert_eq!(producer.flush().wait(), Err(FlushError::Forked));
                assert_eq!(producer.flush_stream(&stream).wait(), Err(FlushError::Forked));
                assert_eq!(waiting.wait().expect_err("the parent's").code(), &ErrorCode::CoreFailed);
                assert!(producer.metrics().samples().is_empty());
                assert_eq!(producer.close(LIMIT).wait().accepted, 0);
                drop((submitter, stream, producer, lingering));
                let own = builder(url, choice).build().expect("a producer of its own");
                deliver(&own, "by the child");
                own.close(LIMIT).wait();
            }));
            // Neither the test harness's threads nor its locks are here: no more than this.
            #[expect(unsafe_code, reason = "a forked child ends so")]
            // SAFETY: it ends the process at once and runs nothing.
            unsafe {
                libc::_exit(i32::from(told.is_err()))
            }
        }
        ForkResult::Parent { child } => {
            let ended = waitpid(child, None).expect("a child");
            assert!(matches!(ended, WaitStatus::Exited(_, 0)), "{ended:?}");
            deliver(&producer, "after");
            assert_eq!(producer.close(LIMIT).wait().delivered, 2);
            lingering.flush().wait().expect("a flush");
            waiting.wait().expect("the parent's record is delivered");
            lingering.close(LIMIT).wait();
        }
    }
}

#[test]
fn a_peer_that_closes_does_not_kill_a_host_that_left_sigpipe_alone() {
    let test = "a_peer_that_closes_does_not_kill_a_host_that_left_sigpipe_alone";
    if let Some(url) = as_child(test) {
        // SAFETY: the default disposition runs no code of ours.
        #[expect(unsafe_code, reason = "a host in another language does so, or rather never did otherwise")]
        unsafe {
            signal(Signal::SIGPIPE, SigHandler::SigDfl).expect("a signal");
        }
        if url == "a plain write" {
            write_to_a_closed_peer();
        }
        for choice in CHOICES {
            let producer = builder(&url, choice).record_ttl(Duration::from_secs(2)).build().expect("a producer");
            let stream = producer.stream("orders").expect("a stream");
            let data = vec![7; 1_000_000];
            let outcome = producer.put(&stream, Record::new("customer-7", data.as_slice()));
            let failure = outcome.expect("a put").wait().expect_err("the peer closes");
            assert_eq!(failure.code(), &ErrorCode::Expired);
            // Whether a write meets the closed peer is a race. That no write of ours could kill is not.
            let ours: Vec<_> = threads().into_iter().filter(|thread| thread.name.starts_with("kpl-")).collect();
            assert!(ours.len() >= 2, "{ours:?}");
            assert!(ours.iter().all(|thread| thread.blocks(Signal::SIGPIPE)), "{ours:?}");
            producer.close(LIMIT).wait();
        }
        return;
    }
    // The signal does kill who does not block it, or the rest shows nothing.
    use std::os::unix::process::ExitStatusExt;
    assert_eq!(run_child(test, "a plain write", &[]).signal(), Some(libc::SIGPIPE));
    let mut config = EndpointConfig::emulator();
    config.script = Some(Box::new(|request| match request.operation {
        "PutRecords" if request.index % 2 == 0 => Action::CloseConnection,
        "PutRecords" => Action::ResetConnection,
        _ => Action::Pass,
    }));
    assert!(run_child(test, &start(config).url(), &[]).success());
}

/// Writes until the system says that nobody reads.
fn write_to_a_closed_peer() {
    use std::io::Write;
    let (reader, writer) = std::os::unix::net::UnixStream::pair().expect("a pair");
    drop(reader);
    // Vectored: the standard library keeps the signal from its plain writes.
    let _ = (&writer).write_vectored(&[std::io::IoSlice::new(b"anybody?")]);
}

/// Bytes of memory that this process has mapped.
fn mapped() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("the kernel tells");
    let pages = statm.split(' ').next().and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("its first number is the pages that are mapped") * 4096
}

#[test]
fn an_idle_core_gives_the_rings_of_submitters_back_that_are_gone() {
    let test = "an_idle_core_gives_the_rings_of_submitters_back_that_are_gone";
    if let Some(url) = as_child(test) {
        CHOICES.iter().for_each(|choice| leave_an_idle_core(&url, *choice));
        return;
    }
    assert!(run_child(test, &endpoint().url(), &[]).success());
}

fn leave_an_idle_core(url: &str, choice: RuntimeChoice) {
    // So large that the allocator asks the system for each and gives it back.
    let (rings, ring_bytes) = (4, 64 << 20);
    // The records linger for longer than anybody waits, so that no timer wakes the core.
    let builder = builder(url, choice).record_max_buffered_time(LIMIT * 10).record_ttl(LIMIT * 20);
    let producer = builder.ring_bytes(ring_bytes).build().expect("a producer");
    let stream = producer.stream("orders").expect("a stream");
    stream.ready().wait_timeout(LIMIT).expect("an answer").expect("ready");
    let before = mapped();
    let mut submitters: Vec<_> = (0..rings).map(|_| producer.submitter().expect("a submitter")).collect();
    for submitter in &mut submitters {
        drop(submitter.put(&stream, Record::new("k", "d")).expect("a put"));
    }
    let bytes = (rings * ring_bytes) as u64;
    assert!(mapped() > before + bytes / 2, "the rings are there");
    // By then, as a rule, the core parks; while it rests on its tick it would see the rings by itself.
    let (_never, wait) = std::sync::mpsc::channel::<()>();
    wait.recv_timeout(Duration::from_millis(300)).expect_err("nobody sends");
    drop(submitters);
    // Nobody does anything with the producer meanwhile.
    let mut looks = 0..LIMIT.as_millis() / 10;
    let gone = looks.any(|_| wait.recv_timeout(Duration::from_millis(10)).is_err() && mapped() < before + bytes / 4);
    assert!(gone, "the rings are still there");
    assert_eq!(producer.close(LIMIT).wait().delivered, rings as u64);
}

#[test]
fn a_producer_has_two_threads() {
    let test = "a_producer_has_two_threads";
    if let Some(url) = as_child(test) {
        for choice in CHOICES {
            let before: Vec<_> = threads().into_iter().map(|thread| thread.number).collect();
            let producer = builder(&url, choice).build().expect("a producer");
            deliver(&producer, "an order");
            let own = threads().into_iter().filter(|thread| !before.contains(&thread.number));
            let mut names: Vec<_> = own.map(|thread| thread.name).collect();
            names.sort_unstable();
            // The control thread's runtime looks names up on a thread of its own, which stays for some seconds.
            names.retain(|name| !name.starts_with("tokio-"));
            assert_eq!(names, ["kpl-control", "kpl-core-0"]);
            producer.close(LIMIT).wait();
        }
        return;
    }
    assert!(run_child(test, &endpoint().url(), &[]).success());
}

/// Tells which thread calls it.
struct WhoCalls(mpsc::Sender<Thread>);

impl MetricsSink for WhoCalls {
    fn upload(&mut self, _: &MetricsSnapshot) -> Result<(), SinkError> {
        let own = std::fs::read_link("/proc/thread-self")?;
        let own = own.file_name().expect("its number").to_string_lossy();
        let thread = threads().into_iter().find(|thread| thread.number == own).expect("it runs");
        self.0.send(thread).map_err(|_| SinkError::new("the test has ended"))
    }
}

#[test]
fn a_sink_of_metrics_is_called_on_its_own_thread_which_ends_with_the_producer() {
    let test = "a_sink_of_metrics_is_called_on_its_own_thread_which_ends_with_the_producer";
    if let Some(url) = as_child(test) {
        for choice in CHOICES {
            let (tell, told) = mpsc::channel();
            let producer = builder(&url, choice).metrics_sink(WhoCalls(tell)).build().expect("a producer");
            deliver(&producer, "an order");
            producer.close(LIMIT).wait();
            let thread = told.recv_timeout(LIMIT).expect("the close uploads");
            assert!(thread.name == "kpl-metrics" && thread.blocks(Signal::SIGPIPE), "{thread:?}");
            assert_eq!(told.recv_timeout(LIMIT).err(), Some(mpsc::RecvTimeoutError::Disconnected), "it was dropped");
        }
        return;
    }
    assert!(run_child(test, &endpoint().url(), &[]).success());
}

/// A thread of this process.
#[derive(Debug)]
struct Thread {
    number: String,
    name: String,
    /// The signals that it blocks, by bit.
    blocked: u64,
}

impl Thread {
    fn blocks(&self, signal: Signal) -> bool {
        self.blocked >> (signal as u64 - 1) & 1 == 1
    }
}

fn threads() -> Vec<Thread> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux").map(|task| task.expect("a task"));
    let threads = tasks.filter_map(|task| {
        // One that has ended meanwhile has none.
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let blocked = u64::from_str_radix(field("SigBlk:")?, 16).expect("a mask");
        let number = task.file_name().to_string_lossy().into_owned();
        Some(Thread { number, name: field("Name:")?.to_owned(), blocked })
    });
    threads.collect()
}
