//! Log-in, refresh with rotation and grace, log-out, and the answers that carry the permanent token.

use std::sync::Arc;

use http::header::{RETRY_AFTER, SET_COOKIE};
use http::{HeaderName, Response, StatusCode};
use serde_json::{Value, json};

use super::{Caller, VERSION, page};
use crate::demo::answer;
use crate::demo::body::Body;
use crate::demo::call::{BadBody, Call};
use crate::demo::ledger::{Account, BookSession, Ledger, Stale};
use crate::demo::random;
use crate::demo::standin::Server;

/// Headers from which the server believes the client's address, in its order.
const ADDRESS_HEADERS: [&str; 8] = [
    "x-client-ip",
    "x-forwarded-for",
    "cf-connecting-ip",
    "fastly-client-ip",
    "true-client-ip",
    "x-real-ip",
    "x-cluster-client-ip",
    "x-forwarded",
];

/// `POST /login`.
pub(super) async fn login(server: &Arc<Server>, call: &mut Call) -> Response<Body> {
    if let Some((status, retry_after)) = server.control.ordered_faults().login_status {
        return answer::ordered(status, retry_after);
    }
    let limit = match limited(server, call) {
        Ok(limit) => limit,
        Err(response) => return *response,
    };
    let body = match call.json().await {
        Ok(body) => body,
        Err(BadBody::Malformed) => return page(StatusCode::BAD_REQUEST, "Bad Request"),
        Err(BadBody::TooLarge) => return page(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large"),
    };
    let wants_tokens = call.header("x-return-tokens") == Some("true");
    let response = match (body["username"].as_str(), body["password"].as_str()) {
        (Some(name), Some(password)) if !name.is_empty() && !password.is_empty() => log_in(server, name, password, wants_tokens),
        _ => answer::text(StatusCode::BAD_REQUEST, "", "Bad Request"),
    };
    tokio::time::sleep(server.control.ordered_faults().delay_login).await;
    limit.mark(response)
}

fn log_in(server: &Server, name: &str, password: &str, wants_tokens: bool) -> Response<Body> {
    let mut ledger = server.control.ledger();
    let account = ledger.by_name(name).filter(|account| account.is_active && account.password == password);
    let Some(user) = account.map(|account| account.id.clone()) else {
        server.control.count(|counters| counters.refused_logins += 1);
        return answer::text(StatusCode::UNAUTHORIZED, "", "Unauthorized");
    };
    server.control.count(|counters| counters.logins += 1);
    let access = ledger.mint(&user, "access", Some(server.options.access_life));
    let refresh = ledger.mint(&user, "refresh", Some(server.options.refresh_life));
    ledger.sessions.push(BookSession { user: user.clone(), current: refresh.clone(), previous: None });
    let in_body = wants_tokens.then_some(refresh.as_str());
    let mut response = answer::json(&who(&ledger, &user, Some((&access, in_body))));
    if !wants_tokens {
        set_refresh_cookie(server, &mut response, &refresh);
    }
    answer::append(&mut response, SET_COOKIE, &format!("connect.sid=s%3A{}; Path=/; HttpOnly", random::hex(24)));
    response
}

/// `POST /auth/refresh`: the header wins over the cookie.
pub(super) async fn refresh(server: &Arc<Server>, call: &mut Call) -> Response<Body> {
    if let Some((status, retry_after)) = server.control.ordered_faults().login_status {
        return answer::ordered(status, retry_after);
    }
    let limit = match limited(server, call) {
        Ok(limit) => limit,
        Err(response) => return *response,
    };
    let by_header = call.header("x-refresh-token").map(str::to_owned);
    let in_body = by_header.is_some();
    let token = by_header.or_else(|| call.cookie("refresh_token").map(str::to_owned));
    let response = match token.ok_or("No refresh token provided").and_then(|token| rotate(server, &token)) {
        Ok((user, access, refresh)) => {
            server.control.count(|counters| counters.refreshes += 1);
            let ledger = server.control.ledger();
            let mut response = answer::json(&who(&ledger, &user, Some((&access, in_body.then_some(refresh.as_str())))));
            set_refresh_cookie(server, &mut response, &refresh);
            response
        }
        Err(why) => {
            server.control.count(|counters| counters.refused_refreshes += 1);
            answer::json_with(StatusCode::UNAUTHORIZED, &json!({"error": why}))
        }
    };
    tokio::time::sleep(server.control.ordered_faults().delay_refresh).await;
    limit.mark(response)
}

/// Rotates when the current token is shown; within the grace, the previous one gives the current one again.
fn rotate(server: &Server, token: &str) -> Result<(String, String, String), &'static str> {
    let mut ledger = server.control.ledger();
    let claims = ledger.claims(token).map_err(|stale| match stale {
        Stale::Unknown => "Invalid refresh token",
        Stale::Expired => "Refresh token expired",
    })?;
    if claims["type"] != "refresh" {
        return Err("Invalid token type");
    }
    let now = ledger.clock.monotonic();
    let position = ledger.sessions.iter().position(|session| {
        session.current == token || session.previous.as_ref().is_some_and(|(previous, until)| previous == token && now < *until)
    });
    let position = position.ok_or("Invalid refresh token")?;
    let user = ledger.sessions[position].user.clone();
    if !ledger.by_id(&user).is_some_and(|account| account.is_active) {
        return Err("User not found or inactive");
    }
    if ledger.sessions[position].current == token {
        let next = ledger.mint(&user, "refresh", Some(server.options.refresh_life));
        let session = &mut ledger.sessions[position];
        let old = std::mem::replace(&mut session.current, next);
        session.previous = Some((old, now + server.options.refresh_grace));
    }
    let refresh = ledger.sessions[position].current.clone();
    let access = ledger.mint(&user, "access", Some(server.options.access_life));
    Ok((user, access, refresh))
}

