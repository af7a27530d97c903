//! The accept loop: nothing that a client does, and no shortage of descriptors, ends it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::gateway::Worker;
use crate::server::connection::{self, Connection};
use crate::server::handshake::Shaken;
use crate::server::listener::Listener;
use crate::server::proxied;

/// How long to wait when descriptors or memory have run out.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Accepts until stopping begins.
pub(crate) async fn run((socket, listener): (TcpListener, Listener), worker: Rc<Worker>) {
    let listener = Rc::new(listener);
    let stop = worker.tasks().stop().clone();
    // One line for each shortage, not twenty a second.
    let mut is_short = false;
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.begun() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                is_short = false;
                begin(stream, peer, &listener, &worker);
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                if !std::mem::replace(&mut is_short, true) {
                    tracing::warn!(%error, "cannot accept connections; trying again until it works");
                }
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

fn begin(stream: TcpStream, peer: SocketAddr, listener: &Rc<Listener>, worker: &Rc<Worker>) {
    let peer = canonical(peer);
    let is_proxy = listener.proxies.iter().any(|net| net.contains(&peer.ip()));
    // A proxy's connections are counted for the clients behind it, as soon as it has said for whom each is.
    let limits = if is_proxy { Limits { per_address: 0, ..limits(worker, peer.ip()) } } else { limits(worker, peer.ip()) };
    let Some(slot) = Slot::take(worker.gateway().connections(), peer.ip(), limits) else {
        return refused(worker, peer);
    };
    let _ = stream.set_nodelay(true);
    let connection = Connection { stream, peer, slot };
    if is_proxy {
        let proxied = begin_proxied(connection, Rc::clone(listener), Rc::clone(worker));
        worker.tasks().spawn_local(proxied);
    } else {
        connection::serve(connection, Rc::clone(listener), Rc::clone(worker));
    }
}

/// Lets a proxy say for whom its connection is: that address is the peer's from then on.
async fn begin_proxied(mut connection: Connection, listener: Rc<Listener>, worker: Rc<Worker>) {
    let limit = worker.gateway().settings().limits.header_timeout;
    let said = tokio::time::timeout(limit, proxied::client_address(&mut connection.stream)).await;
    let client = match said {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return tracing::debug!(proxy = %connection.peer.ip(), %error, "connection refused"),
        Err(_) => return tracing::debug!(proxy = %connection.peer.ip(), "connection closed: no PROXY header came in time"),
    };
    if let Some(client) = client {
        connection.peer = canonical(client);
        if !connection.slot.count_for(connection.peer.ip(), limits(&worker, connection.peer.ip())) {
            return refused(&worker, connection.peer);
        }
    }
    connection::serve(connection, listener, worker);
}

fn refused(worker: &Worker, peer: SocketAddr) {
    worker.gateway().connections().refused.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(client = %peer.ip(), "connection refused: too many are open");
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn limits(worker: &Worker, address: IpAddr) -> Limits {
    let settings = worker.gateway().settings();
    let exempt = address.is_loopback() || settings.trusted_proxies.iter().any(|net| net.contains(&address));
    Limits { all: settings.limits.max_connections, per_address: if exempt { 0 } else { settings.limits.max_connections_per_address } }
}

/// Errors of `accept` that concern the connection that was to be accepted and not the socket.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Open connections, counted over all cores. Touched when a connection opens and closes, never by a request.
#[derive(Debug, Default)]
pub struct Connections {
    all: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    accepted: AtomicU64,
    refused: AtomicU64,
    handshakes: [AtomicU64; Shaken::ALL.len()],
}

impl Connections {
    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    /// How many were ever accepted, refused ones included.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many were closed at once because too many were open.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many TLS handshakes ended like this.
    pub(crate) fn handshakes(&self, how: Shaken) -> u64 {
        self.handshakes[how as usize].load(Ordering::Relaxed)
    }

    pub(super) fn shook(&self, how: Shaken) {
        self.handshakes[how as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// In all; 0: no limit.
    pub(crate) all: usize,
    /// From one address; 0: no limit.
    pub(crate) per_address: usize,
}

/// One connection's place in the count.
#[derive(Debug)]
pub struct Slot {
    connections: Arc<Connections>,
    address: Option<IpAddr>,
}

impl Slot {
    /// `None`: there are too many.
    pub(crate) fn take(connections: &Arc<Connections>, address: IpAddr, limits: Limits) -> Option<Self> {
        connections.accepted.fetch_add(1, Ordering::Relaxed);
        let before = connections.all.fetch_add(1, Ordering::Relaxed);
        let mut slot = Self { connections: Arc::clone(connections), address: None };
        if limits.all != 0 && before >= limits.all {
            return None;
        }
        slot.count_for(address, limits).then_some(slot)
    }

    /// Counts for an address too; `false`: it has too many.
    fn count_for(&mut self, address: IpAddr, limits: Limits) -> bool {
        if limits.per_address == 0 {
            return true;
        }
        let address = counted_address(address);
        let mut by_address = self.connections.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_insert(0);
        if *count >= limits.per_address {
            return false;
        }
        *count += 1;
        self.address = Some(address);
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            let mut by_address = self.connections.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = by_address.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(&address);
                }
            }
        }
    }
}

/// A home has one IPv6 /64 and as many addresses in it as it likes.
fn counted_address(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places_and_gets_them_back() {
        let connections = Arc::new(Connections::default());
        let limits = Limits { all: 10, per_address: 2 };
        let address: IpAddr = "192.0.2.7".parse().expect("address");
        let held: Vec<_> = (0..2).filter_map(|_| Slot::take(&connections, address, limits)).collect();
        assert_eq!(held.len(), 2);
        assert!(Slot::take(&connections, address, limits).is_none());
        assert!(Slot::take(&connections, "192.0.2.8".parse().expect("address"), limits).is_some());
        drop(held);
        assert!(Slot::take(&connections, address, limits).is_some());
        assert_eq!(connections.all.load(Ordering::Relaxed), 0);
        assert!(connections.by_address.lock().expect("lock").is_empty());
    }

    #[test]
    fn all_addresses_of_one_ipv6_network_count_as_one() {
        let connections = Arc::new(Connections::default());
        let limits = Limits { all: 0, per_address: 1 };
        let _held = Slot::take(&connections, "2001:db8:1:2::1".parse().expect("address"), limits).expect("free");
        assert!(Slot::take(&connections, "2001:db8:1:2:ffff::9".parse().expect("address"), limits).is_none());
        assert!(Slot::take(&connections, "2001:db8:1:3::1".parse().expect("address"), limits).is_some());
    }
}
