//! The one redactor: what a log line or an error prints of a URL, an upstream's error text or a header goes through here.
//!
//! Secrets of keygate's own are kept out of texts by type ([`crate::secret::Secret`]). This is for texts of others, in which a
//! credential may stand anywhere: they are printed with credential-looking parts replaced by `***`, control characters escaped, and
//! cut to a length that no log minds. It errs on the side of hiding too much.

use std::fmt::{self, Write};

/// Characters of a text that are printed at most.
const MAX_CHARACTERS: usize = 1024;

/// Names whose value is hidden wherever `name=value`, `name: value` or `"name":"value"` stands. Lower case.
const NAMES: [&str; 24] = [
    "api_key",
    "apikey",
    "x-emby-token",
    "x-mediabrowser-token",
    "x-emby-authorization",
    "authorization",
    "proxy-authorization",
    "cookie",
    "set-cookie",
    "token",
    "access_token",
    "accesstoken",
    "refresh_token",
    "refreshtoken",
    "x-refresh-token",
    "settoken",
    "ticket",
    "secret",
    "client_secret",
    "pw",
    "pwd",
    "password",
    "passwd",
    "passphrase",
];

/// Names whose value is hidden to the end of the line: it has words of its own.
const WHOLE_LINE: [&str; 5] = ["authorization", "proxy-authorization", "x-emby-authorization", "cookie", "set-cookie"];

/// Schemes that are followed by a credential.
const SCHEMES: [&str; 2] = ["bearer", "basic"];

/// Prints a text without what looks like a credential.
///
/// ```
/// use keygate::redact::Redacted;
/// assert_eq!(Redacted("GET /x?api_key=abc&a=1").to_string(), "GET /x?api_key=***&a=1");
/// ```
#[derive(Clone, Copy)]
pub struct Redacted<'a>(pub &'a str);

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_harmless(self.0) { f.write_str(self.0) } else { self.by_words(f) }
    }
}

impl Redacted<'_> {
    fn by_words(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = MAX_CHARACTERS;
        let mut rest = self.0;
        let mut name = "";
        while !rest.is_empty() {
            let (word, after) = next_word(rest);
            let hidden = hidden_length(word, name, rest);
            if hidden > 0 {
                print(f, "***", &mut room)?;
                rest = &rest[hidden..];
                name = "";
                continue;
            }
            print(f, word, &mut room)?;
            name = if is_word(word) { word } else { name_before(name, word) };
            rest = after;
            if room == 0 {
                return f.write_str("…");
            }
        }
        Ok(())
    }
}

/// Beginnings of keys, tickets and JSON web tokens. Lower case.
const BEGINNINGS: [&[u8; 3]; 3] = [b"kg_", b"kgt", b"eyj"];

/// Whether it is plain to see that there is nothing to hide, as in most paths: only slashes stand between the words, which bind no value to
/// a name, and no word begins a credential. In loops without branches: each line of the access log has a path.
fn is_harmless(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() | matches!(byte, b'/' | b'_' | b'-' | b'.' | b'~');
    let begins =
        |at: &[u8], beginning: &[u8; 3]| (0..3).fold(true, |all, place| all & (at[place].to_ascii_lowercase() == beginning[place]));
    let any_begins = |at: &[u8]| BEGINNINGS.iter().fold(false, |any, beginning| any | begins(at, beginning));
    text.len() <= MAX_CHARACTERS
        && text.bytes().fold(true, |all, byte| all & is_plain(byte))
        && !text.as_bytes().windows(3).fold(false, |any, at| any | any_begins(at))
}

/// The next run of word characters, or one run of others.
fn next_word(text: &str) -> (&str, &str) {
    let first = text.chars().next().is_some_and(is_word_character);
    text.split_at(text.find(|character| is_word_character(character) != first).unwrap_or(text.len()))
}

fn is_word(text: &str) -> bool {
    text.starts_with(is_word_character)
}

/// Letters of tokens, names and percent-encoded text.
const fn is_word_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.' | '%' | '~') || !character.is_ascii()
}

/// Whether a run of separators still binds the name before it to the value after it (`=`, `": "`, `[]=`, a space after a scheme).
fn name_before<'a>(name: &'a str, separators: &str) -> &'a str {
    let binds = separators.trim_matches(['"', '\'', ' ', '[', ']', '\\']);
    let scheme = separators == " " && SCHEMES.iter().any(|scheme| name.eq_ignore_ascii_case(scheme));
    if matches!(binds, "=" | ":" | "=>") || scheme { name } else { "" }
}

