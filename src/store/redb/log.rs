//! The audit log within the file: two tables with numbers of one sequence, so that notices can be pruned apart from acts.

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use super::{Failure, META};
use crate::audit::{Entry, Line, Reading};
use crate::store::audit::{self, Marks, Pruning};
use crate::store::inventory::Inventory;

pub(super) const ACTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("audit_acts");
pub(super) const NOTICES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("audit_notices");
/// The newest number of each sort.
const MARKS: &str = "audit_marks";

fn marks(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Marks, Failure> {
    Ok(meta.get(MARKS)?.and_then(|bytes| Marks::from_bytes(bytes.value())).unwrap_or_default())
}

/// Writes lines in their order; each gets the next number.
pub(super) fn append(transaction: &WriteTransaction, lines: Vec<Line>) -> Result<(), Failure> {
    if lines.is_empty() {
        return Ok(());
    }
    let mut meta = transaction.open_table(META)?;
    let mut marks = marks(&meta)?;
    let (mut acts, mut notices) = (transaction.open_table(ACTS)?, transaction.open_table(NOTICES)?);
    for line in lines {
        let table = if line.verb.is_notice() { &mut notices } else { &mut acts };
        let entry = marks.place(line);
        table.insert(entry.number, audit::encode(&entry)?.as_slice())?;
    }
    meta.insert(MARKS, marks.to_bytes().as_slice())?;
    Ok(())
}

/// Takes out what is too old or too much, oldest first.
pub(super) fn prune(transaction: &WriteTransaction, pruning: Pruning) -> Result<(), Failure> {
    let bounds = pruning.bounds;
    let oldest = pruning.now.minus(bounds.keep);
    for (table, most) in [(ACTS, bounds.acts), (NOTICES, bounds.notices)] {
        let mut table = transaction.open_table(table)?;
        loop {
            let goes = match table.first()? {
                None => false,
                Some(_) if table.len()? > most => true,
                // What cannot be read is for the check to find.
                Some((number, bytes)) => audit::decode(number.value(), bytes.value()).is_ok_and(|entry| entry.line.at < oldest),
            };
            if !goes {
                break;
            }
            table.pop_first()?;
        }
    }
    Ok(())
}

/// Shows lines of both sorts in the order of their numbers, until `visit` has enough.
pub(super) fn read(transaction: &ReadTransaction, from: Reading, visit: &mut dyn FnMut(Entry) -> bool) -> Result<(), Failure> {
    let range = match from {
        Reading::Before(number) => 0..number,
        Reading::After(number) => number.saturating_add(1)..u64::MAX,
    };
    let newest_first = matches!(from, Reading::Before(_));
    let (acts, notices) = (transaction.open_table(ACTS)?, transaction.open_table(NOTICES)?);
    let (mut acts, mut notices) = (acts.range(range.clone())?, notices.range(range)?);
    let step = |range: &mut redb::Range<'_, u64, &[u8]>| -> Result<Option<Entry>, Failure> {
        let Some(item) = (if newest_first { range.next_back() } else { range.next() }) else { return Ok(None) };
        let (number, bytes) = item?;
        Ok(Some(audit::decode(number.value(), bytes.value())?))
    };
    let (mut act, mut notice) = (step(&mut acts)?, step(&mut notices)?);
    loop {
        let takes_act = match (&act, &notice) {
            (None, None) => return Ok(()),
            (Some(act), Some(notice)) => (act.number > notice.number) == newest_first,
            (Some(_), None) => true,
            (None, Some(_)) => false,
        };
        let next =
            if takes_act { std::mem::replace(&mut act, step(&mut acts)?) } else { std::mem::replace(&mut notice, step(&mut notices)?) };
        if !next.is_some_and(&mut *visit) {
            return Ok(());
        }
    }
}

/// The log of another store in the place of this one's, if that goes on from it.
pub(super) fn adopt(transaction: &WriteTransaction, from: &ReadTransaction) -> Result<(), Failure> {
    let theirs = marks(&from.open_table(META)?)?;
    let mut meta = transaction.open_table(META)?;
    if theirs.newest() < marks(&meta)?.newest() {
        return Ok(());
    }
    meta.insert(MARKS, theirs.to_bytes().as_slice())?;
    for table in [ACTS, NOTICES] {
        let mut own = transaction.open_table(table)?;
        own.retain(|_, _| false)?;
        for item in from.open_table(table)?.iter()? {
            let (number, bytes) = item?;
            own.insert(number.value(), bytes.value())?;
        }
    }
    Ok(())
}

/// Whether every line can be read and none is missing between the oldest and the newest of its sort.
pub(super) fn take_stock(transaction: &ReadTransaction, inventory: &mut Inventory) -> Result<(), Failure> {
    let marks = marks(&transaction.open_table(META)?)?;
    for (table, newest) in [(ACTS, marks.act), (NOTICES, marks.notice)] {
        let mut before = None;
        for item in transaction.open_table(table)?.iter()? {
            let (number, bytes) = item?;
            let number = number.value();
            inventory.audit_lines += 1;
            let what = format!("line {number} of the audit log");
            let entry = inventory.judge(&what, audit::decode(number, bytes.value()));
            if entry.is_some_and(|entry| before.is_some_and(|before| before != entry.previous)) {
                inventory.problem(format!("{what} is not the one after the line before it: lines are missing"));
            }
            before = Some(number);
        }
        if before.is_some_and(|last| last != newest) {
            inventory.problem("the newest lines of the audit log are missing".to_owned());
        }
    }
    Ok(())
}
