//! Flush: when has everything that was put before it an outcome?
//!
//! ```text
//!   caller ─▶ coordinator (core 0) ── FlushBegin(r) ─▶ every core: drain the rings to their tails of now,
//!                  ▲                                    │           turn to the next generation
//!                  │                                    ├─ FlushMark(r) ─▶ every owner: with all marks, seal
//!                  └───────── FlushReport(r) ◀──────────┘
//! ```
//!
//! Every record carries one generation bit, that of the round under which its core took it from a ring. Each core
//! counts, per generation, the records it took in and the records it settled. Once a core has turned, its count of
//! records taken in for the old generation is final; so when the sums of all cores are equal, everything older than
//! the round has its outcome, wherever it was settled and however often it crossed the mesh.
//!
//! Rounds of a stream do not overlap: flushes that come during a round wait for the next, together. So one bit is
//! enough. Round r flushes generation r - 1.
//!
//! F1: a record keeps its generation for life. F2: a core turns only when its rings were drained to the tails that
//! they had after the round began. F3: a core's marks follow every record of the old generation that it passed on.

use super::Core;
use super::batch::Generation;
use super::mesh::Message;
use super::planted::{Mistake, planted};
use crate::record::{CoreId, StreamId};

/// The core that coordinates flushes.
pub const COORDINATOR: CoreId = CoreId(0);

/// Names a caller's flush.
pub type FlushToken = u64;

/// One stream's part in flushes, on one core.
#[derive(Default)]
pub struct Participant {
    /// Records of each generation taken from this core's rings.
    accepted: [u64; 2],
    /// Records of each generation settled by this core.
    settled: [u64; 2],
    /// The generation of records that are taken in now.
    generation: Generation,
    /// The latest round that this core has turned for.
    round: u64,
    /// A round that began and waits for the rings to be drained.
    begun: Option<u64>,
    /// Whether the rings are being drained for `begun`.
    draining: bool,
    /// Marks of the other cores for the latest round; one may be ahead of us.
    marks: Vec<u64>,
    /// The round for which everything was sealed.
    sealed: u64,
    /// The counts that were last reported, with their round.
    reported: Option<(u64, u64, u64)>,
}

/// What a participant reports to the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The round.
    pub round: u64,
    /// Records of its generation that the core took in; final.
    pub accepted: u64,
    /// Records of its generation that the core settled.
    pub settled: u64,
}

impl Participant {
    /// A participant among `cores` cores.
    pub fn new(cores: u16) -> Participant {
        Participant { marks: vec![0; usize::from(cores)], ..Participant::default() }
    }

    /// A record was taken from a ring; it has this generation.
    pub fn accept(&mut self) -> Generation {
        self.accepted[self.generation.index()] += 1;
        self.generation
    }

    /// So many records of `generation` were settled.
    pub fn settled(&mut self, generation: Generation, records: usize) {
        self.settled[generation.index()] += records as u64;
    }

    /// Round `round` begins.
    pub fn begin(&mut self, round: u64) {
        self.begun = Some(round);
        if planted(Mistake::FlushTurnsEarly) {
            self.generation = Generation::of_round(round);
        }
        self.draining = false;
    }

    /// Whether a round waits for a draining of the rings that has not started.
    pub fn wants_drain(&self) -> bool {
        self.begun.is_some() && !self.draining
    }

    /// The tails of the rings were noted; the core drains to them.
    pub fn drain_started(&mut self) {
        self.draining = self.begun.is_some();
    }

    /// The rings are drained to the tails that were noted. Turns, and answers the round to send marks for.
    pub fn drained(&mut self) -> Option<u64> {
        if !self.draining {
            return None;
        }
        self.draining = false;
        let round = self.begun.take()?;
        self.round = round;
        self.generation = Generation::of_round(round);
        Some(round)
    }

    /// Core `from` has said every record from before `round`.
    pub fn mark(&mut self, from: usize, round: u64) {
        if !planted(Mistake::FlushMarksUnheard) {
            self.marks[from] = self.marks[from].max(round);
        }
    }

    /// Whether everything open is to be sealed now: all marks of a round have come. True once a round.
    pub fn should_seal(&mut self, own: usize) -> bool {
        let complete = self.marks.iter().enumerate().all(|(core, mark)| core == own || *mark >= self.round);
        let seal = self.round > self.sealed && complete;
        if seal {
            self.sealed = self.round;
        }
        seal
    }

