//! Shards of equal hash ranges, cut as the service cuts a new stream's.
//!
//! Finding the shard of a hash by dividing by their width would take a 128-bit division, some 30 ns. The upper 64 bits,
//! multiplied by the number of shards, give the shard or a neighbour of it; the table of starts decides.

use md5::{Digest, Md5};

pub(super) struct Shards {
    /// First hash of each shard.
    starts: Vec<u128>,
}

impl Shards {
    /// `count` is at least 1.
    pub(super) fn new(count: u32) -> Shards {
        assert!(count >= 1, "a stream has a shard");
        let count = u128::from(count);
        // 2^128 / count, rounded down, by way of 2^128 - 1, which fits.
        let width = if count == 1 { 0 } else { u128::MAX / count + u128::from(u128::MAX % count + 1 == count) };
        Shards { starts: (0..count).map(|index| index * width).collect() }
    }

    pub(super) fn count(&self) -> usize {
        self.starts.len()
    }

    /// First and last hash of a shard.
    pub(super) fn range(&self, shard: usize) -> (u128, u128) {
        (self.starts[shard], self.starts.get(shard + 1).map_or(u128::MAX, |next| next - 1))
    }

    /// The shard whose range holds `hash`.
    pub(super) fn of(&self, hash: u128) -> usize {
        let mut shard = (((hash >> 64) * self.starts.len() as u128) >> 64) as usize;
        while self.starts[shard] > hash {
            shard -= 1;
        }
        while self.starts.get(shard + 1).is_some_and(|next| *next <= hash) {
            shard += 1;
        }
        shard
    }
}

/// The hash of a partition key.
pub(super) fn hash(partition_key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(partition_key.as_bytes()).into())
}

/// The name of a shard.
pub(super) fn id(shard: usize) -> String {
    format!("shardId-{shard:012}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_lies_in_its_own_shard() {
        for count in [1, 2, 3, 7, 8, 100, 1000, 99_999] {
            let shards = Shards::new(count);
            let mut expected_first = 0;
            for shard in 0..shards.count() {
                let (first, last) = shards.range(shard);
                assert_eq!(first, expected_first);
                assert_eq!((shards.of(first), shards.of(last)), (shard, shard), "{count} shards");
                expected_first = last.wrapping_add(1);
            }
            assert_eq!(expected_first, 0, "the ranges cover all hashes");
        }
    }

    #[test]
    fn two_shards_meet_in_the_middle() {
        assert_eq!(Shards::new(2).range(0), (0, (1 << 127) - 1));
        assert_eq!(Shards::new(2).range(1), (1 << 127, u128::MAX));
    }
}
