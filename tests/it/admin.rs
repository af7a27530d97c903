//! The admin socket as programs use it: keys in the shape of Audiobookshelf's own interface, accounts, and who may connect.

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use keygate::admin::Admin;
use keygate::admin::api::UpstreamView;
use keygate::admin::socket::{AdminSocket, SocketAccess, serve};
use keygate::clock::{Clock, ManualClock, Timestamp};
use keygate::keys::index::KeyIndex;
use keygate::keys::{ApiKey, KeyHasher};
use keygate::registry::Registry;
use keygate::secret::Secret;
use keygate::store::Store;
use keygate::store::memory::MemoryStore;
use keygate::upstream::client::{Timeouts, Upstream};
use keygate::upstream::health::Health;
use keygate::upstream::session::Sessions;
use keygate::upstream::{Kind, UpstreamName};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A gateway's admin side over a store in memory, with the upstreams `abs` and `jf`, which nobody answers at.
pub(crate) struct AdminSide {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) socket: PathBuf,
    index: Arc<KeyIndex>,
    hasher: KeyHasher,
    clock: Arc<ManualClock>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl AdminSide {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let socket = folder.path().join("admin.sock");
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_795_300_000)));
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let index = Arc::new(KeyIndex::new());
        let hasher = KeyHasher::new(&Secret::new([7; 32]));
        let sessions =
            Sessions::load(Arc::clone(&store), upstreams(), Arc::clone(&clock) as Arc<dyn Clock>, tokio::runtime::Handle::current())
                .expect("an empty store");
        let registry =
            Arc::new(Registry::new(store, hasher.clone(), Arc::clone(&index), sessions.clone(), Arc::clone(&clock) as Arc<dyn Clock>));
        let views = upstreams().into_values().map(|one| UpstreamView {
            name: one.name.to_string(),
            kind: one.kind.to_string(),
            url: format!("http://{}:{}", one.host, one.port),
            ..UpstreamView::default()
        });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let admin = Arc::new(Admin::new(registry, sessions, Arc::clone(&clock) as Arc<dyn Clock>, views.collect(), tasks.clone()));
        let bound = AdminSocket::bind(&socket, SocketAccess::Owner).expect("bound");
        tasks.spawn(serve(bound, admin, tasks.clone(), stop.clone()));
        Self { folder, socket, index, hasher, clock, stop, tasks }
    }

    /// Adds `upstream/name` without trying it.
    pub(crate) async fn add_account(&self, name: &str) -> String {
        let body = json!({ "name": name, "password": "hunter2", "verify": false });
        let (status, answer) = self.ask(Method::POST, "/api/accounts", &body).await;
        assert_eq!(status, 200, "{answer}");
        answer["account"]["id"].as_str().expect("an id").to_owned()
    }

    pub(crate) async fn ask(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let (status, text) = exchange(&self.socket, method, path, body.to_string()).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}")))
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let (status, text) = exchange(&self.socket, Method::GET, path, String::new()).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}")))
    }

    /// Whether the request path would know this key.
    pub(crate) fn knows(&self, key: &str) -> bool {
        let key = ApiKey::parse(key).expect("well formed");
        self.index.find(&self.hasher.digest(&key)).is_some_and(|found| found.is_active() && found.expires_at() > self.clock.now())
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        assert!(!self.socket.exists(), "the socket is removed at the end");
    }
}

fn upstreams() -> HashMap<UpstreamName, Arc<Upstream>> {
    // A port that was free a moment ago: nobody answers there.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let one = |name: &str, kind| Upstream {
        name: UpstreamName::new(name),
        kind,
        host: "127.0.0.1".to_owned(),
        port,
        authority: HeaderValue::from_str(&format!("127.0.0.1:{port}")).expect("a host"),
        tls: None,
        base_path: String::new(),
        timeouts: Timeouts { connect: Duration::from_secs(5), response_header: Duration::from_secs(5), pool_idle: Duration::from_secs(4) },
        session_per_key: false,
        health: Health::default(),
    };
    [one("abs", Kind::Audiobookshelf), one("jf", Kind::Jellyfin)].map(|one| (one.name.clone(), Arc::new(one))).into()
}

async fn exchange(socket: &Path, method: Method, path: &str, body: String) -> (u16, String) {
    let stream = UnixStream::connect(socket).await.expect("a gateway");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    let request =
        Request::builder().method(method).uri(path).header("host", "keygate").body(Full::new(Bytes::from(body))).expect("a request");
    let asked = async move {
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let status = answer.status().as_u16();
        (status, String::from_utf8(answer.into_body().collect().await.expect("a body").to_bytes().to_vec()).expect("text"))
    };
    tokio::join!(asked, connection).0
}

