//! What all dialects need for making calls and reading answers.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::de::DeserializeOwned;

use crate::secret::Secret;
use crate::upstream::Kind;
use crate::upstream::dialect::{Answer, Call, GrantError};

/// keygate's version, as the upstreams' session lists show it.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The user agent of keygate's own calls: Audiobookshelf's list of sessions shows it to the user.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("keygate/", env!("CARGO_PKG_VERSION")));

/// How long to wait after a 429 that does not say it, and the longest that is believed, in seconds.
const RETRY_AFTER_DEFAULT: u64 = 60;
const RETRY_AFTER_MOST: u64 = 3600;

/// A call without a body.
pub(super) fn plain(method: Method, path: &str) -> Call {
    let headers = HeaderMap::from_iter([(USER_AGENT, AGENT), (ACCEPT, HeaderValue::from_static("application/json"))]);
    Call { method, path: path.to_owned(), headers, body: Secret::new(Vec::new()) }
}

/// A POST of a JSON object.
pub(super) fn post_json(path: &str, body: &serde_json::Value) -> Call {
    let mut call = plain(Method::POST, path);
    call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    call.body = Secret::new(body.to_string().into_bytes());
    call
}

/// A header value that holds a credential. A token with bytes that no header can carry becomes an empty value, which the
/// upstream refuses as it would have refused the token.
pub(super) fn sensitive(text: String) -> HeaderValue {
    let mut value = HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// A `Retry-After` in seconds, between 1 and an hour. The date form is not used by these servers.
pub(super) fn limited(headers: &HeaderMap) -> GrantError {
    let given = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(|text| text.trim().parse().ok());
    GrantError::Limited { retry_after_secs: given.unwrap_or(RETRY_AFTER_DEFAULT).clamp(1, RETRY_AFTER_MOST) }
}

/// What every status means that has no meaning of its own in a login, refresh or probe: the tokens are kept.
pub(super) fn unavailable(kind: Kind, path: &str, answer: &Answer) -> GrantError {
    let product = kind.product();
    let status = answer.status.as_u16();
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS => limited(&answer.headers),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => GrantError::Unavailable(format!(
            "{path} is not there ({status}): is this really {product}? See \"kind\" and \"base_path\" of the upstream"
        )),
        StatusCode::SERVICE_UNAVAILABLE => GrantError::Unavailable(format!("{product} is starting or out of service (503)")),
        status if status.is_redirection() => GrantError::Unavailable(format!(
            "{product}: {path} is redirected ({}), which keygate does not follow: see \"url\" and \"base_path\" of the upstream",
            status.as_u16()
        )),
        status if status.is_server_error() => GrantError::Unavailable(format!("{product} answered {} to {path}", status.as_u16())),
        _ => GrantError::Unavailable(format!("something else than {product} seems to answer: {status} to {path}")),
    }
}

/// The JSON of a 200. Anything else in a 200 comes from another program; its text is never repeated.
pub(super) fn json<T: DeserializeOwned>(kind: Kind, path: &str, body: &Bytes) -> Result<T, GrantError> {
    serde_json::from_slice(body).map_err(|_| {
        let product = kind.product();
        GrantError::Unavailable(format!(
            "something else than {product} seems to answer: its answer to {path} is not what {product} sends. See \"kind\" and \"url\" of the upstream"
        ))
    })
}

/// A header line with a credential.
pub(super) fn credential(name: HeaderName, text: String) -> (HeaderName, HeaderValue) {
    (name, sensitive(text))
}
