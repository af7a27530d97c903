//! A series of small numbers: the last minutes, hours or days, in a place that does not grow.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is kept of one minute, hour or day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// Requests that went well (1xx to 3xx).
    pub good: u32,
    /// 4xx, and requests that keygate refused or that their clients gave up.
    pub refused: u32,
    /// 5xx.
    pub failed: u32,
    /// Bytes in both directions, in KiB.
    pub kib: u32,
}

impl Point {
    fn add(&mut self, other: Self) {
        self.good = self.good.saturating_add(other.good);
        self.refused = self.refused.saturating_add(other.refused);
        self.failed = self.failed.saturating_add(other.failed);
        self.kib = self.kib.saturating_add(other.kib);
    }

    /// Whether nothing happened.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// The last `N` of them. A place is told by its number since the epoch: minutes, hours or days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring<const N: usize> {
    newest: i64,
    points: Box<[Point; N]>,
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self { newest: i64::MIN, points: Box::new([Point::default(); N]) }
    }
}

impl<const N: usize> Ring<N> {
    fn slot(number: i64) -> usize {
        usize::try_from(number.rem_euclid(i64::try_from(N).unwrap_or(i64::MAX))).unwrap_or(0)
    }

    /// The number of the oldest place that is kept.
    fn oldest(&self) -> i64 {
        self.newest.saturating_sub(i64::try_from(N).unwrap_or(i64::MAX) - 1)
    }

    /// Adds to a place. One that is newer than all moves the window; one that is too old is dropped: a clock that goes back adds to what
    /// there is.
    pub fn add(&mut self, number: i64, point: Point) {
        if number > self.newest {
            let gone = number.saturating_sub(self.newest).min(i64::try_from(N).unwrap_or(i64::MAX));
            (0..gone).for_each(|back| self.points[Self::slot(number - back)] = Point::default());
            self.newest = number;
        }
        if number >= self.oldest() {
            self.points[Self::slot(number)].add(point);
        }
    }

    /// Adds all that another one has.
    pub fn merge(&mut self, other: &Self) {
        for (number, point) in other.points() {
            self.add(number, point);
        }
    }

    /// What is in a place.
    pub fn at(&self, number: i64) -> Point {
        if (self.oldest()..=self.newest).contains(&number) { self.points[Self::slot(number)] } else { Point::default() }
    }

    /// The `N` places up to `now`, oldest first.
    pub fn until(&self, now: i64) -> impl Iterator<Item = Point> {
        (0..i64::try_from(N).unwrap_or(i64::MAX)).rev().map(move |back| self.at(now.saturating_sub(back)))
    }

    /// The places that hold something, oldest first.
    pub fn points(&self) -> impl Iterator<Item = (i64, Point)> {
        (self.oldest()..=self.newest).map(|number| (number, self.points[Self::slot(number)])).filter(|(_, point)| !point.is_empty())
    }
}

/// As it lies in the store: number, good, refused, failed, KiB of each place that holds something.
impl<const N: usize> Serialize for Ring<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.points().map(|(number, point)| (number, point.good, point.refused, point.failed, point.kib)))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Ring<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut ring = Self::default();
        for (number, good, refused, failed, kib) in Vec::<(i64, u32, u32, u32, u32)>::deserialize(deserializer)? {
            // A number at the end of the range would only come from a damaged record.
            if number.unsigned_abs() < u64::from(u32::MAX) {
                ring.add(number, Point { good, refused, failed, kib });
            }
        }
        Ok(ring)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn good(count: u32) -> Point {
        Point { good: count, ..Point::default() }
    }

    #[test]
    fn a_window_moves_on_and_forgets_what_left_it() {
        let mut ring = Ring::<3>::default();
        assert_eq!(ring.until(10).collect::<Vec<_>>(), [Point::default(); 3]);
        for number in [10, 10, 11, 13] {
            ring.add(number, good(1));
        }
        assert_eq!(ring.until(13).map(|point| point.good).collect::<Vec<_>>(), [1, 0, 1]);
        assert_eq!(ring.until(15).map(|point| point.good).collect::<Vec<_>>(), [1, 0, 0], "time went on without requests");
        ring.add(1_000_000, good(5));
        assert_eq!(ring.points().collect::<Vec<_>>(), [(1_000_000, good(5))]);
    }

    #[test]
    fn a_clock_that_goes_back_adds_to_what_there_is() {
        let mut ring = Ring::<3>::default();
        ring.add(10, good(1));
        ring.add(9, good(2));
        ring.add(1, good(100));
        assert_eq!(ring.until(10).map(|point| point.good).collect::<Vec<_>>(), [0, 2, 1]);
    }

    #[test]
    fn counters_stop_at_their_end() {
        let mut ring = Ring::<3>::default();
        ring.add(1, good(u32::MAX));
        ring.add(1, good(1));
        assert_eq!(ring.at(1).good, u32::MAX);
    }

    /// The same with a map.
    fn model(steps: &[(i64, u32)]) -> BTreeMap<i64, u32> {
        let mut map = BTreeMap::new();
        for &(number, count) in steps {
            let newest = map.keys().next_back().copied().unwrap_or(number).max(number);
            if number > newest - 8 {
                *map.entry(number).or_insert(0) += count;
            }
            map.retain(|&number, _| number > newest - 8);
        }
        map
    }

    proptest! {
        #[test]
        fn it_is_a_map_of_the_newest_places(steps in proptest::collection::vec((-30_i64..30, 1_u32..5), 1..60)) {
            let mut ring = Ring::<8>::default();
            steps.iter().for_each(|&(number, count)| ring.add(number, good(count)));
            prop_assert_eq!(ring.points().map(|(number, point)| (number, point.good)).collect::<BTreeMap<_, _>>(), model(&steps));
        }

        #[test]
        fn merging_is_adding_one_after_the_other(
            one in proptest::collection::vec((0_i64..20, 1_u32..5), 0..30),
            other in proptest::collection::vec((0_i64..20, 1_u32..5), 0..30),
        ) {
            let ring = |steps: &[(i64, u32)]| {
                let mut ring = Ring::<32>::default();
                steps.iter().for_each(|&(number, count)| ring.add(number, good(count)));
                ring
            };
            let mut merged = ring(&one);
            merged.merge(&ring(&other));
            let all: Vec<_> = one.iter().chain(&other).copied().collect();
            prop_assert_eq!(merged.points().collect::<Vec<_>>(), ring(&all).points().collect::<Vec<_>>());
        }

        #[test]
        fn what_was_stored_comes_back(steps in proptest::collection::vec((0_i64..40, 1_u32..5), 0..60)) {
            let mut ring = Ring::<8>::default();
            steps.iter().for_each(|&(number, count)| ring.add(number, good(count)));
            let text = serde_json::to_string(&ring).expect("written");
            let back: Ring<8> = serde_json::from_str(&text).expect("read");
            prop_assert_eq!(back.points().collect::<Vec<_>>(), ring.points().collect::<Vec<_>>());
        }

        #[test]
        fn no_numbers_whatever_make_it_panic(number in any::<i64>(), next in any::<i64>()) {
            let mut ring = Ring::<8>::default();
            ring.add(number, good(1));
            ring.add(next, good(1));
            prop_assert!(ring.points().count() <= 2);
            prop_assert_eq!(ring.until(next).count(), 8);
        }
    }
}
