//! The audit log as operators read it: every change with who made it, what it was before and what after; nothing secret; nothing that
//! a kill, a restore or a flood of bad keys takes away.

use keygate::audit::{Actor, Reading};
use keygate::demo::{Options, StandIn};
use keygate::registry::KeyPatch;
use keygate::store::Store as _;
use keygate::upstream::Kind;
use serde_json::Value;

use crate::support::daemon::Home;
use crate::support::{self, Rig};

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

async fn started(more: &str) -> (StandIn, Home) {
    let standin = StandIn::start(Kind::Audiobookshelf, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], more);
    home.start().await;
    (standin, home)
}

/// verb and object of each line, oldest first.
async fn tail(home: &Home, words: &str) -> Vec<(String, String)> {
    let page = json(&home.run(&format!("audit tail -n 1000 -o json{words}")).await.ok());
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    page["entries"].as_array().expect("a list").iter().map(|entry| (text(&entry["verb"]), text(&entry["object"]["name"]))).collect()
}

fn pairs(lines: &[(String, String)]) -> Vec<(&str, &str)> {
    lines.iter().map(|(verb, name)| (verb.as_str(), name.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_an_operator_does_leaves_a_line_that_names_them_and_what_changed() {
    let (_standin, mut home) = started("").await;
    home.add_alice("alice").await;
    home.key("tv", "alice").await;
    for words in
        ["keys edit tv --name den", "keys disable den", "keys enable den", "keys edit den --scope admin", "keys rotate den --overlap 1h -q"]
    {
        home.run(words).await.ok();
    }
    home.run("accounts login alice").await.ok();
    home.run_with("accounts set-credential alice --secret-stdin", "alice-password\n").await.ok();
    home.run("store compact").await.ok();
    home.run("store backup copy.redb").await.ok();
    home.run("reload").await.ok();
    home.run("keys revoke den --yes").await.ok();
    home.run("keys create guest --account alice --count 3 --out guests.txt").await.ok();
    home.run("accounts remove alice --revoke-keys --force --yes").await.ok();
    home.run("store forget-time").await.ok();
    let account = "audiobookshelf/alice";
    let expected = [
        ("created", account),
        ("created", "tv"),
        ("changed", "den"),
        ("changed", "den"),
        ("changed", "den"),
        ("changed", "den"),
        ("rotated", "den"),
        ("logged-in", account),
        ("credential-changed", account),
        ("compacted", "store"),
        ("backed-up", "store"),
        ("reloaded", "configuration"),
        ("revoked", "den"),
        ("created", "guest"),
        ("created", "guest-1"),
        ("created", "guest-2"),
        ("created", "guest-3"),
        ("removed", account),
    ];
    let lines = tail(&home, "").await;
    let lines = pairs(&lines);
    assert_eq!(lines[..expected.len()], expected);
    let mut gone = lines[expected.len()..lines.len() - 1].to_vec();
    gone.sort_unstable();
    assert_eq!(gone, [("revoked", "guest-1"), ("revoked", "guest-2"), ("revoked", "guest-3")]);
    assert_eq!(lines.last(), Some(&("time-forgotten", "store")));

    let page = json(&home.run("audit tail -n 1000 -o json").await.ok());
    let uid = rustix::process::getuid().as_raw();
    for (entry, number) in page["entries"].as_array().expect("a list").iter().zip(1..) {
        assert_eq!((&entry["number"], &entry["actor"]["kind"], &entry["actor"]["uid"]), (&number.into(), &"socket".into(), &uid.into()));
    }
    let fields = |index: usize| page["entries"][index]["fields"].clone();
    assert_eq!(fields(2), json(r#"[{"name":"name","before":"tv","after":"den"}]"#));
    assert_eq!(fields(3), json(r#"[{"name":"active","before":"true","after":"false"}]"#));
    assert_eq!((&fields(5)[0]["name"], &fields(5)[0]["after"]), (&"scopes".into(), &"admin".into()));
    assert_eq!(fields(6)[0]["before"], "none");

    home.signal("HUP");
    support::until("the reload by signal", || home.log().contains("configuration read again, asked by SIGHUP")).await;
    let of_key = tail(&home, " --key guest-1").await;
    assert_eq!(pairs(&of_key), [("created", "guest-1"), ("revoked", "guest-1")]);
    assert_eq!(tail(&home, " --since 1h").await.len(), lines.len() + 1, "and the reload by the signal");
    home.signal("TERM");
    home.ended().await;
    let offline = home.run("audit tail -n 1").await.ok();
    assert!(offline.contains("reloaded"), "{offline}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_without_a_gateway_is_written_down_too_and_a_restore_takes_nothing_of_the_log_away() {
    let (_standin, mut home) = started("").await;
    home.add_alice("alice").await;
    home.run("store backup copy.redb").await.ok();
    home.key("later", "alice").await;
    home.signal("TERM");
    home.ended().await;
    for words in ["keys disable later", "store compact", "store backup two.redb", "store rekey", "store restore two.redb --force"] {
        let said = home.run(words).await;
        // The second backup is sealed under the old master key.
        assert!(said.code == 0 || words.contains("restore two"), "{words}: {said:?}");
    }
    home.run("store backup three.redb").await.ok();
    home.run("keys enable later").await.ok();
    home.run("store restore three.redb --force").await.ok();
    let lines = tail(&home, "").await;
    let verbs: Vec<_> = lines.iter().map(|(verb, _)| verb.as_str()).collect();
    let expected = ["created", "backed-up", "created", "changed", "compacted", "backed-up", "rekeyed", "backed-up", "changed", "restored"];
    assert_eq!(verbs, expected);
    let page = json(&home.run("audit tail -o json").await.ok());
    assert_eq!((&page["entries"][3]["actor"]["kind"], &page["entries"][9]["actor"]["kind"]), (&"cli".into(), &"cli".into()));
    assert_eq!(json(&home.run("store check -o json").await.ok())["problems"], json("[]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_followed_as_it_grows_and_read_in_pages() {
    let (_standin, home) = started("").await;
    home.add_alice("alice").await;
    for number in 0..5 {
        home.key(&format!("key-{number}"), "alice").await;
    }
    let first = json(&home.run("audit tail -n 2 -o json").await.ok());
    assert_eq!(first["next"], 5, "the numbers below it come next");
    let mut following = home.program().args(["audit", "tail", "--follow", "-n", "1", "-o", "json"]).spawn().expect("the program");
    let stdout = following.stdout.take().expect("piped");
    let reading = tokio::task::spawn_blocking(move || {
        use std::io::BufRead;
        std::io::BufReader::new(stdout).lines().take(2).map(|line| line.expect("a line")).collect::<Vec<_>>()
    });
    home.key("new-one", "alice").await;
    let lines = reading.await.expect("read");
    let _ = following.kill();
    let _ = following.wait();
    let names: Vec<_> = lines.iter().map(|line| json(line)["object"]["name"].as_str().expect("a name").to_owned()).collect();
    assert!(names == ["key-4", "new-one"] || names[0] == "new-one", "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_changes_have_their_lines_after_a_kill() {
    let (_standin, mut home) = started("").await;
    home.add_alice("alice").await;
    for round in 0..3 {
        home.key(&format!("key-{round}"), "alice").await;
        home.run(&format!("keys revoke key-{round} --yes")).await.ok();
        home.kill();
        home.start().await;
        let lines = tail(&home, " --acts").await;
        assert_eq!(lines.len(), 1 + 2 * (round + 1), "{lines:?}");
        assert_eq!(lines.last().map(|(verb, _)| verb.as_str()), Some("revoked"));
    }
    assert_eq!(json(&home.run("store check -o json").await.ok())["problems"], json("[]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_account_and_its_cure_are_written_with_the_change() {
    let (standin, home) = started("").await;
    home.add_alice("alice").await;
    let said = home.run_with("accounts set-credential alice --no-verify --secret-stdin", "wrong\n").await;
    assert_eq!(said.code, 0, "{said:?}");
    home.run("accounts login alice").await.refused(5);
    home.run_with("accounts set-credential alice --secret-stdin", "alice-password\n").await.ok();
    let lines = tail(&home, "").await;
    let verbs: Vec<_> = lines.iter().map(|(verb, _)| verb.as_str()).collect();
    assert_eq!(verbs, ["created", "credential-changed", "broken", "logged-in", "credential-changed"]);
    drop(standin);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_acts_within_the_process_is_named_too() {
    let rig = Rig::new(Kind::Jellyfin).await;
    let token = Actor::Token { id: "t1".to_owned(), name: "dashboard".to_owned(), address: "192.0.2.1".to_owned() };
    let patch = KeyPatch { name: Some("tv".to_owned()), ..KeyPatch::default() };
    rig.keep().registry.by(token.clone()).edit_key(rig.key.id(), patch).expect("edited");
    let mut newest = None;
    rig.store
        .read_audit(Reading::Before(u64::MAX), &mut |entry| {
            newest = Some(entry);
            false
        })
        .expect("the log");
    assert_eq!(newest.expect("a line").line.actor, token);
}
