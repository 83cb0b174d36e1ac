//! Mistakes that the simulator plants in the engine, to show that it would catch them.
//!
//! ```text
//!   test ── plant(Some(mistake)) ──▶ the world of a seed ──▶ the engine asks `planted` at the place of the mistake
//!                                                            and goes wrong there ──▶ a promise is broken, by name
//! ```
//!
//! Each stands where a programmer would make it: a bound that is off by one, a step that is left out, a wrong verdict.
//! With the feature `planted` a mistake is chosen for the thread, as each simulated world runs whole on one. Without it
//! nothing can be chosen, the answer is a constant, and the compiler drops the question: a shipped engine has nothing of
//! this. The models of the rings have the same in `ring/fault.rs`, under loom's own switch.
//!
//! A thread's variable is against the law that the engine knows no world. A field of `Core` would obey it, but would have
//! to be handed through every stage and every table of the shipped code for the sake of tests; and a stage that could
//! change its mind between two questions would not be testable. So it is here, it is set before a world begins, and
//! nothing else is.

#[cfg(feature = "planted")]
use std::cell::Cell;

macro_rules! mistakes {
    ($($(#[$doc:meta])* $mistake:ident,)+) => {
        /// A mistake.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mistake {
            $($(#[$doc])* $mistake,)+
        }

        #[cfg(feature = "planted")]
        impl Mistake {
            /// Every one.
            pub const ALL: &[Mistake] = &[$(Mistake::$mistake),+];
        }
    };
}

mistakes! {
    /// Aggregator: an aggregate takes one member more than `aggregation_max_count`.
    AggregateCountLax,
    /// Batch: an aggregate takes one byte more than `aggregation_max_size`.
    AggregateSizeLax,
    /// Batch: what an aggregate weighs leaves its partition key out.
    AggregateKeyUnweighed,
    /// Batch: plain members of an explicit aggregate have no hash key.
    ExplicitKeysMixed,
    /// Batch: a record with an explicit hash key joins a plain aggregate, and loses it.
    ExplicitKeyLost,
    /// Batch: a payload that begins with the magic is sent as it is.
    MagicUnwrapped,
    /// Batch: an aggregate expires with its last member, not its first.
    ExpiryOfTheLast,
    /// Batch: what was tried before does not expire.
    RetryPastTtl,
    /// Batch: records that are routed anew are of the first generation.
    GenerationNotKept,
    /// Arrivals: every record is of the first generation.
    GenerationLost,
    /// Backlog: a shard may hold any number of records, if they are small.
    BacklogUncounted,
    /// Chance: a backoff is a tenth of what it should be.
    BackoffTenth,
    /// Chance: a backoff does not double.
    BackoffConstant,
    /// Collector: a request is due when what was ready last is, not what was ready first.
    DueWithTheLast,
    /// Collector: a shard that found no room in a request is not listed any more.
    ShardUnlisted,
    /// Distribution: records are aggregated although the service places them as it likes.
    AutoAggregates,
    /// Distribution: a record that is stored where its hash key does not belong arouses no suspicion.
    SuspicionUnheard,
    /// Flush: a core turns to the next generation before its rings are drained.
    FlushTurnsEarly,
    /// Flush: what other cores have said is not waited for by the count.
    FlushCountsOne,
    /// Flush: the marks of other cores are not heard.
    FlushMarksUnheard,
    /// Flush: other cores are not told that a round begins.
    FlushUntold,
    /// Isolation: one refused half condemns the other.
    IsolationCondemns,
    /// Isolation: halves are tried together.
    IsolationSplitsNothing,
    /// Limiter: a bucket never refills.
    BucketNeverRefills,
    /// Limiter: a bucket refills at twice its rate.
    BucketRefillsDouble,
    /// Limiter: a record that is larger than the bucket waits for more than the bucket can hold.
    OverLargeWaits,
    /// Limiter: a throttle changes nothing.
    ThrottleUnheard,
    /// Mesh: what is said last is heard first.
    MeshReversed,
    /// Core: an answer with another number of results is taken as it comes.
    CountMismatchTaken,
    /// Sender: a close forgets requests under way.
    CloseForgetsRequests,
    /// Outage: the gate never closes.
    GateNeverCloses,
    /// Outage: the gate never opens again.
    GateNeverOpens,
    /// Order: a core does not hear that others have adopted the map.
    EpochMarkUnheard,
    /// Order: a core hands over while something of a former shard is under way.
    HandedOverEarly,
    /// Order: the queue of a former shard does not wait for what is under way of it.
    TailOvertakes,
    /// Order: what comes directly for a held shard does not wait for what is handed over.
    LaterOvertakes,
    /// Parcel: attempts do not travel with their record.
    ParcelForgetsAttempts,
    /// Parcel: that a hash key was explicit does not travel with its record.
    ParcelForgetsExplicit,
    /// Retrier: a request that was cut off counts as one that was not stored.
    CutOffUnambiguous,
    /// Retrier: a connection that ended late is taken for one that ended before the first byte.
    ResetResent,
    /// Retrier: an internal failure of the service counts as one that was not stored.
    InternalFailureUnambiguous,
    /// Retrier: the first member decides whether an aggregate is well placed.
    PlacementByFirst,
    /// Retrier: a shard that no map knows is taken for the right one.
    UnknownShardRight,
    /// Router: an older map takes the place of a newer one.
    OlderMapAdopted,
    /// Router: a map forgets the records that waited for it.
    WaitingForgotten,
    /// Sender: a core never opens a further connection.
    ConnectionsOne,
    /// Settler: attempts of an earlier batch are forgotten.
    PriorForgotten,
    /// Settler: members are counted from one.
    MembersFromOne,
    /// Settler: one byte of a batch is not given back.
    ByteKept,
    /// Settler: a failed record is handed back as its neighbour.
    NeighbourKept,
    /// Shard: what is retried queues behind younger records.
    RetriedLast,
    /// Shard map: the least hash key of a shard is predicted for the one below.
    PredictionBelow,
    /// Shard map: a list of shards that leaves hash keys out is taken.
    GapTaken,
    /// Shard map: the ranges of closed shards are not known.
    ClosedShardsForgotten,
    /// Stream: a shard of an ordered stream has several Kinesis records under way.
    OrderedTwoUnderWay,
    /// Stream: a shard of an ordered stream goes on while an aggregate of it is parked.
    ParkedLetsPass,
    /// Stream: a shard is what it was if its id is.
    SameIdTrusted,
    /// Stream: a core keeps a shard that a newer map gives to another.
    ShardKept,
    /// Stream: a shard has full buckets again under every map.
    LimiterRenewed,
    /// Stream: a request takes one Kinesis record more than `collection_max_count`.
    RequestCountLax,
    /// Stream: a request is full when it is larger than `collection_max_size`.
    RequestSizeLax,
    /// Stream: a shard may fill a request by itself.
    ShardBytesUnbounded,
    /// Stream: the hash key of a Kinesis record is not sent.
    HashKeyUnsent,
    /// Stream: a failed attempt is not noted.
    AttemptUnnoted,
    /// Stream: what fails by itself does not count for its flush.
    FailureUncounted,
    /// Stream: what leaves a shard stays in its backlog.
    BacklogKept,
    /// Stream: what a newer map shows to be misplaced is taken as delivered.
    MisplacedDelivered,
    /// Wheel: an id cancels what has its node after it.
    TimerReused,
    /// Wheel: an entry comes a whole level late.
    TimerLate,
    /// Wire: an endpoint that was asked in JSON is taken to have understood CBOR.
    FormMistaken,
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: Cell<Option<Mistake>> = const { Cell::new(None) };
}

/// Plants a mistake in all engines of this thread from now on, or none.
#[cfg(feature = "planted")]
pub fn plant(mistake: Option<Mistake>) {
    PLANTED.set(mistake);
}

/// Whether the mistake is planted.
#[cfg(feature = "planted")]
pub(crate) fn planted(mistake: Mistake) -> bool {
    PLANTED.get() == Some(mistake)
}

/// Nobody has planted any.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub(crate) const fn planted(_mistake: Mistake) -> bool {
    false
}
