//! The README's second example: the ways to put a record and to learn how it ended.
//!
//! It wants a Kinesis endpoint on loopback with a stream `orders`, and credentials where AWS's default chain looks.

use std::time::Duration;

use kpl::{Producer, Record};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let producer = Producer::builder()
        .region("us-east-1")
        .endpoint_url("http://127.0.0.1:4567")
        .on_failure(|failed| eprintln!("{} records: {}", failed.records(), failed.failure()))
        .build()?;
    let orders = producer.stream("orders")?;
    let mut submitter = producer.submitter()?;

    // A future for each record.
    let outcome = submitter.put(&orders, Record::new("customer-7", "an order"))?;

    // A number for each record, and their ends many at a time; as a rule on another thread.
    let mut completions = submitter.completions().ok_or("they are given out once")?;
    submitter.put_with_token(&orders, Record::new("customer-8", "another"), 8)?;
    while completions.wait() && completions.drain(|ended| println!("{}: {:?}", ended.token, ended.result)) == 0 {}

    // Nothing, unless it fails.
    submitter.put_detached(&orders, Record::new("customer-9", "one more"))?;

    // Written where it is sent from, without a copy.
    let mut reservation = submitter.reserve(&orders, "customer-10", 5)?;
    reservation.bytes().copy_from_slice(b"bytes");
    reservation.commit_detached()?;

    // Many at once.
    let records = [Record::new("customer-11", "a"), Record::new("customer-12", "b")];
    submitter.put_batch_detached(&orders, &records)?;

    println!("{:?}", outcome.wait());
    producer.close(Duration::from_secs(30)).wait();
    Ok(())
}
