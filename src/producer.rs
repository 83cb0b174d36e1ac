//! Producer: starts the threads, hands out streams and submitters, and closes.
//!
//! ```text
//!   build ─▶ control thread, core threads ─▶ streams, submitters, puts ─▶ flush ─▶ close ─▶ threads end
//! ```
//!
//! What any thread may put through without a submitter of its own is the `pool`. Dropping the last `Producer` closes it in the background; [`Producer::close_on_drop`] makes a guard that waits.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use aws_credential_types::provider::SharedCredentialsProvider;
use crossbeam_channel as channel;
use rustls::ClientConfig;

use crate::callbacks::{Callbacks, Handler};
use crate::config::{Config, CoreRuntime, RuntimeChoice, ShardMapPolicy, StreamOptions};
use crate::control::credentials::CredentialSource;
use crate::control::service;
use crate::error::{ConfigError, ConfigFault, FlushError, PutError, StartError, StreamError, SubmitterError};
use crate::fork::Origin;
use crate::limits::{CORES_END_WAIT, MESH_RING_MESSAGES, POOL_SUBMITTERS, STREAMS_MAX};
use crate::metrics::{Counters, MetricsSnapshot};
use crate::outcome::{Counts, Health};
use crate::proxy::Proxies;
use crate::record::{CoreId, Record, StreamId, StreamName};
use crate::reply::{ByOutcome, Detached};
use crate::ring::{self, Budget};
use crate::runtime::affinity::{Machine, Plan};
use crate::runtime::command::Command;
use crate::runtime::mesh::MeshRings;
use crate::runtime::seat::Seat;
use crate::runtime::signals::block_sigpipe;
use crate::runtime::thread::start_core;
use crate::shared::{End, Ends, FlushCell, Shared, SharedSink, StreamState, lock};
use crate::stream::Stream;
use crate::submitter::{Submitter, Use};
use crate::trust;
use crate::waiting::{Cell, Close, Flush, Outcome, block_on, block_on_for};

mod pool;

use pool::Pool;

