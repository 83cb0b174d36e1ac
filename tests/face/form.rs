//! The form of requests: CBOR, and JSON where an endpoint does not take CBOR.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use endpoint::{Action, Endpoint};
use kpl::{ErrorCode, Record, WireFormat};

use super::faults::codes;
use super::reader::read;
use super::world::{LIMIT, builder, close, delivered, failed, ms, scripted};

const CBOR: &str = "application/x-amz-cbor-1.1";

fn page(status: u16, body: &'static [u8]) -> Action {
    Action::Respond { status, content_type: "text/html", body: Bytes::from_static(body) }
}

/// Ways in which endpoints refuse CBOR, and whether a record may have been stored by them.
fn refusals() -> Vec<(Action, bool)> {
    vec![
        (page(415, b""), false),
        (Action::error(415, "UnsupportedMediaTypeException", "JSON only"), false),
        (Action::error(400, "SerializationException", "JSON only"), false),
        (Action::error(404, "UnknownOperationException", ""), false),
        // Kinesalite's, and that of a router that knows no such content type.
        (page(404, b"<UnknownOperationException/>\n"), false),
        (page(400, b"<html>Bad Request</html>"), false),
        // moto's server, which fails over a body that is no text.
        (page(500, b"<!doctype html>\n<title>500 Internal Server Error</title>\n"), true),
    ]
}

/// An endpoint that answers requests in CBOR with `refusal`, from the `after`th on.
fn refusing(refusal: &Action, after: u64) -> Endpoint {
    let refusal = refusal.clone();
    scripted(&[("s", 2)], move |request| match request.content_type {
        CBOR if request.index >= after => refusal.clone(),
        _ => Action::Pass,
    })
}

#[test]
fn an_endpoint_that_refuses_cbor_is_written_to_in_json_and_no_record_is_lost_or_duplicated() {
    for cores in [1, 2] {
        for (refusal, ambiguous) in refusals() {
            let endpoint = refusing(&refusal, 0);
            let build = builder(&endpoint.url()).cores(cores).aggregation_enabled(false);
            let producer = build.record_ttl(LIMIT).build().expect("a producer");
            assert_eq!(producer.health().wire, WireFormat::Auto);
            let stream = producer.stream("s").expect("a stream");
            stream.ready().wait_timeout(LIMIT).expect("an answer").expect("ready");
            let put = |number: u32| producer.put(&stream, Record::new(&format!("{number}"), "data")).expect("a put");
            let outcomes: Vec<_> = (0..50).map(put).collect();
            for outcome in outcomes {
                let attempts = codes(delivered(outcome).attempts());
                // What was refused for its form alone is no attempt; where the endpoint stumbled, it is one in doubt.
                let doubt = (ErrorCode::UnreadableAnswer, true);
                assert!(attempts.iter().all(|attempt| ambiguous && *attempt == doubt), "{refusal:?}: {attempts:?}");
                assert!(attempts.len() <= 1, "{refusal:?}: {attempts:?}");
            }
            assert_eq!(read(&endpoint, "s").len(), 50, "{refusal:?}");
            assert_eq!(producer.health().wire, WireFormat::Json);
            close(&producer);
            let counters = producer.counters();
            let in_cbor = counters.put_records_requests - counters.put_records_requests_in_json;
            // Each core probes once, on each of its connections at most.
            assert!((1..=cores as u64 * 4).contains(&in_cbor), "{refusal:?}: {counters:?}");
        }
    }
}

#[test]
fn an_endpoint_that_took_cbor_once_is_never_written_to_in_json() {
    let refusal = Action::error(415, "UnsupportedMediaTypeException", "not any more");
    let endpoint = refusing(&refusal, 1);
    let producer = builder(&endpoint.url()).record_ttl(ms(3_000)).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    delivered(producer.put(&stream, Record::new("k", "taken")).expect("a put"));
    assert_eq!(producer.health().wire, WireFormat::Cbor);
    let failure = failed(producer.put(&stream, Record::new("k", "refused")).expect("a put"));
    assert!(!failure.may_be_stored(), "{failure:?}");
    assert_eq!(codes(failure.attempts())[0].0, ErrorCode::Service("UnsupportedMediaTypeException".into()));
    close(&producer);
    assert_eq!(producer.counters().put_records_requests_in_json, 0);
}

#[test]
fn a_form_that_was_configured_is_never_left() {
    let refusal = page(404, b"");
    let endpoint = refusing(&refusal, 0);
    let producer = builder(&endpoint.url()).wire(WireFormat::Cbor).record_ttl(ms(3000)).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let failure = failed(producer.put(&stream, Record::new("k", "d")).expect("a put"));
    assert!(codes(failure.attempts()).len() > 1, "{failure:?}");
    close(&producer);
    assert_eq!(producer.counters().put_records_requests_in_json, 0);
    assert_eq!(producer.health().wire, WireFormat::Cbor);
}

#[test]
fn an_endpoint_that_refuses_both_forms_costs_each_attempt_two_requests() {
    let requests = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&requests);
    let endpoint = scripted(&[("s", 1)], move |request| {
        // Partner: the load below, after the producer has closed.
        counted.fetch_add(u64::from(request.index >= 4), Ordering::Relaxed);
        if request.index < 4 { page(404, b"<html>not yet</html>") } else { Action::Pass }
    });
    let producer = builder(&endpoint.url()).record_ttl(LIMIT).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let delivered = delivered(producer.put(&stream, Record::new("k", "d")).expect("a put"));
    assert_eq!(codes(delivered.attempts()), vec![(ErrorCode::UnreadableAnswer, false); 2]);
    assert!(!delivered.may_be_duplicated());
    close(&producer);
    // The fifth was a probe again, and was taken.
    assert_eq!(producer.health().wire, WireFormat::Cbor);
    // Partner: the addition above.
    assert_eq!(requests.load(Ordering::Relaxed), 1);
    assert_eq!(read(&endpoint, "s").len(), 1);
}
