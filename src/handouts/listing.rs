//! What was handed out to a key, for operators: looking at it, and taking it back while the key stays good.

use std::sync::Arc;

use super::Handouts;
use super::entry::{Entry, GOOD_FOR};
use crate::audit::Line;
use crate::clock::Timestamp;
use crate::keys::KeyId;
use crate::store::StoreError;
use crate::store::records::Handed;
use crate::upstream::UpstreamName;

/// One handout, without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandoutView {
    /// `ticket`, `play-session` or `playback`.
    pub sort: &'static str,
    /// Where it opens something.
    pub upstream: UpstreamName,
    /// When it was handed out.
    pub created_at: Timestamp,
    /// When it was used last; a minute may be missing.
    pub last_used_at: Timestamp,
    /// Until when it is good if it is not used.
    pub good_until: Timestamp,
}

impl Handouts {
    /// What is good now of a key, whichever of its secrets it was handed out to; the latest first.
    pub fn of_key(&self, key: KeyId) -> Vec<HandoutView> {
        let mut found: Vec<_> = self.good_of(key).iter().map(|entry| view(entry)).collect();
        found.sort_by_key(|view| std::cmp::Reverse(view.created_at));
        found
    }

    /// Takes back all that was handed out to a key: at once, and then in the store, with the line of the audit log that `told` makes of
    /// how many there were. Play sessions are closed at the media server in the background. What runs already goes on. Gives how many
    /// there were. Blocks.
    ///
    /// # Errors
    /// [`StoreError`]: nothing of it opens anything any more, but it may after a restart. The store is tried again meanwhile.
    pub fn take_back(self: &Arc<Self>, key: KeyId, told: impl FnOnce(usize) -> Line) -> Result<usize, StoreError> {
        let taken: Vec<_> = self.good_of(key).into_iter().filter(|entry| entry.take_back()).collect();
        for entry in &taken {
            if matches!(entry.record.what, Handed::PlaySession(_)) {
                self.spawn_close(Arc::clone(entry));
            }
        }
        self.news.notify_one();
        self.write(Some(told(taken.len())))?;
        Ok(taken.len())
    }

    /// Closes the play sessions that were taken back before the last start, and that nobody could close until then.
    pub(super) fn close_taken_back(self: &Arc<Self>) {
        let mut taken = Vec::new();
        self.entries.for_each(|entry| taken.extend(entry.is_gone().then(|| Arc::clone(entry))));
        for entry in taken {
            // Nothing is to be done where that cannot begin.
            entry.set_closing(false);
            self.spawn_close(entry);
        }
    }

    fn good_of(&self, key: KeyId) -> Vec<Arc<Entry>> {
        let (now, mut found) = (self.clock.now(), Vec::new());
        self.entries.for_each(|entry| {
            if entry.record.key == key && entry.is_good(now) && entry.has_living_key(&self.index, now) {
                found.push(Arc::clone(entry));
            }
        });
        found
    }
}

fn view(entry: &Entry) -> HandoutView {
    let sort = match entry.record.what {
        Handed::Ticket => "ticket",
        Handed::PlaySession(_) => "play-session",
        Handed::Playback { .. } => "playback",
    };
    let last_used_at = entry.last_used();
    HandoutView {
        sort,
        upstream: entry.record.upstream.clone(),
        created_at: entry.record.created_at,
        last_used_at,
        good_until: last_used_at.plus(GOOD_FOR),
    }
}
