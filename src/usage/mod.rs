//! Usage: what keys are used for, by whom, when last, and what runs now.
//!
//! Each core counts for itself and takes no lock for it ([`tally::Tally`]); once a second, or sooner, it hands over what is new. All of it
//! comes together in one place ([`Usage`]), from which every figure is read: lists, the admin interface, metrics. It is written to the store
//! in batches (`[usage] flush`), so that a crash loses at most one of them. Only keys that were used cost anything.
//!
//! Requests are counted when they end, as the access log has them; bytes of what runs long are counted while it runs.

pub mod agent;
mod books;
pub mod count;
pub mod group;
pub mod latency;
pub mod measured;
pub mod open;
pub mod record;
pub mod ring;
pub mod tally;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;

use self::books::{Books, Writing};
use self::latency::Recent;
use self::measured::Measured;
use self::open::{StreamId, StreamView};
use self::record::{KeyUsage, LastUse, UpstreamUsage};
use self::tally::{News, Noted, RefusalNews, Tally};
use crate::clock::{Clock, Timestamp};
use crate::keys::KeyId;
use crate::keys::index::KeyIndex;
use crate::limits::daily::DayUse;
use crate::store::{Store, StoreError};

pub use self::books::NO_UPSTREAM;

/// How often what the cores hand over is entered.
const ENTER_EVERY: Duration = Duration::from_secs(1);

/// How often each core hands over at least.
const HAND_OVER_EVERY: Duration = Duration::from_secs(1);

/// The one place of all figures. What reads it may block: call it where that is allowed.
pub struct Usage {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    sender: Sender<News>,
    /// The lock of the books is taken second.
    inbox: Mutex<Receiver<News>>,
    books: Mutex<Books>,
    written_at: Mutex<Option<Timestamp>>,
    closings: Mutex<Vec<StreamId>>,
    waiting_closings: AtomicUsize,
    on_close: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
    /// Where bytes count against the limits of keys.
    limits: OnceLock<Arc<KeyIndex>>,
}

impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Usage")
    }
}

