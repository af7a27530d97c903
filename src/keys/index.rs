//! digest → key, in memory: what the request path asks instead of the store.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::clock::Timestamp;
use crate::keys::dead::Dead;
use crate::keys::record::{IndexEntry, KeyRecord};
use crate::keys::shard::{Shard, ShardBuilder};
use crate::keys::{KeyDigest, KeyId, Scopes};
use crate::limits::live::{Live, Lives};
use crate::upstream::AccountId;

const SHARDS: usize = 256;

/// All secrets that may pass, in 256 shards by the digest's first byte. Readers take no lock and allocate nothing; a writer
/// replaces the shards it touches, each as a whole. About 80 bytes a key with a name of twelve letters.
pub struct KeyIndex {
    shards: Box<[ArcSwap<Shard>]>,
    /// Held by whoever replaces shards; readers never see it.
    writer: Mutex<Lives>,
    /// Secrets that were taken out, for whoever asks about one that is not known.
    dead: Mutex<Dead>,
    /// Whom to tell after a secret was taken out or changed.
    listeners: Mutex<Vec<Arc<dyn Fn() + Send + Sync>>>,
}

/// A known key. Expiry and the active flag are judged by the policy, not here.
#[derive(Clone)]
pub struct Verified {
    shard: Arc<Shard>,
    position: u32,
}

impl Verified {
    /// Public id.
    pub fn id(&self) -> KeyId {
        self.shard.entry(self.position).id()
    }
    /// The digest of the secret that was presented.
    pub fn digest(&self) -> KeyDigest {
        self.shard.entry(self.position).digest()
    }
    /// The account it acts for.
    pub fn account(&self) -> AccountId {
        self.shard.entry(self.position).account()
    }
    /// When this secret dies.
    pub fn expires_at(&self) -> Timestamp {
        self.shard.entry(self.position).expires_at()
    }
    /// Whether the key is active.
    pub fn is_active(&self) -> bool {
        self.shard.entry(self.position).is_active()
    }
    /// What it may do.
    pub fn scopes(&self) -> Scopes {
        self.shard.entry(self.position).scopes()
    }
    /// The upstream's ids of the libraries that it is confined to; `None`: not confined.
    pub fn libraries(&self) -> Option<impl Iterator<Item = &str> + Clone> {
        self.shard.libraries(self.position)
    }
    /// What it may do no more than, as it is now: also after the index changed. `None`: it has no limits.
    pub fn limits(&self) -> Option<&Arc<Live>> {
        self.shard.limits(self.position)
    }
    /// Its name.
    pub fn name(&self) -> &str {
        self.shard.name(self.position)
    }
}

impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verified").field("id", &self.id()).field("account", &self.account()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for KeyIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyIndex").field("secrets", &self.len()).finish()
    }
}

impl Default for KeyIndex {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyIndex {
    /// An empty one.
    pub fn new() -> Self {
        Self::from_builders((0..SHARDS).map(|_| ShardBuilder::default()).collect(), Lives::default())
    }

    /// Takes over all entries that `load` gives, one at a time, so that nothing exists twice meanwhile. `load` is handed a function
    /// for the number to come and one for each entry: [`crate::store::Store::load_index`] as it is.
    ///
    /// # Errors
    /// Those of `load`.
    pub fn load<E>(load: impl FnOnce(&mut dyn FnMut(usize), &mut dyn FnMut(IndexEntry)) -> Result<usize, E>) -> Result<Self, E> {
        let (expected, mut lives) = (Cell::new(0), Lives::default());
        let mut builders: Vec<Option<ShardBuilder>> = (0..SHARDS).map(|_| None).collect();
        load(&mut |count| expected.set(count / SHARDS), &mut |entry| {
            let builder = &mut builders[shard_of(&entry.digest)];
            builder.get_or_insert_with(|| ShardBuilder::with_capacity(expected.get())).push(&entry, &mut lives);
        })?;
        Ok(Self::from_builders(builders.into_iter().map(Option::unwrap_or_default).collect(), lives))
    }

