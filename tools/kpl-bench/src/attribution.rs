//! Attribution: whether what went wrong is what was injected, and no more.
//!
//! ```text
//!   struck at the endpoint, by kind ─┐
//!   shards split and merged ─────────┼─▶ codes that are explained ─▶ attempts, failures, duplicates: explained or not
//!   the endpoint killed ─────────────┘
//! ```
//!
//! A code is explained if a kind of fault that leads to it has struck. A *failure* is attributed if its own code and those
//! of its attempts are explained. A *duplicate* is attributed if its record had an ambiguous attempt with an explained
//! code for each copy too many; so is a record that is in the stream though it failed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use endpoint::FaultKind;
use serde::Serialize;

use crate::report::grouped;
use crate::verify::Findings;

/// What was done to the run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// By the endpoint, by kind.
    pub struck: BTreeMap<String, u64>,
    /// Splits and merges.
    pub reshards: u64,
    /// Times that the endpoint was killed.
    pub kills: u64,
}

impl Injected {
    /// Whether an attempt, or a failure, with this code is explained.
    pub fn explains(&self, code: &str) -> bool {
        self.has_struck(kinds_behind(code))
            || match code {
                "Wrong Shard" | "UnverifiedShard" => self.reshards > 0,
                "Connect" | "Reset" | "Timeout" | "Tls" => self.kills > 0,
                "Expired" => self.kills > 0 || !self.struck.is_empty(),
                _ => false,
            }
    }

    /// Whether an ambiguous attempt with this code can have stored a copy that consumers see. What was stored in a wrong
    /// shard they do not see, unless the shard was right and the answer was not.
    pub fn explains_copy(&self, code: &str) -> bool {
        match code {
            "Wrong Shard" => self.has_struck(&[FaultKind::WrongOrder]),
            code => self.explains(code),
        }
    }

    fn has_struck(&self, kinds: &[FaultKind]) -> bool {
        kinds.iter().any(|kind| self.struck.contains_key(kind.name()))
    }
}

/// The faults that lead to an error code of the library's.
fn kinds_behind(code: &str) -> &'static [FaultKind] {
    use FaultKind::*;
    match code {
        "Connect" | "Tls" => &[ConnectReset, ConnectStalled, ResetInRequest, CloseInRequest, StallInRequest, Away],
        "Reset" => &[
            ConnectReset,
            ResetInRequest,
            CloseInRequest,
            IdleClosed,
            ResetUnserved,
            CloseUnserved,
            ResetServed,
            CloseServed,
            AnswerTruncated,
            Lost,
            ServedLate,
            Away,
        ],
        "Timeout" => &[ConnectStalled, StallInRequest, Lost, LateAnswer, ServedLate],
        "Unreadable Answer" => &[
            AnswerTruncated,
            Unavailable,
            UnavailableServed,
            InternalError,
            InternalErrorServed,
            Page,
            Garbage,
            Refusing,
        ],
        "Record Count Mismatch" => &[WrongCount],
        "Wrong Shard" | "UnverifiedShard" => &[WrongOrder],
        "Poison" | "ValidationException" => &[Invalid],
        "StreamUnavailable" => &[ListFailed, ListThrottled, ListReset, Refusing, Away],
        "ProvisionedThroughputExceededException" => &[RequestThrottled, RecordsThrottled],
        "LimitExceededException" | "KMSThrottlingException" => &[RequestThrottled],
        "InternalFailure" => &[InternalError, InternalErrorServed, RecordsFailed, RecordsFailedStored],
        "ExpiredTokenException" => &[AuthRefused],
        "ResourceNotFoundException" => &[NotFound],
        _ => &[],
    }
}

/// A code, how often it came, and whether that is explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coded {
    pub code: String,
    pub count: u64,
    pub attributed: bool,
}

/// What the report says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Attribution {
    /// The profile of the faults.
    pub profile: Option<&'static str>,
    /// Faults that struck, by kind.
    pub injected: BTreeMap<String, u64>,
    pub reshards: u64,
    pub kills: u64,
    /// Attempts that failed, counted for each record of them.
    pub attempts: Vec<Coded>,
    pub failures: Vec<Coded>,
    /// Records with more than one attempt.
    pub records_resent: u64,
    pub duplicates_attributed: u64,
    pub duplicates_unattributed: u64,
    pub stored_though_failed_attributed: u64,
    pub stored_though_failed_unattributed: u64,
    /// Members of aggregates that consumers drop, beyond those that failed as being in a wrong shard.
    pub dropped_unattributed: u64,
    /// Records that stand alone in a shard that is not theirs.
    pub misplaced: u64,
}

/// What the outcomes tell of attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// Failed attempts of records by code.
    pub failed_by_code: BTreeMap<String, u64>,
    /// Failed records, and the codes of all their attempts, by their own code.
    pub of_failures: BTreeMap<String, (u64, BTreeSet<String>)>,
    /// Records with more than one attempt.
    pub resent: u64,
}

impl Tries {
    /// Adds another lane's.
    pub fn add(&mut self, other: Tries) {
        for (code, count) in other.failed_by_code {
            *self.failed_by_code.entry(code).or_default() += count;
        }
        for (code, (count, of_attempts)) in other.of_failures {
            let entry = self.of_failures.entry(code).or_default();
            entry.0 += count;
            entry.1.extend(of_attempts);
        }
        self.resent += other.resent;
    }
}

