//! Credentials that are late, that are rotated, that never come; and clocks that are wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use endpoint::{Action, Credentials as Key, Endpoint, EndpointConfig};
use kpl::credentials::{Credentials, CredentialsError, ProvideCredentials, future};
use kpl::{ErrorCode, Producer, ProducerBuilder, Record, StartError};

use super::faults::codes;
use super::reader::read;
use super::world::{LIMIT, bounded, builder, close, delivered, emulator, failed, ms, start, timed, unsigned};

/// A provider that gives `keys` one after the other, the last for ever, and counts how often it was asked.
#[derive(Debug, Clone)]
struct Keys {
    keys: Vec<Credentials>,
    asked: Arc<AtomicU64>,
    what: What,
}

/// What a provider does.
#[derive(Debug, Clone)]
enum What {
    Gives,
    Refuses,
    Hangs,
    Panics,
    /// Gives once, and hangs from then on.
    HangsLater,
}

impl Keys {
    fn new(what: What, keys: &[Credentials]) -> Keys {
        Keys { keys: keys.to_vec(), asked: Arc::default(), what }
    }

    /// How often it was asked.
    fn asked(&self) -> u64 {
        // Partner: the addition in `answer`; the number alone matters.
        self.asked.load(Ordering::Relaxed)
    }

    async fn answer(&self) -> Result<Credentials, CredentialsError> {
        // Partner: the load in `asked`.
        let asked = self.asked.fetch_add(1, Ordering::Relaxed) as usize;
        match self.what {
            What::Gives => {}
            What::HangsLater if asked == 0 => {}
            What::Refuses => return Err(CredentialsError::not_loaded("the vault is closed")),
            What::Hangs | What::HangsLater => std::future::pending().await,
            What::Panics => panic!("a provider's own fault"),
        }
        Ok(self.keys[asked.min(self.keys.len() - 1)].clone())
    }
}

impl ProvideCredentials for Keys {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.answer())
    }
}

/// Of which no test sees the end.
const HOURS: Duration = Duration::from_secs(20 * 3600);

fn key(id: &str, expiry: Option<SystemTime>) -> Credentials {
    Credentials::new(id, "test", None, expiry, "test")
}

/// A producer that asks `provider`.
fn asking(url: &str, provider: &Keys) -> ProducerBuilder {
    unsigned(url).credentials_provider(provider.clone())
}

/// An emulator that knows the keys `old` and `new`, and calls `old` expired once `rotated`.
fn rotating(rotated: &Arc<AtomicBool>, code: &'static str) -> Endpoint {
    let rotated = Arc::clone(rotated);
    let mut config = EndpointConfig::emulator();
    config.credentials = ["old", "new"].map(|id| Key::new(id, "test")).to_vec();
    config.script = Some(Box::new(move |request| {
        // Partner: the store in the test; one that comes a request later does no harm.
        let expired = request.access_key_id == "old" && rotated.load(Ordering::Relaxed);
        if expired { Action::error(400, code, "not any more") } else { Action::Pass }
    }));
    start(&[("s", 2)], config)
}

fn put_many(producer: &Producer, numbers: std::ops::Range<u32>) -> Vec<kpl::Outcome> {
    let stream = producer.stream("s").expect("a stream");
    numbers.map(|number| producer.put(&stream, Record::new(&format!("{number}"), "data")).expect("a put")).collect()
}

#[test]
fn a_key_that_is_rotated_costs_an_attempt_and_no_record_and_the_provider_is_asked_once() {
    for code in ["ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "AccessDeniedException"] {
        let rotated = Arc::new(AtomicBool::new(false));
        let endpoint = rotating(&rotated, code);
        let provider = Keys::new(What::Gives, &[key("old", None), key("new", None)]);
        // Backoffs of hours: only the new key can be what sends the records again.
        let build = asking(&endpoint.url(), &provider).cores(2).retry_base_delay(HOURS).retry_delay_cap(HOURS);
        let producer = build.record_ttl(LIMIT * 10).auth_grace(LIMIT).build().expect("a producer");
        put_many(&producer, 0..50).into_iter().for_each(|outcome| drop(delivered(outcome)));
        assert_eq!(provider.asked(), 1);
        // Partner: the load in the script.
        rotated.store(true, Ordering::Relaxed);
        for outcome in put_many(&producer, 50..100) {
            let codes = codes(delivered(outcome).attempts());
            assert!(codes.iter().all(|(refused, _)| *refused == ErrorCode::Service(code.into())), "{codes:?}");
        }
        assert_eq!(provider.asked(), 2, "{code}");
        assert_eq!(read(&endpoint, "s").len(), 100);
        close(&producer);
    }
}

