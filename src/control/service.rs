//! The control thread's loop: finds credentials and the endpoint, keeps shard maps fresh, publishes both whole.
//!
//! ```text
//!   orders: stream opened, map wanted ─▶ ┌─────────┐ ─▶ notices: access, map, map failed, map refused
//!   results of its own tasks ──────────▶ │ service │
//!                                        └─────────┘ ─▶ tasks: find access, list and describe; each bounded by a timeout
//! ```
//!
//! Nothing on the data path waits for it: cores work with what was last published. A map is fetched when the stream is
//! opened, on evidence that it is old, and on a jittered period; requests for a map that is being fetched already are
//! one. Evidence is heeded with a backoff while it proves vain, as a service may name a shard that it never lists. What
//! fails is tried again with a backoff, also what is refused for good, as streams and policies can be made good while
//! the producer runs.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use rustls::ClientConfig;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout_at};

use super::access::{self, AccessError, Grant, Keeper};
use super::connector::Connector;
use super::credentials::CredentialSource;
use super::discovery::{DiscoveryError, Hope, ShardEntry, client, is_service_managed, list_shards};
use super::distribution::{Described, Distribution};
use crate::config::{Config, RecordDistribution, ShardMapPolicy};
use crate::engine::{ShardInfo, ShardMap};
use crate::proxy::Proxies;
use crate::record::{StreamId, StreamName};

/// First delay after a failure, or after a listing before somebody's evidence is heeded again; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// Longest delay after a failure, and the delay after a refusal.
const RETRY_LONGEST: Duration = Duration::from_secs(5);
/// How long a map waits for the stream's description, which is asked for after it. Ours: many times a round trip.
const DESCRIPTION_WAIT: Duration = Duration::from_secs(2);
/// What the control thread is told.
pub(crate) enum Order {
    /// A stream was opened.
    Stream(StreamId, StreamName, RecordDistribution),
    /// A stream's map is missing or old.
    Map(StreamId),
    /// The service seems to place a stream's records as it likes.
    Suspected(StreamId),
    /// End.
    Stop,
    /// The service refuses the credentials of this serial.
    AccessRefused(u64),
    /// From a task of its own: what was found about access.
    FoundAccess(Box<access::Answer>),
    /// From a task of its own: what a listing came to, the serial of the credentials that it was made with, and what the
    /// stream's description says, if it was asked for.
    Listed(StreamId, u64, Result<Vec<ShardEntry>, DiscoveryError>, Described),
}

/// What the control thread tells.
pub(crate) enum Notice {
    /// Where requests go, and in whose name.
    Access(Box<Result<Grant, AccessError>>),
    /// Credentials are slow in coming, or could not be renewed. Those that were published, if any, are still in use.
    AccessTrouble(Arc<str>),
    /// A stream's newer map.
    Map(StreamId, Arc<ShardMap>),
    /// A stream's shards could not be listed; they will be listed again soon.
    MapFailed(StreamId, Arc<str>),
    /// A stream's shards cannot be listed until somebody changes something.
    MapRefused(StreamId, Arc<str>),
    /// There is no such stream at the moment.
    StreamMissing(StreamId),
}

/// Starts the loop's channel.
pub(crate) fn orders() -> (UnboundedSender<Order>, UnboundedReceiver<Order>) {
    unbounded_channel()
}

/// Runs the control thread until it is told to stop.
///
/// # Errors
/// Its runtime could not be set up.
pub(crate) fn run(
    config: Arc<Config>,
    source: CredentialSource,
    tls: Option<Arc<ClientConfig>>,
    proxies: Arc<Proxies>,
    orders: (UnboundedSender<Order>, UnboundedReceiver<Order>),
    publish: Box<dyn Fn(Notice)>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (own_orders, mut orders) = orders;
    let mut service = Service {
        keeper: Keeper::new(Arc::clone(&config), Arc::clone(&proxies), source),
        config,
        tls,
        proxies,
        own_orders,
        publish,
        client: None,
        streams: BTreeMap::new(),
    };
    runtime.block_on(async {
        loop {
            service.start_due();
            let order = match service.next_due() {
                Some(due) => timeout_at(due, orders.recv()).await.ok(),
                None => Some(orders.recv().await),
            };
            match order {
                None => {}
                Some(None | Some(Order::Stop)) => return,
                Some(Some(order)) => service.obey(order),
            }
        }
    });
    Ok(())
}

struct Stream {
    name: StreamName,
    distribution: Distribution,
    map: Option<Arc<ShardMap>>,
    epoch: u64,
    /// When to list next; nothing while a listing runs.
    list_at: Option<Instant>,
    /// Somebody has evidence that the map is old.
    wanted: bool,
    /// Listings in a row that were wanted and told nothing new.
    vain: u32,
    /// When evidence is heeded again.
    heed_at: Instant,
    failures: u32,
    /// Since when the service refuses our credentials for it.
    refused_since: Option<Instant>,
}

