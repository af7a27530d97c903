//! The audit log: who changed what, and what of note befell the gateway.
//!
//! An *act* is a change that somebody made, or a change of state of the gateway itself: it is written in the transaction of the change
//! ([`crate::store::Change::Audit`]). A *notice* is what strangers can bring about: refusals, throttled addresses, failing logins. Both
//! have numbers of one sequence, which goes on over restarts, and each names the number before it of its own sort: a line that is
//! missing in the middle is noticed (`keygate store check`). They are pruned apart, so whoever floods the gateway with bad keys rolls
//! notices away and never an act ([`Bounds`]).
//!
//! No secret has a way in: what was before and after is a [`Value`], and nothing that holds a secret becomes one.

mod describe;
mod value;

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

pub use self::describe::{of_account, of_key, of_new_account, of_new_key, of_new_token};
pub use self::value::{Field, Value};

/// Who acted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// keygate itself.
    Gateway,
    /// Whoever may send it signals.
    Signal,
    /// A process at the Unix socket, as the kernel names it.
    Socket {
        /// User id.
        uid: u32,
        /// Process id, where the system tells it.
        pid: Option<i32>,
        /// The user's name, where there is one.
        user: Option<String>,
    },
    /// The command line without a running gateway.
    Cli {
        /// User id.
        uid: u32,
        /// The user's name, where there is one.
        user: Option<String>,
    },
    /// A program with an admin token.
    Token {
        /// The token's public id.
        id: String,
        /// Its name; may be empty.
        name: String,
        /// Where the connection came from.
        address: String,
    },
    /// Somebody at the web page.
    Page {
        /// The number of the page's session.
        session: String,
        /// Where the connection came from.
        address: String,
    },
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => f.write_str("keygate"),
            Self::Signal => f.write_str("a signal"),
            Self::Socket { uid, user: Some(user), .. } => write!(f, "{user} (uid {uid})"),
            Self::Socket { uid, user: None, .. } => write!(f, "uid {uid}"),
            Self::Cli { uid, user: Some(user) } => write!(f, "{user} (uid {uid}, offline)"),
            Self::Cli { uid, user: None } => write!(f, "uid {uid} (offline)"),
            Self::Token { id, name, .. } if name.is_empty() => write!(f, "token {id}"),
            Self::Token { name, .. } => write!(f, "token {name}"),
            Self::Page { session, .. } => write!(f, "page (session {session})"),
        }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Something new is there.
    Created,
    /// Fields have other values.
    Changed,
    /// A key has another secret.
    Rotated,
    /// A key is dead for good.
    Revoked,
    /// Something is not there any more.
    Removed,
    /// An account has another credential.
    CredentialChanged,
    /// An operator had an account log in.
    LoggedIn,
    /// The configuration was read again.
    Reloaded,
    /// The store was copied.
    BackedUp,
    /// A backup took the store's place.
    Restored,
    /// Unused space was given back.
    Compacted,
    /// The store is sealed under another master key.
    Rekeyed,
    /// A remembered time was let go of.
    TimeForgotten,
    /// A stream or a socket was closed by an operator.
    Closed,
    /// An account stopped working until an operator acts.
    Broken,
    /// It works again.
    Cured,
    /// A key dies soon.
    ExpiresSoon,
    /// A media server takes no logins of an account for now.
    LoginFailed,
    /// It takes them again.
    LoginRecovered,
    /// Requests were refused.
    Refused,
    /// Requests were refused since too many of their address were before.
    Throttled,
    /// An operator took back what was handed out to a key.
    TicketsTakenBack,
    /// An operator let the sessions of an account go.
    SessionsDropped,
    /// Somebody logged in to the admin page.
    SignedIn,
    /// Somebody tried to, with a wrong password.
    SignInFailed,
}

impl Verb {
    /// Whether it is one that strangers can bring about.
    pub const fn is_notice(self) -> bool {
        matches!(self, Self::LoginFailed | Self::LoginRecovered | Self::Refused | Self::Throttled | Self::SignedIn | Self::SignInFailed)
    }

