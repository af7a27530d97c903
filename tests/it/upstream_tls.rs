//! Media servers behind `https://`: what passes, who is trusted, what an operator reads when somebody is not.

mod messages;
mod operators;

use std::time::Duration;

use http::Method;
use keygate::gateway::routing;
use keygate::secret::Secret;
use keygate::upstream::call::CallError;
use keygate::upstream::survey::survey;
use keygate::upstream::tls::Trust;
use keygate::upstream::{Credential, Kind};
use rustls::HandshakeKind;
use sha2::{Digest, Sha256};

use crate::support::front::{Authority, Front, Pair};
use crate::support::wire::{Wire, eventually};
use crate::support::{Rig, Setup, http as client};

/// A gateway on one core whose stand-in is reached through a front.
async fn rig(kind: Kind, front: &Front, trust: Option<Trust>, pool_idle: Duration) -> Rig {
    let (set_port, address) = (front.port_setter(), front.address);
    let setup = Setup::new(kind).with(move |config| {
        let upstream = &mut config.upstreams[0];
        set_port(upstream.port);
        upstream.port = address.port();
        upstream.tls = trust;
        upstream.timeouts.pool_idle = pool_idle;
        config.server.threads = 1;
    });
    setup.start().await
}

const IDLE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_uploads_and_streams_go_over_one_encrypted_connection() {
    let authority = Authority::new("Home CA");
    let front = Front::start(&authority.leaf()).await;
    let rig = rig(Kind::Audiobookshelf, &front, authority.trust(), IDLE).await;
    assert_eq!(rig.get("/api/libraries").await.status, 200);
    let before = front.handshakes().len();
    assert_eq!(before, 2, "one for the login, which is a call of keygate's own, and one for the pool");
    for _ in 0..5 {
        assert_eq!(rig.get("/api/libraries").await.status, 200);
    }
    let body: Vec<u8> = (0..8 << 20).map(|n: usize| (n * 7 % 253) as u8).collect();
    let bearer = format!("Bearer {}", rig.secret());
    let answer = client::send(rig.address, Method::POST, "/keygate-test/upload", &[("authorization", &bearer)], body.clone()).await;
    let digest: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(answer.json()["sha256"], digest.as_str());
    let stream = rig.get("/keygate-test/bytes/8000000").await;
    let pattern: Vec<u8> = (0..8_000_000_usize).map(|n| ((n % 65_521) * 31 / 7) as u8).collect();
    assert!(stream.status == 200 && stream.body == pattern);
    assert_eq!(front.handshakes().len(), before, "one connection carried all of it");
    assert!(rig.standin.control().journal().iter().all(|seen| seen.header("host").is_some_and(|host| host.contains("127.0.0.1"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn new_connections_resume_the_session_of_earlier_ones() {
    let pair = Pair::of_openssl("home");
    let front = Front::start(&pair).await;
    let rig = rig(Kind::Audiobookshelf, &front, pair.pin(), Duration::ZERO).await;
    for _ in 0..4 {
        assert_eq!(rig.get("/api/libraries").await.status, 200);
    }
    let handshakes = front.handshakes();
    assert_eq!(handshakes.len(), 5);
    let is_resumed = |kind: &&Option<HandshakeKind>| **kind == Some(HandshakeKind::Resumed);
    assert!(handshakes.iter().filter(is_resumed).count() >= 3, "{handshakes:?}");
    assert!(!is_resumed(&&handshakes[0]), "{handshakes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_open_speak_and_close_over_an_encrypted_connection() {
    let pair = Pair::of_openssl("home");
    let front = Front::start(&pair).await;
    let rig = rig(Kind::Jellyfin, &front, pair.pin(), IDLE).await;
    let mut wire = Wire::plain(rig.address).await;
    let handshake =
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let target = format!("/socket?deviceId=d&api_key={}", rig.secret());
    wire.write(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{handshake}\r\n")).await;
    let answer = wire.head().await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    let mut text = async |expected: &str| {
        let start = wire.take(2).await;
        assert_eq!(start[0], 0x81, "a whole text message");
        let said = wire.take(usize::from(start[1])).await;
        assert!(String::from_utf8_lossy(&said).contains(expected), "{expected} in {said:?}");
        // Nothing follows on it by itself: what TLS holds back would never come.
        let mut frame = vec![0x81, 0x80 | 27, 0, 0, 0, 0];
        frame.extend_from_slice(br#"{"MessageType":"KeepAlive"}"#);
        wire.write(frame).await;
    };
    text("ForceKeepAlive").await;
    text("KeepAlive").await;
    text("KeepAlive").await;
    let control = rig.standin.control();
    assert_eq!(control.counters().open_sockets, 1);
    drop(wire);
    eventually("the upstream's end is closed", || control.counters().open_sockets == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_reaches_a_server_that_is_not_trusted_and_its_clients_read_502() {
    let (pair, other) = (Pair::of_openssl("home"), Pair::of_openssl("home"));
    let front = Front::start(&other).await;
    let rig = rig(Kind::Audiobookshelf, &front, pair.pin(), IDLE).await;
    let answer = rig.get("/api/libraries").await;
    assert_eq!(answer.status, 502);
    assert!(!answer.text().contains("sha256"), "what an operator reads is not for clients: {}", answer.text());
    // A route that needs no session goes by the pool.
    assert_eq!(client::get(rig.address, "/status", &[]).await.status, 502);
    assert_eq!(rig.standin.control().counters().requests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_for_a_connection_includes_the_handshake() {
    // The system accepts, nobody reads.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let setup = Setup::new(Kind::Audiobookshelf).credential(Credential::Token(Secret::from("static-token"))).with(move |config| {
        let upstream = &mut config.upstreams[0];
        (upstream.port, upstream.tls) = (port, Pair::of_openssl("home").pin());
        upstream.timeouts.connect = Duration::from_millis(200);
    });
    let rig = setup.start().await;
    // By the pool, by a connection for a socket, and by a call of keygate's own.
    assert_eq!(rig.get("/api/libraries").await.status, 504);
    let mut wire = Wire::plain(rig.address).await;
    let handshake =
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    wire.write(format!("GET /keygate-test/socket HTTP/1.1\r\nHost: localhost\r\nX-Emby-Token: {}\r\n{handshake}\r\n", rig.secret())).await;
    let answer = wire.head().await;
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");
    let asked = survey(&routing::upstream(&rig.config.upstreams[0])).await;
    assert!(matches!(asked, Err(CallError::Timeout { .. })), "{asked:?}");
}