#[test]
fn a_key_that_stays_refused_fails_records_at_the_grace_time_and_does_not_storm_the_provider() {
    let mut config = EndpointConfig::emulator();
    // Listing is not refused, so that records are sent.
    config.credentials = vec![Key::new("old", "test")];
    config.script = Some(Box::new(|request| match request.operation {
        "PutRecords" => Action::error(400, "ExpiredTokenException", "not any more"),
        _ => Action::Pass,
    }));
    let endpoint = start(&[("s", 1)], config);
    let provider = Keys::new(What::Gives, &[key("old", None)]);
    let build = asking(&endpoint.url(), &provider).auth_grace(ms(1_500));
    let producer = build.build().expect("a producer");
    let (failure, time) = timed(|| failed(put_many(&producer, 0..1).remove(0)));
    assert_eq!(*failure.code(), ErrorCode::Service("ExpiredTokenException".into()));
    assert!(failure.attempts().len() > 5, "{failure:?}");
    assert!(ms(1_500) <= time && time < LIMIT / 2, "{time:?}");
    assert!((2..=3).contains(&provider.asked()), "asked {} times", provider.asked());
    close(&producer);
}

#[test]
fn credentials_that_expire_are_replaced_ahead_of_it() {
    let endpoint = rotating(&Arc::default(), "");
    let soon = SystemTime::UNIX_EPOCH.elapsed().expect("it is later") + Duration::from_secs(3);
    let provider = Keys::new(What::Gives, &[key("old", Some(SystemTime::UNIX_EPOCH + soon)), key("new", None)]);
    let (producer, time) = timed(|| {
        let producer = asking(&endpoint.url(), &provider).build().expect("a producer");
        delivered(put_many(&producer, 0..1).remove(0));
        while provider.asked() < 2 {
            std::thread::yield_now();
        }
        producer
    });
    assert!(time < Duration::from_secs(3), "{time:?}");
    delivered(put_many(&producer, 1..2).remove(0));
    assert_eq!(provider.asked(), 2);
    close(&producer);
}

#[test]
fn a_provider_that_gives_nothing_holds_up_nobody_and_is_named() {
    for (what, word) in [(What::Hangs, "has not answered"), (What::Refuses, "vault"), (What::Panics, "panicked")] {
        let endpoint = emulator(&[("s", 1)]);
        let provider = Keys::new(what, &[]);
        let producer = asking(&endpoint.url(), &provider).record_ttl(ms(2_500)).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let mut submitter = producer.submitter().expect("a submitter");
        let (outcome, time) = timed(|| submitter.try_put(&stream, Record::new("k", "d")).expect("a put"));
        assert!(time < ms(500), "{time:?}");
        let failure = failed(outcome);
        assert_eq!(*failure.code(), ErrorCode::Expired);
        assert!(failure.message().contains(word) && failure.message().contains("Keys"), "{failure}");
        assert!(!failure.may_be_stored());
        let told = producer.health().last_error.expect("it is told");
        assert!(told.contains(word) && told.contains("Keys"), "{told}");
        // What is put now has not expired when the producer is closed.
        let outcome = submitter.put(&stream, Record::new("k", "d")).expect("a put");
        let (counts, time) = timed(|| bounded(producer.close(ms(200))));
        assert!(time < ms(200) + ms(50) + SLACK, "{word}: {time:?}");
        assert_eq!((counts.accepted, counts.failed), (2, 2));
        assert_eq!(*failed(outcome).code(), ErrorCode::Closed);
    }
}

/// What a busy machine may add to any wait.
const SLACK: Duration = ms(1_000);

