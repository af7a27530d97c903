//! `keygate doctor`: each check in both outcomes, by the real program before stand-ins; what cannot be had on loopback, by the library.

mod outside;

use std::os::unix::fs::PermissionsExt;

use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;
use serde_json::{Value, json};

use crate::support::daemon::Home;
use crate::support::{http as client, until};

async fn standin(kind: Kind) -> StandIn {
    StandIn::start(kind, Options::default()).await.expect("a stand-in")
}

/// What was found.
struct Found {
    code: i32,
    findings: Vec<Value>,
}

impl Found {
    async fn by(home: &Home) -> Self {
        let said = home.run("doctor -o json").await;
        let document: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}\n{}", said.out, said.err));
        Self { code: said.code, findings: document["findings"].as_array().expect("a list").clone() }
    }

    /// The verdict of a check, and its sentences.
    fn of(&self, check: &str) -> (String, String) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of_check: Vec<_> = self.findings.iter().filter(|finding| finding["check"] == check).collect();
        let worst = of_check.iter().find(|finding| finding["verdict"] != "ok").or_else(|| of_check.first());
        let finding = worst.unwrap_or_else(|| panic!("no {check} in {:#?}", self.findings));
        (text(&finding["verdict"]), format!("{} | {}", text(&finding["text"]), text(&finding["cure"])))
    }

    #[track_caller]
    fn is(&self, check: &str, verdict: &str, parts: &[&str]) {
        let (found, text) = self.of(check);
        assert_eq!(found, verdict, "{check}: {text}");
        for part in parts {
            assert!(text.contains(part), "{check}: no {part:?} in {text}");
        }
    }
}

