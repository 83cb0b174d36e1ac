//! What a core is told by other threads, and what it tells.

use std::sync::Arc;

use crossbeam_channel as channel;

use super::lines::{Access, AccessDenied};
use crate::codec::Wire;
use crate::config::Config;
use crate::engine::{FlushToken, ShardMap, Unheard};
use crate::metrics::{StreamSheets, StreamTally};
use crate::outcome::Settlement;
use crate::record::{CoreId, StreamId, StreamName};
use crate::ring::Receiver;
use crate::time::Time;

/// What other threads tell a core. Whoever sends one rings the core's bell.
pub(crate) enum Command {
    /// A submitter's ring.
    Ring(Receiver<Arc<Settlement>>),
    /// A stream was opened.
    Stream {
        /// Its number.
        id: StreamId,
        /// Its name.
        name: StreamName,
        /// Its configuration.
        config: Box<Config>,
        /// What each core has to do with its records, by [`CoreId`].
        tallies: Arc<[StreamTally]>,
    },
    /// A stream's newer shard map.
    Map(StreamId, Arc<ShardMap>),
    /// A stream's shards cannot be listed now; it will be tried again.
    MapFailed(StreamId, Arc<str>),
    /// A stream's shards cannot be listed, and trying again does not help soon.
    MapRefused(StreamId, Arc<str>),
    /// There is no such stream at the moment.
    StreamMissing(StreamId),
    /// Where requests go and in whose name, or why that is not known.
    Access(Result<Arc<Access>, AccessDenied>),
    /// To core 0: flush a stream.
    Flush(StreamId, FlushToken),
    /// Another core has failed.
    CoreFailed(CoreId),
    /// How old is the oldest record? The answer comes at once.
    Oldest(channel::Sender<Option<Time>>),
    /// Hand over what was measured since the last time, as an event, and then say so. That is done at once.
    Measures(channel::Sender<()>),
    /// Settle everything and end.
    Close,
    /// End as a core ends whose invariants broke.
    #[cfg(test)]
    Panic,
}

/// What a core tells.
pub(crate) enum Event {
    /// A stream's shards are to be listed.
    MapWanted(StreamId),
    /// The service seems to place a stream's records as it likes, whatever their hash keys.
    Suspected(StreamId),
    /// The stream's records are sent without a shard map from now on.
    Unmapped(StreamId),
    /// A flush is done.
    Flushed(FlushToken),
    /// A request failed whole.
    RequestFailed(String),
    /// The core does not run on the CPU that it was told to; it runs elsewhere.
    NotPinned(String),
    /// The service refuses the credentials of this serial.
    AccessRefused(u64),
    /// The endpoint has proved to take this form of request.
    WireSettled(Wire),
    /// Records failed that nobody waits for; their credit is held.
    Unheard(Unheard),
    /// What streams have added to the metrics since this was last told.
    Measured(Vec<(StreamId, StreamSheets)>),
    /// Somebody waits for credit while completions, or failures that nobody waits for, hold it.
    MayBeStuck,
}
