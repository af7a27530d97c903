//! What a key may do no more than: from where, how often, how much, and what is answered beyond it.

mod bandwidth;
mod cli;
mod daily;
mod networks;
mod rate;
mod streams;
mod used;

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use keygate::clock::ManualClock;
use keygate::demo::Options;
use keygate::keys::{ApiKey, Scope, Scopes, Ticket};
use keygate::limits::{Limits, LimitsPatch, LimitsText};
use keygate::registry::KeyPatch;
use keygate::upstream::Kind;

use crate::support::http::{self as client, Answer};
use crate::support::tls::{Trust, exchange};
use crate::support::{Rig, Setup, manual_clock};

const ECHO: &str = "/keygate-test/echo";

/// A gateway of two cores that believes in what loopback says of its clients, with TLS and without, and a clock that stands.
struct Scene {
    rig: Rig,
    kind: Kind,
    trust: Trust,
    clock: Arc<ManualClock>,
}

impl Scene {
    async fn new(kind: Kind) -> Self {
        let (trust, clock) = (Trust::new(), manual_clock());
        let options = Options { large_file_bytes: 1 << 40, ..Options::default() };
        let setup = Setup::new(kind).standin(options).tls(trust.certificate()).clock(Arc::clone(&clock) as _);
        let setup = setup.with(|config| {
            config.server.listen_plain = vec!["127.0.0.1:0".parse().expect("address")];
            config.server.trusted_proxies = vec!["127.0.0.1/32".parse().expect("network")];
        });
        let mut rig = setup.start().await;
        // The helpers ask in clear.
        rig.address = rig.app().addresses()[1];
        Self { rig, kind, trust, clock }
    }

    /// A key with limits.
    fn key(&self, limits: LimitsText) -> ApiKey {
        let key = self.rig.another_key("limited");
        self.limit(&key, limits);
        key
    }

    /// The limits that a key has from now on, and no others.
    fn limit(&self, key: &ApiKey, limits: LimitsText) {
        let Limits { networks, rate, streams, bandwidth, daily } = Limits::try_from(limits).expect("limits");
        let patch = LimitsPatch {
            networks: Some(networks),
            rate: Some(rate),
            streams: Some(streams),
            bandwidth: Some(bandwidth),
            daily: Some(daily),
        };
        self.edit(key, Some(patch));
    }

    fn edit(&self, key: &ApiKey, limits: Option<LimitsPatch>) {
        let patch = KeyPatch { limits: Some(limits), ..KeyPatch::default() };
        self.rig.keep().registry.edit_key(key.id(), patch).expect("edited");
    }

    /// Asks for a client over HTTP/1.1.
    async fn ask(&self, from: &str, key: &ApiKey, path: &str) -> Answer {
        client::get(self.rig.address, path, &[("x-forwarded-for", from), ("authorization", &bearer(key))]).await
    }

    /// Asks for a client over HTTP/2.
    async fn ask_http2(&self, from: &str, key: &ApiKey, path: &str) -> Answer {
        let mut sender = self.trust.http2(self.rig.app().addresses()[0]).await;
        let request = Request::get(format!("https://localhost{path}")).header("authorization", bearer(key)).header("x-forwarded-for", from);
        exchange(&mut sender, request.body(Full::<Bytes>::default()).expect("a request")).await
    }

    /// The path of a stream that is larger than every buffer on its way.
    async fn long_stream(&self) -> String {
        if self.kind == Kind::Audiobookshelf {
            return "/api/items/7f1d2b7e-0f63-4c0c-8a55-6a1b34c9d3f0/file/10127536?x=1".to_owned();
        }
        let listed = self.rig.get("/Items?Recursive=true").await.json();
        let id = listed["Items"][1]["Id"].as_str().unwrap_or_else(|| panic!("{listed}"));
        format!("/Audio/{id}/stream?static=true")
    }

    fn ticket(&self, key: &ApiKey) -> Ticket {
        let verified = self.rig.keep().find(key).expect("a known key");
        self.rig.keep().handouts.ticket_for(&verified, &self.rig.account.upstream).expect("a ticket")
    }

    /// How many requests for a path the stand-in saw.
    fn arrived(&self, path: &str) -> usize {
        self.rig.standin.control().journal().iter().filter(|seen| seen.path() == path).count()
    }
}

fn bearer(key: &ApiKey) -> String {
    format!("Bearer {}", key.expose())
}
