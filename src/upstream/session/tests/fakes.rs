//! The upstream, the store and the clock of the tests.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::audit::{Entry, Reading};
use crate::clock::{ManualClock, Timestamp};
use crate::keys::KeyId;
use crate::keys::admin::AdminTokenRecord;
use crate::keys::record::{IndexEntry, KeyRecord};
use crate::secret::Secret;
use crate::store::acme::AcmeRecord;
use crate::store::records::{AccountRecord, HandoutRecord, SessionRecord};
use crate::store::{Change, Store, StoreError};
use crate::upstream::client::{Timeouts, Upstream};
use crate::upstream::health::Health;
use crate::upstream::session::{Session, SessionError, SessionId, Sessions};
use crate::upstream::{AccountId, Credential, Kind, UpstreamName};
use crate::usage::record::{KeyUsage, LastUse, UpstreamUsage};

/// A limit that no test reaches.
const LONG: Duration = Duration::from_secs(60);

pub(super) const ACCOUNT: AccountId = AccountId(7);
const ADMINISTRATOR: AccountId = AccountId(8);

/// Runs a test on a runtime of its own, as the control runtime is in the program.
pub(super) fn runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

// ---- the store ----

/// What it holds, and how it behaves.
#[derive(Default)]
pub(super) struct FakeStore {
    accounts: Mutex<BTreeMap<AccountId, AccountRecord>>,
    sessions: Mutex<BTreeMap<SessionId, SessionRecord>>,
    fails: Mutex<bool>,
    held: Mutex<()>,
    began: Notify,
    changed: Notify,
}

/// While this is there, no commit ends. Commits run on threads that may block.
pub(super) struct Held<'s> {
    _guard: MutexGuard<'s, ()>,
}

impl FakeStore {
    pub(super) fn fail_commits(&self, fails: bool) {
        *self.fails.lock().unwrap() = fails;
    }

    /// Commits wait until the guard is dropped.
    pub(super) fn hold_commits(&self) -> Held<'_> {
        Held { _guard: self.held.lock().unwrap() }
    }

    pub(super) async fn commit_begins(&self) {
        self.began.notified().await;
    }

    /// What the registry does before it tells the sessions.
    pub(super) fn put_account(&self, record: AccountRecord) {
        self.accounts.lock().unwrap().insert(record.id, record);
    }

    pub(super) fn account(&self) -> AccountRecord {
        self.accounts.lock().unwrap()[&ACCOUNT].clone()
    }

    pub(super) fn session(&self) -> Option<SessionRecord> {
        self.sessions.lock().unwrap().values().next().cloned()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.accounts.lock().unwrap().is_empty() && self.sessions.lock().unwrap().is_empty()
    }

    pub(super) async fn wait_until(&self, holds: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            if holds(self) {
                return;
            }
            changed.await;
        }
    }
}

impl Store for FakeStore {
    fn next_account(&self) -> Result<AccountId, StoreError> {
        Ok(AccountId(1000))
    }

    fn load_index(&self, _: &mut dyn FnMut(usize), _: &mut dyn FnMut(IndexEntry)) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn accounts(&self) -> Result<Vec<AccountRecord>, StoreError> {
        Ok(self.accounts.lock().unwrap().values().cloned().collect())
    }

    fn sessions(&self) -> Result<Vec<SessionRecord>, StoreError> {
        Ok(self.sessions.lock().unwrap().values().cloned().collect())
    }

    fn handouts(&self) -> Result<Vec<HandoutRecord>, StoreError> {
        Ok(Vec::new())
    }

    fn acme(&self) -> Result<Vec<AcmeRecord>, StoreError> {
        Ok(Vec::new())
    }

