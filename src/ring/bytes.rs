//! A ring of bytes from one submitter to one core; every frame carries a ticket.
//!
//! ```text
//!        head: the receiver's                     tail: the sender's
//!          ▼                                        ▼
//!   ┌──────┬───────┬─────────────┬──────────────────┬────────────┬─────┐
//!   │ room │ frame │ frame       │ frame            │ room       │ pad │  pad: a frame is contiguous, and what
//!   └──────┴───────┴─────────────┴──────────────────┴────────────┴─────┘  it does not fit at the end is skipped
//! ```
//!
//! Positions count bytes since the beginning and never wrap; a position's place is its remainder by the capacity.
//! Both sides keep a copy of the other's position and look at the shared one only when the copy does not suffice.
//!
//! Invariants:
//! - R1: `head <= tail <= head + capacity`, all multiples of 8.
//! - R2: bytes from `head` to `tail` are the receiver's, all others the sender's. A side gives bytes away by
//!   storing its position with `Release`, and the other takes them by loading it with `Acquire`.
//! - R3: every byte of the memory is initialised from the start.
//! - R4: each ticket that lies between `head` and `tail` is alive and is taken out once. The sender's own tail may be
//!   ahead of the shared one, by what is staged.
//!
//! A push has three steps: [`Sender::room`] shows where the frame will lie, for its caller to fill in place,
//! [`Sender::stage`] makes a frame of it, whole or cut short, and [`Sender::publish`] gives all that is staged away.
//! Room that was not staged is nothing.
//!
//! Promises: a push copies nothing, and allocates only for a frame of more than a quarter of the capacity, which goes
//! as an owned buffer by pointer, through the same calls. Frames come out in order. Whatever side goes first, every
//! ticket is received or abandoned.
//!
//! Refusals: it does not wake the core (the [`Doorbell`](super::Doorbell) does); a full ring takes nothing.
//!
//! Cost of a push: one release store; of a batch: one acquire load, one release store, one fence.

mod receiver;

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::slice;
use std::task::{Context, Poll, Waker};

use crossbeam_utils::CachePadded;

use super::fault::{Fault, fence_against, is_planted, order};
use super::memory::{Entry, HEADER, KIND_BYTES, KIND_LARGE, KIND_PAD, LARGE_FRAME, Memory, frame_size};
use super::shim::{self, Arc, AtomicBool, AtomicU64, Mutex, Ordering};
use super::ticket::Ticket;
pub use receiver::{Drain, Frame, Receiver};

/// So small a ring holds one frame by pointer and the pad before it.
const CAPACITY_MIN: usize = 64;
/// The length of what lies in the ring fits 32 bits.
const CAPACITY_MAX: usize = 1 << 32;

/// A ring of `capacity` bytes and its two ends.
///
/// # Panics
/// If `capacity` is not a power of two from 64 to 2^32.
pub fn ring<T: Send + 'static>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let bounds = CAPACITY_MIN..=CAPACITY_MAX;
    assert!(capacity.is_power_of_two() && bounds.contains(&capacity), "a ring of {capacity} bytes");
    let shared = Arc::new(Shared {
        tail: CachePadded::new(AtomicU64::new(0)),
        head: CachePadded::new(AtomicU64::new(0)),
        room: CachePadded::new(Room {
            waiting: AtomicBool::new(false),
            waker: Mutex::new(None),
            sender_gone: AtomicBool::new(false),
            receiver_gone: AtomicBool::new(false),
        }),
        memory: Memory::new(capacity),
        tickets: PhantomData,
    });
    let sender =
        Sender { shared: Arc::clone(&shared), tail: 0, head_seen: 0, shown: None, large: None, not_sync: PhantomData };
    (sender, Receiver::new(shared))
}

struct Shared<T: Send + 'static> {
    /// Written by the sender.
    tail: CachePadded<AtomicU64>,
    /// Written by the receiver.
    head: CachePadded<AtomicU64>,
    /// Rarely written, by both.
    room: CachePadded<Room>,
    memory: Memory,
    tickets: PhantomData<Ticket<T>>,
}

/// How a sender waits for room, and who is gone.
struct Room {
    /// The sender sleeps until the head moves.
    waiting: AtomicBool,
    waker: Mutex<Option<Waker>>,
    sender_gone: AtomicBool,
    receiver_gone: AtomicBool,
}

// SAFETY: R2 says which side may touch which bytes; tickets and wakers may be sent.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T: Send + 'static> Shared<T> {
    /// Takes the waker of a sender that waits for room. Call it after a `SeqCst` fence that follows what it waits for.
    fn take_waiting(&self) -> Option<Waker> {
        // Relaxed: partner of the swap in `poll_room`; of the fences before this load and after that swap one is
        // first, so either we see the flag, or the sender sees the room.
        if !self.room.waiting.load(Ordering::Relaxed) {
            return None;
        }
        // Acquire: partner of the same swap.
        if self.room.waiting.swap(false, Ordering::AcqRel) { shim::lock(&self.room.waker).take() } else { None }
    }
}