#[tokio::test]
async fn a_key_lives_and_ends_in_the_shape_of_audiobookshelf() {
    let side = AdminSide::start();
    let account = side.add_account("abs/alice").await;
    let (status, made) = side.ask(Method::POST, "/api/api-keys", &json!({ "name": "ha", "userId": account })).await;
    assert_eq!(status, 200, "{made}");
    let made = &made["apiKey"];
    assert_eq!(made["isActive"], true, "absent is active");
    assert_eq!(made["user"], json!({ "id": account, "username": "alice", "type": "user" }));
    assert_eq!(made["expiresAt"], Value::Null);
    assert!(made["createdBy"].as_str().expect("text").starts_with("uid "));
    let (id, key) = (made["id"].as_str().expect("an id"), made["apiKey"].as_str().expect("the key"));
    assert!(side.knows(key));

    let (_, list) = side.get("/api/api-keys").await;
    assert_eq!(list["apiKeys"][0]["id"], id);
    assert_eq!(list["apiKeys"][0].get("apiKey"), None, "shown once");
    assert!(!list.to_string().contains(key));

    let path = format!("/api/api-keys/{id}");
    let (_, off) = side.ask(Method::PATCH, &path, &json!({ "isActive": false })).await;
    assert_eq!(off["apiKey"]["status"], "disabled");
    assert!(!side.knows(key));
    side.ask(Method::PATCH, &path, &json!({ "isActive": true })).await;
    assert!(side.knows(key));

    assert_eq!(side.ask(Method::DELETE, &path, &Value::Null).await.0, 200);
    assert!(!side.knows(key));
    assert_eq!(side.ask(Method::DELETE, &path, &Value::Null).await.0, 404, "gone, as at Audiobookshelf");
    assert_eq!(side.ask(Method::PATCH, &path, &json!({ "isActive": true })).await.0, 404, "revoked is final");
    assert_eq!(side.get(&path).await.1["apiKey"]["status"], "revoked", "its tombstone stays");
    assert_eq!(side.get("/api/api-keys").await.1, json!({ "apiKeys": [], "total": 0 }));
    side.end().await;
}

#[tokio::test]
async fn a_rotated_key_has_two_secrets_until_the_overlap_ends() {
    let side = AdminSide::start();
    side.add_account("abs/alice").await;
    let (_, made) = side.ask(Method::POST, "/api/api-keys", &json!({ "name": "ha", "userId": "alice" })).await;
    let (id, old) = (made["apiKey"]["id"].as_str().expect("an id"), made["apiKey"]["apiKey"].as_str().expect("the key"));
    let path = format!("/api/api-keys/{id}/rotate");
    let (status, rotated) = side.ask(Method::POST, &path, &json!({ "overlapSeconds": 3600 })).await;
    assert_eq!(status, 200, "{rotated}");
    let new = rotated["apiKey"]["apiKey"].as_str().expect("the new key");
    assert!(side.knows(old) && side.knows(new) && old != new);
    side.clock.advance(Duration::from_secs(3601));
    assert!(!side.knows(old) && side.knows(new));
    side.end().await;
}

#[tokio::test]
async fn an_expiry_can_be_given_changed_and_taken_away() {
    let side = AdminSide::start();
    side.add_account("abs/alice").await;
    let body = json!({ "name": "short", "userId": "alice", "expiresIn": 60 });
    let (_, made) = side.ask(Method::POST, "/api/api-keys", &body).await;
    assert_eq!(made["apiKey"]["expiresAt"], "2026-11-21T22:27:40.000Z");
    let (id, key) = (made["apiKey"]["id"].as_str().expect("an id"), made["apiKey"]["apiKey"].as_str().expect("the key"));
    let path = format!("/api/api-keys/{id}");
    let (_, renamed) = side.ask(Method::PATCH, &path, &json!({ "name": "renamed" })).await;
    assert_eq!(renamed["apiKey"]["expiresAt"], "2026-11-21T22:27:40.000Z", "what is absent stays");
    let (_, never) = side.ask(Method::PATCH, &path, &json!({ "expiresAt": null })).await;
    assert_eq!(never["apiKey"]["expiresAt"], Value::Null);
    side.clock.advance(Duration::from_secs(61));
    assert!(side.knows(key));
    side.end().await;
}

