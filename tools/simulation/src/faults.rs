//! What goes wrong in a seed: for each kind of fault how often it strikes, and how often it did.
//!
//! A third of all seeds are calm: nothing goes wrong, so that lateness can be judged. In the others each kind is switched
//! on by itself with a rate of its own, so that combinations vary from seed to seed.

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
    /// The connection ends before the request arrives.
    ResetBefore,
    /// The connection ends after the request was applied.
    ResetAfter,
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
    /// The endpoint takes no CBOR.
    FormRefused,
    /// The stream is not there for a moment.
    NotFound,
    /// The request is called invalid, though it is not.
    Validation,
    /// Applied, but the answer has another number of results.
    WrongCount,
    /// Applied, but the answer cannot be read.
    Malformed,
    /// Applied, but the answer takes up to five seconds.
    Slow,
    /// One record is throttled.
    RecordThrottled,
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
    /// A shard is split, or two are merged.
    Reshard,
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
}

impl Faults {
    /// Draws the rates of a seed.
    pub fn draw(mut rng: Rng, calm: bool, canary: Option<Canary>) -> Faults {
        let stormy = rng.chance(2000);
        let rates = KINDS.iter().map(|kind| {
            let on = rng.chance(if stormy { 6000 } else { 3000 });
            let most = match kind {
                Kind::MapLate | Kind::ListFailed | Kind::ListStale => 5000,
                Kind::Validation | Kind::WrongCount | Kind::ListRefused | Kind::CoreStall => 200,
                Kind::Reowned => 3000,
                _ if stormy => 3000,
                _ => 800,
            };
            let rate = rng.between(10, most) as u32;
            if on && !calm { rate } else { 0 }
        });
        let rates = rates.collect();
        Faults { rng, rates, counts: vec![0; KINDS.len()], canary }
    }

    /// Whether a fault strikes now.
    pub fn strikes(&mut self, kind: Kind) -> bool {
        let strikes = self.rng.chance(self.rates[kind as usize]);
        self.counts[kind as usize] += u64::from(strikes);
        strikes
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
