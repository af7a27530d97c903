//! The admin listener: who comes in, from where, with what; and that it shares nothing with the listeners of media servers.

mod browsers;
mod fuzzed;
mod interface;
mod limits;
mod logins;
mod measured;
mod program;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use keygate::admin::api::{ListenerView, UpstreamView};
use keygate::admin::listener::{AdminListener, serve};
use keygate::admin::page_sessions::SessionLimits;
use keygate::admin::{Actor, Admin};
use keygate::clock::{Clock, ManualClock, Timestamp};
use keygate::keys::admin::{AdminScope, AdminToken};
use keygate::registry::admin::NewAdminToken;
use keygate::server::tls::Acceptor;
use keygate::upstream::Kind;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::http::{self as client, Answer};
use crate::support::{Rig, Setup, manual_clock};

pub(crate) const PASSWORD: &str = "brass otter lamp";

/// A gateway with an admin listener, and a token of each scope.
pub(crate) struct Site {
    pub(crate) rig: Rig,
    pub(crate) admin: Arc<Admin>,
    pub(crate) address: SocketAddr,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) all: AdminToken,
    stop: CancellationToken,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::with(None).await
    }

    pub(crate) async fn with(acceptor: Option<Acceptor>) -> Self {
        let clock = manual_clock();
        let rig = Setup::new(Kind::Audiobookshelf).clock(Arc::clone(&clock) as Arc<dyn Clock>).start().await;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let keep = rig.keep();
        let view = UpstreamView {
            name: rig.config.upstreams[0].name.to_string(),
            kind: rig.config.upstreams[0].kind.to_string(),
            url: rig.standin.url.clone(),
            ..UpstreamView::default()
        };
        let admin = Admin::new(Arc::clone(&keep.registry), Arc::clone(&keep.sessions), Arc::clone(&rig.clock), vec![view], tasks.clone());
        let url = format!("http://{}", rig.address);
        let public = ListenerView { url, address: rig.address, upstream: None, proxies: Vec::new() };
        let limits = SessionLimits { lifetime: Duration::from_secs(12 * 3600), idle: Duration::from_secs(3600) };
        let app = rig.app();
        let admin = admin
            .with_usage(Arc::clone(&keep.usage))
            .with_handouts(Arc::clone(&keep.handouts))
            .with_running(Arc::clone(&app.gateway), app.server.pulses());
        let admin = Arc::new(admin.with_session_limits(limits).with_listeners(vec![public]));
        let listener = AdminListener::bind("127.0.0.1:0".parse().unwrap(), acceptor, &["Keys.Home.Arpa".to_owned()]).unwrap();
        let address = listener.address();
        rig.sweep.cover(&[address]);
        let page = keygate::page::pages(Arc::clone(&admin));
        tasks.spawn(serve(listener, Arc::clone(&admin), page, tasks.clone(), stop.clone()));
        let all = make_token(&rig, "all", AdminScope::All, None);
        Self { rig, admin, address, clock, all, stop }
    }

    pub(crate) fn token(&self, scope: AdminScope) -> AdminToken {
        make_token(&self.rig, scope.as_str(), scope, None)
    }

    /// With these headers alone.
    pub(crate) async fn bare(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        client::send(self.address, method, path, headers, body).await
    }

    pub(crate) async fn get(&self, path: &str, token: &AdminToken) -> Answer {
        self.bare(Method::GET, path, &[("authorization", &bearer(token))], "").await
    }

    /// A JSON body with a token; nothing for null.
    pub(crate) async fn ask(&self, method: Method, path: &str, token: &AdminToken, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [("authorization", &*bearer(token)), ("content-type", "application/json")];
        self.bare(method, path, &headers, body).await
    }

    /// Sets the page's password, as a process at the socket does.
    pub(crate) async fn set_password(&self, password: &str) {
        let router = keygate::admin::router(Arc::clone(&self.admin));
        let mut request =
            http::Request::put("/api/page-password").body(axum::body::Body::from(json!({ "password": password }).to_string())).unwrap();
        request.extensions_mut().insert(Actor::Offline { uid: 0 });
        let answer = tower::ServiceExt::oneshot(router, request).await.unwrap();
        assert_eq!(answer.status(), 200);
        self.rig.sweep.keep_secret(password);
    }
}

