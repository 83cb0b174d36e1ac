//! Reads PutRecords requests without copying their data: what is in them, and whether it is allowed.
//!
//! The data of a record is stepped over, never looked at; only its length counts. So a body costs time by its records,
//! not by its bytes. The rules are the service's: 1 to 500 records, 10 MiB in all and for one record, keys of 1 to 256
//! characters, explicit hash keys below 2^128.
//!
//! This is no code of the library's, so that what judges the library's requests is not what wrote them.

mod cbor;
mod json;

use crate::answer::{CBOR, JSON, Refusal};
use std::borrow::Cow;

const RECORDS_MAX: usize = 500;
const BYTES_MAX: usize = 10 * 1024 * 1024;
const KEY_CHARS_MAX: usize = 256;

/// The two forms of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    /// JSON 1.1, data in base64.
    Json,
    /// CBOR, data as byte strings.
    Cbor,
}

impl Wire {
    /// The form that a content type names.
    pub(crate) fn of(content_type: &str) -> Option<Wire> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            JSON => Some(Wire::Json),
            CBOR => Some(Wire::Cbor),
            _ => None,
        }
    }

    /// The content type that names this form.
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Wire::Json => JSON,
            Wire::Cbor => CBOR,
        }
    }
}

/// One entry as it stands in the request; what is absent or null is `None`.
#[derive(Default)]
struct RawEntry<'a> {
    data_bytes: Option<usize>,
    partition_key: Option<Cow<'a, str>>,
    explicit_hash_key: Option<Cow<'a, str>>,
}

/// One entry that obeys the rules.
pub(crate) struct Entry<'a> {
    pub partition_key: Cow<'a, str>,
    pub explicit_hash_key: Option<u128>,
}

/// What a request holds in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub records: usize,
    /// Data and partition keys.
    pub bytes: usize,
}

/// Reads a whole request and shows each entry to `visit`, in order.
///
/// Entries are shown before the request is known to be good as a whole; on an error the visitor's work is void.
pub(crate) fn read<'a>(wire: Wire, body: &'a [u8], mut visit: impl FnMut(Entry<'a>)) -> Result<Totals, Refusal> {
    let mut totals = Totals::default();
    let mut take = |raw: RawEntry<'a>| {
        totals.records += 1;
        if totals.records > RECORDS_MAX {
            return Err(violation("records", "Member must have length less than or equal to 500"));
        }
        let (entry, bytes) = check(raw, totals.records)?;
        totals.bytes += bytes;
        if totals.bytes > BYTES_MAX {
            return Err(Refusal::new("InvalidArgumentException", "Records size exceeds 10 MB limit"));
        }
        visit(entry);
        Ok(())
    };
    let names_stream = match wire {
        Wire::Cbor => cbor::read(body, &mut take)?,
        Wire::Json => json::read(body, &mut take)?,
    };
    if totals.records == 0 {
        return Err(violation("records", "Member must have length greater than or equal to 1"));
    }
    if !names_stream {
        return Err(Refusal::new("InvalidArgumentException", "Either StreamName or StreamARN must be provided."));
    }
    Ok(totals)
}

/// The entry and its bytes, or which rule it breaks. `number` counts from 1, as the service's messages do.
fn check(raw: RawEntry<'_>, number: usize) -> Result<(Entry<'_>, usize), Refusal> {
    let member = |field: &str| format!("records.{number}.member.{field}");
    let Some(data_bytes) = raw.data_bytes else {
        return Err(violation(&member("data"), "Member must not be null"));
    };
    let Some(partition_key) = raw.partition_key else {
        return Err(violation(&member("partitionKey"), "Member must not be null"));
    };
    if partition_key.is_empty() {
        return Err(violation(&member("partitionKey"), "Member must have length greater than or equal to 1"));
    }
    // A character is at least a byte, so most keys need not be counted.
    if partition_key.len() > KEY_CHARS_MAX && partition_key.chars().count() > KEY_CHARS_MAX {
        return Err(violation(&member("partitionKey"), "Member must have length less than or equal to 256"));
    }
    let bytes = data_bytes + partition_key.len();
    if bytes > BYTES_MAX {
        return Err(violation(&member("data"), "Member must have length less than or equal to 10485760"));
    }
    let explicit_hash_key = match raw.explicit_hash_key {
        None => None,
        Some(text) => Some(hash_key(&text).ok_or_else(|| {
            let rule = "Member must satisfy regular expression pattern: 0|([1-9]\\d{0,38})";
            violation(&member("explicitHashKey"), rule)
        })?),
    };
    Ok((Entry { partition_key, explicit_hash_key }, bytes))
}

/// The number, if it is written as the service wants it: decimal, without sign or leading zeros, below 2^128.
fn hash_key(text: &str) -> Option<u128> {
    let canonical = text == "0" || matches!(text.as_bytes().first(), Some(b'1'..=b'9'));
    if canonical { text.parse().ok() } else { None }
}

fn violation(member: &str, rule: &str) -> Refusal {
    let message = format!("1 validation error detected: Value at '{member}' failed to satisfy constraint: {rule}");
    Refusal::new("ValidationException", message)
}
