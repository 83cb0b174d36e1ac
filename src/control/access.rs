//! When credentials are asked for, and whom for them.
//!
//! ```text
//!   start ───────────────────┐             ┌─▶ found: published; asked again ahead of their expiry
//!   about to expire ─────────┼─▶ one ask ──┤
//!   refused by the service ──┘             └─▶ none: asked again after a backoff; what was found before stays
//! ```
//!
//! One ask at a time, each bounded by a timeout, in a task of its own: a source that hangs costs nobody anything but the
//! credentials, and one that panics has failed to give them. An ask that takes long is complained of while it lasts.
//!
//! Credentials that the service refuses are asked for anew at once, but at most every second; if they come back
//! unchanged, half as often each time, down to once a minute. So a fleet with a revoked key does not storm the instance
//! metadata or STS. AWS's default chain reads the profile's files once: against a refusal it is built anew, so that it
//! finds what was written there since. Ahead of an expiry the same chain is asked again; its providers fetch anew each
//! time, but that of the instance metadata repeats its last answer while the metadata cannot be reached.
//!
//! Nothing is cached beside this: the SDK's client for listing shards signs with what was published last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};
use tokio::time::Instant;

use super::credentials::{CredentialSource, resolve_region};
use super::endpoint::{Endpoint, EndpointError, Variant, locate};
use super::service::delay;
use crate::config::Config;
use crate::outcome::ErrorCode;
use crate::proxy::Proxies;

/// How long before credentials expire they are asked for anew, if they last that long.
const RENEW_AHEAD: Duration = Duration::from_secs(300);
/// How often credentials are asked for at most.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// How often they are asked for at least while they come back unchanged and are refused or about to expire.
const RENEW_LONGEST: Duration = Duration::from_secs(60);
/// How often credentials that expire are asked for at least, however far off that is.
const RENEW_AT_LEAST: Duration = Duration::from_secs(24 * 3600);
/// After that an ask is complained of.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where requests go, and in whose name.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    /// The endpoint for PutRecords.
    pub(crate) endpoint: Endpoint,
    /// Credentials as of now.
    pub(crate) credentials: Credentials,
    /// The region that signatures name.
    pub(crate) region: String,
    /// Which of its endpoints it is.
    pub(crate) variant: Variant,
    /// Grows when the credentials change.
    pub(crate) serial: u64,
}

/// A grant, and the source that it can be renewed from.
pub(crate) struct Found {
    grant: Grant,
    source: CredentialSource,
}

/// Why there is no access.
#[derive(Clone, Debug)]
pub(crate) struct AccessError {
    /// `Credentials`, `Dns` or `Proxy`.
    pub(crate) code: ErrorCode,
    /// What is missing.
    pub(crate) message: Arc<str>,
}

/// What an ask came to.
pub(crate) type Answer = Result<Found, AccessError>;

/// The credentials that were published last, as AWS's SDK takes them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published(Arc<Mutex<Option<Credentials>>>);

impl Published {
    fn lock(&self) -> MutexGuard<'_, Option<Credentials>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProvideCredentials for Published {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let none = || CredentialsError::not_loaded("none were found yet");
        future::ProvideCredentials::ready(self.lock().clone().ok_or_else(none))
    }
}

/// An ask under way.
struct Ask {
    since: Instant,
    complained: bool,
}

/// What is known of access, and when to ask next.
pub(crate) struct Keeper {
    config: Arc<Config>,
    proxies: Arc<Proxies>,
    source: CredentialSource,
    published: Published,
    /// That of the published credentials; 0 if there are none.
    serial: u64,
    ask: Option<Ask>,
    /// When to ask next; nothing while an ask is under way, and with credentials that neither expire nor are refused.
    due: Option<Instant>,
    /// When the latest ask began.
    asked: Option<Instant>,
    /// The service refuses what was published.
    refused: bool,
    /// Asks in a row that failed.
    failures: u32,
    /// Asks in a row that brought what was there already.
    vain: u32,
    /// Why there is no access yet.
    trouble: Option<AccessError>,
}

impl Keeper {
    /// Nothing is known, and is to be asked for at once.
    pub(crate) fn new(config: Arc<Config>, proxies: Arc<Proxies>, source: CredentialSource) -> Keeper {
        Keeper {
            config,
            proxies,
            source,
            published: Published::default(),
            serial: 0,
            ask: None,
            due: Some(Instant::now()),
            asked: None,
            refused: false,
            failures: 0,
            vain: 0,
            trouble: None,
        }
    }

    /// What signs now, and for ever after.
    pub(crate) fn published(&self) -> Published {
        self.published.clone()
    }

    /// Which credentials sign now.
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// Why there is no access yet.
    pub(crate) fn trouble(&self) -> Option<&AccessError> {
        self.trouble.as_ref()
    }

