//! Accounts as operators change them.

use std::fmt::Write;

use crate::audit::{self, Act, Field, Verb};
use crate::keys::record::KeyRecord;
use crate::registry::keys::of_revoked;
use crate::registry::{Acts, MOST_LINES, Registry, RegistryError, Removal, check_text, revoked};
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
        let user_id = match &credential {
            Credential::Minted { user_id } => Some(user_id.clone()),
            Credential::Password(_) | Credential::Token(_) => None,
        };
        let record = AccountRecord {
            id: self.store.next_account()?,
            upstream,
            name,
            credential,
            device_id: new_device_id()?,
            user_id,
            created_at: self.clock.now(),
            broken: None,
            is_administrator: false,
        };
        self.commit(&mut unsettled, audit::of_new_account(&record).into(), vec![Change::PutAccount(record.clone())])?;
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
        let before = self.account(id)?;
        let record = AccountRecord { credential, broken: None, ..before.clone() };
        let sessions = self.store.sessions()?.into_iter().filter(|session| session.id.account == id);
        let mut changes: Vec<Change> = sessions.map(|session| Change::RemoveSession(session.id)).collect();
        changes.push(Change::PutAccount(record.clone()));
        self.commit(&mut unsettled, audit::of_account(Verb::CredentialChanged, &before, &record).into(), changes)?;
        self.listener.account_changed(record.clone());
        Ok(record)
    }

    /// Makes an account the administrator of its upstream, in the place of the one that was it; or takes that from it, for which no
    /// other account's sessions may be made with it, unless forced.
    ///
    /// # Errors
    /// [`RegistryError`]; a minted account cannot be one.
    pub fn set_administrator(&self, id: AccountId, is_administrator: bool, force: bool) -> Result<AccountRecord, RegistryError> {
        let mut unsettled = self.writer();
        let account = self.account(id)?;
        if account.is_administrator == is_administrator {
            return Ok(account);
        }
        if is_administrator && matches!(account.credential, Credential::Minted { .. }) {
            let name = account.full_name();
            return Err(RegistryError::Invalid(format!("{name} is minted itself: an administrator has a password or a token of its own")));
        }
        if !is_administrator && !force {
            self.check_unused_administrator(&account)?;
        }
        let record = AccountRecord { is_administrator, ..account.clone() };
        let others = self.store.accounts()?.into_iter().filter(|other| other.upstream == record.upstream && other.is_administrator);
        let mut changed: Vec<AccountRecord> = others
            .filter(|other| is_administrator && other.id != id)
            .map(|other| AccountRecord { is_administrator: false, ..other })
            .collect();
        changed.push(record.clone());
        let act = audit::of_account(Verb::Changed, &account, &record);
        self.commit(&mut unsettled, act.into(), changed.iter().cloned().map(Change::PutAccount).collect())?;
        for record in changed {
            self.listener.account_changed(record);
        }
        Ok(record)
    }

    fn check_unused_administrator(&self, account: &AccountRecord) -> Result<(), RegistryError> {
        let is_minted = |other: &AccountRecord| other.upstream == account.upstream && matches!(other.credential, Credential::Minted { .. });
        let minted = if account.is_administrator { self.store.accounts()?.iter().filter(|other| is_minted(other)).count() } else { 0 };
        if minted > 0 {
            return Err(RegistryError::AdministratorInUse { account: account.full_name(), minted });
        }
        Ok(())
    }

    /// Removes an account and returns how many keys went with it: those that act for it are revoked in the same transaction.
    ///
    /// # Errors
    /// [`RegistryError::NotDurable`] when the keys are refused already, but the store failed; the account is still there then.
    pub fn remove_account(&self, id: AccountId, removal: Removal) -> Result<usize, RegistryError> {
        let mut unsettled = self.writer();
        let account = self.account(id)?;
        if !removal.force {
            self.check_unused_administrator(&account)?;
        }
        let mut living: Vec<KeyRecord> = Vec::new();
        self.store.visit_keys(&mut |record| {
            let record = unsettled.keys.get(&record.id).cloned().unwrap_or(record);
            if record.account == id && record.revoked_at.is_none() {
                living.push(record);
            }
            true
        })?;
        if !living.is_empty() && !removal.revoke_keys {
            return Err(RegistryError::AccountInUse { account: account.full_name(), keys: living.len() });
        }
        let now = self.clock.now();
        let dead: Vec<KeyRecord> = living.iter().map(|record| revoked(record, now)).collect();
        self.index.remove(&living);
        let mut changes: Vec<Change> = dead.iter().cloned().map(Change::PutKey).collect();
        changes.push(Change::RemoveAccount(id));
        if let Err(error) = self.commit(&mut unsettled, removal_of(&account, &living), changes) {
            let refuses = !dead.is_empty();
            dead.into_iter().zip(&living).for_each(|(dead, before)| self.leave(&mut unsettled, dead, of_revoked(before)));
            return Err(if refuses { RegistryError::NotDurable(error) } else { error.into() });
        }
        self.listener.account_removed(id);
        Ok(dead.len())
    }
}

/// What the log says of an account that goes, and of the keys that go with it.
fn removal_of(account: &AccountRecord, living: &[KeyRecord]) -> Acts {
    let first = Act::new(Verb::Removed, account.into()).with([Field::new("revoked keys", living.len())]);
    Acts { first, more: living.iter().take(MOST_LINES).map(of_revoked).collect() }
}

/// What would only fail at the upstream.
fn check_credential(credential: &Credential) -> Result<(), RegistryError> {
    match credential {
        Credential::Token(token) if token.expose().is_empty() || !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) => {
            Err(RegistryError::Invalid("a token must not be empty and consists of visible ASCII characters".to_owned()))
        }
        Credential::Minted { user_id } if user_id.is_empty() => Err(RegistryError::Invalid("the user has no id".to_owned())),
        Credential::Password(_) | Credential::Token(_) | Credential::Minted { .. } => Ok(()),
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
