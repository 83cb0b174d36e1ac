//! What signs requests: credentials that expire, and a clock that jumps.
//!
//! ```text
//!   expired, or jumped ──▶ what cores sign is refused ──▶ a core wants a remedy ──some time──▶ the core signs anew
//! ```
//!
//! Each change has a number, and each core signs by the latest that it was told of.

use crate::driver::Input;
use crate::faults::Kind;
use crate::world::{Event, World};

/// The longest that a remedy takes, in microseconds.
pub const REMEDY_US_MAX: u64 = 2_000_000;

/// Who signs by what.
pub struct Signer {
    /// How often credentials and clock have changed for the worse, and what the latest change was.
    changes: u64,
    latest: Kind,
    /// By core: the changes that it has been helped against.
    known: Vec<u64>,
    /// By core: whether help is on its way.
    awaited: Vec<bool>,
}

impl Signer {
    /// Everything is right.
    pub fn new(cores: usize) -> Signer {
        Signer { changes: 0, latest: Kind::CredentialsExpired, known: vec![0; cores], awaited: vec![false; cores] }
    }

    /// What is wrong with what a core signs now.
    pub fn fault_of(&self, core: usize) -> Option<Kind> {
        (self.known[core] < self.changes).then_some(self.latest)
    }

    /// A core signs anew.
    pub fn remedied(&mut self, core: usize) {
        self.known[core] = self.changes;
        self.awaited[core] = false;
    }
}

impl World {
    /// From now on what cores sign is refused.
    pub(crate) fn spoil_signer(&mut self, kind: Kind) {
        self.signer.changes += 1;
        self.signer.latest = kind;
        self.trace.say(self.now, format_args!("{kind:?}"));
    }

    /// A core wants other credentials, or the right time. It takes a while, and one remedy at a time.
    pub(crate) fn remedy_wanted(&mut self, core: usize) {
        if !std::mem::replace(&mut self.signer.awaited[core], true) {
            let delay = self.rng.micros(0, REMEDY_US_MAX);
            self.schedule(self.now + delay, Event::Tell(core, Input::SignerChanged));
        }
    }
}
