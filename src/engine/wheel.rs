//! The deadline wheel: everything that a core waits for, in order of time, at a constant cost an entry.
//!
//! Time is cut into ticks of 32.8 µs. Nine levels of 64 slots hold the entries: a slot of level 0 is one tick, a slot
//! of level `n` is 64 slots of level `n - 1`, and nine levels hold every tick that a [`Time`] has, so nothing is
//! ever too far away. An entry lies on the level of the highest group of six bits in which its tick differs from
//! the tick that the wheel has reached. When the wheel reaches a slot above level 0 it *cascades* it: the entries
//! move down to the levels where they now belong.
//!
//! ```text
//!             tick reached        each level: a bitmap of its occupied slots
//!                  ▼
//!   level 0   [....XxX.........]  1 tick      = 32.8 µs a slot
//!   level 1   [...X....x....x..]  64 ticks    = 2.1 ms
//!   level 2   [X......x........]  4096 ticks  = 134 ms        … level 8: 292 years
//! ```
//!
//! Promises:
//! - W1: an entry never fires before its time, and it fires at the first advance that is one `RESOLUTION` past it.
//! - W2: entries fire in the order of their ticks; within a tick in the order in which they were inserted. This holds
//!   through cascades, because a slot is cascaded before anything can be inserted below it. What was due when it was
//!   inserted belongs to the tick reached.
//! - W3: a [`TimerId`] names one insertion. Once that has fired or was cancelled, the id does nothing.
//! - W4: every occupied slot lies at or after the tick reached, within the slot of the next higher level that holds it.
//!
//! Refuses: periods, and payloads that must be dropped; an entry is `Copy`.
//!
//! Costs: insert and cancel touch one slot and at most two neighbours. Advancing costs one step for each entry that
//! fires and at most eight moves in an entry's life, however far the time leaps. Nodes live in a slab that grows to
//! the most entries there ever were and then allocates nothing.

use std::time::Duration;

use super::planted::{Mistake, planted};
use crate::time::Time;

/// The latest that an entry fires after its time, if the wheel is advanced then: one tick.
pub const RESOLUTION: Duration = Duration::from_nanos(1 << TICK_BITS);

const TICK_BITS: u32 = 15;
const LEVEL_BITS: u32 = 6;
const SLOTS: usize = 1 << LEVEL_BITS;
const LEVELS: usize = 9;
/// No node.
const NIL: u32 = u32::MAX;

const _: () = {
    assert!(RESOLUTION.as_nanos() <= 50_000);
    assert!(LEVELS as u32 * LEVEL_BITS > u64::BITS - TICK_BITS, "the levels hold every tick, rounded up");
};

/// Names one insertion. Ids of what has fired or was cancelled are harmless, until the 2^32nd reuse of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    index: u32,
    generation: u32,
}

/// The deadlines of one core, each with an entry that says what is due.
pub struct Wheel<E> {
    /// The latest moment that the wheel was told.
    now: Time,
    /// The tick that was reached: all earlier ones have fired. At most the tick of `now`.
    reached: u64,
    /// Entries in the wheel.
    len: usize,
    /// Bit `n`: level `n` has an occupied slot.
    levels: u16,
    /// For each level, bit `n`: slot `n` is occupied.
    occupied: [u64; LEVELS],
    /// The slots, level by level.
    slots: Vec<Slot>,
    /// Entries, linked from the slots, and free nodes, linked from `free`.
    nodes: Vec<Node<E>>,
    /// The first free node.
    free: u32,
}

/// A list of nodes in the order in which they came.
#[derive(Clone, Copy)]
struct Slot {
    head: u32,
    tail: u32,
    /// No later than the tick of any node here. Exact until the earliest is cancelled.
    earliest: u64,
}

const EMPTY: Slot = Slot { head: NIL, tail: NIL, earliest: u64::MAX };

struct Node<E> {
    entry: E,
    tick: u64,
    prev: u32,
    next: u32,
    /// What an id must have to mean this node. Counted up when the node is freed, so no id matches a free node.
    generation: u32,
    /// The place in `slots` of the list that this node is in.
    slot: u16,
}

impl<E: Copy> Wheel<E> {
    /// A wheel without entries that stands at `now`.
    pub fn new(now: Time) -> Wheel<E> {
        Wheel {
            now,
            reached: now.as_nanos() >> TICK_BITS,
            len: 0,
            levels: 0,
            occupied: [0; LEVELS],
            slots: vec![EMPTY; LEVELS * SLOTS],
            nodes: Vec::new(),
            free: NIL,
        }
    }

    /// Has `entry` fire at `at`. A time that has passed fires at the next advance; [`Time::NEVER`] never fires.
    pub fn insert(&mut self, at: Time, entry: E) -> TimerId {
        // Rounded up, so that it fires late rather than early. What is due already goes into the tick reached: the
        // next one would be a needless wait.
        let tick = if at <= self.now { self.reached } else { at.as_nanos().div_ceil(1 << TICK_BITS) };
        let tick = tick + if planted(Mistake::TimerLate) { SLOTS as u64 } else { 0 };
        let index = self.take_node(entry);
        self.link(index, tick.max(self.reached));
        self.len += 1;
        TimerId { index, generation: self.nodes[index as usize].generation }
    }

