//! That the engine keeps its promises for some seeds of each profile, and that the checker finds every fault that is
//! planted. Submitters put fewer records here than in a run of the simulator, as nothing is optimised.

use crate::faults::Canary;
use crate::fleet;
use crate::profile::{PROFILES, Profile};
use crate::report::Report;
use crate::trace::Trace;
use crate::world::World;

/// Records that each submitter puts at most.
const PUTS_MAX: usize = 40;

fn run(seed: u64, profile: Profile, canary: Option<Canary>, trace: Trace) -> Report {
    let mut world = World::new(seed, profile, canary, trace);
    world.submitters.iter_mut().for_each(|submitter| submitter.left = submitter.left.min(PUTS_MAX));
    world.run()
}

#[test]
fn twenty_seeds_of_each_profile_keep_every_promise() {
    for profile in PROFILES {
        for seed in 0..20 {
            let report = run(seed, profile, None, Trace::default());
            assert!(report.broken.is_empty(), "seed {seed}, {}: {:?}", profile.name(), report.broken);
        }
    }
}

#[test]
fn a_seed_of_any_profile_always_runs_alike() {
    for profile in PROFILES {
        for seed in 0..5 {
            let hash = || {
                let Report { trace, pulse, .. } = run(seed, profile, None, Trace::new(true, false));
                (trace, pulse)
            };
            assert_eq!(hash(), hash(), "seed {seed}, {}", profile.name());
        }
    }
}

#[test]
fn a_run_until_some_hours_does_not_depend_on_how_many_cpus_there_are() {
    // A thousandth of an hour: the first seed, or the first few.
    let hours = || fleet::run(3, None, Some(0.001), Some(Profile::Calm)).virtual_hours();
    assert!(hours() >= 0.001);
    assert_eq!(hours(), hours());
}

fn is_found(canary: Canary, promises: &[&str]) {
    let named = |text: &String| promises.iter().any(|promise| text.starts_with(promise));
    let finds = |seed| run(seed, Profile::Storm, Some(canary), Trace::default()).broken.iter().any(named);
    assert!((0..40).any(finds), "{canary:?} was not found");
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
