//! One flight: what happens, once, when a session is missing, old or dead, however many requests wait for it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::clock::Timestamp;
use crate::secret::Secret;
use crate::store::records::{AccountRecord, SessionRecord};
use crate::upstream::Credential;
use crate::upstream::call::{self, CallError};
use crate::upstream::client::Upstream;
use crate::upstream::dialect::{Answer, Call, Device, Grant, GrantError, TokenState};
use crate::upstream::session::account::{Outcome, Place, device};
use crate::upstream::session::core::{Core, Goal};
use crate::upstream::session::figures::Event;
use crate::upstream::session::gate::Failure;
use crate::upstream::session::{LoggedIn, Session, SessionError, advice};

/// From here on a difference between two machines' clocks is worth a line. A slow answer is none.
const CLOCKS_APART: Duration = Duration::from_secs(90);

/// A flight and all that it carries.
pub(super) struct Flight {
    pub(super) core: Arc<Core>,
    place: Place,
    pub(super) account: Arc<AccountRecord>,
    pub(super) upstream: Arc<Upstream>,
    pub(super) device: Device,
    client: Option<IpAddr>,
    /// An operator waits for the outcome, and hears of a refusal without the log.
    by_hand: bool,
}

/// Where a session comes from when nothing can be renewed.
#[derive(Clone, Copy)]
enum Login<'a> {
    Password(&'a Secret<String>),
    /// From the upstream's administrator.
    Mint {
        user_id: &'a str,
    },
}

/// What became of a renewal.
enum Renewal {
    Done(Outcome),
    /// The refresh token is dead as well: log in.
    Refused,
}

impl Flight {
    /// Makes everything ready.
    ///
    /// # Errors
    /// [`SessionError::NoUpstream`].
    pub(super) async fn new(core: &Arc<Core>, place: &Place, client: Option<IpAddr>) -> Result<Self, SessionError> {
        let account = place.account.record.load_full();
        let upstream = core.upstream(&account.upstream)?;
        let device = core.device(place, &account).await;
        Ok(Self { core: Arc::clone(core), place: place.clone(), account, upstream, device, client, by_hand: false })
    }

    /// Brings a session.
    pub(super) async fn run(mut self, goal: Goal) -> Outcome {
        self.by_hand = goal == Goal::Login;
        self.place.account.gate().check(self.core.clock.monotonic())?;
        match &self.account.credential {
            Credential::Token(token) => self.static_session(token, goal).await,
            Credential::Password(password) => self.obtain(Login::Password(password), goal).await,
            Credential::Minted { user_id } if goal == Goal::Socket => {
                let live = self.place.slot.live.load_full();
                let session = match live {
                    Some(session) => session,
                    None => self.obtain(Login::Mint { user_id }, Goal::Usable).await?,
                };
                self.socket_session(&session.token).await
            }
            Credential::Minted { user_id } => self.obtain(Login::Mint { user_id }, goal).await,
        }
    }

    async fn obtain(&self, login: Login<'_>, goal: Goal) -> Outcome {
        if goal == Goal::Login { self.log_in(login).await } else { self.renew_or_log_in(login).await }
    }

    /// The gentlest way first: what was granted already, what was stored, the refresh token, the login.
    async fn renew_or_log_in(&self, login: Login<'_>) -> Outcome {
        let pending = self.place.slot.state().pending.clone();
        if let Some(record) = pending {
            return self.keep(record, None).await;
        }
        if let Some(session) = self.resume() {
            return Ok(session);
        }
        let refresh_token = self.place.slot.state().record.as_ref().and_then(|record| record.refresh_token.clone());
        if let Some(call) = refresh_token.as_ref().and_then(|token| self.upstream.dialect().refresh(token))
            && let Renewal::Done(outcome) = self.renew(call, refresh_token).await
        {
            return outcome;
        }
        self.log_in(login).await
    }

