//! What a core measures, against its records' outcomes and a plain list of what happened to its requests.

use std::sync::Arc;
use std::time::Duration;

use crate::codec::{EntryResult, Framed, RequestError};
use crate::config::{Config, MetricsGranularity, MetricsLevel, RateLimit};
use crate::engine::testing::Random;
use crate::engine::{Core, ShardInfo, ShardMap, TransportFailure};
use crate::limits::METRICS_SHARDS_MAX;
use crate::metrics::{Metric, Sheet, Statistic, StreamSheets};
use crate::outcome::{Attempt, AttemptResult, ErrorCode, Settlement};
use crate::record::{CoreId, HashKey, Record, StreamId, StreamName};
use crate::ring::{Handle, Ledger, Slots};
use crate::time::Time;

const STREAM: StreamId = StreamId(0);
/// Arrivals are kept in steps of this, so that what is measured is exact.
const STEP: Duration = Duration::from_nanos(1 << 16);

fn map(epoch: u64, shards: u128) -> Arc<ShardMap> {
    let width = u128::MAX / shards;
    let infos = (0..shards).map(|number| ShardInfo {
        id: format!("shard-{number}").into(),
        first: HashKey(width * number),
        last: HashKey(if number + 1 == shards { u128::MAX } else { width * (number + 1) - 1 }),
        parents: [None, None],
    });
    Arc::new(ShardMap::build(epoch, infos.collect(), 1, None).expect("even shards are a map"))
}

/// A core with one stream, its records, and what happened to its requests.
struct Scene {
    core: Core,
    now: Time,
    random: Random,
    slots: Slots<Arc<Settlement>>,
    records: Vec<(Time, u64, Handle<Arc<Settlement>>)>,
    shards: u64,
    /// Kinesis and user records of each request that ended and was an attempt.
    requests: Vec<(u64, u64)>,
    /// Entries that were stored, and errors: of an entry, and of a whole request.
    stored: u64,
    errors: Vec<(ErrorCode, bool)>,
}

impl Scene {
    fn new(config: &Config, seed: u64, shards: u64) -> Scene {
        let now = Time::ZERO + STEP * 1000;
        let mut core = Core::new(now, CoreId(0), 1, config, seed);
        core.handle_stream(STREAM, StreamName::parse("s").expect("a name"), config.clone());
        core.handle_map(now, STREAM, map(1, shards.into()));
        let (random, slots) = (Random(seed), Slots::new(Arc::new(Ledger::new())));
        let (records, requests, errors) = (Vec::new(), Vec::new(), Vec::new());
        Scene { core, now, random, slots, records, shards, requests, stored: 0, errors }
    }

    fn put(&mut self) {
        let (ticket, handle) = self.slots.take();
        let data = vec![7; self.random.below(300) as usize];
        let key = format!("key {}", self.random.below(50));
        let record = Record::new(&key, &data);
        self.core.handle_record(self.now, ticket, &Framed::new(STREAM, self.now, &record));
        self.records.push((self.now, data.len() as u64, handle));
    }

    /// Lets time pass, and ends every request that is due, one way or another.
    fn pass(&mut self, steps: u32) {
        self.now = self.now + STEP * steps;
        self.core.turn(self.now);
        while let Some(transmit) = self.core.poll_transmit(self.now) {
            self.now = self.now + STEP * self.random.below(50) as u32;
            let (kinesis_records, user_records) = (transmit.kinesis_records as u64, transmit.user_records as u64);
            let fate = self.random.below(10);
            if fate > 0 {
                self.requests.push((kinesis_records, user_records));
            }
            match fate {
                0 | 1 => {
                    // Of a connection that took no byte, this is no attempt.
                    let bytes_sent = fate == 1;
                    let failure = TransportFailure { code: ErrorCode::Reset, message: "".into(), bytes_sent };
                    self.errors.extend(bytes_sent.then_some((ErrorCode::Reset, true)));
                    self.core.handle_failure(self.now, transmit.request, &failure);
                }
                2 => {
                    let code = ErrorCode::Service("InternalFailure".into());
                    self.errors.push((code.clone(), true));
                    let error = RequestError { status: 500, code, message: "".into() };
                    self.core.handle_answer(self.now, transmit.request, Err(error));
                }
                _ => {
                    let entries = (0..kinesis_records).map(|_| self.entry()).collect();
                    self.core.handle_answer(self.now, transmit.request, Ok(entries));
                }
            }
        }
        self.core.wakers().clear();
    }

