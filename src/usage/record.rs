//! What is kept of one key's use, and of one upstream's.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::limits::daily::DayUse;
use crate::usage::agent;
use crate::usage::count::{Class, Counts};
use crate::usage::ring::{Point, Ring};
use crate::usage::tally::{ClientSeen, KeyNews, SecretTag, UpstreamNews};

pub use crate::limits::daily::day_of;

/// Clients of one key that are remembered; the longest unseen goes first.
const CLIENTS: usize = 24;
/// How long a client is remembered.
const CLIENT_KEPT: Duration = Duration::from_secs(30 * 86_400);
/// Groups of paths that have a figure of their own; all others share one.
const GROUPS: usize = 24;
/// The group of all others.
const OTHERS: &str = "*";

/// A client of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientUse {
    /// Its address.
    pub address: IpAddr,
    /// What it calls itself, shortened; may be empty.
    pub agent: String,
    /// Which of the key's secrets it has.
    pub secret: SecretTag,
    /// Where it puts the key.
    pub carrier: Option<String>,
    /// When it was seen first and last.
    pub first: Timestamp,
    /// See `first`.
    pub last: Timestamp,
    /// Its requests.
    pub requests: u64,
}

/// All that is known of a key's use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUsage {
    /// Requests and bytes.
    pub counts: Counts,
    /// By carrier.
    pub carriers: BTreeMap<String, u64>,
    /// By group of paths.
    pub groups: BTreeMap<String, u64>,
    /// Of the last 30 days, in no order.
    pub clients: Vec<ClientUse>,
    /// The last hour.
    pub minutes: Ring<60>,
    /// The last two days.
    pub hours: Ring<48>,
    /// The last 30 days.
    pub days: Ring<30>,
    /// What counts against its limit of bytes a day, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub today: Option<DayUse>,
}

/// When a key was used last, and by whom: what lists show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastUse {
    /// When.
    pub at: Timestamp,
    /// From where.
    pub address: IpAddr,
    /// What the client calls itself, shortened.
    pub agent: String,
    /// Where it put the key.
    pub carrier: Option<String>,
    /// All requests so far.
    pub requests: u64,
}

/// Minutes, hours and days since the epoch.
pub fn minute_of(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(60_000)
}

/// See [`minute_of`].
pub fn hour_of(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(3_600_000)
}

impl Point {
    /// Of what is new; its KiB are whole ones of the sum, so that a trickle is neither lost nor blown up.
    fn of(counts: &Counts, before: u64) -> Self {
        let sum = |classes: &[Class]| u32::try_from(classes.iter().map(|class| counts.of(*class)).sum::<u64>()).unwrap_or(u32::MAX);
        Self {
            good: sum(&[Class::Switched, Class::Success, Class::Redirect]),
            refused: sum(&[Class::ClientError, Class::Refused, Class::Aborted]),
            failed: sum(&[Class::ServerError]),
            kib: u32::try_from((before.saturating_add(counts.bytes())) / 1024 - before / 1024).unwrap_or(u32::MAX),
        }
    }
}

impl KeyUsage {
    /// Adds what a core counted until `now`.
    pub(super) fn add(&mut self, news: &KeyNews, now: Timestamp) {
        let point = Point::of(&news.counts, self.counts.bytes());
        self.counts.add(&news.counts);
        if !point.is_empty() {
            self.minutes.add(minute_of(now), point);
            self.hours.add(hour_of(now), point);
            self.days.add(day_of(now), point);
        }
        for (carrier, times) in &news.carriers {
            *self.carriers.entry((*carrier).to_owned()).or_default() += times;
        }
        for (group, times) in &news.groups {
            let is_known = self.groups.contains_key(group.as_str()) || self.groups.len() < GROUPS;
            *self.groups.entry(if is_known { group.as_str() } else { OTHERS }.to_owned()).or_default() += times;
        }
        news.clients.iter().for_each(|seen| self.see(seen));
        // The latest one stays, however long ago it was.
        let latest = self.clients.iter().map(|client| client.last).max();
        self.clients.retain(|client| now.since(client.last) < CLIENT_KEPT || Some(client.last) == latest);
    }

    fn see(&mut self, seen: &ClientSeen) {
        let agent = seen.agent.as_ref().map(|agent| agent::short(agent.as_bytes())).unwrap_or_default();
        let known =
            self.clients.iter_mut().find(|client| client.address == seen.address && client.secret == seen.secret && client.agent == agent);
        if let Some(client) = known {
            client.last = client.last.max(seen.last);
            client.requests += seen.requests;
            client.carrier = seen.carrier.map(str::to_owned).or_else(|| client.carrier.take());
            return;
        }
        if self.clients.len() >= CLIENTS
            && let Some((oldest, _)) = self.clients.iter().enumerate().min_by_key(|(_, client)| client.last)
        {
            self.clients.swap_remove(oldest);
        }
        self.clients.push(ClientUse {
            address: seen.address,
            agent,
            secret: seen.secret,
            carrier: seen.carrier.map(str::to_owned),
            first: seen.last,
            last: seen.last,
            requests: seen.requests,
        });
    }

    /// The latest client, with the figure of all requests; `None`: the key was never let in.
    pub fn last(&self) -> Option<LastUse> {
        let client = self.clients.iter().max_by_key(|client| client.last)?;
        Some(LastUse {
            at: client.last,
            address: client.address,
            agent: client.agent.clone(),
            carrier: client.carrier.clone(),
            requests: self.counts.requests(),
        })
    }
}

/// All that is known of an upstream's use since there is a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamUsage {
    /// Requests and bytes.
    pub counts: Counts,
    /// By carrier.
    pub carriers: BTreeMap<String, u64>,
    /// By reason of refusal.
    pub refusals: BTreeMap<String, u64>,
    /// The last two days.
    #[serde(default)]
    pub hours: Ring<48>,
}

impl UpstreamUsage {
    /// What happened in the last 24 hours, the one that runs among them.
    pub fn last_day(&self, now: Timestamp) -> impl Iterator<Item = Point> {
        self.hours.until(hour_of(now)).skip(24)
    }

    /// Adds what a core counted until `now`.
    pub(super) fn add(&mut self, news: &UpstreamNews, now: Timestamp) {
        let point = Point::of(&news.counts, self.counts.bytes());
        if !point.is_empty() {
            self.hours.add(hour_of(now), point);
        }
        self.counts.add(&news.counts);
        for (carrier, times) in &news.carriers {
            *self.carriers.entry((*carrier).to_owned()).or_default() += times;
        }
        for (reason, times) in &news.refusals {
            *self.refusals.entry((*reason).to_owned()).or_default() += times;
        }
    }
}
