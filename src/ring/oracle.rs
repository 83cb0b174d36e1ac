//! The byte ring beside its naive form: a queue of vectors, and two numbers for its room.
//!
//! [`check`] does the same [`Op`]s to both and compares what can be seen. Tests draw operations from a generator, a
//! fuzz target from its input, by [`Op::decode`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::{Abandoned, Handle, Ledger, Receiver, Sender, Slots, Ticket, ring};

/// Something that is done to a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Push a frame of so many bytes, with a handle or detached.
    Push {
        /// Bytes of the frame.
        len: usize,
        /// Nobody waits for it.
        detached: bool,
    },
    /// Ask for room for so many bytes, fill it and stage the first `used` of them, with a handle or detached.
    Reserve {
        /// Bytes that are asked for.
        len: usize,
        /// Bytes of the frame.
        used: usize,
        /// Nobody waits for it.
        detached: bool,
    },
    /// Ask for room for so many bytes, fill it, and stage nothing.
    Room {
        /// Bytes that are asked for.
        len: usize,
    },
    /// Publish what was staged.
    Publish,
    /// Pop one frame and settle it.
    Pop,
    /// Take a snapshot, pop to it side by side, and settle all.
    Drain,
    /// Pop one frame and drop its ticket.
    Abandon,
    /// Give room back.
    Release,
    /// Wait for room for a frame of so many bytes.
    AwaitRoom {
        /// Bytes of the frame.
        len: usize,
    },
}

impl Op {
    /// The operation that `kind` and `amount` stand for, on a ring of `capacity` bytes. Every pair stands for one.
    pub fn decode(kind: u8, amount: u16, capacity: usize) -> Op {
        // Mostly small frames, some about a quarter of the ring, some beyond.
        let len = match kind >> 6 {
            0 | 1 => amount as usize % 40,
            2 => amount as usize % (capacity / 4),
            _ => amount as usize % (2 * capacity),
        };
        let detached = kind & 16 != 0;
        match kind % 16 {
            0..=4 => Op::Push { len, detached },
            5 | 6 => Op::Reserve { len, used: amount as usize / 7 % (len + 1), detached },
            7 => Op::Room { len },
            8 | 9 => Op::Pop,
            10 => Op::Publish,
            11 => Op::Abandon,
            12 => Op::Drain,
            13 | 14 => Op::Release,
            _ => Op::AwaitRoom { len },
        }
    }
}

/// A frame as the naive form has it.
struct Expected {
    bytes: Vec<u8>,
    /// Where the frame ends.
    end: u64,
    handle: Option<Handle<u64>>,
}

/// The naive form: what lies in the ring, and positions as the essay of `bytes` defines them.
struct Oracle {
    capacity: u64,
    queue: VecDeque<Expected>,
    /// Not published yet.
    staged: VecDeque<Expected>,
    /// Where the last frame ends that was staged, and the last that was published.
    tail: u64,
    published: u64,
    next: u64,
    head: u64,
    waiting: bool,
    pushed: u64,
    abandoned: u64,
}

impl Oracle {
    /// Where a frame of `len` bytes would end that is cut short to `used`.
    fn end(&self, len: usize, used: usize) -> u64 {
        let in_ring = |len: usize| 16 + (len as u64).div_ceil(8) * 8;
        let is_large = in_ring(len) > self.capacity / 4;
        let size = |len| if is_large { 32 } else { in_ring(len) };
        let place = self.tail % self.capacity;
        let pad = if place + size(len) > self.capacity { self.capacity - place } else { 0 };
        self.tail + pad + size(used)
    }

    fn has_room(&self, len: usize) -> bool {
        self.end(len, len) - self.head <= self.capacity
    }

    fn stage(&mut self, bytes: Vec<u8>, reserved: usize, handle: Option<Handle<u64>>) {
        self.tail = self.end(reserved, bytes.len());
        self.staged.push_back(Expected { bytes, end: self.tail, handle });
    }

    fn publish(&mut self) {
        self.queue.append(&mut self.staged);
        self.published = self.tail;
    }
}

/// Does `ops` to a ring of `capacity` bytes and to its naive form.
///
/// # Panics
/// If they differ, or if at the end some record has no outcome.
pub fn check(capacity: usize, ops: impl IntoIterator<Item = Op>) {
    let ledger = Arc::new(Ledger::new());
    let mut slots = Slots::new(Arc::clone(&ledger));
    let (mut sender, mut receiver) = ring(capacity);
    let mut oracle = Oracle {
        capacity: capacity as u64,
        queue: VecDeque::new(),
        staged: VecDeque::new(),
        tail: 0,
        published: 0,
        next: 0,
        head: 0,
        waiting: false,
        pushed: 0,
        abandoned: 0,
    };
    for op in ops {
        apply(op, &mut oracle, &mut slots, &mut sender, &mut receiver);
        assert_eq!(receiver.position(), oracle.next, "position after {op:?}");
        assert_eq!(receiver.snapshot(), oracle.published, "tail after {op:?}");
        assert_eq!(sender.is_past_half(), oracle.tail - oracle.head > oracle.capacity / 2, "after {op:?}");
        assert_eq!(ledger.abandoned(), oracle.abandoned, "abandoned after {op:?}");
    }
    // Either side may go first, and the slots' owner before both.
    if oracle.pushed.is_multiple_of(2) {
        drop((slots, sender, receiver));
    } else {
        drop((receiver, sender, slots));
    }
    oracle.publish();
    oracle.abandoned += oracle.queue.len() as u64;
    for expected in &mut oracle.queue {
        let Some(handle) = &mut expected.handle else { continue };
        assert_eq!(handle.try_take(), Some(Err(Abandoned)));
    }
    assert_eq!(ledger.abandoned(), oracle.abandoned);
    drop(oracle);
    assert_eq!(Arc::strong_count(&ledger), 1, "the pool is freed");
}

