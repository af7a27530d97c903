//! Sessions that the upstream's administrator makes for a user, and what is left of them at the upstream when they end.

use std::sync::Arc;
use std::time::Duration;

use crate::store::records::{AccountRecord, SessionRecord};
use crate::upstream::call;
use crate::upstream::dialect::minting::{Headers, MintError, Minting, UpstreamUser, read_users, users};
use crate::upstream::dialect::{Answer, Call, Grant, GrantError, TokenState, api_keys, quick_connect};
use crate::upstream::session::account::{Outcome, Place};
use crate::upstream::session::core::{Core, Goal, landed, stopping};
use crate::upstream::session::figures::Event;
use crate::upstream::session::flight::Flight;
use crate::upstream::session::gate::Failure;
use crate::upstream::session::{Session, SessionError, SessionId, Sessions};
use crate::upstream::{AccountId, Credential, Kind, UpstreamName};

/// Pauses between the tries to delete an API key at an upstream that does not do it; after the last one it stays behind.
const DELETE_AGAIN: [Duration; 5] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(600)];

/// Why something that takes the upstream's administrator was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdministratorError {
    /// No account of the upstream is marked as its administrator.
    #[error(
        "{0} has no administrator's account that could do that; add one with: keygate accounts add {0}/NAME --administrator, or mark \
         one that is there: keygate accounts set-administrator {0}/NAME"
    )]
    None(UpstreamName),
    /// The account is no administrator there.
    #[error(
        "{account} is no administrator of {product}: make its user one there, or mark another account with: keygate accounts set-administrator"
    )]
    NotAdministrator {
        /// upstream/name.
        account: String,
        /// The media server.
        product: &'static str,
    },
    /// There is no session of the administrator's account, or the upstream does not answer.
    #[error("{0}")]
    Session(SessionError),
    /// What another try does not change.
    #[error("{0}")]
    Impossible(String),
    /// Try later.
    #[error("{0}")]
    Later(GrantError),
}

impl AdministratorError {
    /// The same as the reason why an account has no session.
    pub fn cause(&self) -> SessionError {
        match self {
            Self::Session(error) => error.clone(),
            Self::None(_) | Self::NotAdministrator { .. } | Self::Impossible(_) => SessionError::Broken(self.to_string()),
            Self::Later(_) => SessionError::Unreachable(self.to_string()),
        }
    }
}

/// Why no session was minted.
enum Unminted {
    /// Until an operator acts.
    Final(String),
    Later(Failure),
}

impl Core {
    /// The account that administers an upstream.
    fn administrator(&self, upstream: &UpstreamName) -> Result<Place, AdministratorError> {
        let accounts = self.accounts.load();
        let is_it = |record: &AccountRecord| record.is_administrator && record.upstream == *upstream;
        let account = accounts.values().find(|account| is_it(&account.record.load()));
        let account = account.map(Arc::clone).ok_or_else(|| AdministratorError::None(upstream.clone()))?;
        let slot = account.slot(None);
        Ok(Place { account, slot })
    }

    /// Makes a call with the session of an upstream's administrator.
    async fn as_administrator<T>(
        self: &Arc<Self>,
        upstream: &UpstreamName,
        ask: impl Fn(&Headers) -> Call + Send,
        read: impl Fn(&Answer) -> Result<T, MintError> + Send,
    ) -> Result<T, AdministratorError> {
        self.call_as(&self.administrator(upstream)?, ask, read).await
    }

    /// Makes a call with an account's own session. One that turns out to be dead is replaced, once.
    async fn call_as<T>(
        self: &Arc<Self>,
        place: &Place,
        ask: impl Fn(&Headers) -> Call + Send,
        read: impl Fn(&Answer) -> Result<T, MintError> + Send,
    ) -> Result<T, AdministratorError> {
        let upstream = self.upstream(&place.account.record.load().upstream).map_err(AdministratorError::Session)?;
        let mut session = self.session_of(place.slot.id, Goal::Usable).await?;
        let mut is_new = false;
        loop {
            let answer = call::call(&upstream, ask(&session.headers), None).await;
            let answer = answer.map_err(|error| AdministratorError::Session(SessionError::Unreachable(error.to_string())))?;
            match read(&answer) {
                Ok(found) => return Ok(found),
                Err(MintError::TokenRefused) if !is_new && self.is_dead(place, &session).await? => {
                    session = self.session_of(place.slot.id, Goal::Other(session.generation)).await?;
                    is_new = true;
                }
                Err(MintError::TokenRefused | MintError::NotAdministrator) => return Err(not_administrator(place, upstream.kind)),
                Err(MintError::Impossible(why)) => return Err(AdministratorError::Impossible(why)),
                Err(MintError::Later(error)) => return Err(AdministratorError::Later(error)),
            }
        }
    }

