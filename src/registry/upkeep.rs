//! What the running gateway does to its records by itself: the audit log is kept within its bounds, and keys that die soon are told of.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::audit::{Act, Bounds, Field, Verb};
use crate::clock::Timestamp;
use crate::keys::KeyId;
use crate::keys::record::KeyRecord;
use crate::registry::{Acts, Registry, Unsettled};
use crate::store::audit::Pruning;
use crate::store::{Change, StoreError};

/// How many days before its end a key is told of; the order is the one in which they are looked for.
const WARN_DAYS: [u32; 4] = [1, 7, 14, 30];
const DAY: Duration = Duration::from_secs(86_400);

/// A key that dies soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiring {
    /// The key.
    pub key: KeyRecord,
    /// So many days are left, or fewer.
    pub days: u32,
}

impl Registry {
    /// Takes lines out of the audit log that are too old, or more than there may be.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn prune_audit(&self, bounds: Bounds) -> Result<(), StoreError> {
        self.store.commit(vec![Change::PruneAudit(Pruning { now: self.clock.now(), bounds })])
    }

    /// When the keys that are good now die, of those that do within this time. Takes no longer for keys that never expire.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn ends_within(&self, within: Duration) -> Result<Vec<Timestamp>, StoreError> {
        let (unsettled, now) = (self.writer(), self.clock.now());
        let keys = self.with_an_end(&unsettled, now, now.plus(within))?;
        let ends = keys.iter().filter(|key| key.is_active).filter_map(|key| key.expires_at);
        Ok(ends.filter(|end| *end <= now.plus(within)).collect())
    }

    /// The records of keys of which a secret dies after `now` and at `until` or before.
    fn with_an_end(&self, unsettled: &Unsettled, now: Timestamp, until: Timestamp) -> Result<Vec<KeyRecord>, StoreError> {
        let mut ids: BTreeSet<KeyId> = BTreeSet::new();
        // Secrets may end before their key: the record tells.
        self.index.visit_expiring(now, until, |id| ids.extend([id]));
        let mut records = Vec::new();
        for id in ids {
            records.extend(match unsettled.keys.get(&id) {
                Some(record) => Some(record.clone()),
                None => self.store.key(id)?,
            });
        }
        Ok(records)
    }

    /// The keys that have come within 30, 14, 7 or 1 days of their end since this was asked last, over restarts too. Each step of each
    /// key is told once, and stands in the audit log.
    ///
    /// # Errors
    /// [`StoreError`]; then the same ones are told of next time.
    pub fn newly_expiring(&self) -> Result<Vec<Expiring>, StoreError> {
        let mut unsettled = self.writer();
        let now = self.clock.now();
        let Some(last) = self.store.expiry_look()? else {
            self.store.commit(vec![Change::ExpiryLook(now)])?;
            return Ok(Vec::new());
        };
        let keys = self.with_an_end(&unsettled, now, now.plus(DAY * 30))?.into_iter();
        let found: Vec<_> = keys.filter_map(|key| Some(Expiring { days: step(key.expires_at?, last, now)?, key })).collect();
        let told = |expiring: &Expiring| {
            Act::new(Verb::ExpiresSoon, (&expiring.key).into())
                .with([Field::new("days", u64::from(expiring.days)), Field::new("expires", expiring.key.expires_at)])
        };
        let mut acts = found.iter().map(told);
        match acts.next() {
            Some(first) => self.commit(&mut unsettled, Acts { first, more: acts.collect() }, vec![Change::ExpiryLook(now)])?,
            // Written now and then, so that a start after a long time tells of what came nearer meanwhile, and no more.
            None if now.since(last) >= DAY / 4 || now < last => self.store.commit(vec![Change::ExpiryLook(now)])?,
            None => {}
        }
        Ok(found)
    }
}

/// The nearest step that an expiry came to after `last` and until `now`.
fn step(expires_at: Timestamp, last: Timestamp, now: Timestamp) -> Option<u32> {
    if expires_at <= now {
        return None;
    }
    WARN_DAYS.into_iter().find(|&days| {
        let at = expires_at.minus(DAY * days);
        last < at && at <= now
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    #[test]
    fn each_step_is_found_once_and_of_several_at_once_only_the_nearest() {
        let expires = NOW.plus(DAY * 40);
        let at = |days: u32| NOW.plus(DAY * days);
        assert_eq!(step(expires, NOW, at(9)), None);
        assert_eq!(step(expires, at(9), at(10)), Some(30));
        assert_eq!(step(expires, at(10), at(11)), None);
        assert_eq!(step(expires, at(11), at(34)), Some(7), "keygate did not run for a while");
        assert_eq!(step(expires, at(38), at(39)), Some(1));
        assert_eq!(step(expires, at(39), at(40)), None, "it has expired: nothing is soon any more");
    }
}
