//! That the simulator finds every mistake that can be planted in the engine, by the promise that it breaks.
//!
//! ```text
//!   plant a mistake ─▶ seed 0, 1, 2 … each with the profile that it draws ─▶ the first broken promise is one of those named
//! ```
//!
//! Each mistake has a test of its own, so that they run side by side and what fails is named. A mistake counts as found when
//! the world sees it: a panic of the engine is none of the promises. `cargo test -p simulation planted -- --nocapture`
//! prints the seeds. What surrounds the engine has its own planted faults (`faults::Canary`), which `tests` looks for.

use std::panic::catch_unwind;

use kpl::engine::{Mistake, plant};

use crate::profile::Profile;
use crate::promise::Promise;
use crate::trace::Trace;
use crate::world::World;

/// Within so many seeds each is found.
const SEEDS: u64 = 1000;

/// Is planted for as long as it lives: one thread may run several tests.
struct Planted;

impl Planted {
    fn new(mistake: Mistake) -> Planted {
        plant(Some(mistake));
        Planted
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        plant(None);
    }
}

/// The first promise that a seed breaks; the engine's panic, if it comes to that.
fn broken(seed: u64) -> Option<String> {
    let run = || World::new(seed, Profile::drawn(seed), None, Trace::default()).run().broken;
    catch_unwind(run).unwrap_or_else(|_| vec!["a panic of the engine".to_owned()]).into_iter().next()
}

fn finds(mistake: Mistake, promises: &[Promise]) {
    let _planted = Planted::new(mistake);
    let found = (0..SEEDS).find_map(|seed| Some((seed, broken(seed)?)));
    let (seed, text) = found.unwrap_or_else(|| panic!("no seed of {SEEDS} finds {mistake:?}"));
    println!("{mistake:?} is found by seed {seed}: {text}");
    let named = promises.iter().any(|promise| text.starts_with(&format!("{promise:?}:")));
    assert!(named, "{mistake:?} is found by seed {seed}, but not as one of {promises:?}: {text}");
}

macro_rules! finds {
    ($($test:ident $mistake:ident [$($promise:ident)+],)+) => {
        const TRIED: &[Mistake] = &[$(Mistake::$mistake),+];

        mod is_found {
            use super::*;

            $(#[test]
            fn $test() {
                finds(Mistake::$mistake, &[$(Promise::$promise),+]);
            })+
        }
    };
}

finds! {
    aggregate_count_lax AggregateCountLax [I8 E2],
    aggregate_size_lax AggregateSizeLax [I8],
    aggregate_key_unweighed AggregateKeyUnweighed [I8 I9],
    explicit_keys_mixed ExplicitKeysMixed [I8],
    explicit_key_lost ExplicitKeyLost [I2],
    magic_unwrapped MagicUnwrapped [I3 I8],
    expiry_of_the_last ExpiryOfTheLast [I10 I13],
    retry_past_ttl RetryPastTtl [I10 I14],
    generation_not_kept GenerationNotKept [I6],
    generation_lost GenerationLost [I6],
    backlog_uncounted BacklogUncounted [I15],
    backoff_tenth BackoffTenth [I17],
    backoff_constant BackoffConstant [I17],
    due_with_the_last DueWithTheLast [I12],
    shard_unlisted ShardUnlisted [I18],
    flush_turns_early FlushTurnsEarly [I6],
    flush_counts_one FlushCountsOne [I6],
    flush_marks_unheard FlushMarksUnheard [I12],
    flush_untold FlushUntold [I6],
    isolation_condemns IsolationCondemns [I20],
    isolation_splits_nothing IsolationSplitsNothing [I20],
    bucket_never_refills BucketNeverRefills [I18],
    bucket_refills_double BucketRefillsDouble [I9],
    over_large_waits OverLargeWaits [I18],
    throttle_unheard ThrottleUnheard [I9],
    mesh_reversed MeshReversed [I6 I11],
    count_mismatch_taken CountMismatchTaken [I1],
    close_forgets_requests CloseForgetsRequests [I1],
    gate_never_closes GateNeverCloses [I17],
    gate_never_opens GateNeverOpens [I18],
    parcel_forgets_attempts ParcelForgetsAttempts [I3 I4 I19],
    parcel_forgets_explicit ParcelForgetsExplicit [I8 I22],
    cut_off_unambiguous CutOffUnambiguous [I3 I4],
    reset_resent ResetResent [I3 I4 I19],
    internal_failure_unambiguous InternalFailureUnambiguous [I3 I4],
    placement_by_first PlacementByFirst [I2],
    unknown_shard_right UnknownShardRight [I2],
    older_map_adopted OlderMapAdopted [E2 I14 I18],
    waiting_forgotten WaitingForgotten [I1],
    connections_one ConnectionsOne [I12 I16],
    prior_forgotten PriorForgotten [I3 I4 I19],
    members_from_one MembersFromOne [I2],
    byte_kept ByteKept [I19],
    neighbour_kept NeighbourKept [I22],
    retried_last RetriedLast [I11],
    prediction_below PredictionBelow [E2 I2],
    gap_taken GapTaken [I2],
    shard_kept ShardKept [E2],
    limiter_renewed LimiterRenewed [I9],
    request_count_lax RequestCountLax [I8],
    request_size_lax RequestSizeLax [I8],
    shard_bytes_unbounded ShardBytesUnbounded [I8],
    hash_key_unsent HashKeyUnsent [I8 E2],
    attempt_unnoted AttemptUnnoted [I19],
    failure_uncounted FailureUncounted [I6],
    backlog_kept BacklogKept [I15],
    misplaced_delivered MisplacedDelivered [I2],
    timer_reused TimerReused [I1 I13 I18],
    timer_late TimerLate [I12 I13],
    form_mistaken FormMistaken [I8],
}

#[test]
fn every_mistake_is_tried() {
    assert_eq!(TRIED, Mistake::ALL);
}
