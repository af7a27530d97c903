//! One handout in memory.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::keys::KeyDigest;
use crate::keys::index::{KeyIndex, Verified};
use crate::store::records::HandoutRecord;

/// How long a handout is good after its last use. At least six hours are promised; a film that is paused in the evening goes on in
/// the morning.
pub const GOOD_FOR: Duration = Duration::from_secs(12 * 3600);

/// Uses within so short a time are not told apart: players ask many times a second, and cores would fight over the memory.
const COARSE: Duration = Duration::from_secs(60);

/// How far the store may be behind.
const STORED_COARSE: Duration = Duration::from_secs(600);

/// A handout and its use.
pub(super) struct Entry {
    pub(super) record: HandoutRecord,
    last_used: AtomicI64,
    /// The last use as the store has it; `i64::MIN`: the store does not know of the handout.
    stored: AtomicI64,
    is_gone: AtomicBool,
    /// Gone, and its play session is being closed: the store keeps it until that has ended.
    is_closing: AtomicBool,
    /// Gone although its key lives, which the store must know for as long as it keeps it.
    is_taken_back: AtomicBool,
    /// And whether it does.
    is_stored_as_taken_back: AtomicBool,
}

impl Entry {
    /// Just handed out.
    pub(super) const fn new(record: HandoutRecord) -> Self {
        Self {
            last_used: AtomicI64::new(record.last_used_at.as_millis()),
            stored: AtomicI64::new(i64::MIN),
            is_gone: AtomicBool::new(false),
            is_closing: AtomicBool::new(false),
            is_taken_back: AtomicBool::new(false),
            is_stored_as_taken_back: AtomicBool::new(false),
            record,
        }
    }

    /// As the store has it. One that was taken back waits for its play session to be closed.
    pub(super) const fn stored(record: HandoutRecord) -> Self {
        Self {
            last_used: AtomicI64::new(record.last_used_at.as_millis()),
            stored: AtomicI64::new(record.last_used_at.as_millis()),
            is_gone: AtomicBool::new(record.is_taken_back),
            is_closing: AtomicBool::new(record.is_taken_back),
            is_taken_back: AtomicBool::new(record.is_taken_back),
            is_stored_as_taken_back: AtomicBool::new(record.is_taken_back),
            record,
        }
    }

    pub(super) fn last_used(&self) -> Timestamp {
        Timestamp::from_millis(self.last_used.load(Ordering::Relaxed))
    }

    /// Notes a use.
    pub(super) fn touch(&self, now: Timestamp) {
        if now.since(self.last_used()) >= COARSE {
            self.last_used.fetch_max(now.as_millis(), Ordering::Relaxed);
        }
    }

    /// Takes it out of use for good; whether it was in use until now.
    pub(super) fn drop_out(&self) -> bool {
        !self.is_gone.swap(true, Ordering::AcqRel)
    }

    pub(super) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    /// Takes it out of use although its key lives; whether it was in use until now.
    pub(super) fn take_back(&self) -> bool {
        self.is_taken_back.store(true, Ordering::Release);
        self.drop_out()
    }

    pub(super) fn set_closing(&self, is_closing: bool) {
        self.is_closing.store(is_closing, Ordering::Release);
    }

    /// Whether nothing is to be done about it any more but to forget it.
    pub(super) fn is_over(&self) -> bool {
        self.is_gone() && !self.is_closing.load(Ordering::Acquire)
    }

    /// Whether it was used lately enough to be good.
    pub(super) fn is_good(&self, now: Timestamp) -> bool {
        !self.is_gone() && self.last_used().plus(GOOD_FOR) > now
    }

    /// The key that it stands for, if that key's secret is known and acts for the same account still. Whether it may pass is for the
    /// policy to say.
    pub(super) fn holder(&self, index: &KeyIndex) -> Option<Verified> {
        index.find(&self.record.secret).filter(|key| key.account() == self.record.account)
    }

    /// Whether the key's secret still opens anything.
    pub(super) fn has_living_key(&self, index: &KeyIndex, now: Timestamp) -> bool {
        self.holder(index).is_some_and(|key| key.is_active() && key.expires_at() > now)
    }

    /// What is to be written, if the store is too far behind.
    pub(super) fn to_store(&self) -> Option<HandoutRecord> {
        if self.is_gone() {
            let is_taken_back = self.is_taken_back.load(Ordering::Acquire);
            let is_owed = is_taken_back && !self.is_over() && !self.is_stored_as_taken_back.load(Ordering::Relaxed);
            return is_owed.then(|| HandoutRecord { last_used_at: self.last_used(), is_taken_back, ..self.record.clone() });
        }
        let (stored, last_used) = (self.stored.load(Ordering::Relaxed), self.last_used());
        let is_behind = stored == i64::MIN || last_used.since(Timestamp::from_millis(stored)) >= STORED_COARSE;
        is_behind.then(|| HandoutRecord { last_used_at: last_used, ..self.record.clone() })
    }

    /// Notes what the store has now; `None`: nothing.
    pub(super) fn was_stored(&self, record: Option<&HandoutRecord>) {
        self.stored.store(record.map_or(i64::MIN, |record| record.last_used_at.as_millis()), Ordering::Relaxed);
        self.is_stored_as_taken_back.store(record.is_some_and(|record| record.is_taken_back), Ordering::Relaxed);
    }

    /// Notes that the store may have something of it, since a write that began may not have ended.
    pub(super) fn may_have_been_stored(&self) {
        // The last use that the store is thought to have then is so long ago that it is written again.
        let _ = self.stored.compare_exchange(i64::MIN, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether the store may know of it.
    pub(super) fn may_be_stored(&self) -> bool {
        self.stored.load(Ordering::Relaxed) != i64::MIN
    }

    /// Whether it was handed out to this secret.
    pub(super) fn is_of(&self, secret: &KeyDigest) -> bool {
        self.record.secret == *secret
    }
}
