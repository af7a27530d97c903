//! What the spans of a request say of it.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use keygate::config::{Access, Share};
use keygate::demo::Options;
use keygate::registry::KeyPatch;
use keygate::upstream::Kind;

use super::collector::Collector;
use super::{one_request, setup, traced, upstream_heard};
use crate::carriers;
use crate::support::http::{self as client, PATIENCE};
use crate::support::socket::Socket;
use crate::support::tls::{Trust, exchange};
use crate::support::wire::{Wire, head};
use crate::support::{Setup, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_a_span_and_the_upstreams_part_of_it_another_below() {
    let collector = Collector::start().await;
    let rig = traced(&collector, Kind::Jellyfin).await;
    let key = rig.secret().to_owned();
    let target = format!("/Items/0a1b2c//Images?api_key={key}&secret=hidden");
    assert_eq!(client::send(rig.address, Method::POST, &target, &[], "12345").await.status, 404);
    let (server, part) = one_request(&collector, &rig).await;
    let part = part.expect("the upstream was asked");
    assert_eq!((server.span.name.as_str(), part.span.name.as_str(), part.span.kind), ("POST /items/*/images", "POST", 3));
    assert!(server.span.parent_span_id.is_empty() && server.span.links.is_empty() && !server.has_failed(), "{server:?}");
    server.assert(&[
        ("http.request.method", "POST"),
        ("url.scheme", "http"),
        ("url.path", "/Items/0a1b2c/Images"),
        ("url.query", ""),
        ("http.route", "/items/*/images"),
        ("http.response.status_code", "404"),
        ("network.protocol.version", "1.1"),
        ("server.address", "127.0.0.1"),
        ("server.port", &rig.address.port().to_string()),
        ("client.address", "127.0.0.1"),
        ("network.peer.address", "127.0.0.1"),
        ("keygate.upstream", "media"),
        ("keygate.carrier", "api_key"),
        ("keygate.key.id", &rig.key.id().to_string()),
        ("keygate.account", "alice"),
        ("keygate.refusal", ""),
        ("keygate.complete", "true"),
        ("keygate.received_bytes", "5"),
        ("error.type", ""),
    ]);
    part.assert(&[
        ("url.full", &format!("{}/Items/0a1b2c/Images", rig.standin.url)),
        ("server.address", "127.0.0.1"),
        ("server.port", &rig.config.upstreams[0].port.to_string()),
        ("http.response.status_code", "404"),
        ("http.request.resend_count", ""),
        ("keygate.upstream", "media"),
        ("error.type", "404"),
    ]);
    let told = upstream_heard(&rig, "/Items/0a1b2c/Images", "traceparent").expect("a traceparent");
    assert_eq!(told, format!("00-{}-{}-01", server.trace(), part.id()));
    let now = keygate::clock::Clock::now(&*rig.clock).as_millis() as u64 * 1_000_000;
    assert!(server.end() <= now + 1_000_000_000 && server.begin() + 60_000_000_000 > now, "{server:?} at {now}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_a_span_that_says_why_and_hides_where_strangers_look() {
    let collector = Collector::start().await;
    let rig = traced(&collector, Kind::Audiobookshelf).await;
    assert_eq!(client::get(rig.address, "/api/items/hunter2?x=1", &[]).await.status, 401);
    let (server, part) = one_request(&collector, &rig).await;
    assert!(part.is_none() && server.span.name == "GET" && !server.has_failed(), "{server:?} {part:?}");
    server.assert(&[
        ("keygate.refusal", "no-key"),
        ("http.response.status_code", "401"),
        ("http.route", ""),
        ("keygate.key.id", ""),
        ("keygate.account", ""),
        ("error.type", ""),
    ]);
    let patch = KeyPatch { is_active: Some(false), ..KeyPatch::default() };
    rig.keep().registry.edit_key(rig.key.id(), patch).expect("deactivated");
    assert_eq!(rig.get("/api/me").await.status, 401);
    one_request(&collector, &rig).await.0.assert(&[
        ("keygate.refusal", "disabled-key"),
        ("keygate.key.id", &rig.key.id().to_string()),
        ("keygate.carrier", "bearer"),
        ("http.route", "/api/me"),
    ]);
    client::raw(rig.address, b"BREW /a/../b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let (server, _) = one_request(&collector, &rig).await;
    server.assert(&[("http.request.method", "_OTHER"), ("http.request.method_original", "BREW"), ("http.response.status_code", "501")]);
    assert!(server.span.name == "HTTP" && server.has_failed());
    server.assert(&[("error.type", "method"), ("url.path", "/a/../b")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_upstream_and_a_silent_one_are_failures_of_both_spans() {
    let collector = Collector::start().await;
    let limit = Duration::from_millis(300);
    let traces = collector.traces(Share::ALL);
    let setup = Setup::new(Kind::Emby).with(move |config| {
        config.traces = Some(traces);
        config.upstreams[0].timeouts.response_header = limit;
    });
    let rig = setup.start().await;
    assert_eq!(rig.get("/System/Info").await.status, 200);
    one_request(&collector, &rig).await;
    rig.standin.control().faults(|faults| faults.delay = PATIENCE);
    assert_eq!(rig.get("/System/Info").await.status, 504);
    let (server, part) = one_request(&collector, &rig).await;
    let part = part.expect("it was asked");
    assert!(server.has_failed() && part.has_failed());
    assert!(part.end() - part.begin() >= 300_000_000, "{part:?}");
    let kind = server.get("keygate.refusal").expect("a refusal");
    server.assert(&[("http.response.status_code", "504"), ("error.type", &kind)]);
    part.assert(&[("http.response.status_code", ""), ("error.type", &kind)]);
    rig.standin.control().faults(|faults| (faults.delay, faults.refuse_connections) = (Duration::ZERO, true));
    rig.standin.control().cut_connections();
    assert_eq!(rig.get("/System/Info").await.status, 502);
    let (server, part) = one_request(&collector, &rig).await;
    assert!(server.has_failed() && part.expect("it was asked").has_failed());
    assert_eq!(server.get("error.type"), server.get("keygate.refusal"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_a_span_to_its_last_byte_and_its_upstreams_part_to_the_head() {
    let collector = Collector::start().await;
    let rig = traced(&collector, Kind::Jellyfin).await;
    let answer = rig.get("/keygate-test/slow?pause=40").await;
    let (server, part) = one_request(&collector, &rig).await;
    let part = part.expect("it was asked");
    server.assert(&[("keygate.sent_bytes", &answer.body.len().to_string()), ("keygate.complete", "true")]);
    assert!(server.end() - part.end() >= 200_000_000, "{server:?} {part:?}");
    let mut wire = Wire::plain(rig.address).await;
    wire.write(head(&rig, "GET", "/keygate-test/slow?pause=20000", "")).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200"));
    drop(wire);
    let (server, _) = one_request(&collector, &rig).await;
    server.assert(&[("keygate.complete", "false"), ("http.response.status_code", "200")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_before_there_is_an_answer_leaves_spans_without_one() {
    let collector = Collector::start().await;
    let rig = traced(&collector, Kind::Jellyfin).await;
    assert_eq!(rig.get("/System/Info").await.status, 200);
    one_request(&collector, &rig).await;
    rig.standin.control().faults(|faults| faults.delay = PATIENCE);
    let before = rig.standin.control().journal().len();
    let mut wire = Wire::plain(rig.address).await;
    wire.write(head(&rig, "GET", "/System/Info", "")).await;
    until("it is asked", || rig.standin.control().journal().len() > before).await;
    drop(wire);
    let (server, part) = one_request(&collector, &rig).await;
    let part = part.expect("it was asked");
    assert!(!server.has_failed() && !part.has_failed());
    server.assert(&[("http.response.status_code", ""), ("keygate.complete", "false")]);
    part.assert(&[("http.response.status_code", ""), ("error.type", "")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_is_a_span_from_its_handshake_to_its_end() {
    for kind in Kind::ALL {
        let collector = Collector::start().await;
        let rig = traced(&collector, kind).await;
        let mut socket = Socket::with_key(&rig, kind).await;
        socket.hear().await;
        drop(socket);
        let wants = |spans: &[super::Seen]| spans.iter().any(|span| span.get("http.response.status_code").as_deref() == Some("101"));
        let spans = collector.spans(&rig.sweep, |spans| spans.iter().filter(|span| span.is_server()).count() > 0 && wants(spans)).await;
        let server = spans.iter().find(|span| span.is_server() && span.get("http.response.status_code").as_deref() == Some("101"));
        let server = server.expect("a span of the socket");
        server.assert(&[("keygate.key.id", &rig.key.id().to_string()), ("keygate.account", "alice")]);
        assert_ne!(server.get("keygate.sent_bytes").as_deref(), Some("0"), "{kind}");
        let part = spans.iter().find(|span| span.span.parent_span_id == server.span.span_id).expect("the upstream's part");
        part.assert(&[("http.response.status_code", "101")]);
        let path = server.get("url.path").expect("a path");
        let told = rig.standin.control().journal().iter().rev().find_map(|seen| seen.header("traceparent").map(str::to_owned));
        assert_eq!(told.expect("a traceparent"), format!("00-{}-{}-01", server.trace(), part.id()), "{kind} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_the_host_and_the_version_are_its_own() {
    let (collector, trust) = (Collector::start().await, Trust::new());
    let rig = setup(&collector, Kind::Jellyfin, Share::ALL).tls(trust.certificate()).start().await;
    let mut http2 = trust.http2(rig.address).await;
    for path in ["/System/Info", "/Users"] {
        let request = Request::get(format!("https://localhost{path}")).header("x-emby-token", rig.secret());
        assert_eq!(exchange(&mut http2, request.body(Full::<Bytes>::default()).unwrap()).await.status, 200);
        let (server, part) = one_request(&collector, &rig).await;
        server.assert(&[
            ("network.protocol.version", "2"),
            ("url.scheme", "https"),
            ("server.address", "localhost"),
            ("server.port", ""),
            ("url.path", path),
            ("keygate.carrier", "x-emby-token"),
        ]);
        part.expect("it was asked").assert(&[("http.response.status_code", "200")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_goes_out_again_says_how_often() {
    let collector = Collector::start().await;
    let rig = setup(&collector, Kind::Jellyfin, Share::ALL).start().await;
    assert_eq!(rig.get("/System/Info").await.status, 200);
    one_request(&collector, &rig).await;
    rig.standin.control().kill_all_tokens();
    assert_eq!(rig.get("/System/Info").await.status, 200);
    let (_, part) = one_request(&collector, &rig).await;
    part.expect("it was asked").assert(&[("http.request.resend_count", "1"), ("http.response.status_code", "200"), ("error.type", "")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_with_their_own_credentials_are_traced_without_them() {
    let collector = Collector::start().await;
    let traces = collector.traces(Share::ALL);
    let setup = Setup::new(Kind::Emby).with(move |config| {
        config.traces = Some(traces);
        config.upstreams[0].native_logins = Access::Pass;
    });
    let rig = setup.start().await;
    assert_eq!(rig.get("/System/Info").await.status, 200);
    one_request(&collector, &rig).await;
    let token = rig.standin.control().live_tokens().pop().expect("a token");
    rig.sweep.allow(&token, "it is the client's own here");
    assert_eq!(client::get(rig.address, "/System/Info", &[("x-emby-token", &token)]).await.status, 200);
    let (server, part) = one_request(&collector, &rig).await;
    server.assert(&[("keygate.carrier", "x-emby-token"), ("keygate.key.id", ""), ("http.response.status_code", "200")]);
    assert_eq!(
        upstream_heard(&rig, "/System/Info", "traceparent"),
        Some(format!("00-{}-{}-01", server.trace(), part.expect("asked").id()))
    );
}

/// Fails when a query, or a path that is not redacted, comes to a span.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_carries_a_credential_none_comes_to_a_collector() {
    for kind in Kind::ALL {
        let collector = Collector::start().await;
        let rig = setup(&collector, kind, Share::ALL).standin(Options::default()).start().await;
        let other = rig.another_key("other");
        // A tenth of them has each carrier in each form; all of them are of the carriers' own test.
        let cases: Vec<_> = carriers::every_request(kind, rig.secret(), other.expose()).step_by(10).collect();
        let host = rig.address.to_string();
        for (query, headers) in &cases {
            let mut lines = vec![("Host", host.as_bytes()), ("Connection", b"close")];
            lines.extend(headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())));
            client::raw(rig.address, &client::head("GET", &format!("/keygate-test/echo{query}"), &lines)).await;
        }
        let key = rig.secret();
        let media = "/hls/0bcd8d8f-capability/a.ts";
        let odd = [
            format!("/x/{key}/y"),
            format!("/{}", key.replacen("kg", "%6b%67", 1)),
            format!("http://u:{key}@x/"),
            "/api?apikey=hidden-word".to_owned(),
            media.to_owned(),
        ];
        for target in &odd {
            client::raw(rig.address, &client::head("GET", target, &[("Host", b"x"), ("Connection", b"close")])).await;
        }
        let method = format!("{key} / HTTP/1.1\r\nHost: {key}\r\nUser-Agent: {key}\r\ntraceparent: {key}\r\nConnection: close\r\n\r\n");
        client::raw(rig.address, method.as_bytes()).await;
        let login = format!("username=alice&password={key}&Username=alice&Pw={key}");
        for path in ["/login", "/Users/AuthenticateByName"] {
            let form = [("content-type", "application/x-www-form-urlencoded")];
            client::send(rig.address, Method::POST, path, &form, login.clone()).await;
        }
        let least = cases.len() + odd.len();
        collector.spans(&rig.sweep, |spans| spans.iter().filter(|span| span.is_server()).count() >= least).await;
        for came in collector.came() {
            let text = String::from_utf8_lossy(&came.body).to_ascii_lowercase();
            for secret in ["kg_", "kgt_", "%6b%67", "hidden-word", "0bcd8d8f-capability", "alice-password"] {
                let around = text.find(secret).map(|at| text.split_at(at).0.chars().rev().take(80).collect::<String>());
                assert!(around.is_none(), "{kind}: {secret} after {around:?}, backwards");
            }
        }
    }
}
