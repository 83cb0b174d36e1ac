//! Which HTTP proxy stands before an endpoint, and how it is asked for a tunnel.
//!
//! ```text
//!   Config, environment ──▶ Proxies ── endpoint ──▶ Proxy ──┬─ https ──▶ CONNECT HOST:PORT, then TLS inside
//!                                                           └─ http ───▶ requests with absolute targets
//! ```
//!
//! It promises that records and shard lists go the same way, as cores and control thread ask the same [`Proxies`]; that
//! the endpoint's name is told to the proxy and never looked up here; and that credentials are in no `Debug`, message
//! or log. The environment is read once, when the producer is built. What is in a variable that cannot be a proxy's URL
//! is a failure of those endpoints that it is for, and not of the others: nobody is led past a proxy by a slip.
//!
//! Rules for hosts, and the reading of credentials, are hyper-util's. It refuses proxies that are spoken to over TLS, or
//! by SOCKS.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;

use http::{HeaderValue, StatusCode, Uri};
use hyper::rt::{Read, ReadBuf, Write};
use hyper_util::client::proxy::matcher::Matcher;

use crate::config::{Config, ProxyChoice, without_user};
use crate::error::ConfigFault;

/// What the URL of a proxy must be.
const BOUND: &str = "http://[USER:PASSWORD@]HOST[:PORT], percent-encoded where a URL needs it";
/// Most bytes of an answer to `CONNECT`. Those of real proxies have some hundred.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// An HTTP proxy. `Debug` and `Display` show no credentials.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// A name, or an address without brackets.
    pub(crate) host: String,
    /// Its port.
    pub(crate) port: u16,
    /// The `Proxy-Authorization` header, if credentials were given.
    pub(crate) authorization: Option<HeaderValue>,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy {}", authority(&self.host, self.port))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Proxy {
    /// Reads the URL of a proxy; nothing if it is none that can be spoken to.
    fn parse(url: &str) -> Option<Proxy> {
        let given: Uri = url.parse().ok()?;
        if given.scheme_str() != Some("http") || given.path() != "/" || given.query().is_some() {
            return None;
        }
        let found = Matcher::builder().all(url).build().intercept(&Uri::from_static("http://any"))?;
        let place = found.uri().authority()?;
        let host = without_brackets(place.host());
        let port = match &place.as_str()[place.host().len()..] {
            "" => 80,
            _ => place.port_u16()?,
        };
        let authorization = found.basic_auth().cloned();
        (!host.is_empty()).then(|| Proxy { host: host.to_owned(), port, authorization })
    }

    /// Opens a tunnel to `host` and `port` on a stream that leads to the proxy. It has no timeout of its own.
    ///
    /// # Errors
    /// The proxy refuses, ends the connection, or says what is no HTTP; in words.
    pub(crate) async fn tunnel<S>(&self, mut stream: S, host: &str, port: u16) -> Result<S, String>
    where
        S: Read + Write + Unpin,
    {
        let to = authority(host, port);
        write_all(&mut stream, &self.connect(&to))
            .await
            .map_err(|error| format!("{self} took no request for a tunnel: {error}"))?;
        let mut answer = Vec::new();
        loop {
            let mut chunk = [0; 1024];
            match read_some(&mut stream, &mut chunk).await {
                Ok([]) => return Err(format!("{self} hung up on a request for a tunnel")),
                Ok(read) => answer.extend_from_slice(read),
                Err(error) => return Err(format!("{self} broke off a request for a tunnel: {error}")),
            }
            match Head::of(&answer) {
                Head::Partial if answer.len() < HEAD_BYTES_MAX => {}
                Head::Whole => return Ok(stream),
                Head::Refused(status) => return Err(format!("{self} refuses a tunnel to {to}: {status}")),
                Head::Partial | Head::Nonsense => {
                    let what = "answers a request for a tunnel with what is no HTTP; is it an HTTP proxy?";
                    return Err(format!("{self} {what}"));
                }
            }
        }
    }

    /// Where it is, for who looks its name up himself.
    pub(crate) fn uri(&self) -> Uri {
        // A place that was cut from a URL.
        format!("http://{}/", authority(&self.host, self.port)).parse().unwrap_or_default()
    }

    /// What it says of a request that it was to forward and does not, as it knows the user not.
    pub(crate) fn unauthorized(&self) -> String {
        format!("{self} refuses a request: {}", StatusCode::PROXY_AUTHENTICATION_REQUIRED)
    }

    fn connect(&self, to: &str) -> Vec<u8> {
        let mut head = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes();
        if let Some(authorization) = &self.authorization {
            head.extend_from_slice(b"Proxy-Authorization: ");
            head.extend_from_slice(authorization.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// How an answer to `CONNECT` begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// More is to come.
    Partial,
    /// The tunnel is open, and what is read next comes out of it.
    Whole,
    /// There is no tunnel.
    Refused(StatusCode),
    /// It is no HTTP, or there is something behind it before we have spoken.
    Nonsense,
}

impl Head {
    fn of(answer: &[u8]) -> Head {
        let find = |mark: &[u8]| answer.windows(mark.len()).position(|window| window == mark);
        let Some(line) = find(b"\r\n").map(|end| &answer[..end]) else {
            return if b"HTTP/1.".starts_with(&answer[..answer.len().min(7)]) { Head::Partial } else { Head::Nonsense };
        };
        let status = match line.strip_prefix(b"HTTP/1.") {
            Some([b'0' | b'1', b' ', code @ ..]) if matches!(code.get(3), None | Some(b' ')) => {
                code.get(..3).and_then(|code| StatusCode::from_bytes(code).ok())
            }
            _ => None,
        };
        match (status, find(b"\r\n\r\n")) {
            (Some(status), _) if !status.is_success() => Head::Refused(status),
            (Some(_), None) => Head::Partial,
            (Some(_), Some(end)) if end + 4 == answer.len() => Head::Whole,
            _ => Head::Nonsense,
        }
    }
}

async fn write_all(stream: &mut (impl Write + Unpin), mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match poll_fn(|context| Pin::new(&mut *stream).poll_write(context, bytes)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => bytes = &bytes[written..],
        }
    }
    poll_fn(|context| Pin::new(&mut *stream).poll_flush(context)).await
}

async fn read_some<'b>(stream: &mut (impl Read + Unpin), into: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut buffer = ReadBuf::new(into);
    poll_fn(|context| Pin::new(&mut *stream).poll_read(context, buffer.unfilled())).await?;
    let read = buffer.filled().len();
    Ok(&into[..read])
}

