//! One 256th of the index: entries of one size, their names in one text, and a table of positions. Never changed once built.

use std::sync::Arc;

use hashbrown::HashTable;
use subtle::ConstantTimeEq;

use crate::clock::Timestamp;
use crate::keys::record::IndexEntry;
use crate::keys::{KeyDigest, KeyId, Scopes};
use crate::limits::live::{Live, Lives};
use crate::upstream::AccountId;

/// The id takes the lower 50 bits of a word; the active flag, the name's length (8 bits), whether libraries follow the name and whether
/// the key is limited take the rest.
const ACTIVE: u64 = 1 << 50;
const NAME_LEN_SHIFT: u32 = 51;
const NAME_LEN_MAX: usize = 0xff;
const HAS_LIBRARIES: u64 = 1 << (NAME_LEN_SHIFT + 8);
const HAS_LIMITS: u64 = 1 << (NAME_LEN_SHIFT + 9);
/// Milliseconds take the lower 48 bits of the other word, until the year 10889, and the scopes the rest. All ones: never.
const TIME_BITS: u32 = 48;
const TIME_MAX: u64 = (1 << TIME_BITS) - 1;
/// Stands after each library. No id has it either.
const SEPARATOR: &str = "\n";
/// Ends the libraries of an entry. No id has it.
const END: char = '\0';

/// What is kept of one secret: 56 bytes.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    digest: [u8; 32],
    expiry_and_scopes: u64,
    id_and_flags: u64,
    account: u32,
    name_start: u32,
}

impl Entry {
    pub(crate) const fn id(&self) -> KeyId {
        KeyId::from_u64(self.id_and_flags)
    }

    pub(crate) const fn digest(&self) -> KeyDigest {
        KeyDigest::from_bytes(self.digest)
    }

    pub(crate) const fn account(&self) -> AccountId {
        AccountId(self.account)
    }

    pub(crate) const fn expires_at(&self) -> Timestamp {
        match self.expiry_and_scopes & TIME_MAX {
            TIME_MAX => Timestamp::NEVER,
            millis => Timestamp::from_millis(millis.cast_signed()),
        }
    }

    pub(crate) const fn is_active(&self) -> bool {
        self.id_and_flags & ACTIVE != 0
    }

    pub(crate) const fn scopes(&self) -> Scopes {
        Scopes::from_word(self.expiry_and_scopes >> TIME_BITS)
    }

    const fn name_len(&self) -> usize {
        (self.id_and_flags >> NAME_LEN_SHIFT) as usize & NAME_LEN_MAX
    }
}

/// A finished shard.
#[derive(Default)]
pub(crate) struct Shard {
    entries: Box<[Entry]>,
    names: Box<str>,
    /// Limits by position, in order. Few keys have some.
    limits: Box<[(u32, Arc<Live>)]>,
    /// Positions in `entries`. The digest is its own hash: nobody outside can steer a keyed one.
    table: HashTable<u32>,
}

impl Shard {
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The position of a digest. All 32 bytes are compared, in constant time.
    pub(crate) fn find(&self, digest: &KeyDigest) -> Option<u32> {
        let wanted = digest.as_bytes();
        self.table.find(hash_of(wanted), |&position| self.entry(position).digest.ct_eq(wanted).into()).copied()
    }

    /// The entry at a position that [`Shard::find`] gave.
    pub(crate) fn entry(&self, position: u32) -> &Entry {
        &self.entries[position as usize]
    }

    /// The name at such a position.
    pub(crate) fn name(&self, position: u32) -> &str {
        self.name_of(self.entry(position))
    }

    fn name_of(&self, entry: &Entry) -> &str {
        let start = entry.name_start as usize;
        self.names.get(start..start + entry.name_len()).unwrap_or_default()
    }

    /// The ids of the keys whose secrets die after `now` and at `until` or before.
    pub(crate) fn expiring(&self, now: Timestamp, until: Timestamp) -> impl Iterator<Item = KeyId> {
        self.entries.iter().filter(move |entry| entry.expires_at() > now && entry.expires_at() <= until).map(Entry::id)
    }

    /// The ids of the libraries that an entry at such a position is confined to, if it is.
    pub(crate) fn libraries(&self, position: u32) -> Option<impl Iterator<Item = &str> + Clone> {
        let entry = self.entry(position);
        Some(self.libraries_of(entry)?.split_terminator(SEPARATOR))
    }

