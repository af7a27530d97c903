//! Handouts: texts that open media for a while because a live key got them.
//!
//! A *ticket* is a text that keygate makes and writes into URLs in place of the key. A *capability id* is a text that the upstream
//! makes, for which it wants no further credential: the play session in `/hls/<id>/…` and `/public/session/<id>/track/<n>` of
//! Audiobookshelf, the `PlaySessionId` of Emby and Jellyfin. Either is bound to the secret of the key that it was handed out to, and
//! stands for that key, on media routes only: what kills the secret (revocation, disabling, expiry, the end of a rotation's overlap)
//! kills its handouts. Each is good for [`GOOD_FOR`] after its last use.
//!
//! Reading and handing out take no lock. The store is written by a task of the control runtime (`keeper`).

mod closing;
mod entry;
mod keeper;
mod learning;
mod listing;
mod lives;
mod people;
mod scanner;
mod sharded;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use self::entry::Entry;
use self::lives::Lives;
use self::people::People;
use self::sharded::Sharded;
use crate::audit::Line;
use crate::clock::{Clock, Timestamp};
use crate::keys::index::{KeyIndex, Verified};
use crate::keys::{KeyDigest, KeyHasher, Ticket};
use crate::secret::Secret;
use crate::store::records::{Handed, HandoutRecord};
use crate::store::{Store, StoreError};
use crate::upstream::UpstreamName;
use crate::upstream::session::Sessions;

pub use self::entry::GOOD_FOR;
pub use self::learning::{Holder, Learning};
pub use self::listing::HandoutView;

/// How long a key's ticket is written into URLs before a new one is made.
const TICKET_FRESH_FOR: Duration = Duration::from_secs(3600);

/// Most handouts of one key; the longest unused ones go.
const MOST_PER_KEY: usize = 128;

/// Most handouts in all.
const MOST: usize = 20_000;

/// The longest capability id that is taken for one, in bytes. Audiobookshelf's have 36, Jellyfin's 32.
pub const LONGEST_ID: usize = 128;

const TICKET_DOMAIN: &str = "ticket";

/// All handouts. `Send + Sync`; used by all cores.
pub struct Handouts {
    hasher: KeyHasher,
    index: Arc<KeyIndex>,
    clock: Arc<dyn Clock>,
    store: Arc<dyn Store>,
    sessions: Arc<Sessions>,
    control: tokio::runtime::Handle,
    entries: Sharded<Entry>,
    /// The ticket that is written into URLs now, by the digest of the key's secret.
    current: Sharded<CurrentTicket>,
    people: People,
    /// Something is to be written.
    news: Notify,
    /// Lines of the audit log that are to be written with it. Held while somebody writes.
    owed: Mutex<Vec<Line>>,
}

/// The one place where a ticket's text is kept.
struct CurrentTicket {
    ticket: Ticket,
    entry: Arc<Entry>,
}

/// What the handouts work with.
pub struct Around {
    /// Makes digests of texts.
    pub hasher: KeyHasher,
    /// The keys.
    pub index: Arc<KeyIndex>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where they outlive the process.
    pub store: Arc<dyn Store>,
    /// Credentials for closing play sessions.
    pub sessions: Arc<Sessions>,
    /// The runtime of all that is not a request.
    pub control: tokio::runtime::Handle,
}

impl fmt::Debug for Around {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Around")
    }
}

/// What an upstream handed out.
#[derive(Clone, Copy, Debug)]
pub enum Capability<'a> {
    /// Audiobookshelf: the id of a play session.
    PlaySession,
    /// Emby and Jellyfin: the id of a playback of this item.
    Playback {
        /// The item's id, in any of its spellings.
        item: &'a str,
    },
}