    /// The users of an account's upstream, if the account administers it.
    async fn users_seen_by(self: &Arc<Self>, place: &Place) -> Result<Vec<UpstreamUser>, AdministratorError> {
        let upstream = place.account.record.load().upstream.clone();
        let kind = self.upstream(&upstream).map_err(AdministratorError::Session)?.kind;
        let found = self.call_as(place, |headers| users(kind, headers), |answer| read_users(kind, answer)).await?;
        // Emby and Jellyfin show the list to everybody. An API key of theirs has no user, and every right.
        let own = place.account.record.load().user_id.clone();
        let is_own = |user: &&UpstreamUser| own.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(&user.id));
        match found.iter().find(is_own) {
            Some(user) if !user.is_administrator => Err(not_administrator(place, kind)),
            _ => Ok(found),
        }
    }

    async fn session_of(self: &Arc<Self>, id: SessionId, goal: Goal) -> Result<Arc<Session>, AdministratorError> {
        self.obtain(id, goal, None).await.map_err(AdministratorError::Session)
    }

    async fn is_dead(self: &Arc<Self>, place: &Place, session: &Session) -> Result<bool, AdministratorError> {
        let probed = landed(self.probe(place, session)).await;
        let found = probed.map_or_else(|| Err(stopping()), |probed| probed.found);
        Ok(found.map_err(AdministratorError::Session)? == TokenState::Dead)
    }
}

fn not_administrator(place: &Place, kind: Kind) -> AdministratorError {
    AdministratorError::NotAdministrator { account: place.account.label(), product: kind.product() }
}

impl Sessions {
    /// The users of an upstream, asked for with its administrator's session.
    ///
    /// # Errors
    /// [`AdministratorError`].
    pub async fn available(&self, upstream: &UpstreamName) -> Result<Vec<UpstreamUser>, AdministratorError> {
        self.core.users_seen_by(&self.core.administrator(upstream)?).await
    }

    /// Asks the upstream whether an account is an administrator there.
    ///
    /// # Errors
    /// [`AdministratorError::NotAdministrator`] if it says no; another one if it says nothing.
    pub async fn check_administrator(&self, id: AccountId) -> Result<(), AdministratorError> {
        let place = self.core.place(SessionId { account: id, key: None }).map_err(AdministratorError::Session)?;
        self.core.users_seen_by(&place).await.map(drop)
    }

    /// Waits until everything that ends at an upstream has ended there, at most so long; whether it has.
    pub async fn ended(&self, limit: Duration) -> bool {
        let mut ending = self.core.ending.subscribe();
        tokio::time::timeout(limit, ending.wait_for(|count| *count == 0)).await.is_ok_and(|waited| waited.is_ok())
    }
}

impl Flight {
    /// A session for the account's user, from the upstream's administrator.
    pub(super) async fn mint(&self, user_id: &str) -> Outcome {
        let asked_at = self.core.clock.now();
        let granted = match self.upstream.dialect().minting() {
            Minting::ApiKey => self.mint_api_key(user_id).await,
            Minting::QuickConnect => self.quick_connect(user_id).await,
            Minting::Never(why) => Err(Unminted::Final(why.to_owned())),
        };
        match granted {
            Ok(grant) => {
                let minted = grant.minted_id.clone();
                let outcome = self.accept(grant, asked_at, Event::Minted).await;
                if let (Ok(_), Some(id)) = (&outcome, minted) {
                    self.delete_older(user_id, &id).await;
                }
                outcome
            }
            Err(Unminted::Final(why)) => Err(self.shut(&why).await),
            Err(Unminted::Later(failure)) => Err(self.fail(failure, "minting a session failed")),
        }
    }

    /// The name of the session's API key: the same at each minting, and nobody else's.
    fn minted_name(&self) -> String {
        format!("keygate {} {}", self.account.name, self.device.id.get(..8).unwrap_or_default())
    }

    async fn mint_api_key(&self, user_id: &str) -> Result<Grant, Unminted> {
        let name = self.minted_name();
        let made = self.administered(|headers| api_keys::create(headers, &name, user_id), api_keys::read_created).await?;
        // A user who was deactivated gets keys that are dead from the start: without this look they would be made again and again.
        let why = match self.probe(&made.token).await {
            Ok(TokenState::Dead) => "Audiobookshelf does not accept even a new API key for the user: is the user deactivated?",
            Ok(TokenState::Alive { user_id: Some(found), .. }) if found != user_id => "the API key that was made is another user's",
            Ok(TokenState::Alive { .. }) | Err(_) => return Ok(made),
        };
        if let Some(id) = &made.minted_id {
            self.delete_or_say(id).await;
        }
        Err(Unminted::Final(why.to_owned()))
    }