    /// The same as text.
    fn libraries_of(&self, entry: &Entry) -> Option<&str> {
        if entry.id_and_flags & HAS_LIBRARIES == 0 {
            return None;
        }
        let text = self.names.get(entry.name_start as usize + entry.name_len()..).unwrap_or_default();
        Some(text.split_once(END).map_or("", |(libraries, _)| libraries))
    }

    /// The limits of the key at such a position, if it has some.
    pub(crate) fn limits(&self, position: u32) -> Option<&Arc<Live>> {
        if self.entry(position).id_and_flags & HAS_LIMITS == 0 {
            return None;
        }
        let place = self.limits.binary_search_by_key(&position, |(position, _)| *position).ok()?;
        self.limits.get(place).map(|(_, live)| live)
    }

    /// A copy without some secrets and with others; an added one takes the place of an equal digest.
    pub(crate) fn changed(&self, removed: &[KeyDigest], added: &[IndexEntry], lives: &mut Lives) -> Self {
        let mut out: Vec<u32> =
            removed.iter().chain(added.iter().map(|entry| &entry.digest)).filter_map(|digest| self.find(digest)).collect();
        out.sort_unstable();
        let mut builder = ShardBuilder::with_capacity(self.entries.len() + added.len());
        for (position, entry) in (0_u32..).zip(&self.entries) {
            if out.binary_search(&position).is_err() {
                builder.push_parts(*entry, self.name_of(entry), self.libraries_of(entry), self.limits(position).cloned());
            }
        }
        added.iter().for_each(|entry| builder.push(entry, lives));
        builder.build()
    }
}

/// A shard that is being filled.
#[derive(Default)]
pub(crate) struct ShardBuilder {
    entries: Vec<Entry>,
    names: String,
    limits: Vec<(u32, Arc<Live>)>,
}

impl ShardBuilder {
    /// With room for about so many.
    pub(crate) fn with_capacity(entries: usize) -> Self {
        // Shards differ: four standard deviations keep nearly all of them from growing.
        let slack = 4 * entries.isqrt() + 1;
        Self { entries: Vec::with_capacity(entries + slack), names: String::new(), limits: Vec::new() }
    }

    pub(crate) fn push(&mut self, entry: &IndexEntry, lives: &mut Lives) {
        let bare = Entry {
            digest: *entry.digest.as_bytes(),
            expiry_and_scopes: packed(entry.expires_at) | u64::from(entry.scopes.bits()) << TIME_BITS,
            id_and_flags: entry.id.as_u64() | if entry.is_active { ACTIVE } else { 0 },
            account: entry.account.0,
            name_start: 0,
        };
        let libraries = entry.libraries.as_ref().map(|libraries| libraries.iter().fold(String::new(), |text, id| text + id + SEPARATOR));
        self.push_parts(bare, &entry.name, libraries.as_deref(), lives.of(entry.id, &entry.limits));
    }

    fn push_parts(&mut self, mut entry: Entry, name: &str, libraries: Option<&str>, limits: Option<Arc<Live>>) {
        let name = shortened(name);
        entry.id_and_flags &= !((NAME_LEN_MAX as u64) << NAME_LEN_SHIFT | HAS_LIBRARIES | HAS_LIMITS);
        entry.id_and_flags |= (name.len() as u64) << NAME_LEN_SHIFT;
        entry.name_start = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push_str(name);
        if let Some(libraries) = libraries {
            entry.id_and_flags |= HAS_LIBRARIES;
            self.names.push_str(libraries);
            self.names.push(END);
        }
        if let Some(limits) = limits {
            entry.id_and_flags |= HAS_LIMITS;
            self.limits.push((u32::try_from(self.entries.len()).unwrap_or(u32::MAX), limits));
        }
        self.entries.push(entry);
    }

    /// Packs it. Of two entries with one digest the later one counts.
    pub(crate) fn build(self) -> Shard {
        let entries = self.entries.into_boxed_slice();
        let mut table = HashTable::with_capacity(entries.len());
        for (position, entry) in (0_u32..).zip(&entries) {
            let same = |&other: &u32| entries[other as usize].digest == entry.digest;
            match table.find_mut(hash_of(&entry.digest), same) {
                Some(earlier) => *earlier = position,
                None => {
                    table.insert_unique(hash_of(&entry.digest), position, |&other| hash_of(&entries[other as usize].digest));
                }
            }
        }
        Shard { entries, names: self.names.into_boxed_str(), limits: self.limits.into_boxed_slice(), table }
    }
}

