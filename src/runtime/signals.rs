//! SIGPIPE, kept from our threads.
//!
//! A write to a socket whose peer has closed raises SIGPIPE unless it says otherwise, and neither glommio's writes nor
//! the standard library's vectored ones do. A Rust program ignores the signal from its start; a host in another
//! language that left the default would be killed by a server that hangs up. The library changes nothing for the
//! process: it blocks the signal on the threads that it starts, and threads that those start inherit that. The write
//! then fails with EPIPE, as it should.

/// Blocks SIGPIPE on the current thread.
pub(crate) fn block_sigpipe() {
    #[cfg(unix)]
    {
        use nix::sys::signal::{SigSet, Signal};

        let mut set = SigSet::empty();
        set.add(Signal::SIGPIPE);
        // It fails for an unknown `how` only, which is not ours to choose.
        set.thread_block().expect("SIG_BLOCK is known");
    }
}
