//! The ways to put a record, each as a lane that a bench can drive.

use kpl::{Outcome, Record, Stream, Submitter};

use crate::machine::Machine;
use crate::peer::{Consumer, Rhythm};

/// One way to hand a record over.
pub trait Lane {
    /// What the caller holds afterwards.
    type Kept;

    /// Hands one record over: this is what is measured. Nothing if it was refused.
    fn put(&mut self, key: &str, data: &[u8]) -> Option<Self::Kept>;
}

/// A submitter and its stream.
pub struct Puts {
    /// Where puts go in.
    pub submitter: Submitter,
    /// Where they go to.
    pub stream: Stream,
}

/// `try_put`, whose outcome is kept: it is dropped long after it is there.
pub struct OutcomeKept(pub Puts);

impl Lane for OutcomeKept {
    type Kept = Outcome;

    #[inline]
    fn put(&mut self, key: &str, data: &[u8]) -> Option<Outcome> {
        self.0.submitter.try_put(&self.0.stream, Record::new(key, data)).ok()
    }
}

/// `try_put`, whose outcome is dropped at once.
pub struct OutcomeDropped(pub Puts);

impl Lane for OutcomeDropped {
    type Kept = ();

    #[inline]
    fn put(&mut self, key: &str, data: &[u8]) -> Option<()> {
        self.0.submitter.try_put(&self.0.stream, Record::new(key, data)).ok().map(drop)
    }
}

/// `try_put_detached`.
pub struct Detached(pub Puts);

impl Lane for Detached {
    type Kept = ();

    #[inline]
    fn put(&mut self, key: &str, data: &[u8]) -> Option<()> {
        self.0.submitter.try_put_detached(&self.0.stream, Record::new(key, data)).ok()
    }
}

/// `try_put_with_token`. A thread on the core's CPU takes the completions out, every 20 ms.
pub struct Token {
    puts: Puts,
    next: u64,
    _drained: Consumer,
}

impl Token {
    /// The lane and its thread.
    pub fn start(mut puts: Puts, machine: &Machine) -> Token {
        let mut completions = puts.submitter.completions().expect("nobody has asked before");
        let drain = move || {
            completions.drain(|_| ());
        };
        let drained = Consumer::start(machine, Rhythm::Armed, drain);
        Token { puts, next: 0, _drained: drained }
    }
}

impl Lane for Token {
    type Kept = ();

    #[inline]
    fn put(&mut self, key: &str, data: &[u8]) -> Option<()> {
        self.next += 1;
        self.puts.submitter.try_put_with_token(&self.puts.stream, Record::new(key, data), self.next).ok()
    }
}

/// `try_reserve`, a copy into what was reserved, and `commit_detached`.
pub struct Reserved(pub Puts);

impl Lane for Reserved {
    type Kept = ();

    #[inline]
    fn put(&mut self, key: &str, data: &[u8]) -> Option<()> {
        let mut reservation = self.0.submitter.try_reserve(&self.0.stream, key, data.len()).ok()?;
        reservation.bytes().copy_from_slice(data);
        reservation.commit_detached().ok()
    }
}
