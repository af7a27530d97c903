//! The path of a request, judged.
//!
//! What is judged here is what is forwarded. Audiobookshelf (Express) and the ASP.NET servers disagree about `/api//users`,
//! `/%61pi/users` and `/api/./users`: some of these reach a handler, some are 404, and nothing but one common form keeps a rule
//! here and a router there from reading two different paths.

use std::borrow::Cow;

/// The path of a request, judged: percent-encoded unreserved characters decoded once, doubled slashes merged, in its own letter
/// case. What is ambiguous never becomes a `Path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path<'a> {
    text: Cow<'a, str>,
}

/// Why a path is refused (400).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmbiguousPath {
    /// It does not begin with a slash.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// `.` or `..` as a segment, in any encoding.
    #[error("the path has a dot segment")]
    DotSegment,
    /// `%2f`, `%5c`, `\`.
    #[error("the path has an encoded slash or a backslash")]
    EncodedSlash,
    /// `;`, which some servers take for a parameter; also percent-encoded.
    #[error("the path has a semicolon")]
    Semicolon,
    /// `%` without two hex digits.
    #[error("the path has a broken percent-encoding")]
    BrokenPercent,
    /// Control characters (also encoded), spaces, bytes above 127, characters that RFC 3986 has no place for.
    #[error("the path has a character that no path may have")]
    Character,
}

impl<'a> Path<'a> {
    /// Judges the path of an origin-form request target (no query). Allocates only when something is to be decoded or merged.
    ///
    /// # Errors
    /// [`AmbiguousPath`].
    pub fn parse(raw: &'a str) -> Result<Self, AmbiguousPath> {
        if !raw.starts_with('/') {
            return Err(AmbiguousPath::NotAbsolute);
        }
        let text = if judge(raw.as_bytes())? { Cow::Owned(canonical(raw)) } else { Cow::Borrowed(raw) };
        if has_dot_segment(&text) {
            return Err(AmbiguousPath::DotSegment);
        }
        Ok(Self { text })
    }

    /// The path as it is forwarded.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether parsing changed the text.
    pub fn is_changed(&self) -> bool {
        matches!(self.text, Cow::Owned(_))
    }

    /// The path below `base_path` (empty, or `/like/this`): taken off once where the path begins with it, as whole segments and
    /// ignoring ASCII case; else the path as it is.
    #[must_use]
    pub fn below(self, base_path: &str) -> Self {
        let rest = match self.text.split_at_checked(base_path.len()) {
            Some((front, rest)) if !front.is_empty() && front.eq_ignore_ascii_case(base_path) => rest,
            _ => return self,
        };
        match self.text {
            _ if rest.is_empty() => Self { text: Cow::Borrowed("/") },
            _ if !rest.starts_with('/') => self,
            Cow::Borrowed(text) => Self { text: Cow::Borrowed(&text[base_path.len()..]) },
            Cow::Owned(mut text) => Self { text: Cow::Owned(text.split_off(base_path.len())) },
        }
    }

    /// The canonical segments for matching, without the first one if it equals one of `base_paths` (ignoring case), and without an
    /// empty last one (one trailing slash). Compare with [`str::eq_ignore_ascii_case`]: case is folded for matching only.
    pub fn segments<'s>(&'s self, base_paths: &'s [&'s str]) -> impl Iterator<Item = &'s str> + Clone {
        let text = self.text.strip_prefix('/').unwrap_or(&self.text);
        let text = text.strip_suffix('/').unwrap_or(text);
        let (first, rest) = text.split_once('/').unwrap_or((text, ""));
        let based = base_paths.iter().any(|base| first.eq_ignore_ascii_case(base.strip_prefix('/').unwrap_or(base)));
        let text = if based { rest } else { text };
        (!text.is_empty()).then(|| text.split('/')).into_iter().flatten()
    }

    /// Whether the path fits a pattern like `/users/{id}/items`, ignoring ASCII case, after at most one leading base path was
    /// taken off. `{…}` stands for one segment, a last `*` for one or more, a last `**` for any number including none.
    pub fn matches(&self, base_paths: &[&str], pattern: &str) -> bool {
        let mut segments = self.segments(base_paths);
        let mut wanted = pattern.split('/').filter(|part| !part.is_empty());
        loop {
            match (wanted.next(), segments.next()) {
                (Some("**"), _) | (None, None) => return true,
                (Some("*"), segment) => return segment.is_some(),
                (Some(part), Some(segment)) if part.starts_with('{') || part.eq_ignore_ascii_case(segment) => {}
                _ => return false,
            }
        }
    }
}

