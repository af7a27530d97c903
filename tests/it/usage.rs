//! What keys are used for, as operators see it: who used a key last and with which secret, how often, what runs now; and
//! that a flood of bad keys takes nothing of what operators did out of the audit log.

use std::fmt::Write as _;
use std::time::Duration;

use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;
use keygate::usage::count::Class;
use keygate::usage::open::Sort;
use serde_json::Value;

use crate::support::daemon::Home;
use crate::support::http::{self as client, head};
use crate::support::socket::Socket;
use crate::support::wire::Wire;
use crate::support::{self, Rig};

/// An answer that sends a first piece and then nothing for an hour.
const SILENT: &str = "/keygate-test/slow?pause=3600000";

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

async fn started(more: &str) -> (StandIn, Home) {
    let standin = StandIn::start(Kind::Jellyfin, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], more);
    home.start().await;
    home.add_alice("alice").await;
    (standin, home)
}

/// A request with a key by a client of this name.
async fn ask(home: &Home, path: &str, key: &str, agent: &str) -> u16 {
    client::get(home.address, path, &[("x-emby-token", key), ("user-agent", agent)]).await.status.as_u16()
}

/// Waits until so many requests of a key are counted, and gives its use.
async fn counted(home: &Home, key: &str, requests: u64) -> Value {
    let id = key.split('_').nth(1).expect("an id").to_owned();
    let patience = tokio::time::Instant::now() + client::PATIENCE;
    loop {
        let usage = json(&home.run(&format!("keys revoke {id} --dry-run -o json")).await.ok());
        if usage["counts"]["requests"].as_u64() >= Some(requests) {
            return usage;
        }
        assert!(tokio::time::Instant::now() < patience, "{usage}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mixed_load_is_counted_alike_for_the_key_its_upstream_and_the_list() {
    let rig = Rig::new(Kind::Jellyfin).await;
    let (usage, id) = (&rig.keep().usage, rig.key.id());
    let mut bytes = 0;
    for _ in 0..20 {
        bytes += rig.get("/keygate-test/bytes/5000").await.body.len() as u64;
        bytes += rig.get("/keygate-test/status/404").await.body.len() as u64;
        bytes += rig.get("/keygate-test/status/503").await.body.len() as u64;
        assert_eq!(rig.get("/Auth/Keys").await.status, 403);
    }
    support::until("all are counted", || usage.of_key(id).expect("read").is_some_and(|usage| usage.counts.requests() >= 80)).await;
    let of_key = usage.of_key(id).expect("read").expect("used");
    let classes = [Class::Success, Class::ClientError, Class::ServerError, Class::Refused].map(|class| of_key.counts.of(class));
    assert_eq!((classes, of_key.counts.requests()), ([20; 4], 80));
    assert!(of_key.counts.bytes_out > bytes, "and the refusals' texts");
    assert_eq!(of_key.carriers["bearer"], 80);
    assert_eq!(of_key.groups["/keygate-test/bytes/*"], 20);
    let totals = usage.totals().expect("read");
    assert_eq!(totals["media"].counts, of_key.counts);
    assert_eq!(totals["media"].refusals["missing-scope"], 20);
    assert_eq!(usage.last_uses().expect("read")[&id].requests, 80);
    let minutes: u32 = of_key.minutes.points().map(|(_, point)| point.good + point.refused + point.failed).sum();
    assert_eq!(minutes, 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_a_stream_are_counted_while_it_runs_and_it_can_be_closed_alone() {
    let rig = Rig::new(Kind::Jellyfin).await;
    let (usage, id) = (&rig.keep().usage, rig.key.id());
    let bearer = format!("Bearer {}", rig.secret());
    let ask = async || {
        let mut wire = Wire::plain(rig.address).await;
        wire.write(head("GET", SILENT, &[("host", b"x"), ("authorization", bearer.as_bytes())])).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 200"));
        wire
    };
    let (mut one, mut other) = (ask().await, ask().await);
    support::until("both are seen", || usage.open(Some(id)).expect("read").iter().filter(|view| view.moved.bytes_out > 0).count() == 2)
        .await;
    let of_key = usage.of_key(id).expect("read").expect("used");
    assert!(of_key.counts.bytes_out > 0 && of_key.counts.requests() == 0, "{:?}", of_key.counts);
    assert!(of_key.last().is_some(), "it is in use");
    let open = usage.open(None).expect("read");
    assert!(open.iter().all(|view| view.sort == Sort::Stream && view.group.as_str() == "/keygate-test/slow"), "{open:?}");
    assert_eq!(usage.close(open[0].id).expect("asked").map(|view| view.id), Some(open[0].id));
    support::until("one is left", || usage.open(None).expect("read").len() == 1).await;
    assert_eq!(usage.open(None).expect("read")[0].id, open[1].id);
    let counts = usage.of_key(id).expect("read").expect("used").counts;
    assert_eq!(counts.requests(), 1);
    assert_eq!(usage.totals().expect("read")["media"].counts.bytes_out, counts.bytes_out, "no byte twice");
    assert!(usage.close(open[0].id).expect("asked").is_none(), "it is gone");
    // Streams that began within one tick of the clock stand in no order of their own.
    tokio::select! {
        _ = one.rest() => {}
        _ = other.rest() => {}
    }
    assert_eq!(rig.get("/keygate-test/status/200").await.status, 200, "the key is good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_on_the_list_and_is_told_that_it_was_the_operator_who_closed_it() {
    let rig = Rig::new(Kind::Jellyfin).await;
    let mut socket = Socket::with_key(&rig, Kind::Jellyfin).await;
    let usage = &rig.keep().usage;
    support::until("it is seen", || usage.open(None).expect("read").iter().any(|view| view.sort == Sort::Socket)).await;
    let id = usage.open(None).expect("read")[0].id;
    usage.close(id).expect("asked").expect("running");
    assert!(socket.hear().await.contains("ForceKeepAlive"));
    assert_eq!(socket.closed().await, (1001, "closed by the operator".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_tells_who_still_has_the_old_secret() {
    let (_standin, home) = started("").await;
    let old = home.key("tv", "alice").await;
    assert_eq!(ask(&home, "/System/Info", &old, "Kodi/20.2 (X11)").await, 200);
    let new = home.run("keys rotate tv --overlap 1h -q").await.ok().trim_end().to_owned();
    assert_eq!(ask(&home, "/System/Info", &new, "curl/8").await, 200);
    assert_eq!(ask(&home, "/System/Info", &old, "Kodi/20.2 (X11)").await, 200);
    let usage = counted(&home, &new, 3).await;
    let clients: Vec<_> =
        usage["clients"].as_array().expect("a list").iter().map(|one| (&one["agent"], &one["secret"], &one["requests"])).collect();
    assert!(clients.contains(&(&"Kodi/20.2".into(), &"old".into(), &2.into())), "{clients:?}");
    assert!(clients.contains(&(&"curl/8".into(), &"current".into(), &1.into())), "{clients:?}");
    let shown = home.run("keys show tv").await.ok();
    let line = shown.lines().find(|line| line.starts_with("old secret used")).expect("a line");
    assert!(line.contains("from 127.") && line.contains("(Kodi/20.2)"), "{line}");
    let would = home.run("keys revoke tv --dry-run").await.ok();
    assert!(would.contains("Last used") && would.contains("with a secret that is old"), "{would}");
    assert_eq!(ask(&home, "/System/Info", &new, "curl/8").await, 200, "nothing was revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_by_when_they_were_used_and_when_they_expire() {
    let (_standin, home) = started("").await;
    let used = home.key("used", "alice").await;
    home.key("idle", "alice").await;
    home.run("keys create short --account alice --expires 6d -q").await.ok();
    assert_eq!(ask(&home, "/System/Info", &used, "curl/8").await, 200);
    counted(&home, &used, 1).await;
    let names = async |words: &str| -> Vec<String> {
        let list = json(&home.run(&format!("keys list -o json {words}")).await.ok());
        list["apiKeys"].as_array().expect("a list").iter().map(|key| key["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names("--unused").await.len(), 2);
    assert_eq!(names("--expiring 14d").await, ["short"]);
    assert_eq!(names("--stale 90d").await.len(), 0, "they are younger than that");
    assert_eq!(names("--stale 0s").await.len(), 3);
    assert_eq!(names("--by-last-use").await[0], "used");
    let table = home.run("keys list").await.ok();
    let row = |name: &str| table.lines().find(|line| line.contains(name)).expect("a row").to_owned();
    assert!(row("short").contains("(5d)") && row("idle").contains("never  full") && !row("used ").contains("never  full"), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_loses_nothing() {
    let (_standin, mut home) = started("[usage]\nflush = \"1h\"").await;
    let key = home.key("tv", "alice").await;
    for _ in 0..5 {
        assert_eq!(ask(&home, "/System/Info", &key, "curl/8").await, 200);
    }
    home.signal("TERM");
    home.ended().await;
    assert_eq!(counted(&home, &key, 5).await["counts"]["requests"], 5, "offline, from the store");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bad_keys_takes_nothing_of_what_operators_did_out_of_the_log() {
    let (_standin, mut home) = started("[audit]\nmax_entries = 1000").await;
    let key = home.key("tv", "alice").await;
    let revoked = home.key("dead", "alice").await;
    home.run("keys revoke dead --yes").await.ok();
    let mut throttled = 0;
    for round in 0..300_u32 {
        let bad = keygate::keys::ApiKey::generate(keygate::keys::KeyId::from_u64(round.into())).expect("a key");
        home.sweep.keep_secret(bad.expose());
        let status = ask(&home, "/System/Info", bad.expose(), "").await;
        // On a slow machine, one more guess comes back every three seconds.
        assert!(status == 401 || (status == 429 && round >= 20), "{round}: {status}");
        throttled += u32::from(status == 429);
    }
    ask(&home, "/System/Info", &revoked, "").await;
    assert_eq!(ask(&home, "/System/Info", &key, "").await, 200);
    home.signal("TERM");
    home.ended().await;
    let page = json(&home.run("audit tail -n 1000 -o json").await.ok());
    let mut lines = String::new();
    for entry in page["entries"].as_array().expect("a list") {
        let _ = writeln!(lines, "{} {} {}", entry["verb"], entry["object"]["name"], entry["fields"]);
    }
    let acts: Vec<_> = lines.lines().filter(|line| !line.starts_with("\"refused\"") && !line.starts_with("\"throttled\"")).collect();
    assert_eq!(acts.len(), 4, "{lines}");
    let notices = lines.lines().count() - acts.len();
    assert!((1..=10).contains(&notices), "{lines}");
    assert!(lines.contains("\"throttled\"") && lines.contains("unknown-key"), "{lines}");
    assert!(lines.contains(r#"{"after":"x-emby-token","name":"carrier"}"#), "where the keys were is told: {lines}");
    assert!(lines.contains(&format!(r#"{{"after":"{throttled}","name":"times"}}"#)), "how often is told: {lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_holds_no_secret_and_an_import_makes_new_keys_of_the_same_kind() {
    let (_standin, mut home) = started("").await;
    let key = home.key("tv", "alice").await;
    home.run("keys create den --account alice --expires 2y --scope admin --daily 50GiB -q").await.ok();
    home.run("keys create gone --account alice -q").await.ok();
    home.run("keys revoke gone --yes").await.ok();
    let exported = home.run("keys export").await.ok();
    let secret = key.split('_').nth(2).expect("a secret");
    assert!(!exported.contains(secret) && !exported.contains("digest"), "{exported}");
    std::fs::write(home.folder.path().join("keys.json"), &exported).expect("written");
    let plan = home.run("keys import keys.json --dry-run").await.ok();
    assert!(plan.contains("tv") && plan.contains("den") && !plan.contains("gone"), "{plan}");
    assert_eq!(json(&home.run("keys list -o json").await.ok())["apiKeys"].as_array().expect("a list").len(), 2);
    home.run("keys import keys.json").await.refused(2);
    home.run("keys import keys.json --out new.txt").await.ok();
    let text = std::fs::read_to_string(home.folder.path().join("new.txt")).expect("there");
    let made: Vec<_> = text.lines().filter_map(|line| line.split_once('\t')).collect();
    assert_eq!(made.iter().map(|(name, _)| *name).collect::<Vec<_>>().len(), 2);
    for (name, secret) in &made {
        home.sweep.keep_secret(secret);
        // The scope admin alone does not browse; the key is known.
        let expected = if *name == "den" { 403 } else { 200 };
        assert_eq!(ask(&home, "/System/Info", secret, "").await, expected, "{name}");
    }
    assert_eq!(ask(&home, "/System/Info", &key, "").await, 200, "the old ones are as they were");
    let den = json(
        &home
            .run(&format!(
                "keys show {} -o json",
                made.iter().find(|(name, _)| *name == "den").expect("made").1.split('_').nth(1).expect("an id")
            ))
            .await
            .ok(),
    );
    assert_eq!((&den["apiKey"]["scopes"], den["apiKey"]["expiresAt"].is_string()), (&json("[\"admin\"]"), true));
    assert_eq!(den["apiKey"]["limits"], json("{\"daily\": \"50GiB\"}"));
    home.signal("TERM");
    home.ended().await;
}
