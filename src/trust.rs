//! Whom the producer trusts: its one TLS configuration, and the words for a handshake that fails.
//!
//! ```text
//!   Config ── roots, danger ──▶ ClientConfig ──┬──▶ cores: records
//!                                              └──▶ control thread: shard lists
//! ```
//!
//! It promises that records and shard lists trust the same certificates, and share one store of sessions, so that a
//! core's first connection resumes what the control thread's began. It is built once, before any thread starts, and
//! what cannot be read of the given roots is a fault of the configuration.
//!
//! Cryptography is aws-lc's, but that ring encrypts where it is the quicker one (`sealing`). TLS 1.2 and 1.3 are spoken, with
//! no protocol negotiated, which means HTTP/1.1. It refuses client certificates and revocation lists.
//!
//! The machine's own roots take some milliseconds to read, so a producer whose endpoint is in the clear reads none.

#[cfg(target_arch = "x86_64")]
mod sealing;

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, Error as TlsError, InvalidMessage,
    RootCertStore, SignatureScheme,
};

use crate::config::{Config, TlsRoots};
use crate::error::ConfigFault;

/// The field that certificates are given in.
const ROOTS: &str = "tls_roots";

/// How every connection of a producer speaks TLS; nothing if its endpoint is in the clear.
///
/// # Errors
/// Roots were given that are no certificates, whether or not they are needed.
pub(crate) fn client_config(config: &Config) -> Result<Option<Arc<ClientConfig>>, ConfigFault> {
    let given = match &config.tls_roots {
        TlsRoots::Platform => None,
        TlsRoots::Pem(pem) => Some(read_pem(pem)?),
        TlsRoots::Der(certificates) => Some(collect(certificates.iter().map(|der| Ok(der.clone().into())))?),
    };
    if config.endpoint_url.as_ref().is_some_and(|url| url.starts_with("http://")) {
        return Ok(None);
    }
    let provider = Arc::new(provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("aws-lc has cipher suites for both versions");
    let builder = if config.danger_accept_invalid_certificates {
        tracing::warn!("danger_accept_invalid_certificates: whoever is on the way can read and change every record");
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Credulous { provider }))
    } else {
        builder.with_root_certificates(given.unwrap_or_else(platform))
    };
    Ok(Some(Arc::new(builder.with_no_client_auth())))
}

/// aws-lc, with AES of 128 bits before that of 256: ten rounds for each byte instead of fourteen. How that is sent, `sealing`
/// decides.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    #[cfg(target_arch = "x86_64")]
    provider.cipher_suites.iter_mut().for_each(|suite| *suite = sealing::quickest(*suite));
    provider.cipher_suites.sort_by_key(|suite| {
        !matches!(
            suite.suite(),
            CipherSuite::TLS13_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
        )
    });
    provider
}

fn read_pem(pem: &[u8]) -> Result<RootCertStore, ConfigFault> {
    collect(CertificateDer::pem_slice_iter(pem).map(|read| read.map_err(|error| error.to_string())))
}

/// The roots that were given: all of them, or the fault of the first that is none.
fn collect(
    certificates: impl Iterator<Item = Result<CertificateDer<'static>, String>>,
) -> Result<RootCertStore, ConfigFault> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates.enumerate() {
        let added = certificate.and_then(|der| roots.add(der).map_err(|error| reason(&error)));
        added.map_err(|error| fault(format!("unreadable at certificate {}: {error}", index + 1)))?;
    }
    if roots.is_empty() { Err(fault("without a certificate".to_owned())) } else { Ok(roots) }
}

fn fault(value: String) -> ConfigFault {
    ConfigFault { field: ROOTS, value, bound: "one certificate at least, in PEM or DER".to_owned() }
}

/// The machine's own roots. Some machines carry a few that cannot be read; the others do all the same.
fn platform() -> RootCertStore {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (read, unreadable) = roots.add_parsable_certificates(found.certs);
    for error in &found.errors {
        tracing::warn!(%error, "some of the machine's root certificates cannot be read");
    }
    tracing::debug!(read, unreadable, "the machine's root certificates");
    if roots.is_empty() {
        tracing::error!("this machine has no root certificates, so no server is trusted: set tls_roots");
    }
    roots
}

