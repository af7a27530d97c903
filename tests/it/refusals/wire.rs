//! Bytes that hyper takes, or takes in its own way, and a gateway must not: each is refused with the right status, nothing of it
//! reaches the upstream, and where the end of the request is in doubt the connection carries no other one.

use keygate::upstream::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::net::TcpStream;
use crate::support::{Rig, http};

/// What follows on the connection: a request of which nobody must be able to say that it was smuggled.
const MARKER: &str = "/keygate-test/status/204";

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// It is closed: the marker is not read as a request.
    Closed,
    /// The end of the refused request is known: the marker is answered.
    Open,
}
use After::{Closed, Open};

struct Row {
    what: &'static str,
    bytes: Vec<u8>,
    statuses: &'static [u16],
    after: After,
}

fn row(what: &'static str, bytes: impl Into<Vec<u8>>, statuses: &'static [u16], after: After) -> Row {
    Row { what, bytes: bytes.into(), statuses, after }
}

/// All answers until the server closes.
async fn converse(rig: &Rig, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    // A server that refuses may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut got = Vec::new();
    let mut buffer = [0; 8192];
    let reading = async {
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            got.extend_from_slice(&buffer[..count]);
        }
    };
    tokio::time::timeout(http::PATIENCE, reading).await.expect("the server closes");
    String::from_utf8_lossy(&got).into_owned()
}

/// A request with a good key, whose other lines are given.
fn with_key(rig: &Rig, first_line: &str, lines: &str) -> Vec<u8> {
    format!("{first_line}\r\nX-Emby-Token: {}\r\n{lines}\r\n", rig.secret()).into_bytes()
}

/// The same with a host.
fn hosted(rig: &Rig, first_line: &str, lines: &str) -> Vec<u8> {
    with_key(rig, first_line, &format!("Host: {}\r\n{lines}", rig.address))
}

fn framing(rig: &Rig) -> Vec<Row> {
    let post = |lines: &str, body: &str| [hosted(rig, "POST /keygate-test/echo HTTP/1.1", lines), body.as_bytes().to_vec()].concat();
    let mut rows = Vec::new();
    for length in ["5, 5", "+5", "-0", "0x5", "", "18446744073709551616", "5\r\nContent-Length: 6", "005", "5;", "5 5"] {
        rows.push(row("Content-Length", post(&format!("Content-Length: {length}\r\n"), "hello"), &[400], Closed));
    }
    rows.push(row("a space before the colon", post("Content-Length : 5\r\n", "hello"), &[400], Closed));
    for coding in [
        "xchunked",
        "chunked, identity",
        "\x0bchunked",
        "",
        "identity, chunked",
        "gzip, chunked",
        "chunked, chunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: identity",
        "\r\n chunked",
        "identity",
    ] {
        let bytes = post(&format!("Transfer-Encoding: {coding}\r\n"), "5\r\nhello\r\n0\r\n\r\n");
        rows.push(row("Transfer-Encoding", bytes, &[400, 501], Closed));
    }
    let old = hosted(rig, "POST /keygate-test/echo HTTP/1.0", "Transfer-Encoding: chunked\r\n");
    rows.push(row("chunked in HTTP/1.0", [old, b"0\r\n\r\n".to_vec()].concat(), &[400], Closed));
    for name in ["Content_Length", "Transfer_Encoding", "Content.Length"] {
        rows.push(row("framing in disguise", post(&format!("{name}: 5\r\n"), ""), &[400], Open));
    }
    rows
}

