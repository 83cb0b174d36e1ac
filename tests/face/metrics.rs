//! The KPL's metrics: what each counts, and how they come to a sink.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use endpoint::{Action, Endpoint, RequestInfo};
use kpl::{
    Config, EmbeddedMetrics, ErrorCode, Metric, MetricSample, MetricsGranularity, MetricsLevel, MetricsSink,
    MetricsSnapshot, Outcome, Producer, ProducerBuilder, Record, SinkError, StartError, WireFormat,
};
use serde_json::Value;

use super::world::{
    LIMIT, bounded, builder, close, delivered, emulator, end, failed, flushed, hanging, lingering, ms, scripted,
};

const SHARD: &str = "shardId-000000000000";
const THROTTLED: &str = "ProvisionedThroughputExceededException";

/// Count and sum of a metric, in all, of the stream, and of its first shard.
fn tell(snapshot: &MetricsSnapshot, metric: Metric) -> [Option<(u64, f64)>; 3] {
    let places = [snapshot.global(metric), snapshot.stream(metric, "s"), snapshot.shard(metric, "s", SHARD)];
    places.map(|sample| sample.map(|sample| (sample.count(), sample.sum())))
}

/// What [`tell`] tells of what is known by shard, if there is one.
fn by_shard(count: u64, sum: u64) -> [Option<(u64, f64)>; 3] {
    [Some((count, sum as f64)); 3]
}

/// And of what is known by stream.
fn by_stream(count: u64, sum: u64) -> [Option<(u64, f64)>; 3] {
    let told = Some((count, sum as f64));
    [told, told, None]
}

fn errors(snapshot: &MetricsSnapshot) -> Vec<(String, u64)> {
    snapshot.errors().map(|(code, sample)| (code.to_string(), sample.count())).collect()
}

/// A producer whose stream is ready.
fn ready(build: ProducerBuilder) -> (Producer, kpl::Stream) {
    let producer = build.build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    stream.ready().wait_timeout(LIMIT).expect("an answer").expect("ready");
    (producer, stream)
}

/// Puts records with these payloads, one after the other, and flushes them.
fn put_flushed(producer: &Producer, stream: &kpl::Stream, payloads: &[&[u8]]) -> Vec<Outcome> {
    let mut submitter = producer.submitter().expect("a submitter");
    let put = |data: &&[u8]| submitter.put(stream, Record::new("key", *data)).expect("a put");
    let outcomes = payloads.iter().map(put).collect();
    flushed(producer.flush());
    outcomes
}

/// An endpoint that does `action` with the first `faulty` requests.
fn faulty(action: Action, faulty: u64) -> Endpoint {
    scripted(&[("s", 1)], move |request: &RequestInfo<'_>| match request.index {
        index if index < faulty => action.clone(),
        _ => Action::Pass,
    })
}

#[test]
fn delivered_records_are_told_exactly_by_shard_by_stream_and_in_all() {
    let endpoint = emulator(&[("s", 1)]);
    let (producer, stream) = ready(lingering(&endpoint.url()));
    let ends = put_flushed(&producer, &stream, &[&[1; 10], &[2; 200], &[3; 30]]);
    assert!(ends.into_iter().map(delivered).all(|delivered| delivered.shard_id() == SHARD));
    let stored = endpoint.read_stream("s").expect("a stream");
    assert_eq!(stored.len(), 1, "one aggregate");
    let snapshot = producer.metrics();
    for (metric, told) in [
        (Metric::UserRecordsReceived, by_stream(3, 3)),
        (Metric::UserRecordsPut, by_shard(3, 3)),
        (Metric::UserRecordsDataPut, by_shard(3, 240)),
        (Metric::KinesisRecordsPut, by_shard(1, 1)),
        (Metric::KinesisRecordsDataPut, by_shard(1, stored[0].data.len() as u64)),
        (Metric::ErrorsByCode, [None; 3]),
        (Metric::AllErrors, by_shard(1, 0)),
        (Metric::RetriesPerRecord, by_shard(3, 0)),
        (Metric::UserRecordsPerKinesisRecord, by_shard(1, 3)),
        (Metric::KinesisRecordsPerPutRecordsRequest, by_stream(1, 1)),
        (Metric::UserRecordsPerPutRecordsRequest, by_stream(1, 3)),
        (Metric::UserRecordExpired, [None; 3]),
        (Metric::UserRecordsPending, by_stream(1, 0)),
    ] {
        assert_eq!(tell(&snapshot, metric), told, "{metric:?}\n{snapshot}");
    }
    let data = snapshot.global(Metric::UserRecordsDataPut).expect("it is told");
    assert_eq!((data.min(), data.max(), data.mean()), (10.0, 200.0, 80.0));
    let count = |metric| snapshot.global(metric).map(MetricSample::count);
    assert_eq!((count(Metric::BufferingTime), count(Metric::RequestTime)), (Some(3), Some(1)));
    let took = snapshot.global(Metric::RequestTime).expect("it is told").sum();
    assert!(0.0 < took && took < LIMIT.as_millis() as f64, "{took} ms");
    close(&producer);
    let after = producer.metrics();
    assert_eq!(tell(&after, Metric::UserRecordsPut), by_shard(3, 3), "it stays when the cores have ended");
    assert!(after.period() > Duration::ZERO && after.unix_ms() > 1_600_000_000_000);
    assert_eq!((after.namespace(), after.dimensions()), ("KinesisProducerLibrary", &[][..]));
}

