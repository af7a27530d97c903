//! The real program as an operator runs it: configuration, daemon, commands, reload, signals, and what it says of mistakes.

mod commands;

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use bytes::Bytes;
use http::Method;
use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;
use serde_json::Value;

use crate::support::daemon::Home;
use crate::support::{self, http as client};

async fn standin(kind: Kind) -> StandIn {
    StandIn::start(kind, Options::default()).await.expect("a stand-in")
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_configuration_to_a_request_in_five_commands() {
    let standin = standin(Kind::Audiobookshelf).await;
    let mut home = Home::of(&[&standin], "");
    let said = home.run("check-config").await.ok();
    // Each line of the same result is an object where JSON is wanted.
    let json = home.run("-o json check-config").await.ok();
    let lines: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    assert!(lines.iter().any(|line| line["message"].as_str().is_some_and(|text| text.starts_with("ok: "))), "{json}");
    assert!(said.contains("ok: ") && said.contains("audiobookshelf"), "{said}");
    assert!(!home.store().exists(), "checking makes nothing");
    home.start().await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("there").mode() & 0o777;
    assert_eq!(mode(&home.socket()), 0o660);
    assert_eq!(mode(home.socket().parent().expect("a folder")), 0o700);
    assert_eq!(mode(&home.store()), 0o600);
    assert_eq!(mode(home.store().parent().expect("a folder")), 0o700);
    assert_eq!(mode(&home.folder.path().join("master.key")), 0o600);
    let said = home.run_with("accounts add alice --secret-stdin", "alice-password\n").await.ok();
    assert!(said.contains("added audiobookshelf/alice: the media server accepts it as alice"), "{said}");
    let key = home.key("ha", "alice").await;
    assert_eq!(home.status("/api/libraries", &key).await, 200);
    assert_eq!(standin.control().counters().logins, 1);
    home.signal("TERM");
    assert_eq!(home.ended().await, 0);
    assert!(!home.socket().exists(), "the socket is removed at the end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_media_server_is_recognised_and_served_without_any_configuration() {
    for kind in Kind::ALL {
        let standin = standin(kind).await;
        let mut home = Home::empty();
        let folder = home.folder.path().to_owned();
        let mut command = home.program();
        command.env_remove("KEYGATE_CONFIG").env("XDG_DATA_HOME", &folder).env("XDG_RUNTIME_DIR", &folder).env("HOME", &folder);
        command.env("KEYGATE_STORE__PATH", folder.join("store/keygate.redb")).env("KEYGATE_ADMIN__SOCKET", home.socket());
        command.env("KEYGATE_STORE__MASTER_KEY__FILE", folder.join("master.key"));
        command.args(["serve", "--upstream", &standin.url, "--listen", &home.address.to_string()]);
        home.spawn(command);
        home.logged("ready").await;
        let socket = home.socket().display().to_string();
        let add = format!("accounts add alice --secret-stdin --socket {socket}");
        home.run_with(&add, "alice-password").await.ok();
        let key = home.run(&format!("keys create ha -a alice -q --socket {socket}")).await.ok();
        let path = if kind == Kind::Audiobookshelf { "/api/me" } else { "/System/Info" };
        assert_eq!(home.status(path, key.trim_end()).await, 200, "{kind}");
        let shown: Value = serde_json::from_str(&home.run(&format!("status -o json --socket {socket}")).await.ok()).expect("JSON");
        assert_eq!(shown["upstreams"][0]["kind"], kind.as_str());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_change_of_a_key_holds_for_the_very_next_request_without_a_restart() {
    let standin = standin(Kind::Jellyfin).await;
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("tv", "jellyfin/alice").await;
    let path = "/System/Info";
    for _ in 0..3 {
        assert_eq!(home.status(path, &key).await, 200);
        home.run("keys disable tv").await.ok();
        assert_eq!(home.status(path, &key).await, 401);
        home.run("keys enable tv").await.ok();
    }
    home.run("keys edit tv --name living-room --expires 2d").await.ok();
    assert_eq!(home.status(path, &key).await, 200);
    let new = home.run("keys rotate living-room --overlap 1h -q").await.ok().trim_end().to_owned();
    assert_eq!((home.status(path, &key).await, home.status(path, &new).await), (200, 200));
    let newer = home.run("keys rotate living-room -q").await.ok().trim_end().to_owned();
    assert_eq!((home.status(path, &new).await, home.status(path, &newer).await), (401, 200));
    home.run("keys edit living-room --expires never").await.ok();
    home.run("keys revoke living-room --yes").await.ok();
    assert_eq!((home.status(path, &key).await, home.status(path, &newer).await), (401, 401));
    assert!(home.run("keys enable living-room").await.code != 0, "revoked is final");
    let all: Value = serde_json::from_str(&home.run("keys list --revoked -o json").await.ok()).expect("JSON");
    assert_eq!((&all["apiKeys"][0]["status"], &all["apiKeys"][0]["name"]), (&"revoked".into(), &"living-room".into()));
    home.kill();
    home.start().await;
    assert_eq!((home.status(path, &key).await, home.status(path, &newer).await), (401, 401), "also after a crash");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_daemon_runs_over_a_store_and_a_killed_ones_socket_is_in_nobodys_way() {
    let standin = standin(Kind::Emby).await;
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    let said = home.run("serve").await.refused(4);
    assert!(said.contains("keygate runs already, with the store") && said.contains("keygate.redb"), "{said}");
    assert!(home.run("status -o json").await.ok().contains("\"pid\""), "the first one was not disturbed");
    home.kill();
    assert!(std::fs::symlink_metadata(home.socket()).expect("left behind").file_type().is_socket());
    assert!(home.run("status").await.refused(4).contains("no running keygate answers at"));
    home.start().await;
    assert!(home.run("status -o json").await.ok().contains("\"pid\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_commands_change_the_store_and_say_so() {
    let standin = standin(Kind::Audiobookshelf).await;
    let mut home = Home::of(&[&standin], "");
    let said = home.run_with("accounts add alice --secret-stdin", "alice-password").await;
    assert!(said.err.contains("no running keygate: changing the store directly"), "{}", said.err);
    said.ok();
    let key = home.key("ha", "alice").await;
    home.start().await;
    assert_eq!(home.status("/api/me", &key).await, 200);
    assert_eq!(standin.control().counters().logins, 1, "the session of the command is used");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_reload_takes_effect_and_a_bad_one_changes_nothing_while_a_stream_runs_on() {
    let (books, films) = (standin(Kind::Audiobookshelf).await, standin(Kind::Jellyfin).await);
    let mut home = Home::of(&[&books], "");
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("ha", "alice").await;
    let stream = {
        let (address, key) = (home.address, key.clone());
        tokio::spawn(async move { client::get(address, "/keygate-test/slow?pause=150", &[("x-emby-token", &key)]).await })
    };
    support::until("the stream begins", || books.control().journal().iter().any(|seen| seen.path() == "/keygate-test/slow")).await;

    home.configure(&[&books], "[log]\nlevle = \"info\"\n[limits]\nmax_headers = 3\n");
    let said = home.run("reload").await.refused(2);
    assert!(said.contains("levle") && said.contains("did you mean") && said.contains("max_headers"), "all problems at once: {said}");
    assert_eq!(home.status("/api/me", &key).await, 200);

    home.configure(&[&books, &films], "");
    let said = home.run("reload").await.ok();
    assert!(said.contains("upstream jellyfin is new"), "{said}");
    home.logged(&format!("answers at {}", films.url)).await;
    let answer = client::send(home.address, Method::GET, "/api/me", &[("x-emby-token", &key)], Bytes::new()).await;
    assert_eq!(answer.status, 421, "the host names count now");
    home.add_alice("jellyfin/alice").await;
    let shown: Value = serde_json::from_str(&home.run("status -o json").await.ok()).expect("JSON");
    assert_eq!(shown["upstreams"].as_array().map(Vec::len), Some(2), "{shown}");

    home.configure(&[&books], "");
    home.signal("HUP");
    home.logged("asked by SIGHUP").await;
    assert_eq!(home.status("/api/me", &key).await, 200);
    let stream = stream.await.expect("no panic");
    assert_eq!((stream.status.as_u16(), stream.text().lines().count()), (200, 8));
    assert!(home.run("reload").await.ok().contains("nothing changed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_lets_running_requests_finish_and_refuses_new_ones() {
    let standin = standin(Kind::Audiobookshelf).await;
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("ha", "alice").await;
    let stream = {
        let (address, key) = (home.address, key.clone());
        tokio::spawn(async move { client::get(address, "/keygate-test/slow?pause=100", &[("x-emby-token", &key)]).await })
    };
    support::until("the stream begins", || standin.control().journal().iter().any(|seen| seen.path() == "/keygate-test/slow")).await;
    home.signal("TERM");
    home.logged("stopping").await;
    let stream = stream.await.expect("no panic");
    assert_eq!((stream.status.as_u16(), stream.text().lines().count()), (200, 8));
    assert_eq!(home.ended().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_describes_itself_in_one_line_of_json() {
    let (description, _demo) = support::demo().await;
    let entries = description["upstreams"].as_array().expect("a list");
    assert_eq!(description.as_object().expect("an object").len(), 1);
    let mut kinds: Vec<_> = entries.iter().map(|entry| entry["kind"].as_str().expect("text")).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["audiobookshelf", "emby", "jellyfin"]);
    let mut gateways = std::collections::HashSet::new();
    for entry in entries {
        let mut fields: Vec<_> = entry.as_object().expect("an object").keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["account", "gateway_url", "key", "kind", "name", "upstream_url"]);
        let url = entry["gateway_url"].as_str().expect("text");
        assert!(url.starts_with("http://127.0.0.1:") && gateways.insert(url.to_owned()), "{url}");
        let address = url.trim_start_matches("http://").parse().expect("an address");
        let path = if entry["kind"] == "audiobookshelf" { "/api/me" } else { "/System/Info" };
        let key = entry["key"].as_str().expect("text");
        let bearer = format!("Bearer {key}");
        assert_eq!(client::get(address, path, &[("authorization", &bearer)]).await.status, 200);
        assert_eq!(client::get(address, path, &[("x-emby-token", key)]).await.status, 200);
        assert_eq!(client::get(address, &format!("{path}?api_key={key}"), &[]).await.status, 200);
        assert_eq!(client::get(address, path, &[]).await.status, 401);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_at_a_signal_and_leaves_no_folder_behind() {
    for signal in ["INT", "TERM", "HUP"] {
        let folder = tempfile::tempdir().expect("a folder");
        let entries = || std::fs::read_dir(folder.path()).expect("readable").count();
        let (_, mut demo) = support::demo_in(Some(folder.path())).await;
        assert_eq!(entries(), 1, "its store");
        assert_eq!(demo.end(signal).await, Some(0), "{signal}");
        assert_eq!(entries(), 0, "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_in_the_arguments_or_the_environment_of_the_daemon() {
    let standin = standin(Kind::Audiobookshelf).await;
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("ha", "alice").await;
    assert_eq!(home.status("/api/me", &key).await, 200);
    let master = std::fs::read_to_string(home.folder.path().join("master.key")).expect("there");
    let process = std::path::PathBuf::from(format!("/proc/{}", home.pid()));
    let read = |name: &str| String::from_utf8_lossy(&std::fs::read(process.join(name)).unwrap_or_default()).into_owned();
    let shown = read("cmdline") + &read("environ");
    assert!(shown.contains("serve"), "{shown}");
    for secret in standin.control().secrets().iter().chain([&key]).map(String::as_str).chain([master.trim()]) {
        assert!(!shown.contains(secret));
    }
}
