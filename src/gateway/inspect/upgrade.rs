//! WebSocket handshakes (RFC 6455, section 4.2.1). `h2c` and every other upgrade is ignored: the request is a plain one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderName, Method, Version};

use super::names::Seen;
use super::{Head, Length, Refused};

/// An upgrade that is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// To a WebSocket.
    WebSocket,
}

/// Whether this is a WebSocket handshake.
pub(super) fn judge(head: Head<'_, '_>, length: Length, seen: Seen) -> Result<Option<Upgrade>, Refused> {
    if !seen.upgrade || head.version != Version::HTTP_11 || !names(head.headers, CONNECTION, b"upgrade") {
        return Ok(None);
    }
    if !names(head.headers, UPGRADE, b"websocket") {
        return Ok(None);
    }
    let no_body = matches!(length, Length::Unsaid | Length::Exact(0));
    let version = only(head.headers, &SEC_WEBSOCKET_VERSION).is_some_and(|version| version == b"13");
    let key = only(head.headers, &SEC_WEBSOCKET_KEY).is_some_and(is_key);
    let alone = only(head.headers, &UPGRADE).is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
    if *head.method == Method::GET && no_body && version && key && alone { Ok(Some(Upgrade::WebSocket)) } else { Err(Refused::Handshake) }
}

fn names(headers: &HeaderMap, name: HeaderName, wanted: &[u8]) -> bool {
    let mut tokens = headers.get_all(name).into_iter().flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(wanted))
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none()).map(|value| value.as_bytes())
}

/// Sixteen bytes in base 64.
fn is_key(text: &[u8]) -> bool {
    let mut bytes = [0; 18];
    text.len() == 24 && STANDARD.decode_slice(text, &mut bytes).is_ok_and(|length| length == 16)
}
