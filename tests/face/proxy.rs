//! Through a proxy: tunnels for TLS, absolute targets in the clear, credentials, refusals, and the environment's rules.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use endpoint::{Endpoint, EndpointConfig, Flaw, TlsOptions};
use kpl::{AttemptResult, ErrorCode, Failure, ProducerBuilder, ProxyChoice, Record, RecordDistribution, TlsRoots};

use super::world::{LIMIT, Worker, builder, close, credentials, delivered, emulator, failed, ms, start, work};
use crate::process::{as_child, run_child};
use crate::relay::{Manner, Relay};

/// A host that nobody can look up.
const URL: &str = "http://kinesis.test:4567";
/// The host that the endpoint's certificate is for.
const TLS_URL: &str = "https://elsewhere.test";
const USER: &str = "Aladdin:open%20sesame";
/// As RFC 7617 has it.
const AUTHORIZATION: &str = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";

fn demanding() -> Manner {
    Manner { demands: Some(AUTHORIZATION.to_owned()), ..Manner::default() }
}

fn saying(says: &str) -> Manner {
    Manner { says: Some(says.to_owned()), ..Manner::default() }
}

fn tls_emulator() -> Endpoint {
    let tls = Some(TlsOptions::flawed(Flaw::WrongHost).expect("a chain"));
    start(&[("s", 2)], EndpointConfig { tls, ..EndpointConfig::emulator() })
}

/// A producer for an endpoint, in the clear or not, behind a proxy.
fn behind(proxy: &str, endpoint: &Endpoint) -> ProducerBuilder {
    let build = match endpoint.ca_pem() {
        None => builder(URL),
        Some(pem) => builder(TLS_URL).tls_roots(TlsRoots::Pem(pem.as_bytes().to_vec())),
    };
    build.proxy(ProxyChoice::Url(proxy.to_owned()))
}

/// Delivers one record, with one request for the shards and one for it.
fn deliver(build: ProducerBuilder) {
    let producer = build.record_distribution(RecordDistribution::UserKey).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    delivered(producer.put(&stream, Record::new("k", "d")).expect("a put"));
    assert_eq!(close(&producer).delivered, 1);
}

/// The targets of the requests that a proxy got, sorted.
fn targets(relay: &Relay) -> Vec<String> {
    let first_line = |head: &String| head.lines().next().expect("a line").to_owned();
    let mut targets: Vec<_> = relay.heads().iter().map(first_line).collect();
    targets.sort_unstable();
    targets
}

#[test]
fn records_and_shard_lists_go_through_a_tunnel_with_tls_inside() {
    let endpoint = tls_emulator();
    let relay = Relay::start(endpoint.address(), Manner::default());
    deliver(behind(&relay.url(""), &endpoint));
    // The control thread's and the core's.
    assert_eq!(targets(&relay), ["CONNECT elsewhere.test:443 HTTP/1.1"; 2]);
    assert!(relay.heads().iter().all(|head| head.contains("Host: elsewhere.test:443\r\n")), "{:?}", relay.heads());
    assert_eq!(endpoint.read_stream("s").expect("read").len(), 1);
}

#[test]
fn records_and_shard_lists_in_the_clear_are_forwarded_by_absolute_targets() {
    let endpoint = emulator(&[("s", 2)]);
    let relay = Relay::start(endpoint.address(), Manner::default());
    deliver(behind(&relay.url(""), &endpoint));
    assert_eq!(targets(&relay), ["POST http://kinesis.test:4567/ HTTP/1.1"; 2]);
    for operation in ["Kinesis_20131202.ListShards", "Kinesis_20131202.PutRecords"] {
        assert!(relay.heads().iter().any(|head| head.contains(operation)), "{operation}: {:?}", relay.heads());
    }
    assert!(relay.heads().iter().all(|head| head.contains("host: kinesis.test:4567\r\n")), "{:?}", relay.heads());
}

#[test]
fn credentials_are_shown_to_the_proxy_that_demands_them() {
    for endpoint in [tls_emulator(), emulator(&[("s", 2)])] {
        let relay = Relay::start(endpoint.address(), demanding());
        deliver(behind(&relay.url(USER), &endpoint));
        assert_eq!(relay.heads().len(), 2);
    }
}

