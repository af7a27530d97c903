//! What is refused before anything else: everything that hyper shows of a request is judged here, with no look at keys.
//!
//! hyper is no gateway: it lets through two hosts, `GET evil:80`, a path that is empty, underscore headers, `Expect: x`. What hyper
//! itself settles before anyone can see it (a length beside `chunked`, a fragment) stays settled.

mod framing;
mod names;
mod upgrade;

use http::header::HOST;
use http::{HeaderMap, Method, StatusCode, Uri, Version};

use crate::carrier;
use crate::config::Limits;
use crate::target::{AmbiguousPath, Host, Path};

pub use framing::Length;
pub use upgrade::Upgrade;

/// How the client came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Plain HTTP.
    Clear,
    /// TLS.
    Tls,
}

/// What hyper shows of a request. The target is apart from the headers, which are edited while the path is still in use.
#[derive(Clone, Copy, Debug)]
pub struct Head<'h, 'u> {
    /// Method.
    pub method: &'h Method,
    /// Target.
    pub uri: &'u Uri,
    /// Version.
    pub version: Version,
    /// Headers.
    pub headers: &'h HeaderMap,
}

/// A request of which everything that hyper shows was judged.
#[derive(Debug)]
pub struct Inspected<'h, 'u> {
    /// The path, judged; `/` for `OPTIONS *`.
    pub path: Path<'u>,
    /// The query as it came.
    pub query: Option<&'u str>,
    /// The host that the client named.
    pub host: Host<'h>,
    /// An upgrade to be made; any other `Upgrade` is ignored (and removed as a hop-by-hop header).
    pub upgrade: Option<Upgrade>,
    /// How long the body is.
    pub length: Length,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// `OPTIONS *`: to be answered here, never forwarded.
    pub server_wide: bool,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A version that is not spoken here, or HTTP/2 without TLS.
    #[error("this version of HTTP is not spoken here")]
    Version,
    /// `CONNECT`, `TRACE`, `TRACK`.
    #[error("this method is not allowed")]
    Method,
    /// A method that nobody here knows; names of methods are in capitals.
    #[error("this method is not known")]
    UnknownMethod,
    /// Authority-form, `*`, another scheme, user information, an empty path.
    #[error("the request target is not a path")]
    Target,
    /// The target is too long.
    #[error("the request target is too long")]
    LongTarget,
    /// The path could be read in two ways.
    #[error("{0}")]
    Path(#[from] AmbiguousPath),
    /// A whole key as a part of the path.
    #[error("a key in the path; send it in a header")]
    KeyInPath,
    /// No host, several, an invalid one, or one that differs from the target's.
    #[error("the request must name exactly one valid host")]
    Host,
    /// `Content-Length` and `Transfer-Encoding` are not what keygate forwards.
    #[error("the length of the body is not clear")]
    Framing,
    /// `Expect` other than `100-continue`.
    #[error("only \"Expect: 100-continue\" is understood")]
    Expectation,
    /// Too many header lines or bytes.
    #[error("the request has too many headers or too long ones")]
    LargeHead,
    /// `Connection` names a header that must not be dropped.
    #[error("Connection names a header that it must not name")]
    Nominated,
    /// A header name that some servers take for a credential, host or forwarding header.
    #[error("a header name with \"_\" or \".\" stands for a sensitive header")]
    DisguisedName,
    /// A header value with bytes above 127.
    #[error("a header value has bytes outside ASCII")]
    HeaderValue,
    /// A malformed WebSocket handshake.
    #[error("the WebSocket handshake is malformed")]
    Handshake,
}

impl Refused {
    /// The status of the answer.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownMethod => StatusCode::NOT_IMPLEMENTED,
            Self::LongTarget => StatusCode::URI_TOO_LONG,
            Self::LargeHead => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// A short label for the log and for metrics.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Method | Self::UnknownMethod => "method",
            Self::Target => "target",
            Self::LongTarget => "long-target",
            Self::Path(_) => "path",
            Self::KeyInPath => "key-in-path",
            Self::Host => "host",
            Self::Framing => "framing",
            Self::Expectation => "expectation",
            Self::LargeHead => "large-head",
            Self::Nominated => "nominated",
            Self::DisguisedName => "disguised-name",
            Self::HeaderValue => "header-value",
            Self::Handshake => "handshake",
        }
    }

    /// Whether the connection must be closed after the answer: what follows on it cannot be trusted to be a request.
    pub const fn closes(self) -> bool {
        matches!(self, Self::Framing | Self::Version | Self::LargeHead | Self::LongTarget | Self::Expectation)
    }
}

