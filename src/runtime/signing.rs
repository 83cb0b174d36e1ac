//! Signature Version 4 of a call to Kinesis, by AWS's own `aws-sigv4`.
//!
//! Every call is a POST whose `content-type`, `host`, `x-amz-date`, `x-amz-target` and, with temporary credentials,
//! `x-amz-security-token` are signed. The digest of the body comes from outside, since the core hashes bodies in
//! slices and in lanes; the signer never sees a body.
//!
//! It reads no clock: the moment is an argument, already corrected by the skew that the core knows.
//!
//! A signature costs some 70 small allocations, nearly all of them `aws-sigv4`'s: more than the rest of a request, and a
//! few microseconds for a request of hundreds of microseconds.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The service's name in the credential scope.
const SERVICE: &str = "kinesis";

/// What is signed of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// The `Host` header: the endpoint's name, with its port unless it is the scheme's own.
    pub host: &'a str,
    /// The path of the endpoint, `/` as a rule.
    pub path: &'a str,
    /// `x-amz-target`: the service's version and the operation.
    pub target: &'a str,
    /// The media type of the body.
    pub content_type: &'a str,
    /// SHA-256 of the body.
    pub body_digest: &'a [u8; 32],
}

/// A call cannot be signed: a header or the path is not one. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SigningError {
    message: String,
}

impl fmt::Display for SigningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request cannot be signed: {}", self.message)
    }
}

impl std::error::Error for SigningError {}

fn cannot(error: impl fmt::Display) -> SigningError {
    SigningError { message: error.to_string() }
}

/// Signs with one set of credentials for one region. Made anew whenever credentials are refreshed; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Signer {
    identity: Identity,
    region: Arc<str>,
}

impl Signer {
    /// A signer with `credentials` for `region`.
    pub(crate) fn new(credentials: &Credentials, region: &str) -> Signer {
        Signer { identity: credentials.clone().into(), region: region.into() }
    }

    /// All headers of `call` as of `now`, the signature among them. hyper adds the length.
    ///
    /// # Errors
    /// The call's strings are not valid as headers or path.
    pub(crate) fn headers(&self, call: &Call<'_>, now: SystemTime) -> Result<HeaderMap, SigningError> {
        let signed = [("content-type", call.content_type), ("host", call.host), ("x-amz-target", call.target)];
        let body = SignableBody::Precomputed(hex(call.body_digest));
        let request = SignableRequest::new("POST", call.path, signed.iter().copied(), body).map_err(cannot)?;
        let parameters = v4::SigningParams::builder()
            .identity(&self.identity)
            .region(&self.region)
            .name(SERVICE)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(cannot)?
            .into();
        let (instructions, _signature) = sign(request, &parameters).map_err(cannot)?.into_parts();

        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(call.content_type).map_err(cannot)?);
        headers.insert(header::HOST, HeaderValue::from_str(call.host).map_err(cannot)?);
        headers.insert(HeaderName::from_static("x-amz-target"), HeaderValue::from_str(call.target).map_err(cannot)?);
        let (added, _query) = instructions.into_parts();
        for header in added {
            let mut value = HeaderValue::from_str(header.value()).map_err(cannot)?;
            value.set_sensitive(header.sensitive());
            headers.insert(HeaderName::from_static(header.name()), value);
        }
        Ok(headers)
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    let mut text = String::with_capacity(bytes.len() * 2);
    text.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sha2::{Digest, Sha256};

    use super::*;

    const BODY: &[u8] = br#"{"Records":[],"StreamName":"clicks"}"#;

    /// 2026-07-31T10:00:00Z
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_785_492_000)
    }

    fn credentials(token: Option<&str>) -> Credentials {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        Credentials::new("AKIDEXAMPLE", secret, token.map(str::to_owned), None, "test")
    }

    fn headers(token: Option<&str>, host: &str) -> HeaderMap {
        let call = Call {
            host,
            path: "/",
            target: "Kinesis_20131202.PutRecords",
            content_type: "application/x-amz-json-1.1",
            body_digest: &Sha256::digest(BODY).into(),
        };
        Signer::new(&credentials(token), "eu-west-1").headers(&call, now()).expect("a valid call")
    }

    /// The expected values are botocore's, for the same calls.
    #[test]
    fn signatures_are_those_of_another_implementation() {
        let plain = headers(None, "kinesis.eu-west-1.amazonaws.com");
        assert_eq!(plain["x-amz-date"], "20260731T100000Z");
        assert_eq!(plain.get("x-amz-security-token"), None);
        assert_eq!(
            plain["authorization"],
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260731/eu-west-1/kinesis/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-target, \
             Signature=7528aae8fa71ce67cf7a1360f1430dac95abc1be0ee4aab05fd6c35b819c1a61"
        );
        let temporary = headers(Some("session/token+=="), "localhost:4567");
        assert_eq!(temporary["x-amz-security-token"], "session/token+==");
        assert_eq!(
            temporary["authorization"],
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260731/eu-west-1/kinesis/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amz-target, \
             Signature=fc35f72ab75a36418096ea438ca1ee48b0fb4655a1ce7a2e67f3c871197d4304"
        );
    }

    #[test]
    fn a_digest_from_outside_signs_as_the_body_itself() {
        let host = "kinesis.eu-west-1.amazonaws.com";
        let ours = headers(None, host);
        let signed = ["content-type", "host", "x-amz-target"];
        let signed = signed.map(|name| (name, ours[name].to_str().expect("text")));
        let request =
            SignableRequest::new("POST", format!("https://{host}/"), signed.into_iter(), SignableBody::Bytes(BODY));
        let identity: Identity = credentials(None).into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region("eu-west-1")
            .name("kinesis")
            .time(now())
            .settings(SigningSettings::default())
            .build()
            .expect("all set")
            .into();
        let (instructions, _) = sign(request.expect("valid"), &parameters).expect("valid").into_parts();
        for (name, value) in instructions.headers() {
            assert_eq!(ours[name], value);
        }
    }

    #[test]
    fn secrets_do_not_show_in_debug() {
        let headers = headers(Some("session-token"), "localhost");
        let text = format!("{headers:?} {:?}", Signer::new(&credentials(Some("session-token")), "eu-west-1"));
        assert!(!text.contains("session-token") && !text.contains("wJalr"), "{text}");
    }

    #[test]
    fn what_cannot_be_a_header_or_a_path_is_an_error_and_no_panic() {
        let good = Call { host: "h", path: "/", target: "t", content_type: "c", body_digest: &[0; 32] };
        let signer = Signer::new(&credentials(None), "eu-west-1");
        for bad in [Call { host: "h\n", ..good }, Call { path: "", ..good }, Call { target: "\0", ..good }] {
            let error = signer.headers(&bad, now()).expect_err(&format!("{bad:?}"));
            assert!(error.to_string().starts_with("the request cannot be signed"), "{error}");
        }
        signer.headers(&good, now()).expect("the others were bad by one field");
    }
}
