//! A key that dies ends what runs on it: answers, uploads, requests that wait; and nothing that runs on another key.

mod causes;
mod time;
mod trials;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use keygate::clock::{ManualClock, Timestamp};
use keygate::keys::{ApiKey, Scopes};
use keygate::registry::{KeyPatch, NewKey};
use keygate::store::records::AccountRecord;
use keygate::upstream::Kind;

use crate::support::http::PATIENCE;
use crate::support::tls::Trust;
use crate::support::wire::Wire;
use crate::support::{Rig, Setup, make_key, manual_clock};

/// An answer that sends a first piece and then nothing for an hour.
const SILENT: &str = "/keygate-test/slow?pause=3600000";
/// An answer that is larger than every buffer on its way.
const LARGE: &str = "/keygate-test/bytes/1000000000";
/// A request that is never answered.
const NEVER: &str = "/keygate-test/never";

/// A gateway with a clear and a TLS listener, one account each for alice and root, and a clock that is moved by hand.
struct Scene {
    rig: Rig,
    trust: Trust,
    clock: Arc<ManualClock>,
    other_account: AccountRecord,
}

impl Scene {
    async fn new(kind: Kind) -> Self {
        let (trust, clock) = (Trust::new(), manual_clock());
        let setup = Setup::new(kind).tls(trust.certificate()).clock(Arc::clone(&clock) as _);
        let setup = setup.with(|config| config.server.listen_plain = vec!["127.0.0.1:0".parse().expect("address")]);
        let rig = setup.start().await;
        let upstream = rig.account.upstream.clone();
        let credential = keygate::upstream::Credential::Password("root-password".into());
        let other_account = rig.keep().registry.add_account(upstream, "root".to_owned(), credential).expect("an account");
        Self { rig, trust, clock, other_account }
    }

    /// A key for alice that lives for an hour.
    fn key(&self) -> ApiKey {
        let expires_at = Some(self.now().plus(Duration::from_secs(3600)));
        let account = self.rig.account.id;
        let new = NewKey {
            name: "mortal".to_owned(),
            account,
            expires_at,
            is_active: true,
            scopes: Scopes::FULL,
            libraries: None,
            limits: keygate::limits::Limits::default(),
            created_by: "test".to_owned(),
        };
        self.rig.keep().registry.create_key(new).expect("a key").key
    }

    fn now(&self) -> Timestamp {
        keygate::clock::Clock::now(&*self.clock)
    }

    async fn plain(&self) -> Wire {
        Wire::plain(self.rig.app().addresses()[1]).await
    }

    /// Asks over HTTP/1 and gives the connection.
    async fn ask(&self, key: &ApiKey, method: &str, path: &str, lines: &str) -> Wire {
        let mut wire = self.plain().await;
        wire.write(head(key, method, path, lines)).await;
        wire
    }

    /// Asks over HTTP/1 and gives the connection once the answer has begun.
    async fn answered(&self, key: &ApiKey, path: &str) -> Wire {
        let mut wire = self.ask(key, "GET", path, "").await;
        let head = wire.head().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        wire
    }

    /// How many requests for a path the stand-in saw.
    fn arrived(&self, path: &str) -> usize {
        let path = path.split('?').next().unwrap_or_default();
        self.rig.standin.control().journal().iter().filter(|seen| seen.path() == path).count()
    }
}

fn head(key: &ApiKey, method: &str, path: &str, lines: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{lines}\r\n", key.expose())
}

fn get(key: &ApiKey, path: &str) -> Request<Full<Bytes>> {
    let request = Request::get(format!("https://localhost{path}")).header("authorization", format!("Bearer {}", key.expose()));
    request.body(Full::default()).expect("a request")
}

/// Starts an HTTP/2 request and gives the body once the answer has begun.
async fn started(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> hyper::body::Incoming {
    sender.ready().await.expect("ready");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body()
}

/// Whether a body ends with an error, however much of it comes first.
async fn breaks_off(mut body: hyper::body::Incoming) -> bool {
    let ended = async {
        loop {
            match body.frame().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => return true,
                None => return false,
            }
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("an end in time")
}

/// What a client must see of an answer without a length that was cut: no end of its chunks.
fn is_cut(body: &[u8]) -> bool {
    !body.ends_with(b"0\r\n\r\n")
}

/// What an unknown key is answered, without the date.
async fn invalid_key(scene: &Scene) -> String {
    let mut wire = scene.plain().await;
    wire.write("GET /api/libraries HTTP/1.1\r\nHost: localhost\r\nX-Emby-Token: nothing\r\n\r\n").await;
    refusal(&mut wire).await
}

/// One whole answer that has a length, without its date.
async fn refusal(wire: &mut Wire) -> String {
    let head = wire.head().await;
    let length = crate::support::wire::value(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let head: Vec<_> = head.lines().filter(|line| !line.starts_with("date")).collect();
    format!("{}\r\n{}", head.join("\r\n"), String::from_utf8_lossy(&wire.take(length).await))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_complete_stays_complete() {
    let scene = Scene::new(Kind::Audiobookshelf).await;
    let key = scene.key();
    let mut wire = scene.answered(&key, "/keygate-test/bytes/5").await;
    assert_eq!(wire.take(5).await.len(), 5);
    scene.rig.keep().registry.revoke_key(key.id()).expect("revoked");
    wire.write(head(&key, "GET", "/keygate-test/bytes/5", "")).await;
    assert_eq!(refusal(&mut wire).await, invalid_key(&scene).await, "the connection lives on, the key does not");
}
