//! Where keys, accounts and sessions outlive the process. Never touched while a request waits.

pub mod acme;
pub mod audit;
mod encode;
mod files;
mod handouts;
pub mod inventory;
pub mod memory;
pub mod moving;
pub(crate) mod owner;
pub mod records;
pub mod redb;
pub mod seal;
mod usage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::audit::{Entry, Line, Reading};
use crate::clock::Timestamp;
use crate::config::source::SecretSource;
use crate::keys::admin::AdminTokenRecord;
use crate::keys::record::{IndexEntry, KeyRecord};
use crate::keys::{KeyDigest, KeyHasher, KeyId};
use crate::secret::Secret;
use crate::store::acme::AcmeRecord;
use crate::store::audit::Pruning;
use crate::store::records::{AccountRecord, HandoutRecord, SessionRecord};
use crate::store::redb::RedbStore;
use crate::store::seal::{MasterKey, MasterKeyText};
use crate::upstream::AccountId;
use crate::upstream::session::SessionId;
use crate::usage::record::{KeyUsage, LastUse, UpstreamUsage};

/// One change. A list of them is committed in one transaction: all or none.
#[derive(Debug)]
pub enum Change {
    /// Writes a key's record and its index entries (current and, while it lasts, previous secret); a revoked key keeps its
    /// record as a tombstone and loses its index entries.
    PutKey(KeyRecord),
    /// Writes an account.
    PutAccount(AccountRecord),
    /// Removes an account and all its sessions. Its keys must have been revoked in the same transaction or before.
    RemoveAccount(AccountId),
    /// Writes a session.
    PutSession(SessionRecord),
    /// Removes a session.
    RemoveSession(SessionId),
    /// Writes a handout.
    PutHandout(HandoutRecord),
    /// Removes a handout, by the digest of its text.
    RemoveHandout(KeyDigest),
    /// Writes an account at an ACME server or a certificate, in the place of what was there for the same purpose.
    PutAcme(AcmeRecord),
    /// Removes what ACME left behind, by its [`AcmeRecord::id`].
    RemoveAcme([u8; 32]),
    /// Writes down how late it is, in place of what was written before.
    MarkTime(Timestamp),
    /// Writes an admin token.
    PutAdminToken(AdminTokenRecord),
    /// Writes the slow hash of the admin page's password, in place of the one before.
    PutPagePassword(Secret<String>),
    /// Writes what a key was used for.
    PutUsage(KeyId, Box<KeyUsage>),
    /// Writes the sums of an upstream.
    PutTotals(String, Box<UpstreamUsage>),
    /// Writes down when keys that expire soon were looked for.
    ExpiryLook(Timestamp),
    /// Writes a line of the audit log; lines get their numbers in the order of the list.
    Audit(Line),
    /// Takes old lines out of the audit log.
    PruneAudit(Pruning),
}

/// The store's contract. Blocking: call it from a thread that may block.
///
/// Every backend passes `tests/it/store_conformance.rs`.
pub trait Store: Send + Sync {
    /// Calls `visit` once per index entry, in any order, and returns how many there were. `capacity` is called first with the
    /// number to come, so that the caller can reserve.
    ///
    /// # Errors
    /// [`StoreError`].
    fn load_index(&self, capacity: &mut dyn FnMut(usize), visit: &mut dyn FnMut(IndexEntry)) -> Result<usize, StoreError>;

    /// The number that the next new account takes: above every number that was ever written, removed accounts included.
    ///
    /// # Errors
    /// [`StoreError`].
    fn next_account(&self) -> Result<AccountId, StoreError>;

    /// All accounts, with their credentials unsealed.
    ///
    /// # Errors
    /// [`StoreError`].
    fn accounts(&self) -> Result<Vec<AccountRecord>, StoreError>;

    /// All sessions, unsealed.
    ///
    /// # Errors
    /// [`StoreError`].
    fn sessions(&self) -> Result<Vec<SessionRecord>, StoreError>;

    /// All handouts, unsealed.
    ///
    /// # Errors
    /// [`StoreError`].
    fn handouts(&self) -> Result<Vec<HandoutRecord>, StoreError>;

    /// All accounts at ACME servers and all certificates of theirs, unsealed.
    ///
    /// # Errors
    /// [`StoreError`].
    fn acme(&self) -> Result<Vec<AcmeRecord>, StoreError>;

    /// How late it was when that was last written down.
    ///
    /// # Errors
    /// [`StoreError`].
    fn time_mark(&self) -> Result<Option<Timestamp>, StoreError>;