    /// When there is something to ask or to complain of.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let complain = self.ask.as_ref().filter(|ask| !ask.complained).map(|ask| ask.since + PATIENCE);
        complain.into_iter().chain(self.due).min()
    }

    /// An ask that is due, to be run and answered to [`Keeper::answered`].
    pub(crate) fn begin(&mut self, now: Instant) -> Option<impl Future<Output = Answer> + Send + use<>> {
        self.due.take_if(|at| *at <= now)?;
        self.ask = Some(Ask { since: now, complained: false });
        self.asked = Some(now);
        let (config, proxies) = (Arc::clone(&self.config), Arc::clone(&self.proxies));
        let (source, afresh) = (self.source.clone(), self.refused);
        Some(async move {
            let name = source.name();
            // In a task of its own, as a source may be anybody's code: its panic ends that task alone.
            let asked = tokio::spawn(async move { find(&config, &proxies, source, afresh).await }).await;
            asked.unwrap_or_else(|_panic| Err(no_credentials(&format!("{name} panicked"))))
        })
    }

    /// What to complain of, once an ask has taken long.
    pub(crate) fn complain(&mut self, now: Instant) -> Option<AccessError> {
        let ask = self.ask.as_mut().filter(|ask| !ask.complained && ask.since + PATIENCE <= now)?;
        ask.complained = true;
        let error = no_credentials(&format!("{} has not answered for {PATIENCE:?}", self.source.name()));
        if self.serial == 0 {
            self.trouble = Some(error.clone());
        }
        Some(error)
    }

    /// The service has refused credentials, those of `serial`.
    pub(crate) fn refused(&mut self, now: Instant, serial: u64) {
        // Others are published by now, or just being asked for.
        if serial != self.serial || self.ask.is_some() {
            return;
        }
        self.refused = true;
        let earliest = self.asked.map_or(now, |asked| asked + self.pause());
        let at = earliest.max(now);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// How long to wait between two asks.
    fn pause(&self) -> Duration {
        (RENEW_EVERY * 2u32.saturating_pow(self.vain.min(16))).min(RENEW_LONGEST)
    }

    /// The ask has ended. Answers what to publish, or what went wrong.
    pub(crate) fn answered(&mut self, now: Instant, answer: Answer) -> Result<Grant, AccessError> {
        self.ask = None;
        match answer {
            Ok(Found { mut grant, source }) => {
                let changed =
                    self.published.lock().replace(grant.credentials.clone()).as_ref() != Some(&grant.credentials);
                self.vain = if changed { 0 } else { self.vain + 1 };
                self.serial += u64::from(changed);
                grant.serial = self.serial;
                (self.source, self.refused, self.failures, self.trouble) = (source, false, 0, None);
                self.due = grant.credentials.expiry().map(|expiry| now + self.renewal(expiry));
                Ok(grant)
            }
            Err(error) => {
                self.failures += 1;
                self.due = Some(now + delay(self.failures));
                if self.serial == 0 {
                    self.trouble = Some(error.clone());
                }
                Err(error)
            }
        }
    }

    /// How long credentials that expire then can be left alone: until five minutes before, or half of their time, but
    /// not longer than any clock can hold.
    #[expect(clippy::disallowed_methods, reason = "an expiry is a time of day, and this is an edge")]
    fn renewal(&self, expiry: SystemTime) -> Duration {
        let left = expiry.duration_since(SystemTime::now()).unwrap_or_default();
        left.saturating_sub(RENEW_AHEAD).max(left / 2).max(self.pause()).min(RENEW_AT_LEAST)
    }
}

fn no_credentials(reason: &dyn std::fmt::Display) -> AccessError {
    AccessError { code: ErrorCode::Credentials, message: reason.to_string().into() }
}

