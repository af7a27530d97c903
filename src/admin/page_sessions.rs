//! Logins to the admin page: in memory, by the hash of what the browser keeps. They end with the process, which is as it should be.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::clock::{Clock, Timestamp};
use crate::keys::admin::random_text;
use crate::secret::Secret;

/// Most sessions at once; one more ends the one that was used longest ago.
const MOST: usize = 64;
/// Letters and digits of an id: 256 bits.
const ID_LENGTH: usize = 43;
const CSRF_LENGTH: usize = 32;

/// How long a login lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// In all.
    pub lifetime: Duration,
    /// Without a request.
    pub idle: Duration,
}

/// A person who is logged in, as handlers see it.
#[derive(Clone, Debug)]
pub struct Session {
    /// As it is listed; numbers begin anew with each start.
    pub number: u64,
    /// What every change must bring along: in the header `X-CSRF-Token`, or in the field `csrf` of a form.
    pub csrf: Arc<Secret<String>>,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was used last.
    pub last_used_at: Timestamp,
    /// When it ends at the latest.
    pub ends_at: Timestamp,
    /// Where it was logged in from.
    pub address: IpAddr,
}

impl Session {
    /// Whether a text is this session's token against cross-site requests. In constant time.
    pub fn is_csrf(&self, text: &str) -> bool {
        self.csrf.expose().as_bytes().ct_eq(text.as_bytes()).into()
    }
}

struct Entry {
    digest: [u8; 32],
    session: Session,
    /// By the monotonic clock.
    began: Duration,
    used: Duration,
}

/// All logins that last.
pub struct PageSessions {
    clock: Arc<dyn Clock>,
    limits: SessionLimits,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    last_number: u64,
    entries: Vec<Entry>,
}

impl PageSessions {
    /// None yet.
    pub fn new(clock: Arc<dyn Clock>, limits: SessionLimits) -> Self {
        Self { clock, limits, open: Mutex::default() }
    }

    /// How long a login lasts.
    pub const fn limits(&self) -> SessionLimits {
        self.limits
    }

    /// Begins a session. Gives what the browser must keep.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn begin(&self, address: IpAddr) -> Result<(Secret<String>, Session), getrandom::Error> {
        let id = random_text::<ID_LENGTH>()?;
        let csrf = Arc::new(random_text::<CSRF_LENGTH>()?);
        let (now, mono) = (self.clock.now(), self.clock.monotonic());
        let mut open = self.open();
        open.last_number += 1;
        let ends_at = now.plus(self.limits.lifetime);
        let session = Session { number: open.last_number, csrf, created_at: now, last_used_at: now, ends_at, address };
        if open.entries.len() >= MOST
            && let Some(oldest) = open.entries.iter().enumerate().min_by_key(|(_, entry)| entry.used).map(|(place, _)| place)
        {
            open.entries.remove(oldest);
        }
        open.entries.push(Entry { digest: digest(id.expose()), session: session.clone(), began: mono, used: mono });
        Ok((id, session))
    }

    /// The session that a browser's id is of, which counts as a use of it.
    pub fn find(&self, id: &str) -> Option<Session> {
        let digest = digest(id);
        let (now, mono) = (self.clock.now(), self.clock.monotonic());
        let mut open = self.open();
        let entry = open.entries.iter_mut().find(|entry| bool::from(entry.digest.ct_eq(&digest)))?;
        entry.used = mono;
        entry.session.last_used_at = now;
        Some(entry.session.clone())
    }

    /// All of them, the latest first.
    pub fn list(&self) -> Vec<Session> {
        self.open().entries.iter().rev().map(|entry| entry.session.clone()).collect()
    }

    /// Ends one; `false`: there was none of this number.
    pub fn end(&self, number: u64) -> bool {
        let mut open = self.open();
        let before = open.entries.len();
        open.entries.retain(|entry| entry.session.number != number);
        open.entries.len() < before
    }

    /// Ends all of them. Gives how many there were.
    pub fn end_all(&self) -> usize {
        std::mem::take(&mut self.open().entries).len()
    }

    /// Without those whose time is over.
    fn open(&self) -> MutexGuard<'_, Open> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        let SessionLimits { lifetime, idle } = self.limits;
        open.entries.retain(|entry| now.saturating_sub(entry.began) < lifetime && now.saturating_sub(entry.used) < idle);
        open
    }
}

impl std::fmt::Debug for PageSessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PageSessions").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// 256 random bits need no slow hash.
fn digest(id: &str) -> [u8; 32] {
    Sha256::digest(id.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const HOUR: Duration = Duration::from_secs(3600);

    fn house() -> (Arc<ManualClock>, PageSessions) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_secs(1_000)));
        (Arc::clone(&clock), PageSessions::new(clock, SessionLimits { lifetime: 12 * HOUR, idle: HOUR }))
    }

    fn home() -> IpAddr {
        "192.0.2.1".parse().expect("address")
    }

    #[test]
    fn a_session_is_found_by_its_id_until_it_is_idle_or_old() {
        let (clock, sessions) = house();
        let (id, begun) = sessions.begin(home()).expect("begun");
        assert_eq!(id.expose().len(), ID_LENGTH);
        for _ in 0..23 {
            clock.advance(HOUR / 2);
            assert_eq!(sessions.find(id.expose()).expect("in use").number, begun.number);
        }
        clock.advance(HOUR / 2);
        assert!(sessions.find(id.expose()).is_none(), "twelve hours are over");
        let (id, _) = sessions.begin(home()).expect("begun");
        clock.advance(HOUR);
        assert!(sessions.find(id.expose()).is_none(), "an hour without a request");
        assert!(sessions.find("").is_none() && sessions.list().is_empty());
    }

    #[test]
    fn one_is_ended_by_its_number_and_all_at_once() {
        let (_, sessions) = house();
        let ids: Vec<_> = (0..3).map(|_| sessions.begin(home()).expect("begun").0).collect();
        assert!(sessions.end(2) && !sessions.end(2));
        assert_eq!(sessions.list().iter().map(|session| session.number).collect::<Vec<_>>(), [3, 1]);
        assert!(sessions.find(ids[1].expose()).is_none());
        assert_eq!(sessions.end_all(), 2);
        assert!(ids.iter().all(|id| sessions.find(id.expose()).is_none()));
    }

    #[test]
    fn there_are_never_more_than_so_many_and_the_least_used_goes() {
        let (clock, sessions) = house();
        let first = sessions.begin(home()).expect("begun").0;
        for _ in 0..MOST {
            clock.advance(Duration::from_secs(1));
            assert!(sessions.find(first.expose()).is_some());
            let _ = sessions.begin(home()).expect("begun");
        }
        assert_eq!(sessions.list().len(), MOST);
        assert!(sessions.find(first.expose()).is_some(), "it was used all the time");
    }

    #[test]
    fn a_sessions_token_is_its_own() {
        let (_, sessions) = house();
        let (one, other) = (sessions.begin(home()).expect("begun").1, sessions.begin(home()).expect("begun").1);
        assert!(one.is_csrf(one.csrf.expose()) && !one.is_csrf(other.csrf.expose()) && !one.is_csrf(""));
        assert!(!format!("{one:?}").contains(one.csrf.expose().as_str()));
    }
}
