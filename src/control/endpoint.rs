//! Where to write: the URL of an operation's endpoint, and its addresses.
//!
//! A given URL is taken as it is. Otherwise the endpoint resolver of AWS's SDK is asked, per kind of operation: with
//! a stream's ARN it names an account's own endpoints, which differ for writing and for listing shards. It knows which
//! regions have FIPS and dual-stack endpoints, too.
//!
//! Addresses are looked up here, since cores never resolve names. Behind a proxy they are the proxy's, and the
//! endpoint's name is the proxy's to look up.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use aws_config::default_provider::use_dual_stack::use_dual_stack_provider;
use aws_config::default_provider::use_fips::use_fips_provider;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_kinesis::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use http::Uri;

use crate::config::Config;
use crate::proxy::{Proxies, Proxy};

/// How the endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

/// A URL in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// With or without TLS.
    pub scheme: Scheme,
    /// A name, or an address without brackets.
    pub host: String,
    /// The port, the scheme's own if the URL has none.
    pub port: u16,
    /// The path, `/` if the URL has none.
    pub path: String,
}

/// An endpoint that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Its URL.
    pub location: Location,
    /// The proxy before it.
    pub proxy: Option<Proxy>,
    /// The addresses to connect to, the proxy's if there is one; at least one, in the order in which they are to be
    /// tried.
    pub addresses: Vec<SocketAddr>,
}

/// Why there is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EndpointError {
    /// The URL is not one that can be an endpoint. Asking again does not help.
    InvalidUrl {
        /// The URL.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// AWS's rules have no endpoint for the region or the ARN. Asking again does not help.
    NoEndpoint {
        /// The region.
        region: String,
        /// What the rules said.
        reason: String,
    },
    /// The name has no address now.
    NoAddress {
        /// The name.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// The proxy before it has no address now, or the environment's is none.
    NoProxy {
        /// What is wrong.
        reason: String,
    },
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointError::InvalidUrl { url, reason } => write!(f, "endpoint URL {url:?}: {reason}"),
            EndpointError::NoEndpoint { region, reason } => {
                write!(f, "no Kinesis endpoint in region {region:?}: {reason}")
            }
            EndpointError::NoAddress { host, reason } => write!(f, "no address for endpoint {host:?}: {reason}"),
            EndpointError::NoProxy { reason } => f.write_str(reason),
        }
    }
}

impl std::error::Error for EndpointError {}

impl Location {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// It is not `http://HOST[:PORT][/PATH]` or `https://…`.
    pub(crate) fn parse(url: &str) -> Result<Location, EndpointError> {
        let invalid = |reason: &str| EndpointError::InvalidUrl { url: url.to_owned(), reason: reason.to_owned() };
        let uri: Uri = url.parse().map_err(|error| invalid(&format!("{error}")))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(invalid("it must begin with http:// or https://")),
        };
        let authority = uri.authority().ok_or_else(|| invalid("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("it must not hold a user name or password"));
        }
        if uri.query().is_some() {
            return Err(invalid("it must not have a query"));
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(invalid("it names no host"));
        }
        let port = match &authority.as_str()[authority.host().len()..] {
            "" => scheme.port(),
            _ => authority.port_u16().ok_or_else(|| invalid("its port is not a number from 0 to 65535"))?,
        };
        Ok(Location { scheme, host: host.to_owned(), port, path: uri.path().to_owned() })
    }

    /// The `Host` header: with the port unless it is the scheme's own.
    pub(crate) fn host_header(&self) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        if self.port == self.scheme.port() {
            format!("{open}{}{close}", self.host)
        } else {
            format!("{open}{}{close}:{}", self.host, self.port)
        }
    }

    /// The addresses of the host, or of the proxy before it, looked up anew.
    ///
    /// # Errors
    /// The name has no address, or the lookup did not end within `timeout`; or the environment's proxy is none.
    pub(crate) async fn look_up(self, proxies: &Proxies, timeout: Duration) -> Result<Endpoint, EndpointError> {
        let proxy = proxies.find(self.scheme == Scheme::Https, &self.host, self.port);
        let proxy = proxy.map_err(|reason| EndpointError::NoProxy { reason })?.cloned();
        let failed = |reason: String| match &proxy {
            Some(proxy) => EndpointError::NoProxy { reason: format!("no address for {proxy}: {reason}") },
            None => EndpointError::NoAddress { host: self.host.clone(), reason },
        };
        let place = proxy.as_ref().map_or((self.host.as_str(), self.port), |proxy| (proxy.host.as_str(), proxy.port));
        let lookup = tokio::net::lookup_host(place);
        let addresses: Vec<SocketAddr> = match tokio::time::timeout(timeout, lookup).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_elapsed) => return Err(failed(format!("the lookup did not end within {timeout:?}"))),
        };
        if addresses.is_empty() {
            return Err(failed("the name has none".to_owned()));
        }
        Ok(Endpoint { location: self, proxy, addresses })
    }
}

