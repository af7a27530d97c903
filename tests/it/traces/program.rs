//! The real program and its collector: one that is away, one that comes back, another configuration, and the end.

use keygate::demo::{Options, StandIn};
use keygate::upstream::Kind;
use serde_json::Value;
use tokio::net::TcpListener;

use super::collector::Collector;
use crate::support::daemon::{Home, free_address};
use crate::support::http as client;

async fn figure(home: &Home, admin: std::net::SocketAddr, result: &str) -> u64 {
    let text = client::get(admin, "/metrics", &[]).await.text();
    home.sweep.printed(&text, false, "metrics");
    let name = format!("keygate_trace_spans_total{{result=\"{result}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_costs_one_line_and_all_come_when_it_is_back() {
    let standin = StandIn::start(Kind::Jellyfin, Options::default()).await.expect("a stand-in");
    let (place, admin) = (free_address(), free_address());
    let more = format!("[traces]\nendpoint = \"http://{place}/\"\nsample = 1\n[metrics]\nopen = true");
    let mut home = Home::of(&[&standin], &more);
    home.sweep.cover(&[admin]);
    let config = std::fs::read_to_string(home.config()).unwrap().replace("[admin]\n", &format!("[admin]\nlisten = \"{admin}\"\n"));
    home.write(&config);
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("kitchen", "alice").await;
    for _ in 0..10 {
        assert_eq!(home.status("/System/Info", &key).await, 200);
    }
    let said = "traces cannot be delivered to http://";
    let line = home.logged(said).await;
    assert!(line.contains("WARN") && line.contains("/v1/traces: no connection: ") && line.contains("Requests go on"), "{line}");
    // More tries, and more requests meanwhile.
    let deaf = TcpListener::bind(place).await.expect("its port");
    for _ in 0..2 {
        let tried = tokio::time::timeout(client::PATIENCE, deaf.accept()).await;
        drop(tried.expect("another try").expect("a connection"));
        assert_eq!(home.status("/System/Info", &key).await, 200);
    }
    drop(deaf);
    assert_eq!(home.log().matches(said).count(), 1, "{}", home.log());
    assert_eq!(figure(&home, admin, "sent").await, 0);
    let collector = Collector::at(place).await;
    collector.spans(&home.sweep, |spans| spans.len() == 24).await;
    home.logged("traces are delivered to http://").await;
    assert_eq!((figure(&home, admin, "sent").await, figure(&home, admin, "dropped").await), (24, 0));

    // What is left at the end goes out before it.
    assert_eq!(home.status("/System/Info", &key).await, 200);
    home.signal("TERM");
    assert_eq!(home.ended().await, 0);
    let spans = collector.spans(&home.sweep, |spans| spans.len() == 26).await;
    assert!(spans.iter().filter(|span| span.is_server()).all(|span| span.get("keygate.account").as_deref() == Some("alice")));

    // Another configuration, without another start.
    home.write(&config.replace("sample = 1", "sample = 0"));
    home.start().await;
    collector.forget();
    assert_eq!(home.status("/System/Info", &key).await, 200);
    home.write(&config);
    assert!(home.run("reload").await.ok().contains("traces changed"));
    assert_eq!(home.status("/System/Info", &key).await, 200);
    collector.spans(&home.sweep, |spans| spans.len() == 2).await;
    home.write(&config.replace("[traces]\n", "[traces]\nheaders = { file = \"missing\" }\n"));
    let refused = home.run("reload").await;
    assert!(refused.code != 0 && refused.err.contains("traces.headers: cannot read the secret file"), "{refused:?}");
    home.write(&config.replace(&format!("endpoint = \"http://{place}/\""), "endpoint = \"\""));
    home.run("reload").await.ok();
    standin.control().clear_journal();
    assert_eq!(home.status("/System/Info", &key).await, 200);
    assert!(standin.control().journal().iter().all(|seen| seen.header("traceparent").is_none()));
    assert!(!client::get(admin, "/metrics", &[]).await.text().contains("keygate_trace_spans"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_does_not_hold_up_the_end() {
    let standin = StandIn::start(Kind::Emby, Options::default()).await.expect("a stand-in");
    let silent = TcpListener::bind(free_address()).await.expect("a port");
    let endpoint = silent.local_addr().unwrap();
    let mut home = Home::of(&[&standin], &format!("[traces]\nendpoint = \"http://{endpoint}\"\nsample = 1"));
    home.start().await;
    home.add_alice("alice").await;
    let key = home.key("kitchen", "alice").await;
    assert_eq!(home.status("/System/Info", &key).await, 200);
    let connected = silent.accept().await.expect("an export");
    assert_eq!(home.status("/System/Info", &key).await, 200);
    home.signal("TERM");
    // Its patience is that of this suite for anything, and below that of systemd.
    assert_eq!(home.ended().await, 0);
    drop(connected);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_config_and_the_doctor_tell_of_the_collector() {
    let standin = StandIn::start(Kind::Emby, Options::default()).await.expect("a stand-in");
    let collector = Collector::start().await;
    let home = Home::of(&[&standin], "");
    let told = async |lines: &str| {
        home.configure(&[&standin], lines);
        let said: Value = serde_json::from_str(&home.run("doctor -o json").await.out).expect("JSON");
        let of_traces = said["findings"].as_array().expect("findings").iter().find(|finding| finding["check"] == "traces");
        of_traces.expect("a finding").clone()
    };
    assert_eq!(told("").await["verdict"], "not_applicable");
    let lines = format!("[traces]\nendpoint = \"http://{}\"\nsample = 0.25", collector.address);
    let found = told(&lines).await;
    assert_eq!((&found["verdict"], &found["about"]), (&"ok".into(), &format!("http://{}/v1/traces", collector.address).into()), "{found}");
    assert!(home.run("check-config").await.ok().contains(&format!("traces of 25 % of all requests to http://{}", collector.address)));
    assert!(spans(&collector).is_empty());
    collector.answer(&[(404, b"")]);
    let found = told(&lines).await;
    assert!(
        found["verdict"] == "warning" && found["text"].as_str().is_some_and(|text| text.contains("404 Not Found; look at the path")),
        "{found}"
    );
    drop(collector);
    let found = told(&lines).await;
    assert!(found["verdict"] == "warning" && found["text"].as_str().is_some_and(|text| text.contains("no connection")), "{found}");
}

/// What came, all of it empty.
fn spans(collector: &Collector) -> Vec<u8> {
    collector.came().iter().flat_map(|came| came.body.to_vec()).collect()
}
