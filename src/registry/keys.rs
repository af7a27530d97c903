//! Keys as operators change them.

use std::collections::HashSet;
use std::time::Duration;

use crate::audit::{self, Act, Field, Object, ObjectKind, Value, Verb};
use crate::clock::Timestamp;
use crate::keys::index::Verified;
use crate::keys::record::{KeyRecord, KeyStatus, PreviousSecret};
use crate::keys::{ApiKey, KeyId};
use crate::limits::Limits;
use crate::registry::{
    Acts, Created, KeyPatch, MAX_BULK, MOST_LINES, NewKey, Registry, RegistryError, Unsettled, check_libraries, check_text, revoked,
};
use crate::store::{Change, StoreError};
use crate::upstream::session::SessionId;

impl Registry {
    /// Makes one key.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn create_key(&self, new: NewKey) -> Result<Created, RegistryError> {
        let name = new.name.clone();
        let mut created = self.create_named(&new, std::iter::once(name))?;
        created.pop().ok_or_else(|| RegistryError::Invalid("no key was asked for".to_owned()))
    }

    /// Makes `count` keys `name-1`, `name-2`, … in one transaction: 1 to 1,000,000.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn create_keys(&self, new: NewKey, count: u32) -> Result<Vec<Created>, RegistryError> {
        if !(1..=MAX_BULK).contains(&count) {
            return Err(RegistryError::Invalid(format!("the number of keys must be 1 to {MAX_BULK}, not {count}")));
        }
        check_text("name", &format!("{}-{count}", new.name))?;
        self.create_named(&new, (1..=count).map(|number| format!("{}-{number}", new.name)))
    }

    fn create_named(&self, new: &NewKey, names: impl Iterator<Item = String>) -> Result<Vec<Created>, RegistryError> {
        check_text("name", &new.name)?;
        check_text("maker", &new.created_by)?;
        check_libraries(new.libraries.as_deref())?;
        let mut unsettled = self.writer();
        self.account(new.account)?;
        let names: Vec<String> = names.collect();
        let ids = self.free_ids(names.len())?;
        let created = names.into_iter().zip(ids).map(|(name, id)| self.draw(new, name, id)).collect::<Result<Vec<Created>, _>>()?;
        let changes = created.iter().map(|created| Change::PutKey(created.record.clone())).collect();
        if let Err(error) = self.commit(&mut unsettled, creation(new, &created), changes) {
            self.bury(&mut unsettled, &created);
            return Err(error.into());
        }
        self.index.extend(created.iter().flat_map(|created| created.record.index_entries()));
        Ok(created)
    }

    /// So many ids that no key has or had.
    fn free_ids(&self, count: usize) -> Result<HashSet<KeyId>, RegistryError> {
        let mut ids = HashSet::with_capacity(count);
        while ids.len() < count {
            while ids.len() < count {
                ids.insert(KeyId::random().map_err(RegistryError::Random)?);
            }
            for id in self.taken(&ids)? {
                ids.remove(&id);
            }
        }
        Ok(ids)
    }

    fn taken(&self, ids: &HashSet<KeyId>) -> Result<Vec<KeyId>, StoreError> {
        let mut taken = Vec::new();
        if ids.len() == 1 {
            for &id in ids {
                taken.extend(self.store.key(id)?.map(|record| record.id));
            }
        } else {
            self.store.visit_keys(&mut |record| {
                taken.extend(ids.contains(&record.id).then_some(record.id));
                true
            })?;
        }
        Ok(taken)
    }

    pub(super) fn draw(&self, new: &NewKey, name: String, id: KeyId) -> Result<Created, RegistryError> {
        let key = ApiKey::generate(id).map_err(RegistryError::Random)?;
        let now = self.clock.now();
        let record = KeyRecord {
            id,
            name,
            account: new.account,
            digest: self.hasher.digest(&key),
            previous: None,
            expires_at: new.expires_at,
            is_active: new.is_active,
            scopes: new.scopes,
            libraries: new.libraries.clone(),
            limits: new.limits.clone(),
            created_at: now,
            created_by: new.created_by.clone(),
            updated_at: now,
            revoked_at: None,
            reborn_at: None,
        };
        Ok(Created { record, key })
    }

    /// Keys whose creation failed may be in the store all the same. Nobody was shown them: they are to be revoked there.
    fn bury(&self, unsettled: &mut Unsettled, created: &[Created]) {
        // One transaction: the first tells of all.
        let absent = created.first().is_none_or(|first| matches!(self.store.key(first.record.id), Ok(None)));
        if !absent {
            for Created { record, .. } in created {
                let dead = revoked(record, self.clock.now());
                self.leave(unsettled, dead, of_revoked(record).with([Field::new("why", "its creation failed")]));
            }
        }
    }

    /// The living key with this secret, as requests find it.
    pub fn find(&self, key: &ApiKey) -> Option<Verified> {
        self.index.find(&self.hasher.digest(key))
    }

    /// One key, revoked ones included.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn key(&self, id: KeyId) -> Result<KeyRecord, RegistryError> {
        self.key_now(&self.writer(), id)
    }

    /// The keys that are wanted, newest first. Only these are held in memory, however many there are.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn keys(&self, mut is_wanted: impl FnMut(&KeyRecord) -> bool) -> Result<Vec<KeyRecord>, RegistryError> {
        let mut records = Vec::new();
        self.visit(|record| records.extend(is_wanted(&record).then_some(record)))?;
        records.sort_by_key(|record| (std::cmp::Reverse(record.created_at), record.id));
        Ok(records)
    }

    /// How many keys are not revoked.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn count_living(&self) -> Result<usize, RegistryError> {
        let mut count = 0;
        self.visit(|record| count += usize::from(record.revoked_at.is_none()))?;
        Ok(count)
    }

    /// Shows all keys as memory has them.
    fn visit(&self, mut look: impl FnMut(KeyRecord)) -> Result<(), RegistryError> {
        let unsettled = self.writer();
        self.store.visit_keys(&mut |record| {
            look(unsettled.keys.get(&record.id).cloned().unwrap_or(record));
            true
        })?;
        Ok(())
    }

    /// Changes a key. The part that takes rights away (switching off, an earlier expiry, fewer scopes, fewer
    /// libraries, tighter limits) holds at once, even if writing fails.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn edit_key(&self, id: KeyId, patch: KeyPatch) -> Result<KeyRecord, RegistryError> {
        if let Some(name) = &patch.name {
            check_text("name", name)?;
        }
        check_libraries(patch.libraries.as_ref().and_then(Option::as_deref))?;
        let mut unsettled = self.writer();
        let before = self.living_key(&unsettled, id)?;
        if let Some(account) = patch.account {
            self.account(account)?;
        }
        let after = patched(&before, patch, self.clock.now());
        let meanwhile = restricted(&before, &after);
        if meanwhile != before {
            self.index.replace(Some(&before), &meanwhile);
        }
        let mut changes = vec![Change::PutKey(after.clone())];
        if after.account != before.account {
            changes.push(Change::RemoveSession(SessionId { account: before.account, key: Some(id) }));
        }
        if let Err(error) = self.commit(&mut unsettled, audit::of_key(Verb::Changed, &before, &after).into(), changes) {
            let restricts = meanwhile != before;
            let act = audit::of_key(Verb::Changed, &before, &meanwhile).with([unwritten()]);
            self.leave(&mut unsettled, meanwhile, act);
            return Err(if restricts { RegistryError::NotDurable(error) } else { error.into() });
        }
        self.index.replace(Some(&meanwhile), &after);
        if after.account != before.account {
            self.listener.key_removed(before.account, id);
        }
        Ok(after)
    }

    /// Gives a key a new secret; the old one stays good for `overlap` (zero: dead at once).
    ///
    /// A second rotation within the overlap ends the oldest secret: only the newest previous one stays. If writing fails, the old
    /// secret goes on; whoever fears that it leaked revokes the key.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn rotate_key(&self, id: KeyId, overlap: Duration) -> Result<Created, RegistryError> {
        let mut unsettled = self.writer();
        let before = self.living_key(&unsettled, id)?;
        let key = ApiKey::generate(id).map_err(RegistryError::Random)?;
        let now = self.clock.now();
        let previous = (!overlap.is_zero()).then(|| PreviousSecret { digest: before.digest.clone(), expires_at: now.plus(overlap) });
        let after = KeyRecord { digest: self.hasher.digest(&key), previous, updated_at: now, ..before.clone() };
        let act = audit::of_key(Verb::Rotated, &before, &after);
        if let Err(error) = self.commit(&mut unsettled, act.into(), vec![Change::PutKey(after.clone())]) {
            let act = audit::of_key(Verb::Rotated, &after, &before).with([unwritten()]);
            self.leave(&mut unsettled, before, act);
            return Err(error.into());
        }
        self.index.replace(Some(&before), &after);
        Ok(Created { record: after, key })
    }

    /// Ends a key for good; its id, name and times stay as a tombstone. Revoking twice is fine.
    ///
    /// # Errors
    /// [`RegistryError::NotDurable`] when the key is refused already, but that could not be written.
    pub fn revoke_key(&self, id: KeyId) -> Result<KeyRecord, RegistryError> {
        let mut unsettled = self.writer();
        let before = self.key_now(&unsettled, id)?;
        if before.revoked_at.is_some() {
            self.settle(&mut unsettled).map_err(RegistryError::NotDurable)?;
            return Ok(before);
        }
        let after = revoked(&before, self.clock.now());
        self.index.replace(Some(&before), &after);
        self.listener.key_removed(before.account, id);
        let session = SessionId { account: before.account, key: Some(id) };
        let changes = vec![Change::PutKey(after.clone()), Change::RemoveSession(session)];
        if let Err(error) = self.commit(&mut unsettled, of_revoked(&before).into(), changes) {
            self.leave(&mut unsettled, after, of_revoked(&before));
            return Err(RegistryError::NotDurable(error));
        }
        Ok(after)
    }
}

