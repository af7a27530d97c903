//! The sessions of an account, for operators: looking at them, and letting them go.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::keys::KeyId;
use crate::upstream::AccountId;
use crate::upstream::session::Sessions;
use crate::upstream::session::account::Slot;

/// One session, without its credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// The key that alone uses it; `None`: all of the account do.
    pub key: Option<KeyId>,
    /// Whether requests go out with it; else it is one of an earlier run that waits for its first use.
    pub is_live: bool,
    /// When its token was obtained; `None`: it is the account's own token.
    pub obtained_at: Option<Timestamp>,
    /// When that dies; `None`: not by time.
    pub expires_at: Option<Timestamp>,
}

impl Sessions {
    /// The sessions of an account, its own first.
    pub fn list(&self, id: AccountId) -> Vec<SessionView> {
        let Some(account) = self.core.accounts.load().get(&id).map(Arc::clone) else { return Vec::new() };
        let now = self.core.clock.now();
        let mut found: Vec<_> = account.slots.load().values().filter_map(|slot| view(slot, now)).collect();
        found.sort_by_key(|view| view.key);
        found
    }

    /// Lets all sessions of an account go, and ends them at the upstream in the background; the next request logs in anew. Gives how many
    /// there were.
    pub fn drop_all(&self, id: AccountId) -> usize {
        let Some(account) = self.core.accounts.load().get(&id).map(Arc::clone) else { return 0 };
        let now = self.core.clock.now();
        let (mut dropped, mut gone) = (0, Vec::new());
        let keys: Vec<_> = account.slots.load().keys().copied().collect();
        for slot in keys.into_iter().filter_map(|key| account.take_slot(key)) {
            dropped += usize::from(view(&slot, now).is_some());
            slot.live.store(None);
            gone.push(slot.id);
            self.core.spawn_log_out(&account, slot);
        }
        self.core.spawn_forget(id, gone, &account);
        dropped
    }
}

fn view(slot: &Slot, now: Timestamp) -> Option<SessionView> {
    let live = slot.live.load_full();
    let state = slot.state();
    let stored = state.record.as_ref().filter(|_| !state.is_dead);
    let expires_at = live.as_ref().map(|session| session.expires_at).or_else(|| Some(stored?.expires_at.unwrap_or(Timestamp::NEVER)))?;
    (expires_at > now).then(|| SessionView {
        key: slot.id.key,
        is_live: live.is_some(),
        obtained_at: stored.map(|record| record.obtained_at),
        expires_at: Some(expires_at).filter(|at| *at != Timestamp::NEVER),
    })
}