async fn home(standin: &StandIn) -> Home {
    let mut home = Home::of(&[standin], "");
    home.start().await;
    home.add_alice("alice").await;
    home
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_with_a_good_installation_and_nothing_is_left_behind() {
    for kind in Kind::ALL {
        let standin = standin(kind).await;
        let control = standin.control();
        control.faults(|faults| {
            faults.configuration.insert("IsBehindProxy".to_owned(), json!(true));
            faults.network.insert("AutoDiscovery".to_owned(), json!(false));
            faults.addresses_by_request = true;
        });
        let home = home(&standin).await;
        let (tokens, logins) = (control.live_tokens().len(), control.counters().logins);
        let found = Found::by(&home).await;
        let bad: Vec<_> =
            found.findings.iter().filter(|finding| finding["verdict"] == "failed" || finding["verdict"] == "warning").collect();
        // Its tests keep the two together; nobody should.
        assert!(bad.is_empty() && found.code == 0, "{kind}: {bad:#?}");
        found.is("gateway", "ok", &["keygate ", "answers, process "]);
        found.is("config", "ok", &["nothing is wrong with it"]);
        found.is("store", "ok", &["nobody but its owner may read it"]);
        found.is("master key", "ok", &["nobody but its owner may read it"]);
        found.is("upstream", "ok", &[kind.product(), "answers at"]);
        found.is("version", "ok", &[kind.product()]);
        found.is("clock", "ok", &["the same time as keygate"]);
        found.is("upstream tls", "not_applicable", &["within this machine"]);
        found.is("exposure", "ok", &["is not open at the addresses that other machines know"]);
        found.is("certificate", "not_applicable", &["TLS is off"]);
        found.is("trusted proxies", "ok", &["none is configured"]);
        found.is("account", "ok", &["its session is good"]);
        found.is("range", "ok", &["the first byte of a medium of", "206"]);
        found.is("websocket", "ok", &["(101)"]);
        let believes = if kind == Kind::Audiobookshelf { "not_applicable" } else { "ok" };
        found.is("forwarded address", believes, &[kind.product()]);
        found.is("forwarded scheme", believes, &[kind.product()]);
        let legacy = if kind == Kind::Jellyfin { "ok" } else { "not_applicable" };
        found.is("legacy authorization", legacy, &["Jellyfin"]);
        if kind == Kind::Audiobookshelf {
            assert_eq!(control.counters().logins, logins, "the live session is used");
        } else {
            assert!(control.counters().logins <= logins + 1, "one for the key that the checks lend");
        }
        until("the lent key's session ends", || control.live_tokens().len() == tokens).await;
        let keys: Value = serde_json::from_str(&home.run("keys list --revoked -o json").await.ok()).expect("JSON");
        assert_eq!(keys["apiKeys"], json!([]), "no list shows the key that was lent");
        let table = home.run("doctor").await.ok();
        assert!(table.starts_with("RESULT") && table.lines().count() == found.findings.len() + 1, "one line a check:\n{table}");
        assert_eq!(home.run("doctor -q").await.ok(), "", "quiet: only what is wrong");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_be_set_at_jellyfin_is_said_with_the_place_where() {
    let standin = standin(Kind::Jellyfin).await;
    let home = home(&standin).await;
    standin.control().faults(|faults| {
        faults.ignore_forwarded_for = true;
        faults.network.insert("KnownProxies".to_owned(), json!(["192.168.1.2"]));
        faults.configuration.insert("EnableLegacyAuthorization".to_owned(), json!(true));
    });
    let found = Found::by(&home).await;
    assert_eq!(found.code, 0, "none of it stops anybody");
    found.is(
        "forwarded address",
        "warning",
        &[
            "Jellyfin does not believe this gateway about who the client is",
            "Add 127.0.0.1 under Dashboard, Networking, Known proxies (there are 192.168.1.2), then restart Jellyfin",
        ],
    );
    found.is("forwarded scheme", "not_applicable", &["makes no addresses out of requests"]);
    found.is("legacy authorization", "warning", &["It can be switched off, since keygate translates", "EnableLegacyAuthorization = false"]);
    found.is("published address", "warning", &["past keygate", "Published Server URIs to all=https://HOST", "automatic discovery off"]);
    standin.control().faults(|faults| {
        faults.ignore_forwarded_for = false;
        faults.network.insert("PublishedServerUriBySubnet".to_owned(), json!(["all=https://media.example.org"]));
        faults.configuration.insert("EnableLegacyAuthorization".to_owned(), Value::Null);
    });
    let found = Found::by(&home).await;
    found.is("forwarded address", "ok", &["Jellyfin believes keygate"]);
    found.is("published address", "ok", &["the address that was set"]);
    found.is("legacy authorization", "not_applicable", &["no such switch yet"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_be_set_at_emby_is_said_in_embys_words() {
    let standin = standin(Kind::Emby).await;
    let mut home = Home::of(&[&standin], "");
    let text = std::fs::read_to_string(home.config()).expect("there");
    home.write(&format!("{text}hosts = [\"films.example.org\"]\n"));
    home.start().await;
    home.add_alice("alice").await;
    standin.control().faults(|faults| faults.ignore_forwarded_for = true);
    let found = Found::by(&home).await;
    let mode = "Choose \"Handled by reverse proxy\" under Network, Secure connection mode";
    found.is("forwarded address", "warning", &["Emby takes every client for keygate", mode]);
    found.is("forwarded scheme", "warning", &["Emby does not know that a proxy speaks TLS for it", mode]);
    found.is("published address", "warning", &["past keygate", "Write films.example.org under Network, External domain"]);
    found.is("range", "ok", &["206"]);
    standin.control().faults(|faults| {
        faults.configuration.insert("WanDdns".to_owned(), json!("films.example.org"));
        faults.configuration.insert("IsBehindProxy".to_owned(), Value::Null);
    });
    let found = Found::by(&home).await;
    found.is("published address", "ok", &["come to films.example.org"]);
    found.is("forwarded scheme", "not_looked_at", &["Emby does not tell that to emby/alice"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_sockets_that_do_not_come_through_are_failures() {
    for kind in Kind::ALL {
        let standin = standin(kind).await;
        let home = home(&standin).await;
        standin.control().faults(|faults| (faults.ignore_range, faults.refuse_upgrades) = (true, true));
        let found = Found::by(&home).await;
        assert_eq!(found.code, 1, "{kind}");
        found.is("range", "failed", &["was answered 200 OK, not 206", "Players cannot seek"]);
        found.is("websocket", "failed", &["was answered 400 Bad Request, not 101", "Upgrade header"]);
        assert!(home.run("doctor").await.err.contains("error: 2 checks failed"));
        if kind != Kind::Audiobookshelf {
            standin.control().faults(|faults| faults.no_media = true);
            Found::by(&home).await.is("range", "not_applicable", &["sees no media to try it with"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_password_is_refused_is_named_with_the_cure_and_the_exit_code_says_so() {
    let standin = standin(Kind::Audiobookshelf).await;
    let home = home(&standin).await;
    standin.control().kill_all_tokens();
    let found = Found::by(&home).await;
    found.is("account", "ok", &["its session had died; there is a new one"]);
    standin.control().set_password("alice", "another");
    standin.control().kill_all_tokens();
    let found = Found::by(&home).await;
    assert_eq!(found.code, 5);
    found.is("account", "failed", &["keygate accounts set-credential audiobookshelf/alice", "503"]);
    found.is("range", "not_looked_at", &["no account to ask with"]);
    assert_eq!(Found::by(&home).await.code, 5, "and it is not tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_account_the_way_to_one_is_told() {
    let standin = standin(Kind::Jellyfin).await;
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    let found = Found::by(&home).await;
    found.is("account", "warning", &["no account that keys could act for", "keygate accounts add jellyfin/NAME"]);
    found.is("forwarded address", "not_looked_at", &["no account to ask with"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_old_off_in_time_another_one_or_away_is_told_apart() {
    let standin = standin(Kind::Jellyfin).await;
    let home = home(&standin).await;
    standin.control().faults(|faults| {
        (faults.version, faults.date) = (Some("10.7.7".to_owned()), Some("Sun, 06 Nov 1994 08:49:37 GMT".to_owned()));
    });
    let found = Found::by(&home).await;
    assert_eq!(found.code, 1);
    found.is("version", "failed", &["Jellyfin 10.7.7 is older than 10.8", "Update it"]);
    found.is("clock", "warning", &["the clock of Jellyfin is", "behind keygate's", "NTP"]);
    let url = standin.url.clone();
    standin.stop().await;
    let found = Found::by(&home).await;
    found.is("upstream", "failed", &["cannot be reached; clients get 502", &url]);
    found.is("websocket", "not_looked_at", &["the media server is not there"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_another_kind_is_named_with_what_to_write() {
    let standin = standin(Kind::Emby).await;
    let mut home = Home::of(&[&standin], "");
    let text = std::fs::read_to_string(home.config()).expect("there");
    home.write(&text.replace("kind = \"emby\"", "kind = \"jellyfin\""));
    home.start().await;
    let found = Found::by(&home).await;
    assert_eq!(found.code, 1);
    found.is("upstream", "failed", &["answers as Emby", "Set kind = \"emby\""]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_others_may_read_and_a_configuration_that_changed_are_found() {
    let standin = standin(Kind::Emby).await;
    let home = home(&standin).await;
    let mode = |path: &std::path::Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    let master_key = home.folder.path().join("master.key");
    mode(&home.store(), 0o644);
    mode(&master_key, 0o640);
    let text = std::fs::read_to_string(home.config()).expect("there");
    home.write(&format!("{text}base_path = \"/emby\"\n"));
    let found = Found::by(&home).await;
    assert_eq!(found.code, 1);
    found.is("store", "failed", &["other users may read or change it (mode 0644)", &format!("chmod 600 {}", home.store().display())]);
    found.is("master key", "failed", &["mode 0640", &format!("chmod 600 {}", master_key.display())]);
    mode(&home.store(), 0o600);
    mode(&master_key, 0o600);
    Found::by(&home).await.is("config", "warning", &["something else than what is in force", "keygate reload"]);
    home.write(&text.replace("kind = \"emby\"", "kind = \"plex\""));
    let found = Found::by(&home).await;
    assert_eq!(found.code, 1);
    found.is("config", "failed", &["config.toml:", "upstream.kind must be one of \"audiobookshelf\""]);
    mode(home.store().parent().expect("a folder"), 0o777);
    Found::by(&home).await.is("gateway", "not_looked_at", &["before the configuration is right"]);
    home.write(&text);
    Found::by(&home).await.is("store", "failed", &["other users may replace it", "chmod 700"]);
    mode(home.store().parent().expect("a folder"), 0o700);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_gateway_it_says_what_it_could_not_look_at() {
    let standin = standin(Kind::Jellyfin).await;
    let mut home = Home::of(&[&standin], "");
    home.start().await;
    std::fs::remove_file(home.socket()).expect("removed");
    let found = Found::by(&home).await;
    assert_eq!(found.code, 1);
    let holder = format!("keygate (pid {}) has the store open, but nobody answers at", home.pid());
    found.is("gateway", "failed", &[&holder, "set admin.socket to the same path"]);
    home.kill();
    let found = Found::by(&home).await;
    assert_eq!(found.code, 0);
    found.is("gateway", "warning", &["no running keygate answers at", "start it (keygate serve)"]);
    found.is("upstream", "ok", &["Jellyfin 12.0.0 answers at"]);
    found.is("config", "ok", &["nothing is wrong"]);
    for check in ["accounts", "range", "websocket", "forwarded address", "legacy authorization", "published address", "trusted proxies"] {
        found.is(check, "not_looked_at", &["no keygate runs"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_in_front_that_nobody_told_of_is_noticed() {
    let standin = standin(Kind::Audiobookshelf).await;
    let mut home = home(&standin).await;
    client::get(home.address, "/status", &[("x-forwarded-for", "203.0.113.7")]).await;
    // The address that this test's own connections come from.
    let line = home.logged("is not believed").await;
    assert!(line.contains("WARN") && line.contains("trusted_proxies = [\"127."), "{line}");
    Found::by(&home).await.is(
        "trusted proxies",
        "warning",
        &["sends X-Forwarded-For and is not believed", "write trusted_proxies = [\"127."],
    );
    let text = std::fs::read_to_string(home.config()).expect("there");
    home.write(&text.replace("threads = 2", "threads = 2\ntrusted_proxies = [\"127.0.0.0/8\"]"));
    home.run("reload").await.ok();
    Found::by(&home).await.is("trusted proxies", "ok", &["127.0.0.0/8 is believed"]);
    home.write(&text.replace("threads = 2", "threads = 2\ntrusted_proxies = [\"0.0.0.0/0\"]"));
    home.run("reload").await.ok();
    let found = Found::by(&home).await;
    assert_eq!(found.code, 1);
    found.is("trusted proxies", "failed", &["0.0.0.0/0 believes everybody", "Name the proxy's own address"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_front_door_is_tried_over_tls_and_through_the_proxy_protocol() {
    let standin = standin(Kind::Jellyfin).await;
    let mut home = Home::of(&[&standin], "[server.tls]\nmode = \"self-signed\"\nfolder = \"tls\"\n");
    let text = std::fs::read_to_string(home.config()).expect("there");
    home.write(&text.replace("threads = 2", "threads = 2\nproxy_protocol = [\"127.0.0.0/8\"]"));
    home.start().await;
    home.add_alice("alice").await;
    let found = Found::by(&home).await;
    found.is("certificate", "ok", &["for localhost"]);
    found.is("range", "ok", &["206"]);
    found.is("websocket", "ok", &["101"]);
    assert!(home.run("healthcheck").await.ok().contains("its listener accepts connections"));
}
