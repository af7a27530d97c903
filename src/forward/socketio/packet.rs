//! Engine.IO 4 packets that hold socket.io 5 packets, as far as keygate must understand them: which of them is Audiobookshelf's event
//! `auth`, and which may pass before it.
//!
//! The reading is the one of socket.io-parser 4 (`lib/index.ts`, `decodeString`): it is generous, and what it takes for an `auth` must be
//! taken for one here.

use serde_json::Value;

use crate::carrier::encoding::holds_key;
use crate::secret::Secret;

/// The event with which a client says who it is.
const AUTH: &[u8] = b"auth";
/// Events that only an administrator may send (`server/SocketAuthority.js`): the server's log, words to all users, the end of others'
/// work. The routes that do the same are restricted.
const RULING: [&[u8]; 4] = [b"set_log_listener", b"remove_log_listener", b"message_all_users", b"cancel_scan"];
/// Packets that a client may send before it: pong, the probe of a transport and the change to it, close.
const CLIENT_EARLY: &[&[u8]] = &[b"1", b"2", b"3", b"2probe", b"3probe", b"5", b"40", b"41"];
/// Packets that a server may send before it: close, ping, the answer to a probe, "no packet".
const SERVER_EARLY: &[&[u8]] = &[b"1", b"2", b"3", b"2probe", b"3probe", b"6", b"41"];
/// The server's opening, its answers to `40`, and what it says to a bad credential.
const SERVER_EARLY_OBJECTS: &[&[u8]] = &[b"0{", b"40{", b"44{", br#"42["auth_failed","#];
/// Where a packet must have shown by that whether it is an `auth`.
pub(crate) const DECIDED_AFTER: usize = 1024;
/// What separates packets in the body of a poll.
pub(crate) const SEPARATOR: char = '\u{1e}';

/// Whether a packet is an `auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// More of it must be seen.
    Undecided,
    /// It is, or the server may take it for one.
    Auth,
    /// It is an event that only an administrator may send.
    Ruling,
    /// It is another one.
    Other,
}

/// Looks at a packet or at its beginning (`is_whole`: nothing follows).
pub(crate) fn claim(packet: &[u8], is_whole: bool) -> Claim {
    let undecided = if is_whole { Claim::Other } else { Claim::Undecided };
    match array(packet) {
        Ok(start) => name(&packet[start + 1..]).unwrap_or(undecided),
        Err(Some(claim)) => claim,
        Err(None) => undecided,
    }
}

/// Where the array of an event begins. `Err(None)`: further on, if at all.
fn array(packet: &[u8]) -> Result<usize, Option<Claim>> {
    let mut at = match packet {
        [] | [b'4'] => return Err(None),
        [b'4', b'2', ..] => 2,
        // A binary event: the number of its attachments, whatever it looks like, ends in "-".
        [b'4', b'5', rest @ ..] => 3 + rest.iter().position(|&byte| byte == b'-').ok_or(None)?,
        _ => return Err(Some(Claim::Other)),
    };
    if packet.get(at) == Some(&b'/') {
        at += 1 + packet[at..].iter().position(|&byte| byte == b',').ok_or(None)?;
    }
    // The number of an acknowledgement: digits, and whatever JavaScript's `Number(c) == c` takes for one, all white space included.
    let skipped = packet[at..].iter().position(|&byte| !(byte.is_ascii_digit() || byte <= b' ' || byte >= 0x7f)).ok_or(None)?;
    at += skipped;
    if packet[at] == b'[' { Ok(at) } else { Err(Some(Claim::Other)) }
}

/// What the first element of an array makes of an event. `None`: it cannot be told yet.
fn name(array: &[u8]) -> Option<Claim> {
    let start = array.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))?;
    let [b'"', rest @ ..] = array.get(start..)? else { return Some(Claim::Other) };
    if is_named(rest, AUTH)? {
        return Some(Claim::Auth);
    }
    for ruling in RULING {
        if is_named(rest, ruling)? {
            return Some(Claim::Ruling);
        }
    }
    Some(Claim::Other)
}

/// Whether a JSON string (behind its first quotation mark) is this name, however its letters are escaped. `None`: it cannot be told yet.
fn is_named(string: &[u8], name: &[u8]) -> Option<bool> {
    let mut rest = string;
    for wanted in name {
        rest = match rest {
            [] | [b'\\'] => return None,
            [b'\\', b'u', hex @ ..] => {
                let digits = hex.get(..4)?;
                let code = std::str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 16).ok());
                if code != Some(u32::from(*wanted)) {
                    return Some(false);
                }
                &hex[4..]
            }
            [byte, rest @ ..] if byte == wanted => rest,
            _ => return Some(false),
        };
    }
    Some(*rest.first()? == b'"')
}

