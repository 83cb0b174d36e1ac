//! Requests that are refused for what is in them: a record that is poison, or too many bytes; and who may fail for it.
//!
//! ```text
//!   a poison record in it ──▶ invalid: names records, or none        more than the endpoint takes ──▶ 413
//! ```
//!
//! Whoever shares a Kinesis record with a poison one is *tainted*, and may fail with it. A request with several poison
//! records may cost its isolation more than it is allowed, or look as if it were at fault itself; then all of it is
//! excused. I20 holds all others. I21: what is too large is halved at least, whenever a core hears of it, and so a core
//! cannot be told more often than sizes can be halved, by each of its connections.

use std::collections::BTreeMap;

use kpl::outcome::{ErrorCode, Failure};

use crate::checker::Checker;
use crate::faults::Kind;
use crate::promise::Promise;
use crate::transmission::members_of;
use crate::wire::Entry;
use crate::world::World;

/// Requests that the search for one poison record may cost beyond the first.
const SEARCH_MAX: usize = 20;
/// How often the largest request can be halved: 10 MiB is below 2^24 bytes.
const HALVINGS_MAX: usize = 24;

/// What is known of refused requests.
#[derive(Default)]
pub struct Refusals {
    /// By core: requests that were too large.
    too_large: BTreeMap<usize, usize>,
}

impl World {
    /// The places of poison records in a request.
    pub(crate) fn poisoned(&self, stream: usize, entries: &[Entry]) -> Vec<usize> {
        if self.plan.poison == 0 {
            return Vec::new();
        }
        let aggregates = self.checker.configs[stream].aggregation_enabled;
        let is_poison = |number: &u64| self.checker.records.get(number).is_some_and(|record| record.draft.poison);
        let poisoned = |entry: &Entry| members_of(entry, aggregates).iter().flatten().any(is_poison);
        (0..entries.len()).filter(|&place| poisoned(&entries[place])).collect()
    }

    /// Why a request of so many bytes is refused, if it arrives.
    pub(crate) fn refusal_of(&self, core: usize, bytes: usize, poisoned: &[usize]) -> Option<Kind> {
        // The endpoint's own limit comes before everything, then who signs, then what is in it.
        let too_large = self.plan.body_max.is_some_and(|most| bytes > most).then_some(Kind::TooLarge);
        let poison = (!poisoned.is_empty()).then_some(Kind::Poisoned);
        too_large.or(self.signer.fault_of(core)).or(poison)
    }

    /// Remembers whom a refusal taints.
    pub(crate) fn note_refusal(
        &mut self,
        (core, stream): (usize, usize),
        fault: Option<Kind>,
        entries: &[Entry],
        poisoned: &[usize],
    ) {
        if fault == Some(Kind::TooLarge) {
            let count = self.refusals.too_large.entry(core).or_default();
            *count += 1;
            let most = HALVINGS_MAX * self.plan.config.max_connections_per_core;
            let kept = *count <= most;
            self.checker.holds(Promise::I21, kept, || format!("core {core} sends what is too large again and again"));
        }
        if fault != Some(Kind::Poisoned) {
            return;
        }
        let aggregates = self.checker.configs[stream].aggregation_enabled;
        // A newer map makes other aggregates, and another search.
        let maps = self.listings[stream].map.as_ref().map_or(1, |map| map.epoch) as usize;
        for (place, entry) in entries.iter().enumerate() {
            let shares = poisoned.contains(&place);
            for number in members_of(entry, aggregates).into_iter().flatten() {
                let Some(record) = self.checker.records.get_mut(&number) else { continue };
                record.tainted |= shares || poisoned.len() > 1;
                record.refused += usize::from(shares);
                let (refused, poison) = (record.refused, record.draft.poison);
                if poison && poisoned.len() == 1 {
                    self.checker.holds(Promise::I20, refused <= (1 + SEARCH_MAX) * maps, || {
                        format!("{refused} requests are refused for record {number}")
                    });
                }
            }
        }
    }
}

/// I20, I21, I22: what a failure may say of a record.
pub fn check_failure(number: u64, failure: &Failure, checker: &mut Checker) {
    let record = &checker.records[&number];
    let (code, tainted) = (failure.code().clone(), record.tainted);
    if checker.poison {
        let named = ["ValidationException", "InvalidArgumentException"].contains(&code.as_str());
        let blamed = named || code == ErrorCode::Poison;
        checker
            .holds(Promise::I20, !blamed || tainted, || format!("record {number} fails for another's poison: {code}"));
    }
    if checker.body_limited {
        let given_up = code == ErrorCode::UnreadableAnswer;
        checker.holds(Promise::I21, !given_up, || format!("record {number} fails as its request was too large"));
    }
    if checker.configs[0].keep_failed_records {
        let draft = &checker.records[&number].draft;
        let same = failure.record().is_some_and(|kept| {
            let explicit = kept.explicit_hash_key().map(|hash| hash.0);
            let placed = draft.explicit.is_none() || explicit == draft.explicit;
            kept.partition_key == draft.key && kept.data == draft.data && placed
        });
        checker.holds(Promise::I22, same, || format!("record {number} is handed back as {:?}", failure.record()));
    }
}
