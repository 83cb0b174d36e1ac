//! The rings between cores: one for each pair and direction, with one sender and one receiver each.
//!
//! A core never waits for another: what a ring does not take stays in its sender's outbox. See `engine/mesh.rs` for what
//! is said here.

use crossbeam_queue::ArrayQueue;

use crate::engine::Message;
use crate::record::CoreId;

/// The rings of all cores.
pub(crate) struct MeshRings {
    cores: usize,
    /// Row by row, a row for each sender.
    rings: Vec<ArrayQueue<Message>>,
}

impl MeshRings {
    /// The mesh of `cores` cores, `messages` in each ring.
    pub(crate) fn new(cores: usize, messages: usize) -> MeshRings {
        MeshRings { cores, rings: (0..cores * cores).map(|_| ArrayQueue::new(messages)).collect() }
    }

    /// What `from` says to `to`.
    pub(super) fn ring(&self, from: CoreId, to: CoreId) -> &ArrayQueue<Message> {
        &self.rings[from.index() * self.cores + to.index()]
    }

    /// How many cores there are.
    pub(super) fn cores(&self) -> usize {
        self.cores
    }

    /// Every core.
    pub(super) fn ids(&self) -> impl Iterator<Item = CoreId> + use<> {
        (0..self.cores as u16).map(CoreId) // limits::CORES_MAX
    }
}
