//! The store of the tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;

use super::fakes::ACCOUNT;
use crate::audit::{Entry, Reading};
use crate::clock::Timestamp;
use crate::keys::KeyId;
use crate::keys::admin::AdminTokenRecord;
use crate::keys::record::{IndexEntry, KeyRecord};
use crate::secret::Secret;
use crate::store::acme::AcmeRecord;
use crate::store::records::{AccountRecord, HandoutRecord, SessionRecord};
use crate::store::{Change, Store, StoreError};
use crate::upstream::AccountId;
use crate::upstream::session::SessionId;
use crate::usage::record::{KeyUsage, LastUse, UpstreamUsage};

/// What it holds, and how it behaves.
#[derive(Default)]
pub(super) struct FakeStore {
    accounts: Mutex<BTreeMap<AccountId, AccountRecord>>,
    sessions: Mutex<BTreeMap<SessionId, SessionRecord>>,
    fails: Mutex<bool>,
    held: Mutex<()>,
    began: Notify,
    changed: Notify,
}

/// While this is there, no commit ends. Commits run on threads that may block.
pub(super) struct Held<'s> {
    _guard: MutexGuard<'s, ()>,
}

impl FakeStore {
    pub(super) fn fail_commits(&self, fails: bool) {
        *self.fails.lock().unwrap() = fails;
    }

    /// Commits wait until the guard is dropped.
    pub(super) fn hold_commits(&self) -> Held<'_> {
        Held { _guard: self.held.lock().unwrap() }
    }

    pub(super) async fn commit_begins(&self) {
        self.began.notified().await;
    }

    /// What the registry does before it tells the sessions.
    pub(super) fn put_account(&self, record: AccountRecord) {
        self.accounts.lock().unwrap().insert(record.id, record);
    }

    pub(super) fn account(&self) -> AccountRecord {
        self.accounts.lock().unwrap()[&ACCOUNT].clone()
    }

    pub(super) fn session(&self) -> Option<SessionRecord> {
        self.sessions.lock().unwrap().values().next().cloned()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.accounts.lock().unwrap().is_empty() && self.sessions.lock().unwrap().is_empty()
    }

    pub(super) async fn wait_until(&self, holds: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            if holds(self) {
                return;
            }
            changed.await;
        }
    }
}

impl Store for FakeStore {
    fn next_account(&self) -> Result<AccountId, StoreError> {
        Ok(AccountId(1000))
    }

    fn load_index(&self, _: &mut dyn FnMut(usize), _: &mut dyn FnMut(IndexEntry)) -> Result<usize, StoreError> {
        Ok(0)
    }

    fn accounts(&self) -> Result<Vec<AccountRecord>, StoreError> {
        Ok(self.accounts.lock().unwrap().values().cloned().collect())
    }

    fn sessions(&self) -> Result<Vec<SessionRecord>, StoreError> {
        Ok(self.sessions.lock().unwrap().values().cloned().collect())
    }

    fn handouts(&self) -> Result<Vec<HandoutRecord>, StoreError> {
        Ok(Vec::new())
    }

    fn acme(&self) -> Result<Vec<AcmeRecord>, StoreError> {
        Ok(Vec::new())
    }

    fn time_mark(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    fn admin_tokens(&self) -> Result<Vec<AdminTokenRecord>, StoreError> {
        Ok(Vec::new())
    }

    fn page_password(&self) -> Result<Option<Secret<String>>, StoreError> {
        Ok(None)
    }

    fn key(&self, _: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        Ok(None)
    }

    fn expiry_look(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(None)
    }

    fn usage(&self, _: KeyId) -> Result<Option<KeyUsage>, StoreError> {
        Ok(None)
    }

    fn visit_last_uses(&self, _: &mut dyn FnMut(KeyId, LastUse)) -> Result<(), StoreError> {
        Ok(())
    }

    fn totals(&self) -> Result<BTreeMap<String, UpstreamUsage>, StoreError> {
        Ok(BTreeMap::new())
    }

    fn read_audit(&self, _: Reading, _: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError> {
        Ok(())
    }

    fn visit_keys(&self, _: &mut dyn FnMut(KeyRecord) -> bool) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.began.notify_one();
        let _held = self.held.lock().unwrap();
        if *self.fails.lock().unwrap() {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(StoreError::Io { what: "write", path: "fake".into(), source: Box::new(source) });
        }
        for change in changes {
            match change {
                Change::PutAccount(record) => drop(self.accounts.lock().unwrap().insert(record.id, record)),
                Change::RemoveAccount(id) => {
                    self.accounts.lock().unwrap().remove(&id);
                    self.sessions.lock().unwrap().retain(|session, _| session.account != id);
                }
                Change::PutSession(record) => drop(self.sessions.lock().unwrap().insert(record.id, record)),
                Change::RemoveSession(id) => drop(self.sessions.lock().unwrap().remove(&id)),
                // What sessions write beside.
                _ => {}
            }
        }
        self.changed.notify_waiters();
        Ok(())
    }
}
