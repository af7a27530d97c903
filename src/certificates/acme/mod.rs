//! Certificates by ACME (RFC 8555): what is served before the first one comes, when the next is due, and the loop that gets it.
//!
//! [`Acme`] is what everybody asks: what to serve, and how things stand. [`keep`] is the one task that orders; it begins nothing at a start
//! while the certificate in the store is good. All that an order needs is made for it and forgotten with it, so that one that a restart cuts
//! off leaves nothing here; the ACME server forgets it by itself.
//!
//! Before the first certificate, a temporary one of keygate's own is served. Without any, a handshake would break off, and nobody could tell
//! that from a closed port or a wrong address, which are what keeps first certificates away; a browser that warns has at least come to the
//! right place, and who looks at the certificate reads what it waits for.

mod held;
mod hook;
mod https;
mod order;
mod reason;
mod remembered;
mod schedule;
mod stage;
mod vault;
mod worker;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

pub(in crate::certificates) use self::held::Held;
use crate::certificates::CertificateError;
use crate::clock::{Clock, Timestamp};
use crate::config::AcmeSettings;
use crate::store::Store;

use self::schedule::Window;
use self::vault::Vault;
pub use self::worker::keep;

/// How long [`Acme::renew`] waits for an order that takes its time.
const LONGEST_ORDER: Duration = Duration::from_secs(15 * 60);

/// Certificates by ACME, as they stand.
pub struct Acme {
    vault: Vault,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Somebody asked for a renewal.
    asked: Notify,
    /// Counts what was configured: an order for something else is of no use any more.
    generation: watch::Sender<u64>,
    /// Counts orders that ended, with how the last one did.
    ended: watch::Sender<(u64, Result<(), String>)>,
}

#[derive(Default)]
struct State {
    /// `None`: certificates come from elsewhere.
    settings: Option<Arc<AcmeSettings>>,
    held: Option<Arc<Held>>,
    failure: Option<Failure>,
    advice: Option<Advice>,
    is_asked: bool,
    is_running: bool,
}

/// Why there is no newer one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    count: u32,
    sentence: String,
    next: Timestamp,
}

/// What the ACME server thinks of a renewal.
#[derive(Clone, Debug)]
struct Advice {
    /// Of the certificate that it is about.
    fingerprint: String,
    window: Option<Window>,
    ask_again: Timestamp,
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Order,
    AskForAdvice,
    Nothing,
}

/// Why a renewal that was asked for brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum RenewError {
    /// Certificates come from elsewhere.
    #[error("certificates do not come from ACME: there is nothing to renew here")]
    NotAcme,
    /// The order failed.
    #[error("no new certificate: {0}")]
    Failed(String),
    /// It takes longer than anybody waits.
    #[error("the order is still under way: look at it with \"keygate tls show\"")]
    Slow,
}

