//! Faults by chance: what an endpoint inflicts on connections and requests, by a profile and a seed.
//!
//! ```text
//!   accept ──▶ connection's fate: reset, stalled, cut after n bytes ──▶ (TLS) ──▶ HTTP ──▶ request's fate ──▶ service
//!                (tcp)                                                                       (request)
//!   time since the first PutRecords ──▶ outages: nobody listens, or everything is refused
//! ```
//!
//! Requests strike by their number, so that a seed inflicts the same on the same sequence of requests; see [`chance`].
//!
//! Only PutRecords and ListShards suffer as requests; who reads meets faults of connections alone, and so does who signs
//! with the access key that is spared. For a while the service distributes records itself ([`distribution`]). Nothing
//! strikes before the first PutRecords, so that a stream can be made in peace, nor after [`Faults::heal`], so that it can
//! be read back. It costs nothing where no faults are asked for.

mod chance;
mod distribution;
mod kind;
mod profile;
mod request;
pub(crate) mod tcp;

pub use kind::FaultKind;
pub use profile::Profile;
pub(crate) use request::suffer;

use bytes::Bytes;
use chance::{Chance, Domain};
use kind::Counts;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Outages that are planned: some six seconds apart, so for more than an hour.
const OUTAGES: u64 = 1000;
/// What a connection may carry before it is cut, at most.
const CUT_BYTES_MAX: u64 = 8 << 20;

/// What faults an endpoint is to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultOptions {
    /// How often which.
    pub profile: Profile,
    /// What decides when.
    pub seed: u64,
    /// How long clients wait for an answer. Some wait in vain for a little longer, and all times are a share of it: at the
    /// library's 6 s a slow answer takes up to a second, an outage up to four.
    pub patience: Duration,
    /// The access key whose requests are spared: its owner has to know the truth. Its connections are not.
    pub spares: Option<&'static str>,
    /// Whether the service may distribute records itself for a while, where the profile has that: no order is kept then.
    pub distributes: bool,
}

/// Since when faults strike.
#[derive(Clone, Copy)]
enum Phase {
    /// Nothing was put yet.
    Waiting,
    /// Something was, then.
    Since(Instant),
    /// They strike no more.
    Healed,
}

/// A time in which nothing gets through, counted from the first PutRecords.
struct Outage {
    begins: Duration,
    ends: Duration,
    /// Nobody listens; otherwise everything is refused.
    away: bool,
}

/// The faults of one endpoint.
pub(crate) struct Faults {
    options: FaultOptions,
    outages: Vec<Outage>,
    phase: watch::Sender<Phase>,
    counts: Counts,
    connections: AtomicU64,
    puts: AtomicU64,
    lists: AtomicU64,
    /// Requests whose records were placed by chance.
    distributed: AtomicU64,
    /// Until when credentials have expired. Written and read by each PutRecords.
    refused_until: Mutex<Option<Instant>>,
    /// The latest list of shards that was told truly. Written and read by each ListShards that suffers.
    listed: Mutex<Option<Bytes>>,
    /// Requests that will be served after their clients have given up.
    late: watch::Sender<u64>,
}

/// What a connection will suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionFate {
    pub kind: FaultKind,
    /// After so many bytes of what the client sends.
    pub after: u64,
}

impl Faults {
    pub(crate) fn new(options: FaultOptions) -> Faults {
        let outages = if options.profile.has_outages() { plan_outages(&options) } else { Vec::new() };
        Faults {
            options,
            outages,
            phase: watch::Sender::new(Phase::Waiting),
            counts: Counts::default(),
            connections: AtomicU64::new(0),
            puts: AtomicU64::new(0),
            lists: AtomicU64::new(0),
            distributed: AtomicU64::new(0),
            refused_until: Mutex::new(None),
            listed: Mutex::new(None),
            late: watch::Sender::new(0),
        }
    }

    /// Ends all faults, and returns when what was to be served late has been.
    pub(crate) async fn heal(&self) {
        self.phase.send_replace(Phase::Healed);
        // The sender is here, so that waiting does not fail.
        let _ = self.late.subscribe().wait_for(|late| *late == 0).await;
    }

