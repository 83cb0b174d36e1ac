//! Submitter: the put.
//!
//! ```text
//!   put ─▶ check ─▶ credit ─▶ slot ─▶ frame in the ring ─▶ bell, if the core rests ─▶ Outcome
//! ```
//!
//! A put that finds credit, room and an awake core makes no system call and takes no lock. It allocates only for a
//! record larger than a quarter of the ring, and for a further segment of slots when more are in use than ever before.
//! It hashes nothing and knows no shard: that is its core's work. What it reads that others write is its core's bell
//! with the coarse clock, on one cache line, and the stream's `refused` flag.
//!
//! P1: a record is accepted when its frame is published; until then every refusal gives back credit and slot.
//! P2: a frame that is published after its core's last drain is settled by the put itself.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use crate::codec::{frame_len, wrapped_size, write_frame};
use crate::error::{PutError, PutErrorReason};
use crate::limits::{OUTER_PARTITION_KEY, PARTITION_KEY_UTF16_MAX};
use crate::metrics::SubmitterCounters;
use crate::outcome::{ErrorCode, Settled, Settlement};
use crate::record::{CoreId, Record};
use crate::ring::{Doorbell, Published, Purse, Sender, Slots};
use crate::shared::{End, Shared, lock};
use crate::stream::Stream;
use crate::time::Time;
use crate::waiting::{Outcome, block_on};

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
/// It does not keep its producer open: once that is closed, puts are refused. Dropping a submitter loses nothing that
/// it has put.
pub struct Submitter {
    shared: Arc<Shared>,
    of: Use,
    /// The core whose ring this is.
    home: CoreId,
    purse: Purse,
    slots: Slots<Settled>,
    ring: Sender<Settled>,
    counters: Arc<SubmitterCounters>,
}

impl Submitter {
    pub(crate) fn new(shared: Arc<Shared>, of: Use, home: CoreId, ring: Sender<Settled>) -> Submitter {
        let counters = Arc::new(SubmitterCounters::default());
        lock(&shared.submitters).live.push(Arc::clone(&counters));
        Submitter {
            of,
            home,
            purse: shared.budget.purse(),
            slots: Slots::new(Arc::clone(&shared.ledger)),
            ring,
            counters,
            shared,
        }
    }

