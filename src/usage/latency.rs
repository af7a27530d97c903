//! How long media servers take until the head of an answer is there, in ranges.

use std::time::Duration;

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
}
