//! What operators see of tickets, ids and sessions that are out in the world, and take back while keys and accounts stay.

use http::Method;
use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;
use serde_json::Value;

use crate::support::daemon::Home;
use crate::support::{http as client, until};

/// The first book of Audiobookshelf's stand-in.
const BOOK: &str = "cdc24c99-721f-4d05-9e52-a4cbec99cd76";

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

async fn started(more: &str) -> (StandIn, Home) {
    let standin = StandIn::start(Kind::Audiobookshelf, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], more);
    home.start().await;
    home.add_alice("alice").await;
    (standin, home)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_handed_out_to_a_key_is_listed_and_taken_back_while_the_key_stays_good() {
    let (_standin, mut home) = started("").await;
    let (key, other) = (home.key("tv", "alice").await, home.key("radio", "alice").await);
    assert_eq!(json(&home.run("keys tickets tv -o json").await.ok())["tickets"], json("[]"));
    let play = async |key: &str| {
        let headers = [("x-emby-token", key), ("content-type", "application/json")];
        let path = format!("/api/items/{BOOK}/play");
        client::send(home.address, Method::POST, &path, &headers, "{}").await.json()["id"].as_str().expect("an id").to_owned()
    };
    let (mine, theirs) = (play(&key).await, play(&other).await);
    let status = async |id: &str| client::get(home.address, &format!("/public/session/{id}/track/1"), &[]).await.status.as_u16();
    assert_eq!((status(&mine).await, status(&theirs).await), (200, 200));
    let text = home.run("keys tickets tv -o json").await.ok();
    let listed = json(&text);
    let of = |name: &str| listed["tickets"].as_array().expect("a list").iter().filter(|line| line["sort"] == name).count();
    assert_eq!(of("play-session"), 1, "{text}");
    assert!(!text.contains(&mine), "what opens media is shown to nobody");
    assert!(home.run("keys tickets tv").await.ok().contains("play-session"));
    let all = listed["tickets"].as_array().expect("a list").len();
    let said = home.run("keys tickets tv --revoke").await.ok();
    assert!(said.starts_with(&format!("{all} tickets and ids of key ")), "{said}");
    assert_eq!((status(&mine).await, status(&theirs).await), (401, 200));
    assert_eq!(home.status("/api/me", &key).await, 200, "the key is good");
    assert_eq!(json(&home.run("keys tickets tv -o json").await.ok())["tickets"], json("[]"));
    let log = home.run("audit tail -n 10").await.ok();
    assert!(log.contains("tickets-taken-back"), "{log}");
    assert_eq!(home.run("keys tickets nobody").await.code, 3);
    home.signal("TERM");
    home.ended().await;
    assert_eq!(home.run("keys tickets tv").await.code, 4, "only a running gateway knows");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_an_account_are_listed_and_dropped_and_the_next_request_logs_in_anew() {
    let (standin, home) = started("").await;
    let key = home.key("tv", "alice").await;
    assert_eq!(home.status("/api/me", &key).await, 200);
    let text = home.run("accounts sessions alice -o json").await.ok();
    let listed = json(&text);
    let sessions = listed["sessions"].as_array().expect("a list");
    assert!(!sessions.is_empty() && sessions.iter().all(|line| line["isLive"] == true && line["obtainedAt"].is_string()), "{text}");
    assert!(home.run("accounts sessions alice").await.ok().contains("live"));
    let logins = standin.control().counters().logins;
    let said = home.run("accounts sessions alice --drop").await.ok();
    assert!(said.contains(&format!("dropped {} sessions of audiobookshelf/alice", sessions.len())), "{said}");
    assert_eq!(json(&home.run("accounts sessions alice -o json").await.ok())["sessions"], json("[]"));
    assert_eq!(home.status("/api/me", &key).await, 200);
    until("a new login", || standin.control().counters().logins == logins + 1).await;
    assert!(home.run("audit tail -n 10").await.ok().contains("sessions-dropped"));
    assert_eq!(home.run("accounts sessions nobody").await.code, 3);
}
