//! An answer in JSON. `serde_json` bounds the depth itself; a field of the wrong type makes the whole unreadable.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{Document, Entry};
use crate::limits::REQUEST_RECORDS_MAX;

/// The document, unless `body` is anything but one well-formed object.
pub(super) fn document(body: &[u8]) -> Option<Document<'_>> {
    let wire: WireDocument<'_> = serde_json::from_slice(body).ok()?;
    Some(Document {
        error_type: wire.error_type.0,
        code: wire.code.0,
        message: wire.message.0,
        capital_message: wire.capital_message.0,
        records: wire.records,
    })
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct WireDocument<'a> {
    #[serde(rename = "__type", borrow)]
    error_type: Text<'a>,
    #[serde(borrow)]
    code: Text<'a>,
    #[serde(borrow)]
    message: Text<'a>,
    #[serde(rename = "Message", borrow)]
    capital_message: Text<'a>,
    #[serde(rename = "Records", borrow, deserialize_with = "entries")]
    records: Option<Vec<Entry<'a>>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct WireEntry<'a> {
    #[serde(borrow)]
    shard_id: Text<'a>,
    #[serde(borrow)]
    sequence_number: Text<'a>,
    #[serde(borrow)]
    error_code: Text<'a>,
    #[serde(borrow)]
    error_message: Text<'a>,
}

/// A text, borrowed where it has no escapes, or nothing for null. (An `Option<Cow<str>>` would always be copied.)
#[derive(Default)]
struct Text<'a>(Option<Cow<'a, str>>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'a>, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or null")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Entry<'de>>>, D::Error> {
    deserializer.deserialize_any(EntriesVisitor)
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Option<Vec<Entry<'de>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {REQUEST_RECORDS_MAX} entries, or null")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(wire) = sequence.next_element::<WireEntry<'de>>()? {
            if entries.len() == REQUEST_RECORDS_MAX {
                return Err(A::Error::invalid_length(entries.len() + 1, &self));
            }
            entries.push(Entry {
                shard_id: wire.shard_id.0,
                sequence_number: wire.sequence_number.0,
                error_code: wire.error_code.0,
                error_message: wire.error_message.0,
            });
        }
        Ok(Some(entries))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}
