//! Percent-encoding as the media servers read it, and the search for keys in places where none may be.

use std::borrow::Cow;

use crate::keys::key::KEY_LEN;
use crate::keys::ticket::TICKET_LEN;
use crate::keys::{ApiKey, Ticket};

/// Decodes `%XX` once and `+` to a space; a broken percent sign stays as it is (as .NET's `WebUtility.UrlDecode` and Node's
/// `querystring.unescape` have it). Borrowed when there is nothing to decode.
pub(crate) fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut place = 0;
    while place < text.len() {
        let (byte, width) = decoded_byte(text, place);
        out.push(if width == 1 && byte == b'+' { b' ' } else { byte });
        place += width;
    }
    Cow::Owned(out)
}

/// Whether a whole, well-formed key or media ticket stands anywhere in the text, in plain letters or percent-encoded once. Allocates
/// nothing.
pub(crate) fn holds_key(text: &[u8]) -> bool {
    if text.len() < TICKET_LEN {
        return false;
    }
    // A key in plain letters begins with `kg_`, a ticket with `kgt_`, an encoded one has a percent sign. Nearly all texts have neither and are done here,
    // in loops without branches.
    let encoded = text.iter().fold(false, |found, &byte| found | (byte == b'%'));
    let plain = text.windows(3).fold(false, |found, at| found | ((at[0] == b'k') & (at[1] == b'g') & ((at[2] == b'_') | (at[2] == b't'))));
    if !encoded && !plain {
        return false;
    }
    (0..text.len()).any(|place| key_begins_at(text, place))
}

fn key_begins_at(text: &[u8], place: usize) -> bool {
    if !matches!(text.get(place), Some(b'k' | b'%')) {
        return false;
    }
    let mut decoded = [0; KEY_LEN];
    let (mut place, mut length) = (place, 0);
    while length < KEY_LEN && place < text.len() {
        let (byte, width) = decoded_byte(text, place);
        let fits = match length {
            0 => byte == b'k',
            1 => byte == b'g',
            2 => matches!(byte, b'_' | b't'),
            _ => true,
        };
        if !fits {
            return false;
        }
        decoded[length] = byte;
        (length, place) = (length + 1, place + width);
    }
    let is =
        |length: usize, parses: fn(&str) -> bool| decoded.get(..length).and_then(|text| std::str::from_utf8(text).ok()).is_some_and(parses);
    (length == KEY_LEN && is(KEY_LEN, |text| ApiKey::parse(text).is_ok()))
        || (length >= TICKET_LEN && is(TICKET_LEN, |text| Ticket::parse(text).is_ok()))
}

/// The byte at `place`, which must be inside, and how many bytes of text stand for it.
fn decoded_byte(text: &[u8], place: usize) -> (u8, usize) {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let plain = text.get(place).copied().unwrap_or_default();
    match (plain, digit(place + 1), digit(place + 2)) {
        (b'%', Some(high), Some(low)) => (high << 4 | low, 3),
        _ => (plain, 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::keys::KeyId;

    #[test]
    fn names_are_decoded_once() {
        for (raw, text) in
            [("api%5Fkey", "api_key"), ("api%255Fkey", "api%5Fkey"), ("a+b", "a b"), ("%2B", "+"), ("100%", "100%"), ("%zz", "%zz")]
        {
            assert_eq!(&*decoded(raw.as_bytes()), text.as_bytes(), "{raw}");
        }
    }

    #[test]
    fn a_key_is_found_in_plain_letters_and_encoded_but_not_cut_off() {
        let key = ApiKey::generate(KeyId::from_u64(7)).expect("random bytes");
        let encoded: String = key.expose().bytes().map(|byte| format!("%{byte:02X}")).collect();
        assert!(holds_key(format!("a=1&x={}&y", key.expose()).as_bytes()));
        assert!(holds_key(format!("kkg_{}", key.expose()).as_bytes()));
        assert!(holds_key(encoded.as_bytes()));
        assert!(holds_key(key.expose().replace('_', "%5f").as_bytes()));
        assert!(!holds_key(&key.expose().as_bytes()[..KEY_LEN - 1]));
    }

    #[test]
    fn a_ticket_is_found_as_a_key_is() {
        let ticket = Ticket::generate().expect("random bytes");
        let text = ticket.expose();
        let encoded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for holds in [text.to_owned(), format!("a=1&x={text}&y"), format!("kgt_kg_{text}"), encoded, format!("{text}more")] {
            assert!(holds_key(holds.as_bytes()), "{holds}");
        }
        assert!(!holds_key(&text.as_bytes()[..TICKET_LEN - 1]) && !holds_key(text.replace("kgt_", "kgs_").as_bytes()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_search_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (holds_key(&text), decoded(&text));
        }
    }
}
