//! How many bytes the bodies of a key may have in a day.

use std::time::Duration;

use ::http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use keygate::app::App;
use keygate::clock::Clock;
use keygate::gateway::routing::Settings;
use keygate::store::Store;

use super::*;
use crate::socketio::{OPEN, auth, connected};
use crate::support::socket::{ACCEPT, HANDSHAKE, Socket};
use crate::support::wire::{Wire, value};
use crate::support::{self, until};

const FROM: &str = "192.0.2.7";
const MIB: usize = 1 << 20;
/// More than hyper hands on at once.
const PIECE: usize = MIB;

fn daily(text: &str) -> LimitsText {
    LimitsText { daily: Some(text.to_owned()), ..LimitsText::default() }
}

fn bytes(count: usize) -> String {
    format!("/keygate-test/bytes/{count}")
}

fn used(rig: &Rig, key: &ApiKey) -> usize {
    let verified = rig.keep().find(key).expect("a known key");
    let used = verified.limits().expect("limited").used(rig.clock.monotonic(), rig.clock.now()).daily;
    used.expect("limited by the day").try_into().expect("few")
}

/// Seconds that are left of the day.
fn left(scene: &Scene) -> String {
    (86_400 - scene.clock.now().as_millis() / 1000 % 86_400).to_string()
}

