//! An endpoint that is not there, does not answer, hangs up, or comes back.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use endpoint::{Action, EndpointConfig};
use kpl::{ErrorCode, Record};

use super::faults::codes;
use super::reader::read;
use super::world::{LIMIT, builder, close, delivered, emulator, failed, hanging, ms, scripted, start, timed, work};

#[test]
fn an_endpoint_that_does_not_answer_costs_its_time_and_leaves_the_outcome_in_doubt() {
    let endpoint = hanging(&[("s", 1)]);
    let build = builder(&endpoint.url()).request_timeout(ms(400)).record_ttl(ms(2_000));
    let producer = build.build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    stream.ready().wait_timeout(LIMIT).expect("an answer").expect("ready");
    let (failure, time) = timed(|| failed(producer.put(&stream, Record::new("k", "d")).expect("a put")));
    let codes = codes(failure.attempts());
    assert_eq!(codes.first(), Some(&(ErrorCode::Timeout, true)), "{failure:?}");
    assert_eq!(*failure.code(), ErrorCode::Expired);
    assert!(failure.may_be_stored());
    assert!(time >= ms(1_990) && time < LIMIT / 2, "{time:?}");
    close(&producer);
}

#[test]
fn a_timeout_is_retried_on_a_fresh_connection() {
    let endpoint = scripted(&[("s", 1)], |request| match request.index {
        0 => Action::Delay(Duration::from_secs(3600)),
        _ => Action::Pass,
    });
    let producer = builder(&endpoint.url()).request_timeout(ms(150)).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let delivered = delivered(producer.put(&stream, Record::new("k", "d")).expect("a put"));
    let codes = codes(delivered.attempts());
    // A busy machine may cost further ones.
    assert!(!codes.is_empty() && codes.iter().all(|code| *code == (ErrorCode::Timeout, true)), "{codes:?}");
    assert!(delivered.may_be_duplicated());
    close(&producer);
}

/// A port on which nothing listens.
fn dead_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

#[test]
fn an_endpoint_that_refuses_connections_fails_records_at_their_ttl_and_names_the_cause() {
    for cores in [1, 3] {
        let producer = builder(&dead_url()).cores(cores).record_ttl(ms(2_000)).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let outcomes: Vec<_> = (0..20)
            .map(|number| producer.put(&stream, Record::new(&format!("{number}"), "d")).expect("a put"))
            .collect();
        for outcome in outcomes {
            let failure = failed(outcome);
            assert_eq!(*failure.code(), ErrorCode::Expired, "{failure:?}");
            assert!(failure.message().contains("refused"), "{failure}");
            assert_eq!(failure.attempts().len(), 1);
            assert!(!failure.may_be_stored());
        }
        let last_error = producer.health().last_error.expect("it is told");
        assert!(last_error.contains("refused"), "{last_error}");
        assert_eq!(close(&producer).failed, 20);
    }
}

#[test]
fn an_endpoint_whose_name_has_no_address_fails_records_and_names_the_cause() {
    let producer = builder("http://no-such-host.invalid:4567").record_ttl(ms(2_000)).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let failure = failed(producer.put(&stream, Record::new("k", "d")).expect("a put"));
    assert!(failure.to_string().contains("no-such-host.invalid"), "{failure:?}");
    close(&producer);
}

#[test]
fn an_endpoint_that_goes_away_and_comes_back_loses_nothing() {
    let endpoint = emulator(&[("s", 2)]);
    let address = endpoint.address();
    let producer = builder(&endpoint.url()).record_ttl(LIMIT * 2).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    delivered(producer.put(&stream, Record::new("k", "before")).expect("a put"));
    drop(endpoint);
    let outcomes: Vec<_> = (0..10)
        .map(|number| producer.put(&stream, Record::new(&format!("{number}"), "meanwhile")).expect("a put"))
        .collect();
    let waiting = outcomes.into_iter().map(|outcome| outcome.wait_timeout(ms(20)).expect_err("nobody is there"));
    let waiting: Vec<_> = waiting.collect();
    let mut config = EndpointConfig::emulator();
    config.port = address.port();
    let endpoint = start(&[("s", 2)], config);
    for outcome in waiting {
        let codes = codes(delivered(outcome).attempts());
        assert!(codes.iter().all(|(code, _)| matches!(code, ErrorCode::Connect | ErrorCode::Reset)), "{codes:?}");
    }
    assert_eq!(read(&endpoint, "s").len(), 10);
    close(&producer);
}

/// What a listener that drops every connection at once makes of a producer that knows its shards.
#[test]
fn an_endpoint_that_hangs_up_at_once_is_not_hammered() {
    let endpoint = emulator(&[("s", 1)]);
    let address = endpoint.address();
    let build = builder(&endpoint.url()).record_ttl(ms(600)).retry_base_delay(ms(20)).retry_delay_cap(ms(100));
    let producer = build.max_connections_per_core(1).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    stream.ready().wait_timeout(LIMIT).expect("an answer").expect("ready");
    drop(endpoint);
    let listener = TcpListener::bind(address).expect("the endpoint's port");
    let connections = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&connections);
    let doorman = work(move || {
        for connection in listener.incoming() {
            drop(connection);
            // Partner: the additions of the test below; the number alone matters.
            if counted.fetch_add(1, Ordering::Relaxed) >= STOP {
                return;
            }
        }
    });
    let failure = failed(producer.put(&stream, Record::new("k", "d")).expect("a put"));
    // Partner: the addition above.
    let connected = connections.swap(STOP, Ordering::Relaxed);
    assert!((1..200).contains(&connected), "{connected} connections in 600 ms");
    assert_eq!(*failure.code(), ErrorCode::Expired);
    assert!(failure.attempts().len() > 1, "{failure:?}");
    close(&producer);
    drop(std::net::TcpStream::connect(address));
    doorman.done();
}

/// More connections than a test makes.
const STOP: u64 = 1 << 32;

#[test]
fn a_kept_connection_that_the_endpoint_has_closed_is_no_attempt() {
    // The second request is answered on a connection that the first was answered on, or on a fresh one: both are
    // first attempts, as nothing was sent in vain.
    let endpoint = emulator(&[("s", 1)]);
    let address = endpoint.address();
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    delivered(producer.put(&stream, Record::new("k", "d")).expect("a put"));
    drop(endpoint);
    let mut config = EndpointConfig::emulator();
    config.port = address.port();
    let endpoint = start(&[("s", 1)], config);
    let delivered = delivered(producer.put(&stream, Record::new("k", "d")).expect("a put"));
    assert_eq!(delivered.attempts().len(), 1, "{:?}", delivered.attempts());
    assert_eq!(read(&endpoint, "s").len(), 1);
    close(&producer);
}
