//! Who comes in at the admin listener: programs with an admin token, people with the page's password. What fails is counted by
//! address, and too many failures are answered 429 for a while; a good token is looked up first and always passes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::admin::error::AdminError;
use crate::admin::page_sessions::{PageSessions, Session, SessionLimits};
use crate::admin::{Actor, Admin, password, write_down};
use crate::audit::{Act, Object, Verb};
use crate::clock::Clock;
use crate::gateway::guessing::{ALL_GUESSES, GUESSES, Rate, Throttle, network};
use crate::keys::admin::{AdminScope, AdminToken};
use crate::secret::Secret;

/// How long a login to the page lasts where nothing else is configured.
pub const SESSION_LIMITS: SessionLimits = SessionLimits { lifetime: Duration::from_secs(12 * 3600), idle: Duration::from_secs(3600) };
/// Wrong passwords of one address: 5 at once, and one more every 30 s.
const PASSWORDS: Rate = Rate { burst: 5, interval: Duration::from_secs(30) };
/// All addresses together have no limit: a stranger with many of them could keep the owner out. Their cost has one, since only one
/// password is tried at a time.
const ALL_PASSWORDS: Rate = Rate { burst: u32::MAX, interval: Duration::from_nanos(1) };
/// How long a login waits for those before it.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(10);

/// What somebody who was recognised may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights(Arc<[AdminScope]>);

impl Rights {
    /// Those of the socket, and of whoever knows the page's password.
    pub fn all() -> Self {
        Self(Arc::new([AdminScope::All]))
    }

    /// Those of programs on this machine, where they may read metrics without a token: nothing else asks for so little.
    pub(super) fn to_read() -> Self {
        Self(Arc::new([AdminScope::Read]))
    }

    /// The names of the scopes.
    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().map(|scope| scope.as_str().to_owned()).collect()
    }

    /// Whether they suffice for what needs this scope.
    pub fn may(&self, needed: AdminScope) -> bool {
        self.0.iter().any(|scope| scope.covers(needed))
    }
}

/// Where a request to the admin listener comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The other end of the connection.
    pub address: IpAddr,
    /// This end.
    pub local: IpAddr,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
}

/// What the admin listener knows of visitors.
pub(super) struct Door {
    pub(super) sessions: PageSessions,
    guesses: Throttle,
    passwords: Throttle,
    /// One password at a time: each takes 19 MiB.
    hashing: Semaphore,
}

impl Door {
    pub(super) fn new(clock: &Arc<dyn Clock>, limits: SessionLimits) -> Self {
        Self {
            sessions: PageSessions::new(Arc::clone(clock), limits),
            guesses: Throttle::new(Arc::clone(clock), GUESSES, ALL_GUESSES),
            passwords: Throttle::new(Arc::clone(clock), PASSWORDS, ALL_PASSWORDS),
            hashing: Semaphore::new(1),
        }
    }
}

impl Admin {
    /// The logins to the page.
    pub fn page_sessions(&self) -> &PageSessions {
        &self.door.sessions
    }

    /// Recognises an admin token. Unknown, revoked and expired ones look the same from outside.
    ///
    /// # Errors
    /// [`AdminError::Unauthorised`], [`AdminError::TooOften`], or that the store failed.
    pub(super) async fn recognise(self: &Arc<Self>, text: &str, address: IpAddr) -> Result<(Actor, Rights), AdminError> {
        let recognised = self.look_up(text, address).await;
        match &recognised {
            Err(AdminError::Unauthorised(_)) => self.refused_at_the_door("bad-admin-token", address).await?,
            Err(AdminError::TooOften(_)) => self.refused_at_the_door("too-many-bad-admin-tokens", address).await?,
            _ => {}
        }
        recognised
    }

    async fn look_up(self: &Arc<Self>, text: &str, address: IpAddr) -> Result<(Actor, Rights), AdminError> {
        let Ok(token) = AdminToken::parse(text) else {
            let what = if text.starts_with("kg_") { "an API key, which is for media servers" } else { "not an admin token" };
            return Err(self.no_entry(address, what));
        };
        let found = self.blocking(move |admin| Ok(admin.registry.find_admin_token(&token)?)).await?;
        match found {
            Some(record) if record.is_good(self.clock.now()) => {
                let id = record.id;
                // A full disk must not lock programs out that only want to look.
                if let Err(error) = self.blocking(move |admin| Ok(admin.registry.admin_token_used(id)?)).await {
                    tracing::warn!(token_id = %id, %error, "the use of admin token {id} could not be written down: {error}");
                }
                Ok((Actor::Token { id, address }, Rights(record.scopes.into())))
            }
            Some(record) if record.revoked_at.is_some() => Err(self.no_entry(address, "revoked")),
            Some(_) => Err(self.no_entry(address, "expired")),
            None => Err(self.no_entry(address, "unknown")),
        }
    }

    fn no_entry(&self, address: IpAddr, why: &str) -> AdminError {
        match self.door.guesses.count(address) {
            Ok(()) => {
                tracing::warn!(client = %address, why, "an admin token from {address} was refused: {why}");
                AdminError::Unauthorised("this is not a good admin token (keygate admin tokens list shows those that are)".to_owned())
            }
            Err(too_often) => AdminError::TooOften(too_often.retry_after_secs),
        }
    }

