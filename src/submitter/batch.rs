//! Putting many records at once: one look at the core's bell, and one word to the core, for as many as find room.
//!
//! A batch is no transaction: its records are put one after the other, up to the first that is refused.

use std::fmt;

use super::Submitter;
use crate::error::PutErrorReason;
use crate::record::Record;
use crate::reply::{ByOutcome, ByToken, Detached, Reply};
use crate::stream::Stream;
use crate::waiting::{Outcome, block_on};

/// How far a batch came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchError {
    /// So many records, from the first, were accepted; nothing is written of the others.
    pub accepted: usize,
    /// Why the next one was refused.
    pub reason: PutErrorReason,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of the batch: {}", self.accepted, self.reason)
    }
}

impl std::error::Error for BatchError {}

impl Submitter {
    /// Puts records without waiting, in their order; pushes their outcomes to `outcomes`.
    ///
    /// # Errors
    /// How many were accepted, and as for [`Submitter::try_put`] why the next one was not.
    pub fn try_put_batch(
        &mut self,
        stream: &Stream,
        records: &[Record<'_>],
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), BatchError> {
        self.submit_batch(stream, records, |_| ByOutcome, |outcome| outcomes.push(outcome))
    }

    /// The same; waits while the producer is full.
    ///
    /// # Errors
    /// How many were accepted, and as for [`Submitter::put`] why the next one was not.
    pub fn put_batch(
        &mut self,
        stream: &Stream,
        records: &[Record<'_>],
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), BatchError> {
        block_on(self.put_batch_async(stream, records, outcomes))
    }

    /// The same for a task. Dropping the future before it is ready leaves the outcomes of those that were put.
    ///
    /// # Errors
    /// As [`Submitter::put_batch`].
    pub async fn put_batch_async(
        &mut self,
        stream: &Stream,
        records: &[Record<'_>],
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), BatchError> {
        self.submit_batch_when_possible(stream, records, |_| ByOutcome, |outcome| outcomes.push(outcome)).await
    }

    /// Puts records without waiting, in their order. The first has the token `first`, each other one more than the one
    /// before it, and after the greatest comes 0.
    ///
    /// # Errors
    /// How many were accepted, and as for [`Submitter::try_put_with_token`] why the next one was not.
    pub fn try_put_batch_with_tokens(
        &mut self,
        stream: &Stream,
        records: &[Record<'_>],
        first: u64,
    ) -> Result<(), BatchError> {
        self.submit_batch(stream, records, |at| ByToken(first.wrapping_add(at as u64)), |()| ())
    }

    /// The same; waits while the producer is full.
    ///
    /// # Errors
    /// How many were accepted, and as for [`Submitter::put_with_token`] why the next one was not.
    pub fn put_batch_with_tokens(
        &mut self,
        stream: &Stream,
        records: &[Record<'_>],
        first: u64,
    ) -> Result<(), BatchError> {
        let token = |at| ByToken(first.wrapping_add(at as u64));
        block_on(self.submit_batch_when_possible(stream, records, token, |()| ()))
    }

    /// Puts records without waiting, in their order, and learns nothing more of them.
    ///
    /// # Errors
    /// How many were accepted, and as for [`Submitter::try_put_detached`] why the next one was not.
    pub fn try_put_batch_detached(&mut self, stream: &Stream, records: &[Record<'_>]) -> Result<(), BatchError> {
        self.submit_batch(stream, records, |_| Detached, |()| ())
    }

    /// The same; waits while the producer is full.
    ///
    /// # Errors
    /// How many were accepted, and as for [`Submitter::put_detached`] why the next one was not.
    pub fn put_batch_detached(&mut self, stream: &Stream, records: &[Record<'_>]) -> Result<(), BatchError> {
        block_on(self.submit_batch_when_possible(stream, records, |_| Detached, |()| ()))
    }

    fn submit_batch<R: Reply>(
        &mut self,
        stream: &Stream,
        records: &[Record<'_>],
        reply: impl Fn(usize) -> R,
        mut receipt: impl FnMut(R::Receipt),
    ) -> Result<(), BatchError> {
        let mut accepted = 0;
        for chunk in records.chunks(STAGED_MAX) {
            let result = self.stage_chunk(stream, chunk, |at| reply(accepted + at), &mut receipt);
            self.publish_staged();
            match result {
                Ok(()) => accepted += chunk.len(),
                Err((staged, reason)) => return Err(BatchError { accepted: accepted + staged, reason }),
            }
        }
        Ok(())
    }

    async fn submit_batch_when_possible<R: Reply>(
        &mut self,
        stream: &Stream,
        records: &[Record<'_>],
        reply: impl Fn(usize) -> R,
        mut receipt: impl FnMut(R::Receipt),
    ) -> Result<(), BatchError> {
        let mut done = 0;
        while done < records.len() {
            let BatchError { accepted, reason } =
                match self.submit_batch(stream, &records[done..], |at| reply(done + at), &mut receipt) {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                };
            done += accepted;
            if reason != PutErrorReason::Full {
                return Err(BatchError { accepted: done, reason });
            }
            match self.submit_when_possible(stream, records[done], reply(done)).await {
                Ok(one) => receipt(one),
                Err(error) => return Err(BatchError { accepted: done, reason: error.reason }),
            }
            done += 1;
        }
        Ok(())
    }

    /// Writes records to the ring, up to the first that is refused, without giving them to the core.
    fn stage_chunk<R: Reply>(
        &mut self,
        stream: &Stream,
        records: &[Record<'_>],
        reply: impl Fn(usize) -> R,
        mut receipt: impl FnMut(R::Receipt),
    ) -> Result<(), (usize, PutErrorReason)> {
        let observed = self.admit_to(&stream.0, reply(0)).map_err(|reason| (0, reason))?;
        for (at, record) in records.iter().enumerate() {
            match self.stage(observed, stream, record, reply(at)) {
                Ok(one) => receipt(one),
                Err(reason) => return Err((at, reason)),
            }
        }
        Ok(())
    }
}

/// Records that are staged before the core gets them. Ours: few enough that the core does not wait for them long.
const STAGED_MAX: usize = 64;
