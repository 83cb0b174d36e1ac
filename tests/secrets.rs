//! No secret comes out: not in a log of any crate at its finest level, not in `Debug`, not in an error or an outcome.
//!
//! Everything that this process logs is kept, spans and their fields too, but what the endpoint's own thread says. The
//! subscriber is the process's, so this file is a process of its own. A signature counts as a secret, since it is good
//! for five minutes.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use endpoint::{Action, Credentials as Key, Endpoint, EndpointConfig, TlsOptions};
use kpl::credentials::{Credentials, CredentialsError, ProvideCredentials, future};
use kpl::{Producer, ProducerBuilder, ProxyChoice, Record, StaticCredentials, TlsRoots, WireFormat};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Metadata, Subscriber};

use self::relay::{Manner, Relay};

mod relay;

const SECRET: &str = "wJalrXUtnFEMIsecretK7MDENGbPxRfiCY";
const TOKEN: &str = "FwoGZXIvYXdzEtokenBYaDHx7pL2Yc9qkR";
/// Of a proxy.
const PASSWORD: &str = "zq7Hpassw0rdTm4Xe9";
/// What the proxy is sent, for `me` and that.
const AUTHORIZATION: &str = "bWU6enE3SHBhc3N3MHJkVG00WGU5";

/// Whose lines these are that begin so: AWS's SDK, which lists shards. At this level it logs the service's answers whole,
/// and the service repeats a session token where it refuses a signature. That is out of this library's hands.
const ANSWERS_OF_THE_SDK: &str = "TRACE aws_smithy_runtime::client::orchestrator";

/// All that was logged.
static LOG: Mutex<String> = Mutex::new(String::new());

struct Keeper {
    spans: AtomicU64,
}

/// Writes fields.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

fn keep(metadata: Option<&Metadata<'_>>, line: &Line) {
    if std::thread::current().name() == Some("endpoint") {
        return;
    }
    let (level, target) = metadata.map_or(("", ""), |metadata| (metadata.level().as_str(), metadata.target()));
    let mut log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    *log += &format!("{level} {target}:{}\n", line.0);
}

impl Subscriber for Keeper {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line(String::new());
        span.record(&mut line);
        keep(Some(span.metadata()), &line);
        // Partner: none; a number has to be new and not 0.
        Id::from_u64(self.spans.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, values: &tracing::span::Record<'_>) {
        let mut line = Line(String::new());
        values.record(&mut line);
        keep(None, &line);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        keep(Some(event.metadata()), &line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Keeps what is logged from now on.
fn listen() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        tracing::subscriber::set_global_default(Keeper { spans: AtomicU64::new(0) }).expect("the first")
    });
}

/// Where a secret stands in `text`, with what is around it.
fn leak(text: &str) -> Option<&str> {
    // Half a token is half a token.
    let secrets = [SECRET, TOKEN, PASSWORD, AUTHORIZATION, &SECRET[..12], &TOKEN[..12], &PASSWORD[..12]];
    let known = secrets.into_iter().filter_map(|secret| text.find(secret)).min();
    let signature =
        text.match_indices("ignature=").map(|(at, name)| at + name.len()).find(|at| is_hexadecimal(&text[*at..]));
    let at = known.into_iter().chain(signature).min()?;
    Some(&text[text.floor_char_boundary(at.saturating_sub(200))..text.ceil_char_boundary(at + 20)])
}

/// Whether a text begins with a digest.
fn is_hexadecimal(text: &str) -> bool {
    text.len() >= 64 && text.bytes().take(64).all(|byte| byte.is_ascii_hexdigit())
}

fn assert_clean(what: &str, text: &str) {
    assert_eq!(leak(text), None, "{what}");
}

fn credentials(secret: &str) -> StaticCredentials {
    let (access_key_id, session_token) = ("AKID".to_owned(), Some(TOKEN.to_owned()));
    StaticCredentials { access_key_id, secret_access_key: secret.to_owned(), session_token }
}

