//! The public face against the embedded endpoint, whole: each test is a claim that a user relies on.
//!
//! ```text
//!   test ─▶ kpl (its own threads) ─▶ loopback ─▶ endpoint: script of faults ─▶ emulator ─▶ read back (`reader`)
//! ```
//!
//! What was delivered is read back from the emulator and taken apart by `reader`, which shares no code with the
//! library. Nothing sleeps: tests wait for events, and every wait is bounded (`world`), so that a hang is a failure.

mod abuse;
mod access;
mod answers;
mod batches;
mod close;
mod completions;
mod delivery;
mod detached;
mod distribution;
mod faults;
mod flush;
mod form;
mod handles;
mod idle;
mod input;
mod isolation;
mod looking;
mod metrics;
mod outages;
mod pool;
mod pressure;
mod proxy;
mod reader;
mod reservation;
mod reshard;
mod submitters;
mod unmapped;
mod world;
