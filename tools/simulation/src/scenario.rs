//! What a seed simulates: the configuration, the streams, the cores, who puts what and when, when it is flushed and closed,
//! and when the world turns against it. What each profile draws from stands in `profile`.
//!
//! Everything here is drawn before the first event, except the records themselves, which a `Source` draws one by one.

use std::time::Duration;

use kpl::config::{
    Config, OuterPartitionKey, RateLimit, RecordDistribution, ShardMapPolicy, StreamOptions, WireFormat,
};
use kpl::limits::{PARTITION_KEY_BYTES_MAX, drain_tick};
use kpl::time::Time;

use crate::distribution::{self, Describes};
use crate::outage::{Outage, OutageKind};
use crate::profile::{Profile, Temper};
use crate::rng::Rng;

/// A stream of the seed.
pub struct StreamPlan {
    /// Its name.
    pub name: String,
    /// Its own configuration.
    pub config: Config,
    /// Shards that it begins with.
    pub shards: usize,
    /// When it is opened. Streams are opened in their order.
    pub opened: Time,
    /// How long after that its first map arrives; not at all if it is refused first.
    pub first_map: Duration,
}

/// A submitter of the seed.
pub struct SubmitterPlan {
    /// Its home core.
    pub home: usize,
    /// When it is opened.
    pub opened: Time,
    /// Records that it puts.
    pub puts: usize,
    /// It is dropped after so many, with whatever is in its ring.
    pub leaves_after: Option<usize>,
    /// Whether everything is flushed just when it has put its first burst.
    pub flushed: bool,
}

/// One seed's plan.
pub struct Scenario {
    /// Its profile.
    pub profile: Profile,
    /// Whether nothing goes wrong by chance.
    pub quiet: bool,
    /// The producer's configuration.
    pub config: Config,
    /// The streams.
    pub streams: Vec<StreamPlan>,
    /// Cores.
    pub cores: u16,
    /// The submitters.
    pub submitters: Vec<SubmitterPlan>,
    /// The longest pause between two bursts, in microseconds.
    pub pause_us: u64,
    /// The longest burst.
    pub burst: u64,
    /// Moments of flushes.
    pub flushes: Vec<Time>,
    /// Moments of reshards.
    pub reshards: Vec<Time>,
    /// From when to when a stream is deleted.
    pub recreations: Vec<(usize, Time, Time)>,
    /// From when to when a stream's service places records as it likes.
    pub autos: Vec<(usize, Time, Time)>,
    /// Who may describe streams.
    pub describes: Describes,
    /// Moments at which credentials expire.
    pub expiries: Vec<Time>,
    /// Moments at which the machine's clock jumps.
    pub clock_jumps: Vec<Time>,
    /// When it is closed; otherwise when everything is settled.
    pub close: Option<(Time, Duration)>,
    /// From when on nothing goes wrong any more.
    pub heals: Option<Time>,
    /// Whether the endpoint takes no CBOR.
    pub refuses_cbor: bool,
    /// The first shard of the first stream takes nothing, until faults heal.
    pub dead_shard: bool,
    /// Whether the service enforces what a shard takes.
    pub capacity: bool,
    /// Records of 10 000 that poison their requests.
    pub poison: u32,
    /// The largest body that the endpoint takes.
    pub body_max: Option<usize>,
    /// When no request gets through.
    pub outage: Option<Outage>,
    /// Messages that a mesh ring holds.
    pub mesh_capacity: usize,
    /// Bytes that a submitter's ring holds.
    pub ring_bytes: usize,
    /// Records that a core takes from a ring at a time.
    pub bite: usize,
    /// How long a core sleeps through a put: its tick.
    pub tick: Duration,
    /// The shortest and longest round trip, in microseconds.
    pub round_trip_us: (u64, u64),
}

/// How long after its opening a stream is used where lateness is judged: its map is there by then.
pub const SETTLED_IN: Duration = Duration::from_millis(10);

impl StreamPlan {
    /// Whether its producer is told that the service distributes its records.
    pub fn is_auto(&self) -> bool {
        self.config.record_distribution == RecordDistribution::Auto
    }
}

