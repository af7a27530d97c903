//! How many bytes the bodies of a key's requests and answers, and its sockets, may have in a day, all of them together.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::BadLimit;
use super::window::{Sum, Window};
use crate::clock::Timestamp;

/// Bytes a day, [`DailyBytes::LEAST`] to [`DailyBytes::MOST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DailyBytes(u64);

/// What people write: binary, as files are.
const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl DailyBytes {
    /// 1 MiB: below it not even a page of titles and pictures comes through.
    pub const LEAST: u64 = 1 << 20;
    /// 100 TiB: more than 10 Gbit a second all day long.
    pub const MOST: u64 = 100 << 40;

    /// So many bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for DailyBytes {
    type Err = BadLimit;

    fn from_str(text: &str) -> Result<Self, BadLimit> {
        let wrong = || BadLimit(format!("{text:?} is no number of bytes a day: write one like 50GiB or 500MiB, from 1MiB to 100TiB"));
        let digits = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let bytes = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).and_then(|(_, factor)| number.checked_mul(*factor));
        bytes.filter(|bytes| (Self::LEAST..=Self::MOST).contains(bytes)).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for DailyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = UNITS.into_iter().find(|(_, factor)| self.0.is_multiple_of(*factor)).unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

/// The day of UTC, in days since the epoch: a day is the same for usage, for limits and for whoever is told when to come again, wherever
/// the gateway stands.
pub const fn day_of(now: Timestamp) -> i64 {
    now.as_millis().div_euclid(DAY)
}

/// Seconds until the next day of UTC, rounded up: 1 to 86400.
pub fn until_tomorrow(now: Timestamp) -> u64 {
    u64::try_from(DAY - now.as_millis().rem_euclid(DAY)).unwrap_or_default().div_ceil(1000)
}

/// How many bytes moved on a day: what outlives a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayUse {
    /// Days since the epoch.
    pub day: i64,
    /// Bytes of bodies and sockets, in both directions.
    pub bytes: u64,
}

/// What has moved today, on all cores.
#[derive(Debug, Default)]
pub(super) struct Today(Window);

impl Today {
    /// Counts bytes.
    pub(super) fn count(&self, bytes: u64, now: Timestamp) {
        self.0.add(day_of(now), bytes);
    }

    /// Bytes so far.
    pub(super) fn bytes(&self, now: Timestamp) -> u64 {
        self.0.sum().of(day_of(now))
    }

    /// Goes on from what was written down.
    pub(super) fn resume(&self, used: DayUse) {
        self.0.set(Sum::new(used.day, used.bytes));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_a_day_are_read_in_binary_units_and_shown_in_the_largest_that_fits() {
        for (text, bytes, shown) in [
            ("50GiB", 50 << 30, "50GiB"),
            ("50gib", 50 << 30, "50GiB"),
            ("1024KiB", 1 << 20, "1MiB"),
            ("1500KiB", 1500 << 10, "1500KiB"),
            ("1536MiB", 1536 << 20, "1536MiB"),
            ("2048MiB", 2 << 30, "2GiB"),
            ("100TiB", 100 << 40, "100TiB"),
        ] {
            let daily: DailyBytes = text.parse().expect(text);
            assert_eq!((daily.bytes(), daily.to_string().as_str()), (bytes, shown), "{text}");
        }
        let wrong = ["", "50", "GiB", "50GB", "50Gbit", "0GiB", "1023KiB", "101TiB", "-1GiB", "+1GiB", "1.5GiB", "50 GiB", "50GiB/d"];
        for text in wrong.into_iter().chain(["18446744073709551615TiB", "99999999999999999999GiB"]) {
            assert!(text.parse::<DailyBytes>().expect_err(text).to_string().contains("50GiB"), "{text}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_of_utc_with_nothing_used() {
        let today = Today::default();
        let midnight = Timestamp::from_secs(20_000 * 86_400);
        let just_before = Timestamp::from_millis(midnight.as_millis() - 1);
        today.resume(DayUse { day: 19_999, bytes: 40 });
        today.count(2, just_before);
        assert_eq!((today.bytes(just_before), today.bytes(midnight)), (42, 0));
        today.count(7, midnight);
        assert_eq!((today.bytes(midnight), today.bytes(just_before)), (7, 0));
        assert_eq!((until_tomorrow(just_before), until_tomorrow(midnight)), (1, 86_400));
        assert_eq!(until_tomorrow(Timestamp::from_millis(midnight.as_millis() + 1)), 86_400, "never too early");
        assert_eq!(until_tomorrow(Timestamp::from_millis(-1)), 1);
    }

    proptest! {
        #[test]
        fn bytes_a_day_are_read_as_they_were_written(kib in (DailyBytes::LEAST >> 10)..=(DailyBytes::MOST >> 10)) {
            let daily = DailyBytes(kib << 10);
            prop_assert_eq!(daily.to_string().parse::<DailyBytes>(), Ok(daily));
        }

        #[test]
        fn no_text_makes_the_parser_panic(number in "[0-9]{0,22}", unit in "[TGMKkib/sB]{0,6}") {
            if let Ok(daily) = format!("{number}{unit}").parse::<DailyBytes>() {
                prop_assert!((DailyBytes::LEAST..=DailyBytes::MOST).contains(&daily.bytes()));
            }
        }
    }
}
