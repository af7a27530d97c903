//! HTTP/2 over TLS, chosen by ALPN: many streams, none of which hurts another.

mod floods;
mod streams;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use keygate::upstream::Kind;
use sha2::{Digest, Sha256};

use crate::support::tls::{Trust, exchange};
use crate::support::wire::{CLOSED, Scripted, Wire, eventually};
use crate::support::{Rig, Setup};

async fn secure(trust: &Trust) -> Rig {
    Setup::new(Kind::Audiobookshelf).tls(trust.certificate()).start().await
}

fn request(rig: &Rig, method: Method, path: &str) -> http::request::Builder {
    let bearer = format!("Bearer {}", rig.secret());
    Request::builder().method(method).uri(format!("https://localhost{path}")).header("authorization", bearer)
}

fn get(rig: &Rig, path: &str) -> Request<Full<Bytes>> {
    request(rig, Method::GET, path).body(Full::default()).expect("a request")
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_pass_and_the_upstream_sees_plain_http() {
    let trust = Trust::new();
    let rig = secure(&trust).await;
    let mut http2 = trust.http2(rig.address).await;
    let request =
        request(&rig, Method::GET, "/keygate-test/echo?x=1").header("te", "trailers").header("cookie", "a=1").header("cookie", "b=2");
    let echo = exchange(&mut http2, request.body(Full::default()).expect("a request")).await.json();
    assert_eq!(echo["target"], "/keygate-test/echo?x=1");
    let values = |name: &str| -> Vec<String> {
        let lines = echo["headers"].as_array().expect("headers");
        lines.iter().filter(|line| line[0] == name).map(|line| line[1].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!((values("host"), values("te")), (vec!["localhost".to_owned()], Vec::new()));
    assert!(values("x-forwarded-proto").iter().all(|proto| proto == "https"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keygate_answers_itself_has_no_body_for_head() {
    let trust = Trust::new();
    let rig = Setup::new(Kind::Jellyfin).tls(trust.certificate()).start().await;
    let mut http2 = trust.http2(rig.address).await;
    for (path, status) in [("/System/Info", 401), ("/Users/Public", 200), ("/x/../y", 400)] {
        let mut ask = async |method: Method| {
            let request = Request::builder().method(method).uri(format!("https://localhost{path}"));
            exchange(&mut http2, request.body(Full::default()).expect("a request")).await
        };
        let (get, head) = (ask(Method::GET).await, ask(Method::HEAD).await);
        assert_eq!((get.status.as_u16(), head.status.as_u16()), (status, status), "{path}");
        assert!(!get.body.is_empty() && head.body.is_empty(), "{path}");
        assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_differs_from_the_authority_is_refused() {
    let trust = Trust::new();
    let rig = secure(&trust).await;
    let mut http2 = trust.http2(rig.address).await;
    for (host, status) in [("localhost", 200), ("elsewhere", 400)] {
        let request = request(&rig, Method::GET, "/keygate-test/echo").header("host", host);
        let answer = exchange(&mut http2, request.body(Full::default()).expect("a request")).await;
        assert_eq!(answer.status.as_u16(), status, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_streams_at_once_each_get_their_own_answer() {
    let trust = Trust::new();
    let rig = secure(&trust).await;
    let http2 = trust.http2(rig.address).await;
    let mut all = tokio::task::JoinSet::new();
    for n in 1..=100_usize {
        let (mut sender, request) = (http2.clone(), get(&rig, &format!("/keygate-test/bytes/{n}")));
        all.spawn(async move { (n, exchange(&mut sender, request).await.body.len()) });
    }
    while let Some(ended) = all.join_next().await {
        let (wanted, got) = ended.expect("no panic");
        assert_eq!(wanted, got);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_arrives_whole_and_early_ends_are_noticed() {
    let trust = Trust::new();
    let rig = secure(&trust).await;
    let mut http2 = trust.http2(rig.address).await;
    let body: Vec<u8> = (0..10_usize << 20).map(|n| (n * 7 % 253) as u8).collect();
    let expected: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    let post = request(&rig, Method::POST, "/keygate-test/upload").body(Full::from(body)).expect("a request");
    assert_eq!(exchange(&mut http2, post).await.json()["sha256"], expected.as_str());
}

/// Starts a request and waits for the head of its answer.
async fn started(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> hyper::body::Incoming {
    sender.ready().await.expect("ready");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_read_does_not_hold_up_its_siblings() {
    let trust = Trust::new();
    let rig = secure(&trust).await;
    let mut http2 = trust.http2(rig.address).await;
    let mut unread = started(&mut http2, get(&rig, "/keygate-test/bytes/1000000000")).await;
    for _ in 0..20 {
        let answer = exchange(&mut http2, get(&rig, "/keygate-test/bytes/100000")).await;
        assert_eq!(answer.body.len(), 100_000);
    }
    assert!(unread.frame().await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_reset_ends_its_upstream_request_and_no_other() {
    let trust = Trust::new();
    let rig = secure(&trust).await;
    let control = rig.standin.control();
    let mut http2 = trust.http2(rig.address).await;
    let mut kept = started(&mut http2, get(&rig, "/keygate-test/slow?pause=50")).await;
    let dropped = started(&mut http2, get(&rig, "/keygate-test/slow?pause=3600000")).await;
    drop(dropped);
    eventually("the reset stream's answer is given up", || control.counters().aborted_answers == 1).await;
    let mut text = Vec::new();
    while let Some(frame) = kept.frame().await {
        text.extend_from_slice(&frame.expect("the sibling lives").into_data().unwrap_or_default());
    }
    assert!(text.ends_with(b"piece 8\n"));
    assert_eq!(control.counters().aborted_answers, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_reset_before_its_answer_closes_the_upstream_connection() {
    let trust = Trust::new();
    let upstream = Scripted::start(&[]).await;
    let certificate = trust.certificate();
    let rig = upstream.rig_over(Some(certificate), |_| ()).await;
    let mut http2 = trust.http2(rig.address).await;
    http2.ready().await.expect("ready");
    let waiting = http2.send_request(get(&rig, "/api/never"));
    let waiting = tokio::spawn(waiting);
    eventually("it arrives", || upstream.seen().len() == 1).await;
    waiting.abort();
    eventually("it is given up", || upstream.seen().last().is_some_and(|(_, what)| what == CLOSED)).await;
    drop(http2);
    eventually("the connection ends with its client", || rig.app().gateway.open_connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_without_tls_is_refused() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    let mut wire = Wire::plain(rig.address).await;
    wire.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await;
    let answer = wire.rest().await;
    assert!(!answer.starts_with(b"\x00"), "no SETTINGS frame");
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4") || answer.starts_with(b"HTTP/1.1 505"), "{answer:?}");
    // An offer to change to it is no offer: the request is a plain one.
    let mut wire = Wire::plain(rig.address).await;
    let lines = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n";
    wire.write(crate::support::wire::head(&rig, "GET", "/keygate-test/echo", lines)).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200"));
    let seen = rig.standin.control().journal();
    let echo = seen.iter().find(|seen| seen.path() == "/keygate-test/echo").expect("it arrived");
    assert_eq!((echo.header("upgrade"), echo.header("http2-settings")), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_offers_both_protocols_gets_http2_and_one_that_offers_none_http1() {
    let trust = Trust::new();
    let rig = secure(&trust).await;
    for (offer, chosen) in [(&["h2", "http/1.1"][..], Some(&b"h2"[..])), (&["http/1.1"], Some(b"http/1.1")), (&[], None)] {
        let stream = trust.connect(rig.address, offer).await;
        assert_eq!(stream.get_ref().get_ref().1.alpn_protocol(), chosen);
    }
}