/// A provider of credentials that was given, and what messages call it.
pub(crate) type GivenProvider = (SharedCredentialsProvider, &'static str);

/// A producer. Cheap to clone; the last clone's drop closes it in the background.
#[derive(Clone)]
pub struct Producer(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    /// What the cores run on.
    runtime: CoreRuntime,
    /// The submitters behind [`Producer::put`].
    pool: Pool,
}

impl Producer {
    /// A builder with every default.
    pub fn builder() -> crate::builder::ProducerBuilder {
        crate::builder::ProducerBuilder::default()
    }

    /// Starts a producer: its cores, which are waited for until they have set up what they run on, and its control
    /// thread. Nothing is connected to yet.
    ///
    /// # Errors
    /// Every fault of the configuration at once, a thread that could not be started, or a runtime that was refused.
    pub fn start(config: Config) -> Result<Producer, StartError> {
        Producer::start_with(config, None, None, None)
    }

    /// The same, with a provider of credentials, and how messages call it, a handler of failures, and a sink of metrics.
    pub(crate) fn start_with(
        config: Config,
        provider: Option<GivenProvider>,
        handler: Option<Handler>,
        sink: Option<SharedSink>,
    ) -> Result<Producer, StartError> {
        let Checked { tls, proxies, plan } = check(&config, provider.is_some()).map_err(StartError::Config)?;
        let source = match (provider, &config.credentials) {
            (Some((provider, name)), _) => CredentialSource::given(provider, name),
            (None, Some(given)) => CredentialSource::fixed(given),
            (None, None) => CredentialSource::default_chain(),
        };
        plan.log();
        let origin = Origin::here().map_err(|error| StartError::Thread { reason: error.to_string() })?;
        let cores = config.core_count();
        let (commands, inboxes): (Vec<_>, Vec<_>) = (0..cores).map(|_| channel::unbounded()).unzip();
        let (orders, order_inbox) = service::orders();
        let seed = config.seed.unwrap_or_else(service::random);
        let budget = Budget::new(config.max_outstanding_records, config.max_outstanding_bytes, config.max_submitters);
        let callbacks = Callbacks::start(handler, Arc::clone(&budget))
            .map_err(|error| StartError::Thread { reason: error.to_string() })?;
        let ends = Ends { commands, orders: orders.clone(), budget, callbacks };
        let shared = Arc::new(Shared::new(config, tls, ends, origin));
        let mesh = Arc::new(MeshRings::new(cores, MESH_RING_MESSAGES));
        let mut runtimes = Vec::with_capacity(cores);
        for (number, inbox) in inboxes.into_iter().enumerate() {
            let id = CoreId(number as u16); // limits::CORES_MAX
            let (events, ends) = (Arc::clone(&shared), Arc::clone(&shared));
            let seat = Seat {
                id,
                place: plan.place(id),
                config: Arc::clone(&shared.config),
                seed,
                clock: shared.clock,
                commands: inbox,
                doorbells: Arc::clone(&shared.doorbells),
                mesh: Arc::clone(&mesh),
                budget: Arc::clone(&shared.budget),
                counters: Arc::clone(&shared.core_counters[number]),
                has_handler: shared.callbacks.has_handler(),
                events: Box::new(move |event| events.on_event(event)),
            };
            // What the first core found to run on is good for all.
            let choice = runtimes.first().copied().map_or(shared.config.runtime, RuntimeChoice::from);
            let started = start_core(seat, choice, move |failed| ends.on_core_ended(id, failed));
            runtimes.push(started.map_err(|error| abort(&shared, error))?);
        }
        let runtime = runtimes[0]; // there is a core at least
        tracing::info!(%runtime, cores, "the producer's cores run");
        let (config, tls, notices) = (Arc::clone(&shared.config), shared.tls.clone(), Arc::clone(&shared));
        thread::Builder::new()
            .name("kpl-control".into())
            .spawn(move || {
                block_sigpipe();
                let publish = Box::new(move |notice| notices.on_notice(notice));
                if let Err(error) = service::run(config, source, tls, proxies, (orders, order_inbox), publish) {
                    tracing::error!(%error, "the control thread could not start; shards will not be found");
                }
            })
            .map_err(|error| abort(&shared, StartError::Thread { reason: error.to_string() }))?;
        if let Some(sink) = sink {
            shared.start_uploads(sink).map_err(|error| {
                shared.order(service::Order::Stop);
                abort(&shared, StartError::Thread { reason: error.to_string() })
            })?;
        }
        Ok(Producer(Arc::new(Inner { shared, runtime, pool: Pool::default() })))
    }

    /// Opens a stream, by name or ARN, with the producer's configuration. It returns at once; see [`Stream::ready`].
    ///
    /// # Errors
    /// The name is not one, there are too many streams, or the producer is closed.
    pub fn stream(&self, name_or_arn: &str) -> Result<Stream, StreamError> {
        self.stream_with(name_or_arn, &StreamOptions::default())
    }

    /// Opens a stream with settings of its own. A stream that is open already is answered as it is.
    ///
    /// # Errors
    /// As [`Producer::stream`], and every fault of the settings.
    pub fn stream_with(&self, name_or_arn: &str, options: &StreamOptions) -> Result<Stream, StreamError> {
        let shared = &self.0.shared;
        if shared.origin.is_elsewhere() {
            return Err(StreamError::Forked);
        }
        let name = StreamName::parse(name_or_arn)?;
        let config = shared.config.for_stream(options);
        config.validate().map_err(StreamError::Config)?;
        let mut streams = lock(&shared.streams);
        // Under the lock, so that a close finds the stream, or we find the close.
        if shared.end.get().is_some() {
            return Err(StreamError::Closed);
        }
        if let Some(open) = streams.iter().find(|stream| stream.name == name) {
            return Ok(Stream(Arc::clone(open)));
        }
        if streams.len() >= STREAMS_MAX {
            return Err(StreamError::TooMany { max: STREAMS_MAX });
        }
        let id = StreamId(streams.len() as u32);
        let state = Arc::new(StreamState::new(shared, id, name.clone(), &config));
        if config.shard_map == ShardMapPolicy::Unknown {
            state.readiness.set(Ok(()));
        }
        streams.push(Arc::clone(&state));
        // Under the lock, so that cores learn of streams in the order of their numbers, and before anybody can put.
        shared.command_all(|| {
            let tallies = Arc::clone(&state.tallies);
            Command::Stream { id, name: name.clone(), config: Box::new(config.clone()), tallies }
        });
        drop(streams);
        shared.order(service::Order::Stream(id, name, config.record_distribution));
        Ok(Stream(state))
    }

    /// A submitter of its own for a hot thread or task.
    ///
    /// # Errors
    /// `max_submitters` are there, or the producer is closed.
    pub fn submitter(&self) -> Result<Submitter, SubmitterError> {
        new_submitter(&self.0.shared, Use::Own)
    }

    /// Puts a record from any thread, through a small pool of submitters; waits while the producer is full. It promises
    /// no order between calls.
    ///
    /// # Errors
    /// As [`Submitter::put`].
    pub fn put<'r>(&self, stream: &Stream, record: Record<'r>) -> Result<Outcome, PutError<Record<'r>>> {
        block_on(self.0.pool.put_when_possible(&self.0.shared, stream, record, ByOutcome))
    }

    /// Puts a record from any thread without waiting.
    ///
    /// # Errors
    /// As [`Submitter::try_put`].
    pub fn try_put<'r>(&self, stream: &Stream, record: Record<'r>) -> Result<Outcome, PutError<Record<'r>>> {
        self.0.pool.try_put(&self.0.shared, stream, record, ByOutcome)
    }

    /// Puts a record from any task.
    ///
    /// # Errors
    /// As [`Submitter::put`].
    pub async fn put_async<'r>(&self, stream: &Stream, record: Record<'r>) -> Result<Outcome, PutError<Record<'r>>> {
        self.0.pool.put_when_possible(&self.0.shared, stream, record, ByOutcome).await
    }

    /// Puts a record from any thread, whose end is told to nobody, unless it fails and the producer was built with
    /// [`on_failure`](crate::ProducerBuilder::on_failure); waits while the producer is full.
    ///
    /// # Errors
    /// As [`Submitter::put`].
    pub fn put_detached<'r>(&self, stream: &Stream, record: Record<'r>) -> Result<(), PutError<Record<'r>>> {
        block_on(self.0.pool.put_when_possible(&self.0.shared, stream, record, Detached))
    }

    /// The same without waiting.
    ///
    /// # Errors
    /// As [`Submitter::try_put`].
    pub fn try_put_detached<'r>(&self, stream: &Stream, record: Record<'r>) -> Result<(), PutError<Record<'r>>> {
        self.0.pool.try_put(&self.0.shared, stream, record, Detached)
    }

    /// The same for a task.
    ///
    /// # Errors
    /// As [`Submitter::put`].
    pub async fn put_detached_async<'r>(
        &self,
        stream: &Stream,
        record: Record<'r>,
    ) -> Result<(), PutError<Record<'r>>> {
        self.0.pool.put_when_possible(&self.0.shared, stream, record, Detached).await
    }

    /// Seals and sends everything that was put before, and tells when all of it has an outcome. It skips linger, never
    /// limits or backoff. The flush begins now, whether or not the answer is waited for.
    pub fn flush(&self) -> Flush {
        Flush(self.0.shared.flush_all())
    }

    /// The same for one stream.
    pub fn flush_stream(&self, stream: &Stream) -> Flush {
        let shared = &self.0.shared;
        if stream.0.belongs_to(shared) {
            return Flush(shared.flush(&[stream.id()]));
        }
        Flush(FlushCell::ended(Err(FlushError::ForeignStream)))
    }

    /// Takes no more records, flushes, and at the timeout settles what is left as `Closed`. The close begins now,
    /// whether or not the answer is waited for; the answer comes within the timeout and some 50 ms. A later call joins
    /// the close that runs, with that one's timeout.
    pub fn close(&self, timeout: Duration) -> Close {
        Close(begin_close(&self.0.shared, timeout))
    }

    /// A guard that closes the producer when it is dropped, and waits for that. For `main`.
    pub fn close_on_drop(&self, timeout: Duration) -> CloseOnDrop {
        CloseOnDrop { producer: self.clone(), timeout }
    }

    /// Records that were accepted and have no outcome.
    pub fn outstanding(&self) -> u64 {
        self.0.shared.counts().outstanding()
    }

    /// Age of the oldest record without an outcome, of those that a core has taken from its rings. Asks the cores, and
    /// so takes up to a turn.
    pub fn oldest_outstanding(&self) -> Option<Duration> {
        self.0.shared.oldest_outstanding()
    }

    /// How the producer does.
    pub fn health(&self) -> Health {
        let shared = &self.0.shared;
        Health {
            counts: shared.counts(),
            outstanding_bytes: shared.budget.used().1,
            oldest_outstanding: self.oldest_outstanding(),
            cores_alive: shared.cores_alive(),
            cores: shared.commands.len(),
            runtime: self.0.runtime,
            last_error: shared.last_error(),
            wire: shared.wire(),
        }
    }

    /// What was counted since the producer was built.
    pub fn counters(&self) -> Counters {
        self.0.shared.counters()
    }

    /// The KPL's metrics, since the producer was built. Asks the cores, and so takes up to a turn. Empty with
    /// [`MetricsLevel::None`](crate::MetricsLevel::None).
    pub fn metrics(&self) -> MetricsSnapshot {
        self.0.shared.metrics()
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.0.shared.config
    }

    #[cfg(test)]
    pub(crate) fn kill_core(&self, core: CoreId) {
        self.0.shared.command(core, Command::Panic);
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("counts", &self.0.shared.counts()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let shared = &self.shared;
        if shared.origin.is_elsewhere() || lock(&shared.closing).is_some() {
            return;
        }
        let outstanding = shared.counts().outstanding();
        if outstanding > 0 {
            let ttl = shared.config.record_ttl;
            tracing::warn!(outstanding, ?ttl, "the last Producer was dropped; it closes in the background");
        }
        begin_close(shared, shared.config.record_ttl);
    }
}

