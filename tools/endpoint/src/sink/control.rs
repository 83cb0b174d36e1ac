//! The sink's control plane: ListShards with pages, DescribeStreamSummary. Rare, so written for the eye.

use super::shards::{self, Shards};
use crate::answer::Refusal;
use crate::config::ACCOUNT_ID;
use crate::put_records::Wire;
use serde_json::{Value, json};

/// Shards of a page when the request does not say. Service.
const PAGE_DEFAULT: u64 = 1000;
/// Most shards of a page. Service.
const PAGE_MAX: u64 = 10_000;

pub(super) fn decode(wire: Wire, body: &[u8]) -> Result<Value, Refusal> {
    let value: Option<Value> = match wire {
        Wire::Json => serde_json::from_slice(body).ok(),
        Wire::Cbor => ciborium::from_reader(body).ok(),
    };
    value.filter(Value::is_object).ok_or_else(Refusal::malformed)
}

pub(super) fn encode(wire: Wire, value: &Value) -> Vec<u8> {
    match wire {
        Wire::Json => value.to_string().into_bytes(),
        Wire::Cbor => {
            let mut out = Vec::new();
            ciborium::into_writer(value, &mut out)
                .expect("a vector takes every write and JSON has no unwritable value");
            out
        }
    }
}

/// One page. A token is `start:page` and must come alone, as the service demands.
pub(super) fn list_shards(shards: &Shards, request: &Value) -> Result<Value, Refusal> {
    let invalid = |message: &str| Refusal::new("InvalidArgumentException", message);
    let page = request["MaxResults"].as_u64();
    if page.is_some_and(|page| page == 0 || page > PAGE_MAX) {
        return Err(Refusal::new("ValidationException", "MaxResults must be between 1 and 10000"));
    }
    let (start, page) = match request["NextToken"].as_str() {
        Some(token) => {
            let alone = ["StreamName", "StreamARN", "ShardFilter", "ExclusiveStartShardId", "StreamCreationTimestamp"];
            if alone.iter().any(|field| !request[field].is_null()) {
                return Err(invalid("NextToken and StreamName cannot be provided together."));
            }
            let parts = token.split_once(':').and_then(|(start, page)| Some((start.parse().ok()?, page.parse().ok()?)));
            let (start, default): (usize, u64) = parts.ok_or_else(|| invalid("NextToken is invalid."))?;
            (start, page.unwrap_or(default))
        }
        None => {
            stream_name(request)?;
            let after = request["ExclusiveStartShardId"].as_str().unwrap_or_default();
            let start = (0..shards.count()).position(|shard| shards::id(shard).as_str() > after);
            (start.unwrap_or(shards.count()), page.unwrap_or(PAGE_DEFAULT))
        }
    };
    let end = start.saturating_add(page as usize).min(shards.count());
    let listed: Vec<Value> = (start.min(end)..end).map(|shard| describe_shard(shards, shard)).collect();
    let mut answer = json!({ "Shards": listed });
    if end < shards.count() {
        answer["NextToken"] = json!(format!("{end}:{page}"));
    }
    Ok(answer)
}

fn describe_shard(shards: &Shards, shard: usize) -> Value {
    let (first, last) = shards.range(shard);
    json!({
        "ShardId": shards::id(shard),
        "HashKeyRange": { "StartingHashKey": first.to_string(), "EndingHashKey": last.to_string() },
        "SequenceNumberRange": { "StartingSequenceNumber": "49000000000000000000000000000000000000000000000000000000" },
    })
}

pub(super) fn describe(shards: &Shards, region: &str, request: &Value) -> Result<Value, Refusal> {
    let name = stream_name(request)?;
    Ok(json!({
        "StreamDescriptionSummary": {
            "StreamName": name,
            "StreamARN": format!("arn:aws:kinesis:{region}:{ACCOUNT_ID}:stream/{name}"),
            "StreamStatus": "ACTIVE",
            "StreamModeDetails": { "StreamMode": "PROVISIONED" },
            "RetentionPeriodHours": 24,
            "StreamCreationTimestamp": 1_700_000_000.0,
            "EnhancedMonitoring": [{ "ShardLevelMetrics": [] }],
            "EncryptionType": "NONE",
            "OpenShardCount": shards.count(),
            "ConsumerCount": 0,
            "MaxRecordSizeInKiB": 10_240,
        }
    }))
}

/// The stream's name, from the name or the end of the ARN.
fn stream_name(request: &Value) -> Result<&str, Refusal> {
    let of_arn = || request["StreamARN"].as_str()?.rsplit_once('/').map(|(_, name)| name);
    request["StreamName"]
        .as_str()
        .or_else(of_arn)
        .ok_or_else(|| Refusal::new("InvalidArgumentException", "Either StreamName or StreamARN should be provided."))
}
