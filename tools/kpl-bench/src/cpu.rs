//! What this process used of the processor: user and system time of all its threads, by `getrusage`.
//!
//! The embedded endpoint is a child process and so not in it. The thread that draws the progress bar is in it, at ten
//! short turns a second.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// Processor time since the process began, or between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    pub user: Duration,
    pub system: Duration,
}

impl CpuTime {
    /// Of this process, so far. Where the system does not tell, it is zero.
    pub fn now() -> CpuTime {
        let duration = |time: TimeVal| {
            Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0))
                + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
        };
        getrusage(UsageWho::RUSAGE_SELF)
            .map(|usage| CpuTime { user: duration(usage.user_time()), system: duration(usage.system_time()) })
            .unwrap_or_default()
    }

    /// What was used since `earlier`.
    pub fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime { user: self.user.saturating_sub(earlier.user), system: self.system.saturating_sub(earlier.system) }
    }

    /// Both together.
    pub fn total(self) -> Duration {
        self.user + self.system
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_as_processor_time() {
        let before = CpuTime::now();
        let mut rounds = 0u64;
        while CpuTime::now().since(before).total() < Duration::from_millis(2) {
            rounds += 1;
        }
        assert!(rounds > 0);
    }
}
