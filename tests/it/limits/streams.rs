//! How many streams of a key may run at once.

use ::http::StatusCode;

use super::*;
use crate::support::until;
use crate::support::wire::Wire;

const FROM: &str = "192.0.2.7";

async fn open(scene: &Scene, key: &ApiKey, path: &str) -> (String, Wire) {
    let mut wire = Wire::plain(scene.rig.address).await;
    wire.write(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n\r\n", bearer(key))).await;
    (wire.head().await, wire)
}

/// A stream that has begun, and of which hardly anything is read.
async fn begun(scene: &Scene, key: &ApiKey, path: &str) -> Wire {
    let (head, wire) = open(scene, key, path).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    wire
}

#[track_caller]
fn assert_refused(answer: &Answer) {
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some("10")), "{}", answer.text());
    assert_eq!(answer.json()["error"], "too_many_streams");
}

fn streams(most: u32) -> LimitsText {
    LimitsText { streams: Some(most), ..LimitsText::default() }
}

fn running(scene: &Scene, key: &ApiKey) -> u32 {
    let verified = scene.rig.keep().find(key).expect("a known key");
    verified.limits().expect("limited").streams()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_too_many_reads_429_on_every_core_and_protocol_and_all_else_passes() {
    for kind in Kind::ALL {
        let scene = Scene::new(kind).await;
        let key = scene.key(streams(2));
        let path = scene.long_stream().await;
        let first = begun(&scene, &key, &path).await;
        let mut http2 = scene.trust.http2(scene.rig.app().addresses()[0]).await;
        let request = Request::get(format!("https://localhost{path}")).header("authorization", bearer(&key));
        let second = http2.send_request(request.body(Full::<Bytes>::default()).expect("a request")).await.expect("an answer");
        assert_eq!(second.status(), StatusCode::OK);
        for _ in 0..4 {
            assert_refused(&scene.ask(FROM, &key, &path).await);
            assert_refused(&scene.ask_http2(FROM, &key, &path).await);
        }
        assert_eq!(scene.ask(FROM, &key, ECHO).await.status, StatusCode::OK, "{kind}: no stream");
        drop(begun(&scene, &scene.rig.key, &path).await);
        drop(first);
        until("the place of a client that went away is free", || running(&scene, &key) == 1).await;
        let third = begun(&scene, &key, &path).await;
        assert_refused(&scene.ask(FROM, &key, &path).await);
        // A stream of HTTP/2 that is reset; its connection stays.
        drop(second);
        until("the place of a reset stream is free", || running(&scene, &key) == 1).await;
        drop(third);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_comes_back_whatever_ends_the_stream() {
    let scene = Scene::new(Kind::Jellyfin).await;
    let key = scene.key(streams(1));
    let path = scene.long_stream().await;
    let short = format!("{path}&x=1");
    for _ in 0..3 {
        // Read to its end.
        let answer = client::get(scene.rig.address, &short, &[("authorization", &bearer(&key)), ("range", "bytes=0-99")]).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::PARTIAL_CONTENT, 100));
        until("an answer that was read leaves its place", || running(&scene, &key) == 0).await;
    }
    let mut cut = begun(&scene, &key, &path).await;
    scene.rig.standin.control().cut_connections();
    // Nobody notices before what came earlier is read.
    cut.rest().await;
    until("the media server's end leaves it", || running(&scene, &key) == 0).await;
    let refused = scene.ask(FROM, &key, "/Audio/none/stream?x=1").await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    until("so does an answer that is no stream", || running(&scene, &key) == 0).await;
    let _running = begun(&scene, &key, &path).await;
    let limits = Arc::clone(scene.rig.keep().find(&key).expect("known").limits().expect("limited"));
    assert_eq!(limits.streams(), 1);
    scene.rig.keep().registry.revoke_key(key.id()).expect("revoked");
    until("so does the death of the key", || limits.streams() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_a_limited_key_count_before_their_number_is_limited() {
    let scene = Scene::new(Kind::Emby).await;
    let key = scene.key(LimitsText { rate: Some("1000/s".to_owned()), ..LimitsText::default() });
    let path = scene.long_stream().await;
    let (first, second) = (begun(&scene, &key, &path).await, begun(&scene, &key, &path).await);
    scene.limit(&key, streams(2));
    assert_refused(&scene.ask(FROM, &key, &path).await);
    scene.limit(&key, streams(3));
    let third = begun(&scene, &key, &path).await;
    scene.edit(&key, None);
    let fourth = begun(&scene, &key, &path).await;
    drop((first, second, third, fourth));
}
