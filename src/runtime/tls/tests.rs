//! Connections over TLS, against the embedded endpoint and against peers that speak something else.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use endpoint::{Action, Endpoint, EndpointConfig, Flaw, TlsOptions};
use http::Request;
use http_body_util::Full;

use super::*;
use crate::config::{Config, TlsRoots};
use crate::engine::TransportFailure;
use crate::outcome::ErrorCode;
use crate::runtime::Runtime;
use crate::runtime::connection::{Connection, Target};
use crate::runtime::testing::{listen, on_each_runtime, unblocked};

const LONG: Duration = Duration::from_secs(10);

fn good() -> TlsOptions {
    TlsOptions::new().expect("a chain")
}

fn sink(tls: TlsOptions) -> Endpoint {
    Endpoint::start(EndpointConfig { tls: Some(tls), ..EndpointConfig::sink(4) }).expect("an endpoint")
}

/// TLS that trusts one authority.
fn trusting(authority: &str) -> Tls {
    let config = Config { tls_roots: TlsRoots::Pem(authority.as_bytes().to_vec()), ..Config::default() };
    let config = trust::client_config(&config).expect("an authority").expect("TLS");
    Tls::with(config, "localhost").expect("a name")
}

fn target(address: SocketAddr, tls: Tls) -> Target {
    Target { addresses: [address].into(), host: "localhost".into(), port: 443, tls: Some(tls), proxy: None }
}

fn trusting_target(endpoint: &Endpoint) -> Target {
    target(endpoint.address(), trusting(endpoint.ca_pem().expect("TLS")))
}

fn list_shards() -> Request<Full<Bytes>> {
    Request::post("/")
        .header("host", "localhost")
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", "Kinesis_20131202.ListShards")
        .body(Full::new(r#"{"StreamName":"clicks"}"#.into()))
        .expect("a request")
}

async fn refused(runtime: impl Runtime, target: &Target, timeout: Duration) -> TransportFailure {
    let failure = Connection::<_>::open(runtime, target, timeout).await.err().expect("no handshake");
    assert_eq!((failure.code.clone(), failure.bytes_sent), (ErrorCode::Tls, false), "{failure:?}");
    failure
}

async fn a_connection_carries_many_requests(runtime: impl Runtime) {
    let endpoint = sink(good());
    let mut connection = Connection::open(runtime, &trusting_target(&endpoint), LONG).await.expect("a connection");
    for _ in 0..3 {
        let answer = connection.send(list_shards(), LONG).await.expect("an answer");
        assert_eq!(answer.status, 200);
    }
    assert_eq!(endpoint.stats().connections, 1);
}

async fn what_cannot_be_trusted_is_refused_with_its_cause(runtime: impl Runtime) {
    for (flaw, cause) in [
        (Flaw::Expired, "has expired"),
        (Flaw::WrongHost, "is for another host"),
        (Flaw::SelfSigned, "is self-signed, or its issuer is none of the trusted roots"),
    ] {
        let endpoint = sink(TlsOptions::flawed(flaw).expect("a chain"));
        let message = refused(runtime, &trusting_target(&endpoint), LONG).await.message;
        assert!(message.starts_with("no TLS with localhost: ") && message.contains(cause), "{message}");
    }
    let endpoint = sink(good());
    let message = refused(runtime, &target(endpoint.address(), trusting(good().ca_pem())), LONG).await.message;
    assert!(message.contains("none of the trusted roots"), "{message}");
}

async fn a_server_that_answers_in_the_clear_does_not_speak_tls(runtime: impl Runtime) {
    let endpoint = Endpoint::start(EndpointConfig::sink(4)).expect("an endpoint");
    let message = refused(runtime, &target(endpoint.address(), trusting(good().ca_pem())), LONG).await.message;
    assert!(message.contains("does not speak TLS on this port"), "{message}");
}

async fn a_server_that_says_nothing_is_given_up_with_the_connect_timeout(runtime: impl Runtime) {
    let (_listener, address) = listen();
    let failure = refused(runtime, &target(address, trusting(good().ca_pem())), Duration::from_millis(20)).await;
    assert!(failure.message.contains("no handshake within 20ms"), "{failure:?}");
}

async fn a_server_that_hangs_up_within_the_handshake_is_named_as_that(runtime: impl Runtime) {
    let (listener, address) = listen();
    runtime.spawn_local(async move { drop(unblocked(runtime, || listener.accept()).await) });
    let message = refused(runtime, &target(address, trusting(good().ca_pem())), LONG).await.message;
    assert!(message.contains("ended within the handshake"), "{message}");
}

async fn a_later_handshake_resumes_the_session(runtime: impl Runtime) {
    let endpoint = sink(good());
    let target = trusting_target(&endpoint);
    let tls = target.tls.clone().expect("TLS");
    let mut first = Connection::open(runtime, &target, LONG).await.expect("a connection");
    // The server's ticket comes with its first answer.
    first.send(list_shards(), LONG).await.expect("an answer");
    let stream = runtime.connect(endpoint.address()).await.expect("a stream");
    assert!(TlsStream::handshake(stream, &tls).await.expect("a handshake").is_resumed());
    let stream = runtime.connect(endpoint.address()).await.expect("a stream");
    let stranger = trusting(endpoint.ca_pem().expect("TLS"));
    assert!(!TlsStream::handshake(stream, &stranger).await.expect("a handshake").is_resumed());
}

async fn an_answer_that_is_cut_off_is_a_reset(runtime: impl Runtime) {
    for action in [Action::TruncateBody, Action::CloseConnection, Action::ResetConnection] {
        let script = Some(Box::new(move |_: &endpoint::RequestInfo<'_>| action.clone()) as endpoint::Script);
        let config = EndpointConfig { tls: Some(good()), script, ..EndpointConfig::sink(4) };
        let endpoint = Endpoint::start(config).expect("an endpoint");
        let mut connection = Connection::open(runtime, &trusting_target(&endpoint), LONG).await.expect("a connection");
        let failure = connection.send(list_shards(), LONG).await.unwrap_err();
        assert_eq!((failure.code.clone(), failure.bytes_sent), (ErrorCode::Reset, true), "{failure:?}");
    }
}

async fn a_request_on_a_connection_that_went_stale_is_not_sent(runtime: impl Runtime) {
    let endpoint = sink(good());
    let mut connection = Connection::open(runtime, &trusting_target(&endpoint), LONG).await.expect("a connection");
    connection.send(list_shards(), LONG).await.expect("an answer");
    drop(endpoint);
    while connection.is_open() {
        runtime.yield_now().await;
    }
    let failure = connection.send(list_shards(), LONG).await.unwrap_err();
    assert_eq!((failure.code.clone(), failure.bytes_sent), (ErrorCode::Reset, false), "{failure:?}");
}

#[test]
fn a_host_that_no_certificate_can_name_is_refused() {
    let error = Tls::with(trusting(good().ca_pem()).config, "a b").expect_err("no name");
    assert!(error.starts_with("no TLS with a b: "), "{error}");
}

on_each_runtime! {
    a_connection_carries_many_requests
    what_cannot_be_trusted_is_refused_with_its_cause
    a_server_that_answers_in_the_clear_does_not_speak_tls
    a_server_that_says_nothing_is_given_up_with_the_connect_timeout
    a_server_that_hangs_up_within_the_handshake_is_named_as_that
    a_later_handshake_resumes_the_session
    an_answer_that_is_cut_off_is_a_reset
    a_request_on_a_connection_that_went_stale_is_not_sent
}