#[test]
fn buffering_time_is_from_arrival_to_the_request() {
    let endpoint = emulator(&[("s", 1)]);
    let (producer, stream) = ready(lingering(&endpoint.url()));
    let outcome = producer.put(&stream, Record::new("k", "d")).expect("a put");
    let outcome = outcome.wait_timeout(ms(50)).expect_err("it lingers");
    flushed(producer.flush());
    delivered(outcome);
    let snapshot = producer.metrics();
    let sample = snapshot.shard(Metric::BufferingTime, "s", SHARD).expect("it is told");
    assert_eq!(sample.count(), 1);
    assert!((50.0..LIMIT.as_millis() as f64).contains(&sample.sum()), "{} ms", sample.sum());
    assert_eq!((sample.min(), sample.max(), sample.percentile(50.0)), (sample.sum(), sample.sum(), sample.sum()));
    close(&producer);
}

#[test]
fn every_shard_and_stream_has_its_own_and_they_add_up_over_all_cores() {
    let endpoint = emulator(&[("s", 5), ("t", 2)]);
    let producer = builder(&endpoint.url()).cores(3).build().expect("a producer");
    let mut expected: Vec<(&str, String, u64)> = Vec::new();
    let mut outcomes = Vec::new();
    for name in ["s", "t"] {
        let stream = producer.stream(name).expect("a stream");
        for _ in 0..3 {
            let mut submitter = producer.submitter().expect("a submitter");
            let put = |number: u32| submitter.put(&stream, Record::new(&format!("{number}"), "data")).expect("a put");
            outcomes.extend((0..100).map(put).map(|outcome| (name, outcome)));
        }
    }
    for (name, outcome) in outcomes {
        let delivered = delivered(outcome);
        let id = delivered.shard_id();
        match expected.iter_mut().find(|(stream, shard, _)| *stream == name && shard == id) {
            Some((.., count)) => *count += 1,
            None => expected.push((name, id.to_owned(), 1)),
        }
    }
    assert_eq!(expected.len(), 7, "each shard has records");
    let snapshot = producer.metrics();
    for (stream, shard, count) in expected {
        let sample = snapshot.shard(Metric::UserRecordsPut, stream, &shard).expect("the shard is told");
        assert_eq!((sample.count(), sample.sum()), (count, count as f64), "{stream} {shard}");
    }
    for metric in [Metric::UserRecordsPut, Metric::UserRecordsReceived] {
        let counts = ["s", "t"].map(|stream| snapshot.stream(metric, stream).map(MetricSample::count));
        assert_eq!(counts, [Some(300), Some(300)], "{metric:?}");
        assert_eq!(snapshot.global(metric).map(MetricSample::count), Some(600), "{metric:?}");
    }
    let pending = snapshot.global(Metric::UserRecordsPending).expect("it is told");
    assert_eq!((pending.count(), pending.sum()), (2, 0.0), "a sample for each stream");
    close(&producer);
}

