//! The task that ends what is of dead keys, holds the bounds, and writes to the store.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use super::entry::Entry;
use super::{Handouts, MOST, MOST_PER_KEY};
use crate::audit::Line;
use crate::clock::Timestamp;
use crate::store::records::Handed;
use crate::store::{Change, StoreError};

/// How often it looks for keys that died by time alone.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long it waits for more to write.
const GATHER: Duration = Duration::from_millis(50);

/// After how many looks without news the bounds are held and the store is brought up to date.
const LOOKS_PER_TIDYING: u32 = 4;

/// How many looks go by before a failed write is tried again.
const LOOKS_AFTER_FAILURE: u32 = 20;

/// Works until nobody holds the handouts any more.
pub(super) async fn run(handouts: Weak<Handouts>) {
    let mut looks_to_wait = 0_u32;
    loop {
        let Some(handouts) = handouts.upgrade() else { return };
        tokio::select! {
            () = handouts.news.notified() => {
                tokio::time::sleep(GATHER).await;
                looks_to_wait = looks_to_wait.saturating_sub(LOOKS_PER_TIDYING);
            }
            () = tokio::time::sleep(LOOK_EVERY) => looks_to_wait = looks_to_wait.saturating_sub(1),
        }
        handouts.bury_dead();
        if looks_to_wait > 0 || handouts.is_empty() {
            continue;
        }
        handouts.hold_bounds();
        looks_to_wait = LOOKS_PER_TIDYING;
        if let Err(error) = handouts.write_aside().await {
            tracing::error!(%error, "media tickets could not be written; they hold until the next start, and are written again later");
            looks_to_wait = LOOKS_AFTER_FAILURE;
            handouts.make_room();
        }
    }
}

impl Handouts {
    /// Ends what was handed out to keys that are dead now. Called by whoever kills a key, before the account's session can be taken
    /// away, and now and then for those that time killed.
    pub(super) fn bury_dead(self: &Arc<Self>) {
        if self.is_empty() {
            return;
        }
        let now = self.clock.now();
        let mut dead = Vec::new();
        self.entries.for_each(|entry| {
            if !entry.is_gone() && !entry.has_living_key(&self.index, now) {
                dead.push(Arc::clone(entry));
            }
        });
        for entry in dead {
            if entry.drop_out() {
                if matches!(entry.record.what, Handed::PlaySession(_)) {
                    self.spawn_close(entry);
                }
                self.news.notify_one();
            }
        }
    }

    /// Lets go of what was not used for too long, and of the longest unused where there are too many.
    pub(super) fn hold_bounds(&self) {
        let now = self.clock.now();
        let mut living: Vec<(Timestamp, Arc<Entry>)> = Vec::new();
        self.entries.for_each(|entry| {
            if entry.is_good(now) {
                living.push((entry.last_used(), Arc::clone(entry)));
            } else {
                entry.drop_out();
            }
        });
        if living.len() <= MOST_PER_KEY {
            return;
        }
        living.sort_by_key(|(last_used, _)| std::cmp::Reverse(*last_used));
        let mut by_key: HashMap<[u8; 32], usize> = HashMap::new();
        for (place, (_, entry)) in living.iter().enumerate() {
            let of_key = by_key.entry(*entry.record.secret.as_bytes()).or_default();
            *of_key += 1;
            if *of_key > MOST_PER_KEY || place >= MOST {
                entry.drop_out();
            }
        }
    }

    /// Forgets what is over although the store has not: a full disk must not end in there being no room for a ticket. What comes back with
    /// a restart stands for a living key still, or for none.
    pub(super) fn make_room(&self) {
        if self.entries.len() > MOST {
            self.entries.retain(|entry| !entry.is_over());
        }
    }

    /// Brings the store up to date, with `more` in the same transaction, then forgets what is over. Blocks.
    pub(super) fn write(&self, more: Option<Line>) -> Result<(), StoreError> {
        // One at a time: what is taken back must not be written by somebody who saw it when it was good.
        let mut owed = self.owed.lock().unwrap_or_else(PoisonError::into_inner);
        owed.extend(more);
        let mut changes: Vec<_> = owed.iter().cloned().map(Change::Audit).collect();
        let (mut removed, mut written) = (Vec::new(), Vec::new());
        self.entries.for_each(|entry| {
            if entry.is_over() && entry.may_be_stored() {
                changes.push(Change::RemoveHandout(entry.record.digest.clone()));
                removed.push(Arc::clone(entry));
            } else if let Some(record) = entry.to_store() {
                written.push((Arc::clone(entry), record.clone()));
                changes.push(Change::PutHandout(record));
            }
        });
        if !changes.is_empty() {
            // What a failed commit did is unknown: what was to be written may have been.
            written.iter().for_each(|(entry, _)| entry.may_have_been_stored());
            self.store.commit(changes)?;
        }
        owed.clear();
        removed.iter().for_each(|entry| entry.was_stored(None));
        written.iter().for_each(|(entry, record)| entry.was_stored(Some(record)));
        self.entries.retain(|entry| !entry.is_over() || entry.may_be_stored());
        let now = self.clock.now();
        self.current.retain(|current| current.entry.is_good(now) && current.is_young(now));
        Ok(())
    }

    /// [`Handouts::write`], where nothing may block.
    async fn write_aside(self: &Arc<Self>) -> Result<(), StoreError> {
        let handouts = Arc::clone(self);
        let written = self.control.spawn_blocking(move || handouts.write(None)).await;
        written.unwrap_or_else(|error| Err(StoreError::Io { what: "write", path: "the store".into(), source: error.into() }))
    }
}