    /// All admin tokens, revoked ones included, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    fn admin_tokens(&self) -> Result<Vec<AdminTokenRecord>, StoreError>;

    /// The slow hash of the admin page's password, as a PHC string; `None`: none was ever set.
    ///
    /// # Errors
    /// [`StoreError`].
    fn page_password(&self) -> Result<Option<Secret<String>>, StoreError>;

    /// When keys that expire soon were looked for last.
    ///
    /// # Errors
    /// [`StoreError`].
    fn expiry_look(&self) -> Result<Option<Timestamp>, StoreError>;

    /// One key's record, tombstones included.
    ///
    /// # Errors
    /// [`StoreError`].
    fn key(&self, id: KeyId) -> Result<Option<KeyRecord>, StoreError>;

    /// Calls `visit` for every key's record, tombstones included, oldest id first, until it returns `false`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn visit_keys(&self, visit: &mut dyn FnMut(KeyRecord) -> bool) -> Result<(), StoreError>;

    /// What a key was used for; `None`: it was never used.
    ///
    /// # Errors
    /// [`StoreError`].
    fn usage(&self, id: KeyId) -> Result<Option<KeyUsage>, StoreError>;

    /// Calls `visit` for each key that was ever used, oldest id first.
    ///
    /// # Errors
    /// [`StoreError`].
    fn visit_last_uses(&self, visit: &mut dyn FnMut(KeyId, LastUse)) -> Result<(), StoreError>;

    /// The sums of all upstreams.
    ///
    /// # Errors
    /// [`StoreError`].
    fn totals(&self) -> Result<BTreeMap<String, UpstreamUsage>, StoreError>;

    /// Calls `visit` for lines of the audit log until it returns `false`: acts and notices in the order of their numbers.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read_audit(&self, from: Reading, visit: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError>;

    /// Writes the changes in one durable transaction. An error means *unknown*, not *no*: the caller re-reads before it
    /// tells anybody that nothing happened.
    ///
    /// # Errors
    /// [`StoreError`].
    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError>;
}

/// An opened store and what comes with its master key.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Arc<RedbStore>,
    /// Hashes keys as this store has them.
    pub hasher: KeyHasher,
    /// Whether it was made just now.
    pub is_new: bool,
    /// A sentence for the operator about the master key's source.
    pub warning: Option<String>,
}

/// Opens the store, or makes it where there is none. `text` is what `source` holds.
///
/// # Errors
/// [`StoreError`]; whatever was refused is left as it was.
pub fn open(path: &Path, source: &SecretSource, text: &MasterKeyText) -> Result<Opened, StoreError> {
    if matches!(source, SecretSource::File(key_path) if key_path == path) {
        return Err(StoreError::MasterKey(format!("the master key and the store cannot be one file: {}", path.display())));
    }
    let is_new = match std::fs::symlink_metadata(path) {
        Ok(_) => false,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(files::io_error("read", path)(error)),
    };
    let (master, warning) = MasterKey::obtain(source, text, !is_new)?;
    if is_new {
        let store = RedbStore::create(path, &master, redb::CACHE_BYTES)?;
        return Ok(Opened { hasher: store.hasher().clone(), store: Arc::new(store), is_new, warning });
    }
    let (store, warning) = match (RedbStore::open(path, &master, redb::CACHE_BYTES), source) {
        (Err(StoreError::MasterKey(problem)), SecretSource::File(key_path)) => {
            let master = moving::finish(path, key_path).ok_or(StoreError::MasterKey(problem))?;
            let warning = "the change of the master key, which was interrupted, is complete now".to_owned();
            (RedbStore::open(path, &master, redb::CACHE_BYTES)?, Some(warning))
        }
        (opened, _) => (opened?, warning),
    };
    Ok(Opened { hasher: store.hasher().clone(), store: Arc::new(store), is_new, warning })
}

/// What can be wrong with a store. The texts are for operators: they say what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The store's file.
        path: PathBuf,
    },
    /// The file is not a keygate store, is damaged, or comes from a newer keygate.
    #[error("{}: {problem}", path.display())]
    Unusable {
        /// The store's file.
        path: PathBuf,
        /// One sentence, and what to do.
        problem: String,
    },
    /// The master key is missing, malformed or of another store.
    #[error("{0}")]
    MasterKey(String),
    /// Reading or writing failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// "read", "write", "create", …
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
