//! The ways to put a record: each promises the same of a put, so each is tried alike.

use std::future::Future;
use std::pin::pin;
use std::slice;
use std::task::{Context, Poll, Waker};

use kpl::{Completions, Outcome, PutErrorReason, Record, Stream, Submitter};

/// A way to put a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// `try_put`, whose outcome is dropped.
    Dropped,
    /// `try_put`, whose outcome is kept and looked at later.
    Kept,
    /// `put`, which would wait.
    Waiting,
    /// `put_async`, whose future is ready at once.
    Async,
    /// `try_put_detached`.
    Detached,
    /// `try_put_with_token`, whose completion is drained later.
    Token,
    /// `try_reserve`, written in place, cut and committed; the outcome is kept.
    Reserved,
    /// `try_put_batch`, of one record; the outcome is kept.
    Batch,
}

/// All of them.
pub const STYLES: [Style; 8] = [
    Style::Dropped,
    Style::Kept,
    Style::Waiting,
    Style::Async,
    Style::Detached,
    Style::Token,
    Style::Reserved,
    Style::Batch,
];

/// Puts records in one style.
pub struct Putter {
    style: Style,
    submitter: Submitter,
    stream: Stream,
    kept: Vec<Outcome>,
    completions: Completions,
}

impl Putter {
    /// One that has room for `records` outcomes.
    pub fn new(style: Style, mut submitter: Submitter, stream: Stream, records: usize) -> Putter {
        let completions = submitter.completions().expect("nobody else has them");
        Putter { style, submitter, stream, kept: Vec::with_capacity(records), completions }
    }

    /// Puts one record.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn put(&mut self, record: Record<'_>) -> Result<(), PutErrorReason> {
        let Putter { style, submitter, stream, kept, .. } = self;
        let result = match style {
            Style::Dropped => submitter.try_put(stream, record).map(drop),
            Style::Kept => submitter.try_put(stream, record).map(|outcome| kept.push(outcome)),
            Style::Waiting => submitter.put(stream, record).map(drop),
            Style::Async => {
                let put = pin!(submitter.put_async(stream, record));
                match put.poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(result) => result.map(drop),
                    Poll::Pending => return Err(PutErrorReason::Full),
                }
            }
            Style::Detached => submitter.try_put_detached(stream, record),
            Style::Token => submitter.try_put_with_token(stream, record, 7),
            Style::Reserved => {
                let len = record.data.len();
                let mut reservation = submitter.try_reserve(stream, record.partition_key, len + 10)?;
                reservation.bytes()[..len].copy_from_slice(record.data);
                reservation.set_len(len).expect("it is less than was reserved");
                kept.push(reservation.commit()?);
                Ok(())
            }
            Style::Batch => {
                let put = submitter.try_put_batch(stream, slice::from_ref(&record), kept);
                return put.map_err(|error| error.reason);
            }
        };
        result.map_err(|error| error.reason)
    }

    /// Fills the budget.
    pub fn put_until_full(&mut self, record: Record<'_>) {
        loop {
            match self.submitter.try_put(&self.stream, record).map(drop).map_err(|error| error.reason) {
                Ok(()) => {}
                Err(PutErrorReason::Full) => return,
                Err(reason) => panic!("{reason}"),
            }
        }
    }

    /// Looks at what was kept, and drains completions; the records have been settled by now. Answers how many it saw.
    pub fn collect(&mut self) -> usize {
        let kept = self.kept.len();
        self.kept.drain(..).for_each(|outcome| drop(outcome.wait().expect("it is delivered")));
        let mut drained = 0;
        loop {
            let seen = self.completions.drain(|completion| {
                assert_eq!(completion.token, 7);
                completion.result.as_ref().expect("it is delivered");
            });
            if seen == 0 {
                return kept + drained;
            }
            drained += seen;
        }
    }

    /// Whether this style tells how each record ended.
    pub fn tells(&self) -> bool {
        matches!(self.style, Style::Kept | Style::Token | Style::Reserved | Style::Batch)
    }
}