impl Usage {
    /// Goes on from what was written before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn load(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StoreError> {
        let (sender, receiver) = mpsc::channel();
        let books = Books::new(store.totals()?);
        Ok(Arc::new(Self {
            store,
            clock,
            sender,
            inbox: Mutex::new(receiver),
            books: Mutex::new(books),
            written_at: Mutex::default(),
            closings: Mutex::default(),
            waiting_closings: AtomicUsize::new(0),
            on_close: Mutex::default(),
            limits: OnceLock::new(),
        }))
    }

    /// Lets keys with a limit of bytes a day go on from what they had used, and writes that down with all else from now on. For who starts,
    /// before anything is counted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn keep_daily(&self, index: &Arc<KeyIndex>) -> Result<(), StoreError> {
        let now = self.clock.now();
        for (key, live) in index.lives() {
            if live.day_use(now).is_some()
                && let Some(used) = self.store.usage(key)?.and_then(|usage| usage.today)
            {
                live.resume(used);
            }
        }
        self.limits.get_or_init(|| Arc::clone(index));
        Ok(())
    }

    fn day_use(&self, key: KeyId) -> Option<DayUse> {
        self.limits.get()?.live(key)?.day_use(self.clock.now())
    }

    /// Enters what comes, and writes it down every so often, until nobody holds this any more.
    pub fn start(self: &Arc<Self>, flush_every: Duration, control: &Handle) {
        let (weak, blocking) = (Arc::downgrade(self), control.clone());
        control.spawn(keep_up(weak, flush_every, blocking));
    }

    /// Where one core counts.
    pub fn tally(&self, core: u16) -> Tally {
        Tally::new(core, self.sender.clone())
    }

    /// Enters what the cores have handed over.
    ///
    /// # Errors
    /// [`StoreError`]; what could not be entered is lost.
    pub fn enter(&self) -> Result<(), StoreError> {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let mut books = self.books();
        inbox.try_iter().try_for_each(|news| books.enter(news, &*self.store))
    }

    /// Notes for the audit log what was refused elsewhere than on the cores; it is gathered with what they refuse. `client`: an address or
    /// a network.
    pub fn refused(&self, kind: &'static str, client: IpAddr) {
        let refused = RefusalNews { client: Some(client), kind, noted: Noted::one(None, None) };
        self.books().refused(&refused, self.clock.now());
    }

    /// Writes down what is new.
    ///
    /// # Errors
    /// [`StoreError`]; the same is tried again next time.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.write(false)
    }

    /// Writes down everything: at the end of the program.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn finish(&self) -> Result<(), StoreError> {
        self.write(true)
    }

    fn write(&self, all: bool) -> Result<(), StoreError> {
        self.enter()?;
        // Nobody waits for the books while the store writes.
        let now = self.clock.now();
        let when = Writing { now, all, day_use: &|key| self.day_use(key) };
        let (changes, keys) = self.books().take(when, &*self.store)?.into_parts();
        let written = if changes.is_empty() { Ok(()) } else { self.store.commit(changes) };
        match &written {
            Ok(()) => {
                self.books().make_room();
                *self.written_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
            }
            Err(_) => self.books().put_back(&keys),
        }
        written
    }

    /// What was entered until then is in the store; `None`: nothing was written since the start.
    pub fn written_at(&self) -> Option<Timestamp> {
        *self.written_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that is known of a key's use; `None`: it was never used.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn of_key(&self, id: KeyId) -> Result<Option<KeyUsage>, StoreError> {
        self.enter()?;
        let known = self.books().key(id).cloned();
        if known.is_some() { Ok(known) } else { self.store.usage(id) }
    }

    /// When each key that was ever used was used last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn last_uses(&self) -> Result<HashMap<KeyId, LastUse>, StoreError> {
        self.enter()?;
        let mut last = HashMap::new();
        self.store.visit_last_uses(&mut |id, of_key| drop(last.insert(id, of_key)))?;
        last.extend(self.books().keys().filter_map(|(id, usage)| Some((id, usage.last()?))));
        Ok(last)
    }

    /// Sums by upstream, those of requests that came to none below [`NO_UPSTREAM`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn totals(&self) -> Result<BTreeMap<String, UpstreamUsage>, StoreError> {
        self.enter()?;
        Ok(self.books().upstreams().clone())
    }

    /// What was counted since the program started, as of the last second.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn measured(&self) -> Result<Measured, StoreError> {
        self.enter()?;
        Ok(self.books().measured().clone())
    }

    /// How long each upstream took in the last hour, as of the last second; at most since the program started.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn latencies(&self) -> Result<BTreeMap<String, Recent>, StoreError> {
        self.enter()?;
        Ok(self.books().measured().upstreams.iter().map(|(name, of)| (name.clone(), of.recent.clone())).collect())
    }

    /// What runs now, as of the last second; of this key, or of all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(&self, key: Option<KeyId>) -> Result<Vec<StreamView>, StoreError> {
        self.enter()?;
        let books = self.books();
        let mut open: Vec<_> = books.open().filter(|view| key.is_none_or(|key| view.key == key)).cloned().collect();
        open.sort_by_key(|view| (view.started, view.id));
        Ok(open)
    }

    /// Lets the core that runs it close it. What it was, if it ran a second ago.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn close(&self, id: StreamId) -> Result<Option<StreamView>, StoreError> {
        self.enter()?;
        let found = self.books().open().find(|view| view.id == id).cloned();
        if found.is_some() {
            self.closings.lock().unwrap_or_else(PoisonError::into_inner).push(id);
            self.waiting_closings.fetch_add(1, Ordering::Release);
            if let Some(wake) = &*self.on_close.lock().unwrap_or_else(PoisonError::into_inner) {
                wake();
            }
        }
        Ok(found)
    }

    /// `wake` is called when something is to be closed: each core then looks for what is its own ([`Usage::closings`]).
    pub fn on_close(&self, wake: impl Fn() + Send + Sync + 'static) {
        *self.on_close.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(wake));
    }

    /// What a core is to close. Takes no lock while there is nothing.
    pub fn closings(&self, core: u16) -> Vec<StreamId> {
        if self.waiting_closings.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let mut closings = self.closings.lock().unwrap_or_else(PoisonError::into_inner);
        let (own, others) = closings.drain(..).partition::<Vec<_>, _>(|id| id.core() == core);
        *closings = others;
        self.waiting_closings.store(closings.len(), Ordering::Release);
        own
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So often each core hands over what it counted, where it is to be in the store within `flush_every`: 250 ms to 1 s.
pub fn hand_over_every(flush_every: Duration) -> Duration {
    HAND_OVER_EVERY.min(flush_every / 4)
}

/// So often it is written. A request is handed over within [`hand_over_every`] and written within this; as long may the writing take for it
/// to be in the store within the interval.
fn pause_between_writings(flush_every: Duration) -> Duration {
    flush_every - 2 * hand_over_every(flush_every)
}

async fn keep_up(usage: Weak<Usage>, flush_every: Duration, blocking: Handle) {
    let write_every = pause_between_writings(flush_every);
    let (mut entering, mut writing) = (tokio::time::interval(ENTER_EVERY), tokio::time::interval(write_every));
    for interval in [&mut entering, &mut writing] {
        // A writing that took long is not made up for by many short ones.
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        let is_time_to_write = tokio::select! {
            _ = writing.tick() => true,
            _ = entering.tick() => false,
        };
        let Some(usage) = usage.upgrade() else { return };
        let work = move || if is_time_to_write { usage.flush() } else { usage.enter() };
        match blocking.spawn_blocking(work).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the use of keys could not be written; it is tried again"),
            Err(error) => tracing::warn!(%error, "the use of keys was not written"),
        }
    }
}
