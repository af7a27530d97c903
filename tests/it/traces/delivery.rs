//! How spans come to a collector, and what becomes of them where they do not.

use std::os::unix::fs::PermissionsExt;

use keygate::config::source::SecretSource;
use keygate::config::{Endpoint, Share, Traces};
use keygate::gateway::routing::Settings;
use keygate::telemetry::traces::Figures;
use keygate::telemetry::traces::otlp::{Exported, PartialSuccess};
use keygate::upstream::Kind;
use prost::Message;

use super::collector::{Collector, endpoint};
use super::traced;
use crate::support::front::{Authority, Front};
use crate::support::{Rig, Setup, until};

async fn with(traces: Traces) -> Rig {
    Setup::new(Kind::Jellyfin).with(move |config| config.traces = Some(traces)).start().await
}

fn figures(rig: &Rig, look: impl Fn(&Figures) -> u64) -> u64 {
    look(rig.app().gateway.settings().tracer.as_ref().expect("traces").figures())
}

async fn request(rig: &Rig) {
    assert_eq!(rig.get("/System/Info").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_one_of_otlp_with_the_operators_headers() {
    let collector = Collector::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("headers");
    std::fs::write(&file, "Authorization: Bearer the-collectors-secret\n\nX-Scope-OrgID: home\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let rig = with(Traces { headers: Some(SecretSource::File(file)), ..collector.traces(Share::ALL) }).await;
    rig.sweep.keep_secret("the-collectors-secret");
    request(&rig).await;
    collector.spans(&rig.sweep, |spans| spans.len() == 2).await;
    let came = collector.came().pop().expect("one");
    assert_eq!(came.target, "POST /v1/traces");
    for (name, value) in [
        ("content-type", "application/x-protobuf"),
        ("authorization", "Bearer the-collectors-secret"),
        ("x-scope-orgid", "home"),
        ("host", &collector.address.to_string()),
    ] {
        let values: Vec<_> = came.headers.get_all(name).iter().collect();
        assert_eq!(values, [value], "{name}");
    }
    assert!(!format!("{:?}", rig.config).contains("the-collectors-secret"));
    until("they are counted", || figures(&rig, Figures::sent) == 2).await;
    assert_eq!(figures(&rig, Figures::dropped), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_collector_does_not_take_now_comes_again_and_what_it_refuses_is_lost_and_counted() {
    let collector = Collector::start().await;
    let rig = traced(&collector, Kind::Jellyfin).await;
    collector.answer(&[(503, b""), (429, b""), (200, b"")]);
    request(&rig).await;
    collector.spans(&rig.sweep, |spans| spans.len() == 2).await;
    let came = collector.came();
    assert_eq!(came.iter().map(|came| came.status).collect::<Vec<_>>(), [503, 429, 200]);
    assert!(came.iter().all(|one| one.body == came[0].body), "the same batch");
    until("it is counted", || figures(&rig, Figures::sent) == 2).await;
    collector.answer(&[(400, b"")]);
    request(&rig).await;
    until("it is lost", || figures(&rig, Figures::dropped) == 2).await;
    let partial = PartialSuccess { rejected_spans: 1, error_message: "one is too old".to_owned() };
    collector.answer(&[(200, &Exported { partial_success: Some(partial) }.encode_to_vec())]);
    request(&rig).await;
    until("one of two is lost", || figures(&rig, Figures::dropped) == 3).await;
    assert_eq!(figures(&rig, Figures::sent), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_https_collector_is_told_only_if_its_certificate_is_trusted() {
    let (collector, authority) = (Collector::start().await, Authority::new("Home CA"));
    let front = Front::start(&authority.leaf()).await;
    front.port_setter()(collector.address.port());
    let secure = |tls| Traces { endpoint: Endpoint { tls, ..endpoint(front.address) }, ..collector.traces(Share::ALL) };
    let strange = with(secure(Authority::new("Another CA").trust())).await;
    request(&strange).await;
    strange.app().gateway.settings().tracer.clone().expect("traces").finish().await;
    until("they are lost", || figures(&strange, Figures::dropped) == 2).await;
    assert!(collector.came().is_empty());
    let rig = with(secure(authority.trust())).await;
    request(&rig).await;
    collector.spans(&rig.sweep, |spans| spans.len() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_configuration_sends_elsewhere_and_what_waited_still_goes_to_the_first() {
    let (one, two) = (Collector::start().await, Collector::start().await);
    let mut rig = traced(&one, Kind::Jellyfin).await;
    let gateway = std::sync::Arc::clone(&rig.app().gateway);
    let before = gateway.settings().tracer.clone();
    let same = rig.keep().tracer(&rig.config, before.as_ref()).unwrap().expect("traces");
    assert!(std::sync::Arc::ptr_eq(&same, before.as_ref().unwrap()), "nothing has changed");
    request(&rig).await;
    rig.config.traces = Some(two.traces(Share::ALL));
    let tracer = rig.keep().tracer(&rig.config, before.as_ref()).unwrap();
    gateway.set_settings(Settings::new(&rig.config, Some(&gateway.settings())).traced_by(tracer));
    drop((before, same));
    request(&rig).await;
    two.spans(&rig.sweep, |spans| spans.len() == 2).await;
    one.spans(&rig.sweep, |spans| spans.len() == 2).await;
    until("all are counted", || figures(&rig, Figures::sent) == 4).await;
}
