//! The service's end of the wire: reads PutRecords requests and writes answers, with codecs that are not ours.
//!
//! It is strict where Kinesis is: a request that it cannot read as Kinesis would is a fault of the library.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ciborium::Value as Cbor;
use kpl::codec::Wire;
use serde_json::{Value as Json, json};

/// One Kinesis record of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Data, as stored.
    pub data: Vec<u8>,
    /// Partition key.
    pub key: String,
    /// Explicit hash key.
    pub explicit: Option<u128>,
}

/// Reads the stream's name and the entries.
pub fn read_request(wire: Wire, body: &[u8]) -> Result<(String, Vec<Entry>), String> {
    match wire {
        Wire::Cbor => read_cbor(body),
        Wire::Json => read_json(body),
    }
}

fn read_cbor(body: &[u8]) -> Result<(String, Vec<Entry>), String> {
    let mut rest = body;
    let document: Cbor = ciborium::from_reader(&mut rest).map_err(|error| format!("CBOR: {error}"))?;
    if !rest.is_empty() {
        return Err(format!("{} bytes after the request", rest.len()));
    }
    let mut name = None;
    let mut entries = Vec::new();
    for (field, value) in document.into_map().map_err(|_| "the request is no map")? {
        match (field.as_text(), value) {
            (Some("StreamName"), Cbor::Text(text)) => name = Some(text),
            (Some("Records"), Cbor::Array(records)) => {
                for record in records {
                    entries.push(cbor_entry(record)?);
                }
            }
            (field, _) => return Err(format!("unexpected field {field:?}")),
        }
    }
    Ok((name.ok_or("no stream")?, entries))
}

fn cbor_entry(record: Cbor) -> Result<Entry, String> {
    let (mut data, mut key, mut explicit) = (None, None, None);
    for (field, value) in record.into_map().map_err(|_| "a record is no map")? {
        match (field.as_text(), value) {
            (Some("Data"), Cbor::Bytes(bytes)) => data = Some(bytes),
            (Some("PartitionKey"), Cbor::Text(text)) => key = Some(text),
            (Some("ExplicitHashKey"), Cbor::Text(text)) => explicit = Some(decimal(&text)?),
            (field, _) => return Err(format!("unexpected field {field:?}")),
        }
    }
    Ok(Entry { data: data.ok_or("no data")?, key: key.ok_or("no key")?, explicit })
}

fn read_json(body: &[u8]) -> Result<(String, Vec<Entry>), String> {
    let document: Json = serde_json::from_slice(body).map_err(|error| format!("JSON: {error}"))?;
    let name = document["StreamName"].as_str().ok_or("no stream")?.to_owned();
    let records = document["Records"].as_array().ok_or("no records")?;
    let mut entries = Vec::with_capacity(records.len());
    for record in records {
        let data = record["Data"].as_str().ok_or("no data")?;
        let explicit = record.get("ExplicitHashKey").map(|text| decimal(text.as_str().unwrap_or("")));
        entries.push(Entry {
            data: STANDARD.decode(data).map_err(|error| format!("base64: {error}"))?,
            key: record["PartitionKey"].as_str().ok_or("no key")?.to_owned(),
            explicit: explicit.transpose()?,
        });
    }
    Ok((name, entries))
}

/// A hash key in canonical decimal.
fn decimal(text: &str) -> Result<u128, String> {
    match text.parse::<u128>() {
        Ok(value) if value.to_string() == text => Ok(value),
        _ => Err(format!("explicit hash key {text:?}")),
    }
}

/// What became of one entry, as the service tells it.
pub enum Told {
    /// Shard id and sequence number.
    Stored(String, String),
    /// Code and message.
    Refused(&'static str, &'static str),
}

/// Writes a successful answer.
pub fn write_answer(wire: Wire, entries: &[Told]) -> Vec<u8> {
    let failed = entries.iter().filter(|entry| matches!(entry, Told::Refused(..))).count();
    match wire {
        Wire::Json => {
            let entry = |entry: &Told| match entry {
                Told::Stored(shard, sequence) => json!({ "SequenceNumber": sequence, "ShardId": shard }),
                Told::Refused(code, message) => json!({ "ErrorCode": code, "ErrorMessage": message }),
            };
            let records: Vec<Json> = entries.iter().map(entry).collect();
            json!({ "FailedRecordCount": failed, "Records": records }).to_string().into_bytes()
        }
        Wire::Cbor => {
            let map = |pairs: [(&str, &str); 2]| {
                Cbor::Map(pairs.map(|(field, value)| (Cbor::from(field), Cbor::from(value))).into())
            };
            let entry = |entry: &Told| match entry {
                Told::Stored(shard, sequence) => map([("SequenceNumber", sequence), ("ShardId", shard)]),
                Told::Refused(code, message) => map([("ErrorCode", code), ("ErrorMessage", message)]),
            };
            let records = Cbor::Array(entries.iter().map(entry).collect());
            let count = (Cbor::from("FailedRecordCount"), Cbor::from(failed as u64));
            write_cbor(&Cbor::Map(vec![count, (Cbor::from("Records"), records)]))
        }
    }
}

/// Writes an error for a whole request.
pub fn write_error(wire: Wire, code: &str, message: &str) -> Vec<u8> {
    match wire {
        Wire::Json => json!({ "__type": code, "message": message }).to_string().into_bytes(),
        Wire::Cbor => write_cbor(&Cbor::Map(vec![
            (Cbor::from("__type"), Cbor::from(format!("com.amazonaws.kinesis#{code}"))),
            (Cbor::from("message"), Cbor::from(message)),
        ])),
    }
}

fn write_cbor(value: &Cbor) -> Vec<u8> {
    let mut body = Vec::new();
    ciborium::into_writer(value, &mut body).expect("a vector takes every byte");
    body
}