impl Attribution {
    /// Holds what came against what was injected. `dropped` are members of aggregates that consumers drop.
    pub fn new(injected: Injected, tries: &Tries, findings: &Findings, dropped: u64, misplaced: u64) -> Attribution {
        let attempts = tries.failed_by_code.iter().map(|(code, count)| {
            let attributed = injected.explains(code);
            Coded { code: code.clone(), count: *count, attributed }
        });
        let failures = tries.of_failures.iter().map(|(code, (count, of_attempts))| {
            let attributed = injected.explains(code) && of_attempts.iter().all(|code| injected.explains(code));
            Coded { code: code.clone(), count: *count, attributed }
        });
        let misjudged =
            ["Wrong Shard", "UnverifiedShard"].map(|code| tries.failed_by_code.get(code).copied().unwrap_or(0));
        Attribution {
            profile: None,
            attempts: attempts.collect(),
            failures: failures.collect(),
            records_resent: tries.resent,
            duplicates_attributed: findings.duplicated - findings.unexplained_copies,
            duplicates_unattributed: findings.unexplained_copies,
            stored_though_failed_attributed: findings.stored_though_failed - findings.unexplained_stored,
            stored_though_failed_unattributed: findings.unexplained_stored,
            dropped_unattributed: dropped.saturating_sub(misjudged.iter().sum()),
            misplaced,
            reshards: injected.reshards,
            kills: injected.kills,
            injected: injected.struck,
        }
    }

    /// Whether everything that went wrong is explained.
    pub fn is_complete(&self) -> bool {
        let unexplained = [
            self.duplicates_unattributed,
            self.stored_though_failed_unattributed,
            self.dropped_unattributed,
            self.misplaced,
        ];
        unexplained == [0; 4] && self.failures.iter().all(|failure| failure.attributed)
    }
}

impl fmt::Display for Attribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = grouped;
        let list = |counts: &mut dyn Iterator<Item = (String, u64)>| {
            let all: Vec<String> = counts.map(|(name, count)| format!("{name} {}", n(count))).collect();
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        };
        let coded = |all: &[Coded]| {
            let shown = |one: &Coded| match one.attributed {
                true => one.code.clone(),
                false => format!("UNEXPLAINED {}", one.code),
            };
            list(&mut all.iter().map(|one| (shown(one), one.count)))
        };
        let profile = self.profile.map_or(String::new(), |profile| format!("{profile}: "));
        let struck = list(&mut self.injected.iter().map(|(name, count)| (name.clone(), *count)));
        writeln!(f, "injected       {profile}{struck}; {} reshards, {} kills", n(self.reshards), n(self.kills))?;
        writeln!(f, "attempts       failed: {}; {} records resent", coded(&self.attempts), n(self.records_resent))?;
        writeln!(f, "failures       {}", coded(&self.failures))?;
        writeln!(
            f,
            "duplicates     {} explained, {} not; stored though failed {} explained, {} not",
            n(self.duplicates_attributed),
            n(self.duplicates_unattributed),
            n(self.stored_though_failed_attributed),
            n(self.stored_though_failed_unattributed)
        )?;
        if self.dropped_unattributed > 0 {
            writeln!(f, "dropped        {} by consumers, and no attempt told of it", n(self.dropped_unattributed))?;
        }
        if self.misplaced > 0 {
            writeln!(f, "misplaced      {} single records", n(self.misplaced))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injected(kinds: &[FaultKind]) -> Injected {
        Injected { struck: kinds.iter().map(|kind| (kind.name().to_owned(), 1)).collect(), ..Injected::default() }
    }

    fn tries(own: &str, of_attempts: &[&str]) -> Tries {
        let of_attempts: BTreeSet<String> = of_attempts.iter().map(|code| (*code).to_owned()).collect();
        Tries { of_failures: BTreeMap::from([(own.to_owned(), (3, of_attempts))]), ..Tries::default() }
    }

    #[test]
    fn a_code_is_explained_by_what_leads_to_it_alone() {
        assert!(injected(&[FaultKind::Lost]).explains("Timeout"));
        assert!(!injected(&[FaultKind::Lost]).explains("InternalFailure"));
        assert!(!Injected::default().explains("Expired"));
        assert!(injected(&[FaultKind::Refusing]).explains("Expired"));
        assert!(Injected { kills: 1, ..Injected::default() }.explains("Connect"));
        let resharded = Injected { reshards: 1, ..Injected::default() };
        assert!(resharded.explains("Wrong Shard") && !resharded.explains_copy("Wrong Shard"));
        assert!(injected(&[FaultKind::WrongOrder]).explains_copy("Wrong Shard"));
        assert!(!injected(FaultKind::ALL).explains("Closed") && !injected(FaultKind::ALL).explains("CoreFailed"));
    }

    #[test]
    fn a_failure_is_attributed_only_with_all_its_attempts() {
        let judge = |tries: &Tries, kinds: &[FaultKind]| {
            Attribution::new(injected(kinds), tries, &Findings::default(), 0, 0).is_complete()
        };
        let failed = tries("Expired", &["Timeout", "Reset"]);
        assert!(judge(&failed, &[FaultKind::Lost, FaultKind::ResetServed]));
        assert!(!judge(&failed, &[FaultKind::LateAnswer]));
        assert!(!judge(&failed, &[]));
        assert!(judge(&Tries::default(), &[]));
    }

    #[test]
    fn what_consumers_drop_or_find_in_a_wrong_shard_must_be_known() {
        let mut tries = Tries::default();
        tries.failed_by_code.insert("Wrong Shard".to_owned(), 10);
        let judge = |dropped, misplaced| {
            Attribution::new(Injected::default(), &tries, &Findings::default(), dropped, misplaced).is_complete()
        };
        assert!(judge(10, 0) && !judge(11, 0) && !judge(10, 1));
        let findings = Findings { duplicated: 2, unexplained_copies: 1, ..Findings::default() };
        assert!(!Attribution::new(Injected::default(), &tries, &findings, 0, 0).is_complete());
    }
}