fn apply(op: Op, oracle: &mut Oracle, slots: &mut Slots<u64>, sender: &mut Sender<u64>, receiver: &mut Receiver<u64>) {
    match op {
        Op::Push { len, detached } => push(oracle, slots, sender, len, detached),
        Op::Reserve { len, used, detached } => reserve(oracle, slots, sender, [len, used], detached),
        Op::Room { len } => {
            let room = sender.room(len).map(|room| {
                room.fill(0xEE);
                room.len()
            });
            assert_eq!(room, oracle.has_room(len).then_some(len), "room for {len}");
        }
        Op::Publish => {
            sender.publish();
            oracle.publish();
        }
        Op::Pop => pop(oracle, receiver, true),
        Op::Abandon => pop(oracle, receiver, false),
        Op::Drain => drain(oracle, receiver),
        Op::Release => {
            let woken = receiver.release().is_some();
            assert_eq!(woken, oracle.waiting && oracle.head != oracle.next, "who waits is woken, once");
            oracle.waiting &= !woken;
            oracle.head = oracle.next;
        }
        Op::AwaitRoom { len } => {
            let polled = sender.poll_room(&mut Context::from_waker(Waker::noop()), len);
            assert_eq!(polled == Poll::Ready(()), oracle.has_room(len), "room for {len}");
            oracle.waiting |= polled.is_pending();
        }
    }
}

fn take(slots: &mut Slots<u64>, detached: bool) -> (Ticket<u64>, Option<Handle<u64>>) {
    if detached {
        return (slots.take_lone(), None);
    }
    let (ticket, handle) = slots.take();
    (ticket, Some(handle))
}

/// The bytes of the next frame, of which no two are alike.
fn bytes(oracle: &mut Oracle, len: usize) -> Vec<u8> {
    oracle.pushed += 1;
    (0..len).map(|index| (oracle.pushed as usize * 31 + index) as u8).collect()
}

fn reserve(
    oracle: &mut Oracle,
    slots: &mut Slots<u64>,
    sender: &mut Sender<u64>,
    [len, used]: [usize; 2],
    detached: bool,
) {
    let mut bytes = bytes(oracle, len);
    let Some(room) = sender.room(len) else { return assert!(!oracle.has_room(len), "{len} bytes were refused") };
    assert!(oracle.has_room(len), "{len} bytes were reserved");
    room.copy_from_slice(&bytes);
    bytes.truncate(used);
    let (ticket, handle) = take(slots, detached);
    sender.stage(ticket, len, used);
    oracle.stage(bytes, len, handle);
}

fn push(oracle: &mut Oracle, slots: &mut Slots<u64>, sender: &mut Sender<u64>, len: usize, detached: bool) {
    let (ticket, handle) = take(slots, detached);
    let bytes = bytes(oracle, len);
    match sender.try_push(ticket, len, |room| room.copy_from_slice(&bytes)) {
        Ok(()) => {
            assert!(oracle.has_room(len), "a frame of {len} bytes was taken");
            oracle.stage(bytes, len, handle);
            oracle.publish();
        }
        Err(ticket) => {
            assert!(!oracle.has_room(len), "a frame of {len} bytes was refused");
            // The ticket came back whole: it can still be settled.
            assert!(!ticket.settle(0, 0).wakes());
            assert!(handle.is_none_or(|mut handle| handle.try_take() == Some(Ok((0, 0)))));
        }
    }
}

fn pop(oracle: &mut Oracle, receiver: &mut Receiver<u64>, settle: bool) {
    let frame = receiver.pop(u64::MAX);
    let expected = oracle.queue.pop_front();
    assert_eq!(frame.is_some(), expected.is_some());
    let (Some(frame), Some(expected)) = (frame, expected) else { return };
    assert_eq!(frame.bytes, expected.bytes);
    oracle.next = expected.end;
    let outcome = if settle { Ok((expected.end, 0)) } else { Err(Abandoned) };
    if settle {
        assert!(!frame.ticket.settle(expected.end, 0).wakes());
    } else {
        oracle.abandoned += 1;
        drop(frame);
    }
    assert!(expected.handle.is_none_or(|mut handle| handle.try_take() == Some(outcome)));
}

fn drain(oracle: &mut Oracle, receiver: &mut Receiver<u64>) {
    let until = receiver.snapshot();
    // All frames are alive side by side, as a core has them that hashes their keys together.
    let frames: Vec<_> = receiver.drain(until).collect();
    assert_eq!(frames.len(), oracle.queue.len());
    for (frame, expected) in frames.into_iter().zip(oracle.queue.drain(..)) {
        assert_eq!(frame.bytes, expected.bytes);
        assert_eq!(frame.bytes.as_ptr().addr() % 8, 0, "bytes are aligned");
        assert!(!frame.ticket.settle(expected.end, 0).wakes());
        assert!(expected.handle.is_none_or(|mut handle| handle.try_take() == Some(Ok((expected.end, 0)))));
        oracle.next = expected.end;
    }
}