/// The message of every failure.
pub(crate) fn no_tls(host: &str, reason: &str) -> String {
    format!("no TLS with {host}: {reason}")
}

/// Why no TLS came about, in words that tell what to look at.
pub(crate) fn reason(error: &TlsError) -> String {
    use CertificateError as Bad;
    match error {
        TlsError::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            format!("the server's certificate has expired ({error})")
        }
        TlsError::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            format!("the server's certificate is for another host ({error})")
        }
        // A signature is bad also where a root of ours has the name of the issuer, but not its key.
        TlsError::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            format!("the server's certificate is self-signed, or its issuer is none of the trusted roots ({error})")
        }
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            format!("the server does not speak TLS on this port ({error})")
        }
        _ => error.to_string(),
    }
}

/// The error of TLS that is behind `error`, if one is. Errors of I/O hide what they carry from `source`.
pub(crate) fn find_cause<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>() {
            Some(carrier) => carrier.get_ref().map(|carried| carried as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// Believes every certificate: see [`Config::danger_accept_invalid_certificates`].
#[derive(Debug)]
struct Credulous {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_of(tls_roots: TlsRoots) -> String {
        // In the clear, as a fault is one whether or not the roots are needed.
        let config = Config { tls_roots, endpoint_url: Some("http://localhost".into()), ..Config::default() };
        client_config(&config).map(|made| made.is_some()).expect_err("no certificates").to_string()
    }

    #[test]
    fn the_cheaper_cipher_is_offered_first_and_no_other_is_missing() {
        let (ours, all) = (provider().cipher_suites, aws_lc_rs::default_provider().cipher_suites);
        assert_eq!(ours[0].suite(), CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert!(all.iter().all(|suite| ours.contains(suite)) && ours.len() == all.len());
    }

    #[test]
    fn roots_that_are_no_certificates_are_a_fault_that_names_the_field() {
        let broken = b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n".to_vec();
        let hollow = b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n".to_vec();
        for (roots, part) in [
            (TlsRoots::Pem(b"ca.pem".to_vec()), "without a certificate"),
            (TlsRoots::Pem(broken), "unreadable at certificate 1"),
            (TlsRoots::Pem(hollow), "unreadable at certificate 1"),
            (TlsRoots::Der(vec![b"hello".to_vec()]), "unreadable at certificate 1"),
        ] {
            let text = fault_of(roots);
            assert!(text.starts_with("tls_roots is ") && text.contains(part), "{text}");
        }
    }

    #[test]
    fn roots_are_read_from_pem_and_from_der() {
        let authority = endpoint::TlsOptions::new().expect("a chain").ca_pem().as_bytes().to_vec();
        let der = CertificateDer::from_pem_slice(&authority).expect("a certificate").to_vec();
        let twice = [authority.clone(), b"\n# another\n".to_vec(), authority].concat();
        for tls_roots in [TlsRoots::Pem(twice), TlsRoots::Der(vec![der])] {
            let made = client_config(&Config { tls_roots, ..Config::default() });
            assert!(made.is_ok_and(|made| made.is_some()));
        }
    }

    #[test]
    fn an_endpoint_in_the_clear_needs_no_tls() {
        let config = |url: &str| Config {
            endpoint_url: Some(url.into()),
            danger_accept_invalid_certificates: true,
            ..Config::default()
        };
        assert!(client_config(&config("http://localhost")).expect("a configuration").is_none());
        assert!(client_config(&config("https://localhost")).expect("a configuration").is_some());
    }

    #[test]
    fn an_error_of_tls_is_found_behind_nested_errors_of_io() {
        let cause = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let nested = io::Error::other(io::Error::other(cause.clone()));
        assert_eq!(find_cause(&nested), Some(&cause));
        assert_eq!(find_cause(&io::Error::other("reset")), None);
    }
}
