//! Who we are: credentials and the region, given or found by AWS's default chains.
//!
//! The chains are `aws-config`'s, in its order: environment, profile (SSO, credential process and assumed roles
//! included), web identity, container, instance metadata. They may ask the network, so each question has a timeout.
//!
//! Nothing here caches or refreshes: when to ask again, `access.rs` decides.

use std::fmt;
use std::time::Duration;

use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::default_provider::region::DefaultRegionChain;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};

use crate::config::StaticCredentials;
use crate::error::with_causes;

/// No credentials, or no region. Nothing can be sent without; asking again may help if the network was at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CredentialError {
    /// The source has no credentials.
    NoCredentials {
        /// Which source.
        name: &'static str,
        /// What it said, with its causes.
        reason: String,
    },
    /// The chain found no region.
    NoRegion,
    /// It was not found in time.
    TimedOut {
        /// Which source.
        name: &'static str,
        /// What was asked for.
        what: &'static str,
        /// The time it had.
        after: Duration,
    },
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CredentialError::NoCredentials { name, reason } => write!(f, "no AWS credentials from {name}: {reason}"),
            CredentialError::NoRegion => f.write_str(
                "no AWS region: set it in the configuration, in AWS_REGION, or in the profile of the AWS config file",
            ),
            CredentialError::TimedOut { name, what, after } => write!(f, "{name} gave no {what} within {after:?}"),
        }
    }
}

impl std::error::Error for CredentialError {}

/// Where credentials come from.
#[derive(Clone)]
pub(crate) struct CredentialSource {
    origin: Origin,
}

#[derive(Clone)]
enum Origin {
    /// The caller's provider, or credentials that were given; and how to call it.
    Given(SharedCredentialsProvider, &'static str),
    /// AWS's default chain, made when it is first asked.
    Chain(Option<SharedCredentialsProvider>),
}

impl CredentialSource {
    /// Always the credentials that were given.
    pub(crate) fn fixed(credentials: &StaticCredentials) -> CredentialSource {
        let StaticCredentials { access_key_id, secret_access_key, session_token } = credentials.clone();
        let credentials = Credentials::new(access_key_id, secret_access_key, session_token, None, "kpl");
        CredentialSource::given(SharedCredentialsProvider::new(credentials), "the given credentials")
    }

    /// Whatever the caller's provider says when it is asked; `name` tells messages which one it is.
    pub(crate) fn given(provider: SharedCredentialsProvider, name: &'static str) -> CredentialSource {
        CredentialSource { origin: Origin::Given(provider, name) }
    }

    /// AWS's default chain.
    pub(crate) fn default_chain() -> CredentialSource {
        CredentialSource { origin: Origin::Chain(None) }
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> &'static str {
        match self.origin {
            Origin::Given(_, name) => name,
            Origin::Chain(_) => "AWS's default credential chain",
        }
    }

    /// The credentials as of now, asked for anew, and the source to ask next time. `afresh` says that the service
    /// refuses those of last time, so that what a chain remembers of files is not to be trusted.
    ///
    /// # Errors
    /// The source has none, or did not say so within `timeout`.
    pub(crate) async fn ask(
        self,
        region: &str,
        afresh: bool,
        timeout: Duration,
    ) -> Result<(CredentialSource, Credentials), CredentialError> {
        let name = self.name();
        let ask = async {
            let (origin, provider) = match self.origin {
                Origin::Given(provider, name) => (Origin::Given(provider.clone(), name), provider),
                Origin::Chain(Some(chain)) if !afresh => (Origin::Chain(Some(chain.clone())), chain),
                Origin::Chain(_) => {
                    let chain = DefaultCredentialsChain::builder().region(Region::new(region.to_owned())).build().await;
                    let chain = SharedCredentialsProvider::new(chain);
                    (Origin::Chain(Some(chain.clone())), chain)
                }
            };
            (CredentialSource { origin }, provider.provide_credentials().await)
        };
        match tokio::time::timeout(timeout, ask).await {
            Ok((source, Ok(credentials))) => Ok((source, credentials)),
            Ok((_, Err(error))) => Err(CredentialError::NoCredentials { name, reason: with_causes(&error) }),
            Err(_elapsed) => Err(CredentialError::TimedOut { name, what: "credentials", after: timeout }),
        }
    }
}

/// The region: the one given, else the one that AWS's chain finds in the environment, the profile or the instance.
///
/// # Errors
/// There is none, or the chain did not end within `timeout`.
pub(crate) async fn resolve_region(given: Option<&str>, timeout: Duration) -> Result<String, CredentialError> {
    if let Some(region) = given {
        return Ok(region.to_owned());
    }
    let chain = DefaultRegionChain::builder().build();
    match tokio::time::timeout(timeout, chain.region()).await {
        Ok(Some(region)) => Ok(region.as_ref().to_owned()),
        Ok(None) => Err(CredentialError::NoRegion),
        Err(_elapsed) => {
            Err(CredentialError::TimedOut { name: "AWS's default region chain", what: "region", after: timeout })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::run;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[test]
    fn given_credentials_are_returned_as_they_are_and_never_expire() {
        run(async {
            let given = StaticCredentials {
                access_key_id: "AKID".into(),
                secret_access_key: "hush".into(),
                session_token: Some("token".into()),
            };
            let source = CredentialSource::fixed(&given);
            let (_, credentials) = source.ask("eu-west-1", false, TIMEOUT).await.expect("given");
            assert_eq!(credentials.access_key_id(), "AKID");
            assert_eq!(credentials.secret_access_key(), "hush");
            assert_eq!(credentials.session_token(), Some("token"));
            assert_eq!(credentials.expiry(), None);
        });
    }

    #[test]
    fn a_source_that_does_not_answer_is_given_up_at_the_timeout() {
        run(async {
            #[derive(Debug)]
            struct Silent;
            impl ProvideCredentials for Silent {
                fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
                where
                    Self: 'a,
                {
                    aws_credential_types::provider::future::ProvideCredentials::new(std::future::pending())
                }
            }
            let source = CredentialSource::given(SharedCredentialsProvider::new(Silent), "Silent");
            let error = source.ask("eu-west-1", false, Duration::from_millis(5)).await.err().expect("nothing");
            assert_eq!(error.to_string(), "Silent gave no credentials within 5ms");
        });
    }

    #[test]
    fn a_given_region_asks_nobody() {
        run(async {
            assert_eq!(resolve_region(Some("eu-west-1"), Duration::ZERO).await.as_deref(), Ok("eu-west-1"));
        });
    }
}
