//! What a key may do: every route of a media server belongs to one scope, and a key has a set of them.
//!
//! The set follows what scripts and apps ask for (`peers.md` 3, `upstreams/audiobookshelf.md` 9 and 11, `upstreams/emby-jellyfin.md` 11), cut
//! where people want to give the one without the other:
//!
//! - A dashboard shows what is going on and must not play, let alone change, anything (Homarr and Homepage before Audiobookshelf,
//!   jellyfin-rpc, a child's dashboard): [`Scope::Status`] and [`Scope::Browse`] are two, since who listens to what right now is more
//!   than what there is.
//! - A player that is given a link needs media and nothing else: [`Scope::Stream`]. Whole files are [`Scope::Download`], because operators
//!   of all three servers have a switch of their own for them; who may stream can put a file together from that, too.
//! - What syncs progress (readers, trackers, Kodi) writes marks and positions: [`Scope::Progress`]. What one likes to keep out of its
//!   reach are playlists and settings ([`Scope::Personal`]) and other people's players ([`Scope::Control`], Home Assistant).
//! - Sonarr, Radarr and upload scripts bring files and tell the server of them: [`Scope::Upload`], [`Scope::Scan`].
//! - What edits is told from what removes: [`Scope::Metadata`], [`Scope::Delete`].
//! - [`Scope::Manage`] is the rest, and whatever nobody has looked at: a route that is in no table is in no narrower scope.
//! - [`Scope::Admin`] opens the deny lists (`product.md`, "Defaults are safe").
//!
//! A scope takes away, it never gives: the media server judges the account as ever.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One right, and the class of routes that needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Scope {
    /// Reading what there is: libraries, items, searches, the account's own progress and lists.
    Browse,
    /// Reading what is going on: sessions, users, counts, statistics, tasks.
    Status,
    /// Playing and reading: media bytes, playlists of segments, subtitles, the negotiation of playback.
    Stream,
    /// Files as they are.
    Download,
    /// Writing the account's positions, marks, ratings and bookmarks.
    Progress,
    /// Writing the account's own things: playlists, collections, display settings, its picture.
    Personal,
    /// Steering other players: remote control, messages, watching together.
    Control,
    /// Sockets, which tell of everything as it happens.
    Events,
    /// Bringing new things: uploads, podcasts and their episodes.
    Upload,
    /// Having the server look for new files.
    Scan,
    /// Changing what is known of items, and their pictures.
    Metadata,
    /// Removing items and files.
    Delete,
    /// Everything else, and every route that is in no table.
    Manage,
    /// Routes that mint, list, reveal or change credentials of the media server, or rule the server.
    Admin,
}

/// A name that no scope has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no scope {0:?}; there is: {names}", names = Scopes::ALL.listed())]
pub struct UnknownScope(pub String);

impl Scope {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 14] = [
        Self::Browse,
        Self::Status,
        Self::Stream,
        Self::Download,
        Self::Progress,
        Self::Personal,
        Self::Control,
        Self::Events,
        Self::Upload,
        Self::Scan,
        Self::Metadata,
        Self::Delete,
        Self::Manage,
        Self::Admin,
    ];

    /// Its name, as operators write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Browse => "browse",
            Self::Status => "status",
            Self::Stream => "stream",
            Self::Download => "download",
            Self::Progress => "progress",
            Self::Personal => "personal",
            Self::Control => "control",
            Self::Events => "events",
            Self::Upload => "upload",
            Self::Scan => "scan",
            Self::Metadata => "metadata",
            Self::Delete => "delete",
            Self::Manage => "manage",
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL.into_iter().find(|scope| scope.name() == text).ok_or_else(|| UnknownScope(text.to_owned()))
    }
}

/// A set of scopes, one bit each: those that a key has, or those that a route needs. In JSON a list of names.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u16);

impl Scopes {
    /// None.
    pub const NONE: Self = Self(0);
    /// Every one.
    pub const ALL: Self = Self((1 << Scope::ALL.len()) - 1);
    /// What a key has unless its maker says otherwise: all that its account may do, but for the deny lists.
    pub const FULL: Self = Self(Self::ALL.0 & !Scope::Admin.bit());

