//! Where the cores' threads run, as the kernel tells it: in a process of its own, so that no other test's core has the
//! same name.
#![cfg(target_os = "linux")]

use std::fs;
use std::time::Duration;

use endpoint::{Endpoint, EndpointConfig};
use kpl::{Pinning, Producer, ProducerBuilder, Record, StartError, StaticCredentials};

fn builder(url: &str) -> ProducerBuilder {
    let (access_key_id, secret_access_key) = ("test".into(), "test".into());
    let credentials = StaticCredentials { access_key_id, secret_access_key, session_token: None };
    Producer::builder().region("us-east-1").endpoint_url(url).credentials(credentials)
}

/// The threads of that name, by number.
fn tasks(name: &str) -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").expect("threads are listed");
    let tasks = tasks.map(|task| task.expect("a thread").file_name().to_string_lossy().into_owned());
    // A thread that has ended meanwhile has no name.
    let comm = |task: &String| fs::read_to_string(format!("/proc/self/task/{task}/comm")).unwrap_or_default();
    tasks.filter(|task| comm(task).trim_end() == name).collect()
}

/// The CPUs that a thread may run on, as the kernel lists them: `0-3,8`.
fn allowed(task: &str) -> String {
    let status = fs::read_to_string(format!("/proc/self/task/{task}/status")).expect("a thread has a status");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("its CPUs are listed");
    list.trim().to_owned()
}

/// The same for the current thread.
fn allowed_here() -> String {
    let link = fs::read_link("/proc/thread-self").expect("a thread finds itself");
    allowed(&link.file_name().expect("its number").to_string_lossy())
}

/// The CPUs of a list.
fn cpus(list: &str) -> Vec<usize> {
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let run = |run: &str| {
        let (first, last) = run.split_once('-').unwrap_or((run, run));
        number(first)..=number(last)
    };
    list.split(',').flat_map(run).collect()
}

/// Builds the producer, lets each of its cores do something, and tells where they run.
fn places(builder: ProducerBuilder, cores: usize) -> Vec<String> {
    let names: Vec<_> = (0..cores).map(|core| format!("kpl-core-{core}")).collect();
    // Those of producers that have not quite ended yet.
    let before: Vec<_> = names.iter().flat_map(|name| tasks(name)).collect();
    let producer = builder.build().expect("a producer");
    assert_eq!(producer.health().cores, cores);
    let stream = producer.stream("orders").expect("a stream");
    let mut submitters: Vec<_> = names.iter().map(|_| producer.submitter().expect("a submitter")).collect();
    for submitter in &mut submitters {
        // Each has its own core, which has pinned itself before it does anything else.
        submitter.put(&stream, Record::new("k", "d")).expect("a put").wait().expect("it is delivered");
    }
    let place = |name: &String| {
        let tasks: Vec<_> = tasks(name).into_iter().filter(|task| !before.contains(task)).collect();
        assert_eq!(tasks.len(), 1, "one thread is called {name}");
        allowed(&tasks[0])
    };
    let places = names.iter().map(place).collect();
    drop(submitters);
    let counts = producer.close(Duration::from_secs(20)).wait();
    assert_eq!((counts.delivered, counts.failed), (cores as u64, 0));
    assert_eq!(producer.health().last_error, None);
    places
}

#[test]
fn cores_run_where_they_are_told_to_and_callers_where_they_ran() {
    let streams = vec![("orders".to_owned(), 4)];
    let endpoint = Endpoint::start(EndpointConfig { streams, ..EndpointConfig::emulator() }).expect("an endpoint");
    let inherited = allowed_here();
    let mine = cpus(&inherited);
    let build = || builder(&endpoint.url());

    // The last first: what is named is kept in its order, and is not what anybody would begin with.
    let named: Vec<_> = mine.iter().rev().copied().take(3).collect();
    let expected: Vec<_> = named.iter().map(usize::to_string).collect();
    assert_eq!(places(build().cpus(named), expected.len()), expected);

    let on = places(build().pinning(Pinning::On), 1);
    assert!(on.len() == 1 && mine.iter().any(|cpu| cpu.to_string() == on[0]), "{on:?} of {mine:?}");

    assert_eq!(places(build().pinning(Pinning::Off), 1), [inherited.as_str()]);
    assert_eq!(allowed_here(), inherited);
}

#[test]
fn cpus_that_are_not_there_are_refused_when_the_producer_is_built() {
    let Err(StartError::Config(error)) = builder("http://127.0.0.1:1").cpus([100_000]).cores(0).build() else {
        panic!("there is no such CPU");
    };
    let fields: Vec<_> = error.faults.iter().map(|fault| fault.field).collect();
    assert_eq!(fields, ["cores", "cores, cpus", "cpus"], "{error}");
    assert!(error.to_string().contains("[100000], but must be of those that this process may run on, "), "{error}");
    assert!(error.to_string().ends_with(": 100000 is not"), "{error}");
}
