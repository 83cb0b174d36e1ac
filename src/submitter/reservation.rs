//! Reservation: a record's bytes in the ring itself, for the caller to write in place.
//!
//! ```text
//!   reserve(stream, key, len) ─▶ bytes() ─▶ (set_len) ─▶ commit ─▶ as a put
//!                                    └─ dropped: as if it had never been
//! ```
//!
//! It borrows its submitter, so there is one at a time, and nothing overtakes it. What it reserves is nobody's until it is
//! committed: a dropped one gives its credit back, and the next put takes its room. (A *forgotten* one keeps the credit of
//! one record for as long as the producer lives.)

use std::fmt;

use super::{Submitter, check_key, check_size, check_wrapped};
use crate::codec::{begin_frame, finish_frame, read_frame, reserved_frame_len, starts_with_magic};
use crate::error::PutErrorReason;
use crate::record::HashKey;
use crate::reply::{ByOutcome, ByToken, Detached, Reply};
use crate::stream::Stream;
use crate::waiting::{Outcome, block_on};

/// A reservation was asked for more than it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationError {
    /// Bytes that were asked for.
    pub len: usize,
    /// Bytes that were reserved.
    pub reserved: usize,
}

impl fmt::Display for ReservationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "len {} of a reservation: at most the {} bytes that were reserved", self.len, self.reserved)
    }
}

impl std::error::Error for ReservationError {}

/// A record that is being written; see [`Submitter::reserve`].
#[must_use = "what is not committed is not put"]
pub struct Reservation<'s> {
    submitter: &'s mut Submitter,
    stream: &'s Stream,
    explicit_hash_key: Option<HashKey>,
    /// Bytes of the key.
    key: usize,
    /// Bytes of data that were reserved, and that will be put.
    reserved: usize,
    len: usize,
}

impl Submitter {
    /// Reserves room for a record of `len` bytes of data, without waiting.
    ///
    /// # Errors
    /// As [`Submitter::try_put`].
    pub fn try_reserve<'s>(
        &'s mut self,
        stream: &'s Stream,
        partition_key: &str,
        len: usize,
    ) -> Result<Reservation<'s>, PutErrorReason> {
        let size = self.admit_reservation(stream, partition_key, len)?;
        if self.purse.try_take(size).is_err() {
            return Err(PutErrorReason::Full);
        }
        self.begin(stream, partition_key, len)
    }

    /// Reserves room for a record of `len` bytes of data; waits while the producer is full.
    ///
    /// # Errors
    /// As [`Submitter::put`].
    pub fn reserve<'s>(
        &'s mut self,
        stream: &'s Stream,
        partition_key: &str,
        len: usize,
    ) -> Result<Reservation<'s>, PutErrorReason> {
        block_on(self.reserve_async(stream, partition_key, len))
    }

    /// The same for a task.
    ///
    /// # Errors
    /// As [`Submitter::put`].
    pub async fn reserve_async<'s>(
        &'s mut self,
        stream: &'s Stream,
        partition_key: &str,
        len: usize,
    ) -> Result<Reservation<'s>, PutErrorReason> {
        let size = self.admit_reservation(stream, partition_key, len)?;
        let frame = reserved_frame_len(partition_key.len(), len);
        if self.ring.room(frame).is_none() || self.purse.try_take(size).is_err() {
            self.wait_for(size, frame).await?;
        }
        if self.ring.is_disconnected() {
            // The room may not have come.
            self.purse.refund(size);
            return Err(self.shared.refusal());
        }
        self.begin(stream, partition_key, len)
    }

    /// Whether a record like this may be put; answers its size.
    fn admit_reservation(&self, stream: &Stream, partition_key: &str, len: usize) -> Result<usize, PutErrorReason> {
        // Who is to hear of it is said with the commit.
        self.admit_to(&stream.0, Detached)?;
        check_key(partition_key)?;
        let size = partition_key.len().saturating_add(len);
        check_size(&stream.0, size)?;
        Ok(size)
    }

    /// Begins the frame of a record whose credit was taken.
    fn begin<'s>(
        &'s mut self,
        stream: &'s Stream,
        partition_key: &str,
        len: usize,
    ) -> Result<Reservation<'s>, PutErrorReason> {
        let key = partition_key.len();
        let Some(room) = self.ring.room(reserved_frame_len(partition_key.len(), len)) else {
            self.purse.refund(key + len);
            self.bell.ring();
            return Err(PutErrorReason::Full);
        };
        begin_frame(room, stream.id(), partition_key);
        Ok(Reservation { submitter: self, stream, explicit_hash_key: None, key, reserved: len, len })
    }
}

