//! Whose an Engine.IO session is.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::forward::socketio::table::{Full, Origin, Place};
use crate::keys::index::Verified;
use crate::keys::{KeyDigest, KeyId};

/// Failed authentications before a session ends.
const FAILURES: u8 = 3;

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nobody has authenticated yet. Until when somebody may, by the monotonic clock.
    Waiting(Duration),
    /// A key's: the secret that was presented.
    Key(KeyId, KeyDigest),
    /// Somebody's who has logged in at the server.
    Native,
    /// Over.
    Closed,
}

/// One session, shared by its connections, whichever core they are on.
#[derive(Debug)]
pub(crate) struct Seat {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    standing: Standing,
    /// Its place among those of whom it belongs to.
    place: Option<Place>,
    failures: u8,
    /// How long it may be silent, and when it dies then (monotonic).
    patience: Duration,
    dies_at: Duration,
}

impl Seat {
    /// One that waits for its `auth`.
    pub(crate) fn waiting(place: Place, until: Duration) -> Self {
        Self::new(Standing::Waiting(until), place)
    }

    /// One whose key came with the handshake.
    pub(crate) fn of(key: &Verified, place: Place) -> Self {
        Self::new(Standing::Key(key.id(), key.digest()), place)
    }

    fn new(standing: Standing, place: Place) -> Self {
        let state = State { standing, place: Some(place), failures: 0, patience: Duration::ZERO, dies_at: Duration::MAX };
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose it is.
    pub(crate) fn standing(&self) -> Standing {
        self.state().standing.clone()
    }

    /// Whether nobody has authenticated yet.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.standing(), Standing::Waiting(_))
    }

    /// Gives it to a key; `false`: it is another's.
    ///
    /// # Errors
    /// [`Full`]: the key has too many; then it stays as it is.
    pub(crate) fn take(&self, key: &Verified) -> Result<bool, Full> {
        match self.standing() {
            Standing::Waiting(_) => self.become_of(Standing::Key(key.id(), key.digest()), |origin| origin.for_key(key.id())),
            Standing::Key(id, _) => Ok(id == key.id()),
            Standing::Native | Standing::Closed => Ok(false),
        }
    }

    /// Gives it to somebody who logs in at the server; `false`: it is a key's.
    ///
    /// # Errors
    /// [`Full`]: the address has too many; then it stays as it is.
    pub(crate) fn take_natively(&self) -> Result<bool, Full> {
        match self.standing() {
            Standing::Waiting(_) => self.become_of(Standing::Native, Origin::for_native),
            Standing::Native => Ok(true),
            Standing::Key(..) | Standing::Closed => Ok(false),
        }
    }

    /// From one state that was looked at to another; a waiting one becomes one thing only.
    fn become_of(&self, standing: Standing, place: impl FnOnce(&Origin) -> Result<Place, Full>) -> Result<bool, Full> {
        let origin = self.state().place.as_ref().and_then(Place::origin);
        let mut place = origin.as_ref().map(place).transpose()?;
        let mut state = self.state();
        let is_waiting = matches!(state.standing, Standing::Waiting(_));
        if is_waiting {
            state.standing = standing.clone();
            std::mem::swap(&mut state.place, &mut place);
        }
        let is_so = state.standing == standing;
        drop(state);
        // Whichever of the two is not held: with nothing locked.
        drop(place);
        if is_waiting {
            self.changed.notify_waiters();
        }
        Ok(is_so)
    }

    /// Ends it.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.standing = Standing::Closed;
        let place = state.place.take();
        drop(state);
        drop(place);
        self.changed.notify_waiters();
    }

    /// Counts a failed authentication; `true`: it was one too many.
    pub(crate) fn fail(&self) -> bool {
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        state.failures >= FAILURES
    }

    /// Resolves when it has changed hands after this was asked for.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// How long it may be silent from now on.
    pub(crate) fn set_patience(&self, patience: Duration, now: Duration) {
        let mut state = self.state();
        state.patience = patience;
        state.dies_at = now.saturating_add(patience);
    }

    /// A request of its came.
    pub(crate) fn touch(&self, now: Duration) {
        let mut state = self.state();
        state.dies_at = now.saturating_add(state.patience);
    }

    /// Whether it is of no use any more.
    pub(crate) fn is_over(&self, now: Duration) -> bool {
        let state = self.state();
        match state.standing {
            Standing::Waiting(until) => until <= now,
            Standing::Closed => true,
            Standing::Key(..) | Standing::Native => state.dies_at <= now,
        }
    }
}
