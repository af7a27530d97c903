//! A table that is read without a lock and written without one: small maps behind pointers that are swapped as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;

use crate::keys::KeyDigest;

const SHARDS: usize = 256;

type Shard<V> = FxHashMap<[u8; 32], Arc<V>>;

/// Values by digest. A write copies a 256th of the table's pointers; two writers of one shard repeat the copy, neither waits.
pub(super) struct Sharded<V> {
    shards: Box<[ArcSwap<Shard<V>>]>,
    /// How many there are, or a few more or less while somebody writes.
    count: AtomicUsize,
}

impl<V> Sharded<V> {
    pub(super) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(), count: AtomicUsize::new(0) }
    }

    pub(super) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn shard(&self, digest: &KeyDigest) -> &ArcSwap<Shard<V>> {
        &self.shards[usize::from(digest.as_bytes()[0])]
    }

    /// The digests are keyed hashes, so that nobody learns anything from how long a comparison takes.
    pub(super) fn find(&self, digest: &KeyDigest) -> Option<Arc<V>> {
        self.shard(digest).load().get(digest.as_bytes()).map(Arc::clone)
    }

    /// Puts a value in, in place of the one that may be there.
    pub(super) fn put(&self, digest: &KeyDigest, value: Arc<V>) {
        let before = self.shard(digest).rcu(|shard| {
            let mut shard = Shard::clone(shard);
            shard.insert(*digest.as_bytes(), Arc::clone(&value));
            shard
        });
        if !before.contains_key(digest.as_bytes()) {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Shows all values, in no order.
    pub(super) fn for_each(&self, mut look: impl FnMut(&Arc<V>)) {
        for shard in &self.shards {
            shard.load().values().for_each(&mut look);
        }
    }

    /// Takes out what is not to be kept. `is_kept` may be asked more than once about a value.
    pub(super) fn retain(&self, is_kept: impl Fn(&V) -> bool) {
        for shard in &self.shards {
            if shard.load().values().all(|value| is_kept(value)) {
                continue;
            }
            let mut removed = 0;
            shard.rcu(|shard| {
                let mut kept = Shard::clone(shard);
                kept.retain(|_, value| is_kept(value));
                removed = shard.len() - kept.len();
                kept
            });
            self.count.fetch_sub(removed, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u8) -> KeyDigest {
        KeyDigest::from_bytes([number; 32])
    }

    #[test]
    fn what_was_put_in_is_found_replaced_and_taken_out() {
        let table = Sharded::new();
        // Two of one shard, one of another.
        let mut beside = [65; 32];
        beside[0] = 1;
        table.put(&digest(1), Arc::new(1));
        table.put(&KeyDigest::from_bytes(beside), Arc::new(65));
        table.put(&digest(2), Arc::new(2));
        table.put(&digest(1), Arc::new(101));
        assert_eq!((table.len(), table.find(&digest(1)).as_deref(), table.find(&digest(3))), (3, Some(&101), None));
        table.retain(|value| *value < 100);
        assert_eq!((table.len(), table.find(&digest(1)), table.find(&KeyDigest::from_bytes(beside)).as_deref()), (2, None, Some(&65)));
        let mut seen = Vec::new();
        table.for_each(|value| seen.push(**value));
        seen.sort_unstable();
        assert_eq!(seen, [2, 65]);
    }

    #[test]
    fn writers_of_one_shard_lose_nothing_of_each_other() {
        let table = Arc::new(Sharded::new());
        let writers: Vec<_> = (0..4_u8)
            .map(|writer| {
                let table = Arc::clone(&table);
                std::thread::spawn(move || {
                    for number in 0..50 {
                        let mut bytes = [writer; 32];
                        (bytes[0], bytes[1]) = (0, number);
                        table.put(&KeyDigest::from_bytes(bytes), Arc::new(()));
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().expect("written"));
        let mut count = 0;
        table.for_each(|_| count += 1);
        assert_eq!((count, table.len()), (200, 200));
    }
}
