//! Many seeds at once: a thread for each CPU draws the next seed, and the reports are taken in the order of seeds.
//!
//! What comes out does not depend on how many CPUs there are: a run that is to last for some virtual hours ends with the
//! first seed at which the sum over it and all before it is enough, and what was simulated beyond is thrown away.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

use crate::profile::Profile;
use crate::report::{Report, Table};
use crate::trace::Trace;
use crate::world::World;

/// Reports that may wait to be taken.
const AHEAD: usize = 256;

/// Simulates the seeds from `first` on, to `end` or until `hours` virtual hours are simulated, whichever is first.
pub fn run(first: u64, end: Option<u64>, hours: Option<f64>, profile: Option<Profile>) -> Table {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let (next, enough) = (AtomicU64::new(first), AtomicBool::new(false));
    let mut table = Table::new(profile);
    thread::scope(|scope| {
        let (reports, taken) = sync_channel(AHEAD);
        for _ in 0..threads {
            let reports = reports.clone();
            let (next, enough) = (&next, &enough);
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if end.is_some_and(|end| seed >= end) || reports.send((seed, run_caught(seed, profile))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(reports);
        let (mut early, mut turn) = (BTreeMap::new(), first);
        'taking: while let Ok((seed, report)) = taken.recv() {
            early.insert(seed, report);
            while let Some(report) = early.remove(&turn) {
                table.add(turn, report);
                turn += 1;
                if hours.is_some_and(|hours| table.virtual_hours() >= hours) {
                    enough.store(true, Ordering::Relaxed);
                    break 'taking;
                }
            }
        }
        // Whoever waits to be taken is refused, and ends.
        drop(taken);
    });
    table
}

/// A panic of the engine is a broken promise too, and must not end the run.
fn run_caught(seed: u64, profile: Option<Profile>) -> Report {
    let profile = profile.unwrap_or_else(|| Profile::drawn(seed));
    let run = || World::new(seed, profile, None, Trace::default()).run();
    catch_unwind(run).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Report::panicked(profile, format!("panic: {}", text.unwrap_or_default()))
    })
}
