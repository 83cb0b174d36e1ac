//! How well the hashes of a run used the processor: lanes that were filled, bodies that were hashed in pairs.

use std::fmt;

use kpl::metrics::Counters;
use serde::Serialize;

/// Parts of a whole, from 0 to 1; nothing where nothing was hashed that way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hashing {
    /// Which lanes this machine has.
    pub lanes: String,
    pub key_lanes_filled: Option<f64>,
    pub aggregate_lanes_filled: Option<f64>,
    /// Bytes of bodies that were hashed side by side with another's.
    pub bodies_in_pairs: Option<f64>,
}

impl Hashing {
    /// What a producer's counters tell.
    pub fn of(counters: &Counters) -> Hashing {
        let bodies = counters.body_bytes_hashed;
        Hashing {
            lanes: kpl::codec::lanes::kind().to_string(),
            key_lanes_filled: counters.key_lanes.filled(),
            aggregate_lanes_filled: counters.aggregate_lanes.filled(),
            bodies_in_pairs: (bodies > 0).then(|| counters.body_bytes_hashed_in_pairs as f64 / bodies as f64),
        }
    }
}

impl fmt::Display for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |part: Option<f64>| part.map_or("-".to_owned(), |part| format!("{:.0} %", part * 100.0));
        write!(
            f,
            "lanes filled   keys {}, aggregates {} ({}); bodies hashed in pairs {}",
            percent(self.key_lanes_filled),
            percent(self.aggregate_lanes_filled),
            self.lanes,
            percent(self.bodies_in_pairs)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_shown_as_percent_and_what_was_not_hashed_as_nothing() {
        let mut counters = Counters { body_bytes_hashed: 200, body_bytes_hashed_in_pairs: 50, ..Counters::default() };
        (counters.aggregate_lanes.blocks, counters.aggregate_lanes.slots) = (93, 100);
        let shown = Hashing { lanes: "avx2".to_owned(), ..Hashing::of(&counters) }.to_string();
        assert_eq!(shown, "lanes filled   keys -, aggregates 93 % (avx2); bodies hashed in pairs 25 %");
    }
}
