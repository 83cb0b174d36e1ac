//! A memory barrier of all threads of the process at once, so that puts need none of their own.
//!
//! Linux has one, `membarrier`: a process registers once, and then a call interrupts every CPU that runs one of its
//! threads, which acts as a full barrier there. Elsewhere, and where the call is forbidden, puts and cores fence in pairs.

/// The barrier, if there is one here.
#[cfg(target_os = "linux")]
pub(crate) fn process_barrier() -> Option<fn() -> bool> {
    use rustix::thread::{MembarrierCommand, membarrier};

    /// False if the kernel refuses it to a process that has registered: for want of memory, or as it was forbidden since.
    fn barrier() -> bool {
        membarrier(MembarrierCommand::PrivateExpedited).is_ok()
    }

    membarrier(MembarrierCommand::RegisterPrivateExpedited).ok()?;
    // Once here, as a sandbox may allow the one and not the other.
    barrier().then_some(barrier as fn() -> bool)
}

/// There is none.
#[cfg(not(target_os = "linux"))]
pub(crate) fn process_barrier() -> Option<fn() -> bool> {
    None
}