    fn from_builders(builders: Vec<ShardBuilder>, lives: Lives) -> Self {
        let shards = builders.into_iter().map(|builder| ArcSwap::from_pointee(builder.build())).collect();
        Self { shards, writer: Mutex::new(lives), dead: Mutex::default(), listeners: Mutex::default() }
    }

    /// How many secrets are known.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.load().len()).sum()
    }

    /// Whether no secret is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks a digest up.
    pub fn find(&self, digest: &KeyDigest) -> Option<Verified> {
        let shard = self.shards[shard_of(digest)].load();
        let position = shard.find(digest)?;
        Some(Verified { shard: Arc::clone(&shard), position })
    }

    /// How much of a key's limits is used; `None`: it has none. Takes a lock: not for requests, which find it with their key.
    pub fn live(&self, id: KeyId) -> Option<Arc<Live>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).find(id).cloned()
    }

    /// The same of all keys that have limits.
    pub fn lives(&self) -> Vec<(KeyId, Arc<Live>)> {
        let lives = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        lives.all().map(|(id, live)| (id, Arc::clone(live))).collect()
    }

    /// Calls `visit` with the id of each key that has a secret which dies after `now` and at `until` or before; with two such secrets
    /// twice.
    pub fn visit_expiring(&self, now: Timestamp, until: Timestamp, mut visit: impl FnMut(KeyId)) {
        for shard in &self.shards {
            shard.load().expiring(now, until).for_each(&mut visit);
        }
    }

    /// Whether a secret that is not known was, a while ago. Takes a lock: only for what is refused.
    pub fn was_known(&self, digest: &KeyDigest) -> bool {
        self.dead.lock().unwrap_or_else(PoisonError::into_inner).holds(digest)
    }

    /// `listener` is called after each change that took secrets out or changed them, when no reader sees the old state any more, by
    /// whoever made the change: it must be quick.
    pub fn on_change(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(listener));
    }

    /// Takes the entries of `before` out and those of `after` in. Readers of one secret see the old state or the new one, nothing
    /// between; when this returns, no reader sees the old one.
    pub fn replace(&self, before: Option<&KeyRecord>, after: &KeyRecord) {
        let removed = before.map(KeyRecord::index_entries).unwrap_or_default();
        self.change(removed.into_iter().map(|entry| entry.digest), after.index_entries());
    }

    /// Adds many, each shard rebuilt once.
    pub fn extend(&self, entries: impl IntoIterator<Item = IndexEntry>) {
        self.change(std::iter::empty(), entries);
    }

    /// Takes the entries of many keys out, each shard rebuilt once.
    pub fn remove<'a>(&self, records: impl IntoIterator<Item = &'a KeyRecord>) {
        self.change(records.into_iter().flat_map(KeyRecord::index_entries).map(|entry| entry.digest), std::iter::empty());
    }

    fn change(&self, removed: impl IntoIterator<Item = KeyDigest>, added: impl IntoIterator<Item = IndexEntry>) {
        let mut changes: Vec<(Vec<KeyDigest>, Vec<IndexEntry>)> = (0..SHARDS).map(|_| (Vec::new(), Vec::new())).collect();
        for digest in removed {
            changes[shard_of(&digest)].0.push(digest);
        }
        for entry in added {
            changes[shard_of(&entry.digest)].1.push(entry);
        }
        let takes_away = changes.iter().any(|(removed, _)| !removed.is_empty());
        {
            let mut lives = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let mut dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
            for (slot, (removed, added)) in self.shards.iter().zip(changes) {
                removed.iter().filter(|digest| added.iter().all(|entry| entry.digest != **digest)).for_each(|digest| dead.bury(digest));
                if !removed.is_empty() || !added.is_empty() {
                    slot.store(Arc::new(slot.load().changed(&removed, &added, &mut lives)));
                }
            }
            if takes_away {
                lives.tidy();
            }
        }
        if takes_away {
            let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
            listeners.iter().for_each(|listener| listener());
        }
    }
}

