//! How AWS's client reaches an endpoint: with the producer's own TLS configuration and proxy, so that shard lists trust
//! exactly whom records trust and go the way that records go.
//!
//! ```text
//!   AWS's client ──▶ Connector: a pool of HTTP/1.1 connections ──▶ (TLS) ──▶ Road ──┬─▶ the endpoint
//!                                                                                   └─▶ a proxy ──▶ the endpoint
//! ```
//!
//! AWS's ready-made connectors build their own configuration: they cannot share sessions, know no way to accept an
//! invalid certificate, and do not tell why a proxy refuses. This one is hyper's pool, and says of a failed handshake
//! and of a proxy what the cores would say. A connection is there, tunnel included, within `connect_timeout`, and TLS
//! and the request are limited by the client's timeouts.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http::{StatusCode, Uri, header};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector as TcpConnector};
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::outcome::ErrorCode;
use crate::proxy::{Proxies, Proxy, is_https, place};
use crate::trust;

/// A pool of connections that share a TLS configuration. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connector {
    pool: Pool,
    proxies: Arc<Proxies>,
}

#[derive(Clone)]
enum Pool {
    /// To endpoints in the clear alone.
    Plain(Client<Road, SdkBody>),
    /// To endpoints that speak TLS alone.
    Tls(Client<HttpsConnector<Road>, SdkBody>),
}

impl Pool {
    fn request(&self, request: http::Request<SdkBody>) -> ResponseFuture {
        match self {
            Pool::Plain(pool) => pool.request(request),
            Pool::Tls(pool) => pool.request(request),
        }
    }
}

impl Connector {
    /// Connects nothing yet.
    pub(crate) fn new(tls: Option<&Arc<ClientConfig>>, proxies: Arc<Proxies>, connect_timeout: Duration) -> Connector {
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let road = Road { tcp, proxies: Arc::clone(&proxies), connect_timeout };
        let builder = Client::builder(TokioExecutor::new());
        let pool = match tls {
            None => Pool::Plain(builder.build(road)),
            Some(tls) => {
                let https = HttpsConnectorBuilder::new().with_tls_config(ClientConfig::clone(tls)).https_only();
                Pool::Tls(builder.build(https.enable_http1().wrap_connector(road)))
            }
        };
        Connector { pool, proxies }
    }

    /// Sends a request; one in the clear that a proxy forwards says who asks it to.
    async fn send(self, mut request: http::Request<SdkBody>) -> Result<HttpResponse, ConnectorError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let in_the_clear = !is_https(request.uri());
        // If the environment's proxy is none, the road says so.
        let proxy = self.proxies.find_for(request.uri()).ok().flatten().filter(|_| in_the_clear);
        if let Some(authorization) = proxy.and_then(|proxy| proxy.authorization.clone()) {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, authorization);
        }
        let answer =
            self.pool.request(request).await.map_err(|error| match (trust::find_cause(&error), told(&error)) {
                (_, Some(told)) => ConnectorError::other(Box::new(told.clone()), None),
                (Some(cause), None) => {
                    let told = Told { code: ErrorCode::Tls, reason: trust::no_tls(&host, &trust::reason(cause)) };
                    ConnectorError::other(Box::new(told), None)
                }
                (None, None) => ConnectorError::io(Box::new(error)),
            })?;
        match proxy.filter(|_| answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED) {
            Some(proxy) => Err(ConnectorError::other(Box::new(no_proxy(proxy.unauthorized())), None)),
            None => HttpResponse::try_from(answer.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None)),
        }
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
        match request.try_into_http1x() {
            Ok(request) => HttpConnectorFuture::new(self.clone().send(request)),
            Err(error) => HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        }
    }
}

/// What kept a connection from coming about, in the words that a core would use.
#[derive(Clone, Debug)]
struct Told {
    code: ErrorCode,
    reason: String,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.reason)
    }
}

impl Error for Told {}

fn no_proxy(reason: String) -> Told {
    Told { code: ErrorCode::Proxy, reason }
}

/// What the road has told, if that is behind `error`.
fn told<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Told> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(told) = error.downcast_ref() {
            return Some(told);
        }
        next = error.source();
    }
    None
}

/// Leads to endpoints, through their proxies if they have some.
#[derive(Clone)]
struct Road {
    tcp: TcpConnector,
    proxies: Arc<Proxies>,
    connect_timeout: Duration,
}

impl Road {
    async fn lead(mut self, to: Uri) -> Result<Way, Box<dyn Error + Send + Sync>> {
        let proxy = self.proxies.find_for(&to).map_err(no_proxy)?;
        let late = || match proxy {
            Some(proxy) => no_proxy(format!("no way through {proxy} within {:?}", self.connect_timeout)),
            None => {
                let reason = format!("no connection to {} within {:?}", place(&to).0, self.connect_timeout);
                Told { code: ErrorCode::Connect, reason }
            }
        };
        let way = async {
            match proxy {
                None => Ok(Way { stream: self.tcp.call(to.clone()).await?, forwarded: false }),
                Some(proxy) => Ok(through(&mut self.tcp, proxy, &to).await.map_err(no_proxy)?),
            }
        };
        tokio::time::timeout(self.connect_timeout, way).await.unwrap_or_else(|_elapsed| Err(late().into()))
    }
}

async fn through(tcp: &mut TcpConnector, proxy: &Proxy, to: &Uri) -> Result<Way, String> {
    let stream = tcp.call(proxy.uri()).await.map_err(|error| {
        let reason = crate::error::with_causes(&error);
        format!("no connection to {proxy}: {reason}")
    })?;
    if !is_https(to) {
        return Ok(Way { stream, forwarded: true });
    }
    let (host, port) = place(to);
    Ok(Way { stream: proxy.tunnel(stream, host, port).await?, forwarded: false })
}

impl Service<Uri> for Road {
    type Response = Way;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Way, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        Box::pin(self.clone().lead(to))
    }
}

/// A connection, by which hyper learns whether a proxy reads the requests on it.
struct Way {
    stream: TokioIo<TcpStream>,
    forwarded: bool,
}

impl Connection for Way {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.forwarded)
    }
}

impl Read for Way {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, into)
    }
}

impl Write for Way {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        chunks: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, chunks)
    }
}
