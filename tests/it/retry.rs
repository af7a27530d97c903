//! Which upstream connections are used again, and what is sent twice: nothing that could do harm.

use std::time::Duration;

use http::Method;
use keygate::demo::Options;
use keygate::upstream::Kind;

use crate::support::wire::{Scripted, Wire, eventually, head};
use crate::support::{Rig, Setup, http as client};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn one_core(kind: Kind, options: Options) -> Rig {
    Setup::new(kind).standin(options).with(|config| config.server.threads = 1).start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_one_after_the_other_share_a_connection() {
    let upstream = Scripted::start(&[("/api/x", OK.to_vec())]).await;
    let rig = upstream.rig(|_| ()).await;
    for _ in 0..5 {
        assert_eq!(rig.get("/api/x").await.text(), "ok");
    }
    assert!(upstream.seen().iter().all(|(connection, _)| *connection == 0), "{:?}", upstream.seen());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sessions_never_share_a_connection() {
    // Emby: each key has a session of its own.
    let rig = one_core(Kind::Emby, Options::default()).await;
    let other = rig.another_key("another");
    for _ in 0..3 {
        assert_eq!(rig.get("/System/Info").await.status, 200);
        assert_eq!(client::get(rig.address, "/System/Info", &[("x-emby-token", other.expose())]).await.status, 200);
    }
    let log_ins = rig.standin.control().journal().iter().filter(|seen| seen.method == Method::POST).count() as u64;
    assert_eq!(rig.standin.control().counters().connections, log_ins + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_upstream_closed_is_replaced_without_the_client_noticing() {
    let mut rig = one_core(Kind::Audiobookshelf, Options::default()).await;
    assert_eq!(rig.get("/api/libraries").await.status, 200);
    rig.standin.control().cut_connections();
    assert_eq!(rig.get("/api/libraries").await.status, 200);
    let standin =
        std::mem::replace(&mut rig.standin, keygate::demo::StandIn::start(Kind::Emby, Options::default()).await.expect("another"));
    rig.standin = standin.restart().await.expect("the same port");
    assert_eq!(rig.get("/api/libraries").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_closed_idle_connections_cost_no_request() {
    let rig = one_core(Kind::Audiobookshelf, Options { keep_alive: Duration::from_millis(300), ..Options::default() }).await;
    for pause in (0..12).map(|n| 290 + n * 2) {
        assert_eq!(rig.get("/api/libraries").await.status, 200, "after {pause} ms");
        // Around the moment at which the upstream closes.
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_body_is_not_sent_twice() {
    let rig = one_core(Kind::Audiobookshelf, Options::default()).await;
    let control = rig.standin.control();
    rig.get("/api/libraries").await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    let bearer = format!("Bearer {}", rig.secret());
    let path = "/keygate-test/close-after-body";
    let answer = client::send(rig.address, Method::POST, path, &[("authorization", &bearer)], "five!").await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(control.journal().iter().filter(|seen| seen.path() == path).count(), 1);
    // A safe one goes once more when its connection had idled, and not a third time.
    rig.get("/api/libraries").await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    let path = "/keygate-test/close-without-answer";
    assert_eq!(rig.get(path).await.status, 502);
    assert_eq!(control.journal().iter().filter(|seen| seen.path() == path).count(), 2);
    assert_eq!(rig.get("/api/libraries").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_could_be_read_in_two_ways_is_refused_and_its_connection_ends() {
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = "x".repeat(600 << 10);
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("/api/garbage", b"SSH-2.0-OpenSSH_9.9\r\n\r\n{close}".to_vec()),
        ("/api/both", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec()),
        ("/api/lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!".to_vec()),
        ("/api/bad-length", b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello".to_vec()),
        ("/api/switch", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_vec()),
        ("/api/many", format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 0\r\n\r\n").into_bytes()),
        ("/api/long", format!("HTTP/1.1 200 OK\r\nx-long: {long}\r\nContent-Length: 0\r\n\r\n").into_bytes()),
        ("/api/control", b"HTTP/1.1 200 OK\r\nx-bad: a\x00b\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("/api/nothing", b"{close}".to_vec()),
    ];
    let good = ("/api/good", OK.to_vec());
    let upstream = Scripted::start(&bad.iter().cloned().chain([good]).collect::<Vec<_>>()).await;
    let rig = upstream.rig(|_| ()).await;
    for (path, _) in bad {
        assert_eq!(rig.get(path).await.status, 502, "{path}");
        assert_eq!(rig.get("/api/good").await.text(), "ok", "after {path}");
        let seen = upstream.seen();
        let last_bad = seen.iter().rev().find(|(_, what)| what == path).expect("it was asked").0;
        let good = seen.iter().rev().find(|(_, what)| what == "/api/good").expect("it was asked").0;
        assert_ne!(good, last_bad, "{path}: its connection was used again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_are_passed_over() {
    let interim = [&b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"[..], OK].concat();
    let upstream = Scripted::start(&[("/api/x", interim)]).await;
    let rig = upstream.rig(|_| ()).await;
    assert_eq!(rig.get("/api/x").await.text(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_after_an_answer_are_nobodys_answer() {
    let two = [OK, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsomebody's"].concat();
    let upstream = Scripted::start(&[("/api/two", two), ("/api/x", OK.to_vec())]).await;
    let rig = upstream.rig(|_| ()).await;
    for _ in 0..5 {
        assert_eq!(rig.get("/api/two").await.text(), "ok");
        assert_eq!(rig.get("/api/x").await.text(), "ok");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_a_row_on_one_client_connection_are_answered_in_order() {
    let rig = one_core(Kind::Audiobookshelf, Options::default()).await;
    let mut wire = Wire::plain(rig.address).await;
    let all: String = (1..=20).map(|n| head(&rig, "GET", &format!("/keygate-test/bytes/{n}"), "")).collect();
    wire.write(all).await;
    for n in 1..=20 {
        assert!(wire.head().await.contains(&format!("content-length: {n}\r\n")));
        assert_eq!(wire.take(n).await.len(), n);
    }
    drop(wire);
    eventually("the connection is gone", || rig.app().gateway.open_connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_upstream_in_mid_traffic_costs_only_what_was_under_way() {
    let mut rig = one_core(Kind::Audiobookshelf, Options::default()).await;
    rig.get("/api/libraries").await;
    let mut wire = Wire::plain(rig.address).await;
    wire.write(head(&rig, "GET", "/keygate-test/slow?pause=3600000", "")).await;
    wire.head().await;
    let placeholder = keygate::demo::StandIn::start(Kind::Emby, Options::default()).await.expect("another");
    let standin = std::mem::replace(&mut rig.standin, placeholder);
    let url = standin.url.clone();
    rig.standin = standin.restart().await.expect("the same port");
    assert_eq!(rig.standin.url, url);
    assert!(!wire.rest().await.ends_with(b"0\r\n\r\n"), "what was cut does not look whole");
    assert_eq!(rig.get("/api/libraries").await.status, 200);
}