fn targets(rig: &Rig) -> Vec<Row> {
    let line = |line: &str| hosted(rig, line, "");
    let mut rows = Vec::new();
    for target in [
        "http://evil.example.org/keygate-test/echo",
        "ftp://a/x",
        "http://u:p@a/x",
        "evil:80",
        "foo",
        "*",
        "/a\\b",
        "/a/../b",
        "/%2e%2e%2fb",
        "/a/%2E/b",
        "/a%2fb",
        "/a%5Cb",
        "/a%00",
        "/a%zz",
        "/a%",
        "/a;b=1",
        "/a%3Bb",
        "/a%0d%0ax",
        "/caf\u{e9}",
    ] {
        rows.push(row("target", line(&format!("GET {target} HTTP/1.1")), &[400], Open));
    }
    let in_path = line(&format!("GET /keygate-test/{} HTTP/1.1", rig.secret()));
    rows.push(row("a key in the path", in_path, &[400], Open));
    for (method, status) in [("get", &[501]), ("Get", &[501]), ("TRACE", &[405]), ("TRACK", &[405]), ("BREW", &[501]), ("PROPFIND", &[501])]
    {
        rows.push(row("method", line(&format!("{method} /keygate-test/echo HTTP/1.1")), status, Open));
    }
    rows.push(row("CONNECT", line("CONNECT evil:80 HTTP/1.1"), &[405], Open));
    rows.push(row("a long target", line(&format!("GET /{} HTTP/1.1", "a".repeat(20_000))), &[414], Closed));
    rows.push(row("a longer target", line(&format!("GET /{} HTTP/1.1", "a".repeat(66_000))), &[414, 431], Closed));
    rows
}

