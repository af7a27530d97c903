//! Whether an upstream answers, as far as connections to it tell: heard of on the way, and never asked for by a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::clock::{Clock, SystemClock};

/// What is known of one upstream. Two are always equal: it is no part of what an upstream is.
#[derive(Debug)]
pub struct Health {
    clock: SystemClock,
    /// Milliseconds of the clock at the latest connection, and one more; 0: there was none.
    heard_at: AtomicU64,
    down: ArcSwapOption<Down>,
    version: ArcSwapOption<String>,
}

/// An upstream that cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Down {
    /// When that was noticed.
    since: Duration,
    /// What the latest try failed of.
    pub why: String,
}

impl Default for Health {
    fn default() -> Self {
        Self { clock: SystemClock::new(), heard_at: AtomicU64::new(0), down: ArcSwapOption::empty(), version: ArcSwapOption::empty() }
    }
}

impl PartialEq for Health {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Health {}

impl Health {
    /// A connection stands. Gives how long there was none, if that is a change.
    pub(crate) fn is_up(&self) -> Option<Duration> {
        let now = self.clock.monotonic();
        self.heard_at.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX).saturating_add(1), Ordering::Relaxed);
        if self.down.load().is_none() {
            return None;
        }
        // Of several cores, the one that took it out tells of it.
        self.down.swap(None).map(|down| now.saturating_sub(down.since))
    }

    /// No connection could be made. Whether that is a change.
    pub(crate) fn is_down(&self, why: String) -> bool {
        let since = self.down.load().as_ref().map_or_else(|| self.clock.monotonic(), |down| down.since);
        self.down.swap(Some(Arc::new(Down { since, why }))).is_none()
    }

    /// What it said of its version.
    pub(crate) fn tell_version(&self, version: &str) {
        if self.version.load().as_deref().map(String::as_str) != Some(version) {
            self.version.store(Some(Arc::new(version.to_owned())));
        }
    }

    /// For how long it is down, and why; `None`: it is not, or nobody has tried yet.
    pub fn down(&self) -> Option<(Duration, Arc<Down>)> {
        self.down.load_full().map(|down| (self.clock.monotonic().saturating_sub(down.since), down))
    }

    /// How long ago a connection was made; `None`: never.
    pub fn heard(&self) -> Option<Duration> {
        let at = self.heard_at.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.clock.monotonic().saturating_sub(Duration::from_millis(at)))
    }

    /// Its version, as it said last.
    pub fn version(&self) -> Option<Arc<String>> {
        self.version.load_full()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_told_once_and_the_first_failure_counts() {
        let health = Health::default();
        assert!(health.down().is_none() && health.heard().is_none());
        assert_eq!(health.is_up(), None, "nothing was wrong before");
        assert!(health.heard().is_some());
        assert!(health.is_down("refused".to_owned()));
        let since = health.down().expect("down").1.since;
        assert!(!health.is_down("timed out".to_owned()), "that is nothing new");
        let (_, down) = health.down().expect("down");
        assert_eq!((down.since, down.why.as_str()), (since, "timed out"));
        assert!(health.is_up().is_some());
        assert!(health.is_up().is_none() && health.down().is_none());
    }
}
