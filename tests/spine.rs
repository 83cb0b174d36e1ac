//! One record the whole way: the public face against the embedded endpoint.

use std::time::Duration;

use endpoint::{Endpoint, EndpointConfig};
use kpl::{Producer, ProducerBuilder, Record, StaticCredentials};

fn builder(url: &str) -> ProducerBuilder {
    Producer::builder().region("us-east-1").endpoint_url(url).credentials(StaticCredentials {
        access_key_id: "test".into(),
        secret_access_key: "test".into(),
        session_token: None,
    })
}

#[test]
fn a_record_goes_the_whole_way() {
    let endpoint = Endpoint::start(EndpointConfig::emulator()).expect("endpoint");
    endpoint.create_stream("orders", 4).expect("stream");
    let producer = builder(&endpoint.url()).build().expect("producer");
    let stream = producer.stream("orders").expect("stream");
    let mut submitter = producer.submitter().expect("submitter");
    let outcome = submitter.put(&stream, Record::new("customer-7", "an order")).expect("put");
    let delivered = outcome.wait().expect("delivered");
    println!("{delivered:?}");
    let stored = endpoint.read_stream("orders").expect("read");
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].data, b"an order");
    assert_eq!(stored[0].shard_id, delivered.shard_id());
    assert_eq!(stored[0].sequence_number, delivered.sequence_number());
    let counts = producer.close(Duration::from_secs(5)).wait();
    assert_eq!((counts.accepted, counts.delivered, counts.failed), (1, 1, 0));
}
