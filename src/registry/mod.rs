//! Keys and accounts as operators change them: the store first, memory at once after it. The admin socket and the offline CLI
//! both work through this.

mod accounts;
pub mod admin;
mod keys;
mod lent;
#[cfg(test)]
mod tests;
mod time;
pub mod upkeep;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::audit::{Act, Actor, Entry, Line, Reading};
use crate::clock::{Clock, Timestamp};
use crate::keys::index::KeyIndex;
use crate::keys::record::KeyRecord;
use crate::keys::{ApiKey, KeyHasher, KeyId, Scopes};
use crate::limits::{Limits, LimitsPatch};
use crate::store::records::AccountRecord;
use crate::store::{Change, Store, StoreError};
use crate::upstream::AccountId;
use crate::upstream::session::Sessions;

pub use time::Forgotten;

/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 200;
/// Most lines that one call writes into the audit log beside the one of the whole.
const MOST_LINES: usize = 100;
/// Most keys in one call.
const MAX_BULK: u32 = 1_000_000;

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Name.
    pub name: String,
    /// Account.
    pub account: AccountId,
    /// Expiry.
    pub expires_at: Option<Timestamp>,
    /// Active from the start.
    pub is_active: bool,
    /// What it may do.
    pub scopes: Scopes,
    /// The upstream's ids of the libraries that it is confined to; `None`: not confined.
    pub libraries: Option<Vec<String>>,
    /// What it may do no more than.
    pub limits: Limits,
    /// Who makes it.
    pub created_by: String,
}

/// Changes to a key; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct KeyPatch {
    /// New name.
    pub name: Option<String>,
    /// New account.
    pub account: Option<AccountId>,
    /// New expiry; `Some(None)`: never.
    pub expires_at: Option<Option<Timestamp>>,
    /// Enable or disable.
    pub is_active: Option<bool>,
    /// The scopes that it has from now on.
    pub scopes: Option<Scopes>,
    /// The libraries that it is confined to from now on; `Some(None)`: none any more.
    pub libraries: Option<Option<Vec<String>>>,
    /// Changes to its limits; `Some(None)`: it has none any more.
    pub limits: Option<Option<LimitsPatch>>,
}

/// What may go with an account that is removed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Removal {
    /// The keys that act for it are revoked; else there must be none.
    pub revoke_keys: bool,
    /// Also the administrator with which other accounts' sessions are made.
    pub force: bool,
}

/// A key that was just made, or whose secret was: the only moment at which its text exists.
#[derive(Debug)]
pub struct Created {
    /// The record.
    pub record: KeyRecord,
    /// The key.
    pub key: ApiKey,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is no such key.
    #[error("there is no key {0}")]
    NoKey(KeyId),
    /// There is no such admin token, or it was revoked.
    #[error("there is no admin token {0}")]
    NoAdminToken(KeyId),
    /// There is no such account.
    #[error("there is no such account")]
    NoAccount,
    /// A revoked key stays revoked.
    #[error("key {0} was revoked, which is final")]
    Revoked(KeyId),
    /// A value is out of range.
    #[error("{0}")]
    Invalid(String),
    /// The account's name is taken.
    #[error("there is an account {0} already")]
    AccountExists(String),
    /// Keys still act for the account.
    #[error(
        "keys still act for {account} ({keys}); revoke them first, or together with it: keygate accounts remove {account} --revoke-keys"
    )]
    AccountInUse {
        /// upstream/name.
        account: String,
        /// How many.
        keys: usize,
    },
    /// A key is refused from now on, but the store failed: a restart before it recovers could bring the key back.
    #[error("done for now, but not yet durable, and tried again with the next change: {0}")]
    NotDurable(StoreError),
    /// The store failed, and nothing has changed in memory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Other accounts' sessions are made with the account.
    #[error(
        "{account} is the administrator with which the sessions of {minted} other accounts are made: mark another one first (keygate \
         accounts set-administrator NAME), or say --force"
    )]
    AdministratorInUse {
        /// upstream/name.
        account: String,
        /// How many minted accounts the upstream has.
        minted: usize,
    },
    /// No random bytes.
    #[error("the operating system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// Who must hear of changed accounts and dead keys: the holder of the upstream sessions. Called after the store has it (for a
