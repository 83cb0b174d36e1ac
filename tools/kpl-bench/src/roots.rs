//! The roots of `--ca`: a file of certificates in PEM, checked before anything is connected.
//!
//! AWS's client takes for granted that its roots can be read and panics if not, so what passes here is what rustls
//! takes: every certificate of the file, and one at least. Other sections, such as keys, are passed over.

use std::fs;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Reads a file of roots.
///
/// # Errors
/// It cannot be read, or it is not as above: with the option and the path.
pub fn read(path: &Path) -> Result<String, String> {
    let refused = |reason: String| format!("--ca is {path:?}, {reason}");
    let pem = fs::read_to_string(path).map_err(|error| refused(format!("which cannot be read as PEM: {error}")))?;
    match check(&pem) {
        Ok(0) => Err(refused("which holds no certificate in PEM".to_owned())),
        Ok(_) => Ok(pem),
        Err(error) => Err(refused(error)),
    }
}

/// How many certificates there are.
fn check(pem: &str) -> Result<usize, String> {
    let mut roots = RootCertStore::empty();
    for read in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let added = read.map_err(|error| error.to_string()).and_then(|der| roots.add(der).map_err(|e| e.to_string()));
        added.map_err(|error| format!("whose certificate {} cannot be read: {error}", roots.len() + 1))?;
    }
    Ok(roots.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_counted_and_other_sections_passed_over() {
        let authority = endpoint::TlsOptions::new().expect("a chain").ca_pem().to_owned();
        let other = "-----BEGIN PRIVATE KEY-----\naGVsbG8=\n-----END PRIVATE KEY-----\n";
        assert_eq!(check(&authority), Ok(1));
        assert_eq!(check(&[&authority, "# a comment\n", other, &authority].concat()), Ok(2));
        assert_eq!(check(other), Ok(0));
        assert_eq!(check("ca.pem"), Ok(0));
    }

    #[test]
    fn what_is_no_certificate_is_told_by_its_place() {
        let authority = endpoint::TlsOptions::new().expect("a chain").ca_pem().to_owned();
        for body in ["!!!!", "aGVsbG8="] {
            let broken = format!("{authority}-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
            let error = check(&broken).expect_err("no certificate");
            assert!(error.contains("certificate 2 cannot be read"), "{error}");
        }
    }
}
