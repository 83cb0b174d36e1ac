//! An endpoint that misbehaves: whatever it does, each record has one outcome that tells every attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use endpoint::{Action, Endpoint, EndpointConfig};
use kpl::{AttemptResult, Delivered, ErrorCode, Failure, Producer, RateLimit, Record, WireFormat};

use super::reader::read;
use super::world::{LIMIT, builder, close, delivered, end, failed, ms, scripted, start, timed, work};

const JSON: &str = "application/x-amz-json-1.1";
const CBOR: &str = "application/x-amz-cbor-1.1";
const HTML: &[u8] = b"<html><body><h1>502 Bad Gateway</h1></body></html>";

fn respond(status: u16, content_type: &'static str, body: &'static [u8]) -> Action {
    Action::Respond { status, content_type, body: Bytes::from_static(body) }
}

fn code(name: &str) -> ErrorCode {
    ErrorCode::Service(name.into())
}

/// A fault, the code that its attempts have, and whether the record may have been stored by it.
fn passing_faults() -> Vec<(&'static str, Action, ErrorCode, bool)> {
    let unreadable = || ErrorCode::UnreadableAnswer;
    vec![
        ("connection closed", Action::CloseConnection, ErrorCode::Reset, true),
        ("connection reset", Action::ResetConnection, ErrorCode::Reset, true),
        ("served, then closed", Action::ServeThenClose, ErrorCode::Reset, true),
        ("truncated", Action::TruncateBody, ErrorCode::Reset, true),
        ("empty", respond(200, CBOR, b""), unreadable(), true),
        ("empty in JSON", respond(200, JSON, b""), unreadable(), true),
        ("an empty object", respond(200, JSON, b"{}"), unreadable(), true),
        ("HTML", respond(200, "text/html", HTML), unreadable(), true),
        ("HTML that says it is JSON", respond(200, JSON, HTML), unreadable(), true),
        ("half a JSON text", respond(200, JSON, b"{\"FailedRecordCount\":0,\"Records\":[{\"Sequ"), unreadable(), true),
        ("broken CBOR", respond(200, CBOR, &[0xBF, 0x67, b'R']), unreadable(), true),
        ("CBOR of endless depth", respond(200, CBOR, &[0x81; 5000]), unreadable(), true),
        ("HTML with status 502", respond(502, "text/html", HTML), unreadable(), true),
        ("an empty 500", respond(500, "", b""), unreadable(), true),
        ("internal failure", Action::error(500, "InternalFailure", "oops"), code("InternalFailure"), true),
        ("unavailable", Action::error(503, "ServiceUnavailable", "later"), code("ServiceUnavailable"), true),
        (
            "throttled whole",
            Action::error(400, "ProvisionedThroughputExceededException", "slow down"),
            code("ProvisionedThroughputExceededException"),
            false,
        ),
        ("a code nobody knows", Action::error(400, "Whatever", "?"), code("Whatever"), false),
        (
            "throttled record",
            Action::FailRecords { indexes: vec![0], code: "ProvisionedThroughputExceededException" },
            code("ProvisionedThroughputExceededException"),
            false,
        ),
        (
            "failed record",
            Action::FailRecords { indexes: vec![0], code: "InternalFailure" },
            code("InternalFailure"),
            true,
        ),
    ]
}

pub fn codes(attempts: &[kpl::Attempt]) -> Vec<(ErrorCode, bool)> {
    let failed = |attempt: &kpl::Attempt| match &attempt.result {
        AttemptResult::Failed { code, ambiguous, .. } => Some((code.clone(), *ambiguous)),
        AttemptResult::Stored { .. } => None,
    };
    attempts.iter().filter_map(failed).collect()
}

/// Puts three records to a stream whose endpoint does `action` with the first `faulty` requests. Asserts that the
/// counts add up.
fn put_three(action: &Action, faulty: u64, ttl: Duration) -> (Endpoint, Vec<Result<Delivered, Failure>>) {
    let action = action.clone();
    let script = move |request: &endpoint::RequestInfo<'_>| match request.index {
        index if index < faulty => action.clone(),
        _ => Action::Pass,
    };
    let endpoint = scripted(&[("s", 1)], script);
    let producer = builder(&endpoint.url()).record_ttl(ttl).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    stream.ready().wait_timeout(LIMIT).expect("an answer").expect("ready");
    let mut submitter = producer.submitter().expect("a submitter");
    let outcomes: Vec<_> =
        (0..3).map(|number| submitter.put(&stream, Record::new("k", &format!("{number}"))).expect("a put")).collect();
    let ends: Vec<_> = outcomes.into_iter().map(end).collect();
    let counts = close(&producer);
    assert_eq!(counts.accepted, 3);
    assert_eq!(counts.delivered, ends.iter().filter(|end| end.is_ok()).count() as u64);
    (endpoint, ends)
}

