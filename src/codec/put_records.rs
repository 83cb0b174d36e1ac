//! The body of a PutRecords request, written entry by entry.
//!
//! Two wire forms of the same document, `{StreamName or StreamARN, Records: [{Data, PartitionKey, ExplicitHashKey}]}`:
//!
//! - CBOR, with data as raw bytes. Maps and arrays are of indefinite length, as AWS's Java SDK writes them, so that
//!   nothing has to be known before it is written.
//! - JSON, with data in base64, a third larger.
//!
//! It promises one well-formed document per [`RequestEncoder::finish`]. It bounds nothing: how many entries and bytes
//! a request has, the collector decides. Data comes in parts, since an aggregate lies in several buffers. In CBOR large
//! parts are shared with the [`Body`] and not copied; in JSON each byte is encoded once. Nothing is allocated but the room
//! of the body, which [`RequestEncoder::reuse`] takes from a pool; the exception is a key in JSON with characters that need
//! escapes.

use base64_simd::STANDARD;

use super::body::{Body, Part};
use super::hash_key::Decimal;
use crate::record::HashKey;

/// The value of `X-Amz-Target`.
pub const PUT_RECORDS_TARGET: &str = "Kinesis_20131202.PutRecords";

/// The form of a request, which is the form that the answer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Concise binary, RFC 8949.
    Cbor,
    /// Text, with data in base64.
    Json,
}

impl Wire {
    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Wire::Cbor => "application/x-amz-cbor-1.1",
            Wire::Json => "application/x-amz-json-1.1",
        }
    }
}

