//! A store written anew into another file: as it is, or sealed under another master key.
//!
//! The copy holds what is valid and nothing else: what was changed or removed before is not in its free pages.

use std::path::Path;
use std::sync::PoisonError;

use redb::backends::FileBackend;
use redb::{Key, ReadTransaction, ReadableTable, TableDefinition, Value, WriteTransaction};
use tempfile::NamedTempFile;

use super::log::{ACTS, NOTICES};
use super::opening::{CHECK_FIELD, Marks, PEPPER_FIELD, STORE_ID, builder};
use super::used::{LAST_USES, TOTALS, USAGE};
use super::{ACCOUNTS, ACME, ADMIN_TOKENS, Failure, HANDOUTS, KEY_INDEX, KEYS, META, RedbStore, SESSIONS, begin_write, failure, log};
use crate::store::encode::{self, RecordError};
use crate::store::files::{self, io_error};
use crate::store::seal::{Pepper, Sealer};
use crate::store::{StoreError, acme, handouts};

impl RedbStore {
    /// Writes what the store holds now into a new file of this folder, 0600, durable on return. Others may read and write the store
    /// meanwhile. With `other` everything is sealed for that one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) fn copy_into(&self, folder: &Path, other: Option<&Sealer>) -> Result<NamedTempFile, StoreError> {
        let file = files::new_in(folder)?;
        let path = file.path();
        let failed = |error: redb::Error| failure(path, "write", error);
        let backend = FileBackend::new(file.reopen().map_err(io_error("create", path))?).map_err(|error| failed(error.into()))?;
        let database = builder(self.cache_bytes).create_with_backend(backend).map_err(|error| failed(error.into()))?;
        let into = begin_write(&database).map_err(failed)?;
        self.read(|from| match other {
            Some(other) => copy_resealed(from, &into, &self.sealer, other),
            None => copy_as_is(from, &into),
        })?;
        into.commit().map_err(|error| failed(error.into()))?;
        drop(database);
        file.as_file().sync_all().map_err(io_error("write", path))?;
        Ok(file)
    }

    /// The audit log of another store in the place of this one's, where that one is of the same origin and goes on from it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(in crate::store) fn adopt_log(&self, other: &Self) -> Result<(), StoreError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| self.gone())?;
        other.read(|from| {
            let into = begin_write(database)?;
            let theirs = from.open_table(META)?.get(STORE_ID)?.map(|value| value.value().to_vec());
            let own = into.open_table(META)?.get(STORE_ID)?.map(|value| value.value().to_vec());
            if own == theirs {
                log::adopt(&into, from)?;
            }
            Ok(into.commit()?)
        })
    }

    /// `RedbStore::copy_into` a file that must not exist yet.
    ///
    /// # Errors
    /// [`StoreError`]; also when there is a file of this name already.
    pub fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        files::name_new(self.copy_into(files::directory_of(path), None)?, path)
    }

    /// `RedbStore::copy_into` a file beside the store that has no name any more: it is gone with whoever reads it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn copy_unnamed(&self) -> Result<std::fs::File, StoreError> {
        let copy = self.copy_into(files::directory_of(&self.path), None)?;
        copy.reopen().map_err(io_error("read", &self.path))
    }
}

fn copy_as_is(from: &ReadTransaction, into: &WriteTransaction) -> Result<(), Failure> {
    copy_unsealed(from, into)?;
    copy(from, into, ACCOUNTS)?;
    copy(from, into, SESSIONS)?;
    copy(from, into, HANDOUTS)?;
    copy(from, into, ACME)
}

/// What holds nothing sealed, but for the marks of the store.
fn copy_unsealed(from: &ReadTransaction, into: &WriteTransaction) -> Result<(), Failure> {
    copy(from, into, META)?;
    copy(from, into, KEYS)?;
    copy(from, into, KEY_INDEX)?;
    copy(from, into, ADMIN_TOKENS)?;
    copy(from, into, ACTS)?;
    copy(from, into, NOTICES)?;
    copy(from, into, USAGE)?;
    copy(from, into, LAST_USES)?;
    copy(from, into, TOTALS)
}

fn copy<K: Key + 'static, V: Value + 'static>(
    from: &ReadTransaction,
    into: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<(), Failure> {
    let mut copy = into.open_table(table)?;
    for item in from.open_table(table)?.iter()? {
        let (key, value) = item?;
        copy.insert(key.value(), value.value())?;
    }
    Ok(())
}

fn copy_resealed(from: &ReadTransaction, into: &WriteTransaction, old: &Sealer, new: &Sealer) -> Result<(), Failure> {
    copy_unsealed(from, into)?;
    reseal_marks(into, old, new)?;
    let mut accounts = into.open_table(ACCOUNTS)?;
    for item in from.open_table(ACCOUNTS)?.iter()? {
        let (key, value) = item?;
        let record = encode::decode_account(old, value.value())?;
        accounts.insert(key.value(), encode::encode_account(new, &record)?.as_slice())?;
    }
    let mut sessions = into.open_table(SESSIONS)?;
    for item in from.open_table(SESSIONS)?.iter()? {
        let (key, value) = item?;
        let record = encode::decode_session(old, value.value())?;
        sessions.insert(key.value(), encode::encode_session(new, &record)?.as_slice())?;
    }
    let mut copies = into.open_table(HANDOUTS)?;
    for item in from.open_table(HANDOUTS)?.iter()? {
        let (key, value) = item?;
        let record = handouts::decode(old, *key.value(), value.value())?;
        copies.insert(key.value(), handouts::encode(new, &record)?.as_slice())?;
    }
    let mut copies = into.open_table(ACME)?;
    for item in from.open_table(ACME)?.iter()? {
        let (key, value) = item?;
        let record = acme::decode(old, *key.value(), value.value())?;
        copies.insert(key.value(), acme::encode(new, &record)?.as_slice())?;
    }
    Ok(())
}

fn reseal_marks(into: &WriteTransaction, old: &Sealer, new: &Sealer) -> Result<(), Failure> {
    let mut meta = into.open_table(META)?;
    let field = |name| -> Result<Vec<u8>, Failure> { Ok(meta.get(name)?.map(|value| value.value().to_vec()).unwrap_or_default()) };
    let id = field(STORE_ID)?;
    let pepper = String::from_utf8(field(PEPPER_FIELD)?).unwrap_or_default();
    let pepper = Pepper::open(old, &id, &pepper).map_err(RecordError::Seal)?;
    let marks = Marks::new(new, &id, &pepper)?;
    meta.insert(CHECK_FIELD, marks.check.as_bytes())?;
    meta.insert(PEPPER_FIELD, marks.pepper.as_bytes())?;
    Ok(())
}