fn builder(url: &str) -> ProducerBuilder {
    let build =
        Producer::builder().region("us-east-1").endpoint_url(url).record_max_buffered_time(Duration::from_millis(5));
    build.auth_grace(Duration::from_millis(300)).record_ttl(Duration::from_millis(1500))
}

fn serve(change: impl FnOnce(&mut EndpointConfig)) -> Endpoint {
    let mut config = EndpointConfig::emulator();
    config.credentials = vec![Key { session_token: Some(TOKEN.to_owned()), ..Key::new("AKID", SECRET) }];
    config.streams = vec![("s".to_owned(), 1)];
    change(&mut config);
    Endpoint::start(config).expect("an endpoint")
}

/// Puts some records, and looks at all that can be looked at. Answers what failed records said.
fn look_at(what: &str, build: ProducerBuilder) -> String {
    assert_clean(what, &format!("{build:?}"));
    let producer = build.build().expect("a producer");
    let stream = producer.stream("s").expect("a stream");
    let ready = stream.ready().wait_timeout(Duration::from_millis(200));
    let mut submitter = producer.submitter().expect("a submitter");
    let outcomes: Vec<_> = (0..3).map(|_| submitter.put(&stream, Record::new("k", "data")).expect("a put")).collect();
    let mut said = format!("{ready:?} {producer:?} {stream:?} {submitter:?} {outcomes:?} {:?}", producer.config());
    for outcome in outcomes {
        match outcome.wait_timeout(Duration::from_secs(30)).expect("an outcome") {
            Ok(delivered) => said += &format!("{delivered:?} {:?}", delivered.attempts()),
            Err(failure) => said += &format!("{failure} {failure:?}"),
        }
    }
    let ready = stream.ready().wait_timeout(Duration::ZERO);
    let refused = submitter.try_put(&stream, Record::new("", "data")).map(drop);
    let counts = producer.close(Duration::from_secs(5)).wait();
    said += &format!("{ready:?} {refused:?} {counts:?} {:?} {:?}", producer.health(), producer.counters());
    assert_clean(what, &said);
    said
}

/// A provider that shows what it holds.
#[derive(Debug)]
struct Vault {
    _secret: &'static str,
    gives: Option<Credentials>,
    hangs: bool,
}

impl ProvideCredentials for Vault {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let given = self.gives.clone().ok_or_else(|| CredentialsError::not_loaded("the vault is closed"));
        if self.hangs {
            return future::ProvideCredentials::new(std::future::pending());
        }
        future::ProvideCredentials::ready(given)
    }
}

#[test]
fn the_watch_finds_what_is_planted() {
    for text in [
        SECRET,
        TOKEN,
        PASSWORD,
        AUTHORIZATION,
        &format!("x{}y", &TOKEN[..20]),
        &format!("Signature={}", "0f".repeat(32)),
    ] {
        assert!(leak(text).is_some(), "{text}");
    }
    assert_eq!(leak("Signature=*** x-amz-security-token:***"), None);
    listen();
    tracing::trace!(planted = "so it is", "a word");
    assert!(LOG.lock().unwrap_or_else(PoisonError::into_inner).contains("planted=\"so it is\""));
}

/// Proxies that take a user's password, refuse it, and repeat it as they refuse.
fn look_at_proxies() {
    for tls in [false, true] {
        let options = tls.then(|| TlsOptions::new().expect("a chain"));
        let roots = options.as_ref().map(|options| TlsRoots::Pem(options.ca_pem().as_bytes().to_vec()));
        let endpoint = serve(|config| config.tls = options);
        let echo = format!("HTTP/1.1 407 {PASSWORD}\r\ncontent-length: 28\r\n\r\n{AUTHORIZATION}");
        for (demands, says, word) in [
            (Some(format!("Basic {AUTHORIZATION}")), None, "Delivered {"),
            (Some("another".to_owned()), None, "407 Proxy Authentication Required"),
            (None, Some(echo), "407 Proxy Authentication Required"),
        ] {
            let relay = Relay::start(endpoint.address(), Manner::default());
            relay.behave(Manner { demands, says });
            let build = builder(&endpoint.url()).credentials(credentials(SECRET));
            let build = build.proxy(ProxyChoice::Url(relay.url(&format!("me:{PASSWORD}"))));
            let build = if let Some(roots) = &roots { build.tls_roots(roots.clone()) } else { build };
            let said = look_at("a proxy", build);
            assert!(said.contains(word), "{said}");
            assert!(relay.heads().iter().all(|head| head.contains(AUTHORIZATION)), "it is the proxy's to know");
        }
    }
}

