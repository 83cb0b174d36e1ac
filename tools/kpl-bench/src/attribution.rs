//! Attribution: whether what went wrong is what was injected, and no more.
//!
//! ```text
//!   struck at the endpoint, by kind ─┐
//!   shards split and merged ─────────┼─▶ codes that are explained ─▶ attempts, failures, duplicates: explained or not
//!   the endpoint killed ─────────────┘
//! ```
//!
//! A code is explained if kinds of fault that lead to it have struck, and no fewer times than requests failed with it: each
//! strike fails one request at most, but for an outage or a kill. A *failure* is attributed if its own code and those
//! of its attempts are explained. A *duplicate* is attributed if its record had an ambiguous attempt with an explained
//! code for each copy too many, whether consumers see that copy or drop it; so is a record that is in the stream though it
//! failed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use endpoint::FaultKind;
use kpl::time::Time;
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
    /// Whether so many requests that failed with this code, or a failure with it, are explained.
    pub fn explains(&self, code: &str, requests: u64) -> bool {
        let kinds = kinds_behind(code);
        // Of these a single one fails as many requests as are made meanwhile.
        let lasting = match code {
            "Wrong Shard" | "UnverifiedShard" => self.reshards > 0 || self.struck(&[FaultKind::Distributed]) > 0,
            "Connect" | "Reset" | "Tls" => self.kills > 0 || self.struck(&[FaultKind::Away]) > 0,
            "Timeout" => self.kills > 0,
            "Expired" => self.kills > 0 || !self.struck.is_empty(),
            _ => false,
        };
        let struck = self.struck(kinds);
        lasting || (struck > 0 && requests <= struck)
    }

    fn struck(&self, kinds: &[FaultKind]) -> u64 {
        kinds.iter().filter_map(|kind| self.struck.get(kind.name())).sum()
    }
}

/// Which codes are explained, by what was injected and how many requests failed.
#[derive(Clone, Debug)]
pub struct Explained<'t> {
    injected: &'t Injected,
    tries: &'t Tries,
}

impl<'t> Explained<'t> {
    pub fn new(injected: &'t Injected, tries: &'t Tries) -> Explained<'t> {
        Explained { injected, tries }
    }

    /// Whether attempts and failures with this code are explained.
    pub fn code(&self, code: &str) -> bool {
        let requests = self.tries.failed_requests.get(code).map_or(0, |requests| requests.len() as u64);
        self.injected.explains(code, requests)
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
            // The 413 has a page for a body.
            TooLarge,
            Refusing,
        ],
        "Record Count Mismatch" => &[WrongCount],
        "Wrong Shard" | "UnverifiedShard" => &[WrongOrder],
        "Poison" | "ValidationException" => &[Invalid],
        "StreamUnavailable" => &[ListFailed, ListThrottled, ListReset, ListEmpty, ListGap, ListOverlap, Refusing, Away],
        "ProvisionedThroughputExceededException" => &[RequestThrottled, RecordsThrottled],
        "LimitExceededException" | "KMSThrottlingException" => &[RequestThrottled],
        "InternalFailure" => &[InternalError, InternalErrorServed, RecordsFailed, RecordsFailedStored],
        "ExpiredTokenException" => &[AuthRefused],
        "InvalidSignatureException" => &[SignatureRefused],
        "ResourceNotFoundException" => &[NotFound],
        _ => &[],
    }
}

/// A code, how often it came, and whether that is explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Coded {
    pub code: String,
    /// Records, each as often as it came to them.
    pub count: u64,
    /// Requests that failed with it, or of which a record did.
    pub requests: u64,
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
    /// Copies in aggregates that consumers drop.
    pub dropped_unattributed: u64,
    /// Records that stand alone in a shard that is not theirs, though the service never distributed them.
    pub misplaced_unattributed: u64,
}

