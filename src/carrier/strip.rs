//! Removing headers by name: one pass over the map tells which names of a list are there, and only those are removed.

use http::{HeaderMap, HeaderName};

/// Which names of a list were found; the list has at most 64 of them.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Found(u64);

impl Found {
    /// Notes the name at this place of the list; whether it was there already.
    pub(crate) const fn note(&mut self, place: usize) -> bool {
        let before = self.0;
        self.0 |= 1 << place;
        before == self.0
    }

    /// Removes what was noted.
    pub(crate) fn remove_from(self, headers: &mut HeaderMap, names: &[HeaderName]) {
        let mut rest = self.0;
        while rest != 0 {
            // trailing_zeros of a non-zero u64 is below 64.
            if let Some(name) = names.get(rest.trailing_zeros() as usize) {
                headers.remove(name);
            }
            rest &= rest - 1;
        }
    }
}

/// The place of a name in a list.
pub(crate) fn place_of(name: &HeaderName, names: &[HeaderName]) -> Option<usize> {
    let name = name.as_str();
    names.iter().position(|listed| listed.as_str() == name)
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
