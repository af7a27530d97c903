//! One line for each request, when it has ended: by the real program, from its standard error.

use std::io::{Read, Write};

use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;
use serde_json::Value;

use crate::support::Rig;
use crate::support::daemon::Home;
use crate::support::http as client;
use crate::support::net::blocking::TcpStream;

async fn home(kind: Kind, more: &str) -> (StandIn, Home, String) {
    let standin = StandIn::start(kind, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], more);
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("kitchen", "alice").await;
    (standin, home, key)
}

/// The one line of JSON about a path; of a query only that there was one is written.
async fn line(home: &mut Home, path: &str) -> Value {
    let text = home.logged(&format!("\"path\":\"{path}")).await;
    assert_eq!(home.log().lines().filter(|line| line.contains(&format!("\"path\":\"{path}"))).count(), 1, "one line a request");
    let line: Value = serde_json::from_str(&text).expect("JSON");
    let written = line["path"].as_str().expect("text");
    assert!(written == path || written == format!("{path}?…"), "{written}");
    line
}

const JSON: &str = "[log]\nformat = \"json\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_json_has_who_what_where_how_much_and_how_long() {
    let (_standin, mut home, key) = home(Kind::Jellyfin, JSON).await;
    let bearer = format!("Bearer {key}");
    let answer = client::get(home.address, "/keygate-test/bytes/5000?secret=hidden", &[("authorization", &bearer)]).await;
    assert_eq!(answer.body.len(), 5000);
    let line = line(&mut home, "/keygate-test/bytes/5000").await;
    for (name, value) in [
        ("client", "127.0.0.1"),
        ("method", "GET"),
        ("upstream", "jellyfin"),
        ("account", "alice"),
        ("key_name", "kitchen"),
        ("carrier", "bearer"),
        ("level", "INFO"),
    ] {
        assert_eq!(line[name], value, "{name} in {line}");
    }
    assert_eq!(
        (&line["status"], &line["bytes_in"], &line["bytes_out"], &line["complete"]),
        (&200.into(), &0.into(), &5000.into(), &true.into())
    );
    assert!(line["duration_ms"].is_u64() && line["timestamp"].is_string(), "{line}");
    assert!(key.contains(line["key_id"].as_str().expect("an id")), "{line}");
    assert!(!home.log().contains("hidden"), "no query");
    let upload = client::send(home.address, http::Method::POST, "/keygate-test/upload", &[("x-emby-token", &key)], vec![7; 3000]).await;
    assert_eq!(upload.status, 200);
    let line = self::line(&mut home, "/keygate-test/upload").await;
    assert_eq!((&line["bytes_in"], &line["carrier"]), (&3000.into(), &"x-emby-token".into()), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_of_text_has_the_same() {
    let (_standin, mut home, key) = home(Kind::Emby, "").await;
    client::get(home.address, &format!("/keygate-test/bytes/77?api_key={key}&a=1"), &[]).await;
    let line = home.logged("/keygate-test/bytes/77").await;
    for part in ["client=127.0.0.1", "method=\"GET\"", "status=200", "upstream=\"emby\"", "account=\"alice\"", "key_name=\"kitchen\""] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    for part in ["key_id=", "carrier=", "bytes_in=0", "bytes_out=77", "duration_ms=", "complete=true"] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    assert!(!line.contains("api_key=") && !line.contains(&key), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_of_a_refusal_has_the_same_fields_and_its_reason() {
    let (_standin, mut home, _key) = home(Kind::Emby, JSON).await;
    let answer = client::get(home.address, "/refused", &[]).await;
    let line = line(&mut home, "/refused").await;
    assert_eq!((&line["status"], &line["refusal"], &line["complete"]), (&401.into(), &"no-key".into(), &true.into()), "{line}");
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&0.into(), &answer.body.len().into()), "{line}");
    let answer = client::get(home.address, "/Users/Public", &[]).await;
    let line = self::line(&mut home, "/Users/Public").await;
    assert_eq!((&line["status"], &line["bytes_out"]), (&200.into(), &answer.body.len().into()), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_leaves_a_line_that_says_so() {
    let (_standin, mut home, key) = home(Kind::Audiobookshelf, JSON).await;
    let mut stream = TcpStream::connect(home.address).expect("connected");
    let head = format!("GET /keygate-test/slow?pause=200 HTTP/1.1\r\nhost: x\r\nx-emby-token: {key}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("written");
    let mut some = [0; 64];
    assert!(stream.read(&mut some).expect("some of it") > 0);
    drop(stream);
    let line = line(&mut home, "/keygate-test/slow").await;
    assert_eq!((&line["status"], &line["complete"]), (&200.into(), &false.into()), "{line}");
    assert!(line["bytes_out"].as_u64().expect("a number") < 64, "{line}");

    let mut stream = TcpStream::connect(home.address).expect("connected");
    let head = format!("GET /keygate-test/never HTTP/1.1\r\nhost: x\r\nx-emby-token: {key}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("written");
    crate::support::until("it waits", || _standin.control().journal().iter().any(|seen| seen.path() == "/keygate-test/never")).await;
    drop(stream);
    let line = self::line(&mut home, "/keygate-test/never").await;
    assert_eq!((&line["status"], &line["complete"]), (&499.into(), &false.into()), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_key_ended_leaves_a_line_that_says_so() {
    let (standin, mut home, key) = home(Kind::Audiobookshelf, JSON).await;
    let short = home.key("short", "alice").await;
    let ask = |path: &str, key: &str| {
        let mut stream = TcpStream::connect(home.address).expect("connected");
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nx-emby-token: {key}\r\n\r\n").as_bytes()).expect("written");
        stream
    };
    let (slow, never) = ("/keygate-test/slow?pause=3600000", "/keygate-test/never");
    let (mut streaming, mut waiting) = (ask(slow, &key), ask(never, &short));
    assert!(streaming.read(&mut [0; 64]).expect("some of it") > 0);
    crate::support::until("it waits", || standin.control().journal().iter().any(|seen| seen.path() == never)).await;
    home.run("keys revoke kitchen --yes").await.ok();
    home.run("keys disable short").await.ok();
    let ended = line(&mut home, "/keygate-test/slow").await;
    assert_eq!((&ended["status"], &ended["complete"], &ended["ended"]), (&200.into(), &false.into(), &"key-revoked".into()), "{ended}");
    let refused = line(&mut home, never).await;
    assert_eq!((&refused["status"], &refused["refusal"], &refused["key_name"]), (&401.into(), &"key-disabled".into(), &"short".into()));
    home.logged("what ran on keys that died was cut off").await;
    assert!(waiting.read(&mut [0; 64]).expect("an answer") > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_breaks_off_leaves_a_line_that_says_so() {
    let (standin, mut home, key) = home(Kind::Emby, JSON).await;
    standin.control().faults(|faults| faults.cut_bodies_after = Some(1000));
    let mut stream = TcpStream::connect(home.address).expect("connected");
    let head = format!("GET /keygate-test/bytes/900000 HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-emby-token: {key}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("written");
    // How the client learns of it is another test's business.
    let _ = stream.read_to_end(&mut Vec::new());
    let line = line(&mut home, "/keygate-test/bytes/900000").await;
    assert_eq!((&line["status"], &line["complete"]), (&200.into(), &false.into()), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_leaves_its_line_when_it_ends() {
    let (_standin, mut home, key) = home(Kind::Jellyfin, JSON).await;
    let mut stream = TcpStream::connect(home.address).expect("connected");
    let head = format!(
        "GET /socket?api_key={key} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("written");
    let mut some = [0; 1024];
    let count = stream.read(&mut some).expect("an answer");
    assert!(some[..count].starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&some[..count]));
    assert!(!home.log().contains("\"/socket"), "not before its end");
    drop(stream);
    let line = line(&mut home, "/socket").await;
    assert_eq!((&line["status"], &line["key_name"]), (&101.into(), &"kitchen".into()), "{line}");
    assert!(line["bytes_out"].is_u64() && line["complete"].is_boolean(), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_leaves_its_true_reason_although_the_client_is_not_told() {
    let (_standin, mut home, key) = home(Kind::Audiobookshelf, JSON).await;
    let dead = home.key("dead", "alice").await;
    let off = home.key("off", "alice").await;
    home.run("keys revoke dead --yes").await.ok();
    home.run("keys disable off").await.ok();
    let short = home.run("keys create short -a alice --expires 1s -q").await.ok();
    let damaged = format!("{}x", &key[..key.len() - 1]);
    let mut bodies = Vec::new();
    let cases = [
        ("/a", vec![], "no-key"),
        ("/b", vec![("x-emby-token", damaged.as_str())], "malformed-key"),
        ("/c", vec![("x-emby-token", dead.as_str())], "dead-key"),
        ("/d", vec![("authorization", "Bearer eyJhbGciOiJIUzI1NiJ9.eyJhIjoxfQ.c2ln")], "foreign-credential"),
        ("/e", vec![("x-emby-token", off.as_str())], "disabled-key"),
    ];
    for (path, headers, reason) in &cases {
        let answer = client::get(home.address, path, headers).await;
        assert_eq!(answer.status, 401, "{reason}");
        bodies.push(answer.body);
        let line = line(&mut home, path).await;
        assert_eq!(
            (line["refusal"].as_str(), line["status"].as_u64(), &line["level"]),
            (Some(*reason), Some(401), &"WARN".into()),
            "{line}"
        );
        assert!(line["reason"].is_string() && line["client"] == "127.0.0.1", "{line}");
        assert_eq!(line["carrier"].is_string(), *reason != "no-key", "{line}");
    }
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]), "alike outside");
    let mut expired = 0;
    crate::support::until("the short key dies", || {
        expired += 1;
        let mut stream = TcpStream::connect(home.address).expect("connected");
        let head = format!("GET /api/me?{expired} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-emby-token: {}\r\n\r\n", short.trim_end());
        stream.write_all(head.as_bytes()).expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.starts_with("HTTP/1.1 401")
    })
    .await;
    home.logged("\"refusal\":\"expired-key\"").await;
    let both = [("x-emby-token", key.as_str()), ("authorization", "Bearer something-else")];
    assert_eq!(client::get(home.address, "/f", &both).await.status, 400);
    assert_eq!(line(&mut home, "/f").await["refusal"], "conflicting-credentials");
    assert_eq!(client::get(home.address, "/g/../h", &[("x-emby-token", &key)]).await.status, 400);
    assert_eq!(line(&mut home, "/g/../h").await["status"], 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_broken_is_named_in_the_line() {
    let (standin, mut home, key) = home(Kind::Emby, JSON).await;
    standin.control().set_password("alice", "another");
    standin.control().kill_all_tokens();
    assert_eq!(client::get(home.address, "/System/Info", &[("x-emby-token", &key)]).await.status, 503);
    let line = line(&mut home, "/System/Info").await;
    assert_eq!((&line["refusal"], &line["account"], &line["key_name"]), (&"account-broken".into(), &"alice".into(), &"kitchen".into()));
    assert!(line["reason"].as_str().expect("text").contains("refused the password"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_the_one_that_a_trusted_proxy_names_and_nobody_elses_word_counts() {
    let forwarded = [("x-forwarded-for", "198.51.100.1, 203.0.113.9")];
    let (_standin, mut plain, _) = home(Kind::Emby, JSON).await;
    client::get(plain.address, "/a", &forwarded).await;
    assert_eq!(line(&mut plain, "/a").await["client"], "127.0.0.1");
    let standin = StandIn::start(Kind::Emby, Options::default()).await.expect("a stand-in");
    let mut home = Home::of(&[&standin], JSON);
    let config = std::fs::read_to_string(home.config()).expect("there");
    home.write(&config.replace("threads = 2", "threads = 2\ntrusted_proxies = [\"127.0.0.1\"]"));
    home.start().await;
    client::get(home.address, "/a", &forwarded).await;
    assert_eq!(line(&mut home, "/a").await["client"], "203.0.113.9");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_access_lines_only_what_operators_need_is_logged() {
    let (_standin, home, key) = home(Kind::Emby, "[log]\naccess = false\nformat = \"json\"").await;
    client::get(home.address, "/System/Info", &[("x-emby-token", &key)]).await;
    client::get(home.address, "/a", &[]).await;
    assert!(!home.log().contains("\"method\":\"GET\""), "{}", home.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_rules_access_lines_by_their_name() {
    let (_standin, mut home, key) = home(Kind::Emby, "[log]\nlevel = \"info,keygate::access=warn\"").await;
    client::get(home.address, "/System/Info", &[("x-emby-token", &key)]).await;
    client::get(home.address, "/a", &[]).await;
    let line = home.logged("path=/a ").await;
    assert!(line.contains(" WARN refused client=127.0.0.1 method=\"GET\" path=/a "), "{line}");
    assert!(!home.log().contains(" INFO request "), "{}", home.log());
}

/// A key in the place of the method came into the log as it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_place_of_a_method_does_not_come_into_the_log() {
    let rig = Rig::new(Kind::Emby).await;
    let head = format!("{} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", rig.secret());
    assert_eq!(client::status_of(&client::raw(rig.address, head.as_bytes()).await), 501);
    assert_eq!(rig.sweep.take_findings(), Vec::<String>::new());
}
