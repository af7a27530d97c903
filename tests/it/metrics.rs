//! `/metrics` of the real program: that it is what Prometheus reads, that everything which the alerts and the dashboard ask for is there,
//! and that it says the same as all other places that have figures.

mod exposition;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use keygate::demo::{Options, StandIn};
use keygate::keys::{ApiKey, KeyId};
use keygate::upstream::Kind;
use serde_json::Value;

use self::exposition::{Exposition, Sample};
use crate::support::daemon::{Home, free_address};
use crate::support::http::{self as client, Answer};

/// The real program with an admin listener whose figures are open to this machine, and a clear listener beside the one with TLS.
struct Program {
    standin: StandIn,
    home: Home,
    admin: SocketAddr,
    clear: SocketAddr,
}

impl Program {
    async fn start() -> Self {
        let standin = StandIn::start(Kind::Jellyfin, Options::default()).await.expect("a stand-in");
        let mut home = Home::of(
            &[&standin],
            "[metrics]\nper_key = true\nopen = true\n[log]\nformat = \"json\"\n[server.tls]\nmode = \"self-signed\"\nfolder = \"tls\"",
        );
        let (admin, clear) = (free_address(), free_address());
        home.sweep.cover(&[admin, clear]);
        let config = fs::read_to_string(home.config()).expect("written");
        let config = config.replace("[admin]\n", &format!("[admin]\nlisten = \"{admin}\"\n"));
        home.write(&config.replace("[server]\n", &format!("[server]\nlisten_plain = [\"{clear}\"]\n")));
        home.start().await;
        home.add_alice("alice").await;
        Self { standin, home, admin, clear }
    }

    async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> u16 {
        client::get(self.clear, path, headers).await.status.as_u16()
    }

    async fn figures(&self) -> Exposition {
        Exposition::read(&self.exposed("").await.text())
    }

