//! Writing sessions and account states, in order: one writer at a time, off the request path.
//!
//! The registry writes accounts too. It commits first and tells [`super::Sessions`] after it, so a flight can write an account's
//! record in between, from what it knew. Whoever notices then writes the newer one once more; the writes are idempotent.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::audit::{self, Act, Actor, Field, Value, Verb};
use crate::store::records::{AccountRecord, SessionRecord};
use crate::store::{Change, StoreError};
use crate::upstream::AccountId;
use crate::upstream::session::account::{Account, Place};
use crate::upstream::session::core::Core;
use crate::upstream::session::{SessionError, SessionId};

impl Core {
    async fn commit(&self, changes: Vec<Change>) -> Result<(), String> {
        if changes.is_empty() {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        let written = self.control.spawn_blocking(move || store.commit(changes)).await;
        written.map_err(|error| error.to_string())?.map_err(|error: StoreError| error.to_string())
    }

    /// Makes a session durable, together with its account's record if that changed. `Ok(false)`: it came too late, its slot is gone.
    ///
    /// # Errors
    /// The store's words.
    pub(super) async fn keep(&self, place: &Place, session: &SessionRecord, account: Option<AccountRecord>) -> Result<bool, String> {
        let _order = self.writer.lock().await;
        if !self.is_current(place) {
            return Ok(false);
        }
        let mut changes = vec![Change::PutSession(session.clone())];
        if let Some(record) = account {
            place.account.wrote_record.store(true, Ordering::SeqCst);
            changes.extend(self.told(&place.account.record.load(), &record));
            changes.push(Change::PutAccount(record));
        }
        self.commit(changes).await?;
        if self.is_current(place) {
            return Ok(true);
        }
        self.repair(session.id.account, &[session.id], &place.account).await?;
        Ok(false)
    }

    /// Writes an account's record: its broken state. `before`: what it was, where the audit log is to say so.
    pub(super) async fn keep_account(&self, account: &Arc<Account>, before: Option<&AccountRecord>) {
        let _order = self.writer.lock().await;
        let record = account.record.load_full();
        if !self.is_current_account(account) {
            return;
        }
        account.wrote_record.store(true, Ordering::SeqCst);
        let told = before.and_then(|before| self.told(before, &record));
        let changes = std::iter::once(Change::PutAccount(AccountRecord::clone(&record))).chain(told);
        let mut written = self.commit(changes.collect()).await;
        if !self.is_current_account(account) {
            written = self.repair(record.id, &[], account).await;
        }
        if let Err(error) = written {
            tracing::error!(account = %account.label(), error, "the state of the account could not be stored; it holds until the next start");
        }
    }

    /// After an operator changed an account's record: a flight that wrote an older one in between must not have the last word.
    pub(super) fn keep_changed(self: &Arc<Self>, account: Arc<Account>) {
        if account.wrote_record.load(Ordering::SeqCst) {
            let core = Arc::clone(self);
            self.control.spawn(async move { core.keep_account(&account, None).await });
        }
    }

    /// A line of the audit log, where an account broke or was cured.
    fn told(&self, before: &AccountRecord, after: &AccountRecord) -> Option<Change> {
        let verb = match (&before.broken, &after.broken) {
            (None, Some(_)) => Verb::Broken,
            (Some(_), None) => Verb::Cured,
            _ => return None,
        };
        Some(Change::Audit(audit::of_account(verb, before, after).by(&Actor::Gateway, self.clock.now())))
    }

    /// Notes in the audit log that an account's logins fail, or that they work again; each once.
    pub(super) fn note_logins(self: &Arc<Self>, account: &Account, failure: Option<&SessionError>) {
        if account.is_failing.swap(failure.is_some(), Ordering::Relaxed) == failure.is_some() {
            return;
        }
        let verb = if failure.is_some() { Verb::LoginFailed } else { Verb::LoginRecovered };
        let why = failure.map(|error| Field::new("why", Value::text(&error.to_string())));
        let record = account.record.load();
        let line = Act::new(verb, record.as_ref().into()).with(why).by(&Actor::Gateway, self.clock.now());
        let core = Arc::clone(self);
        self.control.spawn(async move {
            if let Err(error) = core.commit(vec![Change::Audit(line)]).await {
                tracing::warn!(error, "the audit log could not be written");
            }
        });
    }

    /// After slots were taken away: their sessions leave the store.
    pub(super) async fn forget(&self, account: AccountId, gone: Vec<SessionId>, before: Arc<Account>) {
        let _order = self.writer.lock().await;
        if let Err(error) = self.repair(account, &gone, &before).await {
            tracing::error!(account = %before.label(), error, "sessions that ended could not be removed from the store");
        }
    }

    /// Makes the store agree with memory about an account that changed under a flight's hands.
    async fn repair(&self, id: AccountId, gone: &[SessionId], before: &Arc<Account>) -> Result<(), String> {
        let now = self.accounts.load().get(&id).map(Arc::clone);
        let mut changes = Vec::new();
        match &now {
            None => changes.push(Change::RemoveAccount(id)),
            Some(account) => {
                if !Arc::ptr_eq(account, before) && before.wrote_record.swap(false, Ordering::SeqCst) {
                    changes.push(Change::PutAccount(AccountRecord::clone(&account.record.load())));
                }
                let is_used = |id: &SessionId| account.slots.load().get(&id.key).is_some_and(|slot| slot.state().record.is_some());
                changes.extend(gone.iter().filter(|id| !is_used(id)).map(|id| Change::RemoveSession(*id)));
            }
        }
        self.commit(changes).await
    }
}
