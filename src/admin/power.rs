//! Keys that rule a media server: those with the scope `admin`, and those of an account that is marked as its administrator. Who may make
//! one, or get hold of one, has what the admin scope `all` stands for: a token with `keys` alone is not enough.

use crate::admin::error::AdminError;
use crate::admin::{Actor, Admin};
use crate::keys::admin::AdminScope;
use crate::keys::{KeyId, Scope, Scopes};
use crate::registry::{KeyPatch, RegistryError};
use crate::upstream::AccountId;

impl Admin {
    /// Refuses a key with these scopes for this account to who may not have it made. Blocking.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`], or that the store failed.
    pub(super) fn check_power(&self, peer: Actor, scopes: Scopes, account: AccountId) -> Result<(), AdminError> {
        let Some(why) = self.power(scopes, account) else { return Ok(()) };
        if self.may_all(peer)? {
            return Ok(());
        }
        Err(AdminError::Forbidden(format!("{why}: this needs an admin token with the scope \"all\"")))
    }

    /// The same of a key that is there. Blocking.
    ///
    /// # Errors
    /// As [`Admin::check_power`]; none where there is no such key, which whoever changes it will say.
    pub(super) fn check_power_of(&self, peer: Actor, id: KeyId) -> Result<(), AdminError> {
        self.check_power_after(peer, id, &KeyPatch::default())
    }

    /// The same of a key as it will be. To switch one off is free to all. Blocking.
    ///
    /// # Errors
    /// As [`Admin::check_power_of`].
    pub(super) fn check_power_after(&self, peer: Actor, id: KeyId, patch: &KeyPatch) -> Result<(), AdminError> {
        let is_switching_off = matches!(
            patch,
            KeyPatch { name: None, account: None, expires_at: None, is_active: Some(false), scopes: None, libraries: None, limits: None }
        );
        match self.registry.key(id) {
            Ok(_) if is_switching_off => Ok(()),
            Ok(record) => self.check_power(peer, patch.scopes.unwrap_or(record.scopes), patch.account.unwrap_or(record.account)),
            Err(RegistryError::NoKey(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What a key would rule by.
    fn power(&self, scopes: Scopes, account: AccountId) -> Option<String> {
        if scopes.contains(Scope::Admin) {
            return Some("a key with the scope admin rules the media server".to_owned());
        }
        let account = self.sessions.account(account).filter(|account| account.is_administrator)?;
        Some(format!("{} is the administrator of its media server, and so is whoever has a key of it", account.full_name()))
    }

    fn may_all(&self, peer: Actor) -> Result<bool, AdminError> {
        let Actor::Token { id, .. } = peer else { return Ok(true) };
        let token = self.registry.admin_tokens()?.into_iter().find(|token| token.id == id);
        Ok(token.is_some_and(|token| token.scopes.iter().any(|scope| scope.covers(AdminScope::All))))
    }
}