    fn time_mark(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    fn admin_tokens(&self) -> Result<Vec<AdminTokenRecord>, StoreError> {
        Ok(Vec::new())
    }

    fn page_password(&self) -> Result<Option<Secret<String>>, StoreError> {
        Ok(None)
    }

    fn key(&self, _: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        Ok(None)
    }

    fn expiry_look(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    fn usage(&self, _: KeyId) -> Result<Option<KeyUsage>, StoreError> {
        Ok(None)
    }

    fn visit_last_uses(&self, _: &mut dyn FnMut(KeyId, LastUse)) -> Result<(), StoreError> {
        Ok(())
    }

    fn totals(&self) -> Result<BTreeMap<String, UpstreamUsage>, StoreError> {
        Ok(BTreeMap::new())
    }

    fn read_audit(&self, _: Reading, _: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError> {
        Ok(())
    }

    fn visit_keys(&self, _: &mut dyn FnMut(KeyRecord) -> bool) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.began.notify_one();
        let _held = self.held.lock().unwrap();
        if *self.fails.lock().unwrap() {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(StoreError::Io { what: "write", path: "fake".into(), source: Box::new(source) });
        }
        for change in changes {
            match change {
                Change::PutAccount(record) => drop(self.accounts.lock().unwrap().insert(record.id, record)),
                Change::RemoveAccount(id) => {
                    self.accounts.lock().unwrap().remove(&id);
                    self.sessions.lock().unwrap().retain(|session, _| session.account != id);
                }
                Change::PutSession(record) => drop(self.sessions.lock().unwrap().insert(record.id, record)),
                Change::RemoveSession(id) => drop(self.sessions.lock().unwrap().remove(&id)),
                // What sessions write beside.
                _ => {}
            }
        }
        self.changed.notify_waiters();
        Ok(())
    }
}

// ---- the upstream ----

/// How the upstream answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Normal,
    /// With this status and `Retry-After`, whatever is asked.
    Status(u16, Option<u64>),
    /// Closes the connection instead of answering.
    HangUp,
    /// Never answers.
    Silent,
}

struct State {
    mode: Mode,
    login_mode: Mode,
    password: String,
    user: &'static str,
    clock_offset: i64,
    refresh_token: Option<String>,
    previous: Option<String>,
    tokens: HashSet<String>,
    minted: usize,
    keys: Vec<Value>,
    logins: usize,
    refreshes: usize,
    probes: usize,
    calls: usize,
    devices: Vec<String>,
    headers: HeaderMap,
}

/// A server that answers as Audiobookshelf and as Jellyfin, as far as sessions go.
pub(super) struct FakeUpstream {
    port: u16,
    state: Mutex<State>,
    clock: Arc<ManualClock>,
    logout: Notify,
}

impl FakeUpstream {
    async fn start(clock: Arc<ManualClock>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State {
            mode: Mode::Normal,
            login_mode: Mode::Normal,
            password: "right".to_owned(),
            user: "user-1",
            clock_offset: 0,
            refresh_token: None,
            previous: None,
            tokens: HashSet::new(),
            minted: 0,
            keys: Vec::new(),
            logins: 0,
            refreshes: 0,
            probes: 0,
            calls: 0,
            devices: Vec::new(),
            headers: HeaderMap::new(),
        };
        let port = listener.local_addr().unwrap().port();
        let upstream = Arc::new(Self { port, state: Mutex::new(state), clock, logout: Notify::new() });
        let server = Arc::clone(&upstream);
        tokio::runtime::Handle::current().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = Arc::clone(&server);
                let service = hyper::service::service_fn(move |request| Arc::clone(&server).answer(request));
                let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::runtime::Handle::current().spawn(async move { drop(connection.await) });
            }
        });
        upstream
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        self.state().mode = mode;
    }

    pub(super) fn set_login_mode(&self, mode: Mode) {
        self.state().login_mode = mode;
    }

    pub(super) fn set_password(&self, password: &str) {
        self.state().password = password.to_owned();
    }

    pub(super) fn set_user(&self, user: &'static str) {
        self.state().user = user;
    }

    pub(super) fn set_clock_offset(&self, seconds: i64) {
        self.state().clock_offset = seconds;
    }

    pub(super) fn accept(&self, token: &str) {
        self.state().tokens.insert(token.to_owned());
    }

    pub(super) fn forget_sessions(&self) {
        let mut state = self.state();
        (state.refresh_token, state.previous) = (None, None);
        state.tokens.clear();
    }

    pub(super) fn end_grace(&self) {
        self.state().previous = None;
    }

    pub(super) fn logins(&self) -> usize {
        self.state().logins
    }

    pub(super) fn refreshes(&self) -> usize {
        self.state().refreshes
    }

    pub(super) fn probes(&self) -> usize {
        self.state().probes
    }

    /// How many API keys were made, and how many of them are there.
    pub(super) fn minted(&self) -> (usize, usize) {
        let state = self.state();
        (state.minted, state.keys.len())
    }

    pub(super) fn calls(&self) -> usize {
        self.state().calls
    }

    pub(super) fn devices(&self) -> Vec<String> {
        self.state().devices.clone()
    }

    pub(super) fn last_header(&self, name: &str) -> Option<String> {
        self.state().headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    pub(super) async fn logged_out(&self) {
        self.logout.notified().await;
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::io::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let is_login = matches!(head.uri.path(), "/login" | "/Users/AuthenticateByName");
        let mode = {
            let mut state = self.state();
            state.calls += 1;
            state.headers = head.headers.clone();
            if is_login && state.mode == Mode::Normal { state.login_mode } else { state.mode }
        };
        match mode {
            Mode::Normal => Ok(match head.uri.path().strip_prefix("/api/api-keys") {
                Some(rest) => self.api_keys(head.method.as_str(), rest.trim_start_matches('/'), &body),
                None => self.normal(head.uri.path(), &head.headers, &body),
            }),
            Mode::Status(status, retry_after) => {
                let mut response = reply(status, &Value::Null);
                if let Some(seconds) = retry_after {
                    response.headers_mut().insert("retry-after", HeaderValue::from(seconds));
                }
                Ok(response)
            }
            Mode::HangUp => Err(std::io::Error::other("hangs up")),
            Mode::Silent => std::future::pending().await,
        }
    }

    fn normal(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> Response<Full<Bytes>> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        match path {
            "/login" => self.login(body, "password"),
            "/Users/AuthenticateByName" => {
                let identity = text("authorization");
                self.state().devices.push(identity.split("DeviceId=").nth(1).unwrap().to_owned());
                self.login(body, "Pw")
            }
            "/auth/refresh" => self.refresh(&text("x-refresh-token")),
            "/api/me" => reply(200, &json!({ "id": self.state().user, "username": "alice" })),
            "/Users/Me" => {
                let mut state = self.state();
                state.probes += 1;
                let token = text("authorization").replace("MediaBrowser Token=", "").replace('"', "");
                if state.tokens.contains(&token) {
                    reply(200, &json!({ "Id": state.user, "Name": "alice" }))
                } else {
                    reply(401, &Value::Null)
                }
            }
            "/Sessions/Logout" | "/logout" => {
                self.logout.notify_one();
                reply(200, &Value::Null)
            }
            _ => reply(404, &Value::Null),
        }
    }

    /// Audiobookshelf's own API keys, for whoever asks.
    fn api_keys(&self, method: &str, id: &str, body: &[u8]) -> Response<Full<Bytes>> {
        let mut state = self.state();
        match method {
            "POST" => {
                let asked: Value = serde_json::from_slice(body).unwrap();
                state.minted += 1;
                let id = format!("key-{}", state.minted);
                let key = json!({ "id": id, "name": asked["name"], "userId": asked["userId"], "isActive": asked["isActive"] });
                state.keys.push(key.clone());
                let mut answer = key;
                answer["apiKey"] = json!(format!("jwt-of-{id}"));
                reply(200, &json!({ "apiKey": answer }))
            }
            "DELETE" => {
                state.keys.retain(|key| key["id"] != id);
                reply(200, &Value::Null)
            }
            _ => reply(200, &json!({ "apiKeys": state.keys })),
        }
    }

    fn login(&self, body: &[u8], field: &str) -> Response<Full<Bytes>> {
        let body: Value = serde_json::from_slice(body).unwrap();
        let mut state = self.state();
        state.logins += 1;
        if body[field] != state.password.as_str() {
            return reply(401, &Value::Null);
        }
        if field == "Pw" {
            let token = format!("token-{}", state.logins);
            state.tokens.insert(token.clone());
            return reply(200, &json!({ "User": { "Id": state.user, "Name": "alice" }, "AccessToken": token }));
        }
        state.refresh_token = Some(format!("refresh-of-login-{}", state.logins));
        state.previous = None;
        self.grant(&state)
    }

    /// The rotation of Audiobookshelf 2.36: the token before the current one is good within the grace and does not rotate.
    fn refresh(&self, token: &str) -> Response<Full<Bytes>> {
        let mut state = self.state();
        state.refreshes += 1;
        if state.refresh_token.as_deref() == Some(token) {
            state.previous = state.refresh_token.take();
            state.refresh_token = Some(format!("refresh-{}", state.refreshes));
        } else if state.previous.as_deref() != Some(token) {
            return reply(401, &json!({ "error": "Invalid refresh token" }));
        }
        self.grant(&state)
    }

    fn grant(&self, state: &State) -> Response<Full<Bytes>> {
        use crate::clock::Clock;
        let issued = self.clock.now().as_millis() / 1000 + state.clock_offset;
        let claims = json!({ "iat": issued, "exp": issued + 3600, "n": state.logins + state.refreshes });
        let token = format!("{}.{}.{}", URL_SAFE_NO_PAD.encode("{}"), URL_SAFE_NO_PAD.encode(claims.to_string()), "c2ln");
        let user = json!({
            "id": state.user, "username": "alice", "token": "permanent", "accessToken": token, "refreshToken": state.refresh_token
        });
        reply(200, &json!({ "user": user }))
    }
}

