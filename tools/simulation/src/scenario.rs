//! What a seed simulates: the configuration, the streams, the cores, who puts what and when, when it is flushed and closed.
//!
//! Everything here is drawn before the first event, except the records themselves, which a [`Source`] draws one by one.

use std::time::Duration;

use kpl::config::{Config, RateLimit, StreamOptions, WireFormat};
use kpl::limits::drain_tick;
use kpl::time::Time;

use crate::consumer;
use crate::rng::Rng;

/// A stream of the seed.
pub struct StreamPlan {
    /// Its name.
    pub name: String,
    /// Its own configuration.
    pub config: Config,
    /// Shards that it begins with.
    pub shards: usize,
    /// When its first map arrives; not at all if it is refused first.
    pub first_map: Time,
}

/// One seed's plan.
pub struct Scenario {
    /// Whether nothing goes wrong.
    pub calm: bool,
    /// The producer's configuration.
    pub config: Config,
    /// The streams.
    pub streams: Vec<StreamPlan>,
    /// Cores.
    pub cores: u16,
    /// The home core of each submitter.
    pub homes: Vec<usize>,
    /// Records that each submitter puts.
    pub puts: usize,
    /// The longest pause between two bursts, in microseconds.
    pub pause_us: u64,
    /// The longest burst.
    pub burst: u64,
    /// Moments of flushes.
    pub flushes: Vec<Time>,
    /// Moments of reshards.
    pub reshards: Vec<Time>,
    /// When it is closed; otherwise when everything is settled.
    pub close: Option<(Time, Duration)>,
    /// Whether the endpoint takes no CBOR.
    pub refuses_cbor: bool,
    /// The first shard of the first stream takes nothing, ever.
    pub dead_shard: bool,
    /// From when to when no request gets through.
    pub outage: Option<(Time, Time)>,
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

impl Scenario {
    /// Draws the plan of a seed.
    pub fn draw(rng: &mut Rng) -> Scenario {
        let calm = rng.chance(3000);
        let config = draw_config(rng, calm);
        let cores = rng.pick(&[1, 1, 2, 2, 3, 4]);
        let pause_us = rng.pick(&[50, 1_000, 20_000, 200_000]);
        let puts = rng.pick(&[20, 100, 300, 800]) as usize;
        let burst = rng.pick(&[1, 5, 60]);
        // Roughly when the last record is put.
        let span = Duration::from_micros(pause_us / 2 * puts as u64 / (burst / 2 + 1) + 100_000);
        let moment = |rng: &mut Rng| Time::ZERO + rng.micros(0, span.as_micros() as u64 * 12 / 10);
        let streams: Vec<_> =
            (0..rng.pick(&[1, 1, 2, 3])).map(|index| draw_stream(rng, index, &config, calm)).collect();
        let dead_shard = rng.chance(if config.shard_backlog_max.is_some() { 7000 } else { 500 });
        let submitters = rng.between(1, 4);
        let flushes = (0..rng.pick(&[0, 1, 3, 10])).map(|_| moment(rng)).collect();
        let reshards = if calm { 0 } else { rng.pick(&[0, 0, 1, 2, 6]) };
        let reshards = (0..reshards).map(|_| moment(rng)).collect();
        let close = rng.chance(3000).then(|| (moment(rng), rng.micros(0, 5_000_000)));
        let outage = (!calm && rng.chance(1500)).then(|| {
            let begin = moment(rng);
            (begin, begin + rng.micros(100_000, 10_000_000))
        });
        let tick = streams.iter().map(|stream| drain_tick(stream.config.record_max_buffered_time)).min();
        let refuses_cbor = !calm && config.wire == WireFormat::Auto && rng.chance(5000);
        Scenario {
            refuses_cbor,
            dead_shard,
            calm,
            cores,
            homes: (0..submitters).map(|_| rng.index(usize::from(cores))).collect(),
            streams,
            puts,
            pause_us,
            burst,
            flushes,
            reshards,
            close,
            outage,
            mesh_capacity: rng.pick(&[1, 2, 16, 1024]),
            ring_bytes: config.max_record_size * 2 + rng.pick(&[0, 10_000, 100_000]),
            bite: rng.pick(&[1, 7, 64, 1024]),
            tick: tick.filter(|_| !rng.chance(5000)).unwrap_or(Duration::from_micros(10)),
            round_trip_us: rng.pick(&[(200, 2_000), (5_000, 20_000), (10_000, 200_000)]),
            config,
        }
    }

