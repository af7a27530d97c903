//! Jellyfin 10.8 to 12.

use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::secret::Secret;
use crate::target::Path;
use crate::upstream::Kind;
use crate::upstream::dialect::minting::Minting;
use crate::upstream::dialect::reading::{credential, plain};
use crate::upstream::dialect::{
    Answer, Call, Device, Dialect, Grant, GrantError, Route, Routed, TokenState, Verdict, mediabrowser, routes,
};

const KIND: Kind = Kind::Jellyfin;

/// Jellyfin.
#[derive(Debug)]
pub(super) struct Jellyfin;

impl Dialect for Jellyfin {
    fn kind(&self) -> Kind {
        KIND
    }

    fn login(&self, username: &str, password: &Secret<String>, device: &Device) -> Call {
        mediabrowser::login("MediaBrowser", username, password, device)
    }

    fn read_login(&self, answer: &Answer) -> Result<Grant, GrantError> {
        mediabrowser::read_login(KIND, answer)
    }

    fn refresh(&self, _refresh_token: &Secret<String>) -> Option<Call> {
        None
    }

    fn read_refresh(&self, _answer: &Answer) -> Result<Grant, GrantError> {
        Err(GrantError::Refused("Jellyfin has no refresh tokens".to_owned()))
    }

    fn probe(&self, token: &Secret<String>, _user_id: Option<&str>, device: &Device) -> Call {
        let mut call = plain(Method::GET, "/Users/Me");
        call.headers.extend(self.credential_headers(token, device));
        call
    }

    /// The server's own API keys belong to no user: `/Users/Me` answers them 400 (jellyfin#14559), an unknown one 401.
    fn read_probe(&self, answer: &Answer) -> Result<TokenState, GrantError> {
        if answer.status == StatusCode::BAD_REQUEST {
            return Ok(TokenState::Alive { user_id: None, user_name: None });
        }
        mediabrowser::read_probe(KIND, answer)
    }

    fn logout(&self, token: &Secret<String>, _refresh_token: Option<&Secret<String>>, device: &Device) -> Option<Call> {
        let mut call = plain(Method::POST, mediabrowser::LOGOUT);
        call.headers.extend(self.credential_headers(token, device));
        Some(call)
    }

    /// The token alone, in the one form that every version takes. The server knows the client and device of a token from the login,
    /// and fills in what the header leaves out; a `Device` or `Version` that differs from it is written to the database with each
    /// change (`AuthorizationContext.cs`), and a static token belongs to somebody else's device.
    fn credential_headers(&self, token: &Secret<String>, _device: &Device) -> Vec<(HeaderName, HeaderValue)> {
        vec![credential(AUTHORIZATION, format!("MediaBrowser Token=\"{}\"", token.expose()))]
    }

    fn socket_query(&self, _token: &Secret<String>, _device: &Device) -> Option<Secret<String>> {
        None
    }

    /// A missing right is 403, so a 401 is most likely a dead token, but plugins answer what they like: the probe decides. The
    /// upgrade of a WebSocket with a dead token is refused with 403 (`WebSocketManager.cs`).
    fn verdict(&self, status: StatusCode, _path: &Path<'_>, upgrade: bool) -> Verdict {
        match status {
            StatusCode::UNAUTHORIZED => Verdict::Doubtful,
            StatusCode::FORBIDDEN if upgrade => Verdict::Doubtful,
            _ => Verdict::Accepted,
        }
    }

    fn routed(&self, method: &Method, path: &Path<'_>) -> Routed {
        mediabrowser::routed(method, path)
    }

    fn routes(&self) -> &'static [Route] {
        &routes::mediabrowser::ROUTES
    }

    fn base_paths(&self) -> &'static [&'static str] {
        mediabrowser::BASE_PATHS
    }

    /// Kestrel closes after 130 s.
    fn pool_idle_timeout(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn minting(&self) -> Minting {
        Minting::QuickConnect
    }

    fn session_per_key(&self) -> bool {
        true
    }
}
