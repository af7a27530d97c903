//! Requests without an answer yet, and clients that do not take theirs.

use super::*;
use crate::support::until;
use crate::support::wire::{CLOSED, Scripted};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_for_a_login_is_refused_when_its_key_dies() {
    let scene = Scene::new(Kind::Audiobookshelf).await;
    let key = scene.key();
    let control = scene.rig.standin.control();
    control.faults(|faults| faults.delay_login = Duration::from_secs(3600));
    let mut wire = scene.ask(&key, "GET", "/api/libraries", "").await;
    until("the login is under way", || scene.arrived("/login") == 1).await;
    scene.rig.keep().registry.revoke_key(key.id()).expect("revoked");
    assert_eq!(refusal(&mut wire).await, invalid_key(&scene).await);
    assert_eq!(scene.arrived("/api/libraries"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_to_the_upstream_does_not_outlive_what_was_cut_on_it() {
    let upstream = Scripted::start(&[("/api/half", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec())]).await;
    let rig = upstream.rig(|config| config.upstreams[0].timeouts.pool_idle = Duration::from_secs(3600)).await;
    for (number, path) in ["/api/never", "/api/half"].into_iter().enumerate() {
        let key = rig.another_key("mortal");
        let mut wire = Wire::plain(rig.address).await;
        wire.write(head(&key, "GET", path, "")).await;
        until("it arrives", || upstream.seen().last() == Some(&(number, path.to_owned()))).await;
        if path == "/api/half" {
            wire.head().await;
            assert_eq!(wire.take(4).await, b"half");
        }
        rig.keep().registry.revoke_key(key.id()).expect("revoked");
        until("its connection is closed", || upstream.seen().last() == Some(&(number, CLOSED.to_owned()))).await;
        if path == "/api/half" {
            assert!(wire.rest().await.is_empty(), "nothing follows a cut answer");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_loses_its_connection() {
    let scene = Scene::new(Kind::Audiobookshelf).await;
    let key = scene.key();
    let mut streams = [scene.plain().await, Wire::over(scene.trust.connect(scene.rig.address, &["http/1.1"]).await)];
    for wire in &mut streams {
        wire.write(head(&key, "GET", LARGE, "")).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 200"));
    }
    let before = scene.rig.app().gateway.open_connections();
    assert_eq!(before, 2);
    scene.rig.keep().registry.revoke_key(key.id()).expect("revoked");
    until("both connections are gone, though nobody reads", || scene.rig.app().gateway.open_connections() == 0).await;
    let control = scene.rig.standin.control();
    until("and their upstream connections", || control.counters().aborted_answers == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_with_its_connection_does_not_look_whole_when_it_was_cut() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let scene = Scene::new(Kind::Audiobookshelf).await;
    let key = scene.key();
    let mut stream = crate::support::net::TcpStream::connect(scene.rig.app().addresses()[1]).await.expect("connected");
    let request = head(&key, "GET", SILENT, "").replace("HTTP/1.1", "HTTP/1.0");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut got = Vec::new();
    while !got.ends_with(b"piece 1\n") {
        assert!(stream.read_buf(&mut got).await.expect("the first piece") > 0);
    }
    assert!(!String::from_utf8_lossy(&got).contains("ransfer-encoding"), "HTTP/1.0 knows no chunks");
    scene.rig.keep().registry.revoke_key(key.id()).expect("revoked");
    let ended = tokio::time::timeout(PATIENCE, stream.read_buf(&mut got)).await.expect("an end");
    assert!(ended.is_err(), "a reset, not an end: {ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_cut_does_not_harm_its_connection_whatever_ran_there_before() {
    let scene = Scene::new(Kind::Audiobookshelf).await;
    let other = scene.rig.another_key("other");
    let mut http2 = scene.trust.http2(scene.rig.address).await;
    for round in 0..20 {
        let key = scene.key();
        // Answers that are whole at the first look leave nothing behind for the next stream.
        let whole = started(&mut http2, get(&key, "/keygate-test/bytes/100")).await.collect().await.expect("whole");
        assert_eq!(whole.to_bytes().len(), 100);
        let cut = started(&mut http2, get(&key, if round % 2 == 0 { SILENT } else { LARGE })).await;
        scene.rig.keep().registry.revoke_key(key.id()).expect("revoked");
        assert!(breaks_off(cut).await);
        let whole = started(&mut http2, get(&other, "/keygate-test/bytes/100")).await.collect().await.expect("the connection lives");
        assert_eq!(whole.to_bytes().len(), 100);
    }
}
