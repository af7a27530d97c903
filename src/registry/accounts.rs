//! Accounts as operators change them.

use std::fmt::Write;

use crate::keys::record::KeyRecord;
use crate::registry::{Registry, RegistryError, check_text, revoked};
use crate::store::Change;
use crate::store::records::AccountRecord;
use crate::upstream::{AccountId, Credential, UpstreamName};

impl Registry {
    /// Adds an account.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn add_account(&self, upstream: UpstreamName, name: String, credential: Credential) -> Result<AccountRecord, RegistryError> {
        check_text("account's name", &name)?;
        check_credential(&credential)?;
        let mut unsettled = self.writer();
        if self.store.accounts()?.iter().any(|account| account.upstream == upstream && account.name == name) {
            return Err(RegistryError::AccountExists(format!("{upstream}/{name}")));
        }
        let record = AccountRecord {
            id: self.store.next_account()?,
            upstream,
            name,
            credential,
            device_id: new_device_id()?,
            user_id: None,
            created_at: self.clock.now(),
            broken: None,
        };
        self.commit(&mut unsettled, vec![Change::PutAccount(record.clone())])?;
        self.listener.account_changed(record.clone());
        Ok(record)
    }

    /// Gives an account another credential; its sessions and its broken state are dropped. The user id stays: the new credential
    /// must be one of the same user.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn set_credential(&self, id: AccountId, credential: Credential) -> Result<AccountRecord, RegistryError> {
        check_credential(&credential)?;
        let mut unsettled = self.writer();
        let record = AccountRecord { credential, broken: None, ..self.account(id)? };
        let sessions = self.store.sessions()?.into_iter().filter(|session| session.id.account == id);
        let mut changes: Vec<Change> = sessions.map(|session| Change::RemoveSession(session.id)).collect();
        changes.push(Change::PutAccount(record.clone()));
        self.commit(&mut unsettled, changes)?;
        self.listener.account_changed(record.clone());
        Ok(record)
    }

    /// Removes an account and returns how many keys went with it; with `revoke_keys` the keys that act for it are revoked in the
    /// same transaction, without it there must be none.
    ///
    /// # Errors
    /// [`RegistryError::NotDurable`] when the keys are refused already, but the store failed; the account is still there then.
    pub fn remove_account(&self, id: AccountId, revoke_keys: bool) -> Result<usize, RegistryError> {
        let mut unsettled = self.writer();
        let account = self.account(id)?;
        let mut living: Vec<KeyRecord> = Vec::new();
        self.store.visit_keys(&mut |record| {
            let record = unsettled.get(&record.id).cloned().unwrap_or(record);
            if record.account == id && record.revoked_at.is_none() {
                living.push(record);
            }
            true
        })?;
        if !living.is_empty() && !revoke_keys {
            return Err(RegistryError::AccountInUse { account: account.full_name(), keys: living.len() });
        }
        let now = self.clock.now();
        let dead: Vec<KeyRecord> = living.iter().map(|record| revoked(record, now)).collect();
        self.index.remove(&living);
        let mut changes: Vec<Change> = dead.iter().cloned().map(Change::PutKey).collect();
        changes.push(Change::RemoveAccount(id));
        if let Err(error) = self.commit(&mut unsettled, changes) {
            let refuses = !dead.is_empty();
            unsettled.extend(dead.into_iter().map(|record| (record.id, record)));
            return Err(if refuses { RegistryError::NotDurable(error) } else { error.into() });
        }
        self.listener.account_removed(id);
        Ok(dead.len())
    }
}

/// What would only fail at the upstream.
fn check_credential(credential: &Credential) -> Result<(), RegistryError> {
    match credential {
        Credential::Token(token) if token.expose().is_empty() || !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(RegistryError::Invalid("a token must not be empty and consists of visible ASCII characters".to_owned()))
        }
        _ => Ok(()),
    }
}

/// 32 hex digits.
fn new_device_id() -> Result<String, RegistryError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(RegistryError::Random)?;
    Ok(bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}
