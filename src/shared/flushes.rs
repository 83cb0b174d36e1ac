//! Flushes under way: who waits for which streams, and how all of them end when cores do.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::{Shared, lock};
use crate::engine::FlushToken;
use crate::error::FlushError;
use crate::record::{CoreId, StreamId};
use crate::runtime::command::Command;
use crate::waiting::Cell;

#[derive(Default)]
pub(super) struct Flushes {
    /// No core runs, so that nothing is without an outcome and nobody is left to answer.
    over: bool,
    /// A core has failed, and the others cannot bring a flush to its end without it.
    failed: bool,
    next: FlushToken,
    cells: HashMap<FlushToken, Arc<FlushCell>>,
}

impl Flushes {
    /// How every flush ends from now on, if the cores can run none.
    fn result(&self) -> Option<Result<(), FlushError>> {
        match (self.failed, self.over) {
            (true, _) => Some(Err(FlushError::CoreFailed)),
            (false, true) => Some(Ok(())),
            (false, false) => None,
        }
    }
}

/// One call of `flush`.
pub(crate) struct FlushCell {
    streams_left: Mutex<usize>,
    pub(crate) done: Cell<Result<(), FlushError>>,
}

impl FlushCell {
    /// A flush that has ended before it began.
    pub(crate) fn ended(result: Result<(), FlushError>) -> Arc<FlushCell> {
        let cell = FlushCell { streams_left: Mutex::default(), done: Cell::default() };
        cell.done.set(result);
        Arc::new(cell)
    }
}

impl Shared {
    /// Ends every flush under way, and those to come: a core has failed, or the last one has ended.
    pub(super) fn end_flushes(&self, over: bool, failed: bool) {
        let (cells, result): (Vec<_>, _) = {
            let mut flushes = lock(&self.flushes);
            flushes.over |= over;
            flushes.failed |= failed;
            let cells = flushes.cells.drain().map(|(_, cell)| cell).collect();
            (cells, flushes.result().unwrap_or(Ok(())))
        };
        cells.iter().for_each(|cell| cell.done.set(result));
    }

    /// Begins a flush of every stream.
    pub(crate) fn flush_all(&self) -> Arc<FlushCell> {
        if self.origin.is_elsewhere() {
            return FlushCell::ended(Err(FlushError::Forked));
        }
        let streams: Vec<StreamId> = lock(&self.streams).iter().map(|stream| stream.id).collect();
        self.flush(&streams)
    }

    /// Begins a flush of `streams`.
    pub(crate) fn flush(&self, streams: &[StreamId]) -> Arc<FlushCell> {
        if self.origin.is_elsewhere() {
            return FlushCell::ended(Err(FlushError::Forked));
        }
        if streams.is_empty() {
            return FlushCell::ended(Ok(()));
        }
        let mut flushes = lock(&self.flushes);
        if let Some(result) = flushes.result() {
            return FlushCell::ended(result);
        }
        let cell = Arc::new(FlushCell { streams_left: Mutex::new(streams.len()), done: Cell::default() });
        let tokens: Vec<_> = streams
            .iter()
            .map(|stream| {
                flushes.next += 1;
                let token = flushes.next;
                flushes.cells.insert(token, Arc::clone(&cell));
                (*stream, token)
            })
            .collect();
        drop(flushes);
        for (stream, token) in tokens {
            self.command(CoreId(0), Command::Flush(stream, token));
        }
        cell
    }

    /// A core tells that a stream is flushed.
    pub(super) fn flushed(&self, token: FlushToken) {
        let Some(cell) = lock(&self.flushes).cells.remove(&token) else { return };
        let mut left = lock(&cell.streams_left);
        *left -= 1;
        if *left == 0 {
            drop(left);
            cell.done.set(Ok(()));
        }
    }
}
