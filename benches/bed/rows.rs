//! The rows of `put_tail`: what is put how, how often, and what happens behind it; and how a row is run.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use endpoint::{Action, Endpoint, EndpointConfig};
use kpl::Producer;
use serde_json::json;

use crate::lanes::{Detached, Lane, OutcomeDropped, OutcomeKept, Puts, Reserved, Token};
use crate::machine::{Machine, Side};
use crate::peer::{Rhythm, RtrbBoxed};
use crate::tsc::{self, Clock};
use crate::{Extent, PERCENTILES, Run, producer};

/// One row.
pub struct Row {
    way: Way,
    rest: Rest,
    behind: Behind,
    per_second: u64,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    OutcomeKept,
    OutcomeDropped,
    Token,
    Detached,
    Reserved,
    /// A put that is told `Full`.
    Full,
    /// Not a put: the peer.
    RtrbBoxed,
}

/// How the core rests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    Awake,
    Armed,
    Parked,
}

/// What the core finds at the other end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// Nobody: connections are refused. No thread but the core's and the control thread's uses their CPU.
    Nobody,
    /// An emulator, in this process and on the core's CPU, that takes everything.
    Taking,
    /// One that throttles every request.
    Throttling,
    /// One that takes everything, while its stream goes from 4 shards to 8 and back without pause.
    Resharding,
}

const fn row(way: Way, rest: Rest, behind: Behind, per_second: u64) -> Row {
    Row { way, rest, behind, per_second }
}

/// All rows, in the order in which they are run.
pub const ROWS: &[Row] = {
    use {Behind::*, Rest::*, Way::*};
    &[
        row(OutcomeKept, Awake, Nobody, 10_000),
        row(OutcomeKept, Awake, Nobody, 100_000),
        row(OutcomeKept, Awake, Nobody, 1_000_000),
        row(OutcomeKept, Armed, Nobody, 10_000),
        row(OutcomeKept, Armed, Nobody, 100_000),
        row(OutcomeKept, Armed, Nobody, 1_000_000),
        row(OutcomeKept, Parked, Nobody, 100),
        row(OutcomeDropped, Awake, Nobody, 100_000),
        row(Token, Awake, Nobody, 100_000),
        row(Detached, Awake, Nobody, 100_000),
        row(Reserved, Awake, Nobody, 100_000),
        row(OutcomeDropped, Armed, Nobody, 100_000),
        row(Token, Armed, Nobody, 100_000),
        row(Detached, Armed, Nobody, 100_000),
        row(Reserved, Armed, Nobody, 100_000),
        row(Full, Parked, Nobody, 100_000),
        row(RtrbBoxed, Awake, Nobody, 10_000),
        row(RtrbBoxed, Awake, Nobody, 100_000),
        row(RtrbBoxed, Awake, Nobody, 1_000_000),
        row(RtrbBoxed, Armed, Nobody, 100_000),
        row(RtrbBoxed, Armed, Nobody, 1_000_000),
        row(OutcomeKept, Armed, Taking, 100_000),
        row(OutcomeKept, Armed, Throttling, 100_000),
        row(OutcomeKept, Armed, Resharding, 100_000),
    ]
};

/// Linger of a core that is not to park; the default.
const LINGER: Duration = Duration::from_millis(100);
/// Linger of one that is to park between two puts.
const LINGER_PARKED: Duration = Duration::from_millis(5);
const HOUR: Duration = Duration::from_secs(3600);
/// Outcomes are kept longer than records live: 150 ms, and a turn.
const KEPT_FOR: Duration = Duration::from_millis(200);

impl Row {
    /// What it is called.
    pub fn name(&self) -> String {
        let way = match self.way {
            Way::OutcomeKept => "outcome kept",
            Way::OutcomeDropped => "outcome dropped",
            Way::Token => "token",
            Way::Detached => "detached",
            Way::Reserved => "reserved",
            Way::Full => "told Full",
            Way::RtrbBoxed => "rtrb, boxed",
        };
        let rest = match self.rest {
            Rest::Awake => "awake",
            Rest::Armed => "armed",
            Rest::Parked => "parked",
        };
        let behind = match self.behind {
            Behind::Nobody => "",
            Behind::Taking => ", taking",
            Behind::Throttling => ", throttling",
            Behind::Resharding => ", resharding",
        };
        format!("{way}, {rest}, {}/s{behind}", self.per_second)
    }

