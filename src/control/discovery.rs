//! Which shards a stream has: ListShards, page by page, through AWS's SDK. And who decides which of them a record comes to
//! lie in: DescribeStreamSummary.
//!
//! The first page is asked for by the stream's name or ARN, the others by the token alone: the service refuses a token
//! with anything beside it. All shards are listed, closed ones too, since an aggregate may come to lie in a shard that
//! was open when it was sent.
//!
//! The SDK's own retries are off. The control loop knows how urgent a map is and backs off for all its streams
//! together.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::timeout::TimeoutConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, IdentityCache, Region, StalledStreamProtectionConfig};
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kinesis::types::{RecordDistributionStrategy, Shard};

use super::connector::Connector;
use super::endpoint::Variant;
use crate::codec::kept_message;
use crate::config::Config;
use crate::error::with_causes;
use crate::limits::SHARDS_MAX;
use crate::record::{HashKey, StreamName};

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

/// Why the shards could not be listed, or the stream not be described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiscoveryError {
    /// The service's code, if the service answered.
    pub code: Option<String>,
    /// What it said, or what kept it from answering.
    pub message: String,
    /// Whether asking again may help.
    pub hope: Hope,
}

/// Whether asking again may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hope {
    /// It may.
    Soon,
    /// For a while, as fresh credentials may be on their way.
    WithinGrace,
    /// Not until somebody changes the stream, the permissions or the configuration.
    None,
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
    /// Whether there is no such stream.
    pub(crate) fn is_missing(&self) -> bool {
        self.code.as_deref() == Some("ResourceNotFoundException")
    }

    fn unreadable(message: String) -> DiscoveryError {
        DiscoveryError { code: None, message, hope: Hope::Soon }
    }
}

impl<E: ProvideErrorMetadata + Error + 'static> From<SdkError<E>> for DiscoveryError {
    fn from(error: SdkError<E>) -> DiscoveryError {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let Some(code) = error.code() else {
            let status = status.map(|status| format!("HTTP status {status}: ")).unwrap_or_default();
            return DiscoveryError::unreadable(status + &kept_message(&with_causes(&error)));
        };
        DiscoveryError {
            message: kept_message(error.message().unwrap_or_default()).into_owned(),
            hope: hope(code),
            code: Some(code.to_owned()),
        }
    }
}

/// What a code of the service says about asking again.
fn hope(code: &str) -> Hope {
    match code {
        "ResourceNotFoundException" | "AccessDeniedException" | "InvalidArgumentException" | "ValidationException" => {
            Hope::None
        }
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "MissingAuthenticationTokenException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "RequestExpired"
        | "IncompleteSignature"
        | "IncompleteSignatureException" => Hope::WithinGrace,
        _ => Hope::Soon,
    }
}

