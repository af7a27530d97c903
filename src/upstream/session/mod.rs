//! Sessions with upstreams: a state machine per session, one flight however many requests wait.
//!
//! A session is absent, live, being renewed, held back or broken. Which of them it is follows from three things: the live session of
//! its slot (`account`), the flight that is in the air for it (`flight`), and the gate of its account (`gate`). A request
//! reads the live session without a lock; only when there is none, or it is due, does it take the slot's lock, for a moment.
//! Logins and renewals run on the control runtime: a client that goes away cancels none.

mod account;
mod core;
pub mod figures;
mod flight;
mod gate;
mod known;
mod listing;
mod minting;
mod persist;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use rustc_hash::FxHashMap;

pub use self::listing::SessionView;
use crate::clock::{Clock, Timestamp};
use crate::keys::KeyId;
use crate::scrub::Secrets;
use crate::secret::Secret;
use crate::store::records::AccountRecord;
use crate::store::{Store, StoreError};
use crate::upstream::client::Upstream;
use crate::upstream::dialect::libraries::{self, Library};
use crate::upstream::dialect::{Device, TokenState};
use crate::upstream::session::core::{Core, Goal};
use crate::upstream::session::figures::Event;
pub use crate::upstream::session::minting::AdministratorError;
use crate::upstream::{AccountId, Credential, UpstreamName, call, survey};

/// What to do about an account that is broken and stays: the reason says nothing of that.
pub fn advice(account: &str) -> String {
    format!("Keys of {account} answer 503 until \"keygate accounts login {account}\" succeeds or the account gets another credential")
}

/// Whose session: an account's, or one key's of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    /// The account.
    pub account: AccountId,
    /// The key, where each key has a session of its own (Emby, Jellyfin).
    pub key: Option<KeyId>,
}

/// A live session. Immutable: a renewal makes a new one with the next generation.
#[derive(Debug)]
pub struct Session {
    /// Whose.
    pub id: SessionId,
    /// Counts logins and renewals.
    pub generation: u64,
    /// The token.
    pub token: Secret<String>,
    /// Ready-made header lines that carry the token.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The token that opens the upstream's socket, where it is another one and was found out.
    pub(crate) socket_token: Option<Secret<String>>,
    /// Query parameters that a WebSocket upgrade needs beside them.
    pub socket_query: Option<Secret<String>>,
    /// From when on it is to be renewed, by our clock ([`Timestamp::NEVER`]: not by time).
    pub renew_at: Timestamp,
    /// When it dies, by our clock.
    pub expires_at: Timestamp,
    /// All that the upstream gave with it: the token, the refresh token, what else the grant revealed. A client sees its own credential
    /// in their place, or nothing.
    pub own: Arc<[Secret<String>]>,
}

impl Session {
    /// Whether requests may still go out with it: not within the last seconds of its life.
    fn is_usable(&self, now: Timestamp) -> bool {
        let margin = (self.expires_at.since(self.renew_at) / 2).min(Duration::from_secs(5));
        now < self.expires_at.minus(margin)
    }

    /// Whether it is to be renewed.
    fn is_due(&self, now: Timestamp) -> bool {
        now >= self.renew_at
    }
}

/// Why there is no session. Never the client's fault: its key is fine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// No such account (removed between two looks).
    #[error("the account is gone")]
    NoAccount,
    /// The account's upstream is not in the configuration.
    #[error("upstream \"{0}\" is not in the configuration")]
    NoUpstream(UpstreamName),
    /// The upstream refused the credential, and why; nothing is tried until an operator acts ([`advice`]). 503.
    #[error("{0}")]
    Broken(String),
    /// The upstream limits logins, or keygate holds back after failures. 503 with `Retry-After`.
    #[error("{why}")]
    Waiting {
        /// One sentence.
        why: String,
        /// Seconds until the next try.
        retry_after_secs: u64,
    },
    /// The upstream is down. 502.
    #[error("{0}")]
    Unreachable(String),
    /// The upstream did not answer in time. 504.
    #[error("{0}")]
    TimedOut(String),
    /// A new session could not be made durable. 503.
    #[error("{0}")]
    Store(String),
}

