//! The endpoint from outside: over its socket, signed by AWS's own crate.

mod client;
mod emulator;
mod faults;
mod script;
mod signature;
mod sink;

use client::{Answer, CBOR, Call, Client, JSON, Record, Signer, cbor_body, json_body};
use endpoint::{Action, Credentials, Endpoint, EndpointConfig, RequestInfo};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

fn emulator() -> (Endpoint, Client) {
    let mut config = EndpointConfig::emulator();
    config.streams.push(("s".to_owned(), 2));
    start(config)
}

fn sink(shards: u32) -> (Endpoint, Client) {
    start(EndpointConfig::sink(shards))
}

fn start(config: EndpointConfig) -> (Endpoint, Client) {
    let endpoint = Endpoint::start(config).unwrap();
    let client = Client::connect(endpoint.address());
    (endpoint, client)
}

fn scripted(script: impl Fn(&RequestInfo<'_>) -> Action + Send + Sync + 'static) -> (Endpoint, Client) {
    let mut config = EndpointConfig::sink(1);
    config.script = Some(Box::new(script));
    start(config)
}

fn put() -> Call {
    Call::new("PutRecords", CBOR, cbor_body("s", &[Record { data: b"data", key: "key", hash: None }]))
}

fn read_cbor(answer: &Answer) -> Value {
    assert_eq!(answer.header("content-type"), Some(CBOR));
    ciborium::from_reader(&answer.body[..]).unwrap()
}

#[test]
fn a_body_past_the_bound_is_answered_413_and_the_connection_lives() {
    let mut config = EndpointConfig::sink(1);
    config.body_bytes_max = 1000;
    let (_endpoint, mut client) = start(config);
    let data = vec![0; 1 << 20];
    let large = Call::new("PutRecords", CBOR, cbor_body("s", &[Record { data: &data, key: "k", hash: None }]));
    assert_eq!(client.send(&large).unwrap().status, 413);
    assert_eq!(client.send(&put()).unwrap().status, 200);
}

#[test]
fn a_bad_start_is_an_error_and_a_dropped_endpoint_is_gone() {
    assert!(Endpoint::start(EndpointConfig::sink(0)).is_err());
    let (endpoint, mut client) = sink(1);
    let address = endpoint.address();
    assert_eq!(endpoint.url(), format!("http://{address}"));
    let mut config = EndpointConfig::sink(1);
    config.port = address.port();
    assert!(Endpoint::start(config).is_err(), "the port is taken");
    drop(endpoint);
    assert!(client.send(&put()).is_err());
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn an_endpoint_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Endpoint>();
}

#[test]
fn a_process_that_is_an_endpoint_tells_its_address() {
    let (send, receive) = std::sync::mpsc::channel();
    // It serves until the test's process ends.
    std::thread::spawn(move || endpoint::run(EndpointConfig::sink(1), move |address| send.send(address).unwrap()));
    let mut client = Client::connect(receive.recv().unwrap());
    assert_eq!(client.send(&put()).unwrap().status, 200);
}