#[test]
fn a_refused_kinesis_record_is_one_error_however_many_records_it_has() {
    let endpoint = faulty(Action::FailRecords { indexes: vec![0], code: THROTTLED }, 2);
    let (producer, stream) = ready(lingering(&endpoint.url()));
    put_flushed(&producer, &stream, &[b"1", b"2", b"3"]).into_iter().for_each(|outcome| drop(delivered(outcome)));
    let snapshot = producer.metrics();
    for (metric, told) in [
        (Metric::UserRecordsReceived, by_stream(3, 3)),
        (Metric::UserRecordsPut, by_shard(3, 3)),
        (Metric::KinesisRecordsPut, by_shard(3, 1)),
        (Metric::AllErrors, by_shard(3, 2)),
        (Metric::RetriesPerRecord, by_shard(3, 6)),
        (Metric::UserRecordsPerKinesisRecord, by_shard(3, 9)),
        (Metric::UserRecordsPerPutRecordsRequest, by_stream(3, 9)),
    ] {
        assert_eq!(tell(&snapshot, metric), told, "{metric:?}\n{snapshot}");
    }
    assert_eq!(tell(&snapshot, Metric::BufferingTime).map(|told| told.map(|(count, _)| count)), [Some(9); 3]);
    let retries = snapshot.global(Metric::RetriesPerRecord).expect("it is told");
    assert_eq!((retries.min(), retries.max(), retries.percentile(1.0)), (2.0, 2.0, 2.0));
    assert_eq!(errors(&snapshot), [(THROTTLED.to_owned(), 2)]);
    let of_shard = snapshot.samples().iter().find(|sample| {
        sample.place().error.is_some() && sample.place().shard.as_deref() == Some(SHARD) && sample.sum() == 2.0
    });
    let dimensions: Vec<_> = of_shard.expect("it is known by shard").place().dimensions().collect();
    assert_eq!(dimensions, [("ErrorCode", THROTTLED), ("StreamName", "s"), ("ShardId", SHARD)]);
    close(&producer);
}

#[test]
fn a_request_that_fails_whole_is_one_error_that_no_shard_has() {
    let endpoint = faulty(Action::error(500, "InternalFailure", "oops"), 2);
    let (producer, stream) = ready(lingering(&endpoint.url()).aggregation_enabled(false));
    put_flushed(&producer, &stream, &[b"1", b"2", b"3"]).into_iter().for_each(|outcome| drop(delivered(outcome)));
    let snapshot = producer.metrics();
    assert_eq!(errors(&snapshot), [("InternalFailure".to_owned(), 2)]);
    let errors_by_shard =
        snapshot.samples().iter().any(|sample| sample.place().error.is_some() && sample.place().shard.is_some());
    assert!(!errors_by_shard, "{snapshot}");
    for (metric, told) in [
        (Metric::KinesisRecordsPut, by_shard(3, 3)),
        (Metric::KinesisRecordsDataPut, by_shard(3, 3)),
        (Metric::AllErrors, [Some((5, 2.0)), Some((5, 2.0)), Some((3, 0.0))]),
        (Metric::RetriesPerRecord, by_shard(3, 6)),
        (Metric::UserRecordsPerKinesisRecord, by_shard(9, 9)),
        (Metric::KinesisRecordsPerPutRecordsRequest, by_stream(3, 9)),
    ] {
        assert_eq!(tell(&snapshot, metric), told, "{metric:?}\n{snapshot}");
    }
    assert_eq!(tell(&snapshot, Metric::RequestTime)[1].map(|(count, _)| count), Some(3));
    close(&producer);
}

#[test]
fn an_expired_record_counts_as_such_and_not_as_an_error() {
    let endpoint = faulty(Action::FailRecords { indexes: vec![0], code: "InternalFailure" }, u64::MAX);
    let (producer, stream) = ready(builder(&endpoint.url()).record_ttl(ms(500)));
    let mut submitter = producer.submitter().expect("a submitter");
    let outcomes: Vec<_> = (0..4).map(|_| submitter.put(&stream, Record::new("k", "d")).expect("a put")).collect();
    let attempts: Vec<u64> = outcomes
        .into_iter()
        .map(|outcome| {
            let failure = failed(outcome);
            assert_eq!(*failure.code(), ErrorCode::Expired);
            failure.attempts().len() as u64
        })
        .collect();
    let attempts: u64 = attempts.iter().sum();
    let snapshot = producer.metrics();
    assert_eq!(tell(&snapshot, Metric::UserRecordExpired), by_shard(4, 4));
    assert_eq!(tell(&snapshot, Metric::UserRecordsPut), by_shard(4, 0));
    assert_eq!(tell(&snapshot, Metric::UserRecordsDataPut), [None; 3]);
    assert_eq!(tell(&snapshot, Metric::KinesisRecordsDataPut), [None; 3]);
    assert_eq!(tell(&snapshot, Metric::RetriesPerRecord), by_shard(4, attempts - 4));
    assert_eq!(tell(&snapshot, Metric::BufferingTime)[2].map(|(count, _)| count), Some(attempts));
    let refused = tell(&snapshot, Metric::KinesisRecordsPut)[2].expect("it is told");
    assert_eq!((errors(&snapshot), refused.1), (vec![("InternalFailure".to_owned(), refused.0)], 0.0));
    close(&producer);
}

