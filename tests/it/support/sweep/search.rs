//! Finds secrets in bytes that come piece by piece, however they are spelled.
//!
//! The suite streams gigabytes through a build without optimisation, so not every byte is looked at: each secret is known by its last eight
//! bytes, and one look at four bytes in every five meets one of them.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// What is shorter is no secret that can be told from other text.
pub(crate) const SHORTEST: usize = 8;
/// Bytes of the end of a piece that are looked at again with the next one: a secret with every character escaped is no longer.
pub(crate) const OVERLAP: usize = 4096;
/// Bytes in one look.
const GRAM: usize = 4;
/// Bytes from one look to the next: of the eight last bytes of a secret, four are met for certain.
const STEP: usize = SHORTEST - GRAM + 1;

/// One spelling of a secret.
struct Needle {
    bytes: Vec<u8>,
    secret: usize,
}

/// Secrets to look for.
#[derive(Default)]
pub(crate) struct Index {
    secrets: Vec<String>,
    needles: Vec<Needle>,
    /// Where a gram may stand: which needle, and how many bytes the gram begins after the needle does.
    grams: HashMap<u32, Vec<(usize, usize)>>,
    /// One bit for each pattern of sixteen bits that some gram has.
    sieve: Vec<u64>,
}

/// A secret that was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Its text.
    pub(crate) secret: String,
    /// What stood before it.
    pub(crate) before: String,
}

impl Index {
    /// Looks for this one too. What is too short to be told from other text is left out.
    pub(crate) fn add(&mut self, secret: &str) {
        if secret.len() < SHORTEST || self.holds(secret) {
            return;
        }
        self.secrets.push(secret.to_owned());
        for spelling in spellings(secret) {
            self.add_needle(spelling);
        }
    }

    pub(crate) fn holds(&self, secret: &str) -> bool {
        self.secrets.iter().any(|known| known == secret)
    }

    fn add_needle(&mut self, bytes: Vec<u8>) {
        let number = self.needles.len();
        self.sieve.resize(1 << 10, 0);
        for begin in bytes.len() - SHORTEST..=bytes.len() - GRAM {
            let gram = gram(&bytes, begin);
            self.sieve[bucket(gram) >> 6] |= 1 << (bucket(gram) & 63);
            self.grams.entry(gram).or_default().push((number, begin));
        }
        self.needles.push(Needle { bytes, secret: self.secrets.len() - 1 });
    }

    /// All secrets in a text, also those that stand there escaped.
    pub(crate) fn find(&self, text: &[u8]) -> Vec<Hit> {
        let mut hits = Vec::new();
        self.find_plain(text, &mut hits);
        if let Some(plain) = unescaped(text) {
            self.find_plain(&plain, &mut hits);
            if let Some(plain) = unescaped(&plain) {
                self.find_plain(&plain, &mut hits);
            }
        }
        hits
    }

    fn find_plain(&self, text: &[u8], hits: &mut Vec<Hit>) {
        if self.needles.is_empty() {
            return;
        }
        let mut at = 0;
        while at + GRAM <= text.len() {
            let gram = gram(text, at);
            if self.sieve[bucket(gram) >> 6] & (1 << (bucket(gram) & 63)) != 0 {
                self.look_closely(text, at, gram, hits);
            }
            at += STEP;
        }
    }

    fn look_closely(&self, text: &[u8], at: usize, gram: u32, hits: &mut Vec<Hit>) {
        for &(needle, offset) in self.grams.get(&gram).into_iter().flatten() {
            let needle = &self.needles[needle];
            let Some(begin) = at.checked_sub(offset) else { continue };
            if text[begin..].starts_with(&needle.bytes) {
                let before = String::from_utf8_lossy(&text[begin.saturating_sub(60)..begin]).into_owned();
                hits.push(Hit { secret: self.secrets[needle.secret].clone(), before });
            }
        }
    }
}

fn gram(text: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([text[at], text[at + 1], text[at + 2], text[at + 3]])
}

fn bucket(gram: u32) -> usize {
    (gram.wrapping_mul(0x9e37_79b1) >> 16) as usize
}

/// The text itself, and what of it is the same in base 64 whatever stands before and after it.
fn spellings(secret: &str) -> Vec<Vec<u8>> {
    let mut spellings = vec![secret.as_bytes().to_vec()];
    for shift in 0..3 {
        let mut shifted = vec![0; shift];
        shifted.extend_from_slice(secret.as_bytes());
        // Characters in which bits of the neighbours stand are no part of it.
        let (begin, end) = ((shift * 8).div_ceil(6), shifted.len() * 8 / 6);
        for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            let middle = encoded.as_bytes()[begin..end].to_vec();
            if middle.len() >= SHORTEST && !spellings.contains(&middle) {
                spellings.push(middle);
            }
        }
    }
    spellings
}

