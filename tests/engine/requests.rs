//! What becomes of requests that fail whole: the other half of the retrier's table, and outages.

use std::time::Duration;

use kpl::config::{Config, RateLimit};
use kpl::engine::Remedy;
use kpl::outcome::ErrorCode;
use kpl::record::{Record, StreamId};

use super::driven::Driven;
use super::hand::*;

const GRACE: Duration = Duration::from_secs(5);

/// A request of two records of two shards, on its way.
fn two_under_way(config: &Config) -> (Driven, [Waiting; 2], kpl::engine::Transmit) {
    let mut driven = Driven::new(config, 2);
    let waiting = [put(&mut driven, 0), put(&mut driven, 1)];
    let transmit = send(&mut driven);
    (driven, waiting, transmit)
}

/// Both fail with this, and with these attempts.
fn both_failed(waiting: &mut [Waiting; 2], code: &str, attempts: &[(&str, bool)]) {
    for handle in waiting {
        let failure = end(handle).expect_err(code);
        assert_eq!(failure.code().as_str(), code);
        let known: Vec<_> = attempts.iter().map(|(code, ambiguous)| ((*code).to_owned(), *ambiguous)).collect();
        assert_eq!(failed(failure.attempts()), known);
        assert_eq!(failure.may_be_stored(), attempts.iter().any(|(_, ambiguous)| *ambiguous));
    }
}

/// Both are sent again in one request, and delivered after this attempt.
fn both_delivered_after(driven: &mut Driven, waiting: &mut [Waiting; 2], attempt: (&str, bool)) {
    let (transmit, waited) = send_later(driven);
    assert!(waited <= Duration::from_millis(51), "one backoff: {waited:?}");
    assert_eq!(transmit.kinesis_records, 2, "what failed together comes back together");
    store(driven, &transmit);
    for handle in waiting {
        let delivered = end(handle).expect("delivered");
        assert_eq!(failed(delivered.attempts()), [(attempt.0.to_owned(), attempt.1)]);
    }
}

#[test]
fn an_answer_with_another_number_of_results_fails_all() {
    let (mut driven, mut waiting, transmit) = two_under_way(&config());
    let mut entries = driven.all_stored(&transmit);
    entries.pop();
    driven.answer(transmit.request, entries);
    both_failed(&mut waiting, "Record Count Mismatch", &[("Record Count Mismatch", true)]);
}

#[test]
fn a_request_that_found_no_connection_is_an_attempt_and_stored_nothing() {
    for code in [ErrorCode::Connect, ErrorCode::Dns, ErrorCode::Tls] {
        let (mut driven, mut waiting, transmit) = two_under_way(&config());
        lose(&mut driven, &transmit, code.clone(), false);
        both_delivered_after(&mut driven, &mut waiting, (code.as_str(), false));
    }
}

#[test]
fn a_request_that_was_reset_after_its_first_byte_may_have_been_applied() {
    let (mut driven, mut waiting, transmit) = two_under_way(&config());
    lose(&mut driven, &transmit, ErrorCode::Reset, true);
    both_delivered_after(&mut driven, &mut waiting, ("Reset", true));
}

#[test]
fn a_request_of_which_no_byte_was_sent_is_no_attempt_and_goes_at_once() {
    let (mut driven, mut waiting, transmit) = two_under_way(&config());
    lose(&mut driven, &transmit, ErrorCode::Reset, false);
    let again = driven.turn().expect("at once");
    store(&mut driven, &again);
    assert!(waiting.iter_mut().all(|handle| end(handle).expect("delivered").attempts().len() == 1));
}

#[test]
fn a_late_answer_to_an_older_request_is_not_taken_for_that_of_a_newer_one() {
    let mut driven = Driven::new(&Config { max_connections_per_core: 1, ..config() }, 1);
    let mut handle = put(&mut driven, 0);
    let first = send(&mut driven);
    lose(&mut driven, &first, ErrorCode::Timeout, true);
    let (second, _) = send_later(&mut driven);
    assert_eq!(first.connection, second.connection);
    store(&mut driven, &first);
    assert!(outcome(&mut handle).is_none(), "the newer one is under way");
    store(&mut driven, &second);
    assert!(end(&mut handle).is_ok());
}

#[test]
fn what_became_of_a_request_that_timed_out_is_unknown() {
    let (mut driven, mut waiting, transmit) = two_under_way(&config());
    lose(&mut driven, &transmit, ErrorCode::Timeout, true);
    both_delivered_after(&mut driven, &mut waiting, ("Timeout", true));
}

