//! The put.
pub fn run(_records: usize) {}