#[tokio::test]
async fn scopes_are_a_list_of_names_or_a_preset_and_a_patch_replaces_them() {
    let side = AdminSide::start();
    side.add_account("abs/alice").await;
    let (_, plain) = side.ask(Method::POST, "/api/api-keys", &json!({ "name": "tv", "userId": "alice" })).await;
    let rights = |answer: &Value| (answer["apiKey"]["preset"].clone(), answer["apiKey"]["scopes"].clone());
    assert_eq!(rights(&plain).0, json!("full"), "unless asked for more or less");
    assert!(!plain["apiKey"]["scopes"].as_array().expect("a list").contains(&json!("admin")));
    for (asked, preset, scopes) in [
        (json!({ "preset": "dashboard" }), json!("dashboard"), json!(["browse", "status"])),
        (json!({ "scopes": ["status", "browse"] }), json!("dashboard"), json!(["browse", "status"])),
        (json!({ "scopes": ["stream"], "preset": "dashboard" }), json!(null), json!(["browse", "status", "stream"])),
    ] {
        let mut body = json!({ "name": "n", "userId": "alice" });
        body.as_object_mut().expect("an object").extend(asked.as_object().expect("an object").clone());
        let (_, made) = side.ask(Method::POST, "/api/api-keys", &body).await;
        assert_eq!(rights(&made), (preset, scopes), "{asked}");
    }
    let (_, made) = side.ask(Method::POST, "/api/api-keys", &json!({ "name": "boss", "userId": "alice", "scopes": ["admin"] })).await;
    assert_eq!(made["apiKey"]["scopes"], json!(["admin"]));
    let path = format!("/api/api-keys/{}", made["apiKey"]["id"].as_str().expect("an id"));
    let (_, renamed) = side.ask(Method::PATCH, &path, &json!({ "name": "chief" })).await;
    assert_eq!(renamed["apiKey"]["scopes"], json!(["admin"]), "what is absent stays");
    let (status, refused) = side.ask(Method::PATCH, &path, &json!({ "name": "x", "scopes": ["admin", "root"] })).await;
    let why = refused["message"].as_str().expect("a sentence");
    assert_eq!((status, why.starts_with("there is no scope \"root\"; there is: browse, status, ")), (400, true), "{why}");
    let (status, refused) = side.ask(Method::PATCH, &path, &json!({ "preset": "Full" })).await;
    let all = "there is no preset \"Full\"; there is: full, read-only, stream-only, progress-sync, dashboard, upload, admin";
    assert_eq!((status, refused["message"].as_str()), (400, Some(all)));
    assert_eq!(side.ask(Method::PATCH, &path, &json!({ "scopes": [] })).await.0, 400, "it could do nothing");
    let (_, taken) = side.ask(Method::PATCH, &path, &json!({ "preset": "full" })).await;
    assert_eq!((&taken["apiKey"]["preset"], &taken["apiKey"]["name"]), (&json!("full"), &json!("chief")));
    side.end().await;
}

#[tokio::test]
async fn wrong_requests_are_answered_as_audiobookshelf_does_but_with_a_reason() {
    let side = AdminSide::start();
    let account = side.add_account("abs/alice").await;
    for body in [
        json!({}),
        json!({ "name": "n" }),
        json!({ "name": "", "userId": account }),
        json!({ "name": "n", "userId": "nobody" }),
        json!({ "name": "n", "userId": account, "expiresIn": 0 }),
        json!({ "name": "n", "userId": account, "expiresIn": "soon" }),
        json!({ "name": "n", "userId": account, "expiresAt": "2020-01-01T00:00:00Z" }),
        json!({ "name": "n", "userId": account, "scopes": ["read"] }),
        json!({ "name": "n", "userId": account, "scopes": [] }),
        json!({ "name": "n", "userId": account, "preset": "readonly" }),
        json!({ "name": "n", "userId": account, "count": 3 }),
    ] {
        let (status, answer) = side.ask(Method::POST, "/api/api-keys", &body).await;
        assert_eq!(status, 400, "{body}: {answer}");
        assert!(answer["error"].is_string() && answer["message"].is_string(), "{answer}");
    }
    assert_eq!(side.ask(Method::DELETE, "/api/api-keys/does-not-exist", &Value::Null).await.0, 404);
    assert_eq!(side.ask(Method::PATCH, "/api/api-keys/0000000000", &json!({ "isActive": true })).await.0, 404);
    assert_eq!(side.get("/api/nope").await.0, 404);
    assert_eq!(side.ask(Method::PUT, "/api/status", &Value::Null).await.0, 405);
    let large = json!({ "name": "n".repeat(70_000), "userId": account });
    assert_eq!(side.ask(Method::POST, "/api/api-keys", &large).await.0, 400);
    assert_eq!(side.get("/api/api-keys").await.1, json!({ "apiKeys": [], "total": 0 }), "nothing came of any of it");
    side.end().await;
}