    /// Takes an entry out before it fires. Returns whether it was still there.
    pub fn cancel(&mut self, id: TimerId) -> bool {
        let live = self.nodes.get(id.index as usize).is_some_and(|node| node.generation == id.generation);
        if live {
            self.unlink(id.index);
            self.release_node(id.index);
        }
        live
    }

    /// Appends to `fired` every entry that is due at `now`, the earliest first. A clock that went backwards stands
    /// still.
    pub fn advance(&mut self, now: Time, fired: &mut Vec<E>) {
        while let Some(entry) = self.pop_due(now) {
            fired.push(entry);
        }
    }

    /// Takes out the earliest entry that is due at `now`, so that a turn can stop between two. What is inserted for a
    /// time that has passed is due at once: bound the loop if its body does that.
    pub fn pop_due(&mut self, now: Time) -> Option<E> {
        self.now = self.now.max(now);
        let tick_now = self.now.as_nanos() >> TICK_BITS;
        while let Some((place, start)) = self.first_slot() {
            if start > tick_now {
                break;
            }
            self.reached = self.reached.max(start);
            if place >= SLOTS {
                self.cascade(place);
                continue;
            }
            let index = self.slots[place].head;
            let entry = self.nodes[index as usize].entry;
            self.unlink(index);
            self.release_node(index);
            return Some(entry);
        }
        self.reached = tick_now;
        None
    }

    /// When to advance next; nothing if there are no entries.
    ///
    /// It is the moment at which the earliest entry fires: its time, rounded up to the tick, so less than a
    /// `RESOLUTION` later. It may be earlier only if the earliest entry was cancelled; advancing to it then puts
    /// that right.
    pub fn next(&self) -> Option<Time> {
        let (place, _) = self.first_slot()?;
        let tick = self.slots[place].earliest;
        Some(Time::from_nanos(tick.saturating_mul(1 << TICK_BITS)))
    }

    /// Entries that have neither fired nor been cancelled.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The occupied slot that comes first, as its place in `slots`, and the tick at which it begins.
    fn first_slot(&self) -> Option<(usize, u64)> {
        if self.levels == 0 {
            return None;
        }
        // By W4 all of a level lies before the occupied slots of the next, and a level never wraps around.
        let level = self.levels.trailing_zeros();
        let slot = self.occupied[level as usize].trailing_zeros();
        let shift = level * LEVEL_BITS;
        let block = self.reached >> (shift + LEVEL_BITS) << (shift + LEVEL_BITS);
        Some((level as usize * SLOTS + slot as usize, block | u64::from(slot) << shift))
    }

    /// Moves the entries of a slot that was reached down to the levels where they now belong.
    fn cascade(&mut self, place: usize) {
        let mut index = self.slots[place].head;
        self.clear_slot(place);
        while index != NIL {
            let Node { next, tick, .. } = self.nodes[index as usize];
            self.link(index, tick);
            index = next;
        }
    }

    /// Puts a node at the end of the slot for `tick`, which is not before the tick reached.
    fn link(&mut self, index: u32, tick: u64) {
        let differs = self.reached ^ tick;
        let level = differs.checked_ilog2().unwrap_or(0) / LEVEL_BITS;
        let bit = (tick >> (level * LEVEL_BITS)) as usize % SLOTS;
        let place = level as usize * SLOTS + bit;
        self.levels |= 1 << level;
        self.occupied[level as usize] |= 1 << bit;

        let slot = &mut self.slots[place];
        let prev = slot.tail;
        slot.tail = index;
        slot.earliest = slot.earliest.min(tick);
        if prev == NIL {
            slot.head = index;
        } else {
            self.nodes[prev as usize].next = index;
        }
        let node = &mut self.nodes[index as usize];
        (node.tick, node.prev, node.next, node.slot) = (tick, prev, NIL, place as u16);
    }

    fn unlink(&mut self, index: u32) {
        let Node { prev, next, slot, .. } = self.nodes[index as usize];
        let place = usize::from(slot);
        if prev == NIL {
            self.slots[place].head = next;
        } else {
            self.nodes[prev as usize].next = next;
        }
        if next == NIL {
            self.slots[place].tail = prev;
        } else {
            self.nodes[next as usize].prev = prev;
        }
        if self.slots[place].head == NIL {
            self.clear_slot(place);
        }
    }

    fn clear_slot(&mut self, place: usize) {
        let (level, bit) = (place / SLOTS, place % SLOTS);
        self.slots[place] = EMPTY;
        self.occupied[level] &= !(1 << bit);
        if self.occupied[level] == 0 {
            self.levels &= !(1 << level);
        }
    }

    fn take_node(&mut self, entry: E) -> u32 {
        let index = self.free;
        if let Some(node) = self.nodes.get_mut(index as usize) {
            self.free = node.next;
            node.entry = entry;
            node.generation = node.generation.wrapping_sub(u32::from(planted(Mistake::TimerReused)));
            return index;
        }
        let index = self.nodes.len() as u32;
        assert!(index < NIL, "four billion timers: entries are batches and shards, never records");
        self.nodes.push(Node { entry, tick: 0, prev: NIL, next: NIL, generation: 0, slot: 0 });
        index
    }

    fn release_node(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        node.generation = node.generation.wrapping_add(1);
        node.next = self.free;
        self.free = index;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests;
