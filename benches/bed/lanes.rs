//! The ways to put a record, each as a lane that a bench can drive.

use kpl::{Outcome, Record, Stream, Submitter};

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
