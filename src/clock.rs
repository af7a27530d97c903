//! Time as an argument: wall clock and monotonic clock behind one trait, so that tests move it by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::ClockId;
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
    /// The wall clock, as everything is judged by it.
    fn now(&self) -> Timestamp;

    /// Time since an arbitrary start, never going back.
    fn monotonic(&self) -> Duration;

    /// The same, as it was at the kernel's latest tick: up to 10 ms ago. Costs a fifth; not to be compared with [`Clock::monotonic`].
    fn tick(&self) -> Duration {
        self.monotonic()
    }

    /// The machine's wall clock, also where [`Clock::now`] remembers a later time.
    fn wall(&self) -> Timestamp {
        self.now()
    }

    /// How far the machine's wall clock is behind the time that is remembered.
    fn behind(&self) -> Duration {
        self.now().since(self.wall())
    }

    /// Lets a remembered time go: the machine's wall clock counts again.
    fn forget(&self) {}
}

/// The machine's clocks, as they stand. The wall clock is read as of the kernel's latest tick, up to 10 ms ago: it is asked several times
/// for each request, and nothing is judged more finely.
#[derive(Debug)]
pub struct SystemClock {
    start: std::time::Instant,
    start_tick: Duration,
}

impl SystemClock {
    /// A clock whose monotonic time starts at zero.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clocks")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now(), start_tick: at_tick(ClockId::MonotonicCoarse) }
    }
}

/// What a clock showed at the kernel's latest tick; zero before its beginning.
fn at_tick(clock: ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

impl SystemClock {
    /// The wall clock, for who has no clock at hand: the log.
    pub fn wall_now() -> Timestamp {
        Timestamp(millis(at_tick(ClockId::RealtimeCoarse)))
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Self::wall_now()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn tick(&self) -> Duration {
        at_tick(ClockId::MonotonicCoarse).saturating_sub(self.start_tick)
    }
}

/// A clock that never goes back: setting the machine's back must not bring expired keys to life, and neither must a machine without a
/// battery that starts in 1970. It goes on from the latest time that it saw, or that was written down before it was made.
pub struct SteadyClock {
    machine: Arc<dyn Clock>,
    /// The wall clock less the monotonic one, in milliseconds: the most that was seen.
    most: AtomicI64,
}

impl SteadyClock {
    /// Over the machine's clocks. `mark`: it was that late already.
    pub fn new(machine: Arc<dyn Clock>, mark: Option<Timestamp>) -> Self {
        let monotonic = millis(machine.tick());
        let most = mark.map_or(i64::MIN, |mark| mark.0.saturating_sub(monotonic));
        Self { machine, most: AtomicI64::new(most) }
    }
}

impl std::fmt::Debug for SteadyClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SteadyClock").field("most", &self.most).finish_non_exhaustive()
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> Timestamp {
        never_back(&self.most, self.machine.now().0, millis(self.machine.tick()))
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }

    fn tick(&self) -> Duration {
        self.machine.tick()
    }

    fn wall(&self) -> Timestamp {
        self.machine.wall()
    }

    fn forget(&self) {
        let offset = self.machine.now().0.saturating_sub(millis(self.machine.tick()));
        self.most.store(offset, Ordering::Relaxed);
    }
}

/// In 64 bits throughout: asked for each request.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000).saturating_add(i64::from(duration.subsec_millis()))
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

    /// Sets the wall clock, forward or back.
    pub fn set(&self, wall: Timestamp) {
        self.wall_millis.store(wall.0, Ordering::SeqCst);
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

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);
    const TEN_YEARS: Duration = Duration::from_secs(10 * 365 * 86_400);
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_written_mark_holds_against_a_machine_that_starts_in_the_past_and_time_goes_on_from_it() {
        let machine = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
        machine.advance(HOUR);
        let clock = SteadyClock::new(Arc::clone(&machine) as _, Some(NOW));
        assert_eq!((clock.now(), clock.wall()), (NOW, Timestamp::from_millis(0).plus(HOUR)));
        machine.advance(HOUR);
        assert_eq!(clock.now(), NOW.plus(HOUR));
        machine.set(NOW.plus(TEN_YEARS));
        assert_eq!((clock.now(), clock.behind()), (NOW.plus(TEN_YEARS), Duration::ZERO), "a clock that is set right is followed");
    }

    #[test]
    fn a_mark_in_the_past_and_no_mark_change_nothing() {
        for mark in [None, Some(NOW.minus(TEN_YEARS))] {
            let clock = SteadyClock::new(Arc::new(ManualClock::new(NOW)), mark);
            assert_eq!((clock.now(), clock.behind()), (NOW, Duration::ZERO));
        }
    }

    #[test]
    fn a_time_that_was_wrong_can_be_forgotten_and_what_follows_is_remembered_again() {
        let machine = Arc::new(ManualClock::new(NOW));
        let clock = SteadyClock::new(Arc::clone(&machine) as _, Some(NOW.plus(TEN_YEARS)));
        assert_eq!(clock.behind(), TEN_YEARS);
        clock.forget();
        assert_eq!((clock.now(), clock.behind()), (NOW, Duration::ZERO));
        machine.set(NOW.minus(TEN_YEARS));
        assert_eq!(clock.now(), NOW);
    }

    #[test]
    fn the_machine_s_clocks_are_of_this_century_and_do_not_stand_still_for_ever() {
        let clock = SystemClock::new();
        assert!(clock.now() > NOW && clock.behind() == Duration::ZERO);
        let (before, tick, at) = (clock.monotonic(), clock.tick(), clock.now());
        assert!(clock.monotonic() >= before && clock.tick() >= tick && clock.wall() >= at.minus(HOUR));
        let apart = clock.monotonic().abs_diff(clock.tick());
        assert!(apart < HOUR, "both begin together: {apart:?}");
    }
}