impl Scenario {
    /// Draws the plan of a seed.
    pub fn draw(profile: Profile, rng: &mut Rng) -> Scenario {
        let temper = profile.temper();
        let quiet = rng.chance(temper.climate.quiet);
        // Nothing heals where nothing is broken.
        let heals = (!quiet || temper.outage > 0) && rng.chance(5000);
        let body_limited = rng.chance(temper.body_limit);
        let config = draw_config(rng, temper, (quiet, heals, body_limited));
        let cores = rng.pick(temper.cores);
        let pause_us = rng.pick(temper.pauses_us);
        let puts = rng.pick(temper.puts) as usize;
        let burst = rng.pick(temper.bursts);
        // Roughly when the last record is put.
        let span = Duration::from_micros(pause_us / 2 * puts as u64 / (burst / 2 + 1) + 100_000);
        let moment = |rng: &mut Rng| Time::ZERO + rng.micros(0, span.as_micros() as u64 * 12 / 10);
        let moments = |rng: &mut Rng, count: u64| (0..count).map(|_| moment(rng)).collect::<Vec<_>>();
        let mut streams: Vec<_> =
            (0..rng.pick(&[1, 1, 2, 3])).map(|index| draw_stream(rng, index, &config, (temper, quiet), span)).collect();
        for index in 1..streams.len() {
            streams[index].opened = streams[index].opened.max(streams[index - 1].opened);
        }
        let (rarely, bounded) = temper.dead;
        let dead_shard = rng.chance(if config.shard_backlog_max.is_some() { bounded } else { rarely });
        let submitters = (0..rng.between(1, 4)).map(|index| draw_submitter(rng, index, (cores, puts), span));
        let submitters = submitters.collect();
        let flushes = rng.pick(&[0, 1, 3, 10]);
        let flushes = moments(rng, flushes);
        let reshards = rng.pick(temper.reshards);
        let reshards = moments(rng, reshards);
        let (expiries, jumps) = (count(rng, temper.signer), count(rng, temper.signer));
        let (expiries, clock_jumps) = (moments(rng, expiries), moments(rng, jumps));
        let autos = (0..count(rng, temper.auto)).map(|_| {
            let begin = moment(rng);
            (rng.index(streams.len()), begin, begin + rng.micros(10_000, 5_000_000))
        });
        let autos: Vec<_> = autos.collect();
        for (stream, ..) in &autos {
            // Who places by chance keeps no order.
            streams[*stream].config.ordered = false;
        }
        let recreations = (0..count(rng, temper.recreated)).map(|_| {
            let begin = moment(rng);
            let longest_us = rng.pick(&[200_000, 1_000_000, 8_000_000]);
            (rng.index(streams.len()), begin, begin + rng.micros(100_000, longest_us))
        });
        let recreations = recreations.collect();
        let outage = rng.chance(temper.outage).then(|| draw_outage(rng, &config, span));
        let healed_from = outage.map_or(Time::ZERO, |outage| outage.end);
        let heals = heals.then(|| moment(rng).max(healed_from));
        let closes = heals.is_none() && rng.chance(3000);
        let close = closes.then(|| {
            // What a reshard has put elsewhere waits for a newer map: for a moment only.
            let resharded = reshards.last().copied().filter(|_| rng.chance(7000));
            let at = match resharded {
                Some(at) => at + rng.micros(0, 300_000),
                None => moment(rng),
            };
            let longest_us = rng.pick(&[0, 100_000, 5_000_000]);
            (at, rng.micros(0, longest_us))
        });
        let capacity = rng.chance(temper.capacity);
        let poison = if rng.chance(temper.poison) { rng.pick(&[20, 100, 500]) } else { 0 };
        // The largest record is taken in either form.
        let least = config.max_record_size / 3 * 4 + 2_000;
        let body_max = body_limited.then(|| least + rng.pick(&[0, 5_000, 100_000]));
        let tick = streams.iter().map(|stream| drain_tick(stream.config.record_max_buffered_time)).min();
        let refuses_cbor = config.wire == WireFormat::Auto && rng.chance(temper.form);
        let mut plan = Scenario {
            profile,
            describes: Describes::Always,
            quiet,
            streams,
            cores,
            submitters,
            pause_us,
            burst,
            flushes,
            reshards,
            recreations,
            autos,
            expiries,
            clock_jumps,
            close,
            heals,
            refuses_cbor,
            dead_shard,
            capacity,
            poison,
            body_max,
            outage,
            mesh_capacity: rng.pick(temper.mesh),
            ring_bytes: config.max_record_size * 2 + rng.pick(temper.ring_bytes),
            bite: rng.pick(temper.bites),
            tick: tick.filter(|_| !rng.chance(5000)).unwrap_or(Duration::from_micros(10)),
            round_trip_us: rng.pick(&[(200, 2_000), (5_000, 20_000), (10_000, 200_000)]),
            config,
        };
        distribution::draw(&mut plan, rng);
        plan
    }

