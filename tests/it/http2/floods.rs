//! Frames by hand, sent without end: the flooder may lose its connection, and nobody else notices.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use keygate::upstream::Kind;

use super::{exchange, get, secure};
use crate::support::tls::Trust;
use crate::support::wire::{Wire, eventually};
use crate::support::{Rig, Setup};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// RFC 9113, section 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).expect("short").to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// HPACK without tables: a literal that is not indexed, its name new (RFC 7541, section 6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("short");
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// A request's head, without a key: `POST` where a body is to follow.
fn head(method: &str) -> Vec<u8> {
    [(":method", method), (":scheme", "https"), (":path", "/api/libraries"), (":authority", "localhost")]
        .iter()
        .flat_map(|(name, value)| literal(name, value))
        .collect()
}

async fn open(rig: &Rig, trust: &Trust) -> Wire {
    let mut wire = Wire::over(trust.connect(rig.address, &["h2"]).await);
    wire.write([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, b"")].concat()).await;
    wire
}

/// Stream numbers of a client.
fn streams() -> impl Iterator<Item = u32> {
    (1..).step_by(2)
}

fn flood(kind: &str) -> Vec<u8> {
    const FRAMES: usize = 20_000;
    let again = |frame: Vec<u8>| frame.repeat(FRAMES);
    match kind {
        "resets" => streams()
            .take(FRAMES)
            .flat_map(|stream| {
                [frame(HEADERS, END_HEADERS | END_STREAM, stream, &head("GET")), frame(RESET, 0, stream, &8_u32.to_be_bytes())].concat()
            })
            .collect(),
        "continuations" => [frame(HEADERS, END_STREAM, 1, &head("GET")), again(frame(CONTINUATION, 0, 1, &literal("x-a", "a")))].concat(),
        "empty data" => [frame(HEADERS, END_HEADERS, 1, &head("POST")), again(frame(DATA, 0, 1, b""))].concat(),
        "settings" => again(frame(SETTINGS, 0, 0, b"")),
        "pings" => again(frame(PING, 0, 0, b"keygate!")),
        // Each names a stream that was never opened, or one that is over.
        "mistakes" => [frame(HEADERS, END_HEADERS | END_STREAM, 1, &head("GET")), again(frame(DATA, 0, 1, b"x"))].concat(),
        _ => unreachable!("{kind}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_frames_hurt_nobody_else_and_are_counted_out() {
    let trust = Trust::new();
    let rig = Setup::new(Kind::Audiobookshelf).tls(trust.certificate()).with(|config| config.server.threads = 1).start().await;
    let mut other = trust.http2(rig.address).await;
    for kind in ["resets", "continuations", "empty data", "settings", "pings", "mistakes"] {
        let mut wire = open(&rig, &trust).await;
        // It may be cut off in the middle; and nothing that it is answered is read.
        let flooding = tokio::spawn(async move {
            wire.try_write(&flood(kind)).await;
            wire
        });
        for _ in 0..5 {
            assert_eq!(exchange(&mut other, get(&rig, "/keygate-test/bytes/100")).await.body.len(), 100, "{kind}");
        }
        flooding.abort();
        let _ = flooding.await;
        eventually(kind, || rig.app().gateway.open_connections() == 1).await;
    }
    let seen = rig.standin.control().journal();
    assert!(!seen.iter().any(|seen| seen.path() == "/api/libraries"), "no frame of a flood was taken for a request with a key");
}

#[tokio::test(flavor = "multi_thread")]
async fn resets_before_a_request_is_looked_at_end_the_connection() {
    let trust = Trust::new();
    let rig = secure(&trust).await;
    for kind in ["resets", "continuations", "empty data"] {
        let mut wire = open(&rig, &trust).await;
        wire.try_write(&flood(kind)).await;
        let end = wire.rest().await;
        assert!(end.len() < 1 << 20, "{kind}: it is cut off, not served to the end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_as_long_as_it_says_is_never_a_whole_upload() {
    let trust = Trust::new();
    let rig = secure(&trust).await;
    let bearer = format!("Bearer {}", rig.secret());
    for (said, sent) in [("3", &b"hello"[..]), ("9", b"hello")] {
        let fields = [(":method", "POST"), (":scheme", "https"), (":path", "/keygate-test/upload"), (":authority", "localhost")];
        let mut block: Vec<u8> = fields.iter().flat_map(|(name, value)| literal(name, value)).collect();
        block.extend([literal("authorization", &bearer), literal("content-length", said)].concat());
        let mut wire = open(&rig, &trust).await;
        wire.write([frame(HEADERS, END_HEADERS, 1, &block), frame(DATA, END_STREAM, 1, sent)].concat()).await;
        // A ping after it: once that is answered, the body has been judged.
        wire.try_write(&frame(PING, 0, 0, b"keygate!")).await;
        let _ = wire.take(1).await;
        let mut other = trust.http2(rig.address).await;
        assert_eq!(exchange(&mut other, get(&rig, "/keygate-test/bytes/1")).await.body.len(), 1);
    }
    assert!(rig.standin.control().uploads().is_empty(), "{:?}", rig.standin.control().uploads().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_with_very_many_fields_is_refused_and_not_forwarded() {
    let trust = Trust::new();
    let rig = secure(&trust).await;
    let mut http2 = trust.http2(rig.address).await;
    let mut request = Request::get("https://localhost/keygate-test/echo").header("authorization", format!("Bearer {}", rig.secret()));
    for n in 0..400 {
        request = request.header(format!("x-{n}"), "");
    }
    let answer = exchange(&mut http2, request.body(Full::<Bytes>::default()).expect("a request")).await;
    assert_eq!(answer.status, 431);
    assert!(!rig.standin.control().journal().iter().any(|seen| seen.path() == "/keygate-test/echo"));
}
