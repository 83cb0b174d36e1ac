//! The submitters behind `Producer::put`, which any thread may call.
//!
//! ```text
//!   put ──▶ a submitter that nobody uses ──▶ its ring
//!              │ no credit                     │ no room
//!              ▼                               ▼
//!      the budget's queue ──▶ put again ──▶ a queue of its own ──▶ a ring that is kept for whose turn it is
//! ```
//!
//! Promises:
//! - No submitter is locked across a wait, so that a put without waiting is one.
//! - Who waits for room is served in order of arrival. One at a time waits on a ring, and nobody else puts into that,
//!   so that each is woken once for its turn and once for its room, however many wait.
//! - A put that is given up gives back its credit, its ring and its turn.
//!
//! Refusals: no order between calls. Who finds a free submitter with room passes those who wait, as records that are
//! handed from one waiter to the next cost a thread's wake-up each, and a core drains ten others meanwhile. The ring
//! that is kept says that nobody waits the longer for it.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};

use tokio::sync::{Mutex as Turnstile, MutexGuard as Turn};

use super::new_submitter;
use crate::codec::frame_len;
use crate::error::{PutError, PutErrorReason};
use crate::limits::POOL_SUBMITTERS;
use crate::record::Record;
use crate::reply::Reply;
use crate::shared::{Shared, lock};
use crate::stream::Stream;
use crate::submitter::{Refund, Submitter, Use};

/// See the essay.
#[derive(Default)]
pub(super) struct Pool {
    /// Each made when it is first needed.
    places: [OnceLock<Mutex<Place>>; POOL_SUBMITTERS],
    /// Whose turn it is to wait for room. First come, first served.
    turn: Turnstile<()>,
}

struct Place {
    submitter: Submitter,
    /// Somebody waits for room in it, and nobody else puts into it. One place at most is kept.
    kept: bool,
}

impl Pool {
    /// Puts a record without waiting.
    pub(super) fn try_put<'r, R: Reply>(
        &self,
        shared: &Arc<Shared>,
        stream: &Stream,
        record: Record<'r>,
        reply: R,
    ) -> Result<R::Receipt, PutError<Record<'r>>> {
        // Before the locks, which another thread may have held when it was forked.
        if shared.origin.is_elsewhere() {
            return Err(PutError { record, reason: PutErrorReason::Forked });
        }
        match self.free(shared) {
            Ok(mut place) => place.submitter.try_submit(stream, record, reply),
            Err(reason) => Err(PutError { record, reason }),
        }
    }

    /// Puts the record now, or waits for credit, then for room.
    pub(super) async fn put_when_possible<'r, R: Reply>(
        &self,
        shared: &Arc<Shared>,
        stream: &Stream,
        record: Record<'r>,
        reply: R,
    ) -> Result<R::Receipt, PutError<Record<'r>>> {
        match self.try_put(shared, stream, record, reply) {
            Err(PutError { reason: PutErrorReason::Full, .. }) => {}
            result => return result,
        }
        let refused = |reason| PutError { record, reason };
        let mut credit = shared.budget.purse();
        shared.wait_for_credit(&mut credit, record.size()).await.map_err(refused)?;
        // Also if this future is dropped while it waits for room.
        let refund = Refund::new(&mut credit, record.size());
        let mut put =
            self.free(shared).and_then(|mut place| place.submitter.submit_with_credit(stream, &record, reply));
        if matches!(put, Err(PutErrorReason::Full)) {
            let turn = self.turn.lock().await;
            put = match self.keep(shared, turn) {
                Ok(kept) => kept.push(stream, &record, reply).await,
                Err(reason) => Err(reason),
            };
        }
        match put {
            Ok(receipt) => {
                refund.disarm();
                Ok(receipt)
            }
            Err(reason) => Err(refused(reason)),
        }
    }

    /// A place that nobody uses at this moment, if there is one, and that is not kept.
    fn free(&self, shared: &Arc<Shared>) -> Result<MutexGuard<'_, Place>, PutErrorReason> {
        for place in &self.places {
            let place = match place.get() {
                Some(place) => match place.try_lock() {
                    Ok(place) => place,
                    Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                    Err(TryLockError::WouldBlock) => continue,
                },
                None => {
                    let submitter = new_submitter(shared, Use::Pool).map_err(|_closed| shared.refusal())?;
                    lock(place.get_or_init(|| Mutex::new(Place { submitter, kept: false })))
                }
            };
            if !place.kept {
                return Ok(place);
            }
        }
        // All are in use, so all are there.
        let places = self.places.iter().filter_map(OnceLock::get).map(lock);
        places.into_iter().find(|place| !place.kept).ok_or(PutErrorReason::Full)
    }

    /// Keeps a place for whose turn it is.
    fn keep<'a>(&'a self, shared: &Arc<Shared>, turn: Turn<'a, ()>) -> Result<Kept<'a>, PutErrorReason> {
        self.free(shared)?.kept = true;
        let kept = self.places.iter().filter_map(OnceLock::get).find(|place| lock(place).kept);
        Ok(Kept { place: kept.expect("it is among them, and only whose turn it is gives it back"), _turn: turn })
    }
}

/// A place that is kept for one put. Dropped, it is everybody's again, and the next has its turn.
struct Kept<'a> {
    place: &'a Mutex<Place>,
    /// Given back after the place is: fields are dropped after their whole.
    _turn: Turn<'a, ()>,
}

impl Kept<'_> {
    /// Publishes a record whose credit is accounted for, as soon as there is room.
    async fn push<R: Reply>(
        self,
        stream: &Stream,
        record: &Record<'_>,
        reply: R,
    ) -> Result<R::Receipt, PutErrorReason> {
        let len = frame_len(record);
        loop {
            // If there is no room it rings, so that the core drains at once.
            let pushed = lock(self.place).submitter.submit_with_credit(stream, record, reply);
            if !matches!(pushed, Err(PutErrorReason::Full)) {
                return pushed;
            }
            poll_fn(|context| lock(self.place).submitter.ring().poll_room(context, len)).await;
        }
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        lock(self.place).kept = false;
    }
}
