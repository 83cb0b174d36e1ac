//! Writes PutRecords answers: each entry is a fixed text with its numbers put in.

use crate::put_records::Wire;

/// Digits of a sequence number: as many as the service's.
const SEQUENCE_DIGITS: usize = 56;
/// Digits of a shard's number.
const SHARD_DIGITS: usize = 12;

/// The answer to a request of `count` records that were all taken: for each its shard and place within.
pub(super) fn put_records(wire: Wire, count: usize, entries: impl Iterator<Item = (usize, u64)>) -> Vec<u8> {
    match wire {
        Wire::Json => json(count, entries),
        Wire::Cbor => cbor(count, entries),
    }
}

fn json(count: usize, entries: impl Iterator<Item = (usize, u64)>) -> Vec<u8> {
    const ENTRY: usize = 128;
    let mut out = Vec::with_capacity(64 + count * ENTRY);
    out.extend_from_slice(br#"{"FailedRecordCount":0,"Records":["#);
    for (index, (shard, sequence)) in entries.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(br#"{"SequenceNumber":""#);
        out.extend_from_slice(&sequence_number(shard, sequence));
        out.extend_from_slice(br#"","ShardId":"shardId-"#);
        out.extend_from_slice(&digits::<SHARD_DIGITS>(shard as u64));
        out.extend_from_slice(br#""}"#);
    }
    out.extend_from_slice(b"]}");
    out
}

fn cbor(count: usize, entries: impl Iterator<Item = (usize, u64)>) -> Vec<u8> {
    const ENTRY: usize = 128;
    let mut out = Vec::with_capacity(64 + count * ENTRY);
    // A map of two pairs; the count's head is always written with two bytes of length.
    out.extend_from_slice(b"\xa2\x71FailedRecordCount\x00\x67Records\x99");
    out.extend_from_slice(&(count as u16).to_be_bytes());
    for (shard, sequence) in entries {
        // A map of two pairs; a text of 56 bytes; a text of 20 bytes.
        out.extend_from_slice(b"\xa2\x6eSequenceNumber\x78\x38");
        out.extend_from_slice(&sequence_number(shard, sequence));
        out.extend_from_slice(b"\x67ShardId\x74shardId-");
        out.extend_from_slice(&digits::<SHARD_DIGITS>(shard as u64));
    }
    out
}

/// `49`, twelve digits of the shard, and the place within it. Grows with `sequence` within a shard.
fn sequence_number(shard: usize, sequence: u64) -> [u8; SEQUENCE_DIGITS] {
    let mut text = [b'0'; SEQUENCE_DIGITS];
    text[..2].copy_from_slice(b"49");
    text[2..2 + SHARD_DIGITS].copy_from_slice(&digits::<SHARD_DIGITS>(shard as u64));
    text[SEQUENCE_DIGITS - 20..].copy_from_slice(&digits::<20>(sequence));
    text
}

/// The last `N` decimal digits of a number.
fn digits<const N: usize>(mut number: u64) -> [u8; N] {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        if number == 0 {
            break;
        }
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    text
}
