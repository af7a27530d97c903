//! What one core counts: without a lock, and without an allocation for a key that was seen on it before. Once a second it is handed over
//! ([`Tally::hand_over`]).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::mpsc::Sender;
use std::time::Duration;

use http::HeaderValue;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::clock::Timestamp;
use crate::keys::KeyId;
use crate::upstream::UpstreamName;
use crate::usage::count::{ByWord, Class, Counts};
use crate::usage::group::Group;
use crate::usage::latency::Latency;
use crate::usage::open::{Moving, OpenStreams, StreamView};

/// Clients of one key that are told apart within a second on one core; whoever comes beside them is counted with the latest.
const CLIENTS: usize = 4;
/// Groups of paths of one key within a second on one core.
const GROUPS: usize = 8;
/// Addresses with refusals within a second on one core; all others share one.
const REFUSED: usize = 64;
/// Keys that have a place of their own on one core. Beyond it places of keys that rest are given away.
const MOST_KEYS: usize = 4096;

/// One request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// Now.
    pub at: Timestamp,
    /// The key and which of its secrets, if one was known.
    pub key: Option<(KeyId, SecretTag)>,
    /// The id that stood in a key that nobody knows: somebody's claim.
    pub claimed: Option<KeyId>,
    /// The upstream, if it came that far.
    pub upstream: Option<&'a UpstreamName>,
    /// How it ended.
    pub class: Class,
    /// Where the credential was.
    pub carrier: Option<&'static str>,
    /// Why keygate refused it.
    pub refusal: Option<Refused>,
    /// Who asked.
    pub client: IpAddr,
    /// What it calls itself.
    pub agent: Option<&'a HeaderValue>,
    /// The target.
    pub target: Option<&'a str>,
    /// Bytes toward the upstream that no stream has counted yet.
    pub bytes_in: u64,
    /// The same toward the client.
    pub bytes_out: u64,
}

/// Why keygate refused a request.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// A fixed label.
    pub kind: &'static str,
    /// Whether the audit log shall say so, and of which address or network.
    pub noted: Option<IpAddr>,
    /// Where the credential was, if there was one.
    pub carrier: Option<&'static str>,
}

/// Tells the secrets of a key apart: the beginning of a keyed hash, of no use to anybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct SecretTag(u64);

impl From<&crate::keys::KeyDigest> for SecretTag {
    fn from(digest: &crate::keys::KeyDigest) -> Self {
        let (first, _) = digest.as_bytes().split_at(8);
        Self(first.iter().fold(0, |tag, byte| tag << 8 | u64::from(*byte)))
    }
}

/// A client of a key.
#[derive(Clone, Debug)]
pub struct ClientSeen {
    /// Its address.
    pub address: IpAddr,
    /// What it calls itself, as it came.
    pub agent: Option<HeaderValue>,
    /// With which secret it came.
    pub secret: SecretTag,
    /// Where the secret was.
    pub carrier: Option<&'static str>,
    /// When it came last.
    pub last: Timestamp,
    /// How many of its requests have ended.
    pub requests: u64,
}

