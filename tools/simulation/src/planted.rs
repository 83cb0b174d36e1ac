//! That the simulator finds every mistake that can be planted in the engine, by the promise that it breaks.
//!
//! ```text
//!   plant a mistake ─▶ seeds 0 to 999 of its profile ─▶ the first broken promise is one of those named
//! ```
//!
//! Each mistake has a test of its own, so that they run side by side and what fails is named, and a profile in whose worlds
//! it shows soon. A mistake counts as found when
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
fn broken(seed: u64, profile: Profile) -> Option<String> {
    let run = || World::new(seed, profile, None, Trace::default()).run().broken;
    catch_unwind(run).unwrap_or_else(|_| vec!["a panic of the engine".to_owned()]).into_iter().next()
}

fn finds(mistake: Mistake, profile: Profile, promises: &[Promise]) {
    let _planted = Planted::new(mistake);
    let found = (0..SEEDS).find_map(|seed| Some((seed, broken(seed, profile)?)));
    let (seed, text) = found.unwrap_or_else(|| panic!("no seed of {SEEDS} finds {mistake:?}"));
    println!("{mistake:?} is found by seed {seed}: {text}");
    let named = promises.iter().any(|promise| text.starts_with(&format!("{promise:?}:")));
    assert!(named, "{mistake:?} is found by seed {seed}, but not as one of {promises:?}: {text}");
}

macro_rules! finds {
    ($($test:ident $mistake:ident $profile:ident [$($promise:ident)+],)+) => {
        const TRIED: &[Mistake] = &[$(Mistake::$mistake),+];

        mod is_found {
            use super::*;

            $(#[test]
            fn $test() {
                finds(Mistake::$mistake, Profile::$profile, &[$(Promise::$promise),+]);
            })+
        }
    };
}

finds! {
    aggregate_count_lax AggregateCountLax Calm [I8 E2],
    aggregate_size_lax AggregateSizeLax Calm [I8],
    aggregate_key_unweighed AggregateKeyUnweighed Calm [I8 I9],
    explicit_keys_mixed ExplicitKeysMixed Calm [I8],
    explicit_key_lost ExplicitKeyLost Calm [I2],
    magic_unwrapped MagicUnwrapped Calm [I3 I8],
    expiry_of_the_last ExpiryOfTheLast Storm [I10 I13],
    retry_past_ttl RetryPastTtl Storm [I10 I14],
    generation_not_kept GenerationNotKept Storm [I6],
    generation_lost GenerationLost Calm [I6],
    backlog_uncounted BacklogUncounted Calm [I15],
    backoff_tenth BackoffTenth Outage [I17],
    backoff_constant BackoffConstant Outage [I17],
    due_with_the_last DueWithTheLast Calm [I12],
    shard_unlisted ShardUnlisted Storm [I18],
    auto_aggregates AutoAggregates Storm [A1],
    suspicion_unheard SuspicionUnheard Storm [A2],
    flush_turns_early FlushTurnsEarly Calm [I6],
    flush_counts_one FlushCountsOne Calm [I6],
    flush_marks_unheard FlushMarksUnheard Calm [I12],
    flush_untold FlushUntold Calm [I6 I12],
    isolation_condemns IsolationCondemns Storm [I18 I20],
    isolation_splits_nothing IsolationSplitsNothing Storm [I18 I20],
    bucket_never_refills BucketNeverRefills Storm [I18],
    bucket_refills_double BucketRefillsDouble Calm [I9],
    over_large_waits OverLargeWaits Storm [I18],
    throttle_unheard ThrottleUnheard Storm [I9],
    mesh_reversed MeshReversed Calm [I6 I11],
    count_mismatch_taken CountMismatchTaken Storm [I1],
    close_forgets_requests CloseForgetsRequests Storm [I1],
    gate_never_closes GateNeverCloses Outage [I17],
    gate_never_opens GateNeverOpens Storm [I18],
    epoch_mark_unheard EpochMarkUnheard Reshard [I18],
    handed_over_early HandedOverEarly Reshard [I18 I23 I24],
    tail_overtakes TailOvertakes Reshard [I23 I24],
    later_overtakes LaterOvertakes Reshard [I23 I24],
    parcel_forgets_attempts ParcelForgetsAttempts Storm [I3 I4 I19],
    parcel_forgets_explicit ParcelForgetsExplicit Calm [I8 I22],
    cut_off_unambiguous CutOffUnambiguous Storm [I3 I4],
    reset_resent ResetResent Storm [I3 I4 I19],
    internal_failure_unambiguous InternalFailureUnambiguous Storm [I3 I4],
    placement_by_first PlacementByFirst Storm [I2],
    unknown_shard_right UnknownShardRight Storm [I2],
    older_map_adopted OlderMapAdopted Storm [E2 I14 I18],
    waiting_forgotten WaitingForgotten Storm [I1],
    connections_one ConnectionsOne Calm [I12 I16],
    prior_forgotten PriorForgotten Storm [I3 I4 I19],
    members_from_one MembersFromOne Calm [I2],
    byte_kept ByteKept Calm [I19],
    neighbour_kept NeighbourKept Storm [I22],
    retried_last RetriedLast Storm [I11 I23],
    prediction_below PredictionBelow Calm [I2 I11 I24 E2],
    gap_taken GapTaken Reshard [I2 I18 E2],
    closed_shards_forgotten ClosedShardsForgotten Reshard [I18],
    ordered_two_under_way OrderedTwoUnderWay Reshard [I24],
    parked_lets_pass ParkedLetsPass Reshard [I23 I24],
    same_id_trusted SameIdTrusted Reshard [I2 I24 E2],
    shard_kept ShardKept Storm [E2],
    limiter_renewed LimiterRenewed Storm [I9],
    request_count_lax RequestCountLax Calm [I8],
    request_size_lax RequestSizeLax Calm [I8],
    shard_bytes_unbounded ShardBytesUnbounded Calm [I8],
    hash_key_unsent HashKeyUnsent Calm [I8 I11 E2],
    attempt_unnoted AttemptUnnoted Storm [I19],
    failure_uncounted FailureUncounted Storm [I6],
    backlog_kept BacklogKept Calm [I15],
    misplaced_delivered MisplacedDelivered Reshard [I2],
    timer_reused TimerReused Storm [I1 I13 I18],
    timer_late TimerLate Calm [I12 I13],
    form_mistaken FormMistaken Storm [I8],
}

#[test]
fn every_mistake_is_tried() {
    assert_eq!(TRIED, Mistake::ALL);
}