    /// Logs a person in. Gives what the browser must keep, for [`set_cookie`].
    ///
    /// # Errors
    /// [`AdminError::Unauthorised`] for a wrong password, [`AdminError::NoPassword`] when none was ever set, [`AdminError::TooOften`]
    /// after wrong ones, or that the store failed.
    pub async fn log_in(self: &Arc<Self>, password: Secret<String>, address: IpAddr) -> Result<(Secret<String>, Session), AdminError> {
        let begun = self.try_to_log_in(password, address).await;
        match &begun {
            // A wrong one has a line of its own.
            Err(AdminError::TooOften(_)) => self.refused_at_the_door("too-many-logins-to-the-page", address).await?,
            Err(AdminError::NoPassword) => self.refused_at_the_door("no-page-password", address).await?,
            _ => {}
        }
        begun
    }

    /// Notes it for the audit log, where such things are gathered: whoever tries again and again fills no disk.
    async fn refused_at_the_door(self: &Arc<Self>, kind: &'static str, address: IpAddr) -> Result<(), AdminError> {
        self.noted(move |admin| {
            if let Some(usage) = &admin.usage {
                usage.refused(kind, network(address));
            }
        })
        .await
    }

    async fn try_to_log_in(self: &Arc<Self>, password: Secret<String>, address: IpAddr) -> Result<(Secret<String>, Session), AdminError> {
        let may_try = || self.door.passwords.check(address).map_err(|too_often| AdminError::TooOften(too_often.retry_after_secs));
        may_try()?;
        let waiting = tokio::time::timeout(WAIT_FOR_OTHERS, self.door.hashing.acquire());
        let _turn = waiting.await.map_err(|_| AdminError::TooOften(WAIT_FOR_OTHERS.as_secs()))?;
        // Those before may have been of the same address.
        may_try()?;
        let is_right = self.blocking(move |admin| {
            let hash = admin.registry.page_password().map_err(crate::registry::RegistryError::Store)?.ok_or(AdminError::NoPassword)?;
            password::is_right(&admin.registry.peppered(&password), &hash)
        });
        if !is_right.await? {
            // What is above the limit was refused before.
            let _ = self.door.passwords.count(address);
            tracing::warn!(client = %address, "a wrong password for the admin page came from {address}");
            self.noted(move |admin| write_down(&admin.registry, Act::new(Verb::SignInFailed, Object::client(address)))).await?;
            return Err(AdminError::Unauthorised("the password is wrong".to_owned()));
        }
        let begun = self.door.sessions.begin(address);
        let (id, session) = begun.map_err(|error| AdminError::Failed(format!("the operating system gives no random bytes: {error}")))?;
        tracing::info!(client = %address, session = session.number, "somebody logged in to the admin page from {address}");
        let (number, actor) = (session.number, Actor::Page { session: session.number, address });
        self.noted(move |admin| admin.recorded(Act::new(Verb::SignedIn, Object::page_session(number)), actor)).await?;
        Ok((id, session))
    }

    /// Ends a login to the page; `false`: there was none of this number.
    ///
    /// # Errors
    /// [`AdminError`] when a task died.
    pub async fn end_page_session(self: &Arc<Self>, number: u64, actor: Actor) -> Result<bool, AdminError> {
        let is_ended = self.door.sessions.end(number);
        if is_ended {
            tracing::info!(session = number, %actor, "login {number} to the admin page ended by {actor}");
            self.noted(move |admin| admin.recorded(Act::new(Verb::Closed, Object::page_session(number)), actor)).await?;
        }
        Ok(is_ended)
    }

    async fn noted(self: &Arc<Self>, note: impl FnOnce(&Self) + Send + 'static) -> Result<(), AdminError> {
        self.blocking(move |admin| {
            note(admin);
            Ok(())
        })
        .await
    }

    /// Whether the page has a password; without one nobody can log in.
    ///
    /// # Errors
    /// [`AdminError`] when the store failed.
    pub async fn has_page_password(self: &Arc<Self>) -> Result<bool, AdminError> {
        self.blocking(|admin| Ok(admin.registry.page_password().map_err(crate::registry::RegistryError::Store)?.is_some())).await
    }

    /// Sets the page's password and ends all of its sessions. Blocking.
    pub(super) fn set_page_password(&self, password: &Secret<String>, actor: Actor) -> Result<usize, AdminError> {
        password::check(password)?;
        let hash = password::hash(&self.registry.peppered(password))?;
        // Whatever becomes of the writing: who knew the old one is out.
        let ended = self.door.sessions.end_all();
        self.acting(actor).set_page_password(hash)?;
        let ended = ended + self.door.sessions.end_all();
        tracing::info!(%actor, ended, "the password of the admin page was set by {actor}; {ended} sessions ended");
        Ok(ended)
    }
}

/// The cookie's name. With the prefix, browsers take it from this very host and over TLS only (RFC 6265bis, section 4.1.3.2).
pub const fn cookie_name(is_tls: bool) -> &'static str {
    if is_tls { "__Host-keygate" } else { "keygate" }
}

/// The line that makes a browser keep a session's id, or forget it (`None`).
pub fn set_cookie(id: Option<&Secret<String>>, visit: Visit, limits: SessionLimits) -> String {
    let (name, secure) = (cookie_name(visit.is_tls), if visit.is_tls { "; Secure" } else { "" });
    let (value, age) = id.map_or(("", 0), |id| (id.expose().as_str(), limits.lifetime.as_secs()));
    format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
}
