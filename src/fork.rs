//! Whether this process is the one that a producer was started in, or a fork of it.
//!
//! A fork copies the memory of a producer and none of its threads: records put in the child would wait forever in
//! rings that nobody drains, and its copies of sockets and io_urings are the parent's. So the child counts that it is
//! one, in a handler that the C library calls after `fork`, and every handle that was made before refuses.
//!
//! A put compares one word that is written by nobody else, ever: no system call, and no cache line on the move.
//!
//! What it does not see: a bare `clone` system call, which calls no handlers. What follows `vfork` or `posix_spawn` is
//! another program, and has no producer.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many forks lie between the first process and this one, as far as they were counted.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The process that something was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin(u32);

impl Origin {
    /// This process.
    ///
    /// # Errors
    /// The handler cannot be registered for want of memory.
    pub(crate) fn here() -> io::Result<Origin> {
        static REGISTERED: OnceLock<i32> = OnceLock::new();
        match *REGISTERED.get_or_init(register) {
            0 => Ok(Origin(forks())),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Whether this process is a fork of the one that it was made in.
    #[inline]
    pub(crate) fn is_elsewhere(self) -> bool {
        forks() != self.0
    }
}

#[inline]
fn forks() -> u32 {
    // Relaxed: it is written while a process has one thread, which alone can start those that read; partner of the
    // addition in `count`.
    FORKS.load(Ordering::Relaxed)
}

#[cfg(unix)]
extern "C" fn count() {
    // Relaxed: see `forks`.
    FORKS.fetch_add(1, Ordering::Relaxed);
}

#[cfg(unix)]
fn register() -> i32 {
    // SAFETY: `count` is a function of the program, there as long as it is, and does nothing that is forbidden between
    // a fork and an exec: it adds to an atomic.
    #[expect(unsafe_code, reason = "there is no other way to hear of a fork")]
    unsafe {
        libc::pthread_atfork(None, None, Some(count))
    }
}

/// Where nothing forks.
#[cfg(not(unix))]
fn register() -> i32 {
    0
}
