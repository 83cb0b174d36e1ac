//! The kinds of fault that an endpoint can inject, each with its name, and how often each struck.
//!
//! A kind is counted when it strikes, not when it is drawn: a connection that was to be reset after a megabyte and ends
//! earlier was not reset. So what a client suffered without a count is nobody's injection.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FaultKind { $($(#[$doc])* $kind,)* }

        impl FaultKind {
            /// All of them.
            pub const ALL: &[FaultKind] = &[$(FaultKind::$kind,)*];

            /// Its name, as the counters have it.
            pub fn name(self) -> &'static str {
                match self { $(FaultKind::$kind => stringify!($kind),)* }
            }
        }
    };
}

kinds! {
    /// A connection is reset as soon as it is accepted.
    ConnectReset,
    /// A connection is accepted, and nothing is ever read from it.
    ConnectStalled,
    /// A connection is reset after so many bytes of what the client sends.
    ResetInRequest,
    /// A connection is closed after so many bytes.
    CloseInRequest,
    /// A connection is read no further after so many bytes.
    StallInRequest,
    /// A connection is closed some milliseconds after an answer, while it is idle.
    IdleClosed,
    /// A whole request has arrived, is not served, and its connection is reset.
    ResetUnserved,
    /// The same, and its connection is closed in the ordinary way.
    CloseUnserved,
    /// A request is served, and its connection reset before the answer.
    ResetServed,
    /// A request is served, and its connection closed before the answer.
    CloseServed,
    /// A request is served, and its connection closed within the answer.
    AnswerTruncated,
    /// A request is served, and its answer takes up to a sixth of the client's patience.
    Slow,
    /// A request is neither served nor answered.
    Lost,
    /// A request is served, and not answered in time.
    LateAnswer,
    /// A request is served after its client has given up.
    ServedLate,
    /// 500, not served.
    InternalError,
    /// 500, but served.
    InternalErrorServed,
    /// 503 and a page, not served.
    Unavailable,
    /// 503 and a page, but served.
    UnavailableServed,
    /// The whole request is throttled.
    RequestThrottled,
    /// Some records are throttled.
    RecordsThrottled,
    /// Some records fail inside the service, and are not stored.
    RecordsFailed,
    /// Some records fail inside the service, and are stored.
    RecordsFailedStored,
    /// 200 and a page, not served: whoever answered was not the service.
    Page,
    /// Served, and the answer is garbage.
    Garbage,
    /// Served, and the answer lacks a result.
    WrongCount,
    /// Served, and the results stand in another order. Only where all are stored, as elsewhere it would be a lie.
    WrongOrder,
    /// Credentials are said to have expired, for a while.
    AuthRefused,
    /// A signature is refused that is right.
    SignatureRefused,
    /// The stream is said not to be there.
    NotFound,
    /// The request is called invalid, though it is not.
    Invalid,
    /// The request is called too large, if it holds several records.
    TooLarge,
    /// Nobody listens for a while, and all connections are reset. It counts the times, not the connections.
    Away,
    /// All requests are answered with 503 for a while.
    Refusing,
    /// A PutRecords comes while the service distributes the stream's records itself (AUTO), whatever their hash keys.
    Distributed,
    /// The shards cannot be listed: 500.
    ListFailed,
    /// Listing the shards is throttled.
    ListThrottled,
    /// The list of shards takes as long.
    ListSlow,
    /// The connection is reset instead of the list of shards.
    ListReset,
    /// The list of shards is the one before, if there was one.
    ListStale,
    /// The list of shards is empty.
    ListEmpty,
    /// The list of shards lacks one.
    ListGap,
    /// Two shards of the list have hash keys in common.
    ListOverlap,
}

/// How often each kind struck.
pub(crate) struct Counts([AtomicU64; FaultKind::ALL.len()]);

impl Default for Counts {
    fn default() -> Counts {
        Counts([const { AtomicU64::new(0) }; FaultKind::ALL.len()])
    }
}

impl Counts {
    /// A fault strikes.
    pub(crate) fn count(&self, kind: FaultKind) {
        // Partner: `by_name`. A counter alone, it orders nothing.
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Those that struck at all.
    pub(crate) fn by_name(&self) -> BTreeMap<String, u64> {
        // Partner: `count`.
        let all =
            FaultKind::ALL.iter().map(|kind| (kind.name().to_owned(), self.0[*kind as usize].load(Ordering::Relaxed)));
        all.filter(|(_, count)| *count > 0).collect()
    }
}