/// How many bytes at the start of `rest`, which begins with `word`, are to be hidden.
fn hidden_length(word: &str, name: &str, rest: &str) -> usize {
    if !is_word(word) {
        return 0;
    }
    let name = plain(name);
    if WHOLE_LINE.contains(&name.as_str()) {
        return rest.find(['\r', '\n']).unwrap_or(rest.len());
    }
    if NAMES.contains(&name.as_str()) || SCHEMES.contains(&name.as_str()) {
        return rest.find(ends_value).unwrap_or(rest.len());
    }
    if looks_like_a_credential(&plain(word)) { rest.find(ends_value).unwrap_or(rest.len()) } else { 0 }
}

const fn ends_value(character: char) -> bool {
    matches!(character, '&' | ' ' | '"' | '\'' | ',' | '#' | '<' | '>' | '}' | '\\') || character.is_ascii_control()
}

/// A name or word in lower case, percent-encoding decoded.
fn plain(text: &str) -> String {
    String::from_utf8_lossy(&crate::carrier::encoding::decoded(text.as_bytes())).to_ascii_lowercase().replace(['[', ']'], "")
}

/// A key, a ticket or a JSON web token anywhere in a word.
fn looks_like_a_credential(word: &str) -> bool {
    word.contains("kg_") || word.contains("kgt_") || word.contains("eyj")
}

/// Prints as many characters as there is room for, control characters escaped.
fn print(f: &mut fmt::Formatter<'_>, text: &str, room: &mut usize) -> fmt::Result {
    for character in text.chars().take(*room) {
        *room -= 1;
        // Also the separators and direction marks with which a text can pretend to be another line.
        let hidden = matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if character.is_control() || hidden {
            write!(f, "{}", character.escape_default())?;
        } else {
            f.write_char(character)?;
        }
    }
    Ok(())
}

/// Prints the path of a request target and never its query: `?…` says that there was one. Of an id that opens media by itself
/// (`/hls/<id>/…`, `/public/session/<id>/…`, the slugs of shares and feeds) nothing is printed.
#[derive(Clone, Copy)]
pub struct LoggedPath<'a>(pub &'a str);

/// Segments after which such an id stands. Lower case.
const BEFORE_IDS: [&str; 4] = ["hls", "session", "share", "feed"];

impl fmt::Debug for LoggedPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for LoggedPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) = match memchr::memchr(b'?', self.0.as_bytes()) {
            Some(place) => (&self.0[..place], "?…"),
            None => (self.0, ""),
        };
        match without_ids(path) {
            Some(path) => Redacted(&path).fmt(f)?,
            None => Redacted(path).fmt(f)?,
        }
        f.write_str(query)
    }
}

