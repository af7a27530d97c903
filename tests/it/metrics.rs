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

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use keygate::demo::{Options, StandIn};
use keygate::keys::{ApiKey, KeyId};
use keygate::upstream::Kind;
use serde_json::Value;

use self::exposition::{Exposition, Sample};
use crate::support::authority::Client;
use crate::support::daemon::{Home, free_address};
use crate::support::http::{self as client, Answer};
use crate::support::socket::{HANDSHAKE, Socket};
use crate::support::wire::Wire;

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

/// How many requests the mixed load has in a test run; `.ci/load` has 100,000.
const LOAD: usize = 2000;
const AT_ONCE: usize = 8;

/// One client of the mixed load: every second one speaks HTTP/2 over TLS, the others HTTP/1.1 without.
struct Asker {
    clear: SocketAddr,
    http2: Option<SendRequest<Full<Bytes>>>,
    key: String,
    bad: String,
    item: String,
}

impl Asker {
    async fn run(mut self, requests: usize) {
        for turn in 0..requests {
            if turn % 250 == 249 {
                self.open_a_socket().await;
            } else {
                self.ask(turn).await;
            }
        }
    }

    /// Paths, carriers and what else differs have lengths that share no divisor, so that all of them meet.
    async fn ask(&mut self, turn: usize) {
        let stream = format!("/Audio/{}/stream", self.item);
        let paths = [
            "/keygate-test/bytes/700",
            "/keygate-test/status/404",
            "/keygate-test/status/503",
            "/Auth/Keys",
            "/keygate-test/status/304",
            &stream,
            "/keygate-test/bytes/30000",
        ];
        let mut path = paths[turn % paths.len()].to_owned();
        let key = if turn % 31 == 30 { &self.bad } else { &self.key };
        let (bearer, foreign) = (format!("Bearer {key}"), format!("MediaBrowser Client=\"c\", Token=\"{key}\""));
        let mut headers = vec![("range", "bytes=0-99")];
        match turn % 5 {
            0 => headers.push(("authorization", &bearer)),
            1 => headers.push(("x-emby-token", key)),
            2 => headers.push(("authorization", &foreign)),
            3 => path = format!("{path}?api_key={key}"),
            _ => {}
        }
        match &mut self.http2 {
            None => {
                client::get(self.clear, &path, &headers).await;
            }
            Some(sender) => {
                let mut request = http::Request::get(format!("https://localhost{path}"));
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                sender.ready().await.expect("the connection stands");
                let answer = sender.send_request(request.body(Full::default()).expect("a request")).await.expect("an answer");
                answer.into_body().collect().await.expect("all of it");
            }
        }
    }

