//! Rounds of flushes among a few cores, beside a list of all records: a flush is done when everything that was put before
//! it is settled, and not before.

use std::collections::VecDeque;

use super::super::testing::Random;
use super::*;

enum Said {
    Record(usize),
    Begin(u64),
    Mark(u64),
    Report(Report),
}

/// A record as the list has it.
struct Record {
    generation: Generation,
    /// The round that its core had turned for when it took the record.
    round: u64,
    settled: bool,
}

struct Cores {
    random: Random,
    participants: Vec<Participant>,
    coordinator: Coordinator,
    records: Vec<Record>,
    /// By core: records in its ring, records that it has, and how far it drains.
    rings: Vec<VecDeque<usize>>,
    here: Vec<Vec<usize>>,
    drains: Vec<Option<usize>>,
    /// From, to.
    mesh: Vec<Vec<VecDeque<Said>>>,
    /// By token: how many records were put before it, and whether it is done.
    flushes: Vec<(usize, bool)>,
}

impl Cores {
    fn new(seed: u64) -> Cores {
        let mut random = Random(seed);
        let cores = 1 + random.below(4) as usize;
        Cores {
            random,
            participants: (0..cores).map(|_| Participant::new(cores as u16)).collect(),
            coordinator: Coordinator::new(cores as u16),
            records: Vec::new(),
            rings: vec![VecDeque::new(); cores],
            here: vec![Vec::new(); cores],
            drains: vec![None; cores],
            mesh: (0..cores).map(|_| (0..cores).map(|_| VecDeque::new()).collect()).collect(),
            flushes: Vec::new(),
        }
    }

    fn core(&mut self) -> usize {
        self.random.below(self.participants.len() as u64) as usize
    }

    fn begin(&mut self, round: Option<u64>) {
        let Some(round) = round else { return };
        self.participants[0].begin(round);
        self.mesh[0].iter_mut().skip(1).for_each(|queue| queue.push_back(Said::Begin(round)));
    }

    fn flush(&mut self) {
        let token = self.flushes.len() as FlushToken;
        self.flushes.push((self.records.len(), false));
        let round = self.coordinator.request(token);
        self.begin(round);
    }

    fn put(&mut self) {
        let core = self.core();
        self.rings[core].push_back(self.records.len());
        self.records.push(Record { generation: Generation::default(), round: 0, settled: false });
    }

    /// A core takes a record from its ring, and keeps it or passes it on.
    fn take(&mut self, core: usize) {
        let Some(record) = self.rings[core].pop_front() else { return };
        self.records[record].generation = self.participants[core].accept();
        self.records[record].round = self.participants[core].round;
        self.drains[core] = self.drains[core].map(|left| left.saturating_sub(1));
        let to = self.core();
        if to == core { self.here[core].push(record) } else { self.mesh[core][to].push_back(Said::Record(record)) }
    }

    fn settle(&mut self, core: usize) {
        if self.here[core].is_empty() {
            return;
        }
        let place = self.random.below(self.here[core].len() as u64) as usize;
        let record = &mut self.records[self.here[core].swap_remove(place)];
        record.settled = true;
        self.participants[core].settled(record.generation, 1);
    }

    fn hear(&mut self, from: usize, to: usize) {
        match self.mesh[from][to].pop_front() {
            Some(Said::Record(record)) => {
                // What comes after all marks of the round that flushes it would not be sealed for it.
                assert!(self.records[record].round >= self.participants[to].sealed, "F3");
                self.here[to].push(record);
            }
            Some(Said::Begin(round)) => self.participants[to].begin(round),
            Some(Said::Mark(round)) => self.participants[to].mark(from, round),
            Some(Said::Report(report)) => self.report(from, report),
            None => {}
        }
    }

    fn report(&mut self, from: usize, report: Report) {
        let (done, next) = self.coordinator.report(from, report);
        for token in done {
            let (before, is_done) = &mut self.flushes[token as usize];
            assert!(!std::mem::replace(is_done, true), "it is done once");
            assert!(self.records[..*before].iter().all(|record| record.settled), "flush {token} is done too early");
        }
        self.begin(next);
    }