    /// Whether a record that is late is the engine's fault: nothing goes wrong, except that a shard may take nothing.
    pub fn judges_lateness(&self) -> bool {
        self.quiet && self.outage.is_none() && !self.capacity
    }

    /// Records and bytes that a shard may hold, where that can be told from outside: what a shard is does not change.
    pub fn backlog_max(&self) -> Option<(usize, usize)> {
        let percent = self.config.shard_backlog_max? as usize;
        // Without a map a core does not know which of its ranges are one shard.
        let mapped = self.config.shard_map != ShardMapPolicy::Unknown;
        let part = |bound: usize| bound * percent / 100;
        let most = (part(self.config.max_outstanding_records).max(1), part(self.config.max_outstanding_bytes));
        (self.judges_lateness() && mapped).then_some(most)
    }

    /// How long a record may take to its outcome past its expiration, if it was never sent and if it was: a request may
    /// just have begun, and a core may stand still some times in a row.
    pub fn patience(&self) -> [Duration; 2] {
        let stalls = Duration::from_millis(if self.quiet { 1 } else { 700 });
        [stalls, self.config.connect_timeout + self.config.request_timeout + stalls]
    }
}

/// How often something happens that happens in `per_myriad` of 10 000 seeds.
fn count(rng: &mut Rng, per_myriad: u32) -> u64 {
    if rng.chance(per_myriad) { rng.between(1, 3) } else { 0 }
}

fn draw_outage(rng: &mut Rng, config: &Config, span: Duration) -> Outage {
    let begin = Time::ZERO + rng.micros(0, span.as_micros() as u64);
    let (kind, longest_us) = (rng.pick(OutageKind::ALL), rng.pick(&[2_000_000, 20_000_000, 60_000_000]));
    // One that refuses everything as throttled would see each record once, however many there are.
    let once = config.fail_if_throttled && kind == OutageKind::Throttled;
    let kind = if once { OutageKind::Failing } else { kind };
    Outage { begin, end: begin + rng.micros(100_000, longest_us), kind }
}

const SHARD_MAPS: [ShardMapPolicy; 6] = [
    ShardMapPolicy::Degrade { after: Duration::ZERO },
    ShardMapPolicy::Degrade { after: Duration::from_millis(300) },
    ShardMapPolicy::Degrade { after: Duration::from_secs(5) },
    ShardMapPolicy::Required,
    ShardMapPolicy::Required,
    ShardMapPolicy::Unknown,
];

const RATE_LIMITS: [RateLimit; 6] = [
    RateLimit::Off,
    RateLimit::Off,
    RateLimit::Percent(150),
    RateLimit::Percent(150),
    RateLimit::Percent(10),
    RateLimit::Percent(1),
];

/// Milliseconds that a record lives in seeds whose faults heal: so long that what waited is delivered.
const TTLS_HEALED_MS: [u64; 2] = [60_000, 180_000];

