//! Audiobookshelf 2.26 and newer: short-lived JWTs, renewed by a refresh token that rotates.
//!
//! Sources: `server/Auth.js`, `server/auth/TokenManager.js`, `server/auth/LocalAuthStrategy.js`, `server/Server.js` of 2.36.0.

use std::sync::LazyLock;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::clock::Timestamp;
use crate::secret::Secret;
use crate::target::Path;
use crate::upstream::Kind;
use crate::upstream::dialect::minting::Minting;
use crate::upstream::dialect::reading::{credential, json, plain, post_json, sensitive, unavailable};
use crate::upstream::dialect::routes::{self, Habits, Tree};
use crate::upstream::dialect::{Answer, Call, Device, Dialect, Grant, GrantError, Lifetime, Route, Routed, TokenState, Verdict};

const KIND: Kind = Kind::Audiobookshelf;
/// The server takes it off by itself.
pub(super) const BASE_PATHS: &[&str] = &["audiobookshelf"];
const LOGIN: &str = "/login";
const REFRESH: &str = "/auth/refresh";
const LOGOUT: &str = "/logout";
const ME: &str = "/api/me";
/// Wins over the cookie on refresh; without it the answer holds no refresh token.
const REFRESH_HEADER: HeaderName = HeaderName::from_static("x-refresh-token");
/// Must be exactly `true`, else the refresh token comes as a cookie only.
const RETURN_TOKENS: HeaderName = HeaderName::from_static("x-return-tokens");

static ROUTES: LazyLock<Tree> = LazyLock::new(|| {
    Tree::new(routes::audiobookshelf::ROUTES, Habits { base_paths: BASE_PATHS, endings: &[], may_have_another_base: true })
});

/// Audiobookshelf.
#[derive(Debug)]
pub(super) struct Audiobookshelf;

/// The part of a login or refresh answer that matters; the rest is all of the user's progress.
#[derive(Deserialize)]
struct LoginReply {
    user: User,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    id: String,
    username: String,
    /// Permanent and hardly revocable: it must never reach a client.
    token: Option<String>,
    access_token: Option<String>,
    refresh_token: Option<String>,
}

/// `GET /api/me` is a user without the wrapping.
#[derive(Deserialize)]
struct Me {
    id: Option<String>,
    username: Option<String>,
    token: Option<String>,
}

/// The claims that tell how long a token lives. It is not ours to verify: the upstream gave it to us and judges it.
#[derive(Deserialize)]
struct Claims {
    iat: Option<i64>,
    exp: Option<i64>,
}

fn lifetime(token: &str) -> Option<Lifetime> {
    let claims: Claims = jsonwebtoken::dangerous::insecure_decode_claims(token).ok()?;
    let lifetime = Lifetime { issued_at: Timestamp::from_secs(claims.iat?), expires_at: Timestamp::from_secs(claims.exp?) };
    (lifetime.expires_at > lifetime.issued_at).then_some(lifetime)
}

fn grant(path: &str, answer: &Answer) -> Result<Grant, GrantError> {
    let LoginReply { user } = json(KIND, path, &answer.body)?;
    let Some(token) = user.access_token.filter(|token| !token.is_empty()) else {
        return Err(GrantError::Unavailable("Audiobookshelf gave no accessToken: keygate needs version 2.26 or newer".to_owned()));
    };
    Ok(Grant {
        lifetime: lifetime(&token),
        token: Secret::new(token),
        refresh_token: user.refresh_token.filter(|token| !token.is_empty()).map(Secret::new),
        other_secrets: user.token.filter(|token| !token.is_empty()).map(Secret::new).into_iter().collect(),
        user_id: Some(user.id),
        user_name: Some(user.username),
        minted_id: None,
    })
}

/// A server with OpenID as the only way in has no strategy "local" and answers a login with Express's HTML page.
fn is_html(answer: &Answer) -> bool {
    answer.headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"text/html"))
}

impl Dialect for Audiobookshelf {
    fn kind(&self) -> Kind {
        KIND
    }

    fn login(&self, username: &str, password: &Secret<String>, _device: &Device) -> Call {
        let mut call = post_json(LOGIN, &json!({ "username": username, "password": password.expose() }));
        call.headers.insert(RETURN_TOKENS, HeaderValue::from_static("true"));
        call
    }

