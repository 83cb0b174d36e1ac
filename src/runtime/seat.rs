//! Everything that one core has: what its thread is given when it starts.

use std::sync::Arc;

use crossbeam_channel as channel;

use super::affinity::Place;
use super::clock::Clock;
use super::command::{Command, Event};
use super::mesh::MeshRings;
use crate::config::Config;
use crate::metrics::CoreCounters;
use crate::record::CoreId;
use crate::ring::{Budget, Doorbell};

/// See the essay.
pub(crate) struct Seat {
    /// Which core it is.
    pub(crate) id: CoreId,
    /// Where its thread runs.
    pub(crate) place: Place,
    /// The producer's configuration.
    pub(crate) config: Arc<Config>,
    /// The seed of its jitter.
    pub(crate) seed: u64,
    /// The producer's clock.
    pub(crate) clock: Clock,
    /// Commands for it.
    pub(crate) commands: channel::Receiver<Command>,
    /// The bells of all cores, by [`CoreId`].
    pub(crate) doorbells: Arc<[Arc<Doorbell>]>,
    /// The mesh.
    pub(crate) mesh: Arc<MeshRings>,
    /// Where credit goes back to.
    pub(crate) budget: Arc<Budget>,
    /// What it counts.
    pub(crate) counters: Arc<CoreCounters>,
    /// Whether somebody is to be told of failures that nobody waits for.
    pub(crate) has_handler: bool,
    /// Takes what it tells. Must not block.
    pub(crate) events: Box<dyn Fn(Event) + Send>,
}