    async fn exposed(&self, accept: &str) -> Answer {
        let answer = client::get(self.admin, "/metrics", &[("accept", accept)]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }

    /// The figures, once so many requests are counted.
    async fn after(&self, requests: f64) -> Exposition {
        let patience = tokio::time::Instant::now() + client::PATIENCE;
        loop {
            let figures = self.figures().await;
            let counted = figures.sum("keygate_requests_total", &[]);
            if counted >= requests {
                return figures;
            }
            assert!(tokio::time::Instant::now() < patience, "{counted} of {requests}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn stop(mut self) {
        self.home.signal("TERM");
        assert_eq!(self.home.ended().await, 0);
        self.standin.stop().await;
    }
}

/// One request of each sort, so that every family has figures. How many they were.
async fn one_of_each(program: &Program, key: &str) -> f64 {
    let bad = ApiKey::generate(KeyId::from_u64(4711)).expect("a key");
    program.home.sweep.keep_secret(bad.expose());
    let bearer = format!("Bearer {key}");
    assert_eq!(program.ask("/keygate-test/bytes/100", &[("authorization", &bearer)]).await, 200);
    assert_eq!(program.ask("/keygate-test/status/404", &[("x-emby-token", key)]).await, 404);
    assert_eq!(program.ask("/keygate-test/status/503", &[("x-emby-token", key)]).await, 503);
    assert_eq!(program.ask("/Auth/Keys", &[("x-emby-token", key)]).await, 403);
    assert_eq!(program.ask("/System/Info", &[("x-emby-token", bad.expose())]).await, 401);
    5.0
}

/// `promtool`, with this on its standard input; says so where it is not installed.
fn promtool(arguments: &[&str], input: &str) {
    let started = Command::new("promtool").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none_or(|value| value != "true"), "with CI=true promtool must run: {error}");
            // Past the harness, which shows what a passing test prints to nobody.
            writeln!(std::io::stderr(), "\nNOT RUN: promtool: install the package prometheus ({error})").expect("written");
            return;
        }
    };
    child.stdin.take().expect("standard input").write_all(input.as_bytes()).expect("read");
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_is_what_prometheus_reads_in_both_forms() {
    let program = Program::start().await;
    let key = program.home.key("kitchen", "alice").await;
    let requests = one_of_each(&program, &key).await;
    let figures = program.after(requests).await;
    let text = program.exposed("").await.text();
    promtool(&["check", "metrics"], &text);
    let open = program.exposed("application/openmetrics-text").await.text();
    let names = |figures: &Exposition| figures.samples.iter().map(Sample::series).collect::<BTreeSet<_>>();
    assert_eq!(names(&Exposition::read_open(&open)), names(&figures), "the same figures in both forms");

    for (name, labels, value) in [
        ("keygate_build_info", &[("version", env!("CARGO_PKG_VERSION"))][..], 1.0),
        ("keygate_requests_total", &[("upstream", "jellyfin"), ("class", "2xx")], 1.0),
        ("keygate_requests_total", &[("upstream", "jellyfin"), ("class", "refused")], 2.0),
        ("keygate_requests_total", &[("upstream", "-"), ("class", "refused")], 0.0),
        ("keygate_requests_by_carrier_total", &[("carrier", "bearer")], 1.0),
        ("keygate_refusals_total", &[("reason", "unknown-key")], 1.0),
        ("keygate_key_requests_total", &[("key_id", "-"), ("class", "refused")], 1.0),
        ("keygate_upstream_response_seconds_count", &[("upstream", "jellyfin")], 3.0),
        ("keygate_upstream_up", &[("upstream", "jellyfin")], 1.0),
        ("keygate_accounts", &[("state", "good")], 1.0),
        // To try the account, and for the key.
        ("keygate_sessions_total", &[("how", "login")], 2.0),
        ("keygate_connections_refused_total", &[], 0.0),
        ("keygate_store_errors_total", &[], 0.0),
        ("keygate_config_last_reload_successful", &[], 1.0),
    ] {
        assert_eq!(figures.sum(name, labels), value, "{name} {labels:?} in\n{text}");
    }
    let id = key.split('_').nth(1).expect("an id");
    assert_eq!(figures.sum("keygate_key_requests_total", &[("key_id", id)]), 4.0);
    let now = figures.sum("process_start_time_seconds", &[]);
    let end = figures.sum("keygate_certificate_not_after_seconds", &[]);
    assert!(end > now && now > 1.7e9, "{now} {end}");
    assert!(figures.sum("keygate_store_size_bytes", &[]) > 0.0 && figures.sum("keygate_connections_total", &[]) >= 5.0);
    // Somebody without TLS at the port that speaks it.
    client::raw(program.home.address, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(program.figures().await.sum("keygate_tls_handshakes_total", &[("result", "without_tls")]), 1.0);
    program.home.write("nonsense");
    // The command would read the file itself, and go no further.
    program.home.signal("HUP");
    let patience = tokio::time::Instant::now() + client::PATIENCE;
    while program.figures().await.sum("keygate_config_last_reload_successful", &[]) > 0.0 {
        assert!(tokio::time::Instant::now() < patience, "nobody took notice of the broken file");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Open is what reads figures, and nothing else.
    assert_eq!(client::get(program.admin, "/api/status", &[]).await.status, 401);
    assert_eq!(client::get(program.admin, "/metrics/", &[]).await.status, 404);
    program.stop().await;
}

/// The expressions of the alerts, and of the dashboard.
fn expressions() -> Vec<String> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let alerts = fs::read_to_string(deploy.join("prometheus/alerts.yml")).expect("the alerts");
    let mut found = Vec::new();
    for rule in alerts.split("- alert:").skip(1) {
        let (_, rest) = rule.split_once("expr:").expect("an expression");
        // A folded one goes on in deeper lines.
        let lines: Vec<_> = rest.lines().enumerate().take_while(|(number, line)| *number == 0 || line.starts_with("          ")).collect();
        found.push(lines.into_iter().map(|(_, line)| line.trim().trim_start_matches(">-")).collect::<Vec<_>>().join(" "));
    }
    assert_eq!(found.len(), alerts.matches("expr:").count());
    let dashboard = fs::read_to_string(deploy.join("grafana/keygate.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    for panel in dashboard["panels"].as_array().expect("panels") {
        let targets = panel["targets"].as_array().expect("targets");
        assert!(!targets.is_empty(), "{panel}");
        found.extend(targets.iter().map(|target| target["expr"].as_str().expect("an expression").to_owned()));
    }
    for list in ["annotations", "templating"] {
        for one in dashboard[list]["list"].as_array().expect("a list") {
            found.extend(["expr", "definition"].iter().filter_map(|name| one[*name].as_str()).map(str::to_owned));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_the_alerts_and_the_dashboard_ask_for_is_there() {
    let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/alerts.yml");
    promtool(&["check", "rules", alerts.to_str().expect("a path")], "");
    let program = Program::start().await;
    let key = program.home.key("kitchen", "alice").await;
    let requests = one_of_each(&program, &key).await;
    let figures = program.after(requests).await;
    let mut asked = BTreeSet::new();
    for expression in expressions() {
        let selectors = exposition::selectors(&expression);
        assert!(!selectors.is_empty() || expression.starts_with("up{"), "{expression}");
        let mut labels = BTreeSet::new();
        for (name, matchers) in &selectors {
            let samples: Vec<_> = figures.samples.iter().filter(|sample| sample.name == *name).collect();
            assert!(!samples.is_empty(), "nothing is called {name}, which is asked for by: {expression}");
            labels.extend(samples.iter().flat_map(|sample| sample.labels.keys().map(String::as_str)));
            // Prometheus itself adds the job.
            for (label, value) in matchers.iter().filter(|(label, _)| label != "job") {
                let has =
                    |sample: &&Sample| sample.labels.get(label).is_some_and(|found| value.as_ref().is_none_or(|value| value == found));
                assert!(samples.iter().any(has), "{name} has no {label} {value:?}, which is asked for by: {expression}");
            }
            asked.insert(name.clone());
        }
        for label in exposition::grouped_by(&expression) {
            assert!(labels.contains(label.as_str()), "{label} is no label of what is grouped by it: {expression}");
        }
    }
    let served: BTreeSet<_> = figures.samples.iter().map(|sample| sample.name.as_str()).collect();
    let is_shown =
        |name: &str| asked.contains(name) || name.ends_with("_sum") || name.ends_with("_count") || name.starts_with("keygate_key_");
    let unused: Vec<_> = served.into_iter().filter(|name| !is_shown(name)).collect();
    assert_eq!(unused, ["keygate_config_last_reload_timestamp_seconds"], "what nobody looks at need not be there");
    program.stop().await;
}

/// How many requests the mixed load has in a test run. 100,000 were tried by hand.
const LOAD: usize = 2000;
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_mixed_load_metrics_keys_usage_and_the_access_log_agree() {
    let program = Program::start().await;
    let load = std::env::var("KEYGATE_TEST_LOAD").ok().and_then(|load| load.parse().ok()).unwrap_or(LOAD);
    let (tv, den) = (program.home.key("tv", "alice").await, program.home.key("den", "alice").await);
    let asked =
        ["/keygate-test/bytes/700", "/keygate-test/status/404", "/keygate-test/status/503", "/Auth/Keys", "/keygate-test/status/304"];
    let clients = (0..AT_ONCE).map(|number| {
        let (address, key) = (program.clear, if number % 2 == 0 { tv.clone() } else { den.clone() });
        tokio::spawn(async move {
            for turn in 0..load / AT_ONCE {
                let bearer = format!("Bearer {key}");
                // One in eight comes without any key.
                let header = if turn % 8 == 7 { ("accept", "*/*") } else { ("authorization", &*bearer) };
                client::get(address, asked[turn % asked.len()], &[header]).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("no panic");
    }
    let requests = (load / AT_ONCE * AT_ONCE) as u64;
    let figures = program.after(requests as f64).await;
    assert_eq!(figures.sum("keygate_requests_total", &[]), requests as f64, "none twice");

    // The access log.
    let mut logged: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    let mut by_key: BTreeMap<String, u64> = BTreeMap::new();
    for line in program.home.log().lines().filter(|line| line.contains("\"duration_ms\"")) {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let class = if line["refusal"].is_string() {
            "refused".to_owned()
        } else {
            format!("{}xx", line["status"].as_u64().expect("a status") / 100)
        };
        let sums = logged.entry(class).or_default();
        for (sum, more) in sums.iter_mut().zip([Some(1), line["bytes_in"].as_u64(), line["bytes_out"].as_u64()]) {
            *sum += more.expect("a number");
        }
        *by_key.entry(line["key_id"].as_str().unwrap_or("-").to_owned()).or_default() += 1;
    }
    assert_eq!(logged.values().map(|[requests, ..]| requests).sum::<u64>(), requests);
    for (class, [requests, ..]) in &logged {
        assert_eq!(figures.sum("keygate_requests_total", &[("upstream", "jellyfin"), ("class", class)]), *requests as f64, "{class}");
    }
    let bytes_out = logged.values().map(|[_, _, bytes_out]| bytes_out).sum::<u64>();
    assert_eq!(figures.sum("keygate_sent_bytes_total", &[("upstream", "jellyfin")]), bytes_out as f64);
    assert_eq!(figures.sum("keygate_key_sent_bytes_total", &[]), bytes_out as f64);

    // The admin interface, and what people read.
    let token = program.home.run("admin tokens create reader --scope read -q").await.ok();
    program.home.sweep.keep_secret(token.trim());
    let bearer = format!("Bearer {}", token.trim());
    let usage = client::get(program.admin, "/api/usage", &[("authorization", &bearer)]).await.json();
    let counts = &usage["upstreams"]["jellyfin"]["counts"];
    assert_eq!((counts["requests"].as_u64(), counts["bytesOut"].as_u64()), (Some(requests), Some(bytes_out)));
    for (class, [requests, ..]) in &logged {
        assert_eq!(counts["byClass"][class].as_u64(), Some(*requests), "{class}");
    }
    for key in [&tv, &den] {
        let id = key.split('_').nth(1).expect("an id");
        let shown: Value = serde_json::from_str(&program.home.run(&format!("keys show {id} -o json")).await.ok()).expect("JSON");
        let of_key = client::get(program.admin, &format!("/api/api-keys/{id}/usage"), &[("authorization", &bearer)]).await.json();
        let figure = figures.sum("keygate_key_requests_total", &[("key_id", id)]);
        let counts = (shown["apiKey"]["requests"].as_u64(), of_key["counts"]["requests"].as_u64(), figure);
        assert_eq!(counts, (Some(by_key[id]), Some(by_key[id]), by_key[id] as f64));
    }
    assert_eq!(figures.sum("keygate_key_requests_total", &[("key_id", "-")]), by_key["-"] as f64);
    program.stop().await;
}
