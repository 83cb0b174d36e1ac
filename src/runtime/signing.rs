//! Signature Version 4 of a call to Kinesis.
//!
//! ```text
//!   credentials, day, region ──aws-sigv4──▶ key of the day                 once a day and set of credentials
//!   endpoint, form           ────────────▶ canonical path, header values   once an endpoint
//!   time, digest of the body ────────────▶ canonical request ─SHA-256─▶ string to sign ─aws-sigv4─▶ signature
//! ```
//!
//! Every call is a POST without a query whose `content-type`, `host`, `x-amz-date`, `x-amz-target` and, with temporary
//! credentials, `x-amz-security-token` are signed. It has one shape, so it is written here, into buffers that stay; the
//! key and the signature are `aws-sigv4`'s. The digest of the body comes from outside, since the core hashes bodies in
//! slices; who signs never sees a body.
//!
//! It promises the very headers that `aws-sigv4` would make of the same call; the tests hold the two against each other.
//! It reads no clock: the moment is an argument, already corrected by the skew that the core knows. The key follows that
//! moment's day.
//!
//! It refuses what its one shape does not have: a query, and values with blanks, which would have to be rewritten to be
//! signed.
//!
//! A signature costs two hashes of a few blocks and one allocation, the text that `aws-sigv4` makes of the signature. The
//! naive form, all of it by `aws-sigv4` for every request, made some 70. What is kept of secrets (the day's key, and the
//! canonical request, which holds the session token) is overwritten when it is dropped.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use self::canonical::{Moment, canonical_path, push_hex};

mod canonical;

/// The service's name in the credential scope.
const SERVICE: &str = "kinesis";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Bytes of the values of one call that are made for it: the date, and the authorization but for the names in it.
const VALUE_BYTES: usize = 16 + 256;
/// Values of so many calls lie in one buffer, which is used again when none of them is needed any more.
const VALUES_TOGETHER: usize = 16;

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

/// In whose name, and for which region, is signed. Made anew whenever credentials are refreshed; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Signer(Arc<Identity>);

#[derive(Debug)]
struct Identity {
    credentials: Credentials,
    region: Box<str>,
}

impl Signer {
    /// A signer with `credentials` for `region`.
    pub(crate) fn new(credentials: &Credentials, region: &str) -> Signer {
        Signer(Arc::new(Identity { credentials: credentials.clone(), region: region.into() }))
    }
}

/// Writes the signatures of one core.
#[derive(Default)]
pub(crate) struct Signatures {
    day: Option<Day>,
    place: Option<Place>,
    /// The canonical request, then the string to sign.
    text: Zeroizing<String>,
    /// Values of headers that are made for one call.
    values: BytesMut,
}

/// What holds for a day and a set of credentials.
struct Day {
    signer: Signer,
    number: i64,
    key: Zeroizing<[u8; 32]>,
    /// Date, region and service.
    scope: String,
    token: Option<HeaderValue>,
}

impl Day {
    fn new(signer: &Signer, moment: Moment, now: SystemTime) -> Result<Day, SigningError> {
        let Identity { credentials, region } = &*signer.0;
        let token = credentials.session_token().map(HeaderValue::from_str).transpose().map_err(cannot)?;
        let token = token.map(|mut token| {
            token.set_sensitive(true);
            token
        });
        let made = generate_signing_key(credentials.secret_access_key(), now, region, SERVICE);
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(made.as_ref());
        let mut scope = String::new();
        moment.push_date(&mut scope);
        scope.extend(["/", region, "/", SERVICE, "/aws4_request"]);
        Ok(Day { signer: signer.clone(), number: moment.day, key, scope, token })
    }
}

/// What holds for an endpoint and a form of bodies.
struct Place {
    path: String,
    canonical_path: String,
    host: HeaderValue,
    target: HeaderValue,
    content_type: HeaderValue,
}

impl Place {
    fn new(call: &Call<'_>) -> Result<Place, SigningError> {
        Ok(Place {
            path: call.path.to_owned(),
            canonical_path: canonical_path(call.path).map_err(cannot)?,
            host: plain_value(call.host)?,
            target: plain_value(call.target)?,
            content_type: plain_value(call.content_type)?,
        })
    }

    fn is_of(&self, call: &Call<'_>) -> bool {
        self.path == call.path
            && self.host == call.host
            && self.target == call.target
            && self.content_type == call.content_type
    }
}

