//! The layout of a record inside a ring frame: a submitter writes it, a core reads it.
//!
//! ```text
//! 0        4          12       14      15             15 or 31        + key_len    end
//! ├────────┼──────────┼────────┼───────┼╌╌╌╌╌╌╌╌╌╌╌╌╌╌┼───────────────┼────────────┤
//! │ stream │ arrival  │ key_len│ flags │ explicit hash│ partition key │ data       │
//! │ u32    │ u64 ns   │ u16    │ u8    │ key, u128    │ UTF-8         │ the rest   │
//! └────────┴──────────┴────────┴───────┴╌╌╌╌╌╌╌╌╌╌╌╌╌╌┴───────────────┴────────────┘
//! ```
//!
//! Numbers are little-endian. The explicit hash key is there if bit 0 of the flags is set; if bit 1 is, its place is there
//! and means nothing. Bit 2 says that the hash key is to be drawn. The data's length is not written, as the ring knows the frame's.
//!
//! A record that its caller writes in place is framed in two steps: [`begin_frame`] leaves room for what is not known yet,
//! and [`finish_frame`] fills it in.
//!
//! It promises that a frame read is the record written. It does not check that record against the service's limits:
//! the submitter did. The bytes are our own, so a frame that cannot have been written here is a broken invariant,
//! and reading it panics. One copy of key and data to write, none to read.

use crate::limits::PARTITION_KEY_BYTES_MAX;
use crate::record::{HashKey, Placement, Record, StreamId};
use crate::time::Time;

const HEADER_BYTES: usize = 4 + 8 + 2 + 1;
const EXPLICIT_BYTES: usize = 16;
/// Bit of the flags: an explicit hash key follows the header.
const HAS_EXPLICIT: u8 = 1;
/// Bit of the flags: room for an explicit hash key follows the header, and there is none.
const VOID_EXPLICIT: u8 = 2;
/// Bit of the flags: the hash key is to be drawn.
const IS_DRAWN: u8 = 4;

/// A record as it stands in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed<'a> {
    /// The stream it goes to.
    pub stream: StreamId,
    /// When it was put.
    pub arrival: Time,
    /// The partition key: UTF-8, as it was copied from a `str`. It is not checked again, which would cost more than to
    /// copy it.
    pub key: &'a [u8],
    /// What decides its shard.
    pub placement: Placement,
    /// The payload.
    pub data: &'a [u8],
}

impl<'a> Framed<'a> {
    /// What is read of the frame of `record`.
    pub fn new(stream: StreamId, arrival: Time, record: &Record<'a>) -> Framed<'a> {
        let Record { partition_key, placement, data } = *record;
        Framed { stream, arrival, key: partition_key.as_bytes(), placement, data }
    }

    /// The record.
    ///
    /// # Panics
    ///
    /// If its key is not UTF-8, as that of a record is.
    pub fn record(&self) -> Record<'a> {
        let partition_key = str::from_utf8(self.key).expect("the key was copied from a str");
        Record { partition_key, placement: self.placement, data: self.data }
    }

    /// Bytes of data and partition key.
    pub fn size(&self) -> usize {
        self.key.len() + self.data.len()
    }
}

/// Bytes of the frame of `record`: 15, or 31 with an explicit hash key, more than its size.
#[inline]
pub fn frame_len(record: &Record<'_>) -> usize {
    let explicit = if matches!(record.placement, Placement::Explicit(_)) { EXPLICIT_BYTES } else { 0 };
    HEADER_BYTES + explicit + record.size()
}

/// Writes the frame of `record` into `buf`.
///
/// # Panics
///
/// If `buf` is not [`frame_len`] bytes long, or the partition key is longer than its limit, which a submitter checks.
#[inline(always)]
pub fn write_frame(buf: &mut [u8], stream: StreamId, arrival: Time, record: &Record<'_>) {
    assert_eq!(buf.len(), frame_len(record), "a frame is as long as its record needs");
    let key = record.partition_key.as_bytes();
    assert!(key.len() <= PARTITION_KEY_BYTES_MAX, "the submitter checks the key's length");

    let (header, mut rest) = buf.split_at_mut(HEADER_BYTES);
    header[..4].copy_from_slice(&stream.0.to_le_bytes());
    header[4..12].copy_from_slice(&arrival.as_nanos().to_le_bytes());
    // The limit of a key's bytes fits 16 bits, as `limits` asserts.
    header[12..14].copy_from_slice(&(key.len() as u16).to_le_bytes());
    header[14] = 0;
    match record.placement {
        Placement::ByKey => {}
        Placement::Drawn => header[14] = IS_DRAWN,
        Placement::Explicit(HashKey(explicit)) => {
            header[14] = HAS_EXPLICIT;
            let (slot, tail) = rest.split_at_mut(EXPLICIT_BYTES);
            slot.copy_from_slice(&explicit.to_le_bytes());
            rest = tail;
        }
    }
    let (key_slot, data_slot) = rest.split_at_mut(key.len());
    copy_key(key_slot, key);
    data_slot.copy_from_slice(record.data);
}

/// Copies a key. Most have 8 to 32 bytes, which two words of fixed length cover, overlapping; a call for a length that
/// only run time knows costs more.
#[inline]
fn copy_key(to: &mut [u8], key: &[u8]) {
    match key.len() {
        8..=16 => copy_ends::<8>(to, key),
        17..=32 => copy_ends::<16>(to, key),
        _ => to.copy_from_slice(key),
    }
}

/// Copies `from`, of `N` to twice `N` bytes, by its first and its last `N`.
#[inline]
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) {
        let end = to.len();
        to[..N].copy_from_slice(first);
        to[end - N..].copy_from_slice(last);
    }
}

