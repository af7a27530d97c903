//! How fast the bodies of a key's requests and answers, and its sockets, may move, all of them together.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::BadLimit;
use super::window::{Sum, Window};

/// Bytes per second, [`Bandwidth::LEAST`] to [`Bandwidth::MOST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bandwidth(u64);

/// What people write, in bits; decimal, as networks are measured. In bytes: binary, as files are.
const BITS: [(&str, u64); 3] = [("Gbit", 1_000_000_000), ("Mbit", 1_000_000), ("kbit", 1000)];
const BYTES: [(&str, u64); 4] = [("GiB/s", 1 << 30), ("MiB/s", 1 << 20), ("KiB/s", 1 << 10), ("B/s", 1)];

impl Bandwidth {
    /// 64 kbit a second: below it even speech stutters.
    pub const LEAST: u64 = 8000;
    /// 1000 Gbit a second.
    pub const MOST: u64 = 125_000_000_000;

    /// Bytes per second.
    pub const fn bytes_per_second(self) -> u64 {
        self.0
    }

    /// Most bytes that are handed on at once, so that no wait is long: a quarter of a second's.
    pub fn piece(self) -> usize {
        usize::try_from(self.0 / 4).unwrap_or(usize::MAX)
    }

    /// Nanoseconds that so many bytes take.
    fn time_of(self, bytes: u64) -> u64 {
        u64::try_from(u128::from(bytes) * 1_000_000_000 / u128::from(self.0.max(1))).unwrap_or(u64::MAX)
    }
}

impl FromStr for Bandwidth {
    type Err = BadLimit;

    fn from_str(text: &str) -> Result<Self, BadLimit> {
        let wrong = || BadLimit(format!("{text:?} is no bandwidth: write one like 20Mbit or 2MiB/s, from 64kbit to 1000Gbit"));
        let digits = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let in_bits = unit.strip_suffix("/s").unwrap_or(unit);
        let bits = BITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(in_bits)).map(|(_, factor)| number.checked_mul(*factor));
        let bytes = || BYTES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, factor)| number.checked_mul(*factor));
        let per_second = bits.map(|bits| bits.map(|bits| bits / 8)).or_else(bytes).flatten();
        per_second.filter(|bytes| (Self::LEAST..=Self::MOST).contains(bytes)).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = BITS.into_iter().map(|(unit, factor)| (unit, self.0 * 8, factor));
        let bytes = BYTES.into_iter().map(|(unit, factor)| (unit, self.0, factor));
        let exact = bits.chain(bytes).find(|(_, amount, factor)| amount % factor == 0);
        let (unit, amount, factor) = exact.unwrap_or(("B/s", self.0, 1));
        write!(f, "{}{unit}", amount / factor)
    }
}

/// Bytes may run ahead of their time by this much, so that short answers do not wait.
const AHEAD: u64 = 250_000_000;
/// Bytes that did not wait are not owed for longer than this.
const OWED: u64 = 10_000_000_000;

/// Over so many seconds a speed is measured.
const MEASURED: u64 = 5;

/// When the next byte of a key is due, and how fast they went, for all cores.
#[derive(Debug, Default)]
pub(super) struct Flow {
    due: AtomicU64,
    /// What passed in these seconds.
    passing: Window,
    /// What passed in some before.
    passed: Window,
}

impl Flow {
    /// Counts bytes that go on now, and says for how long nothing more of the same body should.
    pub(super) fn pass(&self, bandwidth: Bandwidth, bytes: u64, now: Duration) -> Duration {
        if let Some(before) = self.passing.add(period(now), bytes) {
            self.passed.set(before);
        }
        let (now, time) = (u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), bandwidth.time_of(bytes));
        let next = |due: u64| due.clamp(now, now.saturating_add(OWED)).saturating_add(time);
        // It always counts.
        let before = self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| Some(next(due))).unwrap_or_else(|due| due);
        Duration::from_nanos((next(before) - now).saturating_sub(AHEAD))
    }

    /// Bytes per second, as of the last five seconds that are over.
    pub(super) fn speed(&self, now: Duration) -> u64 {
        let before = period(now) - 1;
        let of = |sum: Sum| sum.of(before) / MEASURED;
        of(self.passing.sum()).max(of(self.passed.sum()))
    }
}

