//! A consumer's eyes: what AWS's consumer library would hand to its application from one Kinesis record.
//!
//! It is written from the format's description and shares nothing with the library. AWS's rule is that an aggregate with
//! any member whose hash key is outside its shard's range is dropped whole.

use md5::{Digest, Md5};

/// A user record as a consumer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Partition key.
    pub key: &'a str,
    /// Explicit hash key.
    pub explicit: Option<u128>,
    /// Data.
    pub data: &'a [u8],
}

impl Seen<'_> {
    /// The hash key that places it.
    pub fn hash(&self) -> u128 {
        self.explicit.unwrap_or_else(|| md5_hash(self.key))
    }
}

/// Big-endian MD5 of a partition key.
pub fn md5_hash(key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(key.as_bytes()).into())
}

const MAGIC: [u8; 4] = [0xF3, 0x89, 0x9A, 0xC2];

/// The members of an aggregate; nothing if `data` is not one.
pub fn members(data: &[u8]) -> Option<Vec<Seen<'_>>> {
    let message = data.strip_prefix(&MAGIC)?;
    let (message, digest) = message.split_at(message.len().checked_sub(16)?);
    if message.is_empty() || Md5::digest(message)[..] != *digest {
        return None;
    }
    let (mut keys, mut explicit_keys, mut records) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = message;
    while !rest.is_empty() {
        let (number, value) = field(&mut rest)?;
        match (number, value) {
            (1, Value::Bytes(text)) => keys.push(std::str::from_utf8(text).ok()?),
            (2, Value::Bytes(text)) => explicit_keys.push(std::str::from_utf8(text).ok()?.parse::<u128>().ok()?),
            (3, Value::Bytes(record)) => records.push(record),
            _ => return None,
        }
    }
    records.into_iter().map(|record| member(record, &keys, &explicit_keys)).collect()
}

fn member<'a>(mut record: &'a [u8], keys: &[&'a str], explicit_keys: &[u128]) -> Option<Seen<'a>> {
    let (mut key, mut explicit, mut data) = (None, None, None);
    while !record.is_empty() {
        match field(&mut record)? {
            (1, Value::Number(index)) => key = Some(*keys.get(index as usize)?),
            (2, Value::Number(index)) => explicit = Some(*explicit_keys.get(index as usize)?),
            (3, Value::Bytes(bytes)) => data = Some(bytes),
            _ => return None,
        }
    }
    Some(Seen { key: key?, explicit, data: data? })
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads one protobuf field: its number and value.
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let head = varint(rest)?;
    let value = match head & 7 {
        0 => Value::Number(varint(rest)?),
        2 => {
            let len = varint(rest)? as usize;
            let (bytes, after) = rest.split_at_checked(len)?;
            *rest = after;
            Value::Bytes(bytes)
        }
        _ => return None,
    };
    Some((head >> 3, value))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// A small aggregate of one record, for payloads that look like aggregates because they are.
pub fn write_aggregate(key: &str, data: &[u8]) -> Vec<u8> {
    assert!(key.len() < 100 && data.len() < 100, "lengths that fit one byte of varint");
    let mut record = vec![0x08, 0, 0x1A, data.len() as u8];
    record.extend_from_slice(data);
    let mut message = vec![0x0A, key.len() as u8];
    message.extend_from_slice(key.as_bytes());
    message.extend_from_slice(&[0x1A, record.len() as u8]);
    message.extend_from_slice(&record);
    let mut whole = MAGIC.to_vec();
    whole.extend_from_slice(&message);
    whole.extend_from_slice(&Md5::digest(&message));
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aggregate_is_read_as_it_was_written_and_a_damaged_one_is_raw() {
        let mut whole = write_aggregate("key", b"data");
        assert_eq!(members(&whole), Some(vec![Seen { key: "key", explicit: None, data: b"data" }]));
        whole[7] ^= 1;
        assert_eq!(members(&whole), None);
        assert_eq!(members(b"data"), None);
    }
}
