//! What Emby and Jellyfin share since both come from Media Browser: login, routes, the structured header.
//!
//! Sources: Jellyfin `AuthorizationContext.cs`, `SessionManager.cs`, `ExceptionMiddleware.cs`, `AuthService.cs` of 10.8 to 12; Emby
//! 3.5.2 `HttpServer/Security/AuthorizationContext.cs`, `HttpListenerHost.cs`; Emby SDK 4.8 for what is closed.

use std::sync::LazyLock;

use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::secret::Secret;
use crate::target::Path;
use crate::upstream::Kind;
use crate::upstream::dialect::reading::{VERSION, json, post_json, unavailable};
use crate::upstream::dialect::routes::{self, Habits, Tree};
use crate::upstream::dialect::{Answer, Call, Device, Grant, GrantError, Routed, TokenState};

/// Emby serves everything there too; Jellyfin up to 10.11 takes them off, Jellyfin 12 no longer.
pub(super) const BASE_PATHS: &[&str] = &["emby", "mediabrowser"];
/// The login.
pub(super) const LOGIN: &str = "/Users/AuthenticateByName";
/// Ends the token that it comes with.
pub(super) const LOGOUT: &str = "/Sessions/Logout";

/// Emby 3.5 takes these off any path before it looks for the route (`GetSanitizedPathInfo` of `RestHandler.cs`): `/System/Restart.json`
/// restarts it. Jellyfin does not, and has nothing there.
const ENDINGS: &[&str] = &[".json", ".xml"];

static ROUTES: LazyLock<Tree> = LazyLock::new(|| {
    Tree::new(&routes::mediabrowser::ROUTES, Habits { base_paths: BASE_PATHS, endings: ENDINGS, may_have_another_base: false })
});

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct LoginReply {
    user: User,
    access_token: String,
}

/// A user, also as `/Users/Me` and `/Users/{id}` show it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct User {
    id: String,
    name: Option<String>,
}

/// The fields that say who calls, as a structured header without a token. Names exactly so: Jellyfin 12 minds their case.
/// [`Device`] promises values that need no escaping in any of the servers' ways of reading them.
pub(super) fn identity(scheme: &str, device: &Device) -> String {
    format!("{scheme} Client=\"{}\", Device=\"keygate\", DeviceId=\"{}\", Version=\"{VERSION}\"", device.client, device.id)
}

/// `POST /Users/AuthenticateByName`; Jellyfin demands all four identity fields.
pub(super) fn login(scheme: &str, username: &str, password: &Secret<String>, device: &Device) -> Call {
    let mut call = post_json(LOGIN, &json!({ "Username": username, "Pw": password.expose() }));
    if let Ok(value) = HeaderValue::try_from(identity(scheme, device)) {
        call.headers.insert(AUTHORIZATION, value);
    }
    call
}

/// The table of logins that failed. All refusals are final here: another try could only bring the account nearer to its lock-out.
pub(super) fn read_login(kind: Kind, answer: &Answer) -> Result<Grant, GrantError> {
    let product = kind.product();
    match answer.status {
        StatusCode::OK => {
            let reply: LoginReply = json(kind, LOGIN, &answer.body)?;
            if reply.access_token.is_empty() {
                return Err(GrantError::Unavailable(format!("{product} answered the login without a token")));
            }
            Ok(Grant {
                token: Secret::new(reply.access_token),
                refresh_token: None,
                other_secrets: Vec::new(),
                lifetime: None,
                user_id: Some(reply.user.id),
                user_name: reply.user.name,
                minted_id: None,
            })
        }
        StatusCode::UNAUTHORIZED => Err(GrantError::Refused(format!("{product} refused the password (401)"))),
        StatusCode::FORBIDDEN => Err(GrantError::Refused(format!(
            "{product} does not let this user in (403): disabled or locked out, not allowed on this device, from this address or at this \
             hour, or at its limit of sessions. See the user's page on the server's dashboard"
        ))),
        StatusCode::BAD_REQUEST => Err(GrantError::Refused(format!("{product} found the login incomplete (400)"))),
        _ => Err(unavailable(kind, LOGIN, answer)),
    }
}

/// What both have in a probe: 200 with or without a user, 401, 403 for a good token at the wrong hour.
pub(super) fn read_probe(kind: Kind, answer: &Answer) -> Result<TokenState, GrantError> {
    match answer.status {
        StatusCode::OK => {
            let body: serde_json::Value = json(kind, "the probe", &answer.body)?;
            let user = User::deserialize(body).ok().filter(|user| user.name.is_some());
            let (user_id, user_name) = user.map_or((None, None), |user| (Some(user.id), user.name));
            Ok(TokenState::Alive { user_id, user_name })
        }
        StatusCode::UNAUTHORIZED => Ok(TokenState::Dead),
        StatusCode::FORBIDDEN => Ok(TokenState::Alive { user_id: None, user_name: None }),
        _ => Err(unavailable(kind, "the probe", answer)),
    }
}

/// What a request is, and what it takes.
pub(super) fn routed(method: &Method, path: &Path<'_>) -> Routed {
    ROUTES.find(method, path).unwrap_or(Routed::UNKNOWN)
}