/// Refuses what is ambiguous; says whether something is to be decoded or merged.
fn judge(raw: &[u8]) -> Result<bool, AmbiguousPath> {
    let mut changes = false;
    let mut place = 0;
    while let Some(&byte) = raw.get(place) {
        if byte == b'%' {
            let decoded = hex_pair(raw, place + 1).ok_or(AmbiguousPath::BrokenPercent)?;
            judge_encoded(decoded)?;
            changes |= is_unreserved(decoded);
            place += 3;
            continue;
        }
        if !is_path_character(byte) {
            return Err(why_not(byte));
        }
        changes |= byte == b'/' && raw.get(place + 1) == Some(&b'/');
        place += 1;
    }
    Ok(changes)
}

fn judge_encoded(decoded: u8) -> Result<(), AmbiguousPath> {
    match decoded {
        b'/' | b'\\' => Err(AmbiguousPath::EncodedSlash),
        b';' => Err(AmbiguousPath::Semicolon),
        byte if byte.is_ascii_control() => Err(AmbiguousPath::Character),
        _ => Ok(()),
    }
}

const fn why_not(byte: u8) -> AmbiguousPath {
    match byte {
        b'\\' => AmbiguousPath::EncodedSlash,
        b';' => AmbiguousPath::Semicolon,
        _ => AmbiguousPath::Character,
    }
}

/// RFC 3986, section 3.3, `pchar` and the slash, without the percent sign and without the semicolon.
const fn is_path_character(byte: u8) -> bool {
    is_unreserved(byte) || matches!(byte, b'/' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

/// RFC 3986, section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn hex_pair(text: &[u8], place: usize) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(place)? << 4 | digit(place + 1)?)
}

/// Decodes unreserved characters once and merges slashes. `raw` was judged.
fn canonical(raw: &str) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(character) = rest.chars().next() {
        let decoded = (character == '%').then(|| hex_pair(rest.as_bytes(), 1)).flatten().filter(|&byte| is_unreserved(byte));
        if let Some(byte) = decoded {
            text.push(char::from(byte));
            rest = rest.get(3..).unwrap_or_default();
            continue;
        }
        if character != '/' || !text.ends_with('/') {
            text.push(character);
        }
        rest = &rest[character.len_utf8()..];
    }
    text
}

