//! What `ferrokinesis` 0.7 lacks of the control plane, made good in front of it.
//!
//! Its ListShards and DescribeStreamSummary know names and no ARNs; its ListShards gives a NextToken that it does not
//! take back, lists 10 000 shards where the service lists 1000, and ignores ShardFilter. Here the request is rewritten
//! to what it understands, and the answer to what the service would say. JSON only, as the SDK speaks it; requests in
//! CBOR pass as they are.

use crate::answer::Refusal;
use serde_json::{Value, json};

/// Shards of a page when the request does not say. Service.
const PAGE_DEFAULT: u64 = 1000;

/// What must be done to the answer of a rewritten ListShards.
pub(super) struct Page {
    stream: String,
    size: u64,
    filter: Value,
}

/// The request as the emulator understands it.
pub(super) fn rewrite(operation: &str, request: &mut Value) -> Result<Option<Page>, Refusal> {
    if let Some(name) = request["StreamARN"].as_str().and_then(|arn| arn.rsplit_once(":stream/")).map(|(_, name)| name)
    {
        *request = with(request, &[("StreamName", json!(name)), ("StreamARN", Value::Null)]);
    }
    if operation != "ListShards" {
        return Ok(None);
    }
    let invalid = |message: &str| Refusal::new("InvalidArgumentException", message);
    let mut size = request["MaxResults"].as_u64();
    let mut filter = request["ShardFilter"].clone();
    if let Some(token) = request["NextToken"].as_str() {
        let alone = ["StreamName", "ShardFilter", "ExclusiveStartShardId", "StreamCreationTimestamp"];
        if alone.iter().any(|field| !request[field].is_null()) {
            return Err(invalid("NextToken and StreamName cannot be provided together."));
        }
        let token: Value = serde_json::from_str(token).map_err(|_| invalid("NextToken is invalid."))?;
        size = size.or(token["size"].as_u64());
        filter = token["filter"].clone();
        *request = json!({ "StreamName": token["stream"], "ExclusiveStartShardId": token["after"] });
    }
    let size = size.unwrap_or(PAGE_DEFAULT);
    if filter["Type"] == "AFTER_SHARD_ID" && request["ExclusiveStartShardId"].is_null() {
        *request = with(request, &[("ExclusiveStartShardId", filter["ShardId"].clone())]);
    }
    *request = with(request, &[("MaxResults", json!(size)), ("ShardFilter", Value::Null)]);
    let Some(stream) = request["StreamName"].as_str() else { return Ok(None) };
    Ok(Some(Page { stream: stream.to_owned(), size, filter }))
}

/// The answer as the service would give it.
pub(super) fn finish(page: &Page, answer: &mut Value) {
    if let Some(after) = answer["NextToken"].as_str() {
        let token = json!({ "stream": page.stream, "size": page.size, "filter": page.filter, "after": after });
        answer["NextToken"] = json!(token.to_string());
    }
    if page.filter["Type"] == "AT_LATEST"
        && let Some(shards) = answer["Shards"].as_array_mut()
    {
        shards.retain(|shard| shard["SequenceNumberRange"]["EndingSequenceNumber"].is_null());
    }
}

/// A copy of an object with fields set, or left out if null.
fn with(object: &Value, fields: &[(&str, Value)]) -> Value {
    let mut copy = object.clone();
    if let Some(map) = copy.as_object_mut() {
        for (name, value) in fields {
            map.insert((*name).to_owned(), value.clone());
        }
        map.retain(|_, value| !value.is_null());
    }
    copy
}