/// revoked key: as soon as it is refused).
pub trait AccountListener: Send + Sync {
    /// An account was added or changed.
    fn account_changed(&self, record: AccountRecord);
    /// An account is gone.
    fn account_removed(&self, id: AccountId);
    /// A key of an account was revoked.
    fn key_removed(&self, account: AccountId, key: KeyId);
}

impl AccountListener for Sessions {
    fn account_changed(&self, record: AccountRecord) {
        self.put_account(record);
    }

    fn account_removed(&self, id: AccountId) {
        self.remove_account(id);
    }

    fn key_removed(&self, account: AccountId, key: KeyId) {
        self.remove_key(account, key);
    }
}

/// What failed commits left behind. Each later commit carries it along, until one succeeds.
#[derive(Default)]
struct Unsettled {
    /// Keys of which the store may say something else than memory; the value is what memory says.
    keys: BTreeMap<KeyId, KeyRecord>,
    /// What the audit log is to say of them. A commit that failed may have been written all the same: then a line stands twice.
    lines: Vec<Line>,
}

/// The one writer. Blocking: its callers are on threads that may block. Whatever it changes is written together with a line of the audit
/// log, in one transaction; who the line says it was is asked for first ([`Registry::by`]).
///
/// What takes rights away holds in memory before it is written, and goes on holding when writing fails. What gives rights is
/// written first and holds only then.
#[derive(Clone)]
pub struct Registry {
    store: Arc<dyn Store>,
    hasher: KeyHasher,
    index: Arc<KeyIndex>,
    listener: Arc<dyn AccountListener>,
    clock: Arc<dyn Clock>,
    /// Held during each change, so that changes come one after the other.
    writer: Arc<Mutex<Unsettled>>,
    /// As unsettled keys are. Taken last, and never held while anything else is waited for.
    dead_tokens: Arc<Mutex<admin::DeadTokens>>,
    actor: Actor,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Registry {
    /// Over a store and what was loaded from it.
    pub fn new(
        store: Arc<dyn Store>,
        hasher: KeyHasher,
        index: Arc<KeyIndex>,
        listener: Arc<dyn AccountListener>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { store, hasher, index, listener, clock, writer: Arc::default(), dead_tokens: Arc::default(), actor: Actor::Gateway }
    }

    /// The same, in somebody's hand: the audit log says that it was they.
    #[must_use]
    pub fn by(&self, actor: Actor) -> Self {
        Self { actor, ..self.clone() }
    }

    /// How many keys memory treats otherwise than the store might: above zero, a revocation is not durable yet.
    pub fn unsettled(&self) -> usize {
        self.writer().keys.len() + self.dead_tokens().len()
    }

    /// Writes what an earlier failure left unwritten. To be called now and then while [`Registry::unsettled`] is above zero.
    ///
    /// # Errors
    /// [`StoreError`] when it fails again.
    pub fn retry_unsettled(&self) -> Result<(), StoreError> {
        self.settle(&mut self.writer())
    }

    fn settle(&self, unsettled: &mut Unsettled) -> Result<(), StoreError> {
        let is_settled = unsettled.keys.is_empty() && self.dead_tokens().is_empty();
        if is_settled { Ok(()) } else { self.write(unsettled, Vec::new()) }
    }

    /// Commits changes, what the audit log says of them, and what is unsettled, in one transaction.
    fn commit(&self, unsettled: &mut Unsettled, acts: Acts, mut changes: Vec<Change>) -> Result<(), StoreError> {
        let now = self.clock.now();
        changes.extend(std::iter::once(acts.first).chain(acts.more).map(|act| Change::Audit(act.by(&self.actor, now))));
        self.write(unsettled, changes)
    }

    fn write(&self, unsettled: &mut Unsettled, mut changes: Vec<Change>) -> Result<(), StoreError> {
        // In front: a change of the same key comes later and counts.
        let lines = unsettled.lines.iter().cloned().map(Change::Audit);
        let keys = unsettled.keys.values().cloned().map(Change::PutKey);
        changes.splice(0..0, keys.chain(lines).chain(self.dead_token_changes()));
        self.store.commit(changes)?;
        *unsettled = Unsettled::default();
        self.dead_tokens().clear();
        Ok(())
    }

    /// Keeps what memory says of a key for the next commit, and what the log is to say of it.
    fn leave(&self, unsettled: &mut Unsettled, record: KeyRecord, act: Act) {
        unsettled.keys.insert(record.id, record);
        self.leave_line(unsettled, act);
    }

    /// Keeps a line of the log for the next commit.
    fn leave_line(&self, unsettled: &mut Unsettled, act: Act) {
        // Bounded: the disk may be full for days, and one line tells of it as well as a thousand.
        if unsettled.lines.len() < MOST_LINES {
            unsettled.lines.push(act.by(&self.actor, self.clock.now()));
        }
    }

    /// Writes down what was done elsewhere than in the store's records.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn record(&self, act: Act) -> Result<(), StoreError> {
        self.commit(&mut self.writer(), act.into(), Vec::new())
    }

