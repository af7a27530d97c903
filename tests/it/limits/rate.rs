//! How often a key may be used.

use std::time::Duration;

use ::http::{Method, StatusCode};

use super::*;
use crate::login::{form, login_path};

const FROM: &str = "192.0.2.7";

fn rate(text: &str) -> LimitsText {
    LimitsText { rate: Some(text.to_owned()), ..LimitsText::default() }
}

/// `RateLimit-Limit`, `-Remaining` and `-Reset`.
fn told(answer: &Answer) -> [Option<&str>; 3] {
    ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"].map(|name| answer.header(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_used_too_often_reads_429_with_the_time_to_wait_on_every_core_and_protocol() {
    for kind in Kind::ALL {
        let scene = Scene::new(kind).await;
        let key = scene.key(rate("20/min burst 6"));
        let mut sender = scene.trust.http2(scene.rig.app().addresses()[0]).await;
        for turn in 0..10_u32 {
            // Each over HTTP/1.1 comes on a connection of its own, so that both cores count.
            let answer = if turn % 2 == 0 {
                scene.ask(FROM, &key, ECHO).await
            } else {
                let request = Request::get(format!("https://localhost{ECHO}")).header("authorization", bearer(&key));
                exchange(&mut sender, request.body(Full::<Bytes>::default()).expect("a request")).await
            };
            let (used, left) = (turn + 1, 5_u32.saturating_sub(turn));
            let reset = (used.min(6) * 3).to_string();
            assert_eq!(told(&answer), [Some("6"), Some(left.to_string().as_str()), Some(reset.as_str())], "{kind} {turn}");
            if turn < 6 {
                assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::OK, None), "{kind} {turn}");
            } else {
                assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::TOO_MANY_REQUESTS, Some("3")), "{kind} {turn}");
                assert_eq!(answer.json()["error"], "too_many_requests");
            }
        }
        assert_eq!(scene.arrived(ECHO), 6);
        let other = scene.ask(FROM, &scene.rig.key, ECHO).await;
        assert_eq!((other.status, told(&other)), (StatusCode::OK, [None; 3]), "{kind}: another key is told nothing");
        scene.clock.advance(Duration::from_secs(3));
        assert_eq!(scene.ask(FROM, &key, ECHO).await.status, StatusCode::OK, "{kind}");
        assert_eq!(scene.ask(FROM, &key, ECHO).await.status, StatusCode::TOO_MANY_REQUESTS, "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_edit_forgets_nothing_and_another_rate_holds_at_once() {
    let scene = Scene::new(Kind::Jellyfin).await;
    let key = scene.key(rate("2/h"));
    for expected in [StatusCode::OK, StatusCode::OK, StatusCode::TOO_MANY_REQUESTS] {
        assert_eq!(scene.ask(FROM, &key, ECHO).await.status, expected);
    }
    let patch = KeyPatch { name: Some("other".to_owned()), ..KeyPatch::default() };
    scene.rig.keep().registry.edit_key(key.id(), patch).expect("edited");
    let rotated = scene.rig.keep().registry.rotate_key(key.id(), Duration::from_secs(60)).expect("rotated").key;
    scene.rig.sweep.keep_secret(rotated.expose());
    for secret in [&key, &rotated] {
        assert_eq!(scene.ask(FROM, secret, ECHO).await.status, StatusCode::TOO_MANY_REQUESTS, "both secrets are one key");
    }
    scene.limit(&key, rate("2/h burst 3"));
    assert_eq!(scene.ask(FROM, &rotated, ECHO).await.status, StatusCode::OK);
    assert_eq!(scene.ask(FROM, &rotated, ECHO).await.status, StatusCode::TOO_MANY_REQUESTS);
    scene.edit(&key, None);
    assert_eq!(scene.ask(FROM, &key, ECHO).await.status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_and_login_forms_count_as_their_key_and_a_reached_limit_is_no_guess() {
    let scene = Scene::new(Kind::Jellyfin).await;
    let key = scene.key(rate("4/h"));
    let listed = scene.ask(FROM, &key, "/Items?Recursive=true").await.json();
    let id = listed["Items"][0]["Id"].as_str().expect("an id").to_owned();
    let path = format!("/Audio/{id}/stream?api_key={}", scene.ticket(&key).expose());
    let by_ticket = async || client::get(scene.rig.address, &path, &[("x-forwarded-for", FROM)]).await.status;
    let log_in = async || {
        let headers = [("x-forwarded-for", FROM), ("content-type", "application/json")];
        client::send(scene.rig.address, Method::POST, login_path(Kind::Jellyfin), &headers, form(Kind::Jellyfin, "x", key.expose()))
            .await
            .status
    };
    assert_eq!((by_ticket().await, log_in().await, by_ticket().await), (StatusCode::OK, StatusCode::OK, StatusCode::OK));
    for _ in 0..15 {
        assert_eq!((by_ticket().await, log_in().await), (StatusCode::TOO_MANY_REQUESTS, StatusCode::TOO_MANY_REQUESTS));
    }
    assert!(scene.rig.app().gateway.guesses().check(FROM.parse().expect("an address")).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_refused_as_an_unknown_one_is_not_told_from_it_by_its_limits() {
    let scene = Scene::new(Kind::Emby).await;
    let key = scene.key(rate("20/min"));
    assert_eq!(told(&scene.ask(FROM, &key, ECHO).await)[0], Some("20"));
    let patch = KeyPatch { is_active: Some(false), ..KeyPatch::default() };
    scene.rig.keep().registry.edit_key(key.id(), patch).expect("edited");
    let refused = scene.ask(FROM, &key, ECHO).await;
    let unknown = ApiKey::generate(keygate::keys::KeyId::from_u64(4711)).expect("random bytes");
    let stranger = scene.ask(FROM, &unknown, ECHO).await;
    assert_eq!((refused.status, told(&refused), &refused.body), (StatusCode::UNAUTHORIZED, [None; 3], &stranger.body));
}