fn has_dot_segment(path: &str) -> bool {
    path.contains("/.") && path.split('/').any(|segment| matches!(segment, "." | ".."))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(raw: &str) -> Result<String, AmbiguousPath> {
        Path::parse(raw).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn a_plain_path_is_borrowed_and_unchanged() {
        for raw in ["/", "/api/me", "/Users/Public", "/a%20b/%C3%A9", "/a/...", "/x.y/.well-known", "/videos/1/stream.mp4", "/a%2541"] {
            let path = Path::parse(raw).expect(raw);
            assert_eq!(path.as_str(), raw);
            assert!(!path.is_changed());
        }
    }

    #[test]
    fn encoded_letters_are_decoded_once_and_slashes_are_merged() {
        for (raw, canonical) in [
            ("/%61pi/users", "/api/users"),
            ("/api/%75sers", "/api/users"),
            ("//emby//Users/", "/emby/Users/"),
            ("///api/me", "/api/me"),
            ("//evil/x", "/evil/x"),
            ("/%7Euser/%2D%5F", "/~user/-_"),
            ("/a%2Eb", "/a.b"),
        ] {
            assert_eq!(parsed(raw).as_deref(), Ok(canonical), "{raw}");
        }
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        use AmbiguousPath as A;
        for (raw, why) in [
            ("", A::NotAbsolute),
            ("*", A::NotAbsolute),
            ("api", A::NotAbsolute),
            ("/api/./users", A::DotSegment),
            ("/api/x/../users", A::DotSegment),
            ("/..", A::DotSegment),
            ("/%2e%2E/x", A::DotSegment),
            ("/.%2e/x", A::DotSegment),
            ("/a/%2e", A::DotSegment),
            ("//./x", A::DotSegment),
            ("/api/users%2f", A::EncodedSlash),
            ("/api%5Cusers", A::EncodedSlash),
            ("/api\\users", A::EncodedSlash),
            ("/api/users;x=1", A::Semicolon),
            ("/api/users%3Bx=1", A::Semicolon),
            ("/a%", A::BrokenPercent),
            ("/a%4", A::BrokenPercent),
            ("/a%zz", A::BrokenPercent),
            ("/a%+1", A::BrokenPercent),
            ("/%%361", A::BrokenPercent),
            ("/a%00", A::Character),
            ("/a%0d%0a", A::Character),
            ("/a%7f", A::Character),
            ("/a b", A::Character),
            ("/a\u{7f}", A::Character),
            ("/caf\u{e9}", A::Character),
            ("/a?b", A::Character),
            ("/a#b", A::Character),
            ("/a\"b", A::Character),
        ] {
            assert_eq!(parsed(raw), Err(why), "{raw}");
        }
    }

    #[test]
    fn a_base_path_is_found_as_whole_segments_in_any_letter_case() {
        for (path, base_path, below) in [
            ("/api/me", "", "/api/me"),
            ("//api/me", "", "/api/me"),
            ("/media/api/me", "/media", "/api/me"),
            ("/MEDIA/api/", "/media", "/api/"),
            ("/media", "/media", "/"),
            ("/media/", "/media", "/"),
            ("//media//media/x", "/media", "/media/x"),
            ("/home/media/x", "/home/media", "/x"),
            ("/mediabrowser/x", "/media", "/mediabrowser/x"),
            ("/home", "/home/media", "/home"),
            ("/api/media/x", "/media", "/api/media/x"),
            ("/", "/media", "/"),
        ] {
            assert_eq!(Path::parse(path).expect(path).below(base_path).as_str(), below, "{path} {base_path}");
        }
        assert!(Path::parse("//x").expect("a path").below("").is_changed(), "what was merged is not forgotten");
    }

    #[test]
    fn segments_leave_out_one_base_path_and_one_trailing_slash() {
        let segments = |raw: &str| Path::parse(raw).expect(raw).segments(&["emby", "/mediabrowser"]).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(segments("/"), Vec::<String>::new());
        assert_eq!(segments("/emby"), Vec::<String>::new());
        assert_eq!(segments("/EMBY/Users/"), ["Users"]);
        assert_eq!(segments("/mediabrowser/emby/x"), ["emby", "x"]);
        assert_eq!(segments("/embyX/Users"), ["embyX", "Users"]);
    }

    #[test]
    fn patterns_match_without_regard_to_case_and_never_in_part() {
        for (path, pattern, fits) in [
            ("/emby/USERS/12/Items/", "/users/{id}/items", true),
            ("/users/12", "/users/{id}/items", false),
            ("/users/12/items/3", "/users/{id}/items", false),
            ("/users", "/users/{id}", false),
            ("/auth/openid/callback", "/auth/*", true),
            ("/auth", "/auth/*", false),
            ("/auth", "/auth/**", true),
            ("/authx", "/auth/**", false),
            ("/", "/", true),
            ("/x", "/", false),
            ("/emby/emby/users", "/users", false),
        ] {
            assert_eq!(Path::parse(path).expect(path).matches(&["emby"], pattern), fits, "{path} {pattern}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent_and_its_output_has_nothing_that_must_be_refused(raw in "/([a-z.%;/\\\\]|%[0-9a-fA-F]{2}|%2[eEfF5]|//|\\PC){0,12}") {
            if let Ok(path) = Path::parse(&raw) {
                let text = path.as_str();
                let again = Path::parse(text).expect("its own output");
                prop_assert_eq!(again.as_str(), text);
                prop_assert!(!again.is_changed());
                let lower = text.to_ascii_lowercase();
                for bad in ["//", ";", "\\", "%2f", "%5c", "%00", "%3b", "%2e", "%61", "%7e", "/./", "/../"] {
                    prop_assert!(!lower.contains(bad), "{} has {}", text, bad);
                }
                prop_assert!(text.is_ascii() && !text.ends_with("/..") && !text.ends_with("/."));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(raw in "\\PC*", pattern in "\\PC*") {
            if let Ok(path) = Path::parse(&raw) {
                let _ = path.matches(&["emby"], &pattern);
            }
        }
    }
}
