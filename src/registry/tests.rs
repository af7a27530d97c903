//! The registry over a store that fails on demand.

use std::collections::HashSet;
use std::time::Duration;

use super::*;
use crate::clock::ManualClock;
use crate::keys::Scopes;
use crate::keys::record::KeyStatus;
use crate::secret::Secret;
use crate::store::memory::{Fault, MemoryStore};
use crate::store::records::SessionRecord;
use crate::upstream::session::SessionId;
use crate::upstream::{Credential, UpstreamName};

/// Writes down what it hears.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl AccountListener for Heard {
    fn account_changed(&self, record: AccountRecord) {
        self.note(format!("changed {}", record.id.0));
    }

    fn account_removed(&self, id: AccountId) {
        self.note(format!("removed {}", id.0));
    }

    fn key_removed(&self, account: AccountId, key: KeyId) {
        self.note(format!("key of {} removed {key}", account.0));
    }
}

impl Heard {
    fn note(&self, what: String) {
        self.0.lock().expect("lock").push(what);
    }

    fn last(&self) -> String {
        self.0.lock().expect("lock").last().cloned().unwrap_or_default()
    }
}

struct House {
    store: Arc<MemoryStore>,
    index: Arc<KeyIndex>,
    heard: Arc<Heard>,
    clock: Arc<ManualClock>,
    registry: Registry,
    account: AccountId,
}

fn hasher() -> KeyHasher {
    KeyHasher::new(&Secret::new([7; 32]))
}

fn house() -> House {
    let (store, index, heard) = (Arc::new(MemoryStore::new()), Arc::new(KeyIndex::new()), Arc::new(Heard::default()));
    let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_000)));
    let registry = Registry::new(store.clone(), hasher(), index.clone(), heard.clone(), clock.clone());
    let account = registry.add_account(UpstreamName::new("home"), "alice".to_owned(), password("hunter2")).expect("account").id;
    House { store, index, heard, clock, registry, account }
}

fn admin() -> Scopes {
    Scopes::ALL
}

fn password(text: &str) -> Credential {
    Credential::Password(text.into())
}

impl House {
    fn new_key(&self) -> NewKey {
        NewKey {
            name: "tv".to_owned(),
            account: self.account,
            expires_at: None,
            is_active: true,
            scopes: Scopes::FULL,
            libraries: None,
            limits: Limits::default(),
            created_by: "cli".to_owned(),
        }
    }

    fn created(&self) -> Created {
        self.registry.create_key(self.new_key()).expect("created")
    }

    /// Whether the gateway would let this key pass, its expiry aside.
    fn passes(&self, key: &ApiKey) -> bool {
        self.index.find(&hasher().digest(key)).is_some_and(|known| known.is_active())
    }

    /// The scopes that the gateway sees, and those that it would see after a restart.
    fn scopes(&self, key: &ApiKey) -> (Scopes, Scopes) {
        let digest = hasher().digest(key);
        let later = KeyIndex::load(|capacity, visit| self.store.load_index(capacity, visit)).expect("loaded");
        (self.index.find(&digest).expect("known").scopes(), later.find(&digest).expect("known").scopes())
    }

    /// Whether it would after a restart.
    fn passes_after_restart(&self, key: &ApiKey) -> bool {
        let index = KeyIndex::load(|capacity, visit| self.store.load_index(capacity, visit)).expect("loaded");
        index.find(&hasher().digest(key)).is_some_and(|known| known.is_active())
    }
}

#[test]
fn a_created_key_passes_at_once_and_after_a_restart() {
    let house = house();
    let created = house.created();
    assert!(house.passes(&created.key) && house.passes_after_restart(&created.key));
    assert_eq!(house.registry.key(created.record.id).expect("key"), created.record);
    assert_eq!((created.record.created_by.as_str(), created.record.created_at), ("cli", Timestamp::from_secs(1_000)));
}

