//! What the control thread has found of access, as cores take it.

use std::sync::Arc;

use http::Uri;
use rustls::ClientConfig;

use crate::control::access::Grant;
use crate::control::endpoint::Scheme;
use crate::outcome::ErrorCode;
use crate::runtime::connection::Target;
use crate::runtime::lines::{Access, AccessDenied};
use crate::runtime::signing::Signer;
use crate::runtime::tls::Tls;

/// Where requests go, how, and in whose name. `tls` is nothing if the endpoint is in the clear.
///
/// # Errors
/// TLS cannot be spoken with what the endpoint is called.
pub(super) fn access_of(grant: &Grant, tls: Option<&Arc<ClientConfig>>) -> Result<Access, AccessDenied> {
    let location = &grant.endpoint.location;
    let denied = |message: String| AccessDenied { code: ErrorCode::Tls, message: message.into() };
    let tls = match (location.scheme, tls) {
        (Scheme::Http, _) => None,
        (Scheme::Https, Some(config)) => Some(Tls::with(Arc::clone(config), &location.host).map_err(denied)?),
        // Only a given URL is in the clear, and for any other there is a configuration.
        (Scheme::Https, None) => return Err(denied(format!("{} is to be reached in the clear", location.host))),
    };
    let (host, proxy) = (location.host_header(), grant.endpoint.proxy.clone());
    let addresses = grant.endpoint.addresses.as_slice().into();
    let target = Target { addresses, host: location.host.as_str().into(), port: location.port, tls, proxy };
    // A location's host and path were cut from a URL that was parsed.
    let uri = match target.forwarder() {
        Some(_) => format!("http://{host}{}", location.path).parse(),
        None => location.path.parse(),
    };
    Ok(Access {
        target,
        host,
        uri: uri.unwrap_or_else(|_| Uri::from_static("/")),
        signer: Signer::new(&grant.credentials, &grant.region),
        serial: grant.serial,
    })
}
