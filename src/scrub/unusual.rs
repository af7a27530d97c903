//! Looks for credentials that only a decoder sees: letters and digits that are escaped though no encoder escapes them.
//!
//! Nearly no text has such escapes; where one has, all of it that is at hand is decoded and searched. One layer of escapes is taken off.

use memchr::{memchr2_iter, memchr3_iter};

use super::secrets::Secrets;
use super::{Leak, Text, jwt};

/// What stands at a percent sign, a backslash or an ampersand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    /// An escape of one ASCII character.
    Whole(u8, usize),
    /// The beginning of one, at the end of the text.
    Cut,
    /// Something else.
    None,
}

/// How much of a text can be scrubbed now, without tearing an escape or a credential that is spelled with escapes.
///
/// # Errors
/// [`Leak::Spelling`] if there is such a credential.
pub(super) fn check(secrets: &Secrets, form: Text, text: &[u8], last: bool) -> Result<usize, Leak> {
    let mut whole = text.len();
    let is_letter = |at: usize, whole: &mut usize| match escape(text, at) {
        Escape::Whole(byte, _) => secrets.alphabet[usize::from(byte)],
        Escape::Cut => {
            *whole = at.min(*whole);
            false
        }
        Escape::None => false,
    };
    let found = match form {
        Text::Xml | Text::Plain => memchr3_iter(b'%', b'\\', b'&', text).any(|at| is_letter(at, &mut whole)),
        Text::Json | Text::Playlist => memchr2_iter(b'%', b'\\', text).any(|at| is_letter(at, &mut whole)),
    };
    if found {
        whole = Decoded::new(text).check(secrets)?;
    }
    Ok(if last { text.len() } else { whole })
}

/// A text with one layer of escapes taken off.
struct Decoded<'t> {
    raw: &'t [u8],
    text: Vec<u8>,
    /// Where each byte stands in the raw text; one more for the end.
    places: Vec<usize>,
    /// Where an escape is cut off by the end of the text.
    cut: usize,
}

impl<'t> Decoded<'t> {
    fn new(raw: &'t [u8]) -> Self {
        let mut decoded = Self { raw, text: Vec::with_capacity(raw.len()), places: Vec::with_capacity(raw.len() + 1), cut: raw.len() };
        let mut at = 0;
        while let Some(&byte) = raw.get(at) {
            let (byte, width) = match escape(raw, at) {
                Escape::Whole(byte, width) => (byte, width),
                Escape::Cut => {
                    decoded.cut = at;
                    break;
                }
                Escape::None => (byte, 1),
            };
            decoded.text.push(byte);
            decoded.places.push(at);
            at += width;
        }
        decoded.places.push(at);
        decoded
    }

    /// How much of the raw text is not the beginning of a credential.
    fn check(&self, secrets: &Secrets) -> Result<usize, Leak> {
        let mut open = self.text.len();
        if let Some(values) = &secrets.search {
            let mut from = 0;
            while let Some(found) = values.find(&self.text, from) {
                self.refuse(secrets, found.start, found.end)?;
                from = found.start + 1;
            }
            open = values.open(&self.text, from);
        }
        if secrets.has_jwts() {
            for start in memchr::memmem::find_iter(&self.text, b"eyJ") {
                match jwt::head(&self.text, start) {
                    jwt::Head::Whole(end) => self.refuse(secrets, start, end)?,
                    jwt::Head::Open => open = open.min(start),
                    jwt::Head::None(_) => {}
                }
            }
            let tail = (1..=2).rev().find(|&length| self.text.ends_with(&b"eyJ"[..length]));
            open = open.min(self.text.len() - tail.unwrap_or(0));
        }
        Ok(self.places[open].min(self.cut))
    }

    /// Refuses what is spelled with escapes, unless it is spelled as some encoder does it: then it is found as it stands.
    fn refuse(&self, secrets: &Secrets, start: usize, end: usize) -> Result<(), Leak> {
        let raw = &self.raw[self.places[start]..self.places[end]];
        let is_found = secrets.search.as_ref().is_some_and(|values| values.holds(raw));
        if raw.len() == end - start || is_found { Ok(()) } else { Err(Leak::Spelling) }
    }
}

/// What stands at a place: `%41`, `\u0041`, `\/`, `&#65;`, `&#x41;`.
fn escape(text: &[u8], at: usize) -> Escape {
    let rest = &text[at..];
    match rest.first() {
        Some(b'%') => hexadecimal(rest, 1, 2),
        Some(b'\\') => match rest.get(1) {
            None => Escape::Cut,
            Some(b'u') => match b"00".iter().zip(rest.iter().skip(2)).position(|(wanted, byte)| wanted != byte) {
                Some(_) => Escape::None,
                None => hexadecimal(rest, 4, 2),
            },
            Some(&byte @ (b'/' | b'"' | b'\\')) => Escape::Whole(byte, 2),
            Some(_) => Escape::None,
        },
        Some(b'&') => entity(rest),
        _ => Escape::None,
    }
}

/// Digits of an escape, `count` of them at `from`.
fn hexadecimal(rest: &[u8], from: usize, count: usize) -> Escape {
    let digits = rest.get(from..).unwrap_or_default();
    let digits = &digits[..digits.len().min(count)];
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Escape::None;
    }
    if digits.len() < count {
        return Escape::Cut;
    }
    let byte = digits.iter().fold(0, |sum, digit| sum * 16 + char::from(*digit).to_digit(16).unwrap_or_default());
    u8::try_from(byte).map_or(Escape::None, |byte| Escape::Whole(byte, from + count))
}

/// A numeric character reference of at most eight bytes.
fn entity(rest: &[u8]) -> Escape {
    const LONGEST: usize = 8;
    let digits = match rest.get(1) {
        None => return Escape::Cut,
        Some(b'#') => &rest[2..],
        Some(_) => return Escape::None,
    };
    let (digits, radix) = match digits.first() {
        Some(b'x' | b'X') => (&digits[1..], 16),
        _ => (digits, 10),
    };
    let count = digits.iter().take(LONGEST).take_while(|digit| char::from(**digit).is_digit(radix)).count();
    let width = rest.len() - digits.len() + count + 1;
    match digits.get(count) {
        None if width <= LONGEST => Escape::Cut,
        Some(b';') if count > 0 && width <= LONGEST => {
            let number = digits[..count].iter().fold(0, |sum, digit| sum * radix + char::from(*digit).to_digit(radix).unwrap_or_default());
            u8::try_from(number).map_or(Escape::None, |byte| Escape::Whole(byte, width))
        }
        _ => Escape::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read() {
        for (text, read) in [
            ("%41", Escape::Whole(b'A', 3)),
            ("%4", Escape::Cut),
            ("%", Escape::Cut),
            ("%4g", Escape::None),
            ("\\u0041", Escape::Whole(b'A', 6)),
            ("\\u004", Escape::Cut),
            ("\\u", Escape::Cut),
            ("\\", Escape::Cut),
            ("\\u4e2d", Escape::None),
            ("\\n", Escape::None),
            ("\\/", Escape::Whole(b'/', 2)),
            ("&#65;", Escape::Whole(b'A', 5)),
            ("&#x41;", Escape::Whole(b'A', 6)),
            ("&#x0041;", Escape::Whole(b'A', 8)),
            ("&#x4", Escape::Cut),
            ("&#", Escape::Cut),
            ("&", Escape::Cut),
            ("&#;", Escape::None),
            ("&#20013;", Escape::None),
            ("&#000000000065;", Escape::None),
            ("&amp;", Escape::None),
        ] {
            assert_eq!(escape(text.as_bytes(), 0), read, "{text}");
        }
    }
}