#[test]
fn names_are_checked_and_need_not_be_unique() {
    let house = house();
    for name in ["", "a\nb", "\u{9b}31m", &"é".repeat(101)] {
        let refused = house.registry.create_key(NewKey { name: name.to_owned(), ..house.new_key() });
        assert!(matches!(refused, Err(RegistryError::Invalid(_))), "{name:?}");
        let id = house.created().record.id;
        let refused = house.registry.edit_key(id, KeyPatch { name: Some(name.to_owned()), ..KeyPatch::default() });
        assert!(matches!(refused, Err(RegistryError::Invalid(_))), "{name:?}");
    }
    house.registry.create_key(NewKey { name: "é".repeat(100), ..house.new_key() }).expect("200 bytes");
    assert_eq!(house.registry.keys(|_| true).expect("keys").iter().filter(|record| record.name == "tv").count(), 4);
}

#[test]
fn a_key_for_an_account_that_is_not_there_is_refused() {
    let house = house();
    let refused = house.registry.create_key(NewKey { account: AccountId(99), ..house.new_key() });
    assert!(matches!(refused, Err(RegistryError::NoAccount)));
    let patch = KeyPatch { account: Some(AccountId(99)), ..KeyPatch::default() };
    assert!(matches!(house.registry.edit_key(house.created().record.id, patch), Err(RegistryError::NoAccount)));
}

#[test]
fn many_keys_are_made_in_one_commit_with_names_that_count() {
    let house = house();
    let commits = house.store.commits();
    let created = house.registry.create_keys(house.new_key(), 300).expect("created");
    assert_eq!(house.store.commits(), commits + 1);
    assert_eq!((created[0].record.name.as_str(), created[299].record.name.as_str()), ("tv-1", "tv-300"));
    assert!(created.iter().all(|created| house.passes(&created.key)));
    let ids: HashSet<KeyId> = created.iter().map(|created| created.record.id).collect();
    assert_eq!(ids.len(), 300);
    assert!(house.registry.create_keys(house.new_key(), 0).is_err());
}