/// Accounts and their sessions. `Send + Sync`; used by all cores. Reading a live session takes no lock.
pub struct Sessions {
    core: Arc<Core>,
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("accounts", &self.core.accounts.load().len()).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Takes over what the store holds. `control`: the runtime on which logins and renewals run, so that a client that goes
    /// away cancels none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn load(
        store: Arc<dyn Store>,
        upstreams: HashMap<UpstreamName, Arc<Upstream>>,
        clock: Arc<dyn Clock>,
        control: tokio::runtime::Handle,
    ) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self { core: Arc::new(Core::load(store, upstreams, clock, control)?) }))
    }

    /// Replaces the set of upstreams after a reload. Sessions stay, but for those with an upstream that is now of another kind.
    pub fn set_upstreams(&self, upstreams: HashMap<UpstreamName, Arc<Upstream>>) {
        let before = self.core.upstreams.swap(Arc::new(upstreams));
        self.core.know_now();
        let now = self.core.upstreams.load();
        for account in self.accounts() {
            let kind = |all: &HashMap<UpstreamName, Arc<Upstream>>| all.get(&account.upstream).map(|upstream| upstream.kind);
            if let (Some(was), Some(is)) = (kind(&before), kind(&now))
                && was != is
            {
                self.core.renew_account(AccountRecord::clone(&account));
            }
        }
    }

    /// An account.
    pub fn account(&self, id: AccountId) -> Option<Arc<AccountRecord>> {
        self.core.accounts.load().get(&id).map(|account| account.record.load_full())
    }

    /// All accounts, ordered by upstream and name.
    pub fn accounts(&self) -> Vec<Arc<AccountRecord>> {
        let mut records: Vec<_> = self.core.accounts.load().values().map(|account| account.record.load_full()).collect();
        records.sort_by(|a, b| (&a.upstream, &a.name).cmp(&(&b.upstream, &b.name)));
        records
    }

    /// Adds or replaces an account in memory (the store has it already). A changed credential drops its sessions and its broken
    /// state; otherwise both stay.
    pub fn put_account(&self, mut record: AccountRecord) {
        let known = self.core.accounts.load().get(&record.id).map(Arc::clone);
        match known {
            Some(account) if is_same(&account.record.load().credential, &record.credential) => {
                record.broken = account.gate().broken().map(str::to_owned);
                account.record.store(Arc::new(record));
                self.core.keep_changed(account);
            }
            known => {
                self.core.renew_account(record);
                if let Some(before) = known.filter(|before| minting::is_minted(&before.record.load().credential)) {
                    // Nobody knows of these afterwards: they would live on at the upstream for ever.
                    self.core.log_out_all(&before);
                }
            }
        }
        self.core.know_now();
    }

    /// All credentials of an upstream that keygate knows, of whatever account: no lock. What any answer may hold is among them before
    /// it is used for the first time.
    pub fn secrets(&self, upstream: &Upstream) -> Arc<Secrets> {
        self.core.known.of(upstream)
    }

    /// Forgets an account and its sessions, and ends them at the upstream in the background.
    pub fn remove_account(&self, id: AccountId) {
        let before = self.core.accounts.rcu(|accounts| {
            let mut accounts = FxHashMap::clone(accounts);
            accounts.remove(&id);
            accounts
        });
        let Some(account) = before.get(&id) else { return };
        account.stop();
        let wrote = account.wrote_record.load(Ordering::SeqCst) || account.slots.load().values().any(|slot| slot.state().record.is_some());
        if wrote {
            self.core.spawn_forget(id, Vec::new(), account);
        }
        self.core.log_out_all(account);
    }

    /// Forgets the session of a revoked key, and ends it at the upstream in the background.
    pub fn remove_key(&self, id: AccountId, key: KeyId) {
        let Some(account) = self.core.accounts.load().get(&id).map(Arc::clone) else { return };
        let Some(slot) = account.take_slot(Some(key)) else { return };
        slot.live.store(None);
        self.core.spawn_forget(id, vec![slot.id], &account);
        self.core.spawn_log_out(&account, slot);
    }

    /// How often sessions with an upstream were got, and how often that failed, since the program started.
    pub fn figures(&self, upstream: &UpstreamName) -> [(Event, u64); Event::ALL.len()] {
        self.core.figures.of(upstream)
    }

    /// An upstream of the configuration.
    pub fn upstream(&self, name: &UpstreamName) -> Option<Arc<Upstream>> {
        self.core.upstream(name).ok()
    }

    /// Which session a key of an account uses. A static token is one session, whoever uses it.
    pub fn session_id(&self, account: &AccountRecord, key: KeyId) -> SessionId {
        let per_key = match account.credential {
            Credential::Token(_) => false,
            Credential::Password(_) | Credential::Minted { .. } => {
                self.core.upstreams.load().get(&account.upstream).is_some_and(|upstream| upstream.session_per_key)
            }
        };
        SessionId { account: account.id, key: per_key.then_some(key) }
    }

    /// How a session introduced itself to the upstream, once there was one.
    pub fn device(&self, id: SessionId) -> Option<Device> {
        let accounts = self.core.accounts.load();
        let slots = accounts.get(&id.account)?.slots.load();
        slots.get(&id.key)?.device.get().cloned()
    }

    /// The live session if there is one that need not be renewed: no lock, no await. The request path asks this first.
    pub fn live(&self, id: SessionId) -> Option<Arc<Session>> {
        let accounts = self.core.accounts.load();
        let slots = accounts.get(&id.account)?.slots.load();
        let live = slots.get(&id.key)?.live.load();
        let session = live.as_ref()?;
        (!session.is_due(self.core.clock.now())).then(|| Arc::clone(session))
    }

    /// A live session of an account, whichever of its keys has it: no login.
    pub fn any_live(&self, id: AccountId) -> Option<Arc<Session>> {
        let accounts = self.core.accounts.load();
        let slots = accounts.get(&id)?.slots.load();
        let now = self.core.clock.now();
        slots.values().filter_map(|slot| slot.live.load_full()).find(|session| session.is_usable(now))
    }

    /// The session, logging in or renewing when needed. While the token still lives, a renewal runs in the background and its failure
    /// is nobody's error. `client`: for whom (the upstream's rate limit and session list see it).
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn current(&self, id: SessionId, client: Option<IpAddr>) -> Result<Arc<Session>, SessionError> {
        self.core.obtain(id, Goal::Usable, client).await
    }

    /// The session that follows one which the upstream called dead: a hundred callers with the same stale one cause one renewal.
    /// Whose sessions keep dying young waits like one whose logins fail.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn replace(&self, stale: &Session, client: Option<IpAddr>) -> Result<Arc<Session>, SessionError> {
        self.core.obtain(stale.id, Goal::Other(stale.generation), client).await
    }

    /// The token that opens the upstream's socket for a session's account. For an account with a static token the upstream is asked for
    /// it, once: Audiobookshelf's API keys open no socket (2.36), and what `/api/me` tells with one does.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn socket_token(&self, session: &Session, client: Option<IpAddr>) -> Result<Secret<String>, SessionError> {
        let account = self.account(session.id.account).ok_or(SessionError::NoAccount)?;
        if !account.credential.is_static_token(self.core.upstream(&account.upstream)?.kind) {
            return Ok(session.token.clone());
        }
        if let Some(token) = &session.socket_token {
            return Ok(token.clone());
        }
        let found = self.core.obtain(session.id, Goal::Socket, client).await?;
        match &found.socket_token {
            Some(token) => Ok(token.clone()),
            // Another flight landed first, which was not about this.
            None => {
                let found = self.core.obtain(session.id, Goal::Socket, client).await?;
                Ok(found.socket_token.as_ref().unwrap_or(&found.token).clone())
            }
        }
    }

    /// Asks the upstream whether a session's token lives: one flight, its answer good for some seconds.
    ///
    /// # Errors
    /// [`SessionError`] when the upstream gives no answer to that.
    pub async fn probe(&self, session: &Session) -> Result<TokenState, SessionError> {
        let place = self.core.place(session.id)?;
        let landing = self.core.probe(&place, session);
        core::landed(landing).await.map_or_else(|| Err(core::stopping()), |probed| probed.found)
    }

    /// Logs in now, for `accounts add` and `accounts login`: clears a broken state first. A token account's token is tried.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn login_now(&self, id: AccountId) -> Result<LoggedIn, SessionError> {
        let place = self.core.place(SessionId { account: id, key: None })?;
        let flying = place.slot.state().flying();
        if let Some(landing) = flying {
            // Its outcome does not matter: it may have used what is stored, and this is to try the credential.
            let _ = core::landed(landing).await;
        }
        place.account.gate().clear();
        self.core.obtain(place.slot.id, Goal::Login, None).await?;
        let learnt = place.slot.state().logged_in.clone();
        Ok(learnt.unwrap_or(LoggedIn { user_id: None, user_name: None, token_life: None }))
    }

    /// Whether the account's media server believes keygate about who the client is; `None`: it does not say. Asked with a session of
    /// the account's.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn believes_forwarding(&self, id: AccountId) -> Result<Option<bool>, SessionError> {
        let session = self.current(SessionId { account: id, key: None }, None).await?;
        let account = self.account(id).ok_or(SessionError::NoAccount)?;
        let upstream = self.core.upstream(&account.upstream)?;
        let answer = survey::believes_forwarding(&upstream, session.headers.iter().cloned().collect()).await;
        answer.map_err(|error| SessionError::Unreachable(error.to_string()))
    }

    /// The libraries that an account sees at its media server. Asked with a session of the account's.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn libraries(&self, id: AccountId) -> Result<Vec<Library>, SessionError> {
        let mut session = self.current(SessionId { account: id, key: None }, None).await?;
        let account = self.account(id).ok_or(SessionError::NoAccount)?;
        let upstream = self.core.upstream(&account.upstream)?;
        let ask = async |session: &Session| {
            let list = libraries::list(upstream.kind, account.user_id.as_deref(), &session.headers);
            call::call(&upstream, list, None).await.map_err(|error| SessionError::Unreachable(error.to_string()))
        };
        let mut answer = ask(&session).await?;
        if answer.status == StatusCode::UNAUTHORIZED && account.credential.is_renewable() {
            session = self.replace(&session, None).await?;
            answer = ask(&session).await?;
        }
        libraries::read_list(upstream.kind, &answer).map_err(|error| SessionError::Unreachable(error.to_string()))
    }

    /// The state of an account's sessions, for `accounts list` and `accounts show`.
    pub fn state(&self, id: AccountId) -> AccountState {
        let Some(account) = self.core.accounts.load().get(&id).map(Arc::clone) else { return AccountState::Idle };
        self.core.state_of(&account)
    }
}