    /// A session of an earlier run of the program, if its token may still live.
    fn resume(&self) -> Option<Arc<Session>> {
        let state = self.place.slot.state();
        let record = state.record.as_ref().filter(|_| !state.is_dead && self.place.slot.live.load().is_none())?;
        let session = Arc::new(self.session(record));
        if !session.is_usable(self.core.clock.now()) {
            return None;
        }
        self.place.slot.live.store(Some(Arc::clone(&session)));
        Some(session)
    }

    async fn renew(&self, call: Call, refresh_token: Option<Secret<String>>) -> Renewal {
        let asked_at = self.core.clock.now();
        let answer = match self.call(call).await {
            Ok(answer) => answer,
            Err(failure) => return Renewal::Done(Err(self.fail(failure, "renewing the session failed"))),
        };
        match self.upstream.dialect().read_refresh(&answer) {
            Ok(mut grant) => {
                grant.refresh_token = grant.refresh_token.or(refresh_token);
                Renewal::Done(self.accept(grant, asked_at, Event::Renewed).await)
            }
            Err(GrantError::Refused(why)) => {
                tracing::info!(account = %self.label(), why, "the session cannot be renewed, logging in anew");
                // Never shown again: Audiobookshelf writes unknown refresh tokens to its log.
                if let Some(record) = self.place.slot.state().record.as_mut() {
                    record.refresh_token = None;
                }
                Renewal::Refused
            }
            Err(error) => Renewal::Done(Err(self.fail(self.unavailable(error, &answer), "renewing the session failed"))),
        }
    }

    async fn log_in(&self, login: Login<'_>) -> Outcome {
        let _one_at_a_time = self.place.account.login.lock().await;
        self.place.account.gate().check(self.core.clock.monotonic())?;
        match login {
            Login::Password(password) => self.log_in_with(password).await,
            Login::Mint { user_id } => self.mint(user_id).await,
        }
    }

    async fn log_in_with(&self, password: &Secret<String>) -> Outcome {
        let asked_at = self.core.clock.now();
        let dialect = self.upstream.dialect();
        let answer = self.call(dialect.login(&self.account.name, password, &self.device)).await;
        let answer = answer.map_err(|failure| self.fail(failure, "logging in failed"))?;
        match dialect.read_login(&answer) {
            Ok(grant) => self.accept(grant, asked_at, Event::LoggedIn).await,
            Err(GrantError::Refused(why)) => Err(self.shut(&why).await),
            Err(error) => Err(self.fail(self.unavailable(error, &answer), "logging in failed")),
        }
    }

    /// A token account has nothing to renew: either its token lives, or an operator must act.
    async fn static_session(&self, token: &Secret<String>, goal: Goal) -> Outcome {
        let called_dead = self.place.slot.state().is_dead;
        let socket_token = self.stored_socket_token(token);
        if goal == Goal::Socket && (called_dead || socket_token.is_none()) {
            return self.socket_session(token).await;
        }
        if called_dead || goal == Goal::Login {
            let alive = self.probe(token).await.map_err(|failure| self.fail(failure, "asking about the token failed"))?;
            let TokenState::Alive { user_id, user_name } = alive else {
                return Err(self.shut(&format!("{} does not accept the account's token (any more)", self.upstream.kind.product())).await);
            };
            self.check_user(user_id.as_deref()).await?;
            self.learn(LoggedIn { user_id, user_name, token_life: None }).await;
            self.succeed();
        }
        let record = SessionRecord {
            id: self.place.slot.id,
            generation: self.core.next_generation(),
            token: token.clone(),
            refresh_token: None,
            other_secrets: socket_token.into_iter().collect(),
            obtained_at: self.core.clock.now(),
            expires_at: None,
            minted_id: None,
        };
        let session = Arc::new(self.session(&record));
        self.core.know().await;
        if !self.core.is_current(&self.place) {
            return Err(SessionError::NoAccount);
        }
        self.place.slot.live.store(Some(Arc::clone(&session)));
        Ok(session)
    }

