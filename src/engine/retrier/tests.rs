//! What the retrier says of refusals: of their form, of their signature, of everything else.

use super::*;

fn refusal(status: u16, code: &str) -> RequestError {
    RequestError { status, code: ErrorCode::Service(code.into()), message: "why".into() }
}

fn unreadable(status: u16) -> RequestError {
    RequestError { status, code: ErrorCode::UnreadableAnswer, message: "<html>".into() }
}

fn verdict(trouble: &Trouble<'_>) -> (Action, bool, Option<Remedy>) {
    let verdict = classify(trouble, &Config::default());
    (verdict.action, verdict.ambiguous, verdict.remedy)
}

#[test]
fn a_refusal_of_the_form_is_told_from_other_refusals() {
    let refused = [
        refusal(415, "UnsupportedMediaTypeException"),
        refusal(415, "Whatever"),
        unreadable(415),
        refusal(400, "SerializationException"),
        refusal(404, "UnknownOperationException"),
        unreadable(400),
        unreadable(404),
        unreadable(405),
        unreadable(406),
    ];
    for error in &refused {
        assert_eq!(form_doubt(error), Some(FormDoubt::Refused), "{error}");
    }
    assert_eq!(form_doubt(&unreadable(500)), Some(FormDoubt::Stumbled));
    let others = [
        refusal(400, "ValidationException"),
        refusal(400, "ResourceNotFoundException"),
        refusal(400, "ProvisionedThroughputExceededException"),
        refusal(403, "AccessDeniedException"),
        refusal(500, "InternalFailure"),
        refusal(500, "SerializationException"),
        unreadable(200),
        unreadable(401),
        unreadable(403),
        unreadable(407),
        unreadable(408),
        unreadable(413),
        unreadable(429),
        unreadable(502),
        unreadable(503),
        unreadable(504),
    ];
    for error in &others {
        assert_eq!(form_doubt(error), None, "{error}");
    }
}

#[test]
fn what_is_sent_in_the_other_form_was_no_attempt_and_leaves_no_doubt() {
    for error in [refusal(400, "SerializationException"), unreadable(404)] {
        assert_eq!(verdict(&Trouble::Form(&error)), (Action::Resend, false, None), "{error}");
    }
}

#[test]
fn an_unreadable_answer_leaves_doubt_unless_its_status_says_that_the_request_was_not_taken() {
    for (status, ambiguous) in [(200, true), (302, true), (400, false), (404, false), (429, false), (500, true)] {
        assert_eq!(verdict(&Trouble::Request(&unreadable(status))), (Action::Retry, ambiguous, None), "{status}");
    }
}

#[test]
fn every_refusal_of_a_signature_has_its_remedy_and_its_grace() {
    let cases = [
        ("UnrecognizedClientException", Remedy::Credentials),
        ("InvalidClientTokenId", Remedy::Credentials),
        ("ExpiredTokenException", Remedy::Credentials),
        ("ExpiredToken", Remedy::Credentials),
        ("MissingAuthenticationTokenException", Remedy::Credentials),
        ("AccessDeniedException", Remedy::Credentials),
        ("KMSDisabledException", Remedy::Credentials),
        ("InvalidSignatureException", Remedy::Clock),
        ("SignatureDoesNotMatch", Remedy::Clock),
        ("RequestExpired", Remedy::Clock),
        ("RequestTimeTooSkewed", Remedy::Clock),
        ("IncompleteSignature", Remedy::Clock),
        ("IncompleteSignatureException", Remedy::Clock),
        ("ResourceNotFoundException", Remedy::Map),
    ];
    for (code, remedy) in cases {
        let error = refusal(400, code);
        assert_eq!(verdict(&Trouble::Request(&error)), (Action::RetryWithinGrace, false, Some(remedy)), "{code}");
    }
    for code in ["KMSThrottlingException", "InternalFailure", "ValidationException", "Whatever"] {
        assert_eq!(verdict(&Trouble::Request(&refusal(400, code))).2, None, "{code}");
    }
}

#[test]
fn a_refused_signature_that_is_outdated_is_an_attempt_and_waits_for_nothing() {
    let error = refusal(400, "ExpiredTokenException");
    let (action, ambiguous, _) = verdict(&Trouble::OldSignature(&error));
    assert_eq!((action, ambiguous), (Action::RetryAtOnceWithinGrace, false));
}
