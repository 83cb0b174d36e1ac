//! Answers that are no answers: empty, cut short, of another protocol, or of ten mebibytes.

use bytes::Bytes;
use endpoint::{Action, Endpoint};
use kpl::{AttemptResult, Delivered, ErrorCode, Failure, Record, WireFormat};

use super::faults::codes;
use super::reader::read;
use super::world::{LIMIT, builder, close, end, ms, scripted};

const JSON: &str = "application/x-amz-json-1.1";
const CBOR: &str = "application/x-amz-cbor-1.1";
/// Ten mebibytes.
const LARGE: usize = 10 << 20;
/// Characters of a message at most: those of a service's message, and less of what could not be read.
const MESSAGE_CHARS: usize = 1024;

fn respond(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Action {
    Action::Respond { status, content_type, body: body.into() }
}

/// A map of CBOR with `__type` and `message`, lengths of one byte.
fn cbor_error(code: &str, message: &str) -> Vec<u8> {
    let mut body = vec![0xA2];
    for text in ["__type", code, "message", message] {
        body.extend([0x78, u8::try_from(text.len()).expect("a short text")]);
        body.extend(text.as_bytes());
    }
    body
}

/// Puts records to an endpoint that answers the first requests by `action`, and the rest well; or never well.
fn put(action: &Action, faulty: u64, records: u32) -> (Endpoint, Vec<Result<Delivered, Failure>>) {
    let action = action.clone();
    let endpoint = scripted(&[("s", 1)], move |request| match request.index {
        index if index < faulty => action.clone(),
        _ => Action::Pass,
    });
    // The form is settled, so that each answer is judged by itself.
    let build = builder(&endpoint.url()).wire(WireFormat::Cbor).aggregation_enabled(false).request_timeout(LIMIT / 3);
    let ttl = if faulty == u64::MAX { ms(700) } else { LIMIT };
    let producer = build.record_ttl(ttl).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    stream.ready().wait_timeout(LIMIT).expect("an answer").expect("ready");
    let put = |number: u32| producer.put(&stream, Record::new(&format!("{number}"), "data")).expect("a put");
    let outcomes: Vec<_> = (0..records).map(put).collect();
    let ends: Vec<_> = outcomes.into_iter().map(end).collect();
    assert_eq!(close(&producer).outstanding(), 0);
    (endpoint, ends)
}

fn messages(attempts: &[kpl::Attempt]) -> impl Iterator<Item = &str> {
    attempts.iter().filter_map(|attempt| match &attempt.result {
        AttemptResult::Failed { message, .. } => Some(&**message),
        AttemptResult::Stored { .. } => None,
    })
}

#[test]
fn an_error_under_cbor_is_read_in_either_form_whatever_its_content_type_says() {
    let code = "InternalFailure";
    let in_json = format!("{{\"__type\":\"com.amazonaws.kinesis#{code}\",\"message\":\"words\"}}");
    for (content_type, body) in [
        (JSON, in_json.clone().into_bytes()),
        (CBOR, in_json.into_bytes()),
        (CBOR, cbor_error(code, "words")),
        (JSON, cbor_error(code, "words")),
    ] {
        let (endpoint, ends) = put(&respond(500, content_type, body), 2, 1);
        let delivered = delivered_one(ends);
        assert_eq!(codes(delivered.attempts()), vec![(ErrorCode::Service(code.into()), true); 2]);
        assert!(messages(delivered.attempts()).all(|message| message == "words"));
        assert_eq!(read(&endpoint, "s").len(), 1);
    }
}

/// Bodies that say nothing, and whether records may have been stored by their status.
#[test]
fn a_body_without_sense_is_an_attempt_that_shows_its_beginning() {
    let html = "<html><body><h1>Bad Gateway</h1></body></html>";
    let cut = &cbor_error("InternalFailure", "words that are cut")[..30];
    for (status, content_type, body, shown, ambiguous) in [
        (400, JSON, b"".as_slice(), "0 bytes", false),
        (500, CBOR, b"", "0 bytes", true),
        (502, "text/html", html.as_bytes(), "Bad Gateway", true),
        (403, "text/html", html.as_bytes(), "Bad Gateway", false),
        (500, CBOR, cut, "30 bytes", true),
        (200, CBOR, cut, "30 bytes", true),
        (200, JSON, b"{\"Records\":[{\"Sequ", "18 bytes", true),
    ] {
        let (endpoint, ends) = put(&respond(status, content_type, body.to_vec()), 2, 1);
        let delivered = delivered_one(ends);
        assert_eq!(codes(delivered.attempts()), vec![(ErrorCode::UnreadableAnswer, ambiguous); 2], "{status}");
        for message in messages(delivered.attempts()) {
            assert!(message.contains(shown) && message.contains(&format!("status {status}")), "{message}");
        }
        assert_eq!(read(&endpoint, "s").len(), 1);
    }
}

fn delivered_one(mut ends: Vec<Result<Delivered, Failure>>) -> Delivered {
    ends.remove(0).expect("it is delivered")
}

#[test]
fn ten_mebibytes_of_error_are_an_attempt_with_a_short_message() {
    let message = format!("{{\"__type\":\"InternalFailure\",\"message\":\"{}\"}}", "é".repeat(LARGE / 2));
    let code = format!("{{\"__type\":\"{}\",\"message\":\"m\"}}", "c".repeat(LARGE));
    let field = format!("{{\"__type\":\"InternalFailure\",\"x\":\"{}\"}}", "c".repeat(LARGE));
    let failure = || ErrorCode::Service("InternalFailure".into());
    let too_long = vec![b' '; 17 << 20];
    for (name, status, body, code) in [
        ("a page", 500, vec![b'<'; LARGE], ErrorCode::UnreadableAnswer),
        ("a page, as success", 200, vec![b'<'; LARGE], ErrorCode::UnreadableAnswer),
        ("a message", 500, message.into_bytes(), failure()),
        ("a code", 503, code.into_bytes(), ErrorCode::UnreadableAnswer),
        ("a field", 500, field.into_bytes(), failure()),
        ("nothing but brackets", 500, vec![b'['; LARGE], ErrorCode::UnreadableAnswer),
        ("CBOR of endless arrays", 500, vec![0x9F; LARGE], ErrorCode::UnreadableAnswer),
        ("CBOR of endless maps", 500, vec![0xBF; LARGE], ErrorCode::UnreadableAnswer),
        ("more than is read", 500, too_long, ErrorCode::UnreadableAnswer),
    ] {
        let (endpoint, ends) = put(&respond(status, JSON, body), 1, 200);
        for end in ends {
            let delivered = end.unwrap_or_else(|failure| panic!("{name}: {failure:?}"));
            let attempts = codes(delivered.attempts());
            assert!(
                attempts.len() <= 1 && attempts.iter().all(|attempt| *attempt == (code.clone(), true)),
                "{name}: {attempts:?}"
            );
            assert!(messages(delivered.attempts()).all(|message| message.chars().count() <= MESSAGE_CHARS), "{name}");
        }
        assert_eq!(read(&endpoint, "s").len(), 200, "{name}");
    }
}

#[test]
fn large_errors_that_stay_end_at_the_ttl_and_no_record_keeps_one() {
    let (_endpoint, ends) = put(&respond(500, "text/html", vec![b'<'; LARGE]), u64::MAX, 200);
    for end in &ends {
        let failure = end.as_ref().expect_err("nothing gets through");
        assert_eq!(*failure.code(), ErrorCode::Expired, "{failure:?}");
        assert!(failure.may_be_stored());
        assert!(failure.attempts().len() >= 2, "one at least, and the expiry: {failure:?}");
        // An attempt holds nothing but its times, its code and its message.
        assert!(messages(failure.attempts()).all(|message| message.chars().count() <= MESSAGE_CHARS));
    }
}