    /// The token that opens the socket for a static one, as it was found out earlier.
    fn stored_socket_token(&self, token: &Secret<String>) -> Option<Secret<String>> {
        let state = self.place.slot.state();
        let record = state.record.as_ref().filter(|record| !state.is_dead && record.token.expose() == token.expose())?;
        record.other_secrets.first().cloned()
    }

    /// Asks with a static token for the user's own, which opens the socket where the server's API keys do not.
    async fn socket_session(&self, token: &Secret<String>) -> Outcome {
        let dialect = self.upstream.dialect();
        let asked = self.call(dialect.probe(token, self.account.user_id.as_deref(), &self.device)).await;
        let answer = asked.map_err(|failure| self.fail(failure, "asking for the socket's token failed"))?;
        let state = dialect.read_probe(&answer);
        let state = state.map_err(|error| self.fail(self.unavailable(error, &answer), "asking for the socket's token failed"))?;
        let TokenState::Alive { user_id, .. } = state else {
            return Err(self.shut(&format!("{} does not accept the account's token (any more)", self.upstream.kind.product())).await);
        };
        self.check_user(user_id.as_deref()).await?;
        // Where the server tells none, the static token must do.
        let other_secrets = vec![dialect.read_socket_token(&answer).unwrap_or_else(|| token.clone())];
        let generation = self.core.next_generation();
        let known = self.place.slot.state().record.clone().filter(|record| record.token.expose() == token.expose());
        let record = match known {
            Some(record) => SessionRecord { generation, other_secrets, ..record },
            None => SessionRecord {
                id: self.place.slot.id,
                generation,
                token: token.clone(),
                refresh_token: None,
                other_secrets,
                obtained_at: self.core.clock.now(),
                expires_at: None,
                minted_id: None,
            },
        };
        self.place.slot.state().pending = Some(record.clone());
        self.keep(record, None).await
    }

    /// What a good static token taught.
    async fn learn(&self, learnt: LoggedIn) {
        if let Some(account) = self.changed_account(&learnt) {
            let before = self.place.account.record.load_full();
            self.place.account.learn(&account);
            self.core.keep_account(&self.place.account, Some(&before)).await;
        }
        let mut state = self.place.slot.state();
        state.is_dead = false;
        state.logged_in = Some(learnt);
    }

    /// Whether a token lives.
    pub(super) async fn probe(&self, token: &Secret<String>) -> Result<TokenState, Failure> {
        let dialect = self.upstream.dialect();
        let answer = self.call(dialect.probe(token, self.account.user_id.as_deref(), &self.device)).await?;
        dialect.read_probe(&answer).map_err(|error| Failure { judged: false, ..self.unavailable(error, &answer) })
    }

    /// Ends a session at the upstream. Nobody waits for it; if it fails, the token stays in the server's list until somebody removes it.
    pub(super) async fn log_out(&self, record: &SessionRecord) {
        let Some(call) = self.upstream.dialect().logout(&record.token, record.refresh_token.as_ref(), &self.device) else { return };
        match call::call(&self.upstream, call, None).await {
            Ok(answer) if answer.status.is_success() => tracing::info!(account = %self.label(), "ended a session at the upstream"),
            Ok(answer) => {
                tracing::warn!(account = %self.label(), status = answer.status.as_u16(), "a session could not be ended at the upstream")
            }
            Err(error) => tracing::warn!(account = %self.label(), %error, "a session could not be ended at the upstream"),
        }
    }