/// Closes the producer when it is dropped, and waits for that.
#[must_use = "it closes the producer when it is dropped"]
#[derive(Debug)]
pub struct CloseOnDrop {
    producer: Producer,
    timeout: Duration,
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        let counts = self.producer.close(self.timeout).wait();
        if counts.failed > 0 {
            tracing::warn!(?counts, "records had failed when the producer was closed");
        }
    }
}

/// What a configuration comes to on this machine.
struct Checked {
    /// How TLS is spoken; nothing if the endpoint is in the clear.
    tls: Option<Arc<ClientConfig>>,
    proxies: Arc<Proxies>,
    plan: Plan,
}

/// Checks the configuration, by itself and against the machine. All faults are told at once.
fn check(config: &Config, has_provider: bool) -> Result<Checked, ConfigError> {
    let mut faults = config.validate().err().map(|error| error.faults).unwrap_or_default();
    if has_provider && config.credentials.is_some() {
        let (field, value) = ("credentials, credentials_provider", "both given".to_owned());
        faults.push(ConfigFault { field, value, bound: "one or the other".to_owned() });
    }
    let tls = trust::client_config(config);
    let proxies = Proxies::new(config);
    // The lot is not the jitter's seed: that may be given, and then alike in many containers.
    let plan = Plan::new(config, Machine::read(), service::random());
    match (tls, proxies, plan) {
        (Ok(tls), Ok(proxies), Ok(plan)) if faults.is_empty() => {
            return Ok(Checked { tls, proxies: Arc::new(proxies), plan });
        }
        (tls, proxies, plan) => {
            // Of roots that are missing altogether, and of CPUs named twice, the first check has told.
            let told = |fault: &ConfigFault| faults.iter().any(|other| other.field == fault.field);
            let more = [tls.err(), proxies.err(), plan.err()].into_iter().flatten();
            let more: Vec<_> = more.filter(|fault| !told(fault)).collect();
            faults.extend(more);
        }
    }
    Err(ConfigError { faults })
}