    /// A line of the audit log, for whoever writes it with something of another room.
    pub fn line(&self, act: Act) -> Line {
        act.by(&self.actor, self.clock.now())
    }

    /// Shows lines of the audit log until `visit` has enough.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn audit(&self, from: Reading, visit: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError> {
        self.store.read_audit(from, visit)
    }

    /// A key as memory has it.
    fn key_now(&self, unsettled: &Unsettled, id: KeyId) -> Result<KeyRecord, RegistryError> {
        match unsettled.keys.get(&id) {
            Some(record) => Ok(record.clone()),
            None => self.store.key(id)?.ok_or(RegistryError::NoKey(id)),
        }
    }

    fn living_key(&self, unsettled: &Unsettled, id: KeyId) -> Result<KeyRecord, RegistryError> {
        let record = self.key_now(unsettled, id)?;
        if record.revoked_at.is_some() { Err(RegistryError::Revoked(id)) } else { Ok(record) }
    }

    fn account(&self, id: AccountId) -> Result<AccountRecord, RegistryError> {
        self.store.accounts()?.into_iter().find(|account| account.id == id).ok_or(RegistryError::NoAccount)
    }

    fn writer(&self) -> MutexGuard<'_, Unsettled> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the audit log says of one commit: there is no commit without it.
struct Acts {
    first: Act,
    more: Vec<Act>,
}

impl From<Act> for Acts {
    fn from(first: Act) -> Self {
        Self { first, more: Vec::new() }
    }
}

fn revoked(record: &KeyRecord, now: Timestamp) -> KeyRecord {
    KeyRecord { revoked_at: Some(now), updated_at: now, previous: None, ..record.clone() }
}

/// Names are 1 to 200 bytes and hold no control characters: they stand in logs and in terminals.
/// Libraries of keys, beyond any that a server has.
const MAX_LIBRARIES: usize = 100;
/// Longest id of a library, in bytes.
const MAX_LIBRARY_BYTES: usize = 64;

/// Ids of libraries are short words with both Audiobookshelf (UUIDs), Jellyfin (GUIDs) and Emby (numbers).
fn check_libraries(ids: Option<&[String]>) -> Result<(), RegistryError> {
    let is_id =
        |id: &String| (1..=MAX_LIBRARY_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    match ids {
        Some([]) => Err(RegistryError::Invalid("a key must be confined to one library at least, or to none at all".to_owned())),
        Some(ids) if ids.len() > MAX_LIBRARIES => {
            Err(RegistryError::Invalid(format!("a key can be confined to {MAX_LIBRARIES} libraries at most")))
        }
        Some(ids) => match ids.iter().find(|id| !is_id(id)) {
            Some(id) => Err(RegistryError::Invalid(format!("{id:?} is not the id of a library"))),
            None => Ok(()),
        },
        None => Ok(()),
    }
}

fn check_text(what: &str, text: &str) -> Result<(), RegistryError> {
    if !(1..=MAX_NAME_BYTES).contains(&text.len()) {
        return Err(RegistryError::Invalid(format!("the {what} must have 1 to {MAX_NAME_BYTES} bytes, not {}", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(RegistryError::Invalid(format!("the {what} must not hold control characters")));
    }
    Ok(())
}
