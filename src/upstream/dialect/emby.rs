//! Emby 3.5 to 4.x. The source of 4.x is closed: where only 3.5 is known, the tolerant way is taken.

use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::secret::Secret;
use crate::target::Path;
use crate::upstream::Kind;
use crate::upstream::dialect::minting::Minting;
use crate::upstream::dialect::reading::{credential, plain};
use crate::upstream::dialect::{
    Answer, Call, Device, Dialect, Grant, GrantError, Route, Routed, TokenState, Verdict, mediabrowser, routes,
};

const KIND: Kind = Kind::Emby;
const SCHEME: &str = "Emby";
/// The documented carrier.
const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-emby-token");
/// Tells a 401 that is about the user's viewing hours from one that is about the token.
const ERROR_CODE: HeaderName = HeaderName::from_static("x-application-error-code");

/// Emby.
#[derive(Debug)]
pub(super) struct Emby;

fn is_parental_control(headers: &HeaderMap) -> bool {
    headers.get(ERROR_CODE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"ParentalControl"))
}

/// Ids go into a path: hex digits and dashes only, anything else is not an id of Emby's.
fn is_user_id(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

impl Dialect for Emby {
    fn kind(&self) -> Kind {
        KIND
    }

    fn login(&self, username: &str, password: &Secret<String>, device: &Device) -> Call {
        mediabrowser::login(SCHEME, username, password, device)
    }

    fn read_login(&self, answer: &Answer) -> Result<Grant, GrantError> {
        mediabrowser::read_login(KIND, answer)
    }

    fn refresh(&self, _refresh_token: &Secret<String>) -> Option<Call> {
        None
    }

    fn read_refresh(&self, _answer: &Answer) -> Result<Grant, GrantError> {
        Err(GrantError::Refused("Emby has no refresh tokens".to_owned()))
    }

    /// Emby has no `/Users/Me`; without a user `/System/Info` serves, which every token may read.
    fn probe(&self, token: &Secret<String>, user_id: Option<&str>, device: &Device) -> Call {
        let mut call = match user_id.filter(|id| is_user_id(id)) {
            Some(id) => plain(Method::GET, &format!("/Users/{id}")),
            None => plain(Method::GET, "/System/Info"),
        };
        call.headers.extend(self.credential_headers(token, device));
        call
    }

    fn read_probe(&self, answer: &Answer) -> Result<TokenState, GrantError> {
        if is_parental_control(&answer.headers) {
            return Ok(TokenState::Alive { user_id: None, user_name: None });
        }
        mediabrowser::read_probe(KIND, answer)
    }

    fn logout(&self, token: &Secret<String>, _refresh_token: Option<&Secret<String>>, device: &Device) -> Option<Call> {
        let mut call = plain(Method::POST, mediabrowser::LOGOUT);
        call.headers.extend(self.credential_headers(token, device));
        Some(call)
    }

    /// The token in its documented header, and who calls in the structured one: without a `Token` there the servers go on to the
    /// other header.
    fn credential_headers(&self, token: &Secret<String>, device: &Device) -> Vec<(HeaderName, HeaderValue)> {
        vec![credential(TOKEN_HEADER, token.expose().clone()), credential(AUTHORIZATION, mediabrowser::identity(SCHEME, device))]
    }

    /// Emby 3.5 reads nothing but the query when a socket opens. Tokens are hex digits, but a static one may be anything.
    fn socket_query(&self, token: &Secret<String>, device: &Device) -> Option<Secret<String>> {
        let mut query = String::from("api_key=");
        for byte in token.expose().bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                query.push(char::from(byte));
            } else {
                query.push_str(&format!("%{byte:02X}"));
            }
        }
        query.push_str("&deviceId=");
        query.push_str(&device.id);
        Some(Secret::new(query))
    }

    /// Everybody's upgrade succeeds; without a good token it stays silent for ever.
    fn refuses_dead_sockets(&self) -> bool {
        false
    }

    /// A missing right is 401 as well, and so is a request outside the user's viewing hours: the probe decides.
    fn verdict(&self, status: StatusCode, _path: &Path<'_>, _upgrade: bool) -> Verdict {
        if status == StatusCode::UNAUTHORIZED { Verdict::Doubtful } else { Verdict::Accepted }
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

    /// Not documented and not measured; half of what Jellyfin gets.
    fn pool_idle_timeout(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// Its API keys belong to no user, and it has no Quick Connect.
    fn minting(&self) -> Minting {
        Minting::Never("Emby gives an administrator no way to make a session for another user: give the account its password, or a token")
    }

    fn session_per_key(&self) -> bool {
        true
    }
}