/// A submitter. `max_submitters` bounds callers' own and the pool's together; the pool's places are kept free, so that
/// `Producer::put` never lacks one.
fn new_submitter(shared: &Arc<Shared>, of: Use) -> Result<Submitter, SubmitterError> {
    if shared.origin.is_elsewhere() {
        return Err(SubmitterError::Forked);
    }
    if shared.end.get().is_some() {
        return Err(SubmitterError::Closed);
    }
    let mut submitters = lock(&shared.submitters);
    if of == Use::Own {
        let max = shared.config.max_submitters;
        if submitters.own >= max - POOL_SUBMITTERS {
            return Err(SubmitterError::TooMany { max });
        }
        submitters.own += 1;
    }
    let home = CoreId((submitters.ever % shared.commands.len()) as u16);
    submitters.ever += 1;
    drop(submitters);
    let (sender, receiver) = ring::ring(shared.config.ring_bytes);
    shared.command(home, Command::Ring(receiver));
    Ok(Submitter::new(Arc::clone(shared), of, home, sender))
}

/// A thread could not be started: lets those end that were.
fn abort(shared: &Arc<Shared>, error: StartError) -> StartError {
    shared.command_all(|| Command::Close);
    error
}

/// Begins the close, unless it was begun before.
fn begin_close(shared: &Arc<Shared>, timeout: Duration) -> Arc<Cell<Counts>> {
    if shared.origin.is_elsewhere() {
        // Nothing here is ours to close.
        return Arc::new(Cell::holding(Counts::default()));
    }
    let mut closing = lock(&shared.closing);
    if let Some(cell) = &*closing {
        return Arc::clone(cell);
    }
    let cell = Arc::new(Cell::default());
    *closing = Some(Arc::clone(&cell));
    drop(closing);
    shared.stop_accepting(End::Closed);
    let (closer, done) = (Arc::clone(shared), Arc::clone(&cell));
    let spawned = thread::Builder::new().name("kpl-close".into()).spawn(move || done.set(run_close(&closer, timeout)));
    if let Err(error) = spawned {
        // Without a thread there is no time to flush in: everything is settled at once.
        tracing::error!(%error, "no thread to close on; what is outstanding fails as closed");
        shared.command_all(|| Command::Close);
        shared.order(service::Order::Stop);
        shared.end_uploads(Duration::ZERO);
        cell.set(shared.counts());
    }
    cell
}

