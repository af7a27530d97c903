//! Who does what the admin room does: what every change is written down with.

use std::fmt;
use std::fs;
use std::net::IpAddr;

use crate::audit;
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

impl Actor {
    /// As the audit log names them. `token`: gives a token's name.
    pub(crate) fn audited(self, token: impl FnOnce(KeyId) -> Option<String>) -> audit::Actor {
        match self {
            Self::Socket { uid, pid } => audit::Actor::Socket { uid, pid, user: user_name(uid) },
            Self::Offline { uid } => audit::Actor::Cli { uid, user: user_name(uid) },
            Self::Token { id, address } => {
                audit::Actor::Token { id: id.to_string(), name: token(id).unwrap_or_default(), address: address.to_string() }
            }
            Self::Page { session, address } => audit::Actor::Page { session: session.to_string(), address: address.to_string() },
        }
    }
}

/// The name that this machine's own list of users has for a user id. Users of a directory service have none here: the number counts.
fn user_name(uid: u32) -> Option<String> {
    name_in(&fs::read_to_string("/etc/passwd").ok()?, uid)
}

/// passwd(5): `name:password:uid:…`.
fn name_in(passwd: &str, uid: u32) -> Option<String> {
    let wanted = uid.to_string();
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == wanted && !name.is_empty()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_number_alone() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nanna:x:1000:0::/:\n0:x:7:::\n";
        assert_eq!(name_in(passwd, 0).as_deref(), Some("root"));
        assert_eq!(name_in(passwd, 1000).as_deref(), Some("anna"));
        assert_eq!(name_in(passwd, 100), None);
    }
}
