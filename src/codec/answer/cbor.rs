//! An answer in CBOR: maps, arrays and texts of definite and indefinite length, tags passed over, null for absent.

use std::borrow::Cow;

use minicbor::Decoder;
use minicbor::data::Type;
use minicbor::decode::Error;

use super::{Document, Entry};
use crate::limits::REQUEST_RECORDS_MAX;

/// Maps and arrays that may stand within each other in a field that is passed over. Ours: an answer has two levels.
const DEPTH_MAX: usize = 32;

/// The document, unless `body` is anything but one well-formed map.
pub(super) fn document(body: &[u8]) -> Option<Document<'_>> {
    let mut decoder = Decoder::new(body);
    let document = read_document(&mut decoder).ok()?;
    (decoder.position() == body.len()).then_some(document)
}

fn read_document<'a>(decoder: &mut Decoder<'a>) -> Result<Document<'a>, Error> {
    let mut document = Document::default();
    read_map(decoder, |decoder, key| {
        match key {
            "Records" => document.records = records(decoder)?,
            "__type" => document.error_type = text(decoder)?,
            "code" => document.code = text(decoder)?,
            "message" => document.message = text(decoder)?,
            "Message" => document.capital_message = text(decoder)?,
            _ => pass_over(decoder, DEPTH_MAX)?,
        }
        Ok(())
    })?;
    Ok(document)
}

fn records<'a>(decoder: &mut Decoder<'a>) -> Result<Option<Vec<Entry<'a>>>, Error> {
    if is_absent(decoder)? {
        return Ok(None);
    }
    let len = decoder.array()?;
    let mut entries = Vec::new();
    while more(decoder, len, entries.len() as u64)? {
        if entries.len() == REQUEST_RECORDS_MAX {
            return Err(Error::message("more entries than a request has"));
        }
        entries.push(entry(decoder)?);
    }
    Ok(Some(entries))
}

fn entry<'a>(decoder: &mut Decoder<'a>) -> Result<Entry<'a>, Error> {
    let mut entry = Entry::default();
    read_map(decoder, |decoder, key| {
        match key {
            "ShardId" => entry.shard_id = text(decoder)?,
            "SequenceNumber" => entry.sequence_number = text(decoder)?,
            "ErrorCode" => entry.error_code = text(decoder)?,
            "ErrorMessage" => entry.error_message = text(decoder)?,
            _ => pass_over(decoder, DEPTH_MAX)?,
        }
        Ok(())
    })?;
    Ok(entry)
}

/// Calls `field` for each key of a map; it must read the value.
fn read_map<'a>(
    decoder: &mut Decoder<'a>,
    mut field: impl FnMut(&mut Decoder<'a>, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    pass_tags(decoder)?;
    let len = decoder.map()?;
    let mut read = 0;
    while more(decoder, len, read)? {
        let key = text(decoder)?.ok_or_else(|| Error::message("a key that is null"))?;
        field(decoder, &key)?;
        read += 1;
    }
    Ok(())
}

/// Whether a map or array of length `len` has another item after `read` of them. Takes the break at its end.
fn more(decoder: &mut Decoder<'_>, len: Option<u64>, read: u64) -> Result<bool, Error> {
    match len {
        Some(len) => Ok(read < len),
        None if decoder.datatype()? == Type::Break => {
            decoder.set_position(decoder.position() + 1);
            Ok(false)
        }
        None => Ok(true),
    }
}

/// A text, or nothing for null.
fn text<'a>(decoder: &mut Decoder<'a>) -> Result<Option<Cow<'a, str>>, Error> {
    if is_absent(decoder)? {
        return Ok(None);
    }
    if decoder.datatype()? == Type::StringIndef {
        let chunks: Result<String, Error> = decoder.str_iter()?.collect();
        return Ok(Some(Cow::Owned(chunks?)));
    }
    Ok(Some(Cow::Borrowed(decoder.str()?)))
}

/// Passes over tags; and over a null, which it reports.
fn is_absent(decoder: &mut Decoder<'_>) -> Result<bool, Error> {
    pass_tags(decoder)?;
    let absent = matches!(decoder.datatype()?, Type::Null | Type::Undefined);
    if absent {
        decoder.skip()?;
    }
    Ok(absent)
}

fn pass_tags(decoder: &mut Decoder<'_>) -> Result<(), Error> {
    while decoder.datatype()? == Type::Tag {
        decoder.tag()?;
    }
    Ok(())
}

/// Passes over a value. The decoder's own `skip` remembers every level in memory, sixteen bytes for each byte of a
/// hostile body, so it is given nothing that nests.
fn pass_over(decoder: &mut Decoder<'_>, depth: usize) -> Result<(), Error> {
    pass_tags(decoder)?;
    let (len, items) = match decoder.datatype()? {
        Type::Array | Type::ArrayIndef => (decoder.array()?, 1),
        Type::Map | Type::MapIndef => (decoder.map()?, 2),
        Type::Break => return Err(Error::message("a break in the place of a value")),
        _ => return decoder.skip(),
    };
    let depth = depth.checked_sub(1).ok_or_else(|| Error::message("too deep"))?;
    let mut read = 0;
    while more(decoder, len, read)? {
        for _ in 0..items {
            pass_over(decoder, depth)?;
        }
        read += 1;
    }
    Ok(())
}
