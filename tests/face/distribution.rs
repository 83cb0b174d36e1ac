//! Streams whose records the service distributes itself (AUTO), by a script that stores every record in the next shard,
//! whatever its keys, and describes the stream or refuses to.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use endpoint::{Action, Endpoint, EndpointConfig, RequestInfo};
use kpl::{ProducerBuilder, Record, RecordDistribution, ShardMapPolicy, WireFormat};
use serde_json::{Value, json};

use super::world::{LIMIT, builder, close, delivered, start};

const SHARDS: usize = 3;
const RECORDS: usize = 60;

/// What the endpoint says of a stream.
#[derive(Clone, Copy)]
enum Described {
    Auto,
    Denied,
    /// AUTO once, and not any more.
    Back,
}

/// An endpoint that distributes records, and what it was asked.
struct Auto {
    endpoint: Endpoint,
    /// Kinesis records, as they came.
    records: Arc<Mutex<Vec<Value>>>,
    described: Arc<AtomicU64>,
}

fn respond(status: u16, body: &Value) -> Action {
    Action::Respond { status, content_type: "application/x-amz-json-1.1", body: body.to_string().into() }
}

/// Stores what a PutRecords brings, each record in the next shard.
fn distribute(request: &RequestInfo<'_>, records: &Mutex<Vec<Value>>, next: &AtomicUsize, by_key: bool) -> Action {
    let body: Value = serde_json::from_slice(request.body).expect("JSON");
    let sent = body["Records"].as_array().expect("records");
    let stored = sent.iter().map(|_| {
        // Partner: none, the endpoint has one thread.
        let number = next.fetch_add(1, Ordering::Relaxed);
        // The tests' one hash key is the first shard's.
        let shard = if by_key { 0 } else { number % SHARDS };
        json!({ "ShardId": format!("shardId-{shard:012}"), "SequenceNumber": format!("49{number:054}") })
    });
    let stored: Vec<Value> = stored.collect();
    records.lock().expect("no panic").extend(sent.iter().cloned());
    respond(200, &json!({ "FailedRecordCount": 0, "Records": stored }))
}

impl Auto {
    fn start(described: Described) -> Auto {
        let (records, asked) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<AtomicU64>::default());
        let (kept, counted, next) = (Arc::clone(&records), Arc::clone(&asked), AtomicUsize::new(0));
        let mut config = EndpointConfig::emulator();
        config.script = Some(Box::new(move |request| match request.operation {
            "PutRecords" => {
                // Partner: none, the endpoint has one thread.
                let back = matches!(described, Described::Back) && counted.load(Ordering::Relaxed) > 1;
                distribute(request, &kept, &next, back)
            }
            "DescribeStreamSummary" => {
                // Partner: the load in a test, after what it asked for has ended.
                let before = counted.fetch_add(1, Ordering::SeqCst);
                match described {
                    Described::Back if before > 0 => respond(200, &summary("USER_PARTITION_KEY")),
                    Described::Auto | Described::Back => respond(200, &summary("AUTO")),
                    Described::Denied => Action::error(400, "AccessDeniedException", "not authorized to describe"),
                }
            }
            _ => Action::Pass,
        }));
        Auto { endpoint: start(&[("s", SHARDS as u32)], config), records, described: asked }
    }

    fn builder(&self) -> ProducerBuilder {
        builder(&self.endpoint.url()).wire(WireFormat::Json).shard_map(ShardMapPolicy::Required)
    }

    /// Kinesis records since the last call: how many, and how many of them look like aggregates.
    fn take(&self) -> (usize, usize) {
        let records = std::mem::take(&mut *self.records.lock().expect("no panic"));
        // The magic, in base64.
        let aggregated = |record: &&Value| record["Data"].as_str().is_some_and(|data| data.starts_with("84mawg"));
        (records.len(), records.iter().filter(aggregated).count())
    }
}

