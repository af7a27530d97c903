//! Sums of a period of time, counted by all cores without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// A sum and the period that it is of: one word, so that a sum never begins anew by halves. Of the period the lower 16 bits are kept, of
/// the sum 48: 256 TiB.
#[derive(Debug, Default)]
pub(super) struct Window(AtomicU64);

/// What a window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum(u64);

const SUM_BITS: u32 = 48;
const SUM_MOST: u64 = (1 << SUM_BITS) - 1;

impl Sum {
    pub(super) fn new(period: i64, amount: u64) -> Self {
        Self(period.cast_unsigned() << SUM_BITS | amount.min(SUM_MOST))
    }

    /// What it is of this period.
    pub(super) fn of(self, period: i64) -> u64 {
        if self.0 >> SUM_BITS == Self::new(period, 0).0 >> SUM_BITS { self.0 & SUM_MOST } else { 0 }
    }
}

impl Window {
    /// Adds to the sum of a period. Another period's sum makes room for it, and is given back. Cores that do not agree on the period, for
    /// the moment in which it ends, lose what they add within it.
    pub(super) fn add(&self, period: i64, amount: u64) -> Option<Sum> {
        let known = Sum(self.0.load(Ordering::Relaxed));
        if known.0 >> SUM_BITS == Sum::new(period, 0).0 >> SUM_BITS {
            self.0.fetch_add(amount, Ordering::Relaxed);
            return None;
        }
        let first = Sum::new(period, amount).0;
        match self.0.compare_exchange(known.0, first, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Some(known),
            // Somebody else was first to see that a period began.
            Err(_) => {
                self.0.fetch_add(amount, Ordering::Relaxed);
                None
            }
        }
    }

    /// What it holds.
    pub(super) fn sum(&self) -> Sum {
        Sum(self.0.load(Ordering::Relaxed))
    }

    /// Holds this from now on.
    pub(super) fn set(&self, sum: Sum) {
        self.0.store(sum.0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_sum_begins_anew_with_its_period_and_gives_back_the_one_before() {
        let window = Window::default();
        assert_eq!(window.add(20_000, 5), Some(Sum::new(0, 0)));
        assert_eq!((window.add(20_000, 7), window.sum().of(20_000)), (None, 12));
        assert_eq!((window.sum().of(20_001), window.sum().of(19_999)), (0, 0));
        assert_eq!((window.add(20_001, 1), window.sum().of(20_001)), (Some(Sum::new(20_000, 12)), 1));
        assert_eq!((window.add(-1, 3), window.sum().of(-1)), (Some(Sum::new(20_001, 1)), 3), "a clock that was set back");
        window.set(Sum::new(20_002, u64::MAX));
        assert_eq!(window.sum().of(20_002), SUM_MOST, "what is too much does not spill into the period");
    }

    #[test]
    fn all_cores_share_one_sum_also_when_its_period_begins() {
        let window = Arc::new(Window::default());
        for period in 1..20 {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let window = Arc::clone(&window);
                    std::thread::spawn(move || (0..1000).filter(|_| window.add(period, 3).is_some()).count())
                })
                .collect();
            let began: usize = threads.into_iter().map(|thread| thread.join().expect("counted")).sum();
            assert_eq!((window.sum().of(period), began), (12_000, 1));
        }
    }
}
