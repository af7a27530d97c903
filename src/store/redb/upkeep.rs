//! Looking after a store: whether it is whole, and giving back what it no longer needs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use super::log;
use super::opening::rehearse;
use super::{ACCOUNTS, ACME, ADMIN_TOKENS, Failure, HANDOUTS, KEY_INDEX, KEYS, META, RedbStore, SESSIONS, damaged, failure, number, used};
use crate::keys::admin::AdminTokenRecord;
use crate::keys::record::KeyRecord;
use crate::store::encode::{self, RecordError};
use crate::store::files::io_error;
use crate::store::inventory::{Compacted, Inventory};
use crate::store::seal::MasterKey;
use crate::store::{StoreError, acme, handouts};
use crate::upstream::AccountId;

impl RedbStore {
    /// Opens a store, or a backup of one, to look at it: the file stays as it is, byte for byte, and changes are forgotten.
    ///
    /// # Errors
    /// As [`RedbStore::open`].
    pub fn look_at(path: &Path, master: &MasterKey, cache_bytes: usize) -> Result<Self, StoreError> {
        let sealer = master.sealer();
        let (database, hasher) = rehearse(path, &sealer, cache_bytes)?;
        Ok(Self { path: path.to_owned(), cache_bytes, sealer, hasher, database: Some(database).into(), errors: AtomicU64::new(0) })
    }

    /// Reads everything: the file's checksums, every record, every sealed value, and whether the index says what the keys say.
    /// Changes wait meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read at all. What is wrong with records stands in [`Inventory::problems`].
    pub fn check(&self) -> Result<Inventory, StoreError> {
        let checksums_hold = self.verify_file()?;
        let look = || self.read(|transaction| self.take_stock(transaction));
        let looked = catch_unwind(AssertUnwindSafe(look)).unwrap_or_else(|_| Err(damaged(&self.path, "its structure is broken")));
        let mut inventory = looked?;
        if !checksums_hold {
            inventory.problem("the file's bookkeeping was wrong and has been set right".to_owned());
        }
        inventory.bytes = std::fs::metadata(&self.path).map_err(io_error("read", &self.path))?.len();
        Ok(inventory)
    }

