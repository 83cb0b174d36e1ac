//! Records that are ready before anything is timed, the same for whoever puts them.
//!
//! ```text
//!   keys    | k | k | k | …   10 007, a prime, so that keys and bodies do not go round together
//!   bodies  | filler | filler | …   4 MiB, used in turn: past the caches that are closest, as a caller's own data would be
//! ```

use bytes::Bytes;

use crate::workload::{Keys, mix};

/// Distinct keys.
const KEYS: u32 = 10_007;
/// Bytes of bodies.
const BODY_BYTES: usize = 4 << 20;

/// Records of one size, without end.
pub struct Records {
    keys: Keys,
    /// Whole bodies, one after the other.
    bodies: Bytes,
    size: usize,
}

impl Records {
    /// Records of `size` bytes of data, drawn from the seed.
    pub fn new(size: usize, seed: u64) -> Records {
        let bodies = (BODY_BYTES / size).max(1) * size;
        let words = (0..bodies.div_ceil(8) as u64).flat_map(|word| mix(seed ^ mix(word)).to_le_bytes());
        Records { keys: Keys::new(KEYS, seed), bodies: words.take(bodies).collect::<Vec<u8>>().into(), size }
    }

    /// Data of a record, in bytes.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The records from number `from` on.
    pub fn iter(&self, from: u64) -> Iter<'_> {
        let bodies = (self.bodies.len() / self.size) as u64;
        Iter { records: self, key: (from % u64::from(KEYS)) as u32, start: (from % bodies) as usize * self.size }
    }

    /// The data of a record that was given out, without a copy.
    #[cfg(feature = "peer-sdk")]
    pub fn share(&self, data: &[u8]) -> Bytes {
        self.bodies.slice_ref(data)
    }
}

/// Records in turn.
pub struct Iter<'r> {
    records: &'r Records,
    key: u32,
    start: usize,
}

impl<'r> Iterator for Iter<'r> {
    type Item = (&'r str, &'r [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let Records { keys, bodies, size } = self.records;
        let (key, data) = (keys.number(self.key), &bodies[self.start..self.start + size]);
        self.key = if self.key + 1 == KEYS { 0 } else { self.key + 1 };
        self.start = if self.start + size == bodies.len() { 0 } else { self.start + size };
        Some((key, data))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn records_go_round_and_begin_anywhere() {
        for size in [1, 100, 1 << 20, 5 << 20] {
            let records = Records::new(size, 1);
            let first: Vec<_> = records.iter(0).take(50_000).collect();
            assert!(first.iter().all(|(_, data)| data.len() == size));
            assert_eq!(first[40_000..], records.iter(40_000).take(10_000).collect::<Vec<_>>()[..]);
            let keys: HashSet<_> = first.iter().map(|(key, _)| *key).collect();
            assert_eq!(keys.len(), KEYS as usize);
        }
        assert_ne!(Records::new(100, 1).bodies, Records::new(100, 2).bodies);
    }
}