async fn find(config: &Config, proxies: &Proxies, source: CredentialSource, afresh: bool) -> Answer {
    let timeout = config.connect_timeout + config.request_timeout;
    let region = resolve_region(config.region.as_deref(), timeout).await.map_err(|error| no_credentials(&error))?;
    let (source, credentials) = source.ask(&region, afresh, timeout).await.map_err(|error| no_credentials(&error))?;
    let url = config.endpoint_url.as_deref();
    let variant = tokio::time::timeout(timeout, Variant::of(config)).await;
    let variant = variant.map_err(|_elapsed| no_credentials(&format!("AWS's profile was not read in {timeout:?}")))?;
    let location = locate(url, &region, variant, None).await.map_err(|error| no_credentials(&error))?;
    let endpoint = location.look_up(proxies, timeout).await.map_err(|error| AccessError {
        code: match error {
            EndpointError::NoAddress { .. } => ErrorCode::Dns,
            EndpointError::NoProxy { .. } => ErrorCode::Proxy,
            EndpointError::InvalidUrl { .. } | EndpointError::NoEndpoint { .. } => ErrorCode::Credentials,
        },
        message: error.to_string().into(),
    })?;
    Ok(Found { grant: Grant { endpoint, credentials, region, variant, serial: 0 }, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StaticCredentials;
    use crate::control::endpoint::{Location, Scheme};

    const SECOND: Duration = Duration::from_secs(1);

    /// A keeper whose first ask, at `now`, has brought the key `old`.
    fn keeper(now: Instant) -> Keeper {
        let mut keeper = Keeper::new(Arc::default(), Arc::default(), source());
        keeper.due = Some(now);
        assert!(keeper.begin(now).is_some());
        assert_eq!(answer(&mut keeper, now, "old", None), Some(1));
        keeper
    }

    fn source() -> CredentialSource {
        let key = || "test".to_owned();
        CredentialSource::fixed(&StaticCredentials {
            access_key_id: key(),
            secret_access_key: key(),
            session_token: None,
        })
    }

    /// Ends the ask with a key; its serial.
    fn answer(keeper: &mut Keeper, now: Instant, key: &str, expiry: Option<SystemTime>) -> Option<u64> {
        let location = Location { scheme: Scheme::Http, host: "h".to_owned(), port: 1, path: "/".to_owned() };
        let credentials = Credentials::new(key, "secret", None, expiry, "test");
        let endpoint = Endpoint { location, proxy: None, addresses: Vec::new() };
        let grant = Grant { endpoint, credentials, region: "r".to_owned(), variant: Variant::default(), serial: 0 };
        keeper.answered(now, Ok(Found { grant, source: source() })).ok().map(|grant| grant.serial)
    }

    #[test]
    fn what_does_not_expire_is_not_asked_for_again() {
        let now = Instant::now();
        assert_eq!(keeper(now).next_due(), None);
    }

    #[test]
    fn credentials_are_renewed_five_minutes_ahead_or_when_half_of_their_time_is_left() {
        #[expect(clippy::disallowed_methods, reason = "an expiry is a time of day")]
        let (now, day) = (Instant::now(), SystemTime::now());
        for (left, wait) in [(3600, 3300), (400, 200), (60, 30), (1, 2), (0, 2)] {
            let mut keeper = keeper(now);
            let expiry = day + Duration::from_secs(left);
            keeper.due = Some(now);
            assert!(keeper.begin(now).is_some());
            answer(&mut keeper, now, "old", Some(expiry));
            keeper.due = Some(now);
            // A second time unchanged, so that what expires at once is not asked for at once.
            assert!(keeper.begin(now).is_some());
            answer(&mut keeper, now, "old", Some(expiry));
            let due = keeper.next_due().expect("it expires") - now;
            let (least, most) = (Duration::from_secs(wait).saturating_sub(SECOND * 2), Duration::from_secs(wait));
            assert!(least <= due && due <= most, "{left}: {due:?}");
        }
    }

    #[test]
    fn an_expiry_that_no_clock_reaches_is_asked_about_once_a_day() {
        let now = Instant::now();
        let mut keeper = keeper(now);
        keeper.due = Some(now);
        assert!(keeper.begin(now).is_some());
        let never = SystemTime::UNIX_EPOCH + Duration::from_secs(i64::MAX as u64);
        answer(&mut keeper, now, "old", Some(never));
        assert_eq!(keeper.next_due(), Some(now + RENEW_AT_LEAST));
    }

    #[test]
    fn a_refusal_is_asked_about_at_once_and_ever_less_often_while_the_answer_is_the_same() {
        let start = Instant::now();
        let mut keeper = keeper(start);
        let mut now = start + SECOND * 100;
        keeper.refused(now, 1);
        assert_eq!(keeper.next_due(), Some(now), "it was asked long ago");
        for pause in [2, 4, 8, 16, 32, 60, 60] {
            assert!(keeper.begin(now).is_some());
            keeper.refused(now, 1);
            assert_eq!(keeper.due, None, "one ask at a time");
            assert_eq!(answer(&mut keeper, now, "old", None), Some(1));
            keeper.refused(now, 1);
            assert_eq!(keeper.next_due(), Some(now + SECOND * pause));
            now += SECOND * pause;
        }
        assert!(keeper.begin(now).is_some());
        assert_eq!(answer(&mut keeper, now, "new", None), Some(2));
        keeper.refused(now, 1);
        assert_eq!(keeper.next_due(), None, "those are in use no more");
        keeper.refused(now, 2);
        assert_eq!(keeper.next_due(), Some(now + SECOND));
    }

    #[test]
    fn an_ask_that_takes_long_is_complained_of_once_and_a_failed_one_is_repeated() {
        let now = Instant::now();
        let mut keeper = Keeper::new(Arc::default(), Arc::default(), source());
        keeper.due = Some(now);
        assert!(keeper.begin(now).is_some());
        assert_eq!(keeper.next_due(), Some(now + PATIENCE));
        assert!(keeper.complain(now).is_none());
        let error = keeper.complain(now + PATIENCE).expect("it takes long");
        assert!(error.message.contains("the given credentials has not answered"), "{}", error.message);
        assert!(keeper.complain(now + PATIENCE * 2).is_none());
        assert_eq!(keeper.next_due(), None);
        assert!(keeper.answered(now, Err(no_credentials(&"none"))).is_err());
        assert_eq!(keeper.trouble().map(|trouble| &*trouble.message), Some("none"));
        assert!(keeper.next_due().is_some_and(|due| due > now));
    }
}
