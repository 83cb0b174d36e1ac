//! Signatures beside those of `aws-sigv4`, the official signer, and of botocore.

use std::time::Duration;

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_runtime_api::client::identity::Identity;

use super::*;

const BODY: &[u8] = br#"{"Records":[],"StreamName":"clicks"}"#;

/// 2026-07-31T10:00:00Z
fn now() -> SystemTime {
    at(1_785_492_000)
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
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
    let mut headers = HeaderMap::new();
    let signer = Signer::new(&credentials(token), "eu-west-1");
    Signatures::default().sign(&signer, &call, now(), &mut headers).expect("a valid call");
    headers
}

/// What `aws-sigv4` makes of the same call, whose digest is that of `body`.
fn theirs(credentials: &Credentials, region: &str, call: &Call<'_>, body: &[u8], now: SystemTime) -> HeaderMap {
    let signed = [("content-type", call.content_type), ("host", call.host), ("x-amz-target", call.target)];
    let request = SignableRequest::new("POST", call.path, signed.into_iter(), SignableBody::Bytes(body));
    let identity: Identity = credentials.clone().into();
    let parameters = SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("kinesis")
        .time(now)
        .settings(SigningSettings::default())
        .build()
        .expect("all set")
        .into();
    let (instructions, _) = sign(request.expect("a valid call"), &parameters).expect("a valid call").into_parts();
    let mut headers = HeaderMap::new();
    for (name, value) in signed.into_iter().chain(instructions.headers()) {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        headers.insert(name, value.parse().expect("a value"));
    }
    headers
}

/// Numbers that look random: SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as usize % bound
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn text(&mut self, alphabet: &str, len_max: usize) -> String {
        let characters: Vec<char> = alphabet.chars().collect();
        (0..self.below(len_max + 1)).map(|_| self.one_of(&characters)).collect()
    }

    fn path(&mut self) -> String {
        if self.below(3) == 0 {
            return "/".to_owned();
        }
        let segment = |random: &mut Random| match random.below(5) {
            0 => random.one_of(&["", ".", "..", "...", "%2F", "a%20b"]).to_owned(),
            1 => "vpce-0123:456@[8]".to_owned(),
            2 => random.text("aé日🦀|{}\"^", 6),
            _ => random.text("abcXYZ019-_.~!$&'()*+,;=:@%", 12),
        };
        (0..=self.below(5)).map(|_| format!("/{}", segment(self))).collect()
    }

    /// Any second of 1970 to 2106; often one at the edge of a day, often of a year.
    fn time(&mut self) -> SystemTime {
        let (any_day, any_second) = (self.below(49_710), self.below(86_400));
        let day = self.one_of(&[0, 59, 364, 365, 10_956, 11_016, 11_017, 20_453, 20_454, 47_540, any_day]);
        let second = self.one_of(&[0, 1, 3599, 43_200, 86_399, any_second]);
        at((day * 86_400 + second) as u64) + Duration::from_nanos(self.below(1_000_000_000) as u64)
    }
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
fn whatever_is_called_whenever_and_by_whom_is_signed_as_the_official_signer_would() {
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut signatures = Signatures::default();
        let mut signer = None;
        let mut time = random.time();
        let mut call = (String::new(), String::new());
        for _ in 0..100 {
            // As a rule only body and time are other ones than before.
            if signer.is_none() || random.below(10) == 0 {
                let token = (random.below(2) == 0).then(|| random.text("abcXYZ019/+= ", 1200));
                let secret = random.text("abcXYZ019/+=", 60);
                let credentials = Credentials::new(random.text("AKID0189", 20), secret, token, None, "test");
                let region = random.one_of(&["eu-west-1", "us-gov-east-1", "x"]);
                signer = Some((Signer::new(&credentials, region), credentials, region));
            }
            if call.1.is_empty() || random.below(10) == 0 {
                let port = random.one_of(&["", ":1", ":4567", ":65535"]);
                let host = random.one_of(&["kinesis.eu-west-1.amazonaws.com", "localhost", "[::1]", "10.0.0.7"]);
                call = (format!("{host}{port}"), random.path());
            }
            time = match random.below(4) {
                0 => random.time(),
                1 => time + Duration::from_secs(random.below(86_400) as u64),
                _ => time + Duration::from_millis(random.below(2_000) as u64),
            };
            let body = random.text("body", 50);
            let call = Call {
                host: &call.0,
                path: &call.1,
                target: random.one_of(&["Kinesis_20131202.PutRecords", "other"]),
                content_type: random.one_of(&["application/x-amz-json-1.1", "application/x-amz-cbor-1.1"]),
                body_digest: &Sha256::digest(&body).into(),
            };
            let (signer, credentials, region) = signer.as_ref().expect("it was made");
            let mut ours = HeaderMap::new();
            signatures.sign(signer, &call, time, &mut ours).expect("a valid call");
            assert_eq!(ours, theirs(credentials, region, &call, body.as_bytes(), time), "{call:?} at {time:?}");
        }
    }
}

