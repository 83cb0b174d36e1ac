//! What goes wrong in a seed: for each kind of fault how often it strikes, and how often it did.
//!
//! How often is the profile's (`profile::Temper`): in quiet seeds nothing strikes by chance, in the others each kind is
//! switched on by itself with a rate of its own, so that combinations vary from seed to seed. Some kinds strike at planned
//! moments instead; they are only counted here. Once the faults have healed nothing strikes any more.

use crate::profile::Temper;
use crate::rng::Rng;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        /// All of them, in the order of the report.
        pub const KINDS: &[Kind] = &[$(Kind::$kind,)*];
    };
}

kinds! {
    /// A connection is refused.
    ConnectRefused,
    /// A connection does not come about within its time.
    ConnectTimeout,
    /// A kept-alive connection turns out to be closed before a byte is sent.
    StaleConnection,
    /// A fresh connection ends before a byte of the request is sent.
    ResetConnecting,
    /// The connection ends in the middle of the request, which is not applied.
    ResetInRequest,
    /// The connection ends after the request was applied, before the answer.
    ResetApplied,
    /// The connection ends within the answer.
    ResetInAnswer,
    /// The request is lost, and times out.
    TimeoutLost,
    /// The request is applied, its answer lost.
    TimeoutApplied,
    /// The request is applied after its time was out.
    TimeoutAppliedLate,
    /// 500, nothing applied.
    InternalError,
    /// 500, but applied.
    InternalErrorApplied,
    /// 503 from some proxy, as a page.
    Unavailable,
    /// The whole request is throttled.
    RequestThrottled,
    /// Credentials are refused.
    AuthRefused,
    /// Credentials have expired: what they signed is refused until there are others.
    CredentialsExpired,
    /// The machine's clock has jumped: what it dates is refused until it is corrected.
    ClockSkewed,
    /// The endpoint takes no CBOR.
    FormRefused,
    /// The stream is not there for a moment.
    NotFound,
    /// The request is called invalid, as a record in it is.
    Poisoned,
    /// The request is larger than the endpoint takes.
    TooLarge,
    /// The request is called invalid, though it is not.
    Validation,
    /// Applied, but the answer has another number of results.
    WrongCount,
    /// Applied, but the results are in another order. Only answers that tell of success alone are, as elsewhere the same
    /// is an answer that lies.
    WrongOrder,
    /// Applied, but the answer cannot be read.
    Malformed,
    /// Applied, but the answer takes up to five seconds.
    Slow,
    /// One record is throttled.
    RecordThrottled,
    /// A record is more than its shard takes in a second.
    CapacityExceeded,
    /// A record's shard takes nothing.
    ShardDead,
    /// A record is placed by chance, whatever its hash key.
    Auto,
    /// One record fails inside the service, and is not stored.
    RecordFailed,
    /// One record fails inside the service, but is stored.
    RecordFailedStored,
    /// An idle connection is closed.
    IdleClosed,
    /// A core stands still for a while.
    CoreStall,
    /// A shard map takes its time to reach a core.
    MapLate,
    /// The shards cannot be listed for the moment.
    ListFailed,
    /// The shards may not be listed.
    ListRefused,
    /// The list of shards is an older one.
    ListStale,
    /// The list of shards is empty.
    ListEmpty,
    /// Two shards of the list overlap.
    ListOverlap,
    /// The list lacks a shard.
    ListGap,
    /// A shard is split, or two are merged, or many at a time.
    Reshard,
    /// UpdateShardCount splits a shard, or merges two.
    Rescale,
    /// A stream is deleted, and is created again a while later.
    StreamDeleted,
    /// The stream is not there, since it was deleted.
    StreamGone,
    /// Closed shards are past the stream's retention, and listed no more.
    ListForgets,
    /// The owners of the shards are drawn anew.
    Reowned,
}

/// A fault that is planted in the world to see whether the checker finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// A stored Kinesis record vanishes.
    LosesRecord,
    /// A bit of a stored Kinesis record flips.
    CorruptsByte,
    /// A request is applied twice.
    AppliesTwice,
    /// Records are answered as stored, and are not.
    AnswersWithoutStoring,
    /// The answer names another shard.
    NamesAnotherShard,
    /// A ticket is dropped on its way to the core.
    DropsTicket,
    /// Credit is not returned.
    KeepsCredit,
    /// What a submitter has not spent is lost when it is dropped.
    LosesCredit,
    /// What a core says to another is lost.
    DropsMessage,
}

/// The faults of one seed.
#[derive(Clone, Debug)]
pub struct Faults {
    rng: Rng,
    /// Of 10 000 occasions, by kind.
    rates: Vec<u32>,
    /// How often each struck.
    pub counts: Vec<u64>,
    /// What is planted.
    pub canary: Option<Canary>,
    healed: bool,
}

impl Faults {
    /// Draws the rates of a seed.
    pub fn draw(mut rng: Rng, temper: &Temper, quiet: bool, canary: Option<Canary>) -> Faults {
        let (kinds_on, rate_most) = if rng.chance(5000) { temper.climate.usual } else { temper.climate.worst };
        let together = rng.chance(5000);
        let rates = KINDS.iter().map(|kind| {
            let on = rng.chance(kinds_on);
            let often = temper.often.iter().find(|(of, _)| together && of == kind);
            let most = match kind {
                _ if often.is_some() => often.map_or(rate_most, |(_, most)| *most),
                Kind::MapLate | Kind::ListFailed | Kind::ListStale | Kind::ListForgets => 5000,
                Kind::ListEmpty | Kind::ListOverlap | Kind::ListGap => 5000,
                Kind::Validation | Kind::WrongCount | Kind::ListRefused | Kind::CoreStall => 200,
                Kind::Reowned => 9000,
                _ => rate_most,
            };
            let rate = rng.between(10, most) as u32;
            if (on || often.is_some()) && !quiet { rate } else { 0 }
        });
        let rates = rates.collect();
        Faults { rng, rates, counts: vec![0; KINDS.len()], canary, healed: false }
    }

    /// Whether a fault strikes now.
    pub fn strikes(&mut self, kind: Kind) -> bool {
        let strikes = self.rng.chance(self.rates[kind as usize]) && !self.healed;
        self.counts[kind as usize] += u64::from(strikes);
        strikes
    }

    /// A fault has struck that was not left to chance.
    pub fn note(&mut self, kind: Kind) {
        self.counts[kind as usize] += 1;
    }

    /// Switches a kind off.
    pub fn forbid(&mut self, kind: Kind) {
        self.rates[kind as usize] = 0;
    }

    /// From now on nothing strikes.
    pub fn heal(&mut self) {
        self.healed = true;
    }

    /// Whether `canary` is planted, and strikes now, one time in `odds`.
    pub fn planted(&mut self, canary: Canary, odds: u64) -> bool {
        self.canary == Some(canary) && self.rng.between(1, odds) == 1
    }

    /// For details of a fault.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }
}