/// What is new of one key.
#[derive(Debug)]
pub struct KeyNews {
    /// The key.
    pub key: KeyId,
    /// Requests and bytes.
    pub counts: Counts,
    /// By carrier.
    pub carriers: Vec<(&'static str, u64)>,
    /// By group of paths.
    pub groups: Vec<(Group, u64)>,
    /// By client.
    pub clients: Vec<ClientSeen>,
}

/// What is new of one upstream; `None`: of requests that came to none.
#[derive(Debug)]
pub struct UpstreamNews {
    /// Which.
    pub upstream: Option<UpstreamName>,
    /// Requests and bytes.
    pub counts: Counts,
    /// By carrier.
    pub carriers: Vec<(&'static str, u64)>,
    /// By reason of refusal.
    pub refusals: Vec<(&'static str, u64)>,
    /// How long it took until the heads of its answers were there.
    pub latency: Latency,
}

/// Refusals of one address for one reason.
#[derive(Debug)]
pub struct RefusalNews {
    /// Who; `None`: addresses beyond those that are told apart.
    pub client: Option<IpAddr>,
    /// Why.
    pub kind: &'static str,
    /// How often, with what.
    pub noted: Noted,
}

/// Refusals of one sort, gathered.
#[derive(Clone, Debug, Default)]
pub struct Noted {
    /// How often.
    pub times: u64,
    /// The key, known or claimed, if all of them had the same.
    pub key: Option<KeyId>,
    /// Where their credentials were, each once.
    pub carriers: Vec<&'static str>,
}

impl Noted {
    /// One that was refused.
    pub fn one(key: Option<KeyId>, carrier: Option<&'static str>) -> Self {
        Self { times: 1, key, carriers: carrier.into_iter().collect() }
    }

    /// Adds more. Of several keys it is none's line.
    pub fn add(&mut self, more: &Self) {
        let of_one = self.times == 0 || self.key == more.key;
        self.key = more.key.filter(|_| of_one);
        self.times += more.times;
        for carrier in &more.carriers {
            if !self.carriers.contains(carrier) {
                self.carriers.push(carrier);
            }
        }
    }
}

/// What one core hands over.
#[derive(Debug)]
pub struct News {
    /// The core.
    pub core: u16,
    /// When.
    pub at: Timestamp,
    /// Keys that were used.
    pub keys: Vec<KeyNews>,
    /// Upstreams that were asked.
    pub upstreams: Vec<UpstreamNews>,
    /// Refusals for the audit log.
    pub refusals: Vec<RefusalNews>,
    /// What runs now.
    pub open: Vec<StreamView>,
}

struct Place {
    key: KeyId,
    is_dirty: bool,
    counts: Counts,
    carriers: ByWord,
    groups: Vec<(Group, u64)>,
    clients: Vec<ClientSeen>,
}

#[derive(Default)]
struct Keys {
    by_id: FxHashMap<KeyId, usize>,
    places: Vec<Place>,
    dirty: Vec<usize>,
}

#[derive(Default)]
struct OfUpstream {
    upstream: Option<UpstreamName>,
    counts: Counts,
    carriers: ByWord,
    refusals: ByWord,
    latency: Latency,
}

/// One core's counts.
pub struct Tally {
    core: u16,
    to: Sender<News>,
    keys: RefCell<Keys>,
    upstreams: RefCell<Vec<OfUpstream>>,
    refusals: RefCell<FxHashMap<(Option<IpAddr>, &'static str), Noted>>,
    pub(super) open: RefCell<OpenStreams>,
    latest: Cell<Timestamp>,
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally").field("core", &self.core).finish_non_exhaustive()
    }
}

impl Tally {
    pub(super) fn new(core: u16, to: Sender<News>) -> Self {
        Self {
            core,
            to,
            keys: RefCell::default(),
            upstreams: RefCell::default(),
            refusals: RefCell::new(HashMap::with_hasher(FxBuildHasher)),
            open: RefCell::default(),
            latest: Cell::new(Timestamp::from_millis(0)),
        }
    }

    /// The core.
    pub const fn core(&self) -> u16 {
        self.core
    }

    /// Counts a request.
    pub fn count(&self, ended: &Ended<'_>) {
        self.latest.set(ended.at);
        let mut upstreams = self.upstreams.borrow_mut();
        let of_upstream = OfUpstream::find(&mut upstreams, ended.upstream);
        of_upstream.counts.request(ended.class);
        of_upstream.counts.bytes_in += ended.bytes_in;
        of_upstream.counts.bytes_out += ended.bytes_out;
        if let Some(carrier) = ended.carrier {
            of_upstream.carriers.count(carrier);
        }
        if let Some(refused) = ended.refusal {
            of_upstream.refusals.count(refused.kind);
            self.note(refused, ended.key.map(|(key, _)| key).or(ended.claimed));
        }
        if let Some((key, secret)) = ended.key {
            self.keys.borrow_mut().place(key).count(ended, secret);
        }
    }

    /// Counts what was refused and is no request that is counted: a message within a socket, a key in clear text. `upstream`: where it
    /// was for; `key`: known or claimed.
    pub fn refused(&self, upstream: Option<&UpstreamName>, refused: Refused, key: Option<KeyId>) {
        OfUpstream::find(&mut self.upstreams.borrow_mut(), upstream).refusals.count(refused.kind);
        self.note(refused, key);
    }

    /// Counts how long the head of an answer took.
    pub fn answered(&self, upstream: &UpstreamName, took: Duration) {
        OfUpstream::find(&mut self.upstreams.borrow_mut(), Some(upstream)).latency.note(took);
    }

    /// Notes a refusal for the audit log, if it is of note, and counts nothing. `key`: known or claimed.
    pub fn note(&self, refused: Refused, key: Option<KeyId>) {
        let Some(client) = refused.noted else { return };
        let mut refusals = self.refusals.borrow_mut();
        let mut who = (Some(client), refused.kind);
        if refusals.len() >= REFUSED && !refusals.contains_key(&who) {
            who.0 = None;
        }
        refusals.entry(who).or_default().add(&Noted::one(key, refused.carrier));
    }

    /// Hands over what was counted, if anything was.
    pub fn hand_over(&self, now: Timestamp) {
        self.latest.set(now);
        let open = self.open_now(now);
        let mut keys = self.keys.borrow_mut();
        let upstreams = self.upstreams.borrow_mut().iter_mut().filter_map(OfUpstream::take).collect();
        let mut refusals = self.refusals.borrow_mut();
        let refusals = refusals.drain().map(|((client, kind), noted)| RefusalNews { client, kind, noted }).collect();
        let news = News { core: self.core, at: now, keys: keys.take(), upstreams, refusals, open };
        // Empty ones tell too: that nothing is open any more.
        let had_open = std::mem::replace(&mut self.open.borrow_mut().were_told, !news.open.is_empty());
        if !(news.keys.is_empty() && news.upstreams.is_empty() && news.refusals.is_empty() && news.open.is_empty()) || had_open {
            // Whoever keeps the books is gone at the end of the program only.
            let _ = self.to.send(news);
        }
    }

    /// Counts what has moved since the last time, and shows what is open.
    fn open_now(&self, now: Timestamp) -> Vec<StreamView> {
        let mut open = self.open.borrow_mut();
        let (mut keys, mut upstreams) = (self.keys.borrow_mut(), self.upstreams.borrow_mut());
        open.moved(self.core, |moving: &Moving<'_>| {
            let counts = &mut OfUpstream::find(&mut upstreams, Some(moving.upstream)).counts;
            counts.bytes_in += moving.bytes_in;
            counts.bytes_out += moving.bytes_out;
            keys.place(moving.key).moved(moving, now);
        })
    }
}

impl Drop for Tally {
    /// What was counted after the core's last second.
    fn drop(&mut self) {
        self.hand_over(self.latest.get());
    }
}

impl OfUpstream {
    fn find<'a>(all: &'a mut Vec<Self>, upstream: Option<&UpstreamName>) -> &'a mut Self {
        let place = all.iter().position(|one| one.upstream.as_ref() == upstream).unwrap_or_else(|| {
            all.push(Self { upstream: upstream.cloned(), ..Self::default() });
            all.len() - 1
        });
        &mut all[place]
    }

