//! The receiving end of a byte ring: frames are read where they lie, and their room is given back all at once.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::task::Waker;

use super::super::fault::{Fault, order};
use super::super::memory::{Entry, Large};
use super::super::shim::{self, Arc, Ordering, fence};
use super::super::ticket::Ticket;
use super::Shared;

/// A received frame. Its bytes stay where they are until [`Receiver::release`].
#[derive(Debug)]
pub struct Frame<'a, T: Send + 'static> {
    /// Whoever takes the frame settles it.
    pub ticket: Ticket<T>,
    /// What the sender's `fill` wrote; aligned to 8 bytes.
    pub bytes: &'a [u8],
}

/// The end that takes frames out: a core's.
///
/// A batch: [`Receiver::snapshot`], then frames by [`Receiver::pop`] or [`Receiver::drain`], then
/// [`Receiver::release`], which alone gives their room back.
pub struct Receiver<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    /// The published head: bytes before it are the sender's again.
    head: u64,
    /// The next entry to read.
    next: u64,
    /// A tail that was once seen; the true one is not before it.
    tail_seen: u64,
    /// Buffers of large frames since the last release.
    larges: Vec<Large>,
    not_sync: PhantomData<Cell<()>>,
}

impl<T: Send + 'static> Receiver<T> {
    /// The end of a ring that nothing was pushed into yet.
    pub(super) fn new(shared: Arc<Shared<T>>) -> Receiver<T> {
        Receiver { shared, head: 0, next: 0, tail_seen: 0, larges: Vec::new(), not_sync: PhantomData }
    }

    /// The position after the last frame that is in the ring now.
    pub fn snapshot(&self) -> u64 {
        // Acquire: partner of the store in `try_push`.
        self.shared.tail.load(order(Ordering::Acquire, Fault::RingTailRelaxed))
    }

    /// The position of the next frame: everything before it was popped.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next frame, if there is one before the position `until`. Its room is taken until [`Receiver::release`].
    pub fn pop(&mut self, until: u64) -> Option<Frame<'_, T>> {
        // SAFETY: the frame borrows the receiver, so there is no release while it lives.
        unsafe { self.advance(until) }
    }

    /// The frames before the position `until`, which may all be looked at side by side until [`Receiver::release`].
    /// Those that are not asked for stay in the ring.
    pub fn drain(&mut self, until: u64) -> Drain<'_, T> {
        Drain { receiver: self, until }
    }

    /// Gives the room of all popped frames back. Returns the waker of a sender that waits for it, to be called when
    /// it suits.
    #[must_use = "the sender sleeps until the waker is called"]
    pub fn release(&mut self) -> Option<Waker> {
        if self.head == self.next {
            return None;
        }
        self.publish();
        self.shared.take_waiting()
    }

    /// Whether the sender is gone and nothing is left to pop.
    pub fn is_disconnected(&self) -> bool {
        // Acquire: partner of the swap in the sender's drop; the tail read next is the last.
        let gone = self.shared.room.sender_gone.load(order(Ordering::Acquire, Fault::RingGoneRelaxed));
        gone && self.snapshot() == self.next
    }

    /// Moves the head to what was read, and fences.
    fn publish(&mut self) {
        // `&mut self`: no frame borrows the receiver, and so these, any more.
        self.larges.clear();
        self.head = self.next;
        // Release: we are done with the bytes before it; partner of the load in `see_head`.
        self.shared.head.store(self.head, order(Ordering::Release, Fault::RingHeadRelaxed));
        // Partner of the fence in `poll_room`.
        fence(Ordering::SeqCst);
    }

    /// # Safety
    /// `'a` ends before the next `publish`.
    #[inline]
    unsafe fn advance<'a>(&mut self, until: u64) -> Option<Frame<'a, T>> {
        loop {
            if self.next >= until {
                return None;
            }
            if self.next == self.tail_seen {
                self.tail_seen = self.snapshot();
                if self.next == self.tail_seen {
                    return None;
                }
            }
            // SAFETY: R2: `next` is before the tail, and is read once.
            let (entry, size) = unsafe { self.shared.memory.read(self.next) };
            self.next += size as u64;
            if let Entry::Frame { ticket, bytes, large } = entry {
                if let Some(large) = large {
                    self.larges.push(large);
                }
                // SAFETY: the bytes are ours until `publish` (R2, or kept in `larges`), which the caller delays.
                return Some(Frame { ticket, bytes: unsafe { bytes.as_ref() } });
            }
        }
    }
}

impl<T: Send + 'static> Drop for Receiver<T> {
    /// Abandons what is in the ring. What is pushed later is the sender's to reclaim.
    fn drop(&mut self) {
        while self.pop(u64::MAX).is_some() {}
        self.publish();
        // Release: we have taken what we take; partner of the load in the sender's `is_disconnected`.
        self.shared.room.receiver_gone.swap(true, Ordering::AcqRel);
        // Partner of the fence in `poll_room`: the sender sees that we are gone, or we see that it waits.
        fence(Ordering::SeqCst);
        if let Some(waker) = self.shared.take_waiting() {
            shim::wake(waker);
        }
    }
}

impl<T: Send + 'static> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("head", &self.head).field("next", &self.next).finish_non_exhaustive()
    }
}

/// The frames of a batch; see [`Receiver::drain`].
#[derive(Debug)]
pub struct Drain<'a, T: Send + 'static> {
    receiver: &'a mut Receiver<T>,
    until: u64,
}

impl<'a, T: Send + 'static> Iterator for Drain<'a, T> {
    type Item = Frame<'a, T>;

    fn next(&mut self) -> Option<Frame<'a, T>> {
        // SAFETY: the receiver is borrowed for `'a`, so there is no release in it.
        unsafe { self.receiver.advance(self.until) }
    }
}
