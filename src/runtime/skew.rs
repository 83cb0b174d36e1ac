//! How far the service's clock is from this machine's, as signatures must follow the service's.
//!
//! The service refuses a signature whose time is more than five minutes from its own. So a difference of four minutes
//! or less was not the reason: it is within what the way of an answer and the whole seconds of its `Date` can explain,
//! and the refusal had another. Each core learns by itself, from the first refusal that it gets.

use std::time::{Duration, SystemTime};

use crate::limits::CLOCK_SKEW_MIN;

/// What is to be added to this machine's time of day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Skew {
    seconds: i64,
}

impl Skew {
    /// The difference of the service's time of day to ours; nothing if it is too long for a time of day.
    pub(crate) fn between(ours: SystemTime, theirs: SystemTime) -> Option<Skew> {
        let (seconds, sign) = match theirs.duration_since(ours) {
            Ok(ahead) => (ahead.as_secs(), 1),
            Err(behind) => (behind.duration().as_secs(), -1),
        };
        let skew = Skew { seconds: sign * i64::try_from(seconds).ok()? };
        skew.try_apply(ours).map(|_| skew)
    }

    /// Whether two differ so little that a signature would be taken under either.
    pub(crate) fn differs_little(self, other: Skew) -> bool {
        self.seconds.abs_diff(other.seconds) <= CLOCK_SKEW_MIN.as_secs()
    }

    /// The service's time of day at `ours`.
    pub(crate) fn apply(self, ours: SystemTime) -> SystemTime {
        self.try_apply(ours).unwrap_or(ours)
    }

    fn try_apply(self, ours: SystemTime) -> Option<SystemTime> {
        let distance = Duration::from_secs(self.seconds.unsigned_abs());
        if self.seconds < 0 { ours.checked_sub(distance) } else { ours.checked_add(distance) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_skew_leads_from_our_time_to_theirs_in_both_directions() {
        for (ours, theirs) in [(at(10_000), at(13_600)), (at(13_600), at(10_000)), (at(5), at(5))] {
            let skew = Skew::between(ours, theirs).expect("a short way");
            assert_eq!(skew.apply(ours), theirs);
            assert_eq!(skew.apply(ours + Duration::from_secs(7)), theirs + Duration::from_secs(7));
        }
    }

    #[test]
    fn four_minutes_are_little_and_more_is_much() {
        let of = |seconds: u64| Skew::between(at(100_000), at(100_000 + seconds)).expect("a short way");
        assert!(of(240).differs_little(of(0)) && of(0).differs_little(of(240)));
        assert!(!of(241).differs_little(of(0)) && !of(0).differs_little(of(241)));
    }

    #[test]
    fn a_date_of_the_far_future_is_a_skew_and_no_panic() {
        let far = at(u64::from(u32::MAX) * 50);
        let skew = Skew::between(at(0), far).expect("a way");
        assert_eq!(skew.apply(at(0)), far);
        // What no time of day can hold leaves ours as it is.
        let latest = at(i64::MAX as u64 - 10);
        assert_eq!(skew.apply(latest), latest);
    }
}
