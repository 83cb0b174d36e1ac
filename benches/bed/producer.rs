//! A producer with its real core, and no endpoint beside it that would take CPU time from what is measured.
//!
//! A sink in this process lists the shards; once the stream is ready it is dropped. From then on connections are
//! refused: the core aggregates, seals, tries to send, backs off, and lets whole batches expire after `record_ttl`, so
//! that credit and slots come back as they would by delivery. The core, the control thread and the sink run on the
//! core's CPU.

use std::time::Duration;

use endpoint::{Endpoint, EndpointConfig};
use kpl::{IdleStrategy, Producer, ProducerBuilder, RateLimit, StaticCredentials, Stream};

use crate::machine::{Machine, Side};
use crate::peer::Rhythm;

/// Shards of the stream.
pub const SHARDS: u32 = 4;
/// The stream's name.
pub const STREAM: &str = "bench";
/// Longer than a producer takes to start on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// What a bench sets beside the defaults.
pub fn builder(endpoint: &Endpoint, machine: &Machine, linger: Duration, rhythm: Rhythm) -> ProducerBuilder {
    let (access_key_id, secret_access_key) = ("test".into(), "test".into());
    let builder = Producer::builder()
        .region("us-east-1")
        .endpoint_url(endpoint.url())
        .credentials(StaticCredentials { access_key_id, secret_access_key, session_token: None })
        .rate_limit(RateLimit::Off)
        .record_max_buffered_time(linger)
        // Not long after, so that no more slots are in use than a service that answers would leave.
        .record_ttl(linger + Duration::from_millis(50))
        // Both so large that the bound is not reached, nor a ring half full at a million records a second.
        .max_outstanding_records(8_000_000)
        .max_outstanding_bytes(8 << 30)
        .ring_bytes(4 << 20)
        .idle(if rhythm == Rhythm::Awake { IdleStrategy::Spin } else { IdleStrategy::Park })
        .seed(1);
    match machine.cpu(Side::Core) {
        Some(cpu) => builder.cpus([cpu]),
        None => builder,
    }
}

/// Starts the producer and waits for its stream's shards. The calling thread is the caller's side afterwards.
pub fn start(builder: ProducerBuilder, machine: &Machine) -> (Producer, Stream) {
    machine.pin(Side::Core);
    let producer = builder.build().expect("a producer starts");
    let stream = producer.stream(STREAM).expect("a stream opens");
    let ready = stream.ready().wait_timeout(LIMIT).expect("the shards are listed in time");
    ready.expect("the shards are listed");
    machine.pin(Side::Caller);
    (producer, stream)
}

/// An endpoint on the core's side.
pub fn endpoint(config: EndpointConfig, machine: &Machine) -> Endpoint {
    machine.pin(Side::Core);
    let endpoint = Endpoint::start(config).expect("an endpoint starts");
    machine.pin(Side::Caller);
    endpoint
}

/// Keys of 16 bytes, as many as customers might be.
pub fn keys() -> Vec<String> {
    (0..1024).map(|number| format!("customer-{number:07}")).collect()
}
