//! Whether every core still turns: each counts on, and whoever looks twice sees which ones do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a core that has ended as it was told to leaves behind.
const ENDED: u64 = u64::MAX;

/// The counts of all cores.
#[derive(Debug)]
pub struct Pulses(Box<[AtomicU64]>);

impl Pulses {
    /// For so many cores, none of which has begun.
    pub(crate) fn new(cores: usize) -> Arc<Self> {
        Arc::new(Self((0..cores).map(|_| AtomicU64::new(0)).collect()))
    }

    /// The cores that have not counted on since `seen` was filled; `seen` is filled anew. A core that died without being told to stands
    /// still for ever.
    pub fn standing_since(&self, seen: &mut Vec<u64>) -> Vec<usize> {
        let now: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let before = std::mem::replace(seen, now);
        let is_standing = |&core: &usize| before.get(core) == seen.get(core) && seen.get(core) != Some(&ENDED);
        (0..seen.len()).filter(is_standing).collect()
    }
}

/// One core's count.
#[derive(Debug)]
pub(crate) struct Pulse {
    pub(crate) all: Arc<Pulses>,
    pub(crate) core: usize,
}

impl Pulse {
    /// The core turns.
    pub(crate) fn beat(&self) {
        self.set(|count| count.wrapping_add(1) % ENDED);
    }

    /// The core ends, and nobody shall miss it.
    pub(crate) fn end(&self) {
        self.set(|_| ENDED);
    }

    fn set(&self, next: impl Fn(u64) -> u64) {
        if let Some(count) = self.all.0.get(self.core) {
            // One core alone writes it.
            count.store(next(count.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_does_not_count_on_stands_and_one_that_ended_is_not_missed() {
        let all = Pulses::new(3);
        let pulse = |core| Pulse { all: Arc::clone(&all), core };
        let mut seen = Vec::new();
        assert!(all.standing_since(&mut seen).is_empty(), "the first look tells nothing");
        pulse(0).beat();
        pulse(1).end();
        assert_eq!(all.standing_since(&mut seen), [2]);
        assert_eq!(all.standing_since(&mut seen), [0, 2]);
    }
}
