//! Uploads: the thread that takes metrics to the caller's sink, if there is one.
//!
//! ```text
//!   every 200 ms ──▶ sample what is pending
//!   every interval, and once at the close ──▶ gather ──▶ snapshot ──▶ sink ──▶ taken │ kept for the next
//! ```
//!
//! The sink is foreign code: its panic is contained and taken for an error, and one that blocks holds up nothing but the
//! next upload. A snapshot that was not taken is merged with the next; so failures in a row cost no more memory than one
//! snapshot.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam_channel as channel;

use super::{Shared, lock};
use crate::limits::METRICS_SAMPLE_EVERY;
use crate::metrics::{MetricsSink, MetricsSnapshot};
use crate::runtime::signals::block_sigpipe;

/// A sink, as a builder keeps it that may be cloned: producers of one builder call it in turn.
pub(crate) type SharedSink = Arc<Mutex<dyn MetricsSink>>;

/// The thread's end that is told to make the last upload, and to say when that is done.
pub(crate) struct Uploads(channel::Sender<channel::Sender<()>>);

impl Shared {
    /// Starts the thread, if anything is measured. It ends with [`Shared::end_uploads`].
    ///
    /// # Errors
    /// It could not be started.
    pub(crate) fn start_uploads(self: &Arc<Shared>, sink: SharedSink) -> io::Result<()> {
        if !self.meter.is_on() {
            return Ok(());
        }
        self.meter.begin_uploads(self.clock.now());
        let (tell, told) = channel::unbounded();
        let shared = Arc::clone(self);
        thread::Builder::new().name("kpl-metrics".into()).spawn(move || {
            // A sink may write to a pipe whose reader has gone.
            block_sigpipe();
            run(&shared, sink, &told);
        })?;
        let _ = self.meter.uploads.set(Uploads(tell));
        Ok(())
    }

    /// Has the last upload made, and waits for that at most so long. Answers whether it was made, or there is no sink.
    pub(crate) fn end_uploads(&self, wait: Duration) -> bool {
        let Some(Uploads(tell)) = self.meter.uploads.get() else { return true };
        let (done, heard) = channel::bounded(1);
        // A thread that has ended already drops what it is told.
        let _ = tell.send(done);
        heard.recv_timeout(wait).is_ok()
    }
}

fn run(shared: &Shared, sink: SharedSink, told: &channel::Receiver<channel::Sender<()>>) {
    let interval = shared.config.metrics_interval;
    let (mut sample_at, mut upload_at) = (shared.clock.now() + METRICS_SAMPLE_EVERY, shared.clock.now() + interval);
    loop {
        let next = sample_at.min(upload_at);
        match told.recv_timeout(next.since(shared.clock.now())) {
            Err(channel::RecvTimeoutError::Timeout) => {}
            Err(channel::RecvTimeoutError::Disconnected) => return drop_contained(sink),
            Ok(done) => {
                shared.upload(|snapshot| take(&sink, snapshot));
                drop_contained(sink);
                // A close that waits no longer does not hear it.
                let _ = done.send(());
                return;
            }
        }
        if sample_at <= shared.clock.now() {
            shared.sample_pending();
            sample_at = shared.clock.now() + METRICS_SAMPLE_EVERY;
        }
        if upload_at <= shared.clock.now() {
            shared.upload(|snapshot| take(&sink, snapshot));
            upload_at = shared.clock.now() + interval;
        }
    }
}

/// Whether the sink has taken the snapshot.
fn take(sink: &SharedSink, snapshot: &MetricsSnapshot) -> bool {
    match catch_unwind(AssertUnwindSafe(|| lock(sink).upload(snapshot))) {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the metrics of this interval were not taken; they go with the next");
            false
        }
        Err(_panic) => {
            tracing::error!("the sink of metrics panicked; the metrics of this interval go with the next");
            false
        }
    }
}

fn drop_contained(sink: SharedSink) {
    if catch_unwind(AssertUnwindSafe(|| drop(sink))).is_err() {
        tracing::error!("the sink of metrics panicked when it was dropped");
    }
}
