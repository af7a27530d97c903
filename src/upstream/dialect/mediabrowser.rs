//! What Emby and Jellyfin share since both come from Media Browser: login, routes, the structured header.
//!
//! Sources: Jellyfin `AuthorizationContext.cs`, `SessionManager.cs`, `ExceptionMiddleware.cs`, `AuthService.cs` of 10.8 to 12; Emby
//! 3.5.2 `HttpServer/Security/AuthorizationContext.cs`, `HttpListenerHost.cs`; Emby SDK 4.8 for what is closed.

use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::secret::Secret;
use crate::target::Path;
use crate::upstream::Kind;
use crate::upstream::dialect::reading::{VERSION, is_any, json, post_json, unavailable};
use crate::upstream::dialect::{Answer, Call, Device, Grant, GrantError, Media, OwnAnswer, RouteClass, TokenState};

/// Emby serves everything there too; Jellyfin up to 10.11 takes them off, Jellyfin 12 no longer.
pub(super) const BASE_PATHS: &[&str] = &["emby", "mediabrowser"];
/// The login.
pub(super) const LOGIN: &str = "/Users/AuthenticateByName";
/// Ends the token that it comes with.
pub(super) const LOGOUT: &str = "/Sessions/Logout";

/// Public facts, for GET and HEAD.
const IDENTITY: &[&str] = &["/System/Info/Public", "/System/Ping", "/health", "/GetUtcTime", "/Branding/**"];
/// Pictures: `…/Images/{type}` of everything that has some.
const IMAGES: &[&str] = &[
    "/Items/{id}/Images/{type}/**",
    "/Artists/{name}/Images/{type}/**",
    "/Genres/{name}/Images/{type}/**",
    "/GameGenres/{name}/Images/{type}/**",
    "/MusicGenres/{name}/Images/{type}/**",
    "/Persons/{name}/Images/{type}/**",
    "/Studios/{name}/Images/{type}/**",
    "/Users/{id}/Images/{type}/**",
    "/UserImage",
    "/Images/General/{name}/{type}",
    "/Images/Ratings/{theme}/{name}",
    "/Images/MediaInfo/{theme}/{name}",
    "/Plugins/{id}/{version}/Image",
];
/// What players fetch: streams, segments, attachments, tiles, files.
const MEDIA: &[&str] = &[
    "/Videos/{id}/*",
    "/Audio/{id}/*",
    "/LiveTv/LiveRecordings/{id}/stream",
    "/LiveTv/LiveStreamFiles/{id}/{file}",
    "/Items/{id}/Download",
    "/Items/{id}/File",
];
/// Where playlists and subtitles stand.
const TEXT_MEDIA: &[&str] = &["/Videos/{id}/*", "/Audio/{id}/*"];
/// Pages of plugins below `/web`, which the server gives to everybody: they show what is installed and configured.
const PLUGIN_PAGES: &[&str] = &["/web/ConfigurationPage/**", "/web/ConfigurationPages/**"];
/// The web client.
const WEB_UI: &[&str] = &["/", "/web/**", "/favicon.ico", "/robots.txt"];

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

/// Whether a media route answers with a playlist or with subtitles, by the ending of its name.
fn is_text_media(path: &Path<'_>) -> bool {
    const ENDINGS: [&str; 9] = ["m3u8", "m3u", "mpd", "vtt", "srt", "ass", "ssa", "ttml", "js"];
    let ending = path.as_str().trim_end_matches('/').rsplit(['.', '/']).next().unwrap_or_default();
    ENDINGS.iter().any(|text| ending.eq_ignore_ascii_case(text))
}

/// The table of routes.
pub(super) fn route(method: &Method, path: &Path<'_>) -> RouteClass {
    let is = |pattern: &str| path.matches(BASE_PATHS, pattern);
    if method == Method::POST {
        return match () {
            () if is(LOGOUT) => RouteClass::Logout,
            () if is(LOGIN) => RouteClass::Login,
            () if is("/System/Ping") => RouteClass::Identity,
            () => RouteClass::Keyed,
        };
    }
    if method != Method::GET && method != Method::HEAD {
        return RouteClass::Keyed;
    }
    match () {
        () if is("/Users/Public") => RouteClass::Answered(OwnAnswer::EmptyList),
        () if is("/QuickConnect/Enabled") => RouteClass::Answered(OwnAnswer::False),
        () if is_any(path, BASE_PATHS, IDENTITY) => RouteClass::Identity,
        () if is_any(path, BASE_PATHS, IMAGES) => RouteClass::Image,
        () if is_any(path, BASE_PATHS, PLUGIN_PAGES) => RouteClass::Keyed,
        () if is_any(path, BASE_PATHS, TEXT_MEDIA) && is_text_media(path) => RouteClass::Media(Media::Text),
        () if is("/Audio/{id}/universal") => RouteClass::Media(Media::Either),
        () if is_any(path, BASE_PATHS, MEDIA) => RouteClass::Media(Media::Bytes),
        () if is_any(path, BASE_PATHS, WEB_UI) => RouteClass::WebUi,
        () => RouteClass::Keyed,
    }
}
