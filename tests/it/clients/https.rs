//! The same programs over https, with HTTP/2 where they speak it: told whom to trust, as a person tells a phone, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;
use serde_json::{Value, json};

use super::{ENVIRONMENTS, Given, SCRIPT_LIMIT, is_ci, run, run_within, succeed};
use crate::support::daemon::Home;

/// A gateway in front of one server of each kind, each at an https address of its own.
async fn gateway(standins: &[StandIn]) -> Home {
    let mut home = Home::empty();
    let mut config = "[server]\nthreads = 2\n[server.tls]\nmode = \"self-signed\"\nfolder = \"tls\"\n[log]\nformat = \"json\"\n\
                      [store]\npath = \"store/keygate.redb\"\nmaster_key = { file = \"master.key\" }\n[admin]\nsocket = \"run/admin.sock\"\n"
        .to_owned();
    for standin in standins {
        home.sweep.watch(standin);
        let (kind, url) = (standin.kind, &standin.url);
        let _ = write!(config, "[[upstream]]\nkind = \"{kind}\"\nurl = \"{url}\"\nlisten = \"127.0.0.1:0\"\n");
    }
    home.write(&config);
    home.start().await;
    for standin in standins {
        home.add_alice(&format!("{}/alice", standin.kind)).await;
    }
    home
}

/// What `keygate demo -o json` would say, with a key of this name for each kind.
async fn description(home: &Home, standins: &[StandIn], name: &str) -> Value {
    let status: Value = serde_json::from_str(&home.run("-o json status").await.ok()).expect("JSON");
    let mut upstreams = Vec::new();
    for standin in standins {
        let kind = standin.kind.as_str();
        let listeners = status["listeners"].as_array().expect("listeners");
        let own = listeners.iter().find(|one| one["upstream"] == kind).and_then(|one| one["url"].as_str()).expect("its own listener");
        assert!(own.starts_with("https://127.0.0.1:"), "{own}");
        let key = home.key(name, &format!("{kind}/alice")).await;
        upstreams
            .push(json!({"kind": kind, "gateway_url": own.replace("127.0.0.1", "localhost"), "upstream_url": standin.url, "key": key}));
    }
    json!({ "upstreams": upstreams })
}

/// By the name of each key: the protocols of its requests, as the gateway's own access lines have them.
fn protocols(log: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut protocols: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if let (Some(key), Some(protocol)) = (line["key_name"].as_str(), line["protocol"].as_str()) {
            protocols.entry(key.to_owned()).or_default().insert(protocol.to_owned());
        }
    }
    protocols
}

#[tokio::test(flavor = "multi_thread")]
async fn published_clients_work_over_https_and_by_http2_where_they_speak_it() {
    let mut standins = Vec::new();
    for kind in Kind::ALL {
        standins.push(StandIn::start(kind, Options::default()).await.expect("a stand-in"));
    }
    let mut home = gateway(&standins).await;
    let folder = home.folder.path().to_owned();
    let (authority, descriptions) = (folder.join("keygate-ca.pem"), folder.join("descriptions"));
    fs::write(&authority, home.run("tls ca").await.ok()).expect("written");
    fs::create_dir(&descriptions).expect("a folder");
    for script in ENVIRONMENTS.iter().flat_map(|environment| environment.scripts) {
        let described = description(&home, &standins, script.file).await;
        fs::write(descriptions.join(format!("{}.json", script.file)), described.to_string()).expect("written");
    }
    let given = Given { name: "https", descriptions, has_gateway: true, authority: Some(authority.clone()) };
    let ran = run(given).await;
    let curled = curl(&description(&home, &standins, "curl").await, &authority);

    home.signal("TERM");
    assert_eq!(home.ended().await, 0);
    let seen = protocols(&home.log());
    let mut table = String::from("\nover https, by the gateway's own log:\n");
    for script in &ran {
        let seen = seen.get(script.file).unwrap_or_else(|| panic!("no request of {} in the log", script.file));
        let _ = writeln!(table, "  {:36} {}", script.file, seen.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
        assert_eq!(seen.contains("HTTP/2.0"), script.speaks_http2, "{}: {seen:?}", script.file);
    }
    match curled {
        Ok(()) => {
            assert_eq!(seen["curl"].iter().collect::<Vec<_>>(), ["HTTP/2.0"]);
            let _ = writeln!(table, "  {:36} HTTP/2.0", "curl");
        }
        Err(why) if why.contains("cannot be started") && !is_ci() => table.push_str(&format!("NOT RUN: {why}\n")),
        Err(why) => panic!("curl: {why}"),
    }
    // Past the harness, which shows what a passing test prints to nobody.
    std::io::stderr().write_all(table.as_bytes()).expect("written");
}

/// curl takes the authority from its option and HTTP/2 by ALPN, and refuses the gateway without the one.
fn curl(description: &Value, authority: &Path) -> Result<(), String> {
    for one in description["upstreams"].as_array().expect("upstreams") {
        let path = if one["kind"] == "audiobookshelf" { "/api/libraries" } else { "/System/Info" };
        let url = format!("{}{path}", one["gateway_url"].as_str().expect("text"));
        let bearer = format!("Authorization: Bearer {}", one["key"].as_str().expect("text"));
        let ask = ["--silent", "--show-error", "--fail", "--output", "/dev/null", "--max-time", "20", "--write-out", "%{http_version}"];
        let curl = || {
            let mut curl = Command::new("curl");
            curl.env_remove("SSL_CERT_FILE").env_remove("CURL_CA_BUNDLE").args(ask);
            curl
        };
        let said = succeed(curl().arg("--cacert").arg(authority).args(["-H", &bearer, &url]))?;
        if said != b"2" {
            return Err(format!("{url}: HTTP/{} and not 2", String::from_utf8_lossy(&said)));
        }
        if run_within(curl().args(["-H", &bearer, &url]), SCRIPT_LIMIT).is_ok() {
            return Err(format!("{url}: trusted without the authority"));
        }
    }
    Ok(())
}
