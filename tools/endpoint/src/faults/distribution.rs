//! Service-managed distribution (`RecordDistributionStrategy` AUTO): for a while the owner of the streams has switched it on.
//!
//! ```text
//!   PutRecords ──▶ signature ──▶ other hash keys, by chance ──▶ emulator        DescribeStreamSummary ──▶ AUTO
//! ```
//!
//! No emulator plays it. Here each record of a request is given another explicit hash key before the emulator sees it, so
//! that it is stored in any shard, and described streams say so. It begins two patiences after the first PutRecords, lasts
//! one, and comes again every 25: at the library's 6 s, from 12 to 18 s and every two and a half minutes.

use super::chance::{Chance, Domain};
use super::{FaultKind, Faults};
use crate::partial;
use crate::put_records::Wire;
use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::header::CONTENT_LENGTH;
use serde_json::Value;
use std::sync::atomic::Ordering;

/// In patiences: when it begins, when it ends, and after how many it comes again.
const BEGINS: u32 = 2;
const ENDS: u32 = 3;
const PERIOD: u32 = 25;

impl Faults {
    /// Whether the service distributes records now.
    fn distributes(&self) -> bool {
        let Some(since) = self.since().filter(|_| self.options.distributes && self.options.profile.distributes())
        else {
            return false;
        };
        let patience = self.options.patience.as_nanos().max(1);
        let elapsed = since.elapsed().as_nanos() % (patience * u128::from(PERIOD));
        (patience * u128::from(BEGINS)..patience * u128::from(ENDS)).contains(&elapsed)
    }

    /// The body of a PutRecords as the emulator is to see it.
    pub(crate) fn distribute(&self, wire: Wire, body: Bytes) -> Bytes {
        if !self.distributes() {
            return body;
        }
        // Partner: none. The number only has to be new each time.
        let number = self.distributed.fetch_add(1, Ordering::Relaxed);
        let mut chance = Chance::of(self.options.seed, Domain::Place, number);
        let Some(scattered) = partial::with_hash_keys(wire, &body, || chance.hash_key()) else { return body };
        self.count(FaultKind::Distributed);
        scattered
    }

    /// The answer to a DescribeStreamSummary as the client is to see it.
    pub(crate) async fn describe(&self, response: Response<Body>) -> Response<Body> {
        if !self.distributes() {
            return response;
        }
        let (mut head, body) = response.into_parts();
        // The body of an answer in process is in memory: reading it does not fail.
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let summary: Option<Value> = serde_json::from_slice(&body).ok().filter(|_| head.status.is_success());
        let Some(mut summary) = summary else { return Response::from_parts(head, Body::from(body)) };
        summary["StreamDescriptionSummary"]["RecordDistributionStrategy"] = "AUTO".into();
        head.headers.remove(CONTENT_LENGTH);
        Response::from_parts(head, Body::from(summary.to_string()))
    }
}
