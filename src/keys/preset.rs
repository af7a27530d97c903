//! Sets of scopes that people recognise.

use std::fmt;
use std::str::FromStr;

use crate::keys::scope::Scope::{Browse, Download, Events, Progress, Scan, Status, Stream, Upload};
use crate::keys::{Scope, Scopes};

/// A named set of scopes. A key stores the set; which preset it is, is found out from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// All that the account may do, but for the deny lists: what a key has unless its maker says otherwise.
    Full,
    /// Looking and playing; nothing is written.
    ReadOnly,
    /// Media alone, for players that are given a link.
    StreamOnly,
    /// Positions, marks and bookmarks, and what must be read to set them.
    ProgressSync,
    /// What there is and what is going on.
    Dashboard,
    /// Bringing files, and having the server look for them.
    Upload,
    /// Everything, the deny lists too.
    Admin,
}

/// A name that no preset has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no preset {0:?}; there is: {names}", names = Preset::ALL.map(Preset::name).join(", "))]
pub struct UnknownPreset(pub String);

impl Preset {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 7] =
        [Self::Full, Self::ReadOnly, Self::StreamOnly, Self::ProgressSync, Self::Dashboard, Self::Upload, Self::Admin];

    /// Its name, as operators write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::ReadOnly => "read-only",
            Self::StreamOnly => "stream-only",
            Self::ProgressSync => "progress-sync",
            Self::Dashboard => "dashboard",
            Self::Upload => "upload",
            Self::Admin => "admin",
        }
    }

    /// What is in it.
    pub const fn scopes(self) -> Scopes {
        const READ_ONLY: &[Scope] = &[Browse, Status, Stream, Download, Events];
        match self {
            Self::Full => Scopes::FULL,
            Self::ReadOnly => Scopes::among(READ_ONLY),
            Self::StreamOnly => Scopes::of(Stream),
            Self::ProgressSync => Scopes::among(&[Browse, Progress]),
            Self::Dashboard => Scopes::among(&[Browse, Status]),
            Self::Upload => Scopes::among(&[Browse, Upload, Scan]),
            Self::Admin => Scopes::ALL,
        }
    }

    /// The preset that is exactly this set.
    pub fn of(scopes: Scopes) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.scopes() == scopes)
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(text: &str) -> Result<Self, UnknownPreset> {
        Self::ALL.into_iter().find(|preset| preset.name() == text).ok_or_else(|| UnknownPreset(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_known_by_its_name_and_by_its_set() {
        for preset in Preset::ALL {
            assert_eq!(preset.name().parse(), Ok(preset));
            assert_eq!(Preset::of(preset.scopes()), Some(preset));
            assert!(UnknownPreset("x".to_owned()).to_string().contains(preset.name()));
            assert!(!preset.scopes().is_empty());
        }
        assert_eq!(Preset::of(Scopes::NONE), None);
        assert_eq!("Full".parse::<Preset>(), Err(UnknownPreset("Full".to_owned())));
    }

    #[test]
    fn only_admin_has_admin_and_what_nobody_has_looked_at_is_for_full_alone() {
        for preset in Preset::ALL {
            assert_eq!(preset.scopes().contains(Scope::Admin), preset == Preset::Admin, "{preset}");
            assert_eq!(preset.scopes().contains(Scope::Manage), matches!(preset, Preset::Full | Preset::Admin), "{preset}");
        }
    }

    #[test]
    fn what_is_called_read_only_writes_nothing() {
        let writing = [Progress, Scope::Personal, Scope::Control, Upload, Scan, Scope::Metadata, Scope::Delete];
        for preset in [Preset::ReadOnly, Preset::StreamOnly, Preset::Dashboard] {
            assert!(preset.scopes().and(Scopes::among(&writing)).is_empty(), "{preset}");
        }
    }
}