    /// Gives unused space back to the file system. Changes and reads wait meanwhile; requests do neither.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn compact(&self) -> Result<Compacted, StoreError> {
        let length = || Ok::<_, StoreError>(std::fs::metadata(&self.path).map_err(io_error("read", &self.path))?.len());
        let bytes_before = length()?;
        let compacted = {
            let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
            let database = database.as_mut().ok_or_else(|| self.gone())?;
            database.compact().map_err(|error| failure(&self.path, "compact", error.into()))
        };
        if compacted.is_err() {
            self.reopen();
        }
        compacted?;
        Ok(Compacted { bytes_before, bytes_after: length()? })
    }

    fn verify_file(&self) -> Result<bool, StoreError> {
        let verify = || {
            let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
            let database = database.as_mut().ok_or_else(|| self.gone())?;
            database.check_integrity().map_err(|error| failure(&self.path, "check", error.into()))
        };
        catch_unwind(AssertUnwindSafe(verify)).unwrap_or_else(|_| Err(damaged(&self.path, "its structure is broken")))
    }

    fn take_stock(&self, transaction: &ReadTransaction) -> Result<Inventory, Failure> {
        let mut inventory = Inventory::default();
        self.accounts_of(transaction, &mut inventory)?;
        keys_of(transaction, &mut inventory)?;
        self.sessions_of(transaction, &mut inventory)?;
        for item in transaction.open_table(HANDOUTS)?.iter()? {
            let (digest, value) = item?;
            inventory.handouts += 1;
            inventory.judge("a ticket or a handed-out id", handouts::decode(&self.sealer, *digest.value(), value.value()));
        }
        for item in transaction.open_table(ADMIN_TOKENS)?.iter()? {
            inventory.admin_tokens += 1;
            inventory.judge("an admin token", encode::ADMIN_TOKEN_FORMAT.decode::<AdminTokenRecord>(item?.1.value()));
        }
        for item in transaction.open_table(ACME)?.iter()? {
            let (id, value) = item?;
            inventory.acme += 1;
            inventory.judge("an account or a certificate of ACME", acme::decode(&self.sealer, *id.value(), value.value()));
        }
        log::take_stock(transaction, &mut inventory)?;
        used::take_stock(transaction, &mut inventory)?;
        Ok(inventory)
    }

    fn accounts_of(&self, transaction: &ReadTransaction, inventory: &mut Inventory) -> Result<(), Failure> {
        let next = transaction.open_table(META)?.get("next_account")?.and_then(|bytes| number(bytes.value())).unwrap_or(1);
        for item in transaction.open_table(ACCOUNTS)?.iter()? {
            let (id, value) = item?;
            let what = format!("account {}", id.value());
            inventory.accounts += 1;
            if inventory.judge(&what, encode::decode_account(&self.sealer, value.value())).is_some_and(|record| record.id.0 != id.value()) {
                inventory.problem(format!("{what} is another one within"));
            }
            if id.value() >= next {
                inventory.problem(format!("{what} has a number that the next new one would get"));
            }
        }
        Ok(())
    }

    fn sessions_of(&self, transaction: &ReadTransaction, inventory: &mut Inventory) -> Result<(), Failure> {
        let accounts = transaction.open_table(ACCOUNTS)?;
        for item in transaction.open_table(SESSIONS)?.iter()? {
            let (id, value) = item?;
            let account = u32::from_be_bytes([id.value()[0], id.value()[1], id.value()[2], id.value()[3]]);
            let what = format!("a session of account {account}");
            inventory.sessions += 1;
            let record = inventory.judge(&what, encode::decode_session(&self.sealer, value.value()));
            if record.is_some_and(|record| &encode::session_key(record.id) != id.value()) {
                inventory.problem(format!("{what} is another one within"));
            }
            if accounts.get(account)?.is_none() {
                inventory.problem(format!("{what}, which does not exist"));
            }
        }
        Ok(())
    }
}

/// Every key, its account, and its entries in the index: those and no others.
fn keys_of(transaction: &ReadTransaction, inventory: &mut Inventory) -> Result<(), Failure> {
    let (index, accounts) = (transaction.open_table(KEY_INDEX)?, transaction.open_table(ACCOUNTS)?);
    let has_account = |account: AccountId| Ok::<_, Failure>(accounts.get(account.0)?.is_some());
    let mut expected = 0;
    for item in transaction.open_table(KEYS)?.iter()? {
        let (id, value) = item?;
        inventory.keys += 1;
        let Some(record) = inventory.judge(&format!("key record {}", id.value()), encode::decode_key(value.value())) else { continue };
        let what = format!("key {} ({})", record.id, record.name);
        if record.id.as_u64() != id.value() {
            inventory.problem(format!("{what} is another one within"));
        }
        if record.revoked_at.is_some() {
            inventory.revoked_keys += 1;
        } else if !has_account(record.account)? {
            inventory.problem(format!("{what} acts for account {}, which does not exist", record.account.0));
        }
        expected += record.index_entries().len() as u64;
        if !agrees(&index, &record)? {
            inventory.problem(format!("{what}: the index of keys says something else"));
        }
    }
    inventory.index_entries = index.len()?;
    if inventory.index_entries > expected {
        let more = inventory.index_entries - expected;
        inventory.problem(format!("the index of keys has {more} more than there are: secrets without a key would be let in"));
    }
    Ok(())
}

fn agrees(index: &impl ReadableTable<&'static [u8; 32], &'static [u8]>, record: &KeyRecord) -> Result<bool, Failure> {
    for entry in record.index_entries() {
        let found = index.get(entry.digest.as_bytes())?.map(|value| encode::decode_entry(*entry.digest.as_bytes(), value.value()));
        if !found.is_some_and(|found| found.is_ok_and(|found| found == entry)) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Inventory {
    /// The record, or a problem.
    pub(super) fn judge<T>(&mut self, what: &str, decoded: Result<T, RecordError>) -> Option<T> {
        decoded.map_err(|error| self.problem(format!("{what}: {error}"))).ok()
    }
}
