//! The body of a login: read whole, bounded, and searched for the password.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

use crate::carrier::{self, CarrierError, Presented, encoding};
use crate::forward::body::RequestBody;
use crate::gateway::refusal::Refusal;

/// Most bytes of a login form.
const MOST: usize = 16 << 10;
/// The names of a password: Audiobookshelf's, Emby's and Jellyfin's; in older versions of Emby `Password` held its SHA-1.
const PASSWORDS: [&str; 2] = ["pw", "password"];

/// Reads a form to its end. `patience`: how long that may take, as for a request's head.
///
/// # Errors
/// [`Refusal::FormTooLarge`], [`Refusal::BrokenBody`], [`Refusal::ClientBody`].
pub(super) async fn read(body: Incoming, patience: Duration) -> Result<Bytes, Refusal> {
    if http_body::Body::size_hint(&body).lower() > MOST as u64 {
        return Err(Refusal::FormTooLarge);
    }
    let mut body = RequestBody::from_client(body, patience, false);
    let sent = body.sent();
    let reading = async {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| if sent.client_broke_rules() { Refusal::BrokenBody } else { Refusal::ClientBody })?;
            bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
            if bytes.len() > MOST {
                return Err(Refusal::FormTooLarge);
            }
        }
        Ok(Bytes::from(bytes))
    };
    tokio::time::timeout(patience, reading).await.map_err(|_| Refusal::ClientBody)?
}

/// What the form presents as its credential; `None`: it cannot be read, so that nobody knows what it holds.
///
/// # Errors
/// [`CarrierError::Conflicting`]: two keys. [`CarrierError::Misplaced`]: a key that is not the password.
pub(super) fn presented(bytes: &[u8], headers: &HeaderMap) -> Result<Option<Presented>, CarrierError> {
    if bytes.trim_ascii().is_empty() {
        return Ok(Some(Presented::Nothing));
    }
    if headers.contains_key(CONTENT_ENCODING) {
        return Ok(None);
    }
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes()).to_ascii_lowercase();
    let is = |wanted: &str| content_type.windows(wanted.len()).any(|window| window == wanted.as_bytes());
    let fields = if is("charset") && !is("utf-8") {
        None
    } else if is("urlencoded") {
        Some(from_pairs(bytes))
    } else if is("xml") {
        from_xml(bytes)
    } else {
        from_json(bytes)
    };
    let Some(passwords) = fields else { return Ok(None) };
    let mut found = Presented::Nothing;
    for password in &passwords {
        match carrier::of_password(password) {
            foreign if foreign.is_native() => {
                if matches!(found, Presented::Nothing) {
                    found = foreign;
                }
            }
            // A key, whatever stands beside it (Emby's old `Password` is another form of the same password).
            ours if found.is_native() => found = ours,
            ours => found = found.joined(ours)?,
        }
    }
    // Such a form may go on to the upstream, which may read it in another way than this.
    if found.is_native() && (encoding::holds_key(bytes) || encoding::holds_key(&without_escapes(bytes))) {
        return Err(CarrierError::Misplaced);
    }
    Ok(Some(found))
}

fn is_password(name: &str) -> bool {
    PASSWORDS.iter().any(|password| name.eq_ignore_ascii_case(password))
}

fn from_pairs(bytes: &[u8]) -> Vec<String> {
    let text = |part: &[u8]| String::from_utf8_lossy(&encoding::decoded(part)).into_owned();
    let pairs = bytes.split(|&byte| byte == b'&').map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        (text(&pair[..at]), text(pair.get(at + 1..).unwrap_or_default()))
    });
    pairs.filter(|(name, _)| is_password(name)).map(|(_, value)| value).collect()
}

/// The passwords at the top of a JSON object, with or without a byte order mark before it.
fn from_json(bytes: &[u8]) -> Option<Vec<String>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let Ok(Value::Object(fields)) = serde_json::from_slice(bytes) else { return None };
    let passwords = fields.into_iter().filter(|(name, _)| is_password(name));
    Some(passwords.filter_map(|(_, value)| if let Value::String(text) = value { Some(text) } else { None }).collect())
}

