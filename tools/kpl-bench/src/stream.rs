//! The stream that is written and read back: made if it is not there, marked if it is, its shards listed, deleted if
//! it was made here.
//!
//! All by AWS's own client, on a runtime of its own and on the main thread; nothing of it runs while records are put.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::{self, Display};
use std::io;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::SharedHttpClient;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, StreamDescriptionSummary, StreamStatus};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{SharedHttpConnector, http_client_fn};
use kpl::config::StaticCredentials;
use kpl::limits;
use tokio::runtime::Runtime;

use crate::args::ProxyUrl;
use crate::clock::Clock;
use crate::deaggregate::HashRange;

/// How long a stream may take to be made.
const CREATION_MAX: Duration = Duration::from_secs(120);
/// How often it is asked whether it is.
const CREATION_POLL: Duration = Duration::from_millis(100);
/// Tries at an operation; a real stream allows five reads a second and shard, so that some are throttled.
const ATTEMPTS_MAX: u32 = 8;
/// How long one try may take.
const ATTEMPT_MAX: Duration = Duration::from_secs(30);

/// Why a stream cannot be used.
#[derive(Debug)]
pub struct StreamFault(String);

impl StreamFault {
    /// What was attempted, on which stream, and what came of it.
    pub fn new(doing: &str, stream: &str, error: impl Display) -> StreamFault {
        StreamFault(format!("{doing} of stream {stream:?}: {error}"))
    }

    /// The same, of an error of AWS's client: what the service said, or else the error with all its causes.
    pub fn of_client<E>(doing: &str, stream: &str, error: SdkError<E>) -> StreamFault
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        if let (Some(code), message) = (error.code(), error.message()) {
            return StreamFault::new(doing, stream, format_args!("{code}: {}", message.unwrap_or("no message")));
        }
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            // Some wrappers repeat the cause in their own text.
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        StreamFault::new(doing, stream, text)
    }
}

impl Display for StreamFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the endpoint is reached.
#[derive(Clone, Debug)]
pub struct Access {
    pub url: String,
    /// By default the one that AWS's chain finds.
    pub region: Option<String>,
    /// By default those that AWS's chain finds.
    pub credentials: Option<StaticCredentials>,
    /// The certificates to trust, in PEM and readable; by default those that the machine trusts.
    pub ca_pem: Option<String>,
    /// The proxy to go through.
    pub proxy: Option<ProxyUrl>,
}

/// A client, and the runtime that it needs.
pub struct Service {
    pub runtime: Runtime,
    pub client: Client,
}

impl Service {
    /// Connects nothing yet; finds region and credentials if they are not given.
    ///
    /// # Errors
    /// No region is given and none is found, or no runtime could be made.
    pub fn new(access: &Access) -> io::Result<Service> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let config = match &access.credentials {
            // The chain looks into files and the network; with everything given it is not asked.
            Some(given) => {
                let token = given.session_token.clone();
                let (id, secret) = (given.access_key_id.as_str(), given.secret_access_key.as_str());
                aws_sdk_kinesis::Config::builder()
                    .behavior_version(BehaviorVersion::latest())
                    .credentials_provider(Credentials::new(id, secret, token, None, "kpl-bench"))
            }
            None => {
                let mut chain = aws_config::defaults(BehaviorVersion::latest());
                if let Some(region) = &access.region {
                    chain = chain.region(Region::new(region.clone()));
                }
                let found = runtime.block_on(chain.load());
                if found.region().is_none() {
                    return Err(io::Error::other("AWS's chain finds no region: give one with --region"));
                }
                aws_sdk_kinesis::config::Builder::from(&found)
            }
        };
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_MAX).build();
        let config = config
            .endpoint_url(&access.url)
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX));
        let config = match &access.region {
            Some(region) => config.region(Region::new(region.clone())),
            None => config,
        };
        let config = if access.ca_pem.is_some() || access.proxy.is_some() {
            config.http_client(http_client(access)?)
        } else {
            config
        };
        Ok(Service { runtime, client: Client::from_conf(config.build()) })
    }

    /// Sees to it that the stream is there and active; says whether it had to be made, and its open shards.
    ///
    /// # Errors
    /// It cannot be described or made, or it does not become active.
    pub fn ensure(&self, stream: &str, shards: u32) -> Result<(bool, u32), StreamFault> {
        self.runtime.block_on(async {
            let created = match self.describe(stream).await? {
                Some(_) => false,
                None => {
                    let request = self.client.create_stream().stream_name(stream).shard_count(shards as i32);
                    request.send().await.map_err(|error| StreamFault::of_client("creation", stream, error))?;
                    true
                }
            };
            let begun = Clock::start();
            loop {
                let summary = self.describe(stream).await?;
                match summary.filter(|summary| *summary.stream_status() == StreamStatus::Active) {
                    Some(summary) => return Ok((created, summary.open_shard_count().max(0) as u32)),
                    None if begun.elapsed() > CREATION_MAX => {
                        let late = format!("not active after {CREATION_MAX:?}");
                        return Err(StreamFault::new("creation", stream, late));
                    }
                    None => tokio::time::sleep(CREATION_POLL).await,
                }
            }
        })
    }

    /// The stream, if there is one of this name.
    async fn describe(&self, stream: &str) -> Result<Option<StreamDescriptionSummary>, StreamFault> {
        match self.client.describe_stream_summary().stream_name(stream).send().await {
            Ok(answer) => Ok(answer.stream_description_summary),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_resource_not_found_exception()) => Ok(None),
            Err(error) => Err(StreamFault::of_client("description", stream, error)),
        }
    }

    /// Deletes the stream.
    ///
    /// # Errors
    /// What the service said.
    pub fn delete(&self, stream: &str) -> Result<(), StreamFault> {
        let request = self.client.delete_stream().stream_name(stream).enforce_consumer_deletion(true);
        let deleted = self.runtime.block_on(request.send());
        deleted.map(|_| ()).map_err(|error| StreamFault::of_client("deletion", stream, error))
    }
}