/// Which of a region's endpoints is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Variant {
    /// Those whose cryptography is validated.
    pub(crate) fips: bool,
    /// Those that have addresses of IPv6 too.
    pub(crate) dual_stack: bool,
}

impl Variant {
    /// As configured, else as AWS's environment variables and profile say; neither where a URL is given, which says
    /// itself what it is. Reads the profile's files, and has no timeout of its own.
    pub(crate) async fn of(config: &Config) -> Variant {
        if config.endpoint_url.is_some() {
            return Variant::default();
        }
        let chain = ProviderConfig::default();
        let fips = match config.use_fips {
            None => use_fips_provider(&chain).await,
            given => given,
        };
        let dual_stack = match config.use_dual_stack {
            None => use_dual_stack_provider(&chain).await,
            given => given,
        };
        Variant { fips: fips.unwrap_or(false), dual_stack: dual_stack.unwrap_or(false) }
    }
}

/// The URL for PutRecords: the one given, else AWS's for the region, the variant and, if there is one, the stream's ARN.
///
/// # Errors
/// The given URL is not valid, or AWS's rules have no endpoint.
pub(crate) async fn locate(
    given: Option<&str>,
    region: &str,
    variant: Variant,
    stream_arn: Option<&str>,
) -> Result<Location, EndpointError> {
    match given {
        Some(url) => Location::parse(url),
        None => resolve("data", region, variant, stream_arn).await,
    }
}

