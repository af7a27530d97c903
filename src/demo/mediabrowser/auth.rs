//! Log-in with its rules about devices, log-out, users, sessions, and the server's own keys.

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::identity::Judged;
use super::library::id;
use super::{Visit, library, quick_connect};
use crate::demo::answer;
use crate::demo::body::Body;
use crate::demo::call::Call;
use crate::demo::ledger::{Account, Device, Ledger};
use crate::demo::random;
use crate::demo::standin::Server;
use crate::upstream::Kind;

/// `POST /Users/AuthenticateByName`.
pub(super) async fn login(visit: &Visit<'_>, call: &mut Call) -> Response<Body> {
    if let Some((status, retry_after)) = visit.server.control.ordered_faults().login_status {
        return answer::ordered(status, retry_after);
    }
    let body = call.json().await.unwrap_or_default();
    let name = body["Username"].as_str().unwrap_or_default();
    let password = body["Pw"].as_str().unwrap_or_default();
    let response = log_in(visit, name, password);
    tokio::time::sleep(visit.server.control.ordered_faults().delay_login).await;
    response
}

fn log_in(visit: &Visit<'_>, name: &str, password: &str) -> Response<Body> {
    let (server, identity) = (visit.server, &visit.identity);
    let is_complete = [&identity.client, &identity.device, &identity.device_id, &identity.version].iter().all(|field| field.is_some());
    if server.kind == Kind::Jellyfin && !is_complete {
        return answer::text(StatusCode::BAD_REQUEST, "text/plain", "Error processing request.");
    }
    let mut ledger = server.control.ledger();
    let lockout = server.options.lockout;
    let user = match check(&mut ledger, name, password, lockout) {
        Ok(user) => user,
        Err(is_disabled) => {
            server.control.count(|counters| counters.refused_logins += 1);
            return refused(server.kind, is_disabled);
        }
    };
    server.control.count(|counters| counters.logins += 1);
    let device = device_of(visit, &user);
    let_in(server, &mut ledger, device)
}

/// The device that a request comes from, for a user; without a token yet.
pub(super) fn device_of(visit: &Visit<'_>, user: &str) -> Device {
    let field = |field: &Option<String>| field.clone().unwrap_or_default();
    let identity = &visit.identity;
    Device {
        token: String::new(),
        user: user.to_owned(),
        client: field(&identity.client),
        name: field(&identity.device),
        device_id: field(&identity.device_id),
        version: field(&identity.version),
    }
}

/// A session for a device: the answer of every kind of login.
pub(super) fn let_in(server: &Server, ledger: &mut Ledger, mut device: Device) -> Response<Body> {
    device.token = take_over_device(ledger, &device.user, &device.device_id);
    if !ledger.devices.iter().any(|known| known.token == device.token) {
        ledger.add_device(device.clone());
    }
    answer::json(&json!({
        "User": ledger.by_id(&device.user).map(|account| describe(server, account)), "SessionInfo": session(server, ledger, &device),
        "AccessToken": device.token, "ServerId": server.server_id
    }))
}

/// The user's id, or whether the account is disabled. Enough wrong passwords disable it for good.
fn check(ledger: &mut Ledger, name: &str, password: &str, lockout: Option<u32>) -> Result<String, bool> {
    let account = ledger.by_name_mut(name).ok_or(false)?;
    if !account.is_active {
        return Err(true);
    }
    if account.password == password {
        account.failed_logins = 0;
        return Ok(account.id.clone());
    }
    account.failed_logins += 1;
    account.is_active = lockout.is_none_or(|limit| account.failed_logins < limit);
    Err(false)
}

fn refused(kind: Kind, is_disabled: bool) -> Response<Body> {
    match (kind, is_disabled) {
        (Kind::Emby, _) => answer::text(StatusCode::UNAUTHORIZED, "text/html", "Invalid username or password entered."),
        (_, true) => answer::text(StatusCode::FORBIDDEN, "text/plain", "Error processing request."),
        (_, false) => answer::text(StatusCode::UNAUTHORIZED, "text/plain", "Error processing request."),
    }
}