#[test]
fn a_record_in_the_wrong_shard_was_stored_and_is_no_error() {
    let elsewhere: &[u8] = b"{\"FailedRecordCount\":0,\"Records\":[\
        {\"SequenceNumber\":\"1\",\"ShardId\":\"shardId-000000000001\"}]}";
    let action = Action::Respond {
        status: 200,
        content_type: "application/x-amz-json-1.1",
        body: Bytes::from_static(elsewhere),
    };
    let endpoint = scripted(&[("s", 2)], move |request| match request.index {
        0 => action.clone(),
        _ => Action::Pass,
    });
    let build = lingering(&endpoint.url()).wire(WireFormat::Json).map_refresh(Duration::from_secs(1));
    let (producer, stream) = ready(build);
    let mut submitter = producer.submitter().expect("a submitter");
    let lowest = || Record::new("k", "d").with_explicit_hash_key(kpl::HashKey(0));
    let outcomes = [(); 2].map(|()| submitter.put(&stream, lowest()).expect("a put"));
    flushed(producer.flush());
    for delivered in outcomes.map(delivered) {
        assert_eq!((delivered.shard_id(), delivered.attempts().len()), (SHARD, 2));
    }
    let snapshot = producer.metrics();
    assert_eq!(errors(&snapshot), []);
    assert_eq!(tell(&snapshot, Metric::KinesisRecordsPut), by_shard(2, 2));
    assert_eq!(tell(&snapshot, Metric::AllErrors), by_shard(2, 0));
    assert_eq!(tell(&snapshot, Metric::UserRecordsPut), by_shard(2, 2));
    assert_eq!(tell(&snapshot, Metric::RetriesPerRecord), by_shard(2, 2), "each was moved to another batch");
    assert_eq!(tell(&snapshot, Metric::BufferingTime)[2].map(|(count, _)| count), Some(4));
    close(&producer);
}

#[test]
fn pending_records_are_those_that_a_core_has() {
    let endpoint = hanging(&[("s", 1)]);
    let (producer, stream) = ready(builder(&endpoint.url()));
    let outcomes: Vec<_> = (0..5).map(|_| producer.put(&stream, Record::new("k", "d")).expect("a put")).collect();
    let pending = |snapshot: &MetricsSnapshot| {
        let sample = snapshot.stream(Metric::UserRecordsPending, "s").expect("it is told");
        (sample.count(), sample.max(), sample.sum())
    };
    let mut before = pending(&producer.metrics());
    while before.1 < 5.0 {
        // The core had noted where its rings end before it was asked.
        before = pending(&producer.metrics());
        assert!(before.0 < 1000, "the core takes what was put");
    }
    let (asked, _, sum) = before;
    assert_eq!(pending(&producer.metrics()), (asked + 1, 5.0, sum + 5.0));
    bounded(producer.close(ms(1)));
    outcomes.into_iter().for_each(|outcome| drop(failed(outcome)));
    let snapshot = producer.metrics();
    assert_eq!(pending(&snapshot), (asked + 2, 5.0, sum + 5.0), "none is pending");
    assert_eq!(tell(&snapshot, Metric::UserRecordsPut).map(|told| told.map(|(_, sum)| sum)), [Some(0.0); 3]);
}

#[test]
fn level_and_granularity_decide_what_is_told() {
    let endpoint = emulator(&[("s", 1)]);
    for (level, granularity) in [
        (MetricsLevel::None, MetricsGranularity::Shard),
        (MetricsLevel::Summary, MetricsGranularity::Stream),
        (MetricsLevel::Summary, MetricsGranularity::Global),
    ] {
        let (sink, told) = Recorder::new(|_| Ok(()));
        let build = lingering(&endpoint.url()).metrics_level(level).metrics_granularity(granularity);
        let (producer, stream) = ready(build.metrics_sink(sink));
        put_flushed(&producer, &stream, &[b"1", b"2"]).into_iter().for_each(|outcome| drop(delivered(outcome)));
        let snapshot = producer.metrics();
        close(&producer);
        let uploaded: Vec<_> = told.try_iter().collect();
        if level == MetricsLevel::None {
            assert!(snapshot.samples().is_empty() && uploaded.is_empty());
            continue;
        }
        assert_eq!(uploaded.len(), 1, "at the close");
        for snapshot in [&snapshot, &uploaded[0]] {
            assert_eq!(snapshot.global(Metric::UserRecordsPut).map(MetricSample::sum), Some(2.0));
            assert_eq!(snapshot.global(Metric::UserRecordsReceived).map(MetricSample::sum), None, "it is detailed");
            let by_stream = snapshot.stream(Metric::UserRecordsPut, "s").is_some();
            assert_eq!(by_stream, granularity == MetricsGranularity::Stream);
            assert!(snapshot.samples().iter().all(|sample| sample.place().shard.is_none()));
        }
    }
}

