//! A store that forgets: for tests, with failures on demand.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// When a commit that is to fail does so: a caller must be right in both cases, for it cannot tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was written.
    Before,
    /// All was written, and the caller does not learn of it.
    After,
}

/// Keeps everything in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keys: BTreeMap<KeyId, KeyRecord>,
    accounts: BTreeMap<AccountId, AccountRecord>,
    sessions: BTreeMap<SessionId, SessionRecord>,
    handouts: BTreeMap<[u8; 32], HandoutRecord>,
    acme: BTreeMap<[u8; 32], AcmeRecord>,
    next_account: u32,
    time_mark: Option<Timestamp>,
    admin_tokens: BTreeMap<KeyId, AdminTokenRecord>,
    page_password: Option<Secret<String>>,
    commits: u64,
    faults: BTreeMap<u64, Fault>,
}

impl MemoryStore {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the `nth` commit from now on fail; 1 is the next one.
    pub fn fail_commit(&self, nth: u64, fault: Fault) {
        let mut state = self.state();
        let number = state.commits + nth;
        state.faults.insert(number, fault);
    }

    /// How many commits were tried.
    pub fn commits(&self) -> u64 {
        self.state().commits
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self, change: Change) {
        match change {
            Change::PutKey(record) => {
                self.keys.insert(record.id, record);
            }
            Change::PutAccount(record) => {
                self.next_account = self.next_account.max(record.id.0.saturating_add(1));
                self.accounts.insert(record.id, record);
            }
            Change::RemoveAccount(id) => {
                self.accounts.remove(&id);
                self.sessions.retain(|session, _| session.account != id);
            }
            Change::PutSession(record) => {
                self.sessions.insert(record.id, record);
            }
            Change::RemoveSession(id) => {
                self.sessions.remove(&id);
            }
            Change::PutHandout(record) => {
                self.handouts.insert(*record.digest.as_bytes(), record);
            }
            Change::RemoveHandout(digest) => {
                self.handouts.remove(digest.as_bytes());
            }
            Change::PutAcme(record) => {
                self.acme.insert(record.id(), record);
            }
            Change::RemoveAcme(id) => {
                self.acme.remove(&id);
            }
            Change::MarkTime(mark) => self.time_mark = Some(mark),
            Change::PutAdminToken(record) => {
                self.admin_tokens.insert(record.id, record);
            }
            Change::PutPagePassword(hash) => self.page_password = Some(hash),
        }
    }
}

impl Store for MemoryStore {
    fn load_index(&self, capacity: &mut dyn FnMut(usize), visit: &mut dyn FnMut(IndexEntry)) -> Result<usize, StoreError> {
        let entries: Vec<IndexEntry> = self.state().keys.values().flat_map(KeyRecord::index_entries).collect();
        let count = entries.len();
        capacity(count);
        entries.into_iter().for_each(visit);
        Ok(count)
    }

    fn next_account(&self) -> Result<AccountId, StoreError> {
        Ok(AccountId(self.state().next_account.max(1)))
    }

    fn accounts(&self) -> Result<Vec<AccountRecord>, StoreError> {
        Ok(self.state().accounts.values().cloned().collect())
    }

    fn sessions(&self) -> Result<Vec<SessionRecord>, StoreError> {
        Ok(self.state().sessions.values().cloned().collect())
    }

    fn handouts(&self) -> Result<Vec<HandoutRecord>, StoreError> {
        Ok(self.state().handouts.values().cloned().collect())
    }

    fn acme(&self) -> Result<Vec<AcmeRecord>, StoreError> {
        Ok(self.state().acme.values().cloned().collect())
    }

    fn time_mark(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.state().time_mark)
    }

    fn admin_tokens(&self) -> Result<Vec<AdminTokenRecord>, StoreError> {
        Ok(self.state().admin_tokens.values().cloned().collect())
    }

    fn page_password(&self) -> Result<Option<Secret<String>>, StoreError> {
        Ok(self.state().page_password.clone())
    }

    fn key(&self, id: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        Ok(self.state().keys.get(&id).cloned())
    }

    fn visit_keys(&self, visit: &mut dyn FnMut(KeyRecord) -> bool) -> Result<(), StoreError> {
        let records: Vec<KeyRecord> = self.state().keys.values().cloned().collect();
        records.into_iter().all(visit);
        Ok(())
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let mut state = self.state();
        state.commits += 1;
        let number = state.commits;
        let fault = state.faults.remove(&number);
        if fault != Some(Fault::Before) {
            changes.into_iter().for_each(|change| state.apply(change));
        }
        match fault {
            None => Ok(()),
            Some(_) => Err(StoreError::Io { what: "write", path: "memory".into(), source: "a failure on demand".into() }),
        }
    }
}
