//! Where the counts of all cores come together.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::audit::{Act, Actor, Field, Line, Object, ObjectKind, Value, Verb};
use crate::clock::Timestamp;
use crate::keys::KeyId;
use crate::keys::record::KeyRecord;
use crate::limits::daily::DayUse;
use crate::store::{Change, Store, StoreError};
use crate::usage::measured::Measured;
use crate::usage::open::StreamView;
use crate::usage::record::{KeyUsage, UpstreamUsage};
use crate::usage::tally::{News, Noted, RefusalNews};

/// Keys whose use is in memory; of others it is read when it is asked for.
const MOST_IN_MEMORY: usize = 10_000;
/// Lines about refusals that one writing adds to the audit log; what is beyond them shares one.
const MOST_LINES: usize = 40;
/// Refusals that are told apart until they are written.
const MOST_REFUSALS: usize = 1000;
/// How long refusals are gathered before they are written, in milliseconds.
const GATHER_MILLIS: i64 = 60_000;

/// The name under which requests that came to no upstream are counted.
pub const NO_UPSTREAM: &str = "";

#[derive(Default)]
pub(super) struct Books {
    keys: HashMap<KeyId, Kept>,
    upstreams: BTreeMap<String, UpstreamUsage>,
    are_upstreams_dirty: bool,
    refusals: BTreeMap<(Option<IpAddr>, &'static str), Noted>,
    refused_since: Option<Timestamp>,
    open: BTreeMap<u16, Vec<StreamView>>,
    measured: Measured,
}

struct Kept {
    usage: KeyUsage,
    is_dirty: bool,
}

/// What is to be written.
pub(super) struct Writing<'a> {
    pub(super) now: Timestamp,
    /// Refusals too that were not gathered for long.
    pub(super) all: bool,
    /// What counts against a key's limit of bytes a day, if it has one.
    pub(super) day_use: &'a dyn Fn(KeyId) -> Option<DayUse>,
}

/// What was taken to be written, so that it can be put back when that fails.
pub(super) struct Taken {
    pub(super) changes: Vec<Change>,
    keys: Vec<KeyId>,
}

impl Books {
    /// With the sums that were written down before.
    pub(super) fn new(upstreams: BTreeMap<String, UpstreamUsage>) -> Self {
        Self { upstreams, ..Self::default() }
    }

    /// Enters what a core counted. The store is asked for keys that were used before it started.
    pub(super) fn enter(&mut self, news: News, store: &dyn Store) -> Result<(), StoreError> {
        self.measured.add(&news);
        for of_key in &news.keys {
            let kept = match self.keys.entry(of_key.key) {
                Entry::Occupied(kept) => kept.into_mut(),
                Entry::Vacant(place) => {
                    let usage = store.usage(of_key.key)?.unwrap_or_default();
                    place.insert(Kept { usage, is_dirty: false })
                }
            };
            kept.usage.add(of_key, news.at);
            kept.is_dirty = true;
        }
        for of_upstream in &news.upstreams {
            let name = of_upstream.upstream.as_ref().map_or(NO_UPSTREAM, |name| name.as_str());
            self.upstreams.entry(name.to_owned()).or_default().add(of_upstream, news.at);
            self.are_upstreams_dirty = true;
        }
        news.refusals.iter().for_each(|refused| self.refused(refused, news.at));
        self.open.insert(news.core, news.open);
        Ok(())
    }

    /// Gathers refusals for the audit log.
    pub(super) fn refused(&mut self, refused: &RefusalNews, at: Timestamp) {
        self.refused_since.get_or_insert(at);
        let mut who = (refused.client, refused.kind);
        if self.refusals.len() >= MOST_REFUSALS && !self.refusals.contains_key(&who) {
            who.0 = None;
        }
        self.refusals.entry(who).or_default().add(&refused.noted);
    }

    /// A key's use, if it is in memory.
    pub(super) fn key(&self, id: KeyId) -> Option<&KeyUsage> {
        self.keys.get(&id).map(|kept| &kept.usage)
    }

    /// All keys in memory.
    pub(super) fn keys(&self) -> impl Iterator<Item = (KeyId, &KeyUsage)> {
        self.keys.iter().map(|(id, kept)| (*id, &kept.usage))
    }

    /// Sums by upstream.
    pub(super) const fn upstreams(&self) -> &BTreeMap<String, UpstreamUsage> {
        &self.upstreams
    }

    /// What was counted since the program started.
    pub(super) const fn measured(&self) -> &Measured {
        &self.measured
    }

    /// What runs, on all cores.
    pub(super) fn open(&self) -> impl Iterator<Item = &StreamView> {
        self.open.values().flatten()
    }