pub(crate) fn make_token(rig: &Rig, name: &str, scope: AdminScope, expires_at: Option<Timestamp>) -> AdminToken {
    let new = NewAdminToken { name: name.to_owned(), scopes: vec![scope], expires_at, created_by: "test".to_owned() };
    let token = rig.keep().registry.create_admin_token(new).expect("a token").token;
    rig.sweep.keep_secret(token.expose());
    token
}

pub(crate) fn bearer(token: &AdminToken) -> String {
    format!("Bearer {}", token.expose())
}

fn word(answer: &Answer) -> String {
    answer.json()["error"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn only_a_good_admin_token_opens_it_and_all_others_look_the_same() {
    let site = Site::start().await;
    assert_eq!(site.get("/api/status", &site.all).await.status, 200);

    let nothing = site.bare(Method::GET, "/api/status", &[], "").await;
    assert_eq!((nothing.status.as_u16(), nothing.header("www-authenticate")), (401, Some("Bearer realm=\"keygate admin\"")));

    let (revoked, unknown) = (site.token(AdminScope::All), AdminToken::generate(site.all.id()).unwrap());
    site.rig.keep().registry.revoke_admin_token(revoked.id()).unwrap();
    let expiring = make_token(&site.rig, "short", AdminScope::All, Some(site.clock.now().plus(Duration::from_secs(60))));
    assert_eq!(site.get("/api/status", &expiring).await.status, 200);
    site.clock.advance(Duration::from_secs(60));
    let key = format!("Bearer {}", site.rig.secret());
    let mut seen = Vec::new();
    for line in [&bearer(&revoked), &bearer(&unknown), &bearer(&expiring), &key, "Bearer", "Bearer x", "Basic a2dhOmtnYQ=="] {
        let refused = site.bare(Method::GET, "/api/status", &[("authorization", line)], "").await;
        assert_eq!(refused.status, 401, "{line}");
        seen.push(refused.text());
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "one text for all of them: {seen:?}");
    // Not by any other way in which keys travel.
    for (name, value) in
        [("x-emby-token", site.all.expose()), ("x-api-key", site.all.expose()), ("cookie", &format!("keygate={}", site.all.expose()))]
    {
        assert_eq!(site.bare(Method::GET, "/api/status", &[(name, value)], "").await.status, 401, "{name}");
    }
    let twice =
        site.bare(Method::GET, "/api/status", &[("authorization", &bearer(&site.all)), ("authorization", &bearer(&site.all))], "").await;
    assert_eq!(twice.status, 400);
}

#[tokio::test]
async fn a_token_does_what_its_scope_says_and_nothing_else() {
    let site = Site::start().await;
    let [read, keys, accounts] = [AdminScope::Read, AdminScope::Keys, AdminScope::Accounts].map(|scope| site.token(scope));
    let account = site.rig.account.id.0.to_string();
    let new_key = json!({ "name": "made", "userId": account });
    let new_account = json!({ "name": "media/bob", "password": "bobs", "verify": false });
    let new_token = json!({ "name": "more", "scopes": ["all"] });
    for (token, rights) in [(&read, [false; 3]), (&keys, [true, false, false]), (&accounts, [false, true, false])] {
        assert_eq!(site.get("/api/api-keys", token).await.status, 200, "all of them may look");
        for ((path, body), may) in
            [("/api/api-keys", &new_key), ("/api/accounts", &new_account), ("/api/admin-tokens", &new_token)].into_iter().zip(rights)
        {
            let answer = site.ask(Method::POST, path, token, body).await;
            allow_new_secret(&site, &answer);
            assert_eq!(answer.status.as_u16(), if may { 200 } else { 403 }, "{path}: {}", answer.text());
            assert!(may || word(&answer) == "forbidden");
        }
        assert_eq!(site.get("/api/page-sessions", token).await.status, 403);
        assert_eq!(site.ask(Method::DELETE, &format!("/api/admin-tokens/{}", site.all.id()), token, &Value::Null).await.status, 403);
    }
    let made = site.ask(Method::POST, "/api/admin-tokens", &site.all, &new_token).await;
    assert_eq!(made.status, 200);
    assert_eq!(site.get("/api/session", &keys).await.json()["scopes"], json!(["keys"]));
}

#[tokio::test]
async fn a_key_that_rules_the_media_server_is_made_and_handed_out_by_who_may_all_alone() {
    let site = Site::start().await;
    let (keys, all) = (site.token(AdminScope::Keys), &site.all);
    let ask = async |method: Method, path: &str, token: &AdminToken, body: Value| {
        let answer = site.ask(method, path, token, &body).await;
        allow_new_secret(&site, &answer);
        (answer.status.as_u16(), answer)
    };
    let registry = &site.rig.keep().registry;
    let user = site.rig.account.id.0.to_string();
    let ruling = json!({ "name": "ruler", "userId": user, "scopes": ["browse", "admin"] });
    let (status, refused) = ask(Method::POST, "/api/api-keys", &keys, ruling.clone()).await;
    assert!(status == 403 && refused.text().contains("scope admin") && refused.text().contains("\\\"all\\\""), "{}", refused.text());
    let (status, made) = ask(Method::POST, "/api/api-keys", all, ruling).await;
    assert_eq!(status, 200, "{}", made.text());
    let ruler = format!("/api/api-keys/{}", made.json()["apiKey"]["id"].as_str().unwrap());
    let (status, plain) = ask(Method::POST, "/api/api-keys", &keys, json!({ "name": "plain", "userId": user })).await;
    assert_eq!(status, 200, "{}", plain.text());
    let plain = format!("/api/api-keys/{}", plain.json()["apiKey"]["id"].as_str().unwrap());
    let (post, patch) = (Method::POST, Method::PATCH);
    for (method, path, body, free) in [
        (&post, format!("{ruler}/rotate"), json!({}), false),
        (&patch, ruler.clone(), json!({ "name": "x" }), false),
        (&patch, ruler.clone(), json!({ "isActive": false }), true),
        (&patch, ruler.clone(), json!({ "isActive": true }), false),
        (&patch, plain.clone(), json!({ "preset": "admin" }), false),
        (&patch, plain.clone(), json!({ "preset": "read-only" }), true),
        (&post, format!("{plain}/rotate"), json!({}), true),
        (&patch, ruler.clone(), json!({ "preset": "read-only" }), true),
    ] {
        let (status, answer) = ask(method.clone(), &path, &keys, body.clone()).await;
        assert_eq!(status, if free { 200 } else { 403 }, "{method} {path} {body}: {}", answer.text());
    }
    registry.set_administrator(site.rig.account.id, true, false).unwrap();
    for (path, body) in [("/api/api-keys", json!({ "name": "more", "userId": user })), ("/Auth/Keys?App=tv", Value::Null)] {
        let (status, answer) = ask(Method::POST, path, &keys, body.clone()).await;
        assert!(status == 403 && answer.text().contains("is the administrator of its media server"), "{path}: {}", answer.text());
        assert_eq!(ask(Method::POST, path, all, body).await.0, 200, "{path}");
    }
    assert_eq!(ask(Method::POST, &format!("{plain}/rotate"), &keys, json!({})).await.0, 403);
    assert_eq!(ask(Method::DELETE, &plain, &keys, Value::Null).await.0, 200, "whoever may change keys may end them all");
}

/// A key or token that an answer shows because it was just made.
fn allow_new_secret(site: &Site, answer: &Answer) {
    for secret in [&answer.json()["apiKey"]["apiKey"], &answer.json()["AccessToken"]] {
        if let Some(secret) = secret.as_str() {
            site.rig.sweep.allow(secret, "it was just made, and is shown once");
        }
    }
}

#[tokio::test]
async fn a_revoked_token_is_refused_on_the_very_next_request() {
    let site = Site::start().await;
    let token = site.token(AdminScope::Read);
    assert_eq!(site.get("/api/status", &token).await.status, 200);
    let revoked = site.ask(Method::DELETE, &format!("/api/admin-tokens/{}", token.id()), &site.all, &Value::Null).await;
    assert_eq!(revoked.json()["adminToken"]["status"], "revoked");
    assert_eq!(site.get("/api/status", &token).await.status, 401);
    let list = site.get("/api/admin-tokens", &site.all).await;
    assert!(!list.text().contains(token.expose()), "only the id is shown");
    let used = list.json()["adminTokens"].as_array().unwrap().iter().find(|one| one["id"] == site.all.id().to_string()).cloned().unwrap();
    assert!(used["lastUsedAt"].is_string(), "{used}");
}

#[tokio::test]
async fn a_credential_in_the_url_is_refused_and_never_logged() {
    let site = Site::start().await;
    for name in ["token", "api_key", "access_token", "x"] {
        let path = format!("/api/status?{name}={}", site.all.expose());
        let headers = [("authorization", &*bearer(&site.all))];
        assert_eq!(site.bare(Method::GET, &path, &headers, "").await.status, 400, "even beside a good one: {name}");
        assert_eq!(site.bare(Method::GET, &path, &[], "").await.status, 400);
    }
}

#[tokio::test]
async fn a_guesser_is_slowed_down_and_a_good_token_behind_the_same_address_is_not() {
    let site = Site::start().await;
    let guess = || async {
        let token = AdminToken::generate(site.all.id()).unwrap();
        site.get("/api/status", &token).await
    };
    for _ in 0..20 {
        assert_eq!(guess().await.status, 401);
    }
    let refused = guess().await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, Some("3")));
    assert_eq!(site.get("/api/status", &site.all).await.status, 200);
    site.clock.advance(Duration::from_secs(3));
    assert_eq!(guess().await.status, 401);
}

