//! Good signatures of AWS's own crate pass; each way of spoiling one is refused by its name.

use super::*;

/// The error code that a spoiled request gets, and the message.
fn refusal(call: &Call) -> (u16, String, String) {
    let (endpoint, mut client) = emulator();
    let answer = client.send(call).unwrap();
    assert_eq!(answer.header("content-type"), Some(JSON));
    assert!(answer.header("date").is_some(), "clients correct their clocks by it");
    assert_eq!(endpoint.stats().refused_signatures, 1);
    assert!(endpoint.read_stream("s").unwrap().is_empty(), "nothing was stored");
    (answer.status, answer.code(), answer.json()["message"].as_str().unwrap().to_owned())
}

fn assert_invalid(call: &Call, message: &str) {
    let (status, code, actual) = refusal(call);
    assert_eq!((status, code.as_str()), (400, "InvalidSignatureException"), "{actual}");
    assert!(actual.contains(message), "{actual}");
}

#[test]
fn a_request_without_a_signature_is_refused() {
    let (status, code, _) = refusal(&put());
    assert_eq!((status, code.as_str()), (400, "MissingAuthenticationTokenException"));
}

#[test]
fn an_incomplete_signature_is_refused() {
    for call in [
        put().signed().without("x-amz-date"),
        put().signed().spoil("authorization", |value| value.replace("Signature=", "Sign=")),
        put().signed().spoil("authorization", |value| value.replace("AWS4-", "AWS3-")),
        put().signed().spoil("authorization", |value| value.replace("Credential=test/", "Credential=test-")),
    ] {
        let (status, code, _) = refusal(&call);
        assert_eq!((status, code.as_str()), (403, "IncompleteSignatureException"));
    }
}

#[test]
fn an_unknown_key_or_token_is_refused() {
    let stranger = Signer { access_key_id: "stranger".into(), ..Signer::default() };
    let tokened = Signer { token: Some("token".into()), ..Signer::default() };
    for signer in [stranger, tokened] {
        let (status, code, _) = refusal(&put().signed_by(&signer));
        assert_eq!((status, code.as_str()), (400, "UnrecognizedClientException"));
    }
}

#[test]
fn a_wrong_secret_body_or_header_does_not_match() {
    let mismatch = "does not match the signature you provided";
    assert_invalid(&put().signed_by(&Signer { secret: "guess".into(), ..Signer::default() }), mismatch);
    let mut changed = put().signed();
    changed.body[20] ^= 1;
    assert_invalid(&changed, mismatch);
    assert_invalid(&put().signed().spoil("x-amz-target", |value| format!("{value}X")), mismatch);
    assert_invalid(&put().signed().spoil("host", |_| "elsewhere".to_owned()), mismatch);
    let flip = |value: &str| {
        let (rest, last) = value.split_at(value.len() - 1);
        format!("{rest}{}", if last == "0" { "1" } else { "0" })
    };
    assert_invalid(&put().signed().spoil("authorization", flip), mismatch);
}

#[test]
fn a_wrong_scope_is_refused() {
    assert_invalid(
        &put().signed_by(&Signer { region: "eu-west-1".into(), ..Signer::default() }),
        "valid region, not 'eu-west-1'",
    );
    assert_invalid(
        &put().signed_by(&Signer { service: "firehose".into(), ..Signer::default() }),
        "correct service: 'kinesis'",
    );
}

#[test]
fn a_clock_more_than_five_minutes_off_is_refused() {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let at = |time| put().signed_by(&Signer { time, ..Signer::default() });
    assert_invalid(&at(SystemTime::now() - minutes(6)), "Signature expired: ");
    assert_invalid(&at(SystemTime::now() + minutes(6)), "Signature not yet current: ");
    let (_endpoint, mut client) = emulator();
    for near in [at(SystemTime::now() - minutes(4)), at(SystemTime::now() + minutes(4))] {
        assert_eq!(client.send(&near).unwrap().status, 200);
    }
}

#[test]
fn an_unsigned_amz_header_is_refused() {
    let mut call = put().signed();
    call.headers.push(("x-amz-extra".to_owned(), "smuggled".to_owned()));
    assert_invalid(&call, "'x-amz-extra' must be a 'SignedHeader'");
}

#[test]
fn a_session_token_is_part_of_the_credentials() {
    let mut config = EndpointConfig::sink(1);
    config.verify_signatures = true;
    config.credentials = vec![Credentials { session_token: Some("token".into()), ..Credentials::new("id", "key") }];
    let (_endpoint, mut client) = start(config);
    let mut signer = Signer { access_key_id: "id".into(), secret: "key".into(), ..Signer::default() };
    assert_eq!(client.send(&put().signed_by(&signer)).unwrap().code(), "UnrecognizedClientException");
    signer.token = Some("token".into());
    assert_eq!(client.send(&put().signed_by(&signer)).unwrap().status, 200);
}

#[test]
fn a_skewed_clock_refuses_and_tells_its_date() {
    let mut config = EndpointConfig::sink(1);
    config.verify_signatures = true;
    config.clock_ahead_s = 3600;
    let (_endpoint, mut client) = start(config);
    let answer = client.send(&put().signed()).unwrap();
    assert_eq!(answer.code(), "InvalidSignatureException");
    let time = httpdate::parse_http_date(answer.header("date").unwrap()).unwrap();
    assert_eq!(client.send(&put().signed_by(&Signer { time, ..Signer::default() })).unwrap().status, 200);
}