/// Host and port as an HTTP request names them.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Which proxy each endpoint is reached by.
#[derive(Default)]
pub(crate) struct Proxies {
    /// That of TLS endpoints, or why it cannot be had.
    https: Option<Result<Proxy, String>>,
    /// That of endpoints in the clear.
    http: Option<Result<Proxy, String>>,
    /// Hosts that are reached without, in the words of `NO_PROXY`; nothing if no host is exempt, not even loopback.
    exempt: Option<String>,
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxies").field("https", &self.https).field("http", &self.http).finish_non_exhaustive()
    }
}

impl Proxies {
    /// As configured, and as the environment of this process says.
    ///
    /// # Errors
    /// A URL was given that is none of a proxy.
    pub(crate) fn new(config: &Config) -> Result<Proxies, ConfigFault> {
        match &config.proxy {
            ProxyChoice::Off => Ok(Proxies::default()),
            ProxyChoice::Environment => Ok(Proxies::of_environment(variable)),
            ProxyChoice::Url(url) => {
                let fault = || ConfigFault {
                    field: "proxy",
                    value: format!("{:?}", without_user(url)),
                    bound: BOUND.to_owned(),
                };
                let proxy = Proxy::parse(url).ok_or_else(fault)?;
                Ok(Proxies { https: Some(Ok(proxy.clone())), http: Some(Ok(proxy)), exempt: None })
            }
        }
    }

