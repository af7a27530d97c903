//! What must be true of a file before it is opened as the store, and what a new one holds.

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Builder, ConcurrencyMode, Database, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction};

use super::log::{ACTS, NOTICES};
use super::rehearsal::Rehearsal;
use super::used::{LAST_USES, TOTALS, USAGE};
use super::{ACCOUNTS, ACME, ADMIN_TOKENS, Failure, HANDOUTS, KEY_INDEX, KEYS, META, SESSIONS, damaged, failure, number};
use crate::keys::KeyHasher;
use crate::store::StoreError;
use crate::store::encode::RecordError;
use crate::store::files::{self, io_error, unusable};
use crate::store::seal::{Pepper, Place, SealError, Sealer};

/// Up to this size in bytes every page's checksum is verified at opening; above it that would delay the start.
const FULL_CHECK_BYTES: u64 = 8 << 20;
/// First bytes of every redb file.
const REDB_MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";

/// Version of the set of tables. Records have versions of their own.
const SCHEMA: u32 = 1;
const FORMAT: &[u8] = b"keygate store";
const CHECK: &[u8] = b"this master key";
pub(super) const STORE_ID: &str = "store_id";
pub(super) const CHECK_FIELD: &str = "check";
pub(super) const PEPPER_FIELD: &str = "pepper";

/// All tables of a new store, and the marks by which it is known again.
pub(super) fn lay_out(transaction: &WriteTransaction, path: &Path, sealer: &Sealer) -> Result<(), StoreError> {
    let pepper = Pepper::random()?;
    let fill = || -> Result<(), Failure> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|error| Failure::Record(RecordError::Seal(SealError::Random(error))))?;
        let marks = Marks::new(sealer, &id, &pepper)?;
        let mut meta = transaction.open_table(META)?;
        meta.insert("format", FORMAT)?;
        meta.insert("schema", SCHEMA.to_le_bytes().as_slice())?;
        meta.insert(STORE_ID, id.as_slice())?;
        meta.insert(CHECK_FIELD, marks.check.as_bytes())?;
        meta.insert(PEPPER_FIELD, marks.pepper.as_bytes())?;
        meta.insert("next_account", 1_u32.to_le_bytes().as_slice())?;
        transaction.open_table(KEYS)?;
        transaction.open_table(KEY_INDEX)?;
        transaction.open_table(ACCOUNTS)?;
        transaction.open_table(SESSIONS)?;
        transaction.open_table(HANDOUTS)?;
        transaction.open_table(ADMIN_TOKENS)?;
        transaction.open_table(ACME)?;
        transaction.open_table(ACTS)?;
        transaction.open_table(NOTICES)?;
        transaction.open_table(USAGE)?;
        transaction.open_table(LAST_USES)?;
        transaction.open_table(TOTALS)?;
        Ok(())
    };
    fill().map_err(|error| error.at(path, "create"))
}

/// What of the marks hangs on the master key.
pub(super) struct Marks {
    pub(super) check: String,
    pub(super) pepper: String,
}

impl Marks {
    pub(super) fn new(sealer: &Sealer, store_id: &[u8], pepper: &Pepper) -> Result<Self, RecordError> {
        Ok(Self { check: sealer.seal(check_place(store_id), CHECK)?, pepper: pepper.seal(sealer, store_id)? })
    }
}

fn check_place(store_id: &[u8]) -> Place<'_> {
    Place { table: "meta", record: store_id, field: &[b"check"] }
}

/// Plays the opening through without changing the file, and looks whether it is our store. Gives a store whose changes are kept in
/// memory and forgotten, and the hasher of its keys.
pub(super) fn rehearse(path: &Path, sealer: &Sealer, cache_bytes: usize) -> Result<(Database, KeyHasher), StoreError> {
    let file = files::open_private(path)?;
    refuse_foreign(path, &file)?;
    let len = file.metadata().map_err(io_error("read", path))?.len();
    let look = || -> Result<(Database, KeyHasher), StoreError> {
        let backend = FileBackend::new(file).map_err(|error| failure(path, "open", error.into()))?;
        let backend = Rehearsal::new(backend).map_err(io_error("read", path))?;
        let database = builder(cache_bytes)
            .set_check_integrity_on_open(len <= FULL_CHECK_BYTES)
            .create_with_backend(backend)
            .map_err(|error| failure(path, "open", error.into()))?;
        let transaction = database.begin_read().map_err(|error| failure(path, "read", error.into()))?;
        let pepper = recognise(&transaction, path, sealer)?;
        drop(transaction);
        Ok((database, pepper.hasher()))
    };
    // redb panics on some files that were altered in ways its checksums do not cover.
    catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|_| Err(damaged(path, "its structure is broken")))
}

