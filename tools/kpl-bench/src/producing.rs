//! The run itself: a producer, submitter threads that put as fast as they are let, and what came of every record.
//!
//! ```text
//!  prepare ─▶ [ lanes start ─▶ put … put ─▶ flush ─▶ last outcome ] ─▶ close
//!               ▲ wall and processor time are taken over this ▲
//! ```
//!
//! This file and `lane.rs` are all of the bench that knows the producer's face. Memory: the producer's own bounds, the
//! lanes' queues of outcomes, their filler or blocks, the ledger.

use std::fmt::{self, Display};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use kpl::config::{IdleStrategy, Pinning, ProxyChoice, RateLimit, RuntimeChoice, TlsRoots, WireFormat};
use kpl::metrics::Counters;
use kpl::outcome::Counts;
use kpl::{Producer, Submitter, limits};

use crate::args::ProxyUrl;
use crate::clock::{Clock, Latencies};
use crate::cpu::CpuTime;
use crate::lane::{AnySource, Lane, LaneEnd, Run};
use crate::lines::{Blocks, InputError, KeySource, Lines};
use crate::memory::{self, Memory, MemoryFigures};
use crate::outcomes::{Reasons, Settled};
use crate::progress::{Progress, TICK};
use crate::stream::Access;
use crate::timeline::{Happened, Timekeeper};
use crate::verify::Ledger;
use crate::workload::{Generator, KEY_BYTES, Plan};

/// How long the producer may take to list the stream's shards.
const READY_MAX: Duration = Duration::from_secs(60);
/// How long lanes and flush wait past the records' time to live for an outcome that must come.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much data may be outstanding, as time that the rate limit needs for it.
const OUTSTANDING_S: u64 = 2;

/// What is put.
pub enum Feed {
    Generated { plan: Plan, records: Option<u64> },
    Lines { blocks: Blocks, keys: KeySource },
}

/// How it is put.
pub struct Job {
    pub access: Access,
    pub stream: String,
    pub shards: u32,
    pub submitters: usize,
    pub cores: usize,
    pub runtime: RuntimeChoice,
    pub pinning: Pinning,
    pub idle: IdleStrategy,
    pub rate_limit: RateLimit,
    pub wire: WireFormat,
    pub seed: u64,
    /// Data of the largest record that is known of.
    pub record_size: usize,
    pub duration: Option<Duration>,
    /// Records a second, in all.
    pub rate: Option<u64>,
    pub ordered: bool,
    /// Whether sampled outcomes are kept one by one.
    pub keep_samples: bool,
}

/// What came of it.
#[derive(Default)]
pub struct Produced {
    /// Records that were accepted.
    pub put: u64,
    /// Records that were tried, by lane.
    pub tried_by_lane: Vec<u64>,
    pub settled: Settled,
    pub refusals: Reasons,
    /// Puts that found the producer full.
    pub waits: u64,
    pub put_latencies: Latencies,
    pub wall: Duration,
    pub cpu: CpuTime,
    pub counters: Counters,
    /// What the producer's cores ran on.
    pub runtime: String,
    /// The producer's own counts at its close.
    pub counts: Counts,
    /// What this process held.
    pub memory: MemoryFigures,
    /// What happened besides.
    pub happened: Happened,
    /// Why the flush ended early, if it did.
    pub flush_fault: Option<String>,
    /// Why the input ended early, if it did.
    pub input_fault: Option<InputError>,
}

/// Why nothing could be put.
#[derive(Debug)]
pub struct ProducerFault(String);

impl Display for ProducerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn fault(error: impl Display) -> ProducerFault {
    ProducerFault(error.to_string())
}

/// How much may be outstanding, and how long a record may take.
#[derive(Debug, PartialEq, Eq)]
struct Bounds {
    outstanding_bytes: usize,
    ttl: Duration,
}

impl Job {
    /// Under a rate limit the producer's default bound of 256 MiB can be more than the shards take within a record's
    /// time to live: a bench that puts faster than they take would then see its records expire in the queue. So what
    /// is outstanding is about two seconds of the limit, and the time to live is enough for all of it to go through
    /// one shard, should the keys want it so.
    fn bounds(&self) -> Bounds {
        let RateLimit::Percent(percent) = self.rate_limit else {
            return Bounds { outstanding_bytes: limits::OUTSTANDING_BYTES_DEFAULT, ttl: limits::TTL_DEFAULT };
        };
        let shard_bytes_per_s = (limits::SHARD_BYTES_PER_S * u64::from(percent) / 100).max(1);
        let wanted = shard_bytes_per_s.saturating_mul(u64::from(self.shards) * OUTSTANDING_S);
        // The least that holds one record: the producer may keep a quarter back as submitters' credit.
        let least = 2 * self.record_bytes_max() as u64;
        let bytes = wanted.min(limits::OUTSTANDING_BYTES_DEFAULT as u64).max(least);
        let ttl = Duration::from_secs(bytes / shard_bytes_per_s * 3 / 2);
        Bounds { outstanding_bytes: bytes as usize, ttl: ttl.clamp(limits::TTL_DEFAULT, limits::DURATION_MAX) }
    }

