//! WebSockets: nothing goes through before the upstream's 101, everything after it, and the ends belong together.

mod messages;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keygate::secret::Secret;
use keygate::upstream::{Credential, Kind};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::tls::Trust;
use crate::support::wire::{Wire, eventually, head, value};
use crate::support::{Rig, Setup};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const HANDSHAKE: &str =
    "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// RFC 6455, section 1.3.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::Audiobookshelf => "/socket.io/?EIO=4&transport=websocket",
        Kind::Emby => "/embywebsocket?deviceId=d",
        Kind::Jellyfin => "/socket?deviceId=d",
    }
}

/// A masked text frame.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match text.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0xff);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// Opcode and payload of the next frame.
async fn next(wire: &mut Wire) -> Option<(u8, Vec<u8>)> {
    let start = wire.take(2).await;
    let [first, second] = start.as_slice() else { return None };
    let length = match second {
        126 => usize::from(u16::from_be_bytes(wire.take(2).await.try_into().expect("a length"))),
        127 => u64::from_be_bytes(wire.take(8).await.try_into().expect("a length")) as usize,
        short => usize::from(*short),
    };
    Some((first & 0x0f, wire.take(length).await))
}

async fn open(rig: &Rig, kind: Kind) -> Wire {
    let mut wire = Wire::plain(rig.address).await;
    let target = format!("{}&api_key={}", path(kind), rig.secret());
    wire.write(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\r\n")).await;
    let answer = wire.head().await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{kind}: {answer}");
    assert_eq!(value(&answer, "sec-websocket-accept"), Some(ACCEPT));
    wire
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_of_all_kinds_open_with_a_key_speak_and_close() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        let mut wire = open(&rig, kind).await;
        let (opcode, hello) = next(&mut wire).await.expect("a greeting");
        assert_eq!(opcode, 1);
        let hello = String::from_utf8(hello).expect("text");
        let (say, expected) = match kind {
            Kind::Audiobookshelf => ("2hello".to_owned(), "3hello"),
            _ => (r#"{"MessageType":"KeepAlive"}"#.to_owned(), "KeepAlive"),
        };
        assert!(hello.contains(if kind == Kind::Audiobookshelf { "pingInterval" } else { "ForceKeepAlive" }), "{kind}: {hello}");
        wire.write(frame(&say)).await;
        let (_, answer) = next(&mut wire).await.expect("an answer");
        assert!(String::from_utf8_lossy(&answer).contains(expected), "{kind}");
        assert!(rig.standin.control().journal().iter().all(|seen| !seen.target.contains(rig.secret())), "{kind}");
        wire.write([0x88, 0x80, 0, 0, 0, 0]).await;
        assert_eq!(next(&mut wire).await.map(|(opcode, _)| opcode), Some(8), "{kind}");
        assert!(wire.rest().await.is_empty(), "{kind}");
        drop(wire);
        eventually("both ends are closed", || rig.standin.control().counters().open_sockets == 0).await;
        eventually("the connection is counted out", || rig.app().gateway.open_connections() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_takes_the_upstreams_socket_along_and_the_other_way_round() {
    let rig = Rig::new(Kind::Jellyfin).await;
    let control = rig.standin.control();
    let wire = open(&rig, Kind::Jellyfin).await;
    eventually("it is open", || control.counters().open_sockets == 1).await;
    assert_eq!(rig.app().gateway.open_connections(), 1, "a socket keeps its place in the count");
    drop(wire);
    eventually("it is closed", || control.counters().open_sockets == 0).await;
    let mut wire = open(&rig, Kind::Jellyfin).await;
    next(&mut wire).await.expect("a greeting");
    control.cut_connections();
    assert!(wire.rest().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_opens_over_tls_with_the_key_in_the_query() {
    let trust = Trust::new();
    for kind in Kind::ALL {
        let rig = Setup::new(kind).tls(trust.certificate()).start().await;
        let mut wire = Wire::over(trust.connect(rig.address, &["http/1.1"]).await);
        let target = format!("{}&api_key={}", path(kind), rig.secret());
        wire.write(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\r\n")).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 101"), "{kind}");
        assert_eq!(next(&mut wire).await.expect("a greeting").0, 1);
        // Messages far larger than any buffer on the way: there and back, or from the server alone.
        let large = "m".repeat(900_000);
        match kind {
            Kind::Audiobookshelf => wire.write(frame(&format!("2{large}"))).await,
            _ => rig.standin.control().push(&large),
        }
        let (_, got) = next(&mut wire).await.expect("the message");
        assert!(got.ends_with(large.as_bytes()) && got.len() <= large.len() + 1, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_without_a_key_or_with_a_bad_one_reaches_no_upstream() {
    for kind in Kind::ALL {
        let rig = Rig::new(kind).await;
        for key in ["", "&api_key=nothing"] {
            // Audiobookshelf's opens without one, and asks for it then.
            if key.is_empty() && kind == Kind::Audiobookshelf {
                continue;
            }
            let mut wire = Wire::plain(rig.address).await;
            wire.write(format!("GET {}{key} HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\r\n", path(kind))).await;
            assert!(wire.head().await.starts_with("HTTP/1.1 401"), "{kind} {key}");
        }
        // A socket is never public, not even where a path is open without a key.
        for open in ["/", "/ping", "/healthcheck", "/System/Info/Public", "/System/Ping"] {
            let mut wire = Wire::plain(rig.address).await;
            wire.write(format!("GET {open} HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\r\n")).await;
            assert!(wire.head().await.starts_with("HTTP/1.1 401"), "{kind} {open}");
        }
        assert_eq!(rig.standin.control().counters().connections, 0, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_upgrade_is_a_plain_answer_and_ends_the_connection() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let mut wire = Wire::plain(rig.address).await;
    wire.write(head(&rig, "GET", "/ping", HANDSHAKE)).await;
    let answer = wire.head().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(String::from_utf8(wire.rest().await).expect("text").contains("success"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_session_is_renewed_before_a_socket_opens() {
    let rig = Rig::new(Kind::Jellyfin).await;
    drop(open(&rig, Kind::Jellyfin).await);
    rig.standin.control().kill_all_tokens();
    let mut wire = open(&rig, Kind::Jellyfin).await;
    assert!(next(&mut wire).await.is_some());
    assert_eq!(rig.standin.control().counters().logins, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_socket_is_closed_and_a_talking_one_is_not() {
    let limit = Duration::from_millis(400);
    let rig = Setup::new(Kind::Jellyfin).with(move |config| config.limits.idle_timeout = limit).start().await;
    let mut talking = open(&rig, Kind::Jellyfin).await;
    let mut idle = open(&rig, Kind::Jellyfin).await;
    next(&mut talking).await.expect("a greeting");
    next(&mut idle).await.expect("a greeting");
    let talk = async {
        loop {
            talking.write(frame(r#"{"MessageType":"KeepAlive"}"#)).await;
            next(&mut talking).await.expect("it stays open");
            tokio::time::sleep(limit / 8).await;
        }
    };
    tokio::select! {
        () = talk => {}
        rest = idle.rest() => assert!(rest.is_empty()),
    }
}

/// Raises the soft limit of descriptors to the hard one, as the program itself does, and tells it.
fn descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_idle_sockets_stay_open_side_by_side() {
    let rig = Rig::new(Kind::Jellyfin).await;
    // Each takes four descriptors of this process, which holds both ends of everything.
    let count = if descriptors() >= 8192 { 1000 } else { 100 };
    let mut sockets = Vec::new();
    for _ in 0..count {
        sockets.push(open(&rig, Kind::Jellyfin).await);
    }
    for socket in &mut sockets {
        next(socket).await.expect("a greeting");
    }
    rig.standin.control().push("to all");
    for socket in &mut sockets {
        assert_eq!(next(socket).await, Some((1, b"to all".to_vec())));
    }
    assert_eq!(rig.app().gateway.open_connections(), count);
    drop(sockets);
    eventually("all are closed", || rig.standin.control().counters().open_sockets == 0).await;
    eventually("all are counted out", || rig.app().gateway.open_connections() == 0).await;
}

/// A gateway in front of an upstream that a test plays itself.
async fn played() -> (Rig, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let setup = Setup::new(Kind::Jellyfin).credential(Credential::Token(Secret::from("static-token")));
    (setup.with(move |config| config.upstreams[0].port = port).start().await, listener)
}

async fn accept(listener: &TcpListener) -> Wire {
    Wire::over(listener.accept().await.expect("a connection").0)
}

#[tokio::test(flavor = "multi_thread")]
async fn early_bytes_wait_for_the_101_and_then_go_through_in_order() {
    let (rig, listener) = played().await;
    let mut client = Wire::plain(rig.address).await;
    let offer = format!("{HANDSHAKE}Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n");
    let early = crate::support::socket::frame(0x89, b"early and more", Some([4, 3, 2, 1]));
    client.write([head(&rig, "GET", "/socket", &offer).as_bytes(), &early[..9]].concat()).await;
    let mut upstream = accept(&listener).await;
    let handshake = upstream.head().await;
    assert_eq!(value(&handshake, "sec-websocket-key"), Some(KEY));
    assert_eq!(value(&handshake, "sec-websocket-extensions"), None, "compressed messages could not be looked through");
    assert_eq!((value(&handshake, "connection"), value(&handshake, "upgrade")), (Some("Upgrade"), Some("websocket")));
    client.write(&early[9..]).await;
    assert!(upstream.nothing_comes().await, "bytes went upstream before its 101");
    let accepted = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\
         Set-Cookie: a=b\r\n\r\n"
    );
    upstream.write([accepted.as_bytes(), b"\x01\x05first\x80\x06 words"].concat()).await;
    let answer = client.head().await;
    assert_eq!(value(&answer, "set-cookie"), None);
    assert_eq!(client.take(15).await, b"\x01\x05first\x80\x06 words");
    assert_eq!(upstream.take(early.len()).await, early);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_101_that_does_not_prove_itself_is_refused() {
    let wrong = STANDARD.encode(Sha1::digest(b"something else"));
    let heads = [
        format!("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {wrong}\r\n"),
        "Upgrade: websocket\r\nConnection: Upgrade\r\n".to_owned(),
        format!("Upgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n"),
        format!(
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"
        ),
    ];
    for lines in heads {
        let (rig, listener) = played().await;
        let mut client = Wire::plain(rig.address).await;
        client.write(head(&rig, "GET", "/socket", HANDSHAKE)).await;
        let mut upstream = accept(&listener).await;
        upstream.head().await;
        upstream.write(format!("HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 502"), "{lines}");
        assert!(upstream.rest().await.is_empty(), "its connection is closed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_cross_in_both_directions_at_once_while_readers_are_slow() {
    const BYTES: usize = 8 << 20;
    let trust = Trust::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let setup = Setup::new(Kind::Jellyfin).credential(Credential::Token(Secret::from("static-token")));
    let rig = setup.with(move |config| config.upstreams[0].port = port).tls(trust.certificate()).start().await;
    let mut client = trust.connect(rig.address, &["http/1.1"]).await;
    client.write_all(head(&rig, "GET", "/socket", HANDSHAKE).as_bytes()).await.expect("written");
    let (mut upstream, _) = listener.accept().await.expect("a connection");
    let mut buffer = [0; 8192];
    let _ = upstream.read(&mut buffer).await.expect("a handshake");
    let accepted = format!("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n");
    upstream.write_all(accepted.as_bytes()).await.expect("written");
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        got.push(client.read_u8().await.expect("a 101"));
    }
    // What goes down is a text of one frame, a binary one, and another text in pieces: each of them looked through or not.
    let mut data = crate::support::socket::frame(0x81, &vec![b'm'; BYTES / 4], None);
    data.extend(crate::support::socket::frame(0x82, &(0..BYTES / 2).map(|n| (n * 13 % 251) as u8).collect::<Vec<_>>(), None));
    data.extend(crate::support::socket::frame(0x01, &vec![b'a'; BYTES / 8], None));
    data.extend(crate::support::socket::frame(0x80, &vec![b'b'; BYTES / 8], None));
    // What goes up is judged message by message: texts and binary ones, whole and in pieces.
    let message = format!(r#"{{"MessageType":"Something","Data":"{}"}}"#, "u".repeat(200_000)).into_bytes();
    let (begin, end) = message.split_at(70_000);
    let mut sent = Vec::new();
    while sent.len() < BYTES {
        let mask = Some([7, 77, 177, 17]);
        for (first, payload) in [(0x81, &message[..]), (0x82, &message), (0x01, begin), (0x80, end)] {
            sent.extend(crate::support::socket::frame(first, payload, mask));
        }
    }
    let ((mut client_read, mut client_write), (mut upstream_read, mut upstream_write)) =
        (tokio::io::split(client), tokio::io::split(upstream));
    let down = async {
        // Everything is written, and then nothing more: what lies in a buffer on the way must still come.
        upstream_write.write_all(&data).await.expect("written");
    };
    let up = async {
        client_write.write_all(&sent).await.expect("written");
        client_write.flush().await.expect("flushed");
    };
    let read_down = async {
        let mut got = vec![0; data.len()];
        // The gateway's writes find no room at first.
        tokio::time::sleep(Duration::from_millis(100)).await;
        client_read.read_exact(&mut got).await.expect("all of it");
        got
    };
    let read_up = async {
        let mut got = vec![0; sent.len()];
        tokio::time::sleep(Duration::from_millis(100)).await;
        upstream_read.read_exact(&mut got).await.expect("all of it");
        got
    };
    let all = async { tokio::join!(down, up, read_down, read_up) };
    let ((), (), to_client, to_upstream) = tokio::time::timeout(crate::support::http::PATIENCE, all).await.expect("in time");
    assert!(to_client == data && to_upstream == sent);
}
