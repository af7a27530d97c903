//! Changes of the store's files themselves, for as long as no gateway runs: a backup put in the store's place, a new master key.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::audit::{Act, Actor, Field, Object, Verb};
use crate::clock::Timestamp;
use crate::keys::record::KeyRecord;
use crate::store::files::{self, io_error, unusable};
use crate::store::inventory::Inventory;
use crate::store::redb::{CACHE_BYTES, RedbStore};
use crate::store::seal::MasterKey;
use crate::store::{Change, Store, StoreError};

/// Who does it, and when.
#[derive(Clone, Copy, Debug)]
pub struct By<'a> {
    /// For the audit log.
    pub actor: &'a Actor,
    /// Now.
    pub now: Timestamp,
}

impl By<'_> {
    fn line(&self, act: Act) -> Change {
        Change::Audit(act.by(self.actor, self.now))
    }
}

/// What putting a backup back did.
#[derive(Debug)]
pub struct Restored {
    /// What the store holds now.
    pub inventory: Inventory,
    /// Where the store that was there before lies now.
    pub aside: Option<PathBuf>,
    /// Names of keys that were revoked since the backup was made, and stay revoked. `None`: there was no store that could say so, and
    /// such keys are good again.
    pub still_revoked: Option<Vec<String>>,
}

/// Puts a copy of a backup in the store's place, after it was looked through. A store that is there already must be given up
/// (`force`), and is kept beside it.
///
/// # Errors
/// [`StoreError`]; the store is as it was then.
pub fn restore(backup: &Path, path: &Path, master: &MasterKey, force: bool, by: &By<'_>) -> Result<Restored, StoreError> {
    let copy = RedbStore::look_at(backup, master, CACHE_BYTES)?;
    let inventory = copy.check()?;
    if let Some(problem) = inventory.problems.first() {
        return Err(unusable(backup, format!("this backup is damaged ({problem}); the store was left as it is")));
    }
    files::prepare_directory(path)?;
    let exists = fs::symlink_metadata(path).is_ok();
    if exists && !force {
        let problem = "there is a store already; --force puts the backup in its place, and keeps it under another name".to_owned();
        return Err(unusable(path, problem));
    }
    // While this one is open, no gateway can open it.
    let old = match exists.then(|| RedbStore::open(path, master, CACHE_BYTES)) {
        Some(Ok(store)) => Some(store),
        None | Some(Err(StoreError::Unusable { .. } | StoreError::MasterKey(_))) => None,
        Some(Err(error)) => return Err(error),
    };
    let still_revoked = old.as_ref().map(|old| keep_revoked(&copy, old)).transpose()?;
    copy.commit(vec![by.line(Act::new(Verb::Restored, Object::store()).with([Field::new("keys", inventory.keys)]))])?;
    let file = copy.copy_into(files::directory_of(path), None)?;
    files::hand_over(&file, path)?;
    let aside = exists.then(|| beside(path, &format!("before-restore-{}", stamp(by.now))));
    match &aside {
        Some(aside) => files::replace(file, path, Some(aside))?,
        None => files::name_new(file, path)?,
    }
    Ok(Restored { inventory, aside, still_revoked })
}

/// What was revoked once stays so, and it is never earlier than it was. The backup's file is not changed by that.
fn keep_revoked(backup: &RedbStore, store: &RedbStore) -> Result<Vec<String>, StoreError> {
    let mut good = Vec::new();
    backup.visit_keys(&mut |record| {
        if record.revoked_at.is_none() {
            good.push(record.id);
        }
        true
    })?;
    let now = good.into_iter().map(|id| store.key(id)).collect::<Result<Vec<_>, _>>()?;
    let revoked: Vec<KeyRecord> = now.into_iter().flatten().filter(|record| record.revoked_at.is_some()).collect();
    let names = revoked.iter().map(|record| record.name.clone()).collect();
    // What happened since then did happen.
    backup.adopt_log(store)?;
    let mark = backup.time_mark()?.max(store.time_mark()?).map(Change::MarkTime);
    let tokens = store.admin_tokens()?.into_iter().filter(|token| token.revoked_at.is_some()).map(Change::PutAdminToken);
    // Whoever knows the password of then, which somebody had reason to change, stays out.
    let password = store.page_password()?.map(Change::PutPagePassword);
    backup.commit(revoked.into_iter().map(Change::PutKey).chain(mark).chain(tokens).chain(password).collect())?;
    Ok(names)
}