/// The text with what is escaped in URLs, JSON, JavaScript and XML written out; `None` when nothing is, or when it is no text.
pub(crate) fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let may_be = text.contains(&b'%') || text.contains(&b'\\') || text.contains(&b'&');
    if !may_be || !is_text(text) {
        return None;
    }
    let (mut plain, mut rest, mut changed) = (Vec::with_capacity(text.len()), text, false);
    while let [first, after @ ..] = rest {
        if matches!(first, b'%' | b'\\' | b'&')
            && let Some((byte, length)) = escape(rest)
        {
            plain.push(byte);
            rest = &rest[length..];
            changed = true;
        } else {
            plain.push(*first);
            rest = after;
        }
    }
    changed.then_some(plain)
}

/// Whether bytes are text, as far as some of them tell.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    let strange = bytes.iter().step_by(61).filter(|byte| **byte >= 0x80 || (**byte < 0x20 && !byte.is_ascii_whitespace())).count();
    strange * 61 * 10 <= bytes.len()
}

/// The character that is escaped here, and the length of its escape.
fn escape(text: &[u8]) -> Option<(u8, usize)> {
    let hex = |from: usize, to: usize| u8::from_str_radix(std::str::from_utf8(text.get(from..to)?).ok()?, 16).ok();
    match text {
        [b'%', ..] => Some((hex(1, 3)?, 3)),
        [b'\\', b'u' | b'U', b'0', b'0', ..] => Some((hex(4, 6)?, 6)),
        [b'\\', b'x', ..] => Some((hex(2, 4)?, 4)),
        [b'\\', next @ (b'/' | b'\\' | b'"' | b'\''), ..] => Some((*next, 2)),
        [b'&', b'a', b'm', b'p', b';', ..] => Some((b'&', 5)),
        [b'&', b'#', ..] => {
            let end = text.iter().take(8).position(|byte| *byte == b';')?;
            let digits = std::str::from_utf8(&text[2..end]).ok()?;
            let hex = digits.strip_prefix(['x', 'X']);
            let byte = hex.map_or_else(|| digits.parse().ok(), |hex| u8::from_str_radix(hex, 16).ok())?;
            Some((byte, end + 1))
        }
        _ => None,
    }
}

mod tests {
    use super::*;

    const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOiJhIn0.c2lnbmF0dXJlLW9mLWl0";
    const PASSWORD: &str = "p\"ss/w%rd+&=";

    fn index() -> Index {
        let mut index = Index::default();
        for secret in [TOKEN, PASSWORD, "0123456789abcdef0123456789abcdef", "short"] {
            index.add(secret);
        }
        index
    }

    fn found(text: impl AsRef<[u8]>) -> Vec<String> {
        let mut found: Vec<_> = index().find(text.as_ref()).into_iter().map(|hit| hit.secret).collect();
        found.dedup();
        found
    }

    /// Each byte of a text in some escape.
    fn escaped(text: &str, one: impl Fn(u8) -> String) -> String {
        text.bytes().map(one).collect()
    }

    #[test]
    fn secrets_are_found_at_every_place_in_every_spelling() {
        for secret in [TOKEN, PASSWORD] {
            let json = serde_json::to_string(secret).unwrap();
            for spelled in [
                secret.to_owned(),
                json[1..json.len() - 1].replace('/', "\\/"),
                escaped(secret, |byte| format!("%{byte:02x}")),
                escaped(secret, |byte| format!("%{byte:02X}")),
                escaped(secret, |byte| format!("%25{byte:02X}")),
                escaped(secret, |byte| format!("\\u{byte:04x}")),
                escaped(secret, |byte| format!("\\x{byte:02x}")),
                escaped(secret, |byte| format!("&#x{byte:X};")),
                escaped(secret, |byte| format!("&#{byte};")),
                escaped(secret, |byte| if byte % 2 == 0 { format!("%{byte:02x}") } else { char::from(byte).to_string() }),
            ] {
                for place in 0..12 {
                    let text = format!("{}{spelled}{}", "x".repeat(place), "\"}");
                    assert_eq!(found(&text), [secret], "{text}");
                }
            }
        }
    }

    #[test]
    fn secrets_are_found_in_base_64_whatever_stands_around_them() {
        for secret in [TOKEN, PASSWORD] {
            for before in ["", "a", "al", "ali", "alice:"] {
                for after in ["", "x", "xy", "xyz"] {
                    let text = format!("{before}{secret}{after}");
                    for encoded in [STANDARD_NO_PAD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                        assert_eq!(found(format!("Basic {encoded}==")), [secret], "{text}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for text in [
            "",
            "abc",
            "short",
            &TOKEN[1..],
            &TOKEN[..TOKEN.len() - 1],
            &TOKEN.to_uppercase(),
            "%65%",
            "\\u00",
            "&#12",
            "0123456789abcdef0123456789abcdee",
            "\\u0130\\u0131\\u0132",
        ] {
            assert_eq!(found(text), Vec::<String>::new(), "{text}");
        }
        assert!(Index::default().find(TOKEN.as_bytes()).is_empty());
    }

    #[test]
    fn secrets_are_found_among_bytes_that_are_no_text() {
        let mut bytes: Vec<u8> = (0..100_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        assert_eq!(found(&bytes), Vec::<String>::new());
        bytes.splice(77_777..77_777, TOKEN.bytes());
        assert_eq!(found(&bytes), [TOKEN]);
    }
}