/// A sink that keeps what it is told, and answers as its test says. It is called with the number of the call, from 0.
struct Recorder<F> {
    calls: u64,
    answer: F,
    tell: mpsc::Sender<MetricsSnapshot>,
}

impl<F: Fn(u64) -> Result<(), SinkError> + Send> Recorder<F> {
    fn new(answer: F) -> (Recorder<F>, mpsc::Receiver<MetricsSnapshot>) {
        let (tell, told) = mpsc::channel();
        (Recorder { calls: 0, answer, tell }, told)
    }
}

impl<F: Fn(u64) -> Result<(), SinkError> + Send> MetricsSink for Recorder<F> {
    fn upload(&mut self, snapshot: &MetricsSnapshot) -> Result<(), SinkError> {
        self.calls += 1;
        // A test that has failed meanwhile does not receive it.
        let _ = self.tell.send(snapshot.clone());
        (self.answer)(self.calls - 1)
    }
}

fn received(snapshot: &MetricsSnapshot) -> u64 {
    snapshot.global(Metric::UserRecordsReceived).map_or(0, MetricSample::count)
}

#[test]
fn a_sink_is_told_each_interval_and_all_of_them_make_the_whole() {
    let endpoint = emulator(&[("s", 2)]);
    let (sink, told) = Recorder::new(|_| Ok(()));
    let (producer, stream) = ready(builder(&endpoint.url()).metrics_interval(ms(20)).metrics_sink(sink));
    let mut snapshots = Vec::new();
    for round in 1..=3 {
        delivered(producer.put(&stream, Record::new("k", "d")).expect("a put"));
        while snapshots.iter().map(received).sum::<u64>() < round {
            snapshots.push(told.recv_timeout(LIMIT).expect("a snapshot each interval"));
        }
    }
    delivered(producer.put(&stream, Record::new("k", "d")).expect("a put"));
    let whole = {
        close(&producer);
        producer.metrics()
    };
    snapshots.extend(told.iter());
    assert_eq!((snapshots.iter().map(received).sum::<u64>(), received(&whole)), (4, 4));
    assert!(snapshots.iter().map(received).all(|received| received < 4), "no interval has them all");
    let counts = |snapshot: &MetricsSnapshot| snapshot.global(Metric::RequestTime).map_or(0, MetricSample::count);
    assert_eq!(snapshots.iter().map(counts).sum::<u64>(), counts(&whole));
    let periods: Duration = snapshots.iter().map(MetricsSnapshot::period).sum();
    assert!(periods <= whole.period(), "intervals do not overlap: {periods:?} of {:?}", whole.period());
}

#[test]
fn what_a_sink_did_not_take_comes_with_the_next() {
    let panicked = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&panicked);
    let endpoint = emulator(&[("s", 1)]);
    // The first two calls fail, each in its own way.
    let (sink, told) = Recorder::new(move |call| match call {
        0 => Err(SinkError::new("the network is down")),
        1 => {
            counted.fetch_add(1, Ordering::Relaxed);
            panic!("a sink may");
        }
        _ => Ok(()),
    });
    let (producer, stream) = ready(builder(&endpoint.url()).metrics_interval(ms(50)).metrics_sink(sink));
    let put = || delivered(producer.put(&stream, Record::new("k", "d")).expect("a put"));
    put();
    let first = told.recv_timeout(LIMIT).expect("a snapshot");
    put();
    let second = told.recv_timeout(LIMIT).expect("a snapshot");
    let third = told.recv_timeout(LIMIT).expect("a snapshot");
    assert!(received(&first) <= received(&second) && received(&second) <= received(&third));
    assert!(first.period() < second.period() && second.period() < third.period(), "they grow until one is taken");
    assert_eq!(panicked.load(Ordering::Relaxed), 1);
    put();
    close(&producer);
    let taken: Vec<_> = std::iter::once(third).chain(told.iter()).collect();
    assert_eq!(taken.iter().map(received).sum::<u64>(), 3, "each is taken once");
    let data =
        |snapshot: &MetricsSnapshot| snapshot.stream(Metric::UserRecordsDataPut, "s").map_or(0.0, MetricSample::sum);
    assert_eq!(taken.iter().map(data).sum::<f64>(), 3.0);
}

