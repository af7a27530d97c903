//! All that differs between kinds of media server, as pure functions: no socket, no clock, no store.
//!
//! A dialect describes the calls that obtain and keep a session, says what an answer means, places the session token in a
//! forwarded request, and classes routes. Sending is the business of [`crate::upstream::session`] and
//! [`crate::forward`].

pub mod api_keys;
mod audiobookshelf;
pub mod capability;
mod emby;
mod holdings;
mod jellyfin;
pub mod libraries;
mod mediabrowser;
pub mod messages;
pub mod minting;
pub mod quick_connect;
mod reading;
mod routes;
pub mod shim;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::clock::Timestamp;
use crate::secret::Secret;
use crate::target::Path;
use crate::upstream::Kind;
use crate::upstream::dialect::minting::Minting;

pub use routes::{Methods, Route, Routed};

pub use holdings::{Holding, holding, is_of_the_api};

/// The dialect of a kind.
pub fn of(kind: Kind) -> &'static dyn Dialect {
    match kind {
        Kind::Audiobookshelf => &audiobookshelf::Audiobookshelf,
        Kind::Emby => &emby::Emby,
        Kind::Jellyfin => &jellyfin::Jellyfin,
    }
}

/// How keygate introduces itself to the upstream. Plain ASCII letters, digits, dash, space and dot only: Emby 3.5 splits on
/// commas inside quotes and Jellyfin URL-decodes values (upstreams: `AuthorizationContext.cs`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Name of the client program as the server's dashboard shows it: "keygate", or the key's name cleaned.
    pub client: String,
    /// Stable id, 32 hex digits, derived once and stored.
    pub id: String,
}

/// A call that keygate itself makes to an upstream. `path` is below the upstream's base path and starts with `/`.
#[derive(Debug)]
pub struct Call {
    /// Method.
    pub method: Method,
    /// Path and query, without the base path.
    pub path: String,
    /// Headers beside Host and Content-Length. Values that hold a credential are marked sensitive.
    pub headers: HeaderMap,
    /// Body; empty for none.
    pub body: Secret<Vec<u8>>,
}

/// The answer to a [`Call`]: read whole, bounded.
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body, at most [`crate::upstream::call::MAX_ANSWER_BYTES`].
    pub body: Bytes,
}

/// Without the body and the cookies, in which tokens are.
impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// What a login or a refresh yields.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The session token that goes into forwarded requests.
    pub token: Secret<String>,
    /// The refresh token, where the upstream has such a thing.
    pub refresh_token: Option<Secret<String>>,
    /// Other credentials that the answer revealed and that must never reach a client (Audiobookshelf's permanent
    /// `user.token`).
    pub other_secrets: Vec<Secret<String>>,
    /// When the token was issued by the upstream's clock and when it dies by the upstream's clock; `None`: never by time.
    pub lifetime: Option<Lifetime>,
    /// The upstream's id of the user.
    pub user_id: Option<String>,
    /// The upstream's name of the user.
    pub user_name: Option<String>,
    /// The upstream's id of what an administrator made for this (an API key), by which it is deleted again.
    pub minted_id: Option<String>,
}

/// The `iat` and `exp` of a token, by the upstream's clock. Only their difference is to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Issued at.
    pub issued_at: Timestamp,
    /// Dead from.
    pub expires_at: Timestamp,
}

/// Why a login or refresh did not yield a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The upstream refused the credential itself: stop until an operator acts (login), or fall back to a login (refresh).
    #[error("{0}")]
    Refused(String),
    /// The upstream limits logins; wait at least so many seconds.
    #[error("the upstream limits logins (429), next try in {retry_after_secs} s")]
    Limited {
        /// From `Retry-After`, or a default.
        retry_after_secs: u64,
    },
    /// The upstream is starting, broken or something else answers at its address: try later, keep the tokens.
    #[error("{0}")]
    Unavailable(String),
}

/// What an answer to a forwarded request says of the session token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: pass the answer on.
    Accepted,
    /// The token is dead: renew the session.
    Dead,
    /// It may be dead: ask with [`Dialect::probe`] before anything else.
    Doubtful,
}

/// What a path and method are to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteClass {
    /// Public facts that a client must read before it can log in; forwarded without a key and without a credential.
    Identity,
    /// Answered by keygate itself, never forwarded.
    Answered(OwnAnswer),
    /// The server's login form. With a key as the password keygate answers it.
    Login,
    /// Renewing a login (Audiobookshelf). With a key as the refresh token keygate answers it.
    Refresh,
    /// Ending the session: answered by keygate, since the session belongs to all of the account's keys.
    Logout,
    /// Audiobookshelf's Engine.IO endpoint, which authenticates inside the stream.
    Socket,
    /// Pictures; whether they need a key is a switch of the upstream.
    Image,
    /// The server's own web files; a switch of the upstream.
    WebUi,
    /// Share pages and RSS feeds; a switch of the upstream.
    Share,
    /// Media below an unguessable id, for which the server wants no credential: for a live key, or when the id was handed out to one.
    Capability,
    /// What players fetch: a key or a media ticket is needed.
    Media(Media),
    /// Mints, lists, reveals or changes credentials, or rules the server: a key with the scope `admin` is needed.
    Restricted,
    /// Everything else: a key is needed.
    Keyed,
}

