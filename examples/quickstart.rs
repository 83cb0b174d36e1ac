//! The README's example: one record, its outcome, and a close that loses nothing.
//!
//! It wants a Kinesis endpoint on loopback with a stream `orders`, and credentials where AWS's default chain looks.

use std::time::Duration;

use kpl::{Producer, Record};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let producer = Producer::builder().region("us-east-1").endpoint_url("http://127.0.0.1:4567").build()?;
    let orders = producer.stream("orders")?;
    let mut submitter = producer.submitter()?;

    let outcome = submitter.put(&orders, Record::new("customer-7", "an order"))?;
    match outcome.wait() {
        Ok(delivered) => println!("in {} at {}", delivered.shard_id(), delivered.sequence_number()),
        Err(failure) => eprintln!("{failure}"),
    }
    let counts = producer.close(Duration::from_secs(30)).wait();
    println!("{} accepted, {} delivered, {} failed", counts.accepted, counts.delivered, counts.failed);
    Ok(())
}