/// `POST /logout`: the cookie wins over the header here; only the current token ends its session.
pub(super) fn logout(server: &Server, call: &Call) -> Response<Body> {
    server.control.count(|counters| counters.logouts += 1);
    if let Some(token) = call.cookie("refresh_token").or_else(|| call.header("x-refresh-token")) {
        server.control.ledger().sessions.retain(|session| session.current != token);
    }
    let mut response = answer::json(&json!({"redirect_url": null}));
    for name in ["refresh_token", "auth_method"] {
        answer::append(&mut response, SET_COOKIE, &format!("{name}=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT"));
    }
    response
}

/// `POST /api/authorize`: the log-in's body without new tokens.
pub(super) fn authorize(server: &Server, caller: &Caller) -> Response<Body> {
    answer::json(&who(&server.control.ledger(), &caller.id, None))
}

/// `GET /api/me`.
pub(super) fn me(server: &Server, caller: &Caller) -> Response<Body> {
    answer::json(&user_of(server, caller))
}

/// The user behind a request.
pub(super) fn user_of(server: &Server, caller: &Caller) -> Value {
    server.control.ledger().by_id(&caller.id).map_or(Value::Null, user)
}

/// `GET /api/users`.
pub(super) fn users(server: &Server) -> Response<Body> {
    let ledger = server.control.ledger();
    answer::json(&json!({"users": ledger.accounts.iter().map(user).collect::<Vec<_>>()}))
}

/// A user as the server shows it, with the token that never dies.
fn user(account: &Account) -> Value {
    json!({
        "id": account.id, "username": account.name, "email": null, "type": if account.is_admin { "root" } else { "user" },
        "token": account.permanent, "mediaProgress": [], "seriesHideFromContinueListening": [], "bookmarks": [],
        "isActive": account.is_active, "isLocked": false, "lastSeen": null, "createdAt": 1_795_303_100_301_i64,
        "permissions": {
            "download": true, "update": account.is_admin, "delete": account.is_admin, "upload": account.can_upload,
            "createEreader": account.is_admin, "accessAllLibraries": true, "accessAllTags": true,
            "accessExplicitContent": account.is_admin, "selectedTagsNotAccessible": false
        },
        "librariesAccessible": [], "itemTagsSelected": [], "hasOpenIDLink": false
    })
}

/// The body of log-in, refresh and authorize.
fn who(ledger: &Ledger, id: &str, tokens: Option<(&str, Option<&str>)>) -> Value {
    let mut user = ledger.by_id(id).map_or(Value::Null, user);
    if let Some((access, refresh)) = tokens {
        user["refreshToken"] = json!(refresh);
        user["accessToken"] = json!(access);
    }
    json!({
        "user": user, "userDefaultLibraryId": super::library::LIBRARY, "serverSettings": settings(), "ereaderDevices": [], "Source": "docker"
    })
}

fn settings() -> Value {
    json!({
        "id": "server-settings", "scannerFindCovers": false, "scannerCoverProvider": "google", "scannerParseSubtitle": false,
        "scannerPreferMatchedMetadata": false, "scannerDisableWatcher": false, "storeCoverWithItem": false, "storeMetadataWithItem": false,
        "metadataFileFormat": "json", "rateLimitLoginRequests": 10, "rateLimitLoginWindow": 600_000, "allowIframe": false,
        "backupSchedule": false, "backupsToKeep": 2, "maxBackupSize": 1, "loggerDailyLogsToKeep": 7, "loggerScannerLogsToKeep": 2,
        "homeBookshelfView": 1, "bookshelfView": 1, "sortingIgnorePrefix": false, "sortingPrefixes": ["the", "a"],
        "chromecastEnabled": false, "dateFormat": "MM/dd/yyyy", "timeFormat": "HH:mm", "language": "en-us", "logLevel": 2,
        "version": VERSION, "buildNumber": 1, "authActiveAuthMethods": ["local"]
    })
}

fn set_refresh_cookie(server: &Server, response: &mut Response<Body>, token: &str) {
    let life = server.options.refresh_life.as_secs();
    answer::append(response, SET_COOKIE, &format!("refresh_token={token}; Max-Age={life}; Path=/; HttpOnly; SameSite=Lax"));
}

/// The limiter's headers for an answer that it let through.
struct Limit(Vec<(&'static str, String)>);

impl Limit {
    fn mark(&self, mut response: Response<Body>) -> Response<Body> {
        for (name, value) in &self.0 {
            answer::set(&mut response, HeaderName::from_static(name), value);
        }
        response
    }
}

/// Counts the call for the address that the server believes, and refuses it when there were too many.
fn limited(server: &Server, call: &Call) -> Result<Limit, Box<Response<Body>>> {
    let Some(limit) = server.options.login_limit else { return Ok(Limit(Vec::new())) };
    let believed = ADDRESS_HEADERS.iter().find_map(|name| call.header(name)?.split(',').next().map(|first| first.trim().to_owned()));
    let (left, reset) = server.control.ledger().attempt(&believed.unwrap_or_else(|| call.peer.to_string()), limit);
    let headers = Limit(vec![
        ("ratelimit-policy", format!("{};w={}", limit.0, limit.1.as_secs())),
        ("ratelimit-limit", limit.0.to_string()),
        ("ratelimit-remaining", left.unwrap_or(0).to_string()),
        ("ratelimit-reset", reset.to_string()),
    ]);
    if left.is_some() {
        return Ok(headers);
    }
    let mut refused = answer::json_with(StatusCode::TOO_MANY_REQUESTS, &json!({"error": "Too many authentication requests"}));
    answer::set(&mut refused, RETRY_AFTER, &reset.to_string());
    Err(Box::new(headers.mark(refused)))
}
