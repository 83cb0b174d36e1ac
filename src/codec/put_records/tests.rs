//! Requests as independent decoders read them: `ciborium` for CBOR, `serde_json` for JSON.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ciborium::Value as Cbor;

use super::*;
use crate::codec::{Buffers, SHARED_BYTES_MIN};

struct Entry<'a> {
    key: &'a str,
    explicit: Option<u128>,
    parts: Vec<&'a [u8]>,
}

fn encode(wire: Wire, stream: StreamRef<'_>, entries: &[Entry<'_>]) -> Vec<u8> {
    let mut encoder = RequestEncoder::reuse(wire, stream, Body::default());
    for entry in entries {
        let parts: Vec<Part<'_>> = entry.parts.iter().map(|part| Part::copied(part)).collect();
        encoder.entry(entry.key, entry.explicit.map(HashKey), &parts);
    }
    assert_eq!(encoder.entries(), entries.len());
    let len = encoder.body_len();
    let body = encoder.finish();
    assert_eq!(body.len(), len + 2);
    body.to_vec()
}

/// Entries whose lengths lie on both sides of every form of a CBOR head and of every remainder of base64.
fn with_entries(check: impl Fn(&[Entry<'_>])) {
    let data: Vec<u8> = (0..70_000u32).map(|i| (i * 31) as u8).collect();
    let long_key = "\u{FFFF}".repeat(256);
    let escaped = "quote \" back \\ line \n bell \u{7} slash / nul \0 del \u{7F}";
    let keys = ["a", "ключ 🔑", "twenty-four characters..", &long_key, escaped];
    let lengths = [0, 1, 2, 3, 4, 23, 24, 255, 256, 767, 768, 769, 65_535, 65_536];
    let mut entries = vec![Entry { key: "a", explicit: None, parts: vec![] }];
    for (index, len) in lengths.into_iter().enumerate() {
        let explicit = Some(u128::MAX >> (index * 9));
        entries.push(Entry { key: keys[index % keys.len()], explicit, parts: vec![&data[..len]] });
    }
    for cut in 0..9 {
        let parts = vec![&data[..cut], &data[cut..cut], &data[cut..cut + 1], &data[cut + 1..2 * cut + 5]];
        entries.push(Entry { key: keys[cut % keys.len()], explicit: Some(0), parts });
    }
    check(&[]);
    check(&entries);
}

fn field<'a>(map: &'a Cbor, name: &str) -> Option<&'a Cbor> {
    map.as_map()?.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
}

#[test]
fn cbor_reads_as_it_was_given() {
    with_entries(|entries| {
        let body = encode(Wire::Cbor, StreamRef::Name("stream"), entries);
        let mut rest = &body[..];
        let document: Cbor = ciborium::from_reader(&mut rest).unwrap();
        assert!(rest.is_empty());
        assert_eq!(document.as_map().unwrap().len(), 2);
        assert_eq!(field(&document, "StreamName").unwrap().as_text(), Some("stream"));
        let records = field(&document, "Records").unwrap().as_array().unwrap();
        assert_eq!(records.len(), entries.len());
        for (record, entry) in records.iter().zip(entries) {
            assert_eq!(field(record, "Data").unwrap().as_bytes(), Some(&entry.parts.concat()));
            assert_eq!(field(record, "PartitionKey").unwrap().as_text(), Some(entry.key));
            let explicit = entry.explicit.map(|value| value.to_string());
            assert_eq!(field(record, "ExplicitHashKey").and_then(Cbor::as_text), explicit.as_deref());
            assert_eq!(record.as_map().unwrap().len(), 2 + usize::from(explicit.is_some()));
        }
    });
}

#[test]
fn json_reads_as_it_was_given() {
    with_entries(|entries| {
        let body = encode(Wire::Json, StreamRef::Arn("arn:aws:kinesis:eu-west-1:1:stream/s"), entries);
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(document.as_object().unwrap().len(), 2);
        assert_eq!(document["StreamARN"], "arn:aws:kinesis:eu-west-1:1:stream/s");
        let records = document["Records"].as_array().unwrap();
        assert_eq!(records.len(), entries.len());
        for (record, entry) in records.iter().zip(entries) {
            let data = STANDARD.decode(record["Data"].as_str().unwrap()).unwrap();
            assert_eq!(data, entry.parts.concat());
            assert_eq!(record["PartitionKey"], entry.key);
            let explicit = entry.explicit.map(|value| value.to_string());
            assert_eq!(record.get("ExplicitHashKey").and_then(|value| value.as_str()), explicit.as_deref());
            assert_eq!(record.as_object().unwrap().len(), 2 + usize::from(explicit.is_some()));
        }
    });
}

#[test]
fn cbor_is_written_as_the_java_sdk_writes_it() {
    let parts = vec![&b"da"[..], b"ta"];
    let body = encode(Wire::Cbor, StreamRef::Name("s"), &[Entry { key: "k", explicit: Some(7), parts }]);
    let expected = b"\xBF\x6AStreamName\x61s\x67Records\x9F\
        \xBF\x64Data\x44data\x6CPartitionKey\x61k\x6FExplicitHashKey\x617\xFF\xFF\xFF";
    assert_eq!(body, expected);
}

#[test]
fn a_reused_body_is_emptied_and_keeps_its_room() {
    let mut used = Body::default();
    used.seams.resize(4096, 1);
    used.push(&Part::of(&Arc::new(Buffers([vec![2; SHARED_BYTES_MIN], Vec::new(), Vec::new()])), 0, 0));
    let mut encoder = RequestEncoder::reuse(Wire::Json, StreamRef::Name("s"), used);
    encoder.entry("k", None, &[Part::copied(b"d")]);
    let body = encoder.finish();
    assert_eq!(body.to_vec(), br#"{"StreamName":"s","Records":[{"Data":"ZA==","PartitionKey":"k"}]}"#);
    assert!(body.capacity() >= 4096);
}

#[test]
fn a_document_is_the_same_whether_its_data_is_shared_or_copied() {
    let lens = [SHARED_BYTES_MIN - 1, SHARED_BYTES_MIN, 3 * SHARED_BYTES_MIN];
    let buffers = Arc::new(Buffers(lens.map(|len| (0..len).map(|at| (at * 7) as u8).collect())));
    for wire in [Wire::Cbor, Wire::Json] {
        let [shared, copied] = [true, false].map(|shares| {
            let mut encoder = RequestEncoder::reuse(wire, StreamRef::Name("s"), Body::default());
            for from in [0, 1, 4095] {
                let part = |buffer: usize| match shares {
                    true => Part::of(&buffers, buffer, from),
                    false => Part::copied(&buffers.0[buffer][from..]),
                };
                encoder.entry("k", Some(HashKey(from as u128)), &[part(0), Part::copied(b"seam"), part(1), part(2)]);
            }
            encoder.finish()
        });
        assert_eq!(shared.to_vec(), copied.to_vec());
        assert_eq!(copied.shared_bytes(), 0);
        let expected = if wire == Wire::Json { 0 } else { SHARED_BYTES_MIN + 9 * SHARED_BYTES_MIN - 4096 };
        assert_eq!(shared.shared_bytes(), expected);
    }
}