impl Reservation<'_> {
    /// The record's data, to be written: as many bytes as were reserved, or as [`Reservation::set_len`] says. What is not
    /// written is sent as it is: whatever the ring held there before.
    pub fn bytes(&mut self) -> &mut [u8] {
        let (start, end) = (self.frame_len() - self.reserved, self.frame_len() - self.reserved + self.len);
        &mut self.room()[start..end]
    }

    /// Makes the data `len` bytes long, from its beginning.
    ///
    /// # Errors
    /// If that is more than was reserved; nothing is changed then.
    pub fn set_len(&mut self, len: usize) -> Result<(), ReservationError> {
        if len > self.reserved {
            return Err(ReservationError { len, reserved: self.reserved });
        }
        self.len = len;
        Ok(())
    }

    /// Sends the record to the shard whose range holds `hash_key`.
    pub fn set_explicit_hash_key(&mut self, hash_key: HashKey) {
        self.explicit_hash_key = Some(hash_key);
    }

    /// Puts the record; an [`Outcome`] tells how it ended.
    ///
    /// # Errors
    /// As [`Submitter::try_put`], but never `Full`; the record is not put then.
    pub fn commit(self) -> Result<Outcome, PutErrorReason> {
        self.commit_by(ByOutcome)
    }

    /// Puts the record; the submitter's [`Completions`](super::Completions) tell how it ended, under `token`.
    ///
    /// # Errors
    /// As [`Submitter::try_put_with_token`], but never `Full`; the record is not put then.
    pub fn commit_with_token(self, token: u64) -> Result<(), PutErrorReason> {
        self.commit_by(ByToken(token))
    }

    /// Puts the record; nobody is told how it ended, as with [`Submitter::put_detached`].
    ///
    /// # Errors
    /// As [`Submitter::try_put_detached`], but never `Full`; the record is not put then.
    pub fn commit_detached(self) -> Result<(), PutErrorReason> {
        self.commit_by(Detached)
    }

    fn commit_by<R: Reply>(mut self, reply: R) -> Result<R::Receipt, PutErrorReason> {
        let state = &*self.stream.0;
        let observed = self.submitter.admit_to(state, reply)?;
        let (arrival, explicit_hash_key) = (self.submitter.arrival(observed), self.explicit_hash_key);
        let (frame, reserved, cut) = (self.frame_len(), self.reserved, self.reserved - self.len);
        let written = &mut self.room()[..frame - cut];
        finish_frame(written, arrival, explicit_hash_key);
        if starts_with_magic(&written[frame - reserved..]) {
            check_wrapped(state, &read_frame(written).record())?;
        }
        let receipt = self.submitter.stage_frame(reply, frame, frame - cut);
        self.submitter.publish_staged();
        self.submitter.purse.refund_bytes(cut);
        // The rest of its credit went with the record.
        std::mem::forget(self);
        Ok(receipt)
    }

    /// Bytes of the frame, as they were reserved: the data is its end.
    fn frame_len(&self) -> usize {
        reserved_frame_len(self.key, self.reserved)
    }

    fn room(&mut self) -> &mut [u8] {
        let frame = self.frame_len();
        self.submitter.ring.room(frame).expect("nothing was staged since there was room")
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.submitter.purse.refund(self.key + self.reserved);
    }
}

impl fmt::Debug for Reservation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("stream", &self.stream.name())
            .field("reserved", &self.reserved)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