    fn record_bytes_max(&self) -> usize {
        (self.record_size + KEY_BYTES).clamp(limits::RECORD_BYTES_DEFAULT, limits::RECORD_BYTES_MAX)
    }

    fn producer(&self, bounds: &Bounds) -> Result<Producer, ProducerFault> {
        let submitters_max = (self.submitters + limits::POOL_SUBMITTERS).max(limits::SUBMITTERS_DEFAULT);
        let mut builder = Producer::builder()
            .endpoint_url(self.access.url.clone())
            .cores(self.cores)
            .runtime(self.runtime)
            .pinning(self.pinning)
            .idle(self.idle)
            .rate_limit(self.rate_limit)
            .wire(self.wire)
            .proxy(match &self.access.proxy {
                Some(ProxyUrl(url)) => ProxyChoice::Url(url.clone()),
                None => ProxyChoice::Off,
            })
            .seed(self.seed)
            .ordered(self.ordered)
            .max_record_size(self.record_bytes_max())
            .max_outstanding_bytes(bounds.outstanding_bytes)
            .record_ttl(bounds.ttl)
            .max_submitters(submitters_max);
        if let Some(region) = &self.access.region {
            builder = builder.region(region.clone());
        }
        if let Some(credentials) = &self.access.credentials {
            builder = builder.credentials(credentials.clone());
        }
        if let Some(ca_pem) = &self.access.ca_pem {
            builder = builder.tls_roots(TlsRoots::Pem(ca_pem.clone().into_bytes()));
        }
        builder.build().map_err(fault)
    }

    /// Runs the job.
    ///
    /// # Errors
    /// The producer, its stream, its submitters or the threads could not be had. Whatever happens to records later is
    /// in what is returned.
    pub fn run(&self, feed: &Feed, ledger: &Ledger, timekeeper: &Timekeeper<'_>) -> Result<Produced, ProducerFault> {
        let bounds = self.bounds();
        let producer = self.producer(&bounds)?;
        let stream = producer.stream(&self.stream).map_err(fault)?;
        match stream.ready().wait_timeout(READY_MAX) {
            Some(ready) => ready.map_err(fault)?,
            None => {
                return Err(fault(format_args!("the shards of {:?} are not known after {READY_MAX:?}", self.stream)));
            }
        }
        let lanes: Vec<_> = (0..self.submitters as u64)
            .map(|lane| Ok((producer.submitter().map_err(fault)?, feed.lane(lane))))
            .collect::<Result<_, ProducerFault>>()?;
        let run = Run {
            clock: Clock::start(),
            stop: AtomicBool::new(false),
            duration: self.duration,
            patience: bounds.ttl + PATIENCE,
            stream: &stream,
            ledger,
            lanes: self.submitters,
            rate: self.rate.map(|rate| rate as f64 / self.submitters as f64),
            keep_samples: self.keep_samples,
        };
        let mut produced = run_lanes(&run, &producer, lanes, feed.records(), timekeeper).map_err(fault)?;
        produced.runtime = producer.health().runtime.to_string();
        produced.counts = producer.close(PATIENCE).wait();
        Ok(produced)
    }
}

impl Feed {
    fn lane(&self, lane: u64) -> AnySource {
        match self {
            Feed::Generated { plan, records } => AnySource::Generated(Generator::new(plan.clone(), lane, *records)),
            Feed::Lines { blocks, keys } => AnySource::Lines(Lines::new(blocks.clone(), keys.clone())),
        }
    }

    fn records(&self) -> Option<u64> {
        match self {
            Feed::Generated { records, .. } => *records,
            Feed::Lines { .. } => None,
        }
    }
}