/// Judges the head of a request.
///
/// # Errors
/// [`Refused`].
pub fn inspect<'h, 'u: 'h>(head: Head<'h, 'u>, limits: &Limits, listener: Listener) -> Result<Inspected<'h, 'u>, Refused> {
    judge_version(head.version, listener)?;
    judge_method(head.method)?;
    judge_size(head, limits)?;
    let seen = names::survey(head.headers)?;
    let host = judge_host(head)?;
    let length = framing::length(head.headers, head.version, seen)?;
    let expects_continue = framing::expects_continue(head.headers, seen)?;
    let upgrade = upgrade::judge(head, length, seen)?;
    let server_wide = *head.method == Method::OPTIONS && head.uri.path() == "*";
    let path = Path::parse(if server_wide { "/" } else { head.uri.path() })?;
    if carrier::holds_key(path.as_str()) {
        return Err(Refused::KeyInPath);
    }
    Ok(Inspected { path, query: head.uri.query(), host, upgrade, length, expects_continue, server_wide })
}

const fn judge_version(version: Version, listener: Listener) -> Result<(), Refused> {
    match (version, listener) {
        (Version::HTTP_10 | Version::HTTP_11, _) | (Version::HTTP_2, Listener::Tls) => Ok(()),
        _ => Err(Refused::Version),
    }
}

/// Names of methods are case-sensitive (RFC 9110, section 9.1).
fn judge_method(method: &Method) -> Result<(), Refused> {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS => Ok(()),
        Method::TRACE | Method::CONNECT => Err(Refused::Method),
        _ if method.as_str() == "TRACK" => Err(Refused::Method),
        _ => Err(Refused::UnknownMethod),
    }
}

fn judge_size(head: Head<'_, '_>, limits: &Limits) -> Result<(), Refused> {
    let authority = head.uri.authority().map_or(0, |authority| authority.as_str().len());
    if head.uri.path().len() + head.uri.query().map_or(0, |query| query.len() + 1) + authority > limits.max_uri_bytes {
        return Err(Refused::LongTarget);
    }
    // ": " and CRLF make four bytes a line.
    let bytes = head.headers.iter().fold(0, |bytes, (name, value)| bytes + name.as_str().len() + value.len() + 4);
    if head.headers.len() > limits.max_headers || bytes > limits.max_header_bytes {
        return Err(Refused::LargeHead);
    }
    Ok(())
}

/// Exactly one host; `:authority` (HTTP/2) and an absolute target (HTTP/1) must say the same.
fn judge_host<'h, 'u: 'h>(head: Head<'h, 'u>) -> Result<Host<'h>, Refused> {
    let authority = judge_target(head.uri, head.version)?;
    let named = only_host(head.headers)?;
    let text = match (named, authority) {
        (Some(named), Some(authority)) if !named.eq_ignore_ascii_case(authority) => return Err(Refused::Host),
        (Some(named), _) => named,
        (None, Some(authority)) if head.version == Version::HTTP_2 => authority,
        (None, _) => return Err(Refused::Host),
    };
    // A host name may be long enough for a key, and it is told to the upstream.
    if carrier::holds_key(text) { Err(Refused::Host) } else { Host::parse(text).map_err(|_| Refused::Host) }
}

fn only_host(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    let mut hosts = headers.get_all(HOST).iter();
    let first = hosts.next();
    if hosts.next().is_some() {
        return Err(Refused::Host);
    }
    first.map(|host| host.to_str().map_err(|_| Refused::Host)).transpose()
}

/// Origin-form, or absolute-form with a scheme of ours; its authority. A target without a scheme but with an authority is
/// authority-form (`GET evil:80`).
fn judge_target(uri: &Uri, version: Version) -> Result<Option<&str>, Refused> {
    let authority = uri.authority().map(http::uri::Authority::as_str);
    if authority.is_some_and(|authority| authority.contains('@')) {
        return Err(Refused::Target);
    }
    let scheme_fits = match uri.scheme_str() {
        Some(scheme) => matches!(scheme, "http" | "https"),
        None => authority.is_none() || version == Version::HTTP_2,
    };
    if scheme_fits && !uri.path().is_empty() { Ok(authority) } else { Err(Refused::Target) }
}

#[cfg(test)]
mod tests;
