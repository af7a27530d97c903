//! The upstream of the tests.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

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

use crate::clock::ManualClock;

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
    pub(super) port: u16,
    state: Mutex<State>,
    clock: Arc<ManualClock>,
    logout: Notify,
}

impl FakeUpstream {
    pub(super) async fn start(clock: Arc<ManualClock>) -> Arc<Self> {
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
