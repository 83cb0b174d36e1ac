//! Backlog: how much of the budget the records of one shard may hold, so that a dead shard cannot use up everyone's.
//!
//! ```text
//!   accepted, and routed to the shard ──▶ held ──▶ settled, or routed elsewhere
//!                    │ would be more than `shard_backlog_max` percent of either bound
//!                    ▼
//!                 Throttled
//! ```
//!
//! A shard is on one core, so what it holds is known there exactly, whatever else the producer does. Only a record that no
//! shard has had yet is refused: what was routed anew after attempts, or by a newer map, has its place already. A shard
//! that holds nothing takes a record of any size.
//!
//! A shard that leaves its core and comes back begins with nothing, though requests of its former time may be under way.

use std::sync::Arc;

use super::planted::{Mistake, planted};
use crate::config::Config;
use crate::outcome::ErrorCode;

/// Records and their bytes of data and partition key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    records: u64,
    bytes: u64,
}

impl Held {
    /// Records come.
    pub fn add(&mut self, records: u64, bytes: u64) {
        self.records += records;
        self.bytes += bytes;
    }

    /// Records go.
    pub fn remove(&mut self, records: u64, bytes: u64) {
        self.records = self.records.saturating_sub(records);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// The most that one shard may hold.
#[derive(Clone, Copy, Debug)]
pub struct BacklogMax {
    percent: u32,
    most: Held,
}

impl BacklogMax {
    /// As `shard_backlog_max` says, if it does.
    pub fn of(config: &Config) -> Option<BacklogMax> {
        let percent = config.shard_backlog_max?;
        let part = |bound: usize| bound as u64 * u64::from(percent) / 100;
        let most = Held { records: part(config.max_outstanding_records), bytes: part(config.max_outstanding_bytes) };
        Some(BacklogMax { percent, most })
    }

    /// Why the shard `id`, which holds `held`, does not take a further record of `bytes` bytes; nothing, if it does.
    pub fn refuses(&self, id: &str, held: &Held, bytes: u64) -> Option<(ErrorCode, Arc<str>)> {
        let BacklogMax { percent, most } = self;
        let few = held.records < most.records || planted(Mistake::BacklogUncounted);
        let takes = few && held.bytes + bytes <= most.bytes;
        if takes || held.records == 0 {
            return None;
        }
        let message: Arc<str> = format!(
            "{id} holds {} records and {} bytes; shard_backlog_max is {percent} %: {} records and {} bytes",
            held.records, held.bytes, most.records, most.bytes
        )
        .into();
        Some((ErrorCode::Throttled, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_holds_its_part_of_either_bound_and_at_least_one_record() {
        let config = Config {
            max_outstanding_records: 1000,
            max_outstanding_bytes: 10_000_000,
            shard_backlog_max: Some(10),
            ..Config::default()
        };
        let max = BacklogMax::of(&config).expect("it is set");
        let refuses = |records, bytes, more| max.refuses("shardId-7", &Held { records, bytes }, more).is_some();
        assert!(!refuses(99, 0, 1) && refuses(100, 0, 1));
        assert!(!refuses(1, 999_000, 1000) && refuses(1, 999_000, 1001));
        assert!(!refuses(0, 0, 2_000_000), "a record that is larger than the part goes alone");
        let (code, message) = max.refuses("shardId-7", &Held { records: 100, bytes: 500 }, 1).expect("it is full");
        assert_eq!(code, ErrorCode::Throttled);
        assert_eq!(
            &*message,
            "shardId-7 holds 100 records and 500 bytes; shard_backlog_max is 10 %: 100 records and 1000000 bytes"
        );
        assert!(BacklogMax::of(&Config::default()).is_none(), "it is off by default");
    }
}