#[tokio::test]
async fn nothing_of_it_is_reached_through_the_listener_of_media_servers() {
    let site = Site::start().await;
    let before = site.rig.standin.control().journal().len();
    for path in ["/api/admin-tokens", "/api/page-sessions", "/api/session", "/api/openapi.json", "/api/summary", "/api/status"] {
        for headers in [vec![("authorization", bearer(&site.all))], vec![("x-emby-token", site.all.expose().to_owned())], Vec::new()] {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = client::get(site.rig.address, path, &headers).await;
            assert_eq!(answer.status, 401, "{path}: an admin token is no key");
        }
    }
    assert_eq!(site.rig.standin.control().journal().len(), before, "and it is never forwarded");
    // With a good key the media server is asked, whatever it makes of it.
    let forwarded = site.rig.get("/api/page-sessions").await;
    assert!(!forwarded.text().contains("\"sessions\"") || site.rig.standin.control().journal().len() > before);
}

#[tokio::test]
async fn what_is_the_sockets_alone_is_not_there() {
    let site = Site::start().await;
    for (method, path) in [
        (Method::PUT, "/api/page-password"),
        (Method::POST, "/api/store/compact"),
        (Method::POST, "/api/store/check"),
        (Method::GET, "/api/store/backup"),
        (Method::POST, "/api/time/forget"),
    ] {
        let answer = site.ask(method, path, &site.all, &Value::Null).await;
        assert_eq!((answer.status.as_u16(), word(&answer).as_str()), (404, "no_such_route"), "{path}");
    }
    // Below the path of a key, this is the key "bulk".
    assert_eq!(site.ask(Method::POST, "/api/api-keys/bulk", &site.all, &json!({})).await.status, 405);
}