/// Where a new master key goes.
#[derive(Clone, Copy, Debug)]
pub enum NewKey<'a> {
    /// In the place of the old one, in this file.
    Instead(&'a Path),
    /// Into this file, which must not exist; the operator takes it from there.
    Apart(&'a Path),
}

/// Writes the store anew under a new master key. Gives the name under which the old key is kept, if keygate had it in a file.
///
/// A crash at any point leaves a store and its key: the new key is on the disk before the store is, and `finish` puts it in its
/// place at the next start.
///
/// # Errors
/// [`StoreError`].
pub fn rekey(path: &Path, master: &MasterKey, new: NewKey<'_>, by: &By<'_>) -> Result<Option<PathBuf>, StoreError> {
    // Open until the end: no gateway can open it meanwhile.
    let store = RedbStore::open(path, master, CACHE_BYTES)?;
    let (written, place) = match new {
        NewKey::Instead(file) => {
            let waiting = waiting(file);
            // Left by a crash: the store opened under the old key, so this one was never used.
            remove_if_there(&waiting)?;
            (waiting, Some(file))
        }
        NewKey::Apart(file) => (file.to_owned(), None),
    };
    let key = MasterKey::create_for(&written, place)?;
    let copy = match resealed(&store, path, &key, by) {
        Ok(copy) => copy,
        Err(error) => {
            remove_if_there(&written)?;
            return Err(error);
        }
    };
    // From here on the new key may be the one that opens the store, whatever fails: it stays.
    files::replace(copy, path, None)?;
    let NewKey::Instead(file) = new else { return Ok(None) };
    let old = beside(file, &format!("until-{}", stamp(by.now)));
    fs::hard_link(file, &old).map_err(io_error("create", &old))?;
    take_place(file)?;
    Ok(Some(old))
}

/// A copy of the store under this key, looked through.
fn resealed(store: &RedbStore, path: &Path, key: &MasterKey, by: &By<'_>) -> Result<NamedTempFile, StoreError> {
    let before = store.check()?;
    let copy = store.copy_into(files::directory_of(path), Some(&key.sealer()))?;
    files::hand_over(&copy, path)?;
    let after = RedbStore::look_at(copy.path(), key, CACHE_BYTES)?.check()?;
    if let Some(problem) = before.problems.first().or_else(|| after.problems.first()) {
        return Err(unusable(path, format!("the store is not whole ({problem}); it was left as it is")));
    }
    if after.records() != before.records() {
        return Err(unusable(path, "not everything came into the copy; the store was left as it is".to_owned()));
    }
    RedbStore::open(copy.path(), key, CACHE_BYTES)?.commit(vec![by.line(Act::new(Verb::Rekeyed, Object::store()))])?;
    Ok(copy)
}

/// Puts a new master key in its place that a crash left waiting, if the store is under it already. Gives the key.
pub(super) fn finish(path: &Path, key_file: &Path) -> Option<MasterKey> {
    let text = fs::read_to_string(waiting(key_file)).ok()?;
    let key = MasterKey::parse(&text.into()).ok()?;
    RedbStore::look_at(path, &key, CACHE_BYTES).ok()?;
    take_place(key_file).ok()?;
    Some(key)
}

fn take_place(key_file: &Path) -> Result<(), StoreError> {
    fs::rename(waiting(key_file), key_file).map_err(io_error("replace", key_file))?;
    files::sync_directory(key_file)
}

fn waiting(key_file: &Path) -> PathBuf {
    beside(key_file, "new")
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

/// `keygate.redb` and `x` give `keygate.redb.x`.
fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

/// 20261122T061500000Z.
fn stamp(now: Timestamp) -> String {
    now.to_string().chars().filter(char::is_ascii_alphanumeric).collect()
}
