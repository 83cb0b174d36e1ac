//! What a change of the shards cost: how often the shards were listed for it, and what the shards felt that it left alone.
//!
//! ```text
//!        2 s before          change           2 s after
//!   ─────[ p99 of the others ]──┼──[ p99 of the others ]─────▶ time of the put
//! ```
//!
//! Put to outcome of sampled records, by the shard that holds them. A shard was *touched* if it has a hash key in common
//! with what was split or merged; records of all the others should not notice.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use crate::clock::Latencies;
use crate::outcomes::ShardSample;
use crate::stream::Shard;
use crate::timeline::Resharded;

/// How far before and after a change records are looked at.
const WINDOW: Duration = Duration::from_secs(2);

/// One change, in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReshardFigures {
    pub change: &'static str,
    /// Seconds from the first put.
    pub at_s: f64,
    /// ListShards calls of the producer from this change to the next, or to the end; if the endpoint tells.
    pub list_shards_calls: Option<u64>,
    /// Put to outcome, 99 of 100, of records in shards that were not touched, put in the 2 s before; if there
    /// were any.
    pub others_p99_ms_before: Option<f64>,
    /// The same of those put in the 2 s after.
    pub others_p99_ms_after: Option<f64>,
}

/// The figures of all changes. `list_calls` are all ListShards calls of the producer.
pub fn figures(
    reshards: &[Resharded],
    list_calls: Option<u64>,
    shards: &[Shard],
    samples: &HashMap<String, Vec<ShardSample>>,
) -> Vec<ReshardFigures> {
    let nexts = reshards.iter().skip(1).map(|next| next.list_calls).chain([list_calls]);
    let figures = reshards.iter().zip(nexts).map(|(reshard, next)| {
        let others: Vec<&ShardSample> = shards
            .iter()
            .filter(|shard| !shard.range.meets(&reshard.touched))
            .filter_map(|shard| samples.get(&shard.id))
            .flatten()
            .collect();
        let window = WINDOW.as_nanos() as u64;
        let p99_ms = |from: u64, to: u64| {
            let mut latencies = Latencies::default();
            let within: Vec<_> = others.iter().filter(|sample| (from..to).contains(&sample.put_ns)).collect();
            within.iter().for_each(|sample| latencies.record(sample.took_ns));
            (!within.is_empty()).then(|| latencies.quantiles(1e6).p99)
        };
        ReshardFigures {
            change: reshard.change.name(),
            at_s: reshard.at.as_secs_f64(),
            list_shards_calls: next.zip(reshard.list_calls).map(|(next, before)| next.saturating_sub(before)),
            others_p99_ms_before: p99_ms(reshard.at_ns.saturating_sub(window), reshard.at_ns),
            others_p99_ms_after: p99_ms(reshard.at_ns, reshard.at_ns + window),
        }
    });
    figures.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deaggregate::HashRange;
    use crate::timeline::Change;

    #[test]
    fn only_the_shards_that_were_left_alone_are_looked_at() {
        let shard = |id: &str, first, last| {
            let (id, range) = (id.to_owned(), HashRange { first, last });
            Shard { id, range, open: true, parents: Vec::new() }
        };
        let shards = [shard("parent", 0, 9), shard("left", 0, 4), shard("right", 5, 9), shard("other", 10, 19)];
        let at_ns = 10_000_000_000;
        let change = |list_calls| Resharded {
            change: Change::Split,
            at: Duration::from_secs(3),
            at_ns,
            touched: HashRange { first: 0, last: 9 },
            list_calls,
        };
        let sample = |put_ns, took_ms: u64| ShardSample { put_ns, took_ns: took_ms * 1_000_000 };
        let samples = HashMap::from([
            ("left".to_owned(), vec![sample(at_ns + 1, 500)]),
            ("other".to_owned(), vec![sample(at_ns - 1, 3), sample(at_ns + 1, 5), sample(at_ns - 3_000_000_000, 900)]),
        ]);
        let figures = figures(&[change(Some(4)), change(Some(6))], Some(9), &shards, &samples);
        assert_eq!((figures[0].list_shards_calls, figures[1].list_shards_calls), (Some(2), Some(3)));
        let near = |p99_ms: Option<f64>, right: f64| p99_ms.is_some_and(|left| (left - right).abs() < 0.1);
        assert!(near(figures[0].others_p99_ms_before, 3.0) && near(figures[0].others_p99_ms_after, 5.0), "{figures:?}");
    }
}
