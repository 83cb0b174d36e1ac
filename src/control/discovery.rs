//! Which shards a stream has: ListShards, page by page, through AWS's SDK.
//!
//! The first page is asked for by the stream's name or ARN, the others by the token alone: the service refuses a token
//! with anything beside it. All shards are listed, closed ones too, since an aggregate may come to lie in a shard that
//! was open when it was sent.
//!
//! The SDK's own retries are off. The control loop knows how urgent a map is and backs off for all its streams
//! together.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Region, StalledStreamProtectionConfig};
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::operation::list_shards::ListShardsError;
use aws_sdk_kinesis::types::Shard;

use super::with_causes;
use crate::limits::SHARDS_MAX;
use crate::record::HashKey;

/// What a stream is called by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StreamName {
    /// Its name, in the account of the credentials.
    Name(String),
    /// Its ARN, which may be another account's.
    Arn(String),
}

/// One shard, as the service lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardEntry {
    /// Its name.
    pub id: Arc<str>,
    /// Its least and its greatest hash key.
    pub range: (HashKey, HashKey),
    /// The shard it came from by a split or a merge, which may no longer be listed.
    pub parent: Option<Arc<str>>,
    /// The other shard it came from, if by a merge.
    pub adjacent_parent: Option<Arc<str>>,
    /// Whether it takes records.
    pub open: bool,
}

/// Why the shards could not be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiscoveryError {
    /// The service's code, if the service answered.
    pub code: Option<String>,
    /// What it said, or what kept it from answering.
    pub message: String,
    /// Asking again does not help until somebody changes the stream, the permissions or the configuration.
    pub permanent: bool,
}

impl fmt::Display for DiscoveryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{code}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for DiscoveryError {}

impl DiscoveryError {
    fn unreadable(message: String) -> DiscoveryError {
        DiscoveryError { code: None, message, permanent: false }
    }
}

impl From<SdkError<ListShardsError>> for DiscoveryError {
    fn from(error: SdkError<ListShardsError>) -> DiscoveryError {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let Some(code) = error.code() else {
            let status = status.map(|status| format!("HTTP status {status}: ")).unwrap_or_default();
            return DiscoveryError::unreadable(status + &with_causes(&error));
        };
        DiscoveryError {
            message: error.message().unwrap_or_default().to_owned(),
            permanent: is_permanent(code),
            code: Some(code.to_owned()),
        }
    }
}

/// Whether asking again is vain. Refused credentials are not in the list: fresh ones may be taken.
fn is_permanent(code: &str) -> bool {
    matches!(
        code,
        "ResourceNotFoundException" | "AccessDeniedException" | "InvalidArgumentException" | "ValidationException"
    )
}

/// A client for the control plane. `endpoint_url` is AWS's own if there is none; without TLS, none is set up.
pub(crate) fn client(
    credentials: SharedCredentialsProvider,
    region: &str,
    endpoint_url: Option<&str>,
    connect_timeout: Duration,
    request_timeout: Duration,
) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(connect_timeout)
        .operation_timeout(connect_timeout.saturating_add(request_timeout))
        .build();
    let mut config = aws_sdk_kinesis::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(credentials)
        .region(Region::new(region.to_owned()))
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    if let Some(url) = endpoint_url {
        config = config.endpoint_url(url);
        if url.starts_with("http://") {
            config = config.http_client(aws_smithy_http_client::Builder::new().build_http());
        }
    }
    Client::from_conf(config.build())
}

/// All shards of a stream, in the order in which the service lists them.
///
/// # Errors
/// The first page that fails ends the listing, as does an answer without sense, or more than [`SHARDS_MAX`] shards.
pub(crate) async fn list_shards(client: &Client, stream: &StreamName) -> Result<Vec<ShardEntry>, DiscoveryError> {
    let mut shards = Vec::new();
    let mut token: Option<String> = None;
    // A page has a shard at least, so that this many pages are enough.
    for _page in 0..SHARDS_MAX {
        let request = client.list_shards();
        let request = match (token, stream) {
            (Some(token), _) => request.next_token(token),
            (None, StreamName::Name(name)) => request.stream_name(name),
            (None, StreamName::Arn(arn)) => request.stream_arn(arn),
        };
        let page = request.send().await?;
        for shard in page.shards() {
            shards.push(entry(shard)?);
        }
        token = page.next_token;
        if token.is_none() {
            return Ok(shards);
        }
        if shards.len() > SHARDS_MAX {
            break;
        }
    }
    Err(DiscoveryError::unreadable(format!("more than {SHARDS_MAX} shards")))
}

fn entry(shard: &Shard) -> Result<ShardEntry, DiscoveryError> {
    let unreadable = |what: &str| DiscoveryError::unreadable(format!("shard {:?} {what}", shard.shard_id()));
    let range = shard.hash_key_range().ok_or_else(|| unreadable("has no hash key range"))?;
    let first: Result<HashKey, _> = range.starting_hash_key().parse();
    let last: Result<HashKey, _> = range.ending_hash_key().parse();
    let range = match (first, last) {
        (Ok(first), Ok(last)) if first <= last => (first, last),
        _ => return Err(unreadable("has a hash key range that is none")),
    };
    let numbers = shard.sequence_number_range().ok_or_else(|| unreadable("has no sequence number range"))?;
    Ok(ShardEntry {
        id: shard.shard_id().into(),
        range,
        parent: shard.parent_shard_id().map(Arc::from),
        adjacent_parent: shard.adjacent_parent_shard_id().map(Arc::from),
        open: numbers.ending_sequence_number().is_none(),
    })
}