fn shard_of(digest: &KeyDigest) -> usize {
    usize::from(digest.as_bytes()[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn digest(shard: u8, number: u8) -> KeyDigest {
        let mut bytes = [number; 32];
        bytes[0] = shard;
        KeyDigest::from_bytes(bytes)
    }

    fn entry(digest: KeyDigest, name: &str) -> IndexEntry {
        IndexEntry {
            digest,
            id: KeyId::from_u64(42),
            account: AccountId(7),
            expires_at: Timestamp::NEVER,
            is_active: true,
            scopes: Scopes::FULL,
            libraries: None,
            limits: Limits::default(),
            name: name.to_owned(),
        }
    }

    fn record(digest: KeyDigest, is_active: bool) -> KeyRecord {
        KeyRecord {
            id: KeyId::from_u64(42),
            name: "tv".to_owned(),
            account: AccountId(7),
            digest,
            previous: None,
            expires_at: None,
            is_active,
            scopes: Scopes::FULL,
            libraries: None,
            limits: Limits::default(),
            created_at: Timestamp::from_millis(0),
            created_by: "cli".to_owned(),
            updated_at: Timestamp::from_millis(0),
            revoked_at: None,
            reborn_at: None,
        }
    }

    #[test]
    fn a_known_digest_is_found_with_all_that_belongs_to_it() {
        let index = KeyIndex::new();
        index.extend([entry(digest(1, 1), "living room"), entry(digest(1, 2), "Küche"), entry(digest(2, 1), "")]);
        let found = index.find(&digest(1, 2)).expect("known");
        assert_eq!(
            (found.id(), found.account(), found.expires_at(), found.name()),
            (KeyId::from_u64(42), AccountId(7), Timestamp::NEVER, "Küche")
        );
        assert!(found.is_active());
        assert!(index.find(&digest(1, 3)).is_none() && index.find(&digest(3, 1)).is_none());
        assert_eq!(index.len(), 3);
    }

    #[test]
    fn digests_that_differ_in_one_bit_only_are_told_apart() {
        let index = KeyIndex::new();
        index.extend([entry(digest(1, 1), "tv")]);
        for bit in 0..256 {
            let mut bytes = *digest(1, 1).as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(index.find(&KeyDigest::from_bytes(bytes)).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_replaced_record_leaves_nothing_of_the_old_one() {
        let index = KeyIndex::new();
        let (first, second) = (record(digest(1, 1), true), record(digest(2, 1), true));
        index.replace(None, &first);
        index.replace(Some(&first), &second);
        assert!(index.find(&digest(1, 1)).is_none());
        assert!(index.was_known(&digest(1, 1)) && !index.was_known(&digest(2, 1)) && !index.was_known(&digest(3, 1)));
        assert_eq!(index.len(), 1);
        let mut revoked = second.clone();
        revoked.revoked_at = Some(Timestamp::from_millis(1));
        index.replace(Some(&second), &revoked);
        assert!(index.is_empty());
    }

    #[test]
    fn putting_the_same_record_twice_keeps_one_entry() {
        let index = KeyIndex::new();
        index.replace(None, &record(digest(1, 1), true));
        index.replace(None, &record(digest(1, 1), false));
        assert_eq!(index.len(), 1);
        assert!(!index.find(&digest(1, 1)).expect("known").is_active());
    }

    #[test]
    fn a_verified_key_keeps_its_values_while_the_index_changes() {
        let index = KeyIndex::new();
        index.replace(None, &record(digest(1, 1), true));
        let found = index.find(&digest(1, 1)).expect("known");
        index.replace(Some(&record(digest(1, 1), true)), &record(digest(1, 1), false));
        assert!(found.is_active());
        assert_eq!(found.name(), "tv");
    }
}
