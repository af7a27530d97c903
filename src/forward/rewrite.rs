//! The request in the upstream's form. An [`Outbound`] exists only for an admitted request:
//!
//! ```compile_fail
//! // Its fields are private, and its one constructor wants an `Admission`, which only the policy makes.
//! let outbound = keygate::forward::rewrite::Outbound { head: Box::new(http::Request::new(()).into_parts().0) };
//! ```
//!
//! ```compile_fail
//! // Nor can a permit be made up.
//! let permit = keygate::policy::Permit { verified: loop {}, proof: loop {}, account: loop {}, lifeline: loop {} };
//! ```

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, IF_RANGE, RANGE, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{HeaderValue, Method, Version};

use crate::forward::body::RequestBody;
use crate::forward::forwarded::{self, Forwarding};
use crate::forward::hop;
use crate::policy::Admission;
use crate::secret::Secret;
use crate::target::Path;
use crate::upstream::client::Upstream;
use crate::upstream::line::{Outgoing, RequestHead};
use crate::upstream::session::Session;

/// A request's head, ready for the upstream: no carrier, no hop-by-hop header, no claim about where it came from but ours, and the
/// session token in the dialect's place.
#[derive(Clone)]
pub struct Outbound {
    /// What the client says. Boxed, since it goes through many hands, each of which would move and keep all of it.
    head: Box<Parts>,
    /// What keygate says of the client. No header of these names is in the head.
    forwarding: Forwarding,
    /// Whose token keygate adds. No header of these names is in the head.
    session: Option<Arc<Session>>,
}

impl std::fmt::Debug for Outbound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outbound").field("method", &self.head.method).finish_non_exhaustive()
    }
}

/// What the request asks for, after carriers were taken out of it.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// The target as it came.
    pub uri: &'a Uri,
    /// The judged path, below the upstream's base path.
    pub path: &'a Path<'a>,
    /// The query without carriers.
    pub query: Option<Cow<'a, str>>,
    /// A WebSocket handshake.
    pub websocket: bool,
}

/// What the upstream is told about the client.
#[derive(Debug)]
pub struct Origin {
    /// Address, scheme and host for the forwarding headers.
    pub forwarding: Forwarding,
    /// The Host that the upstream sees.
    pub host: HeaderValue,
}

/// The rewritten request target is longer than a URI may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rewritten request target is too long")]
pub struct TooLong;

impl Outbound {
    /// Rewrites a request's head for the upstream.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn new(mut head: Box<Parts>, wanted: Wanted<'_>, origin: Origin, admitted: Admitted<'_>) -> Result<Self, TooLong> {
        let Admitted { admission: _, session, upstream } = admitted;
        let socket_query = session.and_then(|session| session.socket_query.as_ref()).filter(|_| wanted.websocket);
        head.uri = target(&wanted, &upstream.base_path, socket_query)?;
        head.version = Version::HTTP_11;
        let headers = &mut head.headers;
        hop::strip(headers);
        // The connection frames the body anew from what it knows; the client's words about it are not copied.
        headers.remove(CONTENT_LENGTH);
        headers.insert(HOST, origin.host);
        forwarded::drop_all(headers);
        if wanted.websocket {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            // Compressed messages could not be looked through.
            headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        }
        let outbound = Self { head, forwarding: origin.forwarding, session: None };
        Ok(match session {
            None => outbound,
            Some(session) => outbound.with_session(session),
        })
    }

    /// The same request for another session of the same account: for the one replay after a renewal.
    #[must_use]
    pub fn with_session(mut self, session: &Arc<Session>) -> Self {
        let names = session.headers.iter().map(|(name, _)| name);
        for name in std::iter::once(&AUTHORIZATION).chain(names) {
            self.head.headers.remove(name);
        }
        self.session = Some(Arc::clone(session));
        self
    }

    /// The same request for an answer that is not compressed.
    #[must_use]
    pub fn for_plain_answer(mut self) -> Self {
        self.head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        self
    }

    /// The same request for all of what it asks a part of.
    #[must_use]
    pub fn of_the_whole(mut self) -> Self {
        self.head.headers.remove(RANGE);
        self.head.headers.remove(IF_RANGE);
        self
    }

    /// Its method.
    pub const fn method(&self) -> &Method {
        &self.head.method
    }

    /// Whether sending it twice does no harm and asks for nothing twice (RFC 9110 section 9.2.2, without the methods that carry bodies).
    pub fn is_safe(&self) -> bool {
        self.head.method.is_safe()
    }

    /// The nonce of a WebSocket's handshake.
    pub fn websocket_key(&self) -> Option<&HeaderValue> {
        self.head.headers.get(SEC_WEBSOCKET_KEY)
    }

    /// With its body, as it goes out.
    pub fn with_body(self, body: RequestBody) -> Outgoing {
        let target = self.head.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut out = RequestHead::new(&self.head.method, target);
        for (name, value) in &self.head.headers {
            out.line(name, value);
        }
        for (name, value) in self.forwarding.lines() {
            out.line(&name, value);
        }
        for (name, value) in self.session.iter().flat_map(|session| &session.headers) {
            out.line(name, value);
        }
        out.with_body(body)
    }
}

/// Proof and material of an admission.
#[derive(Clone, Copy, Debug)]
pub struct Admitted<'a> {
    /// The proof.
    pub admission: &'a Admission,
    /// The session of the permit's account; `None` on open routes.
    pub session: Option<&'a Arc<Session>>,
    /// Where it goes.
    pub upstream: &'a Upstream,
}

/// The target in origin form, as it came where nothing had to change.
fn target(wanted: &Wanted<'_>, base_path: &str, socket_query: Option<&Secret<String>>) -> Result<Uri, TooLong> {
    let query = wanted.query.as_deref();
    if !wanted.path.is_changed() && query == wanted.uri.query() && base_path.is_empty() && socket_query.is_none() {
        // HTTP/2 and absolute-form targets carry an authority that an origin-form target must not have.
        return Ok(match wanted.uri.authority() {
            None => wanted.uri.clone(),
            Some(_) => wanted.uri.path_and_query().cloned().map(Uri::from).unwrap_or_default(),
        });
    }
    let mut text = String::with_capacity(base_path.len() + wanted.path.as_str().len() + query.map_or(0, |query| query.len() + 1));
    text.push_str(base_path);
    text.push_str(wanted.path.as_str());
    let queries = [query, socket_query.map(|query| query.expose().as_str())];
    for (separator, query) in std::iter::once('?').chain(std::iter::repeat('&')).zip(queries.into_iter().flatten()) {
        text.push(separator);
        text.push_str(query);
    }
    PathAndQuery::from_maybe_shared(bytes::Bytes::from(text)).map(Uri::from).map_err(|_| TooLong)
}
