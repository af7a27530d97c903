//! The pipeline: what happens to a request, in one order that reads from top to bottom.

mod cut;
mod exchange;
pub mod guessing;
mod handed;
pub mod inspect;
mod limits;
mod login;
mod native;
pub mod pipeline;
mod polling;
pub mod redirect;
pub mod refusal;
pub mod respond;
pub mod routing;
mod shares;
mod sockets;
pub mod trail;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;

use crate::carrier::Carrier;
use crate::certificates::challenges::Challenges;
use crate::clock::Clock;
use crate::forward::socketio::table::Table;
use crate::gateway::guessing::{Throttle, TooOften};
use crate::gateway::native::Remembered;
use crate::gateway::refusal::Refusal;
use crate::gateway::routing::Settings;
use crate::handouts::Handouts;
use crate::keys::index::{KeyIndex, Verified};
use crate::keys::{ApiKey, KeyDigest, KeyHasher, KeyId};
use crate::lifeline::Lifelines;
use crate::limits::live::Live;
use crate::server::accept::Connections;
use crate::server::drain::Tasks;
use crate::upstream::UpstreamName;
use crate::upstream::client::Pool;
use crate::upstream::session::Sessions;
use crate::usage::Usage;
use crate::usage::tally::{Refused, Tally};

/// What all cores share: all of it is read without a lock while requests run.
pub struct Gateway {
    hasher: KeyHasher,
    index: Arc<KeyIndex>,
    sessions: Arc<Sessions>,
    handouts: Arc<Handouts>,
    clock: Arc<dyn Clock>,
    settings: ArcSwap<Settings>,
    connections: Arc<Connections>,
    guesses: Throttle,
    dead_keys: Throttle,
    native_logins: Throttle,
    sockets: Arc<Table>,
    challenges: Arc<Challenges>,
    unbelieved_proxy: ArcSwapOption<IpAddr>,
    usage: Arc<Usage>,
    counts: bool,
    hand_over_every: Duration,
    /// Marked when a key may have died, or something is to be closed.
    key_changes: watch::Sender<()>,
}

/// What one store knows: all that requests are judged by beside the configuration.
pub struct Known {
    /// Makes digests of what is presented.
    pub hasher: KeyHasher,
    /// The keys.
    pub index: Arc<KeyIndex>,
    /// Accounts and their sessions.
    pub sessions: Arc<Sessions>,
    /// Tickets and capability ids.
    pub handouts: Arc<Handouts>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What ACME servers are shown.
    pub challenges: Arc<Challenges>,
    /// Where requests are counted, and what is refused is gathered for the audit log.
    pub usage: Arc<Usage>,
    /// Whether requests are counted.
    pub counts: bool,
    /// How often each core hands over what it counted.
    pub hand_over_every: Duration,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Known")
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gateway")
    }
}

