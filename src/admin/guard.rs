//! What every request to the admin listener must pass, before any route is looked for: the right host name, a place where it may come
//! from, a body of bounded size and time, a credential that is good if there is one. And what every answer bears.
//!
//! A page of a stranger in the administrator's own browser is the enemy here: it can make that browser send requests, with cookies, to
//! any address, and by DNS rebinding even under a name of its own (issue 5; OWASP Cross-Site Request Forgery Prevention Cheat Sheet).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use crate::admin::door::{Rights, Visit, cookie_name};
use crate::admin::error::AdminError;
use crate::admin::navigation::{Refusals, dressed, is_navigation};
use crate::admin::page_sessions::Session;
use crate::admin::{Actor, Admin, metrics};

/// Largest request body.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;
/// Until a body is complete.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Where a program or a page of ours puts a session's token.
pub(super) const CSRF_HEADER: HeaderName = HeaderName::from_static("x-csrf-token");
/// And where a form does.
pub(super) const CSRF_FIELD: &str = "csrf";
/// Most cookies of our name that are tried.
const MOST_COOKIES: usize = 4;

/// Nothing from anywhere else, nothing inline, no frames.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action \
                                       'self'; frame-ancestors 'none'; base-uri 'none'";

/// What each answer bears. `same-origin` and not `no-referrer`: with that one browsers send `Origin: null` with forms (Fetch, "append a
/// request Origin header"); other hosts are told nothing by either.
const SECURITY_HEADERS: [(HeaderName, &str); 7] = [
    (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What the guard works with.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) admin: Arc<Admin>,
    /// Host names beside the address itself and `localhost`, lower case.
    pub(super) hosts: Arc<[String]>,
    /// How people are told of refusals.
    pub(super) refusals: Refusals,
}