/// What can be told from the first bytes, before redb sees the file.
fn refuse_foreign(path: &Path, mut file: &File) -> Result<(), StoreError> {
    let mut magic = Vec::new();
    file.by_ref().take(REDB_MAGIC.len() as u64).read_to_end(&mut magic).map_err(io_error("read", path))?;
    if magic.is_empty() {
        return Err(unusable(
            path,
            "the file is empty, which no store ever is; restore a backup, or remove the file to start anew".to_owned(),
        ));
    }
    if magic != REDB_MAGIC {
        return Err(unusable(path, "this is not a keygate store; check [store] path".to_owned()));
    }
    Ok(())
}

/// The pepper, if this is a keygate store, of a version that is known here, under this master key.
fn recognise(transaction: &ReadTransaction, path: &Path, sealer: &Sealer) -> Result<Pepper, StoreError> {
    let foreign = || unusable(path, "this is a redb file, but not a keygate store; check [store] path".to_owned());
    let meta = transaction.open_table(META).map_err(|error| match error.into() {
        redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. } | redb::Error::TableIsMultimap(_) => foreign(),
        error => failure(path, "read", error),
    })?;
    let field = |name| -> Result<Vec<u8>, StoreError> {
        let value = meta.get(name).map_err(|error| failure(path, "read", error.into()))?;
        Ok(value.map(|value| value.value().to_vec()).unwrap_or_default())
    };
    if field("format")? != FORMAT {
        return Err(foreign());
    }
    let schema = number(&field("schema")?).ok_or_else(|| damaged(path, "it does not say its version"))?;
    if schema > SCHEMA {
        let problem =
            format!("this store comes from a newer keygate (version {schema}, known here: {SCHEMA}); use that one, or a backup of before");
        return Err(unusable(path, problem));
    }
    let check = String::from_utf8(field(CHECK_FIELD)?).unwrap_or_default();
    let opened = sealer.open(check_place(&field(STORE_ID)?), &check);
    if !opened.is_ok_and(|plain| plain.expose().as_bytes() == CHECK) {
        return Err(StoreError::MasterKey(format!(
            "the master key is not the one of {}; restore the one that belongs to it (both are one unit of backup)",
            path.display()
        )));
    }
    let all_there = || -> Result<(), Failure> {
        transaction.open_table(KEYS)?;
        transaction.open_table(KEY_INDEX)?;
        transaction.open_table(ACCOUNTS)?;
        transaction.open_table(SESSIONS)?;
        transaction.open_table(HANDOUTS)?;
        transaction.open_table(ADMIN_TOKENS)?;
        transaction.open_table(ACME)?;
        transaction.open_table(ACTS)?;
        transaction.open_table(NOTICES)?;
        transaction.open_table(USAGE)?;
        transaction.open_table(LAST_USES)?;
        transaction.open_table(TOTALS)?;
        Ok(())
    };
    all_there().map_err(|error| error.at(path, "read"))?;
    let pepper = String::from_utf8(field(PEPPER_FIELD)?).unwrap_or_default();
    Pepper::open(sealer, &field(STORE_ID)?, &pepper).map_err(|_| damaged(path, "what keys are hashed under does not open"))
}

pub(super) fn builder(cache_bytes: usize) -> Builder {
    let mut builder = Builder::new();
    builder.set_concurrency_mode(ConcurrencyMode::SingleWriter).set_cache_size(cache_bytes);
    builder
}

pub(super) fn open_database(path: &Path, cache_bytes: usize) -> Result<Database, StoreError> {
    let file = files::open_private(path)?;
    let backend = FileBackend::new(file).map_err(|error| failure(path, "open", error.into()))?;
    if backend.len().map_err(io_error("read", path))? == 0 {
        return Err(damaged(path, "it was emptied"));
    }
    builder(cache_bytes).create_with_backend(backend).map_err(|error| failure(path, "open", error.into()))
}
