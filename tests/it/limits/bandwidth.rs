//! How fast the bodies of a key may move. The gateway's clock stands still, so that what is allowed never grows: what comes of a limited
//! body soon is what may run ahead, however slow the machine is.

use std::time::Duration;

use ::http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::*;
use crate::support::http::PATIENCE;
use crate::support::socket::Socket;
use crate::support::until;

const LENGTH: usize = 3_000_000;
/// The beginning of a body, which does not wait.
const AT_ONCE: usize = 64 << 10;

fn limited(bandwidth: &str) -> LimitsText {
    LimitsText { bandwidth: Some(bandwidth.to_owned()), ..LimitsText::default() }
}

async fn begun(scene: &Scene, key: &ApiKey) -> Incoming {
    let mut sender = scene.trust.http2(scene.rig.app().addresses()[0]).await;
    let request = Request::get(format!("https://localhost/keygate-test/bytes/{LENGTH}")).header("authorization", bearer(key));
    let answer = sender.send_request(request.body(Full::<Bytes>::default()).expect("a request")).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    answer.into_body()
}

/// So many bytes of a body or more, and whatever else comes without a long pause.
async fn come(body: &mut Incoming, least: usize) -> usize {
    let mut bytes = 0;
    loop {
        let patience = if bytes < least { PATIENCE } else { Duration::from_millis(300) };
        match timeout(patience, body.frame()).await {
            Ok(Some(frame)) => bytes += frame.expect("a frame").into_data().map_or(0, |data| data.len()),
            Ok(None) | Err(_) => return bytes,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_body_stops_where_it_must_wait_and_goes_on_to_its_end_once_it_may() {
    let scene = Scene::new(Kind::Jellyfin).await;
    let key = scene.key(limited("64kbit"));
    let mut body = begun(&scene, &key).await;
    let first = come(&mut body, AT_ONCE).await;
    assert!((AT_ONCE..AT_ONCE + 20_000).contains(&first), "{first}");
    assert_eq!(scene.ask("192.0.2.7", &key, ECHO).await.status, StatusCode::OK, "short answers do not wait");
    assert_eq!(begun(&scene, &scene.rig.key).await.collect().await.expect("whole").to_bytes().len(), LENGTH, "another key");
    scene.edit(&key, None);
    assert_eq!(first + come(&mut body, LENGTH - first).await, LENGTH, "nothing is lost, and a limit that was lifted holds no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_body_of_a_key_on_any_core_waits() {
    for kind in [Kind::Audiobookshelf, Kind::Emby] {
        let scene = Scene::new(kind).await;
        let key = scene.key(limited("64kbit"));
        for _ in 0..4 {
            let came = come(&mut begun(&scene, &key).await, AT_ONCE).await;
            assert!((AT_ONCE..AT_ONCE + 20_000).contains(&came), "{kind}: {came}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_upload_arrives_whole_over_both_protocols() {
    let scene = Scene::new(Kind::Audiobookshelf).await;
    let key = scene.key(limited("512kbit"));
    let body = Bytes::from(vec![b'x'; AT_ONCE + 20_000]);
    let answer = client::send(scene.rig.address, Method::POST, ECHO, &[("authorization", &bearer(&key))], body.clone()).await;
    assert_eq!(answer.json()["body_bytes"], body.len());
    let mut sender = scene.trust.http2(scene.rig.app().addresses()[0]).await;
    let request = Request::post(format!("https://localhost{ECHO}")).header("authorization", bearer(&key));
    let answer = exchange(&mut sender, request.body(Full::new(body.clone())).expect("a request")).await;
    assert_eq!(answer.json()["body_bytes"], body.len());
}

/// What comes of a socket without a long pause.
async fn heard(socket: &mut Socket) -> usize {
    let mut bytes = 0;
    while let Ok(piece) = timeout(Duration::from_millis(300), socket.wire.take(1)).await {
        assert_eq!(piece.len(), 1, "an end after {bytes} bytes");
        bytes += 1;
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_wait_in_both_directions_and_lose_nothing() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let scene = Scene::new(kind).await;
        let key = scene.key(limited("64kbit"));
        let path = if kind == Kind::Emby { "/embywebsocket" } else { "/socket" };
        let mut socket = Socket::open(&scene.rig, &format!("{path}?api_key={}", key.expose()), "").await;
        socket.hear().await;
        let control = scene.rig.standin.control();
        // Short messages, since long ones are looked through as a whole.
        let notice = format!(r#"{{"MessageType":"LibraryChanged","Data":"{}"}}"#, "x".repeat(900));
        for _ in 0..40 {
            control.push(&notice);
        }
        let came = heard(&mut socket).await;
        assert!((1..20_000).contains(&came), "{kind}: {came}");
        let alive = r#"{"MessageType":"KeepAlive"}"#;
        for _ in 0..1000 {
            socket.say(alive).await;
        }
        let said = control.said().len();
        assert!(said < 500, "{kind}: {said}");
        scene.edit(&key, None);
        until("all is said", || control.said().len() == 1000).await;
        // Each has a head of four bytes (RFC 6455, section 5.2).
        let all = 40 * (4 + notice.len());
        assert!(socket.wire.take(all - came).await.ends_with(br#"xxx"}"#), "{kind}: what was held back, in its order");
        assert!(socket.hear().await.contains("KeepAlive"));
    }
}