/// How a request names its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamRef<'a> {
    /// By name, within the account and region of the credentials and the endpoint.
    Name(&'a str),
    /// By ARN, which may be another account's.
    Arn(&'a str),
}

/// Writes one request. Entries are answered in the order in which they are written.
pub struct RequestEncoder {
    wire: Wire,
    entries: usize,
    body: Body,
}

impl RequestEncoder {
    /// Begins a request in `body`, whose contents are dropped and whose room is kept.
    pub fn reuse(wire: Wire, stream: StreamRef<'_>, mut body: Body) -> RequestEncoder {
        body.clear();
        let seams = &mut body.seams;
        let (field, value) = match stream {
            StreamRef::Name(name) => ("StreamName", name),
            StreamRef::Arn(arn) => ("StreamARN", arn),
        };
        match wire {
            Wire::Cbor => {
                seams.push(cbor::MAP);
                cbor::text(seams, field);
                cbor::text(seams, value);
                cbor::text(seams, "Records");
                seams.push(cbor::ARRAY);
            }
            Wire::Json => {
                seams.push(b'{');
                json::text(seams, field);
                seams.push(b':');
                json::text(seams, value);
                seams.extend_from_slice(b",\"Records\":[");
            }
        }
        RequestEncoder { wire, entries: 0, body }
    }

    /// Appends one Kinesis record, whose data is `data_parts` joined. Without an explicit hash key the service places
    /// it by its partition key, or as it likes where it distributes records itself.
    pub fn entry(&mut self, partition_key: &str, explicit_hash_key: Option<HashKey>, data_parts: &[Part<'_>]) {
        match self.wire {
            Wire::Cbor => self.cbor_entry(partition_key, explicit_hash_key, data_parts),
            Wire::Json => self.json_entry(partition_key, explicit_hash_key, data_parts),
        }
        self.entries += 1;
    }

    /// Entries written so far.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Bytes written so far; the end of the document takes 2 more.
    pub fn body_len(&self) -> usize {
        self.body.len()
    }

    /// Ends the document and hands out the body.
    pub fn finish(mut self) -> Body {
        self.body.seams.extend_from_slice(match self.wire {
            Wire::Cbor => &[cbor::BREAK, cbor::BREAK],
            Wire::Json => b"]}",
        });
        self.body
    }

    fn cbor_entry(&mut self, partition_key: &str, explicit_hash_key: Option<HashKey>, data_parts: &[Part<'_>]) {
        let seams = &mut self.body.seams;
        seams.push(cbor::MAP);
        cbor::text(seams, "Data");
        cbor::head(seams, cbor::BYTES, data_parts.iter().map(|part| part.bytes().len() as u64).sum());
        for part in data_parts {
            self.body.push(part);
        }
        let seams = &mut self.body.seams;
        cbor::text(seams, "PartitionKey");
        cbor::text(seams, partition_key);
        if let Some(hash_key) = explicit_hash_key {
            cbor::text(seams, "ExplicitHashKey");
            let decimal = Decimal::new(hash_key);
            cbor::head(seams, cbor::TEXT, decimal.as_bytes().len() as u64);
            seams.extend_from_slice(decimal.as_bytes());
        }
        seams.push(cbor::BREAK);
    }

    fn json_entry(&mut self, partition_key: &str, explicit_hash_key: Option<HashKey>, data_parts: &[Part<'_>]) {
        let text = &mut self.body.seams;
        if self.entries > 0 {
            text.push(b',');
        }
        text.extend_from_slice(b"{\"Data\":\"");
        json::base64(text, data_parts);
        text.extend_from_slice(b"\",\"PartitionKey\":");
        json::text(text, partition_key);
        if let Some(hash_key) = explicit_hash_key {
            text.extend_from_slice(b",\"ExplicitHashKey\":\"");
            text.extend_from_slice(Decimal::new(hash_key).as_bytes());
            text.push(b'"');
        }
        text.push(b'}');
    }
}

/// The few forms of CBOR that a request needs.
mod cbor {
    pub(super) const BYTES: u8 = 2 << 5;
    pub(super) const TEXT: u8 = 3 << 5;
    /// An array of indefinite length.
    pub(super) const ARRAY: u8 = 4 << 5 | 31;
    /// A map of indefinite length.
    pub(super) const MAP: u8 = 5 << 5 | 31;
    pub(super) const BREAK: u8 = 0xFF;

    /// The head of an item of type `major` and length `len`, in its shortest form.
    pub(super) fn head(out: &mut Vec<u8>, major: u8, len: u64) {
        match len {
            0..24 => out.push(major | len as u8),
            24..0x100 => out.extend_from_slice(&[major | 24, len as u8]),
            0x100..0x1_0000 => {
                out.push(major | 25);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            0x1_0000..0x1_0000_0000 => {
                out.push(major | 26);
                out.extend_from_slice(&(len as u32).to_be_bytes());
            }
            _ => {
                out.push(major | 27);
                out.extend_from_slice(&len.to_be_bytes());
            }
        }
    }

    pub(super) fn text(out: &mut Vec<u8>, text: &str) {
        head(out, TEXT, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
}

/// The few forms of JSON that a request needs.
mod json {
    use super::*;

    /// A string with its quotes. Most keys need no escape and are copied as they are.
    pub(super) fn text(out: &mut Vec<u8>, text: &str) {
        if text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
            out.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
            return;
        }
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }

    /// The base64 of `parts` joined. Base64 takes three bytes at a time, which may lie in more than one part.
    pub(super) fn base64(out: &mut Vec<u8>, parts: &[Part<'_>]) {
        let bytes: usize = parts.iter().map(|part| part.bytes().len()).sum();
        // The encoder itself would make room for each piece exactly, and move all that is there each time.
        out.reserve(bytes.div_ceil(3) * 4);
        let mut triple = [0; 3];
        let mut held = 0;
        for part in parts {
            let part = part.bytes();
            let (head, rest) = part.split_at(part.len().min((3 - held) % 3));
            triple[held..held + head.len()].copy_from_slice(head);
            held += head.len();
            if held == 3 {
                STANDARD.encode_append(triple, out);
                held = 0;
            }
            // If something is held still, the part is used up.
            let (whole, tail) = rest.split_at(rest.len() - rest.len() % 3);
            STANDARD.encode_append(whole, out);
            triple[held..held + tail.len()].copy_from_slice(tail);
            held += tail.len();
        }
        STANDARD.encode_append(&triple[..held], out);
    }
}

#[cfg(test)]
mod tests;