    /// Puts a record without waiting.
    ///
    /// # Errors
    /// Gives the record back. `Full` if the budget is used up or the ring has no room at this moment; else what is
    /// wrong with the record, the stream or the producer.
    pub fn try_put<'r>(&mut self, stream: &Stream, record: Record<'r>) -> Result<Outcome, PutError<Record<'r>>> {
        let refused = |reason| PutError { record, reason };
        self.admit(stream, &record).map_err(refused)?;
        self.purse.try_take(record.size()).map_err(|_no_credit| refused(PutErrorReason::Full))?;
        self.push_or_refund(stream, &record).map_err(refused)
    }

    /// Puts a record; waits while the producer is full.
    ///
    /// # Errors
    /// Gives the record back, and says what is wrong with the record, the stream or the producer. Never `Full`.
    pub fn put<'r>(&mut self, stream: &Stream, record: Record<'r>) -> Result<Outcome, PutError<Record<'r>>> {
        match self.try_put(stream, record) {
            Err(PutError { reason: PutErrorReason::Full, .. }) => block_on(self.put_when_possible(stream, record)),
            result => result,
        }
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
        match self.try_put(stream, record) {
            Err(PutError { reason: PutErrorReason::Full, .. }) => self.put_when_possible(stream, record).await,
            result => result,
        }
    }

    /// Waits for credit, then for room.
    async fn put_when_possible<'r>(
        &mut self,
        stream: &Stream,
        record: Record<'r>,
    ) -> Result<Outcome, PutError<Record<'r>>> {
        let refused = |reason| PutError { record, reason };
        // What would make room may lie on any core, open or lingering, and a core that rests does not see who waits. So all
        // are told, once this one stands in the queue: told before, they might look too early and rest again.
        let paid = {
            let (mut wait, mut told) = (pin!(self.purse.wait(record.size())), false);
            let wait_and_tell = poll_fn(|context| {
                let polled = wait.as_mut().poll(context);
                if polled.is_pending() && !std::mem::replace(&mut told, true) {
                    self.shared.doorbells.iter().for_each(Doorbell::ring);
                }
                polled
            });
            wait_and_tell.await
        };
        if paid.is_err() {
            return Err(refused(self.shared.refusal()));
        }
        let len = frame_len(&record);
        let refund = Refund::new(&mut self.purse, record.size());
        while !self.ring.has_room_for(len) {
            self.shared.doorbells[self.home.index()].ring();
            poll_fn(|context| self.ring.poll_room(context, len)).await;
            if self.ring.is_disconnected() {
                break;
            }
        }
        refund.disarm();
        self.push_or_refund(stream, &record).map_err(refused)
    }

    /// Whether the record may be put at all.
    fn admit(&self, stream: &Stream, record: &Record<'_>) -> Result<(), PutErrorReason> {
        if self.shared.origin.is_elsewhere() {
            return Err(PutErrorReason::Forked);
        }
        let state = &*stream.0;
        if !state.belongs_to(&self.shared) {
            return Err(PutErrorReason::ForeignStream { stream: stream.name().to_owned() });
        }
        if self.bell().observe().state.is_closing() {
            return Err(self.shared.refusal());
        }
        check_key(record.partition_key)?;
        let size = record.size();
        if size > state.max_record_size {
            return Err(PutErrorReason::RecordTooLarge { size, max: state.max_record_size });
        }
        if state.aggregates
            && let Some(wrapped) = wrapped_size(record)
            && wrapped + OUTER_PARTITION_KEY.len() > state.max_record_size
        {
            // It looks like an aggregate, and would have to be wrapped as one.
            let size = wrapped + OUTER_PARTITION_KEY.len();
            return Err(PutErrorReason::RecordTooLarge { size, max: state.max_record_size });
        }
        if state.refused.is_raised() {
            return Err(state.refusal());
        }
        Ok(())
    }

    /// Publishes a record whose credit was taken.
    fn push_or_refund(&mut self, stream: &Stream, record: &Record<'_>) -> Result<Outcome, PutErrorReason> {
        let result = self.push(stream, record);
        if result.is_err() {
            self.purse.refund(record.size());
        }
        result
    }

    /// Publishes a record whose credit is accounted for.
    pub(crate) fn push(&mut self, stream: &Stream, record: &Record<'_>) -> Result<Outcome, PutErrorReason> {
        let observed = self.bell().observe();
        if observed.state.is_closing() {
            return Err(self.shared.refusal());
        }
        let len = frame_len(record);
        if !self.ring.has_room_for(len) {
            self.bell().ring();
            return Err(PutErrorReason::Full);
        }
        // A core that ticks has a clock that is a tick old at most; one that rests has an old one.
        let arrival =
            if observed.state.is_ticking() { Time::from_nanos(observed.now_ns) } else { self.shared.clock.now() };
        let (ticket, handle) = self.slots.take();
        // Before it can be settled, so that the counts never say that more was settled than accepted.
        self.counters.accepted.add(1);
        let pushed = self.ring.try_push(ticket, len, |frame| write_frame(frame, stream.id(), arrival, record));
        assert!(pushed.is_ok(), "there was room for it, and only we push");
        if self.shared.doorbells[self.home.index()].published(self.ring.is_past_half()) == Published::Closed {
            self.settle_missed();
        }
        Ok(Outcome::new(handle, self.shared.origin))
    }

    /// The core has ended. Settles what its last drain has missed (P2).
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
        let mut missed = 0;
        self.ring.reclaim(|ticket| {
            missed += 1;
            let waker = ticket.settle(Settled { settlement: Arc::clone(&settlement), sub_sequence: 0 });
            waker.into_iter().for_each(std::task::Waker::wake);
        });
        lock(&self.shared.submitters).settled_by_puts += missed;
    }

    pub(crate) fn bell(&self) -> &Doorbell {
        &self.shared.doorbells[self.home.index()]
    }

    pub(crate) fn ring(&mut self) -> &mut Sender<Settled> {
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
        drop(submitters);
        // The core lets go of the ring when it has drained it.
        self.bell().ring();
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

/// 1 to 256 UTF-16 units.
fn check_key(key: &str) -> Result<(), PutErrorReason> {
    // A UTF-16 unit is at least one byte of UTF-8, so short keys need no count.
    if (1..=PARTITION_KEY_UTF16_MAX).contains(&key.len()) {
        return Ok(());
    }
    let utf16_units = key.encode_utf16().count();
    if (1..=PARTITION_KEY_UTF16_MAX).contains(&utf16_units) {
        return Ok(());
    }
    Err(PutErrorReason::InvalidPartitionKey { utf16_units })
}
