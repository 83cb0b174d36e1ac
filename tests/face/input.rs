//! Bad input: each fault is refused where it can be known, by an error that names field, value and bound.

use std::time::Duration;

use endpoint::{Action, EndpointConfig};
use kpl::{
    ErrorCode, FlushError, HashKey, Producer, ProducerBuilder, PutErrorReason, RateLimit, Record, StartError, Stream,
    StreamError, StreamOptions, SubmitterError,
};

use super::reader::read;
use super::world::{LIMIT, bounded, builder, close, credentials, delivered, emulator, failed, ms, start};

/// Puts by each way there is; all must answer alike. Accepted records are delivered.
fn put_by_all_ways(producer: &Producer, stream: &Stream, record: Record<'_>) -> Result<(), PutErrorReason> {
    let mut submitter = producer.submitter().expect("a submitter");
    let results = [
        submitter.try_put(stream, record),
        submitter.put(stream, record),
        bounded(submitter.put_async(stream, record)),
        producer.try_put(stream, record),
        producer.put(stream, record),
        bounded(producer.put_async(stream, record)),
    ];
    let results = results.map(|result| match result {
        Ok(outcome) => {
            delivered(outcome);
            Ok(())
        }
        Err(error) => {
            assert_eq!(error.record, record, "a refused record comes back");
            assert_eq!(error.to_string(), error.reason.to_string());
            Err(error.reason)
        }
    });
    assert!(results.iter().all(|result| *result == results[0]), "{results:?}");
    let [first, ..] = results;
    first
}

#[test]
fn a_partition_key_has_1_to_256_utf16_units() {
    let endpoint = emulator(&[("s", 2)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let refused = [
        (String::new(), 0),
        ("k".repeat(257), 257),
        ("é".repeat(257), 257),
        ("鍵".repeat(257), 257),
        ("🔑".repeat(129), 258),
        ("🔑".repeat(128) + "k", 257),
        ("k".repeat(1_000_000), 1_000_000),
    ];
    for (key, utf16_units) in refused {
        let reason = put_by_all_ways(&producer, &stream, Record::new(&key, "d")).expect_err("a bad key");
        assert_eq!(reason, PutErrorReason::InvalidPartitionKey { utf16_units });
        let text = reason.to_string();
        assert!(text.contains(&utf16_units.to_string()) && text.contains("1 to 256"), "{text}");
    }
    for key in ["k".to_owned(), "k".repeat(256), "鍵".repeat(256), "🔑".repeat(128)] {
        put_by_all_ways(&producer, &stream, Record::new(&key, "d")).expect("a good key");
    }
    let counts = close(&producer);
    assert_eq!((counts.accepted, counts.delivered), (24, 24), "what is refused is not counted");
}

#[test]
fn an_explicit_hash_key_is_a_decimal_number_of_128_bits() {
    for text in ["", "-1", "+1", " 1", "1 ", "1e3", "0x10", "१", "340282366920938463463374607431768211456"] {
        let error = text.parse::<HashKey>().expect_err("not a hash key");
        assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        assert!(error.to_string().contains("340282366920938463463374607431768211455"), "{error}");
    }
    assert_eq!("340282366920938463463374607431768211455".parse(), Ok(HashKey::MAX));
    assert_eq!("0".parse(), Ok(HashKey::MIN));
    assert_eq!("007".parse(), Ok(HashKey(7)));
}

#[test]
fn a_record_is_at_most_max_record_size_with_its_key() {
    let endpoint = emulator(&[("s", 1)]);
    for (max, build) in [
        (1_048_576, builder(&endpoint.url())),
        (700, builder(&endpoint.url()).max_record_size(700).aggregation_max_size(600)),
    ] {
        let producer = build.rate_limit(RateLimit::Off).build().expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        for size in [max - 1, max] {
            put_by_all_ways(&producer, &stream, Record::new("four", &vec![7; size - 4])).expect("it fits");
        }
        let data = vec![7; max + 1 - 4];
        let reason = put_by_all_ways(&producer, &stream, Record::new("four", &data)).expect_err("one too many");
        assert_eq!(reason, PutErrorReason::RecordTooLarge { size: max + 1, max });
        let text = reason.to_string();
        assert!(text.contains(&(max + 1).to_string()) && text.contains("max_record_size"), "{text}");
        close(&producer);
    }
}

#[test]
fn a_record_that_would_be_too_large_once_wrapped_is_refused() {
    let endpoint = emulator(&[("s", 1)]);
    let build = builder(&endpoint.url()).max_record_size(700).aggregation_max_size(600);
    let producer = build.build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut data = vec![7; 699];
    put_by_all_ways(&producer, &stream, Record::new("k", &data)).expect("it is no aggregate");
    data[..4].copy_from_slice(&[0xF3, 0x89, 0x9A, 0xC2]);
    let reason = put_by_all_ways(&producer, &stream, Record::new("k", &data)).expect_err("it looks like one");
    assert!(matches!(reason, PutErrorReason::RecordTooLarge { size: 701.., max: 700 }), "{reason:?}");
    put_by_all_ways(&producer, &stream, Record::new("k", &data[..600])).expect("there is room for the wrapping");
    close(&producer);
}

#[test]
fn a_closed_producer_refuses_everything_by_name() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let mut submitter = producer.submitter().expect("a submitter");
    delivered(submitter.put(&stream, Record::new("k", "d")).expect("a put"));
    delivered(producer.put(&stream, Record::new("k", "d")).expect("a put"));
    close(&producer);
    let record = Record::new("k", "d");
    let results = [
        submitter.try_put(&stream, record),
        submitter.put(&stream, record),
        bounded(submitter.put_async(&stream, record)),
        producer.try_put(&stream, record),
        producer.put(&stream, record),
        bounded(producer.put_async(&stream, record)),
    ];
    for result in results {
        let error = result.expect_err("it is closed");
        assert_eq!((error.reason, error.record), (PutErrorReason::Closed, record));
    }
    assert_eq!(producer.stream("s").err(), Some(StreamError::Closed));
    assert_eq!(producer.submitter().err(), Some(SubmitterError::Closed));
    assert_eq!(close(&producer).accepted, 2);
}

#[test]
fn a_closed_producer_refuses_puts_also_if_nothing_was_ever_put() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    assert_eq!(close(&producer).accepted, 0);
    let error = producer.put(&stream, Record::new("k", "d")).expect_err("it is closed");
    assert_eq!(error.reason, PutErrorReason::Closed);
}

