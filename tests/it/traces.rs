//! Traces, before a collector on a real socket: what spans say of each sort of request, whose word on traces counts, that no secret is
//! in them, and that nobody waits for a collector.

mod collector;
mod context;
mod decoder;
mod delivery;
mod program;
mod spans;

use keygate::config::{Config, Share};
use keygate::upstream::Kind;

use self::collector::{Collector, Seen};
use crate::support::{Rig, Setup};

/// The usual gateway before a stand-in, which tells this collector of all requests.
async fn traced(collector: &Collector, kind: Kind) -> Rig {
    setup(collector, kind, Share::ALL).start().await
}

fn setup(collector: &Collector, kind: Kind, share: Share) -> Setup {
    let traces = collector.traces(share);
    Setup::new(kind).with(move |config: &mut Config| config.traces = Some(traces))
}

/// The spans of one request: its own, and that of the upstream's part if it came to one.
async fn one_request(collector: &Collector, rig: &Rig) -> (Seen, Option<Seen>) {
    let mut spans = collector.spans(&rig.sweep, |spans| spans.iter().any(|span| span.is_server())).await;
    collector.forget();
    let servers = spans.iter().filter(|span| span.is_server()).count();
    assert!(servers == 1 && spans.len() <= 2, "{spans:?}");
    let server = spans.remove(spans.iter().position(Seen::is_server).expect("there"));
    let client = spans.pop();
    for part in client.iter() {
        assert_eq!(part.span.trace_id, server.span.trace_id);
        assert_eq!(part.span.parent_span_id, server.span.span_id);
        assert!(part.begin() >= server.begin() && part.end() <= server.end() && part.end() >= part.begin(), "{part:?} in {server:?}");
    }
    (server, client)
}

/// The header that the upstream got with the last request for a path.
fn upstream_heard(rig: &Rig, path: &str, name: &str) -> Option<String> {
    let journal = rig.standin.control().journal();
    let seen = journal.iter().rev().find(|seen| seen.path() == path).expect("it was asked");
    seen.header(name).map(str::to_owned)
}