/// A client for the control plane. The endpoint is AWS's own of this variant, if the configuration has no URL.
pub(crate) fn client(
    credentials: impl ProvideCredentials + 'static,
    region: &str,
    variant: Variant,
    config: &Config,
    connector: Connector,
) -> Client {
    let timeout = config.connect_timeout.saturating_add(config.request_timeout);
    let timeouts = TimeoutConfig::builder().operation_timeout(timeout).build();
    let sdk = aws_sdk_kinesis::Config::builder()
        .http_client(connector)
        .use_fips(variant.fips)
        .use_dual_stack(variant.dual_stack)
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(credentials)
        // They are the latest that the control loop has, and it alone knows when they are stale.
        .identity_cache(IdentityCache::no_cache())
        .region(Region::new(region.to_owned()))
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    let sdk = match &config.endpoint_url {
        Some(url) => sdk.endpoint_url(url),
        None => sdk,
    };
    Client::from_conf(sdk.build())
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

/// Whether the service decides in which shard a record comes to lie, as the stream's description says.
///
/// # Errors
/// The service refuses to describe the stream, or does not answer with sense.
pub(crate) async fn is_service_managed(client: &Client, stream: &StreamName) -> Result<bool, DiscoveryError> {
    let request = client.describe_stream_summary();
    let request = match stream {
        StreamName::Name(name) => request.stream_name(name),
        StreamName::Arn(arn) => request.stream_arn(arn),
    };
    let answer = request.send().await?;
    let summary = answer
        .stream_description_summary()
        .ok_or_else(|| DiscoveryError::unreadable("the stream's description is empty".to_owned()))?;
    // An endpoint that does not know of this says nothing of it.
    Ok(summary.record_distribution_strategy() == Some(&RecordDistributionStrategy::Auto))
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

#[cfg(test)]
mod tests {
    use super::*;
    use aws_credential_types::Credentials;
    use std::time::Duration;

    use crate::control::testing::{CannedServer, both, run};

    fn client_of(server: &CannedServer) -> Client {
        let timeout = Duration::from_secs(10);
        let config = Config {
            endpoint_url: Some(server.url()),
            connect_timeout: timeout,
            request_timeout: timeout,
            ..Config::default()
        };
        let provider = Credentials::new("AKID", "hush", None, None, "test");
        let connector = Connector::new(None, Arc::default(), timeout);
        client(provider, "eu-west-1", Variant::default(), &config, connector)
    }

    /// Lists against a server with `answers`; returns what came of it and what the server was asked.
    fn list(stream: &StreamName, answers: &[(&str, &str)]) -> (Result<Vec<ShardEntry>, DiscoveryError>, Vec<String>) {
        run(async {
            let server = CannedServer::bind().await;
            let client = client_of(&server);
            both(list_shards(&client, stream), server.serve(answers)).await
        })
    }

    /// The same for the stream's description.
    fn describe(stream: &StreamName, answers: &[(&str, &str)]) -> (Result<bool, DiscoveryError>, Vec<String>) {
        run(async {
            let server = CannedServer::bind().await;
            let client = client_of(&server);
            both(is_service_managed(&client, stream), server.serve(answers)).await
        })
    }

    fn name() -> StreamName {
        StreamName::Name("clicks".into())
    }

    #[test]
    fn further_pages_are_asked_for_by_the_token_alone() {
        let middle = u128::MAX / 2;
        let first = format!(
            r#"{{"NextToken":"next","Shards":[
                {{"ShardId":"shardId-000000000000",
                  "HashKeyRange":{{"StartingHashKey":"0","EndingHashKey":"{max}"}},
                  "SequenceNumberRange":{{"StartingSequenceNumber":"1","EndingSequenceNumber":"2"}}}},
                {{"ShardId":"shardId-000000000001","ParentShardId":"shardId-000000000000",
                  "HashKeyRange":{{"StartingHashKey":"0","EndingHashKey":"{middle}"}},
                  "SequenceNumberRange":{{"StartingSequenceNumber":"3"}}}}]}}"#,
            max = u128::MAX,
        );
        let second = format!(
            r#"{{"Shards":[
                {{"ShardId":"shardId-000000000002","ParentShardId":"shardId-000000000000",
                  "AdjacentParentShardId":"shardId-000000000009",
                  "HashKeyRange":{{"StartingHashKey":"{after}","EndingHashKey":"{max}"}},
                  "SequenceNumberRange":{{"StartingSequenceNumber":"4"}}}}]}}"#,
            after = middle + 1,
            max = u128::MAX,
        );
        let (shards, requests) = list(&name(), &[("200 OK", &first), ("200 OK", &second)]);
        let parent: Arc<str> = "shardId-000000000000".into();
        let expected = [
            ShardEntry {
                id: parent.clone(),
                range: (HashKey::MIN, HashKey::MAX),
                parent: None,
                adjacent_parent: None,
                open: false,
            },
            ShardEntry {
                id: "shardId-000000000001".into(),
                range: (HashKey::MIN, HashKey(middle)),
                parent: Some(parent.clone()),
                adjacent_parent: None,
                open: true,
            },
            ShardEntry {
                id: "shardId-000000000002".into(),
                range: (HashKey(middle + 1), HashKey::MAX),
                parent: Some(parent),
                adjacent_parent: Some("shardId-000000000009".into()),
                open: true,
            },
        ];
        assert_eq!(shards.expect("two pages"), expected);
        assert_eq!(requests, [r#"{"StreamName":"clicks"}"#, r#"{"NextToken":"next"}"#]);
    }

    #[test]
    fn a_stream_named_by_arn_is_asked_for_by_arn() {
        let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks";
        let (shards, requests) = list(&StreamName::Arn(arn.into()), &[("200 OK", r#"{"Shards":[]}"#)]);
        assert_eq!(shards, Ok(Vec::new()));
        assert_eq!(requests, [format!(r#"{{"StreamARN":"{arn}"}}"#)]);
    }

    #[test]
    fn the_description_says_who_distributes_records() {
        let body = |strategy: &str| {
            format!(
                r#"{{"StreamDescriptionSummary":{{"StreamName":"clicks","StreamStatus":"ACTIVE","StreamARN":"arn",
                    "RetentionPeriodHours":24,"StreamCreationTimestamp":1,"EnhancedMonitoring":[],
                    "OpenShardCount":2{strategy}}}}}"#
            )
        };
        for (strategy, expected) in [
            (r#","RecordDistributionStrategy":"AUTO""#, Some(true)),
            (r#","RecordDistributionStrategy":"USER_PARTITION_KEY""#, Some(false)),
            (r#","RecordDistributionStrategy":"NEW""#, Some(false)),
            ("", Some(false)),
        ] {
            let (described, requests) = describe(&name(), &[("200 OK", &body(strategy))]);
            assert_eq!(described.ok(), expected, "{strategy}");
            assert_eq!(requests, [r#"{"StreamName":"clicks"}"#]);
        }
        let refusal = r#"{"__type":"AccessDeniedException","message":"not yours"}"#;
        let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks";
        let (described, requests) = describe(&StreamName::Arn(arn.into()), &[("400 Bad Request", refusal)]);
        assert_eq!(described.expect_err("refused").hope, Hope::None);
        assert_eq!(requests, [format!(r#"{{"StreamARN":"{arn}"}}"#)]);
    }

    #[test]
    fn an_error_keeps_its_code_and_says_whether_asking_again_is_vain() {
        for (status, code, hope) in [
            ("400 Bad Request", "ResourceNotFoundException", Hope::None),
            ("400 Bad Request", "AccessDeniedException", Hope::None),
            ("400 Bad Request", "LimitExceededException", Hope::Soon),
            ("400 Bad Request", "UnrecognizedClientException", Hope::WithinGrace),
            ("500 Internal Server Error", "InternalFailure", Hope::Soon),
        ] {
            let body = format!(r#"{{"__type":"com.amazonaws.kinesis.v20131202#{code}","message":"Stream clicks …"}}"#);
            let (shards, requests) = list(&name(), &[(status, &body)]);
            let error = shards.unwrap_err();
            assert_eq!((error.code.as_deref(), error.hope), (Some(code), hope));
            assert_eq!(error.to_string(), format!("{code}: Stream clicks …"));
            assert_eq!(requests.len(), 1, "the SDK does not retry");
        }
    }

    #[test]
    fn an_error_on_a_later_page_ends_the_listing() {
        let first = r#"{"NextToken":"next","Shards":[]}"#;
        let second = r#"{"__type":"ExpiredNextTokenException","message":"too late"}"#;
        let (shards, _) = list(&name(), &[("200 OK", first), ("400 Bad Request", second)]);
        assert_eq!(shards.unwrap_err().code.as_deref(), Some("ExpiredNextTokenException"));
    }

    #[test]
    fn an_answer_without_sense_is_an_error_and_no_panic() {
        let shard = |range: &str| {
            format!(
                r#"{{"Shards":[{{"ShardId":"s","HashKeyRange":{range},
                    "SequenceNumberRange":{{"StartingSequenceNumber":"1"}}}}]}}"#
            )
        };
        for (status, body) in [
            ("200 OK", shard(r#"{"StartingHashKey":"zero","EndingHashKey":"1"}"#)),
            ("200 OK", shard(r#"{"StartingHashKey":"2","EndingHashKey":"1"}"#)),
            ("200 OK", shard("null")),
            ("200 OK", "<html>".to_owned()),
            ("502 Bad Gateway", "<html>".to_owned()),
        ] {
            let error = list(&name(), &[(status, &body)]).0.unwrap_err();
            assert!(error.hope == Hope::Soon && !error.message.is_empty(), "{error:?}");
        }
    }

    #[test]
    fn an_endpoint_that_is_not_there_is_an_error_that_may_pass() {
        run(async {
            let client = client_of(&CannedServer::bind().await);
            let error = list_shards(&client, &name()).await.unwrap_err();
            assert_eq!((error.code, error.hope), (None, Hope::Soon));
            assert!(error.message.contains("refused"), "{}", error.message);
        });
    }
}
