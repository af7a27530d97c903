//! How much of a key's limits is used, as operators see it.

use std::time::Duration;

use ::http::{Method, StatusCode};
use keygate::clock::Clock;
use keygate::demo::StandIn;
use serde_json::{Value, json};

use super::*;
use crate::admin_listener::Site;
use crate::support::daemon::Home;
use crate::support::wire::Wire;

const SLOW: &str = "/keygate-test/slow?pause=3600000";

#[tokio::test]
async fn the_detail_of_a_key_says_how_much_of_each_limit_is_used_now() {
    let site = Site::start().await;
    let key = site.rig.another_key("limited");
    let path = format!("/api/api-keys/{}", key.id());
    let shown = async || site.get(&path, &site.all).await.json()["apiKey"]["limitsUsed"].clone();
    assert_eq!(shown().await, Value::Null, "there are no limits");
    let limits = json!({"limits": {"rate": "20/min burst 8", "streams": 3, "bandwidth": "80Mbit", "daily": "5MiB"}});
    let changed = site.ask(Method::PATCH, &path, &site.all, &limits).await;
    assert_eq!((changed.status, changed.json()["apiKey"]["limitsUsed"]["streams"]["running"].clone()), (StatusCode::OK, json!(0)));

    let ask = async |path: &str| client::get(site.rig.address, path, &[("authorization", &bearer(&key))]).await.body.len();
    assert_eq!(ask("/keygate-test/bytes/100000").await, 100_000);
    let mut stream = Wire::plain(site.rig.address).await;
    let book = "/api/items/7f1d2b7e-0f63-4c0c-8a55-6a1b34c9d3f0/file/10127536";
    stream.write(format!("GET {book} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {}\r\n\r\n", bearer(&key))).await;
    assert!(stream.head().await.starts_with("HTTP/1.1 200"));
    let used = shown().await;
    let moved = used["daily"]["bytes"].as_u64().expect("a number");
    assert!((100_000..6 << 20).contains(&moved), "{used}");
    assert_eq!(used["rate"], json!({"remaining": 6, "most": 8, "resetSeconds": 6}));
    assert_eq!(used["streams"], json!({"running": 1, "most": 3}));
    let reset = 86_400 - site.clock.now().as_millis() / 1000 % 86_400;
    assert_eq!((&used["daily"]["mostBytes"], &used["daily"]["resetSeconds"]), (&json!(5 << 20), &json!(reset)));
    assert_eq!(used["bandwidth"], json!({"bytesPerSecond": 0, "mostBytesPerSecond": 10_000_000}), "no five seconds are over");
    drop(stream);
    site.clock.advance(Duration::from_secs(5));
    let used = shown().await;
    let speed = used["bandwidth"]["bytesPerSecond"].as_u64().expect("a number");
    assert!(speed >= 20_000, "{used}");
    assert_eq!(used["rate"]["remaining"], 7);

    let listed = site.get("/api/api-keys", &site.all).await.json();
    assert!(listed["apiKeys"].as_array().expect("a list").iter().all(|key| key["limitsUsed"].is_null()), "{listed}");
    site.ask(Method::PATCH, &path, &site.all, &json!({"limits": {"rate": null, "streams": null, "bandwidth": null}})).await;
    let used = shown().await;
    assert_eq!((&used["rate"], &used["streams"], &used["bandwidth"]), (&Value::Null, &Value::Null, &Value::Null));
    assert!(used["daily"]["bytes"].as_u64() >= Some(moved), "{used}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_shows_what_is_used_ends_what_goes_beyond_and_says_where_it_cannot_know() {
    let standin = StandIn::start(Kind::Jellyfin, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], "[log]\nformat = \"json\"");
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("tv", "alice").await;
    home.run("keys edit tv --daily 1MiB --rate 100/h --streams 2 --bandwidth 1Gbit").await.ok();
    let address = home.address;
    let ask = async |path: &str| client::try_send(address, Method::GET, path, &[("x-emby-token", &key)], "").await;
    assert_eq!(ask("/keygate-test/bytes/5000").await.expect("whole").body.len(), 5000);
    let mut wire = Wire::plain(home.address).await;
    wire.write(format!("GET {SLOW} HTTP/1.1\r\nHost: localhost\r\nX-Emby-Token: {key}\r\n\r\n")).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200"));
    wire.take(10).await;
    let row = |shown: &str, what: &str| shown.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("{shown}")).to_owned();
    let shown = home.run("keys show tv").await.ok();
    assert!(row(&shown, "daily").contains("1MiB (50") && row(&shown, "daily").contains(" of 1048576 bytes today"), "{shown}");
    assert!(row(&shown, "rate").contains("100/h (98 of 100 at once left"), "{shown}");
    assert!(row(&shown, "streams").ends_with("2 (0 now)"), "{shown}");
    assert!(
        row(&shown, "bandwidth").contains("1Gbit (") && row(&shown, "bandwidth").contains(" of 125000000 bytes a second now"),
        "{shown}"
    );
    assert!(!shown.contains("used of limits"), "{shown}");

    assert!(ask("/keygate-test/bytes/30000000").await.is_err(), "it is cut");
    let line: Value = serde_json::from_str(&home.logged("\"path\":\"/keygate-test/bytes/30000000").await).expect("JSON");
    assert_eq!((&line["status"], &line["complete"], &line["ended"]), (&json!(200), &json!(false), &json!("key-daily")), "{line}");
    assert_eq!(ask("/keygate-test/echo").await.expect("an answer").status, StatusCode::TOO_MANY_REQUESTS);
    let line: Value = serde_json::from_str(&home.logged("\"path\":\"/keygate-test/echo").await).expect("JSON");
    assert_eq!((&line["status"], &line["refusal"], &line["key_name"]), (&json!(429), &json!("key-daily"), &json!("tv")), "{line}");

    home.signal("TERM");
    home.ended().await;
    let offline = home.run("keys show tv").await.ok();
    assert!(row(&offline, "daily").ends_with("1MiB") && row(&offline, "used of limits").contains("not known"), "{offline}");
    home.start().await;
    assert!(row(&home.run("keys show tv").await.ok(), "daily").contains("1MiB (1"), "a stop forgets nothing");
    assert_eq!(client::get(home.address, "/keygate-test/echo", &[("x-emby-token", &key)]).await.status, StatusCode::TOO_MANY_REQUESTS);
    home.run("keys revoke tv --yes").await.ok();
    let revoked = home.run("keys show tv").await.ok();
    assert!(row(&revoked, "daily").ends_with("1MiB") && !revoked.contains("used of limits"), "{revoked}");
}
