//! The other end of a stand-in, for tests: what it saw, what it handed out, and faults to order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};

use super::canned::Canned;
use super::journal::{Counters, Seen, Upload};
use super::ledger::Ledger;
use super::options::Options;
use crate::upstream::Kind;

/// Entries that the journal keeps; older ones go.
const JOURNAL_LIMIT: usize = 16_384;
/// Messages of clients that are kept; older ones go.
const SAID_LIMIT: usize = 4096;
/// Messages that a slow socket may be behind.
const PUSH_LIMIT: usize = 64;

/// What goes wrong on purpose. The default is that nothing does.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Accepted connections are closed at once (for a port that refuses, stop the stand-in).
    pub refuse_connections: bool,
    /// This status and, where given, `Retry-After` in seconds, instead of any answer.
    pub status: Option<(u16, Option<u64>)>,
    /// The same for log-ins and refreshes alone.
    pub login_status: Option<(u16, Option<u64>)>,
    /// Wait before any answer.
    pub delay: Duration,
    /// Wait before the answer to a log-in; what it changes has happened by then.
    pub delay_login: Duration,
    /// Wait before the answer to a refresh; the rotation has happened by then, as when an answer gets lost.
    pub delay_refresh: Duration,
    /// Answers break off after so many bytes of body.
    pub cut_bodies_after: Option<u64>,
    /// Connections are closed in place of the answer.
    pub no_answer: bool,
    /// This answer to everything but log-ins and refreshes.
    pub canned: Option<Canned>,
    /// Texts come in this content coding, whatever the request accepts (any other name than `gzip`, `deflate`, `br`: they only say so).
    pub coding: Option<String>,
    /// Jellyfin: the gateway is not among its known proxies, so that every client looks like the gateway.
    pub ignore_forwarded_for: bool,
    /// Jellyfin: Quick Connect is switched off in its settings.
    pub quick_connect_off: bool,
    /// What the server says of its version.
    pub version: Option<String>,
    /// The `Date` of all answers.
    pub date: Option<String>,
    /// Media are answered whole, whatever range was asked for.
    pub ignore_range: bool,
    /// Upgrades are answered 400, as by a proxy that takes the `Upgrade` header away.
    pub refuse_upgrades: bool,
    /// The library is empty.
    pub no_media: bool,
    /// Fields of `/System/Configuration` (Emby, Jellyfin) in place of the usual ones.
    pub configuration: serde_json::Map<String, serde_json::Value>,
    /// The same for Jellyfin's `/System/Configuration/network`.
    pub network: serde_json::Map<String, serde_json::Value>,
    /// Jellyfin: `EnablePublishedServerUriByRequest`, so that it tells addresses as requests name them.
    pub addresses_by_request: bool,
}

/// A handle on a running stand-in. Clones are handles on the same one.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

struct Inner {
    counters: Mutex<Counters>,
    journal: Mutex<VecDeque<Seen>>,
    uploads: Mutex<Vec<Upload>>,
    said: Mutex<VecDeque<String>>,
    faults: Mutex<Faults>,
    ledger: Mutex<Ledger>,
    push: broadcast::Sender<String>,
    cut: watch::Sender<u64>,
}

impl Control {
    pub(super) fn new(kind: Kind, options: &Options) -> Self {
        Self {
            inner: Arc::new(Inner {
                counters: Mutex::default(),
                journal: Mutex::default(),
                uploads: Mutex::default(),
                said: Mutex::default(),
                faults: Mutex::default(),
                ledger: Mutex::new(Ledger::new(kind, options)),
                push: broadcast::channel(PUSH_LIMIT).0,
                cut: watch::channel(0).0,
            }),
        }
    }

    /// The counters as they stand now.
    pub fn counters(&self) -> Counters {
        *lock(&self.inner.counters)
    }

    /// All request heads received, oldest first (the last 16,384 of them).
    pub fn journal(&self) -> Vec<Seen> {
        lock(&self.inner.journal).iter().cloned().collect()
    }

    /// Empties the journal.
    pub fn clear_journal(&self) {
        lock(&self.inner.journal).clear();
    }

    /// Bodies that upload routes took, oldest first.
    pub fn uploads(&self) -> Vec<Upload> {
        lock(&self.inner.uploads).clone()
    }

    /// What clients said on the sockets of Emby and Jellyfin, oldest first (the last 4096 messages).
    pub fn said(&self) -> Vec<String> {
        lock(&self.inner.said).iter().cloned().collect()
    }

