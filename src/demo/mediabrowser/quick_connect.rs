//! Jellyfin's Quick Connect (`QuickConnectController.cs`, `QuickConnectManager.cs`): a request, its authorisation, its redemption.

use std::time::Duration;

use http::{Response, StatusCode};
use serde_json::json;

use super::Visit;
use super::auth;
use super::identity::Judged;
use crate::demo::answer;
use crate::demo::body::Body;
use crate::demo::call::Call;
use crate::demo::ledger::QuickRequest;
use crate::demo::random;
use crate::upstream::Kind;

/// How long a request lives.
const LIFE: Duration = Duration::from_secs(600);

fn is_on(visit: &Visit<'_>) -> bool {
    visit.server.kind == Kind::Jellyfin && !visit.server.control.ordered_faults().quick_connect_off
}

/// `GET /QuickConnect/Enabled`.
pub(super) fn enabled(visit: &Visit<'_>) -> Response<Body> {
    answer::json(&json!(is_on(visit)))
}

/// `POST /QuickConnect/Initiate`; 401 when it is switched off.
pub(super) fn initiate(visit: &Visit<'_>) -> Option<Response<Body>> {
    if visit.server.kind != Kind::Jellyfin {
        return None;
    }
    let identity = &visit.identity;
    if !is_on(visit) {
        return Some(answer::text(StatusCode::UNAUTHORIZED, "application/json; charset=utf-8", "\"Quick connect is disabled\""));
    }
    if [&identity.client, &identity.device, &identity.device_id, &identity.version].iter().any(|field| field.is_none()) {
        return Some(answer::text(StatusCode::BAD_REQUEST, "text/plain", "Error processing request."));
    }
    let mut ledger = visit.server.control.ledger();
    let secret = random::hex(32);
    let code: String = random::hex(16).bytes().map(|byte| char::from(b'0' + byte % 10)).take(6).collect();
    ledger.remember(&secret);
    let made_at = ledger.clock.monotonic();
    let device = auth::device_of(visit, "");
    let answer = answer::json(&json!({
        "Authenticated": false, "Secret": secret, "Code": code, "DeviceId": device.device_id, "DeviceName": device.name,
        "AppName": device.client, "AppVersion": device.version, "DateAdded": "2026-11-21T23:41:50.0000000Z"
    }));
    ledger.quick_requests.push(QuickRequest { secret, code, user: None, device, made_at });
    Some(answer)
}

/// `POST /QuickConnect/Authorize?code=&userId=`. Before 10.9 the parameter `userId` is not read.
pub(super) fn authorize(visit: &Visit<'_>, call: &Call) -> Option<Response<Body>> {
    if !is_on(visit) {
        return None;
    }
    let (caller, is_admin) = match &visit.judged {
        Judged::User { id, is_admin } => (Some(id.clone()), *is_admin),
        _ => (None, true),
    };
    let wanted = call.joined_parameter("userId").filter(|_| visit.server.options.quick_connect_for_others);
    if wanted.is_some() && wanted != caller && !is_admin {
        return Some(answer::empty(StatusCode::FORBIDDEN));
    }
    let Some(user) = wanted.or(caller) else { return Some(answer::empty(StatusCode::FORBIDDEN)) };
    let code = call.joined_parameter("code").unwrap_or_default();
    let mut ledger = visit.server.control.ledger();
    let now = ledger.clock.monotonic();
    let request = ledger.quick_requests.iter_mut().find(|request| request.code == code && now < request.made_at + LIFE);
    let Some(request) = request else { return Some(answer::empty(StatusCode::NOT_FOUND)) };
    request.user = Some(user);
    Some(answer::json(&json!(true)))
}

/// `POST /Users/AuthenticateWithQuickConnect`: once for each request.
pub(super) async fn redeem(visit: &Visit<'_>, call: &mut Call) -> Option<Response<Body>> {
    if visit.server.kind != Kind::Jellyfin {
        return None;
    }
    let body = call.json().await.unwrap_or_default();
    let secret = body["Secret"].as_str().unwrap_or_default().to_owned();
    let mut ledger = visit.server.control.ledger();
    let now = ledger.clock.monotonic();
    let is_it = |request: &QuickRequest| request.secret == secret && request.user.is_some() && now < request.made_at + LIFE;
    let Some(at) = ledger.quick_requests.iter().position(is_it) else { return Some(answer::empty(StatusCode::UNAUTHORIZED)) };
    let request = ledger.quick_requests.remove(at);
    let user = request.user.unwrap_or_default();
    if !ledger.by_id(&user).is_some_and(|account| account.is_active) {
        return Some(answer::text(StatusCode::FORBIDDEN, "text/plain", "Error processing request."));
    }
    visit.server.control.count(|counters| counters.minted += 1);
    Some(auth::let_in(visit.server, &mut ledger, crate::demo::ledger::Device { user, ..request.device }))
}
