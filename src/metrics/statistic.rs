//! A statistic: count, sum, least, greatest and percentiles of whole numbers, in a few hundred bytes.
//!
//! ```text
//!   values    0 1 2 … 15 │ 16 17 │ 18 19 │ … │ 32 to 35 │ …      eight buckets between two powers of two
//!   buckets   one each   │ two values each   │ four each
//! ```
//!
//! Merging two statistics gives the same as gathering all their values in one, whatever the order: all of it is sums of
//! whole numbers. Count, sum, least and greatest are exact. A percentile is the middle of its bucket: exact below 16, and
//! otherwise at most one sixteenth (6.25 %) of the true value away from it, since a bucket from `low` on is `low` / 8 wide
//! at most.
//!
//! Memory: 80 bytes, and 8 for each bucket from the least to the greatest value that came; 496 buckets hold every
//! number. It grows with the span of the values and not with their number, so that in steady state a value costs no
//! allocation.

/// See the essay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistic {
    count: u64,
    /// Wide, as the microseconds that many records wait would fill 64 bits within hours.
    sum: u128,
    /// Of no meaning while the count is 0.
    min: u64,
    /// Of no meaning while the count is 0.
    max: u64,
    /// The bucket that `buckets` begins with, a multiple of [`PER_OCTAVE`].
    first: usize,
    /// How many values fell into each bucket; it ends with the octave of the greatest.
    buckets: Vec<u64>,
}

const OCTAVE_BITS: u32 = 3;
/// Buckets between two powers of two.
const PER_OCTAVE: usize = 1 << OCTAVE_BITS;

/// The bucket of a value.
fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(OCTAVE_BITS + 1);
    // The leading one and the three bits behind it; below 16 that is the value itself.
    shift as usize * PER_OCTAVE + (value >> shift) as usize
}

/// The least and the greatest value of a bucket.
fn bounds(bucket: usize) -> (u64, u64) {
    let shift = (bucket / PER_OCTAVE).saturating_sub(1);
    let low = ((bucket - shift * PER_OCTAVE) as u64) << shift;
    (low, low + ((1 << shift) - 1))
}

impl Statistic {
    /// One value.
    pub fn record(&mut self, value: u64) {
        self.record_many(value, 1);
    }

    /// One value, so many times.
    pub fn record_many(&mut self, value: u64, times: u64) {
        self.record_group(times, u128::from(value) * u128::from(times), value, value);
    }

    /// So many values at once, of which the sum, the least and the greatest are known. Percentiles take all of them
    /// for their mean.
    pub fn record_group(&mut self, count: u64, sum: u128, min: u64, max: u64) {
        if count == 0 {
            return;
        }
        debug_assert!(u128::from(min) * u128::from(count) <= sum && sum <= u128::from(max) * u128::from(count));
        self.note(count, sum, min, max);
        let mean = (sum / u128::from(count)) as u64; // at most `max`
        let bucket = bucket(mean);
        // A bucket before the first one wraps, and is beyond the last one then.
        match self.buckets.get_mut(bucket.wrapping_sub(self.first)) {
            Some(values) => *values += count,
            None => self.grow(bucket, bucket, |buckets, first| buckets[bucket - first] += count),
        }
    }

    /// Adds all values of another.
    pub fn merge(&mut self, other: &Statistic) {
        if other.count == 0 {
            return;
        }
        self.note(other.count, other.sum, other.min, other.max);
        let last = other.first + other.buckets.len() - 1;
        self.grow(other.first, last, |buckets, first| {
            let mine = &mut buckets[other.first - first..];
            mine.iter_mut().zip(&other.buckets).for_each(|(mine, more)| *mine += more);
        });
    }

    fn note(&mut self, count: u64, sum: u128, min: u64, max: u64) {
        let none = self.count == 0;
        self.min = if none { min } else { self.min.min(min) };
        self.max = if none { max } else { self.max.max(max) };
        self.count += count;
        self.sum += sum;
    }