impl<T: Send + 'static> Drop for Shared<T> {
    /// Abandons what was pushed and not received.
    fn drop(&mut self) {
        // Relaxed: both ends are gone, and the count of the `Arc` ordered this after all they did.
        let (mut head, tail) = (self.head.load(Ordering::Relaxed), self.tail.load(Ordering::Relaxed));
        while head < tail && !is_planted(Fault::RingRestForgotten) {
            // SAFETY: R2, R4: nobody else is there any more.
            let (entry, size) = unsafe { self.memory.read::<T>(head) };
            head += size as u64;
            if let Entry::Frame { ticket, large, .. } = entry {
                drop((ticket, large));
            }
        }
    }
}

/// Where a frame goes.
#[derive(Clone, Copy)]
struct Place {
    large: bool,
    pad: usize,
    size: usize,
}

#[cold]
fn staged_without_room() -> ! {
    panic!("more bytes are staged than there was room shown for")
}

/// The end that pushes frames: one submitter's.
pub struct Sender<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    tail: u64,
    /// A head that was once seen; the true one is not before it.
    head_seen: u64,
    /// The length of the room that was shown last, and its place; none once something was staged. Only what is staged takes
    /// room, so that what was shown is still there.
    shown: Option<(usize, Place)>,
    /// The buffer of a large frame that is being filled.
    large: Option<Box<[u8]>>,
    not_sync: PhantomData<Cell<()>>,
}

