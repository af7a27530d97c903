//! Keys that died and live again: what they had before stays dead.
//!
//! Whoever kills a key takes its handouts out of use at once; the store hears of that a moment later, and not at all if the program is
//! killed within it, or where it does not run. So the record of a key says when its present life began.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::clock::Timestamp;
use crate::keys::KeyId;
use crate::store::records::HandoutRecord;
use crate::store::{Store, StoreError};

/// When the lives of keys began, as the store has it; each key is asked about once.
pub(super) struct Lives<'a> {
    store: &'a dyn Store,
    begun: HashMap<KeyId, Option<Timestamp>>,
}

impl<'a> Lives<'a> {
    pub(super) fn new(store: &'a dyn Store) -> Self {
        Self { store, begun: HashMap::new() }
    }

    /// Whether it was handed out before the present life of its key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn is_of_an_earlier(&mut self, record: &HandoutRecord) -> Result<bool, StoreError> {
        let begun = match self.begun.entry(record.key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => *place.insert(self.store.key(record.key)?.and_then(|key| key.reborn_at)),
        };
        Ok(begun.is_some_and(|begun| record.created_at <= begun))
    }
}