#[test]
fn a_fault_that_passes_costs_an_attempt_and_no_record() {
    for (name, action, code, ambiguous) in passing_faults() {
        let (endpoint, ends) = put_three(&action, 2, LIMIT * 2);
        for end in ends {
            let delivered = end.unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
            assert_eq!(codes(delivered.attempts()), vec![(code.clone(), ambiguous); 2], "{name}");
            assert_eq!(delivered.attempts().len(), 3, "{name}");
            assert_eq!(delivered.may_be_duplicated(), ambiguous, "{name}");
            let ordered =
                delivered.attempts().is_sorted_by(|one, next| one.began <= one.ended && one.ended <= next.began);
            assert!(ordered, "{name}: {:?}", delivered.attempts());
        }
        let copies = match action {
            // What was served and not answered is stored each time: the doubt was right.
            Action::ServeThenClose | Action::TruncateBody => 9,
            _ => 3,
        };
        assert_eq!(read(&endpoint, "s").len(), copies, "{name}");
    }
}

#[test]
fn a_fault_that_stays_ends_at_the_ttl_with_every_attempt() {
    let workers: Vec<_> = passing_faults()
        .into_iter()
        .map(|fault| work(move || (put_three(&fault.1, u64::MAX, ms(3_000)).1, fault)))
        .collect();
    for worker in workers {
        let (ends, (name, _, code, ambiguous)) = worker.done();
        for end in ends {
            let failure = end.expect_err(name);
            assert_eq!(*failure.code(), ErrorCode::Expired, "{name}: {failure:?}");
            let mut codes = codes(failure.attempts());
            assert_eq!(codes.pop(), Some((ErrorCode::Expired, false)), "{name}");
            assert!(!codes.is_empty(), "{name}");
            assert!(codes.iter().all(|attempt| *attempt == (code.clone(), ambiguous)), "{name}: {codes:?}");
            assert_eq!(failure.may_be_stored(), ambiguous, "{name}");
            assert!(failure.to_string().contains("attempts"), "{failure}");
        }
    }
}

#[test]
fn an_answer_with_another_number_of_results_fails_all_and_says_that_they_may_be_stored() {
    let none: &[u8] = b"{\"FailedRecordCount\":0,\"Records\":[]}";
    let two: &[u8] =
        b"{\"FailedRecordCount\":0,\"Records\":[{\"SequenceNumber\":\"1\",\"ShardId\":\"shardId-000000000000\"},\
        {\"SequenceNumber\":\"2\",\"ShardId\":\"shardId-000000000000\"}]}";
    for body in [none, two] {
        let (_, ends) = put_three(&respond(200, JSON, body), u64::MAX, LIMIT * 2);
        for end in ends {
            let failure = end.expect_err("a wrong number");
            assert_eq!(codes(failure.attempts()), [(ErrorCode::RecordCountMismatch, true)]);
            assert!(failure.may_be_stored());
            assert!(failure.message().contains("1 records were sent"), "{failure}");
        }
    }
}

#[test]
fn what_the_service_calls_invalid_by_itself_fails_at_once_with_its_words() {
    for name in ["ValidationException", "InvalidArgumentException", "SerializationException"] {
        let (_, ends) = put_three(&Action::error(400, name, "that is wrong"), u64::MAX, LIMIT * 2);
        for end in ends {
            let failure = end.expect_err(name);
            assert_eq!((failure.code(), failure.message()), (&ErrorCode::Poison, &*format!("{name}: that is wrong")));
            assert_eq!(codes(failure.attempts()), [(code(name), false)]);
        }
    }
}

#[test]
fn a_refusal_of_credentials_or_stream_is_retried_for_the_grace_time_and_then_fails_with_its_code() {
    for name in
        ["UnrecognizedClientException", "AccessDeniedException", "KMSDisabledException", "ResourceNotFoundException"]
    {
        let endpoint = scripted(&[("s", 1)], move |_| Action::error(400, name, "no"));
        let build = builder(&endpoint.url()).auth_grace(ms(1_000)).record_ttl(LIMIT * 2);
        let producer = build.build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let (failure, time) = timed(|| failed(producer.put(&stream, Record::new("k", "d")).expect("a put")));
        assert_eq!(*failure.code(), code(name), "{failure:?}");
        assert!(failure.attempts().len() > 1, "{failure:?}");
        assert!(!failure.may_be_stored());
        assert!(ms(1_000) <= time && time < LIMIT / 2, "{time:?}");
        close(&producer);
    }
}

