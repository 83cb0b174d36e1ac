//! That the engine keeps its promises for some seeds, and that the checker finds every fault that is planted.

use crate::faults::Canary;
use crate::report::Report;
use crate::trace::Trace;
use crate::world::World;

fn run(seed: u64, canary: Option<Canary>) -> Report {
    World::new(seed, canary, Trace::default()).run()
}

#[test]
fn fifty_seeds_keep_every_promise() {
    for seed in 0..50 {
        let report = run(seed, None);
        assert!(report.broken.is_empty(), "seed {seed}: {:?}", report.broken);
    }
}

#[test]
fn a_seed_always_runs_alike() {
    for seed in 0..10 {
        let trace = || World::new(seed, None, Trace::new(true, false)).run().trace;
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

fn is_found(canary: Canary, promises: &[&str]) {
    let found = (0..20).flat_map(|seed| run(seed, Some(canary)).broken).collect::<Vec<_>>();
    let named = |text: &String| promises.iter().any(|promise| text.starts_with(promise));
    assert!(found.iter().any(named), "{canary:?}: {found:?}");
}

#[test]
fn a_planted_fault_is_found() {
    is_found(Canary::LosesRecord, &["I2"]);
    is_found(Canary::CorruptsByte, &["I2", "I3"]);
    is_found(Canary::AppliesTwice, &["I4"]);
    is_found(Canary::AnswersWithoutStoring, &["I2"]);
    is_found(Canary::NamesAnotherShard, &["I2"]);
    is_found(Canary::DropsTicket, &["I1"]);
    is_found(Canary::KeepsCredit, &["I5", "I14"]);
}