    /// Runs it once.
    pub fn run(&self, machine: &Machine, clock: &Clock, extent: &Extent) -> Run {
        let pace = Pace::new(self.per_second, clock, extent);
        if self.way == Way::RtrbBoxed {
            let rhythm = if self.rest == Rest::Awake { Rhythm::Awake } else { Rhythm::Armed };
            return pace.measure(clock, &mut RtrbBoxed::start(machine, rhythm), true);
        }
        let (world, puts) = self.world(machine);
        let run = match self.way {
            Way::OutcomeKept => pace.measure(clock, &mut OutcomeKept(puts), true),
            Way::OutcomeDropped => pace.measure(clock, &mut OutcomeDropped(puts), true),
            Way::Token => pace.measure(clock, &mut Token::start(puts, machine), true),
            Way::Detached => pace.measure(clock, &mut Detached(puts), true),
            Way::Reserved => pace.measure(clock, &mut Reserved(puts), true),
            Way::Full => {
                let mut lane = OutcomeKept(puts);
                while lane.put("k", &[]).is_some() {}
                pace.measure(clock, &mut lane, false)
            }
            Way::RtrbBoxed => unreachable!("it was run above"),
        };
        assert!((run.refused == run.puts) == (self.way == Way::Full), "{}: {} refused", self.name(), run.refused);
        world.end();
        run
    }

    fn world(&self, machine: &Machine) -> (World, Puts) {
        let mut config = match self.behind {
            Behind::Nobody => EndpointConfig::sink(producer::SHARDS),
            Behind::Taking | Behind::Throttling | Behind::Resharding => EndpointConfig::emulator(),
        };
        config.streams = vec![(producer::STREAM.to_owned(), producer::SHARDS)];
        if self.behind == Behind::Throttling {
            config.script = Some(Box::new(|request| match request.operation {
                "PutRecords" => Action::error(400, "ProvisionedThroughputExceededException", "slow down"),
                _ => Action::Pass,
            }));
        }
        let endpoint = producer::endpoint(config, machine);
        let linger = if self.rest == Rest::Parked { LINGER_PARKED } else { LINGER };
        let rhythm = if self.rest == Rest::Awake { Rhythm::Awake } else { Rhythm::Armed };
        let mut builder = producer::builder(&endpoint, machine, linger, rhythm);
        if self.way == Way::Full {
            builder = builder.record_max_buffered_time(HOUR).record_ttl(2 * HOUR).max_outstanding_records(1000);
        }
        let (producer, stream) = producer::start(builder, machine);
        let submitter = producer.submitter().expect("a submitter");
        let endpoint = (self.behind != Behind::Nobody).then(|| Arc::new(endpoint));
        let resharder = match &endpoint {
            Some(endpoint) if self.behind == Behind::Resharding => Some(Resharder::start(machine, endpoint)),
            _ => None,
        };
        (World { producer, _resharder: resharder, _endpoint: endpoint }, Puts { submitter, stream })
    }
}

/// What stands behind a lane.
struct World {
    producer: Producer,
    _resharder: Option<Resharder>,
    _endpoint: Option<Arc<Endpoint>>,
}

impl World {
    /// Closes the producer, so that its core does not disturb the next run.
    fn end(self) {
        let counts = self.producer.close(Duration::ZERO).wait();
        assert_eq!(counts.outstanding(), 0, "every record has its outcome");
    }
}

/// Splits and merges all shards of the stream, again and again.
struct Resharder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Resharder {
    #[expect(clippy::disallowed_methods, reason = "a bench has threads of its own")]
    fn start(machine: &Machine, endpoint: &Arc<Endpoint>) -> Resharder {
        let (stop, endpoint) = (Arc::new(AtomicBool::new(false)), Arc::clone(endpoint));
        let stopped = Arc::clone(&stop);
        machine.pin(Side::Core);
        let thread = std::thread::spawn(move || {
            for shards in [2 * producer::SHARDS, producer::SHARDS].into_iter().cycle() {
                // Relaxed: nothing is published with it; partner of the store in `drop`.
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let change = json!({ "StreamName": producer::STREAM, "TargetShardCount": shards, "ScalingType": "UNIFORM_SCALING" });
                endpoint.call("UpdateShardCount", &change).expect("the emulator reshards");
                endpoint.wait_until_active(producer::STREAM).expect("a reshard ends");
            }
        });
        machine.pin(Side::Caller);
        Resharder { stop, thread: Some(thread) }
    }
}