#[test]
fn keys_are_listed_newest_first_and_revoked_ones_on_demand() {
    let house = house();
    let first = house.created();
    house.clock.advance(Duration::from_secs(1));
    let second = house.created();
    house.registry.revoke_key(first.record.id).expect("revoked");
    let ids = |is_wanted: fn(&KeyRecord) -> bool| {
        house.registry.keys(is_wanted).expect("keys").iter().map(|record| record.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(|record| record.revoked_at.is_none()), [second.record.id]);
    assert_eq!(ids(|_| true), [second.record.id, first.record.id]);
    assert_eq!(house.registry.count_living().expect("keys"), 1);
}

#[test]
fn a_disabled_key_is_refused_until_it_is_enabled() {
    let house = house();
    let created = house.created();
    let switch = |is_active| house.registry.edit_key(created.record.id, KeyPatch { is_active: Some(is_active), ..KeyPatch::default() });
    switch(false).expect("disabled");
    assert!(!house.passes(&created.key) && !house.passes_after_restart(&created.key));
    switch(true).expect("enabled");
    assert!(house.passes(&created.key) && house.passes_after_restart(&created.key));
}

#[test]
fn an_edit_changes_what_it_names_and_nothing_else() {
    let house = house();
    let other = house.registry.add_account(UpstreamName::new("home"), "bob".to_owned(), password("x")).expect("account").id;
    let created = house.created();
    let expires_at = Some(Timestamp::from_secs(5_000));
    house.clock.advance(Duration::from_secs(1));
    let patch = KeyPatch { account: Some(other), expires_at: Some(expires_at), ..KeyPatch::default() };
    let after = house.registry.edit_key(created.record.id, patch).expect("edited");
    let now = Timestamp::from_secs(1_001);
    let expected = KeyRecord { account: other, expires_at, updated_at: now, reborn_at: Some(now), ..created.record.clone() };
    assert_eq!(after, expected);
    let known = house.index.find(&hasher().digest(&created.key)).expect("known");
    assert_eq!((known.account(), Some(known.expires_at())), (other, expires_at));
    assert_eq!(house.heard.last(), format!("key of {} removed {}", house.account.0, created.record.id));
}

#[test]
fn a_life_begins_when_a_dead_key_is_good_again_and_with_another_account_and_not_by_other_edits() {
    let house = house();
    let id = house.created().record.id;
    let edit = |patch| {
        house.clock.advance(Duration::from_secs(1));
        let now = house.clock.now();
        (house.registry.edit_key(id, patch).expect("edited").reborn_at, now)
    };
    let begun = |(reborn, now): (Option<Timestamp>, Timestamp)| reborn == Some(now);
    let expiring = |seconds| KeyPatch { expires_at: Some(Some(Timestamp::from_secs(seconds))), ..KeyPatch::default() };
    let switched = |is_active| KeyPatch { is_active: Some(is_active), ..KeyPatch::default() };
    assert_eq!(edit(KeyPatch { scopes: Some(admin()), ..KeyPatch::default() }).0, None);
    assert_eq!(edit(expiring(5_000)).0, None, "it lives");
    edit(switched(false));
    assert!(begun(edit(switched(true))), "disabled and enabled");
    assert!(!begun(edit(KeyPatch { name: Some("other".to_owned()), ..KeyPatch::default() })));
    house.clock.advance(Duration::from_secs(5_000));
    assert!(begun(edit(expiring(50_000))), "dead by time, and given more");
    let other = house.registry.add_account(UpstreamName::new("home"), "bob".to_owned(), password("x")).expect("account").id;
    for account in [other, house.account] {
        assert!(begun(edit(KeyPatch { account: Some(account), ..KeyPatch::default() })), "moved, there and back");
    }
}

#[test]
fn a_scope_is_given_and_taken_away_by_an_edit_and_survives_a_rotation() {
    let house = house();
    let created = house.registry.create_key(NewKey { scopes: admin(), ..house.new_key() }).expect("created");
    assert_eq!(house.scopes(&created.key), (admin(), admin()));
    let second = house.registry.rotate_key(created.record.id, Duration::from_secs(60)).expect("rotated");
    assert_eq!((house.scopes(&second.key), house.scopes(&created.key)), ((admin(), admin()), (admin(), admin())));
    let set = |scopes| house.registry.edit_key(created.record.id, KeyPatch { scopes: Some(scopes), ..KeyPatch::default() });
    assert_eq!(set(Scopes::FULL).expect("taken away").scopes, Scopes::FULL);
    for key in [&created.key, &second.key] {
        assert_eq!(house.scopes(key), (Scopes::FULL, Scopes::FULL), "the old secret within its overlap too");
    }
    set(admin()).expect("given");
    assert_eq!(house.scopes(&created.key), (admin(), admin()));
    assert_eq!(house.scopes(&house.created().key), (Scopes::FULL, Scopes::FULL), "none unless asked for");
}

#[test]
fn a_scope_that_was_taken_away_is_gone_though_that_could_not_be_written() {
    for fault in [Fault::Before, Fault::After] {
        let house = house();
        let created = house.registry.create_key(NewKey { scopes: admin(), ..house.new_key() }).expect("created");
        house.store.fail_commit(1, fault);
        let patch = KeyPatch { scopes: Some(Scopes::FULL), ..KeyPatch::default() };
        let failed = house.registry.edit_key(created.record.id, patch);
        assert!(matches!(failed, Err(RegistryError::NotDurable(_))), "{fault:?}");
        assert_eq!(house.scopes(&created.key).0, Scopes::FULL, "{fault:?}");
        house.registry.retry_unsettled().expect("settled");
        assert_eq!(house.scopes(&created.key), (Scopes::FULL, Scopes::FULL), "{fault:?}");
    }
}

#[test]
fn a_scope_that_could_not_be_written_is_not_given() {
    for fault in [Fault::Before, Fault::After] {
        let house = house();
        let created = house.created();
        house.store.fail_commit(1, fault);
        let patch = KeyPatch { scopes: Some(admin()), ..KeyPatch::default() };
        assert!(matches!(house.registry.edit_key(created.record.id, patch), Err(RegistryError::Store(_))), "{fault:?}");
        assert_eq!(house.scopes(&created.key).0, Scopes::FULL, "{fault:?}");
        house.registry.retry_unsettled().expect("settled");
        assert_eq!(house.scopes(&created.key), (Scopes::FULL, Scopes::FULL), "{fault:?}");
    }
}

#[test]
fn a_revocation_is_final_and_leaves_a_tombstone() {
    let house = house();
    let created = house.created();
    let id = created.record.id;
    let dead = house.registry.revoke_key(id).expect("revoked");
    assert!(!house.passes(&created.key) && !house.passes_after_restart(&created.key));
    assert_eq!((dead.status(house.clock.now()), dead.name.as_str()), (KeyStatus::Revoked, "tv"));
    assert_eq!(house.registry.revoke_key(id).expect("twice is fine"), dead);
    let patch = KeyPatch { is_active: Some(true), ..KeyPatch::default() };
    assert!(matches!(house.registry.edit_key(id, patch), Err(RegistryError::Revoked(_))));
    assert!(matches!(house.registry.rotate_key(id, Duration::ZERO), Err(RegistryError::Revoked(_))));
    assert_eq!(house.heard.last(), format!("key of {} removed {id}", house.account.0));
}

#[test]
fn a_rotated_key_keeps_its_old_secret_for_the_overlap_and_only_the_newest_old_one() {
    let house = house();
    let first = house.created();
    let second = house.registry.rotate_key(first.record.id, Duration::from_secs(60)).expect("rotated");
    assert!(house.passes(&first.key) && house.passes(&second.key));
    let old = house.index.find(&hasher().digest(&first.key)).expect("known");
    assert_eq!(old.expires_at(), Timestamp::from_secs(1_060));
    let third = house.registry.rotate_key(first.record.id, Duration::from_secs(60)).expect("rotated");
    assert!(!house.passes(&first.key) && house.passes(&second.key) && house.passes(&third.key));
    let fourth = house.registry.rotate_key(first.record.id, Duration::ZERO).expect("rotated");
    assert!(!house.passes(&third.key) && house.passes(&fourth.key));
    assert_eq!(house.index.len(), 1);
}

#[test]
fn a_revocation_that_could_not_be_written_holds_and_is_written_later() {
    for fault in [Fault::Before, Fault::After] {
        let house = house();
        let created = house.created();
        house.store.fail_commit(1, fault);
        let failed = house.registry.revoke_key(created.record.id);
        assert!(matches!(failed, Err(RegistryError::NotDurable(_))), "{fault:?}");
        assert!(!house.passes(&created.key), "{fault:?}");
        assert_eq!(house.registry.unsettled(), 1);
        assert!(house.registry.key(created.record.id).expect("key").revoked_at.is_some());
        house.created();
        assert!(!house.passes_after_restart(&created.key), "the next commit carried it along, {fault:?}");
        assert_eq!(house.registry.unsettled(), 0);
    }
}

#[test]
fn editing_another_field_does_not_bring_back_a_key_whose_disabling_failed() {
    let house = house();
    let created = house.created();
    house.store.fail_commit(1, Fault::Before);
    let patch = KeyPatch { is_active: Some(false), ..KeyPatch::default() };
    assert!(matches!(house.registry.edit_key(created.record.id, patch), Err(RegistryError::NotDurable(_))));
    let patch = KeyPatch { name: Some("kitchen".to_owned()), ..KeyPatch::default() };
    house.registry.edit_key(created.record.id, patch).expect("renamed");
    assert!(!house.passes(&created.key) && !house.passes_after_restart(&created.key));
}

#[test]
fn an_earlier_expiry_holds_though_the_rest_of_the_edit_failed() {
    let house = house();
    let created = house.registry.create_key(NewKey { is_active: false, ..house.new_key() }).expect("created");
    house.store.fail_commit(1, Fault::Before);
    let patch = KeyPatch { is_active: Some(true), expires_at: Some(Some(Timestamp::from_secs(1))), ..KeyPatch::default() };
    assert!(house.registry.edit_key(created.record.id, patch).is_err());
    let known = house.index.find(&hasher().digest(&created.key)).expect("known");
    assert_eq!((known.is_active(), known.expires_at()), (false, Timestamp::from_secs(1)));
}

#[test]
fn a_right_that_could_not_be_written_is_not_given_then_or_after_the_next_commit() {
    for fault in [Fault::Before, Fault::After] {
        let house = house();
        let created = house.registry.create_key(NewKey { is_active: false, ..house.new_key() }).expect("created");
        house.store.fail_commit(1, fault);
        let patch = KeyPatch { is_active: Some(true), ..KeyPatch::default() };
        assert!(matches!(house.registry.edit_key(created.record.id, patch), Err(RegistryError::Store(_))));
        assert!(!house.passes(&created.key), "{fault:?}");
        house.registry.retry_unsettled().expect("settled");
        assert!(!house.passes_after_restart(&created.key), "{fault:?}");
    }
}

#[test]
fn a_creation_that_failed_leaves_no_living_key_behind() {
    for fault in [Fault::Before, Fault::After] {
        let house = house();
        house.store.fail_commit(1, fault);
        assert!(house.registry.create_keys(house.new_key(), 3).is_err());
        assert!(house.index.is_empty());
        house.registry.retry_unsettled().expect("settled");
        assert!(house.registry.count_living().expect("keys") == 0, "{fault:?}");
    }
}

#[test]
fn a_rotation_that_failed_leaves_the_old_secret_in_force() {
    for fault in [Fault::Before, Fault::After] {
        let house = house();
        let created = house.created();
        house.store.fail_commit(1, fault);
        assert!(house.registry.rotate_key(created.record.id, Duration::ZERO).is_err());
        assert!(house.passes(&created.key), "{fault:?}");
        house.registry.retry_unsettled().expect("settled");
        assert!(house.passes_after_restart(&created.key), "{fault:?}");
    }
}

#[test]
fn an_account_name_is_unique_per_upstream_and_its_number_is_never_used_again() {
    let house = house();
    let again = house.registry.add_account(UpstreamName::new("home"), "alice".to_owned(), password("x"));
    assert!(matches!(again, Err(RegistryError::AccountExists(name)) if name == "home/alice"));
    let elsewhere = house.registry.add_account(UpstreamName::new("away"), "alice".to_owned(), password("x")).expect("account");
    assert_eq!(elsewhere.device_id.len(), 32);
    house.registry.remove_account(elsewhere.id, Removal::default()).expect("removed");
    assert_eq!(house.heard.last(), format!("removed {}", elsewhere.id.0));
    let next = house.registry.add_account(UpstreamName::new("away"), "alice".to_owned(), password("x")).expect("account");
    assert!(next.id > elsewhere.id);
}

#[test]
fn an_account_with_keys_is_removed_only_together_with_them() {
    let house = house();
    let created = house.created();
    let refused = house.registry.remove_account(house.account, Removal::default());
    assert!(matches!(refused, Err(RegistryError::AccountInUse { keys: 1, .. })));
    assert!(house.passes(&created.key));
    assert_eq!(house.registry.remove_account(house.account, Removal { revoke_keys: true, force: false }).expect("removed"), 1);
    assert!(!house.passes(&created.key) && !house.passes_after_restart(&created.key));
    assert!(matches!(
        house.registry.remove_account(house.account, Removal { revoke_keys: true, force: false }),
        Err(RegistryError::NoAccount)
    ));
    assert!(house.registry.key(created.record.id).expect("tombstone").revoked_at.is_some());
}

#[test]
fn a_new_credential_drops_the_sessions_and_the_broken_state() {
    let house = house();
    let broken = AccountRecord { broken: Some("refused".to_owned()), ..house.store.accounts().expect("accounts").remove(0) };
    let session = SessionRecord {
        id: SessionId { account: house.account, key: None },
        generation: 1,
        token: "t".into(),
        refresh_token: None,
        other_secrets: Vec::new(),
        obtained_at: Timestamp::from_secs(1),
        expires_at: None,
        minted_id: None,
    };
    house.store.commit(vec![Change::PutAccount(broken), Change::PutSession(session)]).expect("committed");
    let after = house.registry.set_credential(house.account, password("new")).expect("changed");
    assert_eq!(after.broken, None);
    assert!(house.store.sessions().expect("sessions").is_empty());
    assert_eq!(house.heard.last(), format!("changed {}", house.account.0));
    assert!(house.registry.set_credential(house.account, Credential::Token("with space".into())).is_err());
}

#[test]
fn an_upstream_has_one_administrator_at_most_and_never_a_minted_one() {
    let house = house();
    let upstream = house.store.accounts().expect("accounts").remove(0).upstream;
    let add = |name: &str, credential| house.registry.add_account(upstream.clone(), name.to_owned(), credential).expect("added").id;
    let (root, other) = (add("root", password("p")), add("other", password("p")));
    let minted = add("minted", Credential::Minted { user_id: "u-1".to_owned() });
    let administrators = || {
        let accounts = house.store.accounts().expect("accounts").into_iter();
        accounts.filter(|account| account.is_administrator).map(|account| account.id).collect::<Vec<_>>()
    };
    assert!(matches!(house.registry.set_administrator(minted, true, true), Err(RegistryError::Invalid(_))));
    house.registry.set_administrator(root, true, false).expect("marked");
    assert_eq!(administrators(), [root]);
    house.registry.set_administrator(other, true, false).expect("in its place, in one step");
    assert_eq!(administrators(), [other]);
    assert_eq!(house.registry.remove_account(root, Removal::default()).expect("it is none any more"), 0);
    let in_use = |result: Result<(), RegistryError>| matches!(result, Err(RegistryError::AdministratorInUse { minted: 1, .. }));
    assert!(in_use(house.registry.set_administrator(other, false, false).map(drop)));
    assert!(in_use(house.registry.remove_account(other, Removal { revoke_keys: true, force: false }).map(drop)));
    assert_eq!(administrators(), [other]);
    house.registry.set_administrator(other, false, true).expect("forced");
    assert!(administrators().is_empty());
    house.registry.remove_account(minted, Removal::default()).expect("removed");
    assert!(house.registry.add_account(upstream, "empty".to_owned(), Credential::Minted { user_id: String::new() }).is_err());
}

#[test]
fn a_lent_key_is_known_to_memory_alone_and_ends_with_who_has_it() {
    let house = house();
    let known = |key: &ApiKey| house.index.find(&hasher().digest(key)).is_some();
    let lent = house.registry.lend_key("doctor", house.account).expect("a key");
    let key = ApiKey::parse(lent.key().expose()).expect("a key");
    let verified = house.index.find(&hasher().digest(&key)).expect("known");
    assert_eq!((verified.account(), verified.scopes()), (house.account, Scopes::FULL));
    assert_eq!(verified.expires_at(), house.clock.now().plus(Duration::from_secs(300)), "also if nobody ever drops it");
    assert_eq!(house.registry.keys(|_| true).expect("a list"), [], "no list has it");
    assert!(matches!(house.registry.edit_key(key.id(), KeyPatch::default()), Err(RegistryError::NoKey(_))), "and nobody can make it last");
    drop(lent);
    assert!(!known(&key));
    assert_eq!(house.heard.last(), format!("key of {} removed {}", house.account.0, key.id()), "its session ends too");
    assert!(house.registry.store.key(key.id()).expect("readable").is_none());
}