/// AWS's endpoint for operations of a type: `data` for those on records, `control` for those on streams.
async fn resolve(
    operation_type: &str,
    region: &str,
    Variant { fips, dual_stack }: Variant,
    stream_arn: Option<&str>,
) -> Result<Location, EndpointError> {
    let failed = |reason: String| EndpointError::NoEndpoint { region: region.to_owned(), reason };
    let parameters = Params::builder()
        .region(region)
        .use_fips(fips)
        .use_dual_stack(dual_stack)
        .operation_type(operation_type)
        .set_stream_arn(stream_arn.map(str::to_owned))
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let resolver = DefaultResolver::new();
    let endpoint = ResolveEndpoint::resolve_endpoint(&resolver, &parameters)
        .await
        .map_err(|error| failed(crate::error::with_causes(error.as_ref())))?;
    Location::parse(endpoint.url())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ProxyChoice;
    use crate::control::testing::run;

    const LONG: Duration = Duration::from_secs(10);

    const PLAIN: Variant = Variant { fips: false, dual_stack: false };
    const FIPS: Variant = Variant { fips: true, dual_stack: false };
    const DUAL: Variant = Variant { fips: false, dual_stack: true };
    const BOTH: Variant = Variant { fips: true, dual_stack: true };

    async fn host_of(operation_type: &str, region: &str, variant: Variant, arn: Option<&str>) -> String {
        let location = resolve(operation_type, region, variant, arn).await.expect("a region of AWS");
        assert_eq!((location.scheme, location.port, location.path.as_str()), (Scheme::Https, 443, "/"));
        assert_eq!(location.host, location.host_header());
        location.host
    }

    #[test]
    fn hosts_are_those_of_the_regions_partition() {
        run(async {
            for (region, variant, host) in [
                ("us-east-1", PLAIN, "kinesis.us-east-1.amazonaws.com"),
                ("us-east-1", FIPS, "kinesis-fips.us-east-1.amazonaws.com"),
                ("us-east-1", DUAL, "kinesis.us-east-1.api.aws"),
                ("us-east-1", BOTH, "kinesis-fips.us-east-1.api.aws"),
                ("eu-west-1", PLAIN, "kinesis.eu-west-1.amazonaws.com"),
                ("eu-west-1", FIPS, "kinesis-fips.eu-west-1.amazonaws.com"),
                ("eu-west-1", DUAL, "kinesis.eu-west-1.api.aws"),
                ("eu-west-1", BOTH, "kinesis-fips.eu-west-1.api.aws"),
                // All of GovCloud's are validated, so that they have no name of their own.
                ("us-gov-west-1", PLAIN, "kinesis.us-gov-west-1.amazonaws.com"),
                ("us-gov-west-1", FIPS, "kinesis.us-gov-west-1.amazonaws.com"),
                ("us-gov-west-1", DUAL, "kinesis.us-gov-west-1.api.aws"),
                ("us-gov-west-1", BOTH, "kinesis-fips.us-gov-west-1.api.aws"),
                ("cn-north-1", PLAIN, "kinesis.cn-north-1.amazonaws.com.cn"),
                ("cn-north-1", DUAL, "kinesis.cn-north-1.api.amazonwebservices.com.cn"),
            ] {
                for operation_type in ["data", "control"] {
                    assert_eq!(host_of(operation_type, region, variant, None).await, host);
                }
                let located = locate(None, region, variant, None).await.expect("a region of AWS");
                assert_eq!(located.host, host);
            }
        });
    }

    #[test]
    fn an_arn_leads_to_the_accounts_own_endpoints_which_differ_by_operation() {
        run(async {
            for (partition, region, variant, host) in [
                ("aws", "us-east-1", PLAIN, "kinesis.us-east-1.amazonaws.com"),
                ("aws", "us-east-1", FIPS, "kinesis-fips.us-east-1.amazonaws.com"),
                ("aws", "eu-west-1", PLAIN, "kinesis.eu-west-1.amazonaws.com"),
                ("aws", "eu-west-1", DUAL, "kinesis.eu-west-1.api.aws"),
                ("aws", "eu-west-1", BOTH, "kinesis-fips.eu-west-1.api.aws"),
                ("aws-us-gov", "us-gov-west-1", FIPS, "kinesis-fips.us-gov-west-1.amazonaws.com"),
            ] {
                let arn = format!("arn:{partition}:kinesis:{region}:123456789012:stream/clicks");
                for operation_type in ["data", "control"] {
                    let found = host_of(operation_type, region, variant, Some(&arn)).await;
                    assert_eq!(found, format!("123456789012.{operation_type}-{host}"));
                }
            }
        });
    }

    #[test]
    fn a_configured_variant_asks_nobody_and_a_url_has_none() {
        run(async {
            let config = Config { use_fips: Some(true), use_dual_stack: Some(false), ..Config::default() };
            assert_eq!(Variant::of(&config).await, FIPS);
            let config = Config { use_fips: Some(false), use_dual_stack: Some(true), ..Config::default() };
            assert_eq!(Variant::of(&config).await, DUAL);
            let config = Config { endpoint_url: Some("https://kinesis.test".into()), ..Config::default() };
            assert_eq!(Variant::of(&config).await, PLAIN);
        });
    }

    #[test]
    fn a_region_or_arn_outside_the_rules_is_an_error_that_names_the_region() {
        run(async {
            for (region, arn) in [("not a region", None), ("eu-west-1", Some("clicks"))] {
                let error = locate(None, region, PLAIN, arn).await.unwrap_err();
                assert!(matches!(error, EndpointError::NoEndpoint { .. }), "{error:?}");
                assert!(error.to_string().contains(region), "{error}");
            }
        });
    }

    #[test]
    fn a_given_url_wins_over_the_rules() {
        run(async {
            let location = locate(Some("http://localhost:4567"), "eu-west-1", PLAIN, None).await.expect("a URL");
            assert_eq!((location.scheme, location.host.as_str(), location.port), (Scheme::Http, "localhost", 4567));
            assert_eq!(location.host_header(), "localhost:4567");
            assert_eq!(location.path, "/");
        });
    }

    #[test]
    fn the_port_is_in_the_host_header_unless_it_is_the_schemes_own() {
        for (url, header) in [
            ("http://host", "host"),
            ("http://host:80", "host"),
            ("https://host:443/path", "host"),
            ("https://host:80", "host:80"),
            ("http://[::1]:4567", "[::1]:4567"),
            ("https://[::1]", "[::1]"),
        ] {
            assert_eq!(Location::parse(url).expect(url).host_header(), header, "{url}");
        }
    }

    #[test]
    fn what_is_no_endpoint_url_is_refused_with_a_reason() {
        for url in [
            "",
            "localhost:4567",
            "/",
            "ftp://host",
            "http://",
            "http://user:secret@host",
            "http://host:port",
            "http://host:99999",
            "http://host:",
            "http://host/?query",
            "http://ho st",
        ] {
            let error = Location::parse(url).expect_err(url);
            assert!(matches!(error, EndpointError::InvalidUrl { .. }), "{error:?}");
        }
    }

    #[test]
    fn an_address_is_its_own_lookup() {
        run(async {
            let location = Location::parse("http://127.0.0.1:4567").expect("a URL");
            let endpoint = location.look_up(&Proxies::default(), LONG).await.expect("an address");
            assert_eq!(endpoint.addresses, ["127.0.0.1:4567".parse::<SocketAddr>().expect("an address")]);
            assert_eq!(endpoint.proxy, None);
        });
    }

    #[test]
    fn behind_a_proxy_the_proxys_address_is_looked_up_and_not_the_endpoints() {
        run(async {
            let behind = |url: &str| {
                let config = Config { proxy: ProxyChoice::Url(url.into()), ..Config::default() };
                let proxies = Proxies::new(&config).expect("a proxy");
                let location = Location::parse("https://nowhere.invalid").expect("a URL");
                async move { location.look_up(&proxies, LONG).await }
            };
            let endpoint = behind("http://127.0.0.1:3128").await.expect("an address");
            assert_eq!(endpoint.addresses, ["127.0.0.1:3128".parse::<SocketAddr>().expect("an address")]);
            assert_eq!(endpoint.proxy.map(|proxy| proxy.to_string()).as_deref(), Some("proxy 127.0.0.1:3128"));
            let error = behind("http://me:hush@proxy.invalid:3128").await.expect_err("a name without an address");
            assert!(matches!(error, EndpointError::NoProxy { .. }), "{error:?}");
            assert!(error.to_string().starts_with("no address for proxy proxy.invalid:3128: "), "{error}");
        });
    }
}