    /// Asks for a session, authorises it as the administrator, and takes it: three calls in the place of a password.
    async fn quick_connect(&self, user_id: &str) -> Result<Grant, Unminted> {
        let answer = self.call(quick_connect::initiate(&self.device)).await.map_err(Unminted::Later)?;
        let request = quick_connect::read_initiated(&answer).map_err(|error| self.unminted(error, &answer))?;
        self.administered(|headers| quick_connect::authorize(headers, &request, user_id), quick_connect::read_authorized).await?;
        let answer = self.call(quick_connect::redeem(&request, &self.device)).await.map_err(Unminted::Later)?;
        let grant = quick_connect::read_redeemed(&answer).map_err(|error| self.unminted(error, &answer))?;
        if grant.user_id.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(user_id)) {
            return Ok(grant);
        }
        // An older server authorises the caller alone, whatever user is asked for: this is the administrator's own session.
        if let Some(call) = self.upstream.dialect().logout(&grant.token, None, &self.device)
            && let Err(failure) = self.call(call).await
        {
            tracing::error!(account = %self.label(), error = %failure.error, "a session of the administrator could not be ended again");
        }
        Err(Unminted::Final(quick_connect::TOO_OLD.to_owned()))
    }

    async fn administered<T>(
        &self,
        ask: impl Fn(&Headers) -> Call + Send,
        read: impl Fn(&Answer) -> Result<T, MintError> + Send,
    ) -> Result<T, Unminted> {
        self.core.as_administrator(&self.account.upstream, ask, read).await.map_err(|error| self.unadministered(error))
    }

    /// The administrator's trouble is no refusal of this account: it heals when the administrator's does.
    fn unadministered(&self, error: AdministratorError) -> Unminted {
        let label = self.label();
        let (error, judged, retry_after) = match error {
            AdministratorError::Impossible(why) => return Unminted::Final(why),
            AdministratorError::Session(SessionError::Unreachable(why)) => (SessionError::Unreachable(why), false, None),
            AdministratorError::Session(SessionError::TimedOut(why)) => (SessionError::TimedOut(why), true, None),
            AdministratorError::Session(SessionError::Waiting { why, retry_after_secs }) => {
                let pause = Some(Duration::from_secs(retry_after_secs));
                (SessionError::Waiting { why: format!("account {label}: {why}"), retry_after_secs }, false, pause)
            }
            AdministratorError::Later(GrantError::Limited { retry_after_secs }) => {
                let why = format!("account {label}: {} limits calls (429)", self.upstream.kind.product());
                (SessionError::Waiting { why, retry_after_secs }, true, Some(Duration::from_secs(retry_after_secs)))
            }
            error => (SessionError::Waiting { why: format!("account {label}: {error}"), retry_after_secs: 1 }, false, None),
        };
        Unminted::Later(Failure { error, judged, retry_after })
    }

    fn unminted(&self, error: MintError, answer: &Answer) -> Unminted {
        match error {
            MintError::Impossible(why) => Unminted::Final(why),
            MintError::Later(error) => Unminted::Later(self.unavailable(error, answer)),
            // Not the administrator's calls: nothing was refused to a token.
            error @ (MintError::TokenRefused | MintError::NotAdministrator) => Unminted::Final(error.to_string()),
        }
    }

    /// Takes away what earlier mintings left: the key that died, and one whose making was not finished because keygate stopped.
    async fn delete_older(&self, user_id: &str, newest: &str) {
        let name = self.minted_name();
        let listed = self.core.as_administrator(&self.account.upstream, api_keys::list, api_keys::read_list).await;
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                tracing::warn!(account = %self.label(), %error, "older API keys of the name {name:?} could not be looked for at the upstream");
                return;
            }
        };
        for key in listed.iter().filter(|key| key.name == name && key.user_id == user_id && key.id != newest) {
            self.delete_or_say(&key.id).await;
        }
    }

    async fn delete_or_say(&self, id: &str) {
        if let Err(error) = self.delete_api_key(id).await {
            let name = self.minted_name();
            tracing::warn!(account = %self.label(), key = id, %error, "the API key {name:?} ({id}) stays behind at the upstream");
        }
    }

    async fn delete_api_key(&self, id: &str) -> Result<(), AdministratorError> {
        self.core.as_administrator(&self.account.upstream, |headers| api_keys::delete(headers, id), api_keys::read_deleted).await
    }

    /// Ends for good what a session was at the upstream: a minted API key is deleted, tried again for some minutes; anything else is logged out.
    pub(super) async fn end(&self, record: &SessionRecord) {
        let Some(id) = &record.minted_id else { return self.log_out(record).await };
        let (label, name) = (self.label(), self.minted_name());
        let mut pauses = DELETE_AGAIN.into_iter();
        loop {
            let error = match self.delete_api_key(id).await {
                Ok(()) => {
                    tracing::info!(account = %label, key = id, "deleted the account's API key {name:?} at the upstream");
                    return;
                }
                Err(error) => error,
            };
            let may_help = !matches!(error, AdministratorError::None(_));
            let Some(pause) = pauses.next().filter(|_| may_help) else {
                tracing::error!(account = %label, key = id, %error, "the API key {name:?} ({id}) of {label} stays behind at the upstream: delete it there by hand");
                return;
            };
            tracing::warn!(account = %label, key = id, %error, "the API key {name:?} of {label} could not be deleted at the upstream; next try in {} s", pause.as_secs());
            tokio::time::sleep(pause).await;
        }
    }
}

/// Whether what an account has at its upstream was made by the administrator.
pub(super) const fn is_minted(credential: &Credential) -> bool {
    matches!(credential, Credential::Minted { .. })
}
