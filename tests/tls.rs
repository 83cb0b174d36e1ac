//! TLS the whole way, good and bad: the public face against the embedded endpoint with certificates of its own.
//!
//! Every chain is made for its test, so that no machine's roots know it. What cannot be trusted must fail within the
//! records' time to live, and say why.

use std::time::Duration;

use endpoint::{Endpoint, EndpointConfig, Flaw, TlsOptions};
use kpl::{ErrorCode, Producer, ProducerBuilder, Record, StartError, StaticCredentials, TlsRoots};

fn builder(url: &str) -> ProducerBuilder {
    let (access_key_id, secret_access_key) = ("test".into(), "test".into());
    let credentials = StaticCredentials { access_key_id, secret_access_key, session_token: None };
    Producer::builder().region("us-east-1").endpoint_url(url).credentials(credentials)
}

fn serve(tls: Option<TlsOptions>) -> Endpoint {
    let streams = vec![("orders".to_owned(), 4)];
    Endpoint::start(EndpointConfig { tls, streams, ..EndpointConfig::emulator() }).expect("endpoint")
}

fn good() -> TlsOptions {
    TlsOptions::new().expect("a chain")
}

fn pem(authority: &str) -> TlsRoots {
    TlsRoots::Pem(authority.as_bytes().to_vec())
}

/// Puts a record to `url`, and sees it delivered.
fn deliver(builder: ProducerBuilder) {
    let producer = builder.build().expect("producer");
    let stream = producer.stream("orders").expect("stream");
    let outcome = producer.put(&stream, Record::new("customer-7", "an order")).expect("put");
    outcome.wait().expect("delivered");
    let counts = producer.close(Duration::from_secs(5)).wait();
    assert_eq!((counts.accepted, counts.delivered, counts.failed), (1, 1, 0));
}

/// Puts a record to where it cannot be delivered; what its failure says, and what the producer's health says.
fn fail(builder: ProducerBuilder) -> (String, String) {
    let producer = builder.record_ttl(Duration::from_secs(2)).build().expect("producer");
    let stream = producer.stream("orders").expect("stream");
    let outcome = producer.put(&stream, Record::new("customer-7", "an order")).expect("put");
    let failure = outcome.wait().expect_err("nobody to trust");
    assert_eq!(failure.code(), &ErrorCode::Expired);
    (failure.to_string(), producer.health().last_error.expect("an error"))
}

/// What both must say of a failed handshake.
fn assert_told((failure, health): (String, String), cause: &str) {
    for text in [failure, health] {
        assert!(text.contains("Tls: no TLS with 127.0.0.1: ") && text.contains(cause), "{text}");
    }
}

#[test]
fn a_record_is_delivered_over_tls_by_address_and_by_name() {
    let endpoint = serve(Some(good()));
    let roots = pem(endpoint.ca_pem().expect("TLS"));
    let by_name = format!("https://localhost:{}", endpoint.address().port());
    deliver(builder(&endpoint.url()).tls_roots(roots.clone()));
    deliver(builder(&by_name).tls_roots(roots));
    assert_eq!(endpoint.read_stream("orders").expect("read").len(), 2);
}

#[test]
fn the_second_connection_of_a_producer_resumes_the_session_of_the_first() {
    let endpoint = serve(Some(good()));
    // The control thread's connection is the first, and the core's is the second.
    deliver(builder(&endpoint.url()).tls_roots(pem(endpoint.ca_pem().expect("TLS"))));
    let stats = endpoint.stats();
    assert_eq!((stats.connections, stats.tls_resumptions), (2, 1), "{stats:?}");
}

#[test]
fn a_large_record_goes_through_the_bounded_buffer_of_tls() {
    let endpoint = serve(Some(good()));
    let roots = pem(endpoint.ca_pem().expect("TLS"));
    let producer = builder(&endpoint.url()).tls_roots(roots).build().expect("producer");
    let stream = producer.stream("orders").expect("stream");
    let data: Vec<u8> = (0..900 << 10).map(|index: u32| (index % 251) as u8).collect();
    let outcome = producer.put(&stream, Record::new("customer-7", &data)).expect("put");
    outcome.wait().expect("delivered");
    assert!(endpoint.read_stream("orders").expect("read")[0].data == data, "the record is as it was put");
}

#[test]
fn an_expired_certificate_is_named_as_that() {
    let endpoint = serve(Some(TlsOptions::flawed(Flaw::Expired).expect("a chain")));
    let roots = pem(endpoint.ca_pem().expect("TLS"));
    assert_told(fail(builder(&endpoint.url()).tls_roots(roots)), "has expired");
}

#[test]
fn a_certificate_for_another_host_is_named_as_that() {
    let endpoint = serve(Some(TlsOptions::flawed(Flaw::WrongHost).expect("a chain")));
    let roots = pem(endpoint.ca_pem().expect("TLS"));
    assert_told(fail(builder(&endpoint.url()).tls_roots(roots)), "is for another host");
}

#[test]
fn a_self_signed_certificate_is_not_trusted() {
    let endpoint = serve(Some(TlsOptions::flawed(Flaw::SelfSigned).expect("a chain")));
    let roots = pem(endpoint.ca_pem().expect("TLS"));
    assert_told(fail(builder(&endpoint.url()).tls_roots(roots)), "is self-signed, or its issuer");
}

#[test]
fn an_authority_that_was_not_given_is_not_trusted() {
    let endpoint = serve(Some(good()));
    assert_told(fail(builder(&endpoint.url()).tls_roots(pem(good().ca_pem()))), "none of the trusted roots");
    assert_told(fail(builder(&endpoint.url())), "none of the trusted roots");
}

#[test]
fn a_plain_server_on_a_tls_port_is_named_as_that() {
    let endpoint = serve(None);
    let url = endpoint.url().replace("http://", "https://");
    assert_told(fail(builder(&url).tls_roots(pem(good().ca_pem()))), "does not speak TLS");
}

#[test]
fn verification_is_off_only_by_the_option_that_says_so() {
    for flaw in [Flaw::Expired, Flaw::WrongHost, Flaw::SelfSigned] {
        let endpoint = serve(Some(TlsOptions::flawed(flaw).expect("a chain")));
        deliver(builder(&endpoint.url()).danger_accept_invalid_certificates(true));
    }
}

#[test]
fn roots_that_cannot_be_read_are_a_fault_of_the_configuration_told_with_the_others() {
    let build = |roots| builder("https://localhost").tls_roots(roots).cores(0).build();
    for roots in [TlsRoots::Pem(b"not PEM".to_vec()), TlsRoots::Pem(Vec::new()), TlsRoots::Der(Vec::new())] {
        let Err(StartError::Config(error)) = build(roots) else { panic!("no certificates") };
        let fields: Vec<_> = error.faults.iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["cores", "tls_roots"]);
    }
}
