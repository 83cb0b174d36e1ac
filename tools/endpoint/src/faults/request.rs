//! Faults of requests: what becomes of a PutRecords or ListShards whose fate is drawn.
//!
//! What is *served* is stored, whatever the client hears. What is served late is stored when the client has given up
//! on it, at the latest when the faults are healed.

use super::chance::Chance;
use super::{FaultKind, Faults};
use crate::answer::{self, Refusal};
use crate::partial::{self, Dropped};
use crate::put_records::{self, Wire};
use crate::server::{Connection, Server, content_type, operation};
use crate::signature;
use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::header::CONTENT_LENGTH;
use hyper::http::request::Parts;
use serde_json::Value;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// A page, as a proxy or a gateway shows it.
const PAGE: &str = "<html><head><title>503 Service Unavailable</title></head><body>Be back soon</body></html>";

type Answered = Result<Response<Body>, Dropped>;

/// Serves a request, or does to it what its fate says.
pub(crate) async fn suffer(
    server: &Arc<Server>,
    faults: &Arc<Faults>,
    connection: &Connection,
    head: Parts,
    body: Bytes,
) -> Answered {
    let spared = faults.options.spares.is_some_and(|spared| signature::access_key_id(&head) == Some(spared));
    let fate = match operation(&head) {
        _ if spared => None,
        "PutRecords" => faults.of_put(),
        "ListShards" => faults.of_list(),
        _ => None,
    };
    let Some((kind, mut chance)) = fate else { return Ok(server.answer(head, body).await) };
    // What only strikes if something else comes true counts itself.
    if !matches!(kind, FaultKind::IdleClosed | FaultKind::WrongOrder | FaultKind::TooLarge | FaultKind::ListStale) {
        faults.count(kind);
    }
    match kind {
        FaultKind::ResetUnserved | FaultKind::ListReset => Err(connection.reset()),
        FaultKind::CloseUnserved => Err(Dropped),
        FaultKind::Slow | FaultKind::ListSlow => {
            faults.wait(chance.time(Duration::ZERO, faults.unit())).await;
            Ok(server.answer(head, body).await)
        }
        FaultKind::Lost => {
            faults.wait(faults.too_long(&mut chance)).await;
            Err(Dropped)
        }
        FaultKind::ServedLate => {
            serve_late(server, faults, &mut chance, head, body).await;
            Err(Dropped)
        }
        FaultKind::InternalError | FaultKind::ListFailed => Ok(internal_error(&mut chance)),
        FaultKind::Unavailable | FaultKind::Refusing => Ok(page(503)),
        FaultKind::Page => Ok(page(200)),
        FaultKind::RequestThrottled => {
            let codes = ["ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException"];
            Ok(refusal(chance.pick(&codes)))
        }
        FaultKind::ListThrottled => Ok(refusal("LimitExceededException")),
        FaultKind::AuthRefused => Ok(refusal("ExpiredTokenException")),
        FaultKind::SignatureRefused => Ok(refusal("InvalidSignatureException")),
        FaultKind::NotFound => Ok(refusal("ResourceNotFoundException")),
        FaultKind::Invalid => Ok(refusal("ValidationException")),
        FaultKind::TooLarge => Ok(too_large(server, faults, head, body).await),
        FaultKind::ListStale | FaultKind::ListEmpty | FaultKind::ListGap | FaultKind::ListOverlap => {
            Ok(misstated(faults, kind, server.answer(head, body).await).await)
        }
        FaultKind::RecordsThrottled => {
            Ok(fail_some(server, &mut chance, head, body, "ProvisionedThroughputExceededException").await)
        }
        FaultKind::RecordsFailed => Ok(fail_some(server, &mut chance, head, body, "InternalFailure").await),
        _ => after_serving(server, faults, connection, (kind, chance), head, body).await,
    }
}

/// The same, of fates that let the request be served at once.
async fn after_serving(
    server: &Server,
    faults: &Faults,
    connection: &Connection,
    (kind, mut chance): (FaultKind, Chance),
    head: Parts,
    body: Bytes,
) -> Answered {
    let wire = Wire::of(content_type(&head));
    let response = server.answer(head, body).await;
    match kind {
        FaultKind::ResetServed => Err(connection.reset()),
        FaultKind::CloseServed => Err(Dropped),
        FaultKind::LateAnswer => {
            faults.wait(faults.too_long(&mut chance)).await;
            Ok(response)
        }
        FaultKind::InternalErrorServed => Ok(internal_error(&mut chance)),
        FaultKind::UnavailableServed => Ok(page(503)),
        FaultKind::Garbage => {
            let garbage: Vec<u8> = (0..chance.below(200)).map(|_| chance.below(256) as u8).collect();
            Ok(answer::response(200, wire.map_or("", Wire::content_type), Bytes::from(garbage)))
        }
        FaultKind::AnswerTruncated => partial::halved(response).await,
        FaultKind::IdleClosed => {
            connection.line.close_idle();
            Ok(response)
        }
        FaultKind::RecordsFailedStored => Ok(changed(response, wire, |records| {
            for index in chance.some_of(records.len()) {
                records[index] = partial::failure("InternalFailure");
            }
        })
        .await),
        FaultKind::WrongCount => Ok(changed(response, wire, |records| drop(records.pop())).await),
        FaultKind::WrongOrder => Ok(changed(response, wire, |records| {
            if records.len() > 1 && !records.iter().any(partial::is_failure) {
                faults.count(FaultKind::WrongOrder);
                chance.shuffle(records);
            }
        })
        .await),
        _ => Ok(response),
    }
}