    /// Whether a record of `generation` comes after the sealing of the round that flushes it: it waited for a map or
    /// was routed anew. It must not linger, or the flush would.
    pub fn is_late(&self, generation: Generation) -> bool {
        self.round > 0 && self.sealed == self.round && generation != self.generation
    }

    /// What is new to the coordinator.
    pub fn report(&mut self) -> Option<Report> {
        if self.round == 0 {
            return None;
        }
        let old = Generation::of_round(self.round).next().index();
        let counts = (self.round, self.accepted[old], self.settled[old]);
        if self.reported == Some(counts) {
            return None;
        }
        self.reported = Some(counts);
        Some(Report { round: self.round, accepted: counts.1, settled: counts.2 })
    }
}

/// Runs the rounds of one stream, on core 0.
pub struct Coordinator {
    round: u64,
    /// The callers of the round that runs. Empty if none does.
    callers: Vec<FlushToken>,
    /// The callers of the next.
    waiting: Vec<FlushToken>,
    /// By core: the latest report of the round that runs.
    reports: Vec<Option<Report>>,
}

impl Coordinator {
    /// The coordinator of `cores` cores.
    pub fn new(cores: u16) -> Coordinator {
        Coordinator { round: 0, callers: Vec::new(), waiting: Vec::new(), reports: vec![None; usize::from(cores)] }
    }

    /// A caller wants a flush. Answers the round to begin now, if none runs.
    pub fn request(&mut self, token: FlushToken) -> Option<u64> {
        self.waiting.push(token);
        self.next_round()
    }

    /// A core's report. Answers the callers whose flush is done by it, and the round to begin after it.
    pub fn report(&mut self, core: usize, report: Report) -> (Vec<FlushToken>, Option<u64>) {
        if report.round != self.round || self.callers.is_empty() {
            return (Vec::new(), None);
        }
        self.reports[core] = Some(report);
        let sums = self.reports.iter().try_fold((0, 0), |(accepted, settled), report| match report {
            Some(report) => Some((accepted + report.accepted, settled + report.settled)),
            None => planted(Mistake::FlushCountsOne).then_some((accepted, settled)),
        });
        match sums {
            Some((accepted, settled)) if accepted == settled => {
                let done = std::mem::take(&mut self.callers);
                (done, self.next_round())
            }
            _ => (Vec::new(), None),
        }
    }

    fn next_round(&mut self) -> Option<u64> {
        if !self.callers.is_empty() || self.waiting.is_empty() {
            return None;
        }
        self.callers = std::mem::take(&mut self.waiting);
        self.reports.fill(None);
        self.round += 1;
        Some(self.round)
    }
}

impl Core {
    /// A caller wants to know when everything of `stream` that is in a ring by now has its outcome. Told to core 0;
    /// the answer is `token`, from [`Core::poll_flushed`].
    pub fn handle_flush(&mut self, stream: StreamId, token: FlushToken) {
        debug_assert_eq!(self.id, COORDINATOR);
        let round = match self.coordinators.get_mut(stream.index()) {
            Some(coordinator) => coordinator.request(token),
            None => return self.flushed.push_back(token),
        };
        self.begin_round(stream, round);
    }

    fn begin_round(&mut self, id: StreamId, round: Option<u64>) {
        let Some(round) = round else { return };
        if !planted(Mistake::FlushUntold) {
            self.common.mesh.say_all(|| Message::FlushBegin { stream: id, round });
        }
        if let Some((stream, _)) = self.stream(id) {
            stream.flush.begin(round);
        }
    }

    /// A core reports; this one coordinates.
    pub(super) fn coordinate(&mut self, id: StreamId, from: CoreId, report: Report) {
        let Some(coordinator) = self.coordinators.get_mut(id.index()) else { return };
        let (done, next) = coordinator.report(from.index(), report);
        self.flushed.extend(done);
        self.begin_round(id, next);
    }

    /// Whether a flush waits for the rings to be drained to their tails of now.
    pub fn wants_drain(&self) -> bool {
        self.streams.iter().flatten().any(|stream| stream.flush.wants_drain())
    }

    /// The driver has noted the tails of all rings.
    pub fn handle_drain_started(&mut self) {
        self.streams.iter_mut().flatten().for_each(|stream| stream.flush.drain_started());
    }

    /// The rings are drained to the tails that were noted.
    pub fn handle_drained(&mut self) {
        for stream in self.streams.iter_mut().flatten() {
            if let Some(round) = stream.flush.drained() {
                let stream = stream.id;
                self.common.mesh.say_all(|| Message::FlushMark { stream, round });
            }
        }
    }
}

#[cfg(test)]
mod tests;