impl Acme {
    /// Over a store. Nothing is asked for before [`keep`] runs.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            vault: Vault::new(store),
            clock,
            state: Mutex::default(),
            asked: Notify::new(),
            generation: watch::Sender::new(0),
            ended: watch::Sender::new((0, Ok(()))),
        })
    }

    /// What to serve with these settings now: the certificate that is kept for them, else the best of those that are good and have some of
    /// their names, else a temporary one. Blocking.
    pub(super) fn find(&self, settings: &AcmeSettings, now: Timestamp) -> Result<Arc<Held>, CertificateError> {
        let held = self.state().held.clone();
        if let Some(held) = held.as_ref().filter(|held| held.is_for(settings)) {
            return Ok(Arc::clone(held));
        }
        let stored = self.vault.certificates().map_err(CertificateError::Store)?;
        let mut good: Vec<_> = stored.iter().filter_map(|stored| Held::of(stored).map(Arc::new)).collect();
        if let Some(own) = good.iter().find(|kept| kept.is_for(settings)) {
            return Ok(Arc::clone(own));
        }
        good.extend(held.clone());
        let usefulness = |held: &Arc<Held>| (held.shared_names(settings), held.facts.not_after);
        let best = good.into_iter().filter(|held| !held.is_temporary() && held.facts.is_valid(now) && held.shared_names(settings) > 0);
        match (
            best.max_by_key(usefulness),
            held.filter(|held| held.is_temporary() && held.shared_names(settings) == settings.domains.len()),
        ) {
            (Some(best), _) => Ok(best),
            (None, Some(temporary)) => Ok(temporary),
            (None, None) => Ok(Arc::new(Held::temporary(&settings.domains, now)?)),
        }
    }

    /// What there is for these settings, without making anything. Blocking.
    pub(super) fn look(&self, settings: &AcmeSettings) -> Result<Option<Arc<Held>>, CertificateError> {
        let stored = self.vault.certificates().map_err(CertificateError::Store)?;
        let mut held = stored.iter().filter_map(Held::of);
        Ok(held.find(|held| held.is_for(settings)).map(Arc::new))
    }

    /// From now on, certificates for these settings are wanted, and this one is served. Blocking.
    pub(super) fn adopt(&self, settings: Option<(&AcmeSettings, Arc<Held>)>) {
        let mut state = self.state();
        let Some((settings, held)) = settings else {
            *state = State::default();
            drop(state);
            self.ended.send_modify(|ended| *ended = (ended.0 + 1, Err(RenewError::NotAcme.to_string())));
            return self.generation.send_modify(|generation| *generation += 1);
        };
        state.held = Some(held);
        if state.settings.as_deref() != Some(settings) {
            // What was wrong may be right now; but a start alone makes nothing right.
            let is_start = state.settings.is_none();
            state.settings = Some(Arc::new(settings.clone()));
            state.failure = if is_start { self.remembered(settings, &state) } else { None };
            drop(state);
            self.generation.send_modify(|generation| *generation += 1);
        }
    }

    /// What is served.
    pub(super) fn held(&self) -> Option<Arc<Held>> {
        self.state().held.clone()
    }

    /// Why there is no newer one, and when that is tried again.
    pub(super) fn problem(&self) -> Option<String> {
        let state = self.state();
        let failure = state.failure.as_ref()?;
        let count = failure.count;
        let tries = if count == 1 { String::new() } else { format!("; failed {count} times") };
        Some(format!("{}{tries}; next try at {}", failure.sentence, failure.next))
    }

    /// How things stand, as a sentence.
    pub(super) fn standing(&self) -> Option<String> {
        let state = self.state();
        let (settings, held) = (state.settings.as_ref()?, state.held.as_ref()?);
        let host = host(settings);
        let what = match (held.is_temporary(), held.is_for(settings)) {
            (true, _) => "a temporary certificate, which clients refuse, until the first one comes",
            (false, false) => "the certificate of before, until one for the configured names comes",
            (false, true) if !state.is_running => return state.due(self.clock.now()).map(|due| format!("renewed at about {due}")),
            (false, true) => "the certificate of before, until its successor comes",
        };
        let now = if state.is_running { "is asked for it now" } else { "is asked for it" };
        Some(format!("{what}; {host} {now}, for {} by {}", settings.domains.join(", "), settings.challenge.as_str()))
    }

    /// Orders a new certificate now, whatever is due, and waits for it. One that is being ordered already is waited for.
    ///
    /// # Errors
    /// [`RenewError`].
    pub async fn renew(&self) -> Result<(), RenewError> {
        let mut ended = self.ended.subscribe();
        let before = ended.borrow_and_update().0;
        {
            let mut state = self.state();
            if state.settings.is_none() {
                return Err(RenewError::NotAcme);
            }
            state.is_asked = !state.is_running;
        }
        self.asked.notify_one();
        let over = tokio::time::timeout(LONGEST_ORDER, ended.wait_for(|ended| ended.0 != before)).await;
        match over {
            Ok(Ok(ended)) => ended.1.clone().map_err(RenewError::Failed),
            Ok(Err(_)) | Err(_) => Err(RenewError::Slow),
        }
    }

    fn task(&self, now: Timestamp) -> Task {
        self.state().task(now)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn task(&self, now: Timestamp) -> Task {
        let Some(due) = self.due(now) else { return Task::Nothing };
        if self.is_asked {
            return Task::Order;
        }
        if let Some(failure) = &self.failure {
            return if failure.next <= now { Task::Order } else { Task::Nothing };
        }
        if due <= now {
            return Task::Order;
        }
        let is_fresh = self.advice.as_ref().is_some_and(|advice| self.is_about_held(advice) && now < advice.ask_again);
        if is_fresh { Task::Nothing } else { Task::AskForAdvice }
    }

    /// When another certificate is needed; `None`: never, by ACME.
    fn due(&self, now: Timestamp) -> Option<Timestamp> {
        let (settings, held) = (self.settings.as_ref()?, self.held.as_ref()?);
        if held.is_temporary() || !held.is_for(settings) {
            return Some(now);
        }
        let window = self.advice.as_ref().filter(|advice| self.is_about_held(advice)).and_then(|advice| advice.window);
        let rested = held.obtained_at.plus(schedule::pause(&held.facts));
        Some(schedule::due(&held.facts, window).max(rested))
    }

    fn is_about_held(&self, advice: &Advice) -> bool {
        self.held.as_ref().is_some_and(|held| held.facts.fingerprint == advice.fingerprint)
    }
}

/// The ACME server, for people.
fn host(settings: &AcmeSettings) -> &str {
    let rest = settings.directory.strip_prefix("https://").unwrap_or(&settings.directory);
    rest.split('/').next().unwrap_or(rest)
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Acme").field("settings", &state.settings).field("held", &state.held).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
