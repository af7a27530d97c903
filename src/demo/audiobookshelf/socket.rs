//! Engine.IO 4 and socket.io 5, as much as Audiobookshelf's clients use: both transports, the upgrade between them, the `auth` event.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::{Notify, broadcast, mpsc};

use crate::demo::answer::{self, Answer};
use crate::demo::body::Body;
use crate::demo::call::Call;
use crate::demo::control::lock;
use crate::demo::random;
use crate::demo::standin::Server;
use crate::demo::websocket::{self, Out, Outbox};

/// Interval of the server's pings.
const PING: Duration = Duration::from_secs(25);
/// Polls hold at most this many bytes, as `maxPayload` says.
const POLL_LIMIT: usize = 1_000_000;

/// All open Engine.IO sessions.
#[derive(Default)]
pub(in crate::demo) struct Sockets {
    open: Mutex<HashMap<String, Arc<Session>>>,
}

/// One Engine.IO session.
struct Session {
    sid: String,
    /// Packets that wait for a poll.
    waiting: Mutex<VecDeque<String>>,
    arrived: Notify,
    /// Where packets go once a WebSocket has taken over.
    socket: Mutex<Option<Outbox>>,
    /// Told when one has.
    taken_over: Notify,
    is_known: Mutex<bool>,
    is_admin: Mutex<bool>,
    /// What a test or another request pushes; whichever transport sends now reads it.
    pushes: tokio::sync::Mutex<broadcast::Receiver<String>>,
}

/// `/socket.io/?EIO=4&transport=…`. Opening one needs no credential.
pub(super) async fn route(server: &Arc<Server>, call: &mut Call) -> Answer {
    let transport = call.parameters("transport").into_iter().next().unwrap_or_default();
    let session = match call.parameters("sid").first() {
        Some(sid) => lock(&server.sockets.open).get(sid).cloned(),
        None => Some(open(server)),
    };
    let Some(session) = session else {
        return Some(answer::json_with(StatusCode::BAD_REQUEST, &json!({"code": 1, "message": "Session ID unknown"})));
    };
    let is_new = call.parameters("sid").is_empty();
    match (transport.as_str(), &call.parts.method) {
        ("websocket", _) if call.is_upgrade() => upgrade(server, call, session, is_new),
        ("polling", &Method::GET) => Some(poll(&session, is_new).await),
        ("polling", &Method::POST) if !is_new => Some(take_packets(server, call, &session).await),
        _ => Some(answer::json_with(StatusCode::BAD_REQUEST, &json!({"code": 0, "message": "Transport unknown"}))),
    }
}

fn open(server: &Arc<Server>) -> Arc<Session> {
    let session = Arc::new(Session {
        sid: random::hex(10),
        waiting: Mutex::default(),
        arrived: Notify::new(),
        socket: Mutex::default(),
        taken_over: Notify::new(),
        is_known: Mutex::new(false),
        is_admin: Mutex::new(false),
        pushes: tokio::sync::Mutex::new(server.control.pushes()),
    });
    lock(&server.sockets.open).insert(session.sid.clone(), Arc::clone(&session));
    session
}

impl Session {
    fn hello(&self, upgrades: &[&str]) -> String {
        let offer = json!({"sid": self.sid, "upgrades": upgrades, "pingInterval": PING.as_millis() as u64, "pingTimeout": 20_000, "maxPayload": POLL_LIMIT});
        format!("0{offer}")
    }

    fn send(&self, packet: String) {
        match &*lock(&self.socket) {
            // A socket that is gone takes its session along.
            Some(outbox) => drop(outbox.send(Out::Text(packet))),
            None => {
                lock(&self.waiting).push_back(packet);
                self.arrived.notify_one();
            }
        }
    }

    /// Everything that waits, in the form of a poll's answer.
    fn drain(&self) -> Option<String> {
        let packets: Vec<_> = lock(&self.waiting).drain(..).collect();
        (!packets.is_empty()).then(|| packets.join("\u{1e}"))
    }

    /// Takes one packet of the client.
    fn take(&self, server: &Server, packet: &str) {
        match packet.as_bytes() {
            [b'4', b'0', ..] => self.send(format!("40{}", json!({"sid": random::hex(10)}))),
            [b'4', b'2', ..] => self.event(server, &packet[2..]),
            [b'4', b'1', ..] | [b'1', ..] => drop(lock(&server.sockets.open).remove(&self.sid)),
            [b'2', rest @ ..] => self.send(format!("3{}", String::from_utf8_lossy(rest))),
            _ => {}
        }
    }

