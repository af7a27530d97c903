//! What clients of the login shim read.

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderValue, Response};

use crate::forward::body::GatewayBody;
use crate::gateway::respond;
use crate::keys::ApiKey;
use crate::upstream::Kind;

/// As long as Audiobookshelf's own (30 days). It slides with each renewal; whether the key still lives is judged each time.
const COOKIE_SECONDS: u64 = 2_592_000;

/// A login's answer. `cookie`: the key for the refresh cookie, and whether it came by TLS.
pub(super) fn login(body: Vec<u8>, cookie: Option<(&ApiKey, bool)>) -> Response<GatewayBody> {
    let mut response = Response::new(GatewayBody::own(Bytes::from(body)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Pages of other origins log in too; nothing is theirs here but what they sent (`*` never goes with cookies).
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if let Some((key, is_secure)) = cookie {
        let secure = if is_secure { " Secure;" } else { "" };
        let text = format!("refresh_token={}; Max-Age={COOKIE_SECONDS}; Path=/; HttpOnly;{secure} SameSite=Lax", key.expose());
        // A key consists of letters, digits and underscores.
        if let Ok(mut value) = HeaderValue::try_from(text) {
            value.set_sensitive(true);
            headers.insert(SET_COOKIE, value);
        }
    }
    response
}

/// A logout's answer: the client may forget its key, and its browser the cookie.
pub(super) fn logout(kind: Kind) -> Response<GatewayBody> {
    let mut response = respond::logout(kind);
    if kind == Kind::Audiobookshelf {
        for cookie in
            ["refresh_token=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "auth_method=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT"]
        {
            response.headers_mut().append(SET_COOKIE, HeaderValue::from_static(cookie));
        }
    }
    response
}
