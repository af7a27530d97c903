//! What keys are used for, as the admin interface shows it; and what runs now, which it can close.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::error::AdminError;
use crate::admin::keys::{iso, key_id};
use crate::admin::{Actor, Admin};
use crate::audit::{Act, Field, Object, Verb};
use crate::clock::Timestamp;
use crate::keys::KeyId;
use crate::keys::record::KeyRecord;
use crate::registry::RegistryError;
use crate::store::StoreError;
use crate::usage::count::{Class, Counts};
use crate::usage::latency::{Latency, Recent};
use crate::usage::open::{StreamId, StreamView};
use crate::usage::record::{ClientUse, KeyUsage, LastUse, UpstreamUsage, day_of, hour_of, minute_of};
use crate::usage::ring::Point;
use crate::usage::tally::SecretTag;
use crate::usage::{NO_UPSTREAM, Usage, agent};

/// Requests and bytes.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CountsView {
    /// All requests that have ended.
    pub requests: u64,
    /// By `1xx`, `2xx`, `3xx`, `4xx`, `5xx`, `refused` (by keygate) and `aborted` (by the client, before an answer).
    pub by_class: BTreeMap<String, u64>,
    /// Toward the media server.
    pub bytes_in: u64,
    /// Toward clients.
    pub bytes_out: u64,
}

/// `GET /api/api-keys/{id}/usage`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyUsageView {
    /// The key's id.
    pub key: String,
    /// Its name.
    pub name: String,
    /// Since it was made.
    pub counts: CountsView,
    /// Requests by where the key was.
    pub carriers: BTreeMap<String, u64>,
    /// Requests by group of paths, the most frequent first, without any id.
    pub paths: Vec<(String, u64)>,
    /// Who used it in the last 30 days, the latest first.
    pub clients: Vec<ClientView>,
    /// The last 60 minutes, oldest first.
    pub minutes: Vec<PointView>,
    /// The last 48 hours.
    pub hours: Vec<PointView>,
    /// The last 30 days.
    pub days: Vec<PointView>,
    /// What runs on it.
    pub open: Vec<StreamLine>,
}

/// A client of a key.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct ClientView {
    /// Its address.
    pub address: String,
    /// What it calls itself; may be empty.
    pub agent: String,
    /// `current`, `old` (good until a rotation's overlap ends) or `gone`.
    pub secret: String,
    /// Where it puts the key.
    pub carrier: Option<String>,
    /// When it was seen first.
    pub first: String,
    /// When it was seen last.
    pub last: String,
    /// Its requests.
    pub requests: u64,
}

/// What happened in a minute, an hour or a day.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct PointView {
    /// 1xx to 3xx.
    pub good: u32,
    /// 4xx, refused, aborted.
    pub refused: u32,
    /// 5xx.
    pub failed: u32,
    /// KiB in both directions.
    pub kib: u32,
}

/// `{"writtenAt": …, "upstreams": {…}}`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TotalsView {
    /// Until when use is in the store, so that it outlives a power cut; null: nothing was written since the gateway started.
    pub written_at: Option<String>,
    /// By name; `-`: requests that came to none.
    pub upstreams: BTreeMap<String, UpstreamTotals>,
}

/// Sums of one upstream.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct UpstreamTotals {
    /// Since there is a store.
    pub counts: CountsView,
    /// Requests by where the credential was.
    pub carriers: BTreeMap<String, u64>,
    /// Requests, and messages within sockets, that keygate refused, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// How long it took in the last hour, or since the start; null: nobody asked it anything.
    #[serde(default)]
    pub latency: Option<LatencyView>,
}

/// Until the head of a media server's answers; of uploads, with the upload.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LatencyView {
    /// Answers of the last hour.
    pub answers: u64,
    /// Milliseconds within which half of them began, reckoned from ranges.
    pub p50_ms: f64,
    /// Milliseconds within which 95 of 100 began; 30,000 stands for whatever is longer.
    pub p95_ms: f64,
    /// The same 95 of 100, five minutes by five minutes, oldest first; null: nobody asked it anything.
    pub p95_ms_by_five_minutes: Vec<Option<f64>>,
}

