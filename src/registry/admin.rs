//! Admin tokens and the page's password. What takes them away holds at once, whether or not it can be written.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use crate::audit::{self, Act, Field, Object, Verb};
use crate::clock::Timestamp;
use crate::keys::KeyId;
use crate::keys::admin::{AdminScope, AdminToken, AdminTokenRecord};
use crate::registry::{Registry, RegistryError, Unsettled, check_text};
use crate::secret::Secret;
use crate::store::{Change, StoreError};

/// How often the use of a token is written down at most.
const USE_EVERY: Duration = Duration::from_secs(60);

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewAdminToken {
    /// Name.
    pub name: String,
    /// At least one.
    pub scopes: Vec<AdminScope>,
    /// When it dies.
    pub expires_at: Option<Timestamp>,
    /// Who makes it.
    pub created_by: String,
}

/// An admin token that was just made: the only moment at which its text exists.
#[derive(Debug)]
pub struct CreatedAdminToken {
    /// The record.
    pub record: AdminTokenRecord,
    /// The token.
    pub token: AdminToken,
}

/// Tokens that were revoked while the store failed.
pub(super) type DeadTokens = BTreeMap<KeyId, AdminTokenRecord>;

impl Registry {
    /// Makes an admin token.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn create_admin_token(&self, new: NewAdminToken) -> Result<CreatedAdminToken, RegistryError> {
        check_text("name", &new.name)?;
        if new.scopes.is_empty() {
            return Err(RegistryError::Invalid("an admin token needs a scope: read, keys, accounts or all".to_owned()));
        }
        let mut unsettled = self.writer();
        let id = self.free_token_id()?;
        let token = AdminToken::generate(id).map_err(RegistryError::Random)?;
        let mut scopes = new.scopes;
        scopes.sort_unstable();
        scopes.dedup();
        let record = AdminTokenRecord {
            id,
            name: new.name,
            digest: self.hasher.admin_token(&token),
            scopes,
            expires_at: new.expires_at,
            created_at: self.clock.now(),
            created_by: new.created_by,
            last_used_at: None,
            revoked_at: None,
        };
        let act = audit::of_new_token(&record);
        if let Err(error) = self.commit(&mut unsettled, act.into(), vec![Change::PutAdminToken(record.clone())]) {
            // It may be in the store all the same; nobody was shown it.
            self.bury_token(&record);
            let act = Act::new(Verb::Revoked, (&record).into()).with([Field::new("why", "its creation failed")]);
            self.leave_line(&mut unsettled, act);
            return Err(error.into());
        }
        Ok(CreatedAdminToken { record, token })
    }

    fn free_token_id(&self) -> Result<KeyId, RegistryError> {
        let taken = self.store.admin_tokens()?;
        loop {
            let id = KeyId::random().map_err(RegistryError::Random)?;
            if !taken.iter().any(|token| token.id == id) {
                return Ok(id);
            }
        }
    }

    /// All admin tokens as memory has them, newest first, revoked ones included.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn admin_tokens(&self) -> Result<Vec<AdminTokenRecord>, RegistryError> {
        let _writer = self.writer();
        let dead = self.dead_tokens();
        let mut tokens = self.store.admin_tokens()?;
        for token in &mut tokens {
            if let Some(dead) = dead.get(&token.id) {
                *token = dead.clone();
            }
        }
        tokens.sort_by_key(|token| (std::cmp::Reverse(token.created_at), token.id));
        Ok(tokens)
    }

    /// Revokes an admin token for good.
    ///
    /// # Errors
    /// [`RegistryError::NoAdminToken`] when there is none that is not revoked; [`RegistryError::NotDurable`] when it is refused already,
    /// but that could not be written.
    pub fn revoke_admin_token(&self, id: KeyId) -> Result<AdminTokenRecord, RegistryError> {
        let mut unsettled = self.writer();
        let before = self.living_token(id)?.ok_or(RegistryError::NoAdminToken(id))?;
        let after = AdminTokenRecord { revoked_at: Some(self.clock.now()), ..before };
        self.dead_tokens().insert(id, after.clone());
        let act = Act::new(Verb::Revoked, (&after).into());
        if let Err(error) = self.commit(&mut unsettled, act.clone().into(), vec![Change::PutAdminToken(after.clone())]) {
            self.leave_line(&mut unsettled, act);
            return Err(RegistryError::NotDurable(error));
        }
        Ok(after)
    }

    /// The record of a presented token, whether it is good or not; `None`: nobody knows it.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn find_admin_token(&self, token: &AdminToken) -> Result<Option<AdminTokenRecord>, RegistryError> {
        let digest = self.hasher.admin_token(token);
        let found = self.admin_tokens()?.into_iter().find(|record| record.id == token.id());
        Ok(found.filter(|record| record.digest == digest))
    }

    /// Writes down that a token was used, if that was not done within the last minute.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn admin_token_used(&self, id: KeyId) -> Result<(), RegistryError> {
        let mut unsettled = self.writer();
        let now = self.clock.now();
        let Some(before) = self.living_token(id)? else { return Ok(()) };
        if before.last_used_at.is_none_or(|at| now.since(at) >= USE_EVERY) {
            // Nobody's act: no line.
            self.write(&mut unsettled, vec![Change::PutAdminToken(AdminTokenRecord { last_used_at: Some(now), ..before })])?;
        }
        Ok(())
    }

    fn living_token(&self, id: KeyId) -> Result<Option<AdminTokenRecord>, RegistryError> {
        let found = self.store.admin_tokens()?.into_iter().find(|token| token.id == id);
        Ok(found.filter(|token| token.revoked_at.is_none() && !self.dead_tokens().contains_key(&id)))
    }

    fn bury_token(&self, record: &AdminTokenRecord) {
        let dead = AdminTokenRecord { revoked_at: Some(self.clock.now()), ..record.clone() };
        self.dead_tokens().insert(record.id, dead);
    }

    /// What must not be lost of tokens, for the next commit.
    pub(super) fn dead_token_changes(&self) -> Vec<Change> {
        self.dead_tokens().values().cloned().map(Change::PutAdminToken).collect()
    }

    pub(super) fn dead_tokens(&self) -> MutexGuard<'_, DeadTokens> {
        self.dead_tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The slow hash of the page's password; `None`: there is none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn page_password(&self) -> Result<Option<Secret<String>>, StoreError> {
        self.store.page_password()
    }

    /// Keeps the slow hash of a new password for the page.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn set_page_password(&self, hash: Secret<String>) -> Result<(), RegistryError> {
        let mut unsettled: MutexGuard<'_, Unsettled> = self.writer();
        let act = Act::new(Verb::Changed, Object::page_password());
        Ok(self.commit(&mut unsettled, act.into(), vec![Change::PutPagePassword(hash)])?)
    }

    /// What a password becomes before it is hashed slowly.
    pub fn peppered(&self, password: &Secret<String>) -> Secret<[u8; 32]> {
        self.hasher.peppered(password.expose())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::ManualClock;
    use crate::keys::KeyHasher;
    use crate::keys::index::KeyIndex;
    use crate::registry::AccountListener;
    use crate::store::Store;
    use crate::store::memory::{Fault, MemoryStore};
    use crate::store::records::AccountRecord;
    use crate::upstream::AccountId;

    /// Hears nothing.
    struct Deaf;

    impl AccountListener for Deaf {
        fn account_changed(&self, _: AccountRecord) {}
        fn account_removed(&self, _: AccountId) {}
        fn key_removed(&self, _: AccountId, _: KeyId) {}
    }

    fn house() -> (Arc<MemoryStore>, Arc<ManualClock>, Registry) {
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(ManualClock::new(Timestamp::from_secs(1_000))));
        let hasher = KeyHasher::new(&Secret::new([7; 32]));
        let registry = Registry::new(store.clone(), hasher, Arc::new(KeyIndex::new()), Arc::new(Deaf), clock.clone());
        (store, clock, registry)
    }

    fn new(name: &str) -> NewAdminToken {
        NewAdminToken { name: name.to_owned(), scopes: vec![AdminScope::Read], expires_at: None, created_by: "uid 0".to_owned() }
    }

    #[test]
    fn a_token_is_found_by_its_whole_text_and_only_its_digest_is_stored() {
        let (store, _, registry) = house();
        let made = registry.create_admin_token(new("page")).expect("made");
        let found = registry.find_admin_token(&made.token).expect("looked").expect("found");
        assert_eq!(found, made.record);
        let forged = AdminToken::generate(made.record.id).expect("random");
        assert_eq!(registry.find_admin_token(&forged).expect("looked"), None, "the id alone is nothing");
        assert!(!format!("{:?}", store.admin_tokens()).contains(&made.token.expose()[15..]));
        assert!(registry.create_admin_token(NewAdminToken { scopes: Vec::new(), ..new("none") }).is_err());
        assert!(registry.create_admin_token(new("")).is_err());
    }

    #[test]
    fn a_revocation_holds_although_the_store_fails_and_is_written_later() {
        let (store, _, registry) = house();
        let made = registry.create_admin_token(new("page")).expect("made");
        store.fail_commit(1, Fault::Before);
        assert!(matches!(registry.revoke_admin_token(made.record.id), Err(RegistryError::NotDurable(_))));
        let now = registry.find_admin_token(&made.token).expect("looked").expect("known");
        assert!(now.revoked_at.is_some() && registry.unsettled() == 1);
        registry.admin_token_used(made.record.id).expect("nothing to do");
        registry.retry_unsettled().expect("written");
        assert!(store.admin_tokens().expect("tokens")[0].revoked_at.is_some() && registry.unsettled() == 0);
        assert!(matches!(registry.revoke_admin_token(made.record.id), Err(RegistryError::NoAdminToken(_))), "it is gone");
    }

    #[test]
    fn a_token_whose_creation_failed_is_dead_even_if_it_was_written() {
        let (store, _, registry) = house();
        store.fail_commit(1, Fault::After);
        assert!(registry.create_admin_token(new("page")).is_err());
        registry.retry_unsettled().expect("written");
        assert!(store.admin_tokens().expect("tokens").iter().all(|token| token.revoked_at.is_some()));
    }

    #[test]
    fn the_use_of_a_token_is_written_once_a_minute() {
        let (store, clock, registry) = house();
        let made = registry.create_admin_token(new("page")).expect("made");
        let before = store.commits();
        (0..5).for_each(|_| registry.admin_token_used(made.record.id).expect("written"));
        assert_eq!(store.commits(), before + 1);
        clock.advance(USE_EVERY);
        registry.admin_token_used(made.record.id).expect("written");
        assert_eq!(store.commits(), before + 2);
        assert_eq!(store.admin_tokens().expect("tokens")[0].last_used_at, Some(Timestamp::from_secs(1_060)));
    }

    #[test]
    fn an_expired_token_is_no_good_from_its_last_moment_on() {
        let (_, clock, registry) = house();
        let expires_at = Some(Timestamp::from_secs(1_010));
        let record = registry.create_admin_token(NewAdminToken { expires_at, ..new("short") }).expect("made").record;
        assert!(record.is_good(crate::clock::Clock::now(&*clock)));
        assert!(!record.is_good(Timestamp::from_secs(1_010)));
    }
}
