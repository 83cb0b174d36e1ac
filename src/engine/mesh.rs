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

use super::Core;
use super::batch::{Routed, Ticket};
use super::flush::Report;
use super::parcel::Parcel;
use super::planted::{Mistake, planted};
use crate::record::{CoreId, StreamId};
use crate::time::Time;

/// One message from a core to another.
pub enum Message {
    /// Records of shards that the receiver owns, by the sender's map.
    Records {
        /// Their stream.
        stream: StreamId,
        /// Epoch of the map by which the sender chose the receiver.
        epoch: u64,
        /// Whether an older map had placed them elsewhere (`order`).
        handed_over: bool,
        /// The records, in the order in which they were put.
        parcel: Parcel,
    },
    /// To all: I have adopted the map of `epoch`, and pass on nothing by an older one any more.
    Adopted {
        /// The stream, which is ordered.
        stream: StreamId,
        /// The map's epoch.
        epoch: u64,
    },
    /// To all: what older maps than that of `epoch` had placed with me, and it elsewhere, is settled or passed on.
    HandedOver {
        /// The stream, which is ordered.
        stream: StreamId,
        /// The map's epoch.
        epoch: u64,
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
    /// The sender is closed: it passes no more records on, and answers flushes only.
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

    /// Passes a record on, in one parcel with what was passed to that core just before in the same way: of this stream,
    /// by the map of this epoch, and handed over or not.
    pub fn pass(&mut self, to: CoreId, way: (StreamId, u64, bool), ticket: Ticket, record: &Routed<'_>) {
        if let Some(Message::Records { stream, epoch, handed_over, parcel }) = self.outboxes[to.index()].back_mut()
            && (*stream, *epoch, *handed_over) == way
            && parcel.len() < PARCEL_RECORDS_MAX
        {
            parcel.push(ticket, record, true);
            return;
        }
        let mut parcel = self.spare.pop().unwrap_or_default();
        parcel.push(ticket, record, true);
        let (stream, epoch, handed_over) = way;
        self.say(to, Message::Records { stream, epoch, handed_over, parcel });
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

impl Core {
    /// Another core has failed. Records of its shards are abandoned from now on; ours need not linger for company.
    pub fn handle_core_failed(&mut self, core: CoreId) {
        if self.common.mesh.fail(core) {
            self.closed_others += 1;
        }
        self.streams.iter_mut().flatten().for_each(|stream| stream.lose(core));
    }

    /// A message from another core.
    pub fn handle_mesh(&mut self, now: Time, from: CoreId, message: Message) {
        match message {
            Message::Records { stream, epoch, handed_over, parcel } => {
                if let Some((stream, common)) = self.stream(stream) {
                    stream.accept_parcel(now, (epoch, handed_over), parcel, common);
                }
            }
            message @ (Message::Adopted { .. } | Message::HandedOver { .. }) => self.handle_mark(from, message),
            Message::FlushBegin { stream, round } => {
                if let Some((stream, _)) = self.stream(stream) {
                    stream.flush.begin(round);
                }
            }
            Message::FlushMark { stream, round } => {
                if let Some((stream, _)) = self.stream(stream) {
                    stream.flush.mark(from.index(), round);
                }
            }
            Message::FlushReport { stream, round, accepted, settled } => {
                self.coordinate(stream, from, Report { round, accepted, settled });
            }
            Message::Closed => self.closed_others += 1, // its last word, so it can't be said to fail afterwards
        }
    }

    /// Another core's mark in a changeover. That core may have heard of the stream before us.
    pub(super) fn handle_mark(&mut self, from: CoreId, message: Message) {
        let (Message::Adopted { stream: id, .. } | Message::HandedOver { stream: id, .. }) = message else { return };
        match self.stream(id) {
            Some((stream, _)) => stream.heard(from, &message),
            None => self.early.push((from, message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Put, Source};
    use super::*;

    const STREAM: StreamId = StreamId(0);

    /// Epoch and data of each record of each parcel, in the order in which they are said.
    fn said(mesh: &mut Mesh, to: CoreId) -> Vec<(u64, Vec<String>)> {
        let mut all = Vec::new();
        for message in std::mem::take(mesh.outbox(to)) {
            match message {
                Message::Records { epoch, mut parcel, .. } => {
                    let mut data = Vec::new();
                    parcel.unpack(|_, record| data.push(String::from_utf8_lossy(record.data).into_owned()));
                    mesh.give(parcel);
                    all.push((epoch, data));
                }
                _ => all.push((0, Vec::new())),
            }
        }
        all
    }

    fn pass(mesh: &mut Mesh, to: CoreId, stream: StreamId, epoch: u64, (ticket, record): (Ticket, Routed<'_>)) {
        mesh.pass(to, (stream, epoch, false), ticket, &record);
    }

    #[test]
    fn records_go_in_one_parcel_unless_something_was_said_between_or_they_differ() {
        let mut source = Source::new();
        let mut mesh = Mesh::new(CoreId(0), 3);
        let (one, two) = (CoreId(1), CoreId(2));
        let mut put = |mesh: &mut Mesh, to, stream, epoch, data: &str| {
            pass(mesh, to, stream, epoch, source.lone(&Put::new("key", data.as_bytes())));
        };
        put(&mut mesh, one, STREAM, 5, "a");
        put(&mut mesh, two, STREAM, 5, "to another");
        put(&mut mesh, one, STREAM, 5, "b");
        put(&mut mesh, one, STREAM, 6, "c");
        put(&mut mesh, one, StreamId(1), 6, "d");
        mesh.say(one, Message::FlushMark { stream: STREAM, round: 1 });
        put(&mut mesh, one, StreamId(1), 6, "e");
        assert!(!mesh.is_empty());
        let list = |all: &[&str]| -> Vec<String> { all.iter().map(|data| (*data).to_owned()).collect() };
        let expected =
            [(5, list(&["a", "b"])), (6, list(&["c"])), (6, list(&["d"])), (0, list(&[])), (6, list(&["e"]))];
        assert_eq!(said(&mut mesh, one), expected);
        assert_eq!(said(&mut mesh, two), [(5, list(&["to another"]))]);
        assert!(mesh.is_empty());
    }

    #[test]
    fn a_parcel_holds_a_turn_s_records_and_no_more() {
        let mut source = Source::new();
        let mut mesh = Mesh::new(CoreId(1), 2);
        let put = Put::new("key", b"x");
        for _ in 0..2 * PARCEL_RECORDS_MAX + 1 {
            pass(&mut mesh, CoreId(0), STREAM, 1, source.lone(&put));
        }
        let lengths: Vec<usize> = said(&mut mesh, CoreId(0)).iter().map(|(_, data)| data.len()).collect();
        assert_eq!(lengths, [PARCEL_RECORDS_MAX, PARCEL_RECORDS_MAX, 1]);
    }

    #[test]
    fn what_is_said_to_a_core_that_failed_is_lost_and_its_records_are_abandoned() {
        let mut source = Source::new();
        let mut mesh = Mesh::new(CoreId(0), 3);
        let put = Put::new("key", b"x");
        assert!(!mesh.is_bereft());
        pass(&mut mesh, CoreId(1), STREAM, 1, source.lone(&put));
        assert!(mesh.fail(CoreId(1)), "it is news");
        assert_eq!(source.ledger.abandoned(), 1);
        assert!(!mesh.fail(CoreId(1)), "once");
        pass(&mut mesh, CoreId(1), STREAM, 1, source.lone(&put));
        assert_eq!(source.ledger.abandoned(), 2);
        assert!(mesh.is_bereft() && mesh.is_empty());
        mesh.say_all(|| Message::Closed);
        assert_eq!((mesh.outbox(CoreId(1)).len(), mesh.outbox(CoreId(2)).len()), (0, 1));
    }

    #[test]
    fn a_core_talks_to_every_other_and_not_to_itself() {
        for own in 0..3 {
            let mut mesh = Mesh::new(CoreId(own), 3);
            let others: Vec<u16> = mesh.others().map(|core| core.0).collect();
            assert_eq!(others, (0..3).filter(|core| *core != own).collect::<Vec<_>>());
            mesh.say_all(|| Message::Closed);
            let said: Vec<usize> = (0..3).map(|core| mesh.outbox(CoreId(core)).len()).collect();
            assert_eq!(said, (0..3).map(|core| usize::from(core != own)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn unpacked_parcels_are_used_again_but_for_large_ones_and_too_many() {
        let mut source = Source::new();
        let mut mesh = Mesh::new(CoreId(0), 2);
        let put = Put::new("key", &[0; 5000]);
        pass(&mut mesh, CoreId(1), STREAM, 1, source.lone(&put));
        said(&mut mesh, CoreId(1));
        let room = mesh.spare[0].capacity();
        assert!(room >= 5000);
        pass(&mut mesh, CoreId(1), STREAM, 1, source.lone(&Put::new("key", b"x")));
        assert!(mesh.spare.is_empty(), "it goes again");
        let Some(Message::Records { parcel, .. }) = mesh.outbox(CoreId(1)).front() else { panic!("a parcel") };
        assert_eq!(parcel.capacity(), room);
        for data in [SPARE_PARCEL_BYTES_MAX / 2, SPARE_PARCEL_BYTES_MAX] {
            let mut parcel = Parcel::default();
            let put = Put::new("key", &vec![0; data]);
            let (ticket, record) = source.lone(&put);
            parcel.push(ticket, &record, true);
            mesh.give(parcel);
        }
        assert_eq!(mesh.spare.len(), 1, "the larger one is not kept");
        for _ in 0..2 * SPARE_PARCELS_MAX {
            mesh.give(Parcel::default());
        }
        assert_eq!(mesh.spare.len(), SPARE_PARCELS_MAX);
    }
}
