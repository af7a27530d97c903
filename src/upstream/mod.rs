//! Media servers, their accounts, and how keygate holds a session with each.

pub mod alarm;
pub mod call;
pub mod client;
pub mod dialect;
pub mod health;
pub mod io;
pub mod line;
mod mixup;
pub mod session;
pub mod survey;
pub mod tls;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// What a media server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Audiobookshelf 2.26 or newer.
    Audiobookshelf,
    /// Emby 3.5 to 4.x.
    Emby,
    /// Jellyfin 10.8 to 12.
    Jellyfin,
}

impl Kind {
    /// All kinds, for tests and messages.
    pub const ALL: [Self; 3] = [Self::Audiobookshelf, Self::Emby, Self::Jellyfin];

    /// The word of the configuration file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audiobookshelf => "audiobookshelf",
            Self::Emby => "emby",
            Self::Jellyfin => "jellyfin",
        }
    }

    /// The product's own name, for sentences.
    pub const fn product(self) -> &'static str {
        match self {
            Self::Audiobookshelf => "Audiobookshelf",
            Self::Emby => "Emby",
            Self::Jellyfin => "Jellyfin",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The operator's name of an upstream: 1 to 64 of `a-z A-Z 0-9 . _ -`. Names, not positions, are stored, so that the order
/// of the configuration file may change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UpstreamName(Arc<str>);

impl UpstreamName {
    /// A name that the configuration has already checked.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `name` may be an upstream's name.
    pub fn is_valid(name: &str) -> bool {
        (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    }
}

impl fmt::Display for UpstreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Number of an account in the store; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(pub u32);

/// How keygate proves itself to the upstream as an account.
#[derive(Clone, Debug)]
pub enum Credential {
    /// The account's own password: keygate logs in and renews.
    Password(Secret<String>),
    /// A static upstream token or the server's own API key: used as it is, never renewed.
    Token(Secret<String>),
    /// Nothing of its own: the upstream's administrator makes sessions for the user, as often as one is needed.
    Minted {
        /// The upstream's id of the user: only sessions of this one are taken.
        user_id: String,
    },
}

impl Credential {
    /// Whether another session can be had with it when the upstream calls one dead.
    pub const fn is_renewable(&self) -> bool {
        match self {
            Self::Password(_) | Self::Minted { .. } => true,
            Self::Token(_) => false,
        }
    }

    /// Whether all keys of the account share one token that the upstream takes for an API key of its own and not for a login: where a
    /// login is needed (Audiobookshelf's socket), it does not do.
    pub const fn is_static_token(&self, kind: Kind) -> bool {
        match self {
            Self::Password(_) => false,
            Self::Token(_) => true,
            Self::Minted { .. } => matches!(kind, Kind::Audiobookshelf),
        }
    }

    /// The word of `accounts list`.
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Password(_) => "password",
            Self::Token(_) => "token",
            Self::Minted { .. } => "minted",
        }
    }
}