fn reply(status: u16, body: &Value) -> Response<Full<Bytes>> {
    Response::builder().status(status).body(Full::new(Bytes::from(body.to_string()))).unwrap()
}

// ---- all together ----

/// An upstream, a store with one account of it, and the sessions over both.
pub(super) struct Fixture {
    pub(super) upstream: Arc<FakeUpstream>,
    pub(super) store: Arc<FakeStore>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) sessions: Arc<Sessions>,
    kind: Kind,
}

impl Fixture {
    pub(super) async fn audiobookshelf() -> Self {
        Self::start(Kind::Audiobookshelf, Credential::Password(Secret::from("right"))).await
    }

    pub(super) async fn jellyfin() -> Self {
        Self::start(Kind::Jellyfin, Credential::Password(Secret::from("right"))).await
    }

    pub(super) async fn jellyfin_token(token: &str) -> Self {
        Self::start(Kind::Jellyfin, Credential::Token(Secret::from(token))).await
    }

    /// A minted account, and an administrator who is logged in.
    pub(super) async fn minted() -> Self {
        let fixture = Self::start(Kind::Audiobookshelf, Credential::Minted { user_id: "user-1".to_owned() }).await;
        let root = AccountRecord {
            id: ADMINISTRATOR,
            name: "root".to_owned(),
            is_administrator: true,
            ..record(Credential::Password(Secret::from("right")))
        };
        fixture.store.put_account(root.clone());
        fixture.sessions.put_account(root);
        fixture.sessions.current(SessionId { account: ADMINISTRATOR, key: None }, None).await.unwrap();
        fixture
    }

