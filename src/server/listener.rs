//! Sockets to listen on: one per core and address, so that the kernel spreads connections and no core waits for another.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::{Listen, is_public};
use crate::server::activation::{Activated, ActivationError};
use crate::server::holder;
use crate::server::tls::Acceptor;
use crate::upstream::UpstreamName;

const BACKLOG: i32 = 4096;

/// A place to listen on, and what it means.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where.
    pub listen: Listen,
    /// The upstream to which everything here goes, whatever the host name; `None`: by host name.
    pub upstream: Option<UpstreamName>,
    /// TLS, if any.
    pub tls: Option<Arc<Acceptor>>,
    /// Whether it may speak plain HTTP to other machines.
    pub allow_plaintext: bool,
    /// What it is for.
    pub purpose: Purpose,
    /// Peers that must begin with a PROXY header; nobody else may.
    pub proxies: Arc<[IpNet]>,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The media servers.
    Serve,
    /// Leading to https, and nothing else.
    Redirect {
        /// The port that clients find https on; 0: where the first TLS listener is bound.
        https_port: u16,
    },
}

/// One socket of a listener.
#[derive(Debug)]
pub struct Bound {
    /// Where it really listens.
    pub address: SocketAddr,
    /// What it means.
    pub listener: Listener,
    /// A descriptor for each core.
    pub(crate) sockets: Vec<TcpListener>,
}

/// Why keygate cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken.
    #[error(
        "cannot listen on {address}: the address is in use by {}; stop it, or choose another port with server.listen",
        holder.as_deref().unwrap_or("another program (ss -ltnp names it)")
    )]
    InUse {
        /// Address.
        address: SocketAddr,
        /// The program, as far as it is known.
        holder: Option<String>,
    },
    /// A port that only root may open.
    #[error(
        "cannot listen on {address}: permission denied. Ports under 1024 need CAP_NET_BIND_SERVICE (the packaged unit has it), or systemd's socket \
         (deploy/keygate.socket), or choose a higher one, for example server.listen = \"[::]:8443\""
    )]
    Permission {
        /// Address.
        address: SocketAddr,
    },
    /// Not an address of this machine.
    #[error("cannot listen on {address}: this machine has no such address (ip address shows those it has; \"[::]\" stands for all)")]
    NotHere {
        /// Address.
        address: SocketAddr,
    },
    /// A socket of systemd's.
    #[error("cannot listen on {listen}: {source}")]
    Activation {
        /// Which.
        listen: Listen,
        /// Cause.
        source: ActivationError,
    },
    /// A socket of systemd's that other machines reach, without TLS. Addresses of the configuration are judged there.
    #[error(
        "cannot listen on {listen}: systemd listens on {address}, which is reachable from other machines, and there is no TLS: keys would travel in clear \
         text. Write tls = \"self-signed\" in [server], or set cert_file and key_file in [server.tls]; or write ListenStream=127.0.0.1:{} into the socket unit; or, behind a TLS proxy or in a network \
         that you trust, allow_plaintext = true in [server]",
        address.port()
    )]
    Plaintext {
        /// Which.
        listen: Listen,
        /// Where it listens.
        address: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {address}: {source}")]
    Other {
        /// Address.
        address: SocketAddr,
        /// Cause.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {source}")]
    Thread {
        /// Cause.
        source: io::Error,
    },
}

impl BindError {
    fn from_io(address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address, holder: holder::holder(address) },
            io::ErrorKind::PermissionDenied => Self::Permission { address },
            io::ErrorKind::AddrNotAvailable => Self::NotHere { address },
            _ => Self::Other { address, source },
        }
    }
}

