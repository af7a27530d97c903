//! Keys that expire soon, with the real program: in the log and the audit log once, and in all lists and figures.

use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;
use serde_json::{Value, json};

use crate::support::daemon::{Home, free_address};
use crate::support::http as client;

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_expires_soon_is_told_of_once_and_shown_wherever_keys_are() {
    let standin = StandIn::start(Kind::Jellyfin, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], "[metrics]\nopen = true");
    let admin = free_address();
    home.sweep.cover(&[admin]);
    let config = std::fs::read_to_string(home.config()).expect("written");
    home.write(&config.replace("[admin]\n", &format!("[admin]\nlisten = \"{admin}\"\n")));
    home.start().await;
    home.add_alice("alice").await;
    home.key("forever", "alice").await;
    for (name, expires) in [("guest", "1d"), ("month", "20d"), ("year", "1y")] {
        home.run(&format!("keys create {name} --account alice --expires {expires} -q")).await.ok();
    }
    let told = async |home: &Home| -> Vec<Value> {
        let page = json(&home.run("audit tail -n 1000 -o json --acts").await.ok());
        page["entries"].as_array().expect("a list").iter().filter(|entry| entry["verb"] == "expires-soon").cloned().collect()
    };
    assert_eq!(told(&home).await.len(), 0, "the gateway looked before they were made");

    // It looks when it starts, and then now and then. The step of one day is behind the guest's key, and no step behind the others.
    for is_first in [true, false] {
        home.signal("TERM");
        home.ended().await;
        home.start().await;
        if is_first {
            let line = home.logged("keygate keys edit").await;
            assert!(line.contains("\"guest\" expires at ") && line.contains("in 1 days or less"), "{line}");
        }
        let lines = told(&home).await;
        let names: Vec<_> = lines.iter().map(|line| &line["object"]["name"]).collect();
        assert_eq!(names, ["guest"], "once, over restarts");
        assert_eq!((&lines[0]["by"], &lines[0]["fields"][0]), (&json!("keygate"), &json!({ "name": "days", "after": "1" })));
    }
    assert!(!home.log().contains("keygate keys edit"), "{}", home.log());

    let names = async |within: &str| -> Vec<String> {
        let list = json(&home.run(&format!("keys list -o json --expiring {within}")).await.ok());
        list["apiKeys"].as_array().expect("a list").iter().map(|key| key["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!((names("2d").await, names("30d").await), (vec!["guest".to_owned()], vec!["month".to_owned(), "guest".to_owned()]));
    let table = home.run("keys list").await.ok();
    let row = |name: &str| table.lines().find(|line| line.contains(name)).expect("a row");
    assert!(row("guest").contains("(0d)") && row("month").contains("(19d)") && !row("year").contains("d)"), "{table}");

    let token = home.run("admin tokens create reader --scope read -q").await.ok();
    home.sweep.keep_secret(token.trim());
    let bearer = format!("Bearer {}", token.trim());
    let summary = client::get(admin, "/api/summary", &[("authorization", &bearer)]).await.json();
    assert_eq!((&summary["active"], &summary["expiring"]), (&json!(4), &json!(2)), "{summary}");
    let figures = async || client::get(admin, "/metrics", &[]).await.text();
    let has = |text: &str, figure: &str| text.lines().any(|line| line == figure);
    let text = figures().await;
    assert!(has(&text, r#"keygate_keys_expiring{within="7d"} 1"#) && has(&text, r#"keygate_keys_expiring{within="30d"} 2"#), "{text}");
    // Neither one that has more time now, nor one that is switched off.
    home.run("keys edit guest --expires 90d").await.ok();
    home.run("keys disable month").await.ok();
    let text = figures().await;
    assert!(has(&text, r#"keygate_keys_expiring{within="7d"} 0"#) && has(&text, r#"keygate_keys_expiring{within="30d"} 0"#), "{text}");
    home.signal("TERM");
    home.ended().await;
}