/// The token for a log-in from a device. Emby drops what other users have on it and hands out this user's old token again;
/// Jellyfin drops this user's old token and makes a new one.
fn take_over_device(ledger: &mut Ledger, user: &str, device_id: &str) -> String {
    let is_emby = ledger.kind == Kind::Emby;
    ledger.devices.retain(|device| device.device_id != device_id || device.user.is_empty() || (device.user == user) == is_emby);
    let old = ledger.devices.iter().find(|device| is_emby && device.device_id == device_id && device.user == user);
    old.map_or_else(|| random::hex(16), |device| device.token.clone())
}

/// Users, sessions and keys, for a request with a good token.
pub(super) async fn route(visit: &Visit<'_>, call: &mut Call) -> Option<Response<Body>> {
    let server = visit.server;
    let method = call.parts.method.clone();
    Some(match (method.as_str(), visit.names.as_slice()) {
        ("GET", ["users"]) => answer::json(&server.control.ledger().accounts.iter().map(|account| describe(server, account)).collect()),
        ("GET", ["users", "me"]) => me(visit),
        ("GET", ["users", user]) => {
            let ledger = server.control.ledger();
            answer::json(&describe(server, ledger.by_id(user)?))
        }
        ("GET", ["sessions"]) => answer::json(&sessions(server)),
        ("POST", ["sessions", "logout"]) => logout(visit),
        ("POST", ["sessions", "capabilities", ..] | ["sessions", "playing", ..] | ["sessions", "viewing"]) => {
            call.sink(&server.control).await;
            answer::empty(StatusCode::NO_CONTENT)
        }
        ("POST", ["quickconnect", "authorize"]) => return quick_connect::authorize(visit, call),
        ("GET", ["devices"]) => answer::json(&devices(server)),
        ("GET", ["auth", "keys"]) => answer::json(&keys(server)),
        ("POST", ["auth", "keys"]) => create_key(server, call),
        ("DELETE", ["auth", "keys", key]) => {
            server.control.kill_token(key);
            answer::empty(StatusCode::NO_CONTENT)
        }
        ("POST", ["system", ..]) => answer::empty(StatusCode::NO_CONTENT),
        ("GET", ["system", "logs", ..]) => answer::json(&json!([])),
        ("GET", ["system", "info"]) => library::info(visit, call),
        ("GET", ["system", "endpoint"]) => endpoint(server, call),
        ("GET", ["system", "configuration"]) => library::configuration(server),
        ("GET", ["system", "configuration", "network"]) if server.kind == Kind::Jellyfin => library::network(server),
        _ => return None,
    })
}

fn me(visit: &Visit<'_>) -> Response<Body> {
    let ledger = visit.server.control.ledger();
    match &visit.judged {
        // Emby has no such route; a Jellyfin key has no user.
        _ if visit.server.kind == Kind::Emby => answer::empty(StatusCode::NOT_FOUND),
        Judged::User { id, .. } => answer::json(&ledger.by_id(id).map_or(Value::Null, |account| describe(visit.server, account))),
        _ => answer::text(StatusCode::BAD_REQUEST, "text/plain", "Error processing request."),
    }
}

fn logout(visit: &Visit<'_>) -> Response<Body> {
    visit.server.control.count(|counters| counters.logouts += 1);
    if let Some(token) = &visit.identity.token {
        visit.server.control.kill_token(token);
    }
    answer::empty(StatusCode::NO_CONTENT)
}

/// Where the server thinks that the caller is.
fn endpoint(server: &Server, call: &Call) -> Response<Body> {
    let forwarded = call.header("x-forwarded-for").filter(|_| !server.control.ordered_faults().ignore_forwarded_for);
    let address = forwarded.and_then(|text| text.trim().parse().ok()).unwrap_or(call.peer);
    answer::json(&json!({"IsLocal": address.is_loopback(), "IsInNetwork": address.is_loopback()}))
}

