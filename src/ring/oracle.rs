//! The byte ring beside its naive form: a queue of vectors, and two numbers for its room.
//!
//! [`check`] does the same [`Op`]s to both and compares what can be seen. Tests draw operations from a generator, a
//! fuzz target from its input, by [`Op::decode`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::{Abandoned, Handle, Ledger, Receiver, Sender, Slots, ring};

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
        match kind % 16 {
            0..=7 => Op::Push { len, detached: kind & 16 != 0 },
            8..=10 => Op::Pop,
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
    tail: u64,
    next: u64,
    head: u64,
    waiting: bool,
    pushed: u64,
    abandoned: u64,
}

impl Oracle {
    /// Where a frame of `len` bytes would end.
    fn end(&self, len: usize) -> u64 {
        let rounded = 16 + (len as u64).div_ceil(8) * 8;
        let size = if rounded > self.capacity / 4 && len > 0 { 32 } else { rounded };
        let place = self.tail % self.capacity;
        let pad = if place + size > self.capacity { self.capacity - place } else { 0 };
        self.tail + pad + size
    }

    fn has_room(&self, len: usize) -> bool {
        self.end(len) - self.head <= self.capacity
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
        tail: 0,
        next: 0,
        head: 0,
        waiting: false,
        pushed: 0,
        abandoned: 0,
    };
    for op in ops {
        apply(op, &mut oracle, &mut slots, &mut sender, &mut receiver);
        assert_eq!(receiver.position(), oracle.next, "position after {op:?}");
        assert_eq!(receiver.snapshot(), oracle.tail, "tail after {op:?}");
        assert_eq!(sender.is_past_half(), oracle.tail - oracle.head > oracle.capacity / 2, "after {op:?}");
        assert_eq!(ledger.abandoned(), oracle.abandoned, "abandoned after {op:?}");
    }
    // Either side may go first, and the slots' owner before both.
    if oracle.pushed.is_multiple_of(2) {
        drop((slots, sender, receiver));
    } else {
        drop((receiver, sender, slots));
    }
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

fn push(oracle: &mut Oracle, slots: &mut Slots<u64>, sender: &mut Sender<u64>, len: usize, detached: bool) {
    let (ticket, handle) = if detached {
        (slots.take_lone(), None)
    } else {
        let (ticket, handle) = slots.take();
        (ticket, Some(handle))
    };
    let bytes: Vec<u8> = (0..len).map(|index| (oracle.pushed as usize * 31 + index) as u8).collect();
    oracle.pushed += 1;
    match sender.try_push(ticket, len, |room| room.copy_from_slice(&bytes)) {
        Ok(()) => {
            assert!(oracle.has_room(len), "a frame of {len} bytes was taken");
            oracle.tail = oracle.end(len);
            oracle.queue.push_back(Expected { bytes, end: oracle.tail, handle });
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