    /// Takes what is to be written.
    pub(super) fn take(&mut self, Writing { now, all, day_use }: Writing<'_>, store: &dyn Store) -> Result<Taken, StoreError> {
        let mut taken = Taken { changes: Vec::new(), keys: Vec::new() };
        let since = self.refused_since;
        if since.is_some_and(|since| all || now.as_millis() - since.as_millis() >= GATHER_MILLIS || now < since) {
            taken.changes.extend(self.refusal_lines(now, store)?.into_iter().map(Change::Audit));
        }
        for (id, kept) in self.keys.iter_mut().filter(|(_, kept)| kept.is_dirty) {
            kept.is_dirty = false;
            kept.usage.today = day_use(*id);
            taken.changes.push(Change::PutUsage(*id, Box::new(kept.usage.clone())));
            taken.keys.push(*id);
        }
        if std::mem::take(&mut self.are_upstreams_dirty) {
            let sums = self.upstreams.iter().map(|(name, usage)| Change::PutTotals(name.clone(), Box::new(usage.clone())));
            taken.changes.extend(sums);
        }
        Ok(taken)
    }

    /// After a failed writing: the same is written next time. Lines about refusals are lost; the log has them.
    pub(super) fn put_back(&mut self, taken: &[KeyId]) {
        for id in taken {
            if let Some(kept) = self.keys.get_mut(id) {
                kept.is_dirty = true;
            }
        }
        self.are_upstreams_dirty = true;
    }

    /// Lets go of what was written and rests.
    pub(super) fn make_room(&mut self) {
        let surplus = self.keys.len().saturating_sub(MOST_IN_MEMORY);
        if surplus == 0 {
            return;
        }
        let resting = self.keys.iter().filter(|(_, kept)| !kept.is_dirty);
        let mut resting: Vec<_> = resting.map(|(id, kept)| (kept.usage.last().map(|last| last.at), *id)).collect();
        resting.sort_unstable();
        // A tenth more than needed: not at each writing anew.
        for (_, id) in resting.into_iter().take(surplus + MOST_IN_MEMORY / 10) {
            self.keys.remove(&id);
        }
    }

    fn refusal_lines(&mut self, now: Timestamp, store: &dyn Store) -> Result<Vec<Line>, StoreError> {
        self.refused_since = None;
        let mut refusals: Vec<_> = std::mem::take(&mut self.refusals).into_iter().collect();
        refusals.sort_by_key(|((client, _), refused)| (client.is_none(), std::cmp::Reverse(refused.times)));
        let rest = refusals.split_off(refusals.len().min(MOST_LINES));
        let mut lines = Vec::new();
        for ((client, kind), refused) in refusals {
            let key = refused.key.map(|key| store.key(key)).transpose()?.flatten();
            lines.push(line(client, kind, refused, key.as_ref()).by(&Actor::Gateway, now));
        }
        if !rest.is_empty() {
            let addresses: BTreeSet<_> = rest.iter().map(|((client, _), _)| client).collect();
            let times: u64 = rest.iter().map(|(_, refused)| refused.times).sum();
            let act = Act::new(Verb::Refused, client_object(None));
            lines.push(act.with([Field::new("times", times), Field::new("addresses", addresses.len())]).by(&Actor::Gateway, now));
        }
        Ok(lines)
    }
}

impl Taken {
    pub(super) fn into_parts(self) -> (Vec<Change>, Vec<KeyId>) {
        (self.changes, self.keys)
    }
}

/// Of a key that is known, or that was: the line is one of the key's. Whoever knows a key's public id can bring such a line about.
fn line(client: Option<IpAddr>, kind: &'static str, refused: Noted, key: Option<&KeyRecord>) -> Act {
    let verb = if kind.starts_with("too-many") { Verb::Throttled } else { Verb::Refused };
    let object = key.map_or_else(|| client_object(client), Object::from);
    let mut fields = vec![Field::new("why", reason(kind, key)), Field::new("times", refused.times)];
    let mut carriers = refused.carriers;
    if !carriers.is_empty() {
        carriers.sort_unstable();
        fields.push(Field::new("carrier", carriers.as_slice()));
    }
    if let (Some(client), Some(_)) = (client, key) {
        fields.push(Field::new("from", client));
    }
    Act::new(verb, object).with(fields)
}

fn reason(kind: &'static str, key: Option<&KeyRecord>) -> &'static str {
    match (kind, key) {
        ("unknown-key", Some(key)) if key.revoked_at.is_some() => "revoked-key",
        ("unknown-key", Some(_)) => "not-the-secret-of-this-key",
        (kind, _) => kind,
    }
}

fn client_object(client: Option<IpAddr>) -> Object {
    let id = client.map(|client| client.to_string()).unwrap_or_default();
    let name = client.map_or_else(|| Value::from("other addresses"), Value::from);
    Object { kind: ObjectKind::Client, id, name }
}
