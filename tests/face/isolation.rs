//! Requests that the endpoint calls invalid, or too large: what is at fault fails, and nothing else.

use bytes::Bytes;
use endpoint::Action;
use kpl::{ErrorCode, Record, WireFormat};

use super::reader::read;
use super::world::{builder, close, end, scripted};

#[test]
fn a_poison_record_fails_and_the_others_of_its_request_are_delivered() {
    // "poison" at the beginning of a payload, in base64.
    let endpoint = scripted(&[("s", 2)], |request| {
        let poisoned = request.body.windows(8).any(|window| window == b"cG9pc29u");
        if poisoned { Action::error(400, "ValidationException", "a record is not valid") } else { Action::Pass }
    });
    let builder = builder(&endpoint.url()).aggregation_enabled(false).wire(WireFormat::Json);
    let producer = builder.build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let data = |number: usize| if number == 37 { "poison".to_owned() } else { format!("data {number}") };
    let outcomes: Vec<_> = (0..100)
        .map(|number| submitter.put(&stream, Record::new(&format!("key-{number}"), &data(number))).expect("a put"))
        .collect();
    for (number, outcome) in outcomes.into_iter().enumerate() {
        match end(outcome) {
            Ok(_) => assert_ne!(number, 37),
            Err(failure) => {
                assert_eq!((number, failure.code()), (37, &ErrorCode::Poison), "{failure:?}");
                assert!(failure.message().contains("a record is not valid") && !failure.may_be_stored());
            }
        }
    }
    assert_eq!(read(&endpoint, "s").len(), 99, "each once");
    let counts = close(&producer);
    assert_eq!((counts.delivered, counts.failed), (99, 1));
}

#[test]
fn requests_that_a_gateway_calls_too_large_are_halved_until_they_pass() {
    let endpoint = scripted(&[("s", 2)], |request| match request.body.len() {
        0..=20_000 => Action::Pass,
        _ => Action::Respond {
            status: 413,
            content_type: "text/html",
            body: Bytes::from_static(b"<html>Request Entity Too Large</html>"),
        },
    });
    let builder = builder(&endpoint.url()).aggregation_enabled(false).wire(WireFormat::Cbor);
    let producer = builder.build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    let data = [7; 1000];
    let outcomes: Vec<_> = (0..100)
        .map(|number| submitter.put(&stream, Record::new(&format!("key-{number}"), &data)).expect("a put"))
        .collect();
    for outcome in outcomes {
        let delivered = end(outcome).expect("nobody is at fault");
        assert!(!delivered.may_be_duplicated());
    }
    assert_eq!(read(&endpoint, "s").len(), 100);
    close(&producer);
}
