//! What a core is asked about itself, and the answers: at the end of the cycle that took the question.
//!
//! ```text
//!   asker ── Command::Oldest, Command::Measures ──▶ core ── answer ──▶ asker
//!                                                     └── measures ──▶ whoever adds them up
//! ```
//!
//! An asker that has gone away is not missed. Measures are not the asker's: they leave the core for good, so they are
//! told as news, which nobody can miss, and the asker hears that they were.

use crossbeam_channel as channel;

use super::command::Event;
use crate::engine::Core;
use crate::time::Time;

/// Who waits for an answer.
#[derive(Default)]
pub(crate) struct Asked {
    /// Who asked for the oldest record's arrival.
    pub(crate) oldest: Vec<channel::Sender<Option<Time>>>,
    /// Who asked that the measures be handed over.
    pub(crate) measures: Vec<channel::Sender<()>>,
}

impl Asked {
    /// Answers everybody.
    pub(crate) fn answer(&mut self, engine: &mut Core, tell: &dyn Fn(Event)) {
        if !self.oldest.is_empty() {
            let oldest = engine.oldest();
            for asker in self.oldest.drain(..) {
                let _ = asker.try_send(oldest);
            }
        }
        if !self.measures.is_empty() {
            tell(Event::Measured(engine.take_measures()));
            for asker in self.measures.drain(..) {
                let _ = asker.try_send(());
            }
        }
    }
}
