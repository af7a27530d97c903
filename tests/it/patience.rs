//! Who is cut off, and who is not: limits are on silence, never on how long something takes.

use std::time::Duration;

use keygate::config::Config;
use keygate::upstream::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::net::TcpStream;
use crate::support::tls::Trust;
use crate::support::wire::{CLOSED, Scripted, Wire, eventually, head};
use crate::support::{Rig, Setup};

const SHORT: Duration = Duration::from_millis(300);

async fn rig(adjust: impl FnOnce(&mut Config) + Send + 'static) -> Rig {
    Setup::new(Kind::Audiobookshelf).with(adjust).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_no_whole_head_is_cut_off() {
    let rig = rig(|config| config.limits.header_timeout = SHORT).await;
    for part in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "] {
        let mut wire = Wire::plain(rig.address).await;
        wire.write(part).await;
        assert!(wire.rest().await.is_empty(), "{part:?}");
    }
    // One byte at a time, for as long as it is let.
    let mut wire = Wire::plain(rig.address).await;
    wire.write("GET / HTTP/1.1\r\nX-Slow: ").await;
    let mut bytes = 0;
    while wire.try_write(b"x").await {
        bytes += 1;
        assert!(bytes < 1000, "a head may not grow for ever");
        tokio::time::sleep(SHORT / 10).await;
    }
    eventually("all are counted out", || rig.app().gateway.open_connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_makes_no_tls_handshake_is_cut_off() {
    let trust = Trust::new();
    let setup = Setup::new(Kind::Audiobookshelf).tls(trust.certificate());
    let rig = setup.with(|config| config.limits.header_timeout = SHORT).start().await;
    for part in [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"] {
        let mut wire = Wire::plain(rig.address).await;
        wire.write(part).await;
        assert!(!wire.rest().await.starts_with(b"HTTP/"), "{part:?}");
    }
    // Told that it came without TLS, a client may not stay for that reason.
    let mut wire = Wire::plain(rig.address).await;
    wire.write("GET / HTTP/1.1\r\nX-Slow: ").await;
    assert!(wire.rest().await.starts_with(b"HTTP/1.1 400"));
    // A handshake, and then nothing, for both protocols.
    for protocol in ["h2", "http/1.1"] {
        let mut wire = Wire::over(trust.connect(rig.address, &[protocol]).await);
        wire.rest().await;
    }
    eventually("all are counted out", || rig.app().gateway.open_connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_and_a_used_one_is_not() {
    let rig = rig(|config| config.limits.keep_alive_timeout = SHORT).await;
    let mut wire = Wire::plain(rig.address).await;
    for _ in 0..8 {
        wire.write(head(&rig, "GET", "/keygate-test/bytes/3", "")).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 200"));
        wire.take(3).await;
        tokio::time::sleep(SHORT / 4).await;
    }
    assert!(wire.rest().await.is_empty());
    eventually("it is counted out", || rig.app().gateway.open_connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_head_that_does_not_end_is_cut_off_long_before_an_idle_connection_would_be() {
    let rig = rig(|config| config.limits.header_timeout = SHORT).await;
    let mut wire = Wire::plain(rig.address).await;
    wire.write(head(&rig, "GET", "/keygate-test/bytes/3", "")).await;
    wire.head().await;
    wire.take(3).await;
    wire.write("GET / HTTP/1.1\r\nX-Slow: ").await;
    let mut bytes = 0;
    while wire.try_write(b"x").await {
        bytes += 1;
        assert!(bytes < 500, "a head may not grow for ever");
        tokio::time::sleep(SHORT / 10).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_stream_is_cut_and_one_that_trickles_is_not() {
    let rig = rig(|config| config.limits.idle_timeout = SHORT).await;
    let mut stalled = Wire::plain(rig.address).await;
    stalled.write(head(&rig, "GET", "/keygate-test/slow?pause=3600000", "")).await;
    stalled.head().await;
    assert!(!stalled.rest().await.ends_with(b"0\r\n\r\n"));
    eventually("the upstream's side ends too", || rig.standin.control().counters().aborted_answers == 1).await;
    // Eight pieces take far longer than the limit, each of them less.
    let mut trickling = Wire::plain(rig.address).await;
    trickling.write(head(&rig, "GET", "/keygate-test/slow?pause=100", "Connection: close\r\n")).await;
    trickling.head().await;
    assert!(trickling.rest().await.ends_with(b"piece 8\n\r\n0\r\n\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_is_cut_and_frees_the_upstream() {
    let rig = rig(|config| config.limits.idle_timeout = SHORT).await;
    let mut wire = Wire::plain(rig.address).await;
    wire.write(head(&rig, "GET", "/keygate-test/bytes/1000000000", "")).await;
    wire.head().await;
    eventually("the upstream's side ends", || rig.standin.control().counters().aborted_answers == 1).await;
    eventually("the connection is counted out", || rig.app().gateway.open_connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stalls_is_cut_and_never_completed() {
    let rig = rig(|config| config.limits.idle_timeout = SHORT).await;
    let control = rig.standin.control();
    for lines in ["Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n"] {
        let before = control.counters().aborted_uploads;
        let mut wire = Wire::plain(rig.address).await;
        wire.write(head(&rig, "POST", "/keygate-test/upload", lines)).await;
        wire.write("5\r\nhello\r\n").await;
        let answer = wire.head().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
        eventually("the upstream's side ends", || control.counters().aborted_uploads == before + 1).await;
    }
    assert!(control.uploads().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_may_pause_longer_than_an_answer_may_take() {
    let rig = rig(|config| config.upstreams[0].timeouts.response_header = SHORT).await;
    rig.get("/api/libraries").await;
    let mut wire = Wire::plain(rig.address).await;
    wire.write(head(&rig, "POST", "/keygate-test/upload", "Content-Length: 10\r\n")).await;
    for _ in 0..2 {
        tokio::time::sleep(SHORT * 3).await;
        wire.write("hello").await;
    }
    let answer = wire.head().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_does_not_answer_or_does_not_read_is_given_up() {
    let silent = Scripted::start(&[]).await;
    let rig = silent.rig(|config| config.upstreams[0].timeouts.response_header = SHORT).await;
    let answer = rig.get("/api/never").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after").is_some()), (504, true), "{}", answer.text());
    eventually("its connection is closed", || silent.seen().last().is_some_and(|(_, what)| what == CLOSED)).await;

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let adjust = move |config: &mut Config| {
        config.upstreams[0].port = port;
        config.upstreams[0].timeouts.response_header = SHORT;
    };
    let rig = silent.rig(adjust).await;
    let (mut reading, mut writing) = tokio::io::split(TcpStream::connect(rig.address).await.expect("connected"));
    let request = head(&rig, "POST", "/api/upload", "Content-Length: 1000000000\r\n");
    let upload = tokio::spawn(async move {
        writing.write_all(request.as_bytes()).await.expect("written");
        while writing.write_all(&[b'x'; 1 << 16]).await.is_ok() {}
    });
    let held = listener.accept().await.expect("a connection");
    let mut answer = [0; 12];
    let read = tokio::time::timeout(crate::support::http::PATIENCE, reading.read_exact(&mut answer)).await.expect("in time");
    // The reset that unread bytes cause may overtake the answer.
    assert!(read.is_err() || answer == *b"HTTP/1.1 504", "{answer:?}");
    upload.await.expect("the client is let go");
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_connections_are_open_than_allowed_and_places_are_given_back() {
    let rig = rig(|config| config.limits.max_connections = 2).await;
    let mut first = Wire::plain(rig.address).await;
    let second = Wire::plain(rig.address).await;
    eventually("both are open", || rig.app().gateway.open_connections() == 2).await;
    assert!(Wire::plain(rig.address).await.rest().await.is_empty());
    first.write(head(&rig, "GET", "/keygate-test/bytes/3", "")).await;
    assert!(first.head().await.starts_with("HTTP/1.1 200"), "those that are open go on");
    drop(second);
    eventually("a place is free", || rig.app().gateway.open_connections() == 1).await;
    assert_eq!(rig.get("/keygate-test/bytes/3").await.status, 200);
}