    async fn open_a_socket(&self) {
        let mut wire = Wire::plain(self.clear).await;
        wire.write(format!("GET /socket?api_key={} HTTP/1.1\r\nHost: localhost\r\n{HANDSHAKE}\r\n", self.key)).await;
        assert!(wire.head().await.starts_with("HTTP/1.1 101"));
        let mut socket = Socket { wire };
        assert!(socket.hear().await.contains("ForceKeepAlive"));
        socket.say(r#"{"MessageType":"KeepAlive"}"#).await;
        assert!(socket.hear().await.contains("KeepAlive"));
        socket.wire.write([0x88, 0x80, 0, 0, 0, 0]).await;
        socket.wire.rest().await;
    }
}

/// What the access log says.
#[derive(Default)]
struct Logged {
    /// Requests, bytes in, bytes out, by class.
    by_class: BTreeMap<String, [u64; 3]>,
    /// Requests by the key's id and by class.
    by_key: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Logged {
    fn read(log: &str) -> Self {
        let mut logged = Self::default();
        for line in log.lines().filter(|line| line.contains("\"duration_ms\"")) {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let class = match line["refusal"].is_string() {
                true => "refused".to_owned(),
                false => format!("{}xx", line["status"].as_u64().expect("a status") / 100),
            };
            let key = line["key_id"].as_str().unwrap_or("-").to_owned();
            *logged.by_key.entry(key).or_default().entry(class.clone()).or_default() += 1;
            let sums = logged.by_class.entry(class).or_default();
            for (sum, more) in sums.iter_mut().zip([Some(1), line["bytes_in"].as_u64(), line["bytes_out"].as_u64()]) {
                *sum += more.expect("a number");
            }
        }
        logged
    }

    fn sum(&self, place: usize) -> u64 {
        self.by_class.values().map(|sums| sums[place]).sum()
    }
}

/// A number as the page writes it.
fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}

/// A page of the web page, after a login.
async fn pages(program: &Program, paths: &[String]) -> Vec<String> {
    let password = "brass otter lamp";
    program.home.run_with("admin set-password --password-stdin", &format!("{password}\n")).await.ok();
    let origin = format!("http://{}", program.admin);
    let headers = [("origin", origin.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let login = client::send(program.admin, http::Method::POST, "/login", &headers, "password=brass+otter+lamp").await;
    assert_eq!(login.status, 303, "{}", login.text());
    let cookie = login.header("set-cookie").and_then(|line| line.split(';').next()).expect("a cookie").to_owned();
    let mut texts = Vec::new();
    for path in paths {
        texts.push(client::get(program.admin, path, &[("cookie", &cookie)]).await.text());
    }
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_mixed_load_metrics_keys_usage_the_page_and_the_access_log_agree() {
    let program = Program::start().await;
    let load = std::env::var("KEYGATE_TEST_LOAD").ok().and_then(|load| load.parse().ok()).unwrap_or(LOAD);
    let (tv, den) = (program.home.key("tv", "alice").await, program.home.key("den", "alice").await);
    let bad = ApiKey::generate(KeyId::from_u64(4711)).expect("a key");
    program.home.sweep.keep_secret(bad.expose());
    let items = client::get(program.clear, "/Items?Recursive=true", &[("x-emby-token", &tv)]).await.json();
    let item = items["Items"][0]["Id"].as_str().expect("an id").to_owned();
    let tls = Client::trusting(&fs::read_to_string(program.home.folder.path().join("tls/ca.pem")).expect("the authority"));
    let mut clients = Vec::new();
    for number in 0..AT_ONCE {
        let http2 = if number % 2 == 0 { Some(tls.http2(program.home.address).await) } else { None };
        let key = if number % 4 < 2 { tv.clone() } else { den.clone() };
        let asker = Asker { clear: program.clear, http2, key, bad: bad.expose().to_owned(), item: item.clone() };
        clients.push(tokio::spawn(asker.run(load / AT_ONCE)));
    }
    for client in clients {
        client.await.expect("no panic");
    }
    // And the one for the item.
    let requests = (load / AT_ONCE * AT_ONCE) as u64 + 1;
    let figures = program.after(requests as f64).await;
    assert_eq!(figures.sum("keygate_requests_total", &[]), requests as f64, "none twice");

    let logged = Logged::read(&program.home.log());
    assert_eq!(logged.sum(0), requests);
    assert_eq!(logged.by_class.keys().collect::<Vec<_>>(), ["1xx", "2xx", "3xx", "4xx", "5xx", "refused"], "all of them");
    for (class, [requests, ..]) in &logged.by_class {
        assert_eq!(figures.sum("keygate_requests_total", &[("upstream", "jellyfin"), ("class", class)]), *requests as f64, "{class}");
    }
    for (place, direction) in [(1, "received"), (2, "sent")] {
        let bytes = logged.sum(place) as f64;
        assert_eq!(figures.sum(&format!("keygate_{direction}_bytes_total"), &[("upstream", "jellyfin")]), bytes, "{direction}");
        assert_eq!(figures.sum(&format!("keygate_key_{direction}_bytes_total"), &[]), bytes, "{direction}");
    }
    for (key, classes) in &logged.by_key {
        for (class, requests) in classes {
            let figure = figures.sum("keygate_key_requests_total", &[("key_id", key), ("class", class)]);
            assert_eq!(figure, *requests as f64, "{key} {class}");
        }
    }

    // The admin interface, and what people read.
    let token = program.home.run("admin tokens create reader --scope read -q").await.ok();
    program.home.sweep.keep_secret(token.trim());
    let bearer = format!("Bearer {}", token.trim());
    let usage = client::get(program.admin, "/api/usage", &[("authorization", &bearer)]).await.json();
    let counts = &usage["upstreams"]["jellyfin"]["counts"];
    assert_eq!((counts["requests"].as_u64(), counts["bytesOut"].as_u64()), (Some(requests), Some(logged.sum(2))));
    for (class, [requests, ..]) in &logged.by_class {
        assert_eq!(counts["byClass"][class].as_u64(), Some(*requests), "{class}");
    }
    let ids = [&tv, &den].map(|key| key.split('_').nth(1).expect("an id").to_owned());
    let shown = pages(&program, &["/status".to_owned(), format!("/keys/{}", ids[0]), format!("/keys/{}", ids[1])]).await;
    assert!(shown[0].contains(&format!("<td>{}</td>", with_commas(requests))), "{}", shown[0]);
    for (id, page) in ids.iter().zip(&shown[1..]) {
        let of_key = &logged.by_key[id];
        let sum: u64 = of_key.values().sum();
        let show: Value = serde_json::from_str(&program.home.run(&format!("keys show {id} -o json")).await.ok()).expect("JSON");
        let usage = client::get(program.admin, &format!("/api/api-keys/{id}/usage"), &[("authorization", &bearer)]).await.json();
        assert_eq!((show["apiKey"]["requests"].as_u64(), usage["counts"]["requests"].as_u64()), (Some(sum), Some(sum)));
        for (class, requests) in of_key {
            let row = format!("<th scope=\"row\">{class}</th><td>{}</td>", with_commas(*requests));
            assert!(page.contains(&row), "{row} in {page}");
        }
    }
    program.stop().await;
}