    /// How long a record may take to its outcome past its expiration, if it was never sent and if it was: a request may
    /// just have begun, and a core may stand still some times in a row.
    pub fn patience(&self) -> [Duration; 2] {
        let stalls = Duration::from_millis(if self.calm { 1 } else { 700 });
        [stalls, self.config.connect_timeout + self.config.request_timeout + stalls]
    }
}

const RATE_LIMITS: [RateLimit; 6] = [
    RateLimit::Off,
    RateLimit::Off,
    RateLimit::Percent(150),
    RateLimit::Percent(150),
    RateLimit::Percent(10),
    RateLimit::Percent(1),
];

fn draw_config(rng: &mut Rng, calm: bool) -> Config {
    let max_record_size = rng.pick(&[4_096, 65_536, 300_000, 1_048_576]) as usize;
    let aggregation_max_size =
        rng.pick(&[64, 200, 1_000, 4_095, 51_200, 262_000]).min(max_record_size as u64 - 1) as usize;
    let request = rng.pick(&[0, 2_000, 60_000, 5 << 20]) as usize;
    let budget_bytes = rng.pick(&[0, 20_000, 1 << 20, 64 << 20]) as usize;
    let linger = rng.pick(&[1, 5, 20, 100, 500]);
    let ttl = rng.pick(&[500, 2_000, 10_000, 30_000]).max(linger + 1);
    let shard_backlog_max = rng.chance(2500).then(|| rng.pick(&[1, 10, 50, 90]) as u32);
    // A part of much is never reached.
    let outstanding: &[u64] = if shard_backlog_max.is_some() { &[8, 64, 200] } else { &[8, 64, 1_000, 100_000] };
    let config = Config {
        aggregation_enabled: rng.chance(8000),
        aggregation_max_count: rng.pick(&[1, 2, 10, 1000, u64::from(u32::MAX)]) as usize,
        aggregation_max_size,
        collection_max_count: rng.pick(&[1, 3, 20, 500, 500]) as usize,
        collection_max_size: (aggregation_max_size + 1 + request).min(10 << 20),
        record_max_buffered_time: Duration::from_millis(linger),
        record_ttl: Duration::from_millis(ttl),
        rate_limit: if calm && rng.chance(7000) { RateLimit::Off } else { rng.pick(&RATE_LIMITS) },
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
        wire: rng.pick(&[WireFormat::Auto, WireFormat::Auto, WireFormat::Cbor, WireFormat::Json]),
        ..Config::default()
    };
    config.validate().expect("what is drawn is valid");
    config
}

fn draw_stream(rng: &mut Rng, index: usize, config: &Config, calm: bool) -> StreamPlan {
    let options = StreamOptions {
        aggregation_enabled: rng.chance(1500).then_some(config.aggregation_max_size < config.max_record_size),
        record_max_buffered_time: rng
            .chance(2000)
            .then(|| (config.record_max_buffered_time / 50).max(Duration::from_millis(1))),
        ..StreamOptions::default()
    };
    let late = !calm && rng.chance(2500);
    StreamPlan {
        name: format!("stream-{index}"),
        config: config.for_stream(&options),
        shards: rng.pick(&[1, 1, 2, 3, 8, 30]),
        first_map: if late { Time::ZERO + rng.micros(0, 3_000_000) } else { Time::ZERO },
    }
}

/// A record that a submitter is about to put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Index of its stream.
    pub stream: usize,
    /// Partition key.
    pub key: String,
    /// Explicit hash key.
    pub explicit: Option<u128>,
    /// Data.
    pub data: Vec<u8>,
}

