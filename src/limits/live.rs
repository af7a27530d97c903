//! The limits of one key while requests run: shared by all cores, read and counted without a lock.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;

use super::bandwidth::{Bandwidth, Flow};
use super::daily::{DailyBytes, DayUse, Today, day_of, until_tomorrow};
use super::rate::{Left, Meter};
use super::streams::{Place, Running};
use super::{Exceeded, Limits, networks};
use crate::clock::Timestamp;
use crate::keys::KeyId;

/// A limited key's limits as they are now. A rotated key and its old secret share one of these, and it outlives every change of the key:
/// what is used stays used.
#[derive(Debug)]
pub struct Live {
    limits: ArcSwap<Limits>,
    requests: Meter,
    pub(super) running: Running,
    flow: Flow,
    today: Today,
}

/// How much of each limit is used; `None`: there is no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// What is left of the rate.
    pub rate: Option<Left>,
    /// Streams that run.
    pub streams: Option<u32>,
    /// Bytes per second, as of some seconds ago.
    pub bandwidth: Option<u64>,
    /// Bytes of today.
    pub daily: Option<u64>,
}

/// What is left of a limit, for the fields of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// All of it: requests, or bytes.
    pub limit: u64,
    /// What of it may come at once now.
    pub remaining: u64,
    /// Seconds until all of it is back.
    pub reset_secs: u64,
}

impl Live {
    /// With nothing used.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: ArcSwap::from_pointee(limits),
            requests: Meter::default(),
            running: Running::default(),
            flow: Flow::default(),
            today: Today::default(),
        }
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

    /// Counts a request. `now`: monotonic; `today`: the wall clock.
    ///
    /// # Errors
    /// [`Exceeded::Daily`] or [`Exceeded::Rate`]; then it is not counted.
    pub fn request(&self, now: Duration, today: Timestamp) -> Result<(), Exceeded> {
        let Limits { rate, daily, .. } = **self.limits.load();
        if daily.is_some_and(|daily| self.is_used_up(daily, today)) {
            return Err(Exceeded::Daily { retry_after_secs: until_tomorrow(today) });
        }
        let Some(rate) = rate else { return Ok(()) };
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

    /// How fast bodies may move now, and how many bytes a day.
    pub fn of_bodies(&self) -> (Option<Bandwidth>, Option<DailyBytes>) {
        let limits = self.limits.load();
        (limits.bandwidth, limits.daily)
    }

    /// Whether no more bytes may move today.
    pub fn is_used_up(&self, daily: DailyBytes, now: Timestamp) -> bool {
        self.today.bytes(now) >= daily.bytes()
    }

    /// Counts bytes of a body, or of a socket, that move now.
    pub fn count(&self, bytes: u64, now: Timestamp) {
        self.today.count(bytes, now);
    }

    /// Counts bytes of what is too short to end when the day's are used up, while they are not.
    pub fn count_beside(&self, bytes: u64, now: Timestamp) {
        let daily = self.limits.load().daily;
        if daily.is_some_and(|daily| !self.is_used_up(daily, now)) {
            self.count(bytes, now);
        }
    }

    /// Counts bytes of a body that go on now, and says for how long nothing more of it should. `now`: monotonic.
    pub fn pass(&self, bandwidth: Bandwidth, bytes: u64, now: Duration) -> Duration {
        self.flow.pass(bandwidth, bytes, now)
    }

    /// What an answer is to tell: that the day's bytes are used up, else what is left of the rate. `now`: monotonic; `today`: the wall
    /// clock.
    pub fn quota(&self, now: Duration, today: Timestamp) -> Option<Quota> {
        let Limits { rate, daily, .. } = **self.limits.load();
        if let Some(daily) = daily.filter(|daily| self.is_used_up(*daily, today)) {
            return Some(Quota { limit: daily.bytes(), remaining: 0, reset_secs: until_tomorrow(today) });
        }
        let rate = rate?;
        let Left { remaining, reset_secs } = self.requests.left(rate, now);
        Some(Quota { limit: rate.burst().into(), remaining: remaining.into(), reset_secs })
    }

    /// How much is used now, as [`Live::quota`].
    pub fn used(&self, now: Duration, today: Timestamp) -> Used {
        let limits = self.limits.load();
        Used {
            rate: limits.rate.map(|rate| self.requests.left(rate, now)),
            streams: limits.streams.map(|_| self.streams()),
            bandwidth: limits.bandwidth.map(|_| self.flow.speed(now)),
            daily: limits.daily.map(|_| self.today.bytes(today)),
        }
    }

    /// What is to outlive a restart; `None`: bytes are not limited by the day.
    pub fn day_use(&self, now: Timestamp) -> Option<DayUse> {
        self.limits.load().daily.map(|_| DayUse { day: day_of(now), bytes: self.today.bytes(now) })
    }

    /// Goes on from what outlived one. For who starts, before anything is counted.
    pub fn resume(&self, used: DayUse) {
        self.today.resume(used);
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

    /// Those of a key; `None`: it has no limits.
    pub(crate) fn find(&self, id: KeyId) -> Option<&Arc<Live>> {
        self.0.get(&id)
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (KeyId, &Arc<Live>)> {
        self.0.iter().map(|(id, live)| (*id, live))
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