/// Starts a thread for each lane, flushes when all have put, and gathers what came of it.
fn run_lanes(
    run: &Run<'_>,
    producer: &Producer,
    lanes: Vec<(Submitter, AnySource)>,
    total: Option<u64>,
    timekeeper: &Timekeeper<'_>,
) -> io::Result<Produced> {
    let (start, started) = bounded::<()>(0);
    let (done, all_done) = bounded::<()>(0);
    let (ended, end) = bounded::<()>(0);
    let (put, over) = bounded::<()>(0);
    let progress = Progress::begin("putting", total);
    std::thread::scope(|scope| {
        // Dropped when this closure ends, also early: then lanes start, see `stop`, and end, and so does the progress.
        let (start, ended, put) = (start, ended, put);
        let mut threads = Vec::new();
        for (number, (submitter, source)) in lanes.into_iter().enumerate() {
            let (started, done) = (started.clone(), done.clone());
            let body = move || {
                // Nobody sends: it ends when the start is dropped. The same for the two below.
                let _ = started.recv();
                Lane::new(run, submitter).run(source, done)
            };
            let thread = std::thread::Builder::new().name(format!("lane {number}")).spawn_scoped(scope, body);
            // Relaxed, as its partner in `Lane::is_over`; the lanes read it after the start.
            threads.push(thread.inspect_err(|_| run.stop.store(true, Ordering::Relaxed))?);
        }
        let progress = &progress;
        let watcher = std::thread::Builder::new().name("progress".into()).spawn_scoped(scope, move || {
            let (mut memory, mut next) = (Memory::default(), Duration::ZERO);
            let begun = run.clock.elapsed();
            while end.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                progress.at(producer.counters().records_delivered);
                let elapsed = run.clock.elapsed() - begun;
                if elapsed >= next {
                    memory.sample(elapsed);
                    next += memory::EVERY;
                }
            }
            memory
        })?;
        drop(done);
        let (cpu, begun) = (CpuTime::now(), run.clock.elapsed());
        let keeper = std::thread::Builder::new().name("timeline".into());
        let keeper = keeper.spawn_scoped(scope, move || {
            if timekeeper.is_idle() { Happened::default() } else { timekeeper.run(run.clock, &over) }
        })?;
        drop(start);
        let _ = all_done.recv();
        drop(put);
        let flushed = producer.flush().wait_timeout(run.patience);
        let lanes: Vec<LaneEnd> = threads.into_iter().map(|thread| thread.join().expect("no lane panics")).collect();
        let mut produced = Produced {
            wall: run.clock.elapsed() - begun,
            cpu: CpuTime::now().since(cpu),
            counters: producer.counters(),
            flush_fault: flushed.err().map(|error| error.to_string()),
            ..Produced::default()
        };
        drop(ended);
        produced.memory = watcher.join().expect("the progress does not panic").figures();
        produced.happened = keeper.join().expect("the timeline does not panic");
        lanes.into_iter().for_each(|lane| produced.add(lane));
        Ok(produced)
    })
}

impl Produced {
    fn add(&mut self, lane: LaneEnd) {
        self.tried_by_lane.push(lane.tried);
        self.put += lane.put;
        self.waits += lane.waits;
        self.refusals.add(lane.refusals);
        self.put_latencies.add(&lane.put_latencies);
        self.settled.add(lane.settled);
        let first = |fault: &InputError, other: &InputError| fault.line <= other.line;
        self.input_fault = match (self.input_fault.take(), lane.input_fault) {
            (Some(mine), Some(other)) if !first(&mine, &other) => Some(other),
            (mine, other) => mine.or(other),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(shards: u32, rate_limit: RateLimit, record_size: usize) -> Job {
        Job {
            access: Access {
                url: "http://127.0.0.1:1".to_owned(),
                region: None,
                credentials: None,
                ca_pem: None,
                proxy: None,
            },
            stream: "s".to_owned(),
            shards,
            submitters: 2,
            cores: 1,
            runtime: RuntimeChoice::Auto,
            pinning: Pinning::Auto,
            idle: IdleStrategy::Park,
            rate_limit,
            wire: WireFormat::Auto,
            seed: 1,
            record_size,
            duration: None,
            rate: None,
            ordered: false,
            keep_samples: false,
        }
    }

    #[test]
    fn what_is_outstanding_can_go_through_one_shard_within_the_time_to_live() {
        for (shards, percent, record_size) in [(1, 1, 100), (4, 150, 100), (100, 150, 100), (1, 10, 10 << 20)] {
            let bounds = job(shards, RateLimit::Percent(percent), record_size).bounds();
            let bytes_per_s = (limits::SHARD_BYTES_PER_S * u64::from(percent) / 100) as f64;
            let needed_s = bounds.outstanding_bytes as f64 / bytes_per_s;
            assert!(bounds.ttl.as_secs_f64() >= needed_s, "{shards} {percent} {bounds:?}");
            assert!(bounds.outstanding_bytes / 4 * 3 >= record_size, "{bounds:?}");
        }
        let off = Bounds { outstanding_bytes: limits::OUTSTANDING_BYTES_DEFAULT, ttl: limits::TTL_DEFAULT };
        assert_eq!(job(4, RateLimit::Off, 100).bounds(), off);
    }

    #[test]
    fn of_two_faults_of_the_input_the_earlier_line_is_told() {
        let mut produced = Produced::default();
        for line in [9, 4, 7] {
            let input_fault = Some(InputError { line, reason: String::new() });
            produced.add(LaneEnd { input_fault, ..LaneEnd::default() });
        }
        assert_eq!(produced.input_fault.map(|fault| fault.line), Some(4));
    }
}