/// A client of HTTP that trusts the given certificates and no other, if some are given, and goes through the proxy.
///
/// # Errors
/// The certificates or the proxy's URL cannot be read.
pub fn http_client(access: &Access) -> io::Result<SharedHttpClient> {
    let mut context = TlsContext::builder();
    if let Some(ca_pem) = &access.ca_pem {
        context = context.with_trust_store(TrustStore::empty().with_pem_certificate(ca_pem.as_str()));
    }
    let proxy = match &access.proxy {
        // What the error says may hold a password.
        Some(ProxyUrl(url)) => ProxyConfig::all(url.as_str()).map_err(|_| io::Error::other("--proxy is no URL"))?,
        None => ProxyConfig::disabled(),
    };
    let connector = Connector::builder()
        .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
        .tls_context(context.build().map_err(io::Error::other)?)
        .proxy_config(proxy)
        .build();
    let connector = SharedHttpConnector::new(connector);
    Ok(http_client_fn(move |_settings, _components| connector.clone()))
}

/// A shard as the service lists it.
pub struct Shard {
    pub id: String,
    pub range: HashRange,
    pub open: bool,
}

/// Every shard of the stream, closed ones too.
///
/// # Errors
/// The shards cannot be listed, or one has no range of decimal numbers.
pub async fn shards(client: &Client, stream: &str) -> Result<Vec<Shard>, StreamFault> {
    let mut shards = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let request = match next {
            Some(token) => client.list_shards().next_token(token),
            None => client.list_shards().stream_name(stream),
        };
        let page = request.send().await.map_err(|error| StreamFault::of_client("shard list", stream, error))?;
        for shard in page.shards() {
            let range = shard.hash_key_range().and_then(|range| {
                let first = range.starting_hash_key().parse().ok()?;
                Some(HashRange { first, last: range.ending_hash_key().parse().ok()? })
            });
            let range = range.ok_or_else(|| {
                let unreadable = format!("{} has no readable hash range", shard.shard_id());
                StreamFault::new("shard list", stream, unreadable)
            })?;
            let open = shard.sequence_number_range().is_none_or(|range| range.ending_sequence_number().is_none());
            shards.push(Shard { id: shard.shard_id().to_owned(), range, open });
        }
        next = page.next_token;
        if next.is_none() {
            return Ok(shards);
        }
    }
}

/// Where in a stream that was there before the run the run begins: for each shard that there was, the sequence number
/// after which to read, or nothing if it was closed already. A shard that is not in it is read from its beginning.
pub type Marks = HashMap<String, Option<String>>;

/// Puts a marker into every open shard. A mark needs no clock, and a clock would not do: the service's is another one,
/// and some emulators keep arrival times in whole seconds.
///
/// # Errors
/// The shards cannot be listed, or a marker cannot be put.
pub async fn mark(client: &Client, stream: &str) -> Result<Marks, StreamFault> {
    let shards = shards(client, stream).await?;
    let mut marks: Marks = shards.iter().map(|shard| (shard.id.clone(), None)).collect();
    let open: Vec<_> = shards.iter().filter(|shard| shard.open).collect();
    for some in open.chunks(limits::REQUEST_RECORDS_MAX) {
        let markers = some.iter().map(|shard| {
            let marker =
                PutRecordsRequestEntry::builder().partition_key("kpl-bench").data(Blob::new("kpl-bench begins"));
            marker.explicit_hash_key(shard.range.first.to_string()).build()
        });
        let markers = markers.collect::<Result<_, _>>().map_err(|error| StreamFault::new("marking", stream, error))?;
        let request = client.put_records().stream_name(stream).set_records(Some(markers));
        let answer = request.send().await.map_err(|error| StreamFault::of_client("marking", stream, error))?;
        for entry in answer.records() {
            match (entry.shard_id(), entry.sequence_number()) {
                (Some(id), Some(number)) => drop(marks.insert(id.to_owned(), Some(number.to_owned()))),
                _ => return Err(StreamFault::new("marking", stream, entry.error_code().unwrap_or("no error code"))),
            }
        }
    }
    Ok(marks)
}
