//! What all handles of the sessions share, and the decision whether a caller gets a session at once, waits for a flight, or starts
//! one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use rustc_hash::FxHashMap;

use crate::clock::{Clock, Timestamp};
use crate::store::records::AccountRecord;
use crate::store::{Store, StoreError};
use crate::upstream::client::Upstream;
use crate::upstream::session::account::{Account, Landing, Outcome, Place, ProbeFlight, Probed, Slot, SlotState};
use crate::upstream::session::figures::Figures;
use crate::upstream::session::flight::Flight;
use crate::upstream::session::known::Known;
use crate::upstream::session::{AccountState, Session, SessionError, SessionId};
use crate::upstream::{AccountId, Credential, UpstreamName};

/// How long the answer of a probe is good.
const PROBE_GOOD: Duration = Duration::from_secs(5);
/// A session that the upstream calls dead so soon after it was granted counts against the account's budget of logins.
const DIED_YOUNG: Duration = Duration::from_secs(30);

/// What a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// A session that can be used.
    Usable,
    /// One of another generation: this one is dead.
    Other(u64),
    /// A login, whatever there is.
    Login,
    /// A session that knows the token which opens the upstream's socket.
    Socket,
}

/// What a caller gets.
enum Step {
    Ready(Arc<Session>),
    Wait(Landing<Outcome>),
}

/// The shared state.
pub(super) struct Core {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) control: tokio::runtime::Handle,
    pub(super) upstreams: ArcSwap<HashMap<UpstreamName, Arc<Upstream>>>,
    pub(super) accounts: ArcSwap<FxHashMap<AccountId, Arc<Account>>>,
    /// What no answer may hold.
    pub(super) known: Known,
    /// Orders the commits of flights.
    pub(super) writer: tokio::sync::Mutex<()>,
    /// One counter for all sessions: a session that was dropped and made anew never repeats a generation.
    generation: AtomicU64,
    /// How many sessions are being ended at their upstreams.
    pub(super) ending: watch::Sender<usize>,
    /// How often sessions were got.
    pub(super) figures: Figures,
}

impl Core {
    /// See [`super::Sessions::load`].
    pub(super) fn load(
        store: Arc<dyn Store>,
        upstreams: HashMap<UpstreamName, Arc<Upstream>>,
        clock: Arc<dyn Clock>,
        control: tokio::runtime::Handle,
    ) -> Result<Self, StoreError> {
        let accounts: FxHashMap<_, _> = store.accounts()?.into_iter().map(|record| (record.id, Arc::new(Account::new(record)))).collect();
        let mut newest = 0;
        let mut slots: FxHashMap<AccountId, FxHashMap<_, _>> = FxHashMap::default();
        for record in store.sessions()? {
            newest = newest.max(record.generation);
            let slot = Slot::new(record.id);
            let id = record.id;
            slot.state().record = Some(record);
            slots.entry(id.account).or_default().insert(id.key, Arc::new(slot));
        }
        for (id, slots) in slots {
            if let Some(account) = accounts.get(&id) {
                account.slots.store(Arc::new(slots));
            }
        }
        let core = Self {
            store,
            clock,
            control,
            upstreams: ArcSwap::from_pointee(upstreams),
            accounts: ArcSwap::from_pointee(accounts),
            known: Known::default(),
            writer: tokio::sync::Mutex::new(()),
            generation: AtomicU64::new(newest),
            ending: watch::Sender::new(0),
            figures: Figures::default(),
        };
        core.know_now();
        Ok(core)
    }

