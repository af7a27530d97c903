//! What a running gateway looks after now and then: the bounds of the audit log, and keys that die soon.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::audit::Bounds;
use crate::registry::Registry;
use crate::registry::upkeep::Expiring;
use crate::store::StoreError;

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// Looks at once, then now and then.
pub(crate) async fn keep(registry: Arc<Registry>, bounds: Bounds, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let registry = Arc::clone(&registry);
        let look = move || -> Result<Vec<Expiring>, StoreError> {
            registry.prune_audit(bounds)?;
            registry.newly_expiring()
        };
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(found)) => found.iter().for_each(warn),
            Ok(Err(error)) => tracing::warn!(%error, "keys that expire soon cannot be looked for"),
            Err(error) => tracing::warn!(%error, "keys that expire soon were not looked for"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn warn(expiring: &Expiring) {
    let Expiring { key, days } = expiring;
    let (id, name) = (key.id, &key.name);
    let at = key.expires_at.map(|at| at.to_string()).unwrap_or_default();
    tracing::warn!(
        key_id = %id, key_name = name, days,
        "key {id} {name:?} expires at {at}, in {days} days or less: give it more time with keygate keys edit {id} --expires WHEN"
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::audit::{Reading, Verb};
    use crate::clock::{Clock, ManualClock, Timestamp};
    use crate::keys::index::KeyIndex;
    use crate::keys::{KeyHasher, KeyId, Scopes};
    use crate::limits::Limits;
    use crate::registry::{AccountListener, KeyPatch, NewKey};
    use crate::secret::Secret;
    use crate::store::Store;
    use crate::store::memory::MemoryStore;
    use crate::store::records::AccountRecord;
    use crate::upstream::{AccountId, Credential, UpstreamName};

    const DAY: Duration = Duration::from_secs(86_400);

    /// Hears nothing.
    struct Deaf;

    impl AccountListener for Deaf {
        fn account_changed(&self, _: AccountRecord) {}
        fn account_removed(&self, _: AccountId) {}
        fn key_removed(&self, _: AccountId, _: KeyId) {}
    }

    /// Of each key, the days that were left when it was told of.
    fn told(store: &MemoryStore) -> BTreeMap<String, Vec<String>> {
        let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut note = |entry: crate::audit::Entry| {
            if entry.line.verb == Verb::ExpiresSoon {
                let days = entry.line.fields.iter().find(|field| field.name == "days").and_then(|field| field.after.clone());
                told.entry(entry.line.object.name.to_string()).or_default().push(days.expect("days").to_string());
            }
            true
        };
        store.read_audit(Reading::After(0), &mut note).expect("the log");
        told
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_runs_on_tells_of_each_step_towards_a_keys_end_once() {
        let (store, clock) = (Arc::new(MemoryStore::new()), Arc::new(ManualClock::new(Timestamp::from_secs(1_700_000_000))));
        let (hasher, index) = (KeyHasher::new(&Secret::new([7; 32])), Arc::new(KeyIndex::new()));
        let registry = Arc::new(Registry::new(store.clone(), hasher, index, Arc::new(Deaf), clock.clone()));
        let password = Credential::Password("hunter2".into());
        let account = registry.add_account(UpstreamName::new("home"), "alice".to_owned(), password).expect("an account").id;
        let key = |name: &str, days: Option<u32>| {
            let expires_at = days.map(|days| clock.now().plus(DAY * days));
            let (name, created_by) = (name.to_owned(), "test".to_owned());
            let (scopes, limits) = (Scopes::FULL, Limits::default());
            registry.create_key(NewKey { name, account, expires_at, is_active: true, scopes, libraries: None, limits, created_by })
        };
        for (name, days) in [("long", Some(40)), ("short", Some(10)), ("given more", Some(35)), ("gone", Some(33)), ("never", None)] {
            key(name, days).expect("a key");
        }
        let id = |name: &str| registry.keys(|key| key.name == name).expect("keys")[0].id;
        let stop = CancellationToken::new();
        let keeping = keep(Arc::clone(&registry), Bounds::new(DAY * 365, 1000), stop.clone());
        let living = async {
            for day in 0..=41 {
                tokio::time::sleep(LOOK_EVERY + Duration::from_secs(1)).await;
                if day == 4 {
                    registry.revoke_key(id("gone")).expect("revoked");
                }
                if day == 20 {
                    let more = KeyPatch { expires_at: Some(Some(clock.now().plus(DAY * 300))), ..KeyPatch::default() };
                    registry.edit_key(id("given more"), more).expect("edited");
                }
                clock.advance(DAY);
            }
            stop.cancel();
        };
        tokio::join!(keeping, living);
        let expected = [("given more", vec!["30"]), ("gone", vec!["30"]), ("long", vec!["30", "14", "7", "1"]), ("short", vec!["7", "1"])];
        let expected: BTreeMap<_, _> =
            expected.map(|(name, days)| (name.to_owned(), days.iter().map(|day| (*day).to_owned()).collect())).into();
        assert_eq!(told(&store), expected);
    }
}