    fn take(&mut self) -> Option<UpstreamNews> {
        let counts = std::mem::take(&mut self.counts);
        let latency = std::mem::take(&mut self.latency);
        let refusals = self.refusals.take();
        if counts.is_empty() && latency.count() == 0 && refusals.is_empty() {
            return None;
        }
        let (upstream, carriers) = (self.upstream.clone(), self.carriers.take());
        Some(UpstreamNews { upstream, counts, carriers, refusals, latency })
    }
}

impl Keys {
    /// The place of a key; it is in the next handing over.
    fn place(&mut self, key: KeyId) -> &mut Place {
        let index = match self.by_id.get(&key) {
            Some(&index) => index,
            None => self.make_place(key),
        };
        let place = &mut self.places[index];
        if !place.is_dirty {
            place.is_dirty = true;
            self.dirty.push(index);
        }
        place
    }

    fn make_place(&mut self, key: KeyId) -> usize {
        if self.places.len() >= MOST_KEYS
            && let Some(index) = self.places.iter().position(|place| !place.is_dirty)
        {
            let place = &mut self.places[index];
            self.by_id.remove(&place.key);
            place.key = key;
            self.by_id.insert(key, index);
            return index;
        }
        let (carriers, groups, clients) = (ByWord::default(), Vec::with_capacity(GROUPS), Vec::with_capacity(CLIENTS));
        self.places.push(Place { key, is_dirty: false, counts: Counts::default(), carriers, groups, clients });
        self.by_id.insert(key, self.places.len() - 1);
        self.places.len() - 1
    }