#[test]
fn times_before_1970_are_signed_too() {
    let call = Call { host: "h", path: "/", target: "t", content_type: "c", body_digest: &Sha256::digest("").into() };
    let credentials = credentials(None);
    for nanos in [1, 1_000_000_000, 86_400_000_000_000, 5_000_000_000_000_000_001] {
        let time = SystemTime::UNIX_EPOCH - Duration::from_nanos(nanos);
        let mut ours = HeaderMap::new();
        let signer = Signer::new(&credentials, "x");
        Signatures::default().sign(&signer, &call, time, &mut ours).expect("a valid call");
        // The official signer shows a part of a second before 1970 as the second after it.
        let whole = SystemTime::UNIX_EPOCH - Duration::from_secs(nanos.div_ceil(1_000_000_000));
        assert_eq!(ours, theirs(&credentials, "x", &call, b"", whole));
    }
}

#[test]
fn the_key_is_made_anew_for_another_day_or_other_credentials_only() {
    let call = Call { host: "h", path: "/", target: "t", content_type: "c", body_digest: &[0; 32] };
    let mut signatures = Signatures::default();
    let mut key_at = |signer: &Signer, now| {
        signatures.sign(signer, &call, now, &mut HeaderMap::new()).expect("a valid call");
        signatures.day.as_ref().map(|day| (*day.key, day.number))
    };
    let signer = Signer::new(&credentials(None), "eu-west-1");
    let today = key_at(&signer, now());
    assert_eq!(key_at(&signer.clone(), now() + Duration::from_secs(3600 * 13)), today);
    let tomorrow = key_at(&signer, now() + Duration::from_secs(3600 * 14));
    assert_ne!(tomorrow, today);
    assert_eq!(key_at(&signer, now()), today, "a clock that is set back");
    let other = Credentials::new("AKIDEXAMPLE", "other", None, None, "test");
    assert_ne!(key_at(&Signer::new(&other, "eu-west-1"), now()), today);
    assert_eq!(key_at(&Signer::new(&credentials(None), "eu-west-1"), now()), today);
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
    let mut signatures = Signatures::default();
    let mut signed = |credentials: &Credentials, call: &Call<'_>| {
        let mut headers = HeaderMap::new();
        let signer = Signer::new(credentials, "eu-west-1");
        let signed = signatures.sign(&signer, call, now(), &mut headers);
        assert_eq!(headers.is_empty(), signed.is_err());
        signed
    };
    let plain = credentials(None);
    let bad_paths = ["", "a", "*", "/ ", "/a?b", "/a#b", "/a\n"].map(|path| Call { path, ..good });
    let bad_hosts = ["h\n", "h h", "h\t"].map(|host| Call { host, ..good });
    let others = [Call { target: "\0", ..good }, Call { content_type: "c ", ..good }];
    for bad in bad_paths.into_iter().chain(bad_hosts).chain(others) {
        let error = signed(&plain, &bad).expect_err(&format!("{bad:?}"));
        assert!(error.to_string().starts_with("the request cannot be signed"), "{error}");
        signed(&plain, &good).expect("the others were bad by one field");
    }
    signed(&credentials(Some("a\nb")), &good).expect_err("a token that is no header");
    let bad = Credentials::new("AK\nID", "secret", None, None, "test");
    signed(&bad, &good).expect_err("an access key that is no header");
    signed(&plain, &good).expect("nothing is left of the errors");
}