/// An `auth` of a client.
#[derive(Debug)]
pub(crate) struct Auth {
    /// What stands before the array: packet types, namespace, the number of an acknowledgement.
    prefix: String,
    /// The credential.
    pub(crate) credential: Secret<String>,
}

impl Auth {
    /// Reads a packet that [`claim`] calls one; `None` where its credential cannot be read.
    pub(crate) fn read(packet: &str) -> Option<Self> {
        let start = array(packet.as_bytes()).ok()?;
        let (prefix, array) = packet.split_at_checked(start)?;
        if prefix.as_bytes().get(1) != Some(&b'2') {
            return None;
        }
        let mut elements: Vec<Value> = serde_json::from_str(array).ok()?;
        match elements.get_mut(1).map(Value::take) {
            Some(Value::String(credential)) => Some(Self { prefix: prefix.to_owned(), credential: Secret::new(credential) }),
            _ => None,
        }
    }

    /// The plainest packet with a credential.
    pub(crate) fn plain(credential: &Secret<String>) -> Secret<String> {
        Self { prefix: "42".to_owned(), credential: credential.clone() }.with(credential)
    }

    /// The packet with another credential, and without anything else that the client may have put into it.
    pub(crate) fn with(&self, token: &Secret<String>) -> Secret<String> {
        Secret::new(format!("{}[\"auth\",{}]", self.prefix, Value::from(token.expose().as_str())))
    }
}

/// Whether a client may send this before it has authenticated.
pub(crate) fn may_client_begin_with(packet: &[u8]) -> bool {
    // Audiobookshelf does not look at what comes with "40"; a key there would reach it all the same.
    CLIENT_EARLY.contains(&packet) || (packet.starts_with(b"40{") && !holds_key(packet))
}

/// Whether a server may send this before the client has authenticated.
pub(crate) fn may_server_begin_with(packet: &[u8]) -> bool {
    SERVER_EARLY.contains(&packet) || SERVER_EARLY_OBJECTS.iter().any(|start| packet.starts_with(start))
}

/// What Audiobookshelf says to a bad credential.
pub(crate) const AUTH_FAILED: &str = r#"42["auth_failed",{"message":"Invalid token"}]"#;

/// The beginning of an Engine.IO session, as the server's opening tells it.
#[derive(Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Opening {
    pub(crate) sid: String,
    /// Milliseconds.
    #[serde(default)]
    pub(crate) ping_interval: u64,
    /// Milliseconds.
    #[serde(default)]
    pub(crate) ping_timeout: u64,
}