    /// As these variables say.
    fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Proxies {
        let first = |names: &[&'static str]| {
            let set = |name: &&'static str| Some((*name, variable(name).filter(|value| !value.trim().is_empty())?));
            names.iter().find_map(set)
        };
        let proxy = |names: &[&'static str]| {
            first(names).map(|(name, value)| {
                let value = value.trim();
                let url = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
                let wrong = || format!("{name} is {:?}, but must be {BOUND}", without_user(value));
                Proxy::parse(&url).ok_or_else(wrong)
            })
        };
        Proxies {
            https: proxy(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]),
            http: proxy(&["http_proxy", "ALL_PROXY", "all_proxy"]),
            exempt: Some(first(&["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default()),
        }
    }

    /// The proxy of an endpoint; nothing if it is reached without.
    ///
    /// # Errors
    /// The environment names one that is none; in words.
    pub(crate) fn find(&self, https: bool, host: &str, port: u16) -> Result<Option<&Proxy>, String> {
        let Some(proxy) = (if https { &self.https } else { &self.http }) else { return Ok(None) };
        if self.exempt.as_ref().is_some_and(|exempt| is_loopback(host) || is_exempt(exempt, host, port)) {
            return Ok(None);
        }
        proxy.as_ref().map(Some).map_err(String::clone)
    }

    /// The same for a URI.
    ///
    /// # Errors
    /// As [`Proxies::find`].
    pub(crate) fn find_for(&self, uri: &Uri) -> Result<Option<&Proxy>, String> {
        let (host, port) = place(uri);
        self.find(is_https(uri), host, port)
    }
}

/// A variable of this process. What is no text is no URL either, and must not pass for unset.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Whether a URI is one of TLS.
pub(crate) fn is_https(uri: &Uri) -> bool {
    uri.scheme() == Some(&http::uri::Scheme::HTTPS)
}

/// Host, without brackets, and port of a URI.
pub(crate) fn place(uri: &Uri) -> (&str, u16) {
    let default = if is_https(uri) { 443 } else { 80 };
    (without_brackets(uri.host().unwrap_or_default()), uri.port_u16().unwrap_or(default))
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// Whether `NO_PROXY` names an endpoint.
fn is_exempt(no_proxy: &str, host: &str, port: u16) -> bool {
    let Ok(uri) = format!("http://{}", authority(host, port)).parse::<Uri>() else { return false };
    let entries = no_proxy.split([',', ' ']).filter_map(|entry| match entry.rsplit_once(':') {
        // An address of IPv6 has a port only behind brackets.
        Some((host, of)) if !host.contains(':') || host.ends_with(']') => (of.parse() == Ok(port)).then_some(host),
        _ => Some(entry),
    });
    let entries: Vec<_> = entries.map(without_brackets).collect();
    // `*.host`, as some write it, means what is below the host.
    let names: Vec<_> = entries.iter().map(|entry| entry.trim_start_matches('*')).collect();
    let matcher = Matcher::builder().all("http://any").no(names.join(",")).build();
    entries.contains(&"*") || matcher.intercept(&uri).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        let value = |name: &str| variables.iter().find(|(of, _)| *of == name).map(|(_, value)| (*value).to_owned());
        Proxies::of_environment(value)
    }

    /// The proxy's host, or the reason why there is none to be had.
    fn found(proxies: &Proxies, https: bool, host: &str, port: u16) -> Result<Option<String>, String> {
        Ok(proxies.find(https, host, port)?.map(|proxy| proxy.host.clone()))
    }

    fn given(url: &str) -> Result<Proxies, ConfigFault> {
        Proxies::new(&Config { proxy: ProxyChoice::Url(url.to_owned()), ..Config::default() })
    }

    #[test]
    fn a_given_url_is_taken_apart() {
        for (url, host, port, authorization) in [
            ("http://proxy.test:3128", "proxy.test", 3128, None),
            ("http://proxy.test/", "proxy.test", 80, None),
            ("http://[::1]:8080", "::1", 8080, None),
            // As RFC 7617 has it.
            ("http://Aladdin:open%20sesame@proxy.test", "proxy.test", 80, Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")),
            ("http://me@proxy.test", "proxy.test", 80, Some("Basic bWU6")),
        ] {
            let proxies = given(url).expect(url);
            // Loopback too, as it was asked for.
            for (https, host_of_endpoint) in [(true, "kinesis.test"), (false, "127.0.0.1"), (true, "localhost")] {
                let proxy = proxies.find(https, host_of_endpoint, 443).expect(url).expect(url);
                assert_eq!((proxy.host.as_str(), proxy.port), (host, port));
                assert_eq!(proxy.authorization.as_ref().map(HeaderValue::as_bytes), authorization.map(str::as_bytes));
                assert!(proxy.authorization.iter().all(HeaderValue::is_sensitive));
            }
        }
    }

    #[test]
    fn what_is_no_url_of_a_proxy_is_refused_without_its_password() {
        for (url, shown) in [
            ("", ""),
            ("proxy:3128", "proxy:3128"),
            ("https://me:hush@proxy:3128", "https://***@proxy:3128"),
            ("socks5://me:hush@proxy", "socks5://***@proxy"),
            ("http://", "http://"),
            ("http://me:hush@", "http://***@"),
            ("http://me:hush@proxy:", "http://***@proxy:"),
            ("http://me:hush@proxy:99999", "http://***@proxy:99999"),
            ("http://me:hu/sh@proxy:3128", "http://***@proxy:3128"),
            ("http://me:hu#sh@proxy:3128", "http://***@proxy:3128"),
            ("http://proxy/proxy.pac", "http://proxy/proxy.pac"),
            ("http://proxy?x", "http://proxy?x"),
        ] {
            let fault = given(url).expect_err(url).to_string();
            assert_eq!(fault, format!("proxy is {shown:?}, but must be {BOUND}"));
        }
    }

    #[test]
    fn no_credentials_are_shown() {
        let proxies = given("http://me:hush@proxy:3128").expect("a proxy");
        let text = format!("{proxies:?} {}", proxies.find(true, "h", 443).expect("one").expect("one"));
        assert!(text.contains("proxy proxy:3128") && !text.contains("hush") && !text.contains("Basic"), "{text}");
    }

    #[test]
    fn variables_are_looked_at_in_order_and_http_proxy_in_lower_case_alone() {
        let all = [("ALL_PROXY", "http://all"), ("all_proxy", "http://All")];
        for (variables, https, http) in [
            (&[][..], None, None),
            (&[("HTTPS_PROXY", "http://one"), ("https_proxy", "http://two")], Some("one"), None),
            (&[("HTTPS_PROXY", " "), ("https_proxy", "two:3128")], Some("two"), None),
            (&[("HTTP_PROXY", "http://one")], None, None),
            (&[("http_proxy", "http://one")], None, Some("one")),
            (&all, Some("all"), Some("all")),
            (&[("https_proxy", "http://one"), all[1]], Some("one"), Some("All")),
        ] {
            let proxies = proxies(variables);
            assert_eq!(found(&proxies, true, "h", 443), Ok(https.map(str::to_owned)), "{variables:?}");
            assert_eq!(found(&proxies, false, "h", 80), Ok(http.map(str::to_owned)), "{variables:?}");
        }
    }

    #[test]
    fn a_variable_that_names_no_http_proxy_fails_its_endpoints_and_no_other() {
        let proxies =
            proxies(&[("HTTPS_PROXY", "https://me:hush@one"), ("http_proxy", "http://two"), ("NO_PROXY", "near.test")]);
        let reason = found(&proxies, true, "far.test", 443).expect_err("TLS to a proxy");
        assert_eq!(reason, format!("HTTPS_PROXY is \"https://***@one\", but must be {BOUND}"));
        assert_eq!(found(&proxies, false, "far.test", 80), Ok(Some("two".to_owned())));
        for exempt in ["near.test", "localhost", "127.0.0.1"] {
            assert_eq!(found(&proxies, true, exempt, 443), Ok(None), "{exempt}");
        }
    }

    #[test]
    fn loopback_needs_no_proxy_of_the_environment() {
        let proxies = proxies(&[("ALL_PROXY", "http://one")]);
        for host in ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9", "::1"] {
            assert_eq!(found(&proxies, false, host, 80), Ok(None), "{host}");
        }
        for host in ["localhost.test", "128.0.0.1", "::2", "kinesis.eu-west-1.amazonaws.com"] {
            assert_eq!(found(&proxies, false, host, 80), Ok(Some("one".to_owned())), "{host}");
        }
    }

    #[test]
    fn hosts_that_no_proxy_names_are_reached_without() {
        for (no_proxy, host, exempt) in [
            ("", "a.test", false),
            ("*", "a.test", true),
            ("*", "10.0.0.1", true),
            ("*:443", "a.test", true),
            ("*:80", "a.test", false),
            ("a.test", "a.test", true),
            ("A.Test", "a.test", true),
            ("a.test", "b.a.test", true),
            ("a.test", "ba.test", false),
            (".test", "a.test", true),
            ("*.test", "a.test", true),
            ("x, a.test ,y", "a.test", true),
            ("x a.test", "a.test", true),
            ("a.test:443", "a.test", true),
            ("a.test:80", "a.test", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1:443", "10.0.0.1", true),
            ("10.0.0.1:80", "10.0.0.1", false),
            ("10.0.0.0/8", "10.1.2.3", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("fd00::/8", "fd00::1", true),
            ("fd00::1", "fd00::1", true),
            ("[fd00::1]", "fd00::1", true),
            ("[fd00::1]:443", "fd00::1", true),
            ("[fd00::1]:80", "fd00::1", false),
        ] {
            let proxies = proxies(&[("HTTPS_PROXY", "http://one"), ("NO_PROXY", no_proxy)]);
            assert_eq!(found(&proxies, true, host, 443), Ok((!exempt).then(|| "one".to_owned())), "{no_proxy} {host}");
        }
    }

    #[test]
    fn a_uri_is_asked_for_by_its_scheme_host_and_port() {
        let proxies = proxies(&[("HTTPS_PROXY", "http://one"), ("NO_PROXY", "a.test:80,a.test:4443,[fd00::1]")]);
        for (uri, proxied) in [
            ("https://a.test/", true),
            ("https://a.test:4443/", false),
            ("http://a.test/", false),
            ("https://[fd00::1]/", false),
            ("https://[fd00::2]/", true),
        ] {
            let found = proxies.find_for(&Uri::from_static(uri)).expect("no fault");
            assert_eq!(found.is_some(), proxied, "{uri}");
        }
    }

    #[test]
    fn an_answer_opens_the_tunnel_when_its_head_is_whole_and_nothing_is_behind_it() {
        let refused = |code: u16| Head::Refused(StatusCode::from_u16(code).expect("a status"));
        for (answer, head) in [
            ("", Head::Partial),
            ("HTT", Head::Partial),
            ("HTTP/1.1 407 Who are you?", Head::Partial),
            ("HTTP/1.1 200 Connection established\r\n", Head::Partial),
            ("HTTP/1.1 200 OK\r\nvia: x\r\n\r\n", Head::Whole),
            ("HTTP/1.0 204\r\n\r\n", Head::Whole),
            ("HTTP/1.1 200 OK\r\n\r\nx", Head::Nonsense),
            ("HTTP/1.0 407\r\n", refused(407)),
            ("HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", refused(502)),
            ("HTTP/1.1 302 Found\r\n", refused(302)),
            ("HTTP/1.1 2000\r\n", Head::Nonsense),
            ("HTTP/1.1 20\r\n", Head::Nonsense),
            ("HTTP/2 200 \r\n", Head::Nonsense),
            ("HTTP/1.1  200\r\n", Head::Nonsense),
            ("SSH-2.0", Head::Nonsense),
            ("\r\n", Head::Nonsense),
        ] {
            assert_eq!(Head::of(answer.as_bytes()), head, "{answer:?}");
        }
    }
}
