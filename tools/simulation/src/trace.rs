//! The trace of one seed: a line for each thing that happens, and a hash over all lines.
//!
//! Two runs of a seed have the same hash, or the simulator is not deterministic. A run of many seeds keeps no trace,
//! since formatting costs more than simulating.

use std::fmt::{Arguments, Write};

use kpl::time::Time;

/// Where lines go.
#[derive(Default)]
pub struct Trace {
    enabled: bool,
    printed: bool,
    line: String,
    hash: u64,
    lines: u64,
}

impl Trace {
    /// A trace that hashes if `enabled`, and prints as well if `printed`.
    pub fn new(enabled: bool, printed: bool) -> Trace {
        Trace { enabled, printed, hash: 0xCBF2_9CE4_8422_2325, ..Trace::default() }
    }

    /// Writes a line.
    pub fn say(&mut self, now: Time, text: Arguments<'_>) {
        if !self.enabled {
            return;
        }
        self.line.clear();
        let us = now.as_nanos() / 1000;
        // Writing to a string does not fail.
        let _ = write!(self.line, "{:>12}.{:03} {text}", us, now.as_nanos() % 1000);
        for byte in self.line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
        self.lines += 1;
        if self.printed {
            println!("{}", self.line);
        }
    }

    /// FNV-1a over all lines, and how many there were.
    pub fn digest(&self) -> (u64, u64) {
        (self.hash, self.lines)
    }
}
