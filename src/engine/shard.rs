//! One shard on the core that owns it: its open aggregate, its tokens, and its queue of sealed batches.
//!
//! ```text
//!   records ──▶ aggregator ──seal──▶ queue, by seal number ──tokens──▶ request
//!                                      ▲                                  │
//!                                      └────────── what is retried ◀──────┘
//! ```
//!
//! A shard whose first batch backs off, or has no tokens, is *held*: nothing of it is sent until then, so that
//! younger records don't overtake it.
//!
//! H1: the queue is ascending by seal number. H2: `queued_bytes` is the sum of the queue's sizes.
//! H3: a held shard is not listed in the collector; `listed` says whether it is. H4: `send_by` ascends along the queue:
//! what must leave soon takes along what stands before it. So the front's is the earliest.

use std::collections::VecDeque;
use std::sync::Arc;

use super::aggregator::Aggregator;
use super::backlog::Held;
use super::batch::Batch;
use super::limiter::Limiter;
use super::planted::{Mistake, planted};
use super::pool::Pool;
use super::wheel::TimerId;
use crate::time::Time;

/// A timer that is set, and for when.
#[derive(Clone, Copy, Debug)]
pub struct Alarm {
    /// When it rings.
    pub at: Time,
    /// Its entry in the wheel.
    pub id: TimerId,
}

/// State of one shard.
pub struct Shard {
    /// The shard's id.
    pub id: Arc<str>,
    /// The open aggregate.
    pub aggregator: Aggregator,
    /// Records and bytes that it may still send.
    pub limiter: Limiter,
    /// Sealed and unsent (H1).
    queue: VecDeque<Box<Batch>>,
    queued_bytes: usize,
    /// Records that were routed here and are neither settled nor gone, if that is bounded.
    pub held: Held,
    /// Batches of it that are in requests; where the stream is ordered, or parked.
    pub in_flight: usize,
    /// Whether it waits for the end of a changeover (`order`).
    pub held_back: bool,
    next_seal: u64,
    /// Whether the collector lists it (H3).
    pub listed: bool,
    /// When the open aggregate is sealed.
    pub seal_alarm: Option<Alarm>,
    /// Until when nothing is sent.
    pub hold_alarm: Option<Alarm>,
    /// When a queued batch has a member that expires.
    pub expire_alarm: Option<Alarm>,
}

impl Shard {
    /// A shard without records.
    pub fn new(id: Arc<str>, limiter: Limiter) -> Shard {
        Shard {
            id,
            aggregator: Aggregator::default(),
            limiter,
            queue: VecDeque::new(),
            queued_bytes: 0,
            held: Held::default(),
            in_flight: 0,
            held_back: false,
            next_seal: 0,
            listed: false,
            seal_alarm: None,
            hold_alarm: None,
            expire_alarm: None,
        }
    }

    /// Queues a batch that was just sealed.
    pub fn enqueue(&mut self, mut batch: Box<Batch>, send_by: Time) {
        self.next_seal += 1;
        batch.seal = self.next_seal;
        batch.predicted = Some(Arc::clone(&self.id));
        batch.send_by = send_by;
        self.insert(self.queue.len(), batch);
    }

    /// Queues a batch that was sent before, at its old place.
    pub fn requeue(&mut self, batch: Box<Batch>) {
        let last = planted(Mistake::RetriedLast);
        let place = self.queue.partition_point(|queued| queued.seal < batch.seal || last);
        self.insert(place, batch);
    }

    fn insert(&mut self, place: usize, mut batch: Box<Batch>) {
        if let Some(next) = self.queue.get(place) {
            batch.send_by = batch.send_by.min(next.send_by);
        }
        for earlier in self.queue.range_mut(..place).rev().take_while(|earlier| earlier.send_by > batch.send_by) {
            earlier.send_by = batch.send_by;
        }
        self.queued_bytes += batch.size();
        self.queue.insert(place, batch);
    }

    /// Lets nothing queued wait for companions any more.
    pub fn hurry(&mut self, now: Time) {
        // By H4 those that may wait stand last.
        for batch in self.queue.iter_mut().rev().take_while(|batch| batch.send_by > now) {
            batch.send_by = now;
        }
    }

    /// Ends the backoff of every batch that the service refused for a while, and lets nothing before them wait either.
    /// Answers whether there was one.
    pub fn forgive(&mut self, now: Time) -> bool {
        let mut any = false;
        for batch in self.queue.iter_mut().filter(|batch| batch.refused_since.is_some()) {
            batch.not_before = batch.not_before.min(now);
            any = true;
        }
        if any {
            self.hurry(now);
        }
        any
    }

    /// The batch that goes next.
    pub fn front(&self) -> Option<&Batch> {
        self.queue.front().map(|batch| &**batch)
    }

    /// Takes the batch that goes next.
    pub fn pop(&mut self) -> Option<Box<Batch>> {
        let batch = self.queue.pop_front()?;
        self.queued_bytes -= batch.size();
        Some(batch)
    }

    /// Takes the queued batches that are marked in `places`, in order.
    pub fn take(&mut self, places: &[bool]) -> Vec<Box<Batch>> {
        debug_assert_eq!(places.len(), self.queue.len());
        let mut taken = Vec::new();
        for &marked in places {
            match self.pop() {
                Some(batch) if marked => taken.push(batch),
                Some(batch) => {
                    self.queued_bytes += batch.size();
                    self.queue.push_back(batch);
                }
                None => break,
            }
        }
        taken
    }

    /// The queued batches, in order.
    pub fn queue(&self) -> impl Iterator<Item = &Batch> {
        self.queue.iter().map(|batch| &**batch)
    }

    /// The same, to be changed in what neither their order nor their size depends on.
    pub fn queue_mut(&mut self) -> impl Iterator<Item = &mut Batch> {
        self.queue.iter_mut().map(|batch| &mut **batch)
    }

    /// Queued batches.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of the queued batches.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// All of its batches, the queued ones and the open one.
    pub fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.queue.iter().map(|batch| &**batch).chain(self.aggregator.open())
    }

    /// The earliest expiration in the queue.
    pub fn earliest_expiration(&self) -> Time {
        self.queue.iter().map(|batch| batch.expiration).min().unwrap_or(Time::NEVER)
    }

    /// Takes the queue and the open aggregate apart, in order.
    pub fn dismantle(mut self, pool: &mut Pool) -> impl Iterator<Item = Box<Batch>> + use<> {
        let mut open = self.aggregator.seal(pool);
        if let Some(open) = &mut open {
            open.predicted = Some(self.id);
        }
        self.queue.into_iter().chain(open)
    }

    /// Whether sealing early would help: nothing of the shard is on its way or waits to be.
    pub fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.in_flight == 0
    }
}

#[cfg(test)]
mod tests;
