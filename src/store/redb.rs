//! The store in one redb file: one writing process, two-phase commits, a small cache. redb's types stop here.

mod copy;
mod log;
mod opening;
mod rehearsal;
mod upkeep;
mod used;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};

use self::opening::{builder, lay_out, open_database, rehearse};
use crate::audit::{Entry, Reading};
use crate::clock::Timestamp;
use crate::keys::admin::AdminTokenRecord;
use crate::keys::record::{IndexEntry, KeyRecord};
use crate::keys::{KeyHasher, KeyId};
use crate::secret::Secret;
use crate::store::acme::{self, AcmeRecord};
use crate::store::encode::{self, RecordError};
use crate::store::files::{self, io_error, unusable};
use crate::store::handouts;
use crate::store::records::{AccountRecord, HandoutRecord, SessionRecord};
use crate::store::seal::{MasterKey, SealError, Sealer};
use crate::store::{Change, Store, StoreError};
use crate::upstream::AccountId;
use crate::usage::record::{KeyUsage, LastUse, UpstreamUsage};

/// redb's page cache, in bytes. Its own default is 1 GiB; nothing here is read twice.
pub const CACHE_BYTES: usize = 16 << 20;
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
/// Milliseconds since the epoch, as little-endian bytes; absent until they are first written.
const TIME_MARK: &str = "time_mark";
/// The same.
const EXPIRY_LOOK: &str = "expiry_look";
/// A SHA-256-sized HMAC goes into the slow hash, so this one opens nothing by itself.
const PAGE_PASSWORD: &str = "page_password";
const ADMIN_TOKENS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("admin_tokens");
const KEYS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("keys");
const KEY_INDEX: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("key_index");
const ACCOUNTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new(encode::ACCOUNTS);
const SESSIONS: TableDefinition<'_, &[u8; 13], &[u8]> = TableDefinition::new(encode::SESSIONS);
const HANDOUTS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new(handouts::HANDOUTS);
const ACME: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new(acme::ACME);

/// The store in a file.
#[derive(Debug)]
pub struct RedbStore {
    path: PathBuf,
    cache_bytes: usize,
    sealer: Sealer,
    hasher: KeyHasher,
    /// `None` only while a failed write made it necessary to open the file anew and that failed too.
    database: RwLock<Option<Database>>,
    errors: AtomicU64,
}

impl RedbStore {
    /// Opens an existing store. `cache_bytes`: redb's page cache, see [`CACHE_BYTES`].
    ///
    /// What is not a store of this master key and of this or an earlier keygate is refused and left as it is, byte for byte.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::InUse`] when another process has it open.
    pub fn open(path: &Path, master: &MasterKey, cache_bytes: usize) -> Result<Self, StoreError> {
        files::prepare_directory(path)?;
        let sealer = master.sealer();
        let (rehearsed, hasher) = rehearse(path, &sealer, cache_bytes)?;
        drop(rehearsed);
        let database = open_database(path, cache_bytes)?;
        Ok(Self { path: path.to_owned(), cache_bytes, sealer, hasher, database: RwLock::new(Some(database)), errors: AtomicU64::new(0) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of its file in bytes; 0 where that cannot be told.
    pub fn size(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |found| found.len())
    }

    /// How many readings and writings have failed since it was opened.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    fn counted<T>(&self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        if outcome.is_err() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Hashes keys as this store has them.
    pub const fn hasher(&self) -> &KeyHasher {
        &self.hasher
    }

    /// Makes a new store under this master key, and opens it. It gets its name when it is whole: a crash leaves all or nothing.
    ///
    /// # Errors
    /// [`StoreError`]; also when there is a file of this name already.
    pub fn create(path: &Path, master: &MasterKey, cache_bytes: usize) -> Result<Self, StoreError> {
        files::prepare_directory(path)?;
        let file = files::new_in(files::directory_of(path))?;
        files::hand_over(&file, path)?;
        let failed = |error: redb::Error| failure(path, "create", error);
        let backend = FileBackend::new(file.reopen().map_err(io_error("create", path))?).map_err(|error| failed(error.into()))?;
        let database = builder(cache_bytes).create_with_backend(backend).map_err(|error| failed(error.into()))?;
        let transaction = begin_write(&database).map_err(failed)?;
        lay_out(&transaction, path, &master.sealer())?;
        transaction.commit().map_err(|error| failed(error.into()))?;
        drop(database);
        file.as_file().sync_all().map_err(io_error("write", path))?;
        files::name_new(file, path)?;
        Self::open(path, master, cache_bytes)
    }

    fn read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Result<T, Failure>) -> Result<T, StoreError> {
        self.counted(self.try_to_read(look))
    }

    fn try_to_read<T>(&self, look: impl FnOnce(&ReadTransaction) -> Result<T, Failure>) -> Result<T, StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| self.gone())?;
        let transaction = database.begin_read().map_err(|error| failure(&self.path, "read", error.into()))?;
        look(&transaction).map_err(|error| error.at(&self.path, "read"))
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| self.gone())?;
        let written = || -> Result<(), Failure> {
            let transaction = begin_write(database)?;
            apply(&transaction, &self.sealer, changes)?;
            Ok(transaction.commit()?)
        };
        written().map_err(|error| error.at(&self.path, "write"))
    }

    /// redb refuses everything after a failed write until the file is opened anew.
    fn reopen(&self) {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        drop(database.take());
        *database = open_database(&self.path, self.cache_bytes).ok();
    }

    fn gone(&self) -> StoreError {
        StoreError::Io {
            what: "open",
            path: self.path.clone(),
            source: "an earlier write failed, and the file could not be opened again".into(),
        }
    }
}