    fn take(&mut self) -> Vec<KeyNews> {
        let (places, dirty) = (&mut self.places, &mut self.dirty);
        dirty
            .drain(..)
            .map(|index| {
                let place = &mut places[index];
                place.is_dirty = false;
                KeyNews {
                    key: place.key,
                    counts: std::mem::take(&mut place.counts),
                    carriers: place.carriers.take(),
                    groups: place.groups.drain(..).collect(),
                    clients: place.clients.drain(..).collect(),
                }
            })
            .collect()
    }
}

impl Place {
    fn count(&mut self, ended: &Ended<'_>, secret: SecretTag) {
        self.counts.request(ended.class);
        self.counts.bytes_in += ended.bytes_in;
        self.counts.bytes_out += ended.bytes_out;
        if let Some(carrier) = ended.carrier {
            self.carriers.count(carrier);
        }
        let group = Group::of(ended.target.unwrap_or_default());
        if let Some((_, times)) = self.groups.iter_mut().find(|(known, _)| *known == group) {
            *times += 1;
        } else if self.groups.len() < GROUPS {
            self.groups.push((group, 1));
        }
        // A refused request is no use of the key: who may not pass does not make it look alive.
        if ended.class != Class::Refused {
            let client = ClientSeen { address: ended.client, agent: None, secret, carrier: ended.carrier, last: ended.at, requests: 1 };
            self.see(client, ended.agent);
        }
    }

    fn moved(&mut self, moving: &Moving<'_>, now: Timestamp) {
        self.counts.bytes_in += moving.bytes_in;
        self.counts.bytes_out += moving.bytes_out;
        let client =
            ClientSeen { address: moving.client, agent: None, secret: moving.secret, carrier: moving.carrier, last: now, requests: 0 };
        self.see(client, moving.agent);
    }

    fn see(&mut self, seen: ClientSeen, agent: Option<&HeaderValue>) {
        let is_same = |known: &ClientSeen| known.address == seen.address && known.secret == seen.secret && known.agent.as_ref() == agent;
        let place = self.clients.iter().position(is_same);
        let place = place.or_else(|| (self.clients.len() >= CLIENTS).then(|| self.clients.len() - 1));
        match place.and_then(|place| self.clients.get_mut(place)) {
            Some(known) => {
                known.requests += seen.requests;
                known.last = known.last.max(seen.last);
                known.carrier = seen.carrier.or(known.carrier);
            }
            // The value shares its bytes with the request's head.
            None => self.clients.push(ClientSeen { agent: agent.cloned(), ..seen }),
        }
    }
}
