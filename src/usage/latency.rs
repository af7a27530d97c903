//! How long media servers take until the head of an answer is there, in ranges.

use std::time::Duration;

use crate::clock::Timestamp;

/// Upper ends of the ranges, in microseconds; what took longer is in a range of its own.
const BOUNDS: [u64; 14] =
    [1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000];

/// Times, counted by range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    by_range: [u64; BOUNDS.len() + 1],
    sum_micros: u64,
}

impl Latency {
    /// One more.
    pub fn note(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let range = BOUNDS.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS.len());
        self.by_range[range] += 1;
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }

    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &Self) {
        for (own, theirs) in self.by_range.iter_mut().zip(other.by_range) {
            *own = own.saturating_add(theirs);
        }
        self.sum_micros = self.sum_micros.saturating_add(other.sum_micros);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.by_range.iter().sum()
    }

    /// All of them together, in seconds.
    pub fn sum_seconds(&self) -> f64 {
        self.sum_micros as f64 / 1e6
    }

    /// How many took no longer than each bound, in seconds: the form of Prometheus' histograms, without its last range.
    pub fn up_to(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut sum = 0;
        BOUNDS.iter().zip(self.by_range).map(move |(bound, count)| {
            sum += count;
            (*bound as f64 / 1e6, sum)
        })
    }

    /// The time within which this share of all was, 0 to 1: as Prometheus' `histogram_quantile` reckons it, evenly within a range, and never
    /// above the last bound. `None`: there were none.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = share * self.count() as f64;
        let (mut below, mut from) = (0.0, 0);
        for (bound, count) in BOUNDS.into_iter().zip(self.by_range) {
            let count = count as f64;
            if count > 0.0 && below + count >= wanted {
                let part = (wanted - below).max(0.0) / count;
                return Some(Duration::from_micros(from).mul_f64(1.0 - part) + Duration::from_micros(bound).mul_f64(part));
            }
            (below, from) = (below + count, bound);
        }
        (self.count() > 0).then(|| Duration::from_micros(from))
    }
}

/// Parts of [`Recent`].
const PARTS: usize = 12;
/// The length of each, in milliseconds.
const PART_MILLIS: i64 = 5 * 60_000;

/// Times of the last hour, five minutes by five minutes.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    /// The number of the newest part since the epoch.
    newest: i64,
    /// Each in the place of its number's remainder.
    parts: [Latency; PARTS],
}

impl Recent {
    /// Adds what was counted until `at`. What is older than an hour is dropped: a clock that goes back adds to what there is.
    pub fn add(&mut self, at: Timestamp, latency: &Latency) {
        let number = part_of(at);
        for gone in (self.newest + 1).max(number - PARTS as i64 + 1)..=number {
            self.parts[place(gone)] = Latency::default();
        }
        self.newest = self.newest.max(number);
        if self.holds(number) {
            self.parts[place(number)].add(latency);
        }
    }

    fn holds(&self, number: i64) -> bool {
        (self.newest - PARTS as i64 + 1..=self.newest).contains(&number)
    }

    /// The parts of the hour that ends now, oldest first.
    pub fn until(&self, now: Timestamp) -> impl Iterator<Item = Latency> {
        let last = part_of(now);
        (last - PARTS as i64 + 1..=last).map(|number| if self.holds(number) { self.parts[place(number)] } else { Latency::default() })
    }
}

fn part_of(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(PART_MILLIS)
}

fn place(number: i64) -> usize {
    usize::try_from(number.rem_euclid(PARTS as i64)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_range_that_ends_with_it_and_in_all_longer_ones() {
        let mut latency = Latency::default();
        for micros in [0, 1_000, 1_001, 30_000_000, 30_000_001] {
            latency.note(Duration::from_micros(micros));
        }
        let ranges: Vec<_> = latency.up_to().collect();
        assert_eq!((ranges[0], ranges[1], ranges[13]), ((0.001, 2), (0.0025, 3), (30.0, 4)));
        assert_eq!(latency.count(), 5);
        let mut twice = latency;
        twice.add(&latency);
        assert_eq!((twice.count(), twice.sum_seconds()), (10, 2.0 * latency.sum_seconds()));
        twice.note(Duration::MAX);
        assert_eq!(twice.count(), 11, "however long it was");
    }

    fn of(millis: &[u64]) -> Latency {
        let mut latency = Latency::default();
        millis.iter().for_each(|millis| latency.note(Duration::from_millis(*millis)));
        latency
    }

    #[test]
    fn a_quantile_is_within_the_range_that_holds_it() {
        assert_eq!(Latency::default().quantile(0.5), None);
        let even = of(&[20; 100]);
        assert_eq!(even.quantile(0.5), Some(Duration::from_micros(17_500)), "half of 10 to 25 ms");
        let slow = of(&[[1; 90].as_slice(), &[400; 10]].concat());
        assert!(slow.quantile(0.5).is_some_and(|half| half <= Duration::from_millis(1)));
        assert_eq!(slow.quantile(0.95), Some(Duration::from_millis(375)), "half of 250 to 500 ms");
        assert_eq!(of(&[90_000]).quantile(0.95), Some(Duration::from_secs(30)), "all that is known of it");
        assert_eq!(of(&[3]).quantile(1.0), Some(Duration::from_millis(5)));
    }

    #[test]
    fn an_hour_moves_on_and_a_clock_that_goes_back_takes_nothing_away() {
        let at = |minutes: u64| Timestamp::from_secs(1_800_000_000).plus(Duration::from_secs(minutes * 60));
        let counts = |recent: &Recent, minutes| recent.until(at(minutes)).map(|part| part.count()).collect::<Vec<_>>();
        let mut recent = Recent::default();
        assert_eq!(counts(&recent, 0), [0; 12]);
        recent.add(at(60), &of(&[1, 1]));
        recent.add(at(64), &of(&[1]));
        recent.add(at(50), &of(&[1]));
        assert_eq!(counts(&recent, 60), [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 3]);
        assert_eq!(counts(&recent, 70), [0, 0, 0, 0, 0, 0, 0, 1, 0, 3, 0, 0]);
        recent.add(at(115), &of(&[1]));
        assert_eq!(counts(&recent, 115), [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        recent.add(at(50), &of(&[1]));
        assert_eq!(counts(&recent, 115).iter().sum::<u64>(), 4, "too old");
        assert_eq!(counts(&recent, 400), [0; 12]);
        recent.add(at(4000), &of(&[1]));
        assert_eq!(counts(&recent, 4000).iter().sum::<u64>(), 1);
    }
}