    /// How often each kind struck.
    pub(crate) fn by_name(&self) -> BTreeMap<String, u64> {
        self.counts.by_name()
    }

    fn count(&self, kind: FaultKind) {
        self.counts.count(kind);
    }

    fn since(&self) -> Option<Instant> {
        match *self.phase.borrow() {
            Phase::Since(since) => Some(since),
            Phase::Waiting | Phase::Healed => None,
        }
    }

    fn is_healed(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Healed)
    }

    /// Waits for so long, or until the faults are healed.
    async fn wait(&self, time: Duration) {
        let mut phase = self.phase.subscribe();
        // The sender is here, so that waiting does not fail.
        let _ = tokio::time::timeout(time, phase.wait_for(|phase| matches!(phase, Phase::Healed))).await;
    }

    /// What slow answers, and times that are a little too long, are measured by.
    fn unit(&self) -> Duration {
        self.options.patience / 6
    }

    /// A time for which clients do not wait.
    fn too_long(&self, chance: &mut Chance) -> Duration {
        self.options.patience + chance.time(self.unit() / 10, self.unit())
    }

    /// The fate of the next connection. An outage may end it besides.
    pub(crate) fn of_connection(&self) -> Option<ConnectionFate> {
        self.since()?;
        // Partner: none. The number only has to be new each time.
        let index = self.connections.fetch_add(1, Ordering::Relaxed);
        let mut chance = Chance::of(self.options.seed, Domain::Connection, index);
        let kinds = [
            FaultKind::ConnectReset,
            FaultKind::ConnectStalled,
            FaultKind::ResetInRequest,
            FaultKind::CloseInRequest,
            FaultKind::StallInRequest,
        ];
        let kind = kinds.into_iter().find(|kind| chance.strikes(self.options.profile.rate(*kind)))?;
        let after = match kind {
            FaultKind::ConnectReset | FaultKind::ConnectStalled => 0,
            _ => chance.bytes(CUT_BYTES_MAX),
        };
        Some(ConnectionFate { kind, after })
    }

    /// Returns when nobody is to listen any more.
    pub(crate) async fn leaves(&self) {
        let mut phase = self.phase.subscribe();
        // The sender is here, so that waiting does not fail, here and below.
        let _ = phase.wait_for(|phase| !matches!(phase, Phase::Waiting)).await;
        if let Some(since) = self.since() {
            let elapsed = since.elapsed();
            if let Some(outage) = self.outages.iter().find(|outage| outage.away && outage.ends > elapsed) {
                tokio::select! {
                    () = tokio::time::sleep_until(since + outage.begins) => return self.count(FaultKind::Away),
                    _ = phase.wait_for(|phase| matches!(phase, Phase::Healed)) => {}
                }
            }
        }
        std::future::pending().await
    }

    /// Returns when somebody is to listen again.
    pub(crate) async fn returns(&self) {
        let Some(since) = self.since() else { return };
        let elapsed = since.elapsed();
        if let Some(outage) = self.outages.iter().find(|outage| outage.away && outage.ends > elapsed) {
            self.wait(outage.ends - elapsed).await;
        }
    }

    /// Whether everything is refused now.
    fn refuses(&self) -> bool {
        let Some(since) = self.since() else { return false };
        let elapsed = since.elapsed();
        self.outages.iter().any(|outage| !outage.away && outage.begins <= elapsed && elapsed < outage.ends)
    }

    /// The fate of the next PutRecords, and the chance for its details. The first one begins the faults.
    fn of_put(&self) -> Option<(FaultKind, Chance)> {
        self.phase.send_if_modified(|phase| {
            let begins = matches!(phase, Phase::Waiting);
            if begins {
                *phase = Phase::Since(Instant::now());
            }
            begins
        });
        self.since()?;
        // Partner: none. The number only has to be new each time.
        let mut chance = Chance::of(self.options.seed, Domain::Put, self.puts.fetch_add(1, Ordering::Relaxed));
        if self.refuses() {
            return Some((FaultKind::Refusing, chance));
        }
        let mut refused_until = self.refused_until.lock().unwrap_or_else(PoisonError::into_inner);
        if refused_until.is_some_and(|until| until > Instant::now()) {
            return Some((FaultKind::AuthRefused, chance));
        }
        let kind = PUT_KINDS.iter().copied().find(|kind| chance.strikes(self.options.profile.rate(*kind)))?;
        if kind == FaultKind::AuthRefused {
            let for_so_long = chance.time(Duration::ZERO, self.unit());
            *refused_until = Some(Instant::now() + for_so_long);
        }
        Some((kind, chance))
    }

    /// The fate of the next ListShards.
    fn of_list(&self) -> Option<(FaultKind, Chance)> {
        self.since()?;
        // Partner: none. The number only has to be new each time.
        let mut chance = Chance::of(self.options.seed, Domain::List, self.lists.fetch_add(1, Ordering::Relaxed));
        if self.refuses() {
            return Some((FaultKind::Refusing, chance));
        }
        let kind = LIST_KINDS.iter().copied().find(|kind| chance.strikes(self.options.profile.rate(*kind)))?;
        Some((kind, chance))
    }
}