/// Opens every listener, or takes what systemd holds open; of each, one descriptor per core.
///
/// # Errors
/// [`BindError`].
pub fn bind(listeners: Vec<Listener>, activated: &mut Activated, cores: usize) -> Result<Vec<Bound>, BindError> {
    for address in listeners.iter().filter_map(|listener| listener.listen.address()).filter(|address| address.port() != 0) {
        // Sockets that share a port would quietly share it with a stranger that does so too; a first one that does not, notices. All of
        // these come before the first that stays: keygate's own "[::]:443" must not be in the way of its "192.0.2.1:443".
        drop(open(address, false).map_err(|source| BindError::from_io(address, source))?);
    }
    let mut all = Vec::with_capacity(listeners.len());
    for listener in listeners {
        match listener.listen.clone() {
            Listen::Address(address) => all.push(bind_address(listener, address, cores)?),
            Listen::Systemd(name) => take_over(&listener, &name, activated, cores, &mut all)?,
        }
    }
    let https = all.iter().find(|bound| bound.listener.tls.is_some()).map_or(443, |bound| bound.address.port());
    for bound in &mut all {
        if let Purpose::Redirect { https_port: port @ 0 } = &mut bound.listener.purpose {
            *port = https;
        }
    }
    Ok(all)
}

fn bind_address(listener: Listener, asked: SocketAddr, cores: usize) -> Result<Bound, BindError> {
    let failed = |source| BindError::from_io(asked, source);
    let (mut address, mut sockets) = (asked, Vec::with_capacity(cores));
    for _ in 0..cores {
        let socket = open(address, true).map_err(failed)?;
        address = socket.local_addr().map_err(failed)?;
        sockets.push(socket);
    }
    Ok(Bound { address, listener, sockets })
}

fn take_over(listener: &Listener, name: &str, activated: &mut Activated, cores: usize, all: &mut Vec<Bound>) -> Result<(), BindError> {
    let failed = |source| BindError::Activation { listen: listener.listen.clone(), source };
    for socket in activated.take(name).map_err(failed)? {
        let shared = |socket: &TcpListener| Ok((socket.local_addr()?, (0..cores).map(|_| socket.try_clone()).collect::<io::Result<_>>()?));
        let (address, sockets): (SocketAddr, _) = shared(&socket).map_err(|source| failed(ActivationError::NotTcp { source }))?;
        let is_clear = listener.tls.is_none() && listener.purpose == Purpose::Serve;
        if is_clear && !listener.allow_plaintext && is_public(address.ip()) {
            return Err(BindError::Plaintext { listen: listener.listen.clone(), address });
        }
        all.push(Bound { address, listener: listener.clone(), sockets });
    }
    Ok(())
}

fn open(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // "[::]" means both families, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(address: SocketAddr) -> Listener {
        Listener {
            listen: Listen::Address(address),
            upstream: None,
            tls: None,
            allow_plaintext: false,
            purpose: Purpose::Serve,
            proxies: Arc::default(),
        }
    }

    fn bind_all(addresses: &[SocketAddr], cores: usize) -> Result<Vec<Bound>, BindError> {
        bind(addresses.iter().copied().map(on).collect(), &mut Activated::default(), cores)
    }

    #[test]
    fn all_cores_share_the_port_that_the_system_chose() {
        let bound = bind_all(&["127.0.0.1:0".parse().expect("address")], 3).expect("bound");
        assert_ne!(bound[0].address.port(), 0);
        assert_eq!(bound[0].sockets.len(), 3);
        assert!(bound[0].sockets.iter().all(|socket| socket.local_addr().expect("address") == bound[0].address));
    }

    #[test]
    fn a_taken_port_is_noticed_although_sockets_are_shared() {
        let other = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = other.local_addr().expect("address");
        let error = bind_all(&[address], 2).expect_err("taken").to_string();
        assert!(error.contains(&format!("(pid {})", std::process::id())) && error.contains(&address.to_string()), "{error}");
    }

    #[test]
    fn an_address_of_another_machine_is_named_as_such() {
        let error = bind_all(&["192.0.2.1:8443".parse().expect("address")], 1).expect_err("not here").to_string();
        assert!(error.contains("no such address"), "{error}");
    }

    #[test]
    fn every_address_of_both_families_and_one_of_them_may_be_written_together() {
        let port = TcpListener::bind("[::]:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
        let on = |ip: &str| SocketAddr::new(ip.parse().expect("address"), port);
        for addresses in
            [[on("::"), on("0.0.0.0")], [on("0.0.0.0"), on("::")], [on("::"), on("127.0.0.1")], [on("127.0.0.1"), on("0.0.0.0")]]
        {
            let bound = bind_all(&addresses, 2).unwrap_or_else(|error| panic!("{addresses:?}: {error}"));
            assert!(bound.iter().map(|bound| bound.address).eq(addresses));
        }
    }
}
