//! Submitter: the put.
//!
//! ```text
//!   put ─▶ check ─▶ credit ─▶ frame in the ring, slot ─▶ bell, if the core rests ─▶ Outcome, token, or nothing
//! ```
//!
//! A put that finds credit, room and an awake core makes no system call and takes no lock. It allocates only for a
//! record larger than a quarter of the ring, and for a further segment of slots when more are in use than ever before.
//! It hashes nothing and knows no shard: that is its core's work. What it reads that others write is its core's bell
//! with the coarse clock, on one cache line, and the stream's `refused` flag.
//!
//! How the caller learns of the record's end is the put's [`Reply`]; all else is one path, [`Submitter::submit`].
//!
//! P1: a record is accepted when its frame is staged; until then every refusal gives back credit. What is staged is
//! published before the call returns, or, if the caller's own code panics in it, by the next call or the drop.
//! P2: a frame that is published after its core's last drain is settled by the put itself.

mod batch;
mod completions;
mod reservation;

use std::future::poll_fn;
use std::sync::Arc;

pub use batch::BatchError;
pub use completions::{Completion, Completions};
pub use reservation::{Reservation, ReservationError};

use crate::codec::{frame_len, wrapped_size, write_frame};
use crate::error::{PutError, PutErrorReason};
use crate::fork::Origin;
use crate::limits::PARTITION_KEY_UTF16_MAX;
use crate::metrics::SubmitterCounters;
use crate::outcome::{ErrorCode, Settlement};
use crate::record::{CoreId, Record};
use crate::reply::{ByOutcome, ByToken, Detached, Reply};
use crate::ring::{Doorbell, Observed, Published, Purse, Sender, Slots, Told};
use crate::shared::{End, Shared, StreamState, lock};
use crate::stream::Stream;
use crate::time::Time;
use crate::waiting::{Outcome, block_on, wake};

/// Whose submitter it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// A caller's own.
    Own,
    /// Of the pool behind `Producer::put`.
    Pool,
}

/// Puts records, for one thread or task at a time. It has a ring of its own and keeps the order of its puts per shard.
///
/// There are three ways to learn how a record ended, each with a put that answers at once (`try_`), one that waits and
/// one for tasks (`_async`):
/// - [`put`](Submitter::put) answers an [`Outcome`], a future for this one record;
/// - [`put_with_token`](Submitter::put_with_token) lists the record among the submitter's [`Completions`] when it has
///   ended, under a number of the caller's;
/// - [`put_detached`](Submitter::put_detached) tells nobody, unless the record fails and the producer was built with
///   [`on_failure`](crate::ProducerBuilder::on_failure).
///
/// It does not keep its producer open: once that is closed, puts are refused. Dropping a submitter loses nothing that
/// it has put.
pub struct Submitter {
    shared: Arc<Shared>,
    of: Use,
    /// As the producer's, which lies among what others write.
    origin: Origin,
    /// The core whose ring this is.
    home: CoreId,
    /// Its bell.
    bell: Arc<Doorbell>,
    purse: Purse,
    slots: Slots<Arc<Settlement>>,
    ring: Sender<Arc<Settlement>>,
    /// Behind the ring, as fields are dropped in their order.
    _farewell: Farewell,
    counters: Arc<SubmitterCounters>,
}

/// Rings the core once the ring's end is gone, so that it lets go of the ring now: it sees that when it looks next, and
/// an idle one looks when it is rung.
struct Farewell {
    bell: Arc<Doorbell>,
    origin: Origin,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        if !self.origin.is_elsewhere() {
            self.bell.ring();
        }
    }
}

impl Submitter {
    pub(crate) fn new(shared: Arc<Shared>, of: Use, home: CoreId, ring: Sender<Arc<Settlement>>) -> Submitter {
        let counters = Arc::new(SubmitterCounters::default());
        lock(&shared.submitters).live.push(Arc::clone(&counters));
        Submitter {
            of,
            origin: shared.origin,
            home,
            bell: Arc::clone(&shared.doorbells[home.index()]),
            purse: shared.budget.purse(),
            slots: Slots::new(Arc::clone(&shared.ledger)),
            ring,
            _farewell: Farewell { bell: Arc::clone(&shared.doorbells[home.index()]), origin: shared.origin },
            counters,
            shared,
        }
    }