impl fmt::Debug for Handouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handouts").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Handouts {
    /// Takes over what the store holds. Nothing is written, ended or closed before [`Handouts::start`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn load(around: Around) -> Result<Arc<Self>, StoreError> {
        let Around { hasher, index, clock, store, sessions, control } = around;
        let (entries, mut lives) = (Sharded::new(), Lives::new(&*store));
        for mut record in store.handouts()? {
            let digest = record.digest.clone();
            record.is_taken_back |= lives.is_of_an_earlier(&record)?;
            entries.put(&digest, Arc::new(Entry::stored(record)));
        }
        let (current, people, news, owed) = (Sharded::new(), Sharded::new(), Notify::new(), Mutex::default());
        Ok(Arc::new(Self { hasher, index, clock, store, sessions, control, entries, current, people, news, owed }))
    }

    /// Begins to write to the store and to end what is of dead keys. Ends when nobody holds the handouts any more.
    pub fn start(self: &Arc<Self>) {
        let handouts = Arc::downgrade(self);
        self.index.on_change(move || {
            if let Some(handouts) = handouts.upgrade() {
                handouts.bury_dead();
            }
        });
        self.close_taken_back();
        self.control.spawn(keeper::run(Arc::downgrade(self)));
    }

    /// The ticket that goes into URLs for a key, on an upstream: the same one for up to an hour. `None`: none can be made right now (no
    /// random bytes, or no room), so that no URL can be written.
    pub fn ticket_for(&self, key: &Verified, upstream: &UpstreamName) -> Option<Ticket> {
        let (now, secret) = (self.clock.now(), key.digest());
        if let Some(current) = self.current.find(&secret)
            && current.is_fresh(key, upstream, now)
        {
            current.entry.touch(now);
            return Some(current.ticket.clone());
        }
        let ticket = Ticket::generate().ok()?;
        let digest = self.hasher.digest_of(TICKET_DOMAIN, ticket.expose());
        let entry = self.add(self.record(digest, Handed::Ticket, key, upstream))?;
        self.current.put(&secret, Arc::new(CurrentTicket { ticket: ticket.clone(), entry }));
        Some(ticket)
    }

    /// The key that a ticket stands for on an upstream; notes the use.
    pub fn by_ticket(&self, ticket: &Ticket, upstream: &UpstreamName) -> Option<Verified> {
        let entry = self.entries.find(&self.hasher.digest_of(TICKET_DOMAIN, ticket.expose()))?;
        self.open(&entry, upstream)
    }

    /// Notes that the upstream handed an id out to a key. One that is in use already stays with whom it was handed out to first.
    pub fn hand_out(&self, id: &str, what: Capability<'_>, key: &Verified, upstream: &UpstreamName) {
        if !is_capability_id(id) {
            return;
        }
        let digest = self.capability_digest(id, upstream);
        if let Some(known) = self.entries.find(&digest)
            && known.is_good(self.clock.now())
            && known.has_living_key(&self.index, self.clock.now())
        {
            if known.is_of(&key.digest()) {
                known.touch(self.clock.now());
            }
            return;
        }
        let what = match what {
            Capability::PlaySession => Handed::PlaySession(Secret::from(id)),
            Capability::Playback { item } => Handed::Playback { item: plain_item(item) },
        };
        let _ = self.add(self.record(digest, what, key, upstream));
    }

    /// The key that a capability id stands for on an upstream; notes the use. `item`: what is asked for, where the id is for one item.
    pub fn by_capability(&self, id: &str, item: Option<&str>, upstream: &UpstreamName) -> Option<Verified> {
        if !is_capability_id(id) {
            return None;
        }
        let entry = self.entries.find(&self.capability_digest(id, upstream))?;
        let fits = match (&entry.record.what, item) {
            (Handed::PlaySession(_), None) => true,
            (Handed::Playback { item }, Some(asked)) => *item == plain_item(asked),
            _ => false,
        };
        if fits { self.open(&entry, upstream) } else { None }
    }

    /// Notes that a key or a person keeps an id of theirs going, with the credential and not by the id.
    pub fn keep_going(&self, id: &str, holder: &Holder, upstream: &UpstreamName) {
        let Holder::Key(key) = holder else {
            self.is_of_person(id, upstream);
            return;
        };
        if let Some(entry) = self.entries.find(&self.capability_digest(id, upstream))
            && entry.is_of(&key.digest())
        {
            entry.touch(self.clock.now());
        }
    }

    /// Forgets an id that the upstream will not serve any more.
    pub fn forget(&self, id: &str, upstream: &UpstreamName) {
        self.forget_of_person(id, upstream);
        if let Some(entry) = self.entries.find(&self.capability_digest(id, upstream)) {
            entry.drop_out();
            self.news.notify_one();
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn open(&self, entry: &Entry, upstream: &UpstreamName) -> Option<Verified> {
        let now = self.clock.now();
        if entry.record.upstream != *upstream || !entry.is_good(now) {
            return None;
        }
        let key = entry.holder(&self.index)?;
        entry.touch(now);
        Some(key)
    }

    fn record(&self, digest: KeyDigest, what: Handed, key: &Verified, upstream: &UpstreamName) -> HandoutRecord {
        let now = self.clock.now();
        HandoutRecord {
            digest,
            what,
            secret: key.digest(),
            key: key.id(),
            account: key.account(),
            upstream: upstream.clone(),
            created_at: now,
            last_used_at: now,
            is_taken_back: false,
        }
    }

    /// The keeper holds the bounds a moment later; here is only what keeps a flood from filling the memory meanwhile.
    fn add(&self, record: HandoutRecord) -> Option<Arc<Entry>> {
        if self.entries.len() >= 2 * MOST {
            return None;
        }
        let digest = record.digest.clone();
        let entry = Arc::new(Entry::new(record));
        self.entries.put(&digest, Arc::clone(&entry));
        self.news.notify_one();
        Some(entry)
    }

    fn capability_digest(&self, id: &str, upstream: &UpstreamName) -> KeyDigest {
        self.hasher.digest_of(&format!("capability/{upstream}"), id)
    }
}

impl CurrentTicket {
    fn is_fresh(&self, key: &Verified, upstream: &UpstreamName, now: Timestamp) -> bool {
        let record = &self.entry.record;
        self.is_young(now) && self.entry.is_good(now) && record.upstream == *upstream && record.account == key.account()
    }

    fn is_young(&self, now: Timestamp) -> bool {
        self.entry.record.created_at.plus(TICKET_FRESH_FOR) > now
    }
}

/// What an upstream's ids look like; they go into paths of keygate's own calls.
fn is_capability_id(id: &str) -> bool {
    (8..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// An item's id in one spelling: Jellyfin writes it with dashes and without.
fn plain_item(id: &str) -> String {
    id.chars().filter(|letter| *letter != '-').map(|letter| letter.to_ascii_lowercase()).collect()
}