fn period(now: Duration) -> i64 {
    i64::try_from(now.as_secs() / MEASURED).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bandwidth(text: &str) -> Bandwidth {
        text.parse().expect(text)
    }

    #[test]
    fn bandwidths_are_read_in_bits_and_in_bytes() {
        for (text, bytes, shown) in [
            ("20Mbit", 2_500_000, "20Mbit"),
            ("20mbit/s", 2_500_000, "20Mbit"),
            ("1500kbit", 187_500, "1500kbit"),
            ("2MiB/s", 2 << 20, "2MiB/s"),
            ("64kbit", 8000, "64kbit"),
            ("1000Gbit", 125_000_000_000, "1000Gbit"),
            ("9001B/s", 9001, "9001B/s"),
        ] {
            assert_eq!((bandwidth(text).bytes_per_second(), bandwidth(text).to_string().as_str()), (bytes, shown), "{text}");
        }
        for text in [
            "",
            "20",
            "Mbit",
            "20MB",
            "63kbit",
            "1001Gbit",
            "-1Mbit",
            "1.5Mbit",
            "20 Mbit",
            "99999999999999999999Mbit",
            "18446744073709551615Gbit",
        ] {
            assert!(text.parse::<Bandwidth>().expect_err(text).to_string().contains("20Mbit"), "{text}");
        }
    }

    #[test]
    fn bodies_share_the_time_and_short_ones_hardly_wait() {
        let (flow, rate, now) = (Flow::default(), bandwidth("8000B/s"), Duration::from_secs(100));
        assert_eq!(flow.pass(rate, 2000, now), Duration::ZERO, "a quarter of a second is ahead of its time");
        assert_eq!(flow.pass(rate, 8000, now), Duration::from_secs(1));
        assert_eq!(flow.pass(rate, 8000, now), Duration::from_secs(2), "another body of the same key");
        assert_eq!(flow.pass(rate, 2000, now * 2), Duration::ZERO, "time that was not used is not saved up");
        assert!(flow.pass(rate, 1 << 40, now * 2) > Duration::from_secs(1000));
        assert_eq!(flow.pass(rate, 2000, now * 2), Duration::from_secs(10), "nobody pays for the greed of another for ever");
    }

    #[test]
    fn the_speed_is_that_of_the_last_five_seconds_that_are_over() {
        let (flow, rate, seconds) = (Flow::default(), bandwidth("20Mbit"), Duration::from_secs);
        assert_eq!(flow.speed(seconds(100)), 0);
        flow.pass(rate, 4000, seconds(100));
        flow.pass(rate, 1000, seconds(104));
        assert_eq!(flow.speed(seconds(104)), 0, "these seconds are not over");
        assert_eq!(flow.speed(seconds(105)), 1000);
        flow.pass(rate, 10, seconds(106));
        assert_eq!(flow.speed(seconds(109)), 1000, "also while others run");
        assert_eq!((flow.speed(seconds(110)), flow.speed(seconds(115))), (2, 0));
    }

    proptest! {
        #[test]
        fn a_bandwidth_is_read_as_it_was_written(bytes in Bandwidth::LEAST..=Bandwidth::MOST) {
            prop_assert_eq!(Bandwidth(bytes).to_string().parse::<Bandwidth>(), Ok(Bandwidth(bytes)));
        }

        #[test]
        fn no_text_makes_the_parser_panic(number in "[0-9]{0,22}", unit in "[GMKkibt/sB]{0,6}") {
            let _ = format!("{number}{unit}").parse::<Bandwidth>();
        }

        #[test]
        fn no_more_passes_than_the_bandwidth_and_what_may_be_ahead(pieces in proptest::collection::vec(1_u64..2000, 1..200)) {
            let (flow, rate, start) = (Flow::default(), bandwidth("8000B/s"), Duration::from_secs(5));
            let (mut now, mut passed) = (start, 0);
            for bytes in pieces {
                passed += bytes;
                now += flow.pass(rate, bytes, now);
            }
            let allowed = 8000.0 * ((now - start).as_secs_f64() + 0.25);
            prop_assert!(passed as f64 <= allowed + 1.0, "{passed} {allowed}");
        }
    }
}
