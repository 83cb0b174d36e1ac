//! Where to write: the URL of an operation's endpoint, and its addresses.
//!
//! A given URL is taken as it is. Otherwise the endpoint resolver of AWS's SDK is asked, per kind of operation: with
//! a stream's ARN it names an account's own endpoints, which differ for writing and for listing shards.
//!
//! Addresses are looked up here, since cores never resolve names.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use aws_sdk_kinesis::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};
use http::Uri;

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
    /// Its addresses, at least one, in the order in which they are to be tried.
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
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointError::InvalidUrl { url, reason } => write!(f, "endpoint URL {url:?}: {reason}"),
            EndpointError::NoEndpoint { region, reason } => {
                write!(f, "no Kinesis endpoint in region {region:?}: {reason}")
            }
            EndpointError::NoAddress { host, reason } => write!(f, "no address for endpoint {host:?}: {reason}"),
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

    /// The addresses of the host, looked up anew.
    ///
    /// # Errors
    /// The name has no address, or the lookup did not end within `timeout`.
    pub(crate) async fn look_up(self, timeout: Duration) -> Result<Endpoint, EndpointError> {
        let failed = |reason: String| EndpointError::NoAddress { host: self.host.clone(), reason };
        let lookup = tokio::net::lookup_host((self.host.as_str(), self.port));
        let addresses: Vec<SocketAddr> = match tokio::time::timeout(timeout, lookup).await {
            Ok(Ok(addresses)) => addresses.collect(),
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_elapsed) => return Err(failed(format!("the lookup did not end within {timeout:?}"))),
        };
        if addresses.is_empty() {
            return Err(failed("the name has none".to_owned()));
        }
        Ok(Endpoint { location: self, addresses })
    }
}

/// The URL for PutRecords: the one given, else AWS's for the region and, if there is one, the stream's ARN.
///
/// # Errors
/// The given URL is not valid, or AWS's rules have no endpoint.
pub(crate) async fn locate(
    given: Option<&str>,
    region: &str,
    stream_arn: Option<&str>,
) -> Result<Location, EndpointError> {
    if let Some(url) = given {
        return Location::parse(url);
    }
    let failed = |reason: String| EndpointError::NoEndpoint { region: region.to_owned(), reason };
    let parameters = Params::builder()
        .region(region)
        .operation_type("data")
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
    use crate::control::testing::run;

    async fn host_of(region: &str, arn: Option<&str>) -> String {
        let location = locate(None, region, arn).await.expect("a region of AWS");
        assert_eq!((location.scheme, location.port, location.path.as_str()), (Scheme::Https, 443, "/"));
        assert_eq!(location.host, location.host_header());
        location.host
    }

    #[test]
    fn hosts_are_those_of_the_regions_partition() {
        run(async {
            for (region, host) in [
                ("us-east-1", "kinesis.us-east-1.amazonaws.com"),
                ("eu-central-1", "kinesis.eu-central-1.amazonaws.com"),
                ("us-gov-west-1", "kinesis.us-gov-west-1.amazonaws.com"),
                ("cn-north-1", "kinesis.cn-north-1.amazonaws.com.cn"),
            ] {
                assert_eq!(host_of(region, None).await, host);
            }
        });
    }

    #[test]
    fn an_arn_leads_to_the_accounts_own_endpoint() {
        run(async {
            let arn = Some("arn:aws:kinesis:eu-west-1:123456789012:stream/clicks");
            let data = host_of("eu-west-1", arn).await;
            assert_eq!(data, "123456789012.data-kinesis.eu-west-1.amazonaws.com");
        });
    }

    #[test]
    fn a_region_or_arn_outside_the_rules_is_an_error_that_names_the_region() {
        run(async {
            for (region, arn) in [("not a region", None), ("eu-west-1", Some("clicks"))] {
                let error = locate(None, region, arn).await.unwrap_err();
                assert!(matches!(error, EndpointError::NoEndpoint { .. }), "{error:?}");
                assert!(error.to_string().contains(region), "{error}");
            }
        });
    }

    #[test]
    fn a_given_url_wins_over_the_rules() {
        run(async {
            let location = locate(Some("http://localhost:4567"), "eu-west-1", None).await.expect("a URL");
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
            let endpoint = location.look_up(Duration::from_secs(10)).await.expect("an address");
            assert_eq!(endpoint.addresses, ["127.0.0.1:4567".parse::<SocketAddr>().expect("an address")]);
        });
    }
}