    fn turn(&mut self, core: usize) {
        let participant = &mut self.participants[core];
        if participant.wants_drain() {
            participant.drain_started();
            assert!(!participant.wants_drain());
            self.drains[core] = Some(self.rings[core].len());
        }
        if self.drains[core] == Some(0) {
            self.drains[core] = None;
            let round = self.participants[core].drained().expect("it was wanted");
            let others = self.mesh[core].iter_mut().enumerate().filter(|(to, _)| *to != core);
            others.for_each(|(_, queue)| queue.push_back(Said::Mark(round)));
        }
        let participant = &mut self.participants[core];
        if participant.should_seal(core) {
            assert!(!participant.should_seal(core), "once a round");
        }
        match participant.report() {
            Some(report) if core == 0 => self.report(0, report),
            Some(report) => self.mesh[core][0].push_back(Said::Report(report)),
            None => {}
        }
        assert!(self.participants[core].report().is_none(), "there is no news");
    }

    fn apply(&mut self) {
        let (core, other) = (self.core(), self.core());
        match self.random.below(12) {
            0..3 => self.put(),
            3..5 => self.take(core),
            5..7 => self.settle(core),
            7..9 => self.hear(core, other),
            9..11 => self.turn(core),
            _ if self.random.once_in(3) => self.flush(),
            _ => {}
        }
    }
}

#[test]
fn a_flush_is_done_once_and_not_before_everything_that_was_put_before_it_is_settled() {
    for seed in 0..500 {
        let mut cores = Cores::new(seed);
        for _ in 0..300 {
            cores.apply();
        }
        // Then everybody does what there is to do, in rounds; the last flushes may wait for one.
        for _ in 0..20 {
            for core in 0..cores.participants.len() {
                while !cores.rings[core].is_empty() {
                    cores.take(core);
                }
                for from in 0..cores.participants.len() {
                    while !cores.mesh[from][core].is_empty() {
                        cores.hear(from, core);
                    }
                }
                while !cores.here[core].is_empty() {
                    cores.settle(core);
                }
                cores.turn(core);
            }
        }
        assert!(cores.flushes.iter().all(|(_, done)| *done), "seed {seed}");
    }
}

#[test]
fn a_record_that_comes_after_the_sealing_of_its_round_is_late() {
    let mut participant = Participant::new(1);
    let old = participant.accept();
    assert!(!participant.is_late(old), "there is no round yet");
    participant.begin(1);
    assert!(participant.drained().is_none(), "the tails were not noted");
    participant.drain_started();
    assert_eq!(participant.drained(), Some(1));
    let new = participant.accept();
    assert_ne!(old, new);
    assert!(!participant.is_late(old), "it will be sealed with the others");
    assert!(participant.should_seal(0));
    assert!(participant.is_late(old) && !participant.is_late(new));
}

#[test]
fn a_report_of_another_round_or_of_none_is_not_counted() {
    let mut coordinator = Coordinator::new(2);
    let report = |round| Report { round, accepted: 3, settled: 3 };
    assert_eq!(coordinator.report(0, report(0)), (Vec::new(), None), "no round runs");
    assert_eq!(coordinator.request(7), Some(1));
    assert_eq!(coordinator.request(8), None, "it waits for the next");
    assert_eq!(coordinator.report(0, report(0)), (Vec::new(), None));
    assert_eq!(coordinator.report(1, report(1)), (Vec::new(), None), "one core has not reported");
    assert_eq!(coordinator.report(0, Report { settled: 2, ..report(1) }), (Vec::new(), None));
    assert_eq!(coordinator.report(0, report(1)), (vec![7], Some(2)));
    assert_eq!(coordinator.report(0, report(1)), (Vec::new(), None));
    assert_eq!(coordinator.report(0, report(2)), (Vec::new(), None), "the other's report was of the round before");
    assert_eq!(coordinator.report(1, report(2)), (vec![8], None));
}