    /// An event: `auth` is the only one that matters; the last one wins.
    fn event(&self, server: &Server, text: &str) {
        let array = text.find('[').map_or("", |at| &text[at..]);
        let Ok(Value::Array(event)) = serde_json::from_str(array) else { return };
        match event.first().and_then(Value::as_str) {
            Some("auth") => {}
            Some("set_log_listener") if *lock(&self.is_admin) => return self.send(r#"42["log",{"message":"a line"}]"#.to_owned()),
            _ => return,
        }
        let ledger = server.control.ledger();
        let token = event.get(1).and_then(Value::as_str).unwrap_or_default();
        // API keys do not open the socket in 2.36.
        let is_key = ledger.claims(token).is_ok_and(|claims| claims["type"] == "api");
        let account = ledger.bearer(token).filter(|_| !is_key);
        *lock(&self.is_known) = account.is_some();
        *lock(&self.is_admin) = account.is_some_and(|account| account.is_admin);
        let reply = match account {
            Some(account) if account.is_admin => {
                json!(["init", {"userId": account.id, "username": account.name, "usersOnline": []}])
            }
            Some(account) => json!(["init", {"userId": account.id, "username": account.name}]),
            None => json!(["auth_failed", {"message": "Invalid token"}]),
        };
        drop(ledger);
        self.send(format!("42{reply}"));
    }
}

/// Waits for packets; a ping comes when nothing else does.
async fn poll(session: &Session, is_new: bool) -> Response<Body> {
    if is_new {
        return polled(session.hello(&["websocket"]), "text/plain; charset=UTF-8");
    }
    let mut pushes = session.pushes.lock().await;
    loop {
        if let Some(packets) = session.drain() {
            return polled(packets, "text/plain; charset=UTF-8");
        }
        if lock(&session.socket).is_some() {
            // Engine.IO's "nothing": a WebSocket has taken over.
            return polled("6".to_owned(), "text/plain; charset=UTF-8");
        }
        tokio::select! {
            () = session.arrived.notified() => {}
            pushed = pushes.recv() => {
                if let (Ok(pushed), true) = (pushed, *lock(&session.is_known)) {
                    lock(&session.waiting).push_back(pushed);
                }
            }
            () = tokio::time::sleep(PING) => return polled("2".to_owned(), "text/plain; charset=UTF-8"),
        }
    }
}

async fn take_packets(server: &Server, call: &mut Call, session: &Session) -> Response<Body> {
    let body = match call.body.take() {
        Some(body) => body.collect().await.map(|whole| whole.to_bytes()).unwrap_or_default(),
        None => bytes::Bytes::new(),
    };
    if body.len() > POLL_LIMIT {
        return answer::empty(StatusCode::PAYLOAD_TOO_LARGE);
    }
    for packet in String::from_utf8_lossy(&body).split('\u{1e}') {
        session.take(server, packet);
    }
    polled("ok".to_owned(), "text/html")
}

fn polled(text: String, content_type: &str) -> Response<Body> {
    let mut response = answer::text(StatusCode::OK, content_type, text);
    response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A WebSocket: a session of its own, or one that takes over from polling (`2probe`, `3probe`, `5`).
fn upgrade(server: &Arc<Server>, call: &mut Call, session: Arc<Session>, is_new: bool) -> Answer {
    let response = websocket::accept(call);
    let on_upgrade = call.take_upgrade()?;
    let (outbox, queue) = mpsc::unbounded_channel();
    if is_new {
        // The queue is open: this cannot fail.
        let _ = outbox.send(Out::Text(session.hello(&[])));
        *lock(&session.socket) = Some(outbox.clone());
        session.taken_over.notify_one();
    }
    let (inner, to_client) = (Arc::clone(server), outbox.clone());
    let task = async move {
        let upgraded = on_upgrade.await.map_err(std::io::Error::other)?;
        let _gone = Gone(Arc::clone(&inner), session.sid.clone());
        let (reading, writing) = (Arc::clone(&session), to_client.clone());
        let server = Arc::clone(&inner);
        let socket = websocket::serve(upgraded, outbox, queue, move |packet| match packet.as_str() {
            "2probe" => {
                // Ends a poll that waits, so that the client may upgrade.
                reading.send("6".to_owned());
                drop(to_client.send(Out::Text("3probe".to_owned())));
            }
            "5" => take_over(&reading, &to_client),
            packet => reading.take(&server, packet),
        });
        tokio::select! {
            ended = socket => ended,
            () = feed(&session, &writing) => Ok(()),
        }
    };
    server.run_socket(task);
    Some(response)
}

/// Ends the poll that still waits and moves what it would have got.
fn take_over(session: &Session, outbox: &Outbox) {
    let mut socket = lock(&session.socket);
    for packet in lock(&session.waiting).drain(..) {
        // The socket may have closed meanwhile; then its task ends everything.
        let _ = outbox.send(Out::Text(packet));
    }
    *socket = Some(outbox.clone());
    session.arrived.notify_one();
    session.taken_over.notify_one();
}

/// Pings, and the messages that a test pushes to sockets whose user is known. Never returns while the socket lives.
async fn feed(session: &Session, outbox: &Outbox) {
    // Until then polls are what reads them.
    session.taken_over.notified().await;
    let mut pushes = session.pushes.lock().await;
    loop {
        let packet = tokio::select! {
            pushed = pushes.recv() => match pushed {
                Ok(pushed) if *lock(&session.is_known) => pushed,
                _ => continue,
            },
            () = tokio::time::sleep(PING) => "2".to_owned(),
        };
        if outbox.send(Out::Text(packet)).is_err() {
            return;
        }
    }
}

/// Forgets the session when its socket ends.
struct Gone(Arc<Server>, String);

impl Drop for Gone {
    fn drop(&mut self) {
        lock(&self.0.sockets.open).remove(&self.1);
    }
}
