//! Which requests are traced, in which trace, and who may say so.

use keygate::config::Share;
use keygate::upstream::Kind;

use super::collector::{Collector, hex};
use super::{one_request, setup, upstream_heard};
use crate::support::{Rig, http as client};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

fn traceparent(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

/// A request with these words on traces.
async fn ask(rig: &Rig, flags: &str) {
    let parent = traceparent(flags);
    let lines = [("x-emby-token", rig.secret()), ("traceparent", &parent), ("tracestate", "a=1")];
    assert_eq!(client::get(rig.address, "/System/Info", &lines).await.status, 200);
}

async fn rig(collector: &Collector, share: Share, trusts: bool) -> Rig {
    let traces = collector.traces(share);
    let setup = crate::support::Setup::new(Kind::Jellyfin).with(move |config| {
        config.traces = Some(traces);
        if trusts {
            config.server.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        }
    });
    setup.start().await
}

/// Whatever was to be sent has come.
async fn settle(rig: &Rig) {
    rig.app().gateway.settings().tracer.clone().expect("traces").finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_traces_nobody_connects_and_headers_pass_as_they_came() {
    let rig = Rig::new(Kind::Jellyfin).await;
    assert!(rig.app().gateway.settings().tracer.is_none());
    assert_eq!(rig.get("/System/Info").await.status, 200);
    assert_eq!(upstream_heard(&rig, "/System/Info", "traceparent"), None);
    ask(&rig, "01").await;
    assert_eq!(upstream_heard(&rig, "/System/Info", "traceparent"), Some(traceparent("01")));
    assert_eq!(upstream_heard(&rig, "/System/Info", "tracestate").as_deref(), Some("a=1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_none_nothing_comes_and_the_upstream_hears_that() {
    let collector = Collector::start().await;
    let rig = setup(&collector, Kind::Jellyfin, Share::NONE).start().await;
    for _ in 0..20 {
        assert_eq!(rig.get("/System/Info").await.status, 200);
        let told = upstream_heard(&rig, "/System/Info", "traceparent").expect("a traceparent");
        assert!(told.ends_with("-00") && told.len() == 55, "{told}");
    }
    settle(&rig).await;
    assert!(collector.came().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_decides_and_its_trace_goes_on() {
    let collector = Collector::start().await;
    let none = rig(&collector, Share::NONE, true).await;
    ask(&none, "01").await;
    let (server, part) = one_request(&collector, &none).await;
    assert_eq!((server.trace(), server.parent()), (TRACE.to_owned(), SPAN.to_owned()));
    assert_eq!(server.span.flags, 0x301, "recorded, and the parent is elsewhere");
    assert!(server.span.links.is_empty());
    let told = upstream_heard(&none, "/System/Info", "traceparent");
    assert_eq!(told, Some(format!("00-{TRACE}-{}-01", part.expect("asked").id())));
    assert_eq!(upstream_heard(&none, "/System/Info", "tracestate").as_deref(), Some("a=1"));
    let all = rig(&collector, Share::ALL, true).await;
    ask(&all, "00").await;
    let told = upstream_heard(&all, "/System/Info", "traceparent").expect("a traceparent");
    assert!(told.starts_with(&format!("00-{TRACE}-")) && told.ends_with("-00") && !told.contains(SPAN), "{told}");
    settle(&all).await;
    assert!(collector.came().is_empty(), "it said that it is not recorded");
}

/// Fails when the word of a stranger counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_can_neither_force_a_trace_nor_come_into_one() {
    let collector = Collector::start().await;
    let none = rig(&collector, Share::NONE, false).await;
    for _ in 0..5 {
        ask(&none, "01").await;
    }
    settle(&none).await;
    assert!(collector.came().is_empty());
    let all = rig(&collector, Share::ALL, false).await;
    ask(&all, "00").await;
    let (server, part) = one_request(&collector, &all).await;
    assert!(server.trace() != TRACE && server.span.parent_span_id.is_empty());
    let [link] = server.span.links.as_slice() else { panic!("{server:?}") };
    assert_eq!((hex(&link.trace_id), hex(&link.span_id)), (TRACE.to_owned(), SPAN.to_owned()));
    let told = upstream_heard(&all, "/System/Info", "traceparent");
    assert_eq!(told, Some(format!("00-{}-{}-01", server.trace(), part.expect("asked").id())));
    assert_eq!(upstream_heard(&all, "/System/Info", "tracestate"), None);
}