/// What a media route answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// Bytes of media, files, pictures of a timeline: never rewritten, ranges work.
    Bytes,
    /// Playlists and subtitles: text, in which URLs and credentials may stand.
    Text,
    /// One or the other, as the server decides (`/Audio/{id}/universal`).
    Either,
}

/// Answers that keygate gives in the upstream's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnAnswer {
    /// `[]`: `/Users/Public` (a list of people's names is nobody's business).
    EmptyList,
    /// `false`: `/QuickConnect/Enabled`.
    False,
}

/// One kind of media server.
pub trait Dialect: Send + Sync {
    /// Which kind.
    fn kind(&self) -> Kind;

    /// The call that logs in with a password.
    fn login(&self, username: &str, password: &Secret<String>, device: &Device) -> Call;

    /// What the answer to [`Dialect::login`] means.
    ///
    /// # Errors
    /// [`GrantError`], as the 401 tables of the upstreams have it.
    fn read_login(&self, answer: &Answer) -> Result<Grant, GrantError>;

    /// The call that renews a session by its refresh token; `None` where there is no such thing.
    fn refresh(&self, refresh_token: &Secret<String>) -> Option<Call>;

    /// What the answer to [`Dialect::refresh`] means. `Refused`: the refresh token is dead, log in anew.
    ///
    /// # Errors
    /// [`GrantError`].
    fn read_refresh(&self, answer: &Answer) -> Result<Grant, GrantError>;

    /// A cheap call that tells whether a token lives: for [`Verdict::Doubtful`] and for `accounts login` of a token account.
    fn probe(&self, token: &Secret<String>, user_id: Option<&str>, device: &Device) -> Call;

    /// Whether the answer to [`Dialect::probe`] says that the token lives; `Unavailable`/`Limited` where it says nothing.
    ///
    /// # Errors
    /// [`GrantError::Unavailable`] or [`GrantError::Limited`].
    fn read_probe(&self, answer: &Answer) -> Result<TokenState, GrantError>;

    /// The token in an answer to [`Dialect::probe`] that opens the upstream's socket for the user, where it is another one than the
    /// token asked with.
    fn read_socket_token(&self, _answer: &Answer) -> Option<Secret<String>> {
        None
    }

    /// The call that ends a session at the upstream; `None` where nothing is to be ended.
    fn logout(&self, token: &Secret<String>, refresh_token: Option<&Secret<String>>, device: &Device) -> Option<Call>;

    /// The header lines that carry the session token in forwarded requests, made once per session. Values are sensitive.
    fn credential_headers(&self, token: &Secret<String>, device: &Device) -> Vec<(HeaderName, HeaderValue)>;

    /// Query parameters (already encoded, `name=value&name=value`) that a WebSocket upgrade needs beside the headers; Emby 3.5
    /// reads nothing else there. `None`: headers suffice.
    fn socket_query(&self, token: &Secret<String>, device: &Device) -> Option<Secret<String>>;

    /// Whether the upgrade of a WebSocket with a dead token is refused, or judged by what the client sends later. Where it is neither,
    /// the token is asked about before.
    fn refuses_dead_sockets(&self) -> bool {
        true
    }

    /// What an answer to a forwarded request says of the session token. `upgrade`: the request was a WebSocket upgrade.
    fn verdict(&self, status: StatusCode, path: &Path<'_>, upgrade: bool) -> Verdict;

    /// What a request is, and what it takes. Matching is on the canonical path: base path removed, case ignored.
    fn routed(&self, method: &Method, path: &Path<'_>) -> Routed;

    /// The class alone.
    fn route(&self, method: &Method, path: &Path<'_>) -> RouteClass {
        self.routed(method, path).class
    }

    /// The table that [`Dialect::routed`] looks into. What is not in it is [`Routed::UNKNOWN`].
    fn routes(&self) -> &'static [Route];

    /// Base paths that the server takes off by itself; the first segment of a path is compared with them, ignoring case.
    fn base_paths(&self) -> &'static [&'static str];

    /// How long the server keeps an idle connection, less a margin: the default of `pool_idle_timeout`.
    fn pool_idle_timeout(&self) -> std::time::Duration;

    /// How sessions are made for users whose password keygate does not know.
    fn minting(&self) -> Minting;

    /// Whether each key has a session of its own by default (Emby, Jellyfin) or all keys of an account share one.
    fn session_per_key(&self) -> bool;
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// The token is good. The user it belongs to, if the answer said so.
    Alive {
        /// The upstream's id of the user.
        user_id: Option<String>,
        /// The upstream's name of the user.
        user_name: Option<String>,
    },
    /// The token is dead.
    Dead,
}
