//! Signature Version 4 of a call to Kinesis, by AWS's own `aws-sigv4`.
//!
//! Every call is a POST whose `content-type`, `host`, `x-amz-date`, `x-amz-target` and, with temporary credentials,
//! `x-amz-security-token` are signed. The digest of the body comes from outside, since the core hashes bodies in
//! slices and in lanes; the signer never sees a body.
//!
//! It reads no clock: the moment is an argument, already corrected by the skew that the core knows.

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
        headers.insert("x-amz-target", HeaderValue::from_str(call.target).map_err(cannot)?);
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
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
