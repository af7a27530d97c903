//! Bodies on their way to the upstream: byte-exact, unbuffered, and never half of one on a connection that is used again.

use http::Method;
use keygate::upstream::Kind;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::wire::{CLOSED, Scripted, Wire, eventually, head, value};
use crate::support::{Rig, http as client};

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 7 % 253) as u8).collect()
}

fn hex_digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_arrives_byte_by_byte_with_and_without_a_length() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let control = rig.standin.control();
    let body = content(20 << 20);
    let expected = hex_digest(&body);
    let bearer = format!("Bearer {}", rig.secret());
    let answer = client::send(rig.address, Method::POST, "/keygate-test/upload", &[("authorization", &bearer)], body.clone()).await;
    assert_eq!(answer.json()["sha256"], expected.as_str());
    let mut wire = Wire::plain(rig.address).await;
    wire.write(head(&rig, "POST", "/keygate-test/upload", "Transfer-Encoding: chunked\r\nTrailer: authorization\r\n")).await;
    for piece in body.chunks(99_991) {
        wire.write(format!("{:x};extension=1\r\n", piece.len())).await;
        wire.write(piece).await;
        wire.write("\r\n").await;
    }
    wire.write("0\r\nauthorization: Bearer smuggled\r\n\r\n").await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200"));
    let uploads = control.uploads();
    assert_eq!(uploads.len(), 2);
    assert!(uploads.iter().all(|upload| upload.bytes == body.len() as u64 && upload.sha256 == expected), "{uploads:?}");
    let lengths: Vec<_> = control.journal().iter().filter(|seen| seen.path().ends_with("upload")).map(|seen| seen.content_length).collect();
    assert_eq!(lengths, [Some(20 << 20), None], "a length is told where the client told one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_without_a_body_still_tells_its_length() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    for lines in ["Content-Length: 0\r\n", ""] {
        let mut wire = Wire::plain(rig.address).await;
        wire.write(head(&rig, "POST", "/keygate-test/echo", lines)).await;
        let answer = wire.head().await;
        let length = value(&answer, "content-length").and_then(|length| length.parse().ok()).expect("a length");
        let echo: serde_json::Value = serde_json::from_slice(&wire.take(length).await).expect("JSON");
        let arrived = echo["headers"].as_array().expect("headers").iter().find(|line| line[0] == "content-length");
        assert_eq!(arrived.map(|line| line[1].as_str()), Some(Some("0")), "{lines:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_to_continue_only_with_a_good_key() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let control = rig.standin.control();
    let mut refused = Wire::plain(rig.address).await;
    refused
        .write(
            "POST /keygate-test/upload HTTP/1.1\r\nHost: x\r\nX-Emby-Token: nothing\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        )
        .await;
    assert!(refused.head().await.starts_with("HTTP/1.1 401"));
    assert!(control.journal().iter().all(|seen| seen.path() != "/keygate-test/upload"));

    let mut welcome = Wire::plain(rig.address).await;
    welcome.write(head(&rig, "POST", "/keygate-test/upload", "Expect: 100-continue\r\nContent-Length: 5\r\n")).await;
    assert_eq!(welcome.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    welcome.write("hello").await;
    assert!(welcome.head().await.starts_with("HTTP/1.1 200"));
    let seen = control.journal();
    let upload = seen.iter().find(|seen| seen.path() == "/keygate-test/upload").expect("it arrived");
    assert_eq!((upload.header("expect"), upload.content_length), (None, Some(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_is_delivered_and_the_rest_of_the_upload_goes_nowhere() {
    let answers = [
        ("/api/early", b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig".to_vec()),
        ("/api/next", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
    ];
    let upstream = Scripted::start(&answers).await;
    // So long that nothing but the early answer closes a connection.
    let rig = upstream.rig(|config| config.upstreams[0].timeouts.pool_idle = std::time::Duration::from_secs(3600)).await;
    assert_eq!(rig.get("/api/next").await.text(), "ok");
    let mut wire = Wire::plain(rig.address).await;
    wire.write(head(&rig, "POST", "/api/early", "Content-Length: 1000000\r\n")).await;
    wire.write("only the beginning").await;
    let answer = wire.head().await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(wire.take(3).await, b"big");
    // Neither side's connection may carry anything else: the rest of the body would be read as a request.
    eventually("the upstream connection is closed", || upstream.seen().iter().any(|(_, what)| what == CLOSED)).await;
    assert!(wire.rest().await.is_empty());
    assert_eq!(rig.get("/api/next").await.text(), "ok");
    let seen = upstream.seen();
    assert_eq!(seen.last(), Some(&(1, "/api/next".to_owned())), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_breaks_off_in_mid_body_takes_the_upstream_connection_along() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let control = rig.standin.control();
    rig.get("/api/libraries").await;
    let arrived = || control.journal().iter().filter(|seen| seen.path() == "/keygate-test/upload").count();
    let framings = [("Content-Length: 100000\r\n", "half"), ("Transfer-Encoding: chunked\r\n", "4\r\nhalf\r\n")];
    for (number, (lines, part)) in framings.into_iter().enumerate() {
        let mut wire = Wire::plain(rig.address).await;
        wire.write(head(&rig, "POST", "/keygate-test/upload", lines)).await;
        wire.write(part).await;
        eventually("the head arrives", || arrived() == number + 1).await;
        drop(wire);
        eventually("the upload is given up", || control.counters().aborted_uploads == number as u64 + 1).await;
        assert_eq!(rig.get("/api/libraries").await.status, 200);
    }
    assert!(control.uploads().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_chunk_ends_the_request_and_reaches_nobody_as_a_request() {
    let upstream = Scripted::start(&[("/api/next", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec())]).await;
    let rig = upstream.rig(|_| ()).await;
    assert_eq!(rig.get("/api/next").await.text(), "ok");
    let mut wire = Wire::plain(rig.address).await;
    wire.write(head(&rig, "POST", "/api/upload", "Transfer-Encoding: chunked\r\n")).await;
    wire.write("5\r\nhello\r\n0x5\r\nGET /api/smuggled HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = wire.head().await;
    assert!(answer.starts_with("HTTP/1.1 4") || answer.is_empty(), "{answer}");
    assert!(wire.rest().await.len() < 300, "one answer at most, and the end");
    assert_eq!(rig.get("/api/next").await.text(), "ok");
    let seen = upstream.seen();
    assert!(seen.iter().all(|(_, what)| what != "/api/smuggled"), "{seen:?}");
    assert!(seen.iter().any(|(_, what)| what == CLOSED), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_does_not_read_makes_the_client_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let upstream = Scripted::start(&[]).await;
    let rig = upstream.rig(move |config| config.upstreams[0].port = port).await;
    let client = async {
        let mut stream = crate::support::net::TcpStream::connect(rig.address).await.expect("connected");
        stream.write_all(head(&rig, "POST", "/api/upload", "Content-Length: 1099511627776\r\n").as_bytes()).await.expect("written");
        let mut sent = 0_u64;
        // A write that finds no room for so long finds none at all: nobody reads at the other end.
        while let Ok(written) = tokio::time::timeout(std::time::Duration::from_millis(700), stream.write(&[b'x'; 1 << 16])).await {
            sent += written.expect("written") as u64;
            assert!(sent < 64 << 20, "{sent} bytes went into a gateway whose upstream does not read");
        }
        drop(stream);
        sent
    };
    let (sent, (mut held, _)) = tokio::join!(client, async { listener.accept().await.expect("a connection") });
    assert!(sent > 0);
    // The client is gone: once the upstream reads again, it finds the end and not the rest of the body.
    let mut got = Vec::new();
    let _ = held.read_to_end(&mut got).await;
    assert!((got.len() as u64) < sent + 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_uploads_without_asking_learns_that_its_key_is_bad() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let mut wire = Wire::plain(rig.address).await;
    wire.write("POST /keygate-test/upload HTTP/1.1\r\nHost: x\r\nX-Emby-Token: nothing\r\nContent-Length: 100000000\r\n\r\n").await;
    // The gateway stops reading; how much of the body goes out before that does not matter.
    let mut pieces = 0;
    while wire.try_write(&[b'x'; 1 << 16]).await {
        pieces += 1;
        assert!(pieces < 1000, "the whole body was taken");
    }
    assert!(wire.head().await.starts_with("HTTP/1.1 401"));
    assert_eq!(rig.standin.control().counters().connections, 0);
}
