//! What the service answered to PutRecords: a result for each entry, or one error for the request.
//!
//! ```text
//!                     ┌─ CBOR map ──▶ cbor ─┐             ┌─ Records, status 2xx ──▶ a result for each entry
//! status, body ───────┼─ '{' ───────▶ json ─┼▶ Document ──┼─ a code ───────────────▶ RequestError, Service(code)
//!                     └─ else ──────────────┘             └─ else ─────────────────▶ RequestError, UnreadableAnswer
//! ```
//!
//! The form is told by the first byte, not by the content type: an error under CBOR may come back as JSON, and a
//! proxy may answer with HTML or nothing.
//!
//! It promises to survive arbitrary bytes: no panic, no recursion deeper than a constant, no allocation that the
//! body's length does not pay for, at most 500 entries. Unknown fields are passed over. It refuses to judge: whether
//! an error is retried the retrier decides, and whether the number of results is right the sender.
//!
//! It costs one allocation for each sequence number. Shard ids, codes and messages are shared between equal ones.

mod cbor;
mod json;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::message::{kept_message, masked};
use crate::outcome::ErrorCode;

/// Longest code that is taken for one, in bytes. AWS's longest is below 60.
const CODE_BYTES_MAX: usize = 128;
/// Characters of an unreadable body that are shown.
const EXCERPT_CHARS_MAX: usize = 200;

/// What became of one entry of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryResult {
    /// It is in the stream.
    Stored {
        /// The shard that holds it.
        shard_id: Arc<str>,
        /// Its sequence number in that shard.
        sequence_number: Arc<str>,
    },
    /// It is not, or cannot be told to be.
    Failed {
        /// The service's code, verbatim.
        code: Arc<str>,
        /// The service's message, cut at 1024 characters; it may be empty.
        message: Arc<str>,
    },
}

/// A request that was answered, but not with a result for each entry. Its entries may have been stored if the status
/// is 5xx, or 2xx with an unreadable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// The HTTP status.
    pub status: u16,
    /// [`ErrorCode::Service`] with the service's code, without namespace and address, or
    /// [`ErrorCode::UnreadableAnswer`].
    pub code: ErrorCode,
    /// The service's message, or the beginning of what could not be read.
    pub message: Arc<str>,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (status {}): {}", self.code, self.status, self.message)
    }
}

impl std::error::Error for RequestError {}

/// Reads an answer. `content_type` only explains an unreadable one; `error_type_header` is `x-amzn-errortype`, which
/// goes before the code in the body.
pub fn parse_answer(
    status: u16,
    content_type: Option<&str>,
    error_type_header: Option<&str>,
    body: &[u8],
) -> Result<Vec<EntryResult>, RequestError> {
    let mut document = Document::read(body);
    let records = document.as_mut().and_then(|document| document.records.take());
    if let (200..300, Some(records)) = (status, records)
        && let Some(results) = entry_results(records)
    {
        return Ok(results);
    }
    let document = document.unwrap_or_default();
    let codes = [error_type_header, document.error_type.as_deref(), document.code.as_deref()];
    let Some(code) = codes.into_iter().flatten().find_map(bare_code) else {
        return Err(unreadable(status, content_type, body));
    };
    let message = document.message.or(document.capital_message).unwrap_or_default();
    Err(RequestError { status, code: ErrorCode::Service(code.into()), message: kept_message(&message).into() })
}

/// An answer in either form, before it is judged.
#[derive(Default)]
struct Document<'a> {
    error_type: Option<Cow<'a, str>>,
    code: Option<Cow<'a, str>>,
    message: Option<Cow<'a, str>>,
    /// Some errors spell it `Message`.
    capital_message: Option<Cow<'a, str>>,
    records: Option<Vec<Entry<'a>>>,
}

/// One element of `Records`.
#[derive(Default)]
struct Entry<'a> {
    shard_id: Option<Cow<'a, str>>,
    sequence_number: Option<Cow<'a, str>>,
    error_code: Option<Cow<'a, str>>,
    error_message: Option<Cow<'a, str>>,
}

impl<'a> Document<'a> {
    fn read(body: &'a [u8]) -> Option<Document<'a>> {
        match body.trim_ascii_start().first()? {
            b'{' => json::document(body),
            // A map, or a tag before one. No JSON text and no HTML begins so.
            0xA0..=0xDF => cbor::document(body),
            _ => None,
        }
    }
}

/// The results, if every entry is one.
fn entry_results(records: Vec<Entry<'_>>) -> Option<Vec<EntryResult>> {
    let mut texts = Texts::default();
    records.into_iter().map(|entry| entry_result(entry, &mut texts)).collect()
}

fn entry_result(entry: Entry<'_>, texts: &mut Texts) -> Option<EntryResult> {
    if let Some(code) = entry.error_code.filter(|code| !code.is_empty()) {
        let message = entry.error_message.unwrap_or_default();
        return Some(EntryResult::Failed { code: texts.shared(&code), message: texts.shared(&kept_message(&message)) });
    }
    let (shard_id, sequence_number) = (entry.shard_id?, entry.sequence_number?);
    Some(EntryResult::Stored { shard_id: texts.shared(&shard_id), sequence_number: sequence_number.into() })
}

/// The texts of one answer that come again and again. Ordered, so that even 500 different ones are found quickly.
#[derive(Default)]
struct Texts(BTreeSet<Arc<str>>);

impl Texts {
    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        let new: Arc<str> = text.into();
        self.0.insert(new.clone());
        new
    }
}

/// The code within `namespace#Code:http://address`, unless that is none.
fn bare_code(text: &str) -> Option<&str> {
    let text = text.split_once(':').map_or(text, |(code, _address)| code);
    let code = text.rsplit_once('#').map_or(text, |(_namespace, code)| code).trim();
    let readable = code.len() <= CODE_BYTES_MAX && code.bytes().all(|byte| byte.is_ascii_graphic());
    (readable && !code.is_empty()).then_some(code)
}

fn unreadable(status: u16, content_type: Option<&str>, body: &[u8]) -> RequestError {
    // A character is at most four bytes, so the slice holds enough of them.
    let beginning = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT_CHARS_MAX)]);
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let excerpt: String = masked(&beginning).chars().take(EXCERPT_CHARS_MAX).map(printable).collect();
    let content_type: String = content_type.unwrap_or("no content type").chars().take(EXCERPT_CHARS_MAX).collect();
    let message = format!("status {status}, {content_type}, {} bytes: {excerpt}", body.len());
    RequestError { status, code: ErrorCode::UnreadableAnswer, message: message.into() }
}

#[cfg(test)]
mod tests;
