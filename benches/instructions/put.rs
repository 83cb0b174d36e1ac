//! Detached puts of a caller into a producer whose core has taken all that came before.
//!
//! Bursts of some thousand puts, each after a flush, so that ring, slots and credit are as they are when the core keeps
//! pace: a put waits for nothing, and what it finds does not depend on how quick the core is. The core spins, so that no
//! put wakes it.

use endpoint::{Endpoint, EndpointConfig};
use kpl::{IdleStrategy, Producer, RateLimit, Record, RuntimeChoice, StaticCredentials};

use crate::counted;
use crate::records::{DATA, Keys};

/// Puts of a burst: a quarter of the default ring.
const BURST: usize = 2000;

/// Puts `records` records for a warm-up and counts as many again.
pub fn run(records: usize) -> u64 {
    let endpoint = Endpoint::start(EndpointConfig::sink(8)).expect("an endpoint starts");
    let (access_key_id, secret_access_key) = ("test".into(), "test".into());
    let producer = Producer::builder()
        .region("us-east-1")
        .endpoint_url(endpoint.url())
        .credentials(StaticCredentials { access_key_id, secret_access_key, session_token: None })
        .rate_limit(RateLimit::Off)
        .runtime(RuntimeChoice::Tokio)
        .idle(IdleStrategy::Spin)
        .build()
        .expect("a producer starts");
    let stream = producer.stream("bench").expect("a stream opens");
    stream.ready().wait().expect("the shards are listed");
    let mut submitter = producer.submitter().expect("a submitter");
    let mut keys = Keys::new();
    let bursts = records.div_ceil(BURST);
    for burst in 0..2 * bursts {
        let keys: Vec<String> = (0..BURST).map(|_| keys.draw().to_owned()).collect();
        let mut puts = || {
            for key in &keys {
                submitter.try_put_detached(&stream, Record::new(key, &DATA)).expect("there is room for a burst");
            }
        };
        if burst < bursts {
            puts()
        } else {
            counted(puts)
        }
        producer.flush().wait().expect("a flush ends");
    }
    assert_eq!(producer.outstanding(), 0);
    (bursts * BURST) as u64
}
