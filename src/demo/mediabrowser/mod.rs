//! Emby 4 and Jellyfin (12 by default, 10.x by option): one family, told apart by what its credentials look like and how it refuses.

mod auth;
mod identity;
mod library;
mod playback;
mod quick_connect;
mod socket;

use std::sync::Arc;

use http::{Method, Response, StatusCode};

use self::identity::{Identity, Judged};
use super::answer::{self, Answer};
use super::body::Body;
use super::call::Call;
use super::standin::{self, Server};
use crate::upstream::Kind;

/// The smallest PNG: one transparent pixel.
pub(super) const PICTURE: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8, 6, 0, 0, 0, 0x1f, 0x15,
    0xc4, 0x89, 0, 0, 0, 13, b'I', b'D', b'A', b'T', 0x78, 0x9c, 0x63, 0, 1, 0, 0, 5, 0, 1, 0x0d, 0x0a, 0x2d, 0xb4, 0, 0, 0, 0, b'I', b'E',
    b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

/// A request whose credential has been judged.
struct Visit<'a> {
    server: &'a Arc<Server>,
    identity: Identity,
    judged: Judged,
    /// Path segments in lower case, without base path and `/emby`.
    names: Vec<&'a str>,
}

pub(super) async fn route(server: &Arc<Server>, call: &mut Call) -> Answer {
    let path = call.path().to_ascii_lowercase();
    let identity = Identity::read(server, call);
    let judged = identity.judge(server);
    if call.is_upgrade() {
        return socket::open(server, call, &identity, judged);
    }
    let Some(names) = segments(server, &path) else { return Some(answer::empty(StatusCode::NOT_FOUND)) };
    let mut visit = Visit { server, identity, judged, names };
    if let Some(response) = open(&visit, call).await {
        return Some(response);
    }
    if let Some(refusal) = visit.without_token() {
        return Some(refusal);
    }
    if visit.names.first() == Some(&"keygate-test") {
        let rest = visit.names.split_off(1);
        return standin::odd(server, call, &rest).await;
    }
    if is_admin_only(&visit.names, &call.parts.method)
        && let Some(refusal) = visit.without_admin()
    {
        return Some(refusal);
    }
    let found = match auth::route(&visit, call).await {
        None => library::route(&visit, call),
        some => some,
    };
    let found = match found {
        None => playback::route(&visit, call).await,
        some => some,
    };
    Some(found.unwrap_or_else(|| answer::empty(StatusCode::NOT_FOUND)))
}

/// Lower-case segments behind the base path and, where the server has it, `/emby` or `/mediabrowser`.
fn segments<'a>(server: &Server, path: &'a str) -> Option<Vec<&'a str>> {
    let rest = path.strip_prefix(server.options.base_path.to_ascii_lowercase().as_str())?;
    let mut names: Vec<_> = rest.trim_start_matches('/').trim_end_matches('/').split('/').collect();
    if matches!(names.first(), Some(&("emby" | "mediabrowser"))) {
        if server.kind == Kind::Jellyfin && !server.options.legacy_authorization {
            return None;
        }
        names.remove(0);
    }
    Some(names)
}

/// Routes that need no token: identity, log-in, pictures, and the media themselves.
async fn open(visit: &Visit<'_>, call: &mut Call) -> Option<Response<Body>> {
    let is_read = matches!(call.parts.method, Method::GET | Method::HEAD);
    match visit.names.as_slice() {
        ["system", "info", "public"] if is_read => Some(library::public_info(visit, call)),
        ["system", "ping"] => Some(answer::text(StatusCode::OK, "text/plain", format!("{} Server", visit.server.kind.product()))),
        ["health"] if visit.server.kind == Kind::Jellyfin => Some(answer::text(StatusCode::OK, "text/plain", "Healthy")),
        ["users", "public"] if is_read => Some(answer::json(&serde_json::json!([]))),
        ["users", "authenticatebyname"] if call.parts.method == Method::POST => Some(auth::login(visit, call).await),
        ["branding", "configuration"] if is_read => Some(answer::json(&serde_json::json!({"SplashscreenEnabled": false}))),
        ["quickconnect", "enabled"] if is_read => Some(quick_connect::enabled(visit)),
        ["quickconnect", "initiate"] if call.parts.method == Method::POST => quick_connect::initiate(visit),
        ["users", "authenticatewithquickconnect"] if call.parts.method == Method::POST => quick_connect::redeem(visit, call).await,
        // Anybody whose address looks local may restart the server, and behind a proxy everybody is local.
        ["system", "restart"] | ["system", "shutdown"] if call.parts.method == Method::POST => {
            visit.server.control.count(|counters| counters.restarts += 1);
            Some(answer::empty(StatusCode::NO_CONTENT))
        }
        ["items" | "users" | "artists" | "genres", _, "images", ..] if is_read => Some(answer::bytes("image/png", PICTURE)),
        ["audio" | "videos", id, stream] if is_read && (*stream == "stream" || stream.starts_with("stream.")) => {
            Some(library::media(visit.server, call, id))
        }
        _ => None,
    }
}

fn is_admin_only(names: &[&str], method: &Method) -> bool {
    match names {
        ["auth", ..] | ["devices", ..] | ["system", "logs" | "activitylog", ..] | ["users", "new"] | ["users", _, "policy"] => true,
        ["library", "virtualfolders" | "refresh", ..] | ["plugins" | "packages" | "scheduledtasks" | "environment", ..] => true,
        ["items", ..] => *method == Method::DELETE,
        ["system", "configuration", ..] => *method != Method::GET,
        _ => false,
    }
}

impl Visit<'_> {
    /// The refusal of a request without a good token.
    fn without_token(&self) -> Option<Response<Body>> {
        match (&self.judged, self.server.kind) {
            (Judged::User { .. } | Judged::ApiKey, _) => None,
            (_, Kind::Jellyfin) => Some(self.unauthorized("", "")),
            (Judged::Nothing, _) => Some(self.unauthorized("text/html", "Access token is required.")),
            (Judged::Unknown, _) => Some(self.unauthorized("text/html", "Access token is invalid or expired.")),
        }
    }

    /// Jellyfin says 403 to a valid token of the wrong role, Emby says 401 as if it were dead.
    fn without_admin(&self) -> Option<Response<Body>> {
        match (&self.judged, self.server.kind) {
            (Judged::ApiKey | Judged::User { is_admin: true, .. }, _) => None,
            (_, Kind::Jellyfin) => Some(answer::empty(StatusCode::FORBIDDEN)),
            _ => Some(self.unauthorized("text/html", "User does not have admin access.")),
        }
    }

    fn unauthorized(&self, content_type: &str, body: &str) -> Response<Body> {
        self.server.control.count(|counters| counters.unauthorized += 1);
        answer::text(StatusCode::UNAUTHORIZED, content_type, body)
    }
}
