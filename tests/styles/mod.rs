//! The ways to put a record: each promises the same of a put, so each is tried alike.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use kpl::{Outcome, PutErrorReason, Record, Stream, Submitter};

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
}

/// All of them.
pub const STYLES: [Style; 4] = [Style::Dropped, Style::Kept, Style::Waiting, Style::Async];

/// Puts records in one style.
pub struct Putter {
    style: Style,
    submitter: Submitter,
    stream: Stream,
    kept: Vec<Outcome>,
}

impl Putter {
    /// One that has room for `records` outcomes or tokens.
    pub fn new(style: Style, submitter: Submitter, stream: Stream, records: usize) -> Putter {
        Putter { style, submitter, stream, kept: Vec::with_capacity(records) }
    }

    /// Puts one record.
    ///
    /// # Errors
    /// Why it was refused.
    pub fn put(&mut self, record: Record<'_>) -> Result<(), PutErrorReason> {
        let Putter { style, submitter, stream, kept } = self;
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

    /// Looks at what was kept; the records have been settled by now.
    pub fn collect(&mut self) {
        self.kept.drain(..).for_each(|outcome| drop(outcome.wait().expect("it is delivered")));
    }
}
