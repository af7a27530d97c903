//! Audiobookshelf 2.36: its loose routing, its two carriers, its routes.

mod api_keys;
mod auth;
mod library;
mod socket;

use std::sync::Arc;

use http::{HeaderName, Method, Response, StatusCode};
use serde_json::json;

use super::answer::{self, Answer};
use super::body::Body;
use super::call::Call;
use super::standin::{self, Server};

pub(super) use socket::Sockets;

/// The version that the stand-in claims.
pub(super) const VERSION: &str = "2.36.0";

/// Who asks: what the routes need of an account.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) is_admin: bool,
    pub(super) can_upload: bool,
}

pub(super) async fn route(server: &Arc<Server>, call: &mut Call) -> Answer {
    // Multipart bodies are spooled to the disk before anything else looks at the request, whoever sends it.
    let is_multipart = call.header("content-type").is_some_and(|value| value.starts_with("multipart/form-data"));
    let spooled = if is_multipart { Some(call.sink(&server.control).await?) } else { None };
    if let Some(upload) = &spooled {
        server.control.count(|counters| counters.spooled_bytes += upload.bytes);
    }
    let path = call.path().to_owned();
    let Some(segments) = segments(&path, &server.options.base_path).filter(|_| call.parts.uri.scheme().is_none()) else {
        return Some(not_found(call));
    };
    let response = match segments.split_first() {
        Some((first, rest)) if first.eq_ignore_ascii_case("api") => api(server, call, rest, spooled).await?,
        Some((first, rest)) if *first == "keygate-test" => match caller(server, call) {
            Some(_) => standin::odd(server, call, rest).await?,
            None => unauthorized(server),
        },
        _ => public(server, call, &segments).await?,
    };
    Some(framed(response))
}

/// The security headers that Express adds to every answer of this server.
fn framed(mut response: Response<Body>) -> Response<Body> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        answer::set(&mut response, HeaderName::from_static("content-security-policy"), "frame-ancestors 'self'");
        answer::set(&mut response, HeaderName::from_static("referrer-policy"), "no-referrer");
    }
    response
}

/// The segments of a path as Express's routers see them: an optional base path (exact), a doubled slash at each of the two
/// mount points, one trailing slash. Letter case is left to the comparison; percent-encoded letters match nothing.
fn segments<'a>(path: &'a str, base: &str) -> Option<Vec<&'a str>> {
    let rest = match path.strip_prefix(base) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => path,
    };
    let rest = rest.strip_prefix("//").or_else(|| rest.strip_prefix('/')).unwrap_or(rest);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let mut segments: Vec<_> = rest.split('/').collect();
    if segments.len() > 2 && segments[0].eq_ignore_ascii_case("api") && segments[1].is_empty() {
        segments.remove(1);
    }
    let is_clean = segments.iter().all(|segment| !segment.is_empty() && *segment != "." && *segment != "..");
    (is_clean || segments == [""]).then_some(segments)
}

/// The account behind a request: a bearer wins and is final; else `token` in the query, once.
pub(super) fn caller(server: &Server, call: &Call) -> Option<Caller> {
    let bearer = call.header("authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    let token = match bearer {
        Some(token) => token,
        None => match call.parameters("token").as_slice() {
            [token] => token.clone(),
            _ => return None,
        },
    };
    let ledger = server.control.ledger();
    let account = ledger.bearer(&token)?;
    Some(Caller { id: account.id.clone(), name: account.name.clone(), is_admin: account.is_admin, can_upload: account.can_upload })
}

async fn public(server: &Arc<Server>, call: &mut Call, segments: &[&str]) -> Answer {
    let lower: Vec<String> = segments.iter().map(|segment| segment.to_ascii_lowercase()).collect();
    let names: Vec<&str> = lower.iter().map(String::as_str).collect();
    let method = call.parts.method.clone();
    Some(match (method.as_str(), names.as_slice()) {
        ("GET" | "HEAD", ["status"]) => answer::json(&json!({
            "app": "audiobookshelf", "serverVersion": server.control.ordered_faults().version.as_deref().unwrap_or(VERSION), "isInit": true, "language": "en-us",
            "authMethods": ["local"], "authFormData": {"authLoginCustomMessage": null}
        })),
        ("GET" | "HEAD", ["ping"]) => answer::json(&json!({"success": true})),
        ("GET" | "HEAD", ["healthcheck"]) => answer::text(StatusCode::OK, "text/plain; charset=utf-8", "OK"),
        ("POST", ["init"]) => answer::text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", "Server is already initialized"),
        ("POST", ["login"]) => auth::login(server, call).await,
        ("POST", ["auth", "refresh"]) => auth::refresh(server, call).await,
        ("POST", ["logout"]) => auth::logout(server, call),
        ("GET" | "HEAD", ["hls", session, file]) => library::hls(server, call, session, file),
        ("GET" | "HEAD", ["public", "session", session, "track", _]) => library::public_track(server, call, session),
        (_, ["public", "share", "sines", rest @ ..]) => library::share(server, call, rest),
        ("GET" | "HEAD", ["feed", "sines"]) => answer::text(StatusCode::OK, "text/xml; charset=utf-8", "<rss version=\"2.0\"/>"),
        (_, ["socket.io"]) => socket::route(server, call).await?,
        _ => not_found(call),
    })
}

