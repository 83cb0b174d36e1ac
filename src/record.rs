//! What a caller puts, and the names of the places it can go.
//!
//! A [`Record`] borrows its key and data: a put copies them once, into a ring, and a put that is refused leaves
//! them where they were. Identifiers are newtypes, so that a shard's index is never taken for a core's.

use std::fmt;
use std::str::FromStr;

use crate::error::{InvalidHashKey, StreamError};
use crate::limits::{OUTER_PARTITION_KEY, STREAM_NAME_MAX};

/// Where a record's hash key comes from, which decides its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// MD5 of the partition key.
    ByKey,
    /// This explicit hash key.
    Explicit(HashKey),
    /// The producer draws it: pseudo-random, uniform, from its seed.
    Drawn,
}

/// A user record: a partition key, where its hash key comes from, and data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Decides the shard, unless `placement` says otherwise: 1 to 256 UTF-16 units.
    pub partition_key: &'a str,
    /// Where the hash key comes from.
    pub placement: Placement,
    /// The payload. It may be empty; with the partition key it is at most `max_record_size` bytes.
    pub data: &'a [u8],
}

impl<'a> Record<'a> {
    /// A record that goes to the shard of its partition key.
    pub fn new(partition_key: &'a str, data: &'a (impl AsRef<[u8]> + ?Sized)) -> Record<'a> {
        Record { partition_key, placement: Placement::ByKey, data: data.as_ref() }
    }

    /// A record without a key, which goes to any shard: its core draws a hash key for it, pseudo-random and from the
    /// producer's seed. No key is hashed for it. Consumers see the partition key `a` and that hash key.
    pub fn unkeyed(data: &'a (impl AsRef<[u8]> + ?Sized)) -> Record<'a> {
        Record { placement: Placement::Drawn, ..Record::new(OUTER_PARTITION_KEY, data) }
    }

    /// The same record, sent to the shard whose range holds `hash_key`.
    pub fn with_explicit_hash_key(self, hash_key: HashKey) -> Record<'a> {
        Record { placement: Placement::Explicit(hash_key), ..self }
    }

    /// The explicit hash key, if there is one.
    pub fn explicit_hash_key(&self) -> Option<HashKey> {
        match self.placement {
            Placement::Explicit(hash_key) => Some(hash_key),
            Placement::ByKey | Placement::Drawn => None,
        }
    }

    /// Bytes that count against the limits: data and partition key.
    pub fn size(&self) -> usize {
        self.data.len() + self.partition_key.len()
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("partition_key", &self.partition_key)
            .field("placement", &self.placement)
            .field("data", &format_args!("{} bytes", self.data.len()))
            .finish()
    }
}

/// A point of the hash space, 0 to 2^128 - 1, in which every shard owns a range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashKey(pub u128);

impl HashKey {
    /// The least hash key.
    pub const MIN: HashKey = HashKey(0);
    /// The greatest hash key.
    pub const MAX: HashKey = HashKey(u128::MAX);
}

impl FromStr for HashKey {
    type Err = InvalidHashKey;

    /// Reads the decimal form that the service uses: digits only, at most 2^128 - 1.
    fn from_str(text: &str) -> Result<HashKey, InvalidHashKey> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(value) if digits => Ok(HashKey(value)),
            _ => Err(InvalidHashKey::new(text)),
        }
    }
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How a stream is named: by name within the account and region, or by ARN.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StreamName {
    /// 1 to 128 of a-z, A-Z, 0-9, `_`, `.` and `-`.
    Name(String),
    /// `arn:PARTITION:kinesis:REGION:ACCOUNT:stream/NAME`, perhaps of another account.
    Arn(String),
}

impl StreamName {
    /// Reads a name or an ARN.
    ///
    /// # Errors
    /// Says what it must be.
    pub fn parse(text: &str) -> Result<StreamName, StreamError> {
        let invalid =
            |bound: &str| StreamError::InvalidName { name: text.chars().take(256).collect(), bound: bound.into() };
        if text.starts_with("arn:") {
            let parts: Vec<&str> = text.splitn(6, ':').collect();
            let name = parts.get(5).and_then(|resource| resource.strip_prefix("stream/"));
            let well_formed = parts.get(2) == Some(&"kinesis")
                && parts.iter().all(|part| !part.is_empty())
                && name.is_some_and(is_stream_name);
            return if well_formed {
                Ok(StreamName::Arn(text.to_owned()))
            } else {
                Err(invalid("arn:PARTITION:kinesis:REGION:ACCOUNT:stream/NAME"))
            };
        }
        if is_stream_name(text) {
            Ok(StreamName::Name(text.to_owned()))
        } else {
            Err(invalid("1 to 128 of a-z, A-Z, 0-9, _, . and -"))
        }
    }

    /// The text, as it was given.
    pub fn as_str(&self) -> &str {
        match self {
            StreamName::Name(text) | StreamName::Arn(text) => text,
        }
    }
}

fn is_stream_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=STREAM_NAME_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

/// A stream of this producer: its place in the order in which streams were named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// A shard's place in a shard map, ascending by hash range. It means nothing under another map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(pub u32);

/// A core of this producer, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u16);

macro_rules! index {
    ($name:ident) => {
        impl $name {
            /// The same as an index into a list.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}
index!(StreamId);
index!(ShardIndex);
index!(CoreId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_key_is_decimal_and_fits_128_bits() {
        let max = "340282366920938463463374607431768211455";
        assert_eq!(max.parse(), Ok(HashKey::MAX));
        assert_eq!("0".parse(), Ok(HashKey::MIN));
        assert_eq!("007".parse(), Ok(HashKey(7)));
        assert_eq!(HashKey::MAX.to_string(), max);
        for bad in ["", "-1", "+1", "0x10", "1 ", "340282366920938463463374607431768211456"] {
            let error = bad.parse::<HashKey>().unwrap_err().to_string();
            assert!(error.contains("explicit hash key") && error.contains(bad), "{error}");
            assert!(error.contains("340282366920938463463374607431768211455"), "{error}");
        }
    }

    #[test]
    fn a_stream_is_a_name_or_an_arn() {
        assert_eq!(StreamName::parse("a_B.1-2"), Ok(StreamName::Name("a_B.1-2".into())));
        let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders";
        assert_eq!(StreamName::parse(arn), Ok(StreamName::Arn(arn.into())));
        for bad in [
            "",
            "a b",
            "é",
            &"x".repeat(129),
            "arn:aws:s3:eu-west-1:1:stream/x",
            "arn:aws:kinesis",
            "arn:aws:kinesis:a:b:table/x",
        ] {
            assert!(StreamName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn debug_does_not_print_data() {
        assert!(!format!("{:?}", Record::new("k", "secret")).contains("secret"));
    }
}