#[test]
fn a_request_that_failed_inside_the_service_is_sent_again_and_may_have_been_applied() {
    for (status, code) in [(500, "InternalFailure"), (503, "ServiceUnavailable"), (500, "ThrottlingException")] {
        let (mut driven, mut waiting, transmit) = two_under_way(&config());
        refuse(&mut driven, &transmit, status, code, "later");
        both_delivered_after(&mut driven, &mut waiting, (code, true));
    }
}

#[test]
fn a_request_that_was_throttled_whole_is_sent_again() {
    for code in ["ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException"] {
        let (mut driven, mut waiting, transmit) = two_under_way(&config());
        refuse(&mut driven, &transmit, 400, code, "slow down");
        both_delivered_after(&mut driven, &mut waiting, (code, false));
    }
}

#[test]
fn a_request_that_was_throttled_whole_fails_if_that_is_wanted() {
    let (mut driven, mut waiting, transmit) = two_under_way(&Config { fail_if_throttled: true, ..config() });
    refuse(&mut driven, &transmit, 400, "LimitExceededException", "slow down");
    both_failed(&mut waiting, "LimitExceededException", &[("LimitExceededException", false)]);
}

#[test]
fn refused_credentials_are_renewed_and_tried_again_within_the_grace_time() {
    for code in
        ["UnrecognizedClientException", "ExpiredTokenException", "AccessDeniedException", "KMSDisabledException"]
    {
        let (mut driven, mut waiting, transmit) = two_under_way(&Config { auth_grace: GRACE, ..config() });
        refuse(&mut driven, &transmit, 400, code, "no");
        assert_eq!(driven.core.poll_remedy_wanted(), Some(Remedy::Credentials));
        driven.core.handle_signer_changed(driven.now);
        let again = driven.turn().expect("at once, with the others");
        store(&mut driven, &again);
        for handle in &mut waiting {
            assert_eq!(failed(end(handle).expect("delivered").attempts()), [(code.to_owned(), false)]);
        }
    }
}

#[test]
fn credentials_that_stay_refused_fail_with_their_code_after_the_grace_time() {
    let (mut driven, mut waiting, mut transmit) = two_under_way(&Config { auth_grace: GRACE, ..config() });
    let first = driven.now;
    while outcome(&mut waiting[0]).is_none() {
        refuse(&mut driven, &transmit, 400, "AccessDeniedException", "no");
        match driven.now.since(first) < GRACE {
            true => transmit = send_later(&mut driven).0,
            false => break,
        }
    }
    let failure = end(&mut waiting[1]).expect_err("the grace time is over");
    assert_eq!(failure.code().as_str(), "AccessDeniedException");
    assert!(failure.attempts().len() > 2 && !failure.may_be_stored(), "{failure:?}");
    let tried = failure.attempts().last().expect("attempts").ended.since(failure.attempts()[0].ended);
    assert!((GRACE..GRACE + Duration::from_secs(3)).contains(&tried), "for {tried:?}");
}

#[test]
fn a_refused_signature_asks_for_the_clock_first() {
    for code in ["InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired", "IncompleteSignature"] {
        let (mut driven, mut waiting, transmit) = two_under_way(&config());
        refuse(&mut driven, &transmit, 403, code, "no");
        assert_eq!(driven.core.poll_remedy_wanted(), Some(Remedy::Clock));
        driven.core.handle_signer_changed(driven.now);
        let again = driven.turn().expect("at once");
        store(&mut driven, &again);
        assert!(waiting.iter_mut().all(|handle| end(handle).is_ok()));
    }
}

#[test]
fn a_missing_stream_refreshes_the_map_and_fails_after_the_grace_time() {
    let (mut driven, mut waiting, transmit) = two_under_way(&Config { auth_grace: GRACE, ..config() });
    refuse(&mut driven, &transmit, 400, "ResourceNotFoundException", "Stream not found");
    assert_eq!(driven.core.poll_map_wanted(), Some(StreamId(0)));
    let (transmit, _) = send_later(&mut driven);
    driven.pass(GRACE);
    refuse(&mut driven, &transmit, 400, "ResourceNotFoundException", "Stream not found");
    let attempts = [("ResourceNotFoundException", false); 2];
    both_failed(&mut waiting, "ResourceNotFoundException", &attempts);
}