    /// Makes room for the buckets from `low` to `high`, by whole octaves, and shows all, and which one is the first.
    fn grow(&mut self, low: usize, high: usize, add: impl FnOnce(&mut [u64], usize)) {
        let low = low / PER_OCTAVE * PER_OCTAVE;
        let end = (high / PER_OCTAVE + 1) * PER_OCTAVE;
        if self.buckets.is_empty() {
            self.first = low;
        }
        if low < self.first {
            let missing = self.first - low;
            self.buckets.splice(0..0, std::iter::repeat_n(0, missing));
            self.first = low;
        }
        if end > self.first + self.buckets.len() {
            self.buckets.resize(end - self.first, 0);
        }
        add(&mut self.buckets, self.first);
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum.
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// The least; nothing, if there was none.
    pub fn min(&self) -> Option<u64> {
        (self.count > 0).then_some(self.min)
    }

    /// The greatest; nothing, if there was none.
    pub fn max(&self) -> Option<u64> {
        (self.count > 0).then_some(self.max)
    }

    /// The value that `percent` percent of all values do not exceed; see the essay for how exactly. Nothing, if there was
    /// none. `percent` is taken for 0 or 100 if it is beyond.
    pub fn percentile(&self, percent: f64) -> Option<u64> {
        // The rank of the value, from 1.
        let rank = ((percent.clamp(0.0, 100.0) / 100.0 * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut before = 0;
        self.values().find_map(|(value, count)| {
            before += count;
            (before >= rank).then_some(value)
        })
    }

    /// What stands for the values, ascending, and how many it stands for: the middle of each bucket that is not empty.
    pub fn values(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let counted = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.map(|(place, count)| {
            let (low, high) = bounds(self.first + place);
            ((low + (high - low) / 2).clamp(self.min, self.max), *count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of all magnitudes.
    fn draw(seed: u64, count: usize) -> Vec<u64> {
        let mut state = seed;
        let mut next = move || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^ (mixed >> 31)
        };
        (0..count).map(|_| next().checked_shr((next() % 65) as u32).unwrap_or(0)).collect()
    }

    fn gathered(values: &[u64]) -> Statistic {
        let mut statistic = Statistic::default();
        values.iter().for_each(|value| statistic.record(*value));
        statistic
    }

    /// What is asserted of a statistic of these values, by their list.
    fn assert_tells(statistic: &Statistic, values: &[u64]) {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        assert_eq!(statistic.count(), sorted.len() as u64);
        assert_eq!(statistic.sum(), sorted.iter().map(|value| u128::from(*value)).sum::<u128>());
        assert_eq!((statistic.min(), statistic.max()), (sorted.first().copied(), sorted.last().copied()));
        for percent in [0.0, 1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 100.0] {
            let told = statistic.percentile(percent);
            let rank = ((percent / 100.0 * sorted.len() as f64).ceil() as usize).max(1);
            let Some(exact) = sorted.get(rank - 1) else {
                assert_eq!(told, None);
                continue;
            };
            let told = told.expect("there are values");
            let error = told.abs_diff(*exact);
            assert!(error <= exact / 16, "p{percent}: {told} instead of {exact}");
        }
    }

    #[test]
    fn every_number_has_its_bucket_and_none_is_wider_than_an_eighth() {
        let mut next = Some(0);
        let mut number = 0;
        while let Some(low) = next {
            let (first, last) = bounds(number);
            assert_eq!((first, bucket(first), bucket(last)), (low, number, number));
            assert!(last - first < (first / 8).max(1), "{first} to {last}");
            next = last.checked_add(1);
            number += 1;
        }
        assert_eq!(number, 496);
    }

    #[test]
    fn a_statistic_agrees_with_the_list_of_its_values() {
        assert_tells(&Statistic::default(), &[]);
        for extreme in [vec![0], vec![u64::MAX], vec![u64::MAX, 0], vec![0, 1, 1, 0, 1]] {
            assert_tells(&gathered(&extreme), &extreme);
        }
        for seed in 0..200 {
            let values = draw(seed, 1 + seed as usize * 3);
            assert_tells(&gathered(&values), &values);
        }
    }

    #[test]
    fn merging_is_the_same_as_gathering_in_one_in_any_order() {
        for seed in 0..200 {
            let values = draw(seed, 200);
            let (one, other) = values.split_at(seed as usize);
            let (mut forth, mut back) = (gathered(one), gathered(other));
            let begun = forth.clone();
            forth.merge(&back);
            back.merge(&begun);
            assert_tells(&forth, &values);
            assert_eq!(forth, back);
            assert_eq!(forth.values().collect::<Vec<_>>(), gathered(&values).values().collect::<Vec<_>>());
        }
    }

    #[test]
    fn values_that_come_together_are_counted_together() {
        let mut many = Statistic::default();
        many.record_many(100, 3);
        many.record_many(7, 0);
        assert_eq!(many, gathered(&[100, 100, 100]));
        let mut group = Statistic::default();
        group.record_group(4, 100, 10, 60);
        group.record_group(0, 0, 0, 0);
        assert_eq!((group.count(), group.sum(), group.min(), group.max()), (4, 100, Some(10), Some(60)));
        assert_eq!(group.values().collect::<Vec<_>>(), [(24, 4)], "25 lies between 24 and 25");
    }

    #[test]
    fn memory_follows_the_span_of_the_values_and_not_their_number() {
        let mut statistic = Statistic::default();
        (0..100_000).for_each(|value| statistic.record(1000 + value % 1000));
        assert_eq!(statistic.buckets.len(), 2 * PER_OCTAVE);
        statistic.record(1 << 20);
        statistic.record(0);
        assert_eq!((statistic.first, statistic.buckets.len()), (0, 19 * PER_OCTAVE));
    }
}