/// The value of a header that is signed as it is.
fn plain_value(value: &str) -> Result<HeaderValue, SigningError> {
    if value.contains([' ', '\t']) {
        return Err(cannot(format_args!("{value:?} has blanks")));
    }
    HeaderValue::from_str(value).map_err(cannot)
}

impl Signatures {
    /// Puts all headers of `call` as of `now` into `headers`, the signature among them. hyper adds the length.
    ///
    /// # Errors
    /// The call's strings, or the credentials, are not valid as headers or path. `headers` then has none of them.
    pub(crate) fn sign(
        &mut self,
        signer: &Signer,
        call: &Call<'_>,
        now: SystemTime,
        headers: &mut HeaderMap,
    ) -> Result<(), SigningError> {
        let moment = Moment::of(now);
        let place = match self.place.take() {
            Some(place) if place.is_of(call) => place,
            _ => Place::new(call)?,
        };
        let day = match self.day.take() {
            Some(day) if day.number == moment.day && Arc::ptr_eq(&day.signer.0, &signer.0) => day,
            _ => Day::new(signer, moment, now)?,
        };
        let signature = self.signature(&day, &place, call, moment);
        let (date, authorization) = self.values(&day, moment, &signature)?;
        headers.insert(header::CONTENT_TYPE, place.content_type.clone());
        headers.insert(header::HOST, place.host.clone());
        headers.insert(TARGET, place.target.clone());
        headers.insert(DATE, date);
        headers.insert(header::AUTHORIZATION, authorization);
        if let Some(token) = &day.token {
            headers.insert(TOKEN, token.clone());
        }
        (self.place, self.day) = (Some(place), Some(day));
        Ok(())
    }

    fn signature(&mut self, day: &Day, place: &Place, call: &Call<'_>, moment: Moment) -> String {
        let token = day.signer.0.credentials.session_token();
        let len = 512 + place.canonical_path.len() + call.host.len() + token.map_or(0, str::len);
        if self.text.capacity() < len {
            // Grown in place it would leave a copy of the token behind.
            self.text = Zeroizing::new(String::with_capacity(len));
        }
        let text = &mut self.text;
        text.clear();
        text.extend(["POST\n", &place.canonical_path, "\n\n"]);
        text.extend(["content-type:", call.content_type, "\nhost:", call.host, "\nx-amz-date:"]);
        moment.push_date_time(text);
        if let Some(token) = token {
            text.extend(["\nx-amz-security-token:", token]);
        }
        text.extend(["\nx-amz-target:", call.target, "\n\n", signed_headers(token.is_some()), "\n"]);
        push_hex(text, call.body_digest);
        let canonical_digest: [u8; 32] = Sha256::digest(text.as_bytes()).into();

        text.clear();
        text.extend([ALGORITHM, "\n"]);
        moment.push_date_time(text);
        text.extend(["\n", &day.scope, "\n"]);
        push_hex(text, &canonical_digest);
        calculate_signature(&day.key[..], text.as_bytes())
    }

    /// `x-amz-date` and `authorization`.
    fn values(
        &mut self,
        day: &Day,
        moment: Moment,
        signature: &str,
    ) -> Result<(HeaderValue, HeaderValue), SigningError> {
        let access_key = day.signer.0.credentials.access_key_id();
        let len = VALUE_BYTES + access_key.len() + day.scope.len();
        if self.values.capacity() < len {
            self.values.reserve(len * VALUES_TOGETHER);
        }
        let text = &mut self.text;
        text.clear();
        moment.push_date_time(text);
        let date = self.value()?;
        let text = &mut self.text;
        text.clear();
        text.extend([ALGORITHM, " Credential=", access_key, "/", &day.scope, ", SignedHeaders="]);
        text.extend([signed_headers(day.token.is_some()), ", Signature=", signature]);
        Ok((date, self.value()?))
    }

    /// The text as a header's value.
    fn value(&mut self) -> Result<HeaderValue, SigningError> {
        self.values.extend_from_slice(self.text.as_bytes());
        HeaderValue::from_maybe_shared(self.values.split().freeze()).map_err(cannot)
    }
}

fn signed_headers(has_token: bool) -> &'static str {
    if has_token {
        "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"
    } else {
        "content-type;host;x-amz-date;x-amz-target"
    }
}

#[cfg(test)]
mod tests;
