//! AES-128-GCM of what is sent over TLS 1.3, by ring where that is the quicker one.
//!
//! ```text
//!   sent      ─▶ ring's      two blocks an instruction: VAES on registers of AVX2
//!   received  ─▶ aws-lc's    answers are small
//! ```
//!
//! This file is of x86-64. Where a processor has AES for wide registers, but no AVX-512, which is what Zen 3 has and what
//! hypervisors often leave of others, aws-lc 0.47 encrypts a block an instruction; with AVX-512 it takes four. Records of 16 KiB
//! on Zen 3: ring 7.2 to 7.5 GB/s, aws-lc 3.1 to 4.0. Everything else of the suite is aws-lc's, handshake and keys included.
//!
//! It promises what a suite of rustls promises: whoever speaks TLS_AES_128_GCM_SHA256 reads it.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce as SealingNonce, UnboundKey};
use rustls::crypto::CipherSuiteCommon;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, Nonce, OutboundOpaqueMessage, OutboundPlainMessage,
    PrefixedPayload, Tls13AeadAlgorithm, UnsupportedOperationError, make_tls13_aad,
};
use rustls::{
    CipherSuite, ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion, SupportedCipherSuite, Tls13CipherSuite,
};

/// aws-lc's suite, for which this one stands.
static THEIRS: &Tls13CipherSuite = match TLS13_AES_128_GCM_SHA256 {
    SupportedCipherSuite::Tls13(suite) => suite,
    SupportedCipherSuite::Tls12(_) => panic!("a suite of TLS 1.3"),
};

static SUITE: Tls13CipherSuite = Tls13CipherSuite {
    common: CipherSuiteCommon {
        suite: CipherSuite::TLS13_AES_128_GCM_SHA256,
        hash_provider: THEIRS.common.hash_provider,
        confidentiality_limit: THEIRS.common.confidentiality_limit,
    },
    hkdf_provider: THEIRS.hkdf_provider,
    aead_alg: &Sealing,
    quic: None,
};

/// `suite`, or what is quicker in its place on this processor.
pub(super) fn quickest(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let is_ours = suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256;
    if is_ours && pays() { SupportedCipherSuite::Tls13(&SUITE) } else { suite }
}

/// Whether ring is the quicker one.
fn pays() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("vpclmulqdq")
        && !is_x86_feature_detected!("avx512bw")
}

struct Sealing;

impl Tls13AeadAlgorithm for Sealing {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        let key = UnboundKey::new(&AES_128_GCM, key.as_ref()).expect("rustls makes keys as long as `key_len` says");
        Box::new(Sealer { key: LessSafeKey::new(key), iv })
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        THEIRS.aead_alg.decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        AES_128_GCM.key_len()
    }

    fn extract_keys(&self, key: AeadKey, iv: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        THEIRS.aead_alg.extract_keys(key, iv)
    }
}

/// Seals the messages of one connection.
struct Sealer {
    key: LessSafeKey,
    iv: Iv,
}

impl MessageEncrypter for Sealer {
    /// By RFC 8446, 5.2: the content's type stands behind the content, and its length, sealed, is authenticated with it.
    fn encrypt(&mut self, message: OutboundPlainMessage<'_>, number: u64) -> Result<OutboundOpaqueMessage, Error> {
        let sealed_len = self.encrypted_payload_len(message.payload.len());
        let mut payload = PrefixedPayload::with_capacity(sealed_len);
        payload.extend_from_chunks(&message.payload);
        payload.extend_from_slice(&message.typ.to_array());
        // rustls counts the messages of a key, and never past `confidentiality_limit`, so that no nonce comes twice.
        let nonce = SealingNonce::assume_unique_for_key(Nonce::new(&self.iv, number).0);
        let aad = Aad::from(make_tls13_aad(sealed_len));
        let sealed = self.key.seal_in_place_separate_tag(nonce, aad, payload.as_mut());
        payload.extend_from_slice(sealed.map_err(|_| Error::EncryptError)?.as_ref());
        // On the wire it says TLS 1.2, as every message of TLS 1.3 does (5.1).
        Ok(OutboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, payload))
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        payload_len + 1 + AES_128_GCM.tag_len()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::Arc;

    use endpoint::TlsOptions;
    use rustls::crypto::{CryptoProvider, aws_lc_rs};
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

    use super::*;

    /// A client that has this suite alone, and a server that has aws-lc's, after their handshake.
    fn pair() -> (ClientConnection, ServerConnection) {
        let chain = TlsOptions::new().expect("a chain");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(chain.ca_pem().as_bytes()).expect("PEM")).expect("an authority");
        let suites = vec![SupportedCipherSuite::Tls13(&SUITE)];
        let provider = CryptoProvider { cipher_suites: suites, ..aws_lc_rs::default_provider() };
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut server = ServerConnection::new(chain.server_config().expect("randomness")).expect("a server");
        while client.is_handshaking() || server.is_handshaking() {
            carry(&mut client, &mut server).expect("a handshake");
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).expect("a buffer");
            }
            while !wire.is_empty() {
                let read = client.read_tls(&mut &wire[..]).expect("a buffer");
                wire.drain(..read);
                client.process_new_packets().expect("a handshake");
            }
        }
        (client, server)
    }

    /// What the client has to say goes to the server.
    fn carry(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<Vec<u8>, Error> {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("a buffer");
        }
        hear(server, &wire)
    }

    fn hear(server: &mut ServerConnection, mut wire: &[u8]) -> Result<Vec<u8>, Error> {
        let mut heard = Vec::new();
        while !wire.is_empty() {
            server.read_tls(&mut wire).expect("a buffer");
            let bytes = server.process_new_packets()?.plaintext_bytes_to_read();
            let start = heard.len();
            heard.resize(start + bytes, 0);
            server.reader().read_exact(&mut heard[start..]).expect("so many are there");
        }
        Ok(heard)
    }

    #[test]
    fn what_it_seals_is_read_by_aws_lc_whatever_its_length() {
        let (mut client, mut server) = pair();
        for len in (0..300).chain([4095, 16_383, 16_384, 16_385, 50_000]) {
            let said: Vec<u8> = (0..len).map(|at| (at * 7 + len) as u8).collect();
            client.writer().write_all(&said).expect("a buffer");
            assert_eq!(carry(&mut client, &mut server).expect("sealed well"), said, "{len} bytes");
        }
        let suite = server.negotiated_cipher_suite().expect("a suite").suite();
        assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
    }

    #[test]
    fn what_was_changed_on_the_way_is_refused() {
        for place in [5, 20, 100, 104, 105, 121] {
            let (mut client, mut server) = pair();
            client.writer().write_all(&[7; 100]).expect("a buffer");
            let mut wire = Vec::new();
            client.write_tls(&mut wire).expect("a buffer");
            // A head of 5 bytes, 100 of data, their type, and a tag of 16.
            assert_eq!(wire.len(), 122);
            wire[place] ^= 1;
            assert_eq!(hear(&mut server, &wire), Err(Error::DecryptError), "byte {place}");
        }
    }

    #[test]
    fn another_suite_stays_what_it_is() {
        for suite in aws_lc_rs::ALL_CIPHER_SUITES {
            assert_eq!(quickest(*suite).suite(), suite.suite());
        }
        let SupportedCipherSuite::Tls13(chosen) = quickest(TLS13_AES_128_GCM_SHA256) else { panic!("TLS 1.3") };
        assert_eq!(std::ptr::eq(chosen, &SUITE), pays());
    }
}