impl<T: Send + 'static> Sender<T> {
    /// Pushes a frame of `len` bytes, which `fill` writes in place. They are initialised, but to what is not said.
    ///
    /// If `fill` panics, nothing is pushed, and the ticket is abandoned.
    ///
    /// # Errors
    /// The ticket, if there is no room.
    pub fn try_push(&mut self, ticket: Ticket<T>, len: usize, fill: impl FnOnce(&mut [u8])) -> Result<(), Ticket<T>> {
        let Some(room) = self.room(len) else { return Err(ticket) };
        fill(room);
        self.stage(ticket, len, len);
        self.publish();
        Ok(())
    }

    /// The bytes of the next frame, if there is room for one of `len` bytes. They are initialised, but to what is not
    /// said: as a rule to what was asked for before and not published, or to what an earlier frame left.
    #[inline]
    pub fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        let place = self.place(len);
        if !self.has_room(&place) {
            return None;
        }
        self.shown = Some((len, place));
        if place.large {
            return Some(self.large_room(len));
        }
        let memory = &self.shared.memory;
        let offset = memory.offset(self.tail + place.pad as u64);
        memory.will_write(offset, place.size);
        // SAFETY: R2: there is room for pad and frame, and nobody else looks at it; R3.
        Some(unsafe { slice::from_raw_parts_mut(memory.at(offset + HEADER).as_ptr(), len) })
    }

    #[cold]
    #[inline(never)]
    fn large_room(&mut self, len: usize) -> &mut [u8] {
        let buffer = self.large.take().filter(|buffer| buffer.len() == len);
        self.large.insert(buffer.unwrap_or_else(|| vec![0; len].into_boxed_slice()))
    }

    /// Makes a frame of the first `len` bytes of the room that was shown for `reserved` bytes, with their ticket. It is
    /// published with the next [`Sender::publish`], or when the sender is dropped.
    ///
    /// # Panics
    /// If the room that [`Sender::room`] showed last was not for `reserved` bytes, or something was staged since; or if
    /// `len` is more than `reserved`.
    #[inline]
    pub fn stage(&mut self, ticket: Ticket<T>, reserved: usize, len: usize) {
        // Looked at where it lies: words that were just written are slow to read as one.
        let plain = match &self.shown {
            Some((shown, place)) if *shown == reserved && len <= reserved => !place.large && place.pad == 0,
            _ => staged_without_room(),
        };
        if plain {
            let memory = &self.shared.memory;
            // SAFETY: R2: as the place was shown there is room for the frame, which is ours until the tail is stored.
            unsafe { memory.write_frame(memory.offset(self.tail), len, KIND_BYTES, ticket) };
            self.tail += frame_size(len) as u64;
        } else {
            self.stage_large_or_padded(ticket, len);
        }
        self.shown = None;
        if is_planted(Fault::RingStagePublishes) {
            self.publish();
        }
    }

    #[cold]
    #[inline(never)]
    fn stage_large_or_padded(&mut self, ticket: Ticket<T>, len: usize) {
        let Some((_, place)) = self.shown else { staged_without_room() };
        let memory = &self.shared.memory;
        let frame = self.tail + place.pad as u64;
        let offset = memory.offset(frame);
        // SAFETY: R2: as the place was shown there is room for pad and frame, which are ours until the tail is stored; a pad
        // is a multiple of 8 bytes.
        unsafe {
            if place.pad > 0 {
                memory.write(memory.offset(self.tail), [place.pad as u32, KIND_PAD]);
            }
            if place.large {
                let buffer = self.large.take().expect("it was shown");
                let bytes = buffer.len();
                memory.write(offset + HEADER, Box::into_raw(buffer).cast::<u8>());
                memory.write(offset + HEADER + size_of::<usize>(), bytes);
                memory.write_frame(offset, len, KIND_LARGE, ticket);
            } else {
                memory.write_frame(offset, len, KIND_BYTES, ticket);
            }
        }
        self.tail = frame + if place.large { LARGE_FRAME } else { frame_size(len) } as u64;
    }

    /// Gives the receiver all frames that were staged.
    #[inline]
    pub fn publish(&mut self) {
        // Release: the frames are written; partner of the receiver's loads of the tail.
        self.shared.tail.store(self.tail, order(Ordering::Release, Fault::RingTailRelaxed));
        // The receiver has last touched what comes next.
        self.shared.memory.expect_write(self.tail);
    }

    /// Whether more than half of the ring is taken.
    pub fn is_past_half(&mut self) -> bool {
        let half = self.shared.memory.capacity() as u64 / 2;
        if self.tail - self.head_seen <= half {
            return false;
        }
        self.see_head();
        self.tail - self.head_seen > half
    }

    /// Whether a frame of `len` bytes has room; only a push of ours takes it away again.
    pub fn has_room_for(&mut self, len: usize) -> bool {
        let place = self.place(len);
        self.has_room(&place)
    }

    /// Ready when a frame of `len` bytes may have room, or when the receiver is gone; else `cx`'s waker is called
    /// when there is more room. Of several wakers, those that were replaced are called too, so that none sleeps on.
    pub fn poll_room(&mut self, cx: &mut Context<'_>, len: usize) -> Poll<()> {
        let place = self.place(len);
        if self.has_room(&place) {
            return Poll::Ready(());
        }
        let shared = &*self.shared;
        let former = shim::lock(&shared.room.waker).replace(cx.waker().clone());
        // Partner of load and swap in `take_waiting`. Release: the waker is there.
        shared.room.waiting.swap(true, Ordering::SeqCst);
        // Partner of the fences in `release` and in the receiver's drop: it sees the flag, or we see the room.
        fence_against(Fault::RingRoomUnfenced);
        if let Some(former) = former
            && !former.will_wake(cx.waker())
        {
            shim::wake(former);
        }
        if self.is_disconnected() || self.has_room(&place) {
            // The flag may stay: at worst the receiver calls a waker for nothing, once.
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Whether the receiver is gone, and has received all that it ever will. What is pushed nevertheless is the
    /// sender's to [`reclaim`](Sender::reclaim), or abandoned when the sender goes too.
    pub fn is_disconnected(&self) -> bool {
        // Acquire: partner of the swap in the receiver's drop.
        self.shared.room.receiver_gone.load(order(Ordering::Acquire, Fault::RingReclaimRelaxed))
    }

    /// Takes the tickets of what the receiver left, once it is gone; before that, nothing.
    pub fn reclaim(&mut self, mut take: impl FnMut(Ticket<T>)) {
        if !self.is_disconnected() {
            return;
        }
        let shared = &*self.shared;
        // Relaxed: `is_disconnected` has acquired all that the receiver did.
        let mut head = shared.head.load(Ordering::Relaxed);
        while head < self.tail {
            // SAFETY: R2, R4: the receiver is gone, so that what lies between head and tail is ours alone.
            let (entry, size) = unsafe { shared.memory.read::<T>(head) };
            head += size as u64;
            // Before the ticket is handed out, so that it is taken once even if `take` panics. Relaxed: nobody else
            // looks at it but our own drop.
            shared.head.store(head, Ordering::Relaxed);
            if let Entry::Frame { ticket, large, .. } = entry {
                drop(large);
                take(ticket);
            }
        }
        self.head_seen = head;
    }

    fn place(&self, len: usize) -> Place {
        let memory = &self.shared.memory;
        let large = len > memory.capacity() / 4 - HEADER;
        let size = if large { LARGE_FRAME } else { frame_size(len) };
        let contiguous = memory.capacity() - memory.offset(self.tail);
        let pad = if size > contiguous { contiguous } else { 0 };
        Place { large, pad, size }
    }

    fn has_room(&mut self, place: &Place) -> bool {
        let needed = self.tail + (place.pad + place.size) as u64;
        let capacity = self.shared.memory.capacity() as u64;
        if needed - self.head_seen <= capacity {
            return true;
        }
        self.see_head();
        needed - self.head_seen <= capacity
    }

    fn see_head(&mut self) {
        // Acquire: the receiver is done with the bytes before it; partner of the store in `release`.
        self.head_seen = self.shared.head.load(order(Ordering::Acquire, Fault::RingHeadRelaxed));
    }
}

impl<T: Send + 'static> Drop for Sender<T> {
    fn drop(&mut self) {
        if !is_planted(Fault::RingDropForgets) {
            self.publish();
        }
        // Release: all pushes are before it; partner of the load in the receiver's `is_disconnected`.
        self.shared.room.sender_gone.swap(true, order(Ordering::AcqRel, Fault::RingGoneRelaxed));
    }
}

impl<T: Send + 'static> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("tail", &self.tail).finish_non_exhaustive()
    }
}
