//! What a producer costs that has put records and has nothing to do now: CPU and wake-ups of each of its threads.
//!
//! ```text
//!     cargo run --release --example idle_cost -- [park|spin] [auto|glommio|tokio] [SECONDS]
//! ```
//!
//! The endpoint is this program again, as another process, so that nothing of it is counted. Linux only: it reads what
//! the kernel tells of threads below `/proc/self/task`.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, io};

use endpoint::{Endpoint, EndpointConfig};
use kpl::{IdleStrategy, Producer, Record, RuntimeChoice, StaticCredentials};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == "serve") {
        return serve();
    }
    let word = |index: usize, default| arguments.get(index).map_or(default, String::as_str);
    let idle = if word(0, "park") == "spin" { IdleStrategy::Spin } else { IdleStrategy::Park };
    let runtime = match word(1, "auto") {
        "glommio" => RuntimeChoice::Glommio,
        "tokio" => RuntimeChoice::Tokio,
        _ => RuntimeChoice::Auto,
    };
    let time = Duration::from_secs(word(2, "60").parse()?);

    let mut server = Command::new(env::current_exe()?);
    let mut server = server.arg("serve").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut url = String::new();
    BufReader::new(server.stdout.take().ok_or("no output")?).read_line(&mut url)?;
    measure(url.trim(), idle, runtime, time)?;
    drop(server.stdin.take());
    server.wait()?;
    Ok(())
}

/// The endpoint's process: says where it is, and ends with its input.
fn serve() -> Result<()> {
    let streams = vec![("orders".to_owned(), 4)];
    let endpoint = Endpoint::start(EndpointConfig { streams, ..EndpointConfig::emulator() })?;
    println!("{}", endpoint.url());
    io::stdout().flush()?;
    io::stdin().read_line(&mut String::new())?;
    Ok(())
}

fn measure(url: &str, idle: IdleStrategy, runtime: RuntimeChoice, time: Duration) -> Result<()> {
    let (access_key_id, secret_access_key) = ("test".into(), "test".into());
    let producer = Producer::builder()
        .region("us-east-1")
        .endpoint_url(url)
        .credentials(StaticCredentials { access_key_id, secret_access_key, session_token: None })
        .idle(idle)
        .runtime(runtime)
        .build()?;
    let orders = producer.stream("orders")?;
    let mut submitter = producer.submitter()?;
    for number in 0..10_000 {
        let customer = format!("customer-{number}");
        let put = submitter.put(&orders, Record::new(&customer, "an order"));
        drop(put.map_err(|refused| refused.to_string())?);
    }
    producer.flush().wait()?;
    println!("{:?} on {}, idle for {time:?} after 10 000 records", idle, producer.health().runtime);

    let before = threads()?;
    pass(time);
    let mut sum = (0, 0);
    for Thread { number, name, cpu_ns, wakeups } in threads()? {
        // A thread that is new began with nothing.
        let then = before.iter().find(|thread| thread.number == number);
        let (cpu_ns, wakeups) = then.map_or((cpu_ns, wakeups), |then| (cpu_ns - then.cpu_ns, wakeups - then.wakeups));
        show(&name, cpu_ns, wakeups, time);
        sum = (sum.0 + cpu_ns, sum.1 + wakeups);
    }
    show("together", sum.0, sum.1, time);
    producer.close(Duration::from_secs(10)).wait();
    Ok(())
}

/// Lets time pass; nobody ever sends.
fn pass(time: Duration) {
    let (_sender, nothing) = mpsc::channel::<()>();
    let _ = nothing.recv_timeout(time);
}

fn show(name: &str, cpu_ns: u64, wakeups: u64, time: Duration) {
    let percent = cpu_ns as f64 / time.as_nanos() as f64 * 100.0;
    let per_s = wakeups as f64 / time.as_secs_f64();
    println!("{name:<16} {:>9.1} ms CPU, {percent:.3} % of a core; {per_s:.1} wake-ups/s", cpu_ns as f64 / 1e6);
}

/// A thread of this process, and what it has used so far.
struct Thread {
    number: String,
    name: String,
    cpu_ns: u64,
    /// How often it slept and was waked.
    wakeups: u64,
}

/// The threads of this process, without the first, which is no part of the producer.
fn threads() -> Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?;
        let number = task.file_name().to_string_lossy().into_owned();
        let read = |file: &str| fs::read_to_string(task.path().join(file));
        if number == std::process::id().to_string() {
            continue;
        }
        let (status, schedstat) = (read("status")?, read("schedstat")?);
        let wakeups = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        threads.push(Thread {
            number,
            name: read("comm")?.trim().to_owned(),
            cpu_ns: schedstat.split(' ').next().unwrap_or_default().parse()?,
            wakeups: wakeups.ok_or("no count of wake-ups")?.trim().parse()?,
        });
    }
    Ok(threads)
}
