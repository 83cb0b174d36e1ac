//! Answers as the service words them: content types, error bodies, request ids.

use axum::body::Body;
use bytes::Bytes;
use hyper::{Response, StatusCode, header};
use std::sync::atomic::{AtomicU64, Ordering};

/// Content type of the JSON protocol.
pub(crate) const JSON: &str = "application/x-amz-json-1.1";
/// Content type of the CBOR protocol.
pub(crate) const CBOR: &str = "application/x-amz-cbor-1.1";

/// Why a request is not served: what its answer will say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub status: u16,
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    /// A client's fault: status 400.
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal { status: 400, code, message: message.into() }
    }

    /// A body that is not what its content type says.
    pub(crate) fn malformed() -> Refusal {
        Refusal::new("SerializationException", "")
    }

    /// The answer: always JSON, as the service may answer errors also to a request in CBOR.
    pub(crate) fn into_response(self) -> Response<Body> {
        let body = serde_json::json!({ "__type": self.code, "message": self.message }).to_string();
        let mut response = response(self.status, JSON, Bytes::from(body));
        if let Ok(code) = self.code.parse() {
            response.headers_mut().insert("x-amzn-errortype", code);
        }
        response
    }
}

/// An answer with a request id of its own.
pub(crate) fn response(status: u16, content_type: &str, body: Bytes) -> Response<Body> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Partner: none. The number only has to be new each time.
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if let Ok(value) = content_type.parse() {
        headers.insert(header::CONTENT_TYPE, value);
    }
    if let Ok(value) = format!("00000000-0000-4000-8000-{id:012x}").parse() {
        headers.insert("x-amzn-requestid", value);
    }
    response
}