    pub(super) async fn accept(&self, grant: Grant, asked_at: Timestamp, done: Event) -> Outcome {
        self.check_user(grant.user_id.as_deref()).await?;
        // Only the length of the token's life is believed, and it is counted from before the call: the upstream's clock may be off.
        let life = grant.lifetime.map(|lifetime| lifetime.expires_at.since(lifetime.issued_at));
        if let Some(lifetime) = grant.lifetime {
            self.compare_clocks(lifetime.issued_at);
        }
        let record = SessionRecord {
            id: self.place.slot.id,
            generation: self.core.next_generation(),
            token: grant.token,
            refresh_token: grant.refresh_token,
            other_secrets: grant.other_secrets,
            obtained_at: asked_at,
            expires_at: life.map(|life| asked_at.plus(life)),
            minted_id: grant.minted_id,
        };
        let learnt = LoggedIn { user_id: grant.user_id, user_name: grant.user_name, token_life: life };
        {
            let mut state = self.place.slot.state();
            state.pending = Some(record.clone());
            state.logged_in = Some(learnt.clone());
            state.granted_at = Some(self.core.clock.monotonic());
        }
        let outcome = self.keep(record, self.changed_account(&learnt)).await;
        if let Ok(session) = &outcome {
            self.core.figures.count(&self.upstream.name, done);
            let life_secs = life.map(|life| life.as_secs());
            tracing::info!(account = %self.label(), generation = session.generation, life_secs, "{}", done.as_sentence());
        }
        outcome
    }

    /// Sessions do not mind clocks that differ, but the media server's own times, logs and scrobbles do, and so do certificates.
    fn compare_clocks(&self, theirs: Timestamp) {
        let ours = self.core.clock.now();
        let (apart, direction) = if theirs > ours { (theirs.since(ours), "ahead of") } else { (ours.since(theirs), "behind") };
        if apart > CLOCKS_APART {
            let (product, seconds) = (self.upstream.kind.product(), apart.as_secs());
            tracing::warn!(account = %self.label(), "the clock of {product} is {seconds} s {direction} keygate's: set both by NTP");
        }
    }

    /// The account's record with what a grant taught; `None` when that is nothing new.
    fn changed_account(&self, learnt: &LoggedIn) -> Option<AccountRecord> {
        let record = self.place.account.record.load_full();
        let user_id = record.user_id.clone().or_else(|| learnt.user_id.clone());
        if user_id == record.user_id && record.broken.is_none() {
            return None;
        }
        Some(AccountRecord { user_id, broken: None, ..AccountRecord::clone(&record) })
    }

    /// First durable, then used: a refresh token that rotated and got lost would lock the account out.
    async fn keep(&self, record: SessionRecord, account: Option<AccountRecord>) -> Outcome {
        match self.core.keep(&self.place, &record, account.clone()).await {
            Ok(true) => {}
            Ok(false) => {
                self.end(&record).await;
                return Err(SessionError::NoAccount);
            }
            Err(cause) => {
                let error = SessionError::Store(format!("account {}: the new session could not be stored: {cause}", self.label()));
                return Err(self.fail(Failure { error, judged: false, retry_after: None }, "storing the session failed"));
            }
        }
        if let Some(account) = account {
            self.place.account.learn(&account);
        }
        self.succeed();
        let session = Arc::new(self.session(&record));
        // The record is pending yet: that is enough to be known.
        self.core.know().await;
        let mut state = self.place.slot.state();
        state.record = Some(record);
        state.pending = None;
        state.is_dead = false;
        self.place.slot.live.store(Some(Arc::clone(&session)));
        Ok(session)
    }

    fn session(&self, record: &SessionRecord) -> Session {
        let dialect = self.upstream.dialect();
        let expires_at = record.expires_at.unwrap_or(Timestamp::NEVER);
        Session {
            id: record.id,
            generation: record.generation,
            headers: dialect.credential_headers(&record.token, &self.device),
            socket_token: self
                .account
                .credential
                .is_static_token(self.upstream.kind)
                .then(|| record.other_secrets.first().cloned())
                .flatten(),
            socket_query: dialect.socket_query(&record.token, &self.device),
            own: record.credentials().cloned().collect(),
            token: record.token.clone(),
            renew_at: record.renew_at(),
            expires_at,
        }
    }

