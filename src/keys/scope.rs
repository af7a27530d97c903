//! What a key may do beyond what every key may.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One right that a key has or lacks. Every key may do what its account may, but for what a scope is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Routes that mint, list, reveal or change credentials of the media server, or rule the server (`product.md`, "Defaults are safe").
    Admin,
}

/// A name that no scope has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no scope {0:?}; there is: admin")]
pub struct UnknownScope(pub String);

impl Scope {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 1] = [Self::Admin];

    /// Its name, as operators write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
        }
    }

    const fn bit(self) -> u16 {
        match self {
            Self::Admin => 1 << 0,
        }
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

/// The scopes of a key: a set, one bit each. In JSON a list of names.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Scopes(u16);

impl Scopes {
    /// None: what a key has unless its maker says otherwise.
    pub const NONE: Self = Self(0);

    /// How many bits a set takes at most, in [`Scopes::bits`].
    pub const WIDTH: u32 = 5;

    /// Whether a scope is in it.
    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
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
    pub fn from_bits(bits: u16) -> Option<Self> {
        let known = Scope::ALL.into_iter().fold(0, |bits, scope| bits | scope.bit());
        (bits & !known == 0).then_some(Self(bits))
    }

    /// The scopes among the lower [`Scopes::WIDTH`] bits of a number made by [`Scopes::bits`].
    pub(crate) const fn from_word(word: u64) -> Self {
        Self((word & ((1 << Self::WIDTH) - 1)) as u16)
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
            assert!(u32::from(scope.bit()) < 1 << Scopes::WIDTH, "{scope}");
            assert!(UnknownScope("x".to_owned()).to_string().contains(scope.name()));
            seen |= scope.bit();
        }
    }

    #[test]
    fn a_set_round_trips_as_names_and_as_bits() {
        let admin = Scopes::from_iter([Scope::Admin]);
        assert_eq!(serde_json::to_string(&admin).unwrap(), r#"["admin"]"#);
        assert_eq!(serde_json::to_string(&Scopes::NONE).unwrap(), "[]");
        assert_eq!(serde_json::from_str::<Scopes>(r#"["admin","admin"]"#).unwrap(), admin);
        assert_eq!(Scopes::from_bits(admin.bits()), Some(admin));
        assert_eq!(Scopes::from_word(u64::from(admin.bits()) | u64::MAX << Scopes::WIDTH), admin);
        assert!(admin.contains(Scope::Admin) && !Scopes::NONE.contains(Scope::Admin));
    }

    #[test]
    fn a_scope_that_nobody_knows_is_refused_by_name_and_by_bit() {
        for name in ["Admin", "ADMIN", "", "administrator", "admin "] {
            assert_eq!(Scopes::parse(&["admin", name]), Err(UnknownScope(name.to_owned())));
        }
        let error = Scopes::parse(&["upload"]).unwrap_err().to_string();
        assert_eq!(error, r#"there is no scope "upload"; there is: admin"#);
        assert!(serde_json::from_str::<Scopes>(r#"["root"]"#).is_err());
        assert_eq!(Scopes::from_bits(0x8000), None);
    }

    #[test]
    fn what_is_in_both_is_all_that_stays() {
        let admin = Scopes::from_iter([Scope::Admin]);
        assert_eq!(admin.and(admin), admin);
        assert_eq!(admin.and(Scopes::NONE), Scopes::NONE);
        assert_eq!(Scopes::NONE.and(admin), Scopes::NONE);
    }
}