#[test]
fn a_proxy_that_refuses_the_shard_list_says_so_in_the_records_failure() {
    for endpoint in [tls_emulator(), emulator(&[("s", 2)])] {
        let relay = Relay::start(endpoint.address(), demanding());
        let build = behind(&relay.url("me:hush"), &endpoint).record_ttl(Duration::from_secs(2));
        let producer = build.build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let failure = failed(producer.put(&stream, Record::new("k", "d")).expect("a put"));
        let health = producer.health().last_error.expect("an error");
        for text in [failure.to_string(), health] {
            assert!(text.contains("Proxy: proxy 127.0.0.1:"), "{text}");
            assert!(text.contains("407 Proxy Authentication Required") && !text.contains("hush"), "{text}");
        }
    }
}

/// What comes of a record that is put when the shards are known and the proxy behaves otherwise from then on; without a
/// manner it is gone.
fn put_when_it_has_turned(endpoint: &Endpoint, manner: Option<Manner>) -> Failure {
    let mut relay = Some(Relay::start(endpoint.address(), Manner::default()));
    let url = relay.as_ref().map(|relay| relay.url("me:hush")).unwrap_or_default();
    let build = behind(&url, endpoint).record_ttl(Duration::from_secs(2));
    // Of one that never answers, a busy machine makes no other.
    let is_silent = manner.as_ref().is_some_and(|manner| manner.says.as_deref() == Some(""));
    let build = if is_silent { build.connect_timeout(ms(200)) } else { build };
    let producer = build.build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    stream.ready().wait_timeout(LIMIT).expect("shards in time").expect("shards");
    match manner {
        Some(manner) => relay.as_ref().expect("it is there").behave(manner),
        None => relay = None,
    }
    let failure = failed(producer.put(&stream, Record::new("k", "d")).expect("a put"));
    drop(relay);
    assert!(!format!("{failure} {failure:?}").contains("hush"), "{failure}");
    failure
}

/// Every try failed for the proxy, surely without being stored, and with these words.
fn assert_for_the_proxy(failure: &Failure, words: &str) {
    assert_eq!(failure.code(), &ErrorCode::Expired);
    assert!(!failure.may_be_stored(), "{failure}");
    let (_expiry, tries) = failure.attempts().split_last().expect("it expired");
    assert!(!tries.is_empty(), "{failure}");
    for attempt in tries {
        let AttemptResult::Failed { code, message, ambiguous } = &attempt.result else { panic!("{attempt:?}") };
        assert_eq!((code.as_str(), ambiguous), ("Proxy", &false), "{message}");
        assert!(message.contains("proxy 127.0.0.1:") && message.contains(words), "{message}");
    }
}

#[test]
fn a_proxy_that_opens_no_tunnel_fails_attempts_with_its_status() {
    let cases = [
        ("HTTP/1.1 407 me:hush\r\n\r\n", "refuses a tunnel to elsewhere.test:443: 407 Proxy Authentication Required"),
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\n\r\nhush", "443: 403 Forbidden"),
        ("HTTP/1.0 502 Bad Gateway\r\n\r\n", "443: 502 Bad Gateway"),
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n", "what is no HTTP"),
        ("HTTP/1.1 200 OK\r\n\r\n<html>", "what is no HTTP"),
        ("HTTP/1.1 200 O", "hung up"),
        ("", "no tunnel through proxy"),
    ];
    // Each waits for its record to expire.
    let tried = cases.map(|(answer, words)| {
        work(move || assert_for_the_proxy(&put_when_it_has_turned(&tls_emulator(), Some(saying(answer))), words))
    });
    tried.into_iter().for_each(Worker::done);
}

#[test]
fn a_proxy_that_forwards_nothing_to_strangers_fails_attempts() {
    let failure = put_when_it_has_turned(&emulator(&[("s", 2)]), Some(demanding()));
    assert_for_the_proxy(&failure, "refuses a request: 407 Proxy Authentication Required");
}

#[test]
fn a_proxy_that_is_gone_fails_attempts() {
    for endpoint in [tls_emulator(), emulator(&[("s", 2)])] {
        assert_for_the_proxy(&put_when_it_has_turned(&endpoint, None), "no connection to proxy");
    }
}

#[test]
fn a_record_is_delivered_when_the_proxy_has_come_round() {
    for endpoint in [tls_emulator(), emulator(&[("s", 2)])] {
        let relay = Arc::new(Relay::start(endpoint.address(), demanding()));
        let producer = behind(&relay.url("me:hush"), &endpoint).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let outcome = producer.put(&stream, Record::new("k", "d")).expect("a put");
        let asked = Arc::clone(&relay);
        let refused = work(move || {
            while asked.heads().is_empty() {
                std::thread::yield_now();
            }
        });
        refused.done();
        relay.behave(Manner::default());
        delivered(outcome);
    }
}

