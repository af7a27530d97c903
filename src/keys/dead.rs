//! Secrets that were good a while ago: revoked, or replaced by a rotation. Who still presents one guesses nothing: an app that nobody told.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use crate::keys::KeyDigest;

/// Most that are remembered; about 400 KiB.
const MOST: usize = 16_384;

/// The latest of them. It is in memory alone, since nothing but the throttle of guesses asks: after a restart such a secret is an unknown
/// one.
#[derive(Debug, Default)]
pub(super) struct Dead {
    known: FxHashSet<u64>,
    by_age: VecDeque<u64>,
}

impl Dead {
    /// Remembers one.
    pub(super) fn bury(&mut self, digest: &KeyDigest) {
        let short = shortened(digest);
        if !self.known.insert(short) {
            return;
        }
        self.by_age.push_back(short);
        if self.by_age.len() > MOST
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether it is one of them.
    pub(super) fn holds(&self, digest: &KeyDigest) -> bool {
        self.known.contains(&shortened(digest))
    }
}

/// Eight bytes of a keyed digest: nobody outside can find another secret with the same.
fn shortened(digest: &KeyDigest) -> u64 {
    digest.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> KeyDigest {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        KeyDigest::from_bytes(bytes)
    }

    #[test]
    fn the_latest_are_remembered_and_the_rest_is_forgotten() {
        let mut dead = Dead::default();
        for number in 0..MOST + 10 {
            dead.bury(&digest(number));
            dead.bury(&digest(number));
        }
        assert!(!dead.holds(&digest(9)) && dead.holds(&digest(10)) && dead.holds(&digest(MOST + 9)));
        assert_eq!((dead.known.len(), dead.by_age.len()), (MOST, MOST));
    }
}
