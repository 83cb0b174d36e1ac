//! Mesh: what cores say to each other.
//!
//! ```text
//!   core 0 ◀── SPSC ring of messages, one for each direction ──▶ core 1
//! ```
//!
//! A core never waits for a core. What it has to say lies in its outbox for the destination, in order; the driver
//! moves from there what the ring takes. Nothing newer overtakes, so an outbox is the ring's overflow list. Rings and
//! outboxes hold no backlog of their own: the budget bounds all accepted records, wherever they are.
//!
//! M1: messages from one core to another arrive in the order in which they were said.

use std::collections::VecDeque;

use super::batch::Routed;
use super::parcel::Parcel;
use super::planted::{Mistake, planted};
use crate::record::{CoreId, StreamId};

/// One message from a core to another.
pub enum Message {
    /// Records of shards that the receiver owns, by the sender's map.
    Records {
        /// Their stream.
        stream: StreamId,
        /// Epoch of the map by which the sender chose the receiver.
        epoch: u64,
        /// The records, in the order in which they were put.
        parcel: Parcel,
    },
    /// Coordinator to all: begin flush round `round` of the stream.
    FlushBegin {
        /// The stream.
        stream: StreamId,
        /// Rounds of a stream are numbered from 1.
        round: u64,
    },
    /// To all: every record of mine from before `round` that is yours has been said.
    FlushMark {
        /// The stream.
        stream: StreamId,
        /// The round.
        round: u64,
    },
    /// To the coordinator: how many records of the round's generation I took in and how many I settled.
    FlushReport {
        /// The stream.
        stream: StreamId,
        /// The round.
        round: u64,
        /// Records of the generation taken from this core's rings, ever. Final, once reported.
        accepted: u64,
        /// Records of the generation settled by this core, ever.
        settled: u64,
    },
    /// The sender is closed and will say nothing more.
    Closed,
}

/// What one core has to say to the others.
pub struct Mesh {
    core: CoreId,
    /// By destination; this core's own stays empty.
    outboxes: Vec<VecDeque<Message>>,
    /// Cores that have failed: what is said to them is lost, and records among it are abandoned.
    failed: Vec<bool>,
    /// Parcels that came and were unpacked, for those to go: as many come as go, if cores share the work evenly.
    spare: Vec<Parcel>,
}

impl Mesh {
    /// The mesh of `cores` cores as `core` sees it.
    pub fn new(core: CoreId, cores: u16) -> Mesh {
        let outboxes = (0..cores).map(|_| VecDeque::new()).collect();
        Mesh { core, outboxes, failed: vec![false; usize::from(cores)], spare: Vec::new() }
    }

    /// Says `message` to `to`.
    pub fn say(&mut self, to: CoreId, message: Message) {
        debug_assert_ne!(to, self.core, "a core does not talk to itself");
        if !self.failed[to.index()] {
            let outbox = &mut self.outboxes[to.index()];
            if planted(Mistake::MeshReversed) { outbox.push_front(message) } else { outbox.push_back(message) }
        }
    }

    /// `core` has failed. Answers whether that is news.
    pub fn fail(&mut self, core: CoreId) -> bool {
        self.outboxes[core.index()].clear();
        !std::mem::replace(&mut self.failed[core.index()], true)
    }

    /// Whether a core has failed, so that the producer takes no more records.
    pub fn is_bereft(&self) -> bool {
        self.failed.contains(&true)
    }

    /// Says to every other core what `message` makes.
    pub fn say_all(&mut self, message: impl Fn() -> Message) {
        for to in self.others() {
            self.say(to, message());
        }
    }

    /// Passes a record on, in one parcel with what was passed to that core just before.
    pub fn pass(&mut self, to: CoreId, stream: StreamId, epoch: u64, record: Routed<'_>) {
        if let Some(Message::Records { stream: last_stream, epoch: last_epoch, parcel }) =
            self.outboxes[to.index()].back_mut()
            && *last_stream == stream
            && *last_epoch == epoch
            && parcel.len() < PARCEL_RECORDS_MAX
        {
            parcel.push(record, true);
            return;
        }
        let mut parcel = self.spare.pop().unwrap_or_default();
        parcel.push(record, true);
        self.say(to, Message::Records { stream, epoch, parcel });
    }

    /// Takes back a parcel that was unpacked.
    pub fn give(&mut self, parcel: Parcel) {
        if self.spare.len() < SPARE_PARCELS_MAX && parcel.capacity() <= SPARE_PARCEL_BYTES_MAX {
            self.spare.push(parcel);
        }
    }

    /// What waits to be said to `to`, the oldest first.
    pub fn outbox(&mut self, to: CoreId) -> &mut VecDeque<Message> {
        &mut self.outboxes[to.index()]
    }

    /// Whether everything was said.
    pub fn is_empty(&self) -> bool {
        self.outboxes.iter().all(VecDeque::is_empty)
    }

    /// Every other core.
    pub fn others(&self) -> impl Iterator<Item = CoreId> + use<> {
        let own = self.core;
        (0..self.outboxes.len() as u16).map(CoreId).filter(move |core| *core != own)
    }
}

/// Records of one parcel. A turn takes no more from the rings, so one turn fills at most one parcel per destination.
const PARCEL_RECORDS_MAX: usize = crate::limits::TURN_RECORDS_MAX;
/// Parcels kept at rest, and what each may occupy: a turn's records of usual size. At most 4 MiB a core.
const SPARE_PARCELS_MAX: usize = 16;
const SPARE_PARCEL_BYTES_MAX: usize = crate::limits::TURN_BYTES_MAX;