    /// Puts a record without waiting.
    ///
    /// # Errors
    /// Gives the record back. `Full` if the budget is used up or the ring has no room at this moment; else what is
    /// wrong with the record, the stream or the producer.
    #[inline]
    pub fn try_put<'r>(&mut self, stream: &Stream, record: Record<'r>) -> Result<Outcome, PutError<Record<'r>>> {
        self.try_submit(stream, record, ByOutcome)
    }

    /// Puts a record; waits while the producer is full.
    ///
    /// # Errors
    /// Gives the record back, and says what is wrong with the record, the stream or the producer. `Full` only if there is
    /// nothing to wait for, as all that fills the producer are completions, and failures of detached records, that
    /// nobody has taken.
    pub fn put<'r>(&mut self, stream: &Stream, record: Record<'r>) -> Result<Outcome, PutError<Record<'r>>> {
        block_on(self.submit_when_possible(stream, record, ByOutcome))
    }

    /// The same as [`Submitter::put`] for a task. Dropping the future before it is ready puts nothing.
    ///
    /// # Errors
    /// As [`Submitter::put`].
    pub async fn put_async<'r>(
        &mut self,
        stream: &Stream,
        record: Record<'r>,
    ) -> Result<Outcome, PutError<Record<'r>>> {
        self.submit_when_possible(stream, record, ByOutcome).await
    }

    /// Where the ends of records that are put with a token are told, the first time; after that nothing.
    pub fn completions(&mut self) -> Option<Completions> {
        let list = self.slots.completions()?;
        Some(Completions::new(list, Arc::clone(&self.shared.budget), self.shared.origin))
    }

    /// Puts a record without waiting. Its end is told by the submitter's [`Completions`], under `token`, which may be any
    /// number, also one that is in use.
    ///
    /// # Errors
    /// As [`Submitter::try_put`]; `NoCompletions` if the completions were never asked for, or were dropped.
    #[inline]
    pub fn try_put_with_token<'r>(
        &mut self,
        stream: &Stream,
        record: Record<'r>,
        token: u64,
    ) -> Result<(), PutError<Record<'r>>> {
        self.try_submit(stream, record, ByToken(token))
    }

    /// The same; waits while the producer is full.
    ///
    /// # Errors
    /// As [`Submitter::put`]; `NoCompletions` as above.
    pub fn put_with_token<'r>(
        &mut self,
        stream: &Stream,
        record: Record<'r>,
        token: u64,
    ) -> Result<(), PutError<Record<'r>>> {
        block_on(self.submit_when_possible(stream, record, ByToken(token)))
    }

    /// The same for a task. Dropping the future before it is ready puts nothing.
    ///
    /// # Errors
    /// As [`Submitter::put_with_token`].
    pub async fn put_with_token_async<'r>(
        &mut self,
        stream: &Stream,
        record: Record<'r>,
        token: u64,
    ) -> Result<(), PutError<Record<'r>>> {
        self.submit_when_possible(stream, record, ByToken(token)).await
    }

    /// Puts a record without waiting, now or later. If it fails, the producer's handler is told, if there is one; in any
    /// case the producer counts it.
    ///
    /// # Errors
    /// As [`Submitter::try_put`].
    #[inline]
    pub fn try_put_detached<'r>(&mut self, stream: &Stream, record: Record<'r>) -> Result<(), PutError<Record<'r>>> {
        self.try_submit(stream, record, Detached)
    }

    /// The same; waits while the producer is full.
    ///
    /// # Errors
    /// As [`Submitter::put`].
    pub fn put_detached<'r>(&mut self, stream: &Stream, record: Record<'r>) -> Result<(), PutError<Record<'r>>> {
        block_on(self.submit_when_possible(stream, record, Detached))
    }

    /// The same for a task. Dropping the future before it is ready puts nothing.
    ///
    /// # Errors
    /// As [`Submitter::put`].
    pub async fn put_detached_async<'r>(
        &mut self,
        stream: &Stream,
        record: Record<'r>,
    ) -> Result<(), PutError<Record<'r>>> {
        self.submit_when_possible(stream, record, Detached).await
    }

    /// [`Submitter::submit`] for callers who want the record back.
    #[inline]
    pub(crate) fn try_submit<'r, R: Reply>(
        &mut self,
        stream: &Stream,
        record: Record<'r>,
        reply: R,
    ) -> Result<R::Receipt, PutError<Record<'r>>> {
        self.submit(stream, &record, reply).map_err(|reason| PutError { record, reason })
    }

    /// The put.
    #[inline]
    fn submit<R: Reply>(
        &mut self,
        stream: &Stream,
        record: &Record<'_>,
        reply: R,
    ) -> Result<R::Receipt, PutErrorReason> {
        let observed = self.admit_to(&stream.0, reply)?;
        let receipt = self.stage(observed, stream, record, reply)?;
        self.publish_staged();
        Ok(receipt)
    }

    /// Accepts a record for a stream that takes records, all but telling the core.
    #[inline]
    fn stage<R: Reply>(
        &mut self,
        observed: Observed,
        stream: &Stream,
        record: &Record<'_>,
        reply: R,
    ) -> Result<R::Receipt, PutErrorReason> {
        check(&stream.0, record)?;
        let size = record.size();
        if self.purse.try_take(size).is_err() {
            return Err(PutErrorReason::Full);
        }
        let result = self.write(observed, stream, record, reply);
        if result.is_err() {
            self.purse.refund(size);
        }
        result
    }

    /// Puts the record now, or waits for credit, then for room.
    async fn submit_when_possible<'r, R: Reply>(
        &mut self,
        stream: &Stream,
        record: Record<'r>,
        reply: R,
    ) -> Result<R::Receipt, PutError<Record<'r>>> {
        let refused = |reason| PutError { record, reason };
        match self.submit(stream, &record, reply) {
            Err(PutErrorReason::Full) => {}
            result => return result.map_err(refused),
        }
        self.wait_for(record.size(), frame_len(&record)).await.map_err(refused)?;
        let result = self.submit_with_credit(stream, &record, reply);
        if result.is_err() {
            self.purse.refund(record.size());
        }
        result.map_err(refused)
    }

    /// Takes credit for a record of `size` bytes, and waits until there is room for its frame of `len` bytes.
    async fn wait_for(&mut self, size: usize, len: usize) -> Result<(), PutErrorReason> {
        self.shared.wait_for_credit(&mut self.purse, size).await?;
        let refund = Refund::new(&mut self.purse, size);
        while self.ring.room(len).is_none() && !self.ring.is_disconnected() {
            self.bell.ring();
            poll_fn(|context| self.ring.poll_room(context, len)).await;
        }
        refund.disarm();
        Ok(())
    }

    /// Puts a record whose credit was taken.
    pub(crate) fn submit_with_credit<R: Reply>(
        &mut self,
        stream: &Stream,
        record: &Record<'_>,
        reply: R,
    ) -> Result<R::Receipt, PutErrorReason> {
        let observed = self.observe()?;
        let receipt = self.write(observed, stream, record, reply)?;
        self.publish_staged();
        Ok(receipt)
    }

    /// How the core is, unless it takes no more.
    #[inline]
    fn observe(&self) -> Result<Observed, PutErrorReason> {
        let observed = self.bell.observe();
        if observed.state.is_closing() { Err(self.shared.refusal()) } else { Ok(observed) }
    }

    /// Whether anything may be put to the stream, with this reply.
    #[inline]
    fn admit_to<R: Reply>(&self, state: &StreamState, reply: R) -> Result<Observed, PutErrorReason> {
        if self.origin.is_elsewhere() {
            return Err(PutErrorReason::Forked);
        }
        if !state.belongs_to(&self.shared) {
            return Err(state.foreign());
        }
        let observed = self.observe()?;
        if state.refused.is_raised() {
            return Err(state.refusal());
        }
        reply.admit(&self.slots)?;
        Ok(observed)
    }

    /// Writes a record whose credit is accounted for to the ring.
    #[inline]
    fn write<R: Reply>(
        &mut self,
        observed: Observed,
        stream: &Stream,
        record: &Record<'_>,
        reply: R,
    ) -> Result<R::Receipt, PutErrorReason> {
        let len = frame_len(record);
        let arrival = self.arrival(observed);
        let Some(room) = self.ring.room(len) else {
            self.bell.ring();
            return Err(PutErrorReason::Full);
        };
        write_frame(room, stream.id(), arrival, record);
        Ok(self.stage_frame(reply, len, len))
    }

    /// Accepts the record whose frame was written to the ring's room.
    #[inline]
    fn stage_frame<R: Reply>(&mut self, reply: R, reserved: usize, len: usize) -> R::Receipt {
        let (ticket, receipt) = reply.take(&mut self.slots, self.origin);
        // Before it can be settled, so that the counts never say that more was settled than accepted.
        self.counters.accepted.add(1);
        self.ring.stage(ticket, reserved, len);
        receipt
    }

    /// Gives the core what was staged.
    #[inline]
    fn publish_staged(&mut self) {
        self.ring.publish();
        if self.bell.published(self.ring.is_past_half()) == Published::Closed {
            self.settle_missed();
        }
    }

    /// The time of a put. A core that ticks has a clock that is a tick old at most; one that rests has an old one.
    #[inline]
    fn arrival(&self, observed: Observed) -> Time {
        if observed.state.is_ticking() { Time::from_nanos(observed.now_ns) } else { self.shared.clock.now() }
    }

    /// The core has ended. Settles what its last drain has missed (P2).
    #[cold]
    #[inline(never)]
    fn settle_missed(&mut self) {
        let (code, message) = match self.shared.ended_by() {
            End::CoreFailed => (ErrorCode::CoreFailed, "the core of this submitter has ended"),
            End::Closed => (ErrorCode::Closed, "the producer was closed"),
        };
        let settlement = Settlement::unattempted(code, message);
        // The core closed its bell as the last thing before it lets go of its rings.
        while !self.ring.is_disconnected() {
            std::thread::yield_now();
        }
        let (mut missed, mut unheard) = (0, 0);
        self.ring.reclaim(|ticket| {
            missed += 1;
            match ticket.settle_with(|| Arc::clone(&settlement), 0) {
                Told::Nobody => unheard += 1,
                told => told.into_waker().into_iter().for_each(wake),
            }
        });
        lock(&self.shared.submitters).settled_by_puts += missed;
        self.shared.tell_unheard(None, settlement, unheard);
    }

    pub(crate) fn ring(&mut self) -> &mut Sender<Arc<Settlement>> {
        &mut self.ring
    }
}