    /// One alone.
    pub const fn of(scope: Scope) -> Self {
        Self(scope.bit())
    }

    /// Those of a list.
    pub const fn among(scopes: &[Scope]) -> Self {
        let (mut bits, mut place) = (0, 0);
        while place < scopes.len() {
            bits |= scopes[place].bit();
            place += 1;
        }
        Self(bits)
    }

    /// Whether a scope is in it.
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in one of them.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in it and not in another.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes, in the order of [`Scope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    /// The names of the scopes.
    pub fn names(self) -> Vec<String> {
        self.iter().map(|scope| scope.name().to_owned()).collect()
    }

    /// The names in one text: `browse, stream`.
    pub fn listed(self) -> String {
        self.names().join(", ")
    }

    /// Reads names, however often each stands there.
    ///
    /// # Errors
    /// [`UnknownScope`] for the first name that no scope has.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self, UnknownScope> {
        names.iter().map(|name| name.as_ref().parse()).collect()
    }

    /// As a number, for the index.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// From such a number; `None` if it has bits that no scope has: another keygate wrote it, and to guess at rights is to give them.
    pub const fn from_bits(bits: u16) -> Option<Self> {
        if bits & !Self::ALL.0 == 0 { Some(Self(bits)) } else { None }
    }

    /// The scopes among the lower 16 bits of a number made by [`Scopes::bits`].
    pub(crate) const fn from_word(word: u64) -> Self {
        Self(word as u16 & Self::ALL.0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl fmt::Debug for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Scopes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(Scope::name))
    }
}

impl<'de> Deserialize<'de> for Scopes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&Vec::<String>::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_has_a_name_and_a_bit_of_its_own_and_the_error_lists_them_all() {
        let mut seen = 0;
        for scope in Scope::ALL {
            assert_eq!(scope.name().parse(), Ok(scope));
            assert_eq!(seen & scope.bit(), 0, "{scope}");
            assert!(UnknownScope("x".to_owned()).to_string().contains(scope.name()));
            seen |= scope.bit();
        }
        assert_eq!(Scopes::ALL.bits(), seen);
        assert_eq!(Scopes::ALL.without(Scopes::FULL), Scopes::of(Scope::Admin));
    }

    #[test]
    fn a_set_round_trips_as_names_and_as_bits() {
        let some = Scopes::among(&[Scope::Stream, Scope::Browse]);
        assert_eq!(serde_json::to_string(&some).unwrap(), r#"["browse","stream"]"#);
        assert_eq!(serde_json::to_string(&Scopes::NONE).unwrap(), "[]");
        assert_eq!(serde_json::from_str::<Scopes>(r#"["stream","browse","stream"]"#).unwrap(), some);
        assert_eq!(Scopes::from_bits(some.bits()), Some(some));
        assert_eq!(Scopes::from_word(u64::from(some.bits()) | u64::MAX << 16), some);
        assert!(some.contains(Scope::Browse) && !some.contains(Scope::Admin));
    }

    #[test]
    fn a_scope_that_nobody_knows_is_refused_by_name_and_by_bit() {
        for name in ["Admin", "ADMIN", "", "administrator", "admin "] {
            assert_eq!(Scopes::parse(&["admin", name]), Err(UnknownScope(name.to_owned())));
        }
        let error = Scopes::parse(&["read"]).unwrap_err().to_string();
        assert!(error.starts_with(r#"there is no scope "read"; there is: browse, status, stream, "#), "{error}");
        assert!(serde_json::from_str::<Scopes>(r#"["root"]"#).is_err());
        assert_eq!(Scopes::from_bits(0x8000), None);
    }

    #[test]
    fn what_is_in_both_is_all_that_stays() {
        let (some, other) = (Scopes::among(&[Scope::Browse, Scope::Stream]), Scopes::among(&[Scope::Stream, Scope::Admin]));
        assert_eq!(some.and(other), Scopes::of(Scope::Stream));
        assert_eq!(some.without(other), Scopes::of(Scope::Browse));
        assert_eq!(some.or(other), Scopes::among(&[Scope::Browse, Scope::Stream, Scope::Admin]));
        assert!(some.and(Scopes::NONE).is_empty());
    }
}
