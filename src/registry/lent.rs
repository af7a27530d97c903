//! A key that only memory knows: for who tries the front door from inside. No list shows it, and no restart brings it back.

use std::time::Duration;

use crate::keys::record::KeyRecord;
use crate::keys::{ApiKey, KeyId, Scopes};
use crate::registry::{NewKey, Registry, RegistryError, revoked};
use crate::upstream::AccountId;

/// How long it is good at most, whatever becomes of who has it.
const LIFE: Duration = Duration::from_secs(300);

/// A key that ends when this is dropped.
#[derive(Debug)]
pub struct Lent<'a> {
    registry: &'a Registry,
    record: KeyRecord,
    key: ApiKey,
}

impl Lent<'_> {
    /// The key.
    pub const fn key(&self) -> &ApiKey {
        &self.key
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let registry = self.registry;
        registry.index.replace(Some(&self.record), &revoked(&self.record, registry.clock.now()));
        // Where each key has a session of its own, this one had too.
        registry.listener.key_removed(self.record.account, self.record.id);
    }
}

impl Registry {
    /// Lends a key for an account, with every scope but `admin`. Does not touch the store but to find an id that nobody has.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn lend_key(&self, name: &str, account: AccountId) -> Result<Lent<'_>, RegistryError> {
        let new = NewKey {
            name: name.to_owned(),
            account,
            expires_at: Some(self.clock.now().plus(LIFE)),
            is_active: true,
            scopes: Scopes::FULL,
            libraries: None,
            limits: crate::limits::Limits::default(),
            created_by: name.to_owned(),
        };
        let id = self.unused_id()?;
        let created = self.draw(&new, new.name.clone(), id)?;
        self.index.extend(created.record.index_entries());
        Ok(Lent { registry: self, record: created.record, key: created.key })
    }

    fn unused_id(&self) -> Result<KeyId, RegistryError> {
        loop {
            let id = KeyId::random().map_err(RegistryError::Random)?;
            if self.store.key(id)?.is_none() {
                return Ok(id);
            }
        }
    }
}