impl Drop for Resharder {
    fn drop(&mut self) {
        // Relaxed: partner of the load in the thread.
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the emulator reshards");
        }
    }
}

/// When puts are due.
struct Pace {
    gap_ticks: u64,
    puts: u64,
    /// While it warms up: 100 000 puts a second at least, so that ring and slots were all touched once.
    warm_gap_ticks: u64,
    warm_up: u64,
    /// Outcomes that are kept at a time.
    kept: usize,
}

impl Pace {
    fn new(per_second: u64, clock: &Clock, extent: &Extent) -> Pace {
        let in_time = |time: Duration| (time.as_secs_f64() * per_second as f64) as u64;
        let (second, warm_per_second) = (clock.ticks(Duration::from_secs(1)), per_second.max(100_000));
        Pace {
            gap_ticks: second / per_second,
            warm_gap_ticks: second / warm_per_second,
            warm_up: (extent.warm_up.as_secs_f64() * warm_per_second as f64) as u64,
            // At the slowest pace, ten seconds must do.
            puts: in_time(extent.run).max(extent.puts_min.min(in_time(10 * extent.run))),
            kept: in_time(KEPT_FOR).max(1) as usize,
        }
    }

    /// Drives a lane. Of its puts those count that were accepted, or refused if that is what is measured.
    fn measure<L: Lane>(&self, clock: &Clock, lane: &mut L, accepted: bool) -> Run {
        let (keys, data) = (producer::keys(), [7; 100]);
        let mut kept = VecDeque::with_capacity(self.kept + 1);
        let mut put_ticks = Vec::with_capacity(self.puts as usize);
        let mut late_ticks = Vec::with_capacity(self.puts as usize);
        let (mut refused, mut naps) = (0, 0);
        let mut due = tsc::ticks();
        for number in 0..self.warm_up + self.puts {
            due += if number < self.warm_up { self.warm_gap_ticks } else { self.gap_ticks };
            while tsc::ticks() < due {
                std::hint::spin_loop();
            }
            let key = &keys[number as usize % keys.len()];
            let (result, took) = tsc::measure(|| lane.put(key, &data));
            let late = tsc::ticks().saturating_sub(due);
            if number >= self.warm_up {
                refused += u64::from(result.is_none());
                if result.is_some() == accepted {
                    put_ticks.push(took);
                    late_ticks.push(late);
                }
            } else if number + 1 == self.warm_up {
                naps = naps_of_the_core();
            }
            kept.extend(result);
            if kept.len() > self.kept {
                kept.pop_front();
            }
        }
        let naps = naps_of_the_core().saturating_sub(naps);
        Run {
            puts: self.puts,
            refused,
            put_ns: percentiles(put_ticks, clock),
            late_ns: percentiles(late_ticks, clock),
            naps_per_1000: naps as f64 * 1000.0 / self.puts as f64,
        }
    }
}

fn percentiles(mut ticks: Vec<u64>, clock: &Clock) -> Vec<f64> {
    ticks.sort_unstable();
    let rank = |percentile: f64| ((percentile / 100.0 * ticks.len() as f64).ceil() as usize).clamp(1, ticks.len());
    PERCENTILES.iter().map(|percentile| clock.ns(ticks[rank(*percentile) - 1])).collect()
}

/// How often the core's thread has gone to sleep, as Linux counts it; 0 elsewhere, and for a peer.
fn naps_of_the_core() -> u64 {
    let read = |task: &Path, file: &str| fs::read_to_string(task.join(file)).unwrap_or_default();
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten().map(|task| task.path());
    let naps = |task: &Path| {
        let status = read(task, "status");
        status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<u64>().ok())
    };
    tasks.filter(|task| read(task, "comm").trim_end() == "kpl-core-0").filter_map(|task| naps(&task)).sum()
}
