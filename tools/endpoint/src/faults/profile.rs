//! Profiles: how often each kind of fault strikes, of 100 000 connections or requests.
//!
//! ```text
//!   calm      nothing
//!   storm     everything, at once: about every sixth PutRecords suffers something; the service distributes for a while
//!   outage    nobody listens, or everything is refused, for seconds at a time; little besides
//!   throttle  requests and records are throttled, and so is listing the shards
//!   reshard   a little of everything; who asks for it splits and merges shards besides
//! ```
//!
//! What fails whole requests for good, as a wrong count of results does, is rare everywhere: one strike takes thousands of
//! aggregated records with it, and a run in which most records fail shows little.

use super::LIST_KINDS;
use super::kind::FaultKind;

/// A kind of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Nothing goes wrong.
    Calm,
    /// Everything goes wrong.
    Storm,
    /// The endpoint is away, or refuses everything, now and then.
    Outage,
    /// The endpoint throttles.
    Throttle,
    /// A little of everything, while shards are split and merged by somebody else.
    Reshard,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 5] = [Profile::Calm, Profile::Storm, Profile::Outage, Profile::Throttle, Profile::Reshard];

    /// Its name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Calm => "calm",
            Profile::Storm => "storm",
            Profile::Outage => "outage",
            Profile::Throttle => "throttle",
            Profile::Reshard => "reshard",
        }
    }

    /// The profile of this name.
    pub fn parse(name: &str) -> Option<Profile> {
        Profile::ALL.into_iter().find(|profile| profile.name() == name)
    }

    /// Whether there are outages.
    pub(crate) fn has_outages(self) -> bool {
        matches!(self, Profile::Outage)
    }

    /// Whether the service distributes records itself for a while.
    pub(crate) fn distributes(self) -> bool {
        matches!(self, Profile::Storm | Profile::Reshard)
    }

    /// Of 100 000 occasions, how often a kind strikes.
    pub(crate) fn rate(self, kind: FaultKind) -> u32 {
        match self {
            Profile::Calm => 0,
            Profile::Storm => storm(kind),
            Profile::Outage => storm(kind) / 20,
            Profile::Throttle => match kind {
                FaultKind::RequestThrottled => 5_000,
                FaultKind::RecordsThrottled => 25_000,
                FaultKind::ListThrottled => 30_000,
                _ => 0,
            },
            Profile::Reshard => match kind {
                kind if LIST_KINDS.contains(&kind) => 5_000,
                kind => storm(kind) / 5,
            },
        }
    }
}

fn storm(kind: FaultKind) -> u32 {
    use FaultKind::*;
    match kind {
        // By connection.
        ConnectReset => 4_000,
        ConnectStalled => 500,
        ResetInRequest | CloseInRequest => 8_000,
        StallInRequest => 1_500,
        // By PutRecords.
        IdleClosed => 3_000,
        ResetUnserved | CloseUnserved | ResetServed | CloseServed | AnswerTruncated => 700,
        Slow => 2_500,
        Lost | LateAnswer | ServedLate => 150,
        InternalError | InternalErrorServed | Unavailable | UnavailableServed => 600,
        RequestThrottled => 700,
        RecordsThrottled | RecordsFailed | RecordsFailedStored => 1_200,
        Page | Garbage => 400,
        WrongOrder => 300,
        AuthRefused => 100,
        SignatureRefused | NotFound => 150,
        TooLarge => 300,
        WrongCount | Invalid => 60,
        // By ListShards.
        ListFailed | ListThrottled | ListSlow | ListReset | ListStale | ListEmpty | ListGap | ListOverlap => 5_000,
        // By time.
        Away | Refusing | Distributed => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_known_by_its_name_and_a_storm_has_everything_but_what_lasts() {
        for profile in Profile::ALL {
            assert_eq!(Profile::parse(profile.name()), Some(profile));
        }
        assert_eq!(Profile::parse("hail"), None);
        let by_time = |kind: &FaultKind| matches!(kind, FaultKind::Away | FaultKind::Refusing | FaultKind::Distributed);
        assert!(FaultKind::ALL.iter().all(|kind| (Profile::Storm.rate(*kind) > 0) != by_time(kind)));
        assert!(FaultKind::ALL.iter().all(|kind| Profile::Calm.rate(*kind) == 0));
    }
}
