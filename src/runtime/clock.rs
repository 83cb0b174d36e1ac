//! The producer's clock: the one place, with the runtimes' own, where time is read.

use std::time::{Duration, Instant, SystemTime};

use crate::time::Time;

/// A monotonic clock with an origin that all threads of a producer share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that stands at [`Time::ZERO`] now.
    #[expect(clippy::disallowed_methods, reason = "this is the producer's clock")]
    pub(crate) fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// The time.
    #[expect(clippy::disallowed_methods, reason = "this is the producer's clock")]
    pub(crate) fn now(self) -> Time {
        Time::ZERO + Instant::now().saturating_duration_since(self.origin)
    }

    /// A time as the operating system knows it.
    pub(crate) fn instant(self, time: Time) -> Instant {
        // A time that no instant can hold is further away than anybody sleeps.
        let since = time.since(Time::ZERO);
        self.origin.checked_add(since).unwrap_or(self.origin + FAR)
    }

    /// The time of day, which signatures carry.
    #[expect(clippy::disallowed_methods, reason = "this is the producer's clock")]
    pub(crate) fn time_of_day() -> SystemTime {
        SystemTime::now()
    }
}

/// Thirty years.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
