//! The limits of one key while requests run: shared by all cores, read and counted without a lock.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;

use super::bandwidth::{Bandwidth, Flow};
use super::rate::{Left, Meter, Rate};
use super::streams::{Place, Running};
use super::{Exceeded, Limits, networks};
use crate::keys::KeyId;

/// A limited key's limits as they are now. A rotated key and its old secret share one of these, and it outlives every change of the key:
/// what is used stays used.
#[derive(Debug)]
pub struct Live {
    limits: ArcSwap<Limits>,
    requests: Meter,
    pub(super) running: Running,
    flow: Flow,
}

impl Live {
    /// With nothing used.
    pub fn new(limits: Limits) -> Self {
        Self { limits: ArcSwap::from_pointee(limits), requests: Meter::default(), running: Running::default(), flow: Flow::default() }
    }

    /// What is limited now.
    pub fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    /// Holds for what comes, and for what runs where that makes sense.
    fn set(&self, limits: &Limits) {
        if **self.limits.load() != *limits {
            self.limits.store(Arc::new(limits.clone()));
        }
    }

    /// Whether the key may be used from an address.
    pub fn may_come_from(&self, address: IpAddr) -> bool {
        self.limits.load().networks.as_ref().is_none_or(|networks| networks::hold(networks, address))
    }

    /// Counts a request. `now`: monotonic.
    ///
    /// # Errors
    /// [`Exceeded::Rate`]; then it is not counted.
    pub fn request(&self, now: Duration) -> Result<(), Exceeded> {
        let Some(rate) = self.limits.load().rate else { return Ok(()) };
        self.requests.take(rate, now).map_err(|retry_after_secs| Exceeded::Rate { retry_after_secs })
    }

    /// Counts a stream, until the place is dropped.
    ///
    /// # Errors
    /// [`Exceeded::Streams`].
    pub fn stream(self: &Arc<Self>) -> Result<Place, Exceeded> {
        Place::take(self, self.limits.load().streams).ok_or(Exceeded::Streams)
    }

    /// Streams that run.
    pub fn streams(&self) -> u32 {
        self.running.count()
    }

    /// How fast bodies may move now.
    pub fn bandwidth(&self) -> Option<Bandwidth> {
        self.limits.load().bandwidth
    }

    /// Counts bytes of a body that go on now, and says for how long nothing more of it should. `now`: monotonic.
    pub fn pass(&self, bandwidth: Bandwidth, bytes: u64, now: Duration) -> Duration {
        self.flow.pass(bandwidth, bytes, now)
    }

    /// The rate and what is left of it, if requests are limited. `now`: monotonic.
    pub fn requests_left(&self, now: Duration) -> Option<(Rate, Left)> {
        let rate = self.limits.load().rate?;
        Some((rate, self.requests.left(rate, now)))
    }
}

/// The limited keys of an index. Only who changes the index looks here.
#[derive(Debug, Default)]
pub(crate) struct Lives(FxHashMap<KeyId, Arc<Live>>);

impl Lives {
    /// What requests with this key meet from now on; `None`: no limit.
    pub(crate) fn of(&mut self, id: KeyId, limits: &Limits) -> Option<Arc<Live>> {
        if limits.is_none() {
            // What runs is not limited any more either.
            if let Some(live) = self.0.remove(&id) {
                live.set(limits);
            }
            return None;
        }
        let live = self.0.entry(id).or_insert_with(|| Arc::new(Live::new(limits.clone())));
        live.set(limits);
        Some(Arc::clone(live))
    }

    /// Forgets keys that nobody else knows any more.
    pub(crate) fn tidy(&mut self) {
        self.0.retain(|_, live| Arc::strong_count(live) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only_from(network: &str) -> Limits {
        Limits { networks: Some(vec![networks::parse(network).expect(network)]), ..Limits::default() }
    }

    #[test]
    fn so_many_streams_run_at_once_on_all_cores_and_each_gives_its_place_back() {
        let live = Arc::new(Live::new(Limits { streams: Some(8), ..Limits::default() }));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let live = Arc::clone(&live);
                std::thread::spawn(move || (0..10).filter_map(|_| live.stream().ok()).collect::<Vec<_>>())
            })
            .collect();
        let mut places: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().expect("counted")).collect();
        assert_eq!((places.len(), live.streams()), (8, 8));
        assert_eq!(live.stream().err(), Some(Exceeded::Streams));
        places.pop();
        assert!(live.stream().is_ok());
        live.set(&Limits { streams: Some(3), ..Limits::default() });
        places.truncate(3);
        assert!(live.stream().is_err(), "fewer may run from now on");
        places.pop();
        assert!(live.stream().is_ok());
        drop(places);
        assert_eq!(live.streams(), 0);
    }

    #[test]
    fn a_key_meets_the_same_counts_whatever_is_changed_and_forgets_them_when_it_is_gone() {
        let mut lives = Lives::default();
        let id = KeyId::from_u64(1);
        let before = lives.of(id, &only_from("10.0.0.0/8")).expect("limited");
        let after = lives.of(id, &only_from("192.0.2.0/24")).expect("limited");
        assert!(Arc::ptr_eq(&before, &after));
        assert!(before.may_come_from([192, 0, 2, 1].into()) && !before.may_come_from([10, 0, 0, 1].into()));
        lives.tidy();
        assert_eq!(lives.0.len(), 1);
        assert!(lives.of(id, &Limits::default()).is_none());
        assert!(before.may_come_from([10, 0, 0, 1].into()), "what runs meets no limit either");
        assert!(lives.0.is_empty());
        drop(lives.of(id, &only_from("10.0.0.0/8")));
        lives.tidy();
        assert!(lives.0.is_empty());
    }
}