#[test]
fn a_sink_that_does_not_return_holds_up_neither_records_nor_a_close() {
    let endpoint = emulator(&[("s", 1)]);
    let (entered, called) = mpsc::channel();
    let (leave, go_on) = mpsc::channel::<()>();
    let go_on = Mutex::new(go_on);
    let (sink, _told) = Recorder::new(move |_| {
        // A test that has failed meanwhile does not receive it, and lets go.
        let _ = entered.send(());
        let _ = go_on.lock().expect("one thread calls it").recv();
        Ok(())
    });
    let (producer, stream) = ready(builder(&endpoint.url()).metrics_interval(ms(1)).metrics_sink(sink));
    called.recv_timeout(LIMIT).expect("the sink is called");
    delivered(producer.put(&stream, Record::new("k", "d")).expect("a put"));
    assert_eq!(received(&producer.metrics()), 1);
    let counts = bounded(producer.close(ms(300)));
    assert_eq!((counts.delivered, counts.outstanding()), (1, 0));
    drop(leave);
}

/// What is written, for all who hold it.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nobody panics with it").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_embedded_format_tells_the_same_as_the_snapshot() {
    let endpoint = faulty(Action::FailRecords { indexes: vec![0], code: THROTTLED }, 1);
    let log = Log::default();
    let build = lingering(&endpoint.url()).metrics_sink(EmbeddedMetrics::new(log.clone()));
    let build = build.metrics_namespace("Shop").metrics_dimension("Host", "h1").metrics_dimension("Zone", "z");
    let (producer, stream) = ready(build);
    let ends = put_flushed(&producer, &stream, &[&[1; 10], &[2; 200], &[3; 30]]);
    assert!(ends.into_iter().map(end).all(|end| end.is_ok()));
    close(&producer);
    let snapshot = producer.metrics();
    let text = String::from_utf8(log.0.lock().expect("nobody panics with it").clone()).expect("text");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let mut told = 0;
    for sample in snapshot.samples() {
        let (metric, place) = (sample.metric(), sample.place());
        if metric == Metric::UserRecordsPending {
            continue; // sampled once more for the snapshot
        }
        let is_at = |line: &&Value| {
            let own = ["ErrorCode", "StreamName", "ShardId"];
            own.iter()
                .all(|name| line[*name].as_str() == place.dimensions().find(|(own, _)| own == name).map(|of| of.1))
        };
        let line = lines.iter().find(is_at).unwrap_or_else(|| panic!("no line for {place:?}\n{text}"));
        let distribution = &line[metric.name()];
        assert_eq!(distribution["Count"].as_u64(), Some(sample.count()), "{metric:?} {place:?}");
        assert_eq!(distribution["Sum"].as_f64(), Some(sample.sum()), "{metric:?} {place:?}");
        assert_eq!((&line["Host"], &line["Zone"]), (&Value::from("h1"), &Value::from("z")));
        assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Namespace"], "Shop");
        told += 1;
    }
    assert!(told > 30, "{snapshot}");
    assert_eq!(lines.len(), 6, "in all, the stream, the shard, and the code at each\n{text}");
}

#[test]
fn faults_of_the_configuration_of_metrics_are_told_at_once() {
    let build = Producer::builder()
        .metrics_namespace("AWS/Mine")
        .metrics_interval(Duration::ZERO)
        .metrics_dimension("ShardId", "x")
        .metrics_dimension("Host", "");
    let Err(StartError::Config(error)) = build.build() else { panic!("it cannot be had") };
    let fields: Vec<_> = error.faults.iter().map(|fault| fault.field).collect();
    let (name, value) = ("metrics_dimensions (name)", "metrics_dimensions (value)");
    assert_eq!(fields, ["metrics_namespace", "metrics_interval", name, value]);
    let Config { metrics_level, metrics_granularity, metrics_interval, .. } = Config::default();
    assert_eq!((metrics_level, metrics_granularity), (MetricsLevel::Detailed, MetricsGranularity::Shard));
    assert_eq!(metrics_interval, Duration::from_secs(60));
}