/// What is before 1970 is over like it.
fn packed(time: Timestamp) -> u64 {
    if time == Timestamp::NEVER { TIME_MAX } else { time.as_millis().max(0).cast_unsigned().min(TIME_MAX - 1) }
}

/// No name that the registry made is longer; one in a store that was altered must not upset the flags.
fn shortened(name: &str) -> &str {
    let end = (0..=name.len().min(NAME_LEN_MAX)).rev().find(|&end| name.is_char_boundary(end));
    &name[..end.unwrap_or(0)]
}

/// Eight bytes of the digest, past the one that chose the shard.
fn hash_of(digest: &[u8; 32]) -> u64 {
    digest[1..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Scope;
    use crate::limits::Limits;

    #[test]
    fn an_entry_takes_56_bytes() {
        assert_eq!(size_of::<Entry>(), 56);
    }

    #[test]
    fn the_largest_id_the_longest_name_and_the_flags_do_not_touch_each_other() {
        let name = "é".repeat(100);
        let entry = IndexEntry {
            digest: KeyDigest::from_bytes([3; 32]),
            id: KeyId::from_u64(u64::MAX),
            account: AccountId(u32::MAX),
            expires_at: Timestamp::from_millis(5),
            is_active: false,
            scopes: Scopes::NONE,
            libraries: None,
            limits: Limits::default(),
            name: name.clone(),
        };
        let shard = Shard::default().changed(&[], &[entry], &mut Lives::default());
        let position = shard.find(&KeyDigest::from_bytes([3; 32])).expect("known");
        assert_eq!(shard.entry(position).id(), KeyId::from_u64((1 << 50) - 1));
        assert!(!shard.entry(position).is_active());
        assert_eq!(shard.name(position), name);
        assert!(shard.entry(position).scopes().is_empty());
    }

    #[test]
    fn scopes_stay_with_their_secret_when_others_change() {
        let entry = |number: u8, scopes| IndexEntry {
            digest: KeyDigest::from_bytes([number; 32]),
            id: KeyId::from_u64(u64::from(number)),
            account: AccountId(1),
            expires_at: Timestamp::NEVER,
            is_active: true,
            scopes,
            libraries: (number == 2).then(|| vec!["lib-1".to_owned(), "ff".to_owned()]),
            limits: Limits { networks: (number == 100).then(Vec::new), ..Limits::default() },
            name: "é".repeat(usize::from(number)),
        };
        let (admin, mut lives) = (Scopes::of(Scope::Admin), Lives::default());
        let first = Shard::default().changed(&[], &[entry(1, Scopes::ALL), entry(2, admin), entry(100, admin)], &mut lives);
        let shard = first.changed(&[KeyDigest::from_bytes([1; 32])], &[entry(3, Scopes::FULL)], &mut lives);
        for (number, scopes) in [(2, admin), (3, Scopes::FULL), (100, admin)] {
            let position = shard.find(&KeyDigest::from_bytes([number; 32])).expect("known");
            assert_eq!(shard.entry(position).scopes(), scopes, "{number}");
            assert_eq!(shard.name(position), "é".repeat(usize::from(number)));
            assert!(shard.entry(position).is_active());
            assert_eq!(shard.entry(position).expires_at(), Timestamp::NEVER);
            let libraries = shard.libraries(position).map(|ids| ids.map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(libraries, (number == 2).then(|| vec!["lib-1".to_owned(), "ff".to_owned()]));
            assert_eq!(shard.limits(position).is_some(), number == 100);
        }
    }

    #[test]
    fn an_expiry_shares_its_word_with_the_scopes_and_loses_nothing() {
        let entry = |expires_at, libraries| IndexEntry {
            digest: KeyDigest::from_bytes([1; 32]),
            id: KeyId::from_u64(1),
            account: AccountId(1),
            expires_at,
            is_active: true,
            scopes: Scopes::ALL,
            libraries,
            limits: Limits::default(),
            name: String::new(),
        };
        for (given, kept) in [(0, 0), (-5, 0), (1, 1), (253_402_300_799_999, 253_402_300_799_999), (i64::MAX - 1, (1 << 48) - 2)] {
            let shard = Shard::default().changed(&[], &[entry(Timestamp::from_millis(given), Some(Vec::new()))], &mut Lives::default());
            assert_eq!(shard.entry(0).expires_at(), Timestamp::from_millis(kept));
            assert_eq!(shard.entry(0).scopes(), Scopes::ALL);
            assert_eq!(shard.libraries(0).map(Iterator::count), Some(0), "confined to nothing is not the same as not confined");
        }
    }
}