#[test]
fn a_stream_of_another_producer_is_refused() {
    let endpoint = emulator(&[("s", 1)]);
    let [ours, theirs] = [(); 2].map(|()| builder(&endpoint.url()).build().expect("a producer"));
    ours.stream("s").expect("a stream");
    let foreign = theirs.stream("s").expect("a stream");
    let reason = put_by_all_ways(&ours, &foreign, Record::new("k", "d")).expect_err("it is foreign");
    assert_eq!(reason, PutErrorReason::ForeignStream { stream: "s".into() });
    assert_eq!(ours.flush_stream(&foreign).wait(), Err(FlushError::ForeignStream));
}

#[test]
fn a_name_that_is_no_streams_name_is_refused() {
    let endpoint = emulator(&[]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let long = "s".repeat(129);
    for name in
        ["", "two words", "ключ", &long, "arn:aws:kinesis", "arn:aws:s3:::bucket", "arn:aws:kinesis:r:1:stream/"]
    {
        let error = producer.stream(name).expect_err("not a name");
        let StreamError::InvalidName { name: named, bound } = &error else { panic!("{error:?}") };
        assert!(named == name && !bound.is_empty(), "{error}");
    }
    close(&producer);
}

#[test]
fn a_stream_that_is_not_there_fails_what_waits_and_refuses_the_rest() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = builder(&endpoint.url()).cores(2).build().expect("a producer");
    let missing = producer.stream("missing").expect("a stream");
    let waiting: Vec<_> =
        (0..10).filter_map(|number| producer.put(&missing, Record::new(&format!("{number}"), "d")).ok()).collect();
    let answer = missing.ready().wait_timeout(LIMIT).expect("an answer");
    let Err(StreamError::Unavailable { stream, reason }) = answer else { panic!("{answer:?}") };
    assert_eq!(stream, "missing");
    assert!(reason.contains("ResourceNotFoundException"), "{reason}");
    for outcome in waiting {
        let failure = failed(outcome);
        assert_eq!(*failure.code(), ErrorCode::StreamUnavailable, "{failure}");
        assert!(failure.message().contains("ResourceNotFoundException"), "{failure}");
        assert!(failure.attempts().is_empty() && !failure.may_be_stored());
    }
    let refusal = put_by_all_ways(&producer, &missing, Record::new("k", "d")).expect_err("it is not there");
    assert_eq!(refusal, PutErrorReason::StreamUnavailable { stream: "missing".into(), reason });
    // Others are not touched by it.
    let stream = producer.stream("s").expect("a stream");
    put_by_all_ways(&producer, &stream, Record::new("k", "d")).expect("a put");
    assert_eq!(read(&endpoint, "s").len(), 6);
    close(&producer);
}

