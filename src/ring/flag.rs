//! A flag that is rarely written and often read.

use super::shim::{AtomicBool, Ordering};

/// A flag between threads. What it says may be a moment old.
#[derive(Debug)]
pub struct Flag(AtomicBool);

impl Default for Flag {
    fn default() -> Flag {
        Flag(AtomicBool::new(false))
    }
}

impl Flag {
    /// Sets or clears it.
    pub fn set(&self, raised: bool) {
        // Relaxed: nothing is published with it; partner of the load in `is_raised`.
        self.0.store(raised, Ordering::Relaxed);
    }

    /// Whether it is set.
    #[inline]
    pub fn is_raised(&self) -> bool {
        // Relaxed: partner of the store in `set`.
        self.0.load(Ordering::Relaxed)
    }
}