/// `{"streams": […]}`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct StreamList {
    /// Oldest first.
    pub streams: Vec<StreamLine>,
}

/// Something that runs.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamLine {
    /// Names it, for closing.
    pub id: String,
    /// The key's id.
    pub key: String,
    /// `stream` or `socket`.
    pub sort: String,
    /// Who asked.
    pub client: String,
    /// What it calls itself.
    pub agent: String,
    /// The media server.
    pub upstream: String,
    /// The group of its path.
    pub path: String,
    /// Since when.
    pub started: String,
    /// Toward the media server so far.
    pub bytes_in: u64,
    /// Toward the client so far.
    pub bytes_out: u64,
}

impl From<&Counts> for CountsView {
    fn from(counts: &Counts) -> Self {
        let by_class = Class::ALL.into_iter().map(|class| (class.as_str().to_owned(), counts.of(class))).collect();
        Self { requests: counts.requests(), by_class, bytes_in: counts.bytes_in, bytes_out: counts.bytes_out }
    }
}

impl From<Point> for PointView {
    fn from(point: Point) -> Self {
        let Point { good, refused, failed, kib } = point;
        Self { good, refused, failed, kib }
    }
}

impl From<&StreamView> for StreamLine {
    fn from(view: &StreamView) -> Self {
        Self {
            id: view.id.to_string(),
            key: view.key.to_string(),
            sort: view.sort.as_str().to_owned(),
            client: view.client.to_string(),
            agent: view.agent.as_ref().map(|agent| agent::short(agent.as_bytes())).unwrap_or_default(),
            upstream: view.upstream.to_string(),
            path: view.group.as_str().to_owned(),
            started: iso(view.started),
            bytes_in: view.moved.bytes_in,
            bytes_out: view.moved.bytes_out,
        }
    }
}

impl UpstreamTotals {
    fn new(usage: &UpstreamUsage, recent: Option<&Recent>, now: Timestamp) -> Self {
        let latency = recent.and_then(|recent| latency_view(recent, now));
        Self { counts: (&usage.counts).into(), carriers: usage.carriers.clone(), refusals: usage.refusals.clone(), latency }
    }
}

fn latency_view(recent: &Recent, now: Timestamp) -> Option<LatencyView> {
    // Tenths are what is worth telling apart of figures that are reckoned from ranges.
    let millis = |took: Duration| (took.as_secs_f64() * 10_000.0).round() / 10.0;
    let mut all = Latency::default();
    recent.until(now).for_each(|part| all.add(&part));
    Some(LatencyView {
        answers: all.count(),
        p50_ms: millis(all.quantile(0.5)?),
        p95_ms: millis(all.quantile(0.95)?),
        p95_ms_by_five_minutes: recent.until(now).map(|part| part.quantile(0.95).map(millis)).collect(),
    })
}

impl Admin {
    /// Nothing was counted where nothing is.
    pub(super) fn counted<T: Default>(&self, ask: impl FnOnce(&Usage) -> Result<T, StoreError>) -> Result<T, AdminError> {
        Ok(self.usage.as_deref().map(ask).transpose().map_err(RegistryError::Store)?.unwrap_or_default())
    }

    /// When each of these was used last. Blocking.
    pub(super) fn last_uses(&self, records: &[KeyRecord]) -> Result<BTreeMap<KeyId, LastUse>, AdminError> {
        /// From here on all are read at once.
        const FEW: usize = 100;
        self.counted(|usage| {
            if records.len() > FEW {
                return Ok(usage.last_uses()?.into_iter().collect());
            }
            let mut last = BTreeMap::new();
            for record in records {
                last.extend(usage.of_key(record.id)?.and_then(|usage| usage.last()).map(|last| (record.id, last)));
            }
            Ok(last)
        })
    }

