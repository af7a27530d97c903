//! `GET /metrics`: figures for Prometheus. Requests, bytes and what runs come from the one place that counts them ([`crate::usage`]), so
//! that they agree with what `keygate keys show`, the admin interface and the access log say; nothing is counted twice.
//!
//! Labels are names of upstreams, words of keygate's own and, if the configuration says so, ids of keys: never a name of a key or an
//! account, never an address, never a path.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use schemars::generate::SchemaGenerator;
use schemars::json_schema;

use crate::admin::Admin;
use crate::admin::error::AdminError;
use crate::admin::exposition::{Exposition, Form};
use crate::admin::table::{Answers, Operation};
use crate::clock::Timestamp;
use crate::registry::RegistryError;
use crate::server::handshake::Shaken;
use crate::upstream::UpstreamName;
use crate::upstream::session::AccountState;
use crate::upstream::session::figures::Event;
use crate::usage::count::{Class, Counts};
use crate::usage::measured::{Measured, MeasuredUpstream};
use crate::usage::open::{Sort, StreamView};
use crate::usage::{NO_UPSTREAM, Usage};

/// Where it is.
pub(super) const PATH: &str = "/metrics";
const DAY: Duration = Duration::from_secs(86_400);
/// The label of requests that came to no upstream, and of those without a key that is known.
const NONE: &str = "-";
/// The label of keys beyond those that are told apart.
const OTHERS: &str = "other";

/// The text, in one of two forms.
pub(super) struct Text(Form, String);

impl IntoResponse for Text {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, self.0.media_type())], self.1).into_response()
    }
}

impl Answers for Result<Text, AdminError> {
    fn describe(operation: &mut Operation, _: &mut SchemaGenerator) {
        operation.answer = Some(("text/plain", json_schema!({ "type": "string" })));
    }
}

