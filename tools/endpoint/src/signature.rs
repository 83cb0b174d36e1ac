//! The judge of signatures: AWS Signature Version 4, computed here from its definition.
//!
//! It uses nothing of AWS's crates but HMAC and SHA-256, so that a mistake in the client's signing cannot hide behind
//! the same mistake here. A request must name a known key, be scoped to this day, this region and `kinesis`, sign
//! `host`, `content-type` and every `x-amz-*` header that it carries (AWS's documents require them), have been signed
//! at most five minutes from now, and have the right signature over headers and body.
//!
//! It refuses pre-signed URLs and unsigned bodies: Kinesis clients send neither.
//!
//! It costs one SHA-256 of the body and a few of short strings; the signing key of a day is kept.

use crate::answer::Refusal;
use crate::config::Credentials;
use crate::date;
use hmac::{Hmac, KeyInit, Mac};
use hyper::http::request::Parts;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

const SERVICE: &str = "kinesis";
/// How far a signature's date may be from the endpoint's clock. Service.
const SKEW_MAX_S: i64 = 300;
/// Signing keys kept: those of two days for each of some keys.
const KEYS_MAX: usize = 64;

/// Verifies signatures for one region.
pub(crate) struct Verifier {
    region: String,
    credentials: Vec<Credentials>,
    /// Signing keys by `access key id/day`. Written once a day and key.
    keys: Mutex<HashMap<String, [u8; 32]>>,
}

/// The parts of an `Authorization` header.
struct Authorization<'a> {
    access_key_id: &'a str,
    day: &'a str,
    /// `day/region/service/aws4_request`.
    scope: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl Verifier {
    pub(crate) fn new(region: String, credentials: Vec<Credentials>) -> Verifier {
        Verifier { region, credentials, keys: Mutex::default() }
    }

    /// Whether this request was signed by one of the known keys around `now_s`, seconds since 1970.
    pub(crate) fn verify(&self, head: &Parts, body: &[u8], now_s: i64) -> Result<(), Refusal> {
        let authorization = header(head, "authorization")
            .ok_or_else(|| Refusal::new("MissingAuthenticationTokenException", "Missing Authentication Token"))?;
        let authorization = Authorization::parse(authorization)?;
        let moment = header(head, "x-amz-date").ok_or_else(|| {
            incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
        })?;
        let credentials = self.credentials_of(&authorization, head)?;
        self.check_scope(&authorization, moment)?;
        check_moment(moment, now_s)?;
        check_signed_headers(head, authorization.signed_headers)?;

        let canonical = canonical_request(head, authorization.signed_headers, body)?;
        let canonical_digest = hex(&Sha256::digest(canonical.as_bytes()));
        let to_sign = format!("AWS4-HMAC-SHA256\n{moment}\n{}\n{canonical_digest}", authorization.scope);
        let expected = hex(&hmac(&self.signing_key(credentials, authorization.day), to_sign.as_bytes()));
        if expected == authorization.signature {
            return Ok(());
        }
        Err(invalid(format!(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method. Consult the service documentation for details.\n\nThe Canonical String \
             for this request should have been\n'{canonical}'\n\nThe String-to-Sign should have been\n'{to_sign}'\n"
        )))
    }

    fn credentials_of(&self, authorization: &Authorization<'_>, head: &Parts) -> Result<&Credentials, Refusal> {
        let unrecognized =
            || Refusal::new("UnrecognizedClientException", "The security token included in the request is invalid.");
        let credentials = self
            .credentials
            .iter()
            .find(|known| known.access_key_id == authorization.access_key_id)
            .ok_or_else(unrecognized)?;
        let token = header(head, "x-amz-security-token");
        if token == credentials.session_token.as_deref() { Ok(credentials) } else { Err(unrecognized()) }
    }

    fn check_scope(&self, authorization: &Authorization<'_>, moment: &str) -> Result<(), Refusal> {
        let mut parts = authorization.scope.split('/').skip(1);
        let (region, service, end) = (parts.next(), parts.next(), parts.next());
        let mut faults = String::new();
        if region != Some(self.region.as_str()) {
            let region = region.unwrap_or_default();
            faults += &format!("Credential should be scoped to a valid region, not '{region}'. ");
        }
        if service != Some(SERVICE) {
            faults += "Credential should be scoped to correct service: 'kinesis'. ";
        }
        if end != Some("aws4_request") {
            faults += "Credential should be scoped with a valid terminator: 'aws4_request'. ";
        }
        if !moment.starts_with(authorization.day) || authorization.day.len() != 8 {
            faults += "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP. ";
        }
        if faults.is_empty() { Ok(()) } else { Err(invalid(faults.trim_end())) }
    }

    fn signing_key(&self, credentials: &Credentials, day: &str) -> [u8; 32] {
        let name = format!("{}/{day}", credentials.access_key_id);
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = keys.get(&name) {
            return *key;
        }
        let of_day = hmac(format!("AWS4{}", credentials.secret_access_key).as_bytes(), day.as_bytes());
        let of_service = hmac(&hmac(&of_day, self.region.as_bytes()), SERVICE.as_bytes());
        let key = hmac(&of_service, b"aws4_request");
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        keys.insert(name, key);
        key
    }
}

