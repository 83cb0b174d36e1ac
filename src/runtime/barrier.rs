//! A memory barrier of all threads of the process at once, so that puts need none of their own.
//!
//! Linux has one, `membarrier`: a process registers once, and then a call interrupts every CPU that runs one of its
//! threads, which acts as a full barrier there. Elsewhere, and where the call is forbidden, puts and cores fence in pairs.

/// The barrier, if there is one here.
#[cfg(target_os = "linux")]
pub(crate) fn process_barrier() -> Option<fn()> {
    use rustix::thread::{MembarrierCommand, membarrier};

    /// The kernel refuses it to a process that has registered only for want of memory, and then not for long.
    fn barrier() {
        while membarrier(MembarrierCommand::PrivateExpedited).is_err() {
            std::thread::yield_now();
        }
    }

    membarrier(MembarrierCommand::RegisterPrivateExpedited).ok()?;
    // Once here, where it can still be refused: from now on it must work.
    membarrier(MembarrierCommand::PrivateExpedited).ok()?;
    Some(barrier)
}

/// There is none.
#[cfg(not(target_os = "linux"))]
pub(crate) fn process_barrier() -> Option<fn()> {
    None
}