    /// Changes what goes wrong on purpose, from the next request on.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut lock(&self.inner.faults));
    }

    /// Closes every open connection, sockets included, as a restart does. Tokens survive it.
    pub fn cut_connections(&self) {
        self.inner.cut.send_modify(|count| *count += 1);
    }

    /// Sends a text message to every open socket: a packet such as `42["user_updated",{…}]` for Audiobookshelf, a JSON message for the others.
    pub fn push(&self, message: &str) {
        // Nobody listening is not a fault.
        let _ = self.inner.push.send(message.to_owned());
    }

    /// Tokens that the stand-in accepts now: access and refresh tokens, permanent ones, API keys.
    pub fn live_tokens(&self) -> Vec<String> {
        self.ledger().live_tokens()
    }

    /// Every secret that ever existed here, passwords included: what must not be found in any log line or answer.
    pub fn secrets(&self) -> Vec<String> {
        self.ledger().secrets()
    }

    /// The same without the first `known` ones, which were there before.
    pub fn secrets_since(&self, known: usize) -> Vec<String> {
        self.ledger().secrets_since(known)
    }

    /// Makes a token worthless.
    pub fn kill_token(&self, token: &str) {
        self.ledger().kill(token);
    }

    /// Makes every session token and API key worthless, refresh tokens included; Audiobookshelf's permanent tokens stay good.
    pub fn kill_all_tokens(&self) {
        self.ledger().kill_all();
    }

    /// Makes every Audiobookshelf access token worthless and leaves the refresh tokens: what expiry does, without waiting.
    pub fn kill_access_tokens(&self) {
        self.ledger().kill_access();
    }

    /// Activates or deactivates a user. Emby and Jellyfin drop the tokens of a deactivated one.
    pub fn set_active(&self, user: &str, is_active: bool) {
        self.ledger().set_active(user, is_active);
    }

    /// Changes a password; the sessions of the user end as on the real servers.
    pub fn set_password(&self, user: &str, password: &str) {
        self.ledger().set_password(user, password);
    }

    /// An API key of the server itself for a user (Audiobookshelf) or for nobody (Emby, Jellyfin).
    pub fn create_api_key(&self, user: &str) -> Option<String> {
        self.ledger().create_api_key(user)
    }

    /// The ids of Audiobookshelf's open play sessions.
    pub fn open_playbacks(&self) -> Vec<String> {
        self.ledger().playbacks.keys().cloned().collect()
    }

    /// The names of the API keys that were made by `POST /api/api-keys` (Audiobookshelf) and are there still, with the name of the user of each.
    pub fn made_api_keys(&self) -> Vec<(String, String)> {
        let ledger = self.ledger();
        let user = |id: &str| ledger.by_id(id).map(|account| account.name.clone()).unwrap_or_default();
        ledger.book_keys.iter().map(|key| (key.name.clone(), user(&key.user))).collect()
    }

    /// Deletes all API keys that were made by `POST /api/api-keys`, as an administrator does in the web client.
    pub fn delete_api_keys(&self) {
        let mut ledger = self.ledger();
        let tokens: Vec<_> = ledger.book_keys.drain(..).map(|key| key.token).collect();
        for token in tokens {
            ledger.kill(&token);
        }
    }

    /// Gives a user the rights of an administrator, or takes them.
    pub fn set_admin(&self, user: &str, is_admin: bool) {
        if let Some(account) = self.ledger().by_name_mut(user) {
            account.is_admin = is_admin;
        }
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counters)) {
        change(&mut lock(&self.inner.counters));
    }

    pub(super) fn record(&self, seen: Seen) {
        let mut journal = lock(&self.inner.journal);
        if journal.len() == JOURNAL_LIMIT {
            journal.pop_front();
        }
        journal.push_back(seen);
    }

    pub(super) fn record_upload(&self, upload: Upload) {
        lock(&self.inner.uploads).push(upload);
    }

    pub(super) fn record_said(&self, message: &str) {
        let mut said = lock(&self.inner.said);
        if said.len() == SAID_LIMIT {
            said.pop_front();
        }
        said.push_back(message.to_owned());
    }

    pub(super) fn ordered_faults(&self) -> Faults {
        lock(&self.inner.faults).clone()
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.inner.ledger)
    }

    pub(super) fn pushes(&self) -> broadcast::Receiver<String> {
        self.inner.push.subscribe()
    }

    pub(super) fn cuts(&self) -> watch::Receiver<u64> {
        self.inner.cut.subscribe()
    }
}

/// A panic of one test thread must not hide the rest.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