#[test]
fn throttled_records_fail_at_once_if_that_is_asked_for() {
    let name = "ProvisionedThroughputExceededException";
    for action in [Action::error(400, name, "slow down"), Action::FailRecords { indexes: vec![0], code: name }] {
        let endpoint = scripted(&[("s", 1)], move |_| action.clone());
        let producer = builder(&endpoint.url()).fail_if_throttled(true).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let failure = failed(producer.put(&stream, Record::new("k", "d")).expect("a put"));
        assert_eq!(codes(failure.attempts()), [(code(name), false)]);
        close(&producer);
    }
}

#[test]
fn one_records_failure_is_not_its_neighbours() {
    let endpoint = scripted(&[("s", 1)], |request| match request.index {
        0 => Action::FailRecords { indexes: vec![1, 3], code: "InternalFailure" },
        _ => Action::Pass,
    });
    let producer = builder(&endpoint.url()).aggregation_enabled(false).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let outcomes: Vec<_> =
        (0..5).map(|number| producer.put(&stream, Record::new("k", &[number])).expect("a put")).collect();
    let attempts: Vec<_> = outcomes.into_iter().map(|outcome| delivered(outcome).attempts().len()).collect();
    assert_eq!(attempts.iter().sum::<usize>(), 7, "{attempts:?}");
    assert_eq!(read(&endpoint, "s").len(), 5);
    close(&producer);
}

#[test]
fn a_shard_that_is_never_listed_is_asked_for_with_a_backoff() {
    const ELSEWHERE: &[u8] =
        br#"{"FailedRecordCount":0,"Records":[{"SequenceNumber":"1","ShardId":"shardId-000000000077"}]}"#;
    let listings = Arc::new(AtomicU64::new(0));
    let mut config = EndpointConfig::emulator();
    let counted = listings.clone();
    config.script = Some(Box::new(move |request| match request.operation {
        "PutRecords" => respond(200, JSON, ELSEWHERE),
        "ListShards" => {
            // Partner: the load below, after the outcome.
            counted.fetch_add(1, Ordering::Relaxed);
            Action::Pass
        }
        _ => Action::Pass,
    }));
    let endpoint = start(&[("s", 1)], config);
    // Longer than it takes to put two records, so that they make an aggregate: a lone record is read from any shard.
    let build = builder(&endpoint.url()).record_max_buffered_time(ms(500)).record_ttl(ms(2000));
    let producer = build.build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let put = |key| producer.put(&stream, Record::new(key, "stored elsewhere")).expect("a put");
    for outcome in [put("a"), put("b")] {
        assert_eq!(failed(outcome).code(), &ErrorCode::UnverifiedShard);
    }
    // The first, one at once, and then 100 ms later, 200, 400, 800: jitter and a busy machine apart.
    let listings = listings.load(Ordering::Relaxed);
    assert!((3..=10).contains(&listings), "{listings}");
    close(&producer);
}

#[test]
fn many_records_through_a_bad_endpoint_each_have_one_outcome() {
    // Every third request passes, in both wire forms and on several cores.
    for (cores, wire) in [(1, WireFormat::Cbor), (3, WireFormat::Json)] {
        let faults = passing_faults();
        let endpoint = scripted(&[("s", 4)], move |request| match request.index % 3 {
            2 => Action::Pass,
            _ => faults[request.index as usize % faults.len()].1.clone(),
        });
        let build =
            builder(&endpoint.url()).cores(cores).wire(wire).rate_limit(RateLimit::Off).aggregation_max_size(300);
        let producer: Producer = build.record_ttl(LIMIT * 2).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let mut submitter = producer.submitter().expect("a submitter");
        let put =
            |number| submitter.put(&stream, Record::new(&format!("{number}"), &format!("{number}"))).expect("a put");
        let outcomes: Vec<_> = (0..300).map(put).collect();
        let ends: Vec<_> = outcomes.into_iter().map(delivered).collect();
        let stored = read(&endpoint, "s");
        let doubtful = ends.iter().any(Delivered::may_be_duplicated);
        assert!(stored.len() == 300 || doubtful, "duplicates come from doubt alone");
        for (number, end) in ends.iter().enumerate() {
            let own: Vec<_> = stored.iter().filter(|record| record.partition_key == number.to_string()).collect();
            assert!(own.iter().any(|record| record.location == super::reader::location(end)), "{number}");
            assert!(own.len() == 1 || end.may_be_duplicated(), "{number}: {own:?}");
        }
        let counts = close(&producer);
        assert_eq!((counts.accepted, counts.delivered), (300, 300));
    }
}