/// What the outcomes tell of attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tries {
    /// Failed attempts of records by code.
    pub failed_by_code: BTreeMap<String, u64>,
    /// The requests in which they were, by code: when these began and ended tells them apart.
    pub failed_requests: BTreeMap<String, HashSet<(Time, Time)>>,
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
        for (code, requests) in other.failed_requests {
            self.failed_requests.entry(code).or_default().extend(requests);
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
    /// Holds what came against what was injected.
    pub fn new(injected: &Injected, tries: &Tries, findings: &Findings, misplaced: u64) -> Attribution {
        let explained = Explained::new(injected, tries);
        let coded = |code: &str, count, attributed| {
            let requests = tries.failed_requests.get(code).map_or(0, |requests| requests.len() as u64);
            Coded { code: code.to_owned(), count, requests, attributed }
        };
        let attempts = tries.failed_by_code.iter().map(|(code, count)| coded(code, *count, explained.code(code)));
        let failures = tries.of_failures.iter().map(|(code, (count, of_attempts))| {
            let attributed = explained.code(code) && of_attempts.iter().all(|code| explained.code(code));
            coded(code, *count, attributed)
        });
        Attribution {
            profile: None,
            attempts: attempts.collect(),
            failures: failures.collect(),
            records_resent: tries.resent,
            duplicates_attributed: findings.duplicated - findings.unexplained_copies,
            duplicates_unattributed: findings.unexplained_copies,
            stored_though_failed_attributed: findings.stored_though_failed - findings.unexplained_stored,
            stored_though_failed_unattributed: findings.unexplained_stored,
            dropped_unattributed: findings.unexplained_dropped,
            misplaced_unattributed: if injected.struck(&[FaultKind::Distributed]) > 0 { 0 } else { misplaced },
            reshards: injected.reshards,
            kills: injected.kills,
            injected: injected.struck.clone(),
        }
    }

    /// Whether everything that went wrong is explained.
    pub fn is_complete(&self) -> bool {
        let unexplained = [
            self.duplicates_unattributed,
            self.stored_though_failed_unattributed,
            self.dropped_unattributed,
            self.misplaced_unattributed,
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
                false => format!("UNEXPLAINED (in {} requests) {}", one.requests, one.code),
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
            writeln!(f, "dropped        {} copies by consumers, not explained", n(self.dropped_unattributed))?;
        }
        if self.misplaced_unattributed > 0 {
            writeln!(f, "misplaced      {} single records, not explained", n(self.misplaced_unattributed))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn injected(kinds: &[FaultKind]) -> Injected {
        Injected { struck: kinds.iter().map(|kind| (kind.name().to_owned(), 1)).collect(), ..Injected::default() }
    }

    fn tries(own: &str, of_attempts: &[&str]) -> Tries {
        let of_attempts: BTreeSet<String> = of_attempts.iter().map(|code| (*code).to_owned()).collect();
        Tries { of_failures: BTreeMap::from([(own.to_owned(), (3, of_attempts))]), ..Tries::default() }
    }

    #[test]
    fn a_code_is_explained_by_what_leads_to_it_alone_and_no_more_often_than_that_struck() {
        assert!(injected(&[FaultKind::Lost]).explains("Timeout", 1));
        assert!(!injected(&[FaultKind::Lost]).explains("Timeout", 2));
        assert!(injected(&[FaultKind::Lost, FaultKind::LateAnswer]).explains("Timeout", 2));
        assert!(!injected(&[FaultKind::Lost]).explains("InternalFailure", 1));
        assert!(!Injected::default().explains("Expired", 0));
        assert!(injected(&[FaultKind::Refusing]).explains("Expired", 0));
        assert!(injected(&[FaultKind::Away]).explains("Connect", 100));
        assert!(Injected { kills: 1, ..Injected::default() }.explains("Connect", 100));
        for code in ["Closed", "CoreFailed"] {
            assert!(!injected(FaultKind::ALL).explains(code, 0));
        }
        assert!(Injected { reshards: 1, ..Injected::default() }.explains("Wrong Shard", 100));
    }

    #[test]
    fn a_request_that_was_called_too_large_explains_one_answer_that_could_not_be_read() {
        let struck = injected(&[FaultKind::TooLarge]);
        assert!(struck.explains("Unreadable Answer", 1) && !struck.explains("Unreadable Answer", 2));
        assert!(!injected(&[FaultKind::Slow]).explains("Unreadable Answer", 1));
    }

    #[test]
    fn a_failure_is_attributed_only_with_all_its_attempts() {
        let judge = |tries: &Tries, kinds: &[FaultKind]| {
            Attribution::new(&injected(kinds), tries, &Findings::default(), 0).is_complete()
        };
        let mut failed = tries("Expired", &["Timeout", "Reset"]);
        assert!(judge(&failed, &[FaultKind::Lost, FaultKind::ResetServed]));
        assert!(!judge(&failed, &[FaultKind::LateAnswer]));
        assert!(!judge(&failed, &[]));
        let requests = [1, 2].map(|ms| (Time::ZERO, Time::ZERO + Duration::from_millis(ms)));
        failed.failed_requests.insert("Timeout".to_owned(), requests.into());
        assert!(!judge(&failed, &[FaultKind::LateAnswer, FaultKind::ResetServed]), "one strike, two requests");
        assert!(judge(&Tries::default(), &[]));
    }

    #[test]
    fn what_is_there_too_often_or_in_a_wrong_shard_must_be_known() {
        let judge = |findings: &Findings, misplaced| {
            Attribution::new(&Injected::default(), &Tries::default(), findings, misplaced).is_complete()
        };
        let explained = Findings { duplicated: 2, stored_though_failed: 1, ..Findings::default() };
        assert!(judge(&explained, 0) && !judge(&explained, 1));
        assert!(!judge(&Findings { unexplained_copies: 1, ..explained }, 0));
        assert!(!judge(&Findings { unexplained_stored: 1, ..explained }, 0));
        assert!(!judge(&Findings { unexplained_dropped: 1, ..explained }, 0));
    }
}
