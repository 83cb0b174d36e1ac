//! What a loop around PutRecords becomes: no batches, no second round for entries that failed, no backoff.
//!
//! It wants a Kinesis endpoint on loopback with a stream `orders`, and credentials where AWS's default chain looks.

use std::time::Duration;

use kpl::{Failure, Producer, Record, Stream};

struct Order {
    customer: String,
    text: String,
}

async fn store(producer: &Producer, stream: &Stream, orders: &[Order]) -> Result<Vec<Failure>, String> {
    let mut outcomes = Vec::with_capacity(orders.len());
    for order in orders {
        let record = Record::new(&order.customer, &order.text);
        // Waits only while the producer is full. What is refused here was not accepted: the record is at fault, or the
        // stream, or the producer is closed.
        let outcome = producer.put_async(stream, record).await.map_err(|refused| refused.to_string())?;
        outcomes.push(outcome);
    }
    let mut failures = Vec::new();
    for outcome in outcomes {
        // Retried for `record_ttl` already, unless trying again cannot help.
        if let Err(failure) = outcome.await {
            failures.push(failure);
        }
    }
    Ok(failures)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let producer = Producer::builder().region("us-east-1").endpoint_url("http://127.0.0.1:4567").build()?;
    let stream = producer.stream("orders")?;
    let orders: Vec<_> = (0..1000)
        .map(|number| Order { customer: format!("customer-{}", number % 97), text: format!("order {number}") })
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    for failure in runtime.block_on(store(&producer, &stream, &orders))? {
        eprintln!("{failure}; it {} be stored", if failure.may_be_stored() { "may" } else { "cannot" });
    }
    let counts = producer.close(Duration::from_secs(30)).wait();
    println!("{} accepted, {} delivered, {} failed", counts.accepted, counts.delivered, counts.failed);
    Ok(())
}
