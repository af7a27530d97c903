//! Play sessions that people opened with a credential of the server's own, where that passes (`native_logins`).
//!
//! Their apps play as all do, by the session's id and nothing else. No key stands behind it, so nothing opens but the session itself, as
//! long as such logins pass; and since a person can open another one at any time, none outlives the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::entry::GOOD_FOR;
use super::sharded::Sharded;
use super::{Handouts, is_capability_id};
use crate::clock::Timestamp;
use crate::upstream::UpstreamName;

/// Most of them; the longest unused one makes room.
const MOST: usize = 4096;

/// One play session: its last use.
pub(super) struct OfPerson(AtomicI64);

/// All of them, by the digest of the id.
pub(super) type People = Sharded<OfPerson>;

impl OfPerson {
    fn last_used(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn is_good(&self, now: Timestamp) -> bool {
        self.last_used().plus(GOOD_FOR) > now
    }

    fn touch(&self, now: Timestamp) {
        self.0.fetch_max(now.as_millis(), Ordering::Relaxed);
    }

    fn end(&self) {
        self.0.store(Timestamp::from_millis(0).as_millis(), Ordering::Relaxed);
    }
}

impl Handouts {
    /// Notes that the upstream handed the id of a play session out to a person. One that was handed out to a key stays with the key.
    pub fn hand_out_to_person(&self, id: &str, upstream: &UpstreamName) {
        let digest = self.capability_digest(id, upstream);
        if !is_capability_id(id) || self.entries.find(&digest).is_some() {
            return;
        }
        let now = self.clock.now();
        if self.people.len() >= MOST {
            self.make_room_for_person(now);
        }
        self.people.put(&digest, Arc::new(OfPerson(AtomicI64::new(now.as_millis()))));
    }

    /// Whether a play session was handed out to a person; notes the use.
    pub fn is_of_person(&self, id: &str, upstream: &UpstreamName) -> bool {
        let (found, now) = (self.people.find(&self.capability_digest(id, upstream)), self.clock.now());
        let found = found.filter(|session| session.is_good(now));
        if let Some(session) = &found {
            session.touch(now);
        }
        found.is_some()
    }

    pub(super) fn forget_of_person(&self, id: &str, upstream: &UpstreamName) {
        if let Some(session) = self.people.find(&self.capability_digest(id, upstream)) {
            session.end();
        }
    }

    /// Forgets what is over, or else the longest unused.
    fn make_room_for_person(&self, now: Timestamp) {
        self.people.retain(|session| session.is_good(now));
        if self.people.len() < MOST {
            return;
        }
        let mut oldest = now;
        self.people.for_each(|session| oldest = oldest.min(session.last_used()));
        self.people.retain(|session| session.last_used() > oldest);
    }
}