#[test]
fn no_permission_to_list_shards_is_told_and_not_worked_around() {
    let mut config = EndpointConfig::emulator();
    config.script = Some(Box::new(|request| match request.operation {
        "ListShards" => Action::error(400, "AccessDeniedException", "not authorized to perform kinesis:ListShards"),
        _ => Action::Pass,
    }));
    let endpoint = start(&[("s", 1)], config);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let error = stream.ready().wait_timeout(LIMIT).expect("an answer").expect_err("no permission");
    assert!(error.to_string().contains("kinesis:ListShards"), "{error}");
    let refusal = producer.put(&stream, Record::new("k", "d")).expect_err("no permission").reason;
    assert!(matches!(refusal, PutErrorReason::StreamUnavailable { .. }), "{refusal:?}");
    let last_error = producer.health().last_error.expect("it is told");
    assert!(last_error.contains("AccessDeniedException"), "{last_error}");
    close(&producer);
}

#[test]
fn credentials_that_the_service_refuses_end_in_a_clear_failure_within_the_grace_time() {
    for (id, secret, code) in
        [("nobody", "test", "UnrecognizedClientException"), ("test", "wrong", "InvalidSignatureException")]
    {
        let endpoint = emulator(&[("s", 1)]);
        let producer = builder(&endpoint.url())
            .credentials(credentials(id, secret))
            .auth_grace(ms(500))
            .record_ttl(LIMIT * 2)
            .build()
            .expect("a producer");
        let stream = producer.stream("s").expect("a stream");
        let outcome = producer.put(&stream, Record::new("k", "d")).expect("a put");
        let failure = failed(outcome);
        assert_eq!(*failure.code(), ErrorCode::StreamUnavailable, "{failure}");
        assert!(failure.message().contains(code), "{failure}");
        let answer = stream.ready().wait_timeout(LIMIT).expect("an answer");
        assert!(matches!(answer, Err(StreamError::Unavailable { .. })), "{answer:?}");
        assert!(!format!("{producer:?} {:?} {failure:?}", producer.config()).contains("wrong"), "no secret is told");
        assert_eq!(close(&producer).failed, 1);
    }
}

#[test]
fn all_faults_of_a_configuration_are_told_at_once() {
    let bad = Producer::builder()
        .region("Nowhere!")
        .endpoint_url("kinesis")
        .credentials(credentials("", ""))
        .aggregation_max_size(1)
        .collection_max_count(501)
        .record_ttl(ms(1))
        .request_timeout(Duration::ZERO)
        .cores(0)
        .ring_bytes(5000)
        .max_submitters(1)
        .max_outstanding_records(0)
        .rate_limit(RateLimit::Percent(0));
    let error = bad.build().expect_err("a bad configuration");
    let StartError::Config(faults) = &error else { panic!("{error:?}") };
    let text = error.to_string();
    for field in [
        "region",
        "endpoint_url",
        "credentials.access_key_id",
        "credentials.secret_access_key",
        "aggregation_max_size",
        "collection_max_count",
        "record_ttl",
        "request_timeout",
        "cores",
        "ring_bytes",
        "max_submitters",
        "max_outstanding_records",
        "rate_limit",
    ] {
        assert!(faults.faults.iter().any(|fault| fault.field.contains(field)), "{field}: {text}");
        assert!(text.contains(field), "{text}");
    }
    assert!(text.contains("501") && text.contains("1 to 500"), "value and bound are named: {text}");
}

#[test]
fn a_fault_of_a_streams_own_settings_is_told_when_it_is_opened() {
    let endpoint = emulator(&[("s", 1)]);
    let producer = builder(&endpoint.url()).build().expect("a producer");
    let options =
        StreamOptions { record_ttl: Some(ms(1)), rate_limit: Some(RateLimit::Percent(0)), ..StreamOptions::default() };
    let error = producer.stream_with("s", &options).expect_err("bad settings");
    let StreamError::Config(faults) = &error else { panic!("{error:?}") };
    assert_eq!(faults.faults.len(), 2, "{error}");
    // Nothing of it is left behind.
    let stream = producer.stream("s").expect("a stream");
    delivered(producer.put(&stream, Record::new("k", "d")).expect("a put"));
    close(&producer);
}

#[test]
fn a_builder_and_its_configuration_say_the_same() {
    let endpoint = emulator(&[]);
    let build: ProducerBuilder = builder(&endpoint.url()).cores(2);
    let producer = build.build().expect("a producer");
    let again = ProducerBuilder::config(producer.config().clone()).build().expect("the same");
    assert_eq!(producer.config(), again.config());
}