    /// An entry is refused, or stored in a shard that may be the wrong one.
    fn entry(&mut self) -> EntryResult {
        if self.random.below(4) == 0 {
            let code: Arc<str> = ["Throttled", "InternalFailure"][self.random.below(2) as usize].into();
            self.errors.push((ErrorCode::Service(Arc::clone(&code)), false));
            return EntryResult::Failed { code, message: "".into() };
        }
        self.stored += 1;
        let shard_id = format!("shard-{}", self.random.below(self.shards)).into();
        EntryResult::Stored { shard_id, sequence_number: "49".into() }
    }

    fn measured(&mut self) -> StreamSheets {
        let mut all = StreamSheets::default();
        self.core.take_measures().iter().for_each(|(_, sheets)| all.merge(sheets));
        all
    }
}

fn statistic(values: impl IntoIterator<Item = u64>) -> Statistic {
    let mut statistic = Statistic::default();
    values.into_iter().for_each(|value| statistic.record(value));
    statistic
}

/// Count, sum, least and greatest.
fn exact(statistic: &Statistic) -> (u64, u128, Option<u64>, Option<u64>) {
    (statistic.count(), statistic.sum(), statistic.min(), statistic.max())
}

fn stored_in(settlement: &Settlement) -> Option<&str> {
    match settlement.attempts.last() {
        Some(Attempt { result: AttemptResult::Stored { shard_id, .. }, .. }) => Some(shard_id),
        _ => None,
    }
}

/// What the outcomes say that should have been measured of user records.
fn assert_agrees_with_outcomes(sheets: &StreamSheets, ends: &[(Time, u64, Arc<Settlement>)]) {
    let total = sheets.total();
    let delivered = |end: &&(Time, u64, Arc<Settlement>)| end.2.failure.is_none();
    let put = ends.iter().map(|end| u64::from(delivered(&end)));
    let expired = ends.iter().filter(|(.., end)| end.failure.as_ref().is_some_and(|of| of.0 == ErrorCode::Expired));
    let buffering = ends.iter().flat_map(|(arrival, _, end)| {
        let before = std::iter::once(*arrival).chain(end.attempts.iter().map(|attempt| attempt.ended));
        end.attempts.iter().zip(before).map(|(attempt, since)| attempt.began.since(since).as_micros() as u64)
    });
    for (metric, expected) in [
        (Metric::UserRecordsReceived, statistic(ends.iter().map(|_| 1))),
        (Metric::UserRecordsPut, statistic(put)),
        (Metric::UserRecordsDataPut, statistic(ends.iter().filter(delivered).map(|(_, bytes, _)| *bytes))),
        (Metric::UserRecordExpired, statistic(expired.map(|_| 1))),
        (Metric::RetriesPerRecord, statistic(ends.iter().map(|(.., end)| end.attempts.len().saturating_sub(1) as u64))),
        (Metric::BufferingTime, statistic(buffering)),
    ] {
        assert_eq!(exact(total.statistic(metric)), exact(&expected), "{metric:?}");
    }
    for (id, sheet) in sheets.shards() {
        let here = ends.iter().filter(|(.., end)| stored_in(end) == Some(&**id)).count();
        assert_eq!(sheet.statistic(Metric::UserRecordsPut).sum(), here as u128, "{id}");
    }
}

