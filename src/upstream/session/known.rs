//! What is known of each upstream's credentials: the set that no answer may hold, compiled, read without a lock.
//!
//! Whoever changes an account or a session has the set made anew *before* the change is used, so that no answer goes out with a token
//! that the set does not have yet. What left the accounts stays in it for a while: answers that began with it may still be under way,
//! and a token that was replaced often lives on at the upstream.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;

use crate::scrub::Secrets;
use crate::secret::Secret;
use crate::upstream::client::Upstream;
use crate::upstream::session::account::Account;
use crate::upstream::session::core::Core;
use crate::upstream::{Credential, UpstreamName};

/// How long a credential stays in the set after it left its account.
const KEPT_AFTER: Duration = Duration::from_secs(2 * 3600);
/// Shorter tokens are no secrets, and would be found in the midst of words.
const SHORTEST_TOKEN: usize = 8;
/// Passwords are chosen by people, and a word of the library's must not be taken for one. No media server shows a password anyway.
const SHORTEST_PASSWORD: usize = 10;

/// The sets of all upstreams.
#[derive(Default)]
pub(super) struct Known {
    sets: ArcSwap<FxHashMap<UpstreamName, Arc<Secrets>>>,
    /// Counts changes: whoever waits while another one builds finds its own change built as well.
    changes: AtomicU64,
    builder: Mutex<Builder>,
}

#[derive(Default)]
struct Builder {
    /// The change up to which the sets are built.
    built: u64,
    upstreams: FxHashMap<UpstreamName, Vec<Remembered>>,
}

/// A credential, and since when (monotonic) no account has it any more.
struct Remembered {
    text: Secret<String>,
    gone_since: Option<Duration>,
}

impl Known {
    /// The set of an upstream.
    pub(super) fn of(&self, upstream: &Upstream) -> Arc<Secrets> {
        self.sets.load().get(&upstream.name).map_or_else(|| Arc::new(compile(upstream, &[])), Arc::clone)
    }
}

impl Core {
    /// Has the sets hold what accounts and sessions hold now. Many who change something at once share one building.
    pub(super) async fn know(&self) {
        let change = self.known.changes.fetch_add(1, Ordering::SeqCst) + 1;
        // Flights that are ready as well note their own changes first.
        tokio::task::yield_now().await;
        self.build_up_to(change);
    }

    /// The same for callers that do not wait.
    pub(super) fn know_now(&self) {
        let change = self.known.changes.fetch_add(1, Ordering::SeqCst) + 1;
        self.build_up_to(change);
    }

    fn build_up_to(&self, change: u64) {
        let mut builder = self.known.builder.lock().unwrap_or_else(PoisonError::into_inner);
        if builder.built >= change {
            return;
        }
        builder.built = self.known.changes.load(Ordering::SeqCst);
        let now = self.clock.monotonic();
        let mut current: FxHashMap<UpstreamName, Vec<Secret<String>>> = FxHashMap::default();
        for account in self.accounts.load().values() {
            credentials(account, current.entry(account.record.load().upstream.clone()).or_default());
        }
        let mut sets = FxHashMap::default();
        for (name, upstream) in self.upstreams.load().iter() {
            let remembered = builder.upstreams.remove(name).unwrap_or_default();
            let remembered = merged(current.remove(name).unwrap_or_default(), remembered, now);
            sets.insert(name.clone(), Arc::new(compile(upstream, &remembered)));
            builder.upstreams.insert(name.clone(), remembered);
        }
        self.known.sets.store(Arc::new(sets));
    }
}

fn compile(upstream: &Upstream, remembered: &[Remembered]) -> Secrets {
    let origins = ["http", "https"].map(|scheme| format!("{scheme}://{}", upstream.address()));
    Secrets::new(upstream.kind, remembered.iter().map(|remembered| &remembered.text), &origins)
}

/// All credentials of an account: its own, and those of its sessions, used, stored or just granted.
fn credentials(account: &Account, all: &mut Vec<Secret<String>>) {
    let mut add = |token: &Secret<String>| {
        if token.expose().len() >= SHORTEST_TOKEN {
            all.push(token.clone());
        }
    };
    match &account.record.load().credential {
        Credential::Token(token) => add(token),
        Credential::Password(password) if is_telling(password.expose()) => add(password),
        // A minted one has nothing but its sessions.
        Credential::Password(_) | Credential::Minted { .. } => {}
    }
    for slot in account.slots.load().values() {
        if let Some(session) = slot.live.load().as_ref() {
            session.own.iter().for_each(&mut add);
        }
        let state = slot.state();
        for record in state.record.iter().chain(&state.pending) {
            record.credentials().for_each(&mut add);
        }
    }
}

/// Whether a password cannot be taken for a word: long, and with more than letters of one case in it.
fn is_telling(password: &str) -> bool {
    let is_word = password.bytes().all(|byte| byte.is_ascii_lowercase()) || password.bytes().all(|byte| byte.is_ascii_digit());
    password.len() >= SHORTEST_PASSWORD && !is_word
}

/// What accounts have now, and what they had until lately.
fn merged(mut current: Vec<Secret<String>>, before: Vec<Remembered>, now: Duration) -> Vec<Remembered> {
    current.sort_unstable_by(|a, b| a.expose().cmp(b.expose()));
    current.dedup_by(|a, b| a.expose() == b.expose());
    let is_current = |text: &str| current.binary_search_by(|known| known.expose().as_str().cmp(text)).is_ok();
    let gone = before.into_iter().filter(|old| !is_current(old.text.expose())).map(|old| (old.gone_since.unwrap_or(now), old.text));
    let kept: Vec<_> = gone.filter(|(since, _)| now.saturating_sub(*since) < KEPT_AFTER).collect();
    let mut all: Vec<_> = current.into_iter().map(|text| Remembered { text, gone_since: None }).collect();
    all.extend(kept.into_iter().map(|(since, text)| Remembered { text, gone_since: Some(since) }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(all: &[Remembered]) -> Vec<&str> {
        all.iter().map(|remembered| remembered.text.expose().as_str()).collect()
    }

    #[test]
    fn a_credential_that_was_replaced_stays_known_for_two_hours() {
        let hours = |count: u64| Duration::from_secs(count * 3600);
        let known = merged(vec![Secret::from("one"), Secret::from("one")], Vec::new(), hours(1));
        assert_eq!(texts(&known), ["one"]);
        let known = merged(vec![Secret::from("two")], known, hours(9));
        assert_eq!(texts(&known), ["two", "one"], "counted from when it was replaced");
        let known = merged(vec![Secret::from("two")], known, hours(10));
        assert_eq!(texts(&known), ["two", "one"]);
        let known = merged(vec![Secret::from("two")], known, hours(11));
        assert_eq!(texts(&known), ["two"], "and no longer");
    }

    #[test]
    fn a_password_that_may_be_a_word_is_not_looked_for() {
        assert!(is_telling("alice-password") && is_telling("Tr0ub4dor&3"));
        assert!(!is_telling("audiobookshelf") && !is_telling("0123456789") && !is_telling("a-b"));
    }
}