#[tokio::test]
async fn many_keys_come_one_a_line_and_in_order() {
    let side = AdminSide::start();
    side.add_account("abs/alice").await;
    let body = json!({ "name": "tv", "userId": "alice", "count": 2000 });
    let (status, text) = exchange(&side.socket, Method::POST, "/api/api-keys/bulk", body.to_string()).await;
    assert_eq!(status, 200);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2000);
    assert_eq!(lines[0]["name"], "tv-1");
    assert_eq!(lines[1999]["name"], "tv-2000");
    assert!(side.knows(lines[1234]["apiKey"].as_str().expect("a key")));
    for count in [json!(0), json!(1_000_001), Value::Null] {
        let body = json!({ "name": "tv", "userId": "alice", "count": count });
        assert_eq!(side.ask(Method::POST, "/api/api-keys/bulk", &body).await.0, 400);
    }
    side.end().await;
}

#[tokio::test]
async fn an_account_that_cannot_be_tried_is_not_stored() {
    let side = AdminSide::start();
    let body = json!({ "name": "abs/alice", "password": "hunter2" });
    let (status, answer) = side.ask(Method::POST, "/api/accounts", &body).await;
    assert_eq!(status, 502, "{answer}");
    assert_eq!(answer["error"], "upstream_unreachable");
    assert!(answer["message"].as_str().expect("text").contains("Nothing was stored"), "{answer}");
    assert!(!answer.to_string().contains("hunter2"));
    assert_eq!(side.get("/api/accounts").await.1, json!({ "accounts": [] }));
    side.end().await;
}

#[tokio::test]
async fn an_account_is_named_with_its_upstream_where_that_is_needed() {
    let side = AdminSide::start();
    let body = json!({ "name": "alice", "token": "t", "verify": false });
    let (status, answer) = side.ask(Method::POST, "/api/accounts", &body).await;
    assert_eq!(status, 400, "two upstreams: {answer}");
    side.add_account("abs/alice").await;
    side.add_account("jf/alice").await;
    let again = json!({ "upstream": "abs", "name": "alice", "token": "t", "verify": false });
    assert_eq!(side.ask(Method::POST, "/api/accounts", &again).await.0, 409);
    let (status, answer) = side.ask(Method::POST, "/api/api-keys", &json!({ "name": "n", "userId": "alice" })).await;
    assert_eq!(status, 400);
    assert!(answer["message"].as_str().expect("text").contains("abs/alice, jf/alice"), "{answer}");
    assert_eq!(side.ask(Method::POST, "/api/api-keys", &json!({ "name": "n", "userId": "jf/alice" })).await.0, 200);
    side.end().await;
}

#[tokio::test]
async fn an_account_with_keys_goes_only_together_with_them() {
    let side = AdminSide::start();
    let account = side.add_account("abs/alice").await;
    let (_, made) = side.ask(Method::POST, "/api/api-keys", &json!({ "name": "n", "userId": account })).await;
    let key = made["apiKey"]["apiKey"].as_str().expect("the key");
    let path = format!("/api/accounts/{account}");
    assert_eq!(side.ask(Method::DELETE, &path, &Value::Null).await.0, 409);
    assert!(side.knows(key));
    let (status, removed) = side.ask(Method::DELETE, &format!("{path}?revokeKeys=true"), &Value::Null).await;
    assert_eq!((status, removed), (200, json!({ "account": "abs/alice", "revokedKeys": 1 })));
    assert!(!side.knows(key));
    side.end().await;
}

#[tokio::test]
async fn status_counts_and_reload_without_a_file_says_so() {
    let side = AdminSide::start();
    side.add_account("abs/alice").await;
    let (status, answer) = side.get("/api/status").await;
    assert_eq!(status, 200);
    assert_eq!((&answer["accounts"], &answer["keys"], &answer["pid"]), (&json!(1), &json!(0), &json!(std::process::id())));
    assert_eq!(side.ask(Method::POST, "/api/reload", &Value::Null).await.0, 400);
    side.end().await;
}
