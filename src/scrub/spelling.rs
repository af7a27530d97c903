//! How encoders spell a credential. Tokens of the servers are letters and digits, which all encoders leave alone; static tokens of
//! operators may hold anything.

use std::collections::BTreeSet;
use std::fmt::Write;

/// Every usual spelling of a value, itself included.
pub(super) fn all(value: &str) -> BTreeSet<Vec<u8>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    if value.bytes().all(|byte| plain(byte) || matches!(byte, b'-' | b'_' | b'.')) {
        return BTreeSet::from([value.as_bytes().to_vec()]);
    }
    // encodeURIComponent, .NET's EscapeDataString, forms, and paths in which only separators are escaped.
    let kept: [&[u8]; 5] = [b"-_.!~*'()", b"-_.~", b"-_.*", b"-_.~!$&'()*+,;=:@/", b"-_.~!*'()/"];
    let mut all = BTreeSet::from([value.to_owned()]);
    for kept in kept {
        let keeps = |byte: u8| plain(byte) || kept.contains(&byte);
        all.insert(encoded(value, |byte, out| if keeps(byte) { None } else { Some(write!(out, "%{byte:02X}")) }));
        all.insert(encoded(value, |byte, out| if keeps(byte) { None } else { Some(write!(out, "%{byte:02x}")) }));
    }
    // JavaScript's JSON, and .NET's System.Text.Json, which escapes what HTML could mistake; each with `\/` or `/`.
    let html = |byte: u8| matches!(byte, b'+' | b'&' | b'<' | b'>' | b'\'' | b'"' | b'`');
    for text in all.clone() {
        for slash in [false, true] {
            let short = |byte: u8| matches!(byte, b'"' | b'\\') || (slash && byte == b'/');
            all.insert(encoded(&text, |byte, out| short(byte).then(|| write!(out, "\\{}", char::from(byte)))));
            all.insert(encoded(&text, |byte, out| match byte {
                byte if html(byte) => Some(write!(out, "\\u{byte:04X}")),
                byte => short(byte).then(|| write!(out, "\\{}", char::from(byte))),
            }));
            all.insert(encoded(&text, |byte, out| match byte {
                byte if html(byte) => Some(write!(out, "\\u{byte:04x}")),
                byte => short(byte).then(|| write!(out, "\\{}", char::from(byte))),
            }));
        }
        all.insert(encoded(&text, |byte, out| entity(byte, "&#39;").map(|entity| out.write_str(entity))));
        all.insert(encoded(&text, |byte, out| entity(byte, "&apos;").map(|entity| out.write_str(entity))));
        // In the text of an element quotes stay.
        all.insert(encoded(
            &text,
            |byte, out| if matches!(byte, b'"' | b'\'') { None } else { entity(byte, "'").map(|e| out.write_str(e)) },
        ));
    }
    all.into_iter().map(String::into_bytes).collect()
}

const fn entity(byte: u8, apostrophe: &'static str) -> Option<&'static str> {
    match byte {
        b'&' => Some("&amp;"),
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        b'"' => Some("&quot;"),
        b'\'' => Some(apostrophe),
        _ => None,
    }
}

/// The text with the bytes escaped that `escape` writes otherwise. Bytes beyond ASCII stay unless it takes them.
fn encoded(text: &str, escape: impl Fn(u8, &mut String) -> Option<std::fmt::Result>) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        let mut bytes = [0; 4];
        let bytes = character.encode_utf8(&mut bytes).as_bytes();
        let mut escaped = String::new();
        // Writing to a string cannot fail.
        if bytes.iter().all(|byte| escape(*byte, &mut escaped).is_some()) {
            out.push_str(&escaped);
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(value: &str) -> Vec<String> {
        all(value).into_iter().map(|text| String::from_utf8(text).expect("text")).collect()
    }

    #[test]
    fn letters_and_digits_have_one_spelling() {
        assert_eq!(spelled("0123456789abcdef"), ["0123456789abcdef"]);
        assert_eq!(spelled("eyJ-_.x"), ["eyJ-_.x"]);
    }

    #[test]
    fn what_encoders_write_is_among_them() {
        let spelled = spelled("a+b/c=\"&é");
        for text in [
            "a+b/c=\"&é",
            "a%2Bb%2Fc%3D%22%26%C3%A9",
            "a%2bb%2fc%3d%22%26%c3%a9",
            "a+b\\/c=\\\"&é",
            "a\\u002Bb/c=\\u0022\\u0026é",
            "a+b/c=&quot;&amp;é",
            "a+b/c=\"&amp;é",
        ] {
            assert!(spelled.iter().any(|known| known == text), "{text} {spelled:#?}");
        }
    }
}