fn draw_config(rng: &mut Rng, temper: &Temper, (quiet, heals, body_limited): (bool, bool, bool)) -> Config {
    // A request is to be larger than its largest record where that matters.
    let sizes: &[u64] = if body_limited { &[4_096, 65_536] } else { &[4_096, 65_536, 300_000, 1_048_576] };
    let max_record_size = rng.pick(sizes) as usize;
    let outer_partition_key = rng.pick(&[OuterPartitionKey::A, OuterPartitionKey::A, OuterPartitionKey::FirstMember]);
    let outer = if outer_partition_key == OuterPartitionKey::A { 1 } else { PARTITION_KEY_BYTES_MAX };
    let aggregation_max_size =
        rng.pick(&[64, 200, 1_000, 4_095, 51_200, 262_000]).min((max_record_size - outer) as u64) as usize;
    let request = if body_limited { 5 << 20 } else { rng.pick(&[0, 2_000, 60_000, 5 << 20]) as usize };
    let budget_bytes = rng.pick(temper.budget_bytes) as usize;
    let linger = rng.pick(&[1, 5, 20, 100, 500]);
    let ttl = rng.pick(if heals { &TTLS_HEALED_MS } else { temper.ttls_ms }).max(linger + 1);
    let shard_backlog_max = rng.chance(2500).then(|| rng.pick(&[1, 10, 50, 90]) as u32);
    // A part of much is never reached.
    let outstanding: &[u64] = if shard_backlog_max.is_some() { &[8, 64, 200] } else { temper.outstanding };
    let config = Config {
        aggregation_enabled: rng.chance(8000),
        aggregation_max_count: rng.pick(&[1, 2, 10, 1000, u64::from(u32::MAX)]) as usize,
        aggregation_max_size,
        collection_max_count: rng.pick(&[1, 3, 20, 500, 500]) as usize,
        collection_max_size: (aggregation_max_size + outer + request).min(10 << 20),
        record_max_buffered_time: Duration::from_millis(linger),
        record_ttl: Duration::from_millis(ttl),
        rate_limit: if quiet && rng.chance(7000) { RateLimit::Off } else { rng.pick(&RATE_LIMITS) },
        fail_if_throttled: rng.chance(2000),
        shard_backlog_max,
        request_timeout: Duration::from_millis(rng.pick(&[1_000, 6_000])),
        connect_timeout: Duration::from_millis(rng.pick(&[500, 6_000])),
        max_connections_per_core: rng.between(1, 4) as usize,
        max_record_size,
        max_outstanding_records: rng.pick(outstanding) as usize,
        max_outstanding_bytes: (max_record_size * 4 / 3 + 4 + budget_bytes).max(1),
        retry_base_delay: Duration::from_millis(rng.pick(&[1, 50, 200])),
        auth_grace: Duration::from_millis(rng.pick(&[0, 1_000, 5_000])),
        shard_map: rng.pick(&SHARD_MAPS),
        outer_partition_key,
        keep_failed_records: rng.chance(3000),
        wire: rng.pick(&[WireFormat::Auto, WireFormat::Auto, WireFormat::Cbor, WireFormat::Json]),
        ..Config::default()
    };
    config.validate().expect("what is drawn is valid");
    config
}

fn draw_stream(
    rng: &mut Rng,
    index: usize,
    config: &Config,
    (temper, quiet): (&Temper, bool),
    span: Duration,
) -> StreamPlan {
    let options = StreamOptions {
        aggregation_enabled: rng.chance(1500).then_some(config.aggregation_max_size < config.max_record_size),
        record_max_buffered_time: rng
            .chance(2000)
            .then(|| (config.record_max_buffered_time / 50).max(Duration::from_millis(1))),
        ordered: Some(rng.chance(temper.ordered)),
        ..StreamOptions::default()
    };
    let late = !quiet && rng.chance(2500);
    // The second and third may be opened when all is under way, in this order.
    let midway = index > 0 && rng.chance(4000);
    let part = span.as_micros() as u64 / 3;
    let large = temper.large.iter().find(|(rate, _)| rng.chance(*rate)).map(|(_, shards)| *shards);
    let opened = if midway { rng.micros(part * (index as u64 - 1), part * index as u64) } else { Duration::ZERO };
    StreamPlan {
        name: format!("stream-{index}"),
        config: config.for_stream(&options),
        shards: large.unwrap_or_else(|| rng.pick(temper.shards)),
        opened: Time::ZERO + opened,
        first_map: if late { rng.micros(0, 3_000_000) } else { Duration::ZERO },
    }
}

fn draw_submitter(rng: &mut Rng, index: u64, (cores, puts): (u16, usize), span: Duration) -> SubmitterPlan {
    let midway = index > 0 && rng.chance(4000);
    let opened = if midway { rng.micros(0, span.as_micros() as u64) } else { Duration::ZERO };
    let leaves_after = rng.chance(3000).then(|| rng.index(puts) + 1);
    SubmitterPlan {
        home: rng.index(usize::from(cores)),
        opened: Time::ZERO + opened,
        puts,
        leaves_after,
        flushed: midway && rng.chance(5000),
    }
}
