//! A core's thread: finds what the core runs on, runs it, and tells when it has ended.
//!
//! ```text
//!   start_core ──▶ thread ──▶ SIGPIPE blocked, pinned ──▶ runtime set up ──▶ run the core ──▶ ended
//!       ▲                                                      │
//!       └───────── which runtime, or why none ─────────────────┘
//! ```
//!
//! Whoever starts a core waits until its runtime is set up, so that a refusal is an error of the builder, and not of a
//! record much later. With [`RuntimeChoice::Auto`], tokio takes the place of a glommio that was refused.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crossbeam_channel as channel;

use super::Runtime;
use super::command::Event;
use super::core::run;
use super::seat::Seat;
use super::signals::block_sigpipe;
use super::tokio::Tokio;
use crate::config::{CoreRuntime, RuntimeChoice};
use crate::error::StartError;

/// Starts a core's thread, and waits until it has set up its runtime. `ended` is called on the thread when the core has
/// ended; it is told whether the core failed.
///
/// # Errors
/// The thread could not be started, or no runtime could be set up; `ended` is not called then.
pub(crate) fn start_core(
    seat: Seat,
    choice: RuntimeChoice,
    ended: impl FnOnce(bool) + Send + 'static,
) -> Result<CoreRuntime, StartError> {
    let (tell, told) = channel::bounded(1);
    let (id, doorbells) = (seat.id, Arc::clone(&seat.doorbells));
    let thread = thread::Builder::new().name(format!("kpl-core-{}", id.0)).spawn(move || {
        block_sigpipe();
        if let Err(complaint) = seat.place.take() {
            (seat.events)(Event::NotPinned(complaint));
        }
        let end = Berth { seat: Some(seat), tell: tell.clone() }.host(choice);
        // The core's own drop has closed the bell, unless there never was a core.
        doorbells[id.index()].close();
        match end {
            End::Ended => ended(false),
            End::Panicked => ended(true),
            // Whoever starts a core waits for this.
            End::Refused(error) => drop(tell.send(Err(error))),
        }
    });
    // The thread is not joined: that it has ended is told by `ended`.
    thread.map_err(|error| StartError::Thread { reason: error.to_string() })?;
    match told.recv() {
        Ok(runtime) => runtime.map_err(|error| StartError::Runtime { reason: error.to_string() }),
        Err(_gone) => Err(StartError::Runtime { reason: "its thread ended when it was set up".to_owned() }),
    }
}

/// How a thread's work ended.
enum End {
    /// The core was closed.
    Ended,
    /// It panicked.
    Panicked,
    /// There never was one: no runtime could be set up.
    Refused(io::Error),
}

/// Where a core waits for its runtime.
struct Berth {
    /// Empty once the core runs.
    seat: Option<Seat>,
    tell: channel::Sender<io::Result<CoreRuntime>>,
}

impl Berth {
    fn host(mut self, choice: RuntimeChoice) -> End {
        match choice {
            RuntimeChoice::Tokio => self.on(Tokio, CoreRuntime::Tokio),
            RuntimeChoice::Glommio => self.on_glommio(),
            RuntimeChoice::Auto => match self.on_glommio() {
                End::Refused(error) => {
                    tracing::info!(%error, "glommio cannot be had; the producer's cores run on tokio");
                    self.on(Tokio, CoreRuntime::Tokio)
                }
                end => end,
            },
        }
    }

    #[cfg(all(feature = "glommio", target_os = "linux"))]
    fn on_glommio(&mut self) -> End {
        self.on(super::glommio::Glommio, CoreRuntime::Glommio)
    }

    #[cfg(not(all(feature = "glommio", target_os = "linux")))]
    fn on_glommio(&mut self) -> End {
        End::Refused(io::Error::new(
            io::ErrorKind::Unsupported,
            "this build has no glommio: it needs Linux and the feature `glommio`",
        ))
    }

    /// Runs the core on `runtime`, if that can be set up.
    fn on<R: Runtime>(&mut self, runtime: R, kind: CoreRuntime) -> End {
        let Berth { seat, tell } = self;
        let hosted = catch_unwind(AssertUnwindSafe(|| {
            runtime.start(|| {
                // Whoever starts a core waits for this.
                drop(tell.send(Ok(kind)));
                let seat = seat.take().expect("a berth hosts one core");
                run(runtime, seat)
            })
        }));
        match hosted {
            Ok(Ok(())) => End::Ended,
            Ok(Err(error)) => End::Refused(error),
            Err(_panic) if self.seat.is_some() => {
                End::Refused(io::Error::other(format!("{kind} panicked when it was set up")))
            }
            Err(_panic) => End::Panicked,
        }
    }
}
