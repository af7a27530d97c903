//! What an operator took back does not come back: killed at the moment at which that is acknowledged.

use http::Method;
use serde_json::{Value, json};

use super::under_load::Operator;
use super::*;
use crate::support::http as client;

const ROUNDS: usize = 6;
/// The first book of Audiobookshelf's stand-in.
const BOOK: &str = "cdc24c99-721f-4d05-9e52-a4cbec99cd76";

/// The real program before a stand-in, with a key.
async fn started(kind: Kind) -> (StandIn, Home, Operator, String) {
    let standin = StandIn::start(kind, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], "");
    let operator = Operator::of(&home).await;
    home.add_alice("alice").await;
    let key = home.key("tv", "alice").await;
    home.start().await;
    (standin, home, operator, key)
}

/// Waits until something that was handed out is in the store.
async fn stored(home: &Home) {
    let patience = tokio::time::Instant::now() + client::PATIENCE;
    loop {
        let found: Value = serde_json::from_str(&home.run("store check -o json").await.ok()).expect("JSON");
        if found["handouts"].as_u64() > Some(0) {
            return;
        }
        assert!(tokio::time::Instant::now() < patience, "{found}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Takes back what the key has, and kills the gateway when it says that it is done.
async fn take_back_and_kill(home: &mut Home, operator: &Operator, key: &str) {
    let id = key.split('_').nth(1).expect("an id");
    let done = operator.ask("DELETE", &format!("/api/api-keys/{id}/tickets"), &Value::Null).await;
    home.kill();
    let count = done.expect("an answer")["takenBack"].as_u64();
    assert!(count > Some(0), "{count:?}");
}

async fn bare(home: &Home, target: &str) -> u16 {
    client::get(home.address, target, &[]).await.status.as_u16()
}

/// An item of Jellyfin's stand-in.
async fn item(home: &Home, key: &str) -> String {
    let items = client::get(home.address, "/Items?Recursive=true", &[("x-emby-token", key)]).await.json();
    items["Items"][0]["Id"].as_str().expect("an id").to_owned()
}

/// The URL of its stream, with a ticket.
async fn stream(home: &Home, item: &str, key: &str) -> String {
    let headers = [("x-emby-token", key), ("content-type", "application/json")];
    let info = client::send(home.address, Method::POST, &format!("/Items/{item}/PlaybackInfo"), &headers, "{}").await.text();
    let ticket = info.split(['=', '&', '"']).find(|part| part.starts_with("kgt_")).expect("a ticket");
    format!("/Audio/{item}/stream?api_key={ticket}")
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_that_were_taken_back_do_not_return_after_a_kill() {
    let (_standin, mut home, operator, key) = started(Kind::Jellyfin).await;
    let item = item(&home, &key).await;
    for round in 0..ROUNDS {
        let stream = stream(&home, &item, &key).await;
        assert_eq!(bare(&home, &stream).await, 200, "round {round}");
        stored(&home).await;
        take_back_and_kill(&mut home, &operator, &key).await;
        home.start().await;
        assert_eq!(bare(&home, &stream).await, 401, "round {round}");
    }
    let lines = operator.ask("GET", "/api/audit?sort=acts&limit=1000", &Value::Null).await.expect("a page");
    let told = lines["entries"].as_array().expect("a list").iter().filter(|entry| entry["verb"] == "tickets-taken-back").count();
    assert_eq!(told, ROUNDS, "each with its line: {lines}");
    home.signal("TERM");
    home.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_of_a_key_that_was_disabled_stay_dead_when_it_lives_again_after_a_kill() {
    let (_standin, mut home, operator, key) = started(Kind::Jellyfin).await;
    let (item, id) = (item(&home, &key).await, key.split('_').nth(1).expect("an id").to_owned());
    let patch = json!({ "isActive": false });
    for round in 0..ROUNDS {
        let stream = stream(&home, &item, &key).await;
        assert_eq!(bare(&home, &stream).await, 200, "round {round}");
        stored(&home).await;
        let done = operator.ask("PATCH", &format!("/api/api-keys/{id}"), &patch).await;
        home.kill();
        assert!(done.is_some(), "round {round}");
        home.run("keys enable tv").await.ok();
        home.start().await;
        assert_eq!(bare(&home, &stream).await, 401, "round {round}");
        assert_eq!(home.status("/System/Info", &key).await, 200, "round {round}: the key is as good as before");
    }
    home.signal("TERM");
    home.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn play_sessions_that_were_taken_back_stay_shut_after_a_kill_and_are_closed_then() {
    let (standin, mut home, operator, key) = started(Kind::Audiobookshelf).await;
    let control = standin.control();
    for round in 0..ROUNDS {
        let headers = [("x-emby-token", key.as_str()), ("content-type", "application/json")];
        let body = json!({ "forceTranscode": true }).to_string();
        let answer = client::send(home.address, Method::POST, &format!("/api/items/{BOOK}/play"), &headers, body).await;
        let playlist = format!("/hls/{}/output.m3u8", answer.json()["id"].as_str().expect("an id"));
        assert_eq!(bare(&home, &playlist).await, 200, "round {round}");
        stored(&home).await;
        // The server does not hear that it is to be closed.
        control.faults(|faults| faults.no_answer = true);
        take_back_and_kill(&mut home, &operator, &key).await;
        assert_eq!(control.open_playbacks().len(), 1, "round {round}");
        control.faults(|faults| faults.no_answer = false);
        home.start().await;
        assert_eq!(bare(&home, &playlist).await, 401, "round {round}");
        support::until("it is closed", || control.open_playbacks().is_empty()).await;
    }
    home.signal("TERM");
    home.ended().await;
}
