//! Who we are: credentials and the region, given or found by AWS's default chains.
//!
//! The chains are `aws-config`'s, in its order: environment, profile (SSO, credential process and assumed roles
//! included), web identity, container, instance metadata. They may ask the network, so each question has a timeout.
//!
//! Nothing here caches or refreshes: the control loop asks again before `Credentials::expiry`, and when the service
//! refuses what it has.

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
    /// The chain found no credentials.
    NoCredentials {
        /// What the chain said, with its causes.
        reason: String,
    },
    /// The chain found no region.
    NoRegion,
    /// The chain did not end in time.
    TimedOut {
        /// What was asked for.
        what: &'static str,
        /// The time it had.
        after: Duration,
    },
}

impl fmt::Display for CredentialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CredentialError::NoCredentials { reason } => write!(f, "no AWS credentials: {reason}"),
            CredentialError::NoRegion => f.write_str(
                "no AWS region: set it in the configuration, in AWS_REGION, or in the profile of the AWS config file",
            ),
            CredentialError::TimedOut { what, after } => write!(f, "AWS's chain found no {what} within {after:?}"),
        }
    }
}

impl std::error::Error for CredentialError {}

/// Where credentials come from.
#[derive(Clone, Debug)]
pub(crate) struct CredentialSource {
    provider: SharedCredentialsProvider,
}

impl CredentialSource {
    /// Always the credentials that were given.
    pub(crate) fn given(credentials: &StaticCredentials) -> CredentialSource {
        let StaticCredentials { access_key_id, secret_access_key, session_token } = credentials.clone();
        let credentials = Credentials::new(access_key_id, secret_access_key, session_token, None, "kpl");
        CredentialSource { provider: SharedCredentialsProvider::new(credentials) }
    }

    /// AWS's default chain. Nothing is asked yet, but files and the environment are read.
    pub(crate) async fn default_chain(region: &str) -> CredentialSource {
        let chain = DefaultCredentialsChain::builder().region(Region::new(region.to_owned())).build().await;
        CredentialSource { provider: SharedCredentialsProvider::new(chain) }
    }

    /// The credentials as of now, asked for anew.
    ///
    /// # Errors
    /// The source has none, or did not say so within `timeout`.
    pub(crate) async fn resolve(&self, timeout: Duration) -> Result<Credentials, CredentialError> {
        match tokio::time::timeout(timeout, self.provider.provide_credentials()).await {
            Ok(Ok(credentials)) => Ok(credentials),
            Ok(Err(error)) => Err(CredentialError::NoCredentials { reason: with_causes(&error) }),
            Err(_elapsed) => Err(CredentialError::TimedOut { what: "credentials", after: timeout }),
        }
    }

    /// The source as AWS's SDK takes it.
    pub(crate) fn provider(&self) -> SharedCredentialsProvider {
        self.provider.clone()
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
        Err(_elapsed) => Err(CredentialError::TimedOut { what: "region", after: timeout }),
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
            let credentials = CredentialSource::given(&given).resolve(TIMEOUT).await.expect("given");
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
            let source = CredentialSource { provider: SharedCredentialsProvider::new(Silent) };
            let error = source.resolve(Duration::from_millis(5)).await.unwrap_err();
            assert_eq!(error.to_string(), "AWS's chain found no credentials within 5ms");
        });
    }

    #[test]
    fn a_given_region_asks_nobody() {
        run(async {
            assert_eq!(resolve_region(Some("eu-west-1"), Duration::ZERO).await.as_deref(), Ok("eu-west-1"));
        });
    }
}