#[test]
fn no_secret_is_logged_shown_or_said() {
    listen();
    for wire in [WireFormat::Cbor, WireFormat::Json] {
        let endpoint = serve(|_| {});
        let said = look_at("success", builder(&endpoint.url()).credentials(credentials(SECRET)).wire(wire));
        assert!(said.contains("Delivered {"), "{said}");
    }

    // The endpoint repeats all that it would have signed, as AWS does, token included.
    let endpoint = serve(|config| config.credentials[0].secret_access_key = "another".to_owned());
    let said = look_at("a refused listing", builder(&endpoint.url()).credentials(credentials(SECRET)));
    assert!(said.contains("x-amz-security-token:***"), "{said}");

    // The same for writing, as text of the protocol and as a page.
    let echo = format!(
        "The Canonical String should have been 'POST\nx-amz-security-token:{TOKEN}\n' Signature={}",
        "0f".repeat(32)
    );
    let page = Action::Respond {
        status: 403,
        content_type: "text/html",
        body: Bytes::from(format!("<pre>X-Amz-Security-Token: {TOKEN}")),
    };
    for refusal in [
        Action::error(403, "InvalidSignatureException", &echo),
        Action::error(403, "ExpiredTokenException", &echo),
        page,
    ] {
        let endpoint = serve(|config| {
            config.script = Some(Box::new(move |request| match request.operation {
                "PutRecords" => refusal.clone(),
                _ => Action::Pass,
            }));
        });
        let said = look_at("a refused request", builder(&endpoint.url()).credentials(credentials(SECRET)));
        assert!(said.to_lowercase().contains("x-amz-security-token") && said.contains("***"), "{said}");
    }

    let gives = Some(Credentials::new("AKID", SECRET, Some(TOKEN.to_owned()), None, "vault"));
    for (gives, hangs, word) in
        [(gives, false, "Delivered {"), (None, false, "vault is closed"), (None, true, "not answered")]
    {
        let endpoint = serve(|_| {});
        let provider = Vault { _secret: SECRET, gives, hangs };
        let said = look_at("a provider", builder(&endpoint.url()).credentials_provider(provider));
        assert!(said.contains(word), "{said}");
    }

    let endpoint = serve(|config| config.tls = Some(TlsOptions::new().expect("a chain")));
    let other = TlsOptions::new().expect("a chain").ca_pem().to_owned();
    let build = builder(&endpoint.url()).credentials(credentials(SECRET)).tls_roots(TlsRoots::Pem(other.into_bytes()));
    let said = look_at("TLS that fails", build);
    assert!(said.contains("TLS") || said.contains("certificate"), "{said}");

    look_at_proxies();

    let proxy = ProxyChoice::Url(format!("https://me:{PASSWORD}@127.0.0.1"));
    let error = builder(&endpoint.url()).proxy(proxy).build().expect_err("TLS to a proxy");
    assert_clean("an error about a proxy", &format!("{error} {error:?}"));
    let both = builder(&endpoint.url()).credentials(credentials(SECRET));
    let both = both.credentials_provider(Vault { _secret: SECRET, gives: None, hangs: false });
    let error = both.max_record_size(0).build().expect_err("it is wrong twice");
    assert_clean("an error of the configuration", &format!("{error} {error:?}"));

    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(log.contains("kpl") && log.len() > 10_000, "much was logged: {} bytes", log.len());
    let (answers, log): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| line.starts_with(ANSWERS_OF_THE_SDK));
    assert_clean("the log", &log.join("\n"));
    // They bear no secret but what the endpoint repeats, which knows the token and not the key.
    assert!(!answers.join("\n").contains(SECRET));
}