#[test]
fn a_request_that_is_too_large_is_halved_and_so_are_those_after_it() {
    let mut driven = Driven::new(&Config { aggregation_enabled: false, ..config() }, 1);
    let mut waiting: Vec<_> = (0..64).map(|_| put(&mut driven, 0)).collect();
    let transmit = send(&mut driven);
    assert_eq!(transmit.kinesis_records, 64);
    refuse(&mut driven, &transmit, 413, "RequestEntityTooLargeException", "too large");
    let half = driven.turn().expect("at once");
    assert_eq!(half.kinesis_records, 32);
    refuse(&mut driven, &half, 413, "RequestEntityTooLargeException", "too large");
    let mut requests = 0;
    while let Some(quarter) = driven.turn() {
        assert_eq!(quarter.kinesis_records, 16, "the endpoint's limit is remembered");
        store(&mut driven, &quarter);
        requests += 1;
    }
    assert_eq!(requests, 4);
    for handle in &mut waiting {
        let delivered = end(handle).expect("nobody is at fault");
        assert!((1..=2).contains(&failed(delivered.attempts()).len()) && !delivered.may_be_duplicated());
    }
}

#[test]
fn a_record_that_is_too_large_for_the_endpoint_alone_fails() {
    let mut driven = Driven::new(&config(), 1);
    let mut handle = put(&mut driven, 0);
    let transmit = send(&mut driven);
    refuse(&mut driven, &transmit, 413, "RequestEntityTooLargeException", "too large");
    let failure = end(&mut handle).expect_err("it cannot be halved");
    assert_eq!((failure.code().as_str(), failure.may_be_stored()), ("RequestEntityTooLargeException", false));
    let mut handle = put(&mut driven, 0);
    let transmit = send(&mut driven);
    store(&mut driven, &transmit);
    assert!(end(&mut handle).is_ok(), "others go on");
}

/// Fails every request until `end`; answers how many there were.
fn outage(driven: &mut Driven, lasts: Duration, mut each: impl FnMut(&mut Driven)) -> usize {
    let until = driven.now + lasts;
    let mut requests = 0;
    while driven.now < until {
        each(driven);
        let mut transmits = driven.turn_all();
        requests += transmits.len();
        for transmit in transmits.drain(..) {
            lose(driven, &transmit, ErrorCode::Connect, false);
        }
        driven.pass(Duration::from_millis(5));
    }
    requests
}

#[test]
fn in_an_outage_a_stream_asks_as_rarely_with_many_shards_as_with_one() {
    for shards in [1, 8, 256] {
        let mut driven = Driven::new(&config(), shards);
        let mut waiting = Vec::new();
        let mut shard = 0;
        let requests = outage(&mut driven, Duration::from_secs(20), |driven| {
            // Shard after shard, so that each would begin a chain of retries of its own.
            waiting.push(put(driven, shard % shards));
            shard += 1;
        });
        // Full jitter from 50 ms to 2 s: some five requests until the cap is reached, and one a second from then on.
        assert!((8..50).contains(&requests), "{requests} requests with {shards} shards");
        let mut healed = driven.now;
        while waiting.iter_mut().any(|handle| outcome(handle).is_none()) {
            for transmit in driven.turn_all() {
                healed = driven.now;
                store(&mut driven, &transmit);
            }
            driven.pass(Duration::from_millis(5));
            assert!(driven.now.since(healed) < Duration::from_secs(5), "it goes on once it is over");
        }
    }
}

#[test]
fn one_failure_between_successes_gates_nobody() {
    let mut driven = Driven::new(&config(), 2);
    for _ in 0..5 {
        let mut waiting = [put(&mut driven, 0)];
        let transmit = send(&mut driven);
        lose(&mut driven, &transmit, ErrorCode::Timeout, true);
        // The other shard is not held up.
        let mut other = put(&mut driven, 1);
        let transmit = send(&mut driven);
        store(&mut driven, &transmit);
        assert!(end(&mut other).is_ok());
        if outcome(&mut waiting[0]).is_none() {
            let (transmit, _) = send_later(&mut driven);
            store(&mut driven, &transmit);
        }
    }
}

#[test]
fn aggregates_that_are_sent_next_are_hashed_with_those_that_leave() {
    let config = Config { rate_limit: RateLimit::Off, ..Config::default() };
    let mut driven = Driven::new(&config, 8);
    // Some 24 aggregates of 50 KiB: enough for two requests of half the size, and for lanes that more than one of them fills.
    for number in 0..11_000 {
        let ticket = driven.slots.take_lone();
        driven.put(ticket, &Record::new(&format!("key-{number}"), &[7; 100]));
    }
    let requests = driven.turn_all();
    let blocks: Vec<u64> = requests.iter().map(|request| request.digested.blocks).collect();
    let records: Vec<usize> = requests.iter().map(|request| request.kinesis_records).collect();
    assert!(requests.len() >= 2 && records[0] >= 8 && records[1] >= 8, "{records:?}");
    let (first, second) = (blocks[0] as usize / records[0], blocks[1] as usize / records[1]);
    assert!(first > 800 && second < 800, "blocks of 64 bytes, an aggregate that leaves: {first}, then {second}");
}