/// What the log says of new keys: each has a line of its own, unless there are very many.
fn creation(new: &NewKey, created: &[Created]) -> Acts {
    let each = |created: &Created| audit::of_new_key(&created.record);
    match created {
        [one] => each(one).into(),
        _ => {
            let all = Object { kind: ObjectKind::Key, id: String::new(), name: Value::text(&new.name) };
            let first = Act::new(Verb::Created, all).with([Field::new("keys", created.len())]);
            Acts { first, more: created.iter().filter(|_| created.len() <= MOST_LINES).map(each).collect() }
        }
    }
}

/// What the log says of a key that dies.
pub(super) fn of_revoked(before: &KeyRecord) -> Act {
    Act::new(Verb::Revoked, before.into())
}

/// What the log says of a change that was undone, as far as it gave rights, since it could not be written at first.
fn unwritten() -> Field {
    Field::new("why", "the change could not be written at first")
}

fn patched(before: &KeyRecord, patch: KeyPatch, now: Timestamp) -> KeyRecord {
    let is_other_life = before.status(now) != KeyStatus::Active || patch.account.is_some_and(|account| account != before.account);
    KeyRecord {
        name: patch.name.unwrap_or_else(|| before.name.clone()),
        account: patch.account.unwrap_or(before.account),
        expires_at: patch.expires_at.unwrap_or(before.expires_at),
        is_active: patch.is_active.unwrap_or(before.is_active),
        scopes: patch.scopes.unwrap_or(before.scopes),
        libraries: patch.libraries.unwrap_or_else(|| before.libraries.clone()),
        limits: match patch.limits {
            None => before.limits.clone(),
            Some(None) => Limits::default(),
            Some(Some(patch)) => before.limits.patched(patch),
        },
        updated_at: now,
        // Tickets died with the key, and what says so in the store may not have been written when it died.
        reborn_at: if is_other_life { Some(now) } else { before.reborn_at },
        ..before.clone()
    }
}

/// The old record with only what the new one takes away: what holds while it is unknown whether the new one was written.
fn restricted(before: &KeyRecord, after: &KeyRecord) -> KeyRecord {
    let earlier = match (before.expires_at, after.expires_at) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    KeyRecord {
        is_active: before.is_active && after.is_active,
        expires_at: earlier,
        scopes: before.scopes.and(after.scopes),
        limits: before.limits.and(&after.limits),
        libraries: in_both(before.libraries.as_deref(), after.libraries.as_deref()),
        ..before.clone()
    }
}

/// What is in both lists, where `None` is the list of all.
fn in_both(one: Option<&[String]>, other: Option<&[String]>) -> Option<Vec<String>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.iter().filter(|id| other.contains(id)).cloned().collect()),
        (one, other) => one.or(other).map(<[String]>::to_vec),
    }
}
