//! The rings of the mesh: what cores say to each other, between threads. What is said, and in which order, is the
//! engine's (`engine/mesh.rs`).

use crossbeam_queue::ArrayQueue;

use crate::engine::Message;
use crate::record::CoreId;

/// The rings of the mesh: one for each pair of cores and direction, with one sender and one receiver each.
pub(crate) struct MeshRings {
    /// How many cores there are.
    pub(crate) cores: usize,
    rings: Vec<ArrayQueue<Message>>,
}

impl MeshRings {
    /// The mesh of `cores` cores, `messages` in each ring.
    pub(crate) fn new(cores: usize, messages: usize) -> MeshRings {
        MeshRings { cores, rings: (0..cores * cores).map(|_| ArrayQueue::new(messages)).collect() }
    }

    /// The ring from one core to another.
    pub(crate) fn ring(&self, from: CoreId, to: CoreId) -> &ArrayQueue<Message> {
        &self.rings[from.index() * self.cores + to.index()]
    }

    /// All cores.
    pub(crate) fn ids(&self) -> impl Iterator<Item = CoreId> + use<> {
        (0..self.cores as u16).map(CoreId)
    }
}