/// What happened to the requests says what should have been measured of them.
fn assert_agrees_with_requests(total: &Sheet, scene: &Scene) {
    let (kinesis, users): (Vec<u64>, Vec<u64>) = scene.requests.iter().copied().unzip();
    assert_eq!(total.statistic(Metric::RequestTime).count(), kinesis.len() as u64);
    let per_kinesis_record = total.statistic(Metric::UserRecordsPerKinesisRecord);
    let sums = (per_kinesis_record.count(), per_kinesis_record.sum());
    assert_eq!(sums, (kinesis.iter().sum(), users.iter().map(|users| u128::from(*users)).sum()));
    for (metric, values) in
        [(Metric::KinesisRecordsPerPutRecordsRequest, kinesis), (Metric::UserRecordsPerPutRecordsRequest, users)]
    {
        assert_eq!(exact(total.statistic(metric)), exact(&statistic(values)), "{metric:?}");
    }
    let refused = scene.errors.iter().filter(|(_, whole)| !whole).count() as u64;
    let put = total.statistic(Metric::KinesisRecordsPut);
    assert_eq!((put.count(), put.sum()), (scene.stored + refused, scene.stored.into()));
    assert_eq!(total.statistic(Metric::KinesisRecordsDataPut).count(), scene.stored);
    let all = total.statistic(Metric::AllErrors);
    assert_eq!((all.count(), all.sum()), (scene.stored + scene.errors.len() as u64, scene.errors.len() as u128));
    for (code, statistic) in total.errors() {
        let came = scene.errors.iter().filter(|(of, _)| of == code).count();
        assert_eq!(statistic.count(), came as u64, "{code}");
    }
    let by_code: u64 = total.errors().map(|(_, statistic)| statistic.count()).sum();
    assert_eq!(by_code, scene.errors.len() as u64);
}

#[test]
fn what_is_measured_is_what_happened() {
    let (mut retried, mut expired, mut moved) = (0, 0, 0);
    for seed in 0..60 {
        let config = Config {
            aggregation_enabled: seed % 3 > 0,
            record_max_buffered_time: Duration::from_millis(5),
            record_ttl: Duration::from_millis(400),
            retry_base_delay: Duration::from_millis(2),
            rate_limit: RateLimit::Off,
            ..Config::default()
        };
        let mut scene = Scene::new(&config, seed, 1 + seed % 4);
        let mut sheets = StreamSheets::default();
        let (mut received, mut settled) = (0, 0);
        for round in 0..150 {
            for _ in 0..scene.random.below(6) {
                scene.put();
            }
            let steps = scene.random.below(100) as u32;
            scene.pass(steps);
            if round % 10 == 0 {
                // So that what lies in a shard that was not predicted is judged.
                scene.core.handle_map(scene.now, STREAM, map(2 + round, scene.shards.into()));
            }
            if round % 40 == 0 {
                sheets.merge(&scene.measured());
            }
            scene.core.tally(|_, came, went| (received, settled) = (received + came, settled + went));
        }
        scene.core.handle_close(scene.now);
        sheets.merge(&scene.measured());
        scene.core.tally(|_, came, went| (received, settled) = (received + came, settled + went));
        let ended = scene.records.drain(..).map(|(arrival, bytes, mut handle)| match handle.try_take() {
            Some(Ok((settlement, _))) => (arrival, bytes, settlement),
            _ => panic!("each is settled when the core has closed"),
        });
        let ends: Vec<_> = ended.collect();
        assert_eq!((received, settled), (ends.len() as u64, ends.len() as u64));
        assert_agrees_with_outcomes(&sheets, &ends);
        assert_agrees_with_requests(&sheets.total(), &scene);
        retried += sheets.total().statistic(Metric::RetriesPerRecord).sum();
        expired += sheets.total().statistic(Metric::UserRecordExpired).count();
        let was_moved = |end: &Settlement| end.attempts.iter().any(|attempt| is_code(attempt, &ErrorCode::WrongShard));
        moved += ends.iter().filter(|(.., end)| was_moved(end)).count();
    }
    assert!(retried > 1000 && expired > 100 && moved > 100, "{retried} {expired} {moved}: all of it comes up");
}

fn is_code(attempt: &Attempt, expected: &ErrorCode) -> bool {
    matches!(&attempt.result, AttemptResult::Failed { code, .. } if code == expected)
}

