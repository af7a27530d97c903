//! What a stand-in is told when it starts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};

/// A user of a stand-in.
#[derive(Clone)]
pub struct User {
    /// Name for logging in; letter case does not matter.
    pub name: String,
    /// Password.
    pub password: String,
    /// Whether the user administers the server.
    pub is_admin: bool,
    /// Whether the user may upload (administrators may).
    pub can_upload: bool,
}

impl User {
    /// An ordinary user who may upload.
    pub fn new(name: &str, password: &str) -> Self {
        Self { name: name.to_owned(), password: password.to_owned(), is_admin: false, can_upload: true }
    }

    /// An administrator.
    pub fn admin(name: &str, password: &str) -> Self {
        Self { is_admin: true, ..Self::new(name, password) }
    }
}

/// How a stand-in behaves. The defaults are those of the real servers.
#[derive(Clone)]
pub struct Options {
    /// Where it listens; port 0 takes a free one. A fixed port lets a test stop a server and start it again.
    pub listen: SocketAddr,
    /// Its users. The default has an administrator `root` and a user `alice`, with passwords `root-password` and `alice-password`.
    pub users: Vec<User>,
    /// Life of an Audiobookshelf access token.
    pub access_life: Duration,
    /// Life of an Audiobookshelf refresh token.
    pub refresh_life: Duration,
    /// How long the previous refresh token still works after a rotation.
    pub refresh_grace: Duration,
    /// Audiobookshelf: so many calls of log-in and refresh per window and client address; `None` switches the limiter off.
    pub login_limit: Option<(u32, Duration)>,
    /// Emby and Jellyfin: so many wrong passwords disable the account for good; `None` never does.
    pub lockout: Option<u32>,
    /// Jellyfin: `false` is version 12 (`Authorization: MediaBrowser` and `ApiKey` only, no `/emby` prefix), `true` is 10.x.
    pub legacy_authorization: bool,
    /// Jellyfin: whether an administrator may authorise Quick Connect for another user (10.9); before, only ever for the caller.
    pub quick_connect_for_others: bool,
    /// Audiobookshelf: the prefix under which all routes exist as well. Jellyfin and Emby: the only place where they exist. May be empty.
    pub base_path: String,
    /// How long an idle connection is kept (Node: 5 s).
    pub keep_alive: Duration,
    /// Bytes of the big media file, which is computed as it is read.
    pub large_file_bytes: u64,
    /// Where the stand-in reads the time.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            users: vec![User::admin("root", "root-password"), User::new("alice", "alice-password")],
            access_life: Duration::from_secs(3600),
            refresh_life: Duration::from_secs(30 * 86_400),
            refresh_grace: Duration::from_secs(600),
            login_limit: Some((40, Duration::from_secs(600))),
            lockout: None,
            legacy_authorization: false,
            quick_connect_for_others: true,
            base_path: String::new(),
            keep_alive: Duration::from_secs(5),
            large_file_bytes: 50 << 20,
            clock: Arc::new(SystemClock::new()),
        }
    }
}
