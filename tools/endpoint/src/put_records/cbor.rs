//! The cursor over CBOR: heads are read, strings borrowed, everything unknown skipped.
//!
//! It takes containers of definite and of indefinite length (AWS's Java SDK writes the latter) and strings of definite
//! length only. Nesting is bounded, so that no input can exhaust the stack.

use super::RawEntry;
use crate::answer::Refusal;
use std::borrow::Cow;

/// Deepest nesting that is skipped.
const DEPTH_MAX: usize = 16;

const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;
const NULL: u64 = 22;
const UNDEFINED: u64 = 23;

/// Reads a PutRecords request; tells whether it names a stream.
pub(super) fn read<'a>(
    body: &'a [u8],
    take: &mut dyn FnMut(RawEntry<'a>) -> Result<(), Refusal>,
) -> Result<bool, Refusal> {
    let mut cursor = Cursor { rest: body };
    let mut names_stream = false;
    let mut fields = cursor.open(MAP)?;
    while cursor.more(&mut fields)? {
        match cursor.text()? {
            "Records" => {
                let mut entries = cursor.open(ARRAY)?;
                while cursor.more(&mut entries)? {
                    take(cursor.entry()?)?;
                }
            }
            "StreamName" | "StreamARN" => names_stream |= cursor.optional_text()?.is_some(),
            _ => cursor.skip(DEPTH_MAX)?,
        }
    }
    if cursor.rest.is_empty() { Ok(names_stream) } else { Err(Refusal::malformed()) }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

/// The items of a container that are still to come; `None` is until a break.
struct Items {
    left: Option<u64>,
}

impl<'a> Cursor<'a> {
    fn entry(&mut self) -> Result<RawEntry<'a>, Refusal> {
        let mut entry = RawEntry::default();
        let mut fields = self.open(MAP)?;
        while self.more(&mut fields)? {
            match self.text()? {
                "Data" => entry.data_bytes = self.optional_string(BYTES)?.map(<[u8]>::len),
                "PartitionKey" => entry.partition_key = self.optional_text()?.map(Cow::Borrowed),
                "ExplicitHashKey" => entry.explicit_hash_key = self.optional_text()?.map(Cow::Borrowed),
                _ => self.skip(DEPTH_MAX)?,
            }
        }
        Ok(entry)
    }

    /// The major type and argument of the next item; `None` as the argument is an indefinite length or a break.
    fn head(&mut self) -> Result<(u8, Option<u64>), Refusal> {
        let initial = self.advance(1)?[0];
        let (major, info) = (initial >> 5, initial & 31);
        let argument = match info {
            0..=23 => Some(u64::from(info)),
            24..=27 => {
                let bytes = self.advance(1 << (info - 24))?;
                Some(bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
            }
            31 => None,
            _ => return Err(Refusal::malformed()),
        };
        Ok((major, argument))
    }

    fn advance(&mut self, bytes: usize) -> Result<&'a [u8], Refusal> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or_else(Refusal::malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn open(&mut self, wanted: u8) -> Result<Items, Refusal> {
        match self.head()? {
            (major, left) if major == wanted => Ok(Items { left }),
            _ => Err(Refusal::malformed()),
        }
    }

    /// Whether another item (of a map: another pair) follows.
    fn more(&mut self, items: &mut Items) -> Result<bool, Refusal> {
        match &mut items.left {
            Some(0) => Ok(false),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None if self.rest.first() == Some(&0xFF) => {
                self.advance(1)?;
                Ok(false)
            }
            None => Ok(true),
        }
    }

    fn optional_string(&mut self, wanted: u8) -> Result<Option<&'a [u8]>, Refusal> {
        match self.head()? {
            (major, Some(length)) if major == wanted => {
                let length = usize::try_from(length).map_err(|_| Refusal::malformed())?;
                self.advance(length).map(Some)
            }
            (SIMPLE, Some(NULL | UNDEFINED)) => Ok(None),
            _ => Err(Refusal::malformed()),
        }
    }

    fn optional_text(&mut self) -> Result<Option<&'a str>, Refusal> {
        let Some(bytes) = self.optional_string(TEXT)? else { return Ok(None) };
        str::from_utf8(bytes).map(Some).map_err(|_| Refusal::malformed())
    }

    fn text(&mut self) -> Result<&'a str, Refusal> {
        self.optional_text()?.ok_or_else(Refusal::malformed)
    }

    fn skip(&mut self, depth: usize) -> Result<(), Refusal> {
        if depth == 0 {
            return Err(Refusal::malformed());
        }
        let (major, argument) = self.head()?;
        let mut items = Items { left: argument };
        match (major, argument) {
            (BYTES | TEXT, Some(length)) => {
                self.advance(usize::try_from(length).map_err(|_| Refusal::malformed())?)?;
            }
            (ARRAY, _) => {
                while self.more(&mut items)? {
                    self.skip(depth - 1)?;
                }
            }
            (MAP, _) => {
                while self.more(&mut items)? {
                    self.skip(depth - 1)?;
                    self.skip(depth - 1)?;
                }
            }
            (TAG, Some(_)) => self.skip(depth - 1)?,
            (_, None) => return Err(Refusal::malformed()),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(body: &[u8]) -> Result<(usize, usize, bool), Refusal> {
        let (mut entries, mut bytes) = (0, 0);
        let names_stream = read(body, &mut |entry| {
            entries += 1;
            bytes += entry.data_bytes.unwrap_or(0);
            Ok(())
        })?;
        Ok((entries, bytes, names_stream))
    }

    #[test]
    fn containers_of_indefinite_length_are_read() {
        let body = b"\xbf\x67Records\x9f\xbf\x64Data\x43abc\x6cPartitionKey\x61k\xff\xff\x6aStreamName\x61s\xff";
        assert_eq!(count(body), Ok((1, 3, true)));
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let body = b"\xa2\x64Else\xa1\x01\x82\xc1\x1a\x00\x00\x00\x01\xf4\x67Records\x80";
        assert_eq!(count(body), Ok((0, 0, false)));
    }

    #[test]
    fn every_truncation_is_refused() {
        let body = b"\xa2\x67Records\x81\xa2\x64Data\x43abc\x6cPartitionKey\x61k\x6aStreamName\x61s";
        assert_eq!(count(body), Ok((1, 3, true)));
        for length in 0..body.len() {
            assert_eq!(count(&body[..length]), Err(Refusal::malformed()), "{length} bytes");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut body = b"\xa1\x61x".to_vec();
        body.extend([0x81; 100_000]);
        assert_eq!(count(&body), Err(Refusal::malformed()));
    }
}
