//! How often sessions were got, and of what that failed: for metrics. Rare enough for a lock, and never counted by a request.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::upstream::UpstreamName;
use crate::upstream::session::SessionError;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A login with a password.
    LoggedIn,
    /// A session from the server's administrator.
    Minted,
    /// A session went on with new tokens.
    Renewed,
    /// The server refused the credential for good.
    Refused,
    /// No connection.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// It limits logins, or answered what is no answer to them.
    Unavailable,
    /// The new session could not be stored.
    NotStored,
}

impl Event {
    /// All, failures last.
    pub const ALL: [Self; 8] =
        [Self::LoggedIn, Self::Minted, Self::Renewed, Self::Refused, Self::Unreachable, Self::TimedOut, Self::Unavailable, Self::NotStored];

    /// As figures are labelled.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LoggedIn => "login",
            Self::Minted => "minted",
            Self::Renewed => "renewal",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timeout",
            Self::Unavailable => "unavailable",
            Self::NotStored => "store",
        }
    }

    /// Whether there is a session now.
    pub const fn is_good(self) -> bool {
        matches!(self, Self::LoggedIn | Self::Minted | Self::Renewed)
    }

    pub(super) const fn as_sentence(self) -> &'static str {
        match self {
            Self::LoggedIn => "logged in",
            Self::Minted => "minted a session",
            Self::Renewed => "renewed the session",
            Self::Refused | Self::Unreachable | Self::TimedOut | Self::Unavailable | Self::NotStored => "got no session",
        }
    }

    pub(super) const fn failed(error: &SessionError) -> Self {
        match error {
            SessionError::Broken(_) | SessionError::NoAccount | SessionError::NoUpstream(_) => Self::Refused,
            SessionError::Waiting { .. } => Self::Unavailable,
            SessionError::Unreachable(_) => Self::Unreachable,
            SessionError::TimedOut(_) => Self::TimedOut,
            SessionError::Store(_) => Self::NotStored,
        }
    }
}

type Counts = [u64; Event::ALL.len()];

/// The counts, by upstream.
#[derive(Debug, Default)]
pub(super) struct Figures(Mutex<BTreeMap<UpstreamName, Counts>>);

impl Figures {
    pub(super) fn count(&self, upstream: &UpstreamName, event: Event) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(upstream.clone()).or_default()[event as usize] += 1;
    }

    pub(super) fn of(&self, upstream: &UpstreamName) -> [(Event, u64); Event::ALL.len()] {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = all.get(upstream).copied().unwrap_or_default();
        Event::ALL.map(|event| (event, counts[event as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_has_its_place_and_its_label_and_each_upstream_its_own() {
        let (figures, one, other) = (Figures::default(), UpstreamName::new("one"), UpstreamName::new("other"));
        for (times, event) in (1..).zip(Event::ALL) {
            (0..times).for_each(|_| figures.count(&one, event));
        }
        assert_eq!(figures.of(&one).map(|(_, times)| times), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(figures.of(&other).map(|(_, times)| times), [0; 8]);
        let labels: std::collections::HashSet<_> = Event::ALL.map(Event::as_str).into();
        assert_eq!(labels.len(), Event::ALL.len());
    }
}