fn heads(rig: &Rig) -> Vec<Row> {
    let get = |lines: &str| hosted(rig, "GET /keygate-test/echo HTTP/1.1", lines);
    let mut rows = vec![
        row("no host", with_key(rig, "GET /keygate-test/echo HTTP/1.1", ""), &[400], Open),
        row("two hosts", get("Host: evil\r\n"), &[400], Open),
        row("two equal hosts", get(&format!("Host: {}\r\n", rig.address)), &[400], Open),
        row("bytes above 127", get("X-A: caf\u{e9}\r\n"), &[400], Open),
        row("a bare CR", get("X-A: a\rb\r\n"), &[400], Closed),
        row("NUL", get("X-A: a\0b\r\n"), &[400], Closed),
        row("a folded line", get("X-A: a\r\n b\r\n"), &[400], Closed),
        row("an empty name", get(": a\r\n"), &[400], Closed),
        row("an unknown expectation", get("Expect: y 100-continue\r\n"), &[417], Closed),
        row("two expectations", get("Expect: 100-continue\r\nExpect: 100-continue\r\n"), &[417], Closed),
        row("many lines", get(&"X-A: b\r\n".repeat(101)), &[431], Closed),
        row("a long line", get(&format!("X-A: {}\r\n", "b".repeat(40_000))), &[431], Closed),
    ];
    for host in ["a, b", "a/b?c", "u@a", "", "a:99999", "%61", "a b"] {
        rows.push(row("host", with_key(rig, "GET /keygate-test/echo HTTP/1.1", &format!("Host: {host}\r\n")), &[400], Open));
    }
    for name in ["X_Emby_Token", "x_forwarded_for", "X.Real.IP", "x_client_ip", "proxy_authorization", "X_Http_Method_Override"] {
        rows.push(row("a name in disguise", get(&format!("{name}: a\r\n")), &[400], Open));
    }
    for name in ["X-Emby-Token", "Authorization", "Host", "X-Forwarded-For", "content-length", "x_real_ip", "cookie", "sec-websocket-key"] {
        rows.push(row("a nominated header", get(&format!("Connection: keep-alive, {name}\r\n")), &[400], Open));
    }
    for version in ["HTTP/1.2", "HTTP/2.0", "HTTP/3", "HTTP/0.9", "HTPP/1.1"] {
        rows.push(row("version", hosted(rig, &format!("GET /keygate-test/echo {version}"), ""), &[400, 505], Closed));
    }
    rows.push(row("HTTP/0.9", "GET /keygate-test/echo\r\n", &[400], Closed));
    rows.push(row("TLS on the clear port", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &[400], Closed));
    rows.push(row("HTTP/2 on the clear port", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 400, 505], Closed));
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hyper_lets_through_is_refused_and_the_next_request_is_never_part_of_it() {
    let rig = Rig::new(Kind::Jellyfin).await;
    assert_eq!(rig.get(MARKER).await.status, 204);
    let marker = hosted(&rig, &format!("GET {MARKER} HTTP/1.1"), "Connection: close\r\n");
    let mut wrong = Vec::new();
    for rows in [framing(&rig), targets(&rig), heads(&rig)] {
        for row in rows {
            rig.standin.control().clear_journal();
            let answer = converse(&rig, &[row.bytes.clone(), marker.clone()].concat()).await;
            let arrived: Vec<_> = rig.standin.control().journal().iter().map(|seen| seen.target.clone()).collect();
            let wanted: &[&str] = if row.after == Open { &[MARKER] } else { &[] };
            if !row.statuses.contains(&http::status_of(&answer)) || arrived != wanted {
                let shown: String = String::from_utf8_lossy(&row.bytes).chars().filter(|c| *c != 'a' && *c != 'b').take(200).collect();
                wrong.push(format!("{}: {shown:?} answered {} and {arrived:?} arrived", row.what, http::status_of(&answer)));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hyper_settles_arrives_in_one_reading_only() {
    let rig = Rig::new(Kind::Jellyfin).await;
    assert_eq!(rig.get(MARKER).await.status, 204);
    let marker = hosted(&rig, &format!("GET {MARKER} HTTP/1.1"), "Connection: close\r\n");
    // A length beside chunked: chunked wins and the connection closes. Two equal lengths are one.
    for (lines, body, length) in [
        ("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", None),
        ("Transfer-Encoding: chunked\r\nContent-Length: 30\r\n", "5\r\nhello\r\n0\r\n\r\n", None),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", "hello", Some(5)),
    ] {
        rig.standin.control().clear_journal();
        let bytes = [hosted(&rig, "POST /keygate-test/echo HTTP/1.1", lines), body.as_bytes().to_vec()].concat();
        let answer = converse(&rig, &[bytes, marker.clone()].concat()).await;
        let arrived = rig.standin.control().journal();
        match http::status_of(&answer) {
            200 => {
                assert!(answer.contains("\"body_bytes\":5"), "{answer}");
                assert_eq!(arrived[0].content_length, length, "{lines}");
                assert_eq!(arrived[0].headers.contains_key("transfer-encoding"), length.is_none(), "{lines}");
                assert_eq!(arrived.len(), if length.is_some() { 2 } else { 1 }, "{lines}: {answer}");
            }
            status => assert_eq!((status, arrived.len()), (400, 0), "{lines}"),
        }
    }
    // A fragment is not a query.
    let answer =
        converse(&rig, &http::head("GET", &format!("/System/Info#?api_key={}", rig.secret()), &[("Host", b"a"), ("Connection", b"close")]))
            .await;
    assert_eq!(http::status_of(&answer), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_chunk_ends_the_request_and_both_connections() {
    let rig = Rig::new(Kind::Jellyfin).await;
    assert_eq!(rig.get(MARKER).await.status, 204);
    let marker = hosted(&rig, &format!("GET {MARKER} HTTP/1.1"), "Connection: close\r\n");
    for body in [
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
    ] {
        rig.standin.control().clear_journal();
        let head = hosted(&rig, "POST /keygate-test/echo HTTP/1.1", "Transfer-Encoding: chunked\r\n");
        let answer = converse(&rig, &[head, body.as_bytes().to_vec(), marker.clone()].concat()).await;
        assert_eq!(http::status_of(&answer), 400, "{body:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{body:?}: {answer}");
        assert!(rig.standin.control().journal().iter().all(|seen| seen.path() != MARKER), "{body:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_as_a_whole_answers_options_itself() {
    let rig = Rig::new(Kind::Emby).await;
    let answer = converse(&rig, &http::head("OPTIONS", "*", &[("Host", b"a"), ("Connection", b"close")])).await;
    assert!(answer.starts_with("HTTP/1.1 204 ") && answer.to_ascii_lowercase().contains("\r\nallow: get, head"), "{answer}");
    assert_eq!(rig.standin.control().journal().len(), 0);
}
