//! Sockets that systemd listens on and hands over (`sd_listen_fds(3)`): they stay open while keygate is restarted, so that nobody who
//! connects meanwhile is refused.
//!
//! All cores accept from the same socket, each by a descriptor of its own. Each new connection wakes the cores that idle, and the first
//! one takes it: what `EPOLLEXCLUSIVE` would save is less than what a home's connections cost otherwise, and tokio does not offer it.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

use crate::config;

/// What systemd calls a socket whose unit has no `FileDescriptorName=` and no name of its own (`sd_listen_fds(3)`).
const NAMELESS: &str = "unknown";

/// The sockets that this process was given, until somebody takes them.
#[derive(Debug, Default)]
pub struct Activated {
    sockets: Vec<(String, io::Result<TcpListener>)>,
}

/// Why there is no socket of a name.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// keygate was not started by a socket unit.
    #[error(
        "systemd has handed over no sockets. Enable the socket unit (systemctl enable --now keygate.socket), and start keygate by \
         systemctl, not by hand"
    )]
    None,
    /// There are others.
    #[error(
        "systemd has handed over no socket of this name, only: {there}. Write the name of one of them, or FileDescriptorName= into the socket unit"
    )]
    Unknown {
        /// The names that there are.
        there: String,
    },
    /// Not for HTTP.
    #[error("this is no TCP socket that listens ({source}). The socket unit needs ListenStream= with a port, and Accept=no")]
    NotTcp {
        /// Cause.
        source: io::Error,
    },
}

impl Activated {
    /// Takes what the environment describes, and forgets it there: programs that keygate starts are not meant. Call it once, before any
    /// thread runs.
    pub fn of_process() -> Self {
        let names = config::descriptor_names();
        let mut given = ListenFd::from_env();
        let mut names = names.split(':').filter(|name| !name.is_empty());
        let sockets = (0..given.len())
            .filter_map(|place| {
                let name = names.next().unwrap_or(NAMELESS).to_owned();
                let socket = given.take_tcp_listener(place).transpose()?;
                Some((name, socket.and_then(listening)))
            })
            .collect();
        Self { sockets }
    }

    /// The names of what nobody has taken.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.sockets.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Takes all sockets of a name, at least one.
    ///
    /// # Errors
    /// [`ActivationError`].
    pub(crate) fn take(&mut self, name: &str) -> Result<Vec<TcpListener>, ActivationError> {
        let there = self.names().join(", ");
        let (taken, left) = std::mem::take(&mut self.sockets).into_iter().partition(|(known, _)| known == name);
        self.sockets = left;
        let taken: Vec<(String, io::Result<TcpListener>)> = taken;
        match (taken.is_empty(), there.is_empty()) {
            (true, true) => Err(ActivationError::None),
            (true, false) => Err(ActivationError::Unknown { there }),
            (false, _) => {
                let sockets: io::Result<Vec<_>> = taken.into_iter().map(|(_, socket)| socket).collect();
                sockets.map_err(|source| ActivationError::NotTcp { source })
            }
        }
    }
}

/// A socket that can be accepted from without blocking.
fn listening(socket: TcpListener) -> io::Result<TcpListener> {
    if !socket2::SockRef::from(&socket).is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(names: &[&str]) -> Activated {
        let socket = || TcpListener::bind("127.0.0.1:0");
        Activated { sockets: names.iter().map(|name| ((*name).to_owned(), socket())).collect() }
    }

    #[test]
    fn all_sockets_of_a_name_come_together_and_once() {
        let mut given = given(&["https", "http", "https"]);
        assert_eq!(given.take("https").expect("there").len(), 2);
        assert_eq!(given.names(), ["http"]);
        assert!(matches!(given.take("https"), Err(ActivationError::Unknown { there }) if there == "http"));
    }

    #[test]
    fn a_missing_name_is_told_with_what_there_is() {
        let said = given(&["web", "http"]).take("https").expect_err("not there").to_string();
        assert!(said.contains("no socket of this name, only: http, web"), "{said}");
        let said = Activated::default().take("https").expect_err("not there").to_string();
        assert!(said.contains("handed over no sockets") && said.contains("keygate.socket"), "{said}");
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let connected = std::net::TcpStream::connect(listener.local_addr().expect("address")).expect("connected");
        let connected = TcpListener::from(std::os::fd::OwnedFd::from(connected));
        assert!(listening(connected).is_err());
        assert!(listening(listener).is_ok());
    }
}
