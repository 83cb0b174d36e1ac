//! The emulator: `ferrokinesis` behind our door, with its limits opened and its waits shortened.
//!
//! It stores records in memory, in one ordered map per shard, data in base64 (so 4/3 of its size), and keeps them until
//! it is dropped; what is older than the retention of 24 hours is deleted when a reader comes upon it.
//!
//! With a state directory it answers a write when that is on disk, and finds it there when it is started again; a process
//! that is killed loses nothing that it answered.
//!
//! Its own limits, which a client must know: 1 MiB of data in a record, 5 MiB of data and keys in a PutRecords (past it
//! `InvalidArgumentException`), up to 10 000 records in a GetRecords answer and no bound on its bytes, iterators good
//! for 300 s. What its control plane lacks, [`control`] makes good.

mod control;

use crate::answer::JSON;
use crate::config::{ACCOUNT_ID, EmulatorOptions};
use axum::Router;
use axum::body::Body;
use axum::extract::DefaultBodyLimit;
use bytes::Bytes;
use ferrokinesis::store::{DurableStateOptions, Store, StoreOptions};
use http_body_util::BodyExt;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::http::request::Parts;
use hyper::{Request, Response};
use serde_json::Value;
use tower_service::Service;

/// How often the log of a durable store begins anew. Each of its entries is the whole store.
const SNAPSHOT_INTERVAL_S: u64 = 1;

pub(crate) struct Emulator {
    router: Router,
    enforces_limits: bool,
}

impl Emulator {
    pub(crate) fn new(options: &EmulatorOptions, region: &str) -> Emulator {
        let store = Store::new(StoreOptions {
            create_stream_ms: 0,
            delete_stream_ms: 0,
            update_stream_ms: options.update_ms,
            shard_limit: u32::MAX,
            enforce_limits: options.enforce_limits,
            max_retained_bytes: options.retained_bytes_max,
            durable: options.state_dir.clone().map(|state_dir| DurableStateOptions {
                state_dir,
                snapshot_interval_secs: SNAPSHOT_INTERVAL_S,
                max_retained_bytes: None,
            }),
            aws_account_id: ACCOUNT_ID.to_owned(),
            aws_region: region.to_owned(),
            ..StoreOptions::default()
        });
        // The server bounds bodies for both kinds of endpoint; axum's own bound of 2 MiB would be in the way.
        let router = ferrokinesis::create_router(store).layer(DefaultBodyLimit::disable());
        Emulator { router, enforces_limits: options.enforce_limits }
    }

    /// The emulator's answer to a request for `operation`.
    pub(crate) async fn answer(&self, operation: &str, head: Parts, body: Bytes) -> Response<Body> {
        let in_json = head.headers.get(CONTENT_TYPE).is_some_and(|value| value == JSON);
        if in_json && matches!(operation, "ListShards" | "DescribeStreamSummary") {
            return self.answer_control(operation, head, body).await;
        }
        self.pass_on(head, body).await
    }

    async fn answer_control(&self, operation: &str, head: Parts, body: Bytes) -> Response<Body> {
        let request: Option<Value> = serde_json::from_slice(&body).ok().filter(Value::is_object);
        // What is malformed the emulator may name itself.
        let Some(mut request) = request else { return self.pass_on(head, body).await };
        let page = match control::rewrite(operation, &mut request) {
            Ok(page) => page,
            Err(refusal) => return refusal.into_response(),
        };
        let response = self.pass_on(head, Bytes::from(request.to_string())).await;
        let Some(page) = page.filter(|_| response.status().is_success()) else { return response };
        let (mut head, body) = response.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let Ok(mut answer) = serde_json::from_slice(&body) else { return Response::from_parts(head, Body::from(body)) };
        control::finish(&page, &mut answer);
        head.headers.remove(CONTENT_LENGTH);
        Response::from_parts(head, Body::from(answer.to_string()))
    }

    async fn pass_on(&self, head: Parts, body: Bytes) -> Response<Body> {
        let mut router = self.router.clone();
        let request = Request::from_parts(head, Body::from(body));
        match router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// How many records of a PutRecords its answer says were not stored, and the answer again.
    pub(crate) async fn failed_records(&self, response: Response<Body>) -> (u64, Response<Body>) {
        // Only throttled shards refuse single records.
        if !self.enforces_limits {
            return (0, response);
        }
        let (head, body) = response.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let answer: Option<ciborium::Value> =
            serde_json::from_slice(&body).or_else(|_| ciborium::from_reader(&body[..])).ok();
        let failed = answer.as_ref().and_then(ciborium::Value::as_map).and_then(|fields| {
            let (_, count) = fields.iter().find(|(name, _)| name.as_text() == Some("FailedRecordCount"))?;
            u64::try_from(count.as_integer()?).ok()
        });
        (failed.unwrap_or(0), Response::from_parts(head, Body::from(body)))
    }
}
