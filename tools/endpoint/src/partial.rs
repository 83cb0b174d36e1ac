//! What scripted actions and faults are made of: dropped connections, halved bodies, requests of which a part fails.
//!
//! It decodes and encodes whole requests, so it costs many times what the sink does. It runs where a script or a fault
//! says so.

use crate::put_records::Wire;
use axum::body::Body;
use bytes::Bytes;
use ciborium::Value;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The connection is to be dropped without an answer.
#[derive(Debug)]
pub(crate) struct Dropped;

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is dropped")
    }
}

impl std::error::Error for Dropped {}

/// A body that promises more than it sends, and then fails.
struct Half {
    sent: Option<Bytes>,
    promised: u64,
    flushed: bool,
}

impl Half {
    /// Promises all of `body` and sends its first half.
    fn of(body: Bytes) -> Half {
        Half { promised: body.len() as u64, sent: Some(body.slice(..body.len() / 2)), flushed: false }
    }
}

impl hyper::body::Body for Half {
    type Data = Bytes;
    type Error = Dropped;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Dropped>>> {
        if let Some(sent) = self.sent.take() {
            return Poll::Ready(Some(Ok(Frame::data(sent))));
        }
        // Hyper flushes when a body makes it wait, and not before an error.
        if !std::mem::replace(&mut self.flushed, true) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(Dropped)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.promised)
    }
}

/// The answer of which the client will see half.
pub(crate) async fn halved(response: Response<Body>) -> Result<Response<Body>, Dropped> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|_| Dropped)?.to_bytes();
    Ok(Response::from_parts(head, Body::new(Half::of(body))))
}

/// A PutRecords request without the records at `failed`, and how many it had with them. The request is `None` if no
/// record is left; the whole is `None` if it was no PutRecords request.
pub(crate) fn without(wire: Wire, body: &[u8], failed: &[usize]) -> Option<(usize, Option<Bytes>)> {
    let mut request = decode(wire, body)?;
    let records = field(&mut request, "Records")?.as_array_mut()?;
    let count = records.len();
    let mut index = 0;
    records.retain(|_| {
        index += 1;
        !failed.contains(&(index - 1))
    });
    let others = !records.is_empty();
    Some((count, others.then(|| encode(wire, &request))))
}

/// The answer to a request of `count` records: what `answer` says of those that were passed on, and `code` for those at
/// `failed`.
pub(crate) fn with_failures(wire: Wire, answer: Option<&[u8]>, count: usize, failed: &[usize], code: &str) -> Bytes {
    let mut answer = answer.and_then(|answer| decode(wire, answer));
    let answered = answer.as_mut().and_then(|answer| field(answer, "Records")?.as_array_mut());
    let mut answered = answered.map(std::mem::take).unwrap_or_default().into_iter();
    let records: Vec<Value> = (0..count)
        .map(
            |index| {
                if failed.contains(&index) { failure(code) } else { answered.next().unwrap_or_else(|| failure(code)) }
            },
        )
        .collect();
    encode(wire, &answer_of(records))
}

/// A PutRecords request whose records have the explicit hash keys that `draw` draws; nothing if it is none.
pub(crate) fn with_hash_keys(wire: Wire, body: &[u8], mut draw: impl FnMut() -> u128) -> Option<Bytes> {
    let mut request = decode(wire, body)?;
    for record in field(&mut request, "Records")?.as_array_mut()? {
        let fields = record.as_map_mut()?;
        fields.retain(|(name, _)| name.as_text() != Some("ExplicitHashKey"));
        fields.push(("ExplicitHashKey".into(), draw().to_string().into()));
    }
    Some(encode(wire, &request))
}

/// An answer whose results are changed; nothing if it is no answer to a PutRecords.
pub(crate) fn with_results(wire: Wire, answer: &[u8], change: impl FnOnce(&mut Vec<Value>)) -> Option<Bytes> {
    let mut answer = decode(wire, answer)?;
    let mut results = std::mem::take(field(&mut answer, "Records")?.as_array_mut()?);
    change(&mut results);
    Some(encode(wire, &answer_of(results)))
}

fn answer_of(results: Vec<Value>) -> Value {
    let failures = results.iter().filter(|result| is_failure(result)).count();
    Value::Map(vec![("FailedRecordCount".into(), (failures as u64).into()), ("Records".into(), Value::Array(results))])
}

/// The result of a record that failed with this code.
pub(crate) fn failure(code: &str) -> Value {
    Value::Map(vec![("ErrorCode".into(), code.into()), ("ErrorMessage".into(), "injected".into())])
}

/// Whether a result says that its record failed.
pub(crate) fn is_failure(result: &Value) -> bool {
    result.as_map().is_some_and(|fields| fields.iter().any(|(name, _)| name.as_text() == Some("ErrorCode")))
}

fn decode(wire: Wire, body: &[u8]) -> Option<Value> {
    match wire {
        Wire::Json => serde_json::from_slice(body).ok(),
        Wire::Cbor => ciborium::from_reader(body).ok(),
    }
}

fn encode(wire: Wire, value: &Value) -> Bytes {
    let mut out = Vec::new();
    let written = match wire {
        Wire::Json => serde_json::to_writer(&mut out, value).is_ok(),
        Wire::Cbor => ciborium::into_writer(value, &mut out).is_ok(),
    };
    assert!(written, "what was decoded from a wire can be written to it");
    Bytes::from(out)
}

fn field<'a>(value: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let fields = value.as_map_mut()?;
    fields.iter_mut().find(|(known, _)| known.as_text() == Some(name)).map(|(_, value)| value)
}
