//! How often a key may be used: so many requests per time, and so many of them at once.
//!
//! The arithmetic is the generic cell rate algorithm (ITU-T I.371) on one atomic number. The crate `governor` does the same; it reads a
//! clock of its own, cannot take over another rate while it counts, and brings a dozen crates for what are the two functions of
//! `Meter`.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::BadLimit;

/// So many requests per time: `60/min`, `10/s burst 40`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests per unit, 1 to [`MOST`].
    count: u32,
    unit: Unit,
    /// Requests at once, 1 to [`MOST`].
    burst: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

/// Most requests per unit, and most at once.
pub const MOST: u32 = 1_000_000;

impl Unit {
    const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::Hour, Self::Day];

    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Second => &["s", "sec", "second"],
            Self::Minute => &["min", "minute"],
            Self::Hour => &["h", "hour"],
            Self::Day => &["d", "day"],
        }
    }

    const fn name(self) -> &'static str {
        self.names()[0]
    }

    const fn nanos(self) -> u64 {
        let seconds = match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        };
        seconds * 1_000_000_000
    }
}

impl Rate {
    /// Requests at once, when none came for a while.
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// Nanoseconds until one more may come. At least one microsecond, by the bounds above.
    fn interval(self) -> u64 {
        self.unit.nanos() / u64::from(self.count.max(1))
    }

    /// Nanoseconds in which a whole burst comes back.
    fn window(self) -> u64 {
        self.interval().saturating_mul(u64::from(self.burst))
    }

    /// What both allow.
    pub(super) fn and(self, other: Self) -> Self {
        let slower = if self.interval() >= other.interval() { self } else { other };
        Self { burst: self.burst.min(other.burst), ..slower }
    }
}

impl FromStr for Rate {
    type Err = BadLimit;

    fn from_str(text: &str) -> Result<Self, BadLimit> {
        let no_rate = || {
            BadLimit(format!(
                "{text:?} is no rate: write one like 60/min, or \"10/s burst 40\" (s, min, h or d; numbers from 1 to {MOST}; burst is how many may come at once)"
            ))
        };
        let number = |text: &str| text.parse::<u32>().ok().filter(|number| (1..=MOST).contains(number) && !text.starts_with('+'));
        let mut words = text.split_whitespace();
        let (count, unit) = words.next().and_then(|word| word.split_once('/')).ok_or_else(no_rate)?;
        let count = number(count).ok_or_else(no_rate)?;
        let unit = Unit::ALL.into_iter().find(|known| known.names().contains(&unit)).ok_or_else(no_rate)?;
        let burst = match (words.next(), words.next(), words.next()) {
            (None, ..) => count,
            (Some("burst"), Some(burst), None) => number(burst).ok_or_else(no_rate)?,
            _ => return Err(no_rate()),
        };
        Ok(Self { count, unit, burst })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit.name())?;
        if self.burst == self.count { Ok(()) } else { write!(f, " burst {}", self.burst) }
    }
}

/// What is left of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Requests that may come at once now.
    pub remaining: u32,
    /// Seconds until a whole burst may come again, rounded up.
    pub reset_secs: u64,
}

/// Counts one key's requests, for all cores.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// When the next request would be due if none had come early: the "theoretical arrival time", in nanoseconds of the monotonic clock.
    due: AtomicU64,
}

impl Meter {
    /// Counts one.
    ///
    /// # Errors
    /// Seconds until one may come, at least 1; then it is not counted.
    pub(super) fn take(&self, rate: Rate, now: Duration) -> Result<(), u64> {
        let (now, interval, window) = (nanos(now), rate.interval(), rate.window());
        let next = |due: u64| due.clamp(now, now.saturating_add(window)).saturating_add(interval);
        let full = now.saturating_add(window);
        // What another rate left behind is cut down to what this one can mean, also by who is refused: else it would stay as it is for as
        // long as that rate says.
        let after = |due: u64| if next(due) <= full { Some(next(due)) } else { (due > full).then_some(full) };
        let due = self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after).unwrap_or_else(|due| due);
        if next(due) <= full { Ok(()) } else { Err(seconds(next(due) - full).max(1)) }
    }

    /// What is left; counts nothing.
    pub(super) fn left(&self, rate: Rate, now: Duration) -> Left {
        let (now, window) = (nanos(now), rate.window());
        let ahead = self.due.load(Ordering::Relaxed).clamp(now, now.saturating_add(window)) - now;
        let remaining = u32::try_from((window - ahead) / rate.interval().max(1)).unwrap_or(u32::MAX);
        Left { remaining: remaining.min(rate.burst), reset_secs: seconds(ahead) }
    }
}