fn create_key(server: &Arc<Server>, call: &Call) -> Response<Body> {
    let app = call.joined_parameter("app").unwrap_or_default();
    // The key is not in the answer; one lists all keys to find it.
    let _ = server.control.create_api_key(&app);
    answer::empty(if server.kind == Kind::Jellyfin { StatusCode::NO_CONTENT } else { StatusCode::OK })
}

fn keys(server: &Server) -> Value {
    let ledger = server.control.ledger();
    let keys: Vec<_> = ledger.devices.iter().filter(|device| device.user.is_empty()).collect();
    let items: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(index, key)| json!({"Id": index + 1, "AccessToken": key.token, "AppName": key.client, "IsActive": true, "UserId": "0".repeat(32)}))
        .collect();
    json!({"TotalRecordCount": items.len(), "Items": items, "StartIndex": 0})
}

/// Jellyfin shows an administrator the token of every device of every user.
fn devices(server: &Server) -> Value {
    let ledger = server.control.ledger();
    let items: Vec<_> = ledger
        .devices
        .iter()
        .filter(|device| !device.user.is_empty())
        .map(|device| {
            let mut item = json!({"Name": device.name, "Id": device.device_id, "AppName": device.client, "AppVersion": device.version, "LastUserId": device.user});
            if server.kind == Kind::Jellyfin {
                item["AccessToken"] = json!(device.token);
            }
            item
        })
        .collect();
    json!({"TotalRecordCount": items.len(), "Items": items, "StartIndex": 0})
}

/// All live sessions.
pub(super) fn sessions(server: &Server) -> Value {
    let ledger = server.control.ledger();
    ledger.devices.iter().filter(|device| !device.user.is_empty()).map(|device| session(server, &ledger, device)).collect()
}

fn session(server: &Server, ledger: &Ledger, device: &Device) -> Value {
    let user = ledger.by_id(&device.user).map_or("", |account| account.name.as_str());
    json!({
        "PlayState": {"CanSeek": false, "IsPaused": false, "IsMuted": false, "RepeatMode": "RepeatNone"}, "AdditionalUsers": [],
        "RemoteEndPoint": "127.0.0.1", "PlayableMediaTypes": [], "Id": id(&device.device_id), "UserId": device.user, "UserName": user,
        "Client": device.client, "LastActivityDate": "2026-11-21T23:41:50.0000000Z", "DeviceName": device.name, "DeviceId": device.device_id,
        "ApplicationVersion": device.version, "IsActive": true, "SupportsMediaControl": false, "SupportsRemoteControl": false,
        "ServerId": server.server_id, "SupportedCommands": []
    })
}

fn describe(server: &Server, account: &Account) -> Value {
    let mut policy = json!({
        "IsAdministrator": account.is_admin, "IsHidden": true, "IsDisabled": !account.is_active, "EnableRemoteAccess": true,
        "EnableMediaPlayback": true, "EnableContentDownloading": true, "EnableAllFolders": true, "EnableAllDevices": true,
        "EnableAudioPlaybackTranscoding": true, "EnableVideoPlaybackTranscoding": true
    });
    if server.kind == Kind::Jellyfin {
        let provider = "Jellyfin.Server.Implementations.Users";
        policy["AuthenticationProviderId"] = json!(format!("{provider}.DefaultAuthenticationProvider"));
        policy["PasswordResetProviderId"] = json!(format!("{provider}.DefaultPasswordResetProvider"));
    }
    json!({
        "Name": account.name, "ServerId": server.server_id, "Id": account.id, "HasPassword": true, "HasConfiguredPassword": true,
        "HasConfiguredEasyPassword": false, "EnableAutoLogin": false,
        "Configuration": {"PlayDefaultAudioTrack": true, "SubtitleMode": "Default", "OrderedViews": [], "EnableNextEpisodeAutoPlay": true},
        "Policy": policy
    })
}
