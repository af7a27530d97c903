//! Time as an argument: wall clock and monotonic clock behind one trait, so that tests move it by hand.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A moment of the wall clock, in milliseconds since 1970-01-01T00:00:00Z (the unit of Audiobookshelf's JSON).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The end of time; stands for "never" where an `Option` would cost eight bytes a key.
    pub const NEVER: Self = Self(i64::MAX);

    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From whole seconds since the epoch (the unit of JWT claims).
    pub const fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// This moment plus a duration, saturating at [`Timestamp::NEVER`].
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This moment minus a duration.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl std::fmt::Display for Timestamp {
    /// RFC 3339 in UTC, whole seconds.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_second(self.0.div_euclid(1000)) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => f.write_str("never"),
        }
    }
}

/// Where the program reads the time. Nothing else may: the lint file bans the standard library's clocks.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary start, never going back.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks. The wall clock never goes back while the program runs: setting the machine's back must not bring expired keys
/// to life.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
    /// The wall clock less the monotonic one, in milliseconds: the most that was seen.
    offset: AtomicI64,
}

impl SystemClock {
    /// A clock whose monotonic time starts at zero.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clocks")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now(), offset: AtomicI64::new(i64::MIN) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clocks")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        never_back(&self.offset, wall, i64::try_from(self.monotonic().as_millis()).unwrap_or(i64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The wall clock, or where it would stand had nobody set it back. Cores share `most`, which is written only when the clock was set
/// forward.
fn never_back(most: &AtomicI64, wall: i64, monotonic: i64) -> Timestamp {
    let offset = wall.saturating_sub(monotonic);
    let before = most.load(Ordering::Relaxed);
    if offset > before {
        most.fetch_max(offset, Ordering::Relaxed);
    }
    Timestamp(monotonic.saturating_add(offset.max(before)))
}

/// A clock that a test moves by hand.
#[derive(Debug)]
pub struct ManualClock {
    wall_millis: AtomicI64,
    monotonic_millis: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub const fn new(now: Timestamp) -> Self {
        Self { wall_millis: AtomicI64::new(now.0), monotonic_millis: AtomicU64::new(0) }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.wall_millis.fetch_add(i64::try_from(millis).unwrap_or(i64::MAX), Ordering::SeqCst);
        self.monotonic_millis.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall_millis.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_millis.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_goes_on_from_where_it_was_and_one_that_is_set_forward_is_followed() {
        let most = AtomicI64::new(i64::MIN);
        for (wall, monotonic, now) in [
            (1_000_000, 10, 1_000_000),
            (1_000_500, 510, 1_000_500),
            (0, 600, 1_000_590),
            (100, 700, 1_000_690),
            (5_000_000, 800, 5_000_000),
            (4_999_999, 900, 5_000_100),
        ] {
            assert_eq!(never_back(&most, wall, monotonic), Timestamp::from_millis(now), "{wall} {monotonic}");
        }
    }
}