/// 584 years of them fit.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

const fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().expect(text)
    }

    const NOW: Duration = Duration::from_secs(1000);

    #[test]
    fn rates_are_read_in_the_forms_that_people_write() {
        for (text, shown) in [
            ("60/min", "60/min"),
            ("60/minute", "60/min"),
            ("10/s burst 40", "10/s burst 40"),
            ("10/sec  burst 10", "10/s"),
            ("1/h", "1/h"),
            ("1000000/day burst 1", "1000000/d burst 1"),
        ] {
            assert_eq!(rate(text).to_string(), shown);
        }
        for text in [
            "",
            "60",
            "60/",
            "/min",
            "0/s",
            "1000001/s",
            "60/m",
            "60/min burst",
            "60/min burst 0",
            "60/min burst 1 2",
            "+1/s",
            "-1/s",
            "6 0/s",
            "60/min burts 5",
        ] {
            assert!(text.parse::<Rate>().expect_err(text).to_string().contains("60/min"), "{text}");
        }
    }

    #[test]
    fn a_burst_passes_at_once_and_then_one_per_interval() {
        let (meter, rate) = (Meter::default(), rate("60/min burst 5"));
        assert_eq!((0..20).filter(|_| meter.take(rate, NOW).is_ok()).count(), 5);
        assert_eq!(meter.take(rate, NOW), Err(1));
        assert_eq!(meter.left(rate, NOW), Left { remaining: 0, reset_secs: 5 });
        let later = NOW + Duration::from_secs(2);
        assert_eq!(meter.left(rate, later), Left { remaining: 2, reset_secs: 3 });
        assert_eq!((0..20).filter(|_| meter.take(rate, later).is_ok()).count(), 2);
        assert_eq!(meter.left(rate, NOW * 2), Left { remaining: 5, reset_secs: 0 });
    }

    #[test]
    fn another_rate_holds_at_once_and_nobody_waits_longer_than_it_says() {
        let meter = Meter::default();
        let day = rate("24/day");
        assert_eq!((0..100).filter(|_| meter.take(day, NOW).is_ok()).count(), 24);
        assert_eq!(meter.take(day, NOW), Err(3600));
        assert_eq!(meter.take(rate("1/s"), NOW), Err(1), "what is used stays used, as far as the new rate goes back");
        assert_eq!(meter.take(rate("1/s"), NOW + Duration::from_secs(1)), Ok(()));
    }

    #[test]
    fn all_cores_share_one_count() {
        let (meter, rate) = (Arc::new(Meter::default()), rate("100/min"));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let meter = Arc::clone(&meter);
                std::thread::spawn(move || (0..100).filter(|_| meter.take(rate, NOW).is_ok()).count())
            })
            .collect();
        assert_eq!(threads.into_iter().map(|thread| thread.join().expect("counted")).sum::<usize>(), 100);
    }

    proptest! {
        #[test]
        fn a_rate_is_read_as_it_was_written(count in 1..=MOST, unit in 0..4_usize, burst in 1..=MOST) {
            let rate = Rate { count, unit: Unit::ALL[unit], burst };
            prop_assert_eq!(rate.to_string().parse::<Rate>(), Ok(rate));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "[0-9a-z/ +.-]{0,24}") {
            if let Ok(rate) = text.parse::<Rate>() {
                prop_assert_eq!(rate.to_string().parse::<Rate>(), Ok(rate));
            }
        }

        #[test]
        fn both_rates_hold_under_what_both_allow(one in (1..50_u32, 1..50_u32), other in (1..50_u32, 1..50_u32)) {
            let rate = |(count, burst)| Rate { count, unit: Unit::Minute, burst };
            let both = rate(one).and(rate(other));
            prop_assert!(both.interval() >= rate(one).interval().max(rate(other).interval()));
            prop_assert!(both.burst <= one.1.min(other.1));
        }
    }
}
