//! PutRecords in JSON: strings are borrowed from the body, base64 is measured but not decoded.

use super::RawEntry;
use crate::answer::Refusal;
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Request<'a> {
    #[serde(borrow, default)]
    records: Vec<Record<'a>>,
    #[serde(borrow)]
    stream_name: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "StreamARN")]
    stream_arn: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record<'a> {
    #[serde(borrow)]
    data: Option<Text<'a>>,
    #[serde(borrow)]
    partition_key: Option<Text<'a>>,
    #[serde(borrow)]
    explicit_hash_key: Option<Text<'a>>,
}

/// A string that is borrowed if it holds no escapes. (Serde copies a bare `Option<Cow>`.)
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads a PutRecords request; tells whether it names a stream.
pub(super) fn read<'a>(
    body: &'a [u8],
    take: &mut dyn FnMut(RawEntry<'a>) -> Result<(), Refusal>,
) -> Result<bool, Refusal> {
    // The text is checked once here, faster than string by string.
    let text = str::from_utf8(body).map_err(|_| Refusal::malformed())?;
    let request: Request<'a> = serde_json::from_str(text).map_err(|_| Refusal::malformed())?;
    for record in request.records {
        let data_bytes = match record.data {
            Some(data) => Some(decoded_length(&data.0).ok_or_else(Refusal::malformed)?),
            None => None,
        };
        take(RawEntry {
            data_bytes,
            partition_key: record.partition_key.map(|key| key.0),
            explicit_hash_key: record.explicit_hash_key.map(|key| key.0),
        })?;
    }
    Ok(request.stream_name.is_some() || request.stream_arn.is_some())
}

/// Bytes that a base64 text stands for; `None` if its length, padding or any character is wrong.
fn decoded_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(4) {
        return None;
    }
    let padding = bytes.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    let digits = &bytes[..bytes.len() - padding];
    // A fold without an early exit, so that the compiler can work on many bytes at once.
    let valid = digits
        .iter()
        .fold(true, |valid, &byte| valid & (byte.is_ascii_alphanumeric() | (byte == b'+') | (byte == b'/')));
    valid.then_some(bytes.len() / 4 * 3 - padding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_measured() {
        assert_eq!(decoded_length(""), Some(0));
        assert_eq!(decoded_length("YQ=="), Some(1));
        assert_eq!(decoded_length("YWI="), Some(2));
        assert_eq!(decoded_length("YWJj"), Some(3));
        for wrong in ["YQ=", "Y===", "Y=Q=", "YQ-_", "===="] {
            assert_eq!(decoded_length(wrong), None, "{wrong}");
        }
    }
}
