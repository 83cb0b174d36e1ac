//! Every fault that can be planted is caught by some model.
#![cfg(loom)]

use kpl::ring::Fault;

const MODELS: [&str; 6] = [
    include_str!("budget.rs"),
    include_str!("bytes.rs"),
    include_str!("completions.rs"),
    include_str!("doorbell.rs"),
    include_str!("ends.rs"),
    include_str!("slots.rs"),
];

#[test]
fn every_fault_is_caught_by_a_model() {
    let caught: Vec<&str> = MODELS
        .iter()
        .flat_map(|source| source.split(';'))
        .filter_map(|claim| claim.split_once(" catches "))
        .flat_map(|(_, faults)| faults.split(',').map(str::trim))
        .collect();
    for fault in Fault::ALL {
        assert!(caught.contains(&format!("{fault:?}").as_str()), "no model catches {fault:?}");
    }
}
