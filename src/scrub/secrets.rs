//! What is known of one upstream: its credentials in all usual spellings, and its origins.

use std::collections::BTreeSet;
use std::fmt;

use super::needles::{Needle, Needles};
use super::values::Values;
use super::{jwt, spelling};
use crate::secret::Secret;
use crate::upstream::Kind;

/// All credentials of one upstream that keygate knows, and the upstream's own origins. Made anew when sessions change; the table in it
/// takes 64 KiB.
pub struct Secrets {
    pub(super) kind: Kind,
    values: Vec<Secret<String>>,
    pub(super) search: Option<Values>,
    pub(super) origins: Needles,
    origin_texts: Vec<String>,
    /// Letters of credentials: where an escape stands for one of them, a credential may hide.
    pub(super) alphabet: Box<[bool; 256]>,
    longest: usize,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("kind", &self.kind).field("search", &self.search).finish_non_exhaustive()
    }
}

impl Secrets {
    /// Compiles. Values shorter than eight bytes are not looked for. `origins`: the upstream's own origins as it may write them into URLs
    /// (`http://127.0.0.1:8096`), without a slash at the end.
    pub fn new<'a>(kind: Kind, values: impl IntoIterator<Item = &'a Secret<String>>, origins: &[String]) -> Self {
        // Audiobookshelf's JWTs are known by their shape, so that there is nothing to look up.
        let is_searched = |value: &&Secret<String>| !(has_jwts(kind) && jwt::is_one(value.expose().as_bytes()));
        let values: Vec<_> = values.into_iter().filter(is_searched).cloned().collect();
        let spelled = |(number, value): (usize, &Secret<String>)| spelling::all(value.expose()).into_iter().map(move |text| (text, number));
        let search = Values::new(values.iter().enumerate().flat_map(spelled));
        let origin_texts: Vec<_> = origins.iter().filter(|origin| !origin.is_empty()).cloned().collect();
        // Newtonsoft and PHP write a slash as `\/` on request; the servers themselves do not.
        let spelled: BTreeSet<_> = origin_texts.iter().flat_map(|origin| [origin.clone(), origin.replace('/', "\\/")]).collect();
        let alphabet = alphabet(kind, search.as_ref());
        let longest = search.as_ref().map_or(0, Values::longest);
        // Backwards: of two that begin alike the longer one is tried first.
        let origins = Needles::new(spelled.into_iter().rev().map(|text| (text, Needle::Origin)).collect());
        Self { kind, values, search, origins, origin_texts, alphabet, longest }
    }

    /// Which kind of upstream.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The upstream's own origins.
    pub(super) fn origins(&self) -> &[String] {
        &self.origin_texts
    }

    /// The value of a number, as [`Values`] tells it.
    pub(super) fn value(&self, number: usize) -> &str {
        self.values.get(number).map_or("", |value| value.expose())
    }

    /// Whether everything of the shape of a JWT is a credential.
    pub(super) const fn has_jwts(&self) -> bool {
        has_jwts(self.kind)
    }

    /// Length of the longest spelling of a value in bytes.
    pub(super) const fn longest(&self) -> usize {
        self.longest
    }

    /// Lengths of all spellings of a value.
    pub(super) fn lengths(&self, value: &str) -> impl Iterator<Item = usize> {
        let numbers = self.values.iter().enumerate().filter(move |(_, known)| known.expose() == value).map(|(number, _)| number);
        numbers.flat_map(|number| self.search.iter().flat_map(move |search| search.lengths(number)))
    }
}

const fn has_jwts(kind: Kind) -> bool {
    matches!(kind, Kind::Audiobookshelf)
}

fn alphabet(kind: Kind, search: Option<&Values>) -> Box<[bool; 256]> {
    let mut alphabet = Box::new([false; 256]);
    for byte in search.into_iter().flat_map(Values::alphabet) {
        alphabet[usize::from(byte)] = true;
    }
    if has_jwts(kind) {
        for byte in (0..=u8::MAX).filter(|byte| jwt::is_part(*byte)) {
            alphabet[usize::from(byte)] = true;
        }
    }
    alphabet
}
