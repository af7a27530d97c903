//! A store that forgets: for tests, with failures on demand.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::audit::{Entry, Reading};
use crate::clock::Timestamp;
use crate::keys::KeyId;
use crate::keys::admin::AdminTokenRecord;
use crate::keys::record::{IndexEntry, KeyRecord};
use crate::secret::Secret;
use crate::store::acme::AcmeRecord;
use crate::store::audit::{Marks, Pruning};
use crate::store::records::{AccountRecord, HandoutRecord, SessionRecord};
use crate::store::{Change, Store, StoreError};
use crate::upstream::AccountId;
use crate::upstream::session::SessionId;
use crate::usage::record::{KeyUsage, LastUse, UpstreamUsage};

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
    expiry_look: Option<Timestamp>,
    usage: BTreeMap<KeyId, KeyUsage>,
    totals: BTreeMap<String, UpstreamUsage>,
    marks: Marks,
    log: BTreeMap<u64, Entry>,
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
            Change::PutUsage(key, usage) => drop(self.usage.insert(key, *usage)),
            Change::PutTotals(upstream, usage) => drop(self.totals.insert(upstream, *usage)),
            Change::ExpiryLook(at) => self.expiry_look = Some(at),
            Change::Audit(line) => {
                let entry = self.marks.place(line);
                self.log.insert(entry.number, entry);
            }
            Change::PruneAudit(pruning) => self.prune(pruning),
        }
    }
}

impl State {
    fn prune(&mut self, pruning: Pruning) {
        let bounds = pruning.bounds;
        let oldest = pruning.now.minus(bounds.keep);
        for (are_notices, most) in [(false, bounds.acts), (true, bounds.notices)] {
            let of_sort = self.log.values().filter(|entry| entry.line.verb.is_notice() == are_notices);
            let mut left = of_sort.clone().count() as u64;
            let goes = |entry: &&Entry| {
                let goes = left > most || entry.line.at < oldest;
                left -= u64::from(goes);
                goes
            };
            let gone: Vec<u64> = of_sort.take_while(goes).map(|entry| entry.number).collect();
            gone.iter().for_each(|number| drop(self.log.remove(number)));
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

    fn expiry_look(&self) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.state().expiry_look)
    }

    fn key(&self, id: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        Ok(self.state().keys.get(&id).cloned())
    }

    fn visit_keys(&self, visit: &mut dyn FnMut(KeyRecord) -> bool) -> Result<(), StoreError> {
        let records: Vec<KeyRecord> = self.state().keys.values().cloned().collect();
        records.into_iter().all(visit);
        Ok(())
    }

    fn usage(&self, id: KeyId) -> Result<Option<KeyUsage>, StoreError> {
        Ok(self.state().usage.get(&id).cloned())
    }

    fn visit_last_uses(&self, visit: &mut dyn FnMut(KeyId, LastUse)) -> Result<(), StoreError> {
        let all: Vec<_> = self.state().usage.iter().filter_map(|(key, usage)| Some((*key, usage.last()?))).collect();
        all.into_iter().for_each(|(key, last)| visit(key, last));
        Ok(())
    }

    fn totals(&self) -> Result<BTreeMap<String, UpstreamUsage>, StoreError> {
        Ok(self.state().totals.clone())
    }

    fn read_audit(&self, from: Reading, visit: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError> {
        let entries: Vec<Entry> = match from {
            Reading::Before(number) => self.state().log.range(..number).rev().map(|(_, entry)| entry.clone()).collect(),
            Reading::After(number) => self.state().log.range(number.saturating_add(1)..).map(|(_, entry)| entry.clone()).collect(),
        };
        entries.into_iter().all(visit);
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
