//! The only place that builds keygate's own answers.

use std::borrow::Cow;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL,
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::Body;

use crate::forward::body::GatewayBody;
use crate::gateway::refusal::Refusal;
use crate::keys::Scopes;
use crate::limits::live::Quota;
use crate::upstream::dialect::OwnAnswer;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const ALLOWED: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The answer to a refused request. All refusals of a credential are alike, byte for byte.
pub fn refusal(refusal: &Refusal) -> Response<GatewayBody> {
    let public = refusal.public();
    let mut response = match refusal.body() {
        Cow::Borrowed(body) => json(public.status, body),
        Cow::Owned(body) => json_of(public.status, GatewayBody::own(body.into())),
    };
    let headers = response.headers_mut();
    // Without it a browser's script cannot tell a bad key from a broken line. It holds nothing of anybody's, and `*` never goes with
    // cookies.
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    match public.status {
        StatusCode::UNAUTHORIZED => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(r#"Bearer realm="keygate", error="invalid_token""#));
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            headers.insert(ALLOW, HeaderValue::from_static(ALLOWED));
        }
        _ => {}
    }
    if let Some(challenge) = refusal.missing_scopes().and_then(insufficient_scope) {
        headers.insert(WWW_AUTHENTICATE, challenge);
    }
    if let Some(seconds) = refusal.retry_after_secs() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if refusal.closes() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer to HEAD in the place of an answer to GET: with the length of its body, without the body. On HTTP/1 hyper does the same by
/// itself; on HTTP/2 it would send the body, and the client would break the stream off (RFC 9113, section 8.1.1).
pub fn without_body(mut response: Response<GatewayBody>) -> Response<GatewayBody> {
    if let Some(length) = response.body().size_hint().exact().filter(|&length| length > 0) {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        *response.body_mut() = GatewayBody::EMPTY;
    }
    response
}

/// What is left of a key's rate, in the three fields that clients know: draft-ietf-httpapi-ratelimit-headers up to its version 07, with the
/// burst as the limit and seconds until all of it is back. (Later versions have one structured field; hardly a client reads it yet.) They
/// take the place of the upstream's own. Once the day's bytes are used up they are about those, since a request more is of no use then.
pub fn with_quota(answer: &mut Response<GatewayBody>, quota: Quota) {
    let values = [("ratelimit-limit", quota.limit), ("ratelimit-remaining", quota.remaining), ("ratelimit-reset", quota.reset_secs)];
    for (name, value) in values {
        answer.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from(value));
    }
}

/// RFC 6750, section 3.1.
fn insufficient_scope(missing: Scopes) -> Option<HeaderValue> {
    let scopes = missing.names().join(" ");
    HeaderValue::try_from(format!(r#"Bearer realm="keygate", error="insufficient_scope", scope="{scopes}""#)).ok()
}

/// What keygate answers in the upstream's place.
pub fn own(answer: OwnAnswer) -> Response<GatewayBody> {
    match answer {
        OwnAnswer::EmptyList => json(StatusCode::OK, "[]"),
        OwnAnswer::False => json(StatusCode::OK, "false"),
    }
}

/// The answer to a logout: the client may forget its key; the session is the account's and stays.
pub fn logout(kind: crate::upstream::Kind) -> Response<GatewayBody> {
    match kind {
        crate::upstream::Kind::Audiobookshelf => json(StatusCode::OK, "{\"redirect_url\":null}"),
        crate::upstream::Kind::Emby | crate::upstream::Kind::Jellyfin => empty(StatusCode::NO_CONTENT),
    }
}

/// The answer to `OPTIONS *`.
pub fn options() -> Response<GatewayBody> {
    let mut response = empty(StatusCode::NO_CONTENT);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(ALLOWED));
    response
}

/// The answer to a CORS preflight. It carries no credential and gives none: any origin may ask, since a key must come with the
/// request itself and cookies are never credentials here (so `*`, and no `Allow-Credentials`).
pub fn preflight(requested_headers: Option<HeaderValue>) -> Response<GatewayBody> {
    let mut response = empty(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(ALLOWED));
    if let Some(requested) = requested_headers {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, requested);
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

fn empty(status: StatusCode) -> Response<GatewayBody> {
    let mut response = Response::new(GatewayBody::EMPTY);
    *response.status_mut() = status;
    response
}

fn json(status: StatusCode, text: &'static str) -> Response<GatewayBody> {
    json_of(status, GatewayBody::fixed(text))
}

fn json_of(status: StatusCode, text: GatewayBody) -> Response<GatewayBody> {
    let mut response = Response::new(text);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, NO_STORE);
    response
}
