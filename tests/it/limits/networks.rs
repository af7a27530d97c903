//! Where a key may be used from.

use std::net::IpAddr;

use ::http::{Method, StatusCode};

use super::*;
use crate::login::{form, login_path};
use crate::socketio::{OPEN, auth, connected};
use crate::support::socket::Socket;
use crate::support::wire::{Wire, eventually};

const HOME: &str = "192.0.2.7";
const ELSEWHERE: &str = "198.51.100.7";

fn home() -> LimitsText {
    LimitsText { networks: Some(vec!["192.0.2.0/24".to_owned(), "2001:db8:1::/48".to_owned()]), ..LimitsText::default() }
}

#[track_caller]
fn assert_refused(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text());
    assert_eq!(answer.json()["error"], "other_network");
    assert!(!answer.text().contains("192.0.2") && answer.text().contains("this address"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_good_in_its_networks_and_nowhere_else() {
    for kind in Kind::ALL {
        let scene = Scene::new(kind).await;
        let key = scene.key(home());
        for from in [HOME, "::ffff:192.0.2.9", "2001:db8:1:ffff::1"] {
            assert_eq!(scene.ask(from, &key, ECHO).await.status, StatusCode::OK, "{from}");
            assert_eq!(scene.ask_http2(from, &key, ECHO).await.status, StatusCode::OK, "{from}");
        }
        let arrived = scene.arrived(ECHO);
        for from in [ELSEWHERE, "::ffff:198.51.100.7", "2001:db8:2::1", "::192.0.2.7"] {
            assert_refused(&scene.ask(from, &key, ECHO).await);
            assert_refused(&scene.ask_http2(from, &key, ECHO).await);
        }
        assert_eq!(scene.arrived(ECHO), arrived, "nothing reached the media server");
        assert_eq!(scene.ask(ELSEWHERE, &scene.rig.key, ECHO).await.status, StatusCode::OK, "another key of the account");
        scene.edit(&key, None);
        assert_eq!(scene.ask(ELSEWHERE, &key, ECHO).await.status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outsider_learns_nothing_of_what_the_key_may_do() {
    let scene = Scene::new(Kind::Audiobookshelf).await;
    let key = scene.key(home());
    let edit = |patch| scene.rig.keep().registry.edit_key(key.id(), patch).map(drop).expect("edited");
    edit(KeyPatch { scopes: Some(Scopes::of(Scope::Stream)), ..KeyPatch::default() });
    assert_eq!(scene.ask(HOME, &key, ECHO).await.json()["error"], "missing_scope");
    assert_refused(&scene.ask(ELSEWHERE, &key, ECHO).await);
    assert_refused(&scene.ask_http2(ELSEWHERE, &key, ECHO).await);
    edit(KeyPatch { scopes: Some(Scopes::FULL), libraries: Some(Some(vec!["one".to_owned()])), ..KeyPatch::default() });
    assert_eq!(scene.ask(HOME, &key, "/api/libraries/other").await.json()["error"], "other_library");
    assert_refused(&scene.ask(ELSEWHERE, &key, "/api/libraries/other").await);
    // As unknown as it is everywhere.
    edit(KeyPatch { is_active: Some(false), ..KeyPatch::default() });
    assert_eq!(scene.ask(ELSEWHERE, &key, ECHO).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_key_elsewhere_is_no_guess() {
    let scene = Scene::new(Kind::Jellyfin).await;
    let key = scene.key(home());
    for _ in 0..40 {
        assert_refused(&scene.ask(ELSEWHERE, &key, ECHO).await);
    }
    let guesses = scene.rig.app().gateway.guesses();
    assert!(guesses.check(ELSEWHERE.parse::<IpAddr>().expect("an address")).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_for_a_key_is_good_where_the_key_is() {
    let scene = Scene::new(Kind::Jellyfin).await;
    let key = scene.key(home());
    let listed = scene.ask(HOME, &key, "/Items?Recursive=true").await.json();
    let id = listed["Items"][0]["Id"].as_str().expect("an id").to_owned();
    let path = format!("/Audio/{id}/stream?api_key={}", scene.ticket(&key).expose());
    let by_ticket = async |from| client::get(scene.rig.address, &path, &[("x-forwarded-for", from)]).await;
    assert_eq!(by_ticket(HOME).await.status, StatusCode::OK);
    assert_refused(&by_ticket(ELSEWHERE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_was_handed_out_to_a_key_is_good_where_the_key_is() {
    let scene = Scene::new(Kind::Audiobookshelf).await;
    let key = scene.key(home());
    let headers = [("x-forwarded-for", HOME), ("x-emby-token", key.expose()), ("content-type", "application/json")];
    let play = "/api/items/cdc24c99-721f-4d05-9e52-a4cbec99cd76/play";
    let answer = client::send(scene.rig.address, Method::POST, play, &headers, "{}").await;
    let session = answer.json()["id"].as_str().expect("an id").to_owned();
    let path = format!("/public/session/{session}/track/1");
    let by_id = async |from| client::get(scene.rig.address, &path, &[("x-forwarded-for", from)]).await;
    assert_eq!(by_id(HOME).await.status, StatusCode::OK);
    assert_refused(&by_id(ELSEWHERE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_form_is_judged_by_where_it_comes_from() {
    for kind in Kind::ALL {
        let scene = Scene::new(kind).await;
        let key = scene.key(home());
        let log_in = async |from| {
            let headers = [("x-forwarded-for", from), ("content-type", "application/json")];
            client::send(scene.rig.address, Method::POST, login_path(kind), &headers, form(kind, "x", key.expose())).await
        };
        assert_eq!(log_in(HOME).await.status, StatusCode::OK, "{kind}");
        assert_refused(&log_in(ELSEWHERE).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_authenticates_inside_is_judged_by_where_it_comes_from() {
    let scene = Scene::new(Kind::Audiobookshelf).await;
    let key = scene.key(LimitsText { networks: Some(vec![HOME.to_owned()]), ..LimitsText::default() });
    // The rig's clients are at 127.0.0.1.
    let mut socket = connected(&scene.rig, OPEN).await;
    socket.say(&auth(key.expose())).await;
    assert!(!socket.hear().await.starts_with("42[\"init\","));
    scene.limit(&key, LimitsText { networks: Some(vec!["127.0.0.1".to_owned()]), ..LimitsText::default() });
    let mut socket = connected(&scene.rig, OPEN).await;
    socket.say(&auth(key.expose())).await;
    assert!(socket.hear().await.starts_with("42[\"init\","));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_list_cuts_what_runs_from_outside_it_and_nothing_else() {
    for kind in [Kind::Emby, Kind::Jellyfin] {
        let scene = Scene::new(kind).await;
        let key = scene.key(LimitsText::default());
        let begin = async |from: &str, path: &str| {
            let mut wire = Wire::plain(scene.rig.address).await;
            let lines = format!("Host: localhost\r\nAuthorization: {}\r\nX-Forwarded-For: {from}\r\nConnection: close\r\n", bearer(&key));
            wire.write(format!("GET {path} HTTP/1.1\r\n{lines}\r\n")).await;
            assert!(wire.head().await.starts_with("HTTP/1.1 200"));
            wire
        };
        let (mut inside, mut outside) =
            (begin(HOME, "/keygate-test/bytes/30000000").await, begin(ELSEWHERE, "/keygate-test/slow?pause=3600000").await);
        let path = if kind == Kind::Emby { "/embywebsocket" } else { "/socket" };
        let mut socket = Socket::open(&scene.rig, &format!("{path}?api_key={}", key.expose()), "").await;
        socket.hear().await;
        scene.limit(&key, home());
        outside.rest().await;
        assert_eq!(socket.closed().await.0, 1008, "a socket from 127.0.0.1");
        eventually("the socket's other side is closed", || scene.rig.standin.control().counters().open_sockets == 0).await;
        assert_eq!(inside.rest().await.len(), 30_000_000, "what runs from inside goes on");
    }
}