impl Drop for Submitter {
    fn drop(&mut self) {
        if self.shared.origin.is_elsewhere() {
            return;
        }
        let mut submitters = lock(&self.shared.submitters);
        submitters.live.retain(|counters| !Arc::ptr_eq(counters, &self.counters));
        submitters.own -= usize::from(self.of == Use::Own);
        submitters.accepted_by_gone += self.counters.accepted.value();
    }
}

impl std::fmt::Debug for Submitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Submitter").field("home", &self.home).finish_non_exhaustive()
    }
}

/// Gives credit back if the wait that follows it is abandoned.
pub(crate) struct Refund<'a> {
    purse: &'a mut Purse,
    bytes: usize,
    armed: bool,
}

impl<'a> Refund<'a> {
    pub(crate) fn new(purse: &'a mut Purse, bytes: usize) -> Refund<'a> {
        Refund { purse, bytes, armed: true }
    }

    /// The credit is somebody else's now.
    pub(crate) fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Refund<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.purse.refund(self.bytes);
        }
    }
}

/// Whether the stream may hold such a record.
#[inline]
fn check(state: &StreamState, record: &Record<'_>) -> Result<(), PutErrorReason> {
    check_key(record.partition_key)?;
    check_size(state, record.size())?;
    check_wrapped(state, record)
}