#[test]
fn a_record_that_expires_before_its_companions_counts_on_their_shard() {
    let ms = Duration::from_millis(1);
    let config = Config { record_max_buffered_time: ms * 10, record_ttl: ms * 50, ..Config::default() };
    let mut scene = Scene::new(&config, 1, 1);
    let began = scene.now;
    scene.put();
    scene.now = began + ms * 5;
    scene.put();
    scene.now = began + ms * 10;
    scene.core.turn(scene.now);
    let transmit = scene.core.poll_transmit(scene.now).expect("they are due");
    assert_eq!((transmit.kinesis_records, transmit.user_records), (1, 2));
    scene.now = began + ms * 51;
    let refused = EntryResult::Failed { code: "InternalFailure".into(), message: "".into() };
    scene.core.handle_answer(scene.now, transmit.request, Ok(vec![refused]));
    let expired = |sheets: &StreamSheets| {
        let counts = sheets.shards().map(|(_, sheet)| sheet.statistic(Metric::UserRecordExpired).count());
        counts.collect::<Vec<_>>()
    };
    assert_eq!(expired(&scene.measured()), [1]);
    scene.now = began + ms * 60;
    scene.core.turn(scene.now);
    assert_eq!(expired(&scene.measured()), [1]);
}

#[test]
fn shards_are_told_apart_while_there_are_few_and_it_is_wanted() {
    let few = METRICS_SHARDS_MAX as u64;
    for (shards, granularity, level, told) in [
        (few, MetricsGranularity::Shard, MetricsLevel::Detailed, true),
        (few + 1, MetricsGranularity::Shard, MetricsLevel::Detailed, false),
        (few, MetricsGranularity::Stream, MetricsLevel::Detailed, false),
        (few, MetricsGranularity::Shard, MetricsLevel::None, false),
    ] {
        let config = Config { metrics_granularity: granularity, metrics_level: level, ..Config::default() };
        let mut scene = Scene::new(&config, 1, shards);
        (0..100).for_each(|_| scene.put());
        scene.core.handle_close(scene.now);
        let sheets = scene.measured();
        let settled = sheets.total().statistic(Metric::UserRecordsPut).count();
        assert_eq!(settled, if level == MetricsLevel::None { 0 } else { 100 });
        assert_eq!(sheets.shards().count() > 0, told, "also what a close finds open is its shard's");
        let mut scene = Scene::new(&config, 1, shards);
        (0..100).for_each(|_| scene.put());
        scene.pass(5000);
        assert_eq!(scene.measured().shards().count() > 0, told, "{shards} {granularity:?} {level:?}");
        assert!(scene.measured().is_empty(), "it is handed over once");
    }
}

#[test]
fn a_range_that_stands_in_for_a_shard_is_none() {
    let config = Config { shard_map: crate::config::ShardMapPolicy::Unknown, ..Config::default() };
    let now = Time::ZERO + STEP;
    let mut core = Core::new(now, CoreId(0), 1, &config, 1);
    core.handle_stream(STREAM, StreamName::parse("s").expect("a name"), config);
    let mut slots: Slots<Arc<Settlement>> = Slots::new(Arc::new(Ledger::new()));
    let record = Record::new("k", "d");
    core.handle_record(now, slots.take_lone(), &Framed::new(STREAM, now, &record));
    let now = now + Duration::from_secs(1);
    core.turn(now);
    let transmit = core.poll_transmit(now).expect("it is sent without a map");
    let stored = EntryResult::Stored { shard_id: "shard-9".into(), sequence_number: "49".into() };
    core.handle_answer(now, transmit.request, Ok(vec![stored]));
    let (_, sheets) = core.take_measures().pop().expect("it was measured");
    let ids: Vec<_> = sheets.shards().map(|(id, _)| &**id).collect();
    assert_eq!(ids, ["shard-9"], "where the service says that it is");
    assert_eq!(sheets.total().statistic(Metric::KinesisRecordsPut).sum(), 1);
    assert_eq!(sheets.total().statistic(Metric::UserRecordsPut).sum(), 1);
}
