//! The promises, by name: what the checker holds the engine to. How each is checked stands where it is checked.
//!
//! | | looked at |
//! |---|---|
//! | I1 to I7, I13, I18 to I22 | puts and outcomes: `checker`, `drain`, `ending` |
//! | I8 to I12, I16, I17, I20, I21, I24, A1, A2, E2 | every request as it leaves: `inspect`, `outage`, `refusal`, `order` |
//! | I2, I3, I4, I15, I23 | at last, every shard as a consumer reads it: `verdict`, `order` |
//!
//! Each counts how often it was checked. One that a long run of all profiles never had occasion to check makes the run
//! fail: a promise that nobody looks at is none.

macro_rules! promises {
    ($($name:ident $text:literal,)*) => {
        /// A promise.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Promise { $(#[doc = $text] $name,)* }

        /// All of them, in the order of the report.
        pub const PROMISES: &[Promise] = &[$(Promise::$name,)*];

        impl Promise {
            /// What is promised.
            pub fn text(self) -> &'static str {
                match self { $(Promise::$name => $text,)* }
            }
        }
    };
}

promises! {
    I1 "every accepted record has exactly one outcome",
    I2 "what is delivered is in its shard, byte for byte, visible, where its outcome says",
    I3 "nothing appears that was not accepted, or that was rejected without ambiguity",
    I4 "a record appears at most once more often than it had ambiguous attempts",
    I5 "the budget is never exceeded, and whole at the end",
    I6 "a flush is done when all that was put before has its outcome, not before, not never",
    I7 "close settles everything in time",
    I8 "requests and Kinesis records keep the service's and the configured limits",
    I9 "a shard is sent no more than its rate limit and its throttles allow, retries included",
    I10 "no record is sent after its expiration",
    I11 "per submitter and shard, first transmissions, and all within a request, are in the order of puts, until the map changes",
    I12 "in calm a record is first sent by its deadline, or at once when it is flushed",
    I13 "no outcome comes later than the expiration and a last request allow",
    I14 "a core neither spins nor sleeps for ever",
    I15 "a shard holds no more of the budget than shard_backlog_max; what it refuses was never sent",
    I16 "a shard that takes nothing makes no other shard's record late, while the budget lasts",
    I17 "an outage is met with at most 1.2 times the requests of one backoff chain a core and stream",
    I18 "once faults have healed the backlog is delivered, within what rates and backoffs allow",
    I19 "what cores count is what was put, sent and settled",
    I20 "only a poison record, and what shares its Kinesis record, fails for it; at most 20 requests more are refused",
    I21 "a request that an endpoint calls too large is halved, not given up, and not again and again",
    I22 "a failure hands back what was put, if it is to",
    I23 "in ordered mode, the first visible copies of the delivered records of one submitter and hash key are in the order of puts, across retries and reshards",
    I24 "in ordered mode a shard, and a submitter's hash key whatever its shard, has one Kinesis record under way at most",
    A1 "where the service distributes records, and a core knows it, Kinesis records are single and carry no hash key",
    A2 "who stores a record where its hash key does not belong is suspected at once to distribute records itself",
    E1 "when all is settled no core keeps a record",
    E2 "a core sends records of its own shards only, and without a map singly, when that is allowed",
}

/// How often each promise was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked([u64; PROMISES.len()]);

impl Checked {
    /// Once more.
    pub fn note(&mut self, promise: Promise) {
        self.0[promise as usize] += 1;
    }

    /// How often.
    pub fn of(&self, promise: Promise) -> u64 {
        self.0[promise as usize]
    }

    /// Adds another count.
    pub fn add(&mut self, other: &Checked) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }
}