fn summary(strategy: &str) -> Value {
    json!({ "StreamDescriptionSummary": {
        "StreamName": "s", "StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/s", "StreamStatus": "ACTIVE",
        "RetentionPeriodHours": 24, "StreamCreationTimestamp": 1, "EnhancedMonitoring": [], "OpenShardCount": SHARDS,
        "RecordDistributionStrategy": strategy,
    } })
}

/// Puts records under few keys, and waits for all to be delivered. Answers how many were tried more than once.
fn put_all(producer: &kpl::Producer, stream: &kpl::Stream) -> usize {
    let mut submitter = producer.submitter().expect("a submitter");
    let mut put = |number: usize| {
        let (key, data) = (format!("key-{}", number % 5), format!("data {number}"));
        submitter.put(stream, Record::new(&key, &data).with_explicit_hash_key(kpl::HashKey(7))).expect("a put")
    };
    let outcomes: Vec<_> = (0..RECORDS).map(&mut put).collect();
    outcomes.into_iter().map(delivered).filter(|delivered| delivered.attempts().len() > 1).count()
}

#[test]
fn a_stream_that_is_described_as_auto_gets_single_records_from_the_first_on() {
    for (configured, asked) in [(RecordDistribution::Detect, 1), (RecordDistribution::Auto, 0)] {
        let auto = Auto::start(Described::Auto);
        let producer = auto.builder().record_distribution(configured).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        assert_eq!(put_all(&producer, &stream), 0, "each is right wherever it lies");
        assert!(auto.records.lock().expect("no panic").iter().all(|record| record["ExplicitHashKey"].is_null()));
        assert_eq!(auto.take(), (RECORDS, 0), "{configured:?}");
        // Partner: the count in the script.
        assert_eq!(auto.described.load(Ordering::SeqCst), asked, "{configured:?}");
        close(&producer);
    }
}

#[test]
fn a_stream_that_is_auto_no_more_gets_aggregates_again() {
    let auto = Auto::start(Described::Back);
    let producer = auto.builder().map_refresh(Duration::from_secs(1)).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    put_all(&producer, &stream);
    assert_eq!(auto.take(), (RECORDS, 0), "singly at first");
    // Each round takes a linger at least.
    for round in 0.. {
        assert_eq!(put_all(&producer, &stream), 0, "nothing is misplaced by any of it");
        if auto.take().1 > 0 {
            break;
        }
        assert!(round < 5000, "never aggregated again");
    }
    close(&producer);
}

#[test]
fn where_the_stream_may_not_be_described_what_is_misplaced_tells() {
    let auto = Auto::start(Described::Denied);
    let producer = auto.builder().build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    stream.ready().wait_timeout(LIMIT).expect("an answer").expect("the permission is not needed");
    // By chance aggregates may lie well for a while.
    let mut rounds = 0;
    loop {
        put_all(&producer, &stream);
        let (kinesis_records, aggregated) = auto.take();
        if aggregated == 0 {
            assert_eq!(kinesis_records, RECORDS, "each by itself, once");
            break;
        }
        rounds += 1;
        assert!(rounds < 100, "aggregates go on");
    }
    assert!(rounds > 0, "nobody knew at first");
    // Partner: the count in the script. With the first map, and for a suspicion at least.
    assert!(auto.described.load(Ordering::SeqCst) >= 2);
    close(&producer);
}

#[test]
fn an_ordered_stream_that_the_service_distributes_is_unavailable_and_says_why() {
    let auto = Auto::start(Described::Auto);
    let producer = auto.builder().ordered(true).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let error = stream.ready().wait_timeout(LIMIT).expect("an answer").expect_err("no order can be kept");
    let refused = producer.put(&stream, Record::new("k", "d")).expect_err("refused");
    for text in [error.to_string(), refused.to_string()] {
        assert!(text.contains("`ordered`") && text.contains("AUTO"), "{text}");
    }
    close(&producer);
}