impl Store for RedbStore {
    fn load_index(&self, capacity: &mut dyn FnMut(usize), visit: &mut dyn FnMut(IndexEntry)) -> Result<usize, StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(KEY_INDEX)?;
            let count = usize::try_from(table.len()?).unwrap_or(usize::MAX);
            capacity(count);
            for item in table.iter()? {
                let (digest, value) = item?;
                visit(encode::decode_entry(*digest.value(), value.value())?);
            }
            Ok(count)
        })
    }

    fn next_account(&self) -> Result<AccountId, StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(META)?;
            let stored = table.get("next_account")?;
            Ok(AccountId(stored.and_then(|bytes| number(bytes.value())).unwrap_or(1)))
        })
    }

    fn accounts(&self) -> Result<Vec<AccountRecord>, StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(ACCOUNTS)?;
            table.iter()?.map(|item| Ok(encode::decode_account(&self.sealer, item?.1.value())?)).collect()
        })
    }

    fn sessions(&self) -> Result<Vec<SessionRecord>, StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(SESSIONS)?;
            table.iter()?.map(|item| Ok(encode::decode_session(&self.sealer, item?.1.value())?)).collect()
        })
    }

    fn handouts(&self) -> Result<Vec<HandoutRecord>, StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(HANDOUTS)?;
            let mut records = Vec::new();
            for item in table.iter()? {
                let (digest, value) = item?;
                records.push(handouts::decode(&self.sealer, *digest.value(), value.value())?);
            }
            Ok(records)
        })
    }

    fn acme(&self) -> Result<Vec<AcmeRecord>, StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(ACME)?;
            let mut records = Vec::new();
            for item in table.iter()? {
                let (id, value) = item?;
                records.push(acme::decode(&self.sealer, *id.value(), value.value())?);
            }
            Ok(records)
        })
    }

    fn time_mark(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|transaction| time(transaction, TIME_MARK))
    }

    fn expiry_look(&self) -> Result<Option<Timestamp>, StoreError> {
        self.read(|transaction| time(transaction, EXPIRY_LOOK))
    }

    fn admin_tokens(&self) -> Result<Vec<AdminTokenRecord>, StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(ADMIN_TOKENS)?;
            table.iter()?.map(|item| Ok(encode::ADMIN_TOKEN_FORMAT.decode(item?.1.value())?)).collect()
        })
    }

    fn page_password(&self) -> Result<Option<Secret<String>>, StoreError> {
        self.read(|transaction| {
            let stored = transaction.open_table(META)?.get(PAGE_PASSWORD)?;
            Ok(stored.map(|bytes| Secret::new(String::from_utf8_lossy(bytes.value()).into_owned())))
        })
    }

    fn key(&self, id: KeyId) -> Result<Option<KeyRecord>, StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(KEYS)?;
            let stored = table.get(id.as_u64())?;
            Ok(stored.map(|bytes| encode::decode_key(bytes.value())).transpose()?)
        })
    }

    fn visit_keys(&self, visit: &mut dyn FnMut(KeyRecord) -> bool) -> Result<(), StoreError> {
        self.read(|transaction| {
            let table = transaction.open_table(KEYS)?;
            for item in table.iter()? {
                if !visit(encode::decode_key(item?.1.value())?) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn usage(&self, id: KeyId) -> Result<Option<KeyUsage>, StoreError> {
        self.read(|transaction| used::of_key(transaction, id))
    }

    fn visit_last_uses(&self, visit: &mut dyn FnMut(KeyId, LastUse)) -> Result<(), StoreError> {
        self.read(|transaction| used::visit_last_uses(transaction, visit))
    }

    fn totals(&self) -> Result<BTreeMap<String, UpstreamUsage>, StoreError> {
        self.read(used::totals)
    }

    fn read_audit(&self, from: Reading, visit: &mut dyn FnMut(Entry) -> bool) -> Result<(), StoreError> {
        self.read(|transaction| log::read(transaction, from, visit))
    }

    fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        let written = self.counted(self.write(changes));
        if matches!(written, Err(StoreError::Io { .. })) {
            self.reopen();
        }
        written
    }
}

/// Writes the changes; keys come first and in the order of their tables, which is what makes a million of them bearable.
fn apply(transaction: &WriteTransaction, sealer: &Sealer, changes: Vec<Change>) -> Result<(), Failure> {
    let (mut keys, mut lines) = (Vec::new(), Vec::new());
    for change in changes {
        match change {
            Change::PutKey(record) => keys.push(record),
            Change::PutAccount(record) => put_account(transaction, sealer, &record)?,
            Change::RemoveAccount(id) => remove_account(transaction, id)?,
            Change::PutSession(record) => {
                let bytes = encode::encode_session(sealer, &record)?;
                transaction.open_table(SESSIONS)?.insert(&encode::session_key(record.id), bytes.as_slice())?;
            }
            Change::RemoveSession(id) => {
                transaction.open_table(SESSIONS)?.remove(&encode::session_key(id))?;
            }
            Change::PutHandout(record) => {
                let bytes = handouts::encode(sealer, &record)?;
                transaction.open_table(HANDOUTS)?.insert(record.digest.as_bytes(), bytes.as_slice())?;
            }
            Change::RemoveHandout(digest) => {
                transaction.open_table(HANDOUTS)?.remove(digest.as_bytes())?;
            }
            Change::PutAdminToken(record) => {
                let bytes = encode::ADMIN_TOKEN_FORMAT.encode(&record)?;
                transaction.open_table(ADMIN_TOKENS)?.insert(record.id.as_u64(), bytes.as_slice())?;
            }
            Change::PutPagePassword(hash) => {
                transaction.open_table(META)?.insert(PAGE_PASSWORD, hash.expose().as_bytes())?;
            }
            Change::PutAcme(record) => {
                let bytes = acme::encode(sealer, &record)?;
                transaction.open_table(ACME)?.insert(&record.id(), bytes.as_slice())?;
            }
            Change::RemoveAcme(id) => {
                transaction.open_table(ACME)?.remove(&id)?;
            }
            Change::PutUsage(key, usage) => used::put(transaction, key, &usage)?,
            Change::PutTotals(upstream, usage) => used::put_totals(transaction, &upstream, &usage)?,
            Change::Audit(line) => lines.push(line),
            Change::PruneAudit(pruning) => log::prune(transaction, pruning)?,
            Change::MarkTime(mark) => put_time(transaction, TIME_MARK, mark)?,
            Change::ExpiryLook(at) => put_time(transaction, EXPIRY_LOOK, at)?,
        }
    }
    log::append(transaction, lines)?;
    put_keys(transaction, keys)
}

fn put_time(transaction: &WriteTransaction, name: &str, time: Timestamp) -> Result<(), Failure> {
    transaction.open_table(META)?.insert(name, time.as_millis().to_le_bytes().as_slice())?;
    Ok(())
}

fn time(transaction: &ReadTransaction, name: &str) -> Result<Option<Timestamp>, Failure> {
    let stored = transaction.open_table(META)?.get(name)?;
    let millis = stored.and_then(|bytes| bytes.value().try_into().ok().map(i64::from_le_bytes));
    Ok(millis.map(Timestamp::from_millis))
}

fn put_keys(transaction: &WriteTransaction, mut records: Vec<KeyRecord>) -> Result<(), Failure> {
    if records.is_empty() {
        return Ok(());
    }
    // Stable: of two records of one key, the later one wins.
    records.sort_by_key(|record| record.id);
    let mut keys = transaction.open_table(KEYS)?;
    let mut entries: BTreeMap<[u8; 32], Option<Vec<u8>>> = BTreeMap::new();
    for record in records {
        let bytes = encode::KEY_FORMAT.encode(&record)?;
        if let Some(old) = keys.insert(record.id.as_u64(), bytes.as_slice())? {
            let old = encode::decode_key(old.value())?;
            entries.extend(old.index_entries().into_iter().map(|entry| (*entry.digest.as_bytes(), None)));
        }
        entries.extend(record.index_entries().into_iter().map(|entry| (*entry.digest.as_bytes(), Some(encode::encode_entry(&entry)))));
    }
    let mut index = transaction.open_table(KEY_INDEX)?;
    for (digest, entry) in entries {
        match entry {
            Some(bytes) => drop(index.insert(&digest, bytes.as_slice())?),
            None => drop(index.remove(&digest)?),
        }
    }
    Ok(())
}

fn put_account(transaction: &WriteTransaction, sealer: &Sealer, record: &AccountRecord) -> Result<(), Failure> {
    let bytes = encode::encode_account(sealer, record)?;
    transaction.open_table(ACCOUNTS)?.insert(record.id.0, bytes.as_slice())?;
    let mut meta = transaction.open_table(META)?;
    let next = meta.get("next_account")?.and_then(|bytes| number(bytes.value())).unwrap_or(1);
    let next = next.max(record.id.0.saturating_add(1));
    meta.insert("next_account", next.to_le_bytes().as_slice())?;
    Ok(())
}

fn remove_account(transaction: &WriteTransaction, id: AccountId) -> Result<(), Failure> {
    transaction.open_table(ACCOUNTS)?.remove(id.0)?;
    let (first, last) = encode::session_range(id);
    transaction.open_table(SESSIONS)?.retain_in::<&[u8; 13], _>(&first..=&last, |_, _| false)?;
    Ok(())
}

/// Every write is durable on return, survives hostile record contents (two phases), and needs no long repair after a crash.
fn begin_write(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_two_phase_commit(true);
    transaction.set_quick_repair(true);
    Ok(transaction)
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_le_bytes)
}

fn damaged(path: &Path, how: &str) -> StoreError {
    unusable(path, format!("the store is damaged ({how}); it was left as it is. Restore a backup"))
}

fn failure(path: &Path, what: &'static str, error: redb::Error) -> StoreError {
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => StoreError::InUse { path: path.to_owned() },
        redb::Error::Corrupted(how) => damaged(path, &how),
        redb::Error::UpgradeRequired(_) => unusable(path, "this is a redb file of an old format, not a keygate store".to_owned()),
        redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. } => damaged(path, "a table is missing"),
        redb::Error::Io(error) if matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof) => {
            damaged(path, &error.to_string())
        }
        error => StoreError::Io { what, path: path.to_owned(), source: error.into() },
    }
}

/// What can go wrong within a transaction.
enum Failure {
    Redb(redb::Error),
    Record(RecordError),
}

impl Failure {
    fn at(self, path: &Path, what: &'static str) -> StoreError {
        match self {
            Self::Redb(error) => failure(path, what, error),
            Self::Record(error @ (RecordError::Newer(_) | RecordError::Unknown(_))) => unusable(path, error.to_string()),
            Self::Record(error @ RecordError::Seal(SealError::Random(_))) => {
                StoreError::Io { what, path: path.to_owned(), source: error.into() }
            }
            Self::Record(error) => damaged(path, &error.to_string()),
        }
    }
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        Self::Record(error)
    }
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}