    pub(super) fn next_generation(&self) -> u64 {
        self.generation.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn upstream(&self, name: &UpstreamName) -> Result<Arc<Upstream>, SessionError> {
        self.upstreams.load().get(name).map(Arc::clone).ok_or_else(|| SessionError::NoUpstream(name.clone()))
    }

    pub(super) fn place(&self, id: SessionId) -> Result<Place, SessionError> {
        let account = self.accounts.load().get(&id.account).map(Arc::clone).ok_or(SessionError::NoAccount)?;
        let slot = account.slot(id.key);
        Ok(Place { account, slot })
    }

    pub(super) fn is_current_account(&self, account: &Arc<Account>) -> bool {
        self.accounts.load().get(&account.record.load().id).is_some_and(|current| Arc::ptr_eq(current, account))
    }

    pub(super) fn is_current(&self, place: &Place) -> bool {
        self.is_current_account(&place.account)
            && place.account.slots.load().get(&place.slot.id.key).is_some_and(|slot| Arc::ptr_eq(slot, &place.slot))
    }

    /// The decision. The slot is locked for it, so that whoever comes when a flight has just landed sees what it brought.
    fn step(self: &Arc<Self>, place: &Place, goal: Goal, client: Option<IpAddr>) -> Result<Step, SessionError> {
        let mut state = place.slot.state();
        let now = self.clock.now();
        if let Some(session) = place.slot.live.load_full() {
            match goal {
                Goal::Other(dead) if dead == session.generation => self.bury(place, &mut state),
                Goal::Usable | Goal::Other(_) if session.is_usable(now) => {
                    if session.is_due(now) && state.flying().is_none() && self.may_fly(place).is_ok() {
                        self.launch(place, &mut state, Goal::Usable, client);
                    }
                    return Ok(Step::Ready(session));
                }
                Goal::Socket if session.socket_token.is_some() => return Ok(Step::Ready(session)),
                Goal::Usable | Goal::Other(_) | Goal::Login | Goal::Socket => {}
            }
        }
        if let Some(landing) = state.flying() {
            return Ok(Step::Wait(landing));
        }
        self.may_fly(place)?;
        Ok(Step::Wait(self.launch(place, &mut state, goal, client)))
    }

    /// See [`super::Sessions::current`].
    pub(super) async fn obtain(self: &Arc<Self>, id: SessionId, goal: Goal, client: Option<IpAddr>) -> Result<Arc<Session>, SessionError> {
        match self.obtain_once(id, goal, client).await {
            // The account may have got a new credential under the flight's hands: then there is another one to ask.
            Err(SessionError::NoAccount) => self.obtain_once(id, goal, client).await,
            outcome => outcome,
        }
    }

    async fn obtain_once(self: &Arc<Self>, id: SessionId, goal: Goal, client: Option<IpAddr>) -> Result<Arc<Session>, SessionError> {
        let place = self.place(id)?;
        match self.step(&place, goal, client)? {
            Step::Ready(session) => Ok(session),
            Step::Wait(landing) => landed(landing).await.unwrap_or_else(|| Err(stopping())),
        }
    }

    fn may_fly(&self, place: &Place) -> Result<(), SessionError> {
        place.account.gate().check(self.clock.monotonic())
    }

    /// Takes a dead session out of use.
    fn bury(&self, place: &Place, state: &mut SlotState) {
        place.slot.live.store(None);
        state.is_dead = true;
        let now = self.clock.monotonic();
        if state.granted_at.is_some_and(|at| now < at + DIED_YOUNG) {
            place.account.gate().strike(now);
        }
    }

    fn launch(self: &Arc<Self>, place: &Place, state: &mut SlotState, goal: Goal, client: Option<IpAddr>) -> Landing<Outcome> {
        let (sender, landing) = watch::channel(None);
        state.flight = Some(landing.clone());
        let (core, place) = (Arc::clone(self), place.clone());
        self.control.spawn(async move {
            let outcome = match Flight::new(&core, &place, client).await {
                Ok(flight) => flight.run(goal).await,
                Err(error) => Err(error),
            };
            place.slot.state().flight = None;
            sender.send_replace(Some(outcome));
        });
        landing
    }

    /// A probe of a session, shared by all who ask within some seconds.
    pub(super) fn probe(self: &Arc<Self>, place: &Place, session: &Session) -> Landing<Probed> {
        let mut state = place.slot.state();
        let now = self.clock.monotonic();
        let known = state.probe.as_ref().filter(|probe| probe.generation == session.generation && is_good(&probe.landing, now));
        if let Some(probe) = known {
            return probe.landing.clone();
        }
        let (sender, landing) = watch::channel(None);
        state.probe = Some(ProbeFlight { generation: session.generation, landing: landing.clone() });
        let (core, place, token) = (Arc::clone(self), place.clone(), session.token.clone());
        self.control.spawn(async move {
            let found = match Flight::new(&core, &place, None).await {
                Ok(flight) => flight.probe(&token).await.map_err(|failure| failure.error),
                Err(error) => Err(error),
            };
            sender.send_replace(Some(Probed { at: core.clock.monotonic(), found }));
        });
        landing
    }

    /// Puts an account in with no session, no failures and no broken state but its record's.
    pub(super) fn renew_account(self: &Arc<Self>, record: AccountRecord) {
        let id = record.id;
        let account = Arc::new(Account::new(record));
        let before = self.accounts.rcu(|accounts| {
            let mut accounts = FxHashMap::clone(accounts);
            accounts.insert(id, Arc::clone(&account));
            accounts
        });
        if let Some(before) = before.get(&id) {
            before.stop();
            let gone = before.slots.load().values().map(|slot| slot.id).collect();
            self.spawn_forget(id, gone, before);
        }
    }

    pub(super) fn spawn_forget(self: &Arc<Self>, id: AccountId, gone: Vec<SessionId>, before: &Arc<Account>) {
        let (core, before) = (Arc::clone(self), Arc::clone(before));
        self.control.spawn(async move { core.forget(id, gone, before).await });
    }

    /// Ends all sessions of an account at the upstream.
    pub(super) fn log_out_all(self: &Arc<Self>, account: &Arc<Account>) {
        for slot in account.slots.load().values() {
            self.spawn_log_out(account, Arc::clone(slot));
        }
    }

    /// Ends a slot's session at the upstream. Never one of a token account: its token is not ours to end.
    pub(super) fn spawn_log_out(self: &Arc<Self>, account: &Arc<Account>, slot: Arc<Slot>) {
        let record = slot.state().record.take();
        let is_ours = match account.record.load().credential {
            Credential::Password(_) | Credential::Minted { .. } => true,
            Credential::Token(_) => false,
        };
        let Some(record) = record.filter(|_| is_ours) else { return };
        let (core, place) = (Arc::clone(self), Place { account: Arc::clone(account), slot });
        self.ending.send_modify(|count| *count += 1);
        self.control.spawn(async move {
            if let Ok(flight) = Flight::new(&core, &place, None).await {
                flight.end(&record).await;
            }
            core.ending.send_modify(|count| *count = count.saturating_sub(1));
        });
    }

    /// See [`super::Sessions::state`].
    pub(super) fn state_of(&self, account: &Account) -> AccountState {
        let (monotonic, now) = (self.clock.monotonic(), self.clock.now());
        let (checked, left) = {
            let gate = account.gate();
            (gate.check(monotonic), gate.left(monotonic))
        };
        match checked {
            Err(SessionError::Broken(why)) => return AccountState::Broken { why },
            Err(SessionError::Waiting { why, retry_after_secs }) => {
                return AccountState::Waiting { until: now.plus(Duration::from_secs(retry_after_secs)), why };
            }
            Err(error) => return AccountState::Waiting { until: now.plus(left), why: error.to_string() },
            Ok(()) => {}
        }
        let lives: Vec<_> = account.slots.load().values().filter_map(|slot| life(slot, now)).collect();
        let by_time = |at: &Timestamp| *at != Timestamp::NEVER;
        match lives.iter().map(|life| (life.expires_at, life.renew_at)).min() {
            None => AccountState::Idle,
            Some((expires_at, renew_at)) => AccountState::Live {
                sessions: lives.len(),
                expires_at: Some(expires_at).filter(by_time),
                renew_at: Some(renew_at).filter(by_time),
                obtained_at: lives.iter().filter_map(|life| life.obtained_at).max(),
            },
        }
    }
}

/// The times of a session.
struct Life {
    expires_at: Timestamp,
    renew_at: Timestamp,
    obtained_at: Option<Timestamp>,
}

/// Those of a slot's session, if it has one that lives: one in use, or one of an earlier run that waits for its first use.
fn life(slot: &Slot, now: Timestamp) -> Option<Life> {
    let live = slot.live.load().as_ref().map(|session| (session.expires_at, session.renew_at));
    let state = slot.state();
    let stored = state.record.as_ref().filter(|_| !state.is_dead);
    let (expires_at, renew_at) =
        live.or_else(|| stored.map(|record| (record.expires_at.unwrap_or(Timestamp::NEVER), record.renew_at())))?;
    (expires_at > now).then(|| Life { expires_at, renew_at, obtained_at: stored.map(|record| record.obtained_at) })
}

/// Whether a probe still runs or its answer is fresh.
fn is_good(landing: &Landing<Probed>, now: Duration) -> bool {
    let fresh = landing.borrow().as_ref().map(|probed| now < probed.at + PROBE_GOOD);
    fresh.unwrap_or_else(|| landing.has_changed().is_ok())
}

/// Waits for a flight; `None` if its task was torn down.
pub(super) async fn landed<T: Clone>(mut landing: Landing<T>) -> Option<T> {
    landing.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone())
}

/// What callers are told whose flight was torn down.
pub(super) fn stopping() -> SessionError {
    SessionError::Waiting { why: "keygate is stopping".to_owned(), retry_after_secs: 1 }
}
