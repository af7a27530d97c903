//! The server's own API keys, for its administrators (`server/controllers/ApiKeyController.js`, and what was recorded of it).

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::{Caller, forbidden, not_found};
use crate::demo::answer;
use crate::demo::body::Body;
use crate::demo::call::Call;
use crate::demo::ledger::{BookKey, Ledger};
use crate::demo::random;
use crate::demo::standin::Server;

/// `/api/api-keys…`, for a caller who is an administrator. `names` are the segments behind `/api`.
pub(super) async fn route(server: &Arc<Server>, call: &mut Call, caller: &Caller, names: &[&str]) -> Response<Body> {
    let method = call.parts.method.clone();
    match (method.as_str(), names) {
        ("GET" | "HEAD", [_]) => list(server),
        ("POST", [_]) => create(server, call, caller).await,
        ("PATCH", [_, id]) => patch(server, call, id).await,
        ("DELETE", [_, id]) => delete(server, id),
        _ => not_found(call),
    }
}

fn list(server: &Server) -> Response<Body> {
    let ledger = server.control.ledger();
    let keys: Vec<Value> = ledger.book_keys.iter().map(|key| describe(&ledger, key)).collect();
    answer::json(&json!({ "apiKeys": keys }))
}

/// A key without `isActive` is made, and inactive.
async fn create(server: &Server, call: &mut Call, caller: &Caller) -> Response<Body> {
    let body = call.json().await.unwrap_or_default();
    let mut ledger = server.control.ledger();
    let name = body["name"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    let user = body["userId"].as_str().and_then(|id| ledger.by_id(id)).map(|account| (account.id.clone(), account.is_admin));
    let (Some(name), Some((user, is_root))) = (name, user) else { return bad_request() };
    if is_root && !caller.is_admin {
        return forbidden();
    }
    let token = ledger.mint(&user, "api", None);
    let key = BookKey {
        id: random::uuid(),
        name,
        user,
        is_active: body["isActive"].as_bool().unwrap_or(false),
        created_by: caller.id.clone(),
        token: token.clone(),
    };
    let mut described = describe(&ledger, &key);
    described["apiKey"] = json!(token);
    ledger.book_keys.push(key);
    drop(ledger);
    server.control.count(|counters| counters.minted += 1);
    answer::json(&json!({ "apiKey": described }))
}

/// Only `isActive` and `userId` count; a change that changes nothing reveals the user's permanent token.
async fn patch(server: &Server, call: &mut Call, id: &str) -> Response<Body> {
    let body = call.json().await.unwrap_or_default();
    let mut ledger = server.control.ledger();
    let Some(at) = ledger.book_keys.iter().position(|key| key.id == id) else { return missing() };
    let is_wrong = |name: &str, fits: fn(&Value) -> bool| body.get(name).is_some_and(|value| !fits(value));
    if is_wrong("isActive", Value::is_boolean) || is_wrong("userId", Value::is_string) {
        return bad_request();
    }
    let user = match body["userId"].as_str() {
        Some(user) if ledger.by_id(user).is_none() => return bad_request(),
        user => user.map(str::to_owned),
    };
    let before = ledger.book_keys[at].clone();
    let after = BookKey {
        is_active: body["isActive"].as_bool().unwrap_or(before.is_active),
        user: user.unwrap_or_else(|| before.user.clone()),
        ..before.clone()
    };
    let mut described = describe(&ledger, &after);
    if (after.is_active, &after.user) == (before.is_active, &before.user) {
        described["user"]["token"] = json!(ledger.by_id(&after.user).map(|account| account.permanent.clone()));
    }
    ledger.book_keys[at] = after;
    answer::json(&json!({ "apiKey": described }))
}

fn delete(server: &Server, id: &str) -> Response<Body> {
    let mut ledger = server.control.ledger();
    let Some(at) = ledger.book_keys.iter().position(|key| key.id == id) else { return missing() };
    let key = ledger.book_keys.remove(at);
    ledger.kill(&key.token);
    answer::text(StatusCode::OK, "text/plain; charset=utf-8", "OK")
}

fn describe(ledger: &Ledger, key: &BookKey) -> Value {
    let user = |id: &str| {
        let role = |is_admin: bool| if is_admin { "root" } else { "user" };
        ledger.by_id(id).map(|account| json!({"id": account.id, "username": account.name, "type": role(account.is_admin)}))
    };
    json!({
        "id": key.id, "name": key.name, "description": null, "expiresAt": null, "lastUsedAt": null, "isActive": key.is_active,
        "permissions": null, "createdAt": "2026-11-21T23:22:49.466Z", "updatedAt": "2026-11-21T23:22:49.466Z", "userId": key.user,
        "createdByUserId": key.created_by, "user": user(&key.user), "createdByUser": user(&key.created_by)
    })
}

fn bad_request() -> Response<Body> {
    answer::text(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", "Bad Request")
}

fn missing() -> Response<Body> {
    answer::text(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "Not Found")
}
