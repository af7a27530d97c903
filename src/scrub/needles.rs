//! A few short texts that announce something: names of fields that carry a credential, the beginning of a JWT, the upstream's origins.

use std::sync::LazyLock;

use aho_corasick::Span;
use aho_corasick::packed::{MatchKind, Searcher};
use memchr::memmem;

use super::Text;
use crate::upstream::Kind;

/// What a needle announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needle {
    /// The name of a JSON field whose string is a credential.
    Field,
    /// The name of Audiobookshelf's `isOldToken`.
    OldToken,
    /// The start tag of an XML element whose text is a credential.
    Element,
    /// Perhaps a JWT.
    Jwt,
    /// One of the upstream's own origins.
    Origin,
}

/// Needles, compiled.
#[derive(Debug)]
pub(super) struct Needles {
    needles: Vec<(String, Needle)>,
    longest: usize,
    /// `None` on processors without the instructions for it.
    search: Option<Searcher>,
}

impl Needles {
    pub(super) fn new(needles: Vec<(String, Needle)>) -> Self {
        let mut builder = aho_corasick::packed::Config::new().match_kind(MatchKind::LeftmostFirst).builder();
        let search = builder.extend(needles.iter().map(|(text, _)| text)).build();
        let longest = needles.iter().map(|(text, _)| text.len()).max().unwrap_or_default();
        Self { needles, longest, search }
    }

    /// What announces a credential in a text of a kind of upstream.
    pub(super) fn of(kind: Kind, text: Text) -> &'static Self {
        static AUDIOBOOKSHELF_JSON: LazyLock<Needles> = LazyLock::new(|| {
            let mut needles = fields(&["token", "accessToken", "refreshToken", "pash", "apiKey"]);
            needles.extend([("\"isOldToken\"".to_owned(), Needle::OldToken), ("eyJ".to_owned(), Needle::Jwt)]);
            Needles::new(needles)
        });
        static AUDIOBOOKSHELF: LazyLock<Needles> = LazyLock::new(|| Needles::new(vec![("eyJ".to_owned(), Needle::Jwt)]));
        // Emby and Jellyfin write names in camel case where `Accept` has `profile="CamelCase"`.
        static MEDIABROWSER_JSON: LazyLock<Needles> = LazyLock::new(|| Needles::new(fields(&["AccessToken", "accessToken"])));
        static MEDIABROWSER_XML: LazyLock<Needles> = LazyLock::new(|| {
            let tags = ["<AccessToken>", "<accessToken>", ":AccessToken>", ":accessToken>"];
            Needles::new(tags.map(|tag| (tag.to_owned(), Needle::Element)).into())
        });
        static NONE: LazyLock<Needles> = LazyLock::new(|| Needles::new(Vec::new()));
        match (kind, text) {
            (Kind::Audiobookshelf, Text::Json) => &AUDIOBOOKSHELF_JSON,
            (Kind::Audiobookshelf, _) => &AUDIOBOOKSHELF,
            (Kind::Emby | Kind::Jellyfin, Text::Json) => &MEDIABROWSER_JSON,
            (Kind::Emby | Kind::Jellyfin, Text::Xml) => &MEDIABROWSER_XML,
            (Kind::Emby | Kind::Jellyfin, Text::Playlist | Text::Plain) => &NONE,
        }
    }

    /// The first needle in `text` at `from` or after it: where it begins and ends.
    pub(super) fn find(&self, text: &[u8], from: usize) -> Option<(usize, usize, Needle)> {
        let rest = text.get(from..).filter(|_| !self.needles.is_empty())?;
        let Some(search) = &self.search else {
            let each = self
                .needles
                .iter()
                .filter_map(|(needle, what)| memmem::find(rest, needle.as_bytes()).map(|at| (from + at, from + at + needle.len(), *what)));
            return each.min_by_key(|(start, ..)| *start);
        };
        let found = search.find_in(text, Span::from(from..text.len()))?;
        Some((found.start(), found.end(), self.needles.get(found.pattern().as_usize())?.1))
    }

    /// Length of the longest needle in bytes.
    pub(super) const fn longest(&self) -> usize {
        self.longest
    }

    /// Where the longest tail of `text` begins, at `from` or after it, that a needle begins with and that is not a whole one; the length
    /// of `text` if none does.
    pub(super) fn open(&self, text: &[u8], from: usize) -> usize {
        let from = from.max(text.len().saturating_sub(self.longest.saturating_sub(1)));
        let is_open = |tail: &[u8]| self.needles.iter().any(|(needle, _)| needle.len() > tail.len() && needle.as_bytes().starts_with(tail));
        (from..text.len()).find(|&start| is_open(&text[start..])).unwrap_or(text.len())
    }
}

fn fields(names: &[&str]) -> Vec<(String, Needle)> {
    names.iter().map(|name| (format!("\"{name}\""), Needle::Field)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_search_and_the_plain_one_find_the_same() {
        let text = br#"{"path":"/x","token" : "eyJ","pash":1,"isOldToken":true,"apiKey":{"apiKey":"x"}}"#;
        let quick = Needles::of(Kind::Audiobookshelf, Text::Json);
        let plain = Needles { needles: quick.needles.clone(), longest: quick.longest, search: None };
        let mut from = 0;
        let mut count = 0;
        while let Some((start, end, what)) = plain.find(text, from) {
            assert_eq!(quick.find(text, from), Some((start, end, what)));
            from = start + 1;
            count += 1;
        }
        assert_eq!((quick.find(text, from), count), (None, 6));
        assert_eq!(quick.find(text, 1000), None);
        assert_eq!(Needles::of(Kind::Emby, Text::Plain).find(text, 0), None);
    }

    #[test]
    fn an_open_tail_is_what_a_needle_begins_with() {
        let needles = Needles::of(Kind::Jellyfin, Text::Json);
        for (text, open) in [("abc", 3), ("abc\"", 3), ("abc\"Acc", 3), ("abc\"Acx", 7), ("\"AccessToken", 0), ("\"AccessToken\"", 13 - 1)]
        {
            assert_eq!(needles.open(text.as_bytes(), 0), open, "{text}");
        }
    }
}