/// The middleware around everything that the listener has. Needs a [`Visit`] among the request's extensions.
pub(super) async fn guard(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let is_asset = request.uri().path().starts_with("/assets/");
    let is_navigation = is_navigation(&request);
    let mut response = match guard.let_in(request).await {
        Ok(request) => next.run(request).await,
        Err(error) => error.into_response(),
    };
    if is_navigation {
        response = dressed(response, guard.refusals);
    }
    for (name, value) in SECURITY_HEADERS {
        // What the page is made of says for itself that it may be kept: its name changes with it.
        if is_asset && name == header::CACHE_CONTROL && response.headers().contains_key(&name) {
            continue;
        }
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

impl Guard {
    async fn let_in(&self, request: Request) -> Result<Request, AdminError> {
        let (mut parts, body) = request.into_parts();
        let visit = *parts.extensions.get::<Visit>().ok_or_else(|| AdminError::Failed("a request came from nowhere".to_owned()))?;
        let host = self.host(&parts, visit.local)?;
        check_origin(&parts, &host, visit)?;
        check_target(&parts)?;
        let known = self.recognise(&parts, visit).await?;
        let body = whole(&parts.headers, body).await?;
        check_type(&parts, &body)?;
        if let Known::Person(session) = &known {
            check_csrf(&parts, &body, session)?;
        }
        match known {
            Known::Nobody if self.may_read_metrics(&parts, visit) => {
                parts.extensions.insert(Rights::to_read());
            }
            Known::Nobody => {}
            Known::Program(actor, rights) => {
                parts.extensions.insert(actor);
                parts.extensions.insert(rights);
            }
            Known::Person(session) => {
                parts.extensions.insert(Actor::Page { session: session.number, address: visit.address });
                parts.extensions.insert(Rights::all());
                parts.extensions.insert(session);
            }
        }
        Ok(Request::from_parts(parts, Body::from(body)))
    }

    /// The host that the request is for, which must be one of ours: a stranger's name that leads here by DNS is none.
    fn host(&self, parts: &Parts, local: IpAddr) -> Result<String, AdminError> {
        let misdirected = || {
            let text = "this host name is none of the admin listener's: use its address, localhost, or a name of [admin] hosts";
            AdminError::Misdirected(text.to_owned())
        };
        let mut lines = parts.headers.get_all(header::HOST).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else { return Err(misdirected()) };
        let host = line.to_str().map_err(|_| misdirected())?.to_ascii_lowercase();
        let is_ours = self.is_ours(&host, local);
        // An absolute target counts before the header (RFC 9112, section 3.2.2): both must be ours, and the same.
        let is_same = parts.uri.authority().is_none_or(|target| target.as_str().eq_ignore_ascii_case(&host));
        if is_ours && is_same { Ok(host) } else { Err(misdirected()) }
    }

    fn is_ours(&self, host: &str, local: IpAddr) -> bool {
        let Some(name) = without_port(host) else { return false };
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name).parse::<IpAddr>();
        address.is_ok_and(|address| address.to_canonical() == local.to_canonical())
            || name == "localhost"
            || self.hosts.iter().any(|ours| ours == name)
    }

    /// Metrics are open to programs on this machine if the configuration says so; nothing else ever is.
    fn may_read_metrics(&self, parts: &Parts, visit: Visit) -> bool {
        self.admin.metrics.open && !is_change(&parts.method) && parts.uri.path() == metrics::PATH && visit.address.is_loopback()
    }

    async fn recognise(&self, parts: &Parts, visit: Visit) -> Result<Known, AdminError> {
        let mut lines = parts.headers.get_all(header::AUTHORIZATION).iter();
        match (lines.next(), lines.next()) {
            (None, _) => Ok(self.session(&parts.headers, visit).map_or(Known::Nobody, Known::Person)),
            (Some(_), Some(_)) => Err(AdminError::Invalid("there is more than one Authorization header".to_owned())),
            (Some(line), None) => {
                let (actor, rights) = self.admin.recognise(bearer(line).unwrap_or_default(), visit.address).await?;
                Ok(Known::Program(actor, rights))
            }
        }
    }

    /// A cookie that nobody knows is as good as none: sessions end.
    fn session(&self, headers: &HeaderMap, visit: Visit) -> Option<Session> {
        let name = cookie_name(visit.is_tls);
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let ids = pairs.filter(|(found, _)| *found == name).take(MOST_COOKIES);
        ids.filter_map(|(_, id)| self.admin.page_sessions().find(id)).next()
    }
}

enum Known {
    Nobody,
    Program(Actor, Rights),
    Person(Session),
}

fn bearer(line: &HeaderValue) -> Option<&str> {
    let (scheme, token) = line.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// `host` of `host:port` or `[::1]:port`; `None` where the port is no number.
fn without_port(host: &str) -> Option<&str> {
    let end = host.find(']').map_or(0, |end| end + 1);
    let name = match host[end..].split_once(':') {
        None => host,
        Some((before, port)) => {
            port.parse::<u16>().ok()?;
            &host[..end + before.len()]
        }
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    (!name.is_empty()).then_some(name)
}

fn is_change(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

/// Whether a path is one of the interface for programs.
pub(super) fn is_interface(path: &str) -> bool {
    path.starts_with("/api/") || path.to_ascii_lowercase().contains("/auth/keys")
}

/// Nothing that another site's page made: by what browsers say of themselves (W3C Fetch Metadata; Fetch, the `Origin` header).
fn check_origin(parts: &Parts, host: &str, visit: Visit) -> Result<(), AdminError> {
    let foreign = || AdminError::Forbidden("this request was made by a page of another site".to_owned());
    let text = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    match text("sec-fetch-site") {
        None | Some("same-origin") => {}
        Some("none") if !is_change(&parts.method) => {}
        // A link to the page that somebody follows: without the cookie, since that is SameSite=Strict.
        Some("cross-site" | "same-site")
            if !is_change(&parts.method)
                && !is_interface(parts.uri.path())
                && text("sec-fetch-mode") == Some("navigate")
                && text("sec-fetch-dest") == Some("document") => {}
        Some(_) => return Err(foreign()),
    }
    match text("origin") {
        None => Ok(()),
        Some(origin) => {
            let own = match origin.split_once("://") {
                Some(("https", own)) => Some(own),
                // A proxy that does TLS may stand before a plain listener, but nothing plain before an encrypted one.
                Some(("http", own)) if !visit.is_tls => Some(own),
                _ => None,
            };
            if own.is_some_and(|own| own.eq_ignore_ascii_case(host)) { Ok(()) } else { Err(foreign()) }
        }
    }
}

/// No credential in a URL, where logs and histories keep it; and no question of other sites whether they may ask.
fn check_target(parts: &Parts) -> Result<(), AdminError> {
    if parts.method == Method::OPTIONS {
        return Err(AdminError::Forbidden("other sites have no access to this interface".to_owned()));
    }
    let query = parts.uri.query().unwrap_or_default().to_ascii_lowercase();
    if query.contains("kga_") || query.contains("kg_") {
        return Err(AdminError::Invalid(
            "a token or key stands in the URL, where logs keep it: send admin tokens as Authorization: Bearer, and make a new one in place of this".to_owned(),
        ));
    }
    Ok(())
}

/// The body, when all of it has come.
async fn whole(headers: &HeaderMap, body: Body) -> Result<Bytes, AdminError> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(AdminError::TooLarge);
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY_BYTES)).await;
    match read {
        Err(_) => Err(AdminError::TooSlow),
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_too_large(&error) => Err(AdminError::TooLarge),
        Ok(Err(_)) => Err(AdminError::Invalid("the body broke off".to_owned())),
    }
}

fn is_too_large(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

/// A form of another site can send text, but not say that it is JSON without asking first, which is refused.
fn check_type(parts: &Parts, body: &Bytes) -> Result<(), AdminError> {
    let given = parts.headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    if !is_change(&parts.method) || (body.is_empty() && given.is_none()) {
        return Ok(());
    }
    let wanted = if is_interface(parts.uri.path()) { "application/json" } else { "application/x-www-form-urlencoded" };
    let essence = given.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(wanted) { Ok(()) } else { Err(AdminError::WrongType(format!("the body must be {wanted}"))) }
}

/// With a cookie, a change needs what only our own page knows, and a browser that says where it comes from.
fn check_csrf(parts: &Parts, body: &Bytes, session: &Session) -> Result<(), AdminError> {
    if !is_change(&parts.method) {
        return Ok(());
    }
    let says_where_from = parts.headers.contains_key(header::ORIGIN) || parts.headers.contains_key("sec-fetch-site");
    let in_header = parts.headers.get(CSRF_HEADER).and_then(|value| value.to_str().ok());
    let in_form = || -> Option<&str> {
        let form = if is_interface(parts.uri.path()) { "" } else { std::str::from_utf8(body).ok()? };
        // It is letters and digits: nothing in it is ever percent-encoded.
        form.split('&').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == CSRF_FIELD).map(|(_, value)| value)
    };
    let token = in_header.or_else(in_form).unwrap_or_default();
    if says_where_from && session.is_csrf(token) {
        return Ok(());
    }
    let text =
        "this change lacks the session's token (header X-CSRF-Token, or the field csrf of a form), or an Origin; load the page again";
    Err(AdminError::Forbidden(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_from_its_port() {
        for (host, name) in [
            ("localhost", Some("localhost")),
            ("localhost:8444", Some("localhost")),
            ("localhost.:8444", Some("localhost")),
            ("[::1]:8444", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("127.0.0.1:1", Some("127.0.0.1")),
            ("localhost:x", None),
            ("localhost:80:80", None),
            (":80", None),
            ("", None),
        ] {
            assert_eq!(without_port(host), name, "{host}");
        }
    }
}