/// Data and key are no larger than the stream's records may be.
#[inline]
fn check_size(state: &StreamState, size: usize) -> Result<(), PutErrorReason> {
    let max = state.max_record_size;
    if size > max { Err(PutErrorReason::RecordTooLarge { size, max }) } else { Ok(()) }
}

/// A record that looks like an aggregate has to be wrapped as one, and must fit then too.
#[inline]
fn check_wrapped(state: &StreamState, record: &Record<'_>) -> Result<(), PutErrorReason> {
    match wrapped_size(record) {
        Some(wrapped) if state.aggregates => check_size(state, wrapped + state.outer_key_len(record)),
        _ => Ok(()),
    }
}

/// 1 to 256 UTF-16 units.
#[inline]
fn check_key(key: &str) -> Result<(), PutErrorReason> {
    // A UTF-16 unit is at least one byte of UTF-8, so short keys need no count.
    if (1..=PARTITION_KEY_UTF16_MAX).contains(&key.len()) {
        return Ok(());
    }
    count_key(key)
}

#[cold]
#[inline(never)]
fn count_key(key: &str) -> Result<(), PutErrorReason> {
    let utf16_units = key.encode_utf16().count();
    if (1..=PARTITION_KEY_UTF16_MAX).contains(&utf16_units) {
        return Ok(());
    }
    Err(PutErrorReason::InvalidPartitionKey { utf16_units })
}
