//! Answers in the words of the servers' frameworks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::header::{CONTENT_TYPE, ETAG, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::body::{Body, full};

/// What a handler gives: an answer, or `None` to close the connection without one.
pub(super) type Answer = Option<Response<Body>>;

/// A status without a body.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(""));
    *response.status_mut() = status;
    response
}

/// A text of some type; an empty type gives no `Content-Type`, as Passport's answers have none.
pub(super) fn text(status: StatusCode, content_type: &str, body: impl Into<String>) -> Response<Body> {
    let mut response = empty(status);
    if !content_type.is_empty() {
        set(&mut response, CONTENT_TYPE, content_type);
    }
    *response.body_mut() = full(body.into());
    response
}

/// JSON with status 200 and a weak tag over its content.
pub(super) fn json(value: &Value) -> Response<Body> {
    json_with(StatusCode::OK, value)
}

/// JSON with a status.
pub(super) fn json_with(status: StatusCode, value: &Value) -> Response<Body> {
    let body = value.to_string();
    let digest = STANDARD_NO_PAD.encode(Sha256::digest(body.as_bytes()));
    let tag = format!("W/\"{:x}-{}\"", body.len(), digest.get(..27).unwrap_or_default());
    let mut response = text(status, "application/json; charset=utf-8", body);
    set(&mut response, ETAG, &tag);
    response
}

/// Bytes of some type.
pub(super) fn bytes(content_type: &str, body: &'static [u8]) -> Response<Body> {
    let mut response = text(StatusCode::OK, content_type, "");
    *response.body_mut() = full(body);
    response
}

/// A fault that was ordered: a bare status, with `Retry-After` in seconds.
pub(super) fn ordered(status: u16, retry_after: Option<u64>) -> Response<Body> {
    let mut response = text(StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE), "text/html", "ordered by a test");
    if let Some(seconds) = retry_after {
        set(&mut response, RETRY_AFTER, &seconds.to_string());
    }
    response
}

/// Adds or replaces a header.
pub(super) fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// Adds a header line.
pub(super) fn append(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().append(name, value);
    }
}