#[track_caller]
fn assert_used_up(answer: &Answer, limit: usize, reset: &str) {
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some(reset)), "{}", answer.text());
    assert_eq!(answer.json()["error"], "daily_bytes_used_up");
    assert!(answer.json()["message"].as_str().is_some_and(|text| text.contains("tomorrow")), "{}", answer.text());
    let told = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"].map(|name| answer.header(name));
    assert_eq!(told, [Some(limit.to_string().as_str()), Some("0"), Some(reset)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_bytes_are_used_up_reads_429_until_the_next_day_on_every_core_and_protocol() {
    for kind in Kind::ALL {
        let scene = Scene::new(kind).await;
        scene.clock.advance(Duration::from_millis(1500));
        let key = scene.key(LimitsText { rate: Some("1000/min".to_owned()), ..daily("1MiB") });
        // Connections of their own come to both cores, which count together.
        for turn in 0..8 {
            let path = bytes(MIB / 8);
            let answer = if turn % 2 == 0 { scene.ask(FROM, &key, &path).await } else { scene.ask_http2(FROM, &key, &path).await };
            assert_eq!(
                (answer.status, answer.body.len(), used(&scene.rig, &key)),
                (StatusCode::OK, MIB / 8, (turn + 1) * MIB / 8),
                "{kind}"
            );
            assert_eq!(answer.header("ratelimit-limit"), Some("1000"), "as long as there is something left, the rate is told");
        }
        let arrived = scene.arrived(ECHO);
        for _ in 0..4 {
            assert_used_up(&scene.ask(FROM, &key, ECHO).await, MIB, &left(&scene));
            assert_used_up(&scene.ask_http2(FROM, &key, ECHO).await, MIB, &left(&scene));
        }
        assert_eq!((scene.arrived(ECHO), used(&scene.rig, &key)), (arrived, MIB), "nothing reached the media server, nothing counts");
        assert!(scene.rig.app().gateway.guesses().check(FROM.parse().expect("an address")).is_ok(), "it is no guess");
        assert_eq!(scene.ask(FROM, &scene.rig.key, ECHO).await.status, StatusCode::OK, "another key");
        scene.clock.advance(Duration::from_secs(left(&scene).parse::<u64>().expect("seconds") - 1));
        assert_used_up(&scene.ask(FROM, &key, ECHO).await, MIB, "1");
        scene.clock.advance(Duration::from_secs(1));
        assert_eq!(scene.ask(FROM, &key, ECHO).await.status, StatusCode::OK, "{kind}: a new day");
        assert!(used(&scene.rig, &key) < MIB / 8);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_edits_forget_nothing_and_a_raised_limit_lets_in_at_once() {
    let scene = Scene::new(Kind::Emby).await;
    let key = scene.key(daily("1MiB"));
    assert_eq!(scene.ask(FROM, &key, &bytes(MIB)).await.body.len(), MIB);
    let edit = |patch| scene.rig.keep().registry.edit_key(key.id(), patch).map(drop).expect("edited");
    edit(KeyPatch { name: Some("other".to_owned()), ..KeyPatch::default() });
    let rotated = scene.rig.keep().registry.rotate_key(key.id(), Duration::from_secs(60)).expect("rotated").key;
    scene.rig.sweep.keep_secret(rotated.expose());
    scene.edit(&key, Some(LimitsPatch { rate: Some("9/s".parse().ok()), ..LimitsPatch::default() }));
    for secret in [&key, &rotated] {
        assert_used_up(&scene.ask(FROM, secret, ECHO).await, MIB, &left(&scene));
    }
    scene.limit(&key, daily("2MiB"));
    assert_eq!(scene.ask(FROM, &key, &bytes(MIB)).await.status, StatusCode::OK);
    assert_used_up(&scene.ask(FROM, &rotated, ECHO).await, 2 * MIB, &left(&scene));
    scene.limit(&key, daily("3MiB"));
    assert_eq!(scene.ask(FROM, &key, ECHO).await.status, StatusCode::OK);
    scene.limit(&key, daily("1MiB"));
    assert_used_up(&scene.ask(FROM, &key, ECHO).await, MIB, &left(&scene));
    scene.edit(&key, None);
    assert_eq!(scene.ask(FROM, &key, ECHO).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_count_and_one_that_goes_beyond_is_refused_while_it_comes() {
    let scene = Scene::new(Kind::Audiobookshelf).await;
    let key = scene.key(daily("3MiB"));
    let body = Bytes::from(vec![b'x'; MIB]);
    let answer = client::send(scene.rig.address, Method::POST, ECHO, &[("authorization", &bearer(&key))], body.clone()).await;
    assert_eq!(answer.json()["body_bytes"], MIB);
    let mut sender = scene.trust.http2(scene.rig.app().addresses()[0]).await;
    let post = |body: Bytes| Request::post(format!("https://localhost{ECHO}")).header("authorization", bearer(&key)).body(Full::new(body));
    assert_eq!(exchange(&mut sender, post(body.clone()).expect("a request")).await.json()["body_bytes"], MIB);
    let before = used(&scene.rig, &key);
    assert!((2 * MIB..2 * MIB + 10_000).contains(&before), "both, and what was answered: {before}");

    // By hand, so that no byte comes after the one that is too much.
    let mut wire = Wire::plain(scene.rig.address).await;
    let head = format!("POST {ECHO} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\nContent-Length: {}\r\n\r\n", bearer(&key), 9 * MIB);
    wire.write(head).await;
    wire.write(vec![b'x'; 3 * MIB - before]).await;
    until("all that may has gone on", || used(&scene.rig, &key) == 3 * MIB).await;
    assert!(wire.nothing_comes().await, "what was within the limit waits for the rest");
    wire.write("x").await;
    let head = wire.head().await;
    assert!(head.starts_with("HTTP/1.1 429"), "{head}");
    let told = ["retry-after", "ratelimit-limit", "ratelimit-remaining"].map(|name| value(&head, name));
    assert_eq!(told, [Some(left(&scene).as_str()), Some((3 * MIB).to_string().as_str()), Some("0")], "{head}");
    assert!(String::from_utf8(wire.rest().await).expect("text").contains("daily_bytes_used_up"));
    assert_eq!(used(&scene.rig, &key), 3 * MIB);
    let mut fresh = scene.trust.http2(scene.rig.app().addresses()[0]).await;
    assert_used_up(&exchange(&mut fresh, post(body).expect("a request")).await, 3 * MIB, &left(&scene));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_is_cut_soon_after_the_limit_and_never_looks_whole() {
    for kind in Kind::ALL {
        let scene = Scene::new(kind).await;
        let key = scene.key(daily("20MiB"));
        let path = scene.long_stream().await;
        let begin = async |path: &str| {
            let mut wire = Wire::plain(scene.rig.address).await;
            wire.write(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: {}\r\n\r\n", bearer(&key)))
                .await;
            let head = wire.head().await;
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            (head, wire)
        };
        // One that hardly says anything was let in and comes to its end.
        let (_, mut quiet) = begin("/keygate-test/slow?pause=400").await;
        let mut http2 = scene.trust.http2(scene.rig.app().addresses()[0]).await;
        let request = Request::get(format!("https://localhost{path}")).header("authorization", bearer(&key));
        let second = http2.send_request(request.body(Full::<Bytes>::default()).expect("a request")).await.expect("an answer");
        let (head, mut first) = begin(&path).await;
        assert_eq!(value(&head, "content-length"), Some((1_u64 << 40).to_string().as_str()));
        let read_second = async {
            let (mut body, mut read) = (second.into_body(), 0);
            loop {
                match body.frame().await {
                    Some(Ok(frame)) => read += frame.into_data().map_or(0, |data| data.len()),
                    Some(Err(_)) => return read,
                    None => panic!("{kind}: an end after {read} bytes"),
                }
            }
        };
        let (first, second) = tokio::join!(first.rest(), read_second);
        assert!(first.len() + second <= 20 * MIB + 2 * PIECE, "{kind}: {} and {second}", first.len());
        assert!(used(&scene.rig, &key) >= 20 * MIB && used(&scene.rig, &key) <= 20 * MIB + 2 * PIECE, "{kind}: {}", used(&scene.rig, &key));
        let quiet = String::from_utf8(quiet.rest().await).expect("text");
        assert!(quiet.contains("piece 8") && quiet.ends_with("0\r\n\r\n"), "{kind}: {quiet}");
        // The connection of HTTP/2 is as good as before.
        let request = Request::get(format!("https://localhost{ECHO}")).header("authorization", bearer(&scene.rig.key));
        assert_eq!(exchange(&mut http2, request.body(Full::default()).expect("a request")).await.status, StatusCode::OK);
        assert_used_up(&scene.ask(FROM, &key, &path).await, 20 * MIB, &left(&scene));
    }
}

/// A socket whose key has used up all of its day but what the socket has said so far.
async fn used_up_socket(scene: &Scene, key: &ApiKey) -> Socket {
    let mut socket = opened(scene, key).await;
    let before = used(&scene.rig, key);
    if scene.kind == Kind::Audiobookshelf {
        socket.say("2hello").await;
        assert_eq!(socket.hear().await, "3hello");
    } else {
        socket.say(r#"{"MessageType":"KeepAlive"}"#).await;
        assert!(socket.hear().await.contains("KeepAlive"));
    }
    until("what both sides say counts", || used(&scene.rig, key) > before + 14).await;
    let left = MIB - used(&scene.rig, key);
    assert_eq!(scene.ask(FROM, key, &bytes(left)).await.status, StatusCode::OK);
    assert_eq!(used(&scene.rig, key), MIB);
    assert!(socket.wire.nothing_comes().await, "a socket that says nothing stays");
    socket
}

/// One that its server has greeted.
async fn opened(scene: &Scene, key: &ApiKey) -> Socket {
    if scene.kind == Kind::Audiobookshelf {
        let mut socket = connected(&scene.rig, OPEN).await;
        socket.say(&auth(key.expose())).await;
        assert!(socket.hear().await.starts_with("42[\"init\","));
        return socket;
    }
    let mut socket = Socket::open(&scene.rig, &target(scene.kind, key), "").await;
    socket.hear().await;
    socket
}

fn target(kind: Kind, key: &ApiKey) -> String {
    let path = match kind {
        Kind::Audiobookshelf => "/socket.io/?EIO=4&transport=websocket&",
        Kind::Emby => "/embywebsocket?",
        Kind::Jellyfin => "/socket?",
    };
    format!("{path}api_key={}", key.expose())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_socket_is_closed_at_the_next_byte_of_either_side_once_the_day_is_used_up() {
    for kind in Kind::ALL {
        let scene = Scene::new(kind).await;
        let key = scene.key(daily("1MiB"));
        let control = scene.rig.standin.control();
        let up = (1008, "daily bytes used up".to_owned());

        let mut socket = used_up_socket(&scene, &key).await;
        control.push(if kind == Kind::Audiobookshelf { r#"42["item_updated",{"id":"x"}]"# } else { r#"{"MessageType":"LibraryChanged"}"# });
        assert_eq!(socket.closed().await, up, "{kind}: the server says something, and nobody hears it");
        until("the other side is closed", || control.counters().open_sockets == 0).await;
        let mut wire = Wire::plain(scene.rig.address).await;
        wire.write(format!("GET {} HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\r\n", target(kind, &key))).await;
        let refused = wire.head().await;
        assert!(refused.starts_with("HTTP/1.1 429") && !refused.contains(ACCEPT), "{refused}");

        scene.clock.advance(Duration::from_secs(86_400));
        let mut socket = used_up_socket(&scene, &key).await;
        let said = control.said().len();
        socket.say(r#"{"MessageType":"KeepAlive"}"#).await;
        assert_eq!(socket.closed().await, up, "{kind}: the client says something");
        until("the other side is closed", || control.counters().open_sockets == 0).await;
        assert_eq!((control.said().len(), used(&scene.rig, &key)), (said, MIB), "{kind}: it did not arrive, and does not count");

        scene.clock.advance(Duration::from_secs(86_400));
        let mut socket = used_up_socket(&scene, &key).await;
        scene.limit(&key, daily("2MiB"));
        socket.say("2hello").await;
        until("a raised limit lets it go on", || used(&scene.rig, &key) > MIB).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_message_ends_soon_after_the_limit() {
    for kind in Kind::ALL {
        let scene = Scene::new(kind).await;
        let key = scene.key(daily("1MiB"));
        let mut socket = opened(&scene, &key).await;
        let other = opened(&scene, &scene.rig.key).await;
        let text = "x".repeat(5 * MIB);
        let long = if kind == Kind::Audiobookshelf { format!("42[\"x\",\"{text}\"]") } else { format!("{{\"MessageType\":\"{text}\"}}") };
        scene.rig.standin.control().push(&long);
        let came = socket.wire.rest().await.len();
        assert!(came <= MIB + 3 * (64 << 10), "{kind}: {came}");
        assert!((MIB..=MIB + 3 * (64 << 10)).contains(&used(&scene.rig, &key)), "{kind}: {}", used(&scene.rig, &key));
        let mut others = other;
        while others.hear().await != long {}
    }
}

/// Another process over the same store.
async fn restarted(mut rig: Rig, finishes: bool) -> Rig {
    let app = rig.app.take().expect("running");
    let usage = Arc::clone(&app.keep.usage);
    tokio::task::spawn_blocking(move || app.server.shut_down(Duration::ZERO)).await.expect("stopped");
    if finishes {
        usage.finish().expect("written");
    }
    let keep = support::keep(&rig.config, Arc::clone(&rig.store) as Arc<dyn Store>, &rig.clock);
    let app = App::start(&rig.config, Settings::new(&rig.config, None), keep, None).expect("started");
    rig.run(app);
    rig
}

async fn limited(usage: bool) -> (Rig, ApiKey, Arc<ManualClock>) {
    let clock = manual_clock();
    let setup = Setup::new(Kind::Jellyfin).clock(Arc::clone(&clock) as _).with(move |config| config.usage.is_enabled = usage);
    let rig = setup.start().await;
    let key = rig.another_key("limited");
    let patch = LimitsPatch { daily: Some("1MiB".parse().ok()), ..LimitsPatch::default() };
    rig.keep().registry.edit_key(key.id(), KeyPatch { limits: Some(Some(patch)), ..KeyPatch::default() }).expect("edited");
    (rig, key, clock)
}

async fn take(rig: &Rig, key: &ApiKey, count: usize) -> StatusCode {
    client::get(rig.address, &bytes(count), &[("authorization", &bearer(key))]).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_today_outlives_a_restart_and_the_day_does_not_begin_anew() {
    let (rig, key, clock) = limited(true).await;
    assert_eq!(take(&rig, &key, 700_000).await, StatusCode::OK);
    let rig = restarted(rig, true).await;
    assert_eq!((used(&rig, &key), take(&rig, &key, MIB - 700_000).await), (700_000, StatusCode::OK));
    let usage = Arc::clone(&rig.keep().usage);
    until("the cores have handed over", || usage.of_key(key.id()).expect("read").is_some_and(|of_key| of_key.counts.requests() == 2)).await;
    usage.flush().expect("written");
    // Killed: nothing is written any more.
    let rig = restarted(rig, false).await;
    assert_eq!((used(&rig, &key), take(&rig, &key, 1).await), (MIB, StatusCode::TOO_MANY_REQUESTS));
    clock.advance(Duration::from_secs(86_400));
    let rig = restarted(rig, true).await;
    assert_eq!((used(&rig, &key), take(&rig, &key, 10).await), (0, StatusCode::OK));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_usage_the_day_is_counted_in_memory_alone() {
    let (rig, key, _clock) = limited(false).await;
    assert_eq!((take(&rig, &key, MIB).await, take(&rig, &key, 1).await), (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS));
    let rig = restarted(rig, true).await;
    assert_eq!((used(&rig, &key), take(&rig, &key, 10).await), (0, StatusCode::OK));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_own_reason_in_the_figures() {
    let (rig, key, _clock) = limited(true).await;
    assert_eq!(take(&rig, &key, MIB).await, StatusCode::OK);
    for _ in 0..3 {
        assert_eq!(take(&rig, &key, 1).await, StatusCode::TOO_MANY_REQUESTS);
    }
    let usage = &rig.keep().usage;
    let refusals = || usage.totals().expect("read").get("media").and_then(|media| media.refusals.get("key-daily").copied());
    until("all are counted", || refusals() == Some(3)).await;
}
