//! The Engine.IO sessions that keygate saw open over polling, and how many there are of each key and each address: nobody can use up the
//! room of all.
//!
//! A session id is all that a poll brings; whose it is stands here. Only requests to the endpoint of Engine.IO look here, so only they
//! take its lock, for the time of one look.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::forward::socketio::seat::Seat;
use crate::keys::KeyId;
use crate::limits::networks::customer;
use crate::upstream::UpstreamName;

/// Sessions of one address that have not authenticated. Only a client that misbehaves has more than one or two.
const WAITING_PER_ADDRESS: u32 = 8;
/// Sessions of one key, and of people with logins of the server's own at one address; those over WebSockets among them. A household has one
/// for each app that is open.
const MOST_OF_ONE: u32 = 256;
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
    places: HashMap<Holder, u32>,
    /// When dead ones were last looked for (monotonic).
    swept_at: Duration,
}

/// Whose sessions are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    /// Those of an address that have not authenticated.
    Waiting(IpAddr),
    /// Those of an address that logged in at the server.
    Native(IpAddr),
    Key(KeyId),
}

impl Holder {
    const fn most(self) -> u32 {
        match self {
            Self::Waiting(_) => WAITING_PER_ADDRESS,
            Self::Native(_) | Self::Key(_) => MOST_OF_ONE,
        }
    }
}

/// A session's place among those of whom it belongs to; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    table: Arc<Table>,
    holder: Holder,
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
    pub(crate) fn wait(self: &Arc<Self>, address: IpAddr, now: Duration) -> Result<Place, Full> {
        self.sweep(now);
        self.place(Holder::Waiting(customer(address)))
    }

    /// A place for a session of a key.
    ///
    /// # Errors
    /// [`Full`] when the key has too many.
    pub(crate) fn of_key(self: &Arc<Self>, key: KeyId, now: Duration) -> Result<Place, Full> {
        self.sweep(now);
        self.place(Holder::Key(key))
    }

    fn place(self: &Arc<Self>, holder: Holder) -> Result<Place, Full> {
        let mut inner = self.inner();
        let count = inner.places.entry(holder).or_insert(0);
        if *count >= holder.most() {
            return Err(Full);
        }
        *count += 1;
        Ok(Place { table: Arc::clone(self), holder })
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

/// What a waiting session's place becomes another of. Neither is asked for while a seat is locked: the table looks at seats.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    table: Arc<Table>,
    address: IpAddr,
}

impl Place {
    /// Where it came from, if it is a waiting one's.
    pub(crate) fn origin(&self) -> Option<Origin> {
        let Holder::Waiting(address) = self.holder else { return None };
        Some(Origin { table: Arc::clone(&self.table), address })
    }
}

impl Origin {
    /// A place among the key's.
    pub(crate) fn for_key(&self, key: KeyId) -> Result<Place, Full> {
        self.table.place(Holder::Key(key))
    }

    /// A place among those of the address that logged in at the server.
    pub(crate) fn for_native(&self) -> Result<Place, Full> {
        self.table.place(Holder::Native(self.address))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.table.inner();
        if let Some(count) = inner.places.get_mut(&self.holder) {
            *count -= 1;
            if *count == 0 {
                inner.places.remove(&self.holder);
            }
        }
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
        assert_eq!(seats[0].take_natively(), Ok(true), "one that has authenticated does not count");
        seats.push(seat(&table, "2001:db8::ffff", NOW * 2).expect("room again"));
        assert!(seat(&table, "2001:db8::1", NOW * 2).is_err());
        drop(seats);
        assert!(table.inner().places.is_empty());
    }

    #[test]
    fn no_key_and_no_address_has_more_than_its_share_of_the_table() {
        let table = Arc::new(Table::default());
        let (one, other) = (KeyId::from_u64(1), KeyId::from_u64(2));
        let mut held: Vec<_> = (0..MOST_OF_ONE).map(|_| table.of_key(one, NOW).expect("room")).collect();
        assert_eq!(table.of_key(one, NOW).err(), Some(Full));
        assert!(table.of_key(other, NOW).is_ok());
        let waiting = table.wait("192.0.2.1".parse().expect("an address"), NOW).expect("room");
        let origin = waiting.origin().expect("a waiting one");
        assert_eq!(origin.for_key(one).err(), Some(Full), "by authenticating inside neither");
        held.pop();
        let place = origin.for_key(one).expect("room again");
        assert!(place.origin().is_none());
        let natives: Vec<_> = (0..MOST_OF_ONE).map(|_| origin.for_native().expect("room")).collect();
        assert_eq!(origin.for_native().err(), Some(Full));
        drop((held, place, natives, waiting));
        assert!(table.inner().places.is_empty());
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
        assert!(table.inner().seats.is_empty() && table.inner().places.is_empty());
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
        assert_eq!(table.inner().places.len(), 1);
    }
}
