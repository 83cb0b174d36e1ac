//! How AWS's client reaches an endpoint over TLS: with the producer's own TLS configuration, so that shard lists trust
//! exactly whom records trust.
//!
//! AWS's ready-made connectors build their own configuration: they cannot share sessions, and know no way to accept
//! an invalid certificate. This one is a pool of HTTP/1.1 connections by hyper, and says of a failed handshake what
//! the cores would say. It refuses plain HTTP and proxies. Its time is limited by the client's timeouts.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;

use crate::trust;

/// A pool of connections that share a TLS configuration. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector {
    pool: Client<HttpsConnector<TcpConnector>, SdkBody>,
}

impl Connector {
    /// Connects nothing yet.
    pub(crate) fn new(tls: &Arc<ClientConfig>) -> Connector {
        let config = ClientConfig::clone(tls);
        let https = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
        Connector { pool: Client::builder(TokioExecutor::new()).build(https) }
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpClient for Connector {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        None
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = match request.try_into_http1x() {
            Ok(request) => request,
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let host = request.uri().host().unwrap_or_default().to_owned();
        let answer = self.pool.request(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await.map_err(|error| match trust::find_cause(&error) {
                Some(cause) => ConnectorError::other(Box::new(NoTls { host, reason: trust::reason(cause) }), None),
                None => ConnectorError::io(Box::new(error)),
            })?;
            HttpResponse::try_from(answer.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// A handshake that failed.
#[derive(Debug)]
struct NoTls {
    host: String,
    reason: String,
}

impl fmt::Display for NoTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls: no TLS with {}: {}", self.host, self.reason)
    }
}

impl Error for NoTls {}