    /// All that is known of a key's use. Blocking.
    pub(super) fn key_usage(&self, id: &str) -> Result<KeyUsageView, AdminError> {
        let record = self.registry.key(key_id(id)?)?;
        let usage = self.counted(|usage| usage.of_key(record.id))?.unwrap_or_default();
        let open = self.counted(|usage| usage.open(Some(record.id)))?;
        Ok(key_view(&record, &usage, &open, self.clock.now()))
    }

    /// Sums by upstream. Blocking.
    pub(super) fn totals(&self) -> Result<TotalsView, AdminError> {
        let name = |name: String| if name == NO_UPSTREAM { "-".to_owned() } else { name };
        let (totals, latencies, now) = (self.counted(Usage::totals)?, self.counted(Usage::latencies)?, self.clock.now());
        let written_at = self.counted(|usage| Ok(usage.written_at()))?.map(iso);
        let of = |upstream: &str, usage: &UpstreamUsage| UpstreamTotals::new(usage, latencies.get(upstream), now);
        let upstreams = totals.into_iter().map(|(upstream, usage)| (name(upstream.clone()), of(&upstream, &usage))).collect();
        Ok(TotalsView { written_at, upstreams })
    }

    /// What runs now. Blocking.
    pub(super) fn streams(&self, key: Option<&str>) -> Result<StreamList, AdminError> {
        let key = key.map(key_id).transpose()?;
        let open = self.counted(|usage| usage.open(key))?;
        Ok(StreamList { streams: open.iter().map(StreamLine::from).collect() })
    }

    /// Closes one thing that runs; its key stays good. Blocking.
    pub(super) fn close_stream(&self, id: &str, peer: Actor) -> Result<StreamLine, AdminError> {
        let gone = || AdminError::NotFound(format!("nothing runs (any more) under the id {id:?}"));
        let wanted: StreamId = id.parse().map_err(|_| gone())?;
        let closed = self.counted(|usage| usage.close(wanted))?.ok_or_else(gone)?;
        let record = self.registry.key(closed.key)?;
        tracing::info!(%peer, key_id = %closed.key, "a {} of key {} was closed by {peer}", closed.sort.as_str(), closed.key);
        let fields = [Field::new("what", closed.sort.as_str()), Field::new("client", closed.client)];
        self.recorded(Act::new(Verb::Closed, Object::from(&record)).with(fields), peer);
        Ok((&closed).into())
    }
}

fn key_view(record: &KeyRecord, usage: &KeyUsage, open: &[StreamView], now: Timestamp) -> KeyUsageView {
    let mut paths: Vec<(String, u64)> = usage.groups.iter().map(|(group, times)| (group.clone(), *times)).collect();
    paths.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    let mut clients: Vec<&ClientUse> = usage.clients.iter().collect();
    clients.sort_by_key(|client| std::cmp::Reverse(client.last));
    KeyUsageView {
        key: record.id.to_string(),
        name: record.name.clone(),
        counts: (&usage.counts).into(),
        carriers: usage.carriers.clone(),
        paths,
        clients: clients.into_iter().map(|client| client_view(record, client, now)).collect(),
        minutes: usage.minutes.until(minute_of(now)).map(PointView::from).collect(),
        hours: usage.hours.until(hour_of(now)).map(PointView::from).collect(),
        days: usage.days.until(day_of(now)).map(PointView::from).collect(),
        open: open.iter().map(StreamLine::from).collect(),
    }
}

fn client_view(record: &KeyRecord, client: &ClientUse, now: Timestamp) -> ClientView {
    let previous = record.previous.as_ref().filter(|previous| previous.expires_at > now);
    let secret = if record.revoked_at.is_none() && client.secret == SecretTag::from(&record.digest) {
        "current"
    } else if previous.is_some_and(|previous| client.secret == SecretTag::from(&previous.digest)) {
        "old"
    } else {
        "gone"
    };
    ClientView {
        address: client.address.to_string(),
        agent: client.agent.clone(),
        secret: secret.to_owned(),
        carrier: client.carrier.clone(),
        first: iso(client.first),
        last: iso(client.last),
        requests: client.requests,
    }
}
