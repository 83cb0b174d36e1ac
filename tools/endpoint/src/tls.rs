//! TLS for the endpoint: a certificate chain made on the fly, good or bad in one known way.
//!
//! ```text
//!     CA ──signs──▶ leaf for localhost and 127.0.0.1        the client is given the CA, as PEM
//! ```
//!
//! Every chain has keys of its own, so a client that trusts one endpoint's authority trusts no other's. Sessions are
//! resumed by tickets, whose count is in the stats. It costs two key pairs, about a millisecond.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use std::io;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It was valid until the end of 2020.
    Expired,
    /// It is for `elsewhere.test` alone.
    WrongHost,
    /// It is signed by its own key, and the authority has nothing to do with it.
    SelfSigned,
}

/// A certificate authority, and what a server needs to show a certificate of it.
pub struct TlsOptions {
    ca_pem: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl TlsOptions {
    /// A good chain for `localhost` and `127.0.0.1`.
    ///
    /// Errors: the system has no randomness.
    pub fn new() -> io::Result<TlsOptions> {
        make(None).map_err(io::Error::other)
    }

    /// A chain with a flaw.
    ///
    /// Errors: as [`TlsOptions::new`].
    pub fn flawed(flaw: Flaw) -> io::Result<TlsOptions> {
        make(Some(flaw)).map_err(io::Error::other)
    }

    /// The authority's certificate, in PEM: who trusts it trusts the endpoint, flaws apart.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// How a server that has the chain speaks TLS, by aws-lc.
    ///
    /// Errors: the system has no randomness.
    pub fn server_config(self) -> io::Result<Arc<ServerConfig>> {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(self.chain, self.key));
        let mut config = config.map_err(io::Error::other)?;
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(io::Error::other)?;
        Ok(Arc::new(config))
    }

    pub(crate) fn acceptor(self) -> io::Result<TlsAcceptor> {
        self.server_config().map(TlsAcceptor::from)
    }
}

fn make(flaw: Option<Flaw>) -> Result<TlsOptions, rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name = named("kpl test authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let names = if flaw == Some(Flaw::WrongHost) { vec!["elsewhere.test"] } else { vec!["localhost", "127.0.0.1"] };
    let mut leaf = CertificateParams::new(names.into_iter().map(str::to_owned).collect::<Vec<_>>())?;
    leaf.distinguished_name = named("kpl test endpoint");
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if flaw == Some(Flaw::Expired) {
        leaf.not_before = date_time_ymd(2020, 1, 1);
        leaf.not_after = date_time_ymd(2020, 12, 31);
    }
    let key = KeyPair::generate()?;
    let certificate =
        if flaw == Some(Flaw::SelfSigned) { leaf.self_signed(&key)? } else { leaf.signed_by(&key, &*authority)? };
    Ok(TlsOptions {
        ca_pem: authority.pem(),
        chain: vec![certificate.der().clone()],
        key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    })
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