#[expect(clippy::disallowed_methods, reason = "the bound of a wait")]
fn run_close(shared: &Shared, timeout: Duration) -> Counts {
    let deadline = Instant::now().checked_add(timeout);
    let flushed = block_on_for(Flush(shared.flush_all()), timeout);
    if flushed == Some(Err(FlushError::CoreFailed)) {
        // The other cores go on delivering what they have.
        let far = Instant::now() + shared.config.record_ttl;
        shared.wait_for_outcomes(deadline.map_or(far, |deadline| deadline.min(far)));
    }
    if flushed != Some(Ok(())) {
        tracing::warn!(outstanding = shared.counts().outstanding(), ?timeout, "closing before all is delivered");
    }
    shared.command_all(|| Command::Close);
    if !shared.wait_for_cores(Instant::now() + CORES_END_WAIT) {
        tracing::error!(cores = shared.cores_alive(), "cores have not ended");
    }
    shared.order(service::Order::Stop);
    shared.tell_abandoned();
    let told_by = deadline.unwrap_or_else(|| Instant::now() + shared.config.record_ttl);
    if !shared.callbacks.wait_until_told(told_by.max(Instant::now() + CALLBACKS_WAIT)) {
        tracing::error!("the handler of failures has not returned; it is not waited for any longer");
    }
    let left = told_by.saturating_duration_since(Instant::now()).max(CALLBACKS_WAIT);
    if !shared.end_uploads(left) {
        tracing::error!("the sink of metrics has not returned; it is not waited for any longer");
    }
    shared.counts()
}

/// How long a close that has used up its timeout waits for the handler of failures, and for the sink of metrics.
const CALLBACKS_WAIT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests;
