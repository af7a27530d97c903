//! Who does what the admin room does: what every change is written down with.

use std::fmt;
use std::net::IpAddr;

use crate::keys::KeyId;

/// Who asks. Small and without a secret, so that it can go wherever a change goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A process at the socket, as the kernel names it (`SO_PEERCRED`).
    Socket {
        /// User id.
        uid: u32,
        /// Process id, where the system tells it.
        pid: Option<i32>,
    },
    /// The command line itself, without a gateway.
    Offline {
        /// User id.
        uid: u32,
    },
    /// A program with an admin token, at the admin listener.
    Token {
        /// The token's public id; its record has the name.
        id: KeyId,
        /// The other end of the connection.
        address: IpAddr,
    },
    /// A person who logged in with the page's password, at the admin listener.
    Page {
        /// The number of the session, as it is listed. Numbers begin anew with each start.
        session: u64,
        /// The other end of the connection.
        address: IpAddr,
    },
}

impl Actor {
    /// What a record keeps of who made it: process ids, sessions and addresses mean nothing later.
    pub(crate) fn created_by(self) -> String {
        match self {
            Self::Socket { uid, .. } => format!("uid {uid}"),
            Self::Offline { uid } => format!("cli uid {uid}"),
            Self::Token { id, .. } => format!("admin token {id}"),
            Self::Page { .. } => "admin page".to_owned(),
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket { uid, pid: Some(pid) } => write!(f, "uid {uid} (pid {pid})"),
            Self::Socket { uid, pid: None } => write!(f, "uid {uid}"),
            Self::Offline { uid } => write!(f, "cli uid {uid}"),
            Self::Token { id, address } => write!(f, "admin token {id} from {address}"),
            Self::Page { session, address } => write!(f, "the admin page (session {session}) from {address}"),
        }
    }
}
