//! The progress bar, on standard error. Where that is no terminal, a line when a phase begins.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the bar is drawn anew.
pub const TICK: Duration = Duration::from_millis(100);

/// One phase of the run. Dropping it takes the bar away.
pub struct Progress(ProgressBar);

impl Progress {
    /// Begins a phase of `total` records, or of nobody knows how many.
    pub fn begin(phase: &str, total: Option<u64>) -> Progress {
        let bar = ProgressBar::no_length();
        if let Some(total) = total {
            bar.set_length(total);
        }
        let template = match total {
            Some(_) => "{msg:8} {wide_bar} {human_pos}/{human_len}  {per_sec}  {eta}",
            None => "{msg:8} {spinner} {human_pos}  {per_sec}  {elapsed}",
        };
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(phase.to_owned());
        if bar.is_hidden() {
            eprintln!("{phase}…");
        }
        Progress(bar)
    }

    /// What the phase is at.
    pub fn says(&self, phase: &str) {
        self.0.set_message(phase.to_owned());
    }

    /// One more is done.
    pub fn one_more(&self) {
        self.0.inc(1);
    }

    /// How many records there are so far.
    pub fn at(&self, count: u64) {
        self.0.set_position(count);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_are_well_formed() {
        for total in [Some(10), None] {
            let progress = Progress::begin("test", total);
            progress.at(5);
            assert_eq!(progress.0.position(), 5);
        }
    }
}