impl<'a> Authorization<'a> {
    fn parse(text: &'a str) -> Result<Authorization<'a>, Refusal> {
        let fields = text
            .strip_prefix("AWS4-HMAC-SHA256 ")
            .ok_or_else(|| incomplete(format!("Unsupported AWS 'algorithm': '{text}'.")))?;
        let field = |name: &str| {
            fields
                .split(',')
                .find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('='))
                .ok_or_else(|| incomplete(format!("Authorization header requires '{name}' parameter.")))
        };
        let (credential, signed_headers) = (field("Credential")?, field("SignedHeaders")?);
        let signature = field("Signature")?;
        let malformed = || incomplete(format!("Credential must have 5 slash-delimited elements, not '{credential}'."));
        if credential.split('/').count() != 5 {
            return Err(malformed());
        }
        let (access_key_id, scope) = credential.split_once('/').ok_or_else(malformed)?;
        let (day, _) = scope.split_once('/').ok_or_else(malformed)?;
        Ok(Authorization { access_key_id, day, scope, signed_headers, signature })
    }
}

/// Whose key a request claims to be signed with.
pub(crate) fn access_key_id(head: &Parts) -> Option<&str> {
    Authorization::parse(header(head, "authorization")?).ok().map(|authorization| authorization.access_key_id)
}

fn check_moment(moment: &str, now_s: i64) -> Result<(), Refusal> {
    let signed_s = date::parse(moment)
        .ok_or_else(|| incomplete(format!("Date must be in ISO-8601 'basic format'. Got '{moment}'.")))?;
    let now = date::format(now_s);
    if signed_s < now_s - SKEW_MAX_S {
        let bound = date::format(now_s - SKEW_MAX_S);
        return Err(invalid(format!("Signature expired: {moment} is now earlier than {bound} ({now} - 5 min.)")));
    }
    if signed_s > now_s + SKEW_MAX_S {
        let bound = date::format(now_s + SKEW_MAX_S);
        return Err(invalid(format!(
            "Signature not yet current: {moment} is still later than {bound} ({now} + 5 min.)"
        )));
    }
    Ok(())
}

fn check_signed_headers(head: &Parts, signed: &str) -> Result<(), Refusal> {
    let sorted = signed.split(';').is_sorted_by(|left, right| left < right);
    if !sorted || signed.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(invalid("SignedHeaders must be lower case, in order and without repetition."));
    }
    let must_be_signed = |name: &str| name == "host" || name == "content-type" || name.starts_with("x-amz-");
    for name in head.headers.keys().map(|name| name.as_str()).chain(["host"]) {
        if must_be_signed(name) && !signed.split(';').any(|signed| signed == name) {
            return Err(invalid(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization.")));
        }
    }
    Ok(())
}

/// Method, path, query, signed headers and body, in the form that is signed.
fn canonical_request(head: &Parts, signed_headers: &str, body: &[u8]) -> Result<String, Refusal> {
    let mut canonical = format!("{}\n{}\n{}\n", head.method, head.uri.path(), canonical_query(head));
    for name in signed_headers.split(';') {
        let mut values = head.headers.get_all(name).iter().peekable();
        if values.peek().is_none() {
            return Err(invalid(format!("The signed header '{name}' is not in the request.")));
        }
        canonical += name;
        let mut separator = ':';
        for value in values {
            let value = value.to_str().map_err(|_| invalid(format!("The header '{name}' is not text.")))?;
            canonical.push(separator);
            let mut words = value.split_ascii_whitespace();
            canonical += words.next().unwrap_or_default();
            for word in words {
                canonical.push(' ');
                canonical += word;
            }
            separator = ',';
        }
        canonical.push('\n');
    }
    canonical.push('\n');
    canonical += signed_headers;
    canonical.push('\n');
    let digest = hex(&Sha256::digest(body));
    if header(head, "x-amz-content-sha256").is_some_and(|claimed| claimed != digest) {
        return Err(invalid("The provided 'x-amz-content-sha256' header does not match what was computed."));
    }
    canonical += &digest;
    Ok(canonical)
}

/// The query with its parameters in order. Kinesis requests have none; what is there is taken as already encoded.
fn canonical_query(head: &Parts) -> String {
    let mut parameters: Vec<&str> = head.uri.query().unwrap_or_default().split('&').collect();
    parameters.sort_unstable();
    parameters.join("&")
}

fn header<'a>(head: &'a Parts, name: &str) -> Option<&'a str> {
    head.headers.get(name)?.to_str().ok()
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new("InvalidSignatureException", message)
}

fn incomplete(message: impl Into<String>) -> Refusal {
    Refusal { status: 403, code: "IncompleteSignatureException", message: message.into() }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|half| char::from(DIGITS[usize::from(half)])).collect()
}