/// The text with the letters that JSON's `\uXXXX` stands for, wherever it stands: in names, in fields that come twice, in lists.
fn without_escapes(text: &[u8]) -> Vec<u8> {
    let escaped = |place: usize| {
        let digits = text.get(place..place + 6)?.strip_prefix(b"\\u")?;
        u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut plain = Vec::with_capacity(text.len());
    let mut place = 0;
    while let Some(&byte) = text.get(place) {
        let letter = escaped(place);
        plain.push(letter.unwrap_or(byte));
        place += if letter.is_some() { 6 } else { 1 };
    }
    plain
}

/// Emby's XML, as its `XmlSerializer` writes it: `<Pw>…</Pw>`. A key has no letter that XML would escape, and nobody's serializer writes
/// one by its number.
fn from_xml(bytes: &[u8]) -> Option<Vec<String>> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains("&#"))?;
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(value, _)| value.to_owned())
    };
    Some(["Pw", "Password"].into_iter().filter_map(element).collect())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::keys::{ApiKey, KeyId};

    fn key(number: u64) -> String {
        ApiKey::generate(KeyId::from_u64(number)).expect("random bytes").expose().to_owned()
    }

    fn judged(content_type: &'static str, body: &str) -> Result<Option<Presented>, CarrierError> {
        presented(body.as_bytes(), &HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]))
    }

    #[test]
    fn the_password_is_found_in_every_form_that_the_servers_read() {
        let k = key(1);
        for (content_type, body) in [
            ("application/json", format!(r#"{{"username":"x","password":"{k}"}}"#)),
            ("application/json; charset=utf-8", format!(r#"{{"Username":"x","Pw":"{k}"}}"#)),
            ("application/json", format!(r#"{{"Pw":"{k}","Password":"0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33"}}"#)),
            ("application/json", format!(r#"{{"Password":"{k}","Pw":""}}"#)),
            ("application/json", format!(r#"{{"pw":"\u006bg{}"}}"#, &k[2..])),
            ("", format!(r#"{{"password":"{k}"}}"#)),
            ("", format!("\u{feff}{{\"password\":\"{k}\"}}")),
            ("application/x-www-form-urlencoded", format!("username=a+b&password={k}")),
            ("Application/X-WWW-Form-URLencoded", format!("pass%77ord={}&x", k.replace('_', "%5F"))),
            ("application/xml", format!("<?xml?><AuthenticateUserByName><Username>x</Username><Pw>{k}</Pw></AuthenticateUserByName>")),
        ] {
            let found = judged(content_type, &body);
            assert!(matches!(&found, Ok(Some(Presented::Key(key, _))) if key.expose() == k), "{body}: {found:?}");
        }
    }

    #[test]
    fn other_passwords_and_none_are_told_apart() {
        assert!(matches!(judged("application/json", r#"{"password":"secret"}"#), Ok(Some(Presented::Foreign(_)))));
        assert!(matches!(judged("application/json", r#"{"password":"kg_damaged"}"#), Ok(Some(Presented::Malformed(..)))));
        assert!(matches!(judged("application/json", r#"{"username":"x"}"#), Ok(Some(Presented::Nothing))));
        assert!(matches!(judged("application/json", "not JSON"), Ok(None)));
        assert!(matches!(judged("application/json", "[]"), Ok(None)));
    }

    #[test]
    fn a_key_elsewhere_in_the_form_is_never_let_through() {
        let (k, other) = (key(1), key(2));
        for body in [
            format!(r#"{{"username":"{k}","password":"secret"}}"#),
            format!(r#"{{"password":"secret","x":[{{"y":"\u006bg{}"}}]}}"#, &k[2..]),
            format!(r#"{{"password":"secret","password":"x{k}"}}"#),
            format!(r#"{{"password":"{k}","password":"secret"}}"#),
            format!(r#"{{"password":"\u006bg{}","password":"secret"}}"#, &k[2..]),
            format!(r#"{{"password":"secret","x":{{"y":"\u006Bg{}","y":1}}}}"#, &k[2..]),
            format!(r#"{{"password":"secret","\u006bg{}":1}}"#, &k[2..]),
        ] {
            assert_eq!(judged("application/json", &body).err(), Some(CarrierError::Misplaced), "{body}");
        }
        let two = format!(r#"{{"Pw":"{k}","Password":"{other}"}}"#);
        assert_eq!(judged("application/json", &two).err(), Some(CarrierError::Conflicting));
        assert_eq!(judged("application/x-www-form-urlencoded", &format!("a={k}&password=x")).err(), Some(CarrierError::Misplaced));
    }

    #[test]
    fn a_form_that_may_hold_anything_cannot_be_read() {
        let k = key(1);
        let utf16: Vec<u8> = format!(r#"{{"password":"{k}"}}"#).encode_utf16().flat_map(u16::to_le_bytes).collect();
        let json = format!(r#"{{"password":"{k}"}}"#);
        for (name, value, body) in [
            (CONTENT_TYPE, "application/json; charset=utf-16", utf16.as_slice()),
            (CONTENT_TYPE, "application/json", &utf16),
            (CONTENT_TYPE, "application/json; charset=utf-7", json.as_bytes()),
            (CONTENT_TYPE, "text/xml", b"<x><Pw>&#107;g_</Pw></x>"),
            (CONTENT_ENCODING, "gzip", json.as_bytes()),
        ] {
            let headers = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            assert!(matches!(presented(body, &headers), Ok(None)), "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_form_makes_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..80), kind in 0..3_usize) {
            let types = ["application/json", "application/x-www-form-urlencoded", "text/xml"];
            let _ = presented(&body, &HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(types[kind]))]));
        }
    }
}