#[test]
fn a_proxy_that_is_switched_off_is_not_asked() {
    let endpoint = emulator(&[("s", 2)]);
    deliver(builder(&endpoint.url()).proxy(ProxyChoice::Off));
}

#[test]
fn what_is_no_proxy_is_a_fault_of_the_configuration_told_with_the_others() {
    let build = builder(URL).proxy(ProxyChoice::Url("https://me:hush@proxy:3128".into())).cores(0);
    let text = build.build().expect_err("two faults").to_string();
    assert!(text.contains("cores is 0") && text.contains("proxy is \"https://***@proxy:3128\", but must be"), "{text}");
}

/// Delivers a record to `url` in a process with these variables and no others that concern proxies; what the relay got.
fn deliver_in(test: &str, endpoint: SocketAddr, url: &str, variables: &[(&str, bool)]) -> usize {
    let relay = Relay::start(endpoint, Manner::default());
    let proxy = relay.url("");
    let host = url.trim_start_matches("http://");
    let values: Vec<_> =
        variables.iter().map(|(name, is_proxy)| (*name, if *is_proxy { &*proxy } else { host })).collect();
    assert!(run_child(test, url, &values).success(), "{url} {values:?}");
    relay.heads().len()
}

#[test]
fn the_environments_proxy_is_used_but_for_whom_it_exempts() {
    const TEST: &str = "face::proxy::the_environments_proxy_is_used_but_for_whom_it_exempts";
    if let Some(url) = as_child(TEST) {
        return deliver(builder(&url));
    }
    let endpoint = emulator(&[("s", 2)]);
    let address = endpoint.address();
    let by_loopback = endpoint.url();
    // Leads here too, and is no loopback address.
    let url = format!("http://0.0.0.0:{}", address.port());
    for (url, variables, requests) in [
        (&url, &[("http_proxy", true)][..], 2),
        (&url, &[("ALL_PROXY", true)], 2),
        (&url, &[("HTTP_PROXY", true), ("HTTPS_PROXY", true)], 0),
        (&url, &[("http_proxy", true), ("NO_PROXY", false)], 0),
        (&url, &[("all_proxy", true), ("no_proxy", false)], 0),
        (&by_loopback, &[("http_proxy", true)], 0),
    ] {
        assert_eq!(deliver_in(TEST, address, url, variables), requests, "{url} {variables:?}");
    }
}

#[test]
fn the_environment_chooses_among_awss_endpoints_and_the_proxy_that_leads_there() {
    const TEST: &str = "face::proxy::the_environment_chooses_among_awss_endpoints_and_the_proxy_that_leads_there";
    if let Some(words) = as_child(TEST) {
        let build = kpl::Producer::builder().region("us-east-1").credentials(credentials("test", "test"));
        let producer = build.runtime(crate::RUNTIME).record_ttl(Duration::from_secs(2)).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let failure = failed(producer.put(&stream, Record::new("k", "d")).expect("a put")).to_string();
        assert!(failure.contains(&words) && !failure.contains("hush"), "{failure}");
        return;
    }
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    for (variable, target) in [
        ("AWS_USE_FIPS_ENDPOINT", "CONNECT kinesis-fips.us-east-1.amazonaws.com:443 HTTP/1.1"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "CONNECT kinesis.us-east-1.api.aws:443 HTTP/1.1"),
    ] {
        let relay = Relay::start(nowhere, saying("HTTP/1.1 403 Forbidden\r\n\r\n"));
        let variables = [("HTTPS_PROXY", &*relay.url("me:hush")), (variable, "true")];
        assert!(run_child(TEST, "Proxy: proxy 127.0.0.1:", &variables).success(), "{variable}");
        let targets = targets(&relay);
        assert!(!targets.is_empty() && targets.iter().all(|found| found == target), "{targets:?}");
    }
    // Nobody is led past what cannot be a proxy.
    let variables = [("HTTPS_PROXY", "https://me:hush@127.0.0.1:1")];
    let words = "HTTPS_PROXY is \"https://***@127.0.0.1:1\", but must be http://";
    assert!(run_child(TEST, words, &variables).success());
}
