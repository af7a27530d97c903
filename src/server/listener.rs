//! Sockets to listen on: one per core and address, so that the kernel spreads connections and no core waits for another.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};

use crate::server::tls::Acceptor;
use crate::upstream::UpstreamName;

const BACKLOG: i32 = 4096;

/// An address to listen on, and what it means.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where; port 0 lets the system choose.
    pub address: SocketAddr,
    /// The upstream to which everything here goes, whatever the host name; `None`: by host name.
    pub upstream: Option<UpstreamName>,
    /// TLS, if any.
    pub tls: Option<Arc<Acceptor>>,
}

/// One core's socket for a listener.
#[derive(Debug)]
pub struct Bound {
    /// Where it really listens.
    pub address: SocketAddr,
    /// What it means.
    pub listener: Listener,
    socket: TcpListener,
}

impl Bound {
    /// Registers the socket with the running runtime.
    pub(crate) fn into_tokio(self) -> io::Result<(tokio::net::TcpListener, Listener)> {
        Ok((tokio::net::TcpListener::from_std(self.socket)?, self.listener))
    }
}

/// Why keygate cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken.
    #[error(
        "cannot listen on {address}: the address is in use by another program; stop it, or choose another port with server.listen (ss -ltnp names the program)"
    )]
    InUse {
        /// Address.
        address: SocketAddr,
    },
    /// A port that only root may open.
    #[error(
        "cannot listen on {address}: permission denied. Ports under 1024 need CAP_NET_BIND_SERVICE (the packaged unit has it), or choose a higher one, \
         for example server.listen = \"[::]:8443\""
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
            io::ErrorKind::AddrInUse => Self::InUse { address },
            io::ErrorKind::PermissionDenied => Self::Permission { address },
            io::ErrorKind::AddrNotAvailable => Self::NotHere { address },
            _ => Self::Other { address, source },
        }
    }
}

/// Binds one socket per core.
///
/// # Errors
/// [`BindError`].
pub fn bind(listener: &Listener, cores: usize) -> Result<Vec<Bound>, BindError> {
    let failed = |source| BindError::from_io(listener.address, source);
    if listener.address.port() != 0 {
        // Sockets that share a port would quietly share it with a stranger that does so too; a first one that does not, notices.
        drop(open(listener.address, false).map_err(failed)?);
    }
    let mut address = listener.address;
    let mut bound = Vec::with_capacity(cores);
    for _ in 0..cores {
        let socket = open(address, true).map_err(failed)?;
        address = socket.local_addr().map_err(failed)?;
        bound.push(Bound { address, listener: listener.clone(), socket });
    }
    Ok(bound)
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
        Listener { address, upstream: None, tls: None }
    }

    #[test]
    fn all_cores_share_the_port_that_the_system_chose() {
        let bound = bind(&on("127.0.0.1:0".parse().expect("address")), 3).expect("bound");
        let first = bound[0].address;
        assert_ne!(first.port(), 0);
        assert!(bound.iter().all(|bound| bound.address == first));
    }

    #[test]
    fn a_taken_port_is_noticed_although_sockets_are_shared() {
        let other = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = other.local_addr().expect("address");
        let error = bind(&on(address), 2).expect_err("taken").to_string();
        assert!(error.contains("in use by another program") && error.contains(&address.to_string()), "{error}");
    }

    #[test]
    fn an_address_of_another_machine_is_named_as_such() {
        let error = bind(&on("192.0.2.1:8443".parse().expect("address")), 1).expect_err("not here").to_string();
        assert!(error.contains("no such address"), "{error}");
    }
}