    fn read_login(&self, answer: &Answer) -> Result<Grant, GrantError> {
        match answer.status {
            StatusCode::OK => grant(LOGIN, answer),
            StatusCode::UNAUTHORIZED => Err(GrantError::Refused("Audiobookshelf refused the password (401)".to_owned())),
            StatusCode::BAD_REQUEST => {
                Err(GrantError::Refused("Audiobookshelf found the login incomplete (400): is the password empty?".to_owned()))
            }
            StatusCode::INTERNAL_SERVER_ERROR if is_html(answer) => Err(GrantError::Unavailable(
                "Audiobookshelf answered 500 to the login. If it allows OpenID logins only, passwords cannot work: switch password \
                 logins on, or give the account an API key of the server as its token"
                    .to_owned(),
            )),
            _ => Err(unavailable(KIND, LOGIN, answer)),
        }
    }

    fn refresh(&self, refresh_token: &Secret<String>) -> Option<Call> {
        let mut call = plain(Method::POST, REFRESH);
        call.headers.insert(REFRESH_HEADER, sensitive(refresh_token.expose().clone()));
        Some(call)
    }

    fn read_refresh(&self, answer: &Answer) -> Result<Grant, GrantError> {
        match answer.status {
            StatusCode::OK => grant(REFRESH, answer),
            StatusCode::UNAUTHORIZED => Err(GrantError::Refused("Audiobookshelf refused the refresh token (401)".to_owned())),
            _ => Err(unavailable(KIND, REFRESH, answer)),
        }
    }

    /// `/api/me` may be large, since it holds the user's progress, but it is the smallest that names the user; a probe is rare here,
    /// because a 401 is unmistakable ([`Dialect::verdict`]).
    fn probe(&self, token: &Secret<String>, _user_id: Option<&str>, device: &Device) -> Call {
        let mut call = plain(Method::GET, ME);
        call.headers.extend(self.credential_headers(token, device));
        call
    }

    fn read_probe(&self, answer: &Answer) -> Result<TokenState, GrantError> {
        match answer.status {
            StatusCode::OK => {
                let me: Me = json(KIND, ME, &answer.body)?;
                Ok(TokenState::Alive { user_id: me.id, user_name: me.username })
            }
            StatusCode::UNAUTHORIZED => Ok(TokenState::Dead),
            StatusCode::FORBIDDEN => Ok(TokenState::Alive { user_id: None, user_name: None }),
            _ => Err(unavailable(KIND, ME, answer)),
        }
    }

    /// The user's own permanent token (`server/models/User.js`, `toOldJSONForBrowser`).
    fn read_socket_token(&self, answer: &Answer) -> Option<Secret<String>> {
        let me: Me = json(KIND, ME, &answer.body).ok()?;
        me.token.filter(|token| !token.is_empty()).map(Secret::new)
    }

    /// Only the refresh token names the session row; access tokens are stateless and die by time.
    fn logout(&self, _token: &Secret<String>, refresh_token: Option<&Secret<String>>, _device: &Device) -> Option<Call> {
        let mut call = plain(Method::POST, LOGOUT);
        call.headers.insert(REFRESH_HEADER, sensitive(refresh_token?.expose().clone()));
        Some(call)
    }

    fn credential_headers(&self, token: &Secret<String>, _device: &Device) -> Vec<(HeaderName, HeaderValue)> {
        vec![credential(AUTHORIZATION, format!("Bearer {}", token.expose()))]
    }

    fn socket_query(&self, _token: &Secret<String>, _device: &Device) -> Option<Secret<String>> {
        None
    }

    /// Below `/api` a 401 means the credential and nothing else (a missing role is 403). Elsewhere nothing looks at the credential:
    /// `/hls` and `/public` know the session that is their path, a socket is judged by its first message, and the 401 of a login or a
    /// refresh is about what the client sent.
    fn verdict(&self, status: StatusCode, path: &Path<'_>, _upgrade: bool) -> Verdict {
        if status == StatusCode::UNAUTHORIZED && path.matches(BASE_PATHS, "/api/**") { Verdict::Dead } else { Verdict::Accepted }
    }

    fn routed(&self, method: &Method, path: &Path<'_>) -> Routed {
        ROUTES.find(method, path).unwrap_or(Routed::UNKNOWN)
    }

    fn routes(&self) -> &'static [Route] {
        routes::audiobookshelf::ROUTES
    }

    fn base_paths(&self) -> &'static [&'static str] {
        BASE_PATHS
    }

    /// Node closes after 5 s, which the server does not change.
    fn pool_idle_timeout(&self) -> Duration {
        Duration::from_secs(4)
    }

    fn minting(&self) -> Minting {
        Minting::ApiKey
    }

    fn session_per_key(&self) -> bool {
        false
    }
}
