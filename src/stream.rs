//! A stream of a producer: a handle that puts name it by.

use std::fmt;
use std::sync::Arc;

use crate::record::StreamId;
use crate::shared::StreamState;
use crate::waiting::Ready;

/// A stream, opened on one producer. Cheap to clone; keep one where records are put.
#[derive(Clone)]
pub struct Stream(pub(crate) Arc<StreamState>);

impl Stream {
    /// The name or ARN that it was opened by.
    pub fn name(&self) -> &str {
        self.0.name.as_str()
    }

    /// Waits for the stream's first shard map. Puts need not wait: their records do.
    pub fn ready(&self) -> Ready {
        Ready(Arc::clone(&self.0))
    }

    pub(crate) fn id(&self) -> StreamId {
        self.0.id
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.name()).finish()
    }
}
