//! What keys were used for, within the file.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::Failure;
use crate::keys::KeyId;
use crate::store::inventory::Inventory;
use crate::store::usage;
use crate::usage::record::{KeyUsage, LastUse, UpstreamUsage};

pub(super) const USAGE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("usage");
/// A small part of it, for lists of all keys.
pub(super) const LAST_USES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("last_uses");
pub(super) const TOTALS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("totals");

pub(super) fn put(transaction: &WriteTransaction, key: KeyId, record: &KeyUsage) -> Result<(), Failure> {
    transaction.open_table(USAGE)?.insert(key.as_u64(), usage::encode(record)?.as_slice())?;
    if let Some(last) = record.last() {
        transaction.open_table(LAST_USES)?.insert(key.as_u64(), usage::encode(&last)?.as_slice())?;
    }
    Ok(())
}

pub(super) fn put_totals(transaction: &WriteTransaction, upstream: &str, record: &UpstreamUsage) -> Result<(), Failure> {
    transaction.open_table(TOTALS)?.insert(upstream, usage::encode(record)?.as_slice())?;
    Ok(())
}

pub(super) fn of_key(transaction: &ReadTransaction, key: KeyId) -> Result<Option<KeyUsage>, Failure> {
    let table = transaction.open_table(USAGE)?;
    let stored = table.get(key.as_u64())?;
    Ok(stored.map(|bytes| usage::decode(bytes.value())).transpose()?)
}

pub(super) fn visit_last_uses(transaction: &ReadTransaction, visit: &mut dyn FnMut(KeyId, LastUse)) -> Result<(), Failure> {
    for item in transaction.open_table(LAST_USES)?.iter()? {
        let (key, bytes) = item?;
        visit(KeyId::from_u64(key.value()), usage::decode(bytes.value())?);
    }
    Ok(())
}

pub(super) fn totals(transaction: &ReadTransaction) -> Result<BTreeMap<String, UpstreamUsage>, Failure> {
    let table = transaction.open_table(TOTALS)?;
    let item = |item: Result<(redb::AccessGuard<'_, &str>, redb::AccessGuard<'_, &[u8]>), redb::StorageError>| -> Result<_, Failure> {
        let (upstream, bytes) = item?;
        Ok((upstream.value().to_owned(), usage::decode(bytes.value())?))
    };
    table.iter()?.map(item).collect()
}

pub(super) fn take_stock(transaction: &ReadTransaction, inventory: &mut Inventory) -> Result<(), Failure> {
    for item in transaction.open_table(USAGE)?.iter()? {
        let (key, bytes) = item?;
        inventory.used_keys += 1;
        let what = || format!("the use of key {}", KeyId::from_u64(key.value()));
        inventory.judge(&what(), usage::decode::<KeyUsage>(bytes.value()));
    }
    for item in transaction.open_table(LAST_USES)?.iter()? {
        inventory.judge("the last use of a key", usage::decode::<LastUse>(item?.1.value()));
    }
    for item in transaction.open_table(TOTALS)?.iter()? {
        inventory.judge("the sums of an upstream", usage::decode::<UpstreamUsage>(item?.1.value()));
    }
    Ok(())
}