/// What a PutRecords may suffer.
const PUT_KINDS: &[FaultKind] = &[
    FaultKind::IdleClosed,
    FaultKind::ResetUnserved,
    FaultKind::CloseUnserved,
    FaultKind::ResetServed,
    FaultKind::CloseServed,
    FaultKind::AnswerTruncated,
    FaultKind::Slow,
    FaultKind::Lost,
    FaultKind::LateAnswer,
    FaultKind::ServedLate,
    FaultKind::InternalError,
    FaultKind::InternalErrorServed,
    FaultKind::Unavailable,
    FaultKind::UnavailableServed,
    FaultKind::RequestThrottled,
    FaultKind::RecordsThrottled,
    FaultKind::RecordsFailed,
    FaultKind::RecordsFailedStored,
    FaultKind::Page,
    FaultKind::Garbage,
    FaultKind::WrongCount,
    FaultKind::WrongOrder,
    FaultKind::AuthRefused,
    FaultKind::SignatureRefused,
    FaultKind::NotFound,
    FaultKind::Invalid,
    FaultKind::TooLarge,
];

/// What a ListShards may suffer.
const LIST_KINDS: &[FaultKind] = &[
    FaultKind::ListFailed,
    FaultKind::ListThrottled,
    FaultKind::ListSlow,
    FaultKind::ListReset,
    FaultKind::ListStale,
    FaultKind::ListEmpty,
    FaultKind::ListGap,
    FaultKind::ListOverlap,
];

fn plan_outages(options: &FaultOptions) -> Vec<Outage> {
    let mut at = Duration::ZERO;
    let outages = (0..OUTAGES).map(|index| {
        let mut chance = Chance::of(options.seed, Domain::Outage, index);
        let begins = at + chance.time(options.patience / 6, options.patience);
        let ends = begins + chance.time(options.patience / 20, options.patience * 2 / 3);
        at = ends;
        // In turn, so that a short run sees both.
        Outage { begins, ends, away: index.wrapping_add(options.seed).is_multiple_of(2) }
    });
    outages.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_are_apart_and_of_both_kinds() {
        let outages = plan_outages(&FaultOptions {
            profile: Profile::Outage,
            seed: 3,
            patience: Duration::from_secs(6),
            spares: None,
            distributes: true,
        });
        assert!(outages.windows(2).all(|two| two[0].ends < two[1].begins && two[0].away != two[1].away));
        assert!(outages.last().is_some_and(|last| last.ends > Duration::from_secs(3600)));
    }

    #[test]
    fn nothing_strikes_before_the_first_put_and_after_the_healing() {
        let patience = Duration::from_secs(6);
        let options = FaultOptions { profile: Profile::Storm, seed: 1, patience, spares: None, distributes: true };
        let faults = Faults::new(options);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            assert!((0..1000).all(|_| faults.of_connection().is_none() && faults.of_list().is_none()));
            let struck = (0..10_000).filter(|_| faults.of_put().is_some()).count();
            assert!(struck > 500, "{struck}");
            assert!((0..1000).any(|_| faults.of_connection().is_some()));
            faults.heal().await;
            assert!((0..1000).all(|_| faults.of_put().is_none() && faults.of_connection().is_none()));
        });
    }
}