impl Opening {
    /// Reads the first packet of an answer to a poll.
    pub(crate) fn read(body: &str) -> Option<Self> {
        let packet = body.split(SEPARATOR).next()?.strip_prefix('0')?;
        serde_json::from_str(packet).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_auth_is_one_in_every_spelling_that_the_server_understands() {
        for packet in [
            r#"42["auth","K"]"#,
            r#"42[ "auth" , "K" ]"#,
            "42 [\n\t\"auth\",\"K\"]",
            "42\u{a0}7[\"auth\",\"K\"]",
            r#"4217["auth","K"]"#,
            r#"42/,["auth","K"]"#,
            r#"42/,3["auth","K"]"#,
            r#"42["\u0061u\u0074h","K"]"#,
            r#"42["auth"]"#,
            r#"450-["auth","K"]"#,
            r#"45-["auth","K"]"#,
            r#"451-/,5["auth","K"]"#,
        ] {
            assert_eq!(claim(packet.as_bytes(), true), Claim::Auth, "{packet}");
        }
        for packet in [
            r#"42["set_log_listener",0]"#,
            r#"42 ["message_all_users",{"message":"hi"}]"#,
            r#"42/,7["\u0063ancel_scan","x"]"#,
            r#"451-["remove_log_listener"]"#,
        ] {
            assert_eq!(claim(packet.as_bytes(), true), Claim::Ruling, "{packet}");
        }
        for packet in [
            "",
            "4",
            "40",
            "41",
            "2",
            "3probe",
            "5",
            "43[\"auth\"]",
            r#"42["authx","K"]"#,
            r#"42["aut","h"]"#,
            r#"42["item_updated",4]"#,
            r#"42{"auth":1}"#,
            r#"42"auth""#,
            "42",
            "42[",
            r#"42["a\u0074th"]"#,
            r#"42["\u00"]"#,
            r#"0["auth"]"#,
            r#"42[1,"auth"]"#,
        ] {
            assert_eq!(claim(packet.as_bytes(), true), Claim::Other, "{packet}");
        }
    }

    #[test]
    fn the_credential_is_read_and_replaced_and_the_acknowledgement_stays() {
        let auth = Auth::read(r#"42/,17[ "auth", "kg\u005fX", {"more":1}]"#).expect("an auth");
        assert_eq!(auth.credential.expose(), "kg_X");
        assert_eq!(auth.with(&Secret::from("t\"n")).expose(), r#"42/,17["auth","t\"n"]"#);
        for packet in [r#"42["auth"]"#, r#"42["auth",5]"#, r#"42["auth",null]"#, r#"450-["auth","K"]"#, r#"42["auth","K""#] {
            assert!(Auth::read(packet).is_none(), "{packet}");
        }
    }

    #[test]
    fn before_an_auth_only_the_opening_passes() {
        for packet in ["40", r#"40{"a":1}"#, "41", "1", "2", "3", "2probe", "3probe", "5"] {
            assert!(may_client_begin_with(packet.as_bytes()), "{packet}");
        }
        for packet in ["", "0", "4", "6", "42", r#"42["x"]"#, "43[]", "45-[]", "40/admin,", "bAAAA", "2x", "50", "7"] {
            assert!(!may_client_begin_with(packet.as_bytes()), "{packet}");
        }
        for packet in [r#"0{"sid":"x"}"#, r#"40{"sid":"x"}"#, r#"44{"message":"x"}"#, "2", "3probe", "6", "1", "41"] {
            assert!(may_server_begin_with(packet.as_bytes()), "{packet}");
        }
        for packet in ["", r#"42["init",{}]"#, "430[]", "451-[]", "bAAAA", "4"] {
            assert!(!may_server_begin_with(packet.as_bytes()), "{packet}");
        }
    }

    #[test]
    fn a_key_in_the_packet_that_connects_does_not_pass() {
        let key = crate::keys::ApiKey::generate(crate::keys::KeyId::from_u64(1)).expect("random bytes");
        assert!(!may_client_begin_with(format!(r#"40{{"token":"{}"}}"#, key.expose()).as_bytes()));
    }

    #[test]
    fn the_opening_is_read() {
        let body = "0{\"sid\":\"abc\",\"upgrades\":[\"websocket\"],\"pingInterval\":25000,\"pingTimeout\":20000,\"maxPayload\":1000000}";
        let expected = Opening { sid: "abc".to_owned(), ping_interval: 25_000, ping_timeout: 20_000 };
        assert_eq!(Opening::read(body), Some(expected));
        assert_eq!(Opening::read("40"), None);
    }

    proptest! {
        #[test]
        fn a_decision_on_a_beginning_is_the_decision_on_the_whole(
            packet in r#"4[25][0-9]{0,2}-?(/,)?[0-9 ]{0,3}\[[ ]{0,2}"(a|\\u0061|b)(u|x)?(t|\\u0074)?h?"?(,"K"\])?"#, cut in 0_usize..60
        ) {
            let whole = claim(packet.as_bytes(), true);
            let early = claim(&packet.as_bytes()[..cut.min(packet.len())], false);
            prop_assert!(early == Claim::Undecided || early == whole, "{early:?} {whole:?}");
        }

        #[test]
        fn no_text_makes_it_panic(packet in ".*", start in "4[25][/,0-9 \\[\"-]{0,8}") {
            for text in [packet.clone(), format!("{start}{packet}")] {
                let _ = (claim(text.as_bytes(), true), Auth::read(&text), Opening::read(&text));
            }
        }

        #[test]
        fn what_is_read_as_an_event_named_auth_is_claimed(name in r"(a|\\u0061)(u|\\u0075)(t|\\u0074)(h|\\u0068)", id in "[0-9]{0,5}", space in "[ \t\n]{0,3}") {
            let packet = format!("42{id}[{space}\"{name}\"{space},\"K\"]");
            prop_assert_eq!(claim(packet.as_bytes(), true), Claim::Auth);
            let auth = Auth::read(&packet).expect("read");
            prop_assert_eq!(auth.credential.expose().as_str(), "K");
        }
    }
}