impl Draft {
    /// The hash key that places it.
    pub fn hash(&self) -> u128 {
        self.explicit.unwrap_or_else(|| consumer::md5_hash(&self.key))
    }

    /// Data and partition key.
    pub fn size(&self) -> usize {
        self.key.len() + self.data.len()
    }
}

/// Draws records. Each can be told from all others by its number, which is in its data or, if that is short, in its key.
pub struct Source {
    rng: Rng,
    streams: usize,
    keys: u64,
    explicit: u32,
    magic: u32,
    large: u32,
    typical: u64,
    limits: [usize; 2],
}

/// Where a number stands in data: behind what may be an aggregate's magic.
const NUMBER_AT: usize = 4;

impl Source {
    /// A source for one submitter.
    pub fn new(mut rng: Rng, scenario: &Scenario) -> Source {
        Source {
            streams: scenario.streams.len(),
            keys: rng.pick(&[1, 5, 100, 1 << 40]),
            explicit: rng.pick(&[0, 0, 1_000, 5_000, 10_000]),
            magic: rng.pick(&[0, 0, 100, 2_000]),
            large: rng.pick(&[0, 20, 200]),
            typical: rng.pick(&[16, 100, 100, 1_000, 4_000]),
            limits: [scenario.config.aggregation_max_size, scenario.config.max_record_size],
            rng,
        }
    }

    /// Draws record `number`.
    pub fn draw(&mut self, number: u64) -> Draft {
        let rng = &mut self.rng;
        let stream = rng.index(self.streams);
        let alphabet = rng.pick(&["k", "key-", "ключ-", "鍵🔑"]);
        let mut key = format!("{alphabet}{}", rng.between(0, self.keys));
        let explicit = rng.chance(self.explicit).then(|| match rng.index(4) {
            0 => 0,
            1 => u128::MAX,
            2 => rng.wide() & (0xFF << 120),
            _ => rng.wide(),
        });
        let [near, most] = self.limits;
        let mut len = match rng.index(20) {
            0 => rng.between(0, 12) as usize,
            1 => (near + 20).saturating_sub(rng.between(0, 60) as usize),
            _ => rng.between(0, self.typical) as usize,
        };
        if rng.chance(self.large) {
            len = most - rng.index(most.min(600));
        }
        if len < NUMBER_AT + 8 {
            key = format!("{key}#{number}");
        }
        let len = len.min(most - key.len());
        if len < NUMBER_AT + 8 && !key.contains('#') {
            key = format!("{key}#{number}");
        }
        let mut data: Vec<u8> = (0..len.min(64)).map(|_| rng.next() as u8).collect();
        data.resize(len, number as u8);
        if let Some(place) = data.get_mut(NUMBER_AT..NUMBER_AT + 8) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        if rng.chance(self.magic) && len >= NUMBER_AT + 8 {
            data[..4].copy_from_slice(&[0xF3, 0x89, 0x9A, 0xC2]);
        } else if rng.chance(self.magic / 2) {
            // A true aggregate inside: a consumer must get it back unopened.
            key = format!("{}#{number}", &key);
            let whole = consumer::write_aggregate("inner", b"never put");
            if whole.len() + key.len() <= most {
                data = whole;
            }
        }
        data.truncate(most - key.len());
        Draft { stream, key, explicit, data }
    }
}

/// The number of a record that a consumer sees.
pub fn number_of(key: &str, data: &[u8]) -> Option<u64> {
    if let Some((_, number)) = key.rsplit_once('#') {
        return number.parse().ok();
    }
    let bytes = data.get(NUMBER_AT..NUMBER_AT + 8)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}