    /// As listings and programs read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Rotated => "rotated",
            Self::Revoked => "revoked",
            Self::Removed => "removed",
            Self::CredentialChanged => "credential-changed",
            Self::LoggedIn => "logged-in",
            Self::Reloaded => "reloaded",
            Self::BackedUp => "backed-up",
            Self::Restored => "restored",
            Self::Compacted => "compacted",
            Self::Rekeyed => "rekeyed",
            Self::TimeForgotten => "time-forgotten",
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Cured => "cured",
            Self::ExpiresSoon => "expires-soon",
            Self::LoginFailed => "login-failed",
            Self::LoginRecovered => "login-recovered",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::TicketsTakenBack => "tickets-taken-back",
            Self::SessionsDropped => "sessions-dropped",
            Self::SignedIn => "signed-in",
            Self::SignInFailed => "sign-in-failed",
        }
    }
}

/// What it was done to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Object {
    /// The sort of thing.
    pub kind: ObjectKind,
    /// Its public id: a key's, an account's number, an address. Empty where there is only one such thing.
    pub id: String,
    /// Its name at that time.
    pub name: Value,
}

/// Sorts of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    /// A key.
    Key,
    /// An account.
    Account,
    /// A credential of the admin interface.
    AdminToken,
    /// The password of the admin page.
    PagePassword,
    /// A login to the admin page, by its number.
    PageSession,
    /// The store as a whole.
    Store,
    /// The configuration.
    Configuration,
    /// A client, by its address.
    Client,
}

impl ObjectKind {
    /// As listings and programs read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Account => "account",
            Self::AdminToken => "admin-token",
            Self::PagePassword => "page-password",
            Self::PageSession => "page-session",
            Self::Store => "store",
            Self::Configuration => "configuration",
            Self::Client => "client",
        }
    }
}

impl Object {
    /// The store.
    pub fn store() -> Self {
        Self { kind: ObjectKind::Store, id: String::new(), name: Value::from("store") }
    }

    /// The password of the admin page.
    pub fn page_password() -> Self {
        Self { kind: ObjectKind::PagePassword, id: String::new(), name: Value::from("page password") }
    }

    /// A login to the admin page. Numbers begin anew with each start of the gateway.
    pub fn page_session(number: u64) -> Self {
        Self { kind: ObjectKind::PageSession, id: number.to_string(), name: Value::from("login to the page") }
    }

    /// A client.
    pub fn client(address: std::net::IpAddr) -> Self {
        Self { kind: ObjectKind::Client, id: address.to_string(), name: Value::from(address) }
    }

    /// The configuration.
    pub fn configuration() -> Self {
        Self { kind: ObjectKind::Configuration, id: String::new(), name: Value::from("configuration") }
    }
}

/// What was done to what, before it is known by whom and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// What was done.
    pub verb: Verb,
    /// To what.
    pub object: Object,
    /// The fields that have other values now, or that say how it went.
    pub fields: Vec<Field>,
}

impl Act {
    /// Without fields.
    pub const fn new(verb: Verb, object: Object) -> Self {
        Self { verb, object, fields: Vec::new() }
    }

    /// With these fields.
    #[must_use]
    pub fn with(mut self, fields: impl IntoIterator<Item = Field>) -> Self {
        self.fields.extend(fields);
        self
    }

    /// A line of the log.
    pub fn by(self, actor: &Actor, at: Timestamp) -> Line {
        let Self { verb, object, fields } = self;
        Line { at, actor: actor.clone(), verb, object, fields }
    }
}

/// A line that has no number yet: it gets one when it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What was done.
    pub verb: Verb,
    /// To what.
    pub object: Object,
    /// Before and after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<Field>,
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the one sequence: 1 is the first that was ever written.
    pub number: u64,
    /// The number before it of the same sort (act or notice); 0: it is the first.
    pub previous: u64,
    /// What it says.
    pub line: Line,
}

/// From where and in which direction to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Newest first, of the numbers below this one.
    Before(u64),
    /// Oldest first, of the numbers above this one.
    After(u64),
}

/// How much of the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Lines that are older go.
    pub keep: Duration,
    /// Most acts.
    pub acts: u64,
    /// Most notices.
    pub notices: u64,
}

impl Bounds {
    /// For so many lines in all: a tenth of them are for notices, so that nobody from outside can roll an act away.
    pub const fn new(keep: Duration, max_entries: u64) -> Self {
        let notices = max_entries / 10;
        Self { keep, acts: max_entries - notices, notices }
    }
}
