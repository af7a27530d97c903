//! What keygate asks of a media server as its administrator: who its users are, and sessions for them without their passwords.
//!
//! Audiobookshelf's administrators make API keys that act for any user (`server/controllers/ApiKeyController.js`). Jellyfin's may, from
//! 10.9 on, authorise a Quick Connect request for any user (`QuickConnectController.cs`, `RequestHelpers.GetUserId`): the result is a
//! session like that of a password. Emby has neither.

use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;

use crate::upstream::Kind;
use crate::upstream::dialect::reading::{json, plain, unavailable};
use crate::upstream::dialect::{Answer, Call, GrantError};

/// Ready-made header lines of a session.
pub type Headers = [(HeaderName, HeaderValue)];

/// How sessions are made for a user whose password nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minting {
    /// An API key of the server that acts for the user.
    ApiKey,
    /// A Quick Connect request that the administrator authorises for the user.
    QuickConnect,
    /// Not at all, and what to do instead.
    Never(&'static str),
}

/// A user, as the server shows its users to an administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamUser {
    /// The server's id of it.
    pub id: String,
    /// Its name, in the server's spelling.
    pub name: String,
    /// Whether it administers the server.
    pub is_administrator: bool,
    /// Whether it cannot be used for now.
    pub is_disabled: bool,
}

/// Why the server did not do what its administrator asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// 401: the administrator's token is dead, or (Emby) has not the right.
    #[error("the administrator's token was refused (401)")]
    TokenRefused,
    /// 403: the token is good, its user is no administrator.
    #[error("the account is no administrator (403)")]
    NotAdministrator,
    /// What another try does not change.
    #[error("{0}")]
    Impossible(String),
    /// Try later.
    #[error(transparent)]
    Later(GrantError),
}

impl From<GrantError> for MintError {
    fn from(error: GrantError) -> Self {
        Self::Later(error)
    }
}

/// A call with a session of the administrator's.
pub(super) fn with(mut call: Call, headers: &Headers) -> Call {
    call.headers.extend(headers.iter().cloned());
    call
}

/// What a refusal of a call of the administrator's means.
pub(super) fn refused(kind: Kind, path: &str, answer: &Answer) -> MintError {
    match answer.status {
        StatusCode::UNAUTHORIZED => MintError::TokenRefused,
        StatusCode::FORBIDDEN => MintError::NotAdministrator,
        _ => unavailable(kind, path, answer).into(),
    }
}

/// Where the list of users is.
const fn users_path(kind: Kind) -> &'static str {
    match kind {
        Kind::Audiobookshelf => "/api/users",
        Kind::Emby | Kind::Jellyfin => "/Users",
    }
}

/// The call that lists the server's users.
pub fn users(kind: Kind, administrator: &Headers) -> Call {
    with(plain(Method::GET, users_path(kind)), administrator)
}

/// The users of the answer to [`users`]. Nothing else of it is kept: Audiobookshelf puts everybody's permanent token in.
///
/// # Errors
/// [`MintError`].
pub fn read_users(kind: Kind, answer: &Answer) -> Result<Vec<UpstreamUser>, MintError> {
    let path = users_path(kind);
    if answer.status != StatusCode::OK {
        return Err(refused(kind, path, answer));
    }
    Ok(match kind {
        Kind::Audiobookshelf => json::<Books>(kind, path, &answer.body)?.users.into_iter().map(Into::into).collect(),
        Kind::Emby | Kind::Jellyfin => json::<Vec<MediaUser>>(kind, path, &answer.body)?.into_iter().map(Into::into).collect(),
    })
}

#[derive(Deserialize)]
struct Books {
    users: Vec<BookUser>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookUser {
    id: String,
    username: String,
    #[serde(rename = "type")]
    role: Option<String>,
    is_active: Option<bool>,
}

impl From<BookUser> for UpstreamUser {
    fn from(user: BookUser) -> Self {
        let is_administrator = matches!(user.role.as_deref(), Some("root" | "admin"));
        Self { id: user.id, name: user.username, is_administrator, is_disabled: user.is_active == Some(false) }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MediaUser {
    id: String,
    name: String,
    #[serde(default)]
    policy: Policy,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Policy {
    is_administrator: bool,
    is_disabled: bool,
}

impl From<MediaUser> for UpstreamUser {
    fn from(user: MediaUser) -> Self {
        Self { id: user.id, name: user.name, is_administrator: user.policy.is_administrator, is_disabled: user.policy.is_disabled }
    }
}

/// A text as one component of a path or a query.
pub(super) fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::dialect;
    use http::HeaderMap;

    fn answer(status: u16, body: &str) -> Answer {
        let status = StatusCode::from_u16(status).expect("a status");
        Answer { status, headers: HeaderMap::new(), body: body.to_owned().into() }
    }

    #[test]
    fn the_users_of_each_server_are_read_with_their_rights() {
        let books = r#"{"users":[{"id":"a","username":"root","type":"root","isActive":true,"token":"permanent"},
            {"id":"b","username":"adam","type":"admin","isActive":true},{"id":"c","username":"alice","type":"user","isActive":false},
            {"id":"d","username":"gast","type":"guest","isActive":true}]}"#;
        let rights = |kind, body: &str| -> Vec<(String, bool, bool)> {
            let users = read_users(kind, &answer(200, body)).expect("users");
            users.into_iter().map(|user| (user.name, user.is_administrator, user.is_disabled)).collect()
        };
        let expected = [("root", true, false), ("adam", true, false), ("alice", false, true), ("gast", false, false)];
        assert_eq!(rights(Kind::Audiobookshelf, books), expected.map(|(name, is, off)| (name.to_owned(), is, off)));
        let media = r#"[{"Name":"root","Id":"a","Policy":{"IsAdministrator":true,"IsDisabled":false}},{"Name":"bob","Id":"b"}]"#;
        for kind in [Kind::Emby, Kind::Jellyfin] {
            assert_eq!(rights(kind, media), [("root".to_owned(), true, false), ("bob".to_owned(), false, false)]);
        }
        assert!(!format!("{:?}", read_users(Kind::Audiobookshelf, &answer(200, books))).contains("permanent"));
    }

    #[test]
    fn a_dead_token_a_missing_right_and_a_server_that_starts_are_told_apart() {
        for kind in Kind::ALL {
            assert_eq!(read_users(kind, &answer(401, "")), Err(MintError::TokenRefused));
            assert_eq!(read_users(kind, &answer(403, "Forbidden")), Err(MintError::NotAdministrator));
            for (status, body) in [(503, ""), (404, ""), (302, ""), (200, "<html>"), (200, "null")] {
                assert!(
                    matches!(read_users(kind, &answer(status, body)), Err(MintError::Later(GrantError::Unavailable(_)))),
                    "{kind} {status}"
                );
            }
            assert!(matches!(read_users(kind, &answer(429, "")), Err(MintError::Later(GrantError::Limited { .. }))));
        }
    }

    #[test]
    fn each_kind_says_how_sessions_are_minted() {
        assert_eq!(dialect::of(Kind::Audiobookshelf).minting(), Minting::ApiKey);
        assert_eq!(dialect::of(Kind::Jellyfin).minting(), Minting::QuickConnect);
        assert!(matches!(dialect::of(Kind::Emby).minting(), Minting::Never(_)));
    }

    #[test]
    fn nothing_that_a_server_calls_an_id_leaves_its_place_in_a_path() {
        assert_eq!(encoded("a/../b?c#d%e f"), "a%2F..%2Fb%3Fc%23d%25e%20f");
        assert_eq!(encoded("cf39587f-6bde.~_"), "cf39587f-6bde.~_");
    }
}
