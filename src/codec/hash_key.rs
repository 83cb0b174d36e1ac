//! From a partition key to its point of the hash space, and from such a point to its decimal text.
//!
//! The service places a record by the MD5 of its partition key's UTF-8, read as one big-endian number of 128 bits,
//! unless the record has an explicit hash key. [`hash_key`] is the portable form, some 120 ns for a short key, and
//! the oracle of every faster one.
//!
//! [`Decimal`] is the canonical text of a hash key, no sign and no leading zeros, made without allocation, since
//! every entry of every request carries one.

use md5::{Digest, Md5};

use crate::record::HashKey;

/// The hash key of a record that has no explicit one.
pub fn hash_key(partition_key: impl AsRef<[u8]>) -> HashKey {
    HashKey(u128::from_be_bytes(Md5::digest(partition_key).into()))
}

/// Digits of 2^128 - 1.
const DIGITS_MAX: usize = 39;
/// The largest power of ten in a `u64`: one division of 128 bits then yields 19 digits.
const CHUNK: u128 = 10_000_000_000_000_000_000;

/// A hash key in decimal, on the stack.
pub(super) struct Decimal {
    digits: [u8; DIGITS_MAX],
    start: usize,
}

impl Decimal {
    /// The canonical text of `hash_key`.
    pub(super) fn new(hash_key: HashKey) -> Decimal {
        let mut decimal = Decimal { digits: [b'0'; DIGITS_MAX], start: DIGITS_MAX };
        let mut rest = hash_key.0;
        while rest >= CHUNK {
            // One division of 128 bits, a library call, instead of two.
            let quotient = rest / CHUNK;
            decimal.prepend((rest - quotient * CHUNK) as u64, 19);
            rest = quotient;
        }
        // What is left is below the chunk, which is below 2^64.
        decimal.prepend(rest as u64, 1);
        decimal
    }

    /// Writes `value` before the digits that are there, padded with zeros to at least `width` digits.
    fn prepend(&mut self, mut value: u64, width: usize) {
        let end = self.start;
        while value > 0 || end - self.start < width {
            self.start -= 1;
            self.digits[self.start] = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }

    /// How many digits `hash_key` has, 1 to 39.
    pub(super) fn len_of(hash_key: HashKey) -> usize {
        hash_key.0.checked_ilog10().map_or(1, |log| log as usize + 1)
    }

    /// The digits, 1 to 39 of them.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_key_is_the_big_endian_md5_of_the_key() {
        // RFC 1321, appendix A.5.
        assert_eq!(hash_key("abc").0, 0x900150983cd24fb0d6963f7d28e17f72);
        assert_eq!(hash_key("").0, 0xd41d8cd98f00b204e9800998ecf8427e);
        let key = "12345678901234567890123456789012345678901234567890123456789012345678901234567890";
        assert_eq!(hash_key(key).0, 0x57edf4a22be3c955ac49da2e2107b67a);
    }

    #[test]
    fn decimal_text_is_that_of_the_standard_library() {
        let mut values = vec![0, u128::MAX, CHUNK - 1, CHUNK, CHUNK + 1, CHUNK * CHUNK - 1, CHUNK * CHUNK];
        values.extend((0..128).flat_map(|bit| [1u128 << bit, (1u128 << bit) - 1]));
        values.extend((0..39).map(|power| 10u128.pow(power)));
        for value in values {
            assert_eq!(Decimal::new(HashKey(value)).as_bytes(), value.to_string().as_bytes());
            assert_eq!(Decimal::len_of(HashKey(value)), value.to_string().len());
        }
    }
}
