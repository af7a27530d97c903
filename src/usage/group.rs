//! Paths in groups: `/api/items/li_8f3…/cover` counts for `/api/items/*/cover`. Nothing that could be an id, a name or a secret stays.

use std::fmt;

/// Longest group, in bytes.
const LONGEST: usize = 48;
/// Segments that are looked at; what follows is one `*`.
const SEGMENTS: usize = 4;
/// Longest word that is taken for a word.
const LONGEST_WORD: usize = 20;

/// The group of a path. Copied, never allocated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Group {
    bytes: [u8; LONGEST],
    len: u8,
}

impl Group {
    /// Of a target as it came; its query does not count.
    pub fn of(target: &str) -> Self {
        // In bytes: asked for each request.
        let target = target.as_bytes();
        let path = target.get(..memchr::memchr2(b'?', b'#', target).unwrap_or(target.len())).unwrap_or_default();
        let mut group = Self { bytes: [0; LONGEST], len: 0 };
        for (number, segment) in path.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty()).enumerate() {
            let is_word = number < SEGMENTS && is_word(segment);
            if !group.push(b"/") || !group.push(if is_word { segment } else { b"*" }) || number >= SEGMENTS {
                break;
            }
        }
        if group.len == 0 {
            group.push(b"/");
        }
        group
    }

    /// In lower case: the servers fold it.
    fn push(&mut self, text: &[u8]) -> bool {
        let start = usize::from(self.len);
        let Some(room) = self.bytes.get_mut(start..start + text.len()) else { return false };
        for (place, byte) in room.iter_mut().zip(text) {
            *place = byte.to_ascii_lowercase();
        }
        self.len += u8::try_from(text.len()).unwrap_or(0);
        true
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        // Words and stars only.
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or("/")
    }
}

/// Letters and hyphens only: ids have digits, secrets and names of files too.
fn is_word(segment: &[u8]) -> bool {
    segment.len() <= LONGEST_WORD && segment.iter().all(|byte| byte.is_ascii_alphabetic() || *byte == b'-')
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_and_all_that_could_be_one_become_a_star() {
        for (target, group) in [
            ("/", "/"),
            ("", "/"),
            ("/api/items/li_8f3a/cover?token=x", "/api/items/*/cover"),
            ("/Items/0a1b/PlaybackInfo", "/items/*/playbackinfo"),
            ("//System//Info/", "/system/info"),
            ("/a/b/c/d/e/f", "/a/b/c/d/*"),
            ("/kg_0123456789_x/api", "/*/api"),
            ("/books/M%C3%BCller.epub", "/books/*"),
            ("/abcdefghijklmnopqrstuvwxyzabcdef/x", "/*/x"),
        ] {
            assert_eq!(Group::of(target).as_str(), group, "{target}");
        }
    }

    proptest! {
        #[test]
        fn a_group_is_short_and_has_letters_hyphens_slashes_and_stars_only(target in ".{0,300}") {
            let group = Group::of(&target);
            prop_assert!((1..=LONGEST).contains(&group.as_str().len()));
            prop_assert!(group.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || b"-/*".contains(&byte)));
        }
    }
}