/// Lets a request wait beyond its client's patience, and then serves it, whether or not the client is still there.
async fn serve_late(server: &Arc<Server>, faults: &Arc<Faults>, chance: &mut Chance, head: Parts, body: Bytes) {
    let (server, faults) = (server.clone(), faults.clone());
    let late = faults.too_long(chance);
    faults.late.send_modify(|late| *late += 1);
    let served = tokio::spawn(async move {
        faults.wait(late).await;
        server.answer(head, body).await;
        faults.late.send_modify(|late| *late -= 1);
    });
    // It fails only if the endpoint ends.
    let _ = served.await;
}

async fn fail_some(server: &Server, chance: &mut Chance, head: Parts, body: Bytes, code: &str) -> Response<Body> {
    let wire = Wire::of(content_type(&head));
    let totals = wire.and_then(|wire| put_records::read(wire, &body, |_| {}).ok());
    let failed = chance.some_of(totals.map_or(0, |totals| totals.records));
    server.answer_in_part(head, body, &failed, code).await
}

/// 413, if the request could be smaller.
async fn too_large(server: &Server, faults: &Faults, head: Parts, body: Bytes) -> Response<Body> {
    let totals = Wire::of(content_type(&head)).and_then(|wire| put_records::read(wire, &body, |_| {}).ok());
    if totals.is_none_or(|totals| totals.records < 2) {
        return server.answer(head, body).await;
    }
    faults.count(FaultKind::TooLarge);
    answer::response(413, "text/html", Bytes::from_static(b"<html>Request Entity Too Large</html>"))
}

/// The answer with its results changed, if it is one of success.
async fn changed(
    response: Response<Body>,
    wire: Option<Wire>,
    change: impl FnOnce(&mut Vec<ciborium::Value>),
) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    // The body of an answer in process is in memory: reading it does not fail.
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let Some(wire) = wire.filter(|_| head.status.is_success()) else {
        return Response::from_parts(head, Body::from(body));
    };
    head.headers.remove(CONTENT_LENGTH);
    let changed = partial::with_results(wire, &body, change).unwrap_or(body);
    Response::from_parts(head, Body::from(changed))
}

/// A list of shards that is not the true one.
async fn misstated(faults: &Faults, kind: FaultKind, response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    // The body of an answer in process is in memory: reading it does not fail.
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let truth: Option<Value> = serde_json::from_slice(&body).ok().filter(|_| head.status.is_success());
    let Some(mut list) = truth else { return Response::from_parts(head, Body::from(body)) };
    head.headers.remove(CONTENT_LENGTH);
    if kind == FaultKind::ListStale {
        let before = faults.listed.lock().unwrap_or_else(PoisonError::into_inner).replace(body.clone());
        if before.is_some() {
            faults.count(kind);
        }
        return Response::from_parts(head, Body::from(before.unwrap_or(body)));
    }
    if let Some(shards) = list["Shards"].as_array_mut() {
        match kind {
            FaultKind::ListEmpty => shards.clear(),
            // The last shards are open: they have no children yet.
            FaultKind::ListGap => drop(shards.pop()),
            _ => {
                for shard in shards.iter_mut().rev().take(2) {
                    shard["HashKeyRange"]["StartingHashKey"] = "0".into();
                }
            }
        }
    }
    Response::from_parts(head, Body::from(list.to_string()))
}

fn internal_error(chance: &mut Chance) -> Response<Body> {
    // Some come from so deep inside that nobody finds words.
    if chance.below(4) == 0 {
        return answer::response(500, "", Bytes::new());
    }
    Refusal { status: 500, code: "InternalFailure", message: "injected".to_owned() }.into_response()
}

fn page(status: u16) -> Response<Body> {
    answer::response(status, "text/html", Bytes::from_static(PAGE.as_bytes()))
}

fn refusal(code: &'static str) -> Response<Body> {
    Refusal::new(code, "injected").into_response()
}