async fn api(server: &Arc<Server>, call: &mut Call, rest: &[&str], spooled: Option<super::Upload>) -> Answer {
    let lower: Vec<String> = rest.iter().map(|segment| segment.to_ascii_lowercase()).collect();
    let names: Vec<&str> = lower.iter().map(String::as_str).collect();
    let method = call.parts.method.clone();
    // Covers are open, but to GET alone and without a slash at the end.
    if let ("GET", ["items", _, "cover"] | ["authors", _, "image"]) = (method.as_str(), names.as_slice())
        && !call.path().ends_with('/')
    {
        return Some(library::cover());
    }
    let Some(caller) = caller(server, call) else { return Some(unauthorized(server)) };
    // Here a 401 means the token, as it does nowhere else.
    if let [first, rest @ ..] = rest
        && *first == "keygate-test"
    {
        return standin::odd(server, call, rest).await;
    }
    Some(match (method.as_str(), names.as_slice()) {
        ("POST", ["authorize"]) => auth::authorize(server, &caller),
        ("GET" | "HEAD", ["me"]) => auth::me(server, &caller),
        (_, ["api-keys", ..]) | ("GET" | "HEAD", ["users"] | ["backups"]) if !caller.is_admin => forbidden(),
        ("GET" | "HEAD", ["users"]) => auth::users(server),
        (_, ["api-keys", ..]) => api_keys::route(server, call, &caller, rest).await,
        ("POST", ["upload"]) => return upload(server, call, &caller, spooled).await,
        _ => match library::route(server, call, &caller, &names).await {
            Some(response) => response,
            None => not_found(call),
        },
    })
}

async fn upload(server: &Arc<Server>, call: &mut Call, caller: &Caller, spooled: Option<super::Upload>) -> Answer {
    if !caller.can_upload {
        return Some(forbidden());
    }
    let upload = match spooled {
        Some(upload) => upload,
        None => call.sink(&server.control).await?,
    };
    server.control.record_upload(upload);
    Some(answer::text(StatusCode::OK, "text/plain; charset=utf-8", "OK"))
}

/// Passport's bare 401: no type, no challenge.
fn unauthorized(server: &Server) -> Response<Body> {
    server.control.count(|counters| counters.unauthorized += 1);
    answer::text(StatusCode::UNAUTHORIZED, "", "Unauthorized")
}

fn forbidden() -> Response<Body> {
    answer::text(StatusCode::FORBIDDEN, "text/plain; charset=utf-8", "Forbidden")
}

/// Express's page for a route that does not exist.
fn not_found(call: &Call) -> Response<Body> {
    let method = if call.parts.method == Method::HEAD { "HEAD" } else { call.parts.method.as_str() };
    page(StatusCode::NOT_FOUND, &format!("Cannot {method} {}", call.path().replace('<', "&lt;")))
}

/// An error page of Express.
pub(super) fn page(status: StatusCode, message: &str) -> Response<Body> {
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Error</title>\n</head>\n<body>\n<pre>{message}</pre>\n</body>\n</html>\n"
    );
    answer::text(status, "text/html; charset=utf-8", html)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_loosely_as_the_real_server_reads_them() {
        for path in [
            "/api/users",
            "/api/users/",
            "//api/users",
            "/api//users",
            "//api//users",
            "/audiobookshelf/api/users",
            "/audiobookshelf//api/users",
        ] {
            assert_eq!(segments(path, "/audiobookshelf"), Some(vec!["api", "users"]), "{path}");
        }
        for path in ["/api/users//", "/api///me", "///api/me", "/api/libraries//ID", "/api/./users", "/api/x/../users"] {
            assert_eq!(segments(path, "/audiobookshelf"), None, "{path}");
        }
        for path in ["/AUDIOBOOKSHELF/api/users", "/audiobookshelfX/api/users", "/%61pi/users"] {
            assert_ne!(segments(path, "/audiobookshelf").unwrap()[0], "api", "{path}");
        }
    }
}
