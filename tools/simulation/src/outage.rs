//! Outages: the endpoint is away, or refuses everything; and how many requests a fair producer sends meanwhile (I17).
//!
//! ```text
//!   request fails ─▶ backoff ─▶ request fails ─▶ longer backoff ─▶ …      one such chain for each core and stream
//! ```
//!
//! The oracle walks that chain itself: a request takes as long as the outage lets it take, then comes a backoff, uniform
//! between 0 and `retry_base_delay` doubled with every failure, at most `retry_delay_cap`. It is walked while the core has
//! a record of the stream, and averaged over some walks. On top of it each connection may send two requests: one that was
//! due when it began, and one more, before the chain is there.
//!
//! A single outage is a matter of luck, so each is held to a loose bound; the sums of many are held to 1.2.

use std::collections::BTreeMap;
use std::time::Duration;

use kpl::config::Config;
use kpl::time::Time;

use crate::faults::Kind;
use crate::rng::Rng;

/// How requests end in an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutageKind {
    /// Connections are refused; those that are open are reset.
    Refused,
    /// Nothing answers.
    Silent,
    /// Either.
    Mixed,
    /// 503 from a load balancer.
    Unavailable,
    /// 500 from the service.
    Failing,
    /// Everything is throttled.
    Throttled,
}

impl OutageKind {
    /// All of them.
    pub const ALL: &[OutageKind] = &[
        OutageKind::Refused,
        OutageKind::Silent,
        OutageKind::Mixed,
        OutageKind::Unavailable,
        OutageKind::Failing,
        OutageKind::Throttled,
    ];

    /// What befalls a request, on a connection that is open already or is not.
    pub fn fault(self, fresh: bool, rng: &mut Rng) -> Kind {
        match self {
            OutageKind::Refused if fresh => Kind::ConnectRefused,
            OutageKind::Silent if fresh => Kind::ConnectTimeout,
            OutageKind::Mixed if fresh => rng.pick(&[Kind::ConnectRefused, Kind::ConnectTimeout]),
            OutageKind::Silent => Kind::TimeoutLost,
            OutageKind::Refused | OutageKind::Mixed => Kind::ResetInRequest,
            OutageKind::Unavailable => Kind::Unavailable,
            OutageKind::Failing => Kind::InternalError,
            OutageKind::Throttled => Kind::RequestThrottled,
        }
    }

    /// How long a request of the chain takes: those whose connection failed begin on a fresh one.
    fn takes(self, config: &Config, (low_us, high_us): (u64, u64), rng: &mut Rng) -> Duration {
        match self {
            OutageKind::Refused => rng.micros(low_us / 2, high_us / 2),
            OutageKind::Silent => config.connect_timeout,
            OutageKind::Mixed if rng.chance(5000) => rng.micros(low_us / 2, high_us / 2),
            OutageKind::Mixed => config.connect_timeout,
            OutageKind::Unavailable | OutageKind::Failing | OutageKind::Throttled => rng.micros(low_us, high_us),
        }
    }
}

/// An outage.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// When it begins.
    pub begin: Time,
    /// When it is over.
    pub end: Time,
    /// How requests end in it.
    pub kind: OutageKind,
}

impl Outage {
    /// Whether it is there at `now`.
    pub fn covers(&self, now: Time) -> bool {
        self.begin <= now && now < self.end
    }
}

/// Requests that were sent in outages, and that a fair producer would have sent, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Outages.
    pub outages: u64,
    /// Sent.
    pub sent: u64,
    /// The fair number, in thousandths.
    pub fair_milli: u64,
}

/// Records of one stream on one core: how many there are, and from when to when there were any.
#[derive(Default)]
struct Presence {
    records: usize,
    windows: Vec<(Time, Time)>,
}

/// Watches who has something to send.
#[derive(Default)]
pub struct Watch {
    /// By core and stream.
    presence: BTreeMap<(usize, usize), Presence>,
    /// Requests sent in the outage.
    pub sent: u64,
}

/// Walks of a chain that are averaged.
const WALKS: u64 = 64;
/// Requests that each connection may send before there is a chain.
const BEFORE_CHAIN: u64 = 2;

impl Watch {
    /// A core is to have a record of a stream.
    pub fn came(&mut self, now: Time, core: usize, stream: usize) {
        let presence = self.presence.entry((core, stream)).or_default();
        presence.records += 1;
        if presence.records == 1 {
            presence.windows.push((now, Time::NEVER));
        }
    }

    /// A record of a stream that a core had is settled.
    pub fn went(&mut self, now: Time, core: usize, stream: usize) {
        let Some(presence) = self.presence.get_mut(&(core, stream)) else { return };
        presence.records -= 1;
        if presence.records == 0
            && let Some(window) = presence.windows.last_mut()
        {
            window.1 = now;
        }
    }

    /// The fair number of requests of the outage, in thousandths.
    pub fn fair_milli(&self, outage: &Outage, config: &Config, round_trip_us: (u64, u64), rng: &mut Rng) -> u64 {
        let mut cores: BTreeMap<usize, u64> = BTreeMap::new();
        let mut sum = 0;
        for ((core, _), presence) in &self.presence {
            let clipped = presence.windows.iter().map(|(from, to)| ((*from).max(outage.begin), (*to).min(outage.end)));
            let windows: Vec<_> = clipped.filter(|(from, to)| from < to).collect();
            if windows.is_empty() {
                continue;
            }
            cores.insert(*core, BEFORE_CHAIN * config.max_connections_per_core as u64);
            sum += (0..WALKS).map(|_| walk(&windows, outage.kind, config, round_trip_us, rng)).sum::<u64>();
        }
        sum * 1000 / WALKS + cores.values().sum::<u64>() * 1000
    }
}

/// Requests of one chain that has something to send in these windows.
fn walk(windows: &[(Time, Time)], kind: OutageKind, config: &Config, round_trip_us: (u64, u64), rng: &mut Rng) -> u64 {
    let (mut at, mut requests) = (Time::ZERO, 0_u32);
    for (from, to) in windows {
        at = at.max(*from);
        while at < *to {
            let doubled = config.retry_base_delay.saturating_mul(1 << requests.min(20));
            let longest = doubled.min(config.retry_delay_cap);
            requests += 1;
            at = at + kind.takes(config, round_trip_us, rng) + rng.micros(0, longest.as_micros() as u64);
        }
    }
    u64::from(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fair_number_is_that_of_one_chain_where_there_is_something_to_send() {
        let config = Config { retry_base_delay: Duration::from_secs(1), ..Config::default() };
        let config = Config { retry_delay_cap: Duration::from_secs(1), max_connections_per_core: 1, ..config };
        let second = |second| Time::ZERO + Duration::from_secs(second);
        let outage = Outage { begin: second(100), end: second(200), kind: OutageKind::Unavailable };
        let fair = |watch: &Watch| watch.fair_milli(&outage, &config, (100_000, 100_000), &mut Rng::new(1));
        let mut watch = Watch::default();
        assert_eq!(fair(&watch), 0, "nobody has anything to send");
        watch.came(second(0), 0, 0);
        watch.came(second(1), 0, 0);
        watch.went(second(2), 0, 0);
        // 100 s at 0.6 s each, and two before there is a chain.
        assert!((160_000..180_000).contains(&fair(&watch)), "{}", fair(&watch));
        watch.went(second(150), 0, 0);
        assert!((75_000..95_000).contains(&fair(&watch)), "{}", fair(&watch));
        watch.came(second(110), 1, 0);
        watch.went(second(112), 1, 0);
        assert!((80_000..110_000).contains(&fair(&watch)), "{}", fair(&watch));
    }
}