pub(super) async fn show(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Result<Text, AdminError> {
    let form = Form::wanted(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
    admin.blocking(move |admin| Ok(Text(form, admin.expose(form)?))).await
}

/// What is shown of usage.
#[derive(Default)]
struct Shown {
    measured: Measured,
    open: Vec<StreamView>,
}

impl Shown {
    fn of(usage: Option<&Usage>, upstreams: &[UpstreamName]) -> Result<Self, AdminError> {
        let Some(usage) = usage else { return Ok(Self::default()) };
        let failed = |error| AdminError::Registry(RegistryError::Store(error));
        let mut shown = Self { measured: usage.measured().map_err(failed)?, open: usage.open(None).map_err(failed)? };
        // From the first moment on: what appears with its first figure was 0 before, which a query does not know.
        for name in upstreams.iter().map(UpstreamName::as_str).chain([NO_UPSTREAM]) {
            shown.measured.upstreams.entry(name.to_owned()).or_default();
        }
        Ok(shown)
    }

    fn upstreams(&self) -> impl Iterator<Item = (&str, &MeasuredUpstream)> {
        self.measured.upstreams.iter().map(|(name, of)| (if name == NO_UPSTREAM { NONE } else { name.as_str() }, of))
    }

    fn requests(&self, text: &mut Exposition) {
        let mut figures = text.counter("keygate_requests_total", "Requests that have ended, by upstream and how they ended.");
        for (upstream, of) in self.upstreams() {
            for class in Class::ALL {
                figures.of(&[("upstream", upstream), ("class", class.as_str())], of.usage.counts.of(class));
            }
        }
        let mut figures = text.counter("keygate_requests_by_carrier_total", "Requests, by where their credential was.");
        for (upstream, of) in self.upstreams() {
            for (carrier, times) in &of.usage.carriers {
                figures.of(&[("upstream", upstream), ("carrier", carrier)], times);
            }
        }
        let mut figures = text.counter("keygate_refusals_total", "Requests, and messages within sockets, that keygate refused, by reason.");
        for (upstream, of) in self.upstreams() {
            for (reason, times) in &of.usage.refusals {
                figures.of(&[("upstream", upstream), ("reason", reason)], times);
            }
        }
    }

    fn bytes(&self, text: &mut Exposition) {
        let mut figures = text.counter("keygate_received_bytes_total", "Bytes of bodies and sockets that went to the upstream.");
        self.upstreams().for_each(|(upstream, of)| figures.of(&[("upstream", upstream)], of.usage.counts.bytes_in));
        let mut figures = text.counter("keygate_sent_bytes_total", "Bytes of bodies and sockets that went to clients.");
        self.upstreams().for_each(|(upstream, of)| figures.of(&[("upstream", upstream)], of.usage.counts.bytes_out));
    }

    fn running(&self, text: &mut Exposition) {
        let mut running: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for upstream in self.measured.upstreams.keys().filter(|name| *name != NO_UPSTREAM) {
            for sort in [Sort::Stream, Sort::Socket] {
                running.insert((upstream, sort.as_str()), 0);
            }
        }
        for view in &self.open {
            *running.entry((view.upstream.as_str(), view.sort.as_str())).or_default() += 1;
        }
        let mut figures = text.gauge("keygate_running", "Streams, uploads and sockets of keys that run now, as of the last second.");
        for ((upstream, sort), count) in running {
            figures.of(&[("upstream", upstream), ("sort", sort)], count);
        }
    }

    fn latency(&self, text: &mut Exposition) {
        let all = self.upstreams().filter(|(upstream, _)| *upstream != NONE).map(|(upstream, of)| (upstream, of.latency));
        let help = "From sending a request to the head of the upstream's answer; of uploads, with the upload.";
        text.histogram("keygate_upstream_response_seconds", help, "upstream", all);
    }

    fn keys(&self, text: &mut Exposition) {
        let ids: Vec<_> = self.measured.keys.iter().map(|(id, counts)| (id.to_string(), counts)).collect();
        let all = || {
            let told_apart = ids.iter().map(|(id, counts)| (id.as_str(), *counts));
            told_apart.chain([(OTHERS, &self.measured.other_keys), (NONE, &self.measured.no_key)])
        };
        let mut figures = text.counter("keygate_key_requests_total", "Requests that have ended, by the key's id and how they ended.");
        for (id, counts) in all() {
            for class in Class::ALL.into_iter().filter(|class| counts.of(*class) > 0) {
                figures.of(&[("key_id", id), ("class", class.as_str())], counts.of(class));
            }
        }
        let mut bytes = |name, help, of: fn(&Counts) -> u64| {
            let mut figures = text.counter(name, help);
            all().for_each(|(id, counts)| figures.of(&[("key_id", id)], of(counts)));
        };
        bytes("keygate_key_received_bytes_total", "Bytes that went to upstreams, by the key's id.", |counts| counts.bytes_in);
        bytes("keygate_key_sent_bytes_total", "Bytes that went to clients, by the key's id.", |counts| counts.bytes_out);
    }
}

impl Admin {
    /// Everything. Blocking.
    fn expose(&self, form: Form) -> Result<String, AdminError> {
        let mut text = Exposition::new(form);
        self.program(&mut text);
        let names: Vec<_> = self.upstreams.load().iter().map(|one| UpstreamName::new(&one.name)).collect();
        if self.usage.is_some() {
            let shown = Shown::of(self.usage.as_deref(), &names)?;
            shown.requests(&mut text);
            shown.bytes(&mut text);
            shown.running(&mut text);
            shown.latency(&mut text);
            if self.metrics.per_key {
                shown.keys(&mut text);
            }
        }
        self.expose_ends_of_keys(&mut text)?;
        self.expose_upstreams(&mut text, &names);
        self.expose_connections(&mut text);
        self.expose_certificates(&mut text);
        self.expose_traces(&mut text);
        if let Some(store) = &self.store {
            text.counter("keygate_store_errors_total", "Readings and writings of the store that failed.").is(store.errors());
            text.gauge("keygate_store_size_bytes", "Size of the store's file.").is(store.size());
        }
        Ok(text.finish())
    }

    fn program(&self, text: &mut Exposition) {
        let help = "Always 1; the version is in the label.";
        text.gauge("keygate_build_info", help).of(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        // The name that every program has for it.
        text.gauge("process_start_time_seconds", "When the program started, since the epoch.").is(seconds(self.born));
        let last = self.last_reload.load_full();
        let is_good = last.as_ref().is_none_or(|last| last.problems.is_none());
        let help = "Whether the configuration was taken over when it was read last.";
        text.gauge("keygate_config_last_reload_successful", help).is(u8::from(is_good));
        let at = last.as_ref().and_then(|last| last.at.parse::<jiff::Timestamp>().ok());
        let at = at.map_or(self.born, |at| Timestamp::from_millis(at.as_millisecond()));
        text.gauge("keygate_config_last_reload_timestamp_seconds", "When it was read last, since the epoch.").is(seconds(at));
    }

    fn expose_ends_of_keys(&self, text: &mut Exposition) -> Result<(), AdminError> {
        let (now, ends) = (self.clock.now(), self.registry.ends_within(DAY * 30).map_err(RegistryError::Store)?);
        let mut figures = text.gauge("keygate_keys_expiring", "Keys that are good now and expire within this time.");
        for (within, days) in [("7d", 7), ("30d", 30)] {
            figures.of(&[("within", within)], ends.iter().filter(|end| **end <= now.plus(DAY * days)).count());
        }
        Ok(())
    }

    fn expose_upstreams(&self, text: &mut Exposition, names: &[UpstreamName]) {
        let mut figures = text.gauge("keygate_upstream_up", "Whether the upstream could be reached when that was tried last.");
        for upstream in names.iter().filter_map(|name| self.sessions.upstream(name)) {
            let is_down = upstream.health.down().is_some() || upstream.tls.as_ref().is_some_and(|tls| tls.problem().is_some());
            // Nothing is said of what nobody has tried yet.
            if is_down || upstream.health.heard().is_some() {
                figures.of(&[("upstream", upstream.name.as_str())], u8::from(!is_down));
            }
        }
        let accounts = self.sessions.accounts();
        let mut figures = text.gauge("keygate_accounts", "Accounts at upstreams; broken ones wait for an operator.");
        for name in names {
            let of = accounts.iter().filter(|account| account.upstream == *name);
            let (broken, good): (Vec<_>, Vec<_>) =
                of.partition(|account| matches!(self.sessions.state(account.id), AccountState::Broken { .. }));
            for (state, count) in [("good", good.len()), ("broken", broken.len())] {
                figures.of(&[("upstream", name.as_str()), ("state", state)], count);
            }
        }
        let all: Vec<_> = names.iter().map(|name| (name.as_str(), self.sessions.figures(name))).collect();
        let mut sessions = |name, help, label, is_wanted: fn(Event) -> bool| {
            let mut figures = text.counter(name, help);
            for (upstream, events) in &all {
                for (event, times) in events.iter().filter(|(event, _)| is_wanted(*event)) {
                    figures.of(&[("upstream", upstream), (label, event.as_str())], times);
                }
            }
        };
        sessions("keygate_sessions_total", "Sessions with the upstream that were got, by how.", "how", Event::is_good);
        sessions("keygate_session_failures_total", "Tries to get one that failed, by what of.", "kind", |event| !event.is_good());
    }

    fn expose_connections(&self, text: &mut Exposition) {
        let Some(running) = &self.running else { return };
        let connections = running.gateway.connections();
        text.gauge("keygate_connections_open", "Client connections that are open, sockets included.").is(connections.open());
        text.counter("keygate_connections_total", "Client connections that were accepted.").is(connections.accepted());
        let help = "Of them, those that were closed at once because too many were open.";
        text.counter("keygate_connections_refused_total", help).is(connections.refused());
        let mut figures = text.counter("keygate_tls_handshakes_total", "TLS handshakes, by how they ended.");
        for how in Shaken::ALL {
            figures.of(&[("result", how.as_str())], connections.handshakes(how));
        }
    }

    fn expose_traces(&self, text: &mut Exposition) {
        let settings = self.running.as_ref().map(|running| running.gateway.settings());
        let Some(tracer) = settings.as_ref().and_then(|settings| settings.tracer.as_ref()) else { return };
        let mut figures = text.counter("keygate_trace_spans_total", "Spans, by whether the collector took them.");
        figures.of(&[("result", "sent")], tracer.figures().sent());
        figures.of(&[("result", "dropped")], tracer.figures().dropped());
    }

    fn expose_certificates(&self, text: &mut Exposition) {
        let Some(certificates) = &self.certificates else { return };
        // By the first name; of several with the same one, that which ends first.
        let mut ends: BTreeMap<String, Timestamp> = BTreeMap::new();
        for one in certificates.show().1 {
            let name = one.facts.names.into_iter().next().unwrap_or(one.facts.subject);
            let end = ends.entry(name).or_insert(one.facts.not_after);
            *end = one.facts.not_after.min(*end);
        }
        let mut figures = text.gauge("keygate_certificate_not_after_seconds", "When the certificate ends, since the epoch.");
        for (name, end) in &ends {
            figures.of(&[("name", name)], seconds(*end));
        }
    }
}

/// Since the epoch.
fn seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1000.0
}