/// The path with `***` in the place of such ids; `None`: there are none.
fn without_ids(path: &str) -> Option<String> {
    let is = |segment: &[u8]| BEFORE_IDS.iter().any(|before| segment.eq_ignore_ascii_case(before.as_bytes()));
    let is_before = |segment: &str| if segment.contains('%') { is(plain(segment).as_bytes()) } else { is(segment.as_bytes()) };
    // In bytes where nothing is encoded: each line of the access log has a path.
    let has_one = match memchr::memchr(b'%', path.as_bytes()) {
        Some(_) => path.split('/').any(is_before),
        None => path.as_bytes().split(|byte| *byte == b'/').any(is),
    };
    if !has_one {
        return None;
    }
    let mut text = String::with_capacity(path.len());
    let mut hides_next = false;
    for (place, segment) in path.split('/').enumerate() {
        if place > 0 {
            text.push('/');
        }
        let is_hidden = hides_next && !segment.is_empty();
        text.push_str(if is_hidden { "***" } else { segment });
        // Doubled slashes are merged before they are judged.
        hides_next = is_before(segment) || (hides_next && segment.is_empty());
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn credentials_are_hidden_wherever_they_stand() {
        for (text, shown) in [
            ("/x?api_key=abc&a=1", "/x?api_key=***&a=1"),
            ("/x?a=1&ApiKey=abc", "/x?a=1&ApiKey=***"),
            ("/x?api%5Fkey=abc", "/x?api%5Fkey=***"),
            ("/x?api_key[]=abc&b", "/x?api_key[]=***&b"),
            ("?X-Emby-Token=abc;x", "?X-Emby-Token=***"),
            ("see kg_0123456789_abc now", "see *** now"),
            ("see kgt_abcdef, and", "see ***, and"),
            ("jwt eyJhbGciOi.eyJrZXk.sig!", "jwt ***"),
            (r#"MediaBrowser Client="x", Token="abc", Device="d""#, r#"MediaBrowser Client="x", Token="***", Device="d""#),
            ("Bearer abc+/= and", "Bearer *** and"),
            ("bearer abc", "bearer ***"),
            ("Authorization: Digest a, b\nnext", "Authorization: ***\\nnext"),
            (r#"{"password":"hunter2","user":"ann"}"#, r#"{"password":"***","user":"ann"}"#),
            (r#"{"refreshToken": "abc"}"#, r#"{"refreshToken": "***"}"#),
            ("Pw=hunter2", "Pw=***"),
        ] {
            assert_eq!(Redacted(text).to_string(), shown, "{text}");
        }
    }

    #[test]
    fn usual_texts_stay_as_they_are() {
        for text in ["connection refused (os error 111)", "/Users/12/Items?Fields=a,b", "the token is dead", "café: 200 OK", ""] {
            assert_eq!(Redacted(text).to_string(), text);
        }
    }

    #[test]
    fn a_text_cannot_forge_a_line_or_fill_the_log() {
        assert_eq!(Redacted("a\r\nb\u{1b}[31m\u{202e}").to_string(), "a\\r\\nb\\u{1b}[31m\\u{202e}");
        let long = Redacted(&"a".repeat(5000)).to_string();
        assert_eq!(long.chars().count(), MAX_CHARACTERS + 1);
    }

    #[test]
    fn a_logged_path_never_shows_its_query() {
        assert_eq!(LoggedPath("/x/y?a=secret").to_string(), "/x/y?…");
        assert_eq!(LoggedPath("/x/y").to_string(), "/x/y");
        assert_eq!(LoggedPath("/x/kg_abc/y").to_string(), "/x/***");
    }

    #[test]
    fn a_logged_path_never_shows_an_id_that_opens_media_by_itself() {
        for (path, shown) in [
            ("/hls/0bcd8d8f/output.m3u8", "/hls/***/output.m3u8"),
            ("//audiobookshelf//HLS//0bcd8d8f/a.ts?x=0bcd8d8f", "//audiobookshelf//HLS//***/a.ts?…"),
            ("/%68ls/0bcd8d8f/a.ts", "/%68ls/***/a.ts"),
            ("/public/session/0bcd8d8f/track/1", "/public/session/***/track/1"),
            ("/api/session/0bcd8d8f/close", "/api/session/***/close"),
            ("/hls/hls/0bcd8d8f", "/hls/***/***"),
            ("/public/share/summer/track/1", "/public/share/***/track/1"),
            ("/feed/summer/item/1/media.mp3", "/feed/***/item/1/media.mp3"),
            ("/hls", "/hls"),
            ("/api/sessions/7", "/api/sessions/7"),
        ] {
            assert_eq!(LoggedPath(path).to_string(), shown, "{path}");
        }
    }

    struct ByWords<'a>(&'a str);

    impl fmt::Display for ByWords<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            Redacted(self.0).by_words(f)
        }
    }

    proptest! {
        #[test]
        fn what_is_harmless_at_first_sight_is_harmless_word_by_word(text in "([/a-cA-C0-9._~-]|kg|kgt|kg_|eyJ|KG_|token|pw|bearer|[=: %&]|\\PC){0,24}") {
            prop_assert_eq!(Redacted(&text).to_string(), ByWords(&text).to_string());
        }

        #[test]
        fn no_key_text_survives(before in "\\PC{0,12}", after in "[ &\",]\\PC{0,12}", name in "(api_key|Token|password|X-Emby-Token)=") {
            let shown = Redacted(&format!("{before}kg_SECRETSECRET{after}")).to_string();
            prop_assert!(!shown.contains("SECRET"), "{}", shown);
            let shown = Redacted(&format!("{before}&{name}SECRETSECRET{after}")).to_string();
            prop_assert!(!shown.contains("SECRET"), "{}", shown);
        }
    }
}