/// Whether two credentials are the same. Both are ours, so the comparison need not hide anything by its time.
fn is_same(a: &Credential, b: &Credential) -> bool {
    match (a, b) {
        (Credential::Password(a), Credential::Password(b)) | (Credential::Token(a), Credential::Token(b)) => a.expose() == b.expose(),
        (Credential::Minted { user_id: a }, Credential::Minted { user_id: b }) => a == b,
        _ => false,
    }
}

/// What a login found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedIn {
    /// The upstream's id of the user.
    pub user_id: Option<String>,
    /// The upstream's name of the user.
    pub user_name: Option<String>,
    /// How long the token lives; `None`: not by time.
    pub token_life: Option<Duration>,
}

/// State of an account, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountState {
    /// Nothing was needed yet.
    Idle,
    /// A session lives.
    Live {
        /// How many sessions (one, or one per key in use).
        sessions: usize,
        /// When the first of them dies; `None`: not by time.
        expires_at: Option<Timestamp>,
        /// From when on the next request renews it; `None`: it is not renewed by time.
        renew_at: Option<Timestamp>,
        /// When the newest of them was got, by a login or a renewal; `None`: they are tokens that were given.
        obtained_at: Option<Timestamp>,
    },
    /// Holding back until then.
    Waiting {
        /// Until.
        until: Timestamp,
        /// Why.
        why: String,
    },
    /// Stopped until an operator acts.
    Broken {
        /// Why.
        why: String,
    },
}
