//! Completions: what a submitter hears of the records that were put with a token, many at a time.
//!
//! ```text
//!   put_with_token(7) ─▶ … ─▶ settled ─▶ list ─▶ Completions::drain ─▶ Completion { token: 7, result }
//! ```
//!
//! Each record that was accepted with a token is told once, in the order in which they were settled, or nearly. A record
//! counts against `max_outstanding_records` until its completion was drained, as it takes memory; its bytes are free as
//! soon as it is settled. So whoever puts with tokens must drain: else puts are `Full`, and stay so.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::fork::Origin;
use crate::outcome::{Delivered, ErrorCode, Failure, Settled, Settlement};
use crate::ring::{self, Abandoned, Budget};
use crate::waiting::{block_on, block_on_for};

/// How a record ended that was put with a token.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The token that it was put with.
    pub token: u64,
    /// Where it is, or why it was not delivered, with every attempt.
    pub result: Result<Delivered, Failure>,
}

/// The ends of the records of one submitter that were put with a token; from
/// [`Submitter::completions`](crate::Submitter::completions). It may be on another thread than the submitter.
///
/// Once it is dropped, the submitter takes no more tokens, and the ends of records under way are told to nobody.
pub struct Completions {
    /// There until the drop.
    list: Option<ring::Completions<Arc<Settlement>>>,
    budget: Arc<Budget>,
    origin: Origin,
}

impl Completions {
    pub(crate) fn new(list: ring::Completions<Arc<Settlement>>, budget: Arc<Budget>, origin: Origin) -> Completions {
        Completions { list: Some(list), budget, origin }
    }

    /// Shows every completion that is there to `each`, without waiting, and answers how many there were; whoever wants to
    /// keep one clones it. What is settled meanwhile may be left for the next call. If `each` panics, the completion that
    /// it was shown is gone, and those after it are kept.
    pub fn drain(&mut self, mut each: impl FnMut(&Completion)) -> usize {
        let Some(list) = self.list.as_mut().filter(|_| !self.origin.is_elsewhere()) else { return 0 };
        let mut told = Told { budget: &self.budget, records: 0 };
        let mut shown = None;
        let mut show = |token, end: Result<(&Arc<Settlement>, u32), Abandoned>| {
            told.records += 1;
            each(turned(&mut shown, token, end));
        };
        while list.pop_with(&mut show).is_some() {
            if !list.has_pending() {
                break;
            }
        }
        told.records as usize
    }

    /// The next completion, if one is there.
    pub fn try_next(&mut self) -> Option<Completion> {
        let list = self.list.as_mut().filter(|_| !self.origin.is_elsewhere())?;
        let completion = list.pop_with(completion)?;
        self.budget.let_go(1);
        Some(completion)
    }

    /// Waits for the next completion. Nothing if the submitter is gone and there is none left to come.
    pub async fn next(&mut self) -> Option<Completion> {
        poll_fn(|context| self.poll_ready(context)).await;
        self.try_next()
    }

    /// Waits until there is a completion to drain. False if the submitter is gone and there is none left to come.
    pub fn wait(&mut self) -> bool {
        block_on(poll_fn(|context| self.poll_ready(context)))
    }

    /// The same, but for `limit` at most; nothing if there was none by then.
    pub fn wait_timeout(&mut self, limit: Duration) -> Option<bool> {
        block_on_for(poll_fn(|context| self.poll_ready(context)), limit)
    }

    /// Ready when there is a completion to drain (true), or when the submitter is gone and there is none left to come
    /// (false); else the task is woken when it is. Only the latest task counts.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        match &mut self.list {
            Some(list) if !self.origin.is_elsewhere() => list.poll_any(context),
            _ => Poll::Ready(false),
        }
    }
}

impl Drop for Completions {
    fn drop(&mut self) {
        if let Some(list) = self.list.take() {
            let left = list.close();
            // In a fork this changes a copy that nobody looks at.
            self.budget.let_go(left);
        }
    }
}

impl fmt::Debug for Completions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completions").finish_non_exhaustive()
    }
}

/// Gives the credit of the records back that were told, whatever becomes of the telling.
struct Told<'a> {
    budget: &'a Budget,
    records: u64,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if self.records > 0 {
            self.budget.let_go(self.records);
        }
    }
}

fn completion(token: u64, end: Result<(&Arc<Settlement>, u32), Abandoned>) -> Completion {
    let result = match end {
        Ok((settlement, place)) => Settled::from((Arc::clone(settlement), place)).into_result(),
        Err(Abandoned) => Err(Failure::new(ErrorCode::CoreFailed, "the core that held the record ended")),
    };
    Completion { token, result }
}

/// The completion, in the place of the one that was shown before: the records of an aggregate, which mostly come one after
/// the other, share what there is to tell.
#[inline]
fn turned<'s>(
    shown: &'s mut Option<Completion>,
    token: u64,
    end: Result<(&Arc<Settlement>, u32), Abandoned>,
) -> &'s Completion {
    if let (Some(Completion { token: former, result: Ok(delivered) }), Ok((settlement, place))) = (&mut *shown, &end)
        && delivered.turn_to(settlement, *place)
    {
        *former = token;
    } else {
        *shown = Some(completion(token, end));
    }
    shown.as_ref().expect("one was just put there")
}
