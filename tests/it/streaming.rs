//! Answers on their way to the client: byte-exact, unbuffered, ended with whoever ends them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use keygate::demo::Options;
use keygate::secret::Secret;
use keygate::upstream::{Credential, Kind};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::tls::{Trust, exchange};
use crate::support::wire::{CLOSED, Scripted, Wire, eventually, head, value};
use crate::support::{Rig, Setup, http as client};

const LARGE: usize = 50 << 20;

/// The stand-in's pattern.
fn pattern(range: std::ops::Range<usize>) -> Vec<u8> {
    range.map(|n| ((n % 65_521) * 31 / 7) as u8).collect()
}

fn digest(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

async fn ask(rig: &Rig, lines: &[(&str, &str)]) -> client::Answer {
    let bearer = format!("Bearer {}", rig.secret());
    let lines: Vec<_> = lines.iter().copied().chain([("authorization", bearer.as_str())]).collect();
    client::get(rig.address, "/api/items/7f1d2b7e-0f63-4c0c-8a55-6a1b34c9d3f0/file/10127536", &lines).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_conditions_pass_as_the_upstream_answers_them() {
    let rig = Setup::new(Kind::Audiobookshelf).standin(Options { large_file_bytes: 100_000, ..Options::default() }).start().await;
    let whole = ask(&rig, &[]).await;
    assert_eq!((whole.status.as_u16(), whole.body.len()), (200, 100_000));
    assert_eq!(whole.body, pattern(0..100_000));
    let etag = whole.header("etag").expect("a tag").to_owned();
    let parts =
        [("bytes=0-99", 0..100), ("bytes=5000-5999", 5000..6000), ("bytes=-10", 99_990..100_000), ("bytes=99999-", 99_999..100_000)];
    for (range, bytes) in parts {
        let part = ask(&rig, &[("range", range)]).await;
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.header("content-range"), Some(format!("bytes {}-{}/100000", bytes.start, bytes.end - 1).as_str()));
        assert_eq!(part.body, pattern(bytes), "{range}");
    }
    let beyond = ask(&rig, &[("range", "bytes=100000-")]).await;
    assert_eq!((beyond.status.as_u16(), beyond.header("content-range")), (416, Some("bytes */100000")));
    let several = ask(&rig, &[("range", "bytes=0-1,5-6")]).await;
    assert_eq!((several.status.as_u16(), several.body.len()), (200, 100_000));
    let known = ask(&rig, &[("if-none-match", &etag)]).await;
    assert_eq!((known.status.as_u16(), known.body.len(), known.header("etag")), (304, 0, Some(etag.as_str())));
    let changed = ask(&rig, &[("if-range", "\"another\""), ("range", "bytes=0-9")]).await;
    assert_eq!((changed.status.as_u16(), changed.body.len()), (200, 100_000));
    let same = ask(&rig, &[("if-range", &etag), ("range", "bytes=0-9")]).await;
    assert_eq!((same.status.as_u16(), same.body), (206, pattern(0..10).into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_head_tells_the_length_and_leaves_the_connection_usable() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let mut wire = Wire::plain(rig.address).await;
    wire.write(head(&rig, "HEAD", "/keygate-test/bytes/100000", "")).await;
    let answer = wire.head().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(value(&answer, "content-length"), Some("100000"));
    wire.write(head(&rig, "GET", "/keygate-test/bytes/5", "")).await;
    assert_eq!(value(&wire.head().await, "content-length"), Some("5"));
    assert_eq!(wire.take(5).await, pattern(0..5));
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_megabytes_arrive_byte_by_byte_over_every_protocol() {
    let trust = Trust::new();
    let expected = digest(&pattern(0..LARGE));
    let path = format!("/keygate-test/bytes/{LARGE}");
    let plain = Rig::new(Kind::Audiobookshelf).await;
    let secure = Setup::new(Kind::Audiobookshelf).tls(trust.certificate()).start().await;
    for rig in [&plain, &secure] {
        // Opened when it is needed: on a slow machine, one that waits for the other's bytes is closed by then.
        let mut wire = match rig.address == secure.address {
            true => Wire::over(trust.connect(secure.address, &["http/1.1"]).await),
            false => Wire::plain(plain.address).await,
        };
        wire.write(head(rig, "GET", &path, "")).await;
        assert_eq!(value(&wire.head().await, "content-length"), Some(LARGE.to_string().as_str()));
        assert_eq!(digest(&wire.take(LARGE).await), expected);
    }
    let mut http2 = trust.http2(secure.address).await;
    let request = Request::get(format!("https://localhost{path}")).header("x-emby-token", secure.secret());
    let answer = exchange(&mut http2, request.body(Full::new(Bytes::new())).expect("a request")).await;
    assert_eq!((answer.status.as_u16(), digest(&answer.body)), (200, expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_unknown_length_comes_whole_and_without_its_trailers() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let pieces: String = (1..=8).map(|n| format!("piece {n}\n")).collect();
    for path in ["/keygate-test/chunked", "/keygate-test/trailers"] {
        let mut wire = Wire::plain(rig.address).await;
        wire.write(head(&rig, "GET", path, "TE: trailers\r\nConnection: close, TE\r\n")).await;
        let answer = wire.head().await;
        assert_eq!((value(&answer, "transfer-encoding"), value(&answer, "trailer")), (Some("chunked"), None), "{answer}");
        let body = String::from_utf8(wire.rest().await).expect("text");
        assert!(body.ends_with("\r\n0\r\n\r\n") && !body.contains("x-keygate-test"), "{body}");
        assert_eq!(rig.get(path).await.text(), pieces);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_with_its_connection_comes_whole_and_is_not_followed_on_it() {
    let upstream =
        Scripted::start(&[("/api/x", b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end{close}".to_vec())]).await;
    let rig = upstream.rig(|_| ()).await;
    for _ in 0..2 {
        assert_eq!(rig.get("/api/x").await.text(), "until the end");
    }
    assert_eq!(upstream.seen(), [(0, "/api/x".to_owned()), (1, "/api/x".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_breaks_off_at_the_client_too() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    rig.get("/api/libraries").await;
    rig.standin.control().faults(|faults| faults.cut_bodies_after = Some(20));
    for path in ["/keygate-test/bytes/200000", "/keygate-test/chunked"] {
        let mut wire = Wire::plain(rig.address).await;
        wire.write(head(&rig, "GET", path, "")).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 200"));
        let body = wire.rest().await;
        assert!(body.len() < 200_000 && !body.ends_with(b"0\r\n\r\n"), "an incomplete answer must not look complete");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_reach_the_client_as_they_are_sent() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let mut wire = Wire::plain(rig.address).await;
    // The next piece would come in an hour: what is not passed on at once never comes.
    wire.write(head(&rig, "GET", "/keygate-test/slow?pause=3600000", "")).await;
    wire.head().await;
    assert_eq!(wire.take(13).await, b"8\r\npiece 1\n\r\n");
}

/// An upstream whose one answer has no end; how many bytes of it were taken.
async fn endless() -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let taken = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&taken);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _ = stream.read(&mut [0; 4096]).await.expect("a request");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n").await.expect("written");
        while let Ok(written) = stream.write(&[b'x'; 1 << 16]).await {
            count.fetch_add(written as u64, Ordering::Relaxed);
        }
        count.store(u64::MAX, Ordering::Relaxed);
    });
    (port, taken)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_makes_the_upstream_wait() {
    let trust = Trust::new();
    for secure in [false, true] {
        let (port, taken) = endless().await;
        let setup = Setup::new(Kind::Audiobookshelf).credential(Credential::Token(Secret::from("static")));
        let setup = setup.with(move |config| config.upstreams[0].port = port);
        let rig = if secure { setup.tls(trust.certificate()) } else { setup }.start().await;
        let mut wire = match secure {
            false => Wire::plain(rig.address).await,
            true => Wire::over(trust.connect(rig.address, &["http/1.1"]).await),
        };
        wire.write(head(&rig, "GET", "/api/x", "")).await;
        wire.head().await;
        // Until nothing more is taken; buffers of the kernel and of the gateway are all that may be filled.
        let mut before = 0;
        for _ in 0..1000 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = taken.load(Ordering::Relaxed);
            if now == before && now > 0 {
                break;
            }
            before = now;
        }
        assert!(before < 48 << 20, "secure: {secure}: {before} bytes were taken from the upstream while the client did not read");
        assert_eq!(wire.take(1000).await, [b'x'; 1000]);
        drop(wire);
        eventually("the answer is given up", || taken.load(Ordering::Relaxed) == u64::MAX).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_before_an_answer_ends_the_upstream_request() {
    let upstream = Scripted::start(&[]).await;
    let rig = upstream.rig(|_| ()).await;
    let mut wire = Wire::plain(rig.address).await;
    wire.write(head(&rig, "GET", "/api/never", "")).await;
    eventually("the request arrives", || upstream.seen() == [(0, "/api/never".to_owned())]).await;
    drop(wire);
    eventually("its connection is closed", || upstream.seen().last() == Some(&(0, CLOSED.to_owned()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_ends_the_answer_in_mid_stream() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let control = rig.standin.control();
    for path in ["/keygate-test/slow?pause=3600000", "/keygate-test/bytes/1000000000"] {
        let before = control.counters().aborted_answers;
        let mut wire = Wire::plain(rig.address).await;
        wire.write(head(&rig, "GET", path, "")).await;
        wire.head().await;
        drop(wire);
        eventually(path, || control.counters().aborted_answers == before + 1).await;
    }
    eventually("no connection is left", || rig.app().gateway.open_connections() == 0).await;
}
