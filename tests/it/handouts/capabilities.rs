//! Ids of the upstream's own: good for whom a live key got them, and for what it got them for.

use keygate::demo::{Options, StandIn};

use super::*;
use crate::support::daemon::Home;

/// The targets that a play session opens.
fn of_session(id: &str) -> [String; 3] {
    [format!("/hls/{id}/output.m3u8"), format!("/hls/{id}/output-0.ts"), format!("/public/session/{id}/track/1")]
}

/// Their statuses, without a key.
async fn statuses(rig: &Rig, id: &str) -> [u16; 3] {
    let targets = of_session(id);
    [bare(rig, &targets[0]).await, bare(rig, &targets[1]).await, bare(rig, &targets[2]).await]
}

const OPEN: [u16; 3] = [200, 200, 302];
const REFUSED: [u16; 3] = [401; 3];

#[tokio::test(flavor = "multi_thread")]
async fn a_play_session_is_open_for_whoever_got_it_from_a_live_key() {
    let rig = Rig::new(Kind::Audiobookshelf).await;
    // Somebody opens a session past keygate: its id was never handed out here.
    let token = client::send(
        rig.standin.url.trim_start_matches("http://").parse().expect("an address"),
        Method::POST,
        "/login",
        &[("content-type", "application/json"), ("x-return-tokens", "true")],
        format!(r#"{{"username":"alice","password":"{}"}}"#, support::ALICE_PASSWORD),
    );
    let token = token.await.json()["user"]["accessToken"].as_str().expect("a token").to_owned();
    let upstream = rig.standin.url.trim_start_matches("http://").parse().expect("an address");
    let headers = [("authorization", format!("Bearer {token}")), ("content-type", "application/json".to_owned())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let past = client::send(upstream, Method::POST, &format!("/api/items/{BOOK}/play"), &headers, TRANSCODE).await;
    let past = past.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(statuses(&rig, &past).await, REFUSED);
    assert_eq!(rig.get(&of_session(&past)[0]).await.status, 200, "a key may, as the server lets it");
    assert_eq!(statuses(&rig, &past).await, REFUSED, "and that hands nothing out");

    let id = play(&rig, &rig.key, TRANSCODE).await;
    assert_eq!(statuses(&rig, &id).await, OPEN);
    let [playlist, ..] = of_session(&id);
    assert_eq!(client::send(rig.address, Method::HEAD, &playlist, &[], "").await.status, 200);
    for method in [Method::POST, Method::DELETE] {
        assert_eq!(client::send(rig.address, method, &playlist, &[], "").await.status, 401);
    }
    assert_eq!(
        client::get(rig.address, &playlist, &[("x-emby-token", "0123456789abcdef")]).await.status,
        401,
        "beside a foreign credential"
    );
    let direct = play(&rig, &rig.key, "{}").await;
    let track = format!("/Public//session/{direct}/Track/1/");
    let part = client::get(rig.address, &track, &[("range", "bytes=10-19")]).await;
    assert_eq!((part.status.as_u16(), part.body.len()), (206, 10));
    let looks_like_one = "0bcd8d8f-66fb-498c-a797-4fd5538cc58c";
    assert_eq!(statuses(&rig, looks_like_one).await, REFUSED);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_session_that_a_key_reads_again_is_handed_out_again() {
    let (mut rig, clock) = timed(Kind::Audiobookshelf).await;
    let id = play(&rig, &rig.key, TRANSCODE).await;
    let store = Arc::clone(&rig.store);
    support::until("it is in the store", || store.handouts().expect("read").len() == 1).await;
    restart(&mut rig).await;
    assert_eq!(statuses(&rig, &id).await, OPEN, "after a restart");
    clock.advance(keygate::handouts::GOOD_FOR);
    assert_eq!(statuses(&rig, &id).await, REFUSED);
    assert_eq!(rig.get(&format!("/api/session/{id}")).await.status, 200);
    assert_eq!(statuses(&rig, &id).await, OPEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playback_opens_its_one_item() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let rig = Rig::new(kind).await;
        let (one, other) = (track(&rig, 0).await, track(&rig, 1).await);
        let key = format!("Bearer {}", rig.secret());
        // The compressed form could not be read.
        let headers = [("authorization", key.as_str()), ("accept-encoding", "gzip, br")];
        let info = client::send(rig.address, Method::POST, &format!("/emby/Items/{one}/PlaybackInfo"), &headers, "{}").await;
        let info = if info.status == 200 { info } else { client::get(rig.address, &format!("/Items/{one}/PlaybackInfo"), &headers).await };
        let id = info.json()["PlaySessionId"].as_str().expect("an id").to_owned();
        let seen = rig.standin.control().journal();
        let asked = seen.iter().rfind(|seen| seen.path().ends_with("PlaybackInfo")).expect("seen");
        assert_eq!(asked.headers.get("accept-encoding").map(|value| value.as_bytes()), Some(b"identity".as_slice()));
        let stream = |item: &str, id: &str| format!("/Audio/{item}/stream.mp3?Static=true&playSessionId={id}");
        assert_eq!(bare(&rig, &stream(&one, &id)).await, 200);
        assert_eq!(bare(&rig, &format!("/Audio/{one}/main.m3u8?PlaySessionId={id}")).await, 200, "what the server protects, too");
        for target in [
            stream(&other, &id),
            stream(&one, "0123456789abcdef0123456789abcdef"),
            format!("/Audio/{one}/stream"),
            format!("/Items/{one}?PlaySessionId={id}"),
        ] {
            assert_eq!(bare(&rig, &target).await, 401, "{target}");
        }
        let upgrade = [
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "AQIDBAUGBwgJCgsMDQ4PEA=="),
        ];
        assert_eq!(client::get(rig.address, &stream(&one, &id), &upgrade).await.status, 401, "Emby opens a socket on any path");
        rig.keep().registry.revoke_key(rig.key.id()).expect("revoked");
        assert_eq!(bare(&rig, &stream(&one, &id)).await, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_one_upstream_opens_nothing_of_another() {
    let setup = Setup::new(Kind::Audiobookshelf).with(|config| {
        let mut other = config.upstreams[0].clone();
        other.name = keygate::upstream::UpstreamName::new("other");
        other.hosts = vec!["other.test".to_owned()];
        config.upstreams.push(other);
    });
    let rig = setup.start().await;
    let id = play(&rig, &rig.key, TRANSCODE).await;
    let [playlist, ..] = of_session(&id);
    assert_eq!(bare(&rig, &playlist).await, 200);
    let asked = client::head("GET", &playlist, &[("Host", b"other.test"), ("Connection", b"close")]);
    assert_eq!(client::status_of(&client::raw(rig.address, &asked).await), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_what_opened_the_media_and_never_shows_the_id() {
    let standin = StandIn::start(Kind::Audiobookshelf, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], "[log]\nformat = \"json\"\nlevel = \"debug\"");
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("kitchen", "alice").await;
    let headers = [("x-emby-token", key.as_str()), ("content-type", "application/json")];
    let played = client::send(home.address, Method::POST, &format!("/api/items/{BOOK}/play"), &headers, TRANSCODE).await;
    let id = played.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(client::get(home.address, &format!("/hls/{id}/output.m3u8"), &[]).await.status, 200);
    let line = home.logged("/hls/***/output.m3u8").await;
    assert!(line.contains(r#""carrier":"capability""#) && line.contains(r#""key_name":"kitchen""#), "{line}");
    assert_eq!(client::send(home.address, Method::POST, &format!("/api/session/{id}/close"), &headers, "{}").await.status, 200);
    home.logged("/api/session/***/close").await;
    assert!(!home.log().contains(&id), "{}", home.log());
}