    /// An account belongs to one user for good: another one's session would show a family member's data to the wrong key.
    async fn check_user(&self, found: Option<&str>) -> Result<(), SessionError> {
        match (&self.account.user_id, found) {
            (Some(known), Some(found)) if !known.eq_ignore_ascii_case(found) => {
                Err(self.shut("the upstream answered as another user than before").await)
            }
            _ => Ok(()),
        }
    }

    /// Stops the account until an operator acts, also after a restart.
    pub(super) async fn shut(&self, why: &str) -> SessionError {
        let label = self.label();
        let why = format!("account {label}: {why}");
        self.core.figures.count(&self.upstream.name, Event::Refused);
        let account = &self.place.account;
        account.gate().shut(why.clone());
        account.stop();
        if self.by_hand {
            tracing::warn!(account = %label, "{why}");
        } else {
            tracing::error!(account = %label, "{why}. {}", advice(&label));
        }
        let before = account.record.rcu(|record| AccountRecord { broken: Some(why.clone()), ..AccountRecord::clone(record) });
        self.core.keep_account(account, Some(&before)).await;
        SessionError::Broken(why)
    }

    pub(super) fn fail(&self, failure: Failure, what: &'static str) -> SessionError {
        let error = self.place.account.gate().fail(self.core.clock.monotonic(), failure, jitter());
        tracing::warn!(account = %self.label(), %error, "{what}");
        self.core.figures.count(&self.upstream.name, Event::failed(&error));
        self.core.note_logins(&self.place.account, Some(&error));
        error
    }

    fn succeed(&self) {
        self.place.account.gate().succeed();
        self.core.note_logins(&self.place.account, None);
    }

    pub(super) async fn call(&self, call: Call) -> Result<Answer, Failure> {
        call::call(&self.upstream, call, self.client).await.map_err(|error| {
            let text = format!("account {}: {error}", self.label());
            let (error, judged) = match error {
                CallError::Timeout { .. } => (SessionError::TimedOut(text), true),
                CallError::Connect { .. } | CallError::Tls { .. } | CallError::Protocol { .. } => (SessionError::Unreachable(text), false),
            };
            Failure { error, judged, retry_after: None }
        })
    }

    /// A failure that is nobody's fault for good. Answers of a server that is starting, or of a proxy before it, were no logins.
    pub(super) fn unavailable(&self, error: GrantError, answer: &Answer) -> Failure {
        let judged = !matches!(answer.status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT);
        let retry_after = match &error {
            GrantError::Limited { retry_after_secs } => Some(Duration::from_secs(*retry_after_secs)),
            GrantError::Refused(_) | GrantError::Unavailable(_) => None,
        };
        let why = match &error {
            GrantError::Limited { .. } => format!("account {}: {} limits logins (429)", self.label(), self.upstream.kind.product()),
            GrantError::Refused(why) | GrantError::Unavailable(why) => format!("account {}: {why}", self.label()),
        };
        Failure { error: SessionError::Waiting { why, retry_after_secs: 1 }, judged, retry_after }
    }

    pub(super) fn label(&self) -> String {
        self.place.account.label()
    }
}

impl Core {
    /// How a slot's session introduces itself; the key's name is asked of the store once.
    async fn device(&self, place: &Place, account: &AccountRecord) -> Device {
        if let Some(device) = place.slot.device.get() {
            return device.clone();
        }
        let key = match place.slot.id.key {
            None => None,
            Some(key) => {
                let store = Arc::clone(&self.store);
                let found = self.control.spawn_blocking(move || store.key(key)).await;
                let name = found.ok().and_then(Result::ok).flatten().map(|record| record.name);
                Some((key, name))
            }
        };
        place.slot.device.get_or_init(|| device(account, key)).clone()
    }
}

/// A random byte; without randomness there is no jitter, which costs nothing but spread.
fn jitter() -> u8 {
    getrandom::u32().map_or(0, |random| random.to_le_bytes()[0])
}
