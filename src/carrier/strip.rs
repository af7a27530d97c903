//! Removing headers by name: one pass over the map tells which names of a list are there, and only those are removed.

use http::{HeaderMap, HeaderName};

/// A list of at most 64 header names (each shorter than 64 bytes) in which a name is compared only with those of its length: every
/// header of every request is looked for in several lists, and is in none of most.
pub(crate) struct Names<const N: usize> {
    names: [HeaderName; N],
    /// A bit for the place of each name of a length.
    of_length: [u64; 64],
}

/// A [`Names`] of literals in lower case.
macro_rules! names {
    ($($name:literal),+ $(,)?) => {
        $crate::carrier::strip::Names::new([$(http::HeaderName::from_static($name)),+], [$($name.len()),+])
    };
}
pub(crate) use names;

impl<const N: usize> Names<N> {
    /// For [`names`]. `lengths`: of the names, in bytes.
    pub(crate) const fn new(names: [HeaderName; N], lengths: [usize; N]) -> Self {
        let mut of_length = [0; 64];
        let mut place = 0;
        while place < N {
            of_length[lengths[place]] |= 1 << place;
            place += 1;
        }
        Self { names, of_length }
    }

    /// The place of a name in the list.
    pub(crate) fn place_of(&self, name: &HeaderName) -> Option<usize> {
        let mut rest = *self.of_length.get(name.as_str().len())?;
        while rest != 0 {
            // trailing_zeros of a non-zero u64 is below 64.
            let place = rest.trailing_zeros() as usize;
            if self.names.get(place) == Some(name) {
                return Some(place);
            }
            rest &= rest - 1;
        }
        None
    }

    /// How many they are.
    pub(crate) const fn len(&self) -> usize {
        N
    }

    /// Removes those of the first `count` names that are there.
    pub(crate) fn remove_first(&self, headers: &mut HeaderMap, count: usize) {
        let mut found = Found::default();
        for place in headers.keys().filter_map(|name| self.place_of(name)).filter(|&place| place < count) {
            found.note(place);
        }
        found.remove_from(headers, self);
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &HeaderName> {
        self.names.iter()
    }
}

/// Which names of a list were found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found(u64);

impl Found {
    /// Notes the name at this place of the list; whether it was there already.
    pub(crate) const fn note(&mut self, place: usize) -> bool {
        let before = self.0;
        self.0 |= 1 << place;
        before == self.0
    }

    /// Removes what was noted.
    pub(crate) fn remove_from<const N: usize>(self, headers: &mut HeaderMap, names: &Names<N>) {
        let mut rest = self.0;
        while rest != 0 {
            // trailing_zeros of a non-zero u64 is below 64.
            if let Some(name) = names.names.get(rest.trailing_zeros() as usize) {
                headers.remove(name);
            }
            rest &= rest - 1;
        }
    }
}

/// The form in which a careless server may read a header name: `_` and `.` are dashes. `None`: the name is plain.
///
/// Evidence: oauth2-proxy CVE-2025-64484, Traefik CVE-2026-33433.
pub(crate) fn disguised(name: &str) -> Option<String> {
    is_odd(name).then(|| name.replace(['_', '.'], "-"))
}

/// Whether a header name holds `_` or `.`.
pub(crate) fn is_odd(name: &str) -> bool {
    name.bytes().fold(false, |odd, byte| odd | (byte == b'_') | (byte == b'.'))
}
