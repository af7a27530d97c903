//! The access line: one event per request, when its last byte went. No secret has a way into it: a path without its query, ids,
//! names, numbers.

use std::borrow::Cow;
use std::time::Duration;

use http::Method;

use crate::gateway::trail::Trail;
use crate::lifeline::Cause;
use crate::redact::{LoggedPath, Redacted};

/// Writes one line.
pub fn write(trail: &Trail, duration: Duration) {
    let path = trail.target.as_ref().map_or("*", |target| target.as_str());
    let key_id = trail.key.as_ref().map(|key| tracing::field::display(key.id()));
    let key_name = trail.key.as_ref().map(|key| key.name());
    let account = trail.account.as_ref().map(|account| account.name.as_str());
    let upstream = trail.upstream.as_ref().map(|name| name.as_str());
    let status = trail.status.map_or(499, |status| status.as_u16());
    let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let path = LoggedPath(path);
    let Trail { carrier, bytes_in, bytes_out, complete, .. } = *trail;
    let ended = trail.ended.map(Cause::as_str);
    let (client, protocol) = (trail.client, tracing::field::debug(trail.version));
    let method = shown(&trail.method);
    let method = &*method;
    match &trail.refusal {
        None => tracing::info!(
            target: "keygate::access",
            %client, method, %path, protocol, status, upstream, account, key_id, key_name, carrier,
            bytes_in, bytes_out, duration_ms, complete, ended, "request"
        ),
        Some((kind, reason)) => tracing::warn!(
            target: "keygate::access",
            %client, method, %path, protocol, status, upstream, account, key_id, key_name, carrier,
            bytes_in, bytes_out, duration_ms, complete, refusal = kind, reason = Redacted(reason).to_string(), "refused"
        ),
    }
}

/// Whether a method is one that HTTP knows (RFC 9110, section 9, and RFC 5789): of others any text may be one.
pub(super) fn is_known(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET
            | Method::HEAD
            | Method::POST
            | Method::PUT
            | Method::PATCH
            | Method::DELETE
            | Method::OPTIONS
            | Method::CONNECT
            | Method::TRACE
    )
}

/// A method as it may be written.
fn shown(method: &Method) -> Cow<'_, str> {
    if is_known(method) { Cow::Borrowed(method.as_str()) } else { Cow::Owned(Redacted(method.as_str()).to_string()) }
}
