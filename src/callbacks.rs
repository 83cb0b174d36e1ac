//! Callbacks: the thread that tells the caller's handler of failures that nobody waits for.
//!
//! ```text
//!   settler ─▶ core ─▶ queue ─▶ kpl-callbacks ─▶ handler ─▶ credit given back
//! ```
//!
//! There is such a thread if there is a handler. It holds up nobody: a handler that panics is called again with the next
//! failure, and one that blocks keeps the records' credit, so that in the end puts are `Full`, as with completions that
//! nobody drains. So the queue is bounded by `max_outstanding_records`, and no failure is dropped.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

use crossbeam_channel as channel;

use crate::outcome::{Failure, Settlement};
use crate::ring::Budget;
use crate::shared::lock;

/// What a producer calls when records fail that nobody waits for.
pub(crate) type Handler = Arc<dyn Fn(DetachedFailure) + Send + Sync>;

/// Records of one stream that were put detached, and failed alike: as a rule those of one aggregate.
#[derive(Clone, Debug)]
pub struct DetachedFailure {
    stream: Option<Arc<str>>,
    records: u64,
    failure: Failure,
}

impl DetachedFailure {
    /// The stream's name or ARN, as it was opened; nothing if the core that knew it has ended.
    pub fn stream(&self) -> Option<&str> {
        self.stream.as_deref()
    }

    /// How many records it were.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Why, with every attempt.
    pub fn failure(&self) -> &Failure {
        &self.failure
    }
}

/// Takes failures to the handler, if there is one.
pub(crate) struct Callbacks {
    queue: Option<channel::Sender<Told>>,
    /// Failures in the queue and with the handler.
    pending: Arc<Pending>,
}

struct Told {
    failure: DetachedFailure,
    /// Records whose credit is held for it.
    held: u64,
}

#[derive(Default)]
struct Pending {
    count: Mutex<usize>,
    told: Condvar,
}

impl Callbacks {
    /// Starts the thread, if there is a handler. It ends when this is dropped and all is told.
    ///
    /// # Errors
    /// It could not be started.
    pub(crate) fn start(handler: Option<Handler>, budget: Arc<Budget>) -> io::Result<Callbacks> {
        let pending = Arc::new(Pending::default());
        let Some(handler) = handler else { return Ok(Callbacks { queue: None, pending }) };
        let (queue, inbox) = channel::unbounded();
        let (name, done) = ("kpl-callbacks".to_owned(), Arc::clone(&pending));
        thread::Builder::new().name(name).spawn(move || tell_all(&inbox, &handler, &budget, &done))?;
        Ok(Callbacks { queue: Some(queue), pending })
    }

    /// Whether there is a handler.
    pub(crate) fn has_handler(&self) -> bool {
        self.queue.is_some()
    }

    /// Tells the handler of `records` records, once it is free, and then lets `held` records go. Never blocks.
    pub(crate) fn tell(&self, stream: Option<Arc<str>>, settlement: Arc<Settlement>, records: u64, held: u64) {
        let Some(queue) = &self.queue else { return };
        *lock(&self.pending.count) += 1;
        let failure = DetachedFailure { stream, records, failure: settlement.into() };
        // The thread takes until this end is dropped.
        let _ = queue.send(Told { failure, held });
    }

    /// Waits until all was told, or until `deadline`. Answers whether it was.
    #[expect(clippy::disallowed_methods, reason = "the bound of a wait")]
    pub(crate) fn wait_until_told(&self, deadline: Instant) -> bool {
        let mut count = lock(&self.pending.count);
        while *count > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.pending.told.wait_timeout(count, left);
            count = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        true
    }
}

impl fmt::Debug for Callbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callbacks").field("has_handler", &self.has_handler()).finish_non_exhaustive()
    }
}

fn tell_all(inbox: &channel::Receiver<Told>, handler: &Handler, budget: &Budget, pending: &Pending) {
    for Told { failure, held } in inbox {
        if catch_unwind(AssertUnwindSafe(|| handler(failure))).is_err() {
            tracing::error!("the handler of failures panicked; it is called again with the next");
        }
        if held > 0 {
            budget.let_go(held);
        }
        *lock(&pending.count) -= 1;
        pending.told.notify_all();
    }
}