impl Stream {
    /// Somebody has evidence that what is known of it is old.
    fn want(&mut self) {
        self.wanted = true;
        // While a listing runs, or waits out a backoff, another would tell no more.
        if self.failures == 0
            && let Some(due) = self.list_at
        {
            self.list_at = Some(due.min(self.heed_at.max(Instant::now())));
        }
    }
}

struct Service {
    config: Arc<Config>,
    /// How TLS is spoken; nothing if the endpoint is in the clear.
    tls: Option<Arc<ClientConfig>>,
    proxies: Arc<Proxies>,
    own_orders: UnboundedSender<Order>,
    publish: Box<dyn Fn(Notice)>,
    /// There once access was found.
    client: Option<Client>,
    keeper: Keeper,
    streams: BTreeMap<StreamId, Stream>,
}

impl Service {
    fn next_due(&self) -> Option<Instant> {
        let listing = self.client.is_some();
        let lists = self.streams.values().filter(|_| listing).filter_map(|stream| stream.list_at);
        lists.chain(self.keeper.next_due()).min()
    }

    fn start_due(&mut self) {
        let now = Instant::now();
        if let Some(ask) = self.keeper.begin(now) {
            let orders = self.own_orders.clone();
            tokio::spawn(async move {
                let _ = orders.send(Order::FoundAccess(Box::new(ask.await)));
            });
        }
        if let Some(error) = self.keeper.complain(now) {
            self.access_failed(error);
        }
        let serial = self.keeper.serial();
        let Some(client) = &self.client else { return };
        for (id, stream) in &mut self.streams {
            if stream.list_at.take_if(|at| *at <= now).is_none() {
                continue;
            }
            let (id, client, name, orders) = (*id, client.clone(), stream.name.clone(), self.own_orders.clone());
            let asks = stream.distribution.asks();
            tokio::spawn(async move {
                let listed = list_shards(&client, &name).await;
                // After it, on the same connection: another would cost more than it spares.
                let described = match asks && listed.is_ok() {
                    true => Some(describe(&client, &name).await),
                    false => None,
                };
                // The loop outlives its tasks, unless it was told to stop.
                let _ = orders.send(Order::Listed(id, serial, listed, described));
            });
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Stream(id, name, distribution) => {
                let now = Instant::now();
                let stream = Stream {
                    name,
                    distribution: Distribution::new(distribution),
                    map: None,
                    epoch: 0,
                    // With that policy nobody asks, not even on evidence.
                    list_at: (self.config.shard_map != ShardMapPolicy::Unknown).then_some(now),
                    wanted: false,
                    vain: 0,
                    heed_at: now,
                    failures: 0,
                    refused_since: None,
                };
                self.streams.insert(id, stream);
                if let Some(error) = self.keeper.trouble() {
                    (self.publish)(Notice::MapFailed(id, Arc::clone(&error.message)));
                }
            }
            Order::Map(id) => {
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.want();
                }
            }
            Order::Suspected(id) => {
                if let Some(stream) = self.streams.get_mut(&id)
                    && stream.distribution.suspect()
                {
                    stream.want();
                }
            }
            Order::AccessRefused(serial) => self.keeper.refused(Instant::now(), serial),
            Order::FoundAccess(answer) => self.access_answered(*answer),
            Order::Listed(id, serial, listed, described) => {
                self.described(id, described);
                self.listed(id, serial, listed);
            }
            Order::Stop => {}
        }
    }

    fn access_answered(&mut self, answer: access::Answer) {
        let (now, before) = (Instant::now(), self.keeper.serial());
        match self.keeper.answered(now, answer) {
            Ok(grant) => {
                if self.client.is_none() {
                    if let Some(proxy) = &grant.endpoint.proxy {
                        let host = &grant.endpoint.location.host;
                        tracing::info!(%proxy, %host, "the endpoint is reached through a proxy");
                    }
                    let (published, config) = (self.keeper.published(), &self.config);
                    let connector =
                        Connector::new(self.tls.as_ref(), Arc::clone(&self.proxies), config.connect_timeout);
                    self.client = Some(client(published, &grant.region, grant.variant, config, connector));
                }
                if grant.serial != before {
                    // With others the shards may be listed.
                    for stream in self.streams.values_mut().filter(|stream| stream.failures > 0) {
                        stream.list_at = stream.list_at.map(|_| now);
                    }
                }
                (self.publish)(Notice::Access(Box::new(Ok(grant))));
            }
            Err(error) => self.access_failed(error),
        }
    }

    /// Tells of credentials that don't come. Those that were found once are used until others are found.
    fn access_failed(&self, error: AccessError) {
        (self.publish)(Notice::AccessTrouble(Arc::clone(&error.message)));
        if self.client.is_none() {
            for id in self.streams.keys() {
                (self.publish)(Notice::MapFailed(*id, Arc::clone(&error.message)));
            }
            (self.publish)(Notice::Access(Box::new(Err(error))));
        }
    }

    fn described(&mut self, id: StreamId, described: Described) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let was = stream.distribution.is_managed();
        let refusal = stream.distribution.answered(described);
        let (name, is) = (stream.name.as_str(), stream.distribution.is_managed());
        if let Some(error) = refusal {
            tracing::warn!(
                stream = name,
                %error,
                "the stream cannot be described; where its records come to lie will tell whether the service decides that"
            );
        }
        match (was, is) {
            (false, true) => tracing::warn!(
                stream = name,
                "the service distributes the stream's records itself (AUTO): they are sent singly from now on"
            ),
            (true, false) => tracing::info!(stream = name, "hash keys decide again where the stream's records lie"),
            _ => {}
        }
    }

    fn listed(&mut self, id: StreamId, serial: u64, listed: Result<Vec<ShardEntry>, DiscoveryError>) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let cores = self.config.core_count() as u16; // limits::CORES_MAX
        let built = listed.and_then(|entries| {
            let (open, closed): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.open);
            let map =
                ShardMap::build(stream.epoch + 1, open.into_iter().map(info).collect(), cores, stream.map.as_deref());
            let map = map.map(|map| map.with_closed(closed.into_iter().map(|entry| (entry.id, entry.range))));
            let map = map.map(|map| map.with_service_managed(stream.distribution.is_managed()));
            map.map_err(|error| DiscoveryError { code: None, message: error.to_string(), hope: Hope::Soon })
        });
        match built {
            Ok(map) => {
                stream.failures = 0;
                stream.refused_since = None;
                let now = Instant::now();
                stream.list_at = Some(now + jittered(self.config.map_refresh));
                let changed = stream.map.as_ref().is_none_or(|current| {
                    current.shards() != map.shards() || current.is_service_managed() != map.is_service_managed()
                });
                let wanted = std::mem::take(&mut stream.wanted);
                stream.vain = if wanted && !changed { stream.vain + 1 } else { 0 };
                stream.heed_at = now + delay(stream.vain);
                if stream.distribution.is_suspected() {
                    // It came while this listing was under way, which did not ask.
                    (stream.wanted, stream.list_at) = (true, Some(stream.heed_at));
                }
                if changed || wanted {
                    stream.epoch += 1;
                    let map = Arc::new(map);
                    stream.map = Some(Arc::clone(&map));
                    (self.publish)(Notice::Map(id, map));
                }
            }
            Err(error) => {
                stream.failures += 1;
                let reason: Arc<str> = error.to_string().into();
                let now = Instant::now();
                if error.hope == Hope::WithinGrace {
                    self.keeper.refused(now, serial);
                }
                let grace_ends = match error.hope {
                    Hope::WithinGrace => Some(*stream.refused_since.get_or_insert(now) + self.config.auth_grace),
                    _ => {
                        stream.refused_since = None;
                        None
                    }
                };
                let refused = error.hope == Hope::None || grace_ends.is_some_and(|end| end <= now);
                let missing = error.is_missing();
                // One that was known may be about to be made anew.
                let in_vain = refused && !(missing && stream.map.is_some());
                let next = now + if in_vain { RETRY_LONGEST } else { delay(stream.failures) };
                // The last try is at the end of the grace time, not a backoff later.
                stream.list_at = Some(grace_ends.filter(|end| *end > now).map_or(next, |end| end.min(next)));
                let notice = if refused { Notice::MapRefused } else { Notice::MapFailed };
                if missing {
                    (self.publish)(Notice::StreamMissing(id));
                }
                (self.publish)(notice(id, reason));
            }
        }
    }
}

/// What the stream's description says, if it comes soon.
async fn describe(client: &Client, name: &StreamName) -> Result<bool, DiscoveryError> {
    let described = timeout_at(Instant::now() + DESCRIPTION_WAIT, is_service_managed(client, name)).await;
    let late = |_| {
        let message = format!("no description within {DESCRIPTION_WAIT:?}");
        Err(DiscoveryError { code: None, message, hope: Hope::Soon })
    };
    described.unwrap_or_else(late)
}

fn info(entry: ShardEntry) -> ShardInfo {
    let ShardEntry { id, range: (first, last), parent, adjacent_parent, .. } = entry;
    ShardInfo { id, first, last, parents: [parent, adjacent_parent] }
}

/// How long to wait after so many failures in a row, or listings in vain.
pub(super) fn delay(failures: u32) -> Duration {
    jittered((RETRY_FIRST * 2u32.saturating_pow(failures.saturating_sub(1).min(16))).min(RETRY_LONGEST))
}

/// 75 to 125 % of `period`, so that many producers don't ask at the same moment.
fn jittered(period: Duration) -> Duration {
    period.mul_f64(0.75 + (random() % 1024) as f64 / 2048.0)
}

/// Random bits of the standard library's hash seeds.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