impl Gateway {
    /// Over the keys and sessions of one store.
    pub fn new(known: Known, settings: Settings) -> Arc<Self> {
        let Known { hasher, index, sessions, handouts, clock, challenges, usage, counts, hand_over_every } = known;
        let key_changes = watch::Sender::new(());
        let marker = key_changes.clone();
        let closer = marker.clone();
        usage.on_close(move || closer.send_modify(|()| ()));
        index.on_change(move || marker.send_modify(|()| ()));
        let settings = ArcSwap::from_pointee(settings);
        let guesses = Throttle::new(Arc::clone(&clock), guessing::GUESSES, guessing::ALL_GUESSES);
        let dead_keys = Throttle::new(Arc::clone(&clock), guessing::GUESSES, guessing::ALL_GUESSES);
        let native_logins = Throttle::new(Arc::clone(&clock), guessing::NATIVE_LOGINS, guessing::ALL_NATIVE_LOGINS);
        let connections = Arc::default();
        Arc::new(Self {
            sockets: Arc::default(),
            hasher,
            index,
            sessions,
            handouts,
            clock,
            settings,
            connections,
            guesses,
            dead_keys,
            native_logins,
            challenges,
            unbelieved_proxy: ArcSwapOption::empty(),
            key_changes,
            usage,
            counts,
            hand_over_every,
        })
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// What the configuration says now. Requests that run keep what they began with.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Takes over another configuration from the next request on.
    pub fn set_settings(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// Somebody nearby who forwards for others and is not among the trusted proxies, if one has come.
    pub fn unbelieved_proxy(&self) -> Option<IpAddr> {
        self.unbelieved_proxy.load().as_deref().copied()
    }

    fn note_unbelieved_proxy(&self, peer: IpAddr) {
        let known = self.unbelieved_proxy.load();
        if known.as_deref() == Some(&peer) {
            return;
        }
        let is_first = known.is_none();
        drop(known);
        self.unbelieved_proxy.store(Some(Arc::new(peer)));
        if is_first {
            let peer = peer.to_canonical();
            tracing::warn!(
                %peer,
                "{peer} sends X-Forwarded-For and is not believed: if it is a proxy of yours, write trusted_proxies = [\"{peer}\"] in [server]"
            );
        }
    }

    /// How many client connections are open, WebSockets included.
    pub fn open_connections(&self) -> usize {
        self.connections.open()
    }

    /// Counts credentials that were no good, by client address. Whoever refuses one where no [`refusal::Refusal`] is answered (in a
    /// socket) counts it here.
    pub const fn guesses(&self) -> &Throttle {
        &self.guesses
    }

    /// What redirecting listeners answer to ACME servers.
    pub const fn challenges(&self) -> &Arc<Challenges> {
        &self.challenges
    }

    /// A key as requests find it, if it is known.
    pub(crate) fn find(&self, key: &ApiKey) -> Option<Verified> {
        self.index.find(&self.hasher.digest(key))
    }

    /// How much of a key's limits is used; `None`: it has none. Takes a lock: not for requests.
    pub(crate) fn limits_of(&self, id: KeyId) -> Option<Arc<Live>> {
        self.index.live(id)
    }

    /// Why a key is not known.
    pub(crate) fn unknown(&self, digest: &KeyDigest, carrier: Carrier) -> Refusal {
        if self.index.was_known(digest) { Refusal::DeadKey(carrier) } else { Refusal::UnknownKey(carrier) }
    }

    /// A refusal as its client may read it: one wrong guess too many is a 429.
    pub(crate) fn throttled(&self, client: IpAddr, refusal: Refusal) -> Refusal {
        let throttle = if refusal.is_wrong_guess() {
            &self.guesses
        } else if refusal.is_of_dead_key() {
            // Of their own: a household's apps whose key was revoked must not lock its people out, who log in at the media server.
            &self.dead_keys
        } else {
            return refusal;
        };
        match throttle.count(client) {
            Ok(()) => refusal,
            Err(TooOften { retry_after_secs }) => Refusal::Guessing { refused: Box::new(refusal), retry_after_secs },
        }
    }

    /// Changes whenever a key may have died.
    pub(crate) fn key_changes(&self) -> watch::Receiver<()> {
        self.key_changes.subscribe()
    }

    pub(crate) fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }
}

/// One core's view of the gateway.
#[derive(Debug)]
pub struct Worker {
    gateway: Arc<Gateway>,
    pool: Rc<Pool>,
    tasks: Tasks,
    lifelines: Rc<Lifelines>,
    natives: Remembered,
    tally: Rc<Tally>,
}

impl Worker {
    /// For one core, by its number.
    pub fn new(gateway: Arc<Gateway>, pool: Rc<Pool>, tasks: Tasks, core: u16) -> Rc<Self> {
        let tally = Rc::new(gateway.usage.tally(core));
        Rc::new(Self { gateway, pool, tasks, lifelines: Rc::default(), natives: Remembered::default(), tally })
    }

    /// What all cores share.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Cuts what runs on this core on keys that have died. `by_time`: nothing but time has passed since the last look.
    pub(crate) fn review_keys(&self, by_time: bool) {
        let (index, now) = (&self.gateway.index, self.gateway.clock.now());
        let cut = if by_time { self.lifelines.review_expired(index, now) } else { self.lifelines.review(index, now) };
        if cut > 0 {
            tracing::info!(cut, "what ran on keys that died was cut off");
        }
    }

    /// Where this core counts; `None`: nowhere.
    pub(crate) fn tally(&self) -> Option<&Rc<Tally>> {
        self.gateway.counts.then_some(&self.tally)
    }

    /// Counts, if anything is counted, and notes for the audit log what was refused and is no request that is counted. `key`: known or
    /// claimed.
    pub(crate) fn refused(&self, upstream: Option<&UpstreamName>, refused: Refused, key: Option<KeyId>) {
        match self.tally() {
            Some(tally) => tally.refused(upstream, refused, key),
            None => self.tally.note(refused, key),
        }
    }

    /// Closes what operators want closed on this core.
    pub(crate) fn close_asked(&self) {
        let ids = self.gateway.usage.closings(self.tally.core());
        if !ids.is_empty() {
            tracing::info!(closed = self.tally.cut(&ids), "what an operator wanted closed was cut off");
        }
    }

    /// How often [`Worker::hand_over`] is to be called.
    pub(crate) fn hand_over_every(&self) -> Duration {
        self.gateway.hand_over_every
    }

    /// Hands over what was counted.
    pub(crate) fn hand_over(&self) {
        self.tally.hand_over(self.gateway.clock.now());
    }

    /// What runs on keys on this core.
    pub(crate) const fn lifelines(&self) -> &Rc<Lifelines> {
        &self.lifelines
    }

    /// This core's tasks.
    pub const fn tasks(&self) -> &Tasks {
        &self.tasks
    }
}
