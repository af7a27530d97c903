//! The Engine.IO sessions that keygate saw open over polling, and how many of each address have not authenticated.
//!
//! A session id is all that a poll brings; whose it is stands here. Only requests to the endpoint of Engine.IO look here, so only they
//! take its lock, for the time of one look.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::forward::socketio::seat::Seat;
use crate::upstream::UpstreamName;

/// Sessions of one address that have not authenticated. Only a client that misbehaves has more than one or two.
const WAITING_PER_ADDRESS: u32 = 8;
/// Sessions in all.
const MOST: usize = 16_384;
/// Longest id that is kept; Engine.IO's have twenty characters.
const LONGEST_SID: usize = 64;

/// The table. One for all cores.
#[derive(Debug, Default)]
pub(crate) struct Table {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    seats: HashMap<(UpstreamName, String), Arc<Seat>>,
    waiting: HashMap<IpAddr, u32>,
    /// When dead ones were last looked for (monotonic).
    swept_at: Duration,
}

/// A place among the sessions of an address that have not authenticated.
#[derive(Debug)]
pub(crate) struct Waiting {
    table: Arc<Table>,
    address: IpAddr,
}

/// No session can be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Table {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a session of an address.
    ///
    /// # Errors
    /// [`Full`] when too many of it wait.
    pub(crate) fn wait(self: &Arc<Self>, address: IpAddr, now: Duration) -> Result<Waiting, Full> {
        self.sweep(now);
        let address = network(address);
        let mut inner = self.inner();
        let count = inner.waiting.entry(address).or_insert(0);
        if *count >= WAITING_PER_ADDRESS {
            return Err(Full);
        }
        *count += 1;
        Ok(Waiting { table: Arc::clone(self), address })
    }

    /// Takes in a session that was just opened.
    ///
    /// # Errors
    /// [`Full`]; also for an id that is none, or that is a session's which lives: nobody gets another's seat by it.
    pub(crate) fn put(&self, upstream: &UpstreamName, sid: &str, seat: &Arc<Seat>, now: Duration) -> Result<(), Full> {
        self.sweep(now);
        let id = (upstream.clone(), sid.to_owned());
        let mut inner = self.inner();
        let is_taken = inner.seats.get(&id).is_some_and(|there| !there.is_over(now));
        if is_taken || inner.seats.len() >= MOST || sid.is_empty() || sid.len() > LONGEST_SID {
            return Err(Full);
        }
        let before = inner.seats.insert(id, Arc::clone(seat));
        // Dropped after the lock, as in `remove`.
        drop(inner);
        drop(before);
        Ok(())
    }

    /// A session that lives.
    pub(crate) fn find(&self, upstream: &UpstreamName, sid: &str, now: Duration) -> Option<Arc<Seat>> {
        let seat = self.inner().seats.get(&(upstream.clone(), sid.to_owned())).map(Arc::clone);
        seat.filter(|seat| !seat.is_over(now))
    }

    /// Forgets a session.
    pub(crate) fn remove(&self, upstream: &UpstreamName, sid: &str) {
        let gone = self.inner().seats.remove(&(upstream.clone(), sid.to_owned()));
        // Dropped after the lock: a seat may give its place back, for which it takes it.
        drop(gone);
    }

    /// Forgets what is over, once a second at most.
    fn sweep(&self, now: Duration) {
        let mut inner = self.inner();
        if now < inner.swept_at + Duration::from_secs(1) && inner.seats.len() < MOST {
            return;
        }
        inner.swept_at = now;
        let gone: Vec<_> = inner.seats.extract_if(|_, seat| seat.is_over(now)).collect();
        // Dropped after the lock, as in `remove`. A socket that took over from polling keeps its seat.
        drop(inner);
        drop(gone);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut inner = self.table.inner();
        if let Some(count) = inner.waiting.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                inner.waiting.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: a network of 64 bits is one subscriber's (RFC 6177).
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[8..].fill(0);
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn seat(table: &Arc<Table>, address: &str, until: Duration) -> Result<Arc<Seat>, Full> {
        let place = table.wait(address.parse().expect("an address"), NOW)?;
        Ok(Arc::new(Seat::waiting(place, until)))
    }

    #[test]
    fn few_of_an_address_wait_and_those_that_end_make_room() {
        let table = Arc::new(Table::default());
        let mut seats: Vec<_> =
            (0..WAITING_PER_ADDRESS).map(|host| seat(&table, &format!("2001:db8::{host:x}"), NOW * 2).expect("room")).collect();
        assert!(seat(&table, "2001:db8::ffff", NOW * 2).is_err(), "the same network");
        assert!(seat(&table, "2001:db8:0:1::1", NOW * 2).is_ok());
        assert!(seat(&table, "192.0.2.1", NOW * 2).is_ok());
        assert!(seats[0].take_natively(), "one that has authenticated does not count");
        seats.push(seat(&table, "2001:db8::ffff", NOW * 2).expect("room again"));
        assert!(seat(&table, "2001:db8::1", NOW * 2).is_err());
        drop(seats);
        assert!(table.inner().waiting.is_empty());
    }

    #[test]
    fn sessions_that_are_over_are_not_found_and_swept_out() {
        let table = Arc::new(Table::default());
        let upstream = UpstreamName::new("media");
        let early = seat(&table, "192.0.2.1", NOW + Duration::from_secs(10)).expect("room");
        table.put(&upstream, "one", &early, NOW).expect("room");
        assert!(table.find(&upstream, "one", NOW).is_some());
        assert!(table.find(&UpstreamName::new("other"), "one", NOW).is_none());
        assert!(table.find(&upstream, "one", NOW + Duration::from_secs(10)).is_none());
        drop(early);
        drop(table.wait("192.0.2.2".parse().expect("an address"), NOW * 2));
        assert!(table.inner().seats.is_empty() && table.inner().waiting.is_empty());
        assert!(table.put(&upstream, &"x".repeat(65), &seat(&table, "192.0.2.1", NOW).expect("room"), NOW).is_err());
    }

    #[test]
    fn an_id_that_the_server_gives_twice_takes_no_session_from_anybody() {
        let table = Arc::new(Table::default());
        let upstream = UpstreamName::new("media");
        let put = |address, until, now| table.put(&upstream, "one", &seat(&table, address, until).expect("room"), now);
        // Nothing but the table has these seats: each gives its place back when it leaves.
        put("192.0.2.1", NOW + Duration::from_secs(10), NOW).expect("room");
        assert!(put("192.0.2.2", NOW * 2, NOW).is_err());
        let later = NOW + Duration::from_millis(500);
        put("192.0.2.3", later, NOW * 2).expect("the first one is over");
        put("192.0.2.4", NOW * 3, NOW * 2).expect("over, and not swept out yet");
        assert_eq!(table.inner().waiting.len(), 1);
    }
}
