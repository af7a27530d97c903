//! Guesses at keys are throttled by client address, and a good key passes all the same.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::{Method, StatusCode};
use keygate::clock::ManualClock;
use keygate::keys::{ApiKey, KeyId};
use keygate::registry::KeyPatch;
use keygate::upstream::Kind;

use crate::support::http::{self, Answer};
use crate::support::{Rig, Setup, manual_clock};

const PATH: &str = "/keygate-test/echo";

/// Behind a proxy that is believed, so that a test can be many clients; the clock stands still.
async fn rig(kind: Kind) -> (Rig, Arc<ManualClock>) {
    let clock = manual_clock();
    let setup = Setup::new(kind).clock(clock.clone());
    (setup.with(|config| config.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()]).start().await, clock)
}

async fn ask(rig: &Rig, client: &str, key: &str) -> Answer {
    let bearer = format!("Bearer {key}");
    http::get(rig.address, PATH, &[("x-forwarded-for", client), ("authorization", &bearer)]).await
}

fn unknown_key() -> ApiKey {
    ApiKey::generate(KeyId::from_u64(4711)).unwrap()
}

fn is_throttled(answer: &Answer) -> bool {
    if answer.status != StatusCode::TOO_MANY_REQUESTS {
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
        return false;
    }
    assert_eq!(answer.json()["error"], "too_many_failures");
    assert_eq!(answer.header("retry-after"), Some("3"));
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn after_twenty_wrong_keys_an_address_reads_429_but_a_good_key_passes() {
    for kind in Kind::ALL {
        let (rig, clock) = rig(kind).await;
        let wrong = unknown_key();
        for turn in 0..30 {
            assert_eq!(is_throttled(&ask(&rig, "192.0.2.1", wrong.expose()).await), turn >= 20, "{kind} {turn}");
            assert_eq!(ask(&rig, "192.0.2.1", rig.secret()).await.status, StatusCode::OK, "{kind}: a good key from the same address");
        }
        assert!(!is_throttled(&ask(&rig, "192.0.2.2", wrong.expose()).await), "{kind}: another address");
        clock.advance(Duration::from_secs(3));
        assert!(!is_throttled(&ask(&rig, "192.0.2.1", wrong.expose()).await), "{kind}: one more after a while");
        assert!(is_throttled(&ask(&rig, "192.0.2.1", wrong.expose()).await), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_failure_counts_and_all_throttled_ones_look_the_same() {
    let (rig, _clock) = rig(Kind::Jellyfin).await;
    let disabled = rig.another_key("disabled");
    rig.keep().registry.edit_key(disabled.id(), KeyPatch { is_active: Some(false), ..KeyPatch::default() }).unwrap();
    let damaged = rig.secret()[..30].to_owned();
    let wrong = [unknown_key().expose().to_owned(), damaged, disabled.expose().to_owned()];
    let mut looks = std::collections::HashSet::new();
    for (number, text) in wrong.iter().enumerate() {
        let client = format!("198.51.100.{number}");
        for turn in 0..21 {
            let answer = ask(&rig, &client, text).await;
            assert_eq!(is_throttled(&answer), turn >= 20, "{text} {turn}");
            looks.extend((turn == 20).then(|| answer.text()));
        }
    }
    assert_eq!(looks.len(), 1, "{looks:?}");
    // A ticket is looked up on routes that are for tickets.
    let path = "/Videos/x/stream.mp4?api_key=kgt_0123456789abcdefghijABCDEFGH";
    for turn in 0..21 {
        let answer = http::get(rig.address, path, &[("x-forwarded-for", "198.51.100.99")]).await;
        assert_eq!(is_throttled(&answer), turn >= 20, "{turn}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_known_to_be_dead_use_up_nobodys_guesses_and_are_throttled_by_themselves() {
    let (rig, clock) = rig(Kind::Jellyfin).await;
    let registry = &rig.keep().registry;
    let keys = ["disabled", "revoked", "rotated", "expired"].map(|name| rig.another_key(name));
    registry.edit_key(keys[0].id(), KeyPatch { is_active: Some(false), ..KeyPatch::default() }).unwrap();
    registry.revoke_key(keys[1].id()).unwrap();
    rig.sweep.keep_secret(registry.rotate_key(keys[2].id(), Duration::ZERO).unwrap().key.expose());
    let soon = rig.clock.now().plus(Duration::from_secs(1));
    registry.edit_key(keys[3].id(), KeyPatch { expires_at: Some(Some(soon)), ..KeyPatch::default() }).unwrap();
    clock.advance(Duration::from_secs(2));
    for (number, key) in keys.iter().enumerate() {
        let client = format!("198.51.100.{number}");
        for turn in 0..25 {
            assert_eq!(is_throttled(&ask(&rig, &client, key.expose()).await), turn >= 20, "{number} {turn}");
        }
        for turn in 0..25 {
            assert_eq!(
                is_throttled(&ask(&rig, &client, unknown_key().expose()).await),
                turn >= 20,
                "{number} {turn}: guesses have a count of their own"
            );
        }
        assert_eq!(ask(&rig, &client, rig.secret()).await.status, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_key_is_no_guess() {
    let (rig, _clock) = rig(Kind::Audiobookshelf).await;
    for _ in 0..40 {
        for lines in [&[("x-forwarded-for", "192.0.2.1")][..], &[("x-forwarded-for", "192.0.2.1"), ("authorization", "Basic YTpi")]] {
            assert_eq!(http::get(rig.address, PATH, lines).await.status, StatusCode::UNAUTHORIZED);
        }
        let lines = [("x-forwarded-for", "192.0.2.1")];
        assert_eq!(http::send(rig.address, Method::POST, "/api/x", &lines, "").await.status, StatusCode::UNAUTHORIZED);
    }
    assert!(!is_throttled(&ask(&rig, "192.0.2.1", unknown_key().expose()).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_believed_cannot_choose_the_address_that_is_throttled() {
    let rig = Setup::new(Kind::Emby).clock(manual_clock()).start().await;
    let wrong = unknown_key();
    let clients = (0..30_u8).map(|last| IpAddr::from([192, 0, 2, last]).to_string());
    let mut throttled = 0;
    for client in clients {
        throttled += usize::from(is_throttled(&ask(&rig, &client, wrong.expose()).await));
    }
    assert_eq!(throttled, 10);
}