#[test]
fn a_provider_that_hangs_at_a_renewal_leaves_the_old_key_in_use_and_fails_what_is_refused() {
    let rotated = Arc::new(AtomicBool::new(false));
    let endpoint = rotating(&rotated, "ExpiredTokenException");
    let provider = Keys::new(What::HangsLater, &[key("old", None)]);
    let build = asking(&endpoint.url(), &provider).auth_grace(ms(1_200));
    let producer = build.build().expect("a producer");
    delivered(put_many(&producer, 0..1).remove(0));
    // Partner: the load in the script.
    rotated.store(true, Ordering::Relaxed);
    let failure = failed(put_many(&producer, 1..2).remove(0));
    assert_eq!(*failure.code(), ErrorCode::Service("ExpiredTokenException".into()));
    rotated.store(false, Ordering::Relaxed);
    delivered(put_many(&producer, 2..3).remove(0));
    assert_eq!(provider.asked(), 2);
    close(&producer);
}

#[test]
fn credentials_and_a_provider_of_them_are_refused_together() {
    let provider = Keys::new(What::Hangs, &[]);
    let build = builder("http://127.0.0.1:1").credentials_provider(provider);
    let Err(StartError::Config(error)) = build.build() else { panic!("it must not start") };
    assert_eq!(error.faults[0].field, "credentials, credentials_provider");
}

#[test]
fn a_clock_that_is_wrong_by_an_hour_costs_each_core_one_refusal_and_no_record() {
    for (cores, ahead) in [(1, 3_600), (2, -3_600), (1, 86_400 * 3)] {
        let mut config = EndpointConfig::emulator();
        config.clock_ahead_s = ahead;
        let endpoint = start(&[("s", 4)], config);
        // Backoffs of hours: only the corrected clock can be what sends the records again.
        let build = builder(&endpoint.url()).cores(cores).retry_base_delay(HOURS).retry_delay_cap(HOURS);
        let producer = build.record_ttl(LIMIT * 10).auth_grace(LIMIT).build().expect("a producer");
        for outcome in put_many(&producer, 0..100) {
            let codes = codes(delivered(outcome).attempts());
            let clock = (ErrorCode::Service("InvalidSignatureException".into()), false);
            assert!(codes.len() <= 2 && codes.iter().all(|code| *code == clock), "{codes:?}");
        }
        assert_eq!(read(&endpoint, "s").len(), 100);
        // What comes later is signed well from the start.
        let before = producer.counters().request_failures;
        put_many(&producer, 100..120).into_iter().for_each(|outcome| drop(delivered(outcome)));
        assert_eq!(producer.counters().request_failures, before);
        close(&producer);
    }
}

#[test]
fn a_wrong_secret_is_not_taken_for_a_wrong_clock() {
    // Listing is not asked for a signature, so that records are sent.
    let mut config = EndpointConfig::emulator();
    config.script = Some(Box::new(|request| match request.operation {
        "PutRecords" => Action::error(403, "InvalidSignatureException", "does not match"),
        _ => Action::Pass,
    }));
    let endpoint = start(&[("s", 1)], config);
    let build = builder(&endpoint.url()).auth_grace(ms(1_000)).retry_base_delay(ms(50)).retry_delay_cap(ms(50));
    let producer = build.build().expect("a producer");
    let failure = failed(put_many(&producer, 0..1).remove(0));
    assert_eq!(*failure.code(), ErrorCode::Service("InvalidSignatureException".into()));
    assert!((3..100).contains(&failure.attempts().len()), "{failure:?}");
    close(&producer);
}

#[test]
fn an_endpoint_that_refuses_every_signature_is_not_hammered_whatever_its_clock_says() {
    let requests = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&requests);
    let mut config = EndpointConfig::emulator();
    config.clock_ahead_s = 3_600;
    config.script = Some(Box::new(move |request| match request.operation {
        "PutRecords" => {
            // Partner: the load below, after the producer has closed.
            counted.fetch_add(1, Ordering::Relaxed);
            Action::error(403, "InvalidSignatureException", "whenever you sign")
        }
        _ => Action::Pass,
    }));
    let endpoint = start(&[("s", 1)], config);
    let build = builder(&endpoint.url()).auth_grace(ms(1_200)).retry_base_delay(ms(100)).retry_delay_cap(ms(100));
    let producer = build.build().expect("a producer");
    failed(put_many(&producer, 0..1).remove(0));
    close(&producer);
    // Partner: the addition above.
    let requests = requests.load(Ordering::Relaxed);
    assert!((3..60).contains(&requests), "{requests}");
}
