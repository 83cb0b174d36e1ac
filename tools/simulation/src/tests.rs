//! That the engine keeps its promises for some seeds of each profile, and that the checker finds every fault that is
//! planted.

use crate::faults::Canary;
use crate::fleet;
use crate::profile::{PROFILES, Profile};
use crate::report::Report;
use crate::trace::Trace;
use crate::world::World;

fn run(seed: u64, profile: Profile, canary: Option<Canary>) -> Report {
    World::new(seed, profile, canary, Trace::default()).run()
}

#[test]
fn twenty_seeds_of_each_profile_keep_every_promise() {
    for profile in PROFILES {
        for seed in 0..20 {
            let report = run(seed, profile, None);
            assert!(report.broken.is_empty(), "seed {seed}, {}: {:?}", profile.name(), report.broken);
        }
    }
}

#[test]
fn a_seed_of_any_profile_always_runs_alike() {
    for profile in PROFILES {
        for seed in 0..5 {
            let run = || {
                let Report { trace, pulse, .. } = World::new(seed, profile, None, Trace::new(true, false)).run();
                (trace, pulse)
            };
            assert_eq!(run(), run(), "seed {seed}, {}", profile.name());
        }
    }
}

#[test]
fn a_run_until_some_hours_does_not_depend_on_how_many_cpus_there_are() {
    let enough = fleet::run(3, None, Some(0.05), Some(Profile::Calm));
    assert!(enough.virtual_hours() >= 0.05);
    assert_eq!(enough.virtual_hours(), fleet::run(3, None, Some(0.05), Some(Profile::Calm)).virtual_hours());
}

fn is_found(canary: Canary, promises: &[&str]) {
    let found = (0..20).flat_map(|seed| run(seed, Profile::Storm, Some(canary)).broken).collect::<Vec<_>>();
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
    is_found(Canary::LosesCredit, &["I5"]);
    is_found(Canary::DropsMessage, &["I1", "I6", "I7"]);
}