/// Bytes of a frame that is reserved for a key of `key` bytes and `data` bytes of data; the data is its end.
pub fn reserved_frame_len(key: usize, data: usize) -> usize {
    HEADER_BYTES + EXPLICIT_BYTES + key + data
}

/// Writes what is known of a record whose data is to follow; the rest of `buf` is left as it is.
///
/// # Panics
///
/// If `buf` is shorter than [`reserved_frame_len`] without data, or the partition key is longer than its limit, which a
/// submitter checks.
pub fn begin_frame(buf: &mut [u8], stream: StreamId, partition_key: &str) {
    let key = partition_key.as_bytes();
    assert!(key.len() <= PARTITION_KEY_BYTES_MAX, "the submitter checks the key's length");
    buf[..4].copy_from_slice(&stream.0.to_le_bytes());
    // The limit of a key's bytes fits 16 bits, as `limits` asserts.
    buf[12..14].copy_from_slice(&(key.len() as u16).to_le_bytes());
    buf[HEADER_BYTES + EXPLICIT_BYTES..][..key.len()].copy_from_slice(key);
}

/// Writes the rest of what [`begin_frame`] began.
///
/// # Panics
///
/// If `buf` is shorter than a header.
pub fn finish_frame(buf: &mut [u8], arrival: Time, explicit_hash_key: Option<HashKey>) {
    buf[4..12].copy_from_slice(&arrival.as_nanos().to_le_bytes());
    buf[14] = if explicit_hash_key.is_some() { HAS_EXPLICIT } else { VOID_EXPLICIT };
    let HashKey(explicit) = explicit_hash_key.unwrap_or(HashKey::MIN);
    buf[HEADER_BYTES..][..EXPLICIT_BYTES].copy_from_slice(&explicit.to_le_bytes());
}

/// Reads the frame that [`write_frame`] wrote, or [`begin_frame`] and [`finish_frame`].
///
/// # Panics
///
/// If `bytes` is not such a frame.
#[inline]
pub fn read_frame(bytes: &[u8]) -> Framed<'_> {
    let (header, mut rest) = take::<HEADER_BYTES>(bytes);
    let (stream, header) = take::<4>(header);
    let (arrival, header) = take::<8>(header);
    let (key_len, header) = take::<2>(header);
    let flags = header[0];
    let mut placement = if flags & IS_DRAWN != 0 { Placement::Drawn } else { Placement::ByKey };
    if flags & (HAS_EXPLICIT | VOID_EXPLICIT) != 0 {
        let (explicit, tail) = take::<EXPLICIT_BYTES>(rest);
        if flags & HAS_EXPLICIT != 0 {
            placement = Placement::Explicit(HashKey(u128::from_le_bytes(*explicit)));
        }
        rest = tail;
    }
    let (key, data) = rest.split_at(usize::from(u16::from_le_bytes(*key_len)));
    Framed {
        stream: StreamId(u32::from_le_bytes(*stream)),
        arrival: Time::from_nanos(u64::from_le_bytes(*arrival)),
        key,
        placement,
        data,
    }
}

fn take<const N: usize>(bytes: &[u8]) -> (&[u8; N], &[u8]) {
    bytes.split_first_chunk().expect("a frame holds its header whole")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(record: Record<'_>) {
        let mut frame = vec![0xAA; frame_len(&record)];
        write_frame(&mut frame, StreamId(7), Time::from_nanos(1 << 40), &record);
        let framed = read_frame(&frame);
        assert_eq!(framed, Framed::new(StreamId(7), Time::from_nanos(1 << 40), &record));
    }

    #[test]
    fn a_frame_reads_as_the_record_written() {
        let longest = "\u{FFFF}".repeat(256);
        for len in 1..=40 {
            let key: String = ('A'..).take(len).collect();
            round_trip(Record::new(&key, "data"));
        }
        for key in ["k", "ключ 🔑", longest.as_str(), ""] {
            for data in [&b""[..], b"x", &[0xFF; 70_000]] {
                let record = Record::new(key, data);
                round_trip(record);
                round_trip(record.with_explicit_hash_key(HashKey::MIN));
                round_trip(record.with_explicit_hash_key(HashKey::MAX));
                round_trip(Record::unkeyed(data));
            }
        }
    }

    #[test]
    fn a_frame_that_was_reserved_reads_as_the_record_written_in_place() {
        for explicit in [None, Some(HashKey(5)), Some(HashKey::MAX)] {
            for data in [&b""[..], b"payload"] {
                let mut frame = vec![0xAA; reserved_frame_len(3, data.len())];
                begin_frame(&mut frame, StreamId(9), "key");
                let start = frame.len() - data.len();
                frame[start..].copy_from_slice(data);
                finish_frame(&mut frame, Time::from_nanos(77), explicit);
                let plain = Record::new("key", data);
                let record = explicit.map_or(plain, |explicit| plain.with_explicit_hash_key(explicit));
                assert_eq!(read_frame(&frame), Framed::new(StreamId(9), Time::from_nanos(77), &record));
            }
        }
    }

    #[test]
    fn a_frame_costs_fifteen_bytes_beyond_its_record() {
        assert_eq!(frame_len(&Record::new("key", "data")), 15 + 7);
        let explicit = Record::new("key", "data").with_explicit_hash_key(HashKey(1));
        assert_eq!(frame_len(&explicit), 31 + 7);
    }

    #[test]
    #[should_panic(expected = "a frame holds its header whole")]
    fn a_frame_cut_short_breaks_an_invariant() {
        read_frame(&[0; 14]);
    }
}
