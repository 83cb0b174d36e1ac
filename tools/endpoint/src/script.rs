//! The small fault hook: a closure sees each request and says what becomes of it.
//!
//! It is called with the whole body at hand and before the signature is looked at, so it can play any server: one that
//! throttles the third request, refuses good credentials, answers rubbish, or drops the line. It is called on the
//! endpoint's only thread and must not block.

use bytes::Bytes;
use std::time::{Duration, Instant};

/// Decides about each API request.
pub type Script = Box<dyn Fn(&RequestInfo<'_>) -> Action + Send + Sync>;

/// What a script may look at.
#[derive(Debug)]
pub struct RequestInfo<'a> {
    /// The operation's name without its API version, as `PutRecords`; empty if the request names none.
    pub operation: &'a str,
    /// How many requests for this operation came before this one.
    pub index: u64,
    /// The request's `Content-Type`, empty if it has none.
    pub content_type: &'a str,
    /// The access key that signed it, as it claims; empty if it is not signed.
    pub access_key_id: &'a str,
    /// When its first byte came to this process; under TLS, that of its first TLS record.
    pub first_byte: Instant,
    /// The request's body.
    pub body: &'a Bytes,
}

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// It is served.
    Pass,
    /// It is answered with this instead of being served.
    Respond {
        /// HTTP status.
        status: u16,
        /// `Content-Type` of the answer.
        content_type: &'static str,
        /// Body of the answer, sent as it is.
        body: Bytes,
    },
    /// It is served after this time.
    Delay(Duration),
    /// It is not served and the connection is closed without an answer, in the ordinary way (FIN).
    CloseConnection,
    /// It is not served and the connection is reset (RST).
    ResetConnection,
    /// It is served, and the connection is closed without an answer: the client cannot know.
    ServeThenClose,
    /// It is a PutRecords of which the records at these indexes fail with this code; the others are served. Anything
    /// else is served whole.
    FailRecords {
        /// Which records, from 0.
        indexes: Vec<usize>,
        /// The error code, as `ProvisionedThroughputExceededException`.
        code: &'static str,
    },
    /// It is served, and the connection is closed half-way through the answer's body.
    TruncateBody,
}

impl Action {
    /// An error as the service words it: JSON with `__type` and `message`.
    pub fn error(status: u16, code: &str, message: &str) -> Action {
        let body = serde_json::json!({ "__type": code, "message": message }).to_string();
        Action::Respond { status, content_type: crate::answer::JSON, body: Bytes::from(body) }
    }
}
