//! Accounts and the slots of their sessions, in memory.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use rustc_hash::FxHashMap;

use crate::keys::KeyId;
use crate::store::records::{AccountRecord, SessionRecord};
use crate::upstream::dialect::{Device, TokenState};
use crate::upstream::session::gate::Gate;
use crate::upstream::session::{LoggedIn, Session, SessionError, SessionId};

/// What a flight brings back to everybody who waits for it.
pub(super) type Outcome = Result<Arc<Session>, SessionError>;
/// The end of a flight, once it is there.
pub(super) type Landing<T> = watch::Receiver<Option<T>>;

/// An account. A changed credential makes a new one, so that a flight of the old one can see that it came too late.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) record: ArcSwap<AccountRecord>,
    pub(super) slots: ArcSwap<FxHashMap<Option<KeyId>, Arc<Slot>>>,
    gate: Mutex<Gate>,
    /// One login at a time: the second key must not try a password that was just refused to the first.
    pub(super) login: tokio::sync::Mutex<()>,
    /// Whether a flight wrote the account's record: then a concurrent writer's may have been lost.
    pub(super) wrote_record: AtomicBool,
    /// Whether the latest login failed: the audit log hears of the first failure and of the end of them.
    pub(super) is_failing: AtomicBool,
}

/// The place of one session.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: SessionId,
    /// What requests use.
    pub(super) live: ArcSwapOption<Session>,
    /// How the session introduces itself; made at its first flight.
    pub(super) device: OnceLock<Device>,
    state: Mutex<SlotState>,
}

/// All that only flights look at.
#[derive(Debug, Default)]
pub(super) struct SlotState {
    pub(super) flight: Option<Landing<Outcome>>,
    pub(super) probe: Option<ProbeFlight>,
    /// What the store holds.
    pub(super) record: Option<SessionRecord>,
    /// Granted by the upstream, but not durable yet: nobody may use it before it is.
    pub(super) pending: Option<SessionRecord>,
    /// The upstream called the record's token dead.
    pub(super) is_dead: bool,
    /// When the last grant came (monotonic).
    pub(super) granted_at: Option<Duration>,
    /// What the last grant said.
    pub(super) logged_in: Option<LoggedIn>,
}

/// A probe of one generation, running or done.
#[derive(Debug)]
pub(super) struct ProbeFlight {
    pub(super) generation: u64,
    pub(super) landing: Landing<Probed>,
}

/// What a probe found, and when (monotonic).
#[derive(Clone, Debug)]
pub(super) struct Probed {
    pub(super) at: Duration,
    pub(super) found: Result<TokenState, SessionError>,
}

/// A slot of an account: where a flight works.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) account: Arc<Account>,
    pub(super) slot: Arc<Slot>,
}

impl Account {
    pub(super) fn new(record: AccountRecord) -> Self {
        Self {
            gate: Mutex::new(Gate::new(record.broken.clone())),
            record: ArcSwap::from_pointee(record),
            slots: ArcSwap::default(),
            login: tokio::sync::Mutex::new(()),
            wrote_record: AtomicBool::new(false),
            is_failing: AtomicBool::new(false),
        }
    }

    pub(super) fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what a flight learnt, and nothing else: an operator may have changed the rest meanwhile.
    pub(super) fn learn(&self, record: &AccountRecord) {
        let learnt = |now: &Arc<AccountRecord>| AccountRecord {
            user_id: record.user_id.clone(),
            broken: record.broken.clone(),
            ..AccountRecord::clone(now)
        };
        self.record.rcu(learnt);
    }

    /// The slot of a key (or of the account itself), made when it is not there.
    pub(super) fn slot(&self, key: Option<KeyId>) -> Arc<Slot> {
        if let Some(slot) = self.slots.load().get(&key) {
            return Arc::clone(slot);
        }
        let made = Arc::new(Slot::new(SessionId { account: self.record.load().id, key }));
        self.slots.rcu(|slots| {
            let mut slots = FxHashMap::clone(slots);
            slots.entry(key).or_insert_with(|| Arc::clone(&made));
            slots
        });
        self.slots.load().get(&key).map_or(made, Arc::clone)
    }

    /// Takes a slot out.
    pub(super) fn take_slot(&self, key: Option<KeyId>) -> Option<Arc<Slot>> {
        let before = self.slots.rcu(|slots| {
            let mut slots = FxHashMap::clone(slots);
            slots.remove(&key);
            slots
        });
        before.get(&key).map(Arc::clone)
    }

    /// Stops everything: no session of a broken account is used any more.
    pub(super) fn stop(&self) {
        for slot in self.slots.load().values() {
            slot.live.store(None);
        }
    }

    /// `upstream/name`, as operators write it.
    pub(super) fn label(&self) -> String {
        self.record.load().full_name()
    }
}

impl Slot {
    pub(super) fn new(id: SessionId) -> Self {
        Self { id, live: ArcSwapOption::empty(), device: OnceLock::new(), state: Mutex::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotState {
    /// The flight that is in the air. One that ended without an outcome (its task was torn down) is none.
    pub(super) fn flying(&self) -> Option<Landing<Outcome>> {
        self.flight.as_ref().filter(|landing| landing.has_changed().is_ok()).cloned()
    }
}

/// How a session introduces itself. The account's own has the account's device id; one of a key has an id derived from both, so
/// that it is the same after a restart and another one for each key.
pub(super) fn device(account: &AccountRecord, key: Option<(KeyId, Option<String>)>) -> Device {
    let Some((key, name)) = key else {
        return Device { client: "keygate".to_owned(), id: account.device_id.clone() };
    };
    let hash = Sha256::digest(format!("{}/{key}", account.device_id));
    let id = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Device { client: clean(name.as_deref().unwrap_or_default()), id }
}

/// A key's name as a client name: [`Device`] says what may stand in one. At most 64 characters.
fn clean(name: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | ' ');
    let cleaned: String = name.chars().take(64).map(|letter| if is_plain(letter) { letter } else { '-' }).collect();
    let cleaned = cleaned.trim();
    if cleaned.chars().any(|letter| letter.is_ascii_alphanumeric()) { cleaned.to_owned() } else { "keygate".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_name_of_a_key_can_break_out_of_a_structured_header(name in ".*") {
            let cleaned = clean(&name);
            prop_assert!((1..=64).contains(&cleaned.len()));
            prop_assert!(cleaned.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-. ".contains(&byte)));
        }
    }

    #[test]
    fn a_name_without_any_letter_becomes_the_programs() {
        assert_eq!(clean("„“"), "keygate");
        assert_eq!(clean("Anna's phone, \"new\""), "Anna-s phone- -new-");
    }
}