    async fn start(kind: Kind, credential: Credential) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_800_000_000)));
        let upstream = FakeUpstream::start(Arc::clone(&clock)).await;
        let store = Arc::new(FakeStore::default());
        store.accounts.lock().unwrap().insert(ACCOUNT, record(credential));
        let sessions = load(&store, &clock, kind, upstream.port);
        Self { upstream, store, clock, sessions, kind }
    }

    /// The same store and upstream, nothing else.
    pub(super) async fn restart(self) -> Self {
        let sessions = load(&self.store, &self.clock, self.kind, self.upstream.port);
        Self { sessions, ..self }
    }

    /// Points the upstream to a port on which nobody listens.
    pub(super) async fn nobody_listens(&self) -> u16 {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        self.sessions.set_upstreams(upstreams(self.kind, port, LONG));
        port
    }

    /// Makes the limit for an answer short.
    pub(super) fn answer_within(&self, limit: Duration) {
        self.sessions.set_upstreams(upstreams(self.kind, self.upstream.port, limit));
    }

    /// The account with a password, as the registry would hand it over.
    pub(super) fn account(&self, password: &str) -> AccountRecord {
        record(Credential::Password(Secret::from(password)))
    }

    pub(super) fn current_in_background(&self, id: SessionId) -> JoinHandle<Result<Arc<Session>, SessionError>> {
        let sessions = Arc::clone(&self.sessions);
        tokio::runtime::Handle::current().spawn(async move { sessions.current(id, None).await })
    }

    pub(super) fn replace_in_background(&self, stale: &Arc<Session>) -> JoinHandle<Result<Arc<Session>, SessionError>> {
        let (sessions, stale) = (Arc::clone(&self.sessions), Arc::clone(stale));
        tokio::runtime::Handle::current().spawn(async move { sessions.replace(&stale, None).await })
    }

    /// Waits for the flight that is in the air, if there is one.
    pub(super) async fn landed(&self, id: SessionId) {
        let flying = self.sessions.core.place(id).unwrap().slot.state().flying();
        if let Some(landing) = flying {
            drop(crate::upstream::session::core::landed(landing).await);
        }
    }
}

fn record(credential: Credential) -> AccountRecord {
    AccountRecord {
        id: ACCOUNT,
        upstream: UpstreamName::new("abs"),
        name: "alice".to_owned(),
        credential,
        device_id: "00112233445566778899aabbccddeeff".to_owned(),
        user_id: None,
        created_at: Timestamp::from_secs(1_800_000_000),
        broken: None,
        is_administrator: false,
    }
}

fn upstreams(kind: Kind, port: u16, limit: Duration) -> HashMap<UpstreamName, Arc<Upstream>> {
    let upstream = Upstream {
        name: UpstreamName::new("abs"),
        kind,
        host: "127.0.0.1".to_owned(),
        port,
        authority: HeaderValue::try_from(format!("127.0.0.1:{port}")).unwrap(),
        tls: None,
        base_path: String::new(),
        timeouts: Timeouts { connect: LONG, response_header: limit, pool_idle: Duration::from_secs(4) },
        session_per_key: kind != Kind::Audiobookshelf,
        health: Health::default(),
    };
    HashMap::from([(upstream.name.clone(), Arc::new(upstream))])
}

fn load(store: &Arc<FakeStore>, clock: &Arc<ManualClock>, kind: Kind, port: u16) -> Arc<Sessions> {
    let (store, clock) = (Arc::clone(store), Arc::clone(clock));
    Sessions::load(store, upstreams(kind, port, LONG), clock, tokio::runtime::Handle::current()).unwrap()
}
